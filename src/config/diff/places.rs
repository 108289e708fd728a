//! The places of an upstream's nodes (R31): views, connections and requests in flight know a node by its place, so that a place belongs to
//! one node for the life of the process. A node is the same when its name and its url are; one that has moved is another one.

use super::super::runtime::{Node, Upstream};

/// How many nodes may come to an upstream beside those it began with: each keeps its place for ever.
pub(super) const MAX_NEWCOMERS: usize = 1024;

/// Puts the nodes of a new configuration into the places they had, and the others after them.
pub(super) fn place(was: &Upstream, is: &mut Upstream) {
    if was.retired || was.discover.is_some() || is.discover.is_some() {
        return;
    }
    let given = std::mem::replace(&mut is.nodes, was.nodes.clone());
    is.order.clear();
    for node in given {
        let known = was
            .listed()
            .find(|(_, known)| is_same(known, &node))
            .map(|(place, _)| place);
        let place = known.unwrap_or(is.nodes.len());
        match is.nodes.get_mut(place) {
            Some(known) => *known = node,
            None => is.nodes.push(node),
        }
        is.order.push(place);
    }
}

fn is_same(was: &Node, is: &Node) -> bool {
    was.name == is.name && was.url == is.url
}

/// Whether the file names other nodes than before.
pub(super) fn differ(was: &Upstream, is: &Upstream) -> bool {
    let known = |node: &Node| was.listed().any(|(_, known)| is_same(known, node));
    was.order.len() != is.order.len() || !is.listed().all(|(_, node)| known(node))
}
