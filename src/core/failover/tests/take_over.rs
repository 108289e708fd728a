//! Other settings while the machine runs (R31).

use super::super::event::{Effect, Observed};
use super::super::health::Outcome;
use super::super::settings::{Promotion, Sharing, Spread};
use super::super::take_over::{TakeOver, Unfit};
use super::super::view::Primary;
use super::*;

fn at(second: u64) -> MonoTime {
    MonoTime::default().after(Span::from_secs(second))
}

/// Settings whose slots are filled where the word has a letter, in the order of the letters; the first takes traffic.
fn settings(sharing: Sharing, spread: Spread, order: &str) -> Settings {
    let slots = order.chars().map(|letter| match letter.to_digit(10) {
        None => Slot::empty(),
        Some(rank) => Slot::of((rank > 0 && spread == Spread::One).then_some(Grade::Hot)).ranked(rank as usize),
    });
    let mut settings = Settings::shared(spread, THRESHOLDS, Initial::Unprobed, slots.collect(), Epoch(7));
    settings.sharing = sharing;
    settings.fences = true;
    settings
}

fn running(sharing: Sharing, spread: Spread, nodes: &str) -> Machine {
    let mut machine = Machine::new(MonoTime::default(), settings(sharing, spread, nodes), None);
    for node in 0..nodes.len() {
        machine.step(at(1), probed(node, Outcome::Passed), Observed::Unknown, &mut Vec::new());
    }
    machine
}

fn to(settings: Settings) -> TakeOver {
    let new = settings.nodes.iter().enumerate().filter(|(_, slot)| slot.filled);
    TakeOver {
        probes: new.map(|(node, _)| probed(node, Outcome::Passed)).collect(),
        settings,
        probed: true,
        min_in_sync: 1,
    }
}

fn taken(machine: &Machine, to: TakeOver) -> Machine {
    assert_eq!(machine.unfit(&to), None);
    let mut next = machine.clone();
    next.take_over(at(2), to, Observed::Unknown, &mut Vec::new());
    next
}

const fn primary(promotion: Promotion) -> Sharing {
    Sharing::Primary {
        promotion,
        positions: false,
        roles: false,
    }
}

const fn mirrored(promotion: Promotion) -> Sharing {
    Sharing::Mirrored {
        promotion,
        initially_all: true,
    }
}

#[test]
fn r31_r53_over_one_store_traffic_goes_to_who_is_there_and_an_epoch_begins_when_nobody_stays() {
    use Primary::{Any, Node};
    type Case = (
        &'static str,
        Spread,
        &'static str,
        &'static str,
        Primary,
        &'static [usize],
        u64,
    );
    let cases: [Case; 6] = [
        ("one more", Spread::All, "01", "012", Any, &[0, 1, 2], 7),
        ("another for one", Spread::All, "01", ".01", Any, &[1, 2], 7),
        ("others for all", Spread::All, "01", "..01", Any, &[2, 3], 8),
        ("the active one goes", Spread::One, "01", ".0", Node(1), &[1], 8),
        (
            "the first in the file comes next",
            Spread::One,
            "01",
            ".10",
            Node(2),
            &[2],
            8,
        ),
        (
            "another order alone moves nothing",
            Spread::One,
            "01",
            "10",
            Node(0),
            &[0],
            7,
        ),
    ];
    for (case, spread, before, after, primary, candidates, epoch) in cases {
        let machine = running(Sharing::Store, spread, before);
        let next = taken(&machine, to(settings(Sharing::Store, spread, after)));
        let view = next.view();
        assert_eq!((view.primary, view.epoch), (primary, Epoch(epoch)), "{case}");
        assert_eq!(view.candidates, candidates, "{case}");
    }
}

#[test]
fn r31_what_is_known_of_a_node_stays_and_who_is_not_probed_any_more_counts_as_healthy() {
    let mut machine = running(Sharing::Store, Spread::All, "01");
    for _ in 0..2 {
        machine.step(
            at(1),
            probed(1, Outcome::Unreachable),
            Observed::Unknown,
            &mut Vec::new(),
        );
    }
    let mut change = to(settings(Sharing::Store, Spread::All, "01"));
    change.probes.clear();
    assert_eq!(taken(&machine, change.clone()).view().candidates, [0]);
    change.probed = false;
    assert_eq!(taken(&machine, change).view().candidates, [0, 1]);
}

#[test]
fn r33b_r36_where_nodes_hold_data_a_new_one_is_outside_the_set_and_one_that_goes_leaves_it() {
    for sharing in [primary(Promotion::Manual), mirrored(Promotion::Automatic)] {
        let machine = running(sharing, Spread::One, "01");
        let next = taken(&machine, to(settings(sharing, Spread::One, "0.1")));
        let view = next.view();
        assert_eq!((view.primary, view.epoch), (Primary::Node(0), Epoch(7)), "{sharing:?}");
        assert_eq!(view.in_sync, [true, false, false], "{sharing:?}");
        assert_eq!(view.states[2], NodeState::Quarantined, "{sharing:?}");
        // The primary fails: nobody who is there holds what was acknowledged.
        let mut left = next;
        for _ in 0..3 {
            left.step(
                at(3),
                probed(0, Outcome::Unreachable),
                Observed::Unknown,
                &mut Vec::new(),
            );
        }
        assert!(matches!(left.view().primary, Primary::None(_)), "{sharing:?}");
    }
}

#[test]
fn r31_what_would_put_writes_at_risk_is_refused() {
    let manual = primary(Promotion::Manual);
    let copies = mirrored(Promotion::Automatic);
    let cases = [
        ("the primary", manual, "01", ".0", 1, Some(Unfit::InOffice { node: 0 })),
        ("a replica", manual, "01", "0", 1, None),
        (
            "the primary that copies are made of",
            copies,
            "01",
            ".01",
            1,
            Some(Unfit::InOffice { node: 0 }),
        ),
        (
            "a copy that is needed",
            copies,
            "01",
            "0.1",
            2,
            Some(Unfit::TooFew { node: 1 }),
        ),
        ("a copy that is not", copies, "012", "01.", 2, None),
        ("over one store", Sharing::Store, "01", "..0", 1, None),
    ];
    for (case, sharing, before, after, min_in_sync, expected) in cases {
        let machine = running(sharing, Spread::One, before);
        // A place is never taken away.
        let after = format!("{after:.<width$}", width = before.len());
        let change = TakeOver {
            min_in_sync,
            ..to(settings(sharing, Spread::One, &after))
        };
        assert_eq!(machine.unfit(&change), expected, "{case}");
    }
}

#[test]
fn r29_while_a_promotion_is_under_way_nobody_goes_and_the_rest_can_change() {
    let sharing = mirrored(Promotion::Automatic);
    let mut machine = running(sharing, Spread::One, "012");
    let mut effects = Vec::new();
    for _ in 0..2 {
        machine.step(at(1), probed(0, Outcome::Unreachable), Observed::Unknown, &mut effects);
    }
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Fence { node: 0, .. }))
    );
    let without = to(settings(sharing, Spread::One, "01."));
    assert_eq!(machine.unfit(&without), Some(Unfit::Promoting));
    let fenced = to(settings(sharing, Spread::One, ".01"));
    assert_eq!(
        machine.unfit(&fenced),
        Some(Unfit::InOffice { node: 0 }),
        "it is being fenced"
    );
    let by_hand = to(settings(mirrored(Promotion::Manual), Spread::One, "012"));
    assert_eq!(machine.unfit(&by_hand), Some(Unfit::Promoting));
    let mut longer = settings(sharing, Spread::One, "012");
    longer.hold = Span::from_secs(9);
    assert_eq!(machine.unfit(&to(longer)), None);
}

#[test]
fn a_node_that_waits_cold_no_more_is_awaited_and_one_that_is_up_goes_on() {
    let cold = |mut settings: Settings| {
        settings.nodes[1].standby = Some(Grade::Cold {
            start_timeout: Span::from_secs(1),
        });
        settings
    };
    let hot = || settings(Sharing::Store, Spread::One, "01");
    let machine = Machine::new(MonoTime::default(), cold(hot()), None);
    let mut change = to(hot());
    change.probes.clear();
    assert_eq!(machine.view().states[1], NodeState::Standby);
    assert_eq!(taken(&machine, change.clone()).view().states[1], NodeState::Unprobed);
    let up = running(Sharing::Store, Spread::One, "01");
    change.settings = cold(change.settings);
    assert_eq!(taken(&up, change).view().states[1], NodeState::Standby);
}
