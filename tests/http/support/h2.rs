//! A client that speaks HTTP/2, over whatever stream it is given.

use super::client::HOST;
use super::within;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// One connection.
pub struct H2 {
    send: SendRequest<Full<Bytes>>,
    /// Ends when the connection does.
    pub driven: JoinHandle<hyper::Result<()>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct H2Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl H2Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl H2 {
    /// By prior knowledge.
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap()).await
    }

    pub async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (send, connection) = within("a handshake", handshake(TokioExecutor::new(), TokioIo::new(io)))
            .await
            .unwrap();
        Self {
            send,
            driven: tokio::spawn(connection),
        }
    }

    /// A request to [`HOST`] without a body.
    pub fn request(method: &str, target: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{HOST}{target}"))
    }

    /// Sends a request; its answer's head comes out of the future. Several may be under way.
    pub async fn head(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        within("an answer's head", self.send.clone().send_request(request)).await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> H2Answer {
        whole(self.head(request).await.unwrap()).await
    }

    pub async fn get(&self, target: &str) -> H2Answer {
        self.send(Self::request("GET", target).body(Full::default()).unwrap())
            .await
    }
}

pub async fn whole(response: Response<Incoming>) -> H2Answer {
    let (parts, body) = response.into_parts();
    let collected = within("a body", body.collect()).await.unwrap();
    let trailers = collected.trailers().cloned();
    H2Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: collected.to_bytes(),
        trailers,
    }
}
