//! What the journal holds at one moment, and the records that change it. Applying a record twice changes nothing more.

use super::{Intent, IntentId, MAX_MISSED};
use crate::core::failover::mirror::target::Target;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One change. The names are part of the file's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    Intent {
        id: u64,
        upstream: String,
        #[serde(flatten)]
        target: Written,
    },
    End {
        id: u64,
    },
    Missed {
        upstream: String,
        node: String,
        #[serde(flatten)]
        target: Written,
    },
    CaughtUp {
        upstream: String,
        node: String,
        #[serde(flatten)]
        target: Written,
    },
    Emptied {
        upstream: String,
        node: String,
    },
    /// Its list became too long and was dropped.
    Overflown {
        upstream: String,
        node: String,
    },
}

/// A target in the file. What stands in lines of versions that knew nothing of hosts says as much as it did then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<String>,
}

impl From<Target> for Written {
    fn from(target: Target) -> Self {
        let Target { uri, host, route } = target;
        Self {
            target: uri,
            host,
            route,
        }
    }
}

impl From<Written> for Target {
    fn from(written: Written) -> Self {
        let Written { target, host, route } = written;
        Self {
            uri: target,
            host,
            route,
        }
    }
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// Open intents: each is a write whose end nobody knows (R35). In the order they were made.
    pub intents: Vec<(IntentId, Intent)>,
    /// The nodes that have missed something, by upstream and node.
    pub missed: Vec<Missed>,
}

/// What one node has missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The upstream's name.
    pub upstream: String,
    /// The node's name.
    pub node: String,
    /// What the writes were sent to.
    pub targets: Vec<Target>,
    /// It has missed more than was listed: the list is gone, and only the operator brings the node back.
    pub overflown: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    intents: BTreeMap<u64, Intent>,
    missed: BTreeMap<(String, String), List>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum List {
    Targets(BTreeSet<Target>),
    Overflown,
}

impl State {
    /// Takes one change. Returns whether there was anything to change.
    pub(super) fn apply(&mut self, record: Record) -> bool {
        match record {
            Record::Intent { id, upstream, target } => {
                let target = target.into();
                self.intents.insert(id, Intent { upstream, target }).is_none()
            }
            Record::End { id } => self.intents.remove(&id).is_some(),
            Record::Missed { upstream, node, target } => {
                let list = self.missed.entry((upstream, node));
                let list = list.or_insert_with(|| List::Targets(BTreeSet::new()));
                let List::Targets(targets) = list else { return false };
                let target = target.into();
                if targets.len() < MAX_MISSED {
                    return targets.insert(target);
                }
                if targets.contains(&target) {
                    return false;
                }
                *list = List::Overflown;
                true
            }
            Record::CaughtUp { upstream, node, target } => {
                let at = (upstream, node);
                let Some(List::Targets(targets)) = self.missed.get_mut(&at) else {
                    return false;
                };
                let removed = targets.remove(&target.into());
                if targets.is_empty() {
                    self.missed.remove(&at);
                }
                removed
            }
            Record::Emptied { upstream, node } => self.missed.remove(&(upstream, node)).is_some(),
            Record::Overflown { upstream, node } => {
                let before = self.missed.insert((upstream, node), List::Overflown);
                before != Some(List::Overflown)
            }
        }
    }

    /// What brings an empty state here.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let intents = self.intents.iter().map(|(id, intent)| Record::Intent {
            id: *id,
            upstream: intent.upstream.clone(),
            target: intent.target.clone().into(),
        });
        let missed = self.missed.iter().flat_map(|((upstream, node), list)| {
            let (targets, overflown) = match list {
                List::Targets(targets) => (Some(targets), None),
                List::Overflown => (
                    None,
                    Some(Record::Overflown {
                        upstream: upstream.clone(),
                        node: node.clone(),
                    }),
                ),
            };
            let targets = targets.into_iter().flatten().map(|target| Record::Missed {
                upstream: upstream.clone(),
                node: node.clone(),
                target: target.clone().into(),
            });
            targets.chain(overflown)
        });
        intents.chain(missed)
    }

    pub(super) fn recalled(&self) -> Recalled {
        let intents = self.intents.iter();
        let missed = self.missed.iter().map(|((upstream, node), list)| Missed {
            upstream: upstream.clone(),
            node: node.clone(),
            targets: match list {
                List::Targets(targets) => targets.iter().cloned().collect(),
                List::Overflown => Vec::new(),
            },
            overflown: *list == List::Overflown,
        });
        Recalled {
            intents: intents.map(|(id, intent)| (IntentId(*id), intent.clone())).collect(),
            missed: missed.collect(),
        }
    }

    /// A number above every open intent's.
    pub(super) fn next_id(&self) -> u64 {
        self.intents.last_key_value().map_or(1, |(id, _)| id.saturating_add(1))
    }

    pub(super) fn is_overflown(&self, upstream: &str, node: &str) -> bool {
        self.missed.get(&(upstream.to_owned(), node.to_owned())) == Some(&List::Overflown)
    }

    pub(super) fn overflown(&self) -> impl Iterator<Item = (String, String)> {
        let lists = self.missed.iter().filter(|(_, list)| **list == List::Overflown);
        lists.map(|(at, _)| at.clone())
    }
}
