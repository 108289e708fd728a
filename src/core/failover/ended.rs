//! What becomes of a promotion when a hook has ended, well or badly, or when a node says that somebody else promotes.
//!
//! A hook that fails stops its attempt (R29): nothing further is done in it, and there is no primary. Where Tidegate promotes by itself a new
//! attempt, with an epoch and a fence of its own, begins after a while if there is still need of one: after one second, then two, four, up
//! to [`LONGEST`]. Until then, and where the operator promotes, his word begins one at once.

use super::event::{Alarm, Effect};
use super::machine::Machine;
use super::node::Quarantine;
use super::promote::{Attempt, Chosen, Phase};
use super::settings::Promotion;
use super::view::{Epoch, NoPrimary};
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};

/// Between two attempts: a human who looks at the first alarm sees it tried again.
const LONGEST: u64 = 60;

impl Machine {
    /// The fence hook has ended.
    pub(super) fn fenced(&mut self, now: MonoTime, node: usize, epoch: Epoch, ok: bool, effects: &mut Vec<Effect>) {
        let Phase::Fencing(attempt, whom) = self.phase else {
            return;
        };
        if epoch != self.epoch || whom != node {
            return;
        }
        if !ok {
            self.stop(now, NoPrimary::NotFenced); // R29
            return;
        }
        if self.deposed != Some(node) {
            // It was to be promoted, and may have taken writes of its own.
            self.depose(Some(node));
            self.pending = None;
        }
        self.look(now, attempt, effects);
    }

    /// The promote hook has ended.
    pub(super) fn promoted(&mut self, now: MonoTime, node: usize, epoch: Epoch, ok: bool, effects: &mut Vec<Effect>) {
        let Phase::Promoting(attempt, since, chosen) = self.phase else {
            return;
        };
        if epoch != self.epoch || chosen.node != node {
            return;
        }
        if !ok {
            effects.push(Effect::Alarm(Alarm::PromoteFailed { node }));
            self.stop(now, NoPrimary::NotPromoted);
            return;
        }
        let in_sync = self.node(node).is_some_and(|tracked| tracked.in_sync);
        if !chosen.lossy && !in_sync && Rule::R37.holds() {
            // A copy to it that was under way was not confirmed meanwhile (R33).
            self.begin(now, attempt.wanted, attempt.ordered, effects);
            return;
        }
        self.install(now, attempt, since, chosen);
        if chosen.lossy {
            effects.push(Effect::Alarm(Alarm::MayHaveLost { node }));
        }
    }

    /// "Primary = N".
    fn install(&mut self, now: MonoTime, attempt: Attempt, since: MonoTime, chosen: Chosen) {
        let Chosen { node, lossy } = chosen;
        let (former, reign) = (self.deposed, self.reign_since);
        let reached = self.node(node).and_then(|tracked| tracked.position(since));
        self.phase = Phase::Idle;
        if former != Some(node) {
            self.depose(former);
        }
        for (other, tracked) in self.nodes.iter_mut().enumerate() {
            // R36: who is known to be ahead holds what its primary does not. After a loss nobody else is known to hold the same.
            if other != node && (lossy || tracked.position(reign) > reached.or(tracked.said.position)) {
                tracked.in_sync = false;
            }
        }
        self.enthrone(now, node, former);
        self.inherit_claim(node);
        if let Some(tracked) = self.nodes.get_mut(node) {
            tracked.in_sync = true;
            tracked.quarantine = Quarantine::Over;
        }
        if attempt.ordered {
            self.pinned = Some(node);
        } else if former == Some(node) {
            self.kept = Some(node);
        }
    }

    /// This attempt is over.
    fn stop(&mut self, now: MonoTime, why: NoPrimary) {
        let wait = 1_u64.checked_shl(self.failures).unwrap_or(LONGEST).min(LONGEST);
        let automatic = self.promotion() == Some(Promotion::Automatic);
        let again = automatic.then(|| now.after(Span::from_secs(wait)));
        self.failures = self.failures.saturating_add(1).min(u32::from(u8::MAX));
        self.phase = Phase::Stopped { why, again };
    }

    /// R54: somebody else has promoted in a later epoch. Whom, nobody tells; our primary, and a promotion of ours, may be behind that. Only
    /// the operator's word begins another epoch of ours, above theirs.
    pub(super) fn supersede(&mut self, epoch: Epoch) {
        let owns = self.is_led() && self.promotion() == Some(Promotion::Automatic) && Rule::R54.holds();
        if !owns || epoch <= self.epoch.max(self.superseded.unwrap_or_default()) {
            return;
        }
        self.superseded = Some(epoch);
        self.phase = match self.phase {
            Phase::Idle => Phase::Idle,
            Phase::Fencing(..) | Phase::Choosing(..) | Phase::Promoting(..) | Phase::Stopped { .. } => Phase::Stopped {
                why: NoPrimary::Superseded,
                again: None,
            },
        };
    }
}
