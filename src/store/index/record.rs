//! A record as the index keeps it: most know nothing but one entry, and are that. Everything is decided by the gate, which such a
//! record becomes for a step.
//!
//! Invariant: what is one entry here and the gate made of it answer alike.

use super::super::EntryRef;
use crate::core::consistency::gate::{Alone, Gate, TokenId, Unsettled};
use crate::core::time::MonoTime;

#[derive(Debug)]
pub(super) enum Record {
    /// One entry in service; no write is pending or unsettled, and no fill in flight.
    One(EntryRef),
    /// Anything else.
    Gate(Box<Gate<EntryRef>>),
}

impl Default for Record {
    fn default() -> Self {
        Self::Gate(Box::default())
    }
}

impl Record {
    /// One step of the gate.
    pub(super) fn step<T>(&mut self, step: impl FnOnce(&mut Gate<EntryRef>) -> T) -> T {
        match self {
            Self::One(entry) => {
                let mut gate = Gate::of(entry.clone());
                let came = step(&mut gate);
                if gate.sole() != Some(entry) {
                    *self = Self::Gate(Box::new(gate));
                    self.fold();
                }
                came
            }
            Self::Gate(gate) => {
                let came = step(gate);
                self.fold();
                came
            }
        }
    }

    fn fold(&mut self) {
        if let Self::Gate(gate) = self
            && let Some(entry) = gate.sole()
        {
            *self = Self::One(entry.clone());
        }
    }

    /// The entries under one key digest.
    #[inline]
    pub(super) fn under(&self, digest: u128, seen: impl FnMut(&EntryRef)) {
        match self {
            Self::One(entry) => Some(entry)
                .filter(|entry| entry.key_digest() == digest)
                .into_iter()
                .for_each(seen),
            Self::Gate(gate) => gate.entries().under(digest).for_each(seen),
        }
    }

    /// All of them.
    pub(super) fn each(&self, mut seen: impl FnMut(&EntryRef)) {
        match self {
            Self::One(entry) => seen(entry),
            Self::Gate(gate) => gate.entries().iter().for_each(seen),
        }
    }

    pub(super) fn is_pinned(&self, now: MonoTime) -> bool {
        self.gate().is_none_or(|gate| gate.is_pinned(now)) // R4
    }

    pub(super) fn is_disturbed(&self, now: MonoTime) -> bool {
        self.gate().is_some_and(|gate| gate.is_disturbed(now))
    }

    pub(super) fn is_alive(&self, token: TokenId) -> bool {
        self.gate().is_some_and(|gate| gate.is_alive(token))
    }

    pub(super) fn unsettled(&self, now: MonoTime) -> Option<Unsettled> {
        self.gate()?.unsettled(now)
    }

    pub(super) fn is_still_alone(&self, now: MonoTime, write: Alone) -> bool {
        match self {
            Self::One(entry) => Gate::of(entry.clone()).is_still_alone(now, write),
            Self::Gate(gate) => gate.is_still_alone(now, write),
        }
    }

    fn gate(&self) -> Option<&Gate<EntryRef>> {
        match self {
            Self::One(_) => None,
            Self::Gate(gate) => Some(gate),
        }
    }
}
