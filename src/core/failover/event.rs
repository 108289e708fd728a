//! What the machine is told and what it answers: nothing here decides.

use super::health::Outcome;
use super::view::{Epoch, NoPrimary};
use crate::core::consistency::bound::Position;
use crate::core::reason::NodeState;
use crate::core::time::MonoTime;
use std::time::Duration;

/// What happened at an upstream. A node that does not exist is nobody: the event changes nothing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A probe ended.
    Probed {
        /// Of this node.
        node: usize,
        /// Like this.
        outcome: Outcome,
        /// What the node said of itself; nothing unless it passed.
        said: Said,
        /// When the probe was sent: what it says was so at some instant after that.
        sent: MonoTime,
    },
    /// Time went by: a [`Effect::WakeAt`] is due.
    Tick,
    /// The fence hook ended.
    Fenced {
        /// The node it was to keep from acting.
        node: usize,
        /// Of the attempt with this epoch; results of earlier attempts count for nothing.
        epoch: Epoch,
        /// Whether it succeeded.
        ok: bool,
    },
    /// The promote hook ended; without a hook the owner says so at once.
    Promoted {
        /// The node it was to make the primary.
        node: usize,
        /// Of the attempt with this epoch.
        epoch: Epoch,
        /// Whether it succeeded.
        ok: bool,
    },
    /// The start hook of a cold node ended. The node is in reserve only once its probes pass.
    Started {
        /// Which node.
        node: usize,
        /// Of the attempt that was to last until then; results of earlier ones count for nothing.
        until: MonoTime,
        /// Whether it succeeded.
        ok: bool,
    },
    /// The operator's word.
    Operator(Word),
    /// R33: a copy to the node was not confirmed. It leaves the in-sync set before the write is acked.
    Missed {
        /// Which node.
        node: usize,
    },
    /// R33b: the node holds every write it had missed.
    CaughtUp {
        /// Which node.
        node: usize,
        /// What it holds was copied in this epoch.
        epoch: Epoch,
    },
    /// R54: a node has refused a write because it knows of a later epoch than the write was sent in.
    Superseded {
        /// That epoch.
        epoch: Epoch,
    },
    /// Passive health takes the node out for a while. Whoever sends this keeps to `max_ejected`.
    Ejected {
        /// Which node.
        node: usize,
    },
    /// Passive health gives it another chance.
    Readmitted {
        /// Which node.
        node: usize,
    },
    /// Discovery filled a slot with a node nothing is known of.
    Joined {
        /// Which slot.
        node: usize,
    },
    /// Discovery emptied a slot.
    Left {
        /// Which slot.
        node: usize,
    },
}

/// What the operator may say.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Make this node the primary (or the active one), whatever it lacks.
    Promote {
        /// Which node.
        node: usize,
    },
    /// No new traffic for this node.
    Drain {
        /// Which node.
        node: usize,
    },
    /// It may have traffic again.
    Undrain {
        /// Which node.
        node: usize,
    },
    /// It holds every acked write.
    Resynced {
        /// Which node.
        node: usize,
    },
}

/// What a node says of itself on a probe.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// By `role_header`.
    pub role: Option<Role>,
    /// By `term_header`.
    pub term: Option<u64>,
    /// By `position_header`.
    pub position: Option<Position>,
}

/// What a node says it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows one that does.
    Replica,
}

impl Role {
    /// The word on the wire and in `/status`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// R32: the largest position on any answer passed to a client since the present primary took office.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Some answer did not say, and the primary has not been probed since.
    Unknown,
    /// This.
    At(Position),
}

/// What must be done. The new view itself is read from the machine.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A node's state changed.
    State {
        /// Which node.
        node: usize,
        /// What it is now.
        state: NodeState,
    },
    /// Close all connections to this node, in flight too: nothing in flight will end well.
    CloseAll {
        /// Which node.
        node: usize,
    },
    /// Close the idle connections to this node; requests in flight may end.
    CloseIdle {
        /// Which node.
        node: usize,
    },
    /// Traffic moved from one node to another.
    Failover {
        /// The node that had it.
        from: usize,
        /// The node that has it.
        to: usize,
        /// From the first failed probe of the row that took `from` out of service until now.
        took: Duration,
    },
    /// Run the fence hook; answer with [`Event::Fenced`].
    Fence {
        /// The node that must not act any more.
        node: usize,
        /// The epoch of this attempt.
        epoch: Epoch,
    },
    /// Run the promote hook; answer with [`Event::Promoted`], at once when there is none.
    Promote {
        /// The node that is to be the primary.
        node: usize,
        /// The epoch of this attempt.
        epoch: Epoch,
    },
    /// Run the start hook of a cold node; answer with [`Event::Started`].
    Start {
        /// Which node.
        node: usize,
        /// Its probes must pass by then.
        until: MonoTime,
    },
    /// Probe this node now: a report from after this instant is needed.
    ProbeNow {
        /// Which node.
        node: usize,
    },
    /// Somebody should look.
    Alarm(Alarm),
    /// Send [`Event::Tick`] at this instant. An earlier call for it may be forgotten.
    WakeAt(MonoTime),
}

/// Why somebody should look.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// There is no primary, and none will be promoted by itself.
    NoPrimary(NoPrimary),
    /// The promote hook failed.
    PromoteFailed {
        /// Which node was to be promoted.
        node: usize,
    },
    /// A cold node did not start in time.
    StartFailed {
        /// Which node.
        node: usize,
    },
    /// The primary was told to drain, and nobody can take over.
    NoSuccessor {
        /// The primary.
        node: usize,
    },
    /// The view changed hands although acked writes may be lost, by `unclean` or by the operator's word.
    MayHaveLost {
        /// The new primary.
        node: usize,
    },
}

impl Alarm {
    /// What an operator is told.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::NoPrimary(why) => why.why(),
            Self::PromoteFailed { .. } => "the promote command failed: the node is not the primary",
            Self::StartFailed { .. } => "the node was started and has not come up in time",
            Self::NoSuccessor { .. } => "the primary is to be drained, and nobody can take over",
            Self::MayHaveLost { .. } => "the node has become the primary and may lack acknowledged writes",
        }
    }

    /// Which node it is about.
    #[must_use]
    pub const fn node(self) -> Option<usize> {
        match self {
            Self::NoPrimary(_) => None,
            Self::PromoteFailed { node }
            | Self::StartFailed { node }
            | Self::NoSuccessor { node }
            | Self::MayHaveLost { node } => Some(node),
        }
    }
}
