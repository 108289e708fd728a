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
mod take_over;

pub use keep::RecallError;
pub use order::Came;
pub use owner::Owner;
pub use take_over::{Change, NotTaken};

use crate::config::runtime::Config;
use crate::core::failover::event::{Effect, Event};
use crate::core::failover::refuse::Refusal;
use crate::world::{ViewCell, World};
use parking_lot::RwLock;
use std::sync::Arc;
use take_over::Changed;
use tokio::sync::{mpsc, oneshot, watch};

/// Events that may wait for the owner; beyond, whoever tells it something waits too.
const QUEUE: usize = 1024;

/// The owner's outer face: what everybody but it holds.
pub struct Coord {
    /// By the upstreams' numbers.
    views: RwLock<Vec<Arc<ViewCell>>>,
    queue: mpsc::Sender<Asked>,
    changes: mpsc::Sender<Changed>,
    /// Some view is another one, or a step has ended.
    changed: watch::Sender<()>,
}

/// What the owner can have done about a change, by whoever holds the nodes' connections.
pub trait Nodes: Send + Sync {
    /// Carries out what a step asks for; hooks and timers are not among it. The new view is in place.
    fn carry_out(&self, upstream: usize, effects: &[Effect]);
    /// The same for what a reload asks for.
    fn taken_over(&self, upstream: usize, effects: &[Effect]) {
        self.carry_out(upstream, effects);
    }
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
        let (changes, changed) = mpsc::channel(1);
        let machines = owner::machines(config, world.clock.as_ref(), &keep::Views::new());
        let views = machines.iter().map(|m| ViewCell::new(m.view()));
        let coord = Arc::new(Self {
            views: RwLock::new(views.collect()),
            queue,
            changes,
            changed: watch::Sender::new(()),
        });
        let owner = Owner::new(Arc::clone(&coord), config, world, machines, (asked, changed));
        (coord, owner)
    }

    /// The cells from which views are read, by the upstreams' numbers.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<ViewCell>> {
        self.views.read().clone()
    }

    fn cell(&self, upstream: usize) -> Option<Arc<ViewCell>> {
        self.views.read().get(upstream).cloned()
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
            .field("upstreams", &self.views.read().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
