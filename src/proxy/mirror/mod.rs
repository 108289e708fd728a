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
mod reload;
mod result;
mod room;
mod write;

pub(super) use read::{Asking, ask};
pub(super) use write::{Opened, enter};

use super::request::Job;
use super::{Shared, outbound, routes};
use crate::config::runtime::{Config, HostHeader, Replication, Upstream};
use crate::coord::Coord;
use crate::coord::journal::{IntentId, Journal};
use crate::core::discovery::authority;
use crate::core::failover::event::Event;
use crate::core::failover::mirror::Standing;
use crate::core::failover::mirror::missed::Missed;
use crate::core::failover::mirror::target::Target;
use crate::core::failover::view::{Epoch, Primary};
use crate::core::key::KeySecret;
use crate::core::time::{MonoTime, Span};
use crate::store::ResourceId;
use crate::world::{Clock, ViewCell};
use arc_swap::ArcSwap;
use http::header::HOST;
use http::{HeaderMap, HeaderValue};
use line::Lines;
use parking_lot::Mutex;
use room::Room;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::RwLock;

/// R19: how long a write may be applied late, where no strong route says it.
const SETTLE: Duration = Duration::from_secs(60);

/// The mirrored upstreams, by their place in the configuration.
pub(super) type Mirrors = Vec<Option<Arc<Mirror>>>;

/// One mirrored upstream.
pub(super) struct Mirror {
    /// As configured for the requests that use it.
    config: Arc<Upstream>,
    /// The running configuration, whichever this mirror is of.
    running: Arc<ArcSwap<Config>>,
    view: Arc<ViewCell>,
    coord: Arc<Coord>,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    secret: KeySecret,
    lines: Arc<Lines>,
    missed: Arc<Mutex<Missed>>,
    /// Writes and comparisons share it; a node joins the set while it has it alone.
    under_way: Arc<RwLock<()>>,
    /// For the bodies of writes.
    room: Room,
}

impl Shared {
    /// From here on writes to mirrored upstreams are copied. Once, before the first request.
    pub fn mirror(&self, coord: &Arc<Coord>, journal: &Arc<Journal>) {
        let views = coord.views();
        let each = self.config.upstreams.iter().zip(views).map(|(config, view)| {
            let mirrored = config.replication == Replication::Mirrored;
            mirrored.then(|| Arc::new(Mirror::new(self, config, view, coord, journal)))
        });
        let _first = self.mirrors.set(each.collect());
    }

    /// How long a copy that a node has not answered may still be applied there, over whatever is written by then: nobody may say of it
    /// meanwhile that it holds what it should (R33b).
    #[must_use]
    pub fn awaits_late_copies(&self, upstream: usize, node: usize) -> Option<Duration> {
        let mirror = self.mirror_of(upstream)?;
        let now = mirror.now();
        let until = mirror.missed.lock().unquiet(node, now)?;
        Some(until.duration_since(now))
    }

    /// The upstream's mirror, where its writes are copied.
    pub(super) fn mirror_of(&self, upstream: usize) -> Option<&Arc<Mirror>> {
        self.mirrors.get()?.get(upstream)?.as_ref()
    }
}

impl Mirror {
    fn new(
        shared: &Shared,
        config: &Arc<Upstream>,
        view: Arc<ViewCell>,
        coord: &Arc<Coord>,
        journal: &Arc<Journal>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            running: Arc::new(ArcSwap::from(Arc::clone(&shared.config))),
            view,
            coord: Arc::clone(coord),
            journal: Arc::clone(journal),
            clock: Arc::clone(&shared.world.clock),
            secret: shared.secret,
            lines: Arc::default(),
            missed: Arc::default(),
            under_way: Arc::default(),
            room: Room::default(),
        }
    }

    fn now(&self) -> MonoTime {
        self.clock.mono()
    }

    /// When nothing can be applied late any more of what is sent until now.
    fn settled_at(&self) -> MonoTime {
        let running = self.running.load();
        let settle = running.upstreams.get(self.config.id).and_then(|u| u.settle_after);
        self.now()
            .after(Span::from(settle.unwrap_or_else(|| SETTLE + self.config.lapse())))
    }

    fn hold(&self) -> Duration {
        self.config.failover.hold
    }

    /// How long writes may be kept waiting until those under way have ended: whoever waits for its turn meanwhile still gets it.
    fn brief(&self) -> Duration {
        self.hold() / 2
    }

    /// The view of the moment.
    fn standing(&self) -> Standing {
        Standing::from(&**self.view.load())
    }

    /// The same, as whoever waits for another one remembers it.
    fn seen(&self) -> (Epoch, Primary) {
        let view = self.view.load();
        (view.epoch, view.primary)
    }

    fn node(&self, node: usize) -> &str {
        self.config.nodes.get(node).map_or("", |node| node.name.as_str())
    }

    /// The resource that a target belongs to.
    fn resource_of(&self, target: &Target) -> ResourceId {
        let (path, query) = match target.uri.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.uri.as_str(), None),
        };
        routes::resource(self.secret, &self.config, path, query)
    }

    /// What a request is sent to, as it would have to be asked for again.
    fn target_of(&self, job: &Job) -> Target {
        let preserves = matches!(self.config.host, HostHeader::Preserve);
        let sets = !job.route.set_request_headers.is_empty();
        Target {
            uri: job.target.to_string(),
            host: preserves.then(|| job.authority.to_ascii_lowercase()),
            route: sets.then(|| job.route.name.clone()),
        }
    }

    /// The fields of a request of our own for a target: its `Host`, and what its route sets.
    fn fields_of(&self, target: &Target) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let host = target.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
        if let Some(host) = host {
            fields.insert(HOST, host);
        }
        let running = self.running.load();
        let name = target.route.as_ref();
        if let Some(route) = name.and_then(|name| running.routes.iter().find(|route| route.name == *name)) {
            outbound::set(&mut fields, &route.set_request_headers);
        }
        fields
    }

    /// The `Host` for a node where nobody says another.
    fn host(&self, node: usize) -> Option<HeaderValue> {
        let node = self.config.nodes.get(node)?;
        HeaderValue::from_str(&authority(&node.host, node.port)).ok()
    }

    /// Lists a target for a node that has not been given what is written there. R33b: durable when true.
    async fn list(&self, node: usize, target: &Target) -> bool {
        let known = self.missed.lock().knows(node, target);
        if known {
            return true;
        }
        if self.config.nodes.get(node).is_none() {
            return false; // of a later configuration than this request's: it ends unknown
        }
        let listed = self.journal.miss(&self.config.name, self.node(node), target).await;
        if listed.is_ok() {
            let _new = self.missed.lock().note(node, target);
        }
        listed.is_ok()
    }

    /// The same for every node that is out.
    async fn list_for_all_out(&self, target: &Target) -> bool {
        let in_sync = self.view.load().in_sync.clone();
        let mut all = true;
        for (node, _) in in_sync.iter().enumerate().filter(|(_, in_sync)| !**in_sync) {
            all &= self.list(node, target).await;
        }
        all
    }

    /// R33: a node that did not confirm leaves the set, durably: its list first, so that a crash in between leaves more to be copied, not
    /// less. Whether it did.
    async fn remove(&self, node: usize, target: &Target) -> bool {
        self.missed.lock().unanswered(node, self.settled_at());
        if !self.list(node, target).await {
            tracing::error!(
                upstream = self.config.name,
                node = self.node(node),
                "what a node has missed cannot be made durable: it stays in the set"
            );
        } else if let Err(error) = self.coord.tell(self.config.id, Event::Missed { node }).await {
            tracing::error!(upstream = self.config.name, node = self.node(node), %error, "a node that missed a write stays in the set: such writes are unknown");
        } else {
            tracing::warn!(
                upstream = self.config.name,
                node = self.node(node),
                %target,
                "a node did not confirm a write and has left the in-sync set"
            );
        }
        self.view.load().in_sync.get(node) != Some(&true)
    }

    /// An intent whose end is known: forgotten once its target is listed for everybody who is out. Whether it was.
    async fn end(&self, intent: IntentId, target: &Target) -> bool {
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
