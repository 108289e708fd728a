//! The configuration the running proxy reads: names resolved to `Arc`, units turned into types, every default filled in.
//! Built only by `config::compile`; nothing that starts from here can meet a bad value.

mod upstream;

pub use upstream::*;

pub use super::tls::ServerTls;
use crate::core::policy::Policy;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything one `tidegate run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[listeners.*]`, in the order of the file.
    pub listeners: Vec<Arc<Listener>>,
    /// `[admin]`.
    pub admin: Admin,
    /// `[cache]`.
    pub cache: Cache,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// `[session]`.
    pub session: Session,
    /// `[upstreams.*]`; [`Upstream::id`] is the index: in the order of the file, and after a reload in the order in which they were
    /// first named, with those that are gone among them ([`Upstream::retired`]).
    pub upstreams: Vec<Arc<Upstream>>,
    /// `[[routes]]`, in the order of the file. The first match wins.
    pub routes: Vec<Arc<Route>>,
    /// What upstreams and routes are known by for the life of the process.
    pub numbers: Numbers,
    /// A short hash of the effective configuration, shown in `/status`.
    pub hash: String,
    /// The effective configuration as data, for `print-config` and `GET /config`.
    pub effective: Arc<super::effective::Effective>,
}

/// The numbers that names have in this process; none is ever given to another name (R31).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Names of upstreams; [`Upstream::id`] is the index.
    pub upstreams: Vec<String>,
    /// Names of routes; [`Route::id`] is the index.
    pub routes: Vec<String>,
    /// The next [`Route::contract`].
    pub contracts: usize,
    /// How many upstreams there were at the start.
    pub first_upstreams: usize,
    /// How many routes.
    pub first_routes: usize,
    /// Counts reloads.
    pub generation: u64,
}

impl Config {
    /// The route of a number, if the file still names it.
    #[must_use]
    pub fn route(&self, id: usize) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.id == id)
    }
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Threads that serve traffic; default: one per core.
    pub threads: usize,
    /// How long `/ready` says 503 before the listeners close.
    pub drain_delay: Duration,
    /// How long requests in flight may take after that.
    pub drain_timeout: Duration,
    /// Where the clean-stop marker is kept; none: nothing outlives the process.
    pub state_dir: Option<std::path::PathBuf>,
    /// Another process has the same `state_dir`, and waits for this one to end, or this one for it.
    pub pair: bool,
    /// Upstreams whose health `/ready` also needs, by [`Upstream::id`].
    pub ready_requires: Vec<usize>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// One address.
    Address(SocketAddr),
    /// `":PORT"`: every interface, both families.
    AllInterfaces(u16),
    /// A unix socket.
    Socket(std::path::PathBuf),
}

/// `[listeners.NAME]`.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The table's name.
    pub name: String,
    /// Where it listens.
    pub bind: Bind,
    /// What is spoken.
    pub protocols: Protocols,
    /// Certificates; none: no TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// Limits of HTTP/2.
    pub http2: Http2,
    /// Whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Sources,
    /// Networks that may use the PURGE method; empty: nobody.
    pub purge_from: Sources,
    /// Networks that see Cache-Status `key` and `detail`.
    pub debug_from: Sources,
    /// How long a request head may take.
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long a body may make no progress.
    pub body_timeout: Duration,
    /// The largest request head, in bytes.
    pub max_header_bytes: usize,
    /// The most request header fields.
    pub max_headers: usize,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// The most connections at once, over all threads.
    pub max_connections: usize,
}

/// Whose peers: those of networks, and of unix sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The networks.
    pub networks: Vec<Network>,
    /// `"unix:"`: peers over a unix socket, which have no address.
    pub unix: bool,
}

impl Sources {
    /// Whether a peer is among them; one without an address came over a unix socket.
    #[must_use]
    pub fn contains(&self, peer: Option<std::net::IpAddr>) -> bool {
        match peer {
            Some(address) => self.networks.iter().any(|network| network.contains(address)),
            None => self.unix,
        }
    }
}

/// What a listener speaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 and 1.0.
    pub http1: bool,
    /// HTTP/2: over TLS when the listener has it, else by prior knowledge.
    pub http2: bool,
}

/// Limits of HTTP/2.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// How many bytes of one stream's body may be under way.
    pub window: u32,
    /// The most streams at once.
    pub max_streams: u32,
}

impl Http2 {
    /// How long the other side may take to answer a PING: longer than a garbage collection, below the 15 s a response may take by default.
    pub const ANSWER: std::time::Duration = std::time::Duration::from_secs(10);
}

/// An address block in CIDR notation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: std::net::IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bearer token; required when the address is not loopback.
    pub token: Option<Secret>,
    /// Whether `/metrics` needs the token too.
    pub metrics_token: bool,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// The value itself, for comparison only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// `[session]`.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The first signs, all verify; none: a random one per process.
    pub keys: Vec<Secret>,
}

/// `[cache]`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Entries, keys, index and fills in flight together, in bytes.
    pub max_memory: u64,
    /// The largest stored body, in bytes, where a route does not say.
    pub max_object: u64,
}

/// `[telemetry]`.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The log filter.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How access log lines look; none: there is no access log.
    pub access_log: Option<LogFormat>,
    /// `[telemetry.meter]`; none: nothing is sampled.
    pub meter: Option<Meter>,
}

/// `[telemetry.meter]`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Of a hundred hits, how many are asked about at the primary.
    pub sample: u32,
    /// The most of them in a second.
    pub max_per_second: u32,
}

/// How log lines look.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// One `[[routes]]`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its number: the name's place in [`Numbers::routes`].
    pub id: usize,
    /// What its entries are named under: a new number whenever a reload changes what they mean, so that nothing finds the older ones
    /// (R31).
    pub contract: usize,
    /// Its name in metrics and `/status`; `route-N` (from 1) unless named.
    pub name: String,
    /// Which requests it takes.
    pub matches: Match,
    /// What it does with them.
    pub action: Action,
    /// What else its writes change, beside their own resource.
    pub invalidates: Vec<Invalidates>,
    /// Request fields to set; an empty value removes the field.
    pub set_request_headers: Vec<(HeaderName, HeaderValue)>,
    /// Response fields to set; an empty value removes the field.
    pub set_response_headers: Vec<(HeaderName, HeaderValue)>,
    /// The whole request, from its head to the response head.
    pub timeout: Duration,
    /// Requests in flight; beyond: 503 at once. None: no limit.
    pub max_in_flight: Option<usize>,
}

/// What a write declares to change; placeholders are filled from its own path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidates {
    /// What carries the tag.
    Tag(Rewrite),
    /// A path as clients send it.
    Path {
        /// The path.
        path: Rewrite,
        /// Its query; none: all of them.
        query: Option<Rewrite>,
    },
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Passes requests to an upstream under a contract.
    Proxy {
        /// Where to.
        upstream: Arc<Upstream>,
        /// Under which contract.
        policy: Arc<Policy>,
        /// How the path changes on the way; none: not at all.
        rewrite: Option<Rewrite>,
    },
    /// Sends the client elsewhere.
    Redirect {
        /// Where to; none: the same URL under https.
        to: RedirectTo,
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
    },
    /// Answers by itself.
    Respond {
        /// The status.
        status: StatusCode,
        /// The body.
        body: bytes::Bytes,
    },
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectTo {
    /// The same host, path and query under https.
    Https,
    /// This location.
    Location(HeaderValue),
}

/// Which requests a route takes. What is empty matches anything.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Host pattern.
    pub host: Option<HostPattern>,
    /// Path pattern.
    pub path: Option<PathPattern>,
    /// Methods; GET includes HEAD.
    pub methods: Vec<Method>,
    /// Fields one of whose lines must equal the value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A host pattern, lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// `*.suffix`: one or more labels before `.suffix` (stored with its leading dot).
    Suffix(String),
}

/// A path pattern, cut at its placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// The pattern as written.
    pub text: String,
    /// Its pieces, in order.
    pub pieces: Vec<Piece>,
}

/// A piece of a path pattern or rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These characters, normalised.
    Literal(String),
    /// `{name}`: one whole, non-empty segment.
    Segment(String),
    /// `{*name}`: the rest, possibly empty.
    Rest(String),
}

/// A path to send upstream, with the placeholders of the route's pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Its pieces, in order.
    pub pieces: Vec<Piece>,
}
