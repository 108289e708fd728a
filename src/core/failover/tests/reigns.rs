//! What must not be carried from one reign, one attempt or one node into the next.

use super::super::event::{Effect, Event, Observed, Role, Said, Word};
use super::super::health::{Outcome, Thresholds};
use super::super::machine::Machine;
use super::super::settings::{Failback, Grade, Initial, Promotion, Settings, Sharing, Slot, Spread};
use super::super::view::{Epoch, NoPrimary, Primary};
use crate::core::consistency::bound::Position;
use crate::core::reason::NodeState;
use crate::core::rules::switch_off_as_told;
use crate::core::time::{MonoTime, Span};

/// A machine, its time, and what it asked for last.
pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) now: MonoTime,
    pub(super) effects: Vec<Effect>,
    pub(super) observed: Observed,
}

pub(super) fn settings(sharing: Sharing, nodes: usize) -> Settings {
    let thresholds = Thresholds {
        healthy: 1,
        unhealthy: 1,
    };
    let slots = (0..nodes).map(|n| Slot::of((n > 0).then_some(Grade::Hot))).collect();
    let mut settings = Settings::shared(Spread::One, thresholds, Initial::Unprobed, slots, Epoch(7));
    settings.sharing = sharing;
    settings
}

impl Rig {
    pub(super) fn new(settings: Settings) -> Self {
        switch_off_as_told();
        let now = MonoTime::default().after(Span::from_secs(10));
        Self {
            machine: Machine::new(now, settings, None),
            now,
            effects: Vec::new(),
            observed: Observed::Unknown,
        }
    }

    /// The same after a crash.
    pub(super) fn restarted(&self, settings: Settings) -> Self {
        let mut next = Self::new(settings.clone());
        next.now = self.now.after(Span::from_secs(1));
        next.machine = Machine::new(next.now, settings, Some(&self.machine.record()));
        next
    }

    pub(super) fn told(&mut self, event: Event) {
        self.now = self.now.after(Span::from_millis(1));
        self.effects.clear();
        self.machine.step(self.now, event, self.observed, &mut self.effects);
    }

    pub(super) fn says(&mut self, node: usize, said: Said) {
        let sent = self.now.after(Span::from_millis(1));
        let outcome = Outcome::Passed;
        self.told(Event::Probed {
            node,
            outcome,
            said,
            sent,
        });
    }

    pub(super) fn passes(&mut self, node: usize) {
        self.says(node, Said::default());
    }

    pub(super) fn at(&mut self, node: usize, position: u64) {
        let position = Some(Position(position));
        self.says(
            node,
            Said {
                position,
                ..Said::default()
            },
        );
    }

    pub(super) fn fails(&mut self, node: usize) {
        let (sent, outcome, said) = (self.now, Outcome::Unreachable, Said::default());
        self.told(Event::Probed {
            node,
            outcome,
            said,
            sent,
        });
    }

    pub(super) fn waits(&mut self, seconds: u64) {
        self.now = self.now.after(Span::from_secs(seconds));
        self.told(Event::Tick);
    }

    pub(super) fn operator(&mut self, word: Word) {
        self.told(Event::Operator(word));
    }

    /// The hook of the attempt that is under way ends.
    pub(super) fn fenced(&mut self, node: usize, ok: bool) {
        let epoch = self.epoch();
        self.told(Event::Fenced { node, epoch, ok });
    }

    pub(super) fn promoted(&mut self, node: usize, ok: bool) {
        let epoch = self.epoch();
        self.told(Event::Promoted { node, epoch, ok });
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.machine.record().epoch
    }

    pub(super) fn primary(&self) -> Primary {
        self.machine.view().primary
    }

    pub(super) fn fences(&self) -> Option<usize> {
        let fences = |effect: &Effect| match effect {
            Effect::Fence { node, .. } => Some(*node),
            _ => None,
        };
        self.effects.iter().find_map(fences)
    }

    pub(super) fn promotes(&self) -> Option<usize> {
        let promotes = |effect: &Effect| match effect {
            Effect::Promote { node, .. } => Some(*node),
            _ => None,
        };
        self.effects.iter().find_map(promotes)
    }
}

pub(super) const MIRRORED: Sharing = Sharing::Mirrored {
    promotion: Promotion::Automatic,
    initially_all: true,
};
pub(super) const POSITIONS: Sharing = Sharing::Primary {
    promotion: Promotion::Automatic,
    positions: true,
    roles: false,
};
const ROLES: Sharing = Sharing::Primary {
    promotion: Promotion::Automatic,
    positions: true,
    roles: true,
};

#[test]
fn r36_r52_the_goal_of_a_quarantine_is_the_present_primarys_position_not_its_predecessors() {
    let mut rig = Rig::new(settings(POSITIONS, 3));
    rig.at(0, 50);
    rig.at(1, 60);
    rig.at(2, 10);
    rig.at(0, 60);
    rig.fails(2);
    rig.at(2, 10);
    assert_eq!(
        rig.machine.view().state(2),
        NodeState::Quarantined,
        "60 is to be reached"
    );
    rig.observed = Observed::At(Position(60));
    rig.fails(0);
    rig.at(1, 60);
    rig.at(2, 10);
    assert_eq!(rig.promotes(), Some(1), "{:?}", rig.effects);
    rig.promoted(1, true);
    assert_eq!(rig.primary(), Primary::Node(1));
    rig.at(1, 900);
    rig.at(2, 70);
    assert_eq!(
        rig.machine.view().state(2),
        NodeState::Quarantined,
        "60 was of another history: the primary is at 900"
    );
    rig.at(2, 900);
    assert_eq!(rig.machine.view().state(2), NodeState::Standby);
}

#[test]
fn r53_another_node_in_the_active_ones_place_begins_an_epoch() {
    let mut rig = Rig::new(settings(Sharing::Store, 2));
    rig.passes(0);
    rig.fails(1);
    let before = rig.epoch();
    rig.operator(Word::Promote { node: 0 });
    rig.told(Event::Left { node: 0 });
    assert_eq!(rig.primary(), Primary::None(NoPrimary::Nobody));
    rig.told(Event::Joined { node: 0 });
    rig.passes(0);
    assert_eq!(rig.primary(), Primary::Node(0));
    assert!(rig.epoch() > before, "two nodes had the traffic in one epoch");
    assert_eq!(rig.machine.pinned, None, "the operator chose another one");
}

#[test]
fn the_end_of_an_earlier_start_hook_says_nothing_of_the_later_one() {
    let mut settings = settings(Sharing::Store, 2);
    settings.nodes[1] = Slot::of(Some(Grade::Cold {
        start_timeout: Span::from_secs(30),
    }));
    let mut rig = Rig::new(settings);
    let starts = |rig: &Rig| {
        let starts = |effect: &Effect| match effect {
            Effect::Start { until, .. } => Some(*until),
            _ => None,
        };
        rig.effects.iter().find_map(starts)
    };
    rig.passes(0);
    rig.fails(0);
    let first = starts(&rig).unwrap();
    rig.waits(30);
    assert_eq!(rig.primary(), Primary::None(NoPrimary::Nobody));
    rig.passes(0);
    rig.fails(0);
    let second = starts(&rig).unwrap();
    assert_ne!(first, second);
    let ended = |until| Event::Started {
        node: 1,
        until,
        ok: false,
    };
    rig.told(ended(first));
    assert_eq!(rig.machine.view().state(1), NodeState::Starting, "it still may come");
    rig.told(ended(second));
    assert_ne!(rig.machine.view().state(1), NodeState::Starting);
}

#[test]
fn r52_time_in_which_nobody_probed_is_no_health() {
    for sharing in [Sharing::Store, MIRRORED] {
        let mut back = settings(sharing, 2);
        back.failback = Failback::After(Span::from_secs(60));
        let mut rig = Rig::new(back);
        rig.passes(0);
        rig.passes(1);
        rig.fails(0);
        if rig.promotes().is_some() {
            rig.promoted(1, true);
            rig.operator(Word::Resynced { node: 0 });
        }
        assert_eq!(rig.primary(), Primary::Node(1), "{sharing:?}");
        rig.passes(0);
        // The machine is suspended for long.
        rig.waits(1000);
        assert_eq!(rig.primary(), Primary::Node(1), "{sharing:?}: it may be dead since");
        let sent = rig.now;
        rig.fails(0);
        assert_eq!(rig.primary(), Primary::Node(1), "{sharing:?}: it is");
        rig.passes(0);
        rig.waits(1000);
        let (outcome, said, node) = (Outcome::Passed, Said::default(), 0);
        rig.told(Event::Probed {
            node,
            outcome,
            said,
            sent,
        });
        assert_eq!(rig.primary(), Primary::Node(1), "{sharing:?}: that was sent before");
        rig.passes(0);
        let begun = rig.promotes() == Some(0) || rig.primary() == Primary::Node(0);
        assert!(begun, "{sharing:?}: stable, and there");
    }
}

#[test]
fn a_node_that_the_operator_chose_moves_away_when_he_drains_it() {
    let mut rig = Rig::new(settings(MIRRORED, 2));
    rig.passes(0);
    rig.passes(1);
    rig.operator(Word::Promote { node: 1 });
    rig.promoted(1, true);
    rig.operator(Word::Resynced { node: 0 });
    assert_eq!(rig.primary(), Primary::Node(1));
    rig.operator(Word::Drain { node: 1 });
    rig.promoted(0, true);
    assert_eq!(rig.primary(), Primary::Node(0));
}

fn claims(term: u64, position: u64) -> Said {
    Said {
        role: Some(Role::Primary),
        term: Some(term),
        position: Some(Position(position)),
    }
}

fn follows(term: u64, position: u64) -> Said {
    Said {
        role: Some(Role::Replica),
        ..claims(term, position)
    }
}

#[test]
fn r51_whom_we_promoted_may_claim_the_term_of_its_predecessor() {
    let mut rig = Rig::new(settings(ROLES, 2));
    rig.says(0, claims(3, 5));
    rig.says(1, follows(3, 5));
    assert_eq!(rig.primary(), Primary::Node(0));
    rig.observed = Observed::At(Position(5));
    rig.says(1, follows(3, 5));
    rig.fails(0);
    rig.says(1, follows(3, 5));
    rig.promoted(1, true);
    rig.says(1, claims(3, 6));
    assert_eq!(rig.primary(), Primary::Node(1), "its term is not counted by the nodes");
    rig.says(0, claims(3, 9));
    assert_eq!(rig.primary(), Primary::Node(1), "the deposed one claims in vain");
    rig.operator(Word::Resynced { node: 0 });
    rig.says(0, claims(3, 9));
    assert_eq!(
        rig.primary(),
        Primary::None(NoPrimary::Conflict),
        "two nodes in the set claim one term"
    );
}

#[test]
fn r51_where_we_promote_a_later_claim_than_that_of_the_node_in_office_is_a_dispute() {
    let mut rig = Rig::new(settings(ROLES, 3));
    rig.says(0, claims(3, 5));
    rig.says(1, follows(3, 5));
    rig.says(2, follows(3, 5));
    assert_eq!(rig.primary(), Primary::Node(0));
    rig.says(1, claims(4, 5));
    assert_eq!(
        rig.primary(),
        Primary::None(NoPrimary::Conflict),
        "the stale one is not followed, and the later one not without a promotion"
    );
    rig.operator(Word::Promote { node: 1 });
    rig.promoted(1, true);
    assert_eq!(rig.primary(), Primary::Node(1));
    rig.says(0, claims(3, 5));
    assert_eq!(rig.primary(), Primary::Node(1));
}
