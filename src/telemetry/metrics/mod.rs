//! Counters, gauges and histograms, by the names of INTERFACE.md section 5. Labels are routes, upstreams and nodes, never URLs.
//!
//! A request costs a handful of additions on its thread's own stripe: no lock, no hashing, no allocation, no cache line that another
//! core writes. The sum over the stripes is exact. It does not sample, and it does not read a clock.

mod reload;
mod render;
pub(super) mod stripe;

#[cfg(test)]
mod tests;

use crate::config::runtime::{Action, Config, Route, Upstream};
use crate::core::reason::{NodeState, NotStored, Outcome, RetryReason, WriteOutcome};
use crate::core::time::{Age, Span, WallTime};
use http::StatusCode;
use parking_lot::Mutex;
use std::array;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use stripe::{AGE_BOUNDS_MS, CodeTable, Histogram, LATENCY_BOUNDS_US, Writers};

/// What stands for the route of requests that matched none.
const UNMATCHED: usize = usize::MAX;

/// Everything that is counted, for one configuration.
#[derive(Debug)]
pub struct Metrics {
    routes: Vec<RouteLabels>,
    upstreams: Vec<UpstreamLabels>,
    stripes: Box<[Stripe]>,
    /// Pairs of result and status beyond a stripe's table, by route: only an origin that answers with dozens of different statuses gets here.
    spilled: Arc<Mutex<BTreeMap<(usize, u32), u64>>>,
}

#[derive(Clone, Debug)]
struct RouteLabels {
    name: String,
    /// Whether it proxies: `respond` and `redirect` routes never fill or write.
    proxies: bool,
    /// Whether the meter asks about its hits.
    metered: bool,
}

#[derive(Clone, Debug)]
struct UpstreamLabels {
    name: String,
    nodes: Vec<Arc<NodeGauge>>,
    /// Rare: not striped.
    failover_seconds: Arc<Histogram>,
    /// Changes of the view that were dropped because they could not be made durable.
    not_durable: Arc<AtomicU64>,
    /// Whether a failover may lose acked writes, by the configuration (R32).
    lossy: bool,
}

#[derive(Debug)]
struct NodeGauge {
    /// None: nobody sits in this place.
    name: Mutex<Option<String>>,
    /// Index into [`NodeState::ALL`].
    state: AtomicU8,
}

/// One thread's share. Padded so that two stripes never share a cache line (128: adjacent lines are fetched in pairs).
#[derive(Debug)]
struct Stripe {
    /// By route, then one for requests that matched none.
    routes: Box<[Arc<RouteStripe>]>,
    upstreams: Box<[UpstreamStripe]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct RouteStripe {
    codes: CodeTable,
    seconds: Histogram,
    ages: Histogram,
    staleness: Histogram,
    stale_reads: AtomicU64,
    refused: [AtomicU64; NotStored::ALL.len()],
    writes: [AtomicU64; WriteOutcome::ALL.len()],
}

#[derive(Debug)]
#[repr(align(128))]
struct UpstreamStripe {
    retries: Arc<[AtomicU64; RetryReason::ALL.len()]>,
    nodes: Box<[Arc<NodeStripe>]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct NodeStripe {
    seconds: Histogram,
}

/// What is not counted here but read from its owner when the metrics are asked for.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Memory held by the cache, in bytes.
    pub cache_bytes: u64,
    /// Stored entries.
    pub cache_entries: u64,
    /// Entries evicted since the start.
    pub cache_evictions: u64,
    /// Records of the access log that were never written.
    pub access_log_dropped: u64,
    /// Resources whose writes have not settled, by route; missing ones count as zero.
    pub unsettled: Vec<u64>,
    /// Whether the last load of the configuration failed: what ran before runs on.
    pub reload_failed: bool,
    /// Connections by listener.
    pub listeners: Vec<ListenerGauge>,
}

/// Connections of one listener.
#[derive(Clone, Debug, Default)]
pub struct ListenerGauge {
    /// The listener's name.
    pub name: String,
    /// Open now.
    pub open: u64,
    /// Closed at once since the start because `max_connections` were open.
    pub refused: u64,
    /// TLS handshakes since the start.
    pub handshakes: Vec<(Handshake, u64)>,
    /// When the first of its certificates expires; none: it has no TLS.
    pub certificate_expires: Option<WallTime>,
    /// HTTP/2 streams that clients threw away, of connections that are over.
    pub streams_thrown_away: u64,
    /// HTTP/2 connections closed for it.
    pub floods: u64,
}

/// A TLS handshake, by what came of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handshake {
    /// `ok`, or why not.
    pub result: &'static str,
    /// `1.3`, `1.2`, or empty when it failed.
    pub version: &'static str,
    /// The protocol that was agreed on (ALPN); `none`: the client named none; empty when it failed.
    pub alpn: &'static str,
    /// Whether it went on from an earlier session.
    pub resumed: bool,
}

impl Metrics {
    /// Room for every route, upstream and node of `config`, in one stripe per serving thread, one for the background and one for all others.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        let routes: Vec<_> = config
            .routes
            .iter()
            .map(|route| RouteLabels::new(config, route))
            .collect();
        let upstreams: Vec<_> = config.upstreams.iter().map(|u| UpstreamLabels::new(u)).collect();
        let stripes = (0..config.server.threads + 2)
            .map(|_| Stripe {
                routes: (0..=routes.len()).map(|_| Arc::new(RouteStripe::new())).collect(),
                upstreams: upstreams
                    .iter()
                    .map(|upstream| UpstreamStripe::new(upstream.nodes.len()))
                    .collect(),
            })
            .collect();
        Arc::new(Self {
            routes,
            upstreams,
            stripes,
            spilled: Arc::default(),
        })
    }

    /// One answered request: `tidegate_requests_total` and `tidegate_request_seconds`. `route` is none when nothing matched, or when what came was not HTTP.
    pub fn request(&self, route: Option<usize>, outcome: Outcome, status: StatusCode, took: Duration) {
        let Some((writers, stripe)) = self.route_by(route.unwrap_or(self.routes.len())) else {
            return;
        };
        let key = code_key(outcome, status);
        if !stripe.codes.add(writers, key) {
            let route = route.unwrap_or(UNMATCHED);
            *self.spilled.lock().entry((route, key)).or_default() += 1;
        }
        stripe.seconds.observe_by(writers, micros(took), &LATENCY_BOUNDS_US);
    }

    /// An answer that was fetched and not stored.
    pub fn fill_refused(&self, route: usize, why: NotStored) {
        if let Some(stripe) = self.route(route) {
            bump(&stripe.refused, position(&NotStored::ALL, &why));
        }
    }

    /// The age of an answer served from memory.
    pub fn served_age(&self, route: usize, age: Age) {
        if let Some((writers, stripe)) = self.route_by(route) {
            stripe.ages.observe_by(writers, age.as_millis(), &AGE_BOUNDS_MS);
        }
    }

    /// By how much a hit was stale at least, as a re-read at the primary proved.
    pub fn measured_staleness(&self, route: usize, least: Span) {
        if let Some(stripe) = self.route(route) {
            stripe.staleness.observe(least.as_millis(), &AGE_BOUNDS_MS);
        }
    }

    /// A hit that was provably staler than its route's contract allows.
    pub fn stale_read(&self, route: usize) {
        if let Some(stripe) = self.route(route) {
            stripe.stale_reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A finished write.
    pub fn write(&self, route: usize, outcome: WriteOutcome) {
        if let Some(stripe) = self.route(route) {
            bump(&stripe.writes, position(&WriteOutcome::ALL, &outcome));
        }
    }

    /// A node answered an attempt: from sending to the response head.
    pub fn upstream_answered(&self, upstream: usize, node: usize, took: Duration) {
        if let Some(node) = self.upstream(upstream).and_then(|u| u.nodes.get(node)) {
            node.seconds.observe(micros(took), &LATENCY_BOUNDS_US);
        }
    }

    /// An attempt is repeated.
    pub fn retried(&self, upstream: usize, reason: RetryReason) {
        if let Some(stripe) = self.upstream(upstream) {
            bump(&*stripe.retries, position(&RetryReason::ALL, &reason));
        }
    }

    /// What a node is doing from now on. Nodes start as unprobed.
    pub fn node_state(&self, upstream: usize, node: usize, state: NodeState) {
        let index = u8::try_from(position(NodeState::ALL, &state)).unwrap_or(0);
        if let Some(gauge) = self.upstreams.get(upstream).and_then(|u| u.nodes.get(node)) {
            gauge.state.store(index, Ordering::Relaxed);
        }
    }

    /// Another node sits in a place from now on, or nobody. What was counted of the one before goes with it.
    pub fn node_named(&self, upstream: usize, node: usize, name: Option<&str>) {
        let Some(gauge) = self.upstreams.get(upstream).and_then(|u| u.nodes.get(node)) else {
            return;
        };
        let mut named = gauge.name.lock();
        if named.as_deref() == name {
            return;
        }
        *named = name.map(str::to_owned);
        gauge.state.store(0, Ordering::Relaxed);
        for stripe in &self.stripes {
            if let Some(node) = stripe.upstreams.get(upstream).and_then(|u| u.nodes.get(node)) {
                node.seconds.reset();
            }
        }
    }

    /// Another node took over: from the first sign of failure to the new node in service.
    pub fn failover(&self, upstream: usize, took: Duration) {
        if let Some(upstream) = self.upstreams.get(upstream) {
            upstream.failover_seconds.observe(micros(took), &LATENCY_BOUNDS_US);
        }
    }

    /// A view could not be made durable, and did not change.
    pub fn view_not_durable(&self, upstream: usize) {
        if let Some(upstream) = self.upstreams.get(upstream) {
            upstream.not_durable.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Everything as Prometheus text (format 0.0.4).
    #[must_use]
    pub fn render(&self, gauges: &Gauges) -> String {
        render::render(self, gauges)
    }

    fn stripe(&self) -> Option<&Stripe> {
        self.stripes.get(Writers::of(self.stripes.len()).0)
    }

    /// Where rare things of a route are counted: by any thread, whoever's stripe it is. What is counted through
    /// [`Metrics::route_by`] is counted so nowhere.
    fn route(&self, route: usize) -> Option<&RouteStripe> {
        self.route_by(route).map(|(_, stripe)| stripe)
    }

    /// Where what happens to every request is counted, and who counts there.
    #[inline]
    fn route_by(&self, route: usize) -> Option<(Writers, &RouteStripe)> {
        let (number, writers) = Writers::of(self.stripes.len());
        let stripe = self.stripes.get(number)?.routes.get(route)?;
        Some((writers, stripe))
    }

    fn upstream(&self, upstream: usize) -> Option<&UpstreamStripe> {
        self.stripe().and_then(|stripe| stripe.upstreams.get(upstream))
    }
}

impl RouteStripe {
    fn new() -> Self {
        Self {
            codes: CodeTable::new(),
            seconds: Histogram::new(),
            ages: Histogram::new(),
            staleness: Histogram::new(),
            stale_reads: AtomicU64::new(0),
            refused: array::from_fn(|_| AtomicU64::new(0)),
            writes: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl UpstreamStripe {
    fn new(nodes: usize) -> Self {
        Self {
            retries: Arc::new(array::from_fn(|_| AtomicU64::new(0))),
            nodes: (0..nodes).map(|_| Arc::new(NodeStripe::new())).collect(),
        }
    }
}

impl NodeStripe {
    fn new() -> Self {
        Self {
            seconds: Histogram::new(),
        }
    }
}

impl RouteLabels {
    fn new(config: &Config, route: &Route) -> Self {
        let caches = |action: &Action| matches!(action, Action::Proxy { policy, .. } if policy.caching().is_some());
        Self {
            name: route.name.clone(),
            proxies: matches!(route.action, Action::Proxy { .. }),
            metered: config.telemetry.meter.is_some() && caches(&route.action),
        }
    }
}

impl UpstreamLabels {
    fn new(upstream: &Upstream) -> Self {
        let there = |node: usize| upstream.nodes.get(node).filter(|_| upstream.is_listed(node));
        let name = |node: usize| there(node).map(|node| node.name.as_str());
        Self {
            name: upstream.name.clone(),
            nodes: (0..upstream.slots())
                .map(|node| Arc::new(NodeGauge::new(name(node))))
                .collect(),
            failover_seconds: Arc::new(Histogram::new()),
            not_durable: Arc::default(),
            lossy: upstream.failover_may_lose(),
        }
    }
}

impl NodeGauge {
    fn new(name: Option<&str>) -> Self {
        Self {
            name: Mutex::new(name.map(str::to_owned)),
            state: AtomicU8::new(0),
        }
    }
}

/// A key that is never zero: the status (three digits, ten bits) and the result above it, counted from one.
fn code_key(outcome: Outcome, status: StatusCode) -> u32 {
    let outcome = u32::try_from(position(&Outcome::ALL, &outcome)).unwrap_or(0);
    ((outcome + 1) << 10) | u32::from(status.as_u16())
}

/// The result and status of a key.
fn code_of(key: u32) -> Option<(Outcome, u32)> {
    let outcome = usize::try_from(key >> 10).ok()?.checked_sub(1)?;
    Outcome::ALL.get(outcome).map(|outcome| (*outcome, key & 0x3ff))
}

fn position<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().position(|each| each == one).unwrap_or(usize::MAX)
}

fn bump(counters: &[AtomicU64], at: usize) {
    if let Some(counter) = counters.get(at) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn micros(took: Duration) -> u64 {
    took.as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(took.subsec_micros()))
}
