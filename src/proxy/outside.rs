//! Writes that go past us, told by their writers (R41): `begin` before one, `commit` when it has been applied. In between it is a write at
//! the gate as any other. One that is not committed in time ends unknown; so do all that are open when the process ends, and the next one
//! knows none of them: it starts without the marker of a clean stop, and refuses their ids.
//!
//! Invariant: an id opens one write once. It is drawn at random, so that no id of another process means one of ours.

use super::begun::Ticket;
use super::purge::split;
use super::{Shared, declared};
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};
use crate::store::{WriteEnd, WriteGuard};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many may be open at once. Each pins the records it names.
const MAX_OPEN: usize = 1024;

/// How long one may be open: what it names is not served from memory on exclusive routes meanwhile.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a writer outside is about to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// An absolute URL, or a path on every host; with a query only that query where the upstream tells queries apart.
    Url(String),
    /// Whatever carries the tag.
    Tag(String),
}

/// Why a write outside was not begun or not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// Neither an absolute http(s) URL nor a path.
    #[error("`{0}` is neither an absolute URL (http://host/path) nor a path (/path)")]
    NotAUrl(String),
    /// Nothing of that name can be stored.
    #[error("no route stores anything of `{0}`")]
    Nothing(String),
    /// No time, or too much of it.
    #[error("ttl is above zero and at most {} s", LONGEST.as_secs())]
    Ttl,
    /// There are enough.
    #[error("{MAX_OPEN} writes are open already")]
    TooMany,
    /// A reload has come in between: the running configuration says what is named.
    #[error("the configuration has just been reloaded: ask again")]
    Superseded,
    /// Nothing is open under the id.
    #[error(
        "nothing is open under this id: it has expired and counts as unknown, was committed already, or is of another process"
    )]
    NotOpen,
}

/// A write outside that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOutside {
    /// What it changes, in the words of who began it; a tag as `tag:NAME`.
    pub what: String,
    /// How long until it counts as unknown.
    pub remaining: Span,
}

#[derive(Debug)]
struct Open {
    what: String,
    expires: MonoTime,
    guard: WriteGuard,
    _ticket: Arc<Ticket>,
}

/// Those that are open, by id.
#[derive(Debug, Default)]
pub(super) struct Opened(Mutex<BTreeMap<u64, Open>>);

impl Shared {
    /// A writer outside is about to write. Returns the id to commit: from here on no fill in flight of what it names is stored (R1), and
    /// nothing that is read is proven (R2).
    ///
    /// # Errors
    /// When nothing of the name could be stored, the time makes no sense, or too many are open.
    pub fn begin_outside(&self, what: &Outside, ttl: Duration) -> Result<String, OutsideError> {
        if ttl.is_zero() || ttl > LONGEST {
            return Err(OutsideError::Ttl);
        }
        let (records, name) = match what {
            Outside::Tag(name) => (declared::tag(self, name), format!("tag:{name}")),
            Outside::Url(text) => {
                let (host, path, query) = split(text).ok_or_else(|| OutsideError::NotAUrl(text.clone()))?;
                (
                    declared::url(self, host.as_deref(), &path, query.as_deref()),
                    text.clone(),
                )
            }
        };
        if records.is_empty() {
            return Err(OutsideError::Nothing(name));
        }
        self.expire_outside(); // those hold no place
        let ticket = self.begun.enter().ok_or(OutsideError::Superseded)?; // R31
        let mut open = self.outside.0.lock();
        if open.len() >= MAX_OPEN {
            return Err(OutsideError::TooMany);
        }
        let id = self.world.entropy.next_u64();
        let begun = Open {
            what: name,
            expires: self.world.clock.mono().after(Span::from(ttl)),
            guard: self.store.begin_write(records),
            _ticket: ticket,
        };
        // Two equal ids in 2^64: the older one ends unknown.
        drop(open.insert(id, begun));
        Ok(format!("{id:016x}"))
    }

    /// The write of that id has been applied: what it names goes out of service before this returns (R10).
    ///
    /// # Errors
    /// When nothing is open under the id.
    pub fn commit_outside(&self, id: &str) -> Result<(), OutsideError> {
        self.expire_outside();
        let id = u64::from_str_radix(id, 16).map_err(|_| OutsideError::NotOpen)?;
        let open = self.outside.0.lock().remove(&id).ok_or(OutsideError::NotOpen)?;
        drop(open.guard.end(WriteEnd::Applied));
        Ok(())
    }

    /// Ends those whose time is over: whether they were applied, nobody has said (R41).
    pub fn expire_outside(&self) {
        let now = self.world.clock.mono();
        let mut open = self.outside.0.lock();
        let over: Vec<u64> = open
            .iter()
            .filter(|(_, o)| o.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        let over: Vec<Open> = over.iter().filter_map(|id| open.remove(id)).collect();
        drop(open);
        for Open { what, guard, .. } in over {
            tracing::warn!(
                what,
                "a write outside was begun and not committed in time: it counts as unknown"
            );
            let end = if Rule::R41.holds() {
                WriteEnd::UnknownClosed(now) // R41
            } else {
                WriteEnd::NotSent
            };
            drop(guard.end(end));
        }
    }

    /// Those that are open.
    #[must_use]
    pub fn outside(&self) -> Vec<OpenOutside> {
        let now = self.world.clock.mono();
        let open = self.outside.0.lock();
        let open = open.values().map(|open| OpenOutside {
            what: open.what.clone(),
            remaining: open.expires.since(now),
        });
        open.collect()
    }
}
