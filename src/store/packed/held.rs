//! A ready map that a thread answers with again and again, and the values its places were filled in with. Most of what changes from hit to
//! hit changes once a second, or once a millisecond: a busy key's values are made once in that time and copied else.
//!
//! Invariant: a value that is kept was made for the same number as the one it is given out for.

use super::GAINED;
use http::{HeaderMap, HeaderValue};

/// What the places of a ready map are filled in with, in their order.
pub trait Gained {
    /// For each place what its value is made of, so that of one entry equal numbers make equal values; none: it is made for every answer.
    fn numbers(&self) -> [Option<u128>; GAINED.len()];

    /// The value for a place; none: what is there stays.
    fn value(&self, at: usize) -> Option<HeaderValue>;
}

pub(super) struct Held {
    /// Of what it is ready.
    pub(super) number: u64,
    ready: Option<HeaderMap>,
    /// What the values in the map were made of.
    filled: [Option<u128>; GAINED.len()],
    /// What was asked for last: a value is kept when it is asked for twice in a row.
    asked: [Option<u128>; GAINED.len()],
}

impl Held {
    pub(super) fn new(number: u64, ready: Option<HeaderMap>) -> Self {
        Self {
            number,
            ready,
            filled: [None; GAINED.len()],
            asked: [None; GAINED.len()],
        }
    }

    /// A copy, filled in.
    pub(super) fn filled(&mut self, gained: &impl Gained) -> Option<HeaderMap> {
        let (numbers, ready) = (gained.numbers(), self.ready.as_mut()?);
        let mut late = [None; GAINED.len()];
        if self.filled != numbers || numbers.contains(&None) {
            let mut places = ready.values_mut();
            let known = self.filled.iter_mut().zip(&mut self.asked);
            for (at, ((number, (filled, asked)), late)) in numbers.into_iter().zip(known).zip(&mut late).enumerate() {
                let place = places.next();
                if number.is_some() && *filled == number {
                    continue;
                }
                if number.is_some() && *asked == number {
                    put_in(place, gained.value(at));
                    *filled = number;
                } else {
                    *asked = number;
                    *late = Some(at);
                }
            }
        }
        let mut ready = ready.clone();
        if late.iter().any(Option::is_some) {
            for (place, late) in ready.values_mut().zip(late) {
                if let Some(at) = late {
                    put_in(Some(place), gained.value(at));
                }
            }
        }
        Some(ready)
    }
}

/// Where a map has no such place, or nothing is to be in it, nothing happens.
pub(super) fn put_in(place: Option<&mut HeaderValue>, value: Option<HeaderValue>) {
    if let (Some(place), Some(value)) = (place, value) {
        *place = value;
    }
}
