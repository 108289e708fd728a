//! A slot of a node in use, with or without its link yet. It undoes itself: dropped, its link is closed and its slot goes to the next
//! waiter, whatever became of the call that held it.

use super::channel::Channel;
use super::pool::Core;
use super::standing::{End, Learnt};
use crate::core::time::MonoTime;
use std::sync::Arc;

/// A slot of a node in use. Dropped: its link is closed and the slot goes to the next waiter.
pub(super) struct Lease {
    core: Arc<Core>,
    upstream: usize,
    node: usize,
    link: Option<Channel>,
    /// What the request that holds the slot learnt of the node.
    learnt: Option<Learnt>,
    /// Since when it waits for the node's answer.
    asked: Option<MonoTime>,
    /// The slot has been let go.
    released: bool,
}

impl Lease {
    /// A slot that the core has counted as in use.
    pub(super) fn new(core: Arc<Core>, upstream: usize, node: usize, link: Option<Channel>) -> Self {
        Self {
            core,
            upstream,
            node,
            link,
            learnt: None,
            asked: None,
            released: false,
        }
    }

    pub(super) fn node(&self) -> usize {
        self.node
    }

    pub(super) fn upstream(&self) -> usize {
        self.upstream
    }

    pub(super) fn link(&self) -> Option<&Channel> {
        self.link.as_ref()
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut Channel> {
        self.link.as_mut()
    }

    /// The link, over which the node's answer is waited for from now on. `settles`: of a write that strong readers wait for (R19).
    pub(super) fn asks(&mut self, now: MonoTime, settles: bool) -> Option<&mut Channel> {
        self.asked = Some(now);
        if settles && let Some(Channel::Stream(stream)) = &mut self.link {
            stream.settles();
        }
        self.link.as_mut()
    }

    /// The wait is over, whatever came of it.
    pub(super) fn heard(&mut self) {
        self.asked = None;
    }

    /// Notes what the request learnt of the node.
    pub(super) fn learn(&mut self, learnt: Learnt) {
        self.learnt = Some(learnt);
    }

    /// Whether the lease has a link that can still be used; one that cannot is closed.
    pub(super) fn has_fresh_link(&mut self) -> bool {
        if self.link.as_mut().is_some_and(|link| link.is_fresh()) {
            return true;
        }
        self.link = None;
        false
    }

    /// Closes the link; the slot stays.
    pub(super) fn close_link(&mut self) {
        self.link = None;
    }

    /// Puts a new link into the slot.
    pub(super) fn fill(&mut self, channel: Channel) {
        let signal = match &channel {
            Channel::Link(link) => Some(link.signal()),
            Channel::Stream(_) => None, // its connection is known to those it was lent by
        };
        self.core.note_link(self.upstream, self.node, signal);
        self.link = Some(channel);
    }

    /// Returns slot and link for the next request.
    pub(super) fn give_back(&mut self) {
        if self.released {
            return;
        }
        self.released = true;
        let link = match self.link.take() {
            Some(Channel::Link(mut link)) => {
                link.rest();
                Some(link)
            }
            // A stream is over, or is reset by this.
            Some(Channel::Stream(_)) | None => None,
        };
        self.core.release(self.upstream, self.node, link, self.learnt.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let uploaded = self.link().is_some_and(Channel::uploaded);
        // The socket is closed before the slot is free: the cap counts open sockets.
        self.link = None;
        // The copy that lost, or a client that left: the node took at least as long.
        if let Some(asked) = self.asked.take().filter(|_| uploaded && self.learnt.is_none()) {
            let at = self.core.shared.world.clock.mono();
            self.learnt = Some(Learnt {
                end: End::GivenUp,
                at,
                took: at.duration_since(asked),
            });
        }
        self.give_back();
    }
}
