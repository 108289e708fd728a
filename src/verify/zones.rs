//! Linearizability of registers in near-linear time (Gibbons and Korach, "Testing Shared Memories", SIAM J. Comput. 26, 1997). Every
//! write has a value of its own, so a read names the write it saw; a write and its reads are a *cluster*, and all of it must happen
//! between that write and the next. From a cluster's first end `f` to its last start `s` its value was certainly in force: a forward
//! zone, when `f < s`. Otherwise all its operations have the instants `s..f` in common: a backward zone. The history is linearizable
//! exactly when every read has a write that began before it ended, no two forward zones overlap, and no backward zone lies inside
//! a forward one.
//!
//! An operation is before another only if it *ended before* the other started: equal times mean that both may come first, so a
//! coarse clock never makes a violation. An unknown write ends at infinity, and vanishes if nobody read it.
//!
//! Every violation is told by the fewest operations that cannot be explained: leave any of them out and the rest can.

use super::history::{Kind, Operation, Outcome};
use std::collections::BTreeMap;
use std::fmt;

/// Why a key's history has no explanation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A value was read that nobody wrote.
    NeverWritten,
    /// A value was read, and the read had ended, before its write began.
    FromTheFuture,
    /// Two values were each certainly in force after the other.
    BackAndForth,
    /// A value came, and was over, wholly within the time of another one that is seen before and after: a stale read.
    StaleRead,
    /// An acknowledged write is not what the store ends with, and nothing that could have replaced it is.
    LostWrite,
    /// A value was read that had been replaced for longer than the bound.
    TooOld,
    /// A client read what its own acknowledged write had replaced.
    OwnWriteUnseen,
    /// A client read what it had seen replaced.
    WentBack,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The register.
    pub key: String,
    /// What is wrong.
    pub fault: Fault,
    /// The operations that contradict each other, by start.
    pub operations: Vec<Operation>,
    /// Who must be before whom, in words.
    pub because: String,
}

/// What the judge says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many operations said something.
    pub judged: usize,
    /// None: there is an order that explains everything.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Whether every key is linearizable.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// The violation a person should read first: the one with the fewest operations, and of those the earliest.
    #[must_use]
    pub fn clearest(&self) -> Option<&Violation> {
        self.violations
            .iter()
            .min_by_key(|v| (v.operations.len(), v.operations.last().map(|o| o.start_ns)))
    }
}

/// A history that cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Two writes of one key used the same value: a read of it names neither.
    #[error("{key}: {value:?} is written twice")]
    WrittenTwice {
        /// The register.
        key: String,
        /// The value.
        value: String,
    },
    /// An operation ended before it started.
    #[error("{key}: an operation of client {client} on {value:?} ends before it starts")]
    EndsFirst {
        /// The register.
        key: String,
        /// The client.
        client: u32,
        /// The value.
        value: String,
    },
}

/// A write and the reads that saw it.
struct Cluster<'a> {
    write: &'a Operation,
    first_end: &'a Operation,
    last_start: &'a Operation,
}

impl<'a> Cluster<'a> {
    fn add(&mut self, read: &'a Operation) {
        if read.ends() < self.first_end.ends() {
            self.first_end = read;
        }
        if read.start_ns > self.last_start.start_ns {
            self.last_start = read;
        }
    }

    fn end(&self) -> u64 {
        self.first_end.ends()
    }

    fn start(&self) -> u64 {
        self.last_start.start_ns
    }
}

/// Judges every key.
///
/// # Errors
/// When the history is none: a value written twice, an operation that ends before it starts.
pub fn judge(history: &[Operation]) -> Result<Verdict, Malformed> {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let mut verdict = Verdict::default();
    for (key, operations) in by_key {
        let told = one_key(key, &operations)?;
        verdict.judged += told.judged;
        verdict.violations.extend(told.violations);
    }
    Ok(verdict)
}

/// Acknowledged writes that are gone: what every key of `last` holds after everything healed (none: nothing) was written by a write
/// that ended before an acknowledged one began. An ambiguous write may take effect at any later time, so it replaces anything.
#[must_use]
pub fn lost_writes(history: &[Operation], last: &BTreeMap<String, Option<String>>) -> Vec<Violation> {
    let mut lost = Vec::new();
    for (key, value) in last {
        let writes = || {
            history
                .iter()
                .filter(|o| o.key == *key && o.kind == Kind::Write && o.outcome != Outcome::Failed)
        };
        let survivor = writes().find(|w| Some(&w.value) == value.as_ref());
        let replaced = |w: &Operation| survivor.is_some_and(|s| s.ends() >= w.start_ns);
        for write in writes().filter(|w| w.outcome == Outcome::Ok && !replaced(w)) {
            lost.push(Violation {
                key: key.clone(),
                fault: Fault::LostWrite,
                operations: by_start(survivor.into_iter().chain([write]).collect()),
                because: format!(
                    "{:?} was acknowledged, and the store ends with {}",
                    write.value,
                    value.as_ref().map_or("nothing".to_owned(), |v| format!("{v:?}"))
                ),
            });
        }
    }
    lost
}

fn one_key(key: &str, operations: &[&Operation]) -> Result<Verdict, Malformed> {
    let mut clusters: BTreeMap<&str, Cluster<'_>> = BTreeMap::new();
    let mut reads: Vec<&Operation> = Vec::new();
    for &operation in operations {
        if operation.ends() < operation.start_ns {
            return Err(Malformed::EndsFirst {
                key: key.to_owned(),
                client: operation.client,
                value: operation.value.clone(),
            });
        }
        match (operation.kind, operation.outcome) {
            (Kind::Read, Outcome::Ok) => reads.push(operation),
            (Kind::Read, Outcome::Failed | Outcome::Ambiguous) | (Kind::Write, Outcome::Failed) => {}
            (Kind::Write, Outcome::Ok | Outcome::Ambiguous) => {
                let cluster = Cluster {
                    write: operation,
                    first_end: operation,
                    last_start: operation,
                };
                if clusters.insert(&operation.value, cluster).is_some() {
                    return Err(Malformed::WrittenTwice {
                        key: key.to_owned(),
                        value: operation.value.clone(),
                    });
                }
            }
        }
    }
    let mut verdict = Verdict {
        judged: reads.len() + clusters.len(),
        violations: Vec::new(),
    };
    for read in reads {
        let Some(cluster) = clusters.get_mut(read.value.as_str()) else {
            let because = format!("nobody wrote {:?}", read.value);
            verdict
                .violations
                .push(violation(key, Fault::NeverWritten, vec![read], because));
            continue;
        };
        if read.ends() < cluster.write.start_ns {
            let because = format!("the read of {:?} ended before its write began", read.value);
            let both = vec![read, cluster.write];
            verdict
                .violations
                .push(violation(key, Fault::FromTheFuture, both, because));
        }
        cluster.add(read);
    }
    // An ambiguous write that nobody read needs no care: its zone never ends, so it lies inside no other.
    contradictions(key, clusters.values(), &mut verdict.violations);
    Ok(verdict)
}

fn contradictions<'a>(key: &str, clusters: impl Iterator<Item = &'a Cluster<'a>>, found: &mut Vec<Violation>) {
    let (mut forward, backward): (Vec<_>, Vec<_>) = clusters.partition(|c| c.end() < c.start());
    forward.sort_by_key(|c| (c.end(), c.start()));
    // If any two overlap, two neighbours do: the later one's left end lies in between.
    for (one, two) in forward.iter().zip(forward.iter().skip(1)) {
        if two.end() < one.start() {
            found.push(clash(key, Fault::BackAndForth, one, two));
        }
    }
    for inner in backward {
        // Of forward zones that do not overlap, only the last that begins before it can hold it.
        let at = forward.partition_point(|outer| outer.end() < inner.start());
        if let Some(outer) = at.checked_sub(1).and_then(|i| forward.get(i))
            && inner.end() < outer.start()
        {
            found.push(clash(key, Fault::StaleRead, outer, inner));
        }
    }
}

/// Each of two clusters must be before the other. What shows it: who ended before whom started, twice, and the two writes.
fn clash(key: &str, fault: Fault, one: &Cluster<'_>, two: &Cluster<'_>) -> Violation {
    let operations = vec![
        one.write,
        one.first_end,
        one.last_start,
        two.write,
        two.first_end,
        two.last_start,
    ];
    let before = |a: &Cluster<'_>, b: &Cluster<'_>| {
        format!(
            "{:?} before {:?}: {} had ended when {} began",
            a.write.value,
            b.write.value,
            name(a.first_end),
            name(b.last_start)
        )
    };
    let because = format!("{}; but {}", before(one, two), before(two, one));
    fewest(violation(key, fault, operations, because))
}

/// Leaves out what the contradiction does not need, one operation after another: there are at most six.
fn fewest(found: Violation) -> Violation {
    for left_out in &found.operations {
        let rest: Vec<&Operation> = found.operations.iter().filter(|o| *o != left_out).collect();
        if left_out.kind == Kind::Write && rest.iter().any(|o| o.value == left_out.value) {
            continue; // its reads would come from nowhere
        }
        if let Ok(Some(smaller)) = one_key(&found.key, &rest).map(|v| v.clearest().cloned()) {
            return smaller;
        }
    }
    found
}

fn name(operation: &Operation) -> String {
    let kind = match operation.kind {
        Kind::Read => "read",
        Kind::Write => "write",
    };
    format!("client {}'s {kind} of {:?}", operation.client, operation.value)
}

fn violation(key: &str, fault: Fault, operations: Vec<&Operation>, because: String) -> Violation {
    Violation {
        key: key.to_owned(),
        fault,
        operations: by_start(operations),
        because,
    }
}

fn by_start(mut operations: Vec<&Operation>) -> Vec<Operation> {
    operations.sort_by_key(|o| (o.start_ns, o.end_ns));
    let mut once: Vec<&Operation> = Vec::new();
    for operation in operations {
        if !once.iter().any(|o| std::ptr::eq(*o, operation)) {
            once.push(operation);
        }
    }
    once.into_iter().cloned().collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverWritten => "a read of what nobody wrote",
            Self::FromTheFuture => "a read of what was not yet written",
            Self::BackAndForth => "two values, each in force after the other",
            Self::StaleRead => "a stale read",
            Self::LostWrite => "an acknowledged write is lost",
            Self::TooOld => "a read beyond the bound",
            Self::OwnWriteUnseen => "a client does not see its own write",
            Self::WentBack => "a client goes back in time",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.key, self.fault)?;
        for operation in &self.operations {
            writeln!(f, "  {operation}")?;
        }
        write!(f, "  {}", self.because)
    }
}

#[cfg(test)]
mod tests;
