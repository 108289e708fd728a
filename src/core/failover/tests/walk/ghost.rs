//! A second, plainer account of the same events, which judges what the machine made of them.

use super::super::super::event::{Effect, Role, Word};
use super::super::super::promote::Phase;
use super::super::super::settings::{Promotion, Sharing};
use super::super::super::view::{NoPrimary, Primary};
use super::acts::{Act, STABLE, World};
use super::{Found, State};

/// A node that sits nowhere any more.
const GONE: usize = 99;

/// The plain account.
#[derive(Clone, Debug, Default)]
pub(super) struct Ghost {
    pub(super) up: Vec<bool>,
    /// The results in a row, and whether they were good.
    pub(super) rows: Vec<(bool, u32)>,
    /// Units of health without a failure.
    pub(super) sound: Vec<u64>,
    pub(super) drained: Vec<bool>,
    pub(super) ejected: Vec<bool>,
    /// Deposed, or missed a copy, and nothing has made it good.
    pub(super) out: Vec<bool>,
    /// The term of the claim made by the last probe that passed.
    pub(super) claims: Vec<Option<Option<u64>>>,
    pub(super) highest: Option<u64>,
    /// What was reported since the fence.
    pub(super) fresh: Vec<Option<u64>>,
    pub(super) shown: Option<u64>,
    /// The last primary of this epoch.
    pub(super) holder: Option<usize>,
    /// Whom this attempt has fenced.
    pub(super) fenced: Vec<bool>,
    /// A hook of this attempt failed.
    pub(super) stopped: bool,
    /// A promote hook was run in this epoch.
    pub(super) hooked: bool,
    /// Whose promote hook was run since anybody was in office, and where it was then; and whether the process has died since.
    pub(super) begun: Option<(usize, Option<u64>)>,
    pub(super) recalled: bool,
    /// Whom the operator wants.
    pub(super) ordered: Option<usize>,
    /// There is an order that nothing has come of yet.
    pub(super) word: bool,
    /// Somebody else promotes, by what a node said.
    pub(super) superseded: bool,
}

fn must(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl Ghost {
    pub(super) fn new(world: &World, holder: Option<usize>) -> Self {
        let n = world.nodes;
        let alone = matches!(
            world.sharing,
            Sharing::Mirrored {
                initially_all: false,
                ..
            }
        );
        Self {
            up: vec![false; n],
            rows: vec![(false, 0); n],
            sound: vec![0; n],
            drained: vec![false; n],
            ejected: vec![false; n],
            out: (0..n).map(|node| alone && node > 0).collect(),
            claims: vec![None; n],
            fresh: vec![None; n],
            fenced: vec![false; n],
            holder,
            ..Self::default()
        }
    }

    fn forget(&mut self, node: usize) {
        self.up[node] = false;
        self.rows[node] = (false, 0);
        self.sound[node] = 0;
        self.ejected[node] = false;
        self.claims[node] = None;
        self.fresh[node] = None;
    }

    /// Whether a node is up is told by its last results alone.
    fn result(&mut self, node: usize, passed: bool, threshold: u32) {
        let (before, count) = self.rows[node];
        let row = if before == passed { count + 1 } else { 1 };
        self.rows[node] = (passed, row.min(threshold));
        if count == 0 || row >= threshold {
            self.up[node] = passed;
        }
        if !passed {
            self.sound[node] = 0;
        }
        if !self.up[node] && !passed {
            self.claims[node] = None;
        }
    }
}

impl State {
    /// What an act says by itself, before the machine is told of it.
    pub(super) fn account(&mut self, world: &World, act: Act) {
        let record = self.machine.record();
        let primary = record.primary.or(record.deposed);
        let reigns = matches!(self.machine.view().primary, Primary::Node(_));
        let phase = self.machine.phase;
        let g = &mut self.ghost;
        match act {
            Act::Pass(node, said, fresh) => {
                g.result(node, true, world.threshold);
                g.claims[node] = (said.role == Some(Role::Primary)).then_some(said.term);
                if said.role == Some(Role::Primary) && (!world.is_led() || record.in_sync[node]) {
                    g.highest = g.highest.max(said.term);
                }
                g.fresh[node] = said.position.map(|p| p.0).filter(|_| fresh);
            }
            Act::Fail(node) => g.result(node, false, world.threshold),
            Act::Wait => {
                for node in 0..world.nodes {
                    let well = g.up[node] && g.rows[node].0;
                    g.sound[node] = if well { (g.sound[node] + 1).min(STABLE) } else { 0 };
                }
            }
            Act::Fence(ok) => {
                if let Phase::Fencing(_, whom) = phase {
                    g.fenced[whom] = ok;
                    g.stopped = !ok;
                    g.fresh.fill(None);
                    if ok && record.deposed != Some(whom) {
                        g.out[whom] = true;
                        g.begun = None;
                    }
                    g.word &= ok;
                }
            }
            Act::Promote(ok) => {
                g.stopped |= !ok;
                g.word &= ok;
            }
            Act::Say(Word::Promote { node }) => {
                if g.up[node] {
                    // What runs cannot be taken back.
                    if !matches!(phase, Phase::Promoting(..)) {
                        g.ordered = Some(node);
                        g.word = true;
                        g.stopped = false;
                        g.superseded = false;
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
            Act::Leave(node) => {
                g.forget(node);
                g.drained[node] = false;
                g.ordered = g.ordered.filter(|ordered| *ordered != node);
            }
            Act::Join(node) => {
                g.drained[node] = false;
                if g.holder == Some(node) {
                    g.holder = Some(GONE);
                }
            }
            Act::Refused(later) => g.superseded |= later && world.promotion() == Some(Promotion::Automatic),
            Act::Show(shown) => g.shown = shown,
            Act::Crash => {
                for node in 0..world.nodes {
                    g.forget(node);
                }
                // The operator's choice is durable once the node was to be promoted.
                let chosen = record.pending.map(|pending| pending.node).or(record.pinned);
                g.ordered = g.ordered.filter(|ordered| chosen == Some(*ordered));
                g.word = record.pending.is_some();
                g.recalled = g.begun.is_some();
                g.fenced.fill(false);
                (g.shown, g.stopped) = (None, false);
            }
            Act::LateFence | Act::LatePromote | Act::Start(..) => {}
        }
    }

    pub(super) fn judge(
        &mut self,
        world: &World,
        before: &Self,
        act: Act,
        effects: &[Effect],
        found: &mut Found,
    ) -> Result<(), String> {
        self.judge_office(world, before, act, effects, found)?;
        for effect in effects {
            self.judge_effect(world, before, *effect, found)?;
        }
        // A node's own word that it follows, in the latest term, brings it back.
        let (is, g) = (self.machine.record(), &mut self.ghost);
        for (node, tracked) in self.machine.nodes.iter().enumerate() {
            let follows = tracked.said.role == Some(Role::Replica) && tracked.said.term >= g.highest;
            if world.tells_roles() && (follows || is.primary == Some(node)) && g.up[node] {
                g.out[node] = false;
            }
            let out = g.out[node] && is.in_sync[node];
            must(!out, "R36, R33: it is in the set again by nobody's word")?;
        }
        self.judge_view(world, found)
    }

    /// Who is in office, and since which epoch.
    fn judge_office(
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
        must(is.epoch >= was.epoch && view.epoch == is.epoch, "R53: the epoch fell")?;
        if is.epoch > was.epoch {
            (g.holder, g.hooked, g.stopped) = (None, false, false);
            g.fenced.fill(false);
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
            (g.shown, g.begun, g.recalled, g.word) = (None, None, false, false);
            g.ordered = g.ordered.filter(|ordered| is.primary == Some(*ordered));
        }
        if act != Act::Crash
            && let (Primary::Node(from), Primary::Node(to)) = (seen.primary, view.primary)
            && from != to
            && g.ordered != Some(to)
            && g.up[from]
            && !g.drained[from]
            && (world.sharing == Sharing::Store || !matches!(act, Act::Pass(..)))
        {
            must(g.sound[to] >= STABLE, "R52: it takes over again before it is stable")?;
            must(world.failback, "nobody asked for failback")?;
            found.failbacks += 1;
        }
        Ok(())
    }

    fn judge_effect(&mut self, world: &World, before: &Self, effect: Effect, found: &mut Found) -> Result<(), String> {
        let (was, is) = (before.machine.record(), self.machine.record());
        let g = &mut self.ghost;
        let by_hand = world.promotion() == Some(Promotion::Manual);
        match effect {
            Effect::Fence { node, epoch } => {
                let nobody = epoch == is.epoch && is.primary.is_none();
                must(nobody, "R29: fenced before it was deposed")?;
                let begun = g.begun.map(|(node, _)| node);
                must(
                    is.deposed == Some(node) || begun == Some(node),
                    "R29: another one is fenced",
                )?;
                must(!by_hand || g.word, "R30: a promotion without the operator's word")?;
                must(!g.superseded, "R54: a promotion beside somebody else's")?;
                let well = was.primary == Some(node) && g.up[node] && !g.drained[node];
                if world.failback && well && g.ordered.is_none() {
                    must(g.sound[0] >= STABLE, "R52: failback began before it is stable")?;
                    found.failbacks += 1;
                }
            }
            Effect::Promote { node, epoch } => {
                found.promotions += 1;
                let nobody = epoch == is.epoch && is.primary.is_none();
                must(nobody, "R29: promoted beside a primary")?;
                must(!g.hooked, "R53: two nodes are promoted in one epoch")?;
                must(!by_hand || g.word, "R30: a promotion without the operator's word")?;
                must(!g.superseded, "R54: a promotion beside somebody else's")?;
                let fenced = is.deposed.is_none_or(|deposed| g.fenced[deposed]);
                must(fenced || !world.fences, "R29: promoted before the fence ended well")?;
                must(!g.stopped, "R29: a failed hook did not stop it")?;
                must(g.up[node], "R37: it is not alive")?;
                let other = g.begun.map(|(begun, _)| begun).filter(|begun| *begun != node);
                if let Some(other) = other.filter(|other| world.promotes && is.deposed != Some(*other)) {
                    must(
                        !world.fences,
                        "R29: another one may have been promoted and is not fenced",
                    )?;
                    g.out[other] = true;
                    found.replaced += 1;
                }
                if g.ordered == Some(node) {
                    found.orders += 1;
                } else if !world.unclean {
                    must(!g.out[node], "R37: it is not in sync")?;
                    if world.tells_positions() {
                        let covered = g.shown.is_some() && g.fresh[node] >= g.shown;
                        let reached = g.begun.filter(|(begun, _)| *begun == node).and_then(|(_, at)| at);
                        let resumed = g.recalled && reached.is_some() && g.fresh[node] >= reached;
                        must(covered || resumed, "R32: it is below what clients were shown")?;
                        found.resumed += usize::from(!covered);
                    }
                }
                g.hooked = true;
                g.begun = Some((node, g.fresh[node]));
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
        Ok(())
    }

    fn judge_view(&self, world: &World, found: &mut Found) -> Result<(), String> {
        let (is, view, g) = (self.machine.record(), self.machine.view(), &self.ghost);
        for &node in &view.candidates {
            must(g.up[node], "a node that is down takes traffic")?;
            let primary = view.primary == Primary::Node(node);
            must(primary || !g.drained[node], "a node that drains takes traffic")?;
            must(primary || !g.ejected[node], "a node that is ejected takes traffic")?;
            must(primary || is.in_sync[node], "a node out of sync takes traffic")?;
        }
        must(is.drained == g.drained, "a drain was forgotten, or is nobody's")?;
        if let Primary::Node(node) = view.primary {
            must(is.primary == Some(node), "the view's primary is the record's")?;
            must(g.up[node], "the primary is down")?;
            must(!g.superseded, "R54: in office beside somebody else")?;
            if world.tells_roles() && g.ordered != Some(node) {
                let counts = |other: &usize| !world.is_led() || is.in_sync[*other];
                let highest = |other: &usize| g.claims[*other] == Some(g.highest);
                let rivals = (0..world.nodes).filter(|other| *other != node);
                let rival = rivals.filter(counts).any(|other| highest(&other));
                must(!rival, "R51: in office beside another claimant")?;
                must(world.is_led() || highest(&node), "R30: a stale claimant is followed")?;
            }
        }
        match view.primary {
            Primary::None(NoPrimary::Conflict) => found.conflicts += 1,
            Primary::None(NoPrimary::Behind | NoPrimary::NotFenced | NoPrimary::NotPromoted) => found.refusals += 1,
            Primary::None(NoPrimary::Superseded) => found.superseded += 1,
            Primary::None(NoPrimary::Nobody | NoPrimary::Manual)
            | Primary::Any
            | Primary::Homes
            | Primary::Pending
            | Primary::Node(_) => {}
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
