//! The metrics of the configuration after a reload (R31): what has the same name goes on counting in the same place, so that nothing a
//! request from before counts is lost; what is gone stays, as a counter must.

use super::{Metrics, NodeGauge, NodeStripe, RouteLabels, RouteStripe, Stripe, UpstreamLabels, UpstreamStripe};
use crate::config::runtime::{Config, Upstream};
use std::sync::Arc;

impl Metrics {
    /// Those of `config`, which is numbered after the one these are of.
    #[must_use]
    pub fn after(&self, config: &Config) -> Arc<Self> {
        let numbers = 0..config.numbers.routes.len();
        let labels = numbers.filter_map(|id| {
            let new = config.route(id).map(|route| RouteLabels::new(config, route));
            new.or_else(|| self.routes.get(id).cloned())
        });
        let routes: Vec<_> = labels.collect();
        let upstreams: Vec<_> = config
            .upstreams
            .iter()
            .map(|upstream| self.upstream_after(upstream))
            .collect();
        let stripes = self
            .stripes
            .iter()
            .map(|stripe| self.stripe_after(stripe, &routes, config));
        Arc::new(Self {
            stripes: stripes.collect(),
            spilled: Arc::clone(&self.spilled),
            routes,
            upstreams,
        })
    }

    fn upstream_after(&self, upstream: &Upstream) -> UpstreamLabels {
        let Some(before) = self.upstreams.get(upstream.id) else {
            return UpstreamLabels::new(upstream);
        };
        let node = |node: usize| {
            let known = before
                .place_of(upstream, node)
                .and_then(|at| before.nodes.get(at))
                .cloned();
            let there = upstream.nodes.get(node).filter(|_| upstream.is_listed(node));
            let name = there.map(|node| node.name.as_str());
            known.unwrap_or_else(|| Arc::new(NodeGauge::new(name)))
        };
        UpstreamLabels {
            nodes: (0..upstream.slots()).map(node).collect(),
            lossy: upstream.failover_may_lose(),
            ..before.clone()
        }
    }

    fn stripe_after(&self, before: &Stripe, routes: &[RouteLabels], config: &Config) -> Stripe {
        let (unmatched, known) = match before.routes.split_last() {
            Some((last, known)) => (Arc::clone(last), known),
            None => (Arc::new(RouteStripe::new()), &[][..]),
        };
        let of = |id| known.get(id).cloned().unwrap_or_else(|| Arc::new(RouteStripe::new()));
        let upstreams = config.upstreams.iter().map(|upstream| {
            let (Some(stripe), Some(labels)) = (before.upstreams.get(upstream.id), self.upstreams.get(upstream.id))
            else {
                return UpstreamStripe::new(upstream.slots());
            };
            let node = |node: usize| {
                let known = labels
                    .place_of(upstream, node)
                    .and_then(|at| stripe.nodes.get(at))
                    .cloned();
                known.unwrap_or_else(|| Arc::new(NodeStripe::new()))
            };
            UpstreamStripe {
                retries: Arc::clone(&stripe.retries),
                nodes: (0..upstream.slots()).map(node).collect(),
            }
        });
        Stripe {
            routes: (0..routes.len()).map(of).chain([unmatched]).collect(),
            upstreams: upstreams.collect(),
        }
    }
}

impl UpstreamLabels {
    /// Where a node was counted before: in its place, unless that is another node's or nobody's now; where nodes are discovered, in its
    /// place, which is named anew.
    fn place_of(&self, upstream: &Upstream, node: usize) -> Option<usize> {
        let gauge = self.nodes.get(node)?;
        let is_it = match upstream.nodes.get(node) {
            None => true,
            Some(known) => upstream.is_listed(node) && gauge.name.lock().as_deref() == Some(known.name.as_str()),
        };
        is_it.then_some(node)
    }
}
