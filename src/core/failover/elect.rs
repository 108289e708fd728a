//! Nodes over one store: traffic moves by health alone (R30). Active-active: every node in service takes traffic. Active-passive: the
//! active node keeps it until its probes fail or it drains, then the first one in service in the order of preference takes over. The first
//! active node is not chosen while a node preferred to it is still unprobed: else the order in which first probes end would decide.
//!
//! Ejection moves nothing: it says who is worth asking among several, and who has the traffic alone may fail by what is behind all of them
//! alike. Only for the choice of another one does it count.

use super::machine::Machine;
use super::node::Tracked;
use super::settings::Spread;
use super::view::{NoPrimary, Primary};
use crate::core::time::MonoTime;

impl Machine {
    pub(super) fn elect(&mut self, now: MonoTime) -> Primary {
        match self.settings.spread {
            Spread::All => return Primary::Any,
            Spread::One => {}
        }
        let in_service = |node: usize| self.node(node).is_some_and(Tracked::is_in_service);
        let chosen = match self.primary {
            Some(active) if self.node(active).is_some_and(Tracked::keeps_traffic) => {
                Some(self.failback_from(now, active).unwrap_or(active))
            }
            // Remembered, and on trial.
            Some(active) if self.node(active).is_some_and(Tracked::is_awaited) => None,
            Some(_) => self.preference().find(|node| in_service(*node)),
            None => {
                let awaited = |node: &usize| self.node(*node).is_some_and(Tracked::is_awaited);
                let decided = self.preference().find(|node| in_service(*node) || awaited(node));
                decided.filter(|node| in_service(*node))
            }
        };
        match chosen {
            Some(node) => {
                if self.primary != Some(node) {
                    self.enthrone(now, node, self.primary);
                }
                Primary::Node(node)
            }
            None if self.nodes.iter().any(Tracked::is_awaited) => Primary::Pending,
            None => Primary::None(NoPrimary::Nobody),
        }
    }
}
