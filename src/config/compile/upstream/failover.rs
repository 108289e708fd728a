//! `[upstreams.NAME.failover]`: who promotes (R30), and what that needs to be told.

use super::super::span;
use crate::config::diagnostic::Sink;
use crate::config::effective::{Node, Table, Value};
use crate::config::runtime::{Failback, Failover, Mode, Promotion, Replication};

/// R30: who promotes where nobody said, so that `print-config` tells it.
pub(in crate::config::compile) fn fill(upstream: &mut Table) {
    let promotion = match upstream.text("replication") {
        Some("primary") if says(upstream, "role_header") => "follow",
        Some("primary") if says(upstream, "position_header") => "automatic",
        Some("primary") => "manual",
        Some("mirrored") => "automatic",
        _ => return, // nobody is promoted: health alone decides, or every node takes writes
    };
    if let Some(failover) = upstream.table_mut("failover") {
        failover.fill_first("promotion", Value::Text(promotion.to_owned()));
    }
}

/// Whether probes say something of the node, by the field of that key.
fn says(upstream: &Table, key: &str) -> bool {
    upstream.table("health_check").is_some_and(|check| check.is_set(key))
}

pub(super) fn failover(upstream: &Table, replication: Replication, mode: Mode, sink: &mut Sink) -> Failover {
    let nothing = Table::empty();
    let table = upstream.table("failover").unwrap_or(&nothing);
    let failover = Failover {
        promotion: match table.text("promotion") {
            Some("follow") => Promotion::Follow,
            Some("automatic") => Promotion::Automatic,
            _ => Promotion::Manual,
        },
        failback: match table.text("failback") {
            Some("automatic") => Failback::Automatic,
            _ => Failback::Manual,
        },
        stable_for: span(table, "stable_for"),
        slow_start: span(table, "slow_start"),
        hold: span(table, "hold"),
        max_held: table.count("max_held"),
        unclean: table.flag("unclean"),
        fence: command(table, "fence", sink),
        on_promote: command(table, "on_promote", sink),
        hook_timeout: span(table, "hook_timeout"),
    };
    let judged = Judged {
        upstream,
        table,
        replication,
        mode,
        failover: &failover,
    };
    judged.promotion(sink);
    judged.hooks(sink);
    judged.losses(sink);
    judged.failback(sink);
    judged.hold(sink);
    failover
}

/// An argv. Empty when none is given.
pub(super) fn command(table: &Table, key: &str, sink: &mut Sink) -> Vec<String> {
    let words = table.list(key).iter().filter_map(Node::as_text);
    let argv: Vec<String> = words.map(str::to_owned).collect();
    if argv.first().is_some_and(|program| program.trim().is_empty()) {
        sink.error(&table.place_of(key), "the first word names the program, and is empty");
    }
    argv
}

struct Judged<'a> {
    upstream: &'a Table,
    table: &'a Table,
    replication: Replication,
    mode: Mode,
    failover: &'a Failover,
}

impl Judged<'_> {
    fn promotion(&self, sink: &mut Sink) {
        if !self.table.is_set("promotion") {
            return;
        }
        let says = |key| says(self.upstream, key);
        let wrong = match (self.replication, self.failover.promotion) {
            (Replication::Shared, _) => {
                "needs replication = \"primary\": over one shared store traffic moves by health alone"
            }
            (Replication::MultiPrimary, _) => {
                "needs replication = \"primary\": every node takes writes, and nobody is promoted"
            }
            (Replication::Mirrored, Promotion::Follow) => {
                "contradicts replication = \"mirrored\": the nodes know nothing of each other, so that nobody can be followed"
            }
            (Replication::Primary, Promotion::Follow) if !says("role_header") => {
                "\"follow\" needs health_check.role_header: the nodes must say which of them is the primary"
            }
            // R32
            (Replication::Primary, Promotion::Automatic) if !says("position_header") && !self.failover.unclean => {
                "\"automatic\" needs health_check.position_header (or unclean = true): nobody could tell whether a replica holds every acknowledged write"
            }
            (Replication::Primary | Replication::Mirrored, _) => return,
        };
        sink.error(&self.table.place_of("promotion"), wrong);
    }

    fn hooks(&self, sink: &mut Sink) {
        let wrong = match (self.replication, self.failover.promotion) {
            (Replication::Shared | Replication::MultiPrimary, _) => {
                "is never run: it needs replication = \"primary\", where one node is promoted"
            }
            (Replication::Primary | Replication::Mirrored, Promotion::Follow) => {
                "is never run: with promotion = \"follow\" the nodes promote among themselves"
            }
            (Replication::Primary | Replication::Mirrored, Promotion::Automatic | Promotion::Manual) => return,
        };
        for key in ["fence", "on_promote"] {
            if !self.table.list(key).is_empty() {
                sink.error(&self.table.place_of(key), wrong);
            }
        }
    }

    /// R32: what a promotion may lose.
    fn losses(&self, sink: &mut Sink) {
        if self.replication != Replication::Primary || self.upstream.list("nodes").len() < 2 {
            return;
        }
        let place = self.upstream.place_of("replication");
        let promotion = self.failover.promotion;
        if !says(self.upstream, "position_header") {
            let so = match promotion {
                Promotion::Follow => "a failover can lose acknowledged writes, and nobody would notice",
                Promotion::Manual => "nothing is promoted by itself, and a promotion can lose acknowledged writes",
                Promotion::Automatic => "a promotion can lose acknowledged writes",
            };
            sink.warn(
                &place,
                format!("without health_check.position_header nobody knows what a replica lacks: {so}"),
            );
        }
        if promotion == Promotion::Automatic && self.failover.on_promote.is_empty() {
            sink.warn(
                &place,
                "promotion is \"automatic\" and there is no failover.on_promote: a replica is sent writes without being told that it is the primary",
            );
        }
    }

    fn failback(&self, sink: &mut Sink) {
        let moves = match (self.replication, self.mode) {
            (Replication::Shared, mode) => mode == Mode::ActivePassive,
            (Replication::Primary | Replication::Mirrored, _) => self.failover.promotion == Promotion::Automatic,
            (Replication::MultiPrimary, _) => false,
        };
        if self.failover.failback == Failback::Automatic && !moves {
            sink.warn(
                &self.table.place_of("failback"),
                "has no effect: Tidegate moves no traffic here by itself",
            );
        }
    }

    fn hold(&self, sink: &mut Sink) {
        let led = matches!(self.replication, Replication::Primary | Replication::Mirrored);
        let Some(check) = self.upstream.table("health_check") else {
            return;
        };
        if !led && self.mode == Mode::ActiveActive {
            return;
        }
        let threshold = check.count_u32("unhealthy_threshold");
        let noticed = span(check, "interval").saturating_mul(threshold);
        let hold = self.failover.hold;
        if !hold.is_zero() && hold <= noticed {
            sink.warn(
                &self.table.place_of("hold"),
                format!(
                    "not above health_check.interval x unhealthy_threshold ({noticed:?}): requests give up before the failure of a node is noticed"
                ),
            );
        }
    }
}
