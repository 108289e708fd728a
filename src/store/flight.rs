//! Fetches under way that several requests share. Knows when one may be joined (R8); what a fetch does is the business of whoever
//! leads it. Under one key there is at most one flight forming (not yet sent, open to everybody) and one sent that is remembered.
//!
//! A flight is closed under the table's lock *before* its request is handed to a connection, and never opens again. It ends when its
//! outcome is told; a leader that is dropped tells its followers that nobody leads any more.

mod alone;
mod shown;

use super::index::{DigestHasher, TokenWatch};
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};
use alone::Alone;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use shown::Shown;
use std::any::Any;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What followers learn. Any type of the leader's; all followers get the same one.
pub type Outcome = Arc<dyn Any + Send + Sync>;

/// What a flight is at.
#[derive(Clone)]
enum Stage {
    /// Its request has not left.
    Forming,
    /// Its request has been handed to a connection.
    Sent,
    /// Its head is in: what it brings is known to followers.
    Told(Outcome),
    /// Its leader is gone without a word.
    Lost,
}

/// A fetch under way.
struct Flight {
    number: u64,
    stage: Shown<Stage>,
    sent: AtomicU64,
    token: TokenWatch,
    followers: AtomicUsize,
}

#[derive(Default)]
struct Pair {
    forming: Option<Arc<Flight>>,
    sent: Option<Arc<Flight>>,
}

/// All fetches under way, by key digest.
#[derive(Default)]
pub struct Flights {
    table: DashMap<u128, Pair, BuildHasherDefault<DigestHasher>>,
    alone: Alone,
    too_large: Alone,
    numbers: AtomicU64,
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights")
            .field("keys", &self.table.len())
            .finish_non_exhaustive()
    }
}

/// How a request wants to share.
#[derive(Copy, Clone, Debug)]
pub struct Wish {
    /// The read must be validated after it arrived, or the resource is unsettled: only an unsent flight will do (R8).
    pub unsent_only: bool,
    /// A sent flight may be joined for so long (R42: `max_staleness`); none: without a bound.
    pub within: Option<Span>,
    /// How many may follow one flight.
    pub max_waiters: usize,
}

/// What to do about a fetch.
#[derive(Debug)]
pub enum Boarding {
    /// Follow this one.
    Follow(Follower),
    /// Lead a new one. With `after`, wait for that one's head first (at most a second): one in flight, one forming (R8).
    Lead(Leader, Option<Follower>),
    /// Fetch alone: there are enough waiters.
    Alone,
}

impl Flights {
    /// Joins a flight under the key, or starts one.
    pub fn board(
        self: &Arc<Self>,
        now: MonoTime,
        key: u128,
        wish: Wish,
        token: impl FnOnce() -> TokenWatch,
    ) -> Boarding {
        if self.alone.holds(now, key) {
            return Boarding::Alone;
        }
        let mut pair = self.table.entry(key).or_default();
        if let Some(forming) = &pair.forming {
            return follow(forming, wish.max_waiters).map_or(Boarding::Alone, Boarding::Follow);
        }
        let mut after = None;
        if let Some(sent) = &pair.sent {
            let known = sent.stage.look(|s| matches!(s, Stage::Told(_) | Stage::Lost));
            let since = now.since(MonoTime::from_micros(sent.sent.load(Ordering::Acquire)));
            let young = wish.within.is_none_or(|bound| since <= bound);
            if !Rule::R8.holds() {
                return follow(sent, wish.max_waiters).map_or(Boarding::Alone, Boarding::Follow);
            }
            if wish.unsent_only {
                if !known {
                    after = follow(sent, usize::MAX);
                }
            } else if young && sent.token.is_provable_and_alive() {
                return follow(sent, wish.max_waiters).map_or(Boarding::Alone, Boarding::Follow);
            }
        }
        let flight = Arc::new(Flight {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            stage: Shown::new(Stage::Forming),
            sent: AtomicU64::new(0),
            token: token(),
            followers: AtomicUsize::new(0),
        });
        pair.forming = Some(Arc::clone(&flight));
        drop(pair);
        Boarding::Lead(
            Leader {
                flights: Arc::clone(self),
                key,
                flight,
            },
            after,
        )
    }

    /// What a key names is too large to keep: for a while a request for a range of it need not fetch the whole to find that out.
    pub fn remember_too_large(&self, now: MonoTime, key: u128) {
        self.too_large.remember(now, key);
    }

    /// Whether it was a while ago.
    #[must_use]
    pub fn is_too_large(&self, now: MonoTime, key: u128) -> bool {
        self.too_large.holds(now, key)
    }

    /// How many keys have a fetch under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn forget(&self, key: u128, number: u64) {
        if let Slot::Occupied(mut slot) = self.table.entry(key) {
            let pair = slot.get_mut();
            pair.forming.take_if(|f| f.number == number);
            pair.sent.take_if(|f| f.number == number);
            if pair.forming.is_none() && pair.sent.is_none() {
                slot.remove();
            }
        }
    }
}

fn follow(flight: &Arc<Flight>, max: usize) -> Option<Follower> {
    let before = flight.followers.fetch_add(1, Ordering::Relaxed);
    let follower = Follower {
        flight: Arc::clone(flight),
    };
    (before < max).then_some(follower)
}

/// The one that fetches. Dropped without a word, its followers are told that it is lost.
pub struct Leader {
    flights: Arc<Flights>,
    key: u128,
    flight: Arc<Flight>,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader")
            .field("flight", &self.flight.number)
            .finish_non_exhaustive()
    }
}

impl Leader {
    /// Closes the flight to reads that must be newer than its request: called before the first byte goes, under the lock (R8).
    pub fn close(&self, now: MonoTime) {
        close(&self.flights, self.key, &self.flight, now);
    }

    /// The same, to be handed to whoever sends.
    pub fn closer(&self) -> impl FnOnce(MonoTime) + Send + 'static {
        let (flights, key, flight) = (Arc::clone(&self.flights), self.key, Arc::clone(&self.flight));
        move |now| close(&flights, key, &flight, now)
    }

    /// Tells all followers. The flight stays open to those who may join a sent one until the leader is dropped.
    pub fn tell(&self, outcome: Outcome) {
        self.flight.stage.set(Stage::Told(outcome));
    }

    /// The answer is for its requester alone: for a while, later requests under the key fetch on their own and do not queue.
    pub fn remember_alone(&self, now: MonoTime) {
        self.flights.alone.remember(now, self.key);
    }

    /// Whether anybody follows.
    #[must_use]
    pub fn has_followers(&self) -> bool {
        self.flight.followers.load(Ordering::Relaxed) > 0
    }
}

fn close(flights: &Flights, key: u128, flight: &Arc<Flight>, now: MonoTime) {
    if let Slot::Occupied(mut slot) = flights.table.entry(key) {
        let pair = slot.get_mut();
        if pair.forming.take_if(|f| f.number == flight.number).is_some() {
            flight.sent.store(now.as_micros(), Ordering::Release);
            pair.sent = Some(Arc::clone(flight));
        }
    }
    flight.stage.set_if(|s| matches!(s, Stage::Forming), Stage::Sent);
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.flights.forget(self.key, self.flight.number);
        let untold = |stage: &Stage| matches!(stage, Stage::Forming | Stage::Sent);
        self.flight.stage.set_if(untold, Stage::Lost);
    }
}

/// One that waits.
pub struct Follower {
    flight: Arc<Flight>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("flight", &self.flight.number)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// What the leader told; none when it is gone without a word. Cancel-safe: dropped, the follower is simply gone.
    pub async fn outcome(&mut self) -> Option<Outcome> {
        let over = |stage: &Stage| match stage {
            Stage::Told(outcome) => Some(Some(Arc::clone(outcome))),
            Stage::Lost => Some(None),
            Stage::Forming | Stage::Sent => None,
        };
        self.flight.stage.until(over).await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.flight.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
