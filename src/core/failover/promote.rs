//! Promotion by Tidegate (R29): "no primary, epoch + 1" -> fence hook -> choice -> promote hook -> "primary = N". The first and the last are
//! changes of the record, durable before what follows them is done; so is the choice, because nobody knows what a promote hook leaves
//! behind that fails or is cut off ([`Record::pending`](super::settings::Record)): whoever was chosen is preferred from then on, and before
//! another one is promoted it is fenced too. What becomes of a hook's end is decided in `ended`.
//!
//! Who is chosen is alive and in sync (R37) and, where positions are told, has reached what clients were shown (R32), by a report of a probe
//! that was sent after the fence had ended. Nobody is fenced before somebody is in sight who could take over. The operator's word and
//! `unclean` override what a candidate lacks, never the fence.

use super::event::{Effect, Observed};
use super::machine::Machine;
use super::node::Tracked;
use super::settings::{Pending, Promotion, Sharing};
use super::view::{Epoch, NoPrimary, Primary};
use crate::core::consistency::bound::Position;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;

/// How far a promotion has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// None is under way.
    Idle,
    /// The fence hook runs for this node.
    Fencing(Attempt, usize),
    /// The old primary is fenced since then; somebody is to be found.
    Choosing(Attempt, MonoTime),
    /// The promote hook runs.
    Promoting(Attempt, MonoTime, Chosen),
    /// A hook failed, or somebody else promotes.
    Stopped {
        why: NoPrimary,
        /// When to begin again; never: the operator's turn.
        again: Option<MonoTime>,
    },
}

/// What a promotion is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The node it began for; others do as well.
    pub(super) wanted: Option<usize>,
    /// By the operator's word, whatever it lacks.
    pub(super) ordered: bool,
}

/// Who is to be promoted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) node: usize,
    /// It is not known to hold every acked write.
    pub(super) lossy: bool,
}

impl Machine {
    pub(super) fn lead(&mut self, now: MonoTime, observed: Observed, effects: &mut Vec<Effect>) -> Primary {
        if self.superseded.is_some() {
            return Self::nobody(NoPrimary::Superseded); // R54
        }
        if matches!(self.phase, Phase::Stopped { again: Some(at), .. } if at <= now) {
            self.phase = Phase::Idle; // looked at anew: it may not be wanted any more
        }
        if self.phase == Phase::Idle {
            let answer = self.reign(now, observed, effects);
            if self.phase == Phase::Idle {
                return answer;
            }
        }
        match self.phase {
            Phase::Choosing(attempt, since) => self.choose(attempt, since, observed, effects),
            Phase::Idle | Phase::Fencing(..) | Phase::Promoting(..) => Primary::Pending,
            Phase::Stopped { why, .. } => Self::nobody(why),
        }
    }

    /// No promotion is under way: whether there is a primary, and whether one must begin.
    fn reign(&mut self, now: MonoTime, observed: Observed, effects: &mut Vec<Effect>) -> Primary {
        let automatic = self.promotion() == Some(Promotion::Automatic);
        let awaited = self.nodes.iter().any(Tracked::is_awaited);
        let Some(primary) = self.primary else {
            if self.deposed.is_none() && self.pending.is_none() {
                return self.first(now, awaited);
            }
            // The process ended during a promotion, or a hook failed. What was shown to clients may be forgotten (R32).
            let goes_on = automatic || self.resumable(self.reign_since, observed).is_some();
            return match (awaited, goes_on) {
                (true, _) => Primary::Pending,
                (false, true) => self.succeed(now, observed, effects),
                (false, false) => Self::nobody(NoPrimary::Manual),
            };
        };
        let Some(tracked) = self.node(primary) else {
            return Self::nobody(NoPrimary::Nobody);
        };
        if tracked.is_awaited() {
            return Primary::Pending;
        }
        if self.is_disputed() && self.pinned != Some(primary) {
            return Self::nobody(NoPrimary::Conflict); // R51
        }
        if tracked.is_down() {
            return match (automatic, awaited) {
                (true, true) => Primary::Pending,
                (true, false) => self.succeed(now, observed, effects),
                (false, _) => Self::nobody(NoPrimary::Manual), // R30
            };
        }
        if automatic && !self.stays(primary) {
            let since = self.reign_since;
            let clean = |node: &usize| self.is_clean(*node, since, observed);
            let back = self.failback_from(now, primary).filter(clean);
            let leaves = tracked.drained && (0..self.nodes.len()).any(|node| node != primary && clean(&node));
            if back.is_some() || leaves {
                self.begin(now, back, false, effects);
            }
        }
        Primary::Node(primary)
    }

    /// R30: the first primary by what the nodes say of themselves.
    fn first(&mut self, now: MonoTime, awaited: bool) -> Primary {
        if awaited {
            return Primary::Pending;
        }
        if self.is_disputed() {
            return Self::nobody(NoPrimary::Conflict); // R51
        }
        match self.claimant() {
            Some(node) => {
                self.enthrone(now, node, None);
                Primary::Node(node)
            }
            None => Self::nobody(NoPrimary::Nobody),
        }
    }

    fn claimant(&self) -> Option<usize> {
        let roles = matches!(self.settings.sharing, Sharing::Primary { roles: true, .. });
        let highest = self.claim.map(|claim| claim.term);
        let claims = |tracked: &Tracked| tracked.claims() && tracked.is_alive() && tracked.said.term == highest;
        self.nodes.iter().position(claims).filter(|_| roles)
    }

    /// The primary is down: somebody takes over, or the reason why nobody does.
    fn succeed(&mut self, now: MonoTime, observed: Observed, effects: &mut Vec<Effect>) -> Primary {
        let attempt = Attempt {
            wanted: None,
            ordered: false,
        };
        let since = self.reign_since;
        match self
            .resumable(since, observed)
            .or_else(|| self.pick(attempt, since, observed))
        {
            Some(_) => {
                self.begin(now, None, false, effects);
                Primary::Pending
            }
            None => Self::nobody(self.lack()),
        }
    }

    /// "No primary, epoch + 1", and the fence.
    pub(super) fn begin(&mut self, now: MonoTime, wanted: Option<usize>, ordered: bool, effects: &mut Vec<Effect>) {
        let attempt = Attempt { wanted, ordered };
        self.deposed = self.primary.or(self.deposed);
        self.primary = None;
        if Rule::R53.holds() {
            self.epoch = self.epoch.next(); // R53
        }
        // R54: the operator promotes although somebody else did.
        self.epoch = self.epoch.max(self.superseded.take().map_or(self.epoch, Epoch::next));
        match self.deposed {
            Some(node) if self.settings.fences && Rule::R29.holds() => {
                let epoch = self.epoch;
                effects.push(Effect::Fence { node, epoch });
                self.phase = Phase::Fencing(attempt, node);
            }
            Some(_) | None => self.look(now, attempt, effects),
        }
    }

    /// From now on reports count.
    pub(super) fn look(&mut self, now: MonoTime, attempt: Attempt, effects: &mut Vec<Effect>) {
        self.phase = Phase::Choosing(attempt, now);
        if self.tells_positions() {
            for (node, tracked) in self.nodes.iter().enumerate() {
                if tracked.is_willing() {
                    effects.push(Effect::ProbeNow { node });
                }
            }
        }
    }

    fn choose(&mut self, attempt: Attempt, since: MonoTime, observed: Observed, effects: &mut Vec<Effect>) -> Primary {
        let ordered = attempt.ordered && attempt.wanted.is_some_and(|node| self.is_alive(node));
        if !ordered && self.lacks_reports(since) {
            return Primary::Pending;
        }
        let automatic = self.promotion() == Some(Promotion::Automatic);
        let resumed = self.resumable(since, observed);
        let resumed = resumed.filter(|chosen| !ordered || attempt.wanted == Some(chosen.node));
        if resumed.is_none() && !ordered && !automatic {
            return Self::nobody(NoPrimary::Manual); // the operator's choice died meanwhile
        }
        let Some(chosen) = resumed.or_else(|| self.pick(attempt, since, observed)) else {
            return Self::nobody(self.lack());
        };
        let (node, epoch) = (chosen.node, self.epoch);
        if let Some(other) = self.half_promoted().filter(|other| *other != node) {
            if self.settings.fences {
                effects.push(Effect::Fence { node: other, epoch }); // R29: it may act as the primary
                self.phase = Phase::Fencing(attempt, other);
                return Primary::Pending;
            }
            self.depose(Some(other));
        }
        self.pending = Some(Pending {
            node,
            reached: self.node(node).and_then(|tracked| tracked.position(since)),
            lossy: chosen.lossy,
        });
        effects.push(Effect::Promote { node, epoch });
        self.phase = Phase::Promoting(attempt, since, chosen);
        Primary::Pending
    }

    /// Who was chosen before and nobody knows how far that came: nobody else comes before it, if it is as good as then. After a restart it
    /// must not have lost anything since: what it had to have reached is forgotten, and the deposed primary has acked nothing more.
    fn resumable(&self, since: MonoTime, observed: Observed) -> Option<Chosen> {
        let Pending { node, reached, lossy } = self.pending?;
        let tracked = self.node(node).filter(|tracked| tracked.is_willing())?;
        let there = reached.is_none_or(|reached| tracked.position(since) >= Some(reached));
        let good = if self.recalled && self.tells_positions() {
            tracked.in_sync && reached.is_some() && there // R32
        } else {
            self.is_clean(node, since, observed)
                || (self.deposed == Some(node) && self.holds_everything(node, since, observed))
        };
        (good || (lossy && there)).then_some(Chosen { node, lossy })
    }

    /// Whose promote hook may have been run in vain, where there is one. The deposed primary is fenced for its own sake.
    fn half_promoted(&self) -> Option<usize> {
        let pending = self.pending.filter(|_| self.settings.promotes && Rule::R29.holds());
        pending
            .map(|pending| pending.node)
            .filter(|node| self.deposed != Some(*node))
    }

    /// Whether a candidate has not reported since the fence.
    fn lacks_reports(&self, since: MonoTime) -> bool {
        let waits = |(node, tracked): (usize, &Tracked)| {
            tracked.is_willing() && tracked.in_sync && tracked.said_sent <= since && self.deposed != Some(node)
        };
        self.tells_positions() && self.nodes.iter().enumerate().any(waits)
    }

    /// Who should be promoted: the operator's choice; the one it began for; who has come furthest; the old primary itself, if it is
    /// back; with `unclean` whoever is alive.
    fn pick(&self, attempt: Attempt, since: MonoTime, observed: Observed) -> Option<Chosen> {
        let clean = |node: usize| self.is_clean(node, since, observed);
        let found = |node, lossy| Some(Chosen { node, lossy });
        if let Some(node) = attempt.wanted
            && (clean(node) || (attempt.ordered && self.is_alive(node)))
        {
            return found(node, !clean(node));
        }
        let furthest = |among: &dyn Fn(usize) -> bool| {
            let mut best: Option<(usize, Option<Position>)> = None;
            for node in self.preference().filter(|node| among(*node)) {
                let position = self.node(node).and_then(|tracked| tracked.position(since));
                if best.is_none_or(|(_, reached)| position > reached) {
                    best = Some((node, position));
                }
            }
            best.map(|(node, _)| node)
        };
        let former = self.primary.or(self.deposed);
        let successor = furthest(&|node| former != Some(node) && clean(node));
        let back = || former.filter(|node| self.holds_everything(*node, since, observed));
        if let Some(node) = successor.or_else(back) {
            return found(node, false);
        }
        let willing = |node: usize| self.node(node).is_some_and(Tracked::is_willing);
        let in_sync = |node: usize| self.node(node).is_some_and(|tracked| tracked.in_sync);
        let last = furthest(&|node| willing(node) && in_sync(node)).or_else(|| furthest(&willing));
        last.filter(|_| self.settings.unclean)
            .and_then(|node| found(node, true))
    }

    /// Whether nothing acked is lost when it takes over.
    fn is_clean(&self, node: usize, since: MonoTime, observed: Observed) -> bool {
        let Some(tracked) = self.node(node) else {
            return false;
        };
        let in_sync = tracked.in_sync || !Rule::R37.holds(); // R37, R33
        let reached = match self.settings.sharing {
            Sharing::Mirrored { .. } => true,
            Sharing::Primary { positions: true, .. } => has_reached(tracked, since, observed),
            // Nobody can say how far it has come.
            Sharing::Primary { positions: false, .. } => !Rule::R32.holds(),
            Sharing::Store | Sharing::Homes => false,
        };
        tracked.is_willing() && in_sync && reached
    }

    /// Whether the former primary itself is back, and as it was.
    fn holds_everything(&self, node: usize, since: MonoTime, observed: Observed) -> bool {
        let Some(tracked) = self.node(node) else {
            return false;
        };
        let reached = !self.tells_positions() || has_reached(tracked, since, observed);
        tracked.is_alive() && tracked.in_sync && reached
    }

    /// The operator's word.
    pub(super) fn order_promotion(&mut self, now: MonoTime, node: usize, effects: &mut Vec<Effect>) {
        if let Some(tracked) = self.nodes.get_mut(node) {
            tracked.drained = false;
            tracked.ejected = false;
        }
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.node != node) {
            pending.lossy = false; // the leave to lose writes was for that node, and this is the later word
        }
        match self.settings.sharing {
            Sharing::Homes => {}
            Sharing::Store => {
                if self.primary != Some(node) {
                    self.enthrone(now, node, self.primary);
                }
                self.pinned = Some(node);
            }
            Sharing::Primary {
                promotion: Promotion::Follow,
                ..
            } => {
                if let Some(claim) = &mut self.claim {
                    claim.node = node; // R51: the operator settles it
                }
                self.pinned = Some(node);
            }
            Sharing::Primary { .. } | Sharing::Mirrored { .. } => {
                let attempt = Attempt {
                    wanted: Some(node),
                    ordered: true,
                };
                match self.phase {
                    Phase::Idle if self.primary == Some(node) && self.superseded.is_none() => self.pinned = Some(node),
                    Phase::Idle | Phase::Stopped { .. } => self.begin(now, Some(node), true, effects),
                    Phase::Fencing(_, whom) => self.phase = Phase::Fencing(attempt, whom),
                    Phase::Choosing(_, since) => self.phase = Phase::Choosing(attempt, since),
                    // It cannot be taken back; ask again when it has ended.
                    Phase::Promoting(..) => {}
                }
            }
        }
    }

    /// Whether somebody else could take over, as far as can be told without looking closer.
    pub(super) fn may_succeed(&self, node: usize) -> bool {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        let mut able = others.filter(|(_, tracked)| tracked.is_willing() && tracked.in_sync);
        self.promotion() == Some(Promotion::Automatic) && able.next().is_some()
    }

    /// Whether the promote hook runs for another node: that cannot be taken back.
    pub(super) fn promotes_another(&self, node: usize) -> bool {
        matches!(self.phase, Phase::Promoting(_, _, chosen) if chosen.node != node)
    }

    fn lack(&self) -> NoPrimary {
        if self.nodes.iter().any(Tracked::is_willing) {
            NoPrimary::Behind
        } else {
            NoPrimary::Nobody
        }
    }

    fn is_alive(&self, node: usize) -> bool {
        self.node(node).is_some_and(Tracked::is_alive)
    }

    pub(super) const fn tells_positions(&self) -> bool {
        matches!(self.settings.sharing, Sharing::Primary { positions: true, .. })
    }
}

/// R32: whether a node has reached what clients were shown, by a report from after `since`.
fn has_reached(tracked: &Tracked, since: MonoTime, observed: Observed) -> bool {
    let reached = match observed {
        Observed::Unknown => false,
        Observed::At(shown) => tracked.position(since).is_some_and(|position| position >= shown),
    };
    reached || !Rule::R32.holds()
}
