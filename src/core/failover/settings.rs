//! What the machine must know of an upstream, and what of its own state must outlive the process.

use super::health::Thresholds;
use super::view::Epoch;
use crate::core::consistency::bound::Position;
use crate::core::time::Span;

/// What the machine must know of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How traffic is spread.
    pub spread: Spread,
    /// How the nodes share their data.
    pub sharing: Sharing,
    /// When a node turns over.
    pub thresholds: Thresholds,
    /// Before the first probe.
    pub initial: Initial,
    /// The slots for nodes, in the order of the file.
    pub nodes: Vec<Slot>,
    /// The epoch to start in when no record is remembered: unix seconds << 16 (R54).
    pub epoch: Epoch,
    /// R52: whether a preferred node that returned takes over again by itself, and after how long in health.
    pub failback: Failback,
    /// How long requests wait for a promotion: for so long the view says that one may come.
    pub hold: Span,
    /// Promote although acked writes may be lost.
    pub unclean: bool,
    /// Whether a fence hook is configured.
    pub fences: bool,
    /// Whether a promote hook is configured.
    pub promotes: bool,
}

impl Settings {
    /// Stateless nodes over one store, none of them cold: what everything was before there were primaries.
    #[must_use]
    pub fn shared(spread: Spread, thresholds: Thresholds, initial: Initial, nodes: Vec<Slot>, epoch: Epoch) -> Self {
        Self {
            spread,
            sharing: Sharing::Store,
            thresholds,
            initial,
            nodes,
            epoch,
            failback: Failback::Manual,
            hold: Span::from_secs(5),
            unclean: false,
            fences: false,
            promotes: false,
        }
    }
}

/// How traffic is spread.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Active-active.
    All,
    /// Active-passive.
    One,
}

/// How the nodes share their data (`replication`), and with one primary who makes it that (R30).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One store: any node is as good as another.
    Store,
    /// One node takes writes, the others follow on their own.
    Primary {
        /// Who promotes.
        promotion: Promotion,
        /// Whether probes and answers carry positions (R32).
        positions: bool,
        /// Whether probes say a role.
        roles: bool,
    },
    /// The proxy copies writes to every node in sync.
    Mirrored {
        /// Who promotes; nobody follows a claim here.
        promotion: Promotion,
        /// R35: whether all nodes are in sync at the very first start, or the primary alone.
        initially_all: bool,
    },
    /// Every node takes writes.
    Homes,
}

/// Who promotes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// The nodes among themselves.
    Follow,
    /// The machine.
    Automatic,
    /// The operator.
    Manual,
}

/// What becomes of a preferred node that returned (R52).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failback {
    /// It waits in reserve.
    Manual,
    /// It takes over once it has been healthy for so long without a failure.
    After(Span),
}

/// What is known of the nodes before any probe.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Nothing: no traffic before the first probe.
    Unprobed,
    /// They count as healthy (no health check, or `initial = "healthy"`).
    Healthy,
}

/// A place for a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How its node waits in reserve; none: it takes traffic first.
    pub standby: Option<Grade>,
    /// Whether it is filled; discovery fills and empties the others, and a reload empties those whose nodes it takes out.
    pub filled: bool,
    /// Where its node stands in the file: after a reload that need not be the place.
    pub rank: usize,
}

impl Slot {
    /// A filled slot.
    #[must_use]
    pub const fn of(standby: Option<Grade>) -> Self {
        Self {
            standby,
            filled: true,
            rank: 0,
        }
    }

    /// An empty one.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            standby: None,
            filled: false,
            rank: usize::MAX,
        }
    }

    /// At another place in the file than the others of its rank.
    #[must_use]
    pub const fn ranked(self, rank: usize) -> Self {
        Self { rank, ..self }
    }
}

/// How a node waits in reserve.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Probed, its connections kept open.
    Hot,
    /// Probed.
    Warm,
    /// Not running until it is needed.
    Cold {
        /// How long it may take from its start to its first good probes.
        start_timeout: Span,
    },
}

/// What must be durable before anything that follows from it may be done (R29). Nodes by their place in the configuration: whoever writes
/// it down uses names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// It never falls (R53).
    pub epoch: Epoch,
    /// The primary in that epoch; none while a promotion is under way, has failed, or before the first.
    pub primary: Option<usize>,
    /// The primary before it, as long as there is none: it is the one that a promotion must fence.
    pub deposed: Option<usize>,
    /// For every node, whether it holds every acked write.
    pub in_sync: Vec<bool>,
    /// The highest term in which a node has claimed to be the primary, and who did first (R51).
    pub term: Option<Claim>,
    /// The node that was chosen while nobody was in office: its promote hook may have been run, and nobody knows how far.
    pub pending: Option<Pending>,
    /// The node that the operator chose.
    pub pinned: Option<usize>,
    /// For every node, whether the operator wants it to have no new traffic.
    pub drained: Vec<bool>,
    /// R54: the latest epoch above ours in which a node has refused a write.
    pub superseded: Option<Epoch>,
}

/// Who was chosen, and by what.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// Which node.
    pub node: usize,
    /// How far it had come by then, where that is told: no less may count for it later.
    pub reached: Option<Position>,
    /// It is not known to hold every acked write.
    pub lossy: bool,
}

/// Who claimed a term.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The term.
    pub term: u64,
    /// The node that claimed it first, or the operator's choice among those that did.
    pub node: usize,
}
