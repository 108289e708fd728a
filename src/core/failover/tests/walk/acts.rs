//! What may happen, and to which upstream.

use super::super::super::event::{Event, Role, Said, Word};
use super::super::super::health::{Outcome, Thresholds};
use super::super::super::machine::Machine;
use super::super::super::node::Power;
use super::super::super::promote::Phase;
use super::super::super::settings::{Failback, Grade, Initial, Promotion, Settings, Sharing, Slot, Spread};
use super::super::super::view::Epoch;
use crate::core::consistency::bound::Position;
use crate::core::time::{MonoTime, Span};

pub(super) const UNIT: u64 = 1_000_000;
pub(super) const STABLE: u64 = 2;

#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// A probe that passed, sent just now or before anything that counts.
    Pass(usize, Said, bool),
    Fail(usize),
    Wait,
    Fence(bool),
    /// The end of an earlier attempt's hook.
    LateFence,
    Promote(bool),
    LatePromote,
    Start(usize, bool),
    Say(Word),
    Missed(usize),
    CaughtUp(usize),
    Eject(usize),
    Readmit(usize),
    Join(usize),
    Leave(usize),
    /// A write was refused in a later epoch than ours, or in our own.
    Refused(bool),
    /// Clients are shown a position, or an answer without one.
    Show(Option<u64>),
    Crash,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    pub(super) name: &'static str,
    pub(super) nodes: usize,
    pub(super) sharing: Sharing,
    pub(super) spread: Spread,
    pub(super) fences: bool,
    pub(super) promotes: bool,
    pub(super) unclean: bool,
    pub(super) failback: bool,
    pub(super) cold: bool,
    /// Results in a row that turn a node over.
    pub(super) threshold: u32,
    /// Discovery fills and empties the places.
    pub(super) discovered: bool,
    /// Another one may promote too.
    pub(super) rival: bool,
    /// The operator speaks, and reports come late: without either the same number of acts leads further.
    pub(super) words: bool,
    pub(super) depth: usize,
}

impl World {
    pub(super) fn promotion(&self) -> Option<Promotion> {
        match self.sharing {
            Sharing::Primary { promotion, .. } | Sharing::Mirrored { promotion, .. } => Some(promotion),
            Sharing::Store | Sharing::Homes => None,
        }
    }

    pub(super) fn is_led(&self) -> bool {
        matches!(self.promotion(), Some(Promotion::Automatic | Promotion::Manual))
    }

    pub(super) fn tells_positions(&self) -> bool {
        matches!(self.sharing, Sharing::Primary { positions: true, .. })
    }

    pub(super) fn tells_roles(&self) -> bool {
        matches!(self.sharing, Sharing::Primary { roles: true, .. })
    }

    pub(super) fn settings(&self) -> Settings {
        let slot = |node: usize| {
            let grade = if self.cold && node + 1 == self.nodes {
                Grade::Cold {
                    start_timeout: Span::from_secs(1),
                }
            } else {
                Grade::Hot
            };
            Slot {
                standby: (node > 0 && !self.discovered).then_some(grade),
                filled: !self.discovered,
                rank: node,
            }
        };
        Settings {
            spread: self.spread,
            sharing: self.sharing,
            thresholds: Thresholds {
                healthy: self.threshold,
                unhealthy: self.threshold,
            },
            initial: Initial::Unprobed,
            nodes: (0..self.nodes).map(slot).collect(),
            epoch: Epoch(7),
            failback: if self.failback {
                Failback::After(Span::from_secs(STABLE))
            } else {
                Failback::Manual
            },
            hold: Span::from_secs(1),
            unclean: self.unclean,
            fences: self.fences,
            promotes: self.promotes,
        }
    }

    /// What nodes may say of themselves.
    fn says(&self) -> Vec<Said> {
        let said = |role, term, position: Option<u64>| Said {
            role,
            term,
            position: position.map(Position),
        };
        let (primary, replica) = (Some(Role::Primary), Some(Role::Replica));
        match self.sharing {
            Sharing::Primary {
                promotion: Promotion::Follow,
                ..
            } => vec![
                said(primary, Some(1), None),
                said(primary, Some(2), None),
                said(replica, Some(2), None),
            ],
            Sharing::Primary {
                positions: true,
                roles: true,
                ..
            } => vec![
                said(primary, Some(1), Some(1)),
                said(primary, Some(2), Some(2)),
                said(replica, Some(1), Some(1)),
                said(replica, Some(2), Some(2)),
            ],
            Sharing::Primary { roles: true, .. } => vec![said(primary, None, None), said(replica, None, None)],
            Sharing::Primary { positions: true, .. } => vec![said(None, None, Some(1)), said(None, None, Some(2))],
            Sharing::Primary { .. } | Sharing::Mirrored { .. } | Sharing::Store | Sharing::Homes => {
                vec![Said::default()]
            }
        }
    }

    /// What may happen next.
    pub(super) fn acts(&self, machine: &Machine) -> Vec<Act> {
        let mut acts = vec![Act::Wait, Act::Crash];
        for node in 0..self.nodes {
            if !machine.nodes[node].filled {
                acts.push(Act::Join(node));
                continue;
            }
            for said in self.says() {
                acts.push(Act::Pass(node, said, true));
                if self.tells_positions() && self.words {
                    acts.push(Act::Pass(node, said, false));
                }
            }
            acts.push(Act::Fail(node));
            if self.words {
                acts.push(Act::Say(Word::Promote { node }));
                acts.push(Act::Say(Word::Drain { node }));
            }
            if machine.nodes[node].drained {
                acts.push(Act::Say(Word::Undrain { node }));
            }
            match self.sharing {
                Sharing::Store | Sharing::Homes if machine.nodes[node].ejected => acts.push(Act::Readmit(node)),
                Sharing::Store | Sharing::Homes => acts.push(Act::Eject(node)),
                Sharing::Mirrored { .. } => acts.extend([
                    Act::Missed(node),
                    Act::CaughtUp(node),
                    Act::Say(Word::Resynced { node }),
                ]),
                Sharing::Primary { .. } => acts.push(Act::Say(Word::Resynced { node })),
            }
            if self.discovered {
                acts.push(Act::Leave(node));
            }
            if matches!(machine.nodes[node].power, Power::Starting { .. }) {
                acts.extend([Act::Start(node, true), Act::Start(node, false)]);
            }
        }
        match machine.phase {
            Phase::Fencing(..) => acts.extend([Act::Fence(true), Act::Fence(false), Act::LateFence]),
            Phase::Promoting(..) => acts.extend([Act::Promote(true), Act::Promote(false), Act::LatePromote]),
            Phase::Idle | Phase::Choosing(..) | Phase::Stopped { .. } => {}
        }
        if self.tells_positions() {
            acts.extend([Act::Show(None), Act::Show(Some(1)), Act::Show(Some(2))]);
        }
        if self.rival {
            acts.extend([Act::Refused(true), Act::Refused(false)]);
        }
        acts
    }
}

impl Act {
    /// What the machine is told of it.
    pub(super) fn event(self, machine: &Machine, now: MonoTime) -> Option<Event> {
        let epoch = machine.record().epoch;
        let probed = |node, outcome, said, sent| Event::Probed {
            node,
            outcome,
            said,
            sent,
        };
        let earlier = Epoch(epoch.0 - 1);
        Some(match (self, machine.phase) {
            (Self::Pass(node, said, true), _) => probed(node, Outcome::Passed, said, now),
            (Self::Pass(node, said, false), _) => probed(node, Outcome::Passed, said, MonoTime::from_micros(1)),
            (Self::Fail(node), _) => probed(node, Outcome::Unreachable, Said::default(), now),
            (Self::Wait, _) => Event::Tick,
            (Self::Fence(ok), Phase::Fencing(_, node)) => Event::Fenced { node, epoch, ok },
            (Self::LateFence, Phase::Fencing(_, node)) => Event::Fenced {
                node,
                epoch: earlier,
                ok: true,
            },
            (Self::Promote(ok), Phase::Promoting(_, _, chosen)) => Event::Promoted {
                node: chosen.node,
                epoch,
                ok,
            },
            (Self::LatePromote, Phase::Promoting(_, _, chosen)) => Event::Promoted {
                node: chosen.node,
                epoch: earlier,
                ok: true,
            },
            (Self::Start(node, ok), _) => match machine.nodes[node].power {
                Power::Starting { until } => Event::Started { node, until, ok },
                Power::Running | Power::Off | Power::Failed => return None,
            },
            (Self::Say(word), _) => Event::Operator(word),
            (Self::Missed(node), _) => Event::Missed { node },
            (Self::CaughtUp(node), _) => Event::CaughtUp { node, epoch },
            (Self::Eject(node), _) => Event::Ejected { node },
            (Self::Readmit(node), _) => Event::Readmitted { node },
            (Self::Join(node), _) => Event::Joined { node },
            (Self::Leave(node), _) => Event::Left { node },
            (Self::Refused(true), _) => Event::Superseded { epoch: epoch.next() },
            (Self::Refused(false), _) => Event::Superseded { epoch },
            (
                Self::Fence(_) | Self::LateFence | Self::Promote(_) | Self::LatePromote | Self::Show(_) | Self::Crash,
                _,
            ) => {
                return None;
            }
        })
    }
}
