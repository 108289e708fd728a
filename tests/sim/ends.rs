//! What clients of a cluster saw: every register is linearizable whoever its primary was, and what was acknowledged is where the proxy
//! says that it is. Where a failover may lose writes, what was seen after it is judged for itself: from the instant at which the new primary
//! was first asked, only what that one held then, and what was written since.

use super::cluster::{Cluster, Kind};
use super::judge::{Seen, of_read, of_write, operation};
use super::stage::{Ends, Outcome};
use std::collections::BTreeMap;
use tidegate::verify::history::{Kind as Does, Operation, Outcome as Ended};
use tidegate::verify::zones;

pub(super) fn judge(world: &Outcome, cluster: &Cluster, ends: &Ends, seen: &[Seen<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let judged = |key: &str| key.starts_with("/k/");
    let mut history: Vec<Operation> = world
        .told
        .writes
        .iter()
        .filter(|w| judged(&w.key))
        .map(of_write)
        .collect();
    history.extend(seen.iter().filter(|s| judged(&s.read.key)).map(of_read));
    let firsts: BTreeMap<String, String> = world
        .origin
        .registers
        .iter()
        .map(|(key, all)| (key.clone(), all[0].1.clone()))
        .collect();
    let mut reigns = vec![(0, &firsts)];
    if cluster.is_lossy() {
        reigns.extend(ends.reigns.iter().map(|reign| (reign.from, &reign.held)));
    }
    for (at, (from, held)) in reigns.iter().enumerate() {
        let until = reigns.get(at + 1).map_or(u64::MAX, |(until, _)| *until);
        let part = within(&history, *from, until, held);
        match zones::judge(&part) {
            Ok(verdict) => found.extend(verdict.clearest().map(ToString::to_string)),
            Err(malformed) => found.push(malformed.to_string()),
        }
        if at + 1 == reigns.len() {
            for (who, last) in finals(world, cluster, ends) {
                let lost = zones::lost_writes(&part, &last);
                found.extend(lost.iter().map(|lost| format!("at {who}: {lost}")));
            }
        }
    }
    found.extend(alike(world, cluster, ends));
    if cluster.flaps {
        let early =
            |at: &u64| format!("the route flaps: it was back at the preferred node at {at}, before that was stable");
        found.extend(ends.flaps.iter().map(early)); // R52
    }
    found
}

/// What lies between two instants, beginning with what was held at the first. A write across one of them may have happened in either part.
fn within(history: &[Operation], from: u64, until: u64, held: &BTreeMap<String, String>) -> Vec<Operation> {
    let first = |(key, value): (&String, &String)| operation(key, Does::Write, value, (from, from), "at first");
    let mut part: Vec<Operation> = held
        .iter()
        .filter(|(key, _)| key.starts_with("/k/"))
        .map(first)
        .collect();
    for one in history {
        let inside = one.start_ns >= from && one.end_ns <= until;
        let first = held.get(&one.key) == Some(&one.value);
        match one.kind {
            Does::Read if inside => part.push(one.clone()),
            Does::Read => {}
            Does::Write if first || one.start_ns > until => {}
            Does::Write if inside => part.push(one.clone()),
            // What was sent before may be applied late.
            Does::Write if one.outcome == Ended::Failed => {}
            Does::Write => part.push(Operation {
                start_ns: one.start_ns.max(from),
                end_ns: one.end_ns.max(from),
                outcome: Ended::Ambiguous,
                ..one.clone()
            }),
        }
    }
    part.sort_by_key(|o| o.start_ns);
    part
}

type Registers = BTreeMap<String, Option<String>>;

/// The nodes which by the proxy's word hold everything, with what they hold.
fn finals(world: &Outcome, cluster: &Cluster, ends: &Ends) -> Vec<(String, Registers)> {
    let is = |n: usize, of: &str| names(&ends.view, of).iter().any(|name| *name == format!("o{n}"));
    let who: Vec<usize> = match cluster.kind {
        Kind::Followed | Kind::Promoted => (0..ends.held.len()).filter(|n| is(*n, "primary")).collect(),
        Kind::Mirrored => (0..ends.held.len()).filter(|n| is(*n, "in_sync")).collect(),
        Kind::Standby | Kind::Homes => Vec::new(),
    };
    let registers = |n: usize| {
        let held = ends.held[n].iter().filter(|(key, _)| key.starts_with("/k/"));
        held.map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
    };
    let mut all: Vec<(String, Registers)> = who.into_iter().map(|n| (format!("o{n}"), registers(n))).collect();
    if cluster.kind == Kind::Standby {
        let last = world.origin.registers.iter().filter(|(key, _)| key.starts_with("/k/"));
        let last = last.map(|(key, all)| (key.clone(), all.last().map(|(_, value)| value.clone())));
        all.push(("the store".to_owned(), last.collect()));
    }
    all
}

/// R33, R34: after it was read in peace a register is the same on all nodes in sync.
fn alike(world: &Outcome, cluster: &Cluster, ends: &Ends) -> Vec<String> {
    if cluster.kind != Kind::Mirrored {
        return Vec::new();
    }
    let read = |key: &str| {
        let mut reads = world.told.reads.iter();
        reads.any(|r| r.client == 99 && r.key == key && r.answer.status == 200)
    };
    let in_sync = finals(world, cluster, ends);
    let mut found = Vec::new();
    for (who, registers) in &in_sync {
        for (key, value) in registers.iter().filter(|(key, _)| read(key)) {
            let first = &in_sync[0].1[key];
            if value != first {
                found.push(format!(
                    "a register differs between nodes in sync: {key} is {value:?} at {who}, and {first:?} at {}",
                    in_sync[0].0
                ));
            }
        }
    }
    found
}

/// The names in one field of the view, a text or a list of texts.
fn names<'v>(view: &'v str, field: &str) -> Vec<&'v str> {
    let Some((_, rest)) = view.split_once(&format!("\"{field}\":")) else {
        return Vec::new();
    };
    let end = if rest.starts_with('[') { ']' } else { ',' };
    let value = rest.split(end).next().unwrap_or("");
    value.split('"').filter(|name| name.starts_with('o')).collect()
}
