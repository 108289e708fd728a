//! The demo's replicated backend: small JSON documents in one store, and nodes that serve it, each on its own port. A node can be
//! killed, revived and slowed down, and the reply to the next write can be lost after it was applied.
//!
//! It promises what Tidegate assumes of an origin (CONSISTENCY.md section 1): one document is linearizable, and its strong ETag
//! is its version, so that equal ETags mean equal bytes on every node. It is no example of how to build a store.

use crate::world::{BindOptions, Stream, World};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// The largest document, in bytes: this is a demo.
const MAX_DOCUMENT: usize = 64 * 1024;
/// The most documents.
const MAX_DOCUMENTS: usize = 10_000;

/// The path of health checks.
pub(super) const HEALTH: &str = "/healthz";
/// The answer field that names the node. It is not part of the document: equal ETags mean equal bytes on all nodes.
pub(super) const NODE: &str = "x-node";

struct Document {
    value: String,
    version: u64,
}

#[derive(Default)]
struct Documents {
    by_path: BTreeMap<String, Document>,
    last_version: u64,
}

/// What all nodes share.
#[derive(Default)]
pub(super) struct Store {
    documents: Mutex<Documents>,
    lose_next_reply: AtomicBool,
}

impl Store {
    /// Writes behind everybody's back, as an import job would. Answers the new version.
    pub(super) fn write(&self, path: &str, value: &str) -> Option<u64> {
        let mut documents = self.documents.lock();
        if documents.by_path.len() >= MAX_DOCUMENTS && !documents.by_path.contains_key(path) {
            return None;
        }
        documents.last_version += 1;
        let version = documents.last_version;
        let value = value.to_owned();
        documents.by_path.insert(path.to_owned(), Document { value, version });
        Some(version)
    }

    /// The document as it is served: its JSON text and its strong ETag.
    fn read(&self, path: &str) -> Option<(String, String)> {
        let documents = self.documents.lock();
        let document = documents.by_path.get(path)?;
        let json = serde_json::json!({ "path": path, "value": document.value, "version": document.version });
        Some((format!("{json}\n"), format!("\"{}\"", document.version)))
    }

    /// The next write, at whichever node, is applied, and its connection closes without a reply.
    pub(super) fn lose_next_reply(&self) {
        self.lose_next_reply.store(true, Ordering::Relaxed);
    }

    fn remove(&self, path: &str) -> bool {
        self.documents.lock().by_path.remove(path).is_some()
    }
}

/// What a node does and has done.
struct Behaviour {
    name: HeaderValue,
    store: Arc<Store>,
    delay_ms: AtomicU64,
    requests: AtomicU64,
    writes: AtomicU64,
}

/// One node. It listens while it lives; killing it resets its port and its connections.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    world: World,
    behaviour: Arc<Behaviour>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Node {
    /// Starts a node. Must be called on the runtime that is to serve it.
    pub(super) fn start(name: &'static str, on: SocketAddr, store: Arc<Store>, world: &World) -> io::Result<Self> {
        let behaviour = Arc::new(Behaviour {
            name: HeaderValue::from_static(name),
            store,
            delay_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        let mut node = Self {
            name: name.to_owned(),
            address: on,
            world: world.clone(),
            behaviour,
            serving: Mutex::new(None),
        };
        node.address = node.listen()?;
        Ok(node)
    }

    fn listen(&self) -> io::Result<SocketAddr> {
        let mut listener = self.world.net.listen(self.address, BindOptions::default())?;
        let address = listener.local_addr()?;
        let behaviour = Arc::clone(&self.behaviour);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    Some(_) = connections.join_next() => {}
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            connections.spawn(serve(stream, Arc::clone(&behaviour)));
                        }
                    }
                }
            }
        });
        *self.serving.lock() = Some(serving);
        Ok(address)
    }

    /// The process dies: its port refuses, its connections break, requests in flight are lost. The store survives.
    pub(super) async fn kill(&self) {
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// The process starts again on its port.
    pub(super) fn revive(&self) -> io::Result<()> {
        if self.is_alive() {
            return Ok(());
        }
        self.listen().map(drop)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.serving.lock().is_some()
    }

    /// Every answer from now on takes this much longer.
    pub(super) fn slow_down(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.behaviour.delay_ms.store(ms, Ordering::Relaxed);
    }

    /// Requests so far, health checks left out.
    pub(super) fn requests(&self) -> u64 {
        self.behaviour.requests.load(Ordering::Relaxed)
    }

    /// Writes applied so far.
    pub(super) fn writes(&self) -> u64 {
        self.behaviour.writes.load(Ordering::Relaxed)
    }
}

/// A node lost its reply on purpose: hyper closes the connection when its service fails.
#[derive(Debug, thiserror::Error)]
#[error("the reply was lost on purpose")]
struct LostReply;

async fn serve(stream: Stream, behaviour: Arc<Behaviour>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let behaviour = Arc::clone(&behaviour);
        async move { answer(request, &behaviour).await }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

async fn answer(request: Request<Incoming>, behaviour: &Behaviour) -> Result<Response<Full<Bytes>>, LostReply> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if path == HEALTH {
        return Ok(reply(StatusCode::OK, "ok\n"));
    }
    behaviour.requests.fetch_add(1, Ordering::Relaxed);
    let delay = behaviour.delay_ms.load(Ordering::Relaxed);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let mut answer = match parts.method {
        Method::GET | Method::HEAD => read(path, &parts.headers, &behaviour.store),
        Method::PUT | Method::DELETE => {
            let applied = match Limited::new(body, MAX_DOCUMENT).collect().await {
                Err(_) => reply(StatusCode::PAYLOAD_TOO_LARGE, "a document has at most 64 KiB\n"),
                Ok(body) => write(&parts.method, path, &parts.headers, &body.to_bytes(), &behaviour.store),
            };
            if applied.status().is_success() {
                behaviour.writes.fetch_add(1, Ordering::Relaxed);
                if behaviour.store.lose_next_reply.swap(false, Ordering::Relaxed) {
                    return Err(LostReply);
                }
            }
            applied
        }
        _ => {
            let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, PUT or DELETE\n");
            let methods = HeaderValue::from_static("GET, HEAD, PUT, DELETE");
            refused.headers_mut().insert(ALLOW, methods);
            refused
        }
    };
    answer.headers_mut().insert(NODE, behaviour.name.clone());
    Ok(answer)
}

fn read(path: &str, headers: &HeaderMap, store: &Store) -> Response<Full<Bytes>> {
    let Some((json, etag)) = store.read(path) else {
        return reply(StatusCode::NOT_FOUND, "no such document\n");
    };
    if lists(headers, IF_NONE_MATCH, &etag) {
        return tagged(Response::new(Full::default()), StatusCode::NOT_MODIFIED, &etag);
    }
    let mut answer = reply(StatusCode::OK, json);
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    tagged(answer, StatusCode::OK, &etag)
}

fn write(method: &Method, path: &str, headers: &HeaderMap, body: &[u8], store: &Store) -> Response<Full<Bytes>> {
    let before = store.read(path).map(|(_, etag)| etag);
    if headers.contains_key(IF_MATCH) && !before.as_deref().is_some_and(|etag| lists(headers, IF_MATCH, etag)) {
        return reply(StatusCode::PRECONDITION_FAILED, "the document has another version\n");
    }
    if method == Method::DELETE {
        let gone = store.remove(path);
        let status = if gone {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::NOT_FOUND
        };
        return reply(status, "");
    }
    match store.write(path, String::from_utf8_lossy(body).trim_end()) {
        None => reply(StatusCode::INSUFFICIENT_STORAGE, "too many documents for a demo\n"),
        Some(version) => {
            let status = if before.is_some() {
                StatusCode::NO_CONTENT
            } else {
                StatusCode::CREATED
            };
            tagged(reply(status, ""), status, &format!("\"{version}\""))
        }
    }
}

/// Whether a condition names this ETag, or any.
fn lists(headers: &HeaderMap, condition: http::HeaderName, etag: &str) -> bool {
    let lines = headers.get_all(condition).into_iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag == etag
    })
}

fn reply(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

fn tagged(mut answer: Response<Full<Bytes>>, status: StatusCode, etag: &str) -> Response<Full<Bytes>> {
    *answer.status_mut() = status;
    if let Ok(etag) = HeaderValue::from_str(etag) {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer
}
