//! Both ends of traffic that never stops: clients that fail the test when an answer is not what it should be, and nodes that answer
//! everything at once.

use super::client::Client;
use super::origin::HEALTH;
use super::{eventually, within};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What every node answers.
const ANSWER: &str = "x";

/// What a client asks in a turn: method, path and body.
pub type Asks = fn(usize) -> (&'static str, String, &'static str);

/// Reads of few resources, and some writes of them.
pub fn reads_and_writes(turn: usize) -> (&'static str, String, &'static str) {
    let path = format!("/{}", turn % 5);
    match turn % 7 {
        0 => ("PUT", path, "body"),
        _ => ("GET", path, ""),
    }
}

/// Clients that never stop asking.
pub struct Traffic {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// So many clients, each with a connection of its own.
    pub fn start(to: SocketAddr, count: usize, asks: Asks) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..count).map(|number| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut client = Client::connect(to).await;
                for turn in number.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let (method, path, body) = asks(turn);
                    let answer = client.request(method, &path, &[], body.as_bytes()).await;
                    assert_eq!((answer.status, answer.text()), (200, ANSWER), "{method} {path}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        Self {
            clients: clients.collect(),
            over,
            answered,
        }
    }

    /// Waits for so many more answers.
    pub async fn goes_on(&self, more: usize) {
        let before = self.answered.load(Ordering::SeqCst);
        eventually("answers", || {
            let now = self.answered.load(Ordering::SeqCst);
            let dead = self.clients.iter().any(JoinHandle::is_finished);
            async move { dead || now >= before + more }
        })
        .await;
    }

    /// Lets each client have its last answer; how many there were.
    pub async fn end(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        for client in self.clients {
            within("a client", client).await.expect("no request was lost");
        }
        self.answered.load(Ordering::SeqCst)
    }
}

/// A node that answers everything at once, in HTTP/1.1 and in HTTP/2, and counts what is no health check.
pub struct Answering {
    pub url: String,
    asked: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Answering {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let accepting = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(serve(io, Arc::clone(&counted)));
            }
        });
        Self { url, asked, accepting }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(io: TcpStream, asked: Arc<AtomicUsize>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = Arc::clone(&asked);
        async move {
            if request.uri().path() != HEALTH {
                asked.fetch_add(1, Ordering::SeqCst);
            }
            request.into_body().collect().await?;
            let answer = Response::builder().header("etag", "\"1\"");
            Ok::<_, hyper::Error>(answer.body(Full::new(Bytes::from_static(ANSWER.as_bytes()))).unwrap())
        }
    });
    let _ = io.set_nodelay(true);
    // Every request begins with more than that.
    let mut first = [0; 3];
    while io
        .peek(&mut first)
        .await
        .is_ok_and(|seen| 0 < seen && seen < first.len())
    {
        tokio::task::yield_now().await;
    }
    // A proxy that leaves is no failure.
    let io = TokioIo::new(io);
    let _ = if &first == b"PRI" {
        http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}
