//! The one owner of the views (R29), in memory for now: each upstream's state machine behind a short lock, its view read by everybody
//! without one. Later owners keep the view in a file or in etcd; readers will not notice.
//!
//! Invariant: a view changes only here, and is swapped in before the effects of the change are returned.

pub mod journal;
mod lines;
mod settings;

use crate::config::runtime::{Config, Upstream};
use crate::core::failover::event::{Effect, Event};
use crate::core::failover::machine::Machine;
use crate::core::failover::view::Epoch;
use crate::core::time::MonoTime;
use crate::world::{Clock, ViewCell};
use parking_lot::Mutex;
use std::sync::Arc;

/// The owner of all upstreams' views.
pub struct Coord {
    upstreams: Vec<Owned>,
}

struct Owned {
    machine: Mutex<Machine>,
    view: Arc<ViewCell>,
}

impl Coord {
    /// An owner that remembers nothing: epochs start at the wall clock's seconds, so that they do not fall when the process restarts
    /// (R54).
    #[must_use]
    pub fn in_memory(config: &Config, clock: &dyn Clock) -> Arc<Self> {
        let seconds = u64::try_from(clock.wall().as_millis() / 1000).unwrap_or(0);
        let epoch = Epoch(seconds << 16);
        let now = clock.mono();
        let own = |upstream: &Arc<Upstream>| {
            let machine = Machine::new(now, settings::settings(upstream, epoch), None);
            Owned {
                view: ViewCell::new(machine.view()),
                machine: Mutex::new(machine),
            }
        };
        Arc::new(Self {
            upstreams: config.upstreams.iter().map(own).collect(),
        })
    }

    /// The cells from which views are read, in the order of the configuration.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<ViewCell>> {
        self.upstreams.iter().map(|owned| Arc::clone(&owned.view)).collect()
    }

    /// Takes one event at an upstream: swaps in the new view, then returns what must be done.
    #[must_use]
    pub fn step(&self, upstream: usize, now: MonoTime, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(owned) = self.upstreams.get(upstream) {
            let mut machine = owned.machine.lock();
            let observed = machine.observed();
            machine.step(now, event, observed, &mut effects);
            let view = machine.view();
            if view != **owned.view.load() {
                owned.view.store(view);
            }
        }
        effects
    }
}

impl std::fmt::Debug for Coord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coord")
            .field("upstreams", &self.upstreams.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
