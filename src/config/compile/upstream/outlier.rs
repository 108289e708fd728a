//! `[upstreams.NAME.outlier]`.

use super::super::span;
use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::{Mode, Outlier, Replication};

/// When a node is ejected. `nodes`: how many there are; none: that changes. `checked`: whether they are probed.
pub(super) fn outlier(
    table: &Table,
    (mode, replication): (Mode, Replication),
    nodes: Option<usize>,
    checked: bool,
    sink: &mut Sink,
) -> Outlier {
    let max_ejected_percent = table.percent("max_ejected");
    if mode == Mode::ActivePassive && replication == Replication::Shared && !checked {
        sink.warn(
            &table.place,
            "has no effect: one node at a time takes the traffic, and ejection moves it to nobody else; without health_check nothing does, and it stays with a node that fails",
        );
    } else if mode == Mode::ActivePassive {
        sink.warn(
            &table.place,
            "has no effect: one node at a time takes the traffic, and ejection moves it to nobody else",
        );
    } else if replication == Replication::MultiPrimary {
        sink.warn(
            &table.place,
            "has no effect: each node is the home of its part, and ejection moves that to nobody else",
        );
    } else if let Some(nodes) = nodes.filter(|nodes| nodes * (max_ejected_percent as usize) < 100) {
        let place = if table.is_set("max_ejected") {
            table.place_of("max_ejected")
        } else {
            table.place.clone()
        };
        sink.warn(
            &place,
            format!("{max_ejected_percent}% of {nodes} is less than one node: none is ever ejected"),
        );
    }
    Outlier {
        consecutive_errors: table.count_u32("consecutive_errors"),
        ejection_time: span(table, "ejection_time"),
        max_ejected_percent,
    }
}
