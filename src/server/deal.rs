//! Which core serves a connection: the one that accepted it, unless another has so many fewer that the hand-over pays. The kernel deals the
//! connections of a port out by a hash of their addresses: of the two that a sidecar has, both may come to one core.
//!
//! Invariant: choosing a core and counting its connection is one step, so that cores that accept at one moment do not choose by the
//! same numbers. A connection is counted from its accept to its end, by the core that was chosen.

use crate::world::Moving;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The connections of a process, by core: changed when one is accepted and when it ends, over all listeners.
#[derive(Debug)]
pub struct Cores {
    open: Mutex<Box<[usize]>>,
}

/// When a core hands over what it has accepted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Deal {
    /// Whenever another has fewer: which core accepts is chance (unix sockets).
    Evenly,
    /// When another has fewer by a quarter: with few connections that is exact, and with many the kernel deals well enough.
    Roughly,
    /// Not any more.
    Keep,
}

impl Cores {
    /// Of a process with this many.
    #[must_use]
    pub fn new(number: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::new(vec![0; number].into()),
        })
    }

    /// Connections open now, by core.
    #[must_use]
    pub fn open(&self) -> Vec<usize> {
        self.open.lock().to_vec()
    }

    /// Counts a connection that core `at` has accepted, at the core that is to serve it.
    pub(super) fn seat(self: &Arc<Self>, at: usize, deal: Deal) -> Seat {
        let mut open = self.open.lock();
        let core = choose(&open, at, deal);
        if let Some(open) = open.get_mut(core) {
            *open += 1;
        }
        drop(open);
        let cores = Arc::clone(self);
        Seat { cores, core }
    }
}

fn choose(open: &[usize], at: usize, deal: Deal) -> usize {
    let fewest = open.iter().copied().enumerate().min_by_key(|(_, open)| *open);
    let (Some(here), Some((core, fewest))) = (open.get(at), fewest) else {
        return at;
    };
    let pays = match deal {
        Deal::Evenly => *here > fewest,
        Deal::Roughly => *here > fewest + fewest / 4,
        Deal::Keep => false,
    };
    if pays { core } else { at }
}

/// A connection's place on a core, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    cores: Arc<Cores>,
    core: usize,
}

impl Seat {
    pub(super) fn core(&self) -> usize {
        self.core
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(open) = self.cores.open.lock().get_mut(self.core) {
            *open = open.saturating_sub(1);
        }
    }
}

/// A connection on its way from the core that accepted it.
pub(super) struct Handed<P> {
    pub(super) stream: Moving,
    pub(super) peer: Option<SocketAddr>,
    /// What it holds of its listener.
    pub(super) place: P,
}

/// What the cores hand each other of one listener's connections. Not bounded by itself: each of them has its place under
/// `max_connections`.
pub(super) struct Hands<P> {
    to: Vec<UnboundedSender<Handed<P>>>,
    /// Each core takes its own when it begins to accept; what is handed over before waits.
    from: Mutex<Vec<Option<UnboundedReceiver<Handed<P>>>>>,
}

impl<P> Hands<P> {
    pub(super) fn of(cores: &Cores) -> Self {
        let (to, from) = cores.open.lock().iter().map(|_| unbounded_channel()).unzip();
        let from: Vec<_> = from;
        Self {
            to,
            from: Mutex::new(from.into_iter().map(Some).collect()),
        }
    }

    /// What is handed to a core: ends when the receiver is closed.
    pub(super) fn take(&self, core: usize) -> UnboundedReceiver<Handed<P>> {
        let taken = self.from.lock().get_mut(core).and_then(Option::take);
        // Without a core of that number nobody hands it anything.
        taken.unwrap_or_else(|| unbounded_channel().1)
    }

    /// Hands a connection to a core.
    ///
    /// # Errors
    /// With the connection, when that core accepts no more.
    pub(super) fn over(&self, core: usize, handed: Handed<P>) -> Result<(), Handed<P>> {
        match self.to.get(core) {
            Some(to) => to.send(handed).map_err(|refused| refused.0),
            None => Err(handed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cores, Deal, choose};

    #[test]
    fn a_connection_goes_to_the_core_with_the_fewest_where_that_pays() {
        use Deal::{Evenly, Keep, Roughly};
        for (name, open, at, deal, core) in [
            ("nobody has any", &[0, 0][..], 1, Roughly, 1),
            ("the second of a sidecar", &[1, 0], 0, Roughly, 1),
            ("the third", &[1, 1], 0, Roughly, 0),
            ("the fourth", &[2, 1], 0, Roughly, 1),
            ("the eighth", &[4, 3], 0, Roughly, 1),
            ("one in many is not worth a move", &[5, 4], 0, Roughly, 0),
            ("a quarter of many is", &[126, 100], 0, Roughly, 1),
            ("less is not", &[125, 100], 0, Roughly, 0),
            ("one in many on a unix socket", &[5, 4], 0, Evenly, 1),
            ("equals keep theirs on a unix socket", &[4, 4], 1, Evenly, 1),
            ("the fewest of several", &[7, 2, 1, 3], 0, Evenly, 2),
            ("leaving", &[7, 0], 0, Keep, 0),
            ("one core", &[9], 0, Evenly, 0),
            ("a core nobody counts", &[9], 3, Evenly, 3),
        ] {
            assert_eq!(choose(open, at, deal), core, "{name}");
        }
    }

    #[test]
    fn a_seat_counts_from_the_choice_to_its_end() {
        let cores = Cores::new(2);
        let first = cores.seat(0, Deal::Roughly);
        let second = cores.seat(0, Deal::Roughly);
        assert_eq!((first.core(), second.core()), (0, 1));
        assert_eq!(cores.open(), [1, 1]);
        drop(first);
        assert_eq!(cores.open(), [0, 1]);
        drop(second);
        assert_eq!(cores.open(), [0, 0]);
    }
}
