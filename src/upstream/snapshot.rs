//! What `/status` tells of an upstream; its field names are a public contract (INTERFACE.md section 3).

use super::One;
use crate::config::runtime::Mode;
use crate::core::failover::event::Observed;
use crate::core::failover::view::Primary;
use crate::core::reason::NodeState;

impl One {
    /// Where there are nodes, in the order of the file.
    fn places(&self) -> Vec<usize> {
        match self.config.discover {
            Some(_) => (0..self.nodes.len()).collect(),
            None => self.config.order.clone(),
        }
    }

    pub(super) fn snapshot(&self) -> UpstreamSnapshot {
        let view = self.view.load();
        let nodes = self.places().into_iter().filter_map(|node| {
            let target = self.nodes.get(node)?;
            let seat = target.seat()?;
            let state = if target.is_leaving() {
                NodeState::Draining
            } else {
                view.state(node)
            };
            Some(NodeSnapshot {
                name: seat.member.name.clone(),
                url: seat.url.clone(),
                state: state.word(),
                role: self.role(node).map(str::to_owned),
                position: self.position(node),
                in_sync: view.in_sync.get(node).copied().unwrap_or(true),
                connect_error: target.refusal.why(),
            })
        });
        UpstreamSnapshot {
            name: self.config.name.clone(),
            mode: match self.config.mode {
                Mode::ActiveActive => "active-active",
                Mode::ActivePassive => "active-passive",
            },
            replication: self.config.replication.word(),
            epoch: view.epoch.0,
            primary: match self.primary(&view) {
                Primary::Node(node) => self.node_name(node),
                Primary::Any | Primary::Homes | Primary::Pending | Primary::None(_) => None,
            },
            observed: match view.observed.read() {
                Observed::At(position) => Some(position.0),
                Observed::Unknown => None,
            },
            nodes: nodes.collect(),
        }
    }
}

/// An upstream in `/status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UpstreamSnapshot {
    /// Its name.
    pub name: String,
    /// `active-active` or `active-passive`.
    pub mode: &'static str,
    /// How its nodes replicate.
    pub replication: &'static str,
    /// The view's epoch: counts changes of the active node.
    pub epoch: u64,
    /// The name of the node that takes writes; none when several do, or none does.
    pub primary: Option<String>,
    /// The largest position that clients have been shown (R32); none while it is not known, and nobody is promoted by it.
    pub observed: Option<u64>,
    /// Its nodes, in the order of the file.
    pub nodes: Vec<NodeSnapshot>,
}

/// A node in `/status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeSnapshot {
    /// Its name.
    pub name: String,
    /// As configured.
    pub url: String,
    /// A word of [`NodeState`].
    pub state: &'static str,
    /// What the node says it is; none with `shared` replication, where all are the same.
    pub role: Option<String>,
    /// The position it reports; none with `shared` replication.
    pub position: Option<u64>,
    /// Whether it is in the in-sync set; always, over one shared store.
    pub in_sync: bool,
    /// Why the last connect to it failed; none after one that did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_error: Option<String>,
}
