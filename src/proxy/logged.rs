//! The record of a request in the access log: what is known when its answer begins, and what its body's end adds.

use super::body::{Body, Carried};
use super::{Asked, Core};
use crate::config::runtime::Action;
use crate::core::reason::Outcome;
use crate::telemetry::access_log::{self, End, Record};
use http::Response;
use std::time::Duration;

impl Core {
    /// The part of a record that is known when the answer begins.
    pub(super) fn logged(
        &self,
        asked: Asked<'_>,
        route: Option<usize>,
        outcome: Outcome,
        response: &Response<Body>,
    ) -> Logged {
        let trace = response.body().trace;
        Logged(Record {
            status: Some(response.status()),
            outcome: Some(outcome),
            fwd: trace.fwd,
            why: trace.why,
            node: trace.node,
            found: route.zip(trace.node).and_then(|(route, node)| self.found(route, node)),
            ..self.unanswered(asked, route)
        })
    }

    /// The name of the node in a place, where nodes are found: by the time the record is written another one may have it.
    fn found(&self, route: usize, node: u16) -> Option<Box<str>> {
        let shared = &self.shared;
        let Action::Proxy { upstream, .. } = &shared.config.route(route)?.action else {
            return None;
        };
        upstream.discover.as_ref()?;
        let name = shared.upstreams.node_name(upstream.id, usize::from(node))?;
        Some(name.into_boxed_str())
    }

    /// The record of a request that was never answered, but for how long it took.
    pub(super) fn unanswered(&self, asked: Asked<'_>, route: Option<usize>) -> Record {
        let peer = &asked.connection.peer;
        let mut listeners = self.shared.config.listeners.iter();
        // By name: a reload reads them anew, and connections go on.
        let listener = listeners.position(|listener| listener.name == peer.listener.name);
        Record {
            request: access_log::Request::new(
                asked.start,
                listener,
                peer.address.map(|address| address.ip()),
                asked.parts,
                asked.request_id.get(),
            ),
            status: None,
            outcome: None,
            generation: self.shared.config.numbers.generation,
            route,
            fwd: None,
            why: None,
            node: None,
            found: None,
            bytes: 0,
            took: Duration::ZERO,
            end: End::Left,
        }
    }
}

/// A record that waits for the end of its body.
pub(super) struct Logged(Record);

impl Logged {
    pub(super) fn ended(self, took: Duration, carried: Carried) -> Record {
        // hyper drops a body that is not to be sent without looking at it.
        let end = if self.0.request.is_head() {
            End::Complete
        } else {
            carried.end
        };
        Record {
            took,
            bytes: carried.bytes,
            end,
            ..self.0
        }
    }
}
