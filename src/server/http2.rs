//! One client connection that speaks HTTP/2 (RFC 9113): h2 frames, this sets the limits.
//!
//! Its limits against floods are set here, all of them and by name: streams at once, resets that wait, resets we cause, the size of a list of
//! fields. Those that it has none for are [`super::streams`]' (streams thrown away); empty DATA frames and CONTINUATION without an end it bounds by
//! itself. Pings and settings are answered one for one: who does not read the answers is not read from either.
//!
//! Time: a connection without a request is told to go after `idle_timeout`, one that has brought none after `header_timeout`, and a peer
//! that takes nothing of any answer for `body_timeout` is left.

use super::coalesce::{Coalescing, Turns};
use super::connection::Shared;
use super::drive::{self, Connection, End};
use super::preface::Prefixed;
use super::streams::{Answering, Piece, Streams, Upload};
use super::tally::Tally;
use crate::config::runtime::Listener;
use crate::proxy::Interim;
use crate::world::Stream;
use bytes::Bytes;
use h2::server::{self, Builder, Handshake};
use http::{Request, Response};
use http_body::Body;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tower::Service;

/// Streams a peer resets before we have looked at them (rapid reset, CVE-2023-44487): beyond, the connection is closed.
const MAX_PENDING_RESETS: usize = 20;
/// Resets that a peer's mistakes make us send (CVE-2025-8671): beyond, the connection is closed.
const MAX_OWN_RESETS: usize = 256;
/// A connection's window in streams' windows.
const WINDOWS: u32 = 4;
/// What of one stream's answer h2 takes ahead of the peer.
const MAX_SEND_BUFFER: usize = 256 * 1024;

/// What a connection is framed by.
fn protocol(listener: &Listener) -> Builder {
    let limits = listener.http2;
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits.window)
        .initial_connection_window_size(limits.window.saturating_mul(WINDOWS))
        .max_concurrent_streams(limits.max_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_OWN_RESETS))
        .max_header_list_size(u32::try_from(listener.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(MAX_SEND_BUFFER);
    builder
}

/// Serves one connection to its end; what the service leaves in `interim` goes out before its final heads. Dropping the future closes it at once.
pub(super) async fn serve<S, B>(
    io: Prefixed<Stream>,
    listener: &Listener,
    shared: &Shared,
    tally: &Tally,
    interim: Arc<Interim>,
    service: S,
) where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (turns, streams) = (Turns::default(), Arc::new(Streams::default()));
    let (stall, clock) = (listener.body_timeout, Arc::clone(&shared.clock));
    let mut connection = Framed {
        stage: Stage::Shaking(protocol(listener).handshake(Coalescing::new(io, turns.clone()))),
        answering: Answering::new(service, Arc::clone(&streams), interim, stall, clock),
        is_closing: false,
        streams: Arc::clone(&streams),
        turns,
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

/// What h2 reads from and writes to.
type Wire = Coalescing<Prefixed<Stream>>;

/// h2's connection, with the turns its writes wait for.
struct Framed<S> {
    stage: Stage,
    answering: Answering<S>,
    /// The peer is to be told to go.
    is_closing: bool,
    turns: Turns,
    streams: Arc<Streams>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "it is one, then the other, in the memory of its task"
)]
enum Stage {
    /// Our settings and the peer's preface are on their way.
    Shaking(Handshake<Wire, Piece>),
    Open(server::Connection<Wire, Piece>),
}

impl<S, B> Framed<S>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Answers whatever has come.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.stage {
                Stage::Shaking(handshake) => {
                    let mut open = ready!(Pin::new(handshake).poll(cx))?;
                    if self.is_closing {
                        open.graceful_shutdown();
                    }
                    self.stage = Stage::Open(open);
                }
                Stage::Open(connection) => match ready!(pin!(connection.accept()).poll(cx)) {
                    Some(stream) => {
                        let (request, respond) = stream?;
                        self.answering.begin(request, respond);
                    }
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}

impl<S, B> Connection<h2::Error> for Framed<S>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            self.turns.begin();
            if let Poll::Ready(result) = self.poll_turn(cx) {
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
        self.is_closing = true;
        if let Stage::Open(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
    }
}

#[cfg(test)]
mod tests;
