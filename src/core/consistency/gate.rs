//! The gate of one resource (CONSISTENCY.md section 2): which fills may still be stored, which entries are in service, how many
//! writes are pending and until when an abandoned one may still be applied. Every level keeps it.
//!
//! Each method is one locked step of the caller's; no step waits for another. The invariant: an entry that is listed and not revoked
//! was fetched by a fill no write or purge has overtaken, so a reader that finds it may serve it by its own flags alone (R23).

use super::listed::{Entries, Entry};
use super::write::Ended;
use crate::core::reason::NotStored;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use smallvec::SmallVec;

/// How many variants a key may have in service: a hit looks at each of them, and `Vary: User-Agent` makes one for every browser build.
/// Languages times codings stay well below.
pub const MAX_VARIANTS: usize = 64;

/// The right of one fill to be stored. Numbers are never used twice in a process, so a record that was dropped and made
/// again cannot mistake an old token for its own (R4).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(pub u64);

/// One resource's record. It lives while anything pins it ([`Gate::is_pinned`]).
#[derive(Clone, Debug)]
pub struct Gate<E> {
    /// Writes begun and not ended; counted, not flagged (R3).
    writers: u32,
    /// Writes begun in this record's life, which no pending write outlives (R4, R9).
    begins: u64,
    /// Writes that ended unknown while their connection was still open: the settling time has not begun.
    open: u32,
    /// An abandoned write may be applied until then (R11, R19).
    unsettled_until: MonoTime,
    /// Fills that may still be stored.
    tokens: SmallVec<[TokenId; 2]>,
    /// What is stored.
    entries: Entries<E>,
}

impl<E> Default for Gate<E> {
    fn default() -> Self {
        Self {
            writers: 0,
            begins: 0,
            open: 0,
            unsettled_until: MonoTime::default(),
            tokens: SmallVec::new(),
            entries: Entries::default(),
        }
    }
}

impl<E: Entry + Clone> Gate<E> {
    /// Whether no abandoned write can be applied any more. Pending writes are not counted here.
    #[must_use]
    pub fn is_settled(&self, now: MonoTime) -> bool {
        self.open == 0 && now >= self.unsettled_until
    }

    /// Whether a write is pending or unsettled: what is read now may be overwritten by something already sent.
    #[must_use]
    pub fn is_disturbed(&self, now: MonoTime) -> bool {
        self.writers > 0 || !self.is_settled(now)
    }

    /// Until when the resource is unsettled; none when it is settled. A connection still open counts as "not yet known".
    #[must_use]
    pub fn unsettled(&self, now: MonoTime) -> Option<Unsettled> {
        if self.open > 0 {
            Some(Unsettled::ConnectionOpen)
        } else if now < self.unsettled_until {
            Some(Unsettled::Until(self.unsettled_until))
        } else {
            None
        }
    }

    /// Whether the record must stay (R4): it has writers, an unsettled time, tokens or entries.
    #[must_use]
    pub fn is_pinned(&self, now: MonoTime) -> bool {
        if !Rule::R4.holds() {
            return !self.entries.is_empty();
        }
        self.is_disturbed(now) || !self.tokens.is_empty() || !self.entries.is_empty()
    }

    /// A record that knows nothing but an entry in service.
    #[must_use]
    pub fn of(entry: E) -> Self {
        let mut gate = Self::default();
        gate.entries.insert(entry);
        gate
    }

    /// Its entry, when that is all there is to know: [`Gate::of`] makes such a record of it again. How many writes have begun need not
    /// be known, as none is pending.
    #[must_use]
    pub fn sole(&self) -> Option<&E> {
        let quiet = self.writers == 0 && self.open == 0 && self.unsettled_until == MonoTime::default();
        let one = quiet && self.tokens.is_empty() && self.entries.len() == 1;
        one.then(|| self.entries.iter().next()).flatten()
    }

    /// What is stored.
    #[must_use]
    pub fn entries(&self) -> &Entries<E> {
        &self.entries
    }

    /// A fill begins. Returns whether what it brings could be proven: no write is pending and none is unsettled (R2), fixed here and now,
    /// on a route whose gear can prove at all.
    pub fn register(&mut self, now: MonoTime, token: TokenId, can_prove: bool) -> bool {
        self.tokens.push(token);
        can_prove && (!self.is_disturbed(now) || !Rule::R2.holds())
    }

    /// Whether no write or purge has overtaken the fill.
    #[must_use]
    pub fn is_alive(&self, token: TokenId) -> bool {
        self.tokens.contains(&token)
    }

    /// A fill ends without being stored.
    pub fn release(&mut self, token: TokenId) {
        self.tokens.retain(|t| *t != token);
    }

    /// A fill is complete: lists its entry if the token is alive, in the same step (R1). The older of two entries of one variant is
    /// revoked; when that is the new one, it is refused. Beyond [`MAX_VARIANTS`] under a key the oldest is replaced.
    pub fn publish(&mut self, token: TokenId, entry: E) -> Published<E> {
        if !self.is_alive(token) && Rule::R1.holds() {
            return Published::Refused(NotStored::TokenDead); // R1
        }
        if entry.is_revoked() {
            self.release(token);
            return Published::Refused(NotStored::TokenDead); // R12a: by a tag it is listed under already
        }
        self.release(token);
        if self
            .entries
            .under(entry.digest())
            .any(|old| old.same_variant(&entry) && entry.older_than(old))
        {
            entry.revoke();
            return Published::Refused(NotStored::Older);
        }
        let replaced = self.make_room(&entry);
        replaced.iter().for_each(E::revoke);
        self.entries.insert(entry);
        Published::Listed { replaced }
    }

    /// Takes out what `entry` replaces: the entry of the same variant or, when its key has as many variants as it may, the oldest.
    /// Looks at the entries of that key alone: a resource may have a hundred thousand others, and this runs under its lock.
    fn make_room(&mut self, entry: &E) -> Vec<E> {
        let mut others = 0;
        let mut oldest: Option<&E> = None;
        let mut leaving: SmallVec<[u64; 2]> = SmallVec::new();
        for old in self.entries.under(entry.digest()) {
            if old.same_variant(entry) {
                leaving.push(old.id());
                continue;
            }
            others += 1;
            if oldest.is_none_or(|o| old.older_than(o)) {
                oldest = Some(old);
            }
        }
        if others >= MAX_VARIANTS {
            leaving.extend(oldest.map(E::id));
        }
        leaving
            .iter()
            .filter_map(|id| self.entries.remove(entry.digest(), *id))
            .collect()
    }

    /// A 304 is a fill (R5): lists the entry made from it only if its token is alive *and* the very entry it was sent for is still listed.
    pub fn publish_validated(&mut self, token: TokenId, validated: &E, entry: E) -> Published<E> {
        if !Rule::R5.holds() {
            self.tokens.push(token);
            return self.publish(token, entry);
        }
        if !self.entries.contains(validated) || validated.is_revoked() {
            self.release(token);
            return Published::Refused(NotStored::TokenDead); // R5
        }
        self.publish(token, entry)
    }

    /// A write begins: no fill in flight may be stored (R1). Entries stay in service until the write ends, as nothing is acked yet.
    pub fn begin(&mut self) {
        self.writers = if Rule::R3.holds() { self.writers + 1 } else { 1 };
        self.begins += 1;
        self.kill();
    }

    /// The same where an exclusive gear serves proven entries without asking: they go at once, since one reader could see the new
    /// value at the origin while another is still served the old one. Returns the entries taken out of service.
    pub fn begin_exclusive(&mut self) -> Vec<E> {
        self.begin();
        self.revoke_all()
    }

    /// A write ends, before its final status line goes out (R10). One step: a reader sees either the pending write or the unsettled time.
    /// Returns the entries taken out of service.
    pub fn end(&mut self, ended: Ended) -> Vec<E> {
        self.end_but(ended, None)
    }

    /// The same for a write whose own answer is a fill (RFC 9110 s9.3.3): its token, registered when the write had begun, outlives this
    /// end and no other. Whatever began or ended in between has killed it, and whatever begins or ends before its body is whole will.
    pub fn end_keeping(&mut self, ended: Ended, mine: TokenId) -> Vec<E> {
        self.end_but(ended, Some(mine))
    }

    fn end_but(&mut self, ended: Ended, mine: Option<TokenId>) -> Vec<E> {
        match ended {
            Ended::Unknown { settled_at } => self.unsettled_until = self.unsettled_until.max(settled_at), // R11
            Ended::UnknownOpen => self.open += 1,
            Ended::Applied | Ended::Rejected | Ended::NotSent | Ended::Failed => {}
        }
        self.tokens.retain(|t| Some(*t) == mine); // R3: a fill that began during the write may have read the old value
        self.count_out();
        if ended.revokes() { self.revoke_all() } else { Vec::new() }
    }

    /// The connection of a write that ended as [`Ended::UnknownOpen`] has closed: from here its settling time runs.
    pub fn closed(&mut self, settled_at: MonoTime) {
        self.open = self.open.saturating_sub(1);
        self.unsettled_until = self.unsettled_until.max(settled_at);
    }

    /// The operator's word that nothing abandoned will be applied any more (R19).
    pub fn settle(&mut self) {
        self.unsettled_until = MonoTime::default();
    }

    /// Forgets an unsettled time that is over, so that steps which do not know the time can tell that nothing pins the record.
    pub fn forget_settled(&mut self, now: MonoTime) {
        if now >= self.unsettled_until {
            self.unsettled_until = MonoTime::default();
        }
    }

    /// Kills every token and takes every entry out of service: a purge, or an effect named by a write's answer (R12). Returns what was in service.
    pub fn drop_all(&mut self) -> Vec<E> {
        self.kill();
        self.revoke_all()
    }

    /// Kills every token, and takes out of service the entries the closure names.
    pub fn drop_where(&mut self, leaves: impl FnMut(&E) -> bool) -> Vec<E> {
        self.kill();
        let gone = self.entries.remove_where(leaves);
        gone.iter().for_each(E::revoke);
        gone
    }

    /// A soft purge: kills every token and marks entries, which stay in service. `mark` says whether it marked one. Returns how many.
    pub fn soften(&mut self, mut mark: impl FnMut(&E) -> bool) -> u64 {
        self.kill(); // a fill that began before would come back fresh
        self.entries.iter().map(|entry| u64::from(mark(entry))).sum()
    }

    /// An answer of the origin differs from what is stored (R12b): every variant goes, and every fill but the one that brought it.
    pub fn differs(&mut self, keep: Option<TokenId>) -> Vec<E> {
        self.tokens.retain(|t| Some(*t) == keep);
        self.revoke_all()
    }

    /// Eviction takes one entry out by its number (R4).
    pub fn evict(&mut self, digest: u128, id: u64) -> Option<E> {
        let gone = self.entries.remove(digest, id);
        gone.iter().for_each(E::revoke);
        gone
    }

    fn count_out(&mut self) {
        self.writers = if Rule::R3.holds() {
            self.writers.saturating_sub(1)
        } else {
            0
        };
    }

    fn kill(&mut self) {
        self.tokens.clear();
    }

    fn revoke_all(&mut self) -> Vec<E> {
        let gone = if Rule::R6.holds() {
            self.entries.take()
        } else {
            let first = self.entries.iter().next().map(E::id);
            self.entries.remove_where(|e| Some(e.id()) == first)
        };
        gone.iter().for_each(E::revoke); // R6: all variants, HEAD, ranges, negative entries
        gone
    }
}

/// What became of a fill's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published<E> {
    /// In service.
    Listed {
        /// Entries it took the place of, already revoked.
        replaced: Vec<E>,
    },
    /// Not stored.
    Refused(NotStored),
}

/// How long a resource stays unsettled.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// The abandoned write's connection is still open; the time has not begun to run.
    ConnectionOpen,
    /// Until this instant.
    Until(MonoTime),
}

mod tagged;
mod through;
pub use tagged::Since;
pub use through::{Alone, Left};

#[cfg(test)]
mod tests;
