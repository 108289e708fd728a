//! A write at the gate, as guards: what is begun ends on every path, and what ended with its connection open is told of the close.
//! Dropping either is an ordinary way out: a panic or a cancelled task must not look like an answer, nor leave a resource disturbed for good.

use super::through::Chance;
use super::{ResourceId, Store, Token};
use crate::core::time::MonoTime;
use std::sync::Arc;

/// How a write left its connection, for the settling time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// A definite 2xx or 3xx.
    Applied,
    /// A definite 4xx.
    Rejected,
    /// It never reached an application.
    NotSent,
    /// The node's own 5xx to the whole of it, and its connection is still open. Where strong routes can read the resource this is
    /// [`WriteEnd::UnknownOpen`]; elsewhere what is stored stays.
    Failed,
    /// Unknown, and its connection closed at this instant.
    UnknownClosed(MonoTime),
    /// Unknown, and its connection is still open; its [`OpenWrite`] says when it closes.
    UnknownOpen,
}

/// A write under way. Dropped without [`WriteGuard::end`], it ends as unknown, as of the instant of the drop.
#[must_use]
pub struct WriteGuard {
    store: Arc<Store>,
    resources: Vec<(ResourceId, String)>,
    /// To leave something behind (R9).
    pub(super) chance: Option<Chance>,
    ended: bool,
}

impl std::fmt::Debug for WriteGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteGuard")
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}

impl WriteGuard {
    pub(super) fn new(store: Arc<Store>, resources: Vec<(ResourceId, String)>) -> Self {
        Self {
            store,
            resources,
            chance: None,
            ended: false,
        }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// It has ended otherwise.
    pub(super) fn disarm(&mut self) {
        self.ended = true;
    }

    pub(super) fn resources(&self) -> &[(ResourceId, String)] {
        &self.resources
    }

    /// Ends the write, before its final status line goes out (R10). After [`WriteEnd::UnknownOpen`] and [`WriteEnd::Failed`], and only
    /// then, there is an [`OpenWrite`] to hold until its connection has closed.
    pub fn end(self, end: WriteEnd) -> Option<OpenWrite> {
        self.end_keeping(end, None)
    }

    /// The same where the write's answer is itself to be stored: `mine`, registered since the write began, is the one token that
    /// this end does not kill.
    pub fn end_keeping(mut self, end: WriteEnd, mine: Option<&Token>) -> Option<OpenWrite> {
        self.ended = true;
        self.store.end_write(&self.resources, end, mine);
        matches!(end, WriteEnd::UnknownOpen | WriteEnd::Failed).then(|| OpenWrite {
            store: Arc::clone(&self.store),
            resources: std::mem::take(&mut self.resources),
        })
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        if !self.ended {
            let at = self.store.now();
            self.store.end_write(&self.resources, WriteEnd::UnknownClosed(at), None);
        }
    }
}

/// A write that ended unknown while its connection is open. Hold it until the connection has closed and drop it then: the settling time
/// runs from the instant of the drop (R19).
#[must_use]
pub struct OpenWrite {
    store: Arc<Store>,
    resources: Vec<(ResourceId, String)>,
}

impl std::fmt::Debug for OpenWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenWrite")
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}

impl Drop for OpenWrite {
    fn drop(&mut self) {
        self.store.write_closed(&self.resources, self.store.now());
    }
}
