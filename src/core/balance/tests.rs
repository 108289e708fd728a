#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::core::time::{MonoTime, Span};
use proptest::prelude::*;
use std::time::Duration;

const RULES: [Rule; 5] = [
    Rule::LeastRequest,
    Rule::RoundRobin,
    Rule::Random,
    Rule::PeakEwma,
    Rule::Hash,
];

fn loads(of: &[(bool, u32, usize)]) -> Vec<Load> {
    of.iter()
        .enumerate()
        .map(|(node, &(eligible, weight, in_flight))| Load {
            node,
            eligible,
            weight,
            ramp: FULL,
            in_flight,
            seen: Seen {
                failing: 0.0,
                latency: 0.01,
            },
            identity: Identity::of(&format!("node-{node}")),
        })
        .collect()
}

/// A fixed sequence that covers both halves (splitmix64).
fn randoms(n: u64) -> impl Iterator<Item = u64> {
    (0..n).map(|i| {
        let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn draw(random: u64) -> Draw {
    Draw {
        turn: random,
        random,
        key: Some(HashKey::of(&random.to_le_bytes())),
    }
}

/// How often each node is chosen in 10,000 draws.
fn shares(rule: Rule, loads: &[Load]) -> Vec<usize> {
    let mut chosen = vec![0; loads.len()];
    for random in randoms(10_000) {
        chosen[choose(rule, loads, draw(random)).unwrap()] += 1;
    }
    chosen
}

#[test]
fn a_node_that_is_not_eligible_is_never_chosen() {
    let loads = loads(&[(false, 100, 0), (true, 1, 50), (false, 1, 0)]);
    for rule in RULES {
        assert_eq!(shares(rule, &loads), [0, 10_000, 0], "{rule:?}");
    }
}

#[test]
fn without_an_eligible_node_there_is_no_choice() {
    for rule in RULES {
        for key in [None, Some(HashKey::of(b"k"))] {
            let draw = Draw {
                turn: 3,
                random: 9,
                key,
            };
            assert_eq!(choose(rule, &loads(&[(false, 1, 0)]), draw), None);
            assert_eq!(choose(rule, &[], draw), None);
            assert_eq!(choose(rule, &loads(&[(true, 0, 0)]), draw), None);
        }
    }
}

#[test]
fn round_robin_takes_every_node_in_turn_by_weight() {
    let loads = loads(&[(true, 1, 0), (true, 2, 0), (true, 1, 0)]);
    let turns: Vec<_> = (0..8)
        .map(|turn| {
            let draw = Draw {
                turn,
                random: 0,
                key: None,
            };
            choose(Rule::RoundRobin, &loads, draw).unwrap()
        })
        .collect();
    assert_eq!(turns, [0, 1, 1, 2, 0, 1, 1, 2]);
}

#[test]
fn of_two_nodes_the_one_with_less_in_flight_is_chosen() {
    let loads = loads(&[(true, 1, 3), (true, 1, 2)]);
    for rule in [Rule::LeastRequest, Rule::PeakEwma] {
        assert_eq!(shares(rule, &loads), [0, 10_000], "{rule:?}");
    }
}

#[test]
fn in_flight_counts_for_the_weight() {
    let loads = loads(&[(true, 4, 7), (true, 1, 2)]);
    for rule in [Rule::LeastRequest, Rule::PeakEwma] {
        assert_eq!(shares(rule, &loads), [10_000, 0], "{rule:?}");
    }
}

#[test]
fn idle_nodes_are_drawn_by_weight() {
    let loads = loads(&[(true, 3, 0), (true, 1, 0)]);
    for rule in [Rule::LeastRequest, Rule::Random, Rule::RoundRobin, Rule::Hash] {
        let first = shares(rule, &loads)[0];
        assert!(
            (7_300..7_700).contains(&first),
            "{rule:?}: {first} of 10,000 for a weight of 3 in 4"
        );
    }
}

#[test]
fn a_request_without_a_key_goes_where_least_is_in_flight() {
    let loads = loads(&[(true, 1, 3), (true, 1, 2)]);
    for random in randoms(200) {
        let draw = Draw {
            turn: 0,
            random,
            key: None,
        };
        assert_eq!(choose(Rule::Hash, &loads, draw), Some(1));
    }
}

#[test]
fn a_slower_node_gets_less_by_its_answers() {
    let mut loads = loads(&[(true, 1, 0), (true, 1, 0)]);
    loads[0].seen.latency = 0.1;
    assert_eq!(shares(Rule::PeakEwma, &loads), [0, 10_000]);
    loads[1].in_flight = 10;
    assert_eq!(
        shares(Rule::PeakEwma, &loads),
        [10_000, 0],
        "eleven times ten milliseconds are longer than a hundred"
    );
}

#[test]
fn a_node_that_ramps_up_takes_part_of_its_share() {
    for (ramp, expected) in [(1, 0..200), (10, 700..1_300), (50, 3_000..3_700), (100, 4_700..5_300)] {
        for rule in [Rule::Random, Rule::Hash] {
            let mut loads = loads(&[(true, 1, 0), (true, 1, 0)]);
            loads[0].ramp = ramp;
            let share = shares(rule, &loads)[0];
            assert!(expected.contains(&share), "{rule:?} at {ramp}%: {share}");
        }
    }
    let mut loads = loads(&[(true, 1, 0), (true, 1, 0)]);
    loads[0].ramp = 10;
    let share = shares(Rule::RoundRobin, &loads)[0];
    assert!((350..650).contains(&share), "a tenth of its turns: {share}");
    loads[0].in_flight = 1;
    loads[1].in_flight = 9;
    assert_eq!(
        shares(Rule::LeastRequest, &loads),
        [0, 10_000],
        "one in flight at a tenth of the share is more than nine"
    );
}

#[test]
fn a_node_that_ramps_up_alone_takes_everything() {
    let mut loads = loads(&[(true, 1, 0), (false, 1, 0)]);
    loads[0].ramp = 1;
    for rule in RULES {
        assert_eq!(shares(rule, &loads), [10_000, 0], "{rule:?}");
    }
}

#[test]
fn a_node_of_which_nothing_is_known_is_tried_by_one_request_at_a_time() {
    let mut loads = loads(&[(true, 1, 0), (true, 1, 4)]);
    loads[0].seen.latency = 0.0;
    assert_eq!(shares(Rule::PeakEwma, &loads), [10_000, 0], "idle: tried");
    loads[0].in_flight = 1;
    assert_eq!(
        shares(Rule::PeakEwma, &loads),
        [0, 10_000],
        "asked, and it has said nothing yet"
    );
}

#[test]
fn a_request_that_was_given_up_tells_how_long_an_answer_takes_at_least() {
    let mut node = Experience::default();
    node.waited(at(0), USUAL);
    assert!((node.seen(at(0)).latency - 0.02).abs() < 1e-9);
    node.waited(at(10), FAST);
    assert!(node.seen(at(10)).latency > 0.019, "a short wait tells nothing");
    node.failed(at(20), FAST);
    node.waited(at(10_020), FAST);
    let failing = node.seen(at(10_020)).failing;
    assert!(
        (failing - 0.125).abs() < 1e-9,
        "nor does it say how it would have ended: {failing}"
    );
}

fn at(ms: u64) -> MonoTime {
    MonoTime::default().after(Span::from_millis(ms))
}

const FAST: Duration = Duration::from_micros(200);
const USUAL: Duration = Duration::from_millis(20);

/// Two nodes at 500 requests a second, one at a time; the first fails at once whatever it is asked.
#[test]
fn a_node_that_fails_fast_attracts_no_traffic() {
    for rule in [Rule::LeastRequest, Rule::PeakEwma] {
        let mut nodes = [Experience::default(); 2];
        let mut asked = [0_usize; 2];
        for (i, random) in randoms(10_000).enumerate() {
            let now = at(i as u64 * 2);
            let mut loads = loads(&[(true, 1, 0), (true, 1, 10)]); // the other one is busy, as it works
            for (load, node) in loads.iter_mut().zip(&nodes) {
                load.seen = node.seen(now);
            }
            let node = choose(rule, &loads, draw(random)).unwrap();
            asked[node] += 1;
            match node {
                0 => nodes[0].failed(now, FAST),
                _ => nodes[1].answered(now, USUAL),
            }
        }
        assert!(asked[0] >= 1, "{rule:?}: it is tried");
        assert!(asked[0] < 100, "{rule:?}: {} of 10,000 went to it", asked[0]);
    }
}

#[test]
fn a_node_that_fails_once_in_a_hundred_keeps_its_traffic() {
    for rule in [Rule::LeastRequest, Rule::PeakEwma] {
        let mut nodes = [Experience::default(); 2];
        let mut asked = [0_usize; 2];
        for (i, random) in randoms(10_000).enumerate() {
            let now = at(i as u64 * 2);
            let mut loads = loads(&[(true, 1, 0), (true, 1, 0)]);
            for (load, node) in loads.iter_mut().zip(&nodes) {
                load.seen = node.seen(now);
            }
            let node = choose(rule, &loads, draw(random)).unwrap();
            asked[node] += 1;
            let jitter = Duration::from_micros(random % 2_000);
            match node {
                0 if asked[0].is_multiple_of(100) => nodes[0].failed(now, FAST),
                _ => nodes[node].answered(now, USUAL + jitter),
            }
        }
        assert!(asked[0] > 3_500, "{rule:?}: {} of 10,000 went to it", asked[0]);
    }
}

#[test]
fn a_node_that_recovered_is_asked_again() {
    let mut node = Experience::default();
    for i in 0..100 {
        node.failed(at(i), FAST);
    }
    assert!(node.seen(at(100)).failing > 0.9);
    assert!(node.seen(at(100)).latency > 1.0, "however fast it fails");
    assert!(node.seen(at(40_000)).failing < 0.1, "silence fades");
    for i in 0..20 {
        node.answered(at(200 + i), USUAL);
    }
    assert!(node.seen(at(220)).failing < 0.01, "and answers count at once");
}

#[test]
fn a_peak_counts_at_once_and_wears_off() {
    let mut node = Experience::default();
    node.answered(at(0), USUAL);
    assert!((node.seen(at(0)).latency - 0.02).abs() < 1e-9);
    node.answered(at(10), Duration::from_secs(2));
    assert!((node.seen(at(10)).latency - 2.0).abs() < 1e-9, "whole");
    node.answered(at(20), USUAL);
    assert!(node.seen(at(20)).latency > 1.9, "one fast answer is not enough");
    assert!(node.seen(at(30_000)).latency < 0.11, "silence wears it down");
    for second in 1..=60 {
        node.answered(at(20 + second * 1000), USUAL);
    }
    assert!(node.seen(at(60_020)).latency < 0.03);
}

#[test]
fn time_that_goes_back_harms_nothing() {
    let mut node = Experience::default();
    node.failed(at(1000), USUAL);
    node.answered(at(500), USUAL);
    let seen = node.seen(at(0));
    assert!(
        seen.latency.is_finite() && (0.0..1.0).contains(&seen.failing),
        "{seen:?}"
    );
}

fn named(names: &[(u32, u32)]) -> Vec<Load> {
    let mut loads = loads(&vec![(true, 1, 0); names.len()]);
    for (load, (name, weight)) in loads.iter_mut().zip(names) {
        load.identity = Identity::of(&format!("10.0.0.{name}:80"));
        load.weight = *weight;
    }
    loads
}

fn owner(loads: &[Load], key: u64) -> Option<Identity> {
    let draw = Draw {
        turn: 0,
        random: 0,
        key: Some(HashKey::of(&key.to_le_bytes())),
    };
    let node = choose(Rule::Hash, loads, draw)?;
    loads.iter().find(|load| load.node == node).map(|load| load.identity)
}

proptest! {
    #[test]
    fn a_node_that_leaves_moves_no_key_but_its_own(
        names in proptest::collection::btree_map(0_u32..100, 1_u32..10, 2..8), gone in any::<prop::sample::Index>(), keys in proptest::collection::vec(any::<u64>(), 1..50)
    ) {
        let names: Vec<_> = names.into_iter().collect();
        let whole = named(&names);
        let gone = gone.index(names.len());
        let mut rest = whole.clone();
        let left = rest.remove(gone).identity;
        let mut full = whole.clone();
        full[gone].eligible = false;
        for key in keys {
            let before = owner(&whole, key);
            if before != Some(left) {
                prop_assert_eq!(owner(&rest, key), before, "the node is gone");
            } else {
                prop_assert_ne!(owner(&rest, key), before);
            }
            prop_assert_eq!(owner(&full, key), owner(&rest, key), "a full node is as one that is gone");
        }
    }

    #[test]
    fn a_share_that_grows_only_attracts(
        names in proptest::collection::btree_map(0_u32..100, 1_u32..10, 2..8), grown in any::<prop::sample::Index>(), keys in proptest::collection::vec(any::<u64>(), 1..50)
    ) {
        let names: Vec<_> = names.into_iter().collect();
        let mut small = named(&names);
        let grown = grown.index(names.len());
        small[grown].ramp = 20;
        let large = named(&names);
        for key in keys {
            let (before, after) = (owner(&small, key), owner(&large, key));
            prop_assert!(before == after || after == Some(large[grown].identity));
        }
    }

    #[test]
    fn the_order_of_the_nodes_does_not_matter(
        names in proptest::collection::btree_map(0_u32..100, 1_u32..10, 2..8), keys in proptest::collection::vec(any::<u64>(), 1..50)
    ) {
        let mut names: Vec<_> = names.into_iter().collect();
        let one = named(&names);
        names.reverse();
        let other = named(&names);
        for key in keys {
            prop_assert_eq!(owner(&one, key), owner(&other, key));
        }
    }
}
