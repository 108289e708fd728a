//! What a reload means to the nodes (R31). An upstream that is as it was goes on, connections and all, under the old and the new
//! configuration alike. One that changed keeps its view, its nodes and what their probes have shown, and takes over the idle connections;
//! what is in flight ends on the old one, whose connections close as they are let go. For that while both together may hold more than
//! `max_connections`.

use super::{Events, One, Report, Shared, Upstreams, pool};
use crate::config::runtime::{Config, Upstream};
use std::sync::Arc;
use tokio::sync::watch;

impl Upstreams {
    /// The upstreams of a configuration that is numbered after the one these are of, and has the same nodes
    /// ([`crate::config::diff`] sees to that); `kept` says which are as they were. Their connections are taken over by
    /// [`Upstreams::adopt`].
    #[must_use]
    pub fn after(
        &self,
        config: &Config,
        events: Arc<dyn Events>,
        report: Report,
        kept: impl Fn(usize) -> bool,
    ) -> Arc<Self> {
        let running = self.shared.upstreams.iter().zip(&config.upstreams);
        let upstreams = running.map(|(one, config)| match kept(config.id) {
            true => Arc::clone(one),
            false => Arc::new(one.after(config, self.serving)),
        });
        let upstreams: Vec<Arc<One>> = upstreams.collect();
        let unprobed = super::unprobed(&upstreams);
        let shared = Arc::new(Shared {
            world: self.shared.world.clone(),
            events,
            upstreams,
        });
        let cores = self.cores.iter().enumerate();
        let cores = cores.map(|(number, core)| {
            let shared = Arc::clone(&shared);
            let number = if number < self.serving { number } else { 0 }; // the background's
            Arc::new(pool::Core::after(core, shared, number, self.serving, &kept))
        });
        Arc::new(Self {
            cores: cores.collect(),
            serving: self.serving,
            shared,
            report,
            unprobed: watch::Sender::new(unprobed),
        })
    }

    /// No request begins on `before` any more: takes over the idle connections of upstreams that changed.
    pub fn adopt(&self, before: &Self) {
        for (new, old) in self.cores.iter().zip(&before.cores) {
            let both = before.shared.upstreams.iter().zip(&self.shared.upstreams).enumerate();
            for (upstream, _) in both.filter(|(_, (was, is))| !Arc::ptr_eq(was, is)) {
                for (node, mut links) in old.retire(upstream).into_iter().enumerate() {
                    new.adopt(upstream, node, &mut links);
                }
            }
        }
    }
}

impl One {
    /// With other keys, and the same nodes.
    fn after(&self, config: &Arc<Upstream>, cores: usize) -> Self {
        Self {
            nodes: Arc::clone(&self.nodes),
            probes: Arc::clone(&self.probes),
            held: Arc::clone(&self.held),
            ejected: Arc::clone(&self.ejected),
            ..Self::new(config, Arc::clone(&self.view), cores)
        }
    }
}
