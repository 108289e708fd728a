//! What a call is and what it brings: the face of [`super::Pool::call`], whose attempts are in [`super::attempt`].

use super::body::{NodeBody, OutBody};
use crate::core::balance::HashKey;
use crate::core::consistency::bound::Lag;
use crate::core::failover::few::{self, WhenNone};
use crate::core::failover::reign::Reign;
use crate::core::failover::view::{Epoch, View};
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use std::sync::Arc;

/// Is told every interim head (1xx) of a node before the final one, of every attempt, and what the node speaks. Must not wait.
pub type OnInterim = Arc<dyn Fn(StatusCode, Version, &HeaderMap) + Send + Sync>;

/// Makes the head of a call anew, the same as before.
pub trait Remakes: Send + Sync {
    /// The head; `insists`: caches below must ask as well.
    fn head(&self, insists: bool) -> Parts;
}

/// The head of a call, to be made anew.
pub struct Again {
    /// By whom.
    pub by: Arc<dyn Remakes>,
    /// What was asked of caches below.
    pub insists: bool,
}

/// A request to an upstream.
pub struct Call {
    /// Which upstream.
    pub upstream: usize,
    /// Method; origin-form URI as the node shall see it; all fields, hop-by-hop and framing fields removed (a valid `Content-Length`
    /// may stay), `Host` set to the client's. Version and extensions are ignored.
    pub parts: Parts,
    /// The body.
    pub body: OutBody,
    /// Where the head comes from when it has to be sent again, for requests without a body; none: from a copy, which costs more than
    /// most requests need.
    pub again: Option<Again>,
    /// What it is.
    pub kind: Kind,
    /// Where it would go.
    pub aim: Aim,
    /// When the response head must be there at the latest.
    pub deadline: MonoTime,
    /// The time, where it was read just now and nothing has waited since; none: the clock is asked.
    pub now: Option<MonoTime>,
    /// Runs once, before the first byte could reach any connection, and never again for a retry (R8). Dropped unrun when nothing was
    /// ever about to be sent.
    pub before_send: Option<Box<dyn FnOnce() + Send>>,
    /// Who is told interim heads.
    pub on_interim: Option<OnInterim>,
}

impl Call {
    /// A read without content that only the primary may answer, by the deadline; nobody waits for its sending or its interim heads.
    #[must_use]
    pub fn at_primary(upstream: usize, parts: Parts, deadline: MonoTime) -> Self {
        Self {
            upstream,
            parts,
            body: OutBody::Empty,
            again: None,
            kind: Kind::Read { primary: true },
            aim: Aim::default(),
            deadline,
            now: None,
            before_send: None,
            on_interim: None,
        }
    }
}

/// Where a call would go, as far as its route and its client have a say.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    /// What it is hashed by, with `balance = "hash"`.
    pub key: Option<HashKey>,
    /// What becomes of it when no node is in service.
    pub when_none: WhenNone,
    /// This node alone, whatever its role and state; none: by the view.
    pub only: Option<usize>,
    /// In this epoch alone: under a later view nothing is sent. None: under any.
    pub epoch: Option<Epoch>,
}

impl Aim {
    /// At this node alone.
    #[must_use]
    pub fn at(node: usize) -> Self {
        Self {
            only: Some(node),
            ..Self::default()
        }
    }

    /// At what was the primary in this epoch, while it is one.
    #[must_use]
    pub fn at_primary_of(epoch: Epoch, node: usize) -> Self {
        Self {
            epoch: Some(epoch),
            ..Self::at(node)
        }
    }

    /// Whether it was for an epoch that has ended.
    pub(super) fn is_over(self, view: &View) -> bool {
        self.epoch.is_some_and(|epoch| epoch != view.epoch) && Rule::R54.holds()
    }

    /// The nodes it may go to.
    pub(super) fn takers(self, view: &View) -> impl Iterator<Item = usize> {
        let others = self.only.is_none().then(|| few::takers(view, self.when_none));
        self.only.into_iter().chain(others.into_iter().flatten())
    }
}

/// What a request is, which decides where it may go and whether it may be repeated.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A safe request.
    Read {
        /// Only the primary may answer. With `shared` replication every node in service is as good (CONSISTENCY.md section 4).
        /// A write always goes to the primary.
        primary: bool,
    },
    /// An unsafe one.
    Write {
        /// It carries the policy's idempotency header (R20).
        repeatable: bool,
    },
}

/// A response head and the body that follows.
#[derive(Debug)]
pub struct Answered {
    /// Status and fields as the node sent them. `Transfer-Encoding` is `chunked` or absent; with it `Content-Length` is removed.
    pub parts: http::response::Parts,
    /// The body, with its connection.
    pub body: NodeBody,
    /// Who answered.
    pub node: usize,
    /// How far behind the primary it may have been (R43).
    pub lag: Lag,
    /// When the successful attempt was sent, before its first byte (R42).
    pub sent: MonoTime,
    /// The epoch it was sent in (R53).
    pub epoch: Epoch,
    /// Whether all nodes share one store.
    pub shared: bool,
    /// When its response head was complete.
    pub received: MonoTime,
    /// The body ends with the connection: a truncation cannot be told from its end (R16b).
    pub close_delimited: bool,
    /// A write that the node refused because it has seen this later epoch: it was not applied (R54).
    pub fenced: Option<Epoch>,
    /// An earlier attempt wrote bytes and may have been applied: a refusal of this one proves nothing (R20).
    pub after_maybe_applied: bool,
}

impl Answered {
    /// Whether what is stored of another epoch may be told the same as this answer, by an ETag (R53): over one shared store only.
    #[must_use]
    pub fn speaks_of(&self, stored: Epoch) -> bool {
        let reign = Reign {
            epoch: self.epoch,
            shared: self.shared,
        };
        reign.keeps(stored)
    }

    /// Whether the request body has been sent in full by now. When not, polling the body, or [`NodeBody::finish_upload`], goes on with
    /// it.
    #[must_use]
    pub fn upload_complete(&self) -> bool {
        self.body.upload_complete()
    }
}
