//! How the nodes share their data, and which modes and levels that combines with (CONSISTENCY.md section 4).

use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::{Mode, Replication};

/// What replicas need, and what over one store means nothing.
pub(super) fn replication(table: &Table, mode: Mode, sink: &mut Sink) -> Replication {
    let check = table.table("health_check");
    let places = [
        table.is_set("max_lag").then(|| table.place_of("max_lag")),
        check
            .filter(|check| check.is_set("position_header"))
            .map(|check| check.place_of("position_header")),
    ];
    if table.text("replication") != Some("primary") {
        for place in places.iter().flatten() {
            sink.error(
                place,
                "needs replication = \"primary\": over one shared store no node is behind another",
            );
        }
        return Replication::Shared;
    }
    if mode == Mode::ActivePassive {
        sink.error(
            &table.place_of("replication"),
            "\"primary\" needs mode = \"active-active\": nothing promotes a replica yet",
        );
    }
    if places.iter().all(Option::is_none) {
        sink.warn(
            &table.place_of("replication"),
            "without max_lag or health_check.position_header nobody knows how far a replica is behind: eventual routes fetch at the primary",
        );
    }
    Replication::Primary
}
