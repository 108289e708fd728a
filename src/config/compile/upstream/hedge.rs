//! `[upstreams.NAME] hedge`.

use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::Hedge;

/// When slow reads are sent a second time; none: never.
pub(super) fn hedge(table: &Table, upstream: &Table, sink: &mut Sink) -> Option<Hedge> {
    if table.get("after").is_none() {
        sink.error(
            &table.place_of("after"),
            "missing: hedge needs to know when a read is slow, as in hedge = { after = \"50ms\", max = \"5%\" }",
        );
    }
    let after = table.duration("after")?;
    if upstream
        .duration("response_timeout")
        .is_some_and(|timeout| after >= timeout)
    {
        sink.warn(
            &table.place_of("after"),
            "not below response_timeout: the first copy has failed by then, and nothing is ever sent twice",
        );
    }
    let max_percent = table.percent("max");
    if max_percent == 0 {
        sink.warn(&table.place_of("max"), "nothing is ever sent twice");
    }
    Some(Hedge { after, max_percent })
}
