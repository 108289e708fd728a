//! One core's connections to the nodes: who holds which, who waits for one, and where the next request goes.
//!
//! Every connection belongs to a slot of its node; a [`Lease`] is a slot in use, with or without its link yet. A slot that is let go is
//! handed at once to the first waiter that may use its node, together with its link if that can be used again: waiters are served in
//! the order they came and none is lost when a connect fails. Dropping a lease closes its link and frees the slot; a dropped waiter
//! leaves the queue. A core looks at another only when a request would have to wait: the mutex is hardly ever contended.
//!
//! Bounds: `max_connections` (and `max_in_flight`) connections per node and `max_pending` waiters, each divided among the cores so that
//! all shares together are the whole, and lent where they are not used ([`lend`]); a core has at least one connection, so a limit below
//! the number of cores is that number.

mod handover;
mod lend;
mod slots;
mod spare;
mod waiting;

use super::Shared;
use super::call::Aim;
use super::channel::Channel;
use super::lease::Lease;
use super::link::Link;
use super::signal::Signal;
use super::standing::{Learnt, Standing};
use super::streams::Streams;
use crate::core::discovery::Member;
use crate::core::reason::NodeState;
use crate::core::time::MonoTime;
use parking_lot::{Mutex, MutexGuard};
use slots::Choice;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Wake;
use std::time::Duration;
use tokio::sync::oneshot;
use waiting::Waiting;
pub(super) use waiting::{Acquired, Refused};

/// Nodes a request has been tried at.
pub(super) type Tried = SmallVec<[usize; 4]>;

/// One core's share of all upstreams.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    /// Which core.
    pub(super) number: usize,
    /// Of how many.
    cores: usize,
    upstreams: Vec<Arc<Mutex<Slots>>>,
    /// Those with whom the caps are divided.
    peers: OnceLock<Box<[Weak<Core>]>>,
}

/// One core's share of one upstream.
struct Slots {
    nodes: Vec<NodeSlots>,
    /// By ticket, hence by arrival.
    queue: VecDeque<Waiter>,
    next_ticket: u64,
    max_pending: usize,
    turn: u64,
    /// A reload has put others in their place: what is let go is closed.
    retired: bool,
}

#[derive(Default)]
struct NodeSlots {
    /// Nodes of a higher tier are chosen only when no lower one is in service; none: nobody sits here, or is about to leave.
    tier: Option<u16>,
    standing: Standing,
    cap: usize,
    /// How much of it is other cores' share; negative: how much of its own they have.
    borrowed: isize,
    /// Slots: idle, in use, or connecting.
    open: usize,
    /// Slots in use or connecting.
    in_flight: usize,
    /// The last one in is the first one out: it is the least likely to have been closed.
    #[allow(clippy::vec_box, reason = "a link moves between hands: by pointer")]
    idle: Vec<Box<Link>>,
    /// Every link that may be alive, so that all can be ended at once.
    links: Vec<Weak<Signal>>,
    /// Its connections, where they lend streams: then a slot is a stream, and none is ever idle.
    streams: Option<Arc<Streams>>,
}

struct Waiter {
    ticket: u64,
    tried: Tried,
    aim: Aim,
    hand: oneshot::Sender<Handed>,
}

/// What a waiter gets.
enum Handed {
    Lease(Lease),
    /// No node that may take this request is in service any more.
    NoNode,
}

/// A waiter taken out of the queue, and what it is to get. Sent only after the lock is released.
type Hand = (oneshot::Sender<Handed>, Handed);

/// The result of looking for a slot under the lock.
enum Found {
    Node {
        node: usize,
        link: Option<Channel>,
    },
    Wait {
        ticket: u64,
        hand: oneshot::Receiver<Handed>,
    },
    Refused(Refused),
}

/// A core's share: all of them together are the whole.
fn share(of: usize, number: usize, cores: usize) -> usize {
    let cores = cores.max(1);
    of / cores + usize::from(number < of % cores)
}

impl Core {
    pub(super) fn new(shared: Arc<Shared>, number: usize, cores: usize) -> Self {
        let upstreams = shared.upstreams.iter();
        let upstreams = upstreams.map(|one| Slots::new(one, number, cores));
        let upstreams = upstreams.collect();
        Self {
            shared,
            number,
            cores,
            upstreams,
            peers: OnceLock::new(),
        }
    }

    /// A slot at a node that is in service and not among `tried`; waits for one at most `left`.
    pub(super) fn acquire<'a>(
        self: &'a Arc<Self>,
        upstream: usize,
        tried: &Tried,
        aim: Aim,
        now: MonoTime,
        left: Duration,
    ) -> Acquired<'a> {
        match self.find(upstream, tried, aim, now) {
            Found::Node { node, link } => Acquired::Now(Ok(self.lease(upstream, node, link))),
            Found::Refused(refused) => Acquired::Now(Err(refused)),
            Found::Wait { ticket, hand } => {
                let waiting = Waiting {
                    core: self,
                    upstream,
                    ticket,
                    hand,
                };
                // First in the queue, then at the others: whoever lets go after this look finds the one who waits.
                if self
                    .shared
                    .upstreams
                    .get(upstream)
                    .is_some_and(|one| self.borrow(upstream, &one.view(), tried, aim))
                {
                    self.look_again(upstream, now);
                }
                Acquired::Later(Box::pin(waiting.handed(left)))
            }
        }
    }

    fn find(&self, upstream: usize, tried: &Tried, aim: Aim, now: MonoTime) -> Found {
        let (Some(slots), Some(shared)) = (self.upstreams.get(upstream), self.shared.upstreams.get(upstream)) else {
            return Found::Refused(Refused::NoNode);
        };
        let view = shared.view();
        let mut guard = slots.lock();
        let mut choice = guard.choose(&view, tried, aim, now, shared.rule, || {
            self.shared.world.entropy.next_u64()
        });
        if matches!(choice, Choice::Full) && guard.queue.len() >= guard.max_pending {
            // No place here: a connection of another core's share, or its place.
            let lent = MutexGuard::unlocked(&mut guard, || {
                self.borrow(upstream, &view, tried, aim) || self.borrow_place(upstream)
            });
            if lent {
                choice = guard.choose(&view, tried, aim, now, shared.rule, || {
                    self.shared.world.entropy.next_u64()
                });
            }
        }
        let slots = &mut *guard;
        match choice {
            Choice::Node(node) => match slots.take(node, now) {
                Some(link) => Found::Node { node, link },
                None => Found::Refused(Refused::NoNode),
            },
            Choice::None => Found::Refused(Refused::NoNode),
            Choice::Full if slots.queue.len() >= slots.max_pending => Found::Refused(Refused::QueueFull),
            Choice::Full => {
                shared.wanted.fetch_add(1, Ordering::SeqCst);
                let (sender, hand) = oneshot::channel();
                let ticket = slots.next_ticket;
                slots.next_ticket += 1;
                slots.queue.push_back(Waiter {
                    ticket,
                    tried: tried.clone(),
                    aim,
                    hand: sender,
                });
                Found::Wait { ticket, hand }
            }
        }
    }

    fn lease(self: &Arc<Self>, upstream: usize, node: usize, link: Option<Channel>) -> Lease {
        Lease::new(Arc::clone(self), upstream, node, link)
    }

    /// Notes a new link of a node, so that it can be ended with all others.
    pub(super) fn note_link(self: &Arc<Self>, upstream: usize, node: usize, signal: Option<&Arc<Signal>>) {
        let Some(slots) = self.upstreams.get(upstream) else {
            return;
        };
        let mut guard = slots.lock();
        // How many streams a new connection lends is known only now.
        let is_back = guard.leaves_waiting(node) || signal.is_none() && !guard.queue.is_empty();
        if let Some(node) = guard.nodes.get_mut(node) {
            // Dead ones are swept before the list doubles.
            if node.links.len() >= 16 && node.links.len() >= node.open.saturating_mul(2) {
                node.links.retain(|link| link.strong_count() > 0);
            }
            node.links.extend(signal.map(Arc::downgrade));
            node.standing.breaker.connected();
        }
        drop(guard);
        if is_back {
            self.look_again(upstream, self.shared.world.clock.mono());
        }
    }

    /// A connect to the node failed: others are preferred for a while.
    pub(super) fn avoid(&self, upstream: usize, node: usize, now: MonoTime) {
        if let Some(slots) = self.upstreams.get(upstream)
            && let Some(node) = slots.lock().nodes.get_mut(node)
        {
            node.standing.breaker.failed(now);
        }
    }

    /// Gives a slot back, with its link if that is to be used again, or hands both to the first waiter that may use the node.
    pub(super) fn release(
        self: &Arc<Self>,
        upstream: usize,
        node: usize,
        mut link: Option<Box<Link>>,
        learnt: Option<Learnt>,
    ) {
        let (Some(slots), Some(shared)) = (self.upstreams.get(upstream), self.shared.upstreams.get(upstream)) else {
            return;
        };
        let view = shared.view();
        let mut guard = slots.lock();
        // A link that was ended while in use, or whose node has left, is closed (after the lock).
        let dead = match &link {
            Some(l)
                if guard.retired
                    || l.signal().is_killed()
                    || view.state(node) == NodeState::Unhealthy
                    || guard.nodes.get(node).is_some_and(|slots| slots.tier.is_none()) =>
            {
                link.take()
            }
            Some(_) | None => None,
        };
        if let (Some(learnt), Some(of_node)) = (learnt, guard.nodes.get_mut(node)) {
            of_node.standing.learn(learnt);
        }
        let handed = guard.release(&view, node, link);
        let doubtful = handed.is_none() && guard.leaves_waiting(node);
        let spare = handed.is_none() && shared.wanted.load(Ordering::SeqCst) != 0 && !guard.wants(&view, node);
        drop(guard);
        drop(dead);
        if spare {
            self.offer(upstream, &view, node, self.shared.world.clock.mono());
        }
        if let Some((hand, link)) = handed {
            self.hand((hand, Handed::Lease(self.lease(upstream, node, link))));
        }
        if doubtful {
            self.look_again(upstream, self.shared.world.clock.mono());
        }
    }

    /// Sends; what a waiter that just left does not take goes on to the next.
    fn hand(&self, (hand, handed): Hand) {
        match hand.send(handed) {
            Ok(()) | Err(Handed::NoNode) => {}
            Err(Handed::Lease(mut lease)) => lease.give_back(),
        }
    }

    /// The view changed, or who can be reached: waiters get slots where there is room now; those left without a node are told.
    pub(super) fn look_again(self: &Arc<Self>, upstream: usize, now: MonoTime) {
        let (Some(slots), Some(shared)) = (self.upstreams.get(upstream), self.shared.upstreams.get(upstream)) else {
            return;
        };
        let view = shared.view();
        let mut hands: Vec<Hand> = Vec::new();
        let mut guard = slots.lock();
        for waiter in std::mem::take(&mut guard.queue) {
            let random = || self.shared.world.entropy.next_u64();
            match guard.choose(&view, &waiter.tried, waiter.aim, now, shared.rule, random) {
                Choice::Node(node) => {
                    if let Some(link) = guard.take(node, now) {
                        hands.push((waiter.hand, Handed::Lease(self.lease(upstream, node, link))));
                    }
                }
                Choice::None => hands.push((waiter.hand, Handed::NoNode)),
                Choice::Full => guard.queue.push_back(waiter),
            }
        }
        drop(guard);
        for hand in hands {
            self.hand(hand);
        }
    }

    /// One of those who wait tries a node that could not be connected to, once it may be tried: nobody else might come to do it.
    pub(super) fn try_again(self: &Arc<Self>, upstream: usize, now: MonoTime) {
        let doubtful = |slots: &Slots| {
            let has_room = |node| slots.leaves_waiting(node) || slots.lends_to_waiters(node);
            (0..slots.nodes.len()).any(has_room)
        };
        let slots = self.upstreams.get(upstream);
        if slots.is_some_and(|slots| doubtful(&slots.lock())) {
            self.look_again(upstream, now);
        }
    }

    /// Closes connections to a node: the idle ones, and with `in_flight` those in use as well.
    pub(super) fn close(self: &Arc<Self>, upstream: usize, node: usize, in_flight: bool) {
        let Some(slots) = self.upstreams.get(upstream) else {
            return;
        };
        let mut ended = Vec::new();
        let mut guard = slots.lock();
        let Some(of_node) = guard.nodes.get_mut(node) else {
            return;
        };
        let idle = std::mem::take(&mut of_node.idle);
        of_node.open = of_node.open.saturating_sub(idle.len());
        if in_flight {
            for signal in of_node.links.drain(..).filter_map(|link| link.upgrade()) {
                signal.kill();
                ended.push(signal);
            }
        }
        let streams = of_node.streams.clone();
        drop(guard);
        drop(idle);
        if let Some(streams) = streams {
            streams.close(in_flight);
        }
        for signal in ended {
            signal.wake();
        }
    }

    /// A node sits down, or the one that sits there has another weight or limit.
    pub(super) fn seat(&self, upstream: usize, node: usize, member: &Member) {
        if let (Some(slots), Some(shared)) = (self.upstreams.get(upstream), self.shared.upstreams.get(upstream))
            && let Some(slots) = slots.lock().nodes.get_mut(node)
        {
            slots.seat(member, &shared.config, self.number, self.cores);
        }
    }

    /// A node is about to leave: it gets no new request, and no connection outlives its last one.
    pub(super) fn leave(self: &Arc<Self>, upstream: usize, node: usize) {
        if let Some(slots) = self.upstreams.get(upstream)
            && let Some(slots) = slots.lock().nodes.get_mut(node)
        {
            slots.tier = None;
            if let Some(streams) = &slots.streams {
                streams.retire();
            }
        }
        self.close(upstream, node, false);
    }

    /// Whether a node that leaves has no connection any more.
    pub(super) fn is_unused(&self, upstream: usize, node: usize) -> bool {
        self.upstreams.get(upstream).is_none_or(|slots| {
            let slots = slots.lock();
            slots
                .nodes
                .get(node)
                .is_none_or(|node| node.open == 0 && node.in_flight == 0 && !node.is_connected())
        })
    }

    /// Closes idle links that their node has closed: nobody polls them, so nobody else notices.
    pub(super) fn sweep(&self, upstream: usize) {
        let Some(slots) = self.upstreams.get(upstream) else {
            return;
        };
        let mut closed = Vec::new();
        let mut guard = slots.lock();
        for node in &mut guard.nodes {
            for mut link in std::mem::take(&mut node.idle) {
                if link.is_fresh() {
                    node.idle.push(link);
                } else {
                    node.open = node.open.saturating_sub(1);
                    closed.push(link);
                }
            }
        }
        drop(guard);
        drop(closed);
    }

    #[cfg(test)]
    #[allow(dead_code)]
    pub(super) fn counts(&self, upstream: usize, node: usize) -> (usize, usize, usize, usize) {
        let slots = self.upstreams.get(upstream).expect("an upstream").lock();
        let of_node = slots.nodes.get(node).expect("a node");
        (of_node.open, of_node.in_flight, of_node.idle.len(), slots.queue.len())
    }

    #[cfg(test)]
    pub(super) fn share_of(&self, upstream: usize, node: usize) -> usize {
        let slots = self.upstreams.get(upstream).expect("an upstream").lock();
        slots.nodes.get(node).expect("a node").cap
    }
}
