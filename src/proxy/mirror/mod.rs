//! Synchronous replication by the proxy (`replication = "mirrored"`, R33-R35): what [`crate::core::failover::mirror`] decides, carried
//! out. [`line`] is the queue of a resource, [`write`] copies a write, [`read`] answers a read that must be the primary's, [`ask`] compares
//! and repairs, [`back`] brings nodes back into the set and ends doubts that nobody reads.
//!
//! It decides nothing of its own, and owns no view: nodes leave and join the in-sync set by events to the owner (R29).
//!
//! Invariants: a node's list of missed targets is durable before the view drops the node; an intent ends only once its target is listed
//! for every node that is out; whoever waits here waits at most `hold`.

mod ask;
mod back;
mod line;
mod read;
mod write;

pub(super) use read::ask;
pub(super) use write::{Opened, enter};

use super::{Shared, routes};
use crate::config::runtime::{Replication, Upstream};
use crate::coord::Coord;
use crate::coord::journal::{IntentId, Journal};
use crate::core::discovery::authority;
use crate::core::failover::event::Event;
use crate::core::failover::mirror::Standing;
use crate::core::failover::mirror::missed::Missed;
use crate::core::key::KeySecret;
use crate::core::time::{MonoTime, Span};
use crate::store::ResourceId;
use crate::world::{Clock, ViewCell};
use http::HeaderValue;
use line::Lines;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::RwLock;

/// R19: how long a write may be applied late, where no strong route says it.
const SETTLE: Duration = Duration::from_secs(60);

/// The mirrored upstreams, by their place in the configuration.
pub(super) type Mirrors = Vec<Option<Arc<Mirror>>>;

/// One mirrored upstream.
pub(super) struct Mirror {
    config: Arc<Upstream>,
    view: Arc<ViewCell>,
    coord: Arc<Coord>,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    secret: KeySecret,
    lines: Arc<Lines>,
    missed: Mutex<Missed>,
    /// Writes and comparisons share it; a node joins the set while it has it alone.
    under_way: Arc<RwLock<()>>,
}

impl Shared {
    /// From here on writes to mirrored upstreams are copied. Once, before the first request.
    pub fn mirror(&self, coord: &Arc<Coord>, journal: &Arc<Journal>) {
        let views = coord.views();
        let each = self.config.upstreams.iter().zip(views).map(|(config, view)| {
            (config.replication == Replication::Mirrored).then(|| {
                Arc::new(Mirror {
                    config: Arc::clone(config),
                    view,
                    coord: Arc::clone(coord),
                    journal: Arc::clone(journal),
                    clock: Arc::clone(&self.world.clock),
                    secret: self.secret,
                    lines: Arc::default(),
                    missed: Mutex::default(),
                    under_way: Arc::default(),
                })
            })
        });
        let _first = self.mirrors.set(each.collect());
    }

    /// The upstream's mirror, where its writes are copied.
    pub(super) fn mirror_of(&self, upstream: usize) -> Option<&Arc<Mirror>> {
        self.mirrors.get()?.get(upstream)?.as_ref()
    }
}

impl Mirror {
    fn now(&self) -> MonoTime {
        self.clock.mono()
    }

    /// When nothing can be applied late any more of what is sent until now.
    fn settled_at(&self) -> MonoTime {
        let settle = self.config.settle_after.unwrap_or(SETTLE);
        self.now().after(Span::from(settle))
    }

    fn hold(&self) -> Duration {
        self.config.failover.hold
    }

    /// The view of the moment.
    fn standing(&self) -> Standing {
        Standing::from(&**self.view.load())
    }

    fn node(&self, node: usize) -> &str {
        self.config.nodes.get(node).map_or("", |node| node.name.as_str())
    }

    /// The resource that a target belongs to.
    fn resource_of(&self, target: &str) -> ResourceId {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        routes::resource(self.secret, &self.config, path, query)
    }

    /// The `Host` for a request of our own: its last client's, else the node's.
    fn host(&self, node: usize, last: Option<HeaderValue>) -> Option<HeaderValue> {
        last.or_else(|| {
            let node = self.config.nodes.get(node)?;
            HeaderValue::from_str(&authority(&node.host, node.port)).ok()
        })
    }

    /// Lists a target for a node that has not been given what is written there. R33b: durable when true.
    async fn list(&self, node: usize, target: &str) -> bool {
        let known = self.missed.lock().knows(node, target);
        if known {
            return true;
        }
        let listed = self.journal.miss(&self.config.name, self.node(node), target).await;
        if listed.is_ok() {
            let _new = self.missed.lock().note(node, target);
        }
        listed.is_ok()
    }

    /// The same for every node that is out.
    async fn list_for_all_out(&self, target: &str) -> bool {
        let in_sync = self.view.load().in_sync.clone();
        let mut all = true;
        for (node, _) in in_sync.iter().enumerate().filter(|(_, in_sync)| !**in_sync) {
            all &= self.list(node, target).await;
        }
        all
    }

    /// R33: a node that did not confirm leaves the set, durably: its list first, so that a crash in between leaves more to be copied, not
    /// less. Whether it did, the view says.
    async fn remove(&self, node: usize, target: &str) {
        self.missed.lock().unanswered(node, self.settled_at());
        if !self.list(node, target).await {
            tracing::error!(
                upstream = self.config.name,
                node = self.node(node),
                "what a node has missed cannot be made durable"
            );
            return;
        }
        if let Err(error) = self.coord.tell(self.config.id, Event::Missed { node }).await {
            tracing::error!(upstream = self.config.name, node = self.node(node), %error, "a node that missed a write stays in the set: such writes are unknown");
        } else {
            tracing::warn!(
                upstream = self.config.name,
                node = self.node(node),
                target,
                "a node did not confirm a write and has left the in-sync set"
            );
        }
    }

    /// An intent whose end is known: forgotten once its target is listed for everybody who is out. Whether it was.
    async fn end(&self, intent: IntentId, target: &str) -> bool {
        let listed = self.list_for_all_out(target).await;
        if listed {
            self.journal.end(intent);
        }
        listed
    }
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror")
            .field("upstream", &self.config.name)
            .finish_non_exhaustive()
    }
}
