//! What clients are shown of a primary's position (R32): every answer is noted before it is passed on, and every probe of the primary.
//!
//! An answer counts for the reign in which its request was sent. Answers of replicas count too: what a client has read must not vanish.

use super::One;
use crate::core::consistency::bound::Position;
use crate::core::failover::view::{Epoch, Primary, View};
use crate::core::time::MonoTime;

impl One {
    /// An answer to a request that was sent in `epoch` is about to be passed on.
    pub(super) fn note_shown(&self, now: MonoTime, epoch: Epoch, position: Option<Position>) {
        if !self.tells_positions() {
            return;
        }
        let view = self.view.load();
        if is_of_reign(&view, epoch) {
            view.observed.answered(now, position); // R32
        }
    }

    /// A probe of a node that was sent at `sent` reported a position.
    pub(super) fn note_reported(&self, node: usize, sent: MonoTime, position: Position) {
        let view = self.view.load();
        // One that was sent before this reign began does not make it known: `Observing` compares the instants.
        if view.active() == Some(node) {
            view.observed.probed(sent, position); // R32
        }
    }

    fn tells_positions(&self) -> bool {
        let check = self.config.health_check.as_ref();
        check.is_some_and(|check| check.position_header.is_some())
    }
}

/// While nobody is in office the last reign is not over: its answers still come in, under a later epoch.
fn is_of_reign(view: &View, epoch: Epoch) -> bool {
    match view.primary {
        Primary::Node(_) => epoch >= view.epoch,
        Primary::Any | Primary::Homes | Primary::Pending | Primary::None(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::failover::observed::Observing;
    use crate::core::failover::view::NoPrimary;
    use std::sync::Arc;

    #[test]
    fn r32_r36_an_answer_of_an_earlier_reign_does_not_count_for_this_one() {
        let view = |primary| View {
            epoch: Epoch(8),
            primary,
            candidates: Vec::new(),
            states: Vec::new(),
            in_sync: Vec::new(),
            since: Vec::new(),
            observed: Arc::new(Observing::from(MonoTime::default())),
        };
        for (case, primary, sent_in, counts) in [
            ("this one", Primary::Node(1), 8, true),
            ("the one before", Primary::Node(1), 7, false),
            ("asked just after", Primary::Node(1), 9, true),
            ("a promotion is under way", Primary::Pending, 7, true),
            ("none came of it", Primary::None(NoPrimary::Behind), 7, true),
        ] {
            assert_eq!(is_of_reign(&view(primary), Epoch(sent_in)), counts, "{case}");
        }
    }
}
