//! From the slots of one configuration to those of the next (R31): what is kept, what is taken over, what is let go.

use super::super::Shared;
use super::super::link::Link;
use super::super::streams::Streams;
use super::{Core, Slots};
use std::sync::{Arc, OnceLock};

/// Idle links of a node.
#[allow(clippy::vec_box, reason = "a link moves between hands: by pointer")]
pub(in crate::upstream) type Idle = Vec<Box<Link>>;

impl Core {
    /// The same core after a reload: the slots of upstreams that are `kept`, and new ones.
    pub(in crate::upstream) fn after(
        before: &Self,
        shared: Arc<Shared>,
        number: usize,
        cores: usize,
        kept: impl Fn(usize) -> bool,
    ) -> Self {
        let upstreams = shared.upstreams.iter().enumerate();
        let upstreams = upstreams.map(|(id, one)| match before.upstreams.get(id) {
            Some(slots) if kept(id) => Arc::clone(slots),
            Some(_) | None => Slots::new(one, number, cores),
        });
        let upstreams = upstreams.collect();
        Self {
            shared,
            number,
            cores,
            upstreams,
            peers: OnceLock::new(),
        }
    }

    /// A node's connections, where they lend streams.
    pub(in crate::upstream) fn streams(&self, upstream: usize, node: usize) -> Option<Arc<Streams>> {
        let slots = self.upstreams.get(upstream)?.lock();
        slots.nodes.get(node)?.streams.clone()
    }

    /// From now on what is let go here is closed. Returns each node's idle links.
    pub(in crate::upstream) fn retire(&self, upstream: usize) -> Vec<Idle> {
        let Some(slots) = self.upstreams.get(upstream) else {
            return Vec::new();
        };
        let mut slots = slots.lock();
        slots.retired = true;
        let nodes = slots.nodes.iter_mut().map(|node| {
            node.open = node.open.saturating_sub(node.idle.len());
            if let Some(streams) = &node.streams {
                streams.retire();
            }
            std::mem::take(&mut node.idle)
        });
        nodes.collect()
    }

    /// Takes over idle links to a node, as many as there is room for.
    pub(in crate::upstream) fn adopt(&self, upstream: usize, node: usize, links: &mut Idle) {
        if let Some(slots) = self.upstreams.get(upstream)
            && let Some(node) = slots.lock().nodes.get_mut(node)
        {
            if node.streams.is_some() {
                return; // it speaks HTTP/2 now
            }
            let room = node.cap.saturating_sub(node.open).min(links.len());
            for link in links.drain(..room) {
                node.open += 1;
                node.links.push(Arc::downgrade(link.signal()));
                node.idle.push(link);
            }
        }
    }
}
