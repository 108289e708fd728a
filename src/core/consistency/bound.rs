//! By which instant an answer is known to have been current (R42), also when a node gave it that follows the primary at its own pace
//! (R43). Pure arithmetic over instants and positions; it measures nothing.
//!
//! A probe of the primary that was *sent* at `s` and reports position `p` shows that everything written before `s` lies at or below
//! `p`. A replica's answer at position `q >= p` therefore holds all of that: it was current at `s`, whatever the replica's lag.

use crate::core::failover::view::Epoch;
use crate::core::http::freshness;
use crate::core::rules::Rule;
use crate::core::time::{Age, MonoTime, Span};
use std::collections::VecDeque;

/// How many probes are kept. At one per second and a primary that is written to all the time this is more than eight minutes; an idle
/// primary needs one. An answer older than all of them is fetched at the primary.
pub const MAX_PROBES: usize = 512;

/// How far a node has replicated. Numbers of two epochs do not compare (R36).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// How far behind the primary the node that answered may have been.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Lag {
    /// Not at all: it is the primary, or all nodes are over one store.
    None,
    /// At most so far, by the owner's word (`max_lag`).
    Declared(Span),
    /// It holds everything written before this instant, by the positions.
    HoldsUpTo(MonoTime),
    /// Nobody can say.
    Unknown,
}

/// R42, R43: an instant at which an answer is known to have been current. `sent`: when the successful attempt was. None when there is
/// none that could be written down: such an answer is within no bound.
#[must_use]
pub fn valid_as_of(sent: MonoTime, age: Option<Age>, lag: Lag) -> Option<MonoTime> {
    let when_sent = freshness::valid_as_of(age, sent)?;
    if !Rule::R43.holds() {
        return Some(when_sent);
    }
    match lag {
        Lag::None => Some(when_sent),
        Lag::Declared(lag) => {
            let back = lag.as_millis().checked_mul(1000)?;
            when_sent.as_micros().checked_sub(back).map(MonoTime::from_micros)
        }
        Lag::HoldsUpTo(at) => Some(if at < when_sent { at } else { when_sent }),
        Lag::Unknown => None,
    }
}

/// R43: whether a replica's answer is known to be older than what is stored, and so tells nothing of it (R12b).
#[must_use]
pub fn trails(sent: MonoTime, age: Option<Age>, lag: Lag, stored: MonoTime) -> bool {
    lag != Lag::None && valid_as_of(sent, age, lag).is_some_and(|at| at < stored)
}

/// What the probes of a primary have shown, within one epoch.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    epoch: Epoch,
    /// When each was sent and what it reported; both rise. Of several that reported the same the last is kept.
    seen: VecDeque<(MonoTime, Position)>,
    /// The primary has reported less than before: its history is another one, and no position of this epoch means anything (R36).
    forked: bool,
}

impl Probes {
    /// A probe of the primary that was sent at `sent` has come back.
    pub fn note(&mut self, epoch: Epoch, sent: MonoTime, position: Position) {
        if epoch != self.epoch {
            *self = Self {
                epoch,
                ..Self::default()
            };
        }
        match self.seen.back_mut() {
            Some((_, last)) if position < *last => {
                self.forked = true;
                self.seen.clear();
            }
            Some((at, last)) if position == *last => *at = (*at).max(sent),
            Some((at, _)) if sent <= *at => {} // overtaken by a later one: it says nothing new
            Some(_) | None => self.seen.push_back((sent, position)),
        }
        if self.forked {
            self.seen.clear();
        }
        while self.seen.len() > MAX_PROBES {
            self.seen.pop_front();
        }
    }

    /// R43: how far a replica that answered at `position` is known to be behind: it holds everything written before the latest probe
    /// that reported no more.
    #[must_use]
    pub fn lag(&self, epoch: Epoch, position: Option<Position>) -> Lag {
        let Some(position) = position.filter(|_| epoch == self.epoch) else {
            return Lag::Unknown;
        };
        let after = self.seen.partition_point(|(_, reported)| *reported <= position);
        match after.checked_sub(1).and_then(|at| self.seen.get(at)) {
            Some((sent, _)) => Lag::HoldsUpTo(*sent),
            None => Lag::Unknown,
        }
    }

    /// Whether there is anything in this epoch to compare a position with.
    #[must_use]
    pub fn know(&self, epoch: Epoch) -> bool {
        epoch == self.epoch && !self.seen.is_empty()
    }

    /// The position reported last.
    #[must_use]
    pub fn last(&self) -> Option<Position> {
        self.seen.back().map(|(_, position)| *position)
    }
}

#[cfg(test)]
mod tests;
