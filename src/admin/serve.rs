//! The admin port's socket: few connections, short limits, HTTP/1.1.

use super::guard::{Access, Peer};
use super::{Control, router};
use crate::world::{Listener, Stream};
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

/// Connections at once: probes, scrapers and a few people.
const MAX_CONNECTIONS: usize = 128;

/// A request's head, and the time between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A pause after an accept that failed, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the port on the current runtime until `stop` completes. Connections that are open then end with the runtime.
pub async fn serve(
    mut socket: Box<dyn Listener>,
    control: Arc<dyn Control>,
    access: Access,
    stop: impl Future<Output = ()>,
) {
    let router = router(control, access);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stop = pin!(stop);
    loop {
        let next = async {
            // Never closed, so a permit always comes.
            let place = Arc::clone(&places).acquire_owned().await;
            (socket.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = &mut stop => return,
            next = next => next,
        };
        match (accepted, place) {
            (Ok((_, None)), Ok(_)) => {} // over a unix socket, which this port is not
            (Ok((stream, Some(peer))), Ok(place)) => {
                tokio::spawn(connection(stream, peer, router.clone(), place));
            }
            (Err(error), _) => {
                tracing::warn!(%error, "admin port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Ok(_), Err(_)) => return,
        }
    }
}

async fn connection(stream: Stream, peer: SocketAddr, router: Router, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |mut request| {
        hyper::Request::extensions_mut(&mut request).insert(Peer(peer));
        router.clone().call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "admin connection ended");
    }
}
