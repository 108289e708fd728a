//! Synchronous replication by the proxy (`replication = "mirrored"`, R33-R35), as pure state machines. [`turns`] is a resource's queue,
//! [`write`] one write through its phases, [`doubt`] what is not known of a resource since a write ended unknown, [`compare`] the
//! comparison that ends the doubt, and the repair it may need, [`missed`] what a node that is out has not been given, and its return,
//! [`target`] what all of them speak of, [`result`] what is copied of a write that only the primary runs.
//!
//! Nothing here asks a node, makes anything durable or knows what a body is: the shell carries the effects out one by one and hands their
//! results back as events. Nor does it promote: that is [`super::machine`], which knows only who is in the set.
//!
//! Invariants: every node of the in-sync set holds every acked write; a read is answered only with what every node of the set
//! holds, so that whichever of them is promoted answers no older; what is unknown stays so until a comparison that began after
//! settling has succeeded, whatever restarts in between.

pub mod compare;
pub mod doubt;
pub mod missed;
pub mod result;
pub mod target;
pub mod turns;
pub mod write;

#[cfg(test)]
mod tests;

use super::view::{Epoch, View};

/// What one step needs to see of the view (R29). Steps are given the view of the moment, so that what was promised under another one is
/// noticed before it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// When it last changed hands.
    pub epoch: Epoch,
    /// Who answers writes and strong reads.
    pub primary: Option<usize>,
    /// Who holds every acked write.
    pub in_sync: Vec<usize>,
}

impl Standing {
    /// The primary, if it holds every acked write itself (R37) and this is the epoch it was primary in.
    fn is_still(&self, primary: usize, epoch: Epoch) -> bool {
        self.primary == Some(primary) && self.epoch == epoch && self.in_sync.contains(&primary)
    }
}

impl From<&View> for Standing {
    fn from(view: &View) -> Self {
        let in_sync = view.in_sync.iter().enumerate();
        Self {
            epoch: view.epoch,
            primary: view.active(),
            in_sync: in_sync.filter(|(_, in_sync)| **in_sync).map(|(node, _)| node).collect(),
        }
    }
}
