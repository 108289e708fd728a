//! Write-through (R9): a write that was the only one on its resource from begin to end may leave behind what it made of it. It reads
//! the resource again under a token of its own between the node's definite answer and its end, and the end lists what was read.
//!
//! Invariant: an entry listed by an end was read after the write's definite answer, and no other write was pending, began, ended or
//! was unsettled from the write's begin to the listing.

use super::{Entry, Gate, Published, TokenId};
use crate::core::rules::Rule;
use crate::core::time::MonoTime;

/// That a write was the only one on a settled resource when it began, and which one it was.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Alone(u64);

#[cfg(test)]
impl Alone {
    /// For a test that breaks the rule.
    pub(crate) const fn test(begins: u64) -> Self {
        Self(begins)
    }

    /// For a state's key.
    pub(crate) const fn begins(self) -> u64 {
        self.0
    }
}

/// What an end with entries came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left<E> {
    /// No longer listed.
    pub gone: Vec<E>,
    /// Listed; some of them may be gone again.
    pub listed: Vec<E>,
}

impl<E: Entry + Clone> Gate<E> {
    /// Asked in the step in which a write begins: whether it is the only one, on a settled resource (R9).
    #[must_use]
    pub fn alone(&self, now: MonoTime) -> Option<Alone> {
        let alone = self.writers == 1 && self.is_settled(now);
        (alone || !Rule::R9.holds()).then_some(Alone(self.begins))
    }

    /// Whether it still is, and no other has begun since.
    #[must_use]
    pub fn is_still_alone(&self, now: MonoTime, write: Alone) -> bool {
        self.writers == 1 && self.is_settled(now) && self.begins == write.0 || !Rule::R9.holds()
    }

    /// The write's own fill begins, after its definite answer: what it brings is proven, though the write is pending. None while
    /// anybody else may write.
    #[must_use]
    pub fn register_own(&mut self, now: MonoTime, token: TokenId, write: Alone) -> bool {
        let alone = self.is_still_alone(now, write);
        if alone {
            self.tokens.push(token);
        }
        alone
    }

    /// The write ends with a definite answer, and lists what its own fill brought: in this order, and in one step, all *other* tokens
    /// are killed, the entries are listed if its own is alive, and the write is counted out (R9).
    pub fn end_with(&mut self, mine: TokenId, entries: Vec<E>) -> Left<E> {
        self.tokens.retain(|t| *t == mine);
        let mut left = Left {
            gone: self.revoke_all(), // what others have read meanwhile, unproven
            listed: Vec::new(),
        };
        let lists = self.is_alive(mine) || !Rule::R9.holds();
        for entry in entries {
            if !lists {
                entry.revoke(); // records of its tags may know it
                continue;
            }
            self.tokens.push(mine); // listing takes it
            if let Published::Listed { replaced } = self.publish(mine, entry.clone()) {
                left.gone.extend(replaced); // of two that are one variant, the older
                left.listed.push(entry);
            }
        }
        self.kill();
        self.count_out();
        left
    }
}
