//! Nodes that elect their primary among themselves (`promotion = "follow"`): the one that claims to be it with the highest term is followed
//! (R30). Terms only grow: a claim in a lower term than was ever seen is stale and never followed. Two claims in one term are a dispute that
//! only a higher term or the operator ends (R51).
//!
//! Only claims count, not the terms that replicas tell: a node that was cut off and counts terms by itself deposes nobody.

use super::machine::Machine;
use super::node::{Quarantine, Tracked};
use super::settings::{Claim, Promotion, Sharing};
use super::view::{NoPrimary, Primary};
use crate::core::rules::Rule;
use crate::core::time::MonoTime;

impl Machine {
    /// A node has spoken: whether it claims a term that is news.
    pub(super) fn note_claim(&mut self, node: usize) {
        let Some(tracked) = self.node(node).filter(|tracked| self.counts(tracked)) else {
            return;
        };
        let Some(term) = tracked.said.term else {
            return;
        };
        if self.claim.is_none_or(|claim| term > claim.term) || !Rule::R30.holds() {
            self.claim = Some(Claim { term, node });
            if self.promotion() == Some(Promotion::Follow) {
                self.pinned = None; // the operator spoke of an earlier term
            }
        }
    }

    pub(super) fn follow(&mut self, now: MonoTime) -> Primary {
        let alive = |node: &usize| self.node(*node).is_some_and(Tracked::is_alive);
        let ordered = self.pinned.filter(alive);
        if ordered.is_none() && self.is_disputed() {
            self.unclaimed_since = None;
            return Self::nobody(NoPrimary::Conflict); // R51
        }
        let claimant = self.claimants().next();
        match ordered.or_else(|| claimant.filter(alive)) {
            Some(node) => {
                self.unclaimed_since = None;
                if self.primary != Some(node) {
                    let before = self.primary;
                    self.enthrone(now, node, before);
                    self.depose(before);
                    if let Some(tracked) = self.nodes.get_mut(node) {
                        // By its own word it holds what the cluster has decided.
                        tracked.in_sync = true;
                        tracked.quarantine = Quarantine::Over;
                    }
                }
                Primary::Node(node)
            }
            // It claims, and its probes have to pass a little longer.
            None if claimant.is_some() => Primary::Pending,
            None if self.nodes.iter().any(Tracked::is_awaited) => Primary::Pending,
            None => {
                let since = *self.unclaimed_since.get_or_insert(now);
                if since.after(self.settings.hold) <= now {
                    Self::nobody(NoPrimary::Nobody)
                } else {
                    Primary::Pending
                }
            }
        }
    }

    /// R51: whether a term has more than one claimant: two that claim it now, or another than the one that claimed it first. Where Tidegate
    /// promotes it is also disputed who the primary is when another one claims a later term than the one in office does.
    pub(super) fn is_disputed(&self) -> bool {
        let mut claimants = self.claimants();
        let (one, another) = (claimants.next(), claimants.next());
        let usurped = self
            .claim
            .is_some_and(|claim| one.is_some_and(|node| node != claim.node));
        let in_office = self.primary.filter(|_| self.is_led());
        let in_office = in_office.filter(|node| self.node(*node).is_some_and(Tracked::is_alive));
        let rivalled = in_office.is_some() && one.is_some() && one != in_office;
        (another.is_some() || usurped || rivalled) && Rule::R51.holds()
    }

    /// R51: where Tidegate promotes, the highest term there was is now that of the node it put in office: its predecessor claims it in vain.
    pub(super) fn inherit_claim(&mut self, node: usize) {
        if let Some(claim) = &mut self.claim {
            claim.node = node;
        }
    }

    /// Who claims the highest term ever seen, by the last probe that passed.
    fn claimants(&self) -> impl Iterator<Item = usize> {
        let highest = self.claim.map(|claim| claim.term);
        let nodes = self.nodes.iter().enumerate();
        let claims = nodes.filter(move |(_, tracked)| self.counts(tracked) && tracked.said.term == highest);
        claims.map(|(node, _)| node)
    }

    /// Whether a node's claim says anything: where Tidegate promotes, what it has deposed claims in vain.
    fn counts(&self, tracked: &Tracked) -> bool {
        match self.settings.sharing {
            Sharing::Primary {
                promotion: Promotion::Follow,
                ..
            } => tracked.claims(),
            Sharing::Primary { roles: true, .. } => tracked.claims() && tracked.in_sync,
            Sharing::Primary { roles: false, .. } | Sharing::Mirrored { .. } | Sharing::Store | Sharing::Homes => false,
        }
    }

    /// R36: who was the primary may hold what its successor does not.
    pub(super) fn depose(&mut self, node: Option<usize>) {
        if let Some(tracked) = node.and_then(|node| self.nodes.get_mut(node))
            && Rule::R36.holds()
        {
            tracked.in_sync = false;
        }
    }
}
