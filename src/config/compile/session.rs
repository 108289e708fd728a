//! `[session]`: the keys that sign and verify tokens (R47).

use super::route::Compiled;
use crate::config::diagnostic::Sink;
use crate::config::effective::{Table, Value};
use crate::config::runtime::{Action, Secret, Session};
use crate::core::consistency::session::token::MIN_KEY;

/// The keys, in the order of the file.
pub(super) fn compile(table: &Table, sink: &mut Sink) -> Session {
    let Some(node) = table.get("key") else {
        return Session::default();
    };
    let nodes = match &node.value {
        Value::List(nodes) if nodes.is_empty() => {
            sink.error(&node.place, "an empty list: the first key signs");
            &[][..]
        }
        Value::List(nodes) => nodes,
        _ => std::slice::from_ref(node),
    };
    let mut keys: Vec<Secret> = Vec::new();
    for node in nodes {
        let Some(text) = node.as_text() else { continue };
        if text.len() < MIN_KEY {
            let message = format!("has {} bytes, and a key needs at least {MIN_KEY}", text.len());
            sink.error(&node.place, message);
        } else if keys.iter().any(|key| key.reveal() == text) {
            sink.error(&node.place, "is in the list twice");
        } else {
            keys.push(Secret(text.to_owned()));
        }
    }
    Session { keys }
}

/// Session routes without a key work, but only here and only until the process ends.
pub(super) fn warn(session: &Session, compiled: &Compiled, sink: &mut Sink) {
    if !session.keys.is_empty() || sink.failed() {
        return;
    }
    for (route, place) in compiled.routes.iter().zip(&compiled.places) {
        if matches!(&route.action, Action::Proxy { policy, .. } if policy.has_sessions()) {
            sink.warn(
                &place.child("session", place.span.clone()),
                "no [session] key: it is random per process, so that after a restart, or at another proxy, sessions ask the primary",
            );
            return;
        }
    }
}
