//! The promises weaker than linearizability, each a single pass over a sorted history. All three rest on one fact: a write that had
//! ended when another began was replaced by it. Each read is judged by itself, and accepted as long as some order of the writes explains
//! it; of unknown writes nothing is ever certain. Equal times mean that both may come first.
//!
//! Invariant: what is rejected is told by the few operations that show it, and leaving any of them out explains the rest.

use super::history::{Kind, Operation, Outcome};
use super::record::NOTHING;
use super::zones::{Fault, Violation};
use std::collections::BTreeMap;

/// What a pass over a history found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many reads were judged.
    pub judged: usize,
    /// What cannot be explained.
    pub violations: Vec<Violation>,
}

impl Passed {
    fn add(&mut self, more: Self) {
        self.judged += more.judged;
        self.violations.extend(more.violations);
    }
}

/// Bounded staleness (R42): a value that was read was in force at some instant from `bound_ns` before the read began to its end. A read
/// without a bound is not judged.
#[must_use]
pub fn bounded<'a>(history: &'a [Operation], bound_ns: impl Fn(usize, &'a Operation) -> Option<u64>) -> Passed {
    let mut passed = Passed::default();
    for key in Key::all(history) {
        let mut acked: Vec<&Operation> = key
            .writes
            .iter()
            .copied()
            .filter(|w| w.outcome == Outcome::Ok)
            .collect();
        acked.sort_by_key(|write| write.start_ns);
        let first_end = suffix_minima(&acked);
        for (index, read) in &key.reads {
            let Some(bound) = bound_ns(*index, read) else { continue };
            passed.judged += 1;
            let begin = read.start_ns.saturating_sub(bound);
            let written = key.written(read);
            // Of the writes that began after its own had ended, the first to end.
            let from = acked.partition_point(|write| !is_before(written, write));
            if let Some(over) = first_end.get(from).filter(|over| over.end_ns < begin) {
                let because = format!(
                    "{:?} was replaced {} ms before the read of {:?} began, and the bound is {} ms",
                    read.value,
                    (read.start_ns - over.end_ns) / 1_000_000,
                    read.value,
                    bound / 1_000_000
                );
                let shown = [written, Some(*over), Some(*read)];
                passed.violations.push(violation(read, Fault::TooOld, shown, because));
            }
        }
    }
    passed
}

/// Read your writes: no client reads what was certainly replaced by an acknowledged write of its own that had ended when the read began.
/// `counts`: whether a read's client may expect it.
#[must_use]
pub fn read_your_writes(history: &[Operation], counts: impl Fn(usize) -> bool) -> Passed {
    session(history, counts, |operation| {
        operation.kind == Kind::Write && operation.outcome == Outcome::Ok
    })
}

/// Monotonic reads: no client reads what was certainly replaced by what it had read before.
#[must_use]
pub fn monotonic_reads(history: &[Operation], counts: impl Fn(usize) -> bool) -> Passed {
    session(history, counts, |operation| {
        operation.kind == Kind::Read && operation.outcome == Outcome::Ok
    })
}

/// No read of a client is of a value that was certainly replaced by one it knew: what is `known` by an operation of its own that had
/// ended when the read began.
fn session(history: &[Operation], counts: impl Fn(usize) -> bool, known: impl Fn(&Operation) -> bool) -> Passed {
    let mut passed = Passed::default();
    for key in Key::all(history) {
        let mut clients: BTreeMap<u32, Client<'_>> = BTreeMap::new();
        for operation in key.of_clients.iter().copied().filter(|o| known(o)) {
            clients.entry(operation.client).or_default().known.push(operation);
        }
        for (index, read) in key.reads.iter().filter(|(index, _)| counts(*index)) {
            clients.entry(read.client).or_default().reads.push((*index, read));
        }
        for client in clients.into_values() {
            passed.add(client.judge(&key));
        }
    }
    passed
}

/// What one client did with one key.
#[derive(Default)]
struct Client<'a> {
    known: Vec<&'a Operation>,
    reads: Vec<(usize, &'a Operation)>,
}

impl<'a> Client<'a> {
    fn judge(mut self, key: &Key<'a>) -> Passed {
        self.known.sort_by_key(|operation| operation.end_ns);
        self.reads.sort_by_key(|(_, read)| read.start_ns);
        let mut passed = Passed::default();
        // Of what was known when the read began, the value whose write began last.
        let mut latest: Option<(&Operation, &Operation)> = None;
        let mut known = self.known.into_iter().peekable();
        for (_, read) in self.reads {
            while let Some(operation) = known.next_if(|operation| operation.end_ns < read.start_ns) {
                let write = key.written(operation);
                if let Some(write) = write.filter(|w| latest.is_none_or(|(_, last)| w.start_ns > last.start_ns)) {
                    latest = Some((operation, write));
                }
            }
            passed.judged += 1;
            let written = key.written(read);
            let Some((operation, write)) = latest.filter(|(_, write)| is_before(written, write)) else {
                continue;
            };
            let (fault, knew) = match operation.kind {
                Kind::Write => (Fault::OwnWriteUnseen, "written"),
                Kind::Read => (Fault::WentBack, "read"),
            };
            let because = format!(
                "client {} had {knew} {:?}, which replaced {:?}, before it read that",
                read.client, write.value, read.value
            );
            let shown = [written, Some(write), Some(operation), Some(read)];
            passed.violations.push(violation(read, fault, shown, because));
        }
        passed
    }
}

/// The operations on one key.
struct Key<'a> {
    /// Acknowledged and unknown ones.
    writes: Vec<&'a Operation>,
    by_value: BTreeMap<&'a str, &'a Operation>,
    /// With their places in the history. Reads of what nobody wrote are another judge's.
    reads: Vec<(usize, &'a Operation)>,
    of_clients: Vec<&'a Operation>,
}

impl<'a> Key<'a> {
    fn all(history: &'a [Operation]) -> impl Iterator<Item = Self> {
        let mut keys: BTreeMap<&str, Self> = BTreeMap::new();
        for (index, operation) in history.iter().enumerate() {
            let key = keys.entry(&operation.key).or_insert_with(|| Self {
                writes: Vec::new(),
                by_value: BTreeMap::new(),
                reads: Vec::new(),
                of_clients: Vec::new(),
            });
            key.of_clients.push(operation);
            match (operation.kind, operation.outcome) {
                (Kind::Write, Outcome::Ok | Outcome::Ambiguous) => {
                    key.writes.push(operation);
                    key.by_value.insert(&operation.value, operation);
                }
                (Kind::Read, Outcome::Ok) => key.reads.push((index, operation)),
                (Kind::Write, Outcome::Failed) | (Kind::Read, Outcome::Failed | Outcome::Ambiguous) => {}
            }
        }
        keys.into_values().map(|mut key| {
            let known = &key.by_value;
            key.reads
                .retain(|(_, read)| read.value == NOTHING || known.contains_key(read.value.as_str()));
            key
        })
    }

    /// The write of what an operation wrote or read; none for what was there before everything.
    fn written(&self, operation: &Operation) -> Option<&'a Operation> {
        self.by_value.get(operation.value.as_str()).copied()
    }
}

/// Whether what was `written` had certainly been replaced once `write` was over; what nobody wrote is before everything.
fn is_before(written: Option<&Operation>, write: &Operation) -> bool {
    written.is_none_or(|written| written.ends() < write.start_ns)
}

/// At each place of what is sorted by start: of it and those behind it, the first to end.
fn suffix_minima<'a>(sorted: &[&'a Operation]) -> Vec<&'a Operation> {
    let mut minima: Vec<&Operation> = Vec::with_capacity(sorted.len());
    for write in sorted.iter().rev() {
        let least = minima.last().filter(|least| least.end_ns <= write.end_ns);
        minima.push(least.copied().unwrap_or(write));
    }
    minima.reverse();
    minima
}

fn violation<'a>(
    read: &Operation,
    fault: Fault,
    shown: impl IntoIterator<Item = Option<&'a Operation>>,
    because: String,
) -> Violation {
    let mut operations: Vec<Operation> = Vec::new();
    for operation in shown.into_iter().flatten() {
        if !operations.contains(operation) {
            operations.push(operation.clone());
        }
    }
    operations.sort_by_key(|o| (o.start_ns, o.end_ns));
    Violation {
        key: read.key.clone(),
        fault,
        operations,
        because,
    }
}

#[cfg(test)]
mod tests;
