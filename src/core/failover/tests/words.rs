//! Which words of the operator are refused, and why.

use super::super::event::{Effect, Event, Observed, Word};
use super::super::health::Outcome;
use super::super::refuse::Refusal;
use super::super::settings::{Promotion, Sharing, Spread};
use super::super::view::Primary;
use super::*;

fn of(sharing: Sharing, spread: Spread) -> Machine {
    let slots = (0..3).map(|n| Slot::of((n > 0).then_some(Grade::Hot))).collect();
    let mut settings = Settings::shared(spread, THRESHOLDS, Initial::Unprobed, slots, Epoch(7));
    settings.sharing = sharing;
    let mut machine = Machine::new(MonoTime::default(), settings, None);
    for (node, outcome) in [(0, Outcome::Passed), (1, Outcome::Passed), (2, Outcome::Unreachable)] {
        machine.step(at(1), probed(node, outcome), Observed::Unknown, &mut Vec::new());
    }
    machine
}

fn at(second: u64) -> MonoTime {
    MonoTime::default().after(Span::from_secs(second))
}

const fn primary(promotion: Promotion) -> Sharing {
    Sharing::Primary {
        promotion,
        positions: false,
        roles: false,
    }
}

#[test]
fn a_word_that_nothing_would_come_of_is_refused_with_the_reason() {
    use Refusal::{Equals, InOffice, NoNode, NotAlive};
    let promote = |node| Word::Promote { node };
    let drain = |node| Word::Drain { node };
    let mirrored = Sharing::Mirrored {
        promotion: Promotion::Automatic,
        initially_all: true,
    };
    let manual = primary(Promotion::Manual);
    for (case, sharing, spread, word, expected) in [
        (
            "a standby over one store",
            Sharing::Store,
            Spread::One,
            promote(1),
            None,
        ),
        ("the active node itself", Sharing::Store, Spread::One, promote(0), None),
        (
            "a node that is down",
            Sharing::Store,
            Spread::One,
            promote(2),
            Some(NotAlive),
        ),
        (
            "a node that is not there",
            Sharing::Store,
            Spread::One,
            promote(3),
            Some(NoNode),
        ),
        (
            "active-active over one store",
            Sharing::Store,
            Spread::All,
            promote(1),
            Some(Equals),
        ),
        ("multi-primary", Sharing::Homes, Spread::All, promote(1), Some(Equals)),
        ("a replica", manual, Spread::One, promote(1), None),
        (
            "a replica that is down",
            manual,
            Spread::One,
            promote(2),
            Some(NotAlive),
        ),
        ("a copy", mirrored, Spread::One, promote(1), None),
        ("draining a replica", manual, Spread::One, drain(1), None),
        (
            "draining the primary by hand",
            manual,
            Spread::One,
            drain(0),
            Some(InOffice),
        ),
        ("draining the primary of copies", mirrored, Spread::One, drain(0), None),
        ("draining the active node", Sharing::Store, Spread::One, drain(0), None),
        ("draining nobody", Sharing::Store, Spread::One, drain(9), Some(NoNode)),
        ("undraining", manual, Spread::One, Word::Undrain { node: 2 }, None),
        ("resynced", manual, Spread::One, Word::Resynced { node: 1 }, None),
        (
            "resynced nobody",
            manual,
            Spread::One,
            Word::Resynced { node: 7 },
            Some(NoNode),
        ),
    ] {
        assert_eq!(of(sharing, spread).refuses(word), expected, "{case}");
    }
}

#[test]
fn while_a_node_is_being_promoted_no_other_is() {
    let mut machine = of(primary(Promotion::Manual), Spread::One);
    for seconds in 2..4 {
        machine.step(
            at(seconds),
            probed(2, Outcome::Passed),
            Observed::Unknown,
            &mut Vec::new(),
        );
    }
    let (mut effects, word) = (Vec::new(), Word::Promote { node: 1 });
    assert_eq!(machine.refuses(word), None);
    machine.step(at(5), Event::Operator(word), Observed::Unknown, &mut effects);
    let Some(Effect::Promote { node: 1, epoch }) = effects.iter().find(|e| matches!(e, Effect::Promote { .. })) else {
        panic!("{effects:?}");
    };
    assert_eq!(machine.refuses(word), None, "the same word again waits with the first");
    assert_eq!(machine.refuses(Word::Promote { node: 2 }), Some(Refusal::UnderWay));
    let promoted = Event::Promoted {
        node: 1,
        epoch: *epoch,
        ok: true,
    };
    machine.step(at(6), promoted, Observed::Unknown, &mut Vec::new());
    assert_eq!(machine.view().primary, Primary::Node(1));
    assert_eq!(machine.refuses(Word::Promote { node: 2 }), None);
}
