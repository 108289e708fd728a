//! What nodes that are out of the set have not been given, and how one comes back (R33b).
//!
//! Three rules make a list complete. Whoever ends an intent first lists its target for every node that is out. Whoever answers a read in
//! doubt does the same before it answers: it may be what only the set of that moment holds. And a process that finds open intents at its
//! start takes every node but the primary out of the set, listing their targets: copies that the killed process had sent may be applied
//! late, over what is acked since. So a node that is out differs from the set only where an intent is open or its target listed.
//!
//! Nothing is copied to a node before whatever it was sent and did not answer can no longer be applied: late, it would undo the copy.
//!
//! What is listed here is what the shell has made durable; this is its copy in memory, in an order that is the same in every run.

use super::target::Target;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use std::collections::{BTreeMap, BTreeSet};

/// So many targets a list holds (R33b): beyond, only the operator brings the node back.
pub const MAX_MISSED: usize = 100_000;

/// So few targets may be left when writes are held for the last of them: copying them takes a moment.
pub const FEW: usize = 16;

/// The lists of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Missed {
    lists: BTreeMap<usize, List>,
    recalled: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct List {
    targets: BTreeSet<Target>,
    overflowed: bool,
    /// When nothing can be applied late any more of what the node was sent and did not answer.
    quiet_at: MonoTime,
}

/// What listing a target came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It is new, and must be made durable.
    New,
    /// It was listed already.
    Known,
    /// The list is full: the node returns by the operator's word alone.
    Full,
}

/// What a node that wants to return needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Copy this target to it, in an exclusive turn.
    Copy(Target),
    /// Wait.
    Wait(MonoTime),
    /// Hold the writes and comparisons of the upstream: few targets are left.
    Hold,
    /// Have the owner add it to the set, while they are held.
    Admit,
    /// The operator's word.
    Operator,
    /// What earlier processes have listed is not recalled yet.
    Recall,
}

impl Missed {
    /// What earlier processes have listed is noted by now: before, nobody knows what a node has missed.
    pub fn recalled(&mut self) {
        self.recalled = true;
    }

    /// A node that is out has not been given what was written to `target`.
    pub fn note(&mut self, node: usize, target: &Target) -> Listed {
        let list = self.lists.entry(node).or_default();
        if list.overflowed || list.targets.contains(target) {
            return Listed::Known;
        }
        if list.targets.len() >= MAX_MISSED {
            list.overflowed = true;
            list.targets.clear();
            return Listed::Full;
        }
        list.targets.insert(target.clone());
        Listed::New
    }

    /// Whether listing a target would change nothing.
    #[must_use]
    pub fn knows(&self, node: usize, target: &Target) -> bool {
        let list = self.lists.get(&node);
        list.is_some_and(|list| list.overflowed || list.targets.contains(target))
    }

    /// Nobody knows what the node has missed.
    pub fn lost(&mut self, node: usize) {
        let list = self.lists.entry(node).or_default();
        list.overflowed = true;
        list.targets.clear();
    }

    /// The node was sent something and did not answer: until `settled_at` it may be applied.
    pub fn unanswered(&mut self, node: usize, settled_at: MonoTime) {
        let list = self.lists.entry(node).or_default();
        list.quiet_at = list.quiet_at.max(settled_at);
    }

    /// Until when something may be applied late of what the node was sent and did not answer; none: nothing may.
    #[must_use]
    pub fn unquiet(&self, node: usize, now: MonoTime) -> Option<MonoTime> {
        let list = self.lists.get(&node)?;
        (Rule::R33b.holds() && now < list.quiet_at).then_some(list.quiet_at)
    }

    /// The node has confirmed a copy of `target`.
    pub fn copied(&mut self, node: usize, target: &Target) {
        if let Some(list) = self.lists.get_mut(&node) {
            list.targets.remove(target);
        }
    }

    /// The node is in the set: by its return, or by the operator's word.
    pub fn forget(&mut self, node: usize) {
        self.lists.remove(&node);
    }

    /// How many targets a node has missed; none when they are beyond counting.
    #[must_use]
    pub fn count(&self, node: usize) -> Option<usize> {
        match self.lists.get(&node) {
            None => Some(0),
            Some(list) => (!list.overflowed).then_some(list.targets.len()),
        }
    }

    /// What is listed for a node; none when it is beyond counting.
    #[must_use]
    pub fn targets(&self, node: usize) -> Option<Vec<Target>> {
        match self.lists.get(&node) {
            None => Some(Vec::new()),
            Some(list) => (!list.overflowed).then(|| list.targets.iter().cloned().collect()),
        }
    }

    /// What the node needs next. `held`: no write or comparison of the upstream is under way, and none begins.
    #[must_use]
    pub fn next(&self, node: usize, now: MonoTime, held: bool) -> Next {
        if !self.recalled {
            return Next::Recall;
        }
        let Some(list) = self.lists.get(&node) else {
            return if held { Next::Admit } else { Next::Hold };
        };
        if !Rule::R33b.holds() {
            return if held { Next::Admit } else { Next::Hold };
        }
        if list.overflowed {
            return Next::Operator;
        }
        // Nothing is copied before: what is applied late after a copy would undo it, confirmed or not.
        if now < list.quiet_at {
            return Next::Wait(list.quiet_at);
        }
        if !held && list.targets.len() <= FEW {
            return Next::Hold;
        }
        list.targets
            .first()
            .map_or(Next::Admit, |target| Next::Copy(target.clone()))
    }
}
