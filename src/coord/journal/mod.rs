//! What must not be forgotten of mirrored writes (R33, R33b, R35): the intents that are open, and for each node that is out of the
//! in-sync set the resources it has missed. With a state directory it is a log with group commit: callers wait, their records are
//! written together, one fsync answers them all. Without one it is kept in memory, and dies with the process.
//!
//! It decides nothing: who may forget an intent, and when a node has caught up, its callers know.
//!
//! Invariant: what was answered `Ok` is recalled by every later start until its end was told. What was refused, and what was told lazily,
//! may be recalled or not.
//!
//! A node's list must be durable before the view drops the node (`miss`, then the owner), and empty before the view adds it (`emptied`,
//! then the owner): a crash in between then leaves more to be copied, never less. By the operator's word the view adds it first, and
//! then the list is dropped: the word counts when it is durable, and until then the list stands. A crash in between leaves a list of a node
//! that is in the set: it is dropped by the next process, or, if the node leaves before, is once more what it is given.

mod file;
mod state;
mod writer;

pub use file::OpenError;
pub use state::{Missed, Recalled};
pub use writer::Writer;

use crate::core::failover::mirror::target::Target;
use crate::world::Disk;
use parking_lot::Mutex;
use state::{Record, State};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, oneshot};

/// The most resources listed for one node (R33b). Beyond, the list is dropped and the node stays out until the operator says that it is
/// resynced: to copy so much one by one would take longer than whatever else brings it up to date.
pub const MAX_MISSED: usize = 100_000;

/// The most callers that may wait at once for their records to be durable. Beyond, they are refused at once.
const MAX_WAITING: usize = 16_384;

/// A write that is about to be sent to the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The upstream's name.
    pub upstream: String,
    /// What it is sent to.
    pub target: Target,
}

/// An open intent's number. None is given twice, not even by different processes, while it is open.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(u64);

/// Why something is not durable. It may turn out to be so after all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not durable: {0}")]
pub struct NotDurable(pub Arc<str>);

/// The log, as its callers see it.
pub struct Journal {
    next: AtomicU64,
    kept: Kept,
    recalled: OnceLock<Arc<Recalled>>,
}

enum Kept {
    Memory(Mutex<State>),
    File(Queue),
}

/// What waits for the writer.
#[derive(Default)]
struct Queue {
    inbox: Mutex<Inbox>,
    /// Something came.
    wake: Notify,
    /// Something came that somebody waits for.
    urgent: Notify,
    /// Lists that became too long.
    overflown: Mutex<BTreeSet<(String, String)>>,
}

#[derive(Default)]
struct Inbox {
    records: Vec<Record>,
    waiting: Vec<oneshot::Sender<Result<(), NotDurable>>>,
    /// There is no writer any more.
    closed: Option<NotDurable>,
}

impl Journal {
    /// A journal that forgets when the process ends.
    #[must_use]
    pub fn in_memory() -> Arc<Self> {
        Self::with(Kept::Memory(Mutex::default()))
    }

    /// A journal in a file, which [`Journal::open`] has to read. Until the writer that it gives runs, everybody waits.
    #[must_use]
    pub fn on_disk() -> Arc<Self> {
        Self::with(Kept::File(Queue::default()))
    }

    fn with(kept: Kept) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(1),
            kept,
            recalled: OnceLock::new(),
        })
    }

    /// Reads what earlier processes left in `folder`, and gives the writer to run; none in memory. Of `strangers`, as (upstream, node),
    /// nobody knows what they have missed. Blocks: for the start, and once.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is damaged in a place that was durable.
    pub fn open(
        self: &Arc<Self>,
        disk: &Arc<dyn Disk>,
        folder: &Path,
        strangers: &[(String, String)],
    ) -> Result<Option<Writer>, OpenError> {
        let Kept::File(queue) = &self.kept else {
            return Ok(None);
        };
        let mut state = file::read(disk.as_ref(), folder)?;
        for (upstream, node) in strangers.iter().cloned() {
            state.apply(Record::Overflown { upstream, node });
        }
        self.next.store(state.next_id(), Ordering::Relaxed);
        queue.overflown.lock().extend(state.overflown());
        let _first = self.recalled.set(Arc::new(state.recalled()));
        Writer::new(Arc::clone(self), Arc::clone(disk), folder, state).map(Some)
    }

    /// What was open and missed when this process started.
    #[must_use]
    pub fn recalled(&self) -> Arc<Recalled> {
        self.recalled.get().cloned().unwrap_or_default()
    }

    /// Notes that a write is about to be sent. Dropped before it returns, the intent ends.
    ///
    /// # Errors
    /// When it cannot be made durable: then nothing may be sent.
    pub async fn intend(&self, intent: Intent) -> Result<IntentId, NotDurable> {
        let id = IntentId(self.next.fetch_add(1, Ordering::Relaxed));
        let mut unreturned = Unreturned {
            journal: self,
            id: Some(id),
        };
        self.durably(Record::Intent {
            id: id.0,
            upstream: intent.upstream,
            target: intent.target.into(),
        })
        .await?;
        unreturned.id = None;
        Ok(id)
    }

    /// Forgets an intent: its write was acked or refused, or a comparison after it has settled has succeeded (R35). Lazily durable: a
    /// crash may bring it back.
    pub fn end(&self, id: IntentId) {
        self.lazily(Record::End { id: id.0 });
    }

    /// Lists a resource that a node has missed (R33b). When the list is full the whole list becomes [`Missed::overflown`].
    ///
    /// # Errors
    /// When that cannot be made durable.
    pub async fn miss(&self, upstream: &str, node: &str, target: &Target) -> Result<(), NotDurable> {
        self.durably(Record::Missed {
            upstream: upstream.to_owned(),
            node: node.to_owned(),
            target: target.clone().into(),
        })
        .await
    }

    /// Nobody knows what a node has missed: only the operator brings it back.
    ///
    /// # Errors
    /// When that cannot be made durable.
    pub async fn lose(&self, upstream: &str, node: &str) -> Result<(), NotDurable> {
        self.durably(Record::Overflown {
            upstream: upstream.to_owned(),
            node: node.to_owned(),
        })
        .await
    }

    /// Unlists a resource that the node has now. Lazily durable.
    pub fn caught_up(&self, upstream: &str, node: &str, target: &Target) {
        self.lazily(Record::CaughtUp {
            upstream: upstream.to_owned(),
            node: node.to_owned(),
            target: target.clone().into(),
        });
    }

    /// Drops a node's whole list: it has caught up with all of it, or the operator says that it holds everything.
    ///
    /// # Errors
    /// When that cannot be made durable: the view must not add the node.
    pub async fn emptied(&self, upstream: &str, node: &str) -> Result<(), NotDurable> {
        self.durably(Record::Emptied {
            upstream: upstream.to_owned(),
            node: node.to_owned(),
        })
        .await
    }

    /// Whether a node has missed more than is listed: only the operator brings it back.
    #[must_use]
    pub fn is_overflown(&self, upstream: &str, node: &str) -> bool {
        match &self.kept {
            Kept::Memory(state) => state.lock().is_overflown(upstream, node),
            Kept::File(queue) => queue.overflown.lock().contains(&(upstream.to_owned(), node.to_owned())),
        }
    }

    async fn durably(&self, record: Record) -> Result<(), NotDurable> {
        let queue = match &self.kept {
            Kept::Memory(state) => {
                state.lock().apply(record);
                return Ok(());
            }
            Kept::File(queue) => queue,
        };
        let answer = {
            let mut inbox = queue.inbox.lock();
            if let Some(why) = &inbox.closed {
                return Err(why.clone());
            }
            if inbox.waiting.len() >= MAX_WAITING {
                return Err(NotDurable("too many wait for the disk".into()));
            }
            let (tell, answer) = oneshot::channel();
            inbox.records.push(record);
            inbox.waiting.push(tell);
            answer
        };
        queue.wake.notify_one();
        queue.urgent.notify_one();
        answer.await.unwrap_or_else(|_| Err(over()))
    }

    fn lazily(&self, record: Record) {
        match &self.kept {
            Kept::Memory(state) => {
                state.lock().apply(record);
            }
            Kept::File(queue) => {
                // Bounded by what is open: everything ends once.
                let mut inbox = queue.inbox.lock();
                if inbox.closed.is_none() {
                    inbox.records.push(record);
                    drop(inbox);
                    queue.wake.notify_one();
                }
            }
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

/// Ends an intent that its caller has never got.
struct Unreturned<'a> {
    journal: &'a Journal,
    id: Option<IntentId>,
}

impl Drop for Unreturned<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.journal.end(id);
        }
    }
}

fn over() -> NotDurable {
    NotDurable("the process is leaving".into())
}

#[cfg(test)]
mod tests;
