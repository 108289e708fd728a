//! `[upstreams.*]` as the running proxy reads it.

use super::Http2;
use crate::config::tls::ClientTls;
use crate::core::discovery::{Kind, SLOTS};
use http::{HeaderName, HeaderValue};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[upstreams.NAME]`.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its place in [`Config::upstreams`].
    pub id: usize,
    /// The table's name.
    pub name: String,
    /// A reload has taken it out of the file: only its number is left.
    pub retired: bool,
    /// How traffic is spread.
    pub mode: Mode,
    /// How the nodes share their data.
    pub replication: Replication,
    /// Who may be promoted, by whom, and what requests do meanwhile.
    pub failover: Failover,
    /// `replication = "mirrored"`: how writes are copied.
    pub mirror: Mirror,
    /// R43: how far a replica may be behind, by the owner's word.
    pub max_lag: Option<Duration>,
    /// How active nodes share the load.
    pub balance: Balance,
    /// The nodes by their places, which they keep for the life of the process; none when they are discovered.
    pub nodes: Vec<Node>,
    /// The places of the nodes that the file names, in its order: a node that is not among them has been taken out by a reload.
    pub order: Vec<usize>,
    /// Who says which nodes there are; none: the configuration does.
    pub discover: Option<Discover>,
    /// The `Host` sent upstream.
    pub host: HostHeader,
    /// How nodes prove who they are; none: they are spoken to without TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// HTTP/2 is spoken to the nodes, with these limits; none: HTTP/1.1.
    pub http2: Option<Http2>,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// How long the response head may take.
    pub response_timeout: Duration,
    /// Connections per node, over all threads.
    pub max_connections: usize,
    /// Requests that may wait for a connection, over all threads.
    pub max_pending: usize,
    /// What one resource is.
    pub gate: GateBy,
    /// `[upstreams.NAME.health_check]`.
    pub health_check: Option<HealthCheck>,
    /// `[upstreams.NAME.outlier]`: when a node that fails its requests is ejected; none: never.
    pub outlier: Option<Outlier>,
    /// `[upstreams.NAME.retry]`.
    pub retry: Retry,
    /// When a slow read is sent a second time; none: never.
    pub hedge: Option<Hedge>,
    /// R19: the largest `settle_after` of the strong routes on this upstream, and [`Self::lapse`] more; none without a strong route: it never unsettles.
    pub settle_after: Option<Duration>,
}

impl Upstream {
    /// R19: from a write that was given up, how long it may take until its connection is closed or the node has shown that it has all of
    /// it that it will ever get. A connection that carries nothing else is closed at once.
    #[must_use]
    pub const fn lapse(&self) -> Duration {
        match self.http2 {
            Some(_) => Http2::ANSWER,
            None => Duration::ZERO,
        }
    }

    /// Places for nodes: everybody names a node by its place.
    #[must_use]
    pub const fn slots(&self) -> usize {
        match self.discover {
            Some(_) => SLOTS,
            None => self.nodes.len(),
        }
    }

    /// The nodes that the file names, in its order, each with its place.
    pub fn listed(&self) -> impl Iterator<Item = (usize, &Node)> {
        let placed = |place: &usize| Some((*place, self.nodes.get(*place)?));
        self.order.iter().filter_map(placed)
    }

    /// Whether the node in a place is one that the file names.
    #[must_use]
    pub fn is_listed(&self, place: usize) -> bool {
        self.order.contains(&place)
    }

    /// The node that writes and strong reads go to; none when every node is as good.
    #[must_use]
    pub const fn primary(&self) -> Option<usize> {
        match self.replication {
            Replication::Shared | Replication::MultiPrimary => None,
            Replication::Primary | Replication::Mirrored => Some(0),
        }
    }

    /// R32: whether a change of the primary, even one that the operator orders, can lose acked writes without anybody noticing.
    #[must_use]
    pub fn failover_may_lose(&self) -> bool {
        let check = self.health_check.as_ref();
        let positions = check.is_some_and(|check| check.position_header.is_some());
        match self.replication {
            Replication::Shared => false,
            Replication::Primary => self.failover.unclean || !positions,
            Replication::Mirrored | Replication::MultiPrimary => self.failover.unclean,
        }
    }

    /// R43: whether it can be known how far the node that answered is behind.
    #[must_use]
    pub fn tells_lag(&self) -> bool {
        let by_position = || {
            self.health_check
                .as_ref()
                .is_some_and(|check| check.position_header.is_some())
        };
        self.replication == Replication::Shared || self.max_lag.is_some() || by_position()
    }
}

/// `[upstreams.NAME] discover`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discover {
    /// A name, asked again by its TTL.
    Dns {
        /// The name.
        name: String,
        /// The port of its addresses; SRV records bring their own.
        port: u16,
        /// What is asked.
        kind: Kind,
    },
    /// A file of nodes, watched.
    File(PathBuf),
}

/// How traffic is spread over the nodes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every healthy node takes traffic.
    ActiveActive,
    /// One node takes traffic; the next takes over when it fails.
    ActivePassive,
}

/// How the nodes share their data.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// They are stateless over one store: any node is as good as another.
    Shared,
    /// One node takes writes and strong reads, the others follow it on their own.
    Primary,
    /// The proxy copies each write to every node in sync.
    Mirrored,
    /// Every node takes writes; each resource has a home.
    MultiPrimary,
}

impl Replication {
    /// Its word in configuration and `/status`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Primary => "primary",
            Self::Mirrored => "mirrored",
            Self::MultiPrimary => "multi-primary",
        }
    }
}

/// How active nodes share the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The node with the fewest requests in flight, of two drawn at random.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The node with the shorter answers for its requests in flight, of two drawn at random.
    PeakEwma,
    /// The node that this part of the request belongs to.
    Hash(HashOn),
}

/// What `balance = "hash"` hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The path as sent to the node, without its query.
    Path,
    /// The client's address; behind a trusted proxy, the one it names last.
    ClientIp,
    /// The first line of this field.
    Header(HeaderName),
    /// The cookie of this name.
    Cookie(String),
}

/// One node of an upstream.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unless named: `host:port`, or `unix:` and the name of the socket's file.
    pub name: String,
    /// `http://host:port` or `unix:PATH`.
    pub url: String,
    /// Host name or address to connect to, or `unix:PATH`.
    pub host: String,
    /// Port to connect to; 0 with a unix socket.
    pub port: u16,
    /// Share of the load relative to the others.
    pub weight: u32,
    /// Requests in flight at the node; 0: no limit.
    pub max_in_flight: usize,
    /// Active-passive: whether the node waits in reserve (every node after the first does).
    pub standby: Option<Standby>,
}

/// How a node waits in reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standby {
    /// Probed, with one idle connection kept open from every core.
    Hot,
    /// Probed.
    Warm,
    /// Started when it is needed.
    Cold {
        /// The command that starts it.
        start: Vec<String>,
        /// How long that may take.
        start_timeout: Duration,
    },
}

/// `[upstreams.NAME.failover]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Who promotes (R30).
    pub promotion: Promotion,
    /// Whether a preferred node that returned takes over again (R52).
    pub failback: Failback,
    /// How long a returned node must have been healthy for that.
    pub stable_for: Duration,
    /// Over how long a node that came into service is given its full share.
    pub slow_start: Duration,
    /// How long requests wait for a promotion.
    pub hold: Duration,
    /// How many of them.
    pub max_held: usize,
    /// Promote although acked writes may be lost.
    pub unclean: bool,
    /// The command that keeps a deposed primary from acting; empty: none.
    pub fence: Vec<String>,
    /// The command that makes a node the primary; empty: none.
    pub on_promote: Vec<String>,
    /// How long either may take.
    pub hook_timeout: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            promotion: Promotion::Manual,
            failback: Failback::Manual,
            stable_for: Duration::from_secs(60),
            slow_start: Duration::from_secs(30),
            hold: Duration::from_secs(5),
            max_held: 1024,
            unclean: false,
            fence: Vec::new(),
            on_promote: Vec::new(),
            hook_timeout: Duration::from_secs(10),
        }
    }
}

/// Who promotes (R30).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// The nodes among themselves: the one that claims primary with the highest term is followed.
    Follow,
    /// Tidegate.
    Automatic,
    /// The operator.
    Manual,
}

/// Whether a preferred node that returned takes over again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failback {
    /// By the operator's word.
    Manual,
    /// By itself, once it was healthy for `stable_for`.
    Automatic,
}

/// What `replication = "mirrored"` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// How many nodes must hold a write before it is acked.
    pub min_in_sync: usize,
    /// Whether all nodes count as in sync at the very first start, or the primary alone.
    pub initially_all: bool,
    /// The longest body that is copied, in bytes.
    pub max_body: u64,
    /// How long a copy may take.
    pub timeout: Duration,
    /// Whether the result of POST and PATCH is copied.
    pub replicate_result: bool,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            min_in_sync: 1,
            initially_all: true,
            max_body: 8 * 1024 * 1024,
            timeout: Duration::from_secs(1),
            replicate_result: false,
        }
    }
}

/// The `Host` field sent upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    Preserve,
    /// The node's `host:port`.
    Node,
    /// This one.
    Fixed(HeaderValue),
}

/// What one resource is (CONSISTENCY.md, Words).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum GateBy {
    /// The path; all queries together.
    Path,
    /// The path with its query.
    Url,
}

/// `[upstreams.NAME.health_check]`.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one probe to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Consecutive successes that make a node healthy.
    pub healthy_threshold: u32,
    /// Consecutive failures that make it unhealthy.
    pub unhealthy_threshold: u32,
    /// Whether a node counts as healthy before its first probe.
    pub initially_healthy: bool,
    /// The field in which a node says `primary` or `replica`.
    pub role_header: Option<HeaderName>,
    /// The field in which it says the term of that role.
    pub term_header: Option<HeaderName>,
    /// R43: the field in which a node says how far it has replicated.
    pub position_header: Option<HeaderName>,
}

/// What a probe asks.
#[derive(Clone, Debug)]
pub enum Probe {
    /// GET this path; the status must lie in one of the ranges (inclusive).
    Http {
        /// Origin-form path.
        path: String,
        /// Statuses that count as healthy, as inclusive ranges.
        expect: Vec<(u16, u16)>,
    },
    /// A TCP connect.
    Tcp,
    /// gRPC's health protocol over HTTP/2 without TLS.
    Grpc {
        /// Whose health is asked for; empty: the whole server's.
        service: String,
    },
}

/// `[upstreams.NAME.outlier]`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// How many requests in a row a node fails before it is ejected.
    pub consecutive_errors: u32,
    /// How long it is ejected the first time.
    pub ejection_time: Duration,
    /// How many of a hundred nodes may be out of service before no more are ejected.
    pub max_ejected_percent: u32,
}

/// `[upstreams.NAME.retry]`.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Retries per hundred requests.
    pub budget_percent: u32,
    /// What is retried.
    pub on: RetryOn,
}

/// When a slow read is sent a second time (R22).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long the first copy may be without a response head.
    pub after: Duration,
    /// Second copies per hundred reads.
    pub max_percent: u32,
}

/// What is retried.
#[derive(Clone, Debug, Default)]
pub struct RetryOn {
    /// A connect that failed.
    pub connect: bool,
    /// A connection that broke.
    pub reset: bool,
    /// These statuses.
    pub statuses: Vec<u16>,
}

#[cfg(test)]
impl Upstream {
    /// One over a shared store, as small as can be: for tests to change what they are about.
    pub(crate) fn plain(id: usize, name: &str, nodes: Vec<Node>) -> Self {
        let second = Duration::from_secs(1);
        Self {
            id,
            name: name.to_owned(),
            retired: false,
            mode: Mode::ActiveActive,
            replication: Replication::Shared,
            failover: Failover::default(),
            mirror: Mirror::default(),
            max_lag: None,
            balance: Balance::LeastRequest,
            order: (0..nodes.len()).collect(),
            nodes,
            discover: None,
            host: HostHeader::Preserve,
            tls: None,
            http2: None,
            connect_timeout: second,
            response_timeout: second,
            max_connections: 1,
            max_pending: 1,
            gate: GateBy::Path,
            health_check: None,
            outlier: None,
            retry: Retry {
                attempts: 1,
                budget_percent: 0,
                on: RetryOn::default(),
            },
            hedge: None,
            settle_after: None,
        }
    }
}
