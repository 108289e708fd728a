//! Bodies in both directions: [`OutBody`] is what a call sends, [`NodeBody`] is what an answer carries.
//!
//! A `NodeBody` owns its connection until the body is complete. The end of the body returns the connection to its core's pool, if it
//! can be used again; dropping the body before the end, or closing it, closes the connection. While it is owned, polling the body is
//! what drives the connection: an upload that goes on after an early response head proceeds only while the body is polled. An answer
//! whose body came with its head holds no connection at all: it is whole before anybody asks for it.

use super::channel::{Channel, Coming};
use super::error::{BodyError, BoxError};
use super::lease::Lease;
use crate::core::time::MonoTime;
use crate::world::Clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A streamed request body.
pub type BoxBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// A request body.
#[derive(Default)]
pub enum OutBody {
    /// None. Costs nothing.
    #[default]
    Empty,
    /// All of it, in memory: can be sent again.
    Full(Bytes),
    /// As it arrives: can be sent once.
    Stream(BoxBody),
}

impl OutBody {
    /// Streams `body`; an already ended one becomes [`OutBody::Empty`].
    pub fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::Empty;
        }
        Self::Stream(Box::pin(http_body_util::BodyExt::map_err(body, Into::into)))
    }

    /// A copy, when the body can be sent again.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Stream(_) => None,
        }
    }
}

impl From<Bytes> for OutBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl std::fmt::Debug for OutBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// A response body and the connection it comes on.
pub struct NodeBody {
    incoming: Source,
    hold: Hold,
    /// Whether the connection may be used again after this answer.
    reusable: bool,
}

/// Where it comes from.
enum Source {
    /// From the node, behind what has been taken of it already.
    Coming { first: Option<Bytes>, incoming: Coming },
    /// All of it was read before.
    Whole(Option<Bytes>),
    /// Nothing of so many bytes: it broke off before anybody asked for it.
    Broken(u64),
}

/// Where the connection is.
enum Hold {
    /// Ours.
    Held(Lease),
    /// Back in the pool, or closed by the node after a complete answer: the request body had been sent in full.
    Returned,
    /// Closed before the request body was sent in full, or before the answer was complete.
    Closed,
}

impl NodeBody {
    /// Takes over the connection. When the whole answer has been read already, the connection goes back to the pool at once and the
    /// body is what was read.
    pub(super) fn new(incoming: Coming, lease: Lease, reusable: bool) -> Self {
        let mut body = Self {
            incoming: Source::Coming { first: None, incoming },
            hold: Hold::Held(lease),
            reusable,
        };
        body.settle(false);
        body.look();
        body
    }

    /// Takes a body that came with its head and of which nothing more is to come: hyper has it ready by now. Not one of unknown length,
    /// which may have trailers.
    fn look(&mut self) {
        let (Hold::Returned, Source::Coming { first, incoming }) = (&self.hold, &mut self.incoming) else {
            return;
        };
        if incoming.is_end_stream() {
            self.incoming = Source::Whole(None);
            return;
        }
        let Some(size @ 1..) = incoming.size_hint().exact() else {
            return;
        };
        let frame = incoming.poll_frame(&mut Context::from_waker(Waker::noop()));
        let data = frame.map(|frame| frame.and_then(|frame| frame.ok()?.into_data().ok()));
        match data {
            Poll::Pending => {} // who reads it is woken
            Poll::Ready(Some(bytes)) if bytes.len() as u64 == size => self.incoming = Source::Whole(Some(bytes)),
            Poll::Ready(Some(bytes)) => *first = Some(bytes),
            Poll::Ready(None) => self.incoming = Source::Broken(size),
        }
    }

    /// All of it, if it is in hand; nothing of it is left here then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.incoming {
            Source::Whole(bytes) => Some(bytes.take().unwrap_or_default()),
            Source::Coming { .. } | Source::Broken(_) => None,
        }
    }

    /// A body that was read before, and holds no connection any more.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self {
            incoming: Source::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())),
            hold: Hold::Returned,
            reusable: false,
        }
    }

    /// Whether the request body has been sent in full (R11: a definite answer needs it).
    #[must_use]
    pub fn upload_complete(&self) -> bool {
        match &self.hold {
            Hold::Held(lease) => lease.link().is_some_and(Channel::uploaded),
            Hold::Returned => true,
            Hold::Closed => false,
        }
    }

    /// Drives the connection without reading the body until the request body has been sent in full (`true`) or cannot be any more
    /// (`false`). Unbounded in time: the caller has the deadline. Cancel-safe.
    pub async fn finish_upload(&mut self) -> bool {
        let Hold::Held(lease) = &mut self.hold else {
            return self.upload_complete();
        };
        let Some(link) = lease.link_mut() else {
            return false;
        };
        std::future::poll_fn(|cx| link.poll_upload(cx)).await
    }

    /// Closes the connection now, if it is still ours, and tells when. An answer whose connection went back to the pool was complete.
    #[must_use]
    pub fn close(mut self, clock: &dyn Clock) -> MonoTime {
        self.hold = Hold::Closed;
        clock.mono()
    }

    /// Lets go of the connection when nothing more is to come on it: back to the pool if it can be used again, else closed. `ended`
    /// when the body is known to be complete.
    fn settle(&mut self, ended: bool) {
        let Hold::Held(lease) = &mut self.hold else {
            return;
        };
        let idle = lease.link().is_some_and(Channel::is_idle);
        if !idle && !ended {
            return;
        }
        let uploaded = lease.link().is_some_and(Channel::uploaded);
        if idle && self.reusable {
            lease.give_back();
        }
        self.hold = if uploaded { Hold::Returned } else { Hold::Closed };
    }
}

impl Body for NodeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let incoming = match &mut this.incoming {
            Source::Coming { first, incoming } => match first.take() {
                None => incoming,
                Some(first) => return Poll::Ready(Some(Ok(Frame::data(first)))),
            },
            Source::Broken(_) => return Poll::Ready(Some(Err(BodyError::Reset))),
            Source::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        };
        let polled = match &mut this.hold {
            Hold::Held(lease) => match lease.link_mut() {
                Some(link) => link.poll_body(cx, incoming),
                None => Poll::Ready(Some(Err(BodyError::Reset))),
            },
            Hold::Returned | Hold::Closed => incoming.poll_frame(cx),
        };
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => {
                let ended = incoming.is_end_stream();
                this.settle(ended);
            }
            Poll::Ready(Some(Err(_))) => this.hold = Hold::Closed,
            Poll::Ready(None) => this.settle(true),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.incoming {
            Source::Coming { first, incoming } => first.is_none() && incoming.is_end_stream(),
            Source::Broken(_) => false,
            Source::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Source::Coming { first, incoming } => {
                let mut hint = incoming.size_hint();
                if let (Some(first), Some(left)) = (first, hint.exact()) {
                    hint.set_exact(left + first.len() as u64);
                }
                hint
            }
            Source::Broken(size) => SizeHint::with_exact(*size),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

impl std::fmt::Debug for NodeBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBody")
            .field("length", &self.size_hint())
            .finish_non_exhaustive()
    }
}
