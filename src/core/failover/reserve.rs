//! The nodes in reserve: cold ones are started when nobody else can take the traffic, one that returned is quarantined until it has caught
//! up, and a preferred one takes over again once it has been healthy for long enough (R52).

use super::event::{Alarm, Effect, Role};
use super::health::Health;
use super::machine::Machine;
use super::node::{Power, Quarantine};
use super::promote::Phase;
use super::settings::{Failback, Grade, Initial, Promotion, Sharing};
use super::view::{NoPrimary, Primary};
use crate::core::consistency::bound::Position;
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};

impl Machine {
    /// A node that was down passes its probes again.
    pub(super) fn returned(&mut self, node: usize) {
        if self.tells_positions() && self.primary != Some(node) && Rule::R52.holds() {
            let goal = self.primary_position();
            if let Some(tracked) = self.nodes.get_mut(node) {
                tracked.quarantine = Quarantine::Until(goal); // R52
            }
        }
    }

    /// Lets those go that have caught up.
    pub(super) fn end_quarantines(&mut self) {
        let (primary, reign) = (self.primary, self.reign_since);
        let reached = self.primary_position();
        let term = self.claim.map(|claim| claim.term);
        let tells = self.tells_positions();
        let follows = matches!(self.settings.sharing, Sharing::Primary { roles: true, .. })
            && self.phase == Phase::Idle
            && primary.is_some();
        let others = self.nodes.iter_mut().enumerate();
        for (_, tracked) in others.filter(|(node, tracked)| primary != Some(*node) && tracked.is_alive()) {
            let position = tracked.position(reign);
            let within = position.is_none() || (reached.is_some() && position <= reached);
            let replica = tracked.said.role == Some(Role::Replica) && tracked.said_sent > reign;
            // R36: back in the set by its own word that it follows, in this term, and only if it is not ahead.
            if follows && !tracked.in_sync && replica && tracked.said.term >= term && within {
                tracked.in_sync = true;
                tracked.quarantine = if tells {
                    Quarantine::Until(reached)
                } else {
                    Quarantine::Over
                };
            }
            if let Quarantine::Until(goal) = tracked.quarantine {
                let goal = goal.or(reached);
                let caught_up = goal.is_some() && position >= goal && within;
                let silent = tracked.said.position.is_none();
                tracked.quarantine = if caught_up || silent {
                    Quarantine::Over
                } else {
                    Quarantine::Until(goal)
                };
            }
        }
    }

    fn primary_position(&self) -> Option<Position> {
        let primary = self.primary.and_then(|primary| self.node(primary));
        primary.and_then(|primary| primary.position(self.reign_since))
    }

    /// R52: the preferred node that may take over again from `active`.
    pub(super) fn failback_from(&self, now: MonoTime, active: usize) -> Option<usize> {
        self.stable_at(active)
            .find(|(node, at)| (*at <= now && self.is_sound_at(*node, *at)) || !Rule::R52.holds())
            .map(|(node, _)| node)
    }

    /// Whether a node that is probed has passed a probe since then: time that passed while nobody probed, as when the machine was suspended,
    /// is no health.
    fn is_sound_at(&self, node: usize, at: MonoTime) -> bool {
        let passed = self.node(node).and_then(|tracked| tracked.passed);
        passed.is_none_or(|sent| sent >= at)
    }

    /// Nodes preferred to `active`, each with the time at which it has been healthy for long enough.
    fn stable_at(&self, active: usize) -> impl Iterator<Item = (usize, MonoTime)> {
        let stable_for = match self.settings.failback {
            Failback::Manual => None,
            Failback::After(span) => Some(span).filter(|_| !self.stays(active)),
        };
        let preferred = self.preference().take_while(move |node| *node != active);
        preferred.filter_map(move |node| {
            let tracked = self.node(node)?;
            let warm = !matches!(tracked.standby, Some(Grade::Cold { .. }));
            let since = tracked.sound_since.filter(|_| warm && tracked.is_in_service())?;
            Some((node, since.after(stable_for?)))
        })
    }

    /// Starts a cold node when nobody else can take the traffic. Whether one is on its way.
    pub(super) fn start_cold(&mut self, now: MonoTime, effects: &mut Vec<Effect>) -> bool {
        let served = matches!(self.answer, Primary::Node(_));
        let primary = self.primary;
        for (node, tracked) in self.nodes.iter_mut().enumerate() {
            if matches!(tracked.power, Power::Starting { until } if until <= now) {
                tracked.power = Power::Failed;
                effects.push(Effect::Alarm(Alarm::StartFailed { node }));
            }
            let cold = matches!(tracked.standby, Some(Grade::Cold { .. }));
            let stopped = tracked.power == Power::Running && tracked.is_down() && primary != Some(node);
            if cold && (stopped || (served && tracked.power == Power::Failed)) {
                tracked.power = Power::Off;
            }
        }
        let needed = match self.settings.sharing {
            Sharing::Store => self.answer == Self::nobody(NoPrimary::Nobody),
            Sharing::Primary { .. } | Sharing::Mirrored { .. } => {
                let nobody = matches!(self.answer, Primary::None(NoPrimary::Nobody | NoPrimary::Behind));
                nobody && self.promotion() == Some(Promotion::Automatic)
            }
            Sharing::Homes => false,
        };
        if !needed {
            return false;
        }
        if self.nodes.iter().any(|n| matches!(n.power, Power::Starting { .. })) {
            return true;
        }
        let (unclean, preference) = (self.settings.unclean, self.preference());
        for node in preference {
            let Some(tracked) = self.nodes.get_mut(node) else {
                continue;
            };
            let may = tracked.filled && !tracked.drained && (tracked.in_sync || unclean);
            if let (Power::Off, Some(Grade::Cold { start_timeout }), true) = (tracked.power, tracked.standby, may) {
                let until = now.after(start_timeout);
                tracked.power = Power::Starting { until };
                effects.push(Effect::Start { node, until });
                return true;
            }
        }
        false
    }

    /// The start hook of a node has ended.
    pub(super) fn started(&mut self, now: MonoTime, node: usize, until: MonoTime, ok: bool, effects: &mut Vec<Effect>) {
        let initial = self.settings.initial;
        let Some(tracked) = self.nodes.get_mut(node) else {
            return;
        };
        if tracked.power != (Power::Starting { until }) {
            return;
        }
        if !ok {
            tracked.power = Power::Failed;
            effects.push(Effect::Alarm(Alarm::StartFailed { node }));
        } else if initial == Initial::Healthy {
            // Nothing else may ever say so.
            tracked.health = Health::Up { failures: 0 };
            tracked.sound_since = Some(now);
            tracked.power = Power::Running;
        }
    }

    /// The next instant at which time alone changes something.
    pub(super) fn next_timer(&self, now: MonoTime) -> Option<MonoTime> {
        let starting = self.nodes.iter().filter_map(|tracked| match tracked.power {
            Power::Starting { until } => Some(until),
            Power::Running | Power::Off | Power::Failed => None,
        });
        let hold: Span = self.settings.hold;
        let again = match self.phase {
            Phase::Stopped { again, .. } => again,
            Phase::Idle | Phase::Fencing(..) | Phase::Choosing(..) | Phase::Promoting(..) => None,
        };
        let unclaimed = self.unclaimed_since.map(|since| since.after(hold));
        let active = match self.answer {
            Primary::Node(node) => Some(node),
            Primary::Any | Primary::Homes | Primary::Pending | Primary::None(_) => None,
        };
        let back = active.into_iter().flat_map(|active| self.stable_at(active));
        let all = starting.chain(unclaimed).chain(again).chain(back.map(|(_, at)| at));
        all.filter(|at| *at > now).min()
    }
}
