//! What one configuration runs with. A reload makes the next era beside it, and swaps.

use super::views::Views;
use crate::config::diff;
use crate::config::runtime::Config;
use crate::coord::{Coord, NotDone};
use crate::core::reason::{NodeState, RetryReason};
use crate::core::time::MonoTime;
use crate::proxy;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Events, Report, Upstreams};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long after a failure of the disk the owner of the views is told again.
const AGAIN: Duration = Duration::from_secs(1);

/// What one configuration runs with.
pub(super) struct Era {
    pub(super) config: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) proxy: Arc<proxy::Shared>,
    /// Ends its probes.
    pub(super) probes: CancellationToken,
}

impl Era {
    /// The era of a configuration that is numbered after this one. Nothing of it serves or probes yet.
    pub(super) fn after(&self, now: MonoTime, config: Config, views: &Views) -> Arc<Self> {
        let config = Arc::new(config);
        let metrics = self.metrics.after(&config);
        let upstreams = self.upstreams.after(
            &config,
            Arc::new(Counting(Arc::clone(&metrics))),
            report(&views.coord),
            |upstream| diff::is_kept(&self.config, &config, upstream),
            |upstream| views.coord.cell_for(now, upstream),
        );
        let proxy = self
            .proxy
            .after(Arc::clone(&config), Arc::clone(&upstreams), Arc::clone(&metrics));
        proxy.mirror_after(&self.proxy, &views.coord, &views.journal);
        Arc::new(Self {
            config,
            metrics,
            upstreams,
            proxy,
            probes: CancellationToken::new(),
        })
    }
}

/// The way to the owner of the views.
pub(super) fn report(coord: &Arc<Coord>) -> Report {
    let coord = Arc::clone(coord);
    Arc::new(move |upstream, event| {
        let coord = Arc::clone(&coord);
        Box::pin(async move {
            // Nothing that happened at a node is dropped because the disk is full.
            while let Err(NotDone::NotDurable(_)) = coord.tell(upstream, event).await {
                tokio::time::sleep(AGAIN).await;
            }
        })
    })
}

/// What happens at the nodes, counted.
pub(super) struct Counting(pub(super) Arc<Metrics>);

impl Events for Counting {
    fn answered(&self, upstream: usize, node: usize, took: Duration) {
        self.0.upstream_answered(upstream, node, took);
    }

    fn retried(&self, upstream: usize, reason: RetryReason) {
        self.0.retried(upstream, reason);
    }

    fn node_named(&self, upstream: usize, node: usize, name: Option<&str>) {
        self.0.node_named(upstream, node, name);
    }

    fn node_state(&self, upstream: usize, node: usize, state: NodeState) {
        self.0.node_state(upstream, node, state);
    }

    fn failover(&self, upstream: usize, took: Duration) {
        self.0.failover(upstream, took);
    }
}
