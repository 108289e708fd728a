//! The state machine of one upstream: what happened goes in, the view and what must be done come out. Pure: the owner feeds it events one at
//! a time with the time they happened, makes [`Machine::record`] durable when a step has changed it, and only then hands out the effects
//! (R29).
//!
//! Who decides about traffic differs by how the nodes share their data: over one store health alone (`elect`), with one primary
//! the nodes' own claims (`follow`) or a promotion of ours (`promote`). Cold nodes, failback and quarantine are the same for all
//! (`reserve`).
//!
//! Invariants: the epoch never falls, and within one epoch there is never a second primary; a node that is down takes no traffic; with one
//! primary nobody outside the in-sync set is promoted, unless by `unclean` or by the operator's word.

use super::event::{Alarm, Effect, Event, Observed, Word};
use super::health::{Health, Turn, Why};
use super::node::{Power, Quarantine, Tracked};
use super::observed::Observing;
use super::promote::Phase;
use super::settings::{Claim, Pending, Promotion, Record, Settings, Sharing, Spread};
use super::view::{Epoch, NoPrimary, Primary, View};
use crate::core::reason::NodeState;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use smallvec::SmallVec;
use std::sync::Arc;

/// One upstream's nodes and who takes traffic.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) settings: Settings,
    pub(super) nodes: Vec<Tracked>,
    pub(super) epoch: Epoch,
    /// Who has the traffic, or had it last while nobody was put in its place. None before the first, and during a promotion.
    pub(super) primary: Option<usize>,
    /// Who had it when the promotion that is under way began.
    pub(super) deposed: Option<usize>,
    /// The answer to everybody who asks for the primary.
    pub(super) answer: Primary,
    pub(super) phase: Phase,
    /// Whose promote hook may have been run, as long as nobody is in office.
    pub(super) pending: Option<Pending>,
    /// That was so when the process began: what clients had been shown then is forgotten (R32).
    pub(super) recalled: bool,
    /// Hooks that failed since anybody took office.
    pub(super) failures: u32,
    /// R54: the epoch of somebody else who promotes, as a node told.
    pub(super) superseded: Option<Epoch>,
    pub(super) claim: Option<Claim>,
    /// The node that the operator chose, until another one takes over.
    pub(super) pinned: Option<usize>,
    /// The node that was to leave office and had nobody to follow it: that is not tried again at once.
    pub(super) kept: Option<usize>,
    /// Since when nobody claims to be the primary.
    pub(super) unclaimed_since: Option<MonoTime>,
    /// When the present primary took office: what nodes said before is of another history (R36).
    pub(super) reign_since: MonoTime,
    observing: Arc<Observing>,
    /// The timer that is set.
    wake: Option<MonoTime>,
}

impl Machine {
    /// The machine before any event, as it was left when a record of that is remembered.
    #[must_use]
    pub fn new(now: MonoTime, settings: Settings, remembered: Option<&Record>) -> Self {
        let first = settings
            .nodes
            .iter()
            .position(|slot| slot.standby.is_none())
            .unwrap_or(0);
        let all = !matches!(
            settings.sharing,
            Sharing::Mirrored {
                initially_all: false,
                ..
            }
        );
        let in_sync = |node| match remembered {
            None => all || node == first, // R35
            // A node that is new here: over a store it holds what the store holds, as a replica it follows; a copy of ours it is not.
            Some(record) => record.in_sync.get(node).copied().unwrap_or(match settings.sharing {
                Sharing::Mirrored { .. } => false,
                Sharing::Store | Sharing::Primary { .. } | Sharing::Homes => true,
            }),
        };
        let slots = settings.nodes.iter().enumerate();
        let mut nodes: Vec<Tracked> = slots
            .map(|(node, slot)| Tracked::new(now, *slot, settings.initial, in_sync(node)))
            .collect();
        let drained = remembered.into_iter().flat_map(|record| &record.drained);
        for (tracked, drained) in nodes.iter_mut().zip(drained) {
            tracked.drained = *drained;
        }
        let exists = |node: Option<usize>| node.filter(|node| *node < nodes.len());
        let (primary, deposed) = match remembered {
            Some(record) => (exists(record.primary), exists(record.deposed)),
            // R30: where nobody says a role the first node without `standby` is the first primary.
            None => match settings.sharing {
                Sharing::Primary { roles: false, .. } | Sharing::Mirrored { .. } => (exists(Some(first)), None),
                Sharing::Primary { roles: true, .. } | Sharing::Store | Sharing::Homes => (None, None),
            },
        };
        let pending = remembered.and_then(|record| record.pending);
        let machine = Self {
            pending: pending.filter(|pending| exists(Some(pending.node)).is_some()),
            pinned: remembered.and_then(|record| exists(record.pinned)),
            kept: None,
            recalled: pending.is_some(),
            failures: 0,
            superseded: remembered.and_then(|record| record.superseded),
            epoch: remembered.map_or(settings.epoch, |record| record.epoch), // R53
            nodes,
            primary,
            deposed,
            answer: Primary::Pending,
            phase: Phase::Idle,
            claim: remembered.and_then(|record| record.term),
            unclaimed_since: None,
            reign_since: now,
            observing: Arc::new(Observing::from(now)),
            wake: None,
            settings,
        };
        // Who needs no probe serves at once. Where something must be done first the first step decides: nobody would do it now.
        let (mut decided, mut effects) = (machine.clone(), Vec::new());
        decided.decide(now, Observed::Unknown, &mut effects);
        decided.wake = None;
        if effects.is_empty() { decided } else { machine }
    }

    /// What must be durable of it.
    #[must_use]
    pub fn record(&self) -> Record {
        Record {
            epoch: self.epoch,
            primary: self.primary,
            deposed: self.deposed,
            in_sync: self.nodes.iter().map(|node| node.in_sync).collect(),
            term: self.claim,
            pending: self.pending,
            pinned: self.pinned,
            drained: self.nodes.iter().map(|node| node.drained).collect(),
            superseded: self.superseded,
        }
    }

    /// What clients have been shown of the present primary's time in office: to be read afresh for every step (R32).
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.observing.read()
    }

    /// Takes one event; pushes what must be done.
    pub fn step(&mut self, now: MonoTime, event: Event, observed: Observed, effects: &mut Vec<Effect>) {
        self.stepping(now, observed, effects, |machine, effects| {
            machine.take(now, event, effects);
        });
    }

    /// Whatever happens, and what follows from it.
    pub(super) fn stepping(
        &mut self,
        now: MonoTime,
        observed: Observed,
        effects: &mut Vec<Effect>,
        happens: impl FnOnce(&mut Self, &mut Vec<Effect>),
    ) {
        let before = self.states();
        let served = self.serving();
        let old = self.primary.or(self.deposed);
        happens(self, effects);
        self.decide(now, observed, effects);
        self.note_service(now, &served);
        for (node, is) in self.states().into_iter().enumerate() {
            if before.get(node) != Some(&is) {
                effects.push(Effect::State { node, state: is });
            }
        }
        if let (Some(from), Primary::Node(to)) = (old, self.answer)
            && from != to
        {
            let since = self.nodes.get(from).and_then(|n| n.failing_since).unwrap_or(now);
            let took = now.duration_since(since);
            effects.push(Effect::Failover { from, to, took });
        }
        let wake = self.next_timer(now);
        if wake != self.wake
            && let Some(at) = wake
        {
            effects.push(Effect::WakeAt(at));
        }
        self.wake = wake;
    }

    /// What requests should see now.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            epoch: self.epoch,
            primary: self.answer,
            candidates: self.serving(),
            states: self.states(),
            in_sync: self.nodes.iter().map(|node| node.in_sync).collect(),
            since: self.nodes.iter().map(|node| node.since).collect(),
            observed: Arc::clone(&self.observing),
        }
    }

    /// What an event says of single nodes.
    pub(super) fn take(&mut self, now: MonoTime, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Probed {
                node,
                outcome,
                said,
                sent,
            } => {
                let thresholds = self.settings.thresholds;
                let Some(tracked) = self.nodes.get_mut(node).filter(|tracked| tracked.filled) else {
                    return;
                };
                let returns = matches!(tracked.health, Health::Down { .. });
                match tracked.probed(now, outcome, said, sent, thresholds) {
                    Turn::None => {}
                    Turn::Up if returns => self.returned(node),
                    Turn::Up => {}
                    Turn::Down(Why::Status) => effects.push(Effect::CloseIdle { node }),
                    Turn::Down(Why::Unreachable) | Turn::Lost => effects.push(Effect::CloseAll { node }),
                }
                self.note_claim(node);
            }
            Event::Tick => {}
            Event::Fenced { node, epoch, ok } => self.fenced(now, node, epoch, ok, effects),
            Event::Promoted { node, epoch, ok } => self.promoted(now, node, epoch, ok, effects),
            Event::Started { node, until, ok } => self.started(now, node, until, ok, effects),
            Event::Operator(word) => self.ordered(now, word, effects),
            Event::Missed { node } => self.missed(node),
            Event::Superseded { epoch } => self.supersede(epoch),
            Event::CaughtUp { node, epoch } => {
                // R33b, R37: what was copied counts under the primary it was copied from.
                let reigns = self.primary != Some(node) && matches!(self.answer, Primary::Node(_));
                let reigns = reigns && epoch == self.epoch;
                if let Some(tracked) = self.nodes.get_mut(node).filter(|n| reigns && n.is_alive())
                    && matches!(self.settings.sharing, Sharing::Mirrored { .. })
                {
                    tracked.in_sync = true;
                }
            }
            Event::Ejected { node } | Event::Readmitted { node } => {
                if let Some(tracked) = self.nodes.get_mut(node) {
                    tracked.ejected = matches!(event, Event::Ejected { .. });
                    tracked.late = true;
                }
            }
            Event::Joined { node } => self.fill(now, node, true),
            Event::Left { node } => {
                self.fill(now, node, false);
                effects.push(Effect::CloseIdle { node });
            }
        }
    }

    fn missed(&mut self, node: usize) {
        let mirrored = matches!(self.settings.sharing, Sharing::Mirrored { .. });
        let source = self.primary.or(self.deposed); // copies are made of what it has
        if let Some(tracked) = self.nodes.get_mut(node)
            && mirrored
            && source != Some(node)
        {
            tracked.in_sync = false; // R33
        }
    }

    fn fill(&mut self, now: MonoTime, node: usize, filled: bool) {
        let initial = self.settings.initial;
        if let (Some(tracked), Some(slot)) = (self.nodes.get_mut(node), self.settings.nodes.get_mut(node)) {
            slot.filled = filled;
            *tracked = Tracked::new(now, *slot, initial, tracked.in_sync);
            tracked.late = true;
        }
        if !filled && self.pinned == Some(node) {
            self.pinned = None; // the operator did not speak of who comes next
        }
        if filled && self.primary == Some(node) && Rule::R53.holds() {
            // It left, and nobody took over: the one that sits there now is another node.
            self.primary = None;
            self.epoch = self.epoch.next(); // R53
        }
    }

    fn ordered(&mut self, now: MonoTime, word: Word, effects: &mut Vec<Effect>) {
        let (Word::Promote { node } | Word::Drain { node } | Word::Undrain { node } | Word::Resynced { node }) = word;
        let Some(tracked) = self.nodes.get_mut(node).filter(|tracked| tracked.filled) else {
            return;
        };
        match word {
            Word::Promote { .. } => {
                if tracked.is_alive() {
                    self.order_promotion(now, node, effects);
                }
            }
            Word::Drain { .. } => {
                tracked.drained = true;
                tracked.late = true;
                if self.pinned == Some(node) {
                    self.pinned = None; // the later word counts
                }
                self.kept = None;
                if self.primary == Some(node) && self.is_led() && !self.may_succeed(node) {
                    effects.push(Effect::Alarm(Alarm::NoSuccessor { node }));
                }
            }
            Word::Undrain { .. } => tracked.drained = false,
            Word::Resynced { .. } => {
                tracked.in_sync = true; // R36, R33b: by the operator's word
                tracked.quarantine = Quarantine::Over;
            }
        }
    }

    /// Decides anew who has the traffic.
    fn decide(&mut self, now: MonoTime, observed: Observed, effects: &mut Vec<Effect>) {
        self.end_quarantines();
        let before = self.answer;
        self.answer = match self.settings.sharing {
            Sharing::Store => self.elect(now),
            Sharing::Homes => Primary::Homes,
            Sharing::Primary {
                promotion: Promotion::Follow,
                ..
            } => self.follow(now),
            Sharing::Primary { .. } | Sharing::Mirrored { .. } => self.lead(now, observed, effects),
        };
        if self.start_cold(now, effects) {
            self.answer = Primary::Pending;
        }
        if let Primary::None(why) = self.answer
            && before != self.answer
        {
            effects.push(Effect::Alarm(Alarm::NoPrimary(why)));
        }
    }

    /// Puts a node in office. `before`: who had the traffic. The epoch counts changes of hands; a promotion of ours has counted already.
    pub(super) fn enthrone(&mut self, now: MonoTime, node: usize, before: Option<usize>) {
        if before.is_some_and(|before| before != node) && self.deposed.is_none() && Rule::R53.holds() {
            self.epoch = self.epoch.next(); // R53
        }
        if self.primary != Some(node) {
            self.reign_since = now;
            self.observing = Arc::new(Observing::from(now)); // R36: positions of two reigns do not compare
            for tracked in &mut self.nodes {
                tracked.quarantine = tracked.quarantine.under_another();
            }
        }
        self.primary = Some(node);
        self.deposed = None;
        self.pending = None;
        self.recalled = false;
        self.failures = 0;
        self.pinned = self.pinned.filter(|pinned| *pinned == node);
        self.kept = self.kept.filter(|kept| *kept == node);
    }

    /// Whether the traffic stays with a node as long as that can take it.
    pub(super) fn stays(&self, node: usize) -> bool {
        self.pinned == Some(node) || self.kept == Some(node)
    }

    /// Whether there is one primary whose promotion is not a matter of health alone.
    pub(super) const fn has_primary(&self) -> bool {
        matches!(
            self.settings.sharing,
            Sharing::Primary { .. } | Sharing::Mirrored { .. }
        )
    }

    /// Whether Tidegate promotes, by itself or by the operator's word.
    pub(super) fn is_led(&self) -> bool {
        self.has_primary() && self.promotion() != Some(Promotion::Follow)
    }

    pub(super) const fn promotion(&self) -> Option<Promotion> {
        match self.settings.sharing {
            Sharing::Primary { promotion, .. } | Sharing::Mirrored { promotion, .. } => Some(promotion),
            Sharing::Store | Sharing::Homes => None,
        }
    }

    /// Nodes in the order in which they are preferred: the first without `standby`, then that of the file.
    pub(super) fn preference(&self) -> impl Iterator<Item = usize> + use<> {
        let slots = &self.settings.nodes;
        let mut order: SmallVec<[usize; 8]> = (0..slots.len()).collect();
        let key = |node: &usize| slots.get(*node).map(|slot| (!slot.filled, slot.rank));
        order.sort_by_key(key); // stable: of one rank by place
        let takes_traffic = |node: &usize| slots.get(*node).is_some_and(|slot| slot.standby.is_none());
        let first = order.iter().position(takes_traffic);
        if let Some(head) = first.and_then(|first| order.get_mut(..=first)) {
            head.rotate_right(1);
        }
        order.into_iter()
    }

    pub(super) fn node(&self, node: usize) -> Option<&Tracked> {
        self.nodes.get(node)
    }

    /// The nodes that take reads which any node may answer.
    fn serving(&self) -> Vec<usize> {
        let only = match (self.settings.spread, self.answer) {
            (Spread::One, Primary::Node(node)) => Some(node),
            // While there is no primary the others go on with what does not need one.
            (Spread::One, _) if self.has_primary() => None,
            (Spread::One, _) => return Vec::new(),
            (Spread::All, _) => None,
        };
        let serves = |node: &usize| match only {
            Some(only) => *node == only,
            // A primary that is told to drain goes on until another one takes over; it is not ejected for what one link is like (R39).
            None if self.answer == Primary::Node(*node) => true,
            None => self.node(*node).is_some_and(Tracked::is_in_service),
        };
        (0..self.nodes.len()).filter(serves).collect()
    }

    fn states(&self) -> Vec<NodeState> {
        let serving = self.serving();
        let state = |(node, tracked): (usize, &Tracked)| match (tracked.health, tracked.power) {
            (Health::Unprobed | Health::Down { .. }, Power::Starting { .. }) => NodeState::Starting,
            (Health::Unprobed | Health::Down { .. }, Power::Off) => NodeState::Standby,
            (Health::Unprobed, Power::Running | Power::Failed) => NodeState::Unprobed,
            (Health::Down { .. }, Power::Running | Power::Failed) => NodeState::Unhealthy,
            (Health::Up { .. }, _) if tracked.drained => NodeState::Draining,
            (Health::Up { .. }, _) if self.answer == Primary::Node(node) => NodeState::Active,
            (Health::Up { .. }, _) if tracked.ejected => NodeState::Ejected,
            (Health::Up { .. }, _) if !tracked.in_sync || tracked.quarantine != Quarantine::Over => {
                NodeState::Quarantined
            }
            (Health::Up { .. }, _) => match self.settings.spread {
                Spread::All if serving.contains(&node) => NodeState::Active,
                Spread::All | Spread::One => NodeState::Standby,
            },
        };
        self.nodes.iter().enumerate().map(state).collect()
    }

    /// Notes who came into service, and when. Who was never out of it starts with its full share.
    fn note_service(&mut self, now: MonoTime, served: &[usize]) {
        let serving = self.serving();
        for (node, tracked) in self.nodes.iter_mut().enumerate() {
            if !serving.contains(&node) {
                tracked.since = None;
            } else if !served.contains(&node) && tracked.late {
                tracked.since = Some(now);
            }
        }
    }

    /// Nobody, for this reason: the operator is told when it is news.
    pub(super) const fn nobody(why: NoPrimary) -> Primary {
        Primary::None(why)
    }
}
