//! What everybody reads of an upstream: who takes traffic, in which epoch, and each node's state. Immutable; the owner (`coord`)
//! swaps in a new one.

use super::observed::Observing;
use crate::core::reason::NodeState;
use crate::core::time::MonoTime;
use std::sync::Arc;

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
    /// Who answers writes and strong reads.
    pub primary: Primary,
    /// The nodes that take reads which any node may answer, in the order of the file.
    pub candidates: Vec<usize>,
    /// Every node's state.
    pub states: Vec<NodeState>,
    /// For every node, whether it holds every acked write (R37); true for all over one shared store.
    pub in_sync: Vec<bool>,
    /// For every node, since when it takes traffic, where it came into service later than the process: its share grows from there
    /// (`slow_start`).
    pub since: Vec<Option<MonoTime>>,
    /// R32: where the positions of answers are noted. One for each primary's time in office.
    pub observed: Arc<Observing>,
}

/// Who answers writes and strong reads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Primary {
    /// Any node in service is as good: one shared store, active-active.
    Any,
    /// This node alone.
    Node(usize),
    /// Each resource's home: multi-primary.
    Homes,
    /// Nobody now; a promotion may come by itself, and requests wait for it up to `hold`.
    Pending,
    /// Nobody, and nothing will change that by itself.
    None(NoPrimary),
}

/// Why there is no primary and none will be promoted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoPrimary {
    /// No node is alive and may take over.
    Nobody,
    /// Two nodes claim to be it in the same term (R51).
    Conflict,
    /// Who is alive may lack acked writes (R32, R33).
    Behind,
    /// The deposed primary could not be fenced (R29).
    NotFenced,
    /// The promote hook failed (R29).
    NotPromoted,
    /// A node has refused a write in the name of a later epoch than ours: somebody else promotes (R54).
    Superseded,
    /// Only the operator promotes (R30).
    Manual,
}

impl NoPrimary {
    /// What an operator is told.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Nobody => "nobody is the primary: no node is alive and may take over",
            Self::Conflict => "nobody is the primary: two nodes claim to be it",
            Self::Behind => "nobody is the primary: who is alive may lack acknowledged writes",
            Self::NotFenced => "nobody is the primary: the fence command failed",
            Self::NotPromoted => "nobody is the primary: the promote command failed",
            Self::Superseded => {
                "nobody is the primary: a node refuses writes in the name of a later epoch, somebody else promotes"
            }
            Self::Manual => "nobody is the primary: only an operator promotes",
        }
    }
}

impl View {
    /// The one node that takes writes; none when several do, each resource's home does, or nobody does.
    #[must_use]
    pub const fn active(&self) -> Option<usize> {
        match self.primary {
            Primary::Node(node) => Some(node),
            Primary::Any | Primary::Homes | Primary::Pending | Primary::None(_) => None,
        }
    }

    /// A node's state; `Unprobed` for one that does not exist.
    #[must_use]
    pub fn state(&self, node: usize) -> NodeState {
        self.states.get(node).copied().unwrap_or(NodeState::Unprobed)
    }
}
