//! Hooks that fail, are cut off by a crash, or end after something else happened; and another one who promotes.

use super::super::event::{Event, Observed, Word};
use super::super::settings::{Initial, Promotion, Record, Settings, Sharing};
use super::super::view::{Epoch, NoPrimary, Primary};
use super::reigns::{MIRRORED, POSITIONS, Rig, settings};
use crate::core::consistency::bound::Position;
use crate::core::reason::NodeState;

fn hooked(sharing: Sharing, nodes: usize) -> Settings {
    Settings {
        fences: true,
        promotes: true,
        ..settings(sharing, nodes)
    }
}

/// All nodes are up, and then the first one is not.
fn failing(settings: Settings) -> Rig {
    let mut rig = Rig::new(settings);
    for node in 0..rig.machine.view().states.len() {
        rig.passes(node);
    }
    rig.fails(0);
    rig
}

#[test]
fn r29_a_fence_that_fails_is_tried_again_in_another_epoch_and_nobody_is_promoted_before() {
    let mut rig = failing(hooked(MIRRORED, 2));
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        let epoch = rig.epoch();
        assert_eq!(rig.fences(), Some(0));
        rig.fenced(0, false);
        assert_eq!(rig.primary(), Primary::None(NoPrimary::NotFenced));
        rig.waits(wait - 1);
        assert_eq!((rig.fences(), rig.promotes()), (None, None), "before {wait} s");
        rig.waits(1);
        assert_eq!(rig.epoch(), epoch.next());
    }
    rig.fenced(0, true);
    assert_eq!(rig.promotes(), Some(1));
    rig.promoted(1, true);
    assert_eq!(rig.primary(), Primary::Node(1));
    // The count begins anew with whoever takes office.
    rig.passes(0);
    rig.operator(Word::Resynced { node: 0 });
    rig.fails(1);
    rig.fenced(1, false);
    rig.waits(1);
    assert_eq!(rig.fences(), Some(1));
}

#[test]
fn r29_a_promote_hook_that_fails_is_tried_again_with_the_same_node() {
    let mut rig = failing(hooked(MIRRORED, 3));
    rig.fenced(0, true);
    assert_eq!(rig.promotes(), Some(1));
    rig.promoted(1, false);
    assert_eq!(rig.primary(), Primary::None(NoPrimary::NotPromoted));
    rig.waits(1);
    rig.fenced(0, true);
    assert_eq!(rig.promotes(), Some(1), "the other one would be a second");
    rig.promoted(1, true);
    assert_eq!(rig.primary(), Primary::Node(1));
    assert!(rig.machine.view().in_sync[2]);
}

#[test]
fn r37_the_operators_leave_to_lose_writes_ends_with_his_word_for_another_node() {
    let mut rig = Rig::new(hooked(MIRRORED, 2));
    rig.passes(0);
    rig.passes(1);
    rig.operator(Word::Promote { node: 1 });
    rig.told(Event::Missed { node: 1 });
    rig.fenced(0, true);
    assert_eq!(rig.promotes(), Some(1), "he said so");
    rig.promoted(1, false);
    rig.operator(Word::Promote { node: 0 });
    let whom = rig.fences().unwrap();
    rig.fails(0);
    rig.fenced(whom, true);
    assert_eq!(rig.promotes(), None, "nobody said so of what came since");
}

#[test]
fn a_promotion_is_not_tried_again_when_nobody_is_left_for_it() {
    let mut rig = failing(hooked(MIRRORED, 2));
    rig.fenced(0, true);
    rig.promoted(1, false);
    rig.fails(1);
    rig.waits(1);
    assert_eq!((rig.fences(), rig.primary()), (None, Primary::None(NoPrimary::Nobody)));
    rig.passes(1);
    assert_eq!(rig.fences(), Some(0));
}

#[test]
fn r29_before_another_node_is_promoted_the_one_that_was_to_be_is_fenced_too() {
    for (case, fences, promotes) in [
        ("with both hooks", true, true),
        ("without a fence", false, true),
        ("without a promote hook nothing happened to it", true, false),
    ] {
        let mut rig = failing(Settings {
            fences,
            promotes,
            ..hooked(MIRRORED, 3)
        });
        if fences {
            rig.fenced(0, true);
        }
        assert_eq!(rig.promotes(), Some(1), "{case}");
        rig.promoted(1, false);
        rig.fails(1);
        rig.waits(1);
        let epoch = rig.epoch();
        if fences {
            rig.fenced(0, true);
        }
        if fences && promotes {
            assert_eq!((rig.fences(), rig.promotes()), (Some(1), None), "{case}");
            rig.fenced(1, true);
        }
        assert_eq!((rig.promotes(), rig.epoch()), (Some(2), epoch), "{case}");
        rig.promoted(2, true);
        rig.passes(1);
        assert_eq!(rig.primary(), Primary::Node(2), "{case}");
        assert_eq!(rig.machine.view().in_sync[1], !promotes, "R36: {case}");
    }
}

#[test]
fn r33_whoever_misses_a_copy_while_it_is_promoted_is_fenced_and_the_next_has_an_epoch_of_its_own() {
    let mut rig = failing(hooked(MIRRORED, 3));
    rig.fenced(0, true);
    let epoch = rig.epoch();
    rig.told(Event::Missed { node: 1 });
    rig.promoted(1, true);
    assert_eq!(
        rig.epoch(),
        epoch.next(),
        "its promote hook has been told the other one"
    );
    rig.fenced(0, true);
    rig.fenced(1, true);
    assert_eq!(rig.promotes(), Some(2));
}

/// Killed while the promote hook ran for the node that had reached what was shown.
fn cut_off(promotion: Promotion) -> Rig {
    let sharing = Sharing::Primary {
        promotion,
        positions: true,
        roles: false,
    };
    let mut rig = Rig::new(hooked(sharing, 3));
    rig.observed = Observed::At(Position(9));
    for (node, position) in [(0, 9), (1, 9), (2, 4)] {
        rig.at(node, position);
    }
    rig.fails(0);
    if promotion == Promotion::Manual {
        rig.operator(Word::Promote { node: 1 });
    }
    rig.fenced(0, true);
    rig.at(1, 9);
    if promotion == Promotion::Automatic {
        rig.at(2, 4);
    }
    assert_eq!(rig.machine.record().pending.map(|pending| pending.node), Some(1));
    let mut next = rig.restarted(hooked(sharing, 3));
    next.fails(0);
    next
}

#[test]
fn r32_a_promotion_by_position_that_a_crash_cut_goes_on_with_who_was_chosen() {
    for promotion in [Promotion::Automatic, Promotion::Manual] {
        let mut rig = cut_off(promotion);
        let epoch = rig.epoch();
        rig.at(2, 40);
        rig.at(1, 9);
        assert_eq!((rig.fences(), rig.epoch()), (Some(0), epoch.next()), "{promotion:?}");
        rig.fenced(0, true);
        rig.at(2, 40);
        rig.at(1, 10);
        assert_eq!(rig.promotes(), Some(1), "{promotion:?}");
        rig.promoted(1, true);
        assert_eq!(rig.primary(), Primary::Node(1));
        assert_eq!(rig.machine.record().pending, None);
    }
}

#[test]
fn r32_nobody_else_is_promoted_after_a_crash_nor_the_chosen_one_if_it_has_lost_something() {
    let mut rig = cut_off(Promotion::Automatic);
    rig.at(2, 40);
    rig.at(1, 8);
    assert_eq!((rig.fences(), rig.primary()), (None, Primary::None(NoPrimary::Behind)));
    rig.fails(1);
    assert_eq!(rig.fences(), None);
    rig.at(1, 9);
    assert_eq!(rig.fences(), Some(0));
    rig.fenced(0, true);
    rig.at(2, 40);
    rig.at(1, 8);
    assert_eq!(rig.promotes(), None, "it had 9 when it was chosen");
}

#[test]
fn where_the_operator_promotes_a_hook_that_fails_waits_for_his_word() {
    let manual = Sharing::Mirrored {
        promotion: Promotion::Manual,
        initially_all: true,
    };
    let mut rig = failing(hooked(manual, 2));
    assert_eq!(rig.primary(), Primary::None(NoPrimary::Manual));
    rig.operator(Word::Promote { node: 1 });
    rig.fenced(0, false);
    rig.waits(1000);
    assert_eq!(
        (rig.fences(), rig.primary()),
        (None, Primary::None(NoPrimary::NotFenced))
    );
    rig.operator(Word::Promote { node: 1 });
    rig.fenced(0, true);
    rig.promoted(1, true);
    assert_eq!(rig.primary(), Primary::Node(1));
}

#[test]
fn what_must_be_done_at_once_after_a_restart_is_done_although_no_probe_is_awaited() {
    let mut healthy = hooked(MIRRORED, 2);
    healthy.initial = Initial::Healthy;
    let mut rig = failing(healthy.clone()).restarted(healthy);
    assert_eq!(rig.primary(), Primary::Pending);
    rig.told(Event::Tick);
    assert_eq!(rig.fences(), Some(0));
}

#[test]
fn the_operators_choice_and_drains_outlive_the_process() {
    let mut rig = Rig::new(settings(MIRRORED, 3));
    for node in 0..3 {
        rig.passes(node);
    }
    rig.operator(Word::Promote { node: 1 });
    rig.promoted(1, true);
    rig.operator(Word::Drain { node: 2 });
    let Record { pinned, drained, .. } = rig.machine.record();
    assert_eq!((pinned, drained), (Some(1), vec![false, false, true]));
    let mut rig = rig.restarted(settings(MIRRORED, 3));
    rig.fails(0);
    rig.passes(1);
    rig.passes(2);
    assert_eq!(rig.machine.pinned, Some(1));
    assert_eq!(rig.machine.view().state(2), NodeState::Draining);
    rig.fails(1);
    assert_eq!(
        rig.primary(),
        Primary::None(NoPrimary::Nobody),
        "who drains is not promoted"
    );
    rig.operator(Word::Undrain { node: 2 });
    assert_eq!(rig.promotes(), Some(2));
}

#[test]
fn r54_a_write_refused_in_a_later_epoch_ends_the_office_until_the_operator_speaks() {
    for sharing in [MIRRORED, POSITIONS] {
        let mut rig = Rig::new(hooked(sharing, 2));
        rig.passes(0);
        rig.passes(1);
        let (ours, theirs) = (rig.epoch(), Epoch(70));
        rig.told(Event::Superseded { epoch: ours });
        assert_eq!(rig.primary(), Primary::Node(0), "it is our own");
        rig.told(Event::Superseded { epoch: theirs });
        assert_eq!(rig.primary(), Primary::None(NoPrimary::Superseded));
        rig.fails(0);
        assert_eq!(
            (rig.fences(), rig.epoch()),
            (None, ours),
            "whom they promoted nobody knows"
        );
        let mut rig = rig.restarted(hooked(sharing, 2));
        rig.passes(0);
        rig.passes(1);
        rig.waits(1000);
        assert_eq!(rig.primary(), Primary::None(NoPrimary::Superseded));
        rig.operator(Word::Promote { node: 0 });
        assert_eq!((rig.fences(), rig.epoch()), (Some(0), theirs.next()));
        rig.fenced(0, true);
        rig.promoted(0, true);
        assert_eq!(rig.primary(), Primary::Node(0));
    }
}

#[test]
fn r54_a_promotion_under_way_does_not_end_when_somebody_else_promotes() {
    let mut rig = failing(hooked(MIRRORED, 2));
    rig.fenced(0, true);
    let ours = rig.epoch();
    rig.told(Event::Superseded { epoch: Epoch(70) });
    rig.told(Event::Promoted {
        node: 1,
        epoch: ours,
        ok: true,
    });
    assert_eq!(rig.primary(), Primary::None(NoPrimary::Superseded));
    rig.operator(Word::Promote { node: 1 });
    rig.fenced(0, true);
    rig.promoted(1, true);
    assert_eq!((rig.primary(), rig.epoch()), (Primary::Node(1), Epoch(71)));
}

#[test]
fn r54_where_tidegate_owns_no_promotion_nobodys_epoch_counts() {
    let manual = Sharing::Mirrored {
        promotion: Promotion::Manual,
        initially_all: true,
    };
    for sharing in [manual, Sharing::Store] {
        let mut rig = Rig::new(settings(sharing, 2));
        rig.passes(0);
        rig.passes(1);
        rig.told(Event::Superseded { epoch: Epoch(70) });
        assert_eq!(rig.primary(), Primary::Node(0));
    }
}
