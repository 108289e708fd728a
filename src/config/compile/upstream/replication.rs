//! How the nodes share their data, and which modes and headers that combines with (CONSISTENCY.md section 4).

use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::{Mode, Replication};

/// What replicas need, and what elsewhere means nothing.
pub(super) fn replication(table: &Table, mode: Mode, sink: &mut Sink) -> Replication {
    let replication = match table.text("replication") {
        Some("primary") => Replication::Primary,
        Some("mirrored") => Replication::Mirrored,
        Some("multi-primary") => Replication::MultiPrimary,
        _ => Replication::Shared, // said, or a mistake that is already reported
    };
    let wrong_mode = match (replication, mode) {
        (Replication::Mirrored, Mode::ActiveActive) => {
            Some("\"mirrored\" needs mode = \"active-passive\": what one node has is copied to the others")
        }
        (Replication::MultiPrimary, Mode::ActivePassive) => {
            Some("\"multi-primary\" needs mode = \"active-active\": every node takes writes")
        }
        (
            Replication::Shared | Replication::Primary | Replication::Mirrored | Replication::MultiPrimary,
            Mode::ActiveActive | Mode::ActivePassive,
        ) => None,
    };
    if let Some(message) = wrong_mode {
        sink.error(&table.place_of("replication"), message);
    }
    said(table, replication, sink);
    lag(table, replication, mode, sink);
    replication
}

/// What nodes say of themselves is asked where one of them is the primary by its own or our word.
fn said(table: &Table, replication: Replication, sink: &mut Sink) {
    let why = match replication {
        Replication::Primary => return,
        Replication::Shared => "over one shared store no node is behind another, and none is the primary",
        Replication::Mirrored => "the nodes know nothing of each other, and Tidegate knows what each of them holds",
        Replication::MultiPrimary => "every node takes writes",
    };
    let Some(check) = table.table("health_check") else {
        return;
    };
    for key in ["role_header", "term_header", "position_header"] {
        if check.is_set(key) {
            sink.error(&check.place_of(key), format!("needs replication = \"primary\": {why}"));
        }
    }
}

/// R43: how far behind the node that answers may be.
fn lag(table: &Table, replication: Replication, mode: Mode, sink: &mut Sink) {
    let declared = table.is_set("max_lag");
    let needs = "needs replication = \"primary\" or \"multi-primary\"";
    let told = table
        .table("health_check")
        .is_some_and(|check| check.is_set("position_header"));
    match replication {
        Replication::Shared if declared => sink.error(
            &table.place_of("max_lag"),
            format!("{needs}: over one shared store no node is behind another"),
        ),
        Replication::Mirrored if declared => sink.error(
            &table.place_of("max_lag"),
            format!("{needs}: a node that lacks a copy takes no traffic"),
        ),
        Replication::Primary if mode == Mode::ActiveActive && !declared && !told => sink.warn(
            &table.place_of("replication"),
            "without max_lag or health_check.position_header nobody knows how far a replica is behind: eventual routes fetch at the primary",
        ),
        Replication::MultiPrimary if !declared => sink.warn(
            &table.place_of("replication"),
            "without max_lag nobody knows how far a node is behind the others: eventual routes fetch at each resource's home",
        ),
        Replication::Shared | Replication::Mirrored | Replication::Primary | Replication::MultiPrimary => {}
    }
}
