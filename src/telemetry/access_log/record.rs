//! One request in the access log, and how it reads. Texts are cut to a bound when the record is made, on the request's thread; what
//! could break a line is escaped when it is written.

use crate::config::runtime::{Action, Config, LogFormat};
use crate::core::discovery::UNIX;
use crate::core::reason::{FetchReason, Outcome};
use crate::core::time::{MonoTime, WallTime};
use http::header::HOST;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use serde::Serialize;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is kept of a path: what browsers allow a whole URL to be.
const MAX_PATH: usize = 2048;
/// What is kept of a host: the longest name of the DNS.
const MAX_HOST: usize = 255;
/// What is kept of a request id: four UUIDs.
const MAX_ID: usize = 144;
/// What is kept of a method: twice the longest registered one.
const MAX_METHOD: usize = 32;

/// The last millisecond that RFC 3339 can say.
const LAST_MILLISECOND: u64 = 253_402_300_799_999;

/// How an answer ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was handed to the connection.
    Complete,
    /// The connection ended first.
    Left,
    /// The body broke off on the node's side.
    Broken,
}

impl End {
    /// The word in the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Left => "left",
            Self::Broken => "broken",
        }
    }
}

/// Who asked; over a unix socket nobody has an address.
#[derive(Copy, Clone, Debug)]
struct Client(Option<IpAddr>);

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str(UNIX),
        }
    }
}

impl Serialize for Client {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is known of a request when its answer begins. Owns copies: a record in the queue must not keep a connection's buffer alive.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its head was in.
    start: MonoTime,
    /// Index into the configuration's listeners.
    listener: Option<usize>,
    client: Client,
    method: Method,
    host: Option<Box<str>>,
    path: Box<str>,
    protocol: Version,
    id: Option<Box<str>>,
}

impl Request {
    /// What the log keeps of a request's head. `made_id` is the id made for it here.
    #[must_use]
    pub fn new(
        start: MonoTime,
        listener: Option<usize>,
        client: Option<IpAddr>,
        parts: &Parts,
        made_id: Option<&HeaderValue>,
    ) -> Self {
        let host = match parts.uri.authority() {
            Some(target) => Some(target.as_str().as_bytes()),
            None => parts.headers.get(HOST).map(HeaderValue::as_bytes),
        };
        // `user:password@` is no part of a host, and credentials.
        let host = host.map(|host| host.rsplit(|b| *b == b'@').next().unwrap_or(host));
        let id = parts.headers.get(&X_REQUEST_ID).or(made_id);
        let method = match parts.method.as_str().as_bytes().get(..MAX_METHOD) {
            Some(beginning) => Method::from_bytes(beginning).unwrap_or_default(),
            None => parts.method.clone(),
        };
        Self {
            start,
            listener,
            client: Client(client.map(|address| address.to_canonical())),
            method,
            host: host.map(|host| cut(host, MAX_HOST)),
            path: cut(parts.uri.path().as_bytes(), MAX_PATH),
            protocol: parts.version,
            id: id.map(|id| cut(id.as_bytes(), MAX_ID)),
        }
    }

    /// Whether its answer has no body, whatever its head says.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

/// The beginning of a text, as text.
fn cut(text: &[u8], max: usize) -> Box<str> {
    match text.get(..max) {
        Some(beginning) if text.len() > max => format!("{}...", String::from_utf8_lossy(beginning)).into(),
        _ => String::from_utf8_lossy(text).into(),
    }
}

/// One request in the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was asked.
    pub request: Request,
    /// None: there was no answer.
    pub status: Option<StatusCode>,
    /// None: there was no answer.
    pub outcome: Option<Outcome>,
    /// Which configuration it was answered under ([`crate::config::runtime::Numbers::generation`]).
    pub generation: u64,
    /// The route's number in it.
    pub route: Option<usize>,
    /// Why it was forwarded.
    pub fwd: Option<FetchReason>,
    /// Why it was not stored, or what went wrong.
    pub why: Option<&'static str>,
    /// The node that answered, as an index into the nodes of the route's upstream.
    pub node: Option<u16>,
    /// Its name, where the nodes are found while the process runs: the configuration does not list them.
    pub found: Option<Box<str>>,
    /// Bytes of the body handed to the connection.
    pub bytes: u64,
    /// From the request's head to the end of the body.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// A record with its names, in the order of the fields.
#[derive(Serialize)]
struct Shown<'a> {
    time: String,
    listener: Option<&'a str>,
    client: Client,
    method: &'a str,
    host: Option<&'a str>,
    path: Option<&'a str>,
    protocol: &'static str,
    status: Option<u16>,
    result: Option<&'static str>,
    route: Option<&'a str>,
    fwd: Option<&'static str>,
    why: Option<&'static str>,
    node: Option<&'a str>,
    bytes: u64,
    duration_ms: f64,
    end: &'static str,
    request_id: Option<&'a str>,
}

impl Record {
    /// When the body ended, in microseconds of the process's clock.
    pub(super) fn ended(&self) -> u64 {
        let took = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        self.request.start.as_micros().saturating_add(took)
    }

    /// Appends the record as one line.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        format: LogFormat,
        config: &Config,
        wall: impl Fn(MonoTime) -> WallTime,
    ) {
        let shown = self.shown(config, wall(self.request.start));
        match format {
            LogFormat::Text => shown.text(out),
            LogFormat::Json => {
                // Into memory, and of strings and numbers only: it cannot fail.
                let _ = serde_json::to_writer(&mut *out, &shown);
            }
        }
        out.push(b'\n');
    }

    fn shown<'a>(&'a self, config: &'a Config, at: WallTime) -> Shown<'a> {
        let request = &self.request;
        let route = self.route.and_then(|id| config.route(id));
        let upstream = route.and_then(|route| match &route.action {
            Action::Proxy { upstream, .. } => Some(upstream),
            Action::Redirect { .. } | Action::Respond { .. } => None,
        });
        let node = self.node.zip(upstream);
        Shown {
            time: rfc3339(at),
            listener: request
                .listener
                .and_then(|l| config.listeners.get(l))
                .map(|l| l.name.as_str()),
            client: request.client,
            method: request.method.as_str(),
            host: request.host.as_deref(),
            path: Some(&*request.path).filter(|path| !path.is_empty()),
            protocol: protocol(request.protocol),
            status: self.status.map(|status| status.as_u16()),
            result: self.outcome.map(Outcome::word),
            route: route.map(|route| route.name.as_str()),
            fwd: self.fwd.map(FetchReason::fwd),
            why: self.why.or(self.fwd.and_then(FetchReason::detail)),
            node: self.found.as_deref().or_else(|| {
                let (node, upstream) = node?;
                upstream.nodes.get(usize::from(node)).map(|node| node.name.as_str())
            }),
            bytes: self.bytes,
            duration_ms: self.took.as_micros() as f64 / 1000.0,
            end: self.end.word(),
            request_id: request.id.as_deref(),
        }
    }
}

impl Shown<'_> {
    fn text(&self, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = write!(out, "{} ", self.time);
        word(out, self.listener);
        let _ = write!(out, " {} ", self.client);
        word(out, Some(self.method));
        for text in [self.host, self.path] {
            out.push(b' ');
            word(out, text);
        }
        let _ = write!(out, " {} ", self.protocol);
        match self.status {
            Some(status) => write!(out, "{status} ").unwrap_or(()),
            None => out.extend_from_slice(b"- "),
        }
        word(out, self.result);
        for (name, text) in [
            (" route=", self.route),
            (" fwd=", self.fwd),
            (" why=", self.why),
            (" node=", self.node),
        ] {
            out.extend_from_slice(name.as_bytes());
            word(out, text);
        }
        let _ = write!(
            out,
            " bytes={} ms={:.3} end={} id=",
            self.bytes, self.duration_ms, self.end
        );
        word(out, self.request_id);
    }
}

/// One word of a text line: no space, no end of line, nothing a terminal would act on.
fn word(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None | Some("") => out.push(b'-'),
        Some(text) => {
            for byte in text.bytes() {
                if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\') {
                    out.push(byte);
                } else {
                    // As above.
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

fn rfc3339(at: WallTime) -> String {
    let ms = u64::try_from(at.as_millis()).unwrap_or(0).min(LAST_MILLISECOND);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}
