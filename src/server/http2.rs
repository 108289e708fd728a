//! One client connection that speaks HTTP/2 (RFC 9113): hyper frames, this sets the limits.
//!
//! Its limits against floods are set here, all of them and by name: streams at once, resets that wait, resets we cause, the size of a list of
//! fields. Those that hyper has none for are [`super::streams`]' (streams thrown away) and h2's own (empty DATA frames, CONTINUATION without an
//! end). Pings and settings are answered one for one: who does not read the answers is not read from either.
//!
//! Time: a connection without a request is told to go after `idle_timeout`, one that has brought none after `header_timeout`, and a peer
//! that takes nothing of any answer for `body_timeout` is left.
//!
//! Interim answers (1xx) are not sent: hyper's server cannot.

use super::coalesce::{Coalescing, Turns};
use super::connection::Shared;
use super::drive::{self, Connection, End};
use super::preface::Prefixed;
use super::streams::{Answering, Spawning, Streams};
use super::tally::Tally;
use crate::config::runtime::Listener;
use crate::world::Stream;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;

/// Streams a peer resets before we have looked at them (rapid reset, CVE-2023-44487): beyond, the connection is closed.
const MAX_PENDING_RESETS: usize = 20;
/// Resets that a peer's mistakes make us send (CVE-2025-8671): beyond, the connection is closed.
const MAX_OWN_RESETS: usize = 256;
/// A connection's window in streams' windows.
const WINDOWS: u32 = 4;
/// What of one stream's answer h2 takes ahead of the peer.
const MAX_SEND_BUFFER: usize = 256 * 1024;

/// How a connection is framed.
fn protocol(listener: &Listener, spawning: Spawning) -> http2::Builder<Spawning> {
    let limits = listener.http2;
    let mut builder = http2::Builder::new(spawning);
    builder
        .initial_stream_window_size(limits.window)
        .initial_connection_window_size(limits.window.saturating_mul(WINDOWS))
        .max_concurrent_streams(limits.max_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .max_header_list_size(u32::try_from(listener.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_SEND_BUFFER);
    builder
}

/// Serves one connection to its end. Dropping the future closes it at once.
pub(super) async fn serve<S, B>(io: Prefixed<Stream>, listener: &Listener, shared: &Shared, tally: &Tally, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (turns, streams) = (Turns::default(), Arc::new(Streams::default()));
    let builder = protocol(listener, Spawning::new(Arc::clone(&streams), listener.body_timeout));
    let io = TokioIo::new(Coalescing::new(io, turns.clone()));
    let framed = builder.serve_connection(io, Answering::new(service, Arc::clone(&streams)));
    let mut connection = Framed {
        framed: pin!(framed),
        turns: &turns,
        streams: &streams,
    };
    let (end, _since) = drive::drive(&mut connection, &*streams, listener, shared).await;
    tally.http2_ended(streams.thrown_away(), matches!(end, End::Flooded));
    match end {
        End::Failed(error) => tracing::debug!(listener = %listener.name, %error, "HTTP/2 connection failed"),
        End::TimedOut(limit) => tracing::debug!(listener = %listener.name, ?limit, "HTTP/2 connection timed out"),
        End::Closed | End::Flooded | End::Over => {
            tracing::debug!(listener = %listener.name, ?end, "HTTP/2 connection ended");
        }
    }
}

/// What hyper reads from and writes to.
type Wire = TokioIo<Coalescing<Prefixed<Stream>>>;

/// hyper's connection, with the turns its writes wait for.
struct Framed<'a, 'p, S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    framed: Pin<&'p mut http2::Connection<Wire, Answering<S>, Spawning>>,
    turns: &'a Turns,
    streams: &'a Streams,
}

impl<S, B> Connection for Framed<'_, '_, S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        loop {
            self.turns.begin();
            if let Poll::Ready(result) = self.framed.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if !self.turns.was_put_off() {
                return Poll::Pending;
            }
            if self.streams.have_tasks() {
                // Those that are ready join before this task's turn comes again.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Nobody else has anything to write: it goes now.
        }
    }

    fn close(&mut self) {
        // GOAWAY twice: at first every stream is still taken; one round trip later those that have come are the last (RFC 9113 s6.8).
        self.framed.as_mut().graceful_shutdown();
    }
}

#[cfg(test)]
mod tests;
