//! A connection's first bytes: the TLS handshake where the listener has TLS, then who speaks. Both have `header_timeout` together; a
//! client that has said nothing by then is closed without a word, as one that is slow with a head is not: that is HTTP/1's to answer.
//! HTTP in clear on a port that speaks TLS is told so, in clear; nothing of it is looked at.

use super::accept::Door;
use super::connection::{self, Shared};
use super::drain::Phase;
use super::http2;
use super::preface::{self, Opening, Prefixed};
use super::streams::Upload;
use super::tls::{self, Terms};
use crate::config::runtime::Listener;
use crate::core::reason::Outcome;
use crate::proxy::Interim;
use crate::world::Stream;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tower::Service;

/// What a client hears that speaks HTTP without TLS where TLS is spoken.
const NEEDS_TLS: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 57\r\n\r\n\
The plain HTTP request was sent to HTTPS port: use https\n";

/// A stream, and what is spoken on it.
enum Opened {
    Http1(Prefixed<Stream>),
    Http2(Prefixed<Stream>),
}

/// Opens a connection and serves it to its end. Dropping the future closes it at once.
pub(super) async fn serve<S, B>(
    io: Stream,
    terms: Option<Arc<Terms>>,
    http1: &http1::Builder,
    door: &Door,
    shared: &Shared,
    interim: Arc<Interim>,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    <S as Service<Request<Upload>>>::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = &**door.listener();
    let opened = match &terms {
        Some(terms) => Box::pin(secured(io, terms, door, shared)).await,
        None if listener.tls.is_some() => None, // never in clear what is to be encrypted
        None => Box::pin(plain(io, listener, shared)).await,
    };
    match opened {
        Some(Opened::Http1(io)) => connection::serve(io, http1, listener, shared, interim, service).await,
        Some(Opened::Http2(io)) => {
            Box::pin(http2::serve(io, listener, shared, door.tally(), interim, service)).await;
        }
        None => {}
    }
}

/// How the begin of a connection with TLS went.
enum Secured {
    Shaken(tls::Shaken),
    /// HTTP without TLS.
    InClear(Prefixed<Stream>),
}

async fn secured(io: Stream, terms: &Terms, door: &Door, shared: &Shared) -> Option<Opened> {
    let listener = &**door.listener();
    let begun = within(listener, shared, begin(io, terms)).await;
    let (result, shaken) = match begun {
        Some(Ok(Secured::Shaken(shaken))) => (None, Some(shaken)),
        Some(Ok(Secured::InClear(io))) => {
            door.tally().handshake(tls::failed("plain-http"));
            tell_to_use_tls(io, shared).await;
            return None;
        }
        Some(Err(error)) => {
            let why = tls::why(&error);
            tracing::debug!(listener = %listener.name, %error, why, "TLS handshake failed");
            (Some(why), None)
        }
        None => (Some("timeout"), None),
    };
    let handshake = match (&shaken, result) {
        (Some(shaken), _) => shaken.told(),
        (None, why) => tls::failed(why.unwrap_or_default()),
    };
    door.tally().handshake(handshake);
    let shaken = shaken?;
    let http2 = shaken.chose_http2() || !listener.protocols.http1;
    let io = Prefixed::new(Bytes::new(), shaken.into_stream());
    Some(if http2 { Opened::Http2(io) } else { Opened::Http1(io) })
}

async fn begin(mut io: Stream, terms: &Terms) -> io::Result<Secured> {
    let mut seen = Vec::new();
    let in_clear = preface::is_in_clear(&mut io, &mut seen).await?;
    let io = Prefixed::new(seen.into(), io);
    Ok(if in_clear {
        Secured::InClear(io)
    } else {
        Secured::Shaken(terms.accept(io).await?)
    })
}

async fn tell_to_use_tls(mut io: Prefixed<Stream>, shared: &Shared) {
    connection::last_words(&mut io, NEEDS_TLS.as_bytes()).await;
    shared
        .metrics
        .request(None, Outcome::Refused, StatusCode::BAD_REQUEST, Duration::ZERO);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::super::connection::tests::{PausedClock, listener, metrics};
    use super::super::deal::Cores;
    use super::super::drain::Drain;
    use super::*;
    use crate::config::runtime::{Bind, Protocols};
    use crate::config::tls::ServerTls;
    use crate::world::World;
    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn nothing_is_said_in_clear_where_tls_is_asked_for_and_there_are_no_terms_yet() {
        for (has_tls, answer) in [(false, "HTTP/1.1 200 OK"), (true, "")] {
            let tls = ServerTls {
                default: None,
                others: Vec::new(),
                client_ca: None,
            };
            let listener = Listener {
                bind: Bind::Address(([127, 0, 0, 1], 0).into()),
                protocols: Protocols {
                    http1: true,
                    http2: true,
                },
                tls: has_tls.then(|| Arc::new(tls)),
                ..listener()
            };
            let http1 = connection::protocol(&listener);
            let (door, _socket) = Door::open(&*World::real().net, Arc::new(listener), &Cores::new(1)).unwrap();
            let shared = Shared {
                clock: Arc::new(PausedClock(tokio::time::Instant::now())),
                metrics: metrics(),
                drain: Arc::new(Drain::new()),
            };
            let (mut client, far) = tokio::io::duplex(16 * 1024);
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            serve(Box::new(far), None, &http1, &door, &shared, Arc::default(), Hello).await;
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard.lines().next().unwrap_or_default(), answer, "TLS: {has_tls}");
        }
    }

    /// Answers whatever comes, in both protocols.
    struct Hello;

    impl<T> Service<Request<T>> for Hello {
        type Response = Response<Empty<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<T>) -> Self::Future {
            std::future::ready(Ok(Response::new(Empty::new())))
        }
    }

    #[test]
    fn the_words_are_as_long_as_they_say() {
        let (head, words) = NEEDS_TLS.split_once("\r\n\r\n").unwrap_or_default();
        assert!(
            head.ends_with(&format!("content-length: {}", words.len())),
            "{}",
            words.len()
        );
    }
}
