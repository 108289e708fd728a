//! What everybody reads of an upstream: who takes traffic, in which epoch, and each node's state. Immutable; the owner (`coord`)
//! swaps in a new one.

use crate::core::reason::NodeState;

/// Counts changes of the active node. It only grows (R53).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One upstream, as requests see it. Nodes are named by their place in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// When it last changed hands.
    pub epoch: Epoch,
    /// Active-passive: the node that takes all traffic. Active-active: none.
    pub active: Option<usize>,
    /// The nodes that take traffic, in the order of the file.
    pub candidates: Vec<usize>,
    /// Every node's state.
    pub states: Vec<NodeState>,
}

impl View {
    /// A node's state; `Unprobed` for one that does not exist.
    #[must_use]
    pub fn state(&self, node: usize) -> NodeState {
        self.states.get(node).copied().unwrap_or(NodeState::Unprobed)
    }
}
