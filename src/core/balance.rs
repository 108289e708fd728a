//! Which node takes the next request: a choice among loads, from one random number or one turn counter given in.
//!
//! It does not know health or connection caps: a node that must not be chosen is not `eligible`. The loads are one core's own: a
//! counter shared by all cores would be a write every request contends for, and the cores see the same mix of requests.

/// How active nodes share the load.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Of two nodes drawn by weight, the one with fewer requests in flight for its weight (Mitzenmacher, "The Power of Two Choices").
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
}

/// One node, as the choice sees it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which node.
    pub node: usize,
    /// Whether it may be chosen.
    pub eligible: bool,
    /// Its share of the load relative to the others.
    pub weight: u32,
    /// Requests in flight there.
    pub in_flight: usize,
}

/// The node that takes the request; none when none is eligible with a weight above zero.
///
/// `turn` counts requests (round robin), `random` is fresh for each (least request).
#[must_use]
pub fn choose(rule: Rule, loads: &[Load], turn: u64, random: u64) -> Option<usize> {
    let total = total_weight(loads, None);
    match rule {
        Rule::RoundRobin => pick(loads, None, turn.checked_rem(total)?),
        Rule::LeastRequest => {
            let first = pick_load(loads, None, (random >> 32).checked_rem(total)?)?;
            let others = total_weight(loads, Some(first.node));
            let Some(at) = (random & 0xffff_ffff).checked_rem(others) else {
                return Some(first.node);
            };
            let second = pick_load(loads, Some(first.node), at)?;
            // In flight for the weight, compared without a division; a tie goes to the one drawn first, which keeps the weights.
            let pressure = |a: &Load, b: &Load| (a.in_flight as u64).saturating_mul(u64::from(b.weight));
            let lighter = pressure(second, first) < pressure(first, second);
            Some(if lighter { second.node } else { first.node })
        }
    }
}

fn total_weight(loads: &[Load], but: Option<usize>) -> u64 {
    eligible(loads, but).map(|load| u64::from(load.weight)).sum()
}

fn eligible(loads: &[Load], but: Option<usize>) -> impl Iterator<Item = &Load> {
    loads.iter().filter(move |load| load.eligible && Some(load.node) != but)
}

fn pick(loads: &[Load], but: Option<usize>, at: u64) -> Option<usize> {
    pick_load(loads, but, at).map(|load| load.node)
}

/// The node whose weight covers `at` when the weights are laid end to end.
fn pick_load(loads: &[Load], but: Option<usize>, mut at: u64) -> Option<&Load> {
    for load in eligible(loads, but) {
        match at.checked_sub(u64::from(load.weight)) {
            Some(rest) => at = rest,
            None => return Some(load),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn loads(of: &[(bool, u32, usize)]) -> Vec<Load> {
        of.iter()
            .enumerate()
            .map(|(node, &(eligible, weight, in_flight))| Load {
                node,
                eligible,
                weight,
                in_flight,
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

    #[test]
    fn a_node_that_is_not_eligible_is_never_chosen() {
        let loads = loads(&[(false, 100, 0), (true, 1, 50), (false, 1, 0)]);
        for random in randoms(1000) {
            assert_eq!(choose(Rule::LeastRequest, &loads, 0, random), Some(1));
            assert_eq!(choose(Rule::RoundRobin, &loads, random, 0), Some(1));
        }
    }

    #[test]
    fn without_an_eligible_node_there_is_no_choice() {
        for rule in [Rule::LeastRequest, Rule::RoundRobin] {
            assert_eq!(choose(rule, &loads(&[(false, 1, 0)]), 3, 9), None);
            assert_eq!(choose(rule, &[], 3, 9), None);
            assert_eq!(choose(rule, &loads(&[(true, 0, 0)]), 3, 9), None);
        }
    }

    #[test]
    fn round_robin_takes_every_node_in_turn_by_weight() {
        let loads = loads(&[(true, 1, 0), (true, 2, 0), (true, 1, 0)]);
        let turns: Vec<_> = (0..8)
            .map(|turn| choose(Rule::RoundRobin, &loads, turn, 0).unwrap())
            .collect();
        assert_eq!(turns, [0, 1, 1, 2, 0, 1, 1, 2]);
    }

    #[test]
    fn of_two_nodes_the_one_with_less_in_flight_is_chosen() {
        let loads = loads(&[(true, 1, 3), (true, 1, 2)]);
        for random in randoms(200) {
            assert_eq!(choose(Rule::LeastRequest, &loads, 0, random), Some(1));
        }
    }

    #[test]
    fn in_flight_counts_for_the_weight() {
        let loads = loads(&[(true, 4, 7), (true, 1, 2)]);
        for random in randoms(200) {
            assert_eq!(choose(Rule::LeastRequest, &loads, 0, random), Some(0));
        }
    }

    #[test]
    fn idle_nodes_are_drawn_by_weight() {
        let loads = loads(&[(true, 3, 0), (true, 1, 0)]);
        let first = randoms(8000)
            .filter(|r| choose(Rule::LeastRequest, &loads, 0, *r) == Some(0))
            .count();
        assert!((5700..6300).contains(&first), "{first} of 8000 for a weight of 3 in 4");
    }
}
