//! `[upstreams.NAME.retry]`.

use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::{Retry, RetryOn};

pub(super) fn retry(table: &Table, sink: &mut Sink) -> Retry {
    let mut on = RetryOn::default();
    for (text, node) in table.texts("on") {
        match text {
            "connect" => on.connect = true,
            "reset" => on.reset = true,
            _ => match text.parse::<u16>().ok().filter(|status| (500..=599).contains(status)) {
                Some(status) if on.statuses.contains(&status) => {}
                Some(status) => on.statuses.push(status),
                None => sink.error(
                    &node.place,
                    format!("expected \"connect\", \"reset\" or a status from \"500\" to \"599\", found \"{text}\""),
                ),
            },
        }
    }
    let attempts = table.count_u32("attempts");
    if attempts == 1 && (table.is_set("on") || table.is_set("budget")) {
        sink.warn(
            &table.place_of("attempts"),
            "one attempt in all: nothing is ever retried",
        );
    } else if attempts > 1 && table.is_set("budget") && table.percent("budget") == 0 {
        sink.warn(
            &table.place_of("budget"),
            "a budget of nothing: nothing is ever retried",
        );
    }
    Retry {
        attempts,
        budget_percent: table.percent("budget"),
        on,
    }
}
