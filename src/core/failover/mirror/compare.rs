//! The comparison of one target at all nodes of the set, and the repair it may need (R34). It runs in an exclusive turn of the
//! resource's queue, and ends well only when every node of the set, as it is then, shows what the primary shows or has confirmed a copy.
//!
//! It never merges (R38): the primary's state is the state.

use super::Standing;
use crate::core::failover::view::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// What a node shows of the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shown<T> {
    /// This representation.
    State(T),
    /// That there is none.
    Gone,
    /// An answer that tells no state: it can be compared, but neither copied nor believed to be all there is.
    Strange(T),
    /// A state that is too large to be compared or copied.
    TooLarge,
    /// Nothing in time.
    Silent,
}

/// What has happened to a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// It begins.
    Turn,
    /// A node has answered, or has not in time.
    Showed {
        /// Which node.
        node: usize,
        /// What.
        shown: Shown<T>,
    },
    /// A copy was confirmed, or was not in time.
    Copied {
        /// By which node.
        node: usize,
        /// With a 2xx.
        confirmed: bool,
    },
    /// The owner of the view has removed the node, or could not.
    Removed {
        /// Which node.
        node: usize,
    },
}

/// What must be done for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask this node. All of these are sent at once.
    Ask {
        /// Which node.
        node: usize,
    },
    /// Copy what the primary has shown to this node: PUT, or DELETE when it is gone. All of these are sent at once.
    Copy {
        /// Which node.
        node: usize,
    },
    /// Have the owner of the view remove this node from the set, durably.
    Remove {
        /// Which node.
        node: usize,
    },
    /// Nothing more comes of it.
    End(End),
}

/// How a comparison ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Every node of the set holds what the primary has shown.
    Same {
        /// The primary has shown a state, or that there is none; else nothing is known to be the same but an answer.
        certain: bool,
    },
    /// There is no primary, or it is silent.
    Unreachable,
    /// The nodes differ, and what the primary has shown cannot be copied.
    Unrepairable,
    /// The view has changed meanwhile, or the set would not shrink.
    Overtaken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Waiting,
    Asking(BTreeSet<usize>),
    Copying(BTreeSet<usize>),
    Shrinking(BTreeSet<usize>),
    Over,
}

/// A comparison at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compare<T> {
    /// Where nodes differ they are given what the primary has shown.
    repairs: bool,
    primary: usize,
    epoch: Epoch,
    shown: BTreeMap<usize, Shown<T>>,
    /// Who holds what the primary has shown.
    same: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    phase: Phase,
}

impl<T> Default for Compare<T> {
    fn default() -> Self {
        Self {
            repairs: true,
            primary: 0,
            epoch: Epoch(0),
            shown: BTreeMap::new(),
            same: BTreeSet::new(),
            failed: BTreeSet::new(),
            phase: Phase::Waiting,
        }
    }
}

impl<T: PartialEq> Compare<T> {
    /// A comparison of what is one of several representations of the same state, and never copied.
    #[must_use]
    pub fn without_repair() -> Self {
        Self {
            repairs: false,
            ..Self::default()
        }
    }

    /// What the primary has shown.
    #[must_use]
    pub fn of_primary(&self) -> Option<&Shown<T>> {
        self.shown.get(&self.primary)
    }

    /// Takes one event under the view of the moment; says what must be done. An event that does not belong to its phase does nothing.
    #[must_use]
    pub fn step(&mut self, view: &Standing, event: Event<T>) -> Vec<Effect> {
        match (std::mem::replace(&mut self.phase, Phase::Over), event) {
            (Phase::Waiting, Event::Turn) => {
                let Some(primary) = view.primary.filter(|primary| view.in_sync.contains(primary)) else {
                    return vec![Effect::End(End::Unreachable)];
                };
                (self.primary, self.epoch) = (primary, view.epoch);
                self.phase = Phase::Asking(view.in_sync.iter().copied().collect());
                view.in_sync.iter().map(|&node| Effect::Ask { node }).collect()
            }
            (Phase::Asking(mut waiting), Event::Showed { node, shown }) => {
                if waiting.remove(&node) {
                    self.shown.insert(node, shown);
                }
                if waiting.is_empty() {
                    return self.judge(view);
                }
                self.phase = Phase::Asking(waiting);
                Vec::new()
            }
            (Phase::Copying(mut waiting), Event::Copied { node, confirmed }) => {
                if waiting.remove(&node) {
                    let set = if confirmed { &mut self.same } else { &mut self.failed };
                    set.insert(node);
                }
                self.copying(view, waiting)
            }
            (Phase::Shrinking(mut waiting), Event::Removed { node }) => {
                waiting.remove(&node);
                self.shrinking(view, waiting)
            }
            (phase, _) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn judge(&mut self, view: &Standing) -> Vec<Effect> {
        let Some(primary) = self.shown.get(&self.primary).filter(|shown| **shown != Shown::Silent) else {
            return vec![Effect::End(End::Unreachable)];
        };
        if *primary == Shown::TooLarge {
            return vec![Effect::End(End::Unrepairable)];
        }
        let mut differ = BTreeSet::new();
        for (node, shown) in &self.shown {
            match shown {
                Shown::Silent => self.failed.insert(*node),
                shown if shown == primary => self.same.insert(*node),
                Shown::State(_) | Shown::Gone | Shown::Strange(_) | Shown::TooLarge => differ.insert(*node),
            };
        }
        if !differ.is_empty() && (!self.repairs || matches!(primary, Shown::Strange(_))) {
            return vec![Effect::End(End::Unrepairable)];
        }
        let mut effects: Vec<_> = differ.iter().map(|&node| Effect::Copy { node }).collect();
        effects.extend(self.copying(view, differ));
        effects
    }

    fn copying(&mut self, view: &Standing, waiting: BTreeSet<usize>) -> Vec<Effect> {
        if !waiting.is_empty() {
            self.phase = Phase::Copying(waiting);
            return Vec::new();
        }
        let failed = std::mem::take(&mut self.failed);
        let mut effects: Vec<_> = failed.iter().map(|&node| Effect::Remove { node }).collect();
        effects.extend(self.shrinking(view, failed));
        effects
    }

    fn shrinking(&mut self, view: &Standing, waiting: BTreeSet<usize>) -> Vec<Effect> {
        if !waiting.is_empty() {
            self.phase = Phase::Shrinking(waiting);
            return Vec::new();
        }
        let held = view.in_sync.iter().all(|node| self.same.contains(node));
        let end = if held && view.is_still(self.primary, self.epoch) {
            End::Same {
                certain: matches!(self.of_primary(), Some(Shown::State(_) | Shown::Gone)),
            }
        } else {
            End::Overtaken
        };
        vec![Effect::End(end)]
    }
}
