//! `[server] pair`: what two processes over one `state_dir` need, and what they must know.

use crate::config::diagnostic::Sink;
use crate::config::effective::Table;

pub(super) fn compile(table: &Table, sink: &mut Sink) -> bool {
    if !table.flag("pair") {
        return false;
    }
    let place = table.place_of("pair");
    if table.text("state_dir").is_none() {
        sink.error(
            &place,
            "needs state_dir: a folder that both processes see, whose lock says which of them serves",
        );
        return true;
    }
    sink.warn(
        &place,
        "is as good as the lock on state_dir: one host's own file system keeps it; a network file system that gives up the lock of a client it cannot reach lets both serve (fence that host first, or use replication = \"shared\" without pair)",
    );
    if table.duration("drain_delay").is_some_and(|delay| !delay.is_zero()) {
        sink.warn(
            &table.place_of("drain_delay"),
            "only makes the hand-over longer: the other process serves when this one has ended",
        );
    }
    true
}
