//! One core's slots of one upstream: where a request may go, and who gets what is let go. Called under the lock; nothing here waits.

use super::super::One;
use super::super::call::Aim;
use super::super::channel::Channel;
use super::super::link::Link;
use super::super::streams::Streams;
use super::{Handed, NodeSlots, Slots, Tried, Waiter, share};
use crate::config::runtime::Upstream;
use crate::core::balance::{self, Draw, Load};
use crate::core::discovery::Member;
use crate::core::failover::few;
use crate::core::failover::view::View;
use crate::core::time::MonoTime;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

impl NodeSlots {
    pub(super) fn seat(&mut self, member: &Member, config: &Upstream, number: usize, cores: usize) {
        // A core without a share could send nothing at all: one each is the least.
        let in_flight = match member.max_in_flight {
            0 => usize::MAX,
            limit => share(limit, number, cores).max(1),
        };
        self.tier = Some(member.tier);
        self.standing
            .seat(&member.name, member.weight, config.failover.slow_start);
        let connections = share(config.max_connections, number, cores).max(1);
        let share = match &config.http2 {
            None => connections.min(in_flight),
            Some(limits) => {
                let tls = config.tls.is_some();
                match self.streams.as_ref().filter(|streams| !streams.is_retired()) {
                    Some(streams) => streams.limit(connections),
                    None => self.streams = Some(Arc::new(Streams::new(*limits, tls, connections))),
                }
                in_flight
            }
        };
        // What is lent stays lent: only so are all shares together the whole.
        self.cap = share.saturating_add_signed(self.borrowed).max(1);
    }

    /// Whether one more request may go there.
    fn has_room(&self) -> bool {
        match &self.streams {
            None => self.open < self.cap || !self.idle.is_empty(),
            Some(streams) => self.in_flight < self.cap && streams.has_room(),
        }
    }

    /// Whether connections that lend streams are alive.
    pub(super) fn is_connected(&self) -> bool {
        self.streams.as_ref().is_some_and(|streams| !streams.is_unused())
    }
}

/// Where a request may go.
pub(super) enum Choice {
    Node(usize),
    /// Every node it may use has all its slots in use.
    Full,
    /// There is no node it may use.
    None,
}

impl Slots {
    /// One core's share of an upstream, without a connection yet.
    pub(super) fn new(one: &One, number: usize, cores: usize) -> Arc<Mutex<Self>> {
        let config = &one.config;
        let mut nodes: Vec<_> = config.nodes.iter().map(|_| NodeSlots::default()).collect();
        for (slots, target) in nodes.iter_mut().zip(&*one.nodes) {
            if let Some(seat) = target.seat() {
                slots.seat(&seat.member, config, number, cores);
            }
        }
        nodes.resize_with(config.slots(), NodeSlots::default);
        Arc::new(Mutex::new(Self {
            nodes,
            queue: VecDeque::new(),
            next_ticket: 0,
            max_pending: share(config.max_pending, number, cores),
            turn: number as u64,
            retired: false,
        }))
    }

    /// Where a request may go when one node takes it, and there is nothing to say against that one: nothing has to be weighed.
    fn only(&self, view: &View, tried: &Tried, aim: Aim, now: MonoTime) -> Option<Choice> {
        let node = match (view.candidates.as_slice(), aim.only) {
            ([node], None) if tried.is_empty() => *node,
            _ => return None,
        };
        let slots = self.nodes.get(node)?;
        (slots.tier.is_some() && slots.standing.breaker.permits(now)).then(|| match slots.has_room() {
            true => Choice::Node(node),
            false => Choice::Full,
        })
    }

    pub(super) fn choose(
        &mut self,
        view: &View,
        tried: &Tried,
        aim: Aim,
        now: MonoTime,
        rule: balance::Rule,
        random: impl FnOnce() -> u64,
    ) -> Choice {
        if let Some(choice) = self.only(view, tried, aim, now) {
            return choice;
        }
        let mut loads: SmallVec<[Load; 8]> = SmallVec::new();
        let mut avoided = false;
        let may = |node: &usize| !tried.contains(node);
        let tier = |node: usize| self.nodes.get(node).and_then(|slots| slots.tier);
        let takers = || aim.takers(view).filter(may);
        // RFC 2782: the lowest that can be reached.
        let lowest = takers().filter_map(tier).min();
        for node in takers() {
            if let Some(slots) = self
                .nodes
                .get(node)
                .filter(|slots| slots.tier.is_some() && slots.tier == lowest)
            {
                let room = slots.has_room();
                avoided |= !slots.standing.breaker.permits(now);
                let since = view.since.get(node).copied().flatten();
                loads.push(slots.standing.load(node, room, slots.in_flight, since, now));
            }
        }
        if avoided && few::is_last_resort(view, aim.when_none) {
            // A node that is out *and* cannot be reached is asked once per interval, not by every request.
            loads.retain(|load| self.permits(load.node, now));
        }
        if let [only] = loads.as_slice() {
            return if only.eligible {
                Choice::Node(only.node)
            } else {
                Choice::Full
            };
        }
        if loads.is_empty() {
            return Choice::None;
        }
        let turn = self.turn;
        self.turn = self.turn.wrapping_add(1);
        let draw = Draw {
            turn,
            random: random(),
            key: aim.key,
        };
        if avoided {
            let mut better = loads.clone();
            better.retain(|load| self.permits(load.node, now));
            // Who can be reached is waited for; when nobody can, a request is tried where there is room.
            if !better.is_empty() {
                loads = better;
            }
        }
        balance::choose(rule, &loads, draw).map_or(Choice::Full, Choice::Node)
    }

    fn permits(&self, node: usize, now: MonoTime) -> bool {
        let node = self.nodes.get(node);
        let connected = |slots: &NodeSlots| match &slots.streams {
            None => !slots.idle.is_empty(),
            Some(streams) => streams.lends(),
        };
        node.is_some_and(|slots| slots.standing.breaker.permits(now) || connected(slots))
    }

    /// Takes a slot of the node: with an idle link when there is one. The caller knows that there is room.
    pub(super) fn take(&mut self, node: usize, now: MonoTime) -> Option<Option<Channel>> {
        let slots = self.nodes.get_mut(node)?;
        slots.in_flight += 1;
        if let Some(streams) = &slots.streams {
            slots.open += 1;
            let stream = streams.lend();
            if stream.is_none() {
                slots.standing.breaker.tries(now);
            }
            return Some(stream.map(Channel::Stream));
        }
        let link = slots.idle.pop();
        if link.is_none() {
            slots.standing.breaker.tries(now);
            slots.open += 1;
        }
        Some(link.map(Channel::Link))
    }

    /// Lets a slot go, or finds the waiter that takes it over.
    pub(super) fn release(
        &mut self,
        view: &View,
        node: usize,
        link: Option<Box<Link>>,
    ) -> Option<(oneshot::Sender<Handed>, Option<Channel>)> {
        let slots = self.nodes.get_mut(node)?;
        let streams = slots.streams.clone();
        if streams.is_some() {
            slots.in_flight = slots.in_flight.saturating_sub(1);
            slots.open = slots.open.saturating_sub(1);
        }
        let slots = self.nodes.get(node)?;
        let takes = |aim: Aim| aim.takers(view).any(|taker| taker == node);
        let may = |waiter: &Waiter| !waiter.tried.contains(&node) && takes(waiter.aim);
        let reachable = match &streams {
            None => link.is_some() || slots.standing.breaker.is_closed(),
            Some(streams) => slots.has_room() && (streams.lends() || slots.standing.breaker.is_closed()),
        };
        if slots.tier.is_some()
            && reachable
            && let Some(at) = self.queue.iter().position(may)
            && let Some(waiter) = self.queue.remove(at)
        {
            let channel = match &streams {
                None => link.map(Channel::Link),
                Some(streams) => {
                    let slots = self.nodes.get_mut(node)?;
                    slots.in_flight += 1;
                    slots.open += 1;
                    streams.lend().map(Channel::Stream)
                }
            };
            return Some((waiter.hand, channel));
        }
        if streams.is_some() {
            return None;
        }
        let slots = self.nodes.get_mut(node)?;
        slots.in_flight = slots.in_flight.saturating_sub(1);
        match link {
            Some(link) => slots.idle.push(link),
            None => slots.open = slots.open.saturating_sub(1),
        }
        None
    }

    /// Whether a node lends streams while others wait: its limit may have grown, or a connection ended.
    pub(super) fn lends_to_waiters(&self, node: usize) -> bool {
        let lends = |slots: &NodeSlots| slots.streams.is_some() && slots.has_room();
        !self.queue.is_empty() && self.nodes.get(node).is_some_and(lends)
    }

    /// Whether a node may have room that nobody was handed, because it could not be connected to, while others wait.
    pub(super) fn leaves_waiting(&self, node: usize) -> bool {
        let doubtful = |slots: &NodeSlots| !slots.standing.breaker.is_closed();
        !self.queue.is_empty() && self.nodes.get(node).is_some_and(doubtful)
    }
}
