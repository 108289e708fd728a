//! A reload of mirrored upstreams (R31, R33b): the queues, what is in doubt and what was missed are the same under every configuration,
//! because a place never changes its node. A node that is new has missed nobody knows what: that is durable before the view shows it. The
//! list of one that has gone goes with it; an intent stays.

use super::Mirror;
use crate::config::runtime::{Replication, Upstream};
use crate::coord::Coord;
use crate::coord::journal::{Journal, NotDurable};
use crate::proxy::Shared;
use std::sync::Arc;

impl Shared {
    /// The mirrors of this configuration, which comes after `before`. Once, before the first request.
    pub fn mirror_after(&self, before: &Self, coord: &Arc<Coord>, journal: &Arc<Journal>) {
        let each = self.config.upstreams.iter().map(|config| {
            let mirrored = config.replication == Replication::Mirrored && !config.retired;
            let cell = self.upstreams.cell(config.id).filter(|_| mirrored)?;
            Some(Arc::new(match before.mirror_of(config.id) {
                Some(known) => known.after(config),
                None => Mirror::new(self, config, cell, coord, journal),
            }))
        });
        let _first = self.mirrors.set(each.collect());
    }

    /// Nodes, by (upstream, place), are about to come to upstreams that are there already: nobody knows what they have missed.
    ///
    /// # Errors
    /// When that cannot be made durable: then they must not come.
    pub async fn expect_strangers(&self, nodes: &[(usize, usize)]) -> Result<(), NotDurable> {
        for (upstream, node) in nodes {
            if let Some(mirror) = self.mirror_of(*upstream) {
                mirror.journal.lose(&mirror.config.name, mirror.node(*node)).await?;
                mirror.missed.lock().lost(*node);
                tracing::warn!(
                    upstream = mirror.config.name,
                    node = mirror.node(*node),
                    "a new node holds nobody knows what: it joins the in-sync set by your word (tidegate resynced)"
                );
            }
        }
        Ok(())
    }

    /// This configuration runs from now on, for what mirrors of earlier ones have under way too.
    pub fn run_mirrors(&self) {
        for mirror in self.mirrors.get().into_iter().flatten().flatten() {
            mirror.running.store(Arc::clone(&self.config));
        }
    }

    /// The owner has taken over that some nodes are gone: nothing is listed for them any more.
    pub async fn forget_gone(&self) {
        for mirror in self.mirrors.get().into_iter().flatten().flatten() {
            mirror.forget_gone().await;
        }
    }

    /// Whether earlier processes have left something of an upstream of this name.
    #[must_use]
    pub fn is_recalled(journal: &Journal, name: &str) -> bool {
        let recalled = journal.recalled();
        let intents = recalled.intents.iter().any(|(_, intent)| intent.upstream == name);
        intents || recalled.missed.iter().any(|list| list.upstream == name)
    }
}

impl Mirror {
    /// With other keys, and other nodes.
    fn after(&self, config: &Arc<Upstream>) -> Self {
        Self {
            config: Arc::clone(config),
            running: Arc::clone(&self.running),
            view: Arc::clone(&self.view),
            coord: Arc::clone(&self.coord),
            journal: Arc::clone(&self.journal),
            clock: Arc::clone(&self.clock),
            secret: self.secret,
            lines: Arc::clone(&self.lines),
            missed: Arc::clone(&self.missed),
            under_way: Arc::clone(&self.under_way),
            room: self.room.clone(),
        }
    }

    async fn forget_gone(&self) {
        let gone = (0..self.config.nodes.len()).filter(|node| !self.config.is_listed(*node));
        for node in gone {
            // Whatever writes from before would list for it: it never comes back to this place.
            let listed = self.missed.lock().count(node).is_some();
            self.missed.lock().lost(node);
            if !listed {
                continue;
            }
            // The journal knows nodes by name, and one that has moved has its name still: what is kept under it is the new one's, of
            // which nobody knows what it lacks (R33b). Said again: whatever the old one had under way may have taken it back.
            let name = self.node(node);
            let kept = match self.config.listed().find(|(_, known)| known.name == name) {
                Some((heir, _)) if self.missed.lock().count(heir).is_some() => continue,
                Some(_) => self.journal.lose(&self.config.name, name).await,
                None => self.journal.emptied(&self.config.name, name).await,
            };
            if let Err(error) = kept {
                let (upstream, node) = (&self.config.name, self.node(node));
                tracing::warn!(upstream, node, %error, "what a node has missed that is gone stays in the journal");
            }
        }
    }
}
