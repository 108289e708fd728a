//! The queue of one resource: who may go now, who waits for whom (R33, R34).
//!
//! A write waits for everything ahead of it, reads too: a read beside it could see what the other nodes do not hold yet. A read waits
//! only for writes and repairs ahead. A read that finds it has to compare becomes a repair in its own place, which then excludes
//! everything. Who has left the queue holds up nobody; leaving it is all a request that goes away has to do.

use std::collections::{BTreeMap, BTreeSet};

/// A place in the queue. Never given twice by one queue.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What a ticket is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// One of many at a time.
    Read,
    /// The only one at a time: a write, or a comparison that may repair.
    Alone,
}

/// One resource's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Turns {
    next: u64,
    line: BTreeMap<Ticket, Turn>,
    alone: BTreeSet<Ticket>,
}

impl Turns {
    /// Takes a place at the end.
    pub fn enter(&mut self, turn: Turn) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.line.insert(ticket, turn);
        if turn == Turn::Alone {
            self.alone.insert(ticket);
        }
        ticket
    }

    /// Whether it is this ticket's turn.
    #[must_use]
    pub fn is_up(&self, ticket: Ticket) -> bool {
        match self.line.get(&ticket) {
            None => false,
            Some(Turn::Read) => self.alone.first().is_none_or(|first| *first > ticket),
            Some(Turn::Alone) => self.line.first_key_value().is_some_and(|(first, _)| *first == ticket),
        }
    }

    /// R34: a read has to compare: from now on its place excludes everything behind it, and waits for what is ahead.
    pub fn becomes_alone(&mut self, ticket: Ticket) {
        if let Some(turn) = self.line.get_mut(&ticket) {
            *turn = Turn::Alone;
            self.alone.insert(ticket);
        }
    }

    /// Gives the place up. Returns whose turn it is now and was not before.
    pub fn leave(&mut self, ticket: Ticket) -> Vec<Ticket> {
        let before = self.alone.first().copied();
        let Some(turn) = self.line.remove(&ticket) else {
            return Vec::new();
        };
        self.alone.remove(&ticket);
        let now = self.alone.first().copied();
        let mut up = Vec::new();
        if turn == Turn::Alone && before == Some(ticket) {
            let reads = self.line.range(ticket..).take_while(|(_, turn)| **turn == Turn::Read);
            up.extend(reads.map(|(ticket, _)| *ticket));
        }
        up.extend(now.filter(|first| *first > ticket && self.is_up(*first)));
        up
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }
}
