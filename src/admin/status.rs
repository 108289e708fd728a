//! The document of `GET /status`; its field names are a public contract (INTERFACE.md section 3). What it says of an upstream and its
//! nodes is their own snapshot.

use crate::upstream::UpstreamSnapshot;
use serde::Serialize;

/// The whole process at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Routes in the order of the file.
    pub routes: Vec<RouteStatus>,
    /// Upstreams in the order of the file.
    pub upstreams: Vec<UpstreamSnapshot>,
    /// What is stored.
    pub cache: CacheStatus,
    /// Resources that a write left unsettled.
    pub unsettled: Vec<UnsettledStatus>,
    /// Writes outside that were begun and not committed yet (`POST /begin`).
    pub begun: Vec<BegunStatus>,
    /// What runs.
    pub build: BuildStatus,
    /// A short hash of the effective configuration.
    pub config_hash: String,
    /// Whether the process is leaving.
    pub draining: bool,
    /// Which one of its pair it is, `active` or `passive`; absent when it is none of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<&'static str>,
}

/// One route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// Its level; none when the route answers by itself.
    pub consistency: Option<&'static str>,
    /// What the meter found; absent when it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<MeterStatus>,
}

/// What re-reads at the primary proved about a route's hits.
#[derive(Clone, Debug, Serialize)]
pub struct MeterStatus {
    /// Re-reads that were judged.
    pub judged: u64,
    /// Re-reads that said nothing: a write in between, no usable answer.
    pub void: u64,
    /// By time scale.
    pub scales: Vec<MeterScale>,
}

/// Hits on one time scale. Those that a re-read left open are in neither number.
#[derive(Clone, Debug, Serialize)]
pub struct MeterScale {
    /// The scale.
    pub seconds: u64,
    /// Hits no staler than that.
    pub within: u64,
    /// Hits that were staler, provably.
    pub beyond: u64,
    /// The nines of the share within, to two places; with none beyond, what so many hits can show at the most.
    pub nines: Option<f64>,
}

/// What is stored.
#[derive(Copy, Clone, Debug, Serialize)]
pub struct CacheStatus {
    /// Entries in service.
    pub entries: u64,
    /// Their memory, fills in flight included.
    pub bytes: u64,
}

/// A resource that a write left unsettled.
#[derive(Clone, Debug, Serialize)]
pub struct UnsettledStatus {
    /// The upstream's name.
    pub upstream: String,
    /// The resource's path as sent to the node; none: all of the upstream.
    pub path: Option<String>,
    /// How long it stays so, in milliseconds; none while the write's connection is open.
    pub remaining_ms: Option<u64>,
}

/// A write outside that was begun and not committed yet.
#[derive(Clone, Debug, Serialize)]
pub struct BegunStatus {
    /// What it changes, as its writer named it; a tag as `tag:NAME`.
    pub what: String,
    /// How long until it counts as unknown, in milliseconds.
    pub remaining_ms: u64,
}

/// What runs.
#[derive(Copy, Clone, Debug, Serialize)]
pub struct BuildStatus {
    /// The package's version.
    pub version: &'static str,
}
