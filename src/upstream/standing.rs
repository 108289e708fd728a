//! What a core knows of a node beside its connections: its share, how requests to it went, whether connects succeed.
//!
//! A request leaves what it learnt in its lease; it is noted when the slot is let go, under the lock that is taken then anyway.

use super::error::CallErrorKind;
use crate::core::balance::{Experience, Identity, Load, ramp};
use crate::core::failover::breaker::Breaker;
use crate::core::failover::outlier;
use crate::core::time::MonoTime;
use std::time::Duration;

/// One node, as one core knows it.
#[derive(Default)]
pub(super) struct Standing {
    weight: u32,
    identity: Identity,
    experience: Experience,
    pub(super) breaker: Breaker,
    slow_start: Duration,
}

impl Standing {
    /// A node sits here from now on. Of another one than before nothing is known yet.
    pub(super) fn seat(&mut self, name: &str, weight: u32, slow_start: Duration) {
        let identity = Identity::of(name);
        if identity != self.identity {
            *self = Self {
                identity,
                ..Self::default()
            };
        }
        self.weight = weight;
        self.slow_start = slow_start;
    }

    /// The node as the balance sees it; `since` is when it came into service, where that was later than the process.
    pub(super) fn load(
        &self,
        node: usize,
        eligible: bool,
        in_flight: usize,
        since: Option<MonoTime>,
        now: MonoTime,
    ) -> Load {
        Load {
            node,
            eligible,
            weight: self.weight,
            ramp: ramp(since, now, self.slow_start),
            in_flight,
            seen: self.experience.seen(now),
            identity: self.identity,
        }
    }

    /// A request to the node ended.
    pub(super) fn learn(&mut self, learnt: Learnt) {
        let Learnt { end, at, took } = learnt;
        match end {
            End::Well => self.experience.answered(at, took),
            End::Failing | End::Broken => self.experience.failed(at, took),
            End::GivenUp => self.experience.waited(at, took),
        }
    }
}

/// What a request learnt of its node.
#[derive(Copy, Clone, Debug)]
pub(super) struct Learnt {
    pub(super) end: End,
    /// When it ended.
    pub(super) at: MonoTime,
    /// From its first byte to its head, or to its failure.
    pub(super) took: Duration,
}

/// How a request ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With an answer.
    Well,
    /// With a 500: not worth more traffic, but perhaps the request's own fault.
    Failing,
    /// By the node's fault.
    Broken,
    /// Without an answer: whoever asked waits no more.
    GivenUp,
}

impl End {
    /// What an answer's status says of the node.
    pub(super) const fn of_status(status: u16) -> Self {
        match status {
            500 => Self::Failing,
            status if outlier::is_error(status) => Self::Broken,
            _ => Self::Well,
        }
    }

    /// What a failure says of the node; none: nothing. `asked`: the request had been sent in full, so that only the node was awaited.
    pub(super) const fn of_failure(kind: CallErrorKind, asked: bool, kept_alive: bool) -> Option<Self> {
        match kind {
            CallErrorKind::ConnectFailed(_) | CallErrorKind::ConnectTimedOut | CallErrorKind::Garbage => {
                Some(Self::Broken)
            }
            // A kept connection that ends without a word: the node tidied up as the request came.
            CallErrorKind::Reset if !kept_alive => Some(Self::Broken),
            // A client that stalls its upload says nothing of the node.
            CallErrorKind::HeadTimedOut | CallErrorKind::DeadlineExceeded if asked => Some(Self::Broken),
            CallErrorKind::Reset
            | CallErrorKind::HeadTimedOut
            | CallErrorKind::DeadlineExceeded
            | CallErrorKind::NoNode
            | CallErrorKind::NoPrimary
            | CallErrorKind::Queued
            | CallErrorKind::Unproven
            | CallErrorKind::QueueFull
            | CallErrorKind::BodyFailed => None,
        }
    }
}
