//! One client of a running deployment: a connection it keeps while it works, a session token it carries, and what it can know of the
//! end of each request.

use super::history::Outcome;
use super::record::NOTHING;
use crate::world::World;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;

/// Longer than a proxy's own timeouts by default: it should be the one to say what became of a request.
const PATIENCE: Duration = Duration::from_secs(35);

/// More than a document around one value, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

static TOKEN: HeaderName = HeaderName::from_static("tidegate-session");
static CONSISTENCY: HeaderName = HeaderName::from_static("tidegate-consistency");
static PREFER: HeaderName = HeaderName::from_static("prefer");
static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What every value of a run begins with: found in whatever document the backend puts around it.
const MARK: &str = "tv-";

/// A proxy to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As `Host` names it.
    pub authority: String,
    /// Name or address to connect to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path below which the keys are, without a slash at its end.
    pub path: String,
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// What was read; empty after a write.
    pub(super) value: String,
    pub(super) consistency: String,
    pub(super) hit: bool,
    pub(super) how: String,
}

/// A session.
pub(super) struct Client {
    world: World,
    fields: HeaderMap,
    open: Option<(usize, SendRequest<Full<Bytes>>)>,
    token: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(world: &World, fields: &HeaderMap) -> Self {
        Self {
            world: world.clone(),
            fields: fields.clone(),
            open: None,
            token: None,
        }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Reads a key at proxy number `at`; `fresh` asks every cache on the way to ask the origin, and of several nodes the primary.
    pub(super) async fn read(&mut self, (at, place): (usize, &Place), key: &str, fresh: bool) -> Ended {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}/{key}", place.path));
        let request = if fresh {
            request
                .header(CACHE_CONTROL, "no-cache")
                .header(&PREFER, "consistency=strong")
        } else {
            request
        };
        match self.ask(at, place, request, Bytes::new()).await {
            Err(NoAnswer { how, .. }) => Ended::nothing(Outcome::Failed, how),
            Ok((status, headers, body)) => {
                let outcome = match status {
                    StatusCode::OK | StatusCode::NOT_FOUND => Outcome::Ok,
                    _ => Outcome::Failed,
                };
                let value = if status == StatusCode::OK {
                    value_in(&body)
                } else {
                    NOTHING.to_owned()
                };
                Ended::answered(outcome, value, status, &headers)
            }
        }
    }

    /// Writes a key.
    pub(super) async fn write(&mut self, (at, place): (usize, &Place), key: &str, value: &str) -> Ended {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("{}/{key}", place.path))
            .header(CONTENT_TYPE, "text/plain");
        match self.ask(at, place, request, Bytes::from(value.to_owned())).await {
            Err(NoAnswer { sent: false, how }) => Ended::nothing(Outcome::Failed, how),
            Err(NoAnswer { sent: true, how }) => Ended::nothing(Outcome::Ambiguous, how),
            Ok((status, headers, body)) => Ended::answered(
                outcome_of_write(status, &headers, &body),
                String::new(),
                status,
                &headers,
            ),
        }
    }

    async fn ask(
        &mut self,
        at: usize,
        place: &Place,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes), NoAnswer> {
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(at, place, request, body)).await;
        let late = || NoAnswer::sent(format!("no answer within {} s", PATIENCE.as_secs()));
        let answer = exchange.unwrap_or_else(|_| Err(late()));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn exchange(
        &mut self,
        at: usize,
        place: &Place,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes), NoAnswer> {
        let mut sender = match self.open.take() {
            Some((open_to, sender)) if open_to == at && sender.is_ready() => sender,
            Some(_) | None => self.connect(place).await.map_err(NoAnswer::unsent)?,
        };
        let mut request = request.body(Full::new(body)).map_err(NoAnswer::unsent)?;
        let fields = request.headers_mut();
        for (name, value) in &self.fields {
            fields.append(name.clone(), value.clone());
        }
        if !fields.contains_key(HOST) {
            fields.insert(HOST, HeaderValue::from_str(&place.authority).map_err(NoAnswer::unsent)?);
        }
        if let Some(token) = &self.token {
            fields.insert(TOKEN.clone(), token.clone());
        }
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| NoAnswer::sent(e.to_string()))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|e| NoAnswer::sent(e.to_string()))?.to_bytes();
        if let Some(token) = parts.headers.get(&TOKEN) {
            self.token = Some(token.clone());
        }
        self.open = Some((at, sender));
        Ok((parts.status, parts.headers, body))
    }

    async fn connect(&self, place: &Place) -> io::Result<SendRequest<Full<Bytes>>> {
        let mut stream = Err(io::ErrorKind::NotFound.into());
        for address in self.world.net.resolve(&place.host, place.port).await? {
            stream = self.world.net.connect(address).await;
            if stream.is_ok() {
                break;
            }
        }
        let (sender, connection) = handshake(TokioIo::new(stream?)).await.map_err(io::Error::other)?;
        // Ends when its sender is dropped, or with the connection.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// A request without an answer.
struct NoAnswer {
    /// Something of it may have arrived.
    sent: bool,
    how: String,
}

impl NoAnswer {
    fn unsent(why: impl std::fmt::Display) -> Self {
        Self {
            sent: false,
            how: why.to_string(),
        }
    }

    fn sent(how: String) -> Self {
        Self { sent: true, how }
    }
}

impl Ended {
    fn nothing(outcome: Outcome, how: String) -> Self {
        Self {
            outcome,
            value: String::new(),
            consistency: String::new(),
            hit: false,
            how,
        }
    }

    fn answered(outcome: Outcome, value: String, status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        let cache_status = text(&CACHE_STATUS);
        Self {
            outcome,
            value,
            consistency: text(&CONSISTENCY).to_owned(),
            hit: cache_status.split(';').any(|part| part.trim() == "hit"),
            how: format!("{} {}", status.as_u16(), without_key(cache_status))
                .trim_end()
                .to_owned(),
        }
    }
}

/// A `Cache-Status` without what is the same in every line.
fn without_key(cache_status: &str) -> &str {
    cache_status.split("; key=").next().unwrap_or(cache_status)
}

/// What a write's answer proves. A refusal of the origin's changed nothing, and neither did one of ours that says so; anything else that
/// is no 2xx leaves it open.
fn outcome_of_write(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Outcome {
    let is_problem = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/problem+json");
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok().filter(|_| is_problem);
    let kind = document
        .as_ref()
        .and_then(|d| d.get("type"))
        .and_then(|kind| kind.as_str());
    match status {
        StatusCode::ACCEPTED => Outcome::Ambiguous,
        _ if status.is_success() => Outcome::Ok,
        _ if status.is_client_error() || kind == Some("urn:tidegate:problem:not-applied") => Outcome::Failed,
        _ => Outcome::Ambiguous,
    }
}

/// The value that a write of this key used, wherever it stands in the document.
fn value_in(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Some((_, rest)) = text.split_once(MARK) else {
        return "(no value of a verify)".to_owned();
    };
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .unwrap_or(rest.len());
    format!("{MARK}{}", rest.get(..end).unwrap_or(rest))
}

/// Whether a value was written by another run: to this one it is what was there before everything, which a cache may still serve.
pub(super) fn is_of_another(run: u64, value: &str) -> bool {
    value.starts_with(MARK) && !value.starts_with(&format!("{MARK}{run:016x}-"))
}

/// A value that no other write of any run uses.
pub(super) fn value(run: u64, client: u32, number: u64) -> String {
    format!("{MARK}{run:016x}-{client}-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_whatever_is_around_it() {
        let one = value(7, 3, 12);
        assert_eq!(one, "tv-0000000000000007-3-12");
        for body in [
            one.clone(),
            format!("{{\"value\":\"{one}\",\"n\":1}}\n"),
            format!("<b>{one}</b>"),
        ] {
            assert_eq!(value_in(body.as_bytes()), one);
        }
        assert_eq!(value_in(b"hello"), "(no value of a verify)");
        assert!(is_of_another(8, &one) && !is_of_another(7, &one));
        assert!(!is_of_another(7, &value_in(b"hello")));
    }

    #[test]
    fn what_an_answer_to_a_write_proves() {
        let problem = |kind: &str| Bytes::from(format!("{{\"type\":\"urn:tidegate:problem:{kind}\"}}"));
        let mut headers = HeaderMap::new();
        let judged = |status: u16, headers: &HeaderMap, body: &Bytes| {
            outcome_of_write(StatusCode::from_u16(status).unwrap_or_default(), headers, body)
        };
        for (status, outcome) in [
            (200, Outcome::Ok),
            (204, Outcome::Ok),
            (202, Outcome::Ambiguous),
            (301, Outcome::Ambiguous),
            (412, Outcome::Failed),
            (500, Outcome::Ambiguous),
            (503, Outcome::Ambiguous),
        ] {
            assert_eq!(judged(status, &headers, &problem("not-applied")), outcome, "{status}");
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        assert_eq!(judged(503, &headers, &problem("not-applied")), Outcome::Failed);
        assert_eq!(judged(504, &headers, &problem("unknown")), Outcome::Ambiguous);
    }
}
