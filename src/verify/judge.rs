//! What a history is judged by, and the verdict for a person. Which promises were made is read from the answers' own
//! `Tidegate-Consistency`, or given. A promise that could not be judged is not kept: there is no third verdict.

use super::history::{Kind, Operation, Outcome};
use super::promises::{self, Passed};
use super::record::{NOTHING, Recorded};
use super::zones::{self, Fault, Malformed, Violation};
use crate::core::time::Span;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The level whose promises are judged.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Linearizable.
    Strong,
    /// Bounded staleness.
    Eventual,
    /// Nothing but what no cache may do: invent values, or lose acknowledged writes.
    Weak,
}

/// What to judge by, beside what the answers claim.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The level; by the answers when none is given.
    pub level: Option<Level>,
    /// The bound; that of each answer when none is given.
    pub max_staleness: Option<Span>,
    /// Judge sessions of clients that have not received a token, too.
    pub sessions: bool,
    /// Successful reads and writes without which nothing was shown.
    pub least: (usize, usize),
}

/// One promise.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Its name.
    pub name: &'static str,
    /// How much was judged.
    pub judged: usize,
    /// What breaks it.
    pub violations: Vec<Violation>,
}

/// The whole verdict.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The level that was judged.
    pub level: Level,
    /// The promises that were judged.
    pub promises: Vec<Promise>,
    /// Why it cannot be called kept although nothing was found.
    pub short: Vec<String>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    reads: usize,
    acked: usize,
    unknown: usize,
    failed: usize,
    keys: usize,
}

impl Verdict {
    /// Whether every promise was judged, and kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.short.is_empty() && self.promises.iter().all(|promise| promise.violations.is_empty())
    }

    /// The violation a person should read first: the one with the fewest operations, and of those the earliest.
    #[must_use]
    pub fn clearest(&self) -> Option<&Violation> {
        let all = self.promises.iter().flat_map(|promise| &promise.violations);
        all.min_by_key(|v| (v.operations.len(), v.operations.last().map(|o| o.start_ns)))
    }
}

/// Judges a history. `unread`: keys whose end could not be read.
///
/// # Errors
/// When it is none: a value written twice, an operation that ends before it starts.
pub fn judge(history: &[Recorded], terms: &Terms, unread: &[String]) -> Result<Verdict, Malformed> {
    let operations: Vec<Operation> = history.iter().map(|one| one.operation.clone()).collect();
    let level = terms.level.unwrap_or_else(|| claimed(history));
    let counts = count(&operations);
    let mut promises = Vec::new();
    let mut short = Vec::new();
    let zones = zones::judge(&operations)?;
    let is_invented = |v: &Violation| matches!(v.fault, Fault::NeverWritten | Fault::FromTheFuture);
    let (invented, disordered): (Vec<_>, Vec<_>) = zones.violations.into_iter().partition(is_invented);
    // Before the first write there may have been nothing.
    let invented = invented
        .into_iter()
        .filter(|v| level == Level::Strong || !reads_nothing(v));
    promises.push(promise(
        "every value read was written",
        counts.reads,
        invented.collect(),
    ));
    if level == Level::Strong {
        promises.push(promise("linearizable", zones.judged, disordered));
    }
    let bound = |index: usize, _: &Operation| bound_ns(history.get(index)?, level, terms);
    let bounded = promises::bounded(&operations, bound);
    if bounded.judged > 0 || level == Level::Eventual {
        promises.push(passed("within the bound", bounded));
    }
    // A read that admits to be beyond its bound promises a session nothing (R49).
    let in_session = |index: usize| {
        let promises = |one: &Recorded| level == Level::Strong || ((terms.sessions || one.token) && !one.is_breached());
        history.get(index).is_some_and(promises)
    };
    let (own, back) = (
        promises::read_your_writes(&operations, in_session),
        promises::monotonic_reads(&operations, in_session),
    );
    if own.judged > 0 {
        promises.push(passed("read your writes", own));
        promises.push(passed("monotonic reads", back));
    }
    let ends = ends(history);
    if let Some(first) = ends.first() {
        let lost = ends.iter().flat_map(|last| zones::lost_writes(&operations, last));
        promises.push(promise("no acknowledged write is lost", first.len(), lost.collect()));
    }
    if level == Level::Eventual && !promises.iter().any(|p| p.name == "within the bound" && p.judged > 0) {
        short.push("no read names its bound, and none was given (--max-staleness)".to_owned());
    }
    let (reads, writes) = terms.least;
    if counts.reads < reads || counts.acked < writes {
        short.push(format!(
            "too few successful operations to say anything: {} reads of at least {reads}, {} writes of at least {writes}",
            counts.reads, counts.acked
        ));
    }
    if !unread.is_empty() {
        short.push(format!(
            "what the store ends with could not be read: {}",
            unread.join(", ")
        ));
    }
    Ok(Verdict {
        level,
        promises,
        short,
        counts,
    })
}

fn promise(name: &'static str, judged: usize, violations: Vec<Violation>) -> Promise {
    Promise {
        name,
        judged,
        violations,
    }
}

fn passed(name: &'static str, passed: Passed) -> Promise {
    promise(name, passed.judged, passed.violations)
}

/// The level that the answers to reads call themselves. One that is strong makes all of them; those at the end were raised to it.
fn claimed(history: &[Recorded]) -> Level {
    let reads = || {
        let reads = history.iter().filter(|one| one.operation.kind == Kind::Read);
        reads.filter(|one| !one.last)
    };
    if reads().any(Recorded::is_strong) {
        Level::Strong
    } else if reads().any(|one| one.bound().is_some() || one.is_breached()) {
        Level::Eventual
    } else {
        Level::Weak
    }
}

/// A read that admits to be beyond its bound broke no promise. The given bound goes before the answer's.
fn bound_ns(one: &Recorded, level: Level, terms: &Terms) -> Option<u64> {
    let claimed = one.bound().filter(|_| level == Level::Eventual);
    let bound = terms.max_staleness.or(claimed)?;
    (!one.is_breached()).then(|| bound.as_millis().saturating_mul(1_000_000))
}

fn reads_nothing(violation: &Violation) -> bool {
    violation
        .operations
        .iter()
        .all(|o| o.kind == Kind::Read && o.value == NOTHING)
}

/// What the store ends with. Where proxies tell different ends of a key, each has to do; the first has every key.
fn ends(history: &[Recorded]) -> Vec<BTreeMap<String, Option<String>>> {
    let mut ends: Vec<BTreeMap<String, Option<String>>> = Vec::new();
    for one in history
        .iter()
        .filter(|one| one.last && one.operation.outcome == Outcome::Ok)
    {
        let key = &one.operation.key;
        let value = Some(one.operation.value.clone()).filter(|value| value != NOTHING);
        if ends.iter().any(|end| end.get(key) == Some(&value)) {
            continue;
        }
        match ends.iter_mut().find(|end| !end.contains_key(key)) {
            Some(end) => drop(end.insert(key.clone(), value)),
            None => ends.push(BTreeMap::from([(key.clone(), value)])),
        }
    }
    ends
}

fn count(operations: &[Operation]) -> Counts {
    let mut counts = Counts::default();
    let mut keys: Vec<&str> = operations.iter().map(|o| o.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    counts.keys = keys.len();
    for operation in operations {
        match (operation.kind, operation.outcome) {
            (Kind::Read, Outcome::Ok) => counts.reads += 1,
            (Kind::Write, Outcome::Ok) => counts.acked += 1,
            (Kind::Write, Outcome::Ambiguous) => counts.unknown += 1,
            (Kind::Write, Outcome::Failed) | (Kind::Read, Outcome::Failed | Outcome::Ambiguous) => counts.failed += 1,
        }
    }
    counts
}

/// The verdict for a person.
#[must_use]
pub fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    let counts = verdict.counts;
    let mut line = |label: &str, what: &str| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{label:<31}{what}");
    };
    line(
        "seen",
        &format!(
            "{} reads; {} writes acknowledged, {} unknown; {} without effect; {} keys",
            counts.reads, counts.acked, counts.unknown, counts.failed, counts.keys
        ),
    );
    line(
        "judged as",
        match verdict.level {
            Level::Strong => "strong",
            Level::Eventual => "eventual",
            Level::Weak => "weak: nothing more was promised",
        },
    );
    for promise in &verdict.promises {
        let said = match promise.violations.len() {
            0 => format!("yes, {} judged", promise.judged),
            many => format!("NO, {many} violations of {} judged", promise.judged),
        };
        line(promise.name, &said);
    }
    if let Some(clearest) = verdict.clearest() {
        let _ = write!(
            text,
            "\nThe smallest schedule that shows it (in seconds):\n\n{clearest}\n"
        );
    }
    for why in &verdict.short {
        let _ = writeln!(text, "\n{why}");
    }
    let kept = if verdict.holds() { "KEPT" } else { "NOT KEPT" };
    let _ = write!(text, "\nverdict: {kept}");
    text
}

#[cfg(test)]
mod tests;
