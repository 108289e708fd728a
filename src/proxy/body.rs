//! Bodies in both directions. Towards the client: what is stored, what is being filled, or what a node sends, behind one type whose
//! end is noticed (metrics, in-flight counts, the settling time of a write). From the client: bounded in size and in silence.

use crate::core::reason::FetchReason;
use crate::store::fill::{FillError, FillReader};
use crate::telemetry::access_log::End;
use crate::upstream::{BodyError, NodeBody};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// An error of a body, boxed: hyper only closes the connection with it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an answer's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The node's body broke off.
    #[error("the node's body broke off: {0}")]
    Node(#[from] BodyError),
    /// The shared fetch broke off, or this reader was too slow for it.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// No progress for `body_timeout`.
    #[error("the node's body made no progress for {0:?}")]
    Stalled(Duration),
}

/// Something that runs when an answer's body has ended or was dropped.
type AtEnd = Box<dyn FnOnce(Option<NodeBody>, Carried) + Send>;

/// What became of a body.
#[derive(Copy, Clone, Debug)]
pub(super) struct Carried {
    /// Bytes handed to the connection.
    pub(super) bytes: u64,
    pub(super) end: End,
}

/// How an answer came about, for the access log.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Trace {
    /// Why it was forwarded.
    pub(super) fwd: Option<FetchReason>,
    /// Why it was not stored, or what went wrong.
    pub(super) why: Option<&'static str>,
    /// The node that answered.
    pub(super) node: Option<u16>,
}

impl Trace {
    /// An answer that node number `node` gave.
    pub(super) fn forwarded(fwd: FetchReason, why: Option<&'static str>, node: usize) -> Self {
        Self {
            fwd: Some(fwd),
            why,
            node: u16::try_from(node).ok(),
        }
    }
}

/// The body of an answer.
#[derive(Default)]
pub struct Body {
    source: Source,
    at_end: Option<AtEnd>,
    sent: u64,
    pub(super) trace: Trace,
}

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    /// All of it, ready.
    Whole(Bytes),
    /// All of it, in several pieces of so many bytes together.
    Pieces { pieces: VecDeque<Bytes>, left: u64 },
    /// Shared with others while it arrives; `length` when the head told it.
    Fill {
        reader: FillReader,
        length: Option<u64>,
        skip: u64,
        take: u64,
    },
    /// Straight from a node. Boxed, as every answer is moved about with room for the largest of these.
    Node { body: Box<NodeBody>, stall: Stall },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.source {
            Source::Empty => "Body(empty)",
            Source::Whole(_) => "Body(whole)",
            Source::Pieces { .. } => "Body(pieces)",
            Source::Fill { .. } => "Body(fill)",
            Source::Node { .. } => "Body(node)",
        })
    }
}

impl Body {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// This one.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self::of(Source::Whole(bytes))
    }

    /// These, one after the other; together `length` bytes.
    pub(super) fn pieces(pieces: VecDeque<Bytes>, length: u64) -> Self {
        Self::of(Source::Pieces { pieces, left: length })
    }

    pub(super) fn fill(reader: FillReader, length: Option<u64>) -> Self {
        Self::of(Source::Fill {
            reader,
            length,
            skip: 0,
            take: u64::MAX,
        })
    }

    /// A part of a body that is still arriving.
    pub(super) fn fill_part(reader: FillReader, start: u64, length: u64) -> Self {
        Self::of(Source::Fill {
            reader,
            length: Some(length),
            skip: start,
            take: length,
        })
    }

    pub(super) fn node(mut body: NodeBody, stall: Duration) -> Self {
        Self::of(match body.take_whole() {
            Some(bytes) if bytes.is_empty() => Source::Empty,
            Some(bytes) => Source::Whole(bytes),
            None => Source::Node {
                body: Box::new(body),
                stall: Stall::new(stall),
            },
        })
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            at_end: None,
            sent: 0,
            trace: Trace::default(),
        }
    }

    /// Runs `at_end` once when the body has ended or is dropped; it gets a node's body that is still open.
    pub(super) fn at_end(self, at_end: impl FnOnce(Option<NodeBody>) + Send + 'static) -> Self {
        self.accounted(move |body, _| at_end(body))
    }

    /// The same, also told what became of the body.
    pub(super) fn accounted(mut self, at_end: impl FnOnce(Option<NodeBody>, Carried) + Send + 'static) -> Self {
        self.at_end = Some(match self.at_end.take() {
            None => Box::new(at_end),
            Some(first) => Box::new(move |body, carried| {
                first(body, carried);
                at_end(None, carried);
            }),
        });
        self
    }

    /// Whether the whole answer is in hand, so that its end needs no watching.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.source, Source::Empty | Source::Whole(_) | Source::Pieces { .. })
    }

    /// `end`: how it ended, when that is known.
    fn end(&mut self, end: Option<End>) {
        let Some(at_end) = self.at_end.take() else {
            self.source = Source::Empty;
            return;
        };
        // hyper does not ask for the end of a body whose length it knows.
        let end = end.unwrap_or(if self.is_over() { End::Complete } else { End::Left });
        let carried = Carried { bytes: self.sent, end };
        let open = match std::mem::take(&mut self.source) {
            Source::Node { body, .. } => Some(*body),
            Source::Empty | Source::Whole(_) | Source::Pieces { .. } | Source::Fill { .. } => None,
        };
        at_end(open, carried);
    }

    /// Whether everything has been handed over.
    fn is_over(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Pieces { pieces, .. } => pieces.is_empty(),
            Source::Fill { length, .. } => length.is_some_and(|length| self.sent >= length),
            Source::Node { body, .. } => body.is_end_stream(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let polled = match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Source::Pieces { pieces, left } => {
                let piece = pieces.pop_front();
                *left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Source::Fill { reader, skip, take, .. } => poll_part(reader, skip, take, cx).map_ok(Frame::data),
            Source::Node { body, stall } => match Pin::new(&mut **body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    stall.progress();
                    Poll::Ready(frame.map(|f| f.map_err(AnswerError::from)))
                }
                Poll::Pending => stall.poll(cx).map(|after| Some(Err(AnswerError::Stalled(after)))),
            },
        };
        match &polled {
            Poll::Pending => {}
            // One addition: asking whether anybody wants to know would cost as much.
            Poll::Ready(Some(Ok(frame))) => self.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            Poll::Ready(Some(Err(_))) => self.end(Some(End::Broken)),
            Poll::Ready(None) => self.end(Some(End::Complete)),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Pieces { pieces, .. } => pieces.is_empty(),
            Source::Fill { length, .. } => *length == Some(0),
            Source::Node { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Pieces { left, .. } => SizeHint::with_exact(*left),
            Source::Fill {
                length: Some(length), ..
            } => SizeHint::with_exact(*length),
            Source::Fill { length: None, .. } => SizeHint::new(),
            Source::Node { body, .. } => body.size_hint(),
        }
    }
}

/// The bytes from `skip` on, `take` of them, of a fill.
fn poll_part(
    reader: &mut FillReader,
    skip: &mut u64,
    take: &mut u64,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, AnswerError>>> {
    loop {
        if *take == 0 {
            return Poll::Ready(None);
        }
        match std::task::ready!(Pin::new(&mut *reader).poll_chunk(cx)) {
            None => return Poll::Ready(None),
            Some(Err(e)) => return Poll::Ready(Some(Err(e.into()))),
            Some(Ok(mut chunk)) => {
                let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
                let mut rest = chunk.split_off(skipped);
                *skip -= skipped as u64;
                rest.truncate(usize::try_from(*take).unwrap_or(usize::MAX));
                if rest.is_empty() {
                    continue;
                }
                *take = take.saturating_sub(rest.len() as u64);
                return Poll::Ready(Some(Ok(rest)));
            }
        }
    }
}

/// Notices that nothing happens. The timer is only made when the body first has to wait.
struct Stall {
    after: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(after: Duration) -> Self {
        Self { after, timer: None }
    }

    fn progress(&mut self) {
        self.timer = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let after = self.after;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        timer.as_mut().poll(cx).map(|()| after)
    }
}

/// Why a client's body was given up, for the answer that follows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum UploadFault {
    /// Over `max_body`: 413.
    TooLarge,
    /// Nothing came for `body_timeout`: 408.
    Stalled,
    /// The client's connection or framing broke.
    Broken,
}

/// Tells, after the fact, why an upload failed; nothing where there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct UploadWatch(Option<Arc<AtomicU8>>);

impl UploadWatch {
    pub(super) fn fault(&self) -> Option<UploadFault> {
        match self.0.as_ref()?.load(Ordering::Acquire) {
            1 => Some(UploadFault::TooLarge),
            2 => Some(UploadFault::Stalled),
            3 => Some(UploadFault::Broken),
            _ => None,
        }
    }

    fn set(&self, fault: UploadFault) {
        let code = match fault {
            UploadFault::TooLarge => 1,
            UploadFault::Stalled => 2,
            UploadFault::Broken => 3,
        };
        if let Some(told) = &self.0 {
            told.store(code, Ordering::Release);
        }
    }
}

/// Why an upload was broken off.
#[derive(Debug, thiserror::Error)]
#[error("the client's body was given up: {0:?}")]
struct UploadError(UploadFault);

pin_project! {
    /// A client's body, bounded in size and in silence.
    pub(super) struct Upload<B> {
        #[pin]
        inner: B,
        left: u64,
        stall: Stall,
        watch: UploadWatch,
    }
}

impl<B> Upload<B> {
    pub(super) fn new(inner: B, max: u64, stall: Duration) -> (Self, UploadWatch) {
        let watch = UploadWatch(Some(Arc::default()));
        (
            Self {
                inner,
                left: max,
                stall: Stall::new(stall),
                watch: watch.clone(),
            },
            watch,
        )
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Upload<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let fault = match this.inner.poll_frame(cx) {
            Poll::Pending => match this.stall.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => UploadFault::Stalled,
            },
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => UploadFault::Broken,
            Poll::Ready(Some(Ok(frame))) => {
                this.stall.progress();
                let size = frame.data_ref().map_or(0, |d| d.len() as u64);
                if size <= *this.left {
                    *this.left -= size;
                    return Poll::Ready(Some(Ok(frame)));
                }
                UploadFault::TooLarge
            }
        };
        this.watch.set(fault);
        Poll::Ready(Some(Err(Box::new(UploadError(fault)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
