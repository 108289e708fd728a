//! Bodies in both directions. Towards the client: what is stored, what is being filled, or what a node sends, behind one type whose
//! end is noticed (metrics, in-flight counts, the settling time of a write). From the client: bounded in size and in silence.

use crate::store::fill::{FillError, FillReader};
use crate::upstream::{BodyError, NodeBody};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
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
pub(super) type AtEnd = Box<dyn FnOnce(Option<NodeBody>) + Send>;

/// The body of an answer.
#[derive(Default)]
pub struct Body {
    source: Source,
    at_end: Option<AtEnd>,
}

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    /// All of it, ready.
    Whole(Bytes),
    /// Shared with others while it arrives; `length` when the head told it.
    Fill {
        reader: FillReader,
        length: Option<u64>,
        skip: u64,
        take: u64,
    },
    /// Straight from a node.
    Node { body: NodeBody, stall: Stall },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.source {
            Source::Empty => "Body(empty)",
            Source::Whole(_) => "Body(whole)",
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
        Self {
            source: Source::Whole(bytes),
            at_end: None,
        }
    }

    pub(super) fn fill(reader: FillReader, length: Option<u64>) -> Self {
        Self {
            source: Source::Fill {
                reader,
                length,
                skip: 0,
                take: u64::MAX,
            },
            at_end: None,
        }
    }

    /// A part of a body that is still arriving.
    pub(super) fn fill_part(reader: FillReader, start: u64, length: u64) -> Self {
        Self {
            source: Source::Fill {
                reader,
                length: Some(length),
                skip: start,
                take: length,
            },
            at_end: None,
        }
    }

    pub(super) fn node(body: NodeBody, stall: Duration) -> Self {
        Self {
            source: Source::Node {
                body,
                stall: Stall::new(stall),
            },
            at_end: None,
        }
    }

    /// Runs `at_end` once when the body has ended or is dropped; it gets a node's body that is still open.
    pub(super) fn at_end(mut self, at_end: impl FnOnce(Option<NodeBody>) + Send + 'static) -> Self {
        self.at_end = Some(match self.at_end.take() {
            None => Box::new(at_end),
            Some(first) => Box::new(move |body| {
                first(body);
                at_end(None);
            }),
        });
        self
    }

    /// Whether the whole answer is in hand, so that its end needs no watching.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.source, Source::Empty | Source::Whole(_))
    }

    fn end(&mut self) {
        let source = std::mem::take(&mut self.source);
        if let Some(at_end) = self.at_end.take() {
            at_end(match source {
                Source::Node { body, .. } => Some(body),
                Source::Empty | Source::Whole(_) | Source::Fill { .. } => None,
            });
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.end();
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
            Source::Fill { reader, skip, take, .. } => poll_part(reader, skip, take, cx).map_ok(Frame::data),
            Source::Node { body, stall } => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    stall.progress();
                    Poll::Ready(frame.map(|f| f.map_err(AnswerError::from)))
                }
                Poll::Pending => stall.poll(cx).map(|after| Some(Err(AnswerError::Stalled(after)))),
            },
        };
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Fill { length, .. } => *length == Some(0),
            Source::Node { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
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

/// Tells, after the fact, why an upload failed.
#[derive(Clone, Debug, Default)]
pub(super) struct UploadWatch(Arc<AtomicU8>);

impl UploadWatch {
    pub(super) fn fault(&self) -> Option<UploadFault> {
        match self.0.load(Ordering::Acquire) {
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
        self.0.store(code, Ordering::Release);
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
        let watch = UploadWatch::default();
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
