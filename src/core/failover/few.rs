//! When no node is in service. By its route's contract a request is refused (strong: CP), or is tried anywhere (AP): probes and
//! ejections are opinions, and with everybody out they are more likely wrong, or of no use, than the node is dead.

use super::view::View;
use crate::core::reason::NodeState;

/// What becomes of a request when no node is in service.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum WhenNone {
    /// It is refused: the contract has no answer then.
    #[default]
    Refuse,
    /// It is tried at the nodes that are out for their health. Not at those nothing is known of: their first probes are awaited.
    Try,
}

/// The nodes a request may go to, in the order of the file; and whether they are such of last resort.
pub fn takers(view: &View, when_none: WhenNone) -> impl Iterator<Item = usize> {
    let last_resort = is_last_resort(view, when_none);
    let out = view.states.iter().enumerate();
    let out = out.filter(move |(_, state)| last_resort && is_out_for_health(**state));
    view.candidates.iter().copied().chain(out.map(|(node, _)| node))
}

/// Whether whoever takes a request now is out of service.
#[must_use]
pub fn is_last_resort(view: &View, when_none: WhenNone) -> bool {
    view.candidates.is_empty() && when_none == WhenNone::Try
}

const fn is_out_for_health(state: NodeState) -> bool {
    match state {
        NodeState::Unhealthy | NodeState::Ejected => true,
        NodeState::Unprobed
        | NodeState::Active
        | NodeState::Standby
        | NodeState::Starting
        | NodeState::Quarantined
        | NodeState::Draining => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::failover::observed::Observing;
    use crate::core::failover::view::{Epoch, Primary};
    use crate::core::time::MonoTime;
    use NodeState::{Active, Draining, Ejected, Unhealthy, Unprobed};

    #[test]
    fn who_takes_a_request_when_few_are_left() {
        use WhenNone::{Refuse, Try};
        let cases: [(&str, &[NodeState], WhenNone, &[usize]); 9] = [
            ("all serve", &[Active, Active], Refuse, &[0, 1]),
            ("one serves: the others are left alone", &[Unhealthy, Active], Try, &[1]),
            ("one serves, strong", &[Unhealthy, Active], Refuse, &[1]),
            ("none serves: tried anywhere", &[Unhealthy, Unhealthy], Try, &[0, 1]),
            ("none serves, strong: refused", &[Unhealthy, Unhealthy], Refuse, &[]),
            ("before the first probe: refused", &[Unprobed, Unprobed], Try, &[]),
            ("all ejected: tried anywhere", &[Ejected, Ejected], Try, &[0, 1]),
            ("not one that drains", &[Draining, Ejected], Try, &[1]),
            ("the probed ones", &[Unhealthy, Unprobed], Try, &[0]),
        ];
        for (name, states, when_none, expected) in cases {
            let serves = |(_, state): &(usize, &NodeState)| **state == Active;
            let view = View {
                epoch: Epoch(1),
                primary: Primary::Any,
                candidates: states.iter().enumerate().filter(serves).map(|(node, _)| node).collect(),
                states: states.to_vec(),
                in_sync: vec![true; states.len()],
                since: vec![None; states.len()],
                observed: std::sync::Arc::new(Observing::from(MonoTime::default())),
            };
            let found: Vec<usize> = takers(&view, when_none).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
