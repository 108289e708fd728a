//! The tour's client: one request, one connection, as `curl` would do it. Bodies are small and read whole.

use crate::world::World;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than any timeout of the demo's routes: reaching it means that the proxy hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than any answer of the demo has, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    /// A field's text, or "-" without it.
    pub(super) fn field(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-")
    }

    /// The `value` of the document, or "-" when the answer is none.
    pub(super) fn value(&self) -> String {
        let document: Option<serde_json::Value> = serde_json::from_str(&self.body).ok();
        let value = document.as_ref().and_then(|d| d.get("value")).and_then(|v| v.as_str());
        value.unwrap_or("-").to_owned()
    }

    /// Whether `Cache-Status` says that the cache answered.
    pub(super) fn is_hit(&self) -> bool {
        self.field("cache-status").contains("; hit")
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The connection could not be made.
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    /// The connection broke, or what came was not HTTP.
    #[error("no answer: {0}")]
    Broken(String),
    /// Nothing came in time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TooLate,
}

/// Sends one request on a new connection and reads the whole answer.
pub(super) async fn ask(
    world: &World,
    to: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(HeaderName, &'static str)],
    body: &str,
) -> Result<Answer, NoAnswer> {
    let exchange = async {
        let stream = world.net.connect(to).await.map_err(NoAnswer::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", to.to_string());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).map_err(broken)?;
        let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(broken)?
            .to_bytes();
        driver.abort();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .unwrap_or(Err(NoAnswer::TooLate))
}

fn broken(e: impl std::fmt::Display) -> NoAnswer {
    NoAnswer::Broken(e.to_string())
}
