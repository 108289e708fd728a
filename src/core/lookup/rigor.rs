//! How a read is fetched that what is stored cannot answer (R8, R47, R49).

use super::Read;
use crate::core::policy::{Contract, Policy};

/// How much a fetched answer has to prove.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rigor {
    /// What the route's level says.
    Usual,
    /// The primary's answer to a request sent after this one came: `no-cache` on an eventual route.
    Asked,
    /// The same, and only a strong ETag validates, as on a strong route: a session whose mark binds, or `Prefer: consistency=strong`.
    Proven,
}

impl Rigor {
    /// R47: whether the primary is asked, by a flight that was not yet sent when the request came.
    #[must_use]
    pub fn asks_primary(self) -> bool {
        self != Self::Usual
    }
}

impl Read<'_> {
    /// How this read is fetched under `policy`. A strong route's own way is as strict as can be.
    #[must_use]
    pub fn rigor(&self, policy: &Policy) -> Rigor {
        let eventual = matches!(policy.contract, Contract::Eventual(..));
        if self.raised || self.session.is_some_and(|session| session.binds()) {
            Rigor::Proven
        } else if eventual && self.directives.no_cache {
            Rigor::Asked
        } else {
            Rigor::Usual
        }
    }
}
