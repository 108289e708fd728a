//! What a change of epoch makes of what is stored (R53). An entry's epoch is that of its fill's send, so that an answer which was under
//! way when traffic moved is as old as what came before it. Nodes over one shared store have one truth: what is older is confirmed
//! before it is used. Elsewhere two nodes may use one ETag for two states, so that no confirmation would prove anything: it is not used.

use super::view::Epoch;
use crate::core::rules::Rule;

/// The epoch a read happens in, and whether all nodes share one store.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reign {
    /// The current epoch.
    pub epoch: Epoch,
    /// `replication = "shared"`.
    pub shared: bool,
}

/// What an entry is in a reign.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Of this epoch: as good as it ever was.
    Current,
    /// Of an older one, over a store that all nodes share: to be confirmed, and no proof.
    Unconfirmed,
    /// Of an older one: not to be used at all.
    Gone,
}

impl Reign {
    /// What an entry of an epoch is now. One of a later epoch than the read's was stored since the read began.
    #[must_use]
    #[inline]
    pub fn standing(self, of: Epoch) -> Standing {
        if of >= self.epoch || !Rule::R53.holds() {
            Standing::Current
        } else if self.shared {
            Standing::Unconfirmed
        } else {
            Standing::Gone
        }
    }

    /// Whether an entry of an epoch may still be used for anything.
    #[must_use]
    #[inline]
    pub fn keeps(self, of: Epoch) -> bool {
        self.standing(of) != Standing::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r53_an_older_epoch_is_confirmed_over_one_store_and_gone_elsewhere() {
        use Standing::{Current, Gone, Unconfirmed};
        for (case, shared, of, expected) in [
            ("shared, older", true, 6, Unconfirmed),
            ("shared, this one", true, 7, Current),
            ("shared, later than the read began", true, 8, Current),
            ("not shared, older", false, 6, Gone),
            ("not shared, this one", false, 7, Current),
            ("not shared, later than the read began", false, 8, Current),
        ] {
            let reign = Reign {
                epoch: Epoch(7),
                shared,
            };
            assert_eq!(reign.standing(Epoch(of)), expected, "{case}");
            assert_eq!(reign.keeps(Epoch(of)), expected != Gone, "{case}");
        }
    }
}
