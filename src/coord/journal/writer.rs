//! The one that writes. It blocks while the disk does, so it runs where nobody else is kept waiting.

use super::file::{self, OpenError};
use super::state::{Record, State};
use super::{Inbox, Journal, Kept, NotDurable, Queue, over};
use crate::world::{Disk, Log};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a lazy record may wait for one that somebody waits for.
const LAZY: Duration = Duration::from_secs(1);

/// How much is appended at least before the file is written anew.
const GROWTH: usize = 1024 * 1024;

/// The journal's only writer. Run it, or everybody waits; dropped, everybody is refused.
pub struct Writer {
    journal: Arc<Journal>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: State,
    /// None after a failure: what is in the file is unknown until it is replaced.
    log: Option<Box<dyn Log>>,
    /// Bytes of the file when it was last written anew, and appended since.
    begun: usize,
    appended: usize,
    growth: usize,
}

impl Writer {
    pub(super) fn new(
        journal: Arc<Journal>,
        disk: Arc<dyn Disk>,
        folder: &Path,
        state: State,
    ) -> Result<Self, OpenError> {
        let path = file::path(folder);
        let mut writer = Self {
            journal,
            disk,
            path: path.clone(),
            state,
            log: None,
            begun: 0,
            appended: 0,
            growth: GROWTH,
        };
        writer.begin().map_err(|source| OpenError::Io { path, source })?;
        Ok(writer)
    }

    /// Writes until `stop`, then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let journal = Arc::clone(&self.journal);
        let Kept::File(queue) = &journal.kept else { return };
        loop {
            let stopped = stop.run_until_cancelled(queue.something()).await.is_none();
            self.turn();
            if stopped {
                return;
            }
        }
    }

    /// Makes durable what waits, and says so.
    pub(super) fn turn(&mut self) {
        let journal = Arc::clone(&self.journal);
        let Kept::File(queue) = &journal.kept else { return };
        let Inbox { records, waiting, .. } = queue.take();
        let mut changes = Vec::with_capacity(records.len());
        for record in records {
            if self.state.apply(record.clone()) {
                changes.push(record);
            }
        }
        let written = self.write(&changes);
        if let Err(error) = &written {
            tracing::error!(path = %self.path.display(), %error, "the journal cannot be written: mirrored writes are refused");
            self.log = None;
        }
        // Before anybody is told: who was told that a list is full must see it.
        *queue.overflown.lock() = self.state.overflown().collect();
        let answer = written.map_err(|error| NotDurable(error.to_string().into()));
        for waiter in waiting {
            let _left = waiter.send(answer.clone());
        }
        if self.log.is_some()
            && self.appended > self.growth.max(self.begun.saturating_mul(2))
            && let Err(error) = self.begin()
        {
            tracing::warn!(path = %self.path.display(), %error, "the journal cannot be written anew");
        }
    }

    fn write(&mut self, changes: &[Record]) -> io::Result<()> {
        let Some(log) = &mut self.log else {
            return self.begin();
        };
        if changes.is_empty() {
            return Ok(());
        }
        let line = file::batch(changes)?;
        log.append(line.as_bytes())?;
        log.sync()?;
        self.appended += line.len();
        Ok(())
    }

    /// Writes the file anew, with nothing in it but what counts now.
    fn begin(&mut self) -> io::Result<()> {
        self.log = None;
        let text = file::anew(&self.state)?;
        self.disk.replace(&self.path, &text)?;
        self.log = Some(self.disk.append_to(&self.path)?);
        (self.begun, self.appended) = (text.len(), 0);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn with_growth(mut self, growth: usize) -> Self {
        self.growth = growth;
        self
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Kept::File(queue) = &self.journal.kept {
            queue.close();
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Waits until there is something to write: as soon as somebody waits for it.
    async fn something(&self) {
        self.wake.notified().await;
        if self.inbox.lock().waiting.is_empty() {
            let _somebody_or_late = tokio::time::timeout(LAZY, self.urgent.notified()).await;
        }
    }

    fn take(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock())
    }

    fn close(&self) {
        let Inbox { waiting, .. } = {
            let mut inbox = self.inbox.lock();
            let closed = Some(over());
            std::mem::replace(
                &mut *inbox,
                Inbox {
                    closed,
                    ..Inbox::default()
                },
            )
        };
        for waiter in waiting {
            let _left = waiter.send(Err(over()));
        }
    }
}
