//! A slot for a connection that nobody has asked for yet.

use super::Core;
use crate::upstream::lease::Lease;
use std::sync::Arc;

impl Core {
    /// A slot at a node that has no idle connection which is still good, if there is room for one. Closes idle ones that are not.
    pub(in crate::upstream) fn spare(self: &Arc<Self>, upstream: usize, node: usize) -> Option<Lease> {
        let mut closed = Vec::new();
        let mut guard = self.upstreams.get(upstream)?.lock();
        let retired = guard.retired;
        let slots = guard.nodes.get_mut(node)?;
        for mut link in std::mem::take(&mut slots.idle) {
            if link.is_fresh() {
                slots.idle.push(link);
            } else {
                slots.open = slots.open.saturating_sub(1);
                closed.push(link);
            }
        }
        let connected = slots.streams.as_ref().is_some_and(|streams| streams.lends());
        let wanted = slots.idle.is_empty() && !connected && slots.open < slots.cap && slots.tier.is_some() && !retired;
        if wanted {
            slots.open += 1;
            slots.in_flight += 1;
        }
        drop(guard);
        drop(closed);
        wanted.then(|| self.lease(upstream, node, None))
    }
}
