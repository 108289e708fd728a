//! `replication = "mirrored"`: how writes are copied (R33).

use crate::config::diagnostic::Sink;
use crate::config::effective::{Table, Value};
use crate::config::runtime::{Failover, Mirror, Replication};

/// The keys that mean nothing elsewhere.
const KEYS: [&str; 5] = [
    "min_in_sync",
    "initial_in_sync",
    "mirror_max_body",
    "mirror_timeout",
    "replicate_result",
];

/// What nobody said, so that `print-config` tells it.
pub(in crate::config::compile) fn fill(upstream: &mut Table) {
    if upstream.text("replication") != Some("mirrored") {
        return;
    }
    let usual = Mirror::default();
    upstream.fill_first("mirror_timeout", Value::Duration(usual.timeout));
    upstream.fill_first("mirror_max_body", Value::Size(usual.max_body));
    upstream.fill_first("initial_in_sync", Value::Text("all".into()));
    upstream.fill_first("min_in_sync", Value::Count(usual.min_in_sync as u64));
    upstream.fill_first("replicate_result", Value::Flag(usual.replicate_result));
}

pub(super) fn mirror(
    table: &Table,
    replication: Replication,
    failover: &Failover,
    nodes: usize,
    sink: &mut Sink,
) -> Mirror {
    let usual = Mirror::default();
    let mirror = Mirror {
        min_in_sync: table
            .get("min_in_sync")
            .map_or(usual.min_in_sync, |_| table.count("min_in_sync")),
        initially_all: table.text("initial_in_sync") != Some("primary"),
        max_body: table.size("mirror_max_body").unwrap_or(usual.max_body),
        timeout: table.duration("mirror_timeout").unwrap_or(usual.timeout),
        replicate_result: table.flag("replicate_result"),
    };
    if replication != Replication::Mirrored {
        for key in KEYS.iter().filter(|key| table.is_set(key)) {
            sink.error(
                &table.place_of(key),
                "needs replication = \"mirrored\": elsewhere Tidegate copies nothing",
            );
        }
        return mirror;
    }
    if mirror.min_in_sync > nodes && nodes > 0 {
        sink.error(
            &table.place_of("min_in_sync"),
            format!("there are {nodes} nodes: no write could ever be acknowledged"),
        );
    }
    if mirror.timeout >= failover.hold {
        sink.error(
            &table.place_of("mirror_timeout"),
            format!(
                "must be below failover.hold ({:?}): whoever waits for a write would give up while it is being copied",
                failover.hold
            ),
        );
    }
    mirror
}
