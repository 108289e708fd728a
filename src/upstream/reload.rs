//! What a reload means to the nodes (R31). An upstream that is as it was goes on, connections and all, under the old and the new
//! configuration alike. One that changed keeps its view, the nodes that stay and what their probes have shown, and takes over their idle
//! connections; what is in flight ends on the old one, whose connections close as they are let go. For that while both together may hold
//! more than `max_connections`. A node that is new has been probed before the first request may go to it; one that has gone gets none.
//!
//! Invariant: a place never changes its node, so that a place means the same to every configuration.

use super::seat::Target;
use super::{Events, One, Report, Shared, Upstreams, pool};
use crate::config::runtime::{Config, Replication, Upstream};
use crate::core::failover::event::Event;
use crate::core::failover::view::{Primary, View};
use crate::world::ViewCell;
use arc_swap::Guard;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

impl Upstreams {
    /// The upstreams of a configuration that is numbered after the one these are of; `kept` says which are as they were, and `cell` where
    /// the view of a new one is to be read. Nothing uses them before the owner of the views has taken the configuration over.
    #[must_use]
    pub fn after(
        &self,
        config: &Config,
        events: Arc<dyn Events>,
        report: Report,
        kept: impl Fn(usize) -> bool,
        cell: impl Fn(&Upstream) -> Arc<ViewCell>,
    ) -> Arc<Self> {
        let running = |id: usize| self.shared.upstreams.get(id);
        let upstreams = config.upstreams.iter().map(|config| match running(config.id) {
            Some(one) if kept(config.id) => Arc::clone(one),
            Some(one) if config.retired || !one.config.retired => Arc::new(one.after(config, self.serving)),
            Some(_) | None => Arc::new(One::new(config, cell(config), self.serving)),
        });
        let upstreams: Vec<Arc<One>> = upstreams.collect();
        let unprobed = super::unprobed(&upstreams);
        let shared = Arc::new(Shared {
            world: self.shared.world.clone(),
            events,
            upstreams,
        });
        let core = |number: usize, before: &pool::Core| {
            let shared = Arc::clone(&shared);
            let number = if number < self.serving { number } else { 0 }; // the background's
            Arc::new(pool::Core::after(before, shared, number, self.serving, &kept))
        };
        let cores = self.cores.iter().enumerate();
        let mut cores: Vec<_> = cores.map(|(number, before)| core(number, before)).collect();
        let mirrors = config.upstreams.iter().any(|u| u.replication == Replication::Mirrored);
        if mirrors && cores.len() == self.serving {
            cores.push(Arc::new(pool::Core::new(Arc::clone(&shared), 0, self.serving)));
        }
        pool::Core::introduce(cores.get(..self.serving).unwrap_or_default());
        Arc::new(Self {
            cores,
            serving: self.serving,
            shared,
            report,
            unprobed: watch::Sender::new(unprobed),
        })
    }

    /// Where the view of an upstream is read.
    #[must_use]
    pub fn cell(&self, upstream: usize) -> Option<Arc<ViewCell>> {
        self.shared.upstreams.get(upstream).map(|one| Arc::clone(&one.view))
    }

    /// Probes nodes that are new, by (upstream, place), once, and tells nobody: the owner takes them over with what they answered.
    pub async fn probe_first(self: &Arc<Self>, newcomers: &[(usize, usize)]) -> Vec<(usize, Event)> {
        let mut probes = JoinSet::new();
        for &(upstream, node) in newcomers {
            let this = Arc::clone(self);
            probes.spawn(async move { Some((upstream, this.probe_once(upstream, node).await?)) });
        }
        probes.join_all().await.into_iter().flatten().collect()
    }

    /// Some nodes are about to be taken out: requests that are planned by this configuration may still go to them, if by the view to come
    /// only nodes are left that this configuration does not know.
    pub fn part(&self, upstreams: &[usize]) {
        for one in upstreams
            .iter()
            .filter_map(|upstream| self.shared.upstreams.get(*upstream))
        {
            if one.is_shared() {
                one.former.store(Some(Arc::clone(&one.view.load())));
            }
        }
    }

    /// No request begins on `before` any more: says where every node stands, and takes over the idle connections of upstreams that changed.
    pub fn adopt(&self, before: &Self) {
        self.shared.tell_states();
        for (new, old) in self.cores.iter().zip(&before.cores) {
            let both = before.shared.upstreams.iter().zip(&self.shared.upstreams).enumerate();
            for (upstream, (was, is)) in both.filter(|(_, (was, is))| !Arc::ptr_eq(was, is)) {
                let idle = old.retire(upstream);
                if !speaks_alike(&was.config, &is.config) {
                    continue; // dropped: a node proves itself anew to what is believed now
                }
                for (node, mut links) in idle.into_iter().enumerate() {
                    // Places are the same; nobody takes over those of a node that has gone.
                    new.adopt(upstream, node, &mut links);
                }
            }
        }
    }
}

/// Whether a connection by the one configuration is as good by the other.
fn speaks_alike(was: &Upstream, is: &Upstream) -> bool {
    let secured = match (&was.tls, &is.tls) {
        (None, None) => true,
        (Some(was), Some(is)) => was.is_same(is),
        (None, Some(_)) | (Some(_), None) => false,
    };
    secured && was.http2.is_some() == is.http2.is_some()
}

/// The places of an upstream whose nodes are configured.
pub(super) fn targets(config: &Upstream) -> Arc<[Arc<Target>]> {
    let place = |place: usize| match config.nodes.get(place).filter(|_| config.is_listed(place)) {
        Some(node) => Arc::new(Target::of(node)),
        None => Arc::new(Target::empty()),
    };
    (0..config.slots()).map(place).collect()
}

impl One {
    /// With other keys and other nodes; a node that stays is the same one.
    fn after(&self, config: &Arc<Upstream>, cores: usize) -> Self {
        let new = Self::new(config, Arc::clone(&self.view), cores);
        let stays = |place: usize| self.config.is_listed(place) && config.is_listed(place);
        let target = |place: usize| {
            let known = self
                .nodes
                .get(place)
                .filter(|_| stays(place) || config.discover.is_some());
            known.or_else(|| new.nodes.get(place)).map(Arc::clone)
        };
        let nodes: Arc<[Arc<Target>]> = (0..config.slots()).filter_map(target).collect();
        for (place, node) in config.listed().filter(|(place, _)| stays(*place)) {
            if let Some(target) = nodes.get(place) {
                target.reseat(node);
            }
        }
        let mut ejected = self.ejected.lock();
        ejected.resize(config.slots());
        for place in (0..config.slots()).filter(|place| config.discover.is_none() && !stays(*place)) {
            ejected.forget(place);
        }
        drop(ejected);
        Self {
            nodes,
            probes: Arc::clone(&self.probes),
            held: Arc::clone(&self.held),
            ejected: Arc::clone(&self.ejected),
            ..new
        }
    }

    /// Whether a node is in a place, or may come.
    pub(super) fn may_sit(&self, place: usize) -> bool {
        self.config.discover.is_some() || self.config.is_listed(place)
    }

    /// The view by which requests are planned. Where a reload has taken out whom this configuration knew, and who is left is not known to
    /// it, the last one: over one store any node is as good as another, and no request is lost for it.
    pub(super) fn view(&self) -> Guard<Arc<View>> {
        let view = self.view.load();
        match &*self.former.load() {
            Some(former) if !self.can_use(&view) => Guard::from_inner(Arc::clone(former)),
            Some(_) | None => view,
        }
    }

    /// Whether a view of other nodes than these leaves one of them.
    fn can_use(&self, view: &View) -> bool {
        let knows = |node: usize| node < self.nodes.len();
        // Places are only ever added: a view that has no more of them is of these nodes.
        view.states.len() <= self.nodes.len()
            || match view.primary {
                Primary::Node(node) => knows(node),
                Primary::Any | Primary::Homes | Primary::Pending | Primary::None(_) => {
                    view.candidates.iter().any(|node| knows(*node))
                }
            }
    }
}
