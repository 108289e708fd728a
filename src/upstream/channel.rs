//! What carries one request and its answer: a whole connection of HTTP/1.1, or a stream of one of HTTP/2. Everybody above sees this face.

use super::body::OutBody;
use super::call::OnInterim;
use super::error::BodyError;
use super::link::{self, Broken, Link};
use super::streams::{Arriving, Interim, Stream};
use crate::world::BoxFuture;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A way for one request.
pub(super) enum Channel {
    Link(Box<Link>),
    Stream(Box<Stream>),
}

/// An answer's body as it comes.
pub(super) enum Coming {
    Link(Incoming),
    Stream(Box<Arriving>),
}

/// A request under way, up to its response head.
pub(super) enum Exchange<'a> {
    Link(link::Exchange<'a>),
    Stream(BoxFuture<'a, Result<Response<Coming>, Box<Broken>>>),
}

impl Future for Exchange<'_> {
    type Output = Result<Response<Coming>, Box<Broken>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Link(exchange) => {
                let answer = ready!(Pin::new(exchange).poll(cx));
                Poll::Ready(answer.map(|answer| answer.map(Coming::Link)))
            }
            Self::Stream(exchange) => exchange.as_mut().poll(cx),
        }
    }
}

impl Channel {
    /// Whether nothing is under way and a next request may be sent. A stream carries one.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Link(link) => link.is_idle(),
            Self::Stream(_) => false,
        }
    }

    /// Whether the request has been sent in full.
    pub(super) fn uploaded(&self) -> bool {
        match self {
            Self::Link(link) => link.uploaded(),
            Self::Stream(stream) => stream.uploaded(),
        }
    }

    /// Whether its connection has served before: the node may have closed it unnoticed.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Link(link) => link.is_reused(),
            Self::Stream(stream) => stream.is_reused(),
        }
    }

    /// Whether a request may be sent on it.
    pub(super) fn is_fresh(&mut self) -> bool {
        match self {
            Self::Link(link) => link.is_fresh(),
            Self::Stream(stream) => stream.is_fresh(),
        }
    }

    /// [`Link::keep`]; the connection of a stream is kept by those that lend it.
    pub(super) fn keep(&mut self) -> bool {
        match self {
            Self::Link(link) => link.keep(),
            Self::Stream(_) => true,
        }
    }

    /// Who is told the interim heads of what `request` brings.
    pub(super) fn tells(&self, request: &mut Request<OutBody>, told: OnInterim) {
        match self {
            Self::Link(_) => {
                hyper::ext::on_informational(request, move |head| {
                    told(head.status(), head.version(), head.headers());
                });
            }
            Self::Stream(_) => {
                request.extensions_mut().insert(Interim(told));
            }
        }
    }

    /// [`Link::exchange`].
    pub(super) fn exchange(
        &mut self,
        request: Request<OutBody>,
        head_timeout: Duration,
        deadline: Duration,
    ) -> Exchange<'_> {
        match self {
            Self::Link(link) => Exchange::Link(link.exchange(request, head_timeout, deadline)),
            // Boxed: it has a timer and a body of its own.
            Self::Stream(stream) => Exchange::Stream(Box::pin(async move {
                let answer = stream.exchange(request, head_timeout, deadline).await;
                let answer = answer.map_err(Box::new)?;
                Ok(answer.map(|body| Coming::Stream(Box::new(body))))
            })),
        }
    }

    /// The next frame of an answer's body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        coming: &mut Coming,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match (self, coming) {
            (Self::Link(link), Coming::Link(incoming)) => link.poll_body(cx, incoming),
            (_, coming) => coming.poll_frame(cx),
        }
    }

    /// Ready when the request body has been sent in full (true) or cannot be any more (false).
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Link(link) => link.poll_upload(cx),
            Self::Stream(stream) => stream.poll_upload(cx),
        }
    }
}

impl Coming {
    /// What has come already, when nobody drives a link any more.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Link(incoming) => Pin::new(incoming).poll_frame(cx).map_err(|_broken| BodyError::Reset),
            Self::Stream(arriving) => arriving.poll_frame(cx),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Link(incoming) => incoming.is_end_stream(),
            Self::Stream(arriving) => arriving.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Link(incoming) => incoming.size_hint(),
            Self::Stream(arriving) => arriving.size_hint(),
        }
    }
}
