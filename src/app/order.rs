//! The operator's word on a node, from the admin port to the owner of the views.

use super::control::Controls;
use crate::admin::{NodeWord, NotOrdered, Ordered};
use crate::config::runtime::Upstream;
use crate::coord::{Came, NotDone};
use crate::core::failover::event::Word;
use crate::core::failover::view::NoPrimary;
use std::time::Duration;

/// What a promotion may take beyond its hooks and the probes between them.
const SPARE: Duration = Duration::from_secs(2);

impl Controls {
    pub(super) async fn ordered(&self, upstream: &str, node: &str, word: NodeWord) -> Result<Ordered, NotOrdered> {
        let rooms = &self.0;
        let era = rooms.era();
        let Some(config) = era.config.upstreams.iter().find(|u| u.name == upstream) else {
            return Err(NotOrdered::Unknown(format!("there is no upstream \"{upstream}\"")));
        };
        let Some(place) = era.upstreams.place(config.id, node) else {
            return Err(NotOrdered::Unknown(format!(
                "upstream \"{upstream}\" has no node \"{node}\""
            )));
        };
        let late = era.proxy.awaits_late_copies(config.id, place);
        if let (NodeWord::Resynced, Some(left)) = (word, late) {
            return Err(NotOrdered::Refused(format!(
                "a copy that \"{node}\" was sent and has not answered may still be applied there: settle_after is over in {} s, compare and say it then",
                left.as_secs() + 1
            )));
        }
        let told = match word {
            NodeWord::Promote => Word::Promote { node: place },
            NodeWord::Drain => Word::Drain { node: place },
            NodeWord::Undrain => Word::Undrain { node: place },
            NodeWord::Resynced => Word::Resynced { node: place },
        };
        tracing::info!(upstream, node, ?word, "the operator's word");
        let came = rooms.views.coord.order(config.id, told, limit(config)).await;
        let under_way = match came {
            Ok(Came::Done) => false,
            Ok(Came::UnderWay) => true,
            Ok(Came::Other(other)) => {
                let other = era.upstreams.node_name(config.id, other).unwrap_or_default();
                return Err(NotOrdered::Refused(format!(
                    "\"{other}\" has been promoted instead: \"{node}\" failed meanwhile"
                )));
            }
            Ok(Came::Nobody(why)) => return Err(NotOrdered::Refused(failed(why).to_owned())),
            Err(NotDone::Refused(refusal)) => return Err(NotOrdered::Refused(refusal.why().to_owned())),
            Err(why @ (NotDone::NotDurable(_) | NotDone::Leaving)) => {
                return Err(NotOrdered::Unable(why.to_string()));
            }
        };
        let mut snapshot = era.upstreams.snapshot().into_iter();
        let upstream = snapshot.find(|told| told.name == upstream); // not by its number: others may have gone
        let gone = || NotOrdered::Unknown("there is no such upstream".to_owned());
        Ok(Ordered {
            upstream: upstream.ok_or_else(gone)?,
            under_way,
        })
    }
}

/// How long a promotion takes at the most: two fences, a probe after each, and the promote hook.
fn limit(upstream: &Upstream) -> Duration {
    let probe = upstream
        .health_check
        .as_ref()
        .map_or(Duration::ZERO, |check| check.interval.saturating_add(check.timeout));
    let hooks = upstream.failover.hook_timeout.saturating_mul(3);
    hooks.saturating_add(probe.saturating_mul(2)).saturating_add(SPARE)
}

const fn failed(why: NoPrimary) -> &'static str {
    match why {
        NoPrimary::Manual => "nobody is the primary: the promotion has failed",
        NoPrimary::Nobody
        | NoPrimary::Conflict
        | NoPrimary::Behind
        | NoPrimary::NotFenced
        | NoPrimary::NotPromoted
        | NoPrimary::Superseded => why.why(),
    }
}
