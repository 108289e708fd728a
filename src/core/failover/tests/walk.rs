//! Every order of what may happen to small upstreams: probes that pass with what nodes say of themselves, or do not come back, hooks that end
//! well or badly or late, copies that are missed and made good, the operator's words, time, and a crash with a restart from the record.
//!
//! What must hold is judged by a second, plainer account of the same events ([`Ghost`]); what the machine believes is not asked for, except
//! its view and record. States that were seen before are not entered again: times count only by their order and by whole units since.

use super::super::event::{Effect, Event, Observed, Role, Said, Word};
use super::super::health::{Outcome, Thresholds};
use super::super::machine::Machine;
use super::super::node::{Power, Quarantine};
use super::super::promote::Phase;
use super::super::settings::{Failback, Grade, Initial, Promotion, Settings, Sharing, Slot, Spread};
use super::super::view::{Epoch, NoPrimary, Primary};
use crate::core::consistency::bound::Position;
use crate::core::rules::switch_off_as_told;
use crate::core::time::{MonoTime, Span};
use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;

const UNIT: u64 = 1_000_000;
const STABLE: u64 = 2;

/// What may happen.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Act {
    /// A probe that passed, sent just now or before anything that counts.
    Pass(usize, Said, bool),
    Fail(usize),
    Wait,
    Fence(bool),
    LateFence,
    Promote(bool),
    Start(usize, bool),
    Say(Word),
    Missed(usize),
    CaughtUp(usize),
    Eject(usize),
    Readmit(usize),
    /// Clients are shown a position, or an answer without one.
    Show(Option<u64>),
    Crash,
}

/// The plain account.
#[derive(Clone, Debug, Default)]
struct Ghost {
    up: Vec<bool>,
    /// Units of health without a failure.
    sound: Vec<u64>,
    drained: Vec<bool>,
    ejected: Vec<bool>,
    /// Deposed, or missed a copy, and nothing has made it good.
    out: Vec<bool>,
    /// The term of the claim made by the last probe that passed.
    claims: Vec<Option<Option<u64>>>,
    highest: Option<u64>,
    /// What was reported since the fence.
    fresh: Vec<Option<u64>>,
    shown: Option<u64>,
    /// The last primary of this epoch.
    holder: Option<usize>,
    /// The fence of this attempt succeeded; it failed.
    fenced: bool,
    stopped: bool,
    /// By the operator's word, since anybody was enthroned.
    ordered: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct World {
    name: &'static str,
    nodes: usize,
    sharing: Sharing,
    spread: Spread,
    fences: bool,
    unclean: bool,
    failback: bool,
    cold: bool,
    depth: usize,
}

#[derive(Default, Debug)]
struct Found {
    states: usize,
    promotions: usize,
    orders: usize,
    failbacks: usize,
    conflicts: usize,
    refusals: usize,
    starts: usize,
    moves: usize,
}

#[derive(Clone)]
struct State {
    machine: Machine,
    now: u64,
    ghost: Ghost,
    trail: Vec<Act>,
}

fn settings(world: &World) -> Settings {
    let slot = |node: usize| {
        let cold = world.cold && node + 1 == world.nodes;
        let grade = if cold {
            Grade::Cold {
                start_timeout: Span::from_secs(1),
            }
        } else {
            Grade::Hot
        };
        Slot::of((node > 0).then_some(grade))
    };
    Settings {
        spread: world.spread,
        sharing: world.sharing,
        thresholds: Thresholds {
            healthy: 1,
            unhealthy: 1,
        },
        initial: Initial::Unprobed,
        nodes: (0..world.nodes).map(slot).collect(),
        epoch: Epoch(7),
        failback: if world.failback {
            Failback::After(Span::from_secs(STABLE))
        } else {
            Failback::Manual
        },
        hold: Span::from_secs(1),
        unclean: world.unclean,
        fences: world.fences,
    }
}

fn says(world: &World) -> Vec<Said> {
    let role = |role, term| Said {
        role: Some(role),
        term,
        position: None,
    };
    match world.sharing {
        Sharing::Primary {
            promotion: Promotion::Follow,
            ..
        } => vec![
            role(Role::Primary, Some(1)),
            role(Role::Primary, Some(2)),
            role(Role::Replica, Some(2)),
        ],
        Sharing::Primary {
            positions: false,
            roles: true,
            ..
        } => vec![role(Role::Primary, None), role(Role::Replica, None)],
        Sharing::Primary { positions: true, .. } => [1, 2]
            .map(|p| Said {
                position: Some(Position(p)),
                ..Said::default()
            })
            .to_vec(),
        Sharing::Primary { .. } | Sharing::Mirrored { .. } | Sharing::Store | Sharing::Homes => vec![Said::default()],
    }
}

fn acts(world: &World, state: &State) -> Vec<Act> {
    let mut acts = vec![Act::Wait, Act::Crash];
    let positions = matches!(world.sharing, Sharing::Primary { positions: true, .. });
    for node in 0..world.nodes {
        for said in says(world) {
            acts.push(Act::Pass(node, said, true));
            if positions {
                acts.push(Act::Pass(node, said, false));
            }
        }
        acts.push(Act::Fail(node));
        acts.push(Act::Say(Word::Promote { node }));
        acts.push(Act::Say(Word::Drain { node }));
        acts.push(Act::Say(Word::Undrain { node }));
        match world.sharing {
            Sharing::Store | Sharing::Homes => acts.extend([Act::Eject(node), Act::Readmit(node)]),
            Sharing::Mirrored { .. } => acts.extend([
                Act::Missed(node),
                Act::CaughtUp(node),
                Act::Say(Word::Resynced { node }),
            ]),
            Sharing::Primary { .. } => acts.push(Act::Say(Word::Resynced { node })),
        }
        if matches!(state.machine.nodes[node].power, Power::Starting { .. }) {
            acts.extend([Act::Start(node, true), Act::Start(node, false)]);
        }
    }
    match state.machine.phase {
        Phase::Fencing(_) => acts.extend([Act::Fence(true), Act::Fence(false), Act::LateFence]),
        Phase::Promoting(..) => acts.extend([Act::Promote(true), Act::Promote(false)]),
        Phase::Idle | Phase::Choosing(..) | Phase::Stopped(_) => {}
    }
    if positions {
        acts.extend([Act::Show(None), Act::Show(Some(1)), Act::Show(Some(2))]);
    }
    acts
}

/// What tells states apart.
fn key(state: &State) -> String {
    let (m, g) = (&state.machine, &state.ghost);
    let units = |at: MonoTime| (state.now.saturating_sub(at.as_micros()) / UNIT).min(3);
    let mut key = String::new();
    for node in &m.nodes {
        let power = match node.power {
            Power::Starting { until } => 10 + (until.as_micros().saturating_sub(state.now)).div_ceil(UNIT).min(3),
            Power::Running => 0,
            Power::Off => 1,
            Power::Failed => 2,
        };
        let since = match m.phase {
            Phase::Choosing(_, since) | Phase::Promoting(_, since, _) => node.said_sent > since,
            Phase::Idle | Phase::Fencing(_) | Phase::Stopped(_) => false,
        };
        let quarantine = match node.quarantine {
            Quarantine::Over => 9,
            Quarantine::Until(goal) => goal.map_or(0, |p| p.0),
        };
        let _ = write!(
            key,
            "{:?}{:?}{:?}{:?}{}{}{}{power}{quarantine}{}{since};",
            node.health,
            node.sound_since.map(units),
            node.said.role,
            (node.said.term, node.said.position),
            node.drained,
            node.ejected,
            node.in_sync,
            node.said_sent > m.reign_since,
        );
    }
    let phase = match m.phase {
        Phase::Idle => "i".to_owned(),
        Phase::Fencing(attempt) => format!("f{attempt:?}"),
        Phase::Choosing(attempt, _) => format!("c{attempt:?}"),
        Phase::Promoting(attempt, _, chosen) => format!("p{attempt:?}{chosen:?}"),
        Phase::Stopped(why) => format!("s{why:?}"),
    };
    let _ = write!(
        key,
        "{phase}{:?}{:?}{:?}{:?}{:?}{:?}|{:?}",
        m.primary,
        m.deposed,
        m.answer,
        m.claim,
        m.pinned,
        m.unclaimed_since.map(units),
        (
            &g.out, &g.claims, g.highest, &g.fresh, g.shown, g.holder, g.fenced, g.stopped, g.ordered, &g.sound
        ),
    );
    key
}

impl State {
    fn new(world: &World) -> Self {
        let now = 10 * UNIT;
        let n = world.nodes;
        let machine = Machine::new(MonoTime::from_micros(now), settings(world), None);
        let ghost = Ghost {
            up: vec![false; n],
            sound: vec![0; n],
            drained: vec![false; n],
            ejected: vec![false; n],
            out: vec![false; n],
            claims: vec![None; n],
            fresh: vec![None; n],
            holder: machine.record().primary,
            ..Ghost::default()
        };
        Self {
            machine,
            now,
            ghost,
            trail: Vec::new(),
        }
    }

    fn event(&self, act: Act) -> Option<Event> {
        let m = &self.machine;
        let (now, epoch) = (MonoTime::from_micros(self.now), m.record().epoch);
        let deposed = m.record().deposed.unwrap_or(0);
        Some(match act {
            Act::Pass(node, said, fresh) => Event::Probed {
                node,
                outcome: Outcome::Passed,
                said,
                sent: if fresh { now } else { MonoTime::from_micros(1) },
            },
            Act::Fail(node) => Event::Probed {
                node,
                outcome: Outcome::Unreachable,
                said: Said::default(),
                sent: now,
            },
            Act::Wait => Event::Tick,
            Act::Fence(ok) => Event::Fenced {
                node: deposed,
                epoch,
                ok,
            },
            Act::LateFence => Event::Fenced {
                node: deposed,
                epoch: Epoch(epoch.0 - 1),
                ok: true,
            },
            Act::Promote(ok) => {
                let chosen = (0..m.nodes.len())
                    .find(|node| format!("{:?}", m.phase).contains(&format!("Chosen {{ node: {node}")));
                Event::Promoted {
                    node: chosen?,
                    epoch,
                    ok,
                }
            }
            Act::Start(node, ok) => match m.nodes[node].power {
                Power::Starting { until } => Event::Started { node, until, ok },
                Power::Running | Power::Off | Power::Failed => return None,
            },
            Act::Say(word) => Event::Operator(word),
            Act::Missed(node) => Event::Missed { node },
            Act::CaughtUp(node) => Event::CaughtUp { node, epoch },
            Act::Eject(node) => Event::Ejected { node },
            Act::Readmit(node) => Event::Readmitted { node },
            Act::Show(_) | Act::Crash => return None,
        })
    }

    /// The next state, judged.
    fn after(&self, world: &World, act: Act, found: &mut Found) -> Result<Self, String> {
        let mut next = self.clone();
        next.trail.push(act);
        next.now += if act == Act::Wait { UNIT } else { 1 };
        let now = MonoTime::from_micros(next.now);
        let before = self.machine.record();
        let mut effects = Vec::new();
        next.account(world, act);
        match next.event(act) {
            Some(event) => {
                let observed = next
                    .ghost
                    .shown
                    .map_or(Observed::Unknown, |p| Observed::At(Position(p)));
                next.machine.step(now, event, observed, &mut effects);
            }
            None if act == Act::Crash => {
                next.machine = Machine::new(now, settings(world), Some(&before));
            }
            None => {}
        }
        next.judge(world, self, act, &effects, found)
            .map_err(|why| format!("{}: {why}\n{:?}\n{:?}", world.name, next.trail, next.machine))?;
        Ok(next)
    }

    /// What the act says by itself.
    fn account(&mut self, world: &World, act: Act) {
        let primary = self.machine.record().primary.or(self.machine.record().deposed);
        let reigns = matches!(self.machine.view().primary, Primary::Node(_));
        let promoting = matches!(self.machine.phase, Phase::Promoting(..));
        let g = &mut self.ghost;
        match act {
            Act::Pass(node, said, fresh) => {
                g.up[node] = true;
                g.claims[node] = (said.role == Some(Role::Primary)).then_some(said.term);
                if said.role == Some(Role::Primary) {
                    g.highest = g.highest.max(said.term);
                }
                g.fresh[node] = said.position.map(|p| p.0).filter(|_| fresh);
            }
            Act::Fail(node) => {
                g.up[node] = false;
                g.sound[node] = 0;
                g.claims[node] = None;
            }
            Act::Wait => {
                for node in 0..world.nodes {
                    g.sound[node] = if g.up[node] { (g.sound[node] + 1).min(STABLE) } else { 0 };
                }
            }
            Act::Fence(ok) => {
                g.fenced = ok;
                g.stopped = !ok;
                g.fresh.fill(None);
            }
            Act::Promote(ok) => g.stopped |= !ok,
            Act::Say(Word::Promote { node }) => {
                if g.up[node] {
                    // What runs cannot be taken back.
                    if !promoting {
                        g.ordered = Some(node);
                        g.stopped = false;
                    }
                    g.drained[node] = false;
                    g.ejected[node] = false;
                }
            }
            Act::Say(Word::Drain { node }) => g.drained[node] = true,
            Act::Say(Word::Undrain { node }) => g.drained[node] = false,
            Act::Say(Word::Resynced { node }) => g.out[node] = false,
            Act::Missed(node) => g.out[node] |= primary != Some(node),
            Act::CaughtUp(node) => g.out[node] &= !(reigns && g.up[node]),
            Act::Eject(node) => g.ejected[node] = true,
            Act::Readmit(node) => g.ejected[node] = false,
            Act::Show(shown) => g.shown = shown,
            Act::Crash => {
                let all = world.nodes;
                g.up = vec![false; all];
                g.sound = vec![0; all];
                g.drained = vec![false; all];
                g.ejected = vec![false; all];
                g.claims = vec![None; all];
                g.fresh = vec![None; all];
                (g.shown, g.fenced, g.stopped, g.ordered) = (None, false, false, None);
            }
            Act::LateFence | Act::Start(..) => {}
        }
    }

    fn judge(
        &mut self,
        world: &World,
        before: &Self,
        act: Act,
        effects: &[Effect],
        found: &mut Found,
    ) -> Result<(), String> {
        let (was, is) = (before.machine.record(), self.machine.record());
        let (view, seen) = (self.machine.view(), before.machine.view());
        let g = &mut self.ghost;
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };

        must(is.epoch >= was.epoch && view.epoch == is.epoch, "R53: the epoch fell")?;
        if is.epoch > was.epoch {
            (g.holder, g.fenced) = (None, false);
            if !effects.iter().any(|e| matches!(e, Effect::Fence { .. })) {
                g.fresh.fill(None);
            }
        }
        if let Some(primary) = is.primary {
            let alone = g.holder.is_none_or(|holder| holder == primary);
            must(alone, "R53: two primaries in one epoch")?;
            g.holder = Some(primary);
        }
        must(is.in_sync == view.in_sync, "the view's set is the record's")?;

        // Changes of hands: who was put in office may have been found dead in the same step.
        let (from, to) = (was.primary.or(was.deposed), is.primary.or(is.deposed));
        if let Some(to) = to.filter(|to| from != Some(*to) && is.in_sync[*to]) {
            if let Some(from) = from.filter(|_| !matches!(world.sharing, Sharing::Store)) {
                g.out[from] = true;
                found.moves += 1;
            }
            g.out[to] = false;
        }
        if is.primary.is_some() && is.primary != was.primary {
            g.shown = None;
        }
        if act != Act::Crash
            && let (Primary::Node(from), Primary::Node(to)) = (seen.primary, view.primary)
            && from != to
            && g.ordered != Some(to)
            && g.up[from]
            && !g.drained[from]
            && !g.ejected[from]
            && !matches!(act, Act::Pass(..))
        {
            must(g.sound[to] >= STABLE, "R52: it takes over again before it is stable")?;
            must(world.failback, "nobody asked for failback")?;
            found.failbacks += 1;
        }

        for effect in effects {
            match *effect {
                Effect::Fence { node, epoch } => {
                    must(
                        epoch == is.epoch && is.primary.is_none(),
                        "R29: fenced before it was deposed",
                    )?;
                    must(is.deposed == Some(node), "R29: another one is fenced")?;
                    if world.failback
                        && was.primary == Some(node)
                        && g.up[node]
                        && !g.drained[node]
                        && g.ordered.is_none()
                    {
                        let first_sound = g.sound[0] >= STABLE;
                        must(first_sound, "R52: failback began before it is stable")?;
                        found.failbacks += 1;
                    }
                }
                Effect::Promote { node, epoch } => {
                    found.promotions += 1;
                    must(
                        epoch == is.epoch && is.primary.is_none(),
                        "R29: promoted beside a primary",
                    )?;
                    let must_fence = world.fences && is.deposed.is_some();
                    must(!must_fence || g.fenced, "R29: promoted before the fence ended well")?;
                    must(!g.stopped, "R29: a failed hook did not stop it")?;
                    must(g.up[node], "R37: it is not alive")?;
                    if g.ordered == Some(node) {
                        found.orders += 1;
                    } else if !world.unclean {
                        must(!g.out[node], "R37: it is not in sync")?;
                        if matches!(world.sharing, Sharing::Primary { positions: true, .. }) {
                            let covered = g.shown.is_some() && g.fresh[node] >= g.shown;
                            must(covered, "R32: it is below what clients were shown")?;
                        }
                    }
                }
                Effect::Start { .. } => found.starts += 1,
                Effect::State { .. }
                | Effect::CloseAll { .. }
                | Effect::CloseIdle { .. }
                | Effect::Failover { .. }
                | Effect::ProbeNow { .. }
                | Effect::Alarm(_)
                | Effect::WakeAt(_) => {}
            }
        }

        // A node's own word, or the cluster's, brings it back.
        if let (Act::Pass(node, said, _), Sharing::Primary { roles: true, .. }) = (act, world.sharing)
            && (said.role == Some(Role::Replica) || is.primary == Some(node))
            && said.term >= g.highest
        {
            g.out[node] = false;
        }
        for node in 0..world.nodes {
            must(
                !g.out[node] || !is.in_sync[node],
                "R36, R33: it is in the set again by nobody's word",
            )?;
        }
        self.judge_view(world, found)
    }

    fn judge_view(&self, world: &World, found: &mut Found) -> Result<(), String> {
        let (is, view, g) = (self.machine.record(), self.machine.view(), &self.ghost);
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        for &node in &view.candidates {
            must(g.up[node], "a node that is down takes traffic")?;
            let primary = view.primary == Primary::Node(node);
            must(primary || !g.drained[node], "a node that drains takes traffic")?;
            must(primary || !g.ejected[node], "a node that is ejected takes traffic")?;
            must(primary || is.in_sync[node], "a node out of sync takes traffic")?;
        }
        if let Primary::Node(node) = view.primary {
            must(is.primary == Some(node), "the view's primary is the record's")?;
            must(g.up[node], "the primary is down")?;
            if let Sharing::Primary {
                promotion: Promotion::Follow,
                ..
            } = world.sharing
                && g.ordered.is_none()
            {
                let claim = g.claims[node];
                must(claim == Some(g.highest), "R30: a stale claimant is followed")?;
                let rivals = g.claims.iter().filter(|claim| **claim == Some(g.highest)).count();
                must(rivals == 1, "R51: one of two claimants is followed")?;
            }
        }
        if view.primary == Primary::None(NoPrimary::Conflict) {
            found.conflicts += 1;
        }
        if matches!(view.primary, Primary::None(NoPrimary::Behind | NoPrimary::NotFenced)) {
            found.refusals += 1;
        }
        if let (Primary::None(NoPrimary::Nobody | NoPrimary::Behind), Sharing::Mirrored { .. }) =
            (view.primary, world.sharing)
        {
            let able = (0..world.nodes).any(|n| g.up[n] && !g.drained[n] && is.in_sync[n] && !world.cold);
            must(!able, "somebody could take over and nobody does")?;
        }
        Ok(())
    }
}

fn walk(world: World) -> Found {
    switch_off_as_told();
    let mut found = Found::default();
    let first = State::new(&world);
    let mut seen: HashSet<String> = HashSet::from([key(&first)]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        found.states += 1;
        if state.trail.len() >= world.depth {
            continue;
        }
        for act in acts(&world, &state) {
            match state.after(&world, act, &mut found) {
                Ok(next) => {
                    if seen.insert(key(&next)) {
                        queue.push_back(next);
                    }
                }
                Err(why) => panic!("{why}"),
            }
        }
    }
    println!("{}: {found:?}", world.name);
    found
}

const MIRRORED: World = World {
    name: "mirrored",
    nodes: 2,
    sharing: Sharing::Mirrored {
        promotion: Promotion::Automatic,
        initially_all: true,
    },
    spread: Spread::One,
    fences: true,
    unclean: false,
    failback: false,
    cold: false,
    depth: 8,
};
const POSITIONS: World = World {
    name: "primary by position",
    sharing: Sharing::Primary {
        promotion: Promotion::Automatic,
        positions: true,
        roles: false,
    },
    depth: 6,
    ..MIRRORED
};
const FOLLOW: World = World {
    name: "follow",
    sharing: Sharing::Primary {
        promotion: Promotion::Follow,
        positions: false,
        roles: true,
    },
    fences: false,
    depth: 7,
    ..MIRRORED
};
const STORE: World = World {
    name: "shared",
    sharing: Sharing::Store,
    fences: false,
    depth: 8,
    ..MIRRORED
};

#[test]
fn r29_r33_r37_r53_a_mirrored_upstream_promotes_only_whom_it_fenced_for_and_who_is_in_sync() {
    let found = walk(MIRRORED);
    assert!(
        found.promotions > 10 && found.orders > 10 && found.refusals > 10,
        "{found:?}"
    );
    walk(World {
        name: "mirrored without a fence",
        fences: false,
        depth: 7,
        ..MIRRORED
    });
    walk(World {
        name: "three mirrored",
        nodes: 3,
        depth: 5,
        ..MIRRORED
    });
}

#[test]
fn r29_r32_r36_a_primary_with_positions_is_replaced_only_by_who_has_reached_what_was_shown() {
    let found = walk(POSITIONS);
    assert!(found.promotions > 10 && found.refusals > 10, "{found:?}");
    walk(World {
        name: "three by position",
        nodes: 3,
        fences: false,
        depth: 4,
        ..POSITIONS
    });
}

#[test]
fn r30_r51_only_one_claimant_of_the_highest_term_is_followed() {
    let found = walk(FOLLOW);
    assert!(found.moves > 10 && found.conflicts > 10, "{found:?}");
    walk(World {
        name: "three that follow",
        nodes: 3,
        depth: 4,
        ..FOLLOW
    });
}

#[test]
fn r39_r53_nodes_over_one_store_move_by_health_alone() {
    let found = walk(STORE);
    assert_eq!(found.promotions, 0);
    walk(World {
        name: "three over a store",
        nodes: 3,
        depth: 5,
        ..STORE
    });
    walk(World {
        name: "all active",
        spread: Spread::All,
        depth: 5,
        ..STORE
    });
}

#[test]
fn r52_failback_waits_until_the_node_is_stable() {
    for world in [STORE, MIRRORED] {
        let found = walk(World {
            failback: true,
            ..world
        });
        assert!(found.failbacks > 3, "{found:?}");
    }
}

#[test]
fn a_cold_node_is_started_when_nobody_else_is_left() {
    for world in [STORE, MIRRORED] {
        let found = walk(World {
            cold: true,
            depth: 7,
            ..world
        });
        assert!(found.starts > 3, "{found:?}");
    }
}

#[test]
fn unclean_promotes_whoever_is_alive_but_never_past_a_failed_fence() {
    let found = walk(World {
        unclean: true,
        ..MIRRORED
    });
    assert!(found.promotions > 10, "{found:?}");
}
