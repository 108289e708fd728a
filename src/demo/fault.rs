//! The fault port: where a visitor kills, revives and slows down the demo's nodes with `curl`.

use super::setting::Backend;
use crate::world::{BindOptions, Listener, World};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "GET /nodes
POST /nodes/NAME/kill | revive | slow?ms=1000
POST /lose-next-reply
";

/// Listens, and answers until the runtime ends. Must be called on the runtime that is to serve it.
pub(super) fn start(on: SocketAddr, backend: Arc<Backend>, world: &World) -> io::Result<SocketAddr> {
    let listener = world.net.listen(on, BindOptions::default())?;
    let address = listener.local_addr()?;
    tokio::spawn(accept(listener, backend));
    Ok(address)
}

async fn accept(mut listener: Box<dyn Listener>, backend: Arc<Backend>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let backend = Arc::clone(&backend);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let backend = Arc::clone(&backend);
            async move {
                // A web page may make a browser send requests to loopback ports; curl sends no Origin.
                let (status, text) = if request.headers().contains_key(http::header::ORIGIN) {
                    (StatusCode::FORBIDDEN, "not from a web page\n".to_owned())
                } else {
                    obey(request.method(), request.uri(), &backend).await
                };
                let mut answer = Response::new(Full::new(Bytes::from(text)));
                *answer.status_mut() = status;
                Ok::<_, Infallible>(answer)
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn obey(method: &Method, uri: &http::Uri, backend: &Backend) -> (StatusCode, String) {
    let words: Vec<&str> = uri.path().split('/').skip(1).collect();
    match (method.as_str(), words.as_slice()) {
        ("GET", [""] | ["nodes"]) => (StatusCode::OK, list(backend)),
        ("POST", ["lose-next-reply"]) => {
            backend.store.lose_next_reply();
            (
                StatusCode::OK,
                "the next write will be applied and its reply lost\n".to_owned(),
            )
        }
        ("POST", ["nodes", name, order]) => match backend.node(name) {
            None => (StatusCode::NOT_FOUND, format!("no node {name}\n{}", list(backend))),
            Some(node) => {
                match *order {
                    "kill" => node.kill().await,
                    "revive" => {
                        node.slow_down(Duration::ZERO);
                        if let Err(e) = node.revive() {
                            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{name} cannot start: {e}\n"));
                        }
                    }
                    "slow" => node.slow_down(Duration::from_millis(milliseconds(uri))),
                    _ => return (StatusCode::NOT_FOUND, USAGE.to_owned()),
                }
                (StatusCode::OK, list(backend))
            }
        },
        _ => (StatusCode::NOT_FOUND, USAGE.to_owned()),
    }
}

fn milliseconds(uri: &http::Uri) -> u64 {
    let given = uri.query().and_then(|q| q.strip_prefix("ms="));
    given.and_then(|ms| ms.parse().ok()).unwrap_or(1000)
}

fn list(backend: &Backend) -> String {
    let line = |n: &Arc<super::backend::Node>| {
        let state = if n.is_alive() { "alive" } else { "dead" };
        format!(
            "{:<6} http://{} {state:<5} {} requests, {} writes\n",
            n.name,
            n.address,
            n.requests(),
            n.writes()
        )
    };
    backend.nodes.iter().map(line).collect::<String>()
}
