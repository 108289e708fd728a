//! Who may answer writes and strong reads, by the view (CONSISTENCY.md section 4), and whether an answer of that node still counts when it
//! comes (R29, R54).

use super::call::Answered;
use super::pool::Tried;
use super::{One, Upstreams};
use crate::config::runtime::{GateBy, Mode, Promotion, Replication};
use crate::core::failover::homes;
use crate::core::failover::view::{Epoch, NoPrimary, Primary, View};
use crate::core::key;
use crate::core::rules::Rule;
use http::HeaderName;
use http::StatusCode;
use http::response::Parts;
use std::time::Duration;

/// The epoch a write is sent in, and the one that refuses it (R54). Between us and the nodes: clients neither send nor see it.
pub(super) static TIDEGATE_EPOCH: HeaderName = HeaderName::from_static("tidegate-epoch");

/// Where a request may go that only the primary may answer.
pub(super) enum Toward {
    /// To a node in service that is none of these.
    AllBut(Tried),
    /// There is no primary.
    Nobody,
}

/// Who answers what only the primary may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Any node in service.
    Any,
    /// The primary.
    Primary(String),
    /// The resource's home.
    Home {
        /// Where it lives.
        node: String,
        /// Who answers for it now: itself, one that stands in for it, or nobody.
        answers: Option<String>,
    },
    /// Nobody now.
    Nobody {
        /// Why nobody will by itself; none: somebody may.
        why: Option<NoPrimary>,
        /// For how long requests wait; none: they do not.
        hold: Option<Duration>,
    },
}

impl One {
    /// Whether a write whose outcome nobody knows keeps readers waiting for what may still come of it (R19, R34).
    pub(super) fn settles(&self) -> bool {
        self.config.settle_after.is_some() || self.config.replication == Replication::Mirrored
    }
}

impl Upstreams {
    /// Who would answer a request for a resource that only the primary may, as things are: for whoever explains it.
    #[must_use]
    pub fn who(&self, upstream: usize, path: &str, query: Option<&str>) -> Who {
        let one = self.shared.upstreams.get(upstream);
        one.map_or(Who::Any, |one| one.who(path, query))
    }

    /// Waits until there is a primary, where one may come by itself, and no longer than `hold`.
    pub async fn await_primary(&self, upstream: usize) {
        let Some(one) = self.shared.upstreams.get(upstream).filter(|one| one.may_change_hands()) else {
            return;
        };
        let failover = &one.config.failover;
        let Some(place) = one.held.enter(failover.max_held) else {
            return;
        };
        let primary = async {
            while !matches!(one.primary(&one.view.load()), Primary::Node(_)) {
                place.news().await;
            }
        };
        // Late: who asked looks again, and says that there is none.
        let _in_time = tokio::time::timeout(failover.hold, primary).await;
    }
}

impl Upstreams {
    /// A node could not be reached that was the primary by the view that was `seen`: waits until there is a point in trying again, where
    /// another may take over by itself, and no longer than `limit`. Whether there is.
    pub async fn await_news(&self, upstream: usize, seen: (Epoch, Primary), limit: Duration) -> bool {
        let Some(one) = self.shared.upstreams.get(upstream).filter(|one| one.may_change_hands()) else {
            return false;
        };
        // The place is taken first: a view that comes between the two looks wakes it.
        let Some(place) = one.held.enter(one.config.failover.max_held) else {
            return false;
        };
        let changed = {
            let view = one.view.load();
            (view.epoch, view.primary) != seen
        };
        changed || tokio::time::timeout(limit, place.news()).await.is_ok()
    }
}

impl One {
    /// Who answers writes and strong reads.
    pub(super) fn primary(&self, view: &View) -> Primary {
        match (view.primary, self.config.primary()) {
            // A view from before a reload that gave the nodes data of their own: who is above the others is not known yet.
            (Primary::Any, Some(_)) => Primary::Pending,
            (primary, _) => primary,
        }
    }

    /// Where a request for a resource may go now.
    pub(super) fn toward(&self, view: &View, path: &str, query: Option<&str>) -> Toward {
        match self.primary(view) {
            Primary::Any => Toward::AllBut(Tried::new()),
            Primary::Node(node) => Toward::AllBut(self.all_but(node)),
            Primary::Homes => self
                .home(view, path, query)
                .map_or(Toward::Nobody, |node| Toward::AllBut(self.all_but(node))),
            Primary::Pending | Primary::None(_) => Toward::Nobody,
        }
    }

    /// The home of a resource, while it is in service; with `unclean` another node stands in for it.
    fn home(&self, view: &View, path: &str, query: Option<&str>) -> Option<usize> {
        let serves = |node: &usize| view.candidates.contains(node);
        let home = self.lives_at(path, query, |_| true)?;
        if serves(&home) {
            return Some(home);
        }
        let unclean = self.config.failover.unclean;
        unclean
            .then(|| self.lives_at(path, query, |node| serves(&node)))
            .flatten()
    }

    /// The home of a resource among some nodes: by its name at the gate, so that two spellings of it live in one place.
    fn lives_at(&self, path: &str, query: Option<&str>, among: impl Fn(usize) -> bool) -> Option<usize> {
        let (path, query) = (key::normalise_path(path), query.map(key::normalise_escapes));
        let names = self.config.nodes.iter().map(|node| node.name.as_str());
        match &query {
            Some(query) => homes::home(names, &[&path, query], among),
            None => homes::home(names, &[&path], among),
        }
    }

    /// Who would answer what only the primary may, as things are.
    fn who(&self, path: &str, query: Option<&str>) -> Who {
        let view = self.view.load();
        let name = |node| self.node_name(node).unwrap_or_default();
        match self.primary(&view) {
            Primary::Any => Who::Any,
            Primary::Node(node) => Who::Primary(name(node)),
            Primary::Homes => {
                let query = query.filter(|_| self.config.gate == GateBy::Url);
                Who::Home {
                    node: self.lives_at(path, query, |_| true).map(name).unwrap_or_default(),
                    answers: self.home(&view, path, query).map(name),
                }
            }
            Primary::Pending | Primary::None(_) => Who::Nobody {
                why: match view.primary {
                    Primary::None(why) => Some(why),
                    Primary::Any | Primary::Node(_) | Primary::Homes | Primary::Pending => None,
                },
                hold: self.may_change_hands().then_some(self.config.failover.hold),
            },
        }
    }

    fn all_but(&self, node: usize) -> Tried {
        (0..self.nodes.len()).filter(|other| *other != node).collect()
    }

    /// Whether another node may take over by itself: then it is worth waiting for.
    pub(super) fn may_change_hands(&self) -> bool {
        let config = &self.config;
        let by_health = match config.replication {
            Replication::Shared => config.mode == Mode::ActivePassive,
            Replication::Primary | Replication::Mirrored => config.failover.promotion != Promotion::Manual,
            Replication::MultiPrimary => false,
        };
        by_health
            && config.health_check.is_some()
            && (config.discover.is_some() || config.order.len() > 1)
            && !matches!(self.view.load().primary, Primary::None(_))
    }

    /// R29: whether the node that answered is the one that would be asked now, with no change of hands in between. Over a shared
    /// store it is of no matter who answered: what one node has applied all of them have, and what is stored of an older epoch is
    /// confirmed before it is used (R53).
    pub(super) fn stands(&self, answered: &Answered) -> bool {
        if answered.shared || !Rule::R29.holds() {
            return true;
        }
        let view = self.view.load();
        view.epoch == answered.epoch
            && match self.primary(&view) {
                Primary::Any | Primary::Homes => true, // a home never moves
                Primary::Node(node) => node == answered.node,
                Primary::Pending | Primary::None(_) => false,
            }
    }

    /// R54: whether nodes are told the epoch of a write: where Tidegate owns promotion.
    pub(super) fn owns_promotion(&self) -> bool {
        let replicates = match self.config.replication {
            Replication::Primary | Replication::Mirrored => true,
            Replication::Shared | Replication::MultiPrimary => false,
        };
        replicates && self.config.failover.promotion == Promotion::Automatic && Rule::R54.holds()
    }

    /// R54: the epoch in which a write was refused by a node that has seen a later one than it was sent in. Any other 412 is the client's.
    pub(super) fn fence_refusal(&self, write: bool, sent_in: Epoch, answer: &Parts) -> Option<Epoch> {
        if !write || answer.status != StatusCode::PRECONDITION_FAILED || !self.owns_promotion() {
            return None;
        }
        let mut lines = answer.headers.get_all(&TIDEGATE_EPOCH).iter();
        let (line, second) = (lines.next()?, lines.next());
        let epoch = Epoch(line.to_str().ok()?.parse().ok()?);
        (second.is_none() && epoch > sent_in).then_some(epoch)
    }
}
