//! The record of a tag (R12a): the same gate, whose entries belong to many resources. Fills register no token in it, since the tags of
//! an answer are not known before its head; what a token remembers of the instant it was registered at ([`Since`]) stands in.
//!
//! Invariant: an entry listed under a tag was fetched by a fill that began after the last kill of the tag and while it was settled.

use super::{Entry, Gate};
use crate::core::reason::NotStored;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;

/// What a fill knows about a tag of its answer, whatever the tag is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// When its token was registered, before its request was sent.
    pub registered: MonoTime,
    /// Whether the tag was killed since then.
    pub killed: bool,
}

impl<E: Entry + Clone> Gate<E> {
    /// Lists an entry under the tag: one step of many (R12a), before the one that puts it in service ([`Gate::publish`]). A record that is
    /// busy, that was unsettled when the fill began, or that was killed since, refuses.
    ///
    /// # Errors
    /// Why it refuses. The entry must then be revoked, and leave the records it was listed in before.
    pub fn tag(&mut self, since: Since, entry: &E) -> Result<(), NotStored> {
        // Unsettled as of when the fill began, and not only now: it may have read before an abandoned write was applied.
        let busy = self.writers > 0 || !self.is_settled(since.registered);
        if (busy || since.killed) && Rule::R12a.holds() {
            return Err(NotStored::TokenDead); // R12a
        }
        self.entries.insert(entry.clone());
        Ok(())
    }

    /// An entry leaves: it was unlisted elsewhere, or never came into service.
    pub fn untag(&mut self, entry: &E) {
        self.entries.remove(entry.digest(), entry.id());
    }
}
