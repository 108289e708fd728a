//! A connection's first bytes: the TLS handshake where the listener has TLS, then who speaks. Both have `header_timeout` together; a
//! client that has said nothing by then is closed without a word, as one that is slow with a head is not: that is HTTP/1's to answer.

use super::connection::{self, Shared};
use super::drain::Phase;
use super::http2;
use super::preface::{self, Opening, Prefixed};
use super::tls::{self, Terms};
use crate::config::runtime::Listener;
use crate::proxy::Interim;
use crate::world::Stream;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2 as framing};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tower::Service;

/// How a listener's connections are spoken to; made once per listener and thread.
#[derive(Clone)]
pub(super) struct Spoken {
    http1: http1::Builder,
    http2: framing::Builder<http2::Spawning>,
}

impl Spoken {
    pub(super) fn on(listener: &Listener) -> Self {
        Self {
            http1: connection::protocol(listener),
            http2: http2::protocol(listener),
        }
    }
}

/// A stream, and what is spoken on it.
enum Opened {
    Http1(Prefixed<Stream>),
    Http2(Prefixed<Stream>),
}

/// Opens a connection and serves it to its end. Dropping the future closes it at once.
pub(super) async fn serve<S, B>(
    io: Stream,
    terms: Option<Arc<Terms>>,
    spoken: &Spoken,
    listener: &Listener,
    shared: &Shared,
    interim: Arc<Interim>,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let opened = match &terms {
        Some(terms) => Box::pin(secured(io, terms, listener, shared)).await,
        None if listener.tls.is_some() => None, // never in clear what is to be encrypted
        None => Box::pin(plain(io, listener, shared)).await,
    };
    match opened {
        // Each in memory of its own: a connection is not to have room for what it is not.
        Some(Opened::Http1(io)) => connection::serve(io, &spoken.http1, listener, shared, interim, service).await,
        Some(Opened::Http2(io)) => {
            drop(interim);
            Box::pin(http2::serve(io, &spoken.http2, listener, shared, service)).await;
        }
        None => {}
    }
}

async fn secured(io: Stream, terms: &Terms, listener: &Listener, shared: &Shared) -> Option<Opened> {
    match within(listener, shared, terms.accept(io)).await? {
        Ok(io) => {
            let http2 = tls::chose_http2(&io) || !listener.protocols.http1;
            let io = Prefixed::new(Bytes::new(), Box::new(io) as Stream);
            Some(if http2 { Opened::Http2(io) } else { Opened::Http1(io) })
        }
        Err(error) => {
            tracing::debug!(listener = %listener.name, %error, "TLS handshake failed");
            None
        }
    }
}

async fn plain(mut io: Stream, listener: &Listener, shared: &Shared) -> Option<Opened> {
    let protocols = listener.protocols;
    if !protocols.http2 {
        return Some(Opened::Http1(Prefixed::new(Bytes::new(), io)));
    }
    if !protocols.http1 {
        return Some(Opened::Http2(Prefixed::new(Bytes::new(), io)));
    }
    let mut seen = Vec::new();
    let opening = within(listener, shared, preface::read(&mut io, &mut seen)).await;
    let said_something = !seen.is_empty();
    let io = Prefixed::new(seen.into(), io);
    match opening {
        Some(Ok(Opening::Http2)) => Some(Opened::Http2(io)),
        Some(Ok(Opening::Http1)) => Some(Opened::Http1(io)),
        Some(Err(_)) => None,
        // Half a preface, and then nothing.
        None => said_something.then_some(Opened::Http1(io)),
    }
}

/// None: it took too long, or the process is leaving and this connection has not been used.
async fn within<T>(
    listener: &Listener,
    shared: &Shared,
    opening: impl Future<Output = io::Result<T>>,
) -> Option<io::Result<T>> {
    tokio::select! {
        biased;
        () = shared.drain.reached(Phase::Cutting) => None,
        opened = opening => Some(opened),
        () = tokio::time::sleep(listener.header_timeout) => None,
    }
}
