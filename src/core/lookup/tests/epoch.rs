//! What is left of what is stored when traffic has moved to another node (R53).

use super::*;
use crate::core::failover::view::Epoch;

const MOVED: Decision = revalidate(FetchReason::Epoch);

fn in_epoch(epoch: u64, shared: bool) -> Reign {
    Reign {
        epoch: Epoch(epoch),
        shared,
    }
}

#[test]
fn r53_what_was_fetched_before_traffic_moved_is_confirmed_or_not_used() {
    let exclusive = || {
        let mut policy = strong(caching());
        if let Contract::Strong(_, proof) = &mut policy.contract {
            proof.writers = Writers::Exclusive;
        }
        policy
    };
    let of = |epoch| Meta {
        epoch: Epoch(epoch),
        proven: true,
        ..meta()
    };
    let gone = Fetch(FetchReason::Epoch);
    for (case, policy) in [
        ("exclusive", exclusive()),
        ("weak", weak(caching())),
        ("eventual", cp()),
        ("eventual, AP", ap()),
    ] {
        let headers = HeaderMap::new();
        let decided = |meta: Meta, reign| {
            let read = read(&headers, &policy).in_reign(reign);
            decide_why(at(5), &read, &[meta], &policy)
        };
        assert_eq!(decided(of(2), in_epoch(2, true)).0, serve(5), "{case}: of this epoch");
        assert_eq!(
            decided(of(1), in_epoch(2, true)),
            (MOVED, Ground::OlderEpoch),
            "{case}: one store"
        );
        assert_eq!(
            decided(of(1), in_epoch(2, false)),
            (gone, Ground::OlderEpoch),
            "{case}: two nodes may use one ETag for two states"
        );
        assert_eq!(
            decided(of(2), in_epoch(1, false)).0,
            serve(5),
            "{case}: stored since the read began"
        );
        let no_tag = Meta { etag: None, ..of(1) };
        assert_eq!(
            decided(no_tag, in_epoch(2, true)).0,
            gone,
            "{case}: nothing to confirm it by"
        );
    }
}

#[test]
fn r53_an_older_epoch_is_a_stand_in_over_one_store_alone() {
    let headers = HeaderMap::new();
    let old = Meta {
        epoch: Epoch(1),
        ..meta()
    };
    let fallback = |shared| {
        let read = read(&headers, &ap()).in_reign(in_epoch(2, shared));
        fallback(at(5), &read, Some(&old), Failure::Unreachable, &ap())
    };
    assert_eq!(
        fallback(true),
        Fallback::Serve {
            age: Span::from_millis(5),
            breached: false
        }
    );
    assert_eq!(fallback(false), Fallback::PassOn);
    let read = read(&headers, &ap()).in_reign(in_epoch(2, false));
    assert_eq!(newest(&read, &[old.clone()], &ap()), None);
    assert!(!may_use(&read, &old, &ap()));
}

#[test]
fn r53_the_newest_of_this_epoch_is_chosen_whatever_else_is_stored() {
    let headers = HeaderMap::new();
    let later = Meta {
        epoch: Epoch(1),
        sent: at(3),
        ..meta()
    };
    let current = Meta {
        epoch: Epoch(2),
        sent: at(2),
        ..meta()
    };
    let read = read(&headers, &cp()).in_reign(in_epoch(2, false));
    let age = Span::from_millis(5);
    assert_eq!(decide(at(5), &read, &[later, current], &cp()), Serve { index: 1, age });
}
