//! A node of a replicated register store, as a process: this test binary, started again with `NODE_*` variables.
//!
//! `shared`: it keeps nothing and asks the common store. `alone`: it keeps its own registers, and whoever copies writes to it decides
//! what they hold (mirrored). `primary`: it keeps its own registers and a position, and sends what it applies to its followers, before it
//! answers or `NODE_LAG_MS` after. Registers, role and term outlive the process, in `NODE_DIR`.

use super::support::client::Client;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What outlives the process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    primary: bool,
    term: u64,
    position: u64,
    values: BTreeMap<String, String>,
}

struct Node {
    mode: String,
    dir: PathBuf,
    /// The common store of `shared`.
    store: Option<SocketAddr>,
    /// Who is sent what is applied.
    followers: Vec<SocketAddr>,
    /// How long after its answer; none: before it.
    lag: Option<Duration>,
    /// A fence has been put up when this file is there.
    fence: PathBuf,
    kept: Mutex<Kept>,
    writing: tokio::sync::Mutex<()>,
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Serves until it is killed.
#[test]
#[ignore = "the program of a node, started by the cluster"]
fn serve() {
    if var("NODE_DIR").is_empty() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run());
}

async fn run() {
    let listener = tokio::net::TcpListener::bind(var("NODE_LISTEN")).await.unwrap();
    let address = listener.local_addr().unwrap();
    let dir = PathBuf::from(var("NODE_DIR"));
    let fences = PathBuf::from(var("NODE_FENCES"));
    let kept = std::fs::read_to_string(dir.join("kept.json")).ok();
    let kept = kept.and_then(|text| serde_json::from_str(&text).ok());
    let node = Arc::new(Node {
        mode: var("NODE_MODE"),
        store: var("NODE_STORE").parse().ok(),
        followers: var("NODE_FOLLOWERS")
            .split(',')
            .filter_map(|a| a.parse().ok())
            .collect(),
        lag: var("NODE_LAG_MS").parse().ok().map(Duration::from_millis),
        fence: fences.join(format!("fence-{address}")),
        kept: Mutex::new(kept.unwrap_or_else(|| Kept {
            primary: !var("NODE_PRIMARY").is_empty(),
            term: 1,
            ..Kept::default()
        })),
        writing: tokio::sync::Mutex::new(()),
        dir,
    });
    println!("\nlistening {address}");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let node = Arc::clone(&node);
                async move { Ok::<_, Infallible>(node.answer(request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Node {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let path = parts.uri.path();
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut response = match (&parts.method, path) {
            (_, "/healthz") => plain(StatusCode::OK, ""),
            (&Method::POST, "/promote") => self.promote(),
            (&Method::POST, "/claim") => self.claim(&text),
            (&Method::POST, "/follow") => self.follow(&text),
            (_, path) if self.mode == "shared" => self.ask_store(&parts.method, path, &text).await,
            (&Method::GET | &Method::HEAD, path) => self.read(path, parts.headers.get("if-none-match")),
            (&Method::PUT | &Method::DELETE, path) => {
                let value = (parts.method == Method::PUT).then_some(text);
                self.write(path, value).await
            }
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
        };
        if self.mode == "primary" {
            let kept = self.kept.lock().unwrap();
            let headers = response.headers_mut();
            let role = if kept.primary { "primary" } else { "replica" };
            headers.insert("node-role", role.parse().unwrap());
            headers.insert("node-term", kept.term.into());
            headers.insert("node-position", kept.position.into());
        }
        response
    }

    /// `true 3`: from now on it says that it is the primary, in term 3, whatever is true.
    fn claim(&self, text: &str) -> Response<Full<Bytes>> {
        let (primary, term) = text.split_once(' ').unwrap();
        let mut kept = self.kept.lock().unwrap();
        kept.primary = primary == "true";
        kept.term = term.parse().unwrap();
        self.keep(&kept);
        plain(StatusCode::NO_CONTENT, "")
    }

    fn promote(&self) -> Response<Full<Bytes>> {
        let mut kept = self.kept.lock().unwrap();
        kept.primary = true;
        kept.term += 1;
        self.keep(&kept);
        plain(StatusCode::NO_CONTENT, "")
    }

    /// The whole state of a primary, taken over unless it is of an older term.
    fn follow(&self, text: &str) -> Response<Full<Bytes>> {
        let told: Kept = serde_json::from_str(text).unwrap();
        let mut kept = self.kept.lock().unwrap();
        if told.term < kept.term || kept.primary && told.term == kept.term {
            return plain(StatusCode::CONFLICT, "");
        }
        if told.term > kept.term || told.position > kept.position {
            *kept = Kept { primary: false, ..told };
            self.keep(&kept);
        }
        plain(StatusCode::NO_CONTENT, "")
    }

    fn read(&self, path: &str, known: Option<&http::HeaderValue>) -> Response<Full<Bytes>> {
        let kept = self.kept.lock().unwrap();
        let Some(value) = kept.values.get(path) else {
            return plain(StatusCode::NOT_FOUND, "");
        };
        let tag = format!("\"{value}\"");
        let fresh = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut response = if fresh {
            plain(StatusCode::NOT_MODIFIED, "")
        } else {
            plain(StatusCode::OK, value)
        };
        response.headers_mut().insert("etag", tag.parse().unwrap());
        response
    }

    async fn write(&self, path: &str, value: Option<String>) -> Response<Full<Bytes>> {
        if self.mode == "primary" && (self.fence.exists() || !self.kept.lock().unwrap().primary) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "");
        }
        let _one_by_one = self.writing.lock().await;
        let mut next = self.kept.lock().unwrap().clone();
        next.position += 1;
        match value {
            Some(value) => drop(next.values.insert(path.to_owned(), value)),
            None => drop(next.values.remove(path)),
        }
        let sending = send(self.followers.clone(), serde_json::to_string(&next).unwrap());
        // Without a lag nobody is shown what the followers have not got.
        match self.lag {
            None => sending.await,
            Some(lag) => {
                tokio::spawn(async move {
                    tokio::time::sleep(lag).await;
                    sending.await;
                });
            }
        }
        let mut kept = self.kept.lock().unwrap();
        if kept.primary || self.mode != "primary" {
            self.keep(&next);
            *kept = next;
        }
        plain(StatusCode::NO_CONTENT, "")
    }

    async fn ask_store(&self, method: &Method, path: &str, body: &str) -> Response<Full<Bytes>> {
        let Ok(mut store) = Client::try_connect(self.store.unwrap()).await else {
            return plain(StatusCode::BAD_GATEWAY, "");
        };
        let asked = store.try_ask(method.as_str(), path, &[("Connection", "close")], body.as_bytes());
        let answer = match asked.await {
            Ok(()) => store.try_answer().await,
            Err(_) => return plain(StatusCode::BAD_GATEWAY, ""),
        };
        let Ok(answer) = answer else {
            return plain(StatusCode::BAD_GATEWAY, "");
        };
        let mut response = plain(StatusCode::from_u16(answer.status).unwrap(), answer.text());
        if let Some(tag) = answer.header("etag") {
            response.headers_mut().insert("etag", tag.parse().unwrap());
        }
        response
    }

    /// Only the process is killed, never the machine: what the kernel has been given is kept.
    fn keep(&self, kept: &Kept) {
        let new = self.dir.join("kept.new");
        std::fs::write(&new, serde_json::to_string(kept).unwrap()).unwrap();
        std::fs::rename(new, self.dir.join("kept.json")).unwrap();
    }
}

async fn send(followers: Vec<SocketAddr>, state: String) {
    for follower in followers {
        if let Ok(mut client) = Client::try_connect(follower).await
            && client
                .try_ask("POST", "/follow", &[("Connection", "close")], state.as_bytes())
                .await
                .is_ok()
        {
            let _ = client.try_answer().await;
        }
    }
}

fn plain(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())));
    *response.status_mut() = status;
    response
}
