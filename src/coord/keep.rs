//! Where the views outlive the process: one register, written whole, of which this process is the only writer. In memory, in a file
//! under `state_dir`, later in a coordination service by compare-and-swap.

use super::lines;
use crate::config::runtime::{Node, Replication, Upstream};
use crate::core::consistency::bound::Position;
use crate::core::failover::settings::{Claim, Pending, Record};
use crate::core::failover::view::Epoch;
use crate::world::{BoxFuture, Disk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's name under `state_dir`.
const NAME: &str = "views";

/// Of the format. The first one knew nothing of choices, drains and epochs of others.
const VERSION: u32 = 2;

/// What must be remembered of the upstreams, by name.
pub(super) type Views = BTreeMap<String, Remembered>;

/// One upstream's record, nodes by name: the order of the file may change, and places with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    epoch: u64,
    /// How the nodes shared their data; none: not known.
    #[serde(default)]
    replication: Option<String>,
    primary: Option<String>,
    deposed: Option<String>,
    /// The nodes there were; one that is not here is new.
    nodes: Vec<String>,
    /// Where they were: one of the same name at another url is new, too. Of a node that is not here it is not known.
    #[serde(default)]
    urls: BTreeMap<String, String>,
    in_sync: Vec<String>,
    term: Option<Term>,
    #[serde(default)]
    pending: Option<Chosen>,
    #[serde(default)]
    pinned: Option<String>,
    #[serde(default)]
    drained: Vec<String>,
    #[serde(default)]
    superseded: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chosen {
    node: String,
    reached: Option<u64>,
    lossy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    term: u64,
    node: Option<String>,
}

/// The whole register.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Register {
    version: u32,
    upstreams: Views,
}

/// Keeps the views. A service that several proxies share will be another of these.
pub(super) trait Keeper: Send {
    /// Makes them durable in place of what was kept before. Once it returns `Ok`, no crash brings back anything older; after a failure
    /// either may be there.
    fn keep<'a>(&'a mut self, views: &'a Views) -> BoxFuture<'a, io::Result<()>>;
}

/// Forgets with the process.
pub(super) struct InMemory;

impl Keeper for InMemory {
    fn keep<'a>(&'a mut self, _: &'a Views) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// One line in a file, replaced with fsync. Blocks while the disk does.
pub(super) struct InFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// Why the views of earlier processes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{path}: damaged, or of another version: who is the primary and which nodes are in sync is not known any more. Remove the file when the first node holds every write"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl InFile {
    /// The keeper, and what earlier processes left in `folder`.
    pub(super) fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<(Self, Views), RecallError> {
        let path = folder.join(NAME);
        let views = match disk.read(&path) {
            Ok(bytes) => {
                let line = bytes.strip_suffix(b"\n");
                let register = line.and_then(lines::value::<Register>);
                match register {
                    Some(register) if (1..=VERSION).contains(&register.version) => register.upstreams,
                    Some(_) | None => return Err(RecallError::Damaged { path }),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Views::new(),
            Err(source) => return Err(RecallError::Io { path, source }),
        };
        Ok((Self { disk, path }, views))
    }
}

impl Keeper for InFile {
    fn keep<'a>(&'a mut self, views: &'a Views) -> BoxFuture<'a, io::Result<()>> {
        let written = write(self.disk.as_ref(), &self.path, views);
        Box::pin(std::future::ready(written))
    }
}

/// Makes the views durable in `folder`. Blocks: for the start.
pub(super) fn keep_first(disk: &dyn Disk, folder: &Path, views: &Views) -> Result<(), RecallError> {
    let path = folder.join(NAME);
    write(disk, &path, views).map_err(|source| RecallError::Io { path, source })
}

fn write(disk: &dyn Disk, path: &Path, views: &Views) -> io::Result<()> {
    let written = lines::line(&Register {
        version: VERSION,
        upstreams: views.clone(),
    });
    disk.replace(path, &written?)
}

impl Remembered {
    /// What a machine goes on from: the first epoch of one that begins now, or later, and the record, where it says who holds what.
    pub(super) fn recall(known: Option<&Self>, upstream: &Upstream, first: Epoch) -> (Epoch, Option<Record>) {
        match known {
            Some(known) if known.is_of_others(upstream) => {
                tracing::warn!(
                    upstream = upstream.name,
                    was = known.replication,
                    "the nodes hold data of their own now: the upstream begins as at its first start"
                );
                (first.max(Epoch(known.epoch).next()), None)
            }
            Some(known) => (first, Some(known.record(upstream))),
            None => (first, None),
        }
    }

    /// A record, with names.
    pub(super) fn of(upstream: &Upstream, record: &Record) -> Self {
        let listed = |node: &usize| upstream.is_listed(*node);
        let name = |node: usize| Some(upstream.nodes.get(node).filter(|_| listed(&node))?.name.clone());
        let in_sync = record.in_sync.iter().enumerate().filter(|(_, in_sync)| **in_sync);
        let drained = record.drained.iter().enumerate().filter(|(_, drained)| **drained);
        Self {
            epoch: record.epoch.0,
            replication: Some(upstream.replication.word().to_owned()),
            primary: record.primary.and_then(name),
            deposed: record.deposed.and_then(name),
            nodes: upstream.listed().map(|(_, n)| n.name.clone()).collect(),
            urls: upstream
                .listed()
                .map(|(_, n)| (n.name.clone(), n.url.clone()))
                .collect(),
            in_sync: in_sync.filter_map(|(node, _)| name(node)).collect(),
            term: record.term.map(|claim| Term {
                term: claim.term,
                node: name(claim.node),
            }),
            pending: record.pending.and_then(|pending| {
                Some(Chosen {
                    node: name(pending.node)?,
                    reached: pending.reached.map(|position| position.0),
                    lossy: pending.lossy,
                })
            }),
            pinned: record.pinned.and_then(name),
            drained: drained.filter_map(|(node, _)| name(node)).collect(),
            superseded: record.superseded.map(|epoch| epoch.0),
        }
    }

    /// The record for the nodes there are now.
    pub(super) fn record(&self, upstream: &Upstream) -> Record {
        let is = |name: &String, node: &Node| node.name == *name && self.knows(node);
        let place = |name: &String| upstream.listed().find(|(_, n)| is(name, n)).map(|(place, _)| place);
        if upstream.discover.is_some() {
            // Places are taken anew by whoever is found, and one store holds everything.
            return Record {
                epoch: Epoch(self.epoch),
                in_sync: vec![true; upstream.slots()],
                ..Record::default()
            };
        }
        let gone = self.nodes.iter().filter(|name| place(name).is_none());
        for node in gone {
            tracing::error!(
                upstream = upstream.name,
                node,
                primary = self.primary.as_ref() == Some(node),
                "a node of the remembered view is not configured any more, or has moved: it is ignored"
            );
        }
        let lost = self.primary.as_ref().is_some_and(|name| place(name).is_none());
        Record {
            // R53: whoever is the first one now is another than the one that had this epoch.
            epoch: Epoch(self.epoch.saturating_add(lost.into())),
            primary: self.primary.as_ref().and_then(place),
            deposed: self.deposed.as_ref().and_then(place),
            in_sync: upstream.nodes.iter().map(|n| self.holds(upstream, n)).collect(),
            term: self.term.as_ref().map(|claim| Claim {
                term: claim.term,
                // Gone: still nobody else may claim that term (R51).
                node: claim.node.as_ref().and_then(place).unwrap_or(usize::MAX),
            }),
            pending: self.pending.as_ref().and_then(|chosen| {
                Some(Pending {
                    node: place(&chosen.node)?,
                    reached: chosen.reached.map(Position),
                    lossy: chosen.lossy,
                })
            }),
            pinned: self.pinned.as_ref().and_then(place),
            drained: upstream.nodes.iter().map(|n| self.drained.contains(&n.name)).collect(),
            superseded: self.superseded.map(Epoch),
        }
    }

    /// Whether it is from before the nodes had data of their own, so that it says nothing of who holds what.
    pub(super) fn is_of_others(&self, upstream: &Upstream) -> bool {
        let alone = [Replication::Primary, Replication::Mirrored];
        let was_alone = |was: &str| alone.iter().any(|one| one.word() == was);
        alone.contains(&upstream.replication) && self.replication.as_deref().is_some_and(|was| !was_alone(was))
    }

    /// Whether a node is one of those there were.
    fn knows(&self, node: &Node) -> bool {
        let moved = self.urls.get(&node.name).is_some_and(|url| *url != node.url);
        self.nodes.contains(&node.name) && !moved
    }

    /// A node that is new holds nothing yet where the proxy copies; elsewhere it sees to that itself.
    fn holds(&self, upstream: &Upstream, node: &Node) -> bool {
        match self.knows(node) {
            true => self.in_sync.contains(&node.name),
            false => match upstream.replication {
                Replication::Shared | Replication::MultiPrimary => true,
                // R36: one that took the name of another.
                Replication::Primary => !self.nodes.contains(&node.name),
                Replication::Mirrored => false,
            },
        }
    }

    /// The nodes there are now and were not.
    pub(super) fn strangers<'a>(&'a self, upstream: &'a Upstream) -> impl Iterator<Item = &'a str> {
        let new = upstream.nodes.iter().filter(|node| !self.knows(node));
        new.map(|node| node.name.as_str())
    }
}
