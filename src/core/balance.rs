//! Which node takes the next request: a choice among loads, from one random number or one turn counter given in.
//!
//! It does not know health or connection caps: a node that must not be chosen is not `eligible`. The loads are one core's own: a
//! counter shared by all cores would be a write every request contends for, and the cores see the same mix of requests.
//!
//! A node that fails fast has few requests in flight and answers in no time: by the bare numbers it would draw all traffic. So asking
//! it costs the more, the more of its latest requests failed ([`experience`]).
//!
//! A node that came into service a moment ago is given part of its share (`ramp`): it weighs less, and its turns are passed over.

mod experience;
mod ramp;
mod rendezvous;

#[cfg(test)]
mod tests;

use experience::PENALTY_SECONDS;
pub use experience::{Experience, Seen};
pub use ramp::ramp;
pub use rendezvous::{HashKey, Identity};

/// How active nodes share the load.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Of two nodes drawn by weight, the one with fewer requests in flight for its weight (Mitzenmacher, "The Power of Two Choices").
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// Of two nodes drawn by weight, the one whose answers take less time for the requests in flight there (Finagle's peak EWMA).
    PeakEwma,
    /// The node the request's key belongs to (weighted rendezvous hashing). A request without a key goes by [`Rule::LeastRequest`].
    Hash,
}

/// One node, as the choice sees it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Load {
    /// Which node.
    pub node: usize,
    /// Whether it may be chosen.
    pub eligible: bool,
    /// Its share of the load relative to the others.
    pub weight: u32,
    /// How much of its share it is given, in parts of [`FULL`].
    pub ramp: u32,
    /// Requests in flight there.
    pub in_flight: usize,
    /// How its latest requests went.
    pub seen: Seen,
    /// What it is called, whichever place it has.
    pub identity: Identity,
}

/// The whole of a node's share.
pub const FULL: u32 = 100;

/// What a request brings to the choice.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Counts requests.
    pub turn: u64,
    /// Fresh for each request.
    pub random: u64,
    /// What the request is hashed by; none: it has nothing of the kind.
    pub key: Option<HashKey>,
}

/// The node that takes the request; none when none is eligible with a weight above zero.
#[must_use]
pub fn choose(rule: Rule, loads: &[Load], draw: Draw) -> Option<usize> {
    let chosen = match (rule, draw.key) {
        (Rule::RoundRobin, _) => in_turn(loads, draw),
        (Rule::Random, _) => by_weight(loads, None, draw.random),
        (Rule::Hash, Some(key)) => rendezvous::choose(eligible(loads, None), key),
        (Rule::LeastRequest, _) | (Rule::Hash, None) => of_two(loads, draw.random, Load::waiting),
        (Rule::PeakEwma, _) => of_two(loads, draw.random, Load::wait),
    };
    chosen.map(|load| load.node)
}

impl Load {
    fn share(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.ramp.clamp(1, FULL))
    }

    /// Requests in flight, and those that would be if the node answered instead of failing. In whole requests: a single failure must not
    /// starve a node that is idle like the others.
    fn waiting(&self) -> f64 {
        let (flying, failing) = (in_flight(self.in_flight), self.seen.failing);
        flying + ((flying + 1.0) * failing / (1.0 - failing)).floor()
    }

    /// How long an answer to one more request may take. A node that is asked and has not said anything yet may take long: by nothing
    /// times anything, one that never answers would draw all traffic.
    fn wait(&self) -> f64 {
        let unknown = self.seen.latency == 0.0 && self.in_flight > 0;
        let latency = if unknown { PENALTY_SECONDS } else { self.seen.latency };
        latency * (in_flight(self.in_flight) + 1.0)
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact below 2^53 requests")]
const fn in_flight(requests: usize) -> f64 {
    requests as f64
}

/// Of two nodes drawn by weight, the one that `of` says less of for its share; a tie goes to the one drawn first, which keeps the
/// weights.
fn of_two(loads: &[Load], random: u64, of: impl Fn(&Load) -> f64) -> Option<&Load> {
    let first = by_weight(loads, None, random >> 32)?;
    let Some(second) = by_weight(loads, Some(first.node), random & 0xffff_ffff) else {
        return Some(first);
    };
    // For the share, compared without a division.
    #[allow(clippy::cast_precision_loss, reason = "a share is at most 100,000")]
    let lighter = of(second) * (first.share() as f64) < of(first) * (second.share() as f64);
    Some(if lighter { second } else { first })
}

/// Each node once per round and unit of weight. A node that ramps up lets the rest of its turns go to the others.
fn in_turn(loads: &[Load], draw: Draw) -> Option<&Load> {
    let weights = |but: Option<usize>| eligible(loads, but).map(|load| u64::from(load.weight));
    let turn = |but: Option<usize>| {
        let at = draw.turn.checked_rem(weights(but).sum())?;
        laid_end_to_end(eligible(loads, but), |load| u64::from(load.weight), at)
    };
    let first = turn(None)?;
    let passes = draw.random.checked_rem(u64::from(FULL))? >= u64::from(first.ramp);
    passes.then(|| turn(Some(first.node))).flatten().or(Some(first))
}

fn by_weight(loads: &[Load], but: Option<usize>, random: u64) -> Option<&Load> {
    let total: u64 = eligible(loads, but).map(Load::share).sum();
    laid_end_to_end(eligible(loads, but), Load::share, random.checked_rem(total)?)
}

fn eligible(loads: &[Load], but: Option<usize>) -> impl Iterator<Item = &Load> {
    loads.iter().filter(move |load| load.eligible && Some(load.node) != but)
}

/// The node whose length covers `at`.
fn laid_end_to_end<'a>(
    mut loads: impl Iterator<Item = &'a Load>,
    length: impl Fn(&Load) -> u64,
    mut at: u64,
) -> Option<&'a Load> {
    loads.find(|load| match at.checked_sub(length(load)) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })
}
