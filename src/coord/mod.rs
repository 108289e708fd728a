//! The one owner of the views (R29): events from probes, requests, hooks and the operator go through a queue to the one task that steps
//! the state machines; what must outlive the process is durable before anybody sees it. Everybody reads the views without a lock.
//!
//! [`journal`] keeps what must not be forgotten of mirrored writes.
//!
//! Invariant: a view changes only in the [`Owner`], and is swapped in before the effects of the change are carried out.

mod hooks;
pub mod journal;
mod keep;
mod lines;
mod order;
mod owner;
mod settings;

pub use keep::RecallError;
pub use order::Came;
pub use owner::Owner;

use crate::config::runtime::Config;
use crate::core::failover::event::{Effect, Event};
use crate::core::failover::refuse::Refusal;
use crate::world::{ViewCell, World};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Events that may wait for the owner; beyond, whoever tells it something waits too.
const QUEUE: usize = 1024;

/// The owner's outer face: what everybody but it holds.
pub struct Coord {
    views: Vec<Arc<ViewCell>>,
    queue: mpsc::Sender<Asked>,
    /// Some view is another one, or a step has ended.
    changed: watch::Sender<()>,
}

/// What the owner can have done about a change, by whoever holds the nodes' connections.
pub trait Nodes: Send + Sync {
    /// Carries out what a step asks for; hooks and timers are not among it. The new view is in place.
    fn carry_out(&self, upstream: usize, effects: &[Effect]);
    /// A view could not be made durable, and did not change.
    fn not_durable(&self, upstream: usize);
}

/// Why an event changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// What it would have changed cannot be made durable.
    #[error("the view cannot be made durable: {0}")]
    NotDurable(Arc<str>),
    /// Nothing would come of the operator's word.
    #[error("{}", .0.why())]
    Refused(Refusal),
    /// The owner has ended.
    #[error("the process is leaving")]
    Leaving,
}

struct Asked {
    upstream: usize,
    event: Event,
    tell: oneshot::Sender<Result<(), NotDone>>,
}

impl Coord {
    /// The owner of a configuration's views, and its outer face. It remembers nothing before [`Owner::recall`].
    #[must_use]
    pub fn new(config: &Arc<Config>, world: &World) -> (Arc<Self>, Owner) {
        let (queue, asked) = mpsc::channel(QUEUE);
        let machines = owner::machines(config, world.clock.as_ref(), &keep::Views::new());
        let views = machines.iter().map(|m| ViewCell::new(m.view()));
        let coord = Arc::new(Self {
            views: views.collect(),
            queue,
            changed: watch::Sender::new(()),
        });
        let owner = Owner::new(Arc::clone(&coord), config, world, machines, asked);
        (coord, owner)
    }

    /// The cells from which views are read, in the order of the configuration.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<ViewCell>> {
        self.views.clone()
    }

    /// Tells the owner what happened at an upstream. When it returns `Ok` the new view, if there is one, is durable and in place, and what
    /// follows from it has been carried out (hooks have begun). Dropped before, the event may count or not.
    ///
    /// # Errors
    /// When nothing changed.
    pub async fn tell(&self, upstream: usize, event: Event) -> Result<(), NotDone> {
        let (tell, done) = oneshot::channel();
        let asked = Asked { upstream, event, tell };
        self.queue.send(asked).await.map_err(|_| NotDone::Leaving)?;
        done.await.unwrap_or(Err(NotDone::Leaving))
    }
}

impl std::fmt::Debug for Coord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coord")
            .field("upstreams", &self.views.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
