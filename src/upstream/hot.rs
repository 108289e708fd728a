//! Hot standbys: a node in reserve that is not marked warm or cold has one idle connection from every core that serves, so that the first
//! request after a failover opens none, whichever core it comes to. One per process would leave the other cores to connect at the very moment
//! when every request waits; the price is as many idle connections at the node as there are cores, and never more than `max_connections`.
//!
//! A connection that the node closes (an idle timeout, a restart) is opened again at the next look. A node that is not in service has none:
//! probes say when it is back.

use super::connect::open;
use super::{One, Pool, pool};
use crate::config::runtime::{Mode, Standby};
use crate::core::failover::view::View;
use crate::core::reason::NodeState;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often a core looks: well below a server's idle timeout (seconds), so that one look is seldom late, and nothing to a core.
pub const LOOK: Duration = Duration::from_millis(250);

impl Pool {
    /// Opens a connection to each hot standby that has no idle one from this core. Dropped, it closes those that it was opening.
    pub async fn warm_up(&self) {
        let mut opening = JoinSet::new();
        let all = self.core.shared.upstreams.iter().enumerate();
        for (upstream, one) in all.filter(|(_, one)| one.config.mode == Mode::ActivePassive) {
            let view = one.view.load();
            for node in (0..one.nodes.len()).filter(|node| is_hot(one, &view, *node)) {
                let (core, one) = (Arc::clone(&self.core), Arc::clone(one));
                opening.spawn(async move { warm_up(&core, upstream, &one, node).await });
            }
        }
        while opening.join_next().await.is_some() {}
    }
}

/// Whether a node waits in reserve, and as a hot one: the first of the list as well, when another has taken over from it.
fn is_hot(one: &One, view: &View, node: usize) -> bool {
    let marked = one.config.nodes.get(node).map(|node| &node.standby);
    match marked {
        Some(None | Some(Standby::Hot)) => view.state(node) == NodeState::Standby,
        Some(Some(Standby::Warm | Standby::Cold { .. })) | None => false,
    }
}

async fn warm_up(core: &Arc<pool::Core>, upstream: usize, one: &One, node: usize) {
    let Some(mut lease) = core.spare(upstream, node) else {
        return;
    };
    let streams = core.streams(upstream, node);
    let connecting = open(&core.shared, one, node, streams.as_deref());
    // Who refuses is asked again at the next look, and found out by its probes.
    if let Ok(Ok(Some(mut link))) = tokio::time::timeout(one.config.connect_timeout, connecting).await
        && link.keep()
    {
        lease.fill(link);
        lease.give_back();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::upstream::link::Link;
    use tokio::io::duplex;

    #[tokio::test]
    async fn r20_a_link_kept_before_its_first_request_counts_as_reused_and_notices_that_its_node_closes_it() {
        let (near, node) = duplex(1024);
        let mut link = Link::open(Box::new(near)).await.unwrap();
        assert!(!link.is_reused());
        assert!(link.keep());
        link.rest();
        assert!(link.is_reused() && link.is_fresh());
        drop(node);
        assert!(!link.is_fresh());
        let (near, node) = duplex(1024);
        let mut late = Link::open(Box::new(near)).await.unwrap();
        drop(node);
        assert!(!late.keep(), "closed before it could be kept");
    }
}
