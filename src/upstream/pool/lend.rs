//! Shares lent between cores: the caps are for all cores together, so a core that has used up its share takes what another does not use,
//! and one that has waiting requests is given what another lets go. Only where a request would have to wait, and under one core's lock
//! at a time; a core that has room looks at nobody.
//!
//! Where nodes lend streams it is `max_in_flight` that is lent; each core's connections stay its own.
//!
//! Invariant: what a core lends is gone from its share before it is in another's, and the connection of an idle one is closed before its
//! slot is anybody's: all shares together never exceed the whole. A core keeps at least one connection, with which those who wait at it
//! are served whatever the others do.

use super::super::call::Aim;
use super::super::link::Link;
use super::{Core, NodeSlots, Slots, Tried};
use crate::core::failover::view::View;
use crate::core::time::MonoTime;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// What may be lent.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Spare {
    /// A connection that was never opened.
    Unopened,
    /// That, or one that lies idle and has to be closed.
    Idle,
}

impl Core {
    /// Makes cores that divide the same caps known to each other.
    pub(in crate::upstream) fn introduce(cores: &[Arc<Self>]) {
        for core in cores {
            let others = cores.iter().filter(|other| !Arc::ptr_eq(other, core));
            let _known = core.peers.set(others.map(Arc::downgrade).collect());
        }
    }

    fn peers(&self) -> impl Iterator<Item = Arc<Self>> {
        let peers = self.peers.get().map(AsRef::as_ref).unwrap_or_default();
        peers.iter().filter_map(Weak::upgrade)
    }

    fn slots(&self, upstream: usize) -> Option<&Mutex<Slots>> {
        self.upstreams.get(upstream).map(AsRef::as_ref)
    }

    /// Takes the share of one connection that a request may use from a core that does not use it; whether there was one.
    pub(super) fn borrow(&self, upstream: usize, view: &View, tried: &Tried, aim: Aim) -> bool {
        let Some(own) = self.slots(upstream) else {
            return false;
        };
        // Where this core's own share is all that is missing.
        let wanted: SmallVec<[usize; 8]> = {
            let slots = own.lock();
            let used_up = |node: &usize| slots.nodes.get(*node).is_some_and(|slots| slots.open >= slots.cap);
            let takers = aim.takers(view).filter(|node| !tried.contains(node));
            takers.filter(used_up).collect()
        };
        // Nobody's idle connection is closed while there is one that was never opened.
        for spare in [Spare::Unopened, Spare::Idle] {
            for peer in self.peers() {
                let lent = peer.slots(upstream).and_then(|slots| {
                    let mut slots = slots.lock();
                    let mut nodes = wanted.iter();
                    nodes.find_map(|node| Some((*node, slots.nodes.get_mut(*node)?.lend(spare)?)))
                });
                if let Some((node, closed)) = lent {
                    drop(closed);
                    own.lock().gain(node);
                    return true;
                }
            }
        }
        false
    }

    /// Takes a place among those who wait from a core that has one free; whether there was one.
    pub(super) fn borrow_place(&self, upstream: usize) -> bool {
        let lends = |peer: Arc<Self>| {
            peer.slots(upstream).is_some_and(|slots| {
                let mut slots = slots.lock();
                let free = slots.queue.len() < slots.max_pending;
                slots.max_pending -= usize::from(free);
                free
            })
        };
        let lent = self.peers().any(lends);
        if let Some(own) = self.slots(upstream).filter(|_| lent) {
            own.lock().max_pending += 1;
        }
        lent
    }

    /// A connection to a node is not used any more, nobody here waits for it, and somebody waited somewhere: whoever still does gets its
    /// share.
    pub(super) fn offer(&self, upstream: usize, view: &View, node: usize, now: MonoTime) {
        let (Some(own), Some(one)) = (self.slots(upstream), self.shared.upstreams.get(upstream)) else {
            return;
        };
        // Before the look: whoever begins to wait after it makes it another number.
        let seen = one.wanted.load(Ordering::SeqCst);
        let mut somebody_waits = !own.lock().queue.is_empty();
        for peer in self.peers() {
            let (waits, wants) = peer.slots(upstream).map_or((false, false), |slots| {
                let slots = slots.lock();
                (!slots.queue.is_empty(), slots.wants(view, node))
            });
            somebody_waits |= waits;
            if !wants {
                continue;
            }
            let lent = own.lock().nodes.get_mut(node).and_then(|slots| slots.lend(Spare::Idle));
            if let Some(closed) = lent {
                drop(closed);
                if let Some(slots) = peer.slots(upstream) {
                    slots.lock().gain(node);
                }
                peer.look_again(upstream, now);
            }
            return;
        }
        if !somebody_waits {
            // Never cleared while somebody waits, be it for another node: whoever lets go meanwhile would not look.
            let _newer = one.wanted.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

impl NodeSlots {
    /// Gives up the share of one connection, with the idle one that has to be closed for it; none: there is nothing to spare.
    fn lend(&mut self, spare: Spare) -> Option<Option<Box<Link>>> {
        let unlimited = self.cap == usize::MAX;
        if unlimited || self.cap <= 1 || self.open > self.cap {
            return None;
        }
        let closed = if self.open < self.cap {
            None
        } else if spare == Spare::Idle && !self.idle.is_empty() {
            self.open -= 1;
            Some(self.idle.remove(0)) // the one that has lain idle longest
        } else {
            return None;
        };
        self.cap -= 1;
        self.borrowed -= 1;
        Some(closed)
    }
}

impl Slots {
    /// The share of one connection more.
    fn gain(&mut self, node: usize) {
        if let Some(slots) = self.nodes.get_mut(node) {
            slots.cap = slots.cap.saturating_add(1);
            slots.borrowed += 1;
        }
    }

    /// Whether somebody waits who may use the node.
    pub(super) fn wants(&self, view: &View, node: usize) -> bool {
        self.queue
            .iter()
            .any(|waiter| !waiter.tried.contains(&node) && waiter.aim.takers(view).any(|taker| taker == node))
    }
}
