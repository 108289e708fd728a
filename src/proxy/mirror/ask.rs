//! Asks every node of the set for a target, compares, and repairs by the primary's word (R34): [`Compare`] carried out. Runs in an exclusive
//! turn of the resource's queue, or while no write is under way.

use super::Mirror;
use super::write::copy;
use crate::core::failover::mirror::compare::{Compare, Effect, End, Event, Shown};
use crate::core::failover::mirror::target::Target;
use crate::core::time::Span;
use crate::upstream::{Aim, Answered, Call, Kind, NodeBody, OutBody, Pool};
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a node shows of a target: its status, and its body where that is the target's state.
pub(super) type State = (StatusCode, Bytes);

/// A comparison that has ended.
pub(super) struct Compared {
    pub(super) end: End,
    /// The primary's answer, its body whole.
    pub(super) primary: Option<Answered>,
}

/// What is sent along with the state of a target: what its bytes are.
const OF_THE_BYTES: [http::HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

/// By what a client chooses among representations of one state.
const CHOOSING: [http::HeaderName; 3] = [ACCEPT, ACCEPT_LANGUAGE, ACCEPT_CHARSET];

/// How a target is compared.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// As the nodes give it to whoever wants nothing particular: that is what a copy is made of.
    Stored,
    /// As this client wants it, which is never copied.
    Wanted,
}

/// Whether a client may be given another representation than one who wants nothing particular.
pub(super) fn chooses(fields: &HeaderMap) -> bool {
    let anything = |name: &http::HeaderName| fields.get_all(name).iter().all(|value| value == "*/*" || value == "*");
    !CHOOSING.iter().all(anything)
}

/// A request for all of a target, with a client's fields or ours.
pub(super) fn plain(target: &Target, fields: HeaderMap, how: How) -> Option<Parts> {
    let mut head = Request::new(()).into_parts().0;
    head.uri = target.uri.parse::<Uri>().ok()?;
    head.headers = fields;
    for name in [RANGE, IF_RANGE, ACCEPT_ENCODING, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    match how {
        How::Stored => CHOOSING.iter().for_each(|name| {
            head.headers.remove(name);
        }),
        How::Wanted => {}
    }
    head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(head)
}

/// What gives a node what the primary has shown, asked like this; none when that cannot be.
pub(super) fn copied(asked: &Parts, shown: &Shown<State>, answered: Option<&Answered>) -> Option<(Parts, Bytes)> {
    let mut head = asked.clone();
    head.headers.remove(CACHE_CONTROL);
    let body = match shown {
        Shown::State((_, bytes)) => {
            head.method = Method::PUT;
            for name in OF_THE_BYTES {
                if let Some(value) = answered.and_then(|answered| answered.parts.headers.get(&name)) {
                    head.headers.insert(name, value.clone());
                }
            }
            bytes.clone()
        }
        Shown::Gone => {
            head.method = Method::DELETE;
            Bytes::new()
        }
        Shown::Strange(_) | Shown::TooLarge | Shown::Silent => return None,
    };
    Some((head, body))
}

impl Mirror {
    /// Compares a target at all nodes of the set, and repairs it where they differ. Dropped, what it has sent may still be applied: it runs
    /// where nobody drops it.
    pub(super) async fn compare(self: &Arc<Self>, pool: &Pool, head: &Parts, target: &Target, how: How) -> Compared {
        let mut machine = match how {
            How::Stored => Compare::default(),
            How::Wanted => Compare::without_repair(),
        };
        let standing = self.standing();
        let primary_node = standing.primary;
        let mut effects = VecDeque::from(machine.step(&standing, Event::Turn));
        let (mut asked, mut copies) = (JoinSet::new(), JoinSet::new());
        let mut primary: Option<Answered> = None;
        loop {
            let event = match effects.pop_front() {
                Some(Effect::Ask { node }) => {
                    let (mirror, pool, head) = (Arc::clone(self), pool.clone(), head.clone());
                    asked.spawn(async move { (node, mirror.show(&pool, node, head).await) });
                    continue;
                }
                Some(Effect::Copy { node }) => {
                    let shown = machine.of_primary();
                    let call = shown.and_then(|shown| self.repair(node, head, shown, primary.as_ref()));
                    let (pool, limit) = (pool.clone(), self.config.mirror.timeout);
                    copies.spawn(async move {
                        let confirmed = match call {
                            Some(call) => copy(pool, call, limit, None).await,
                            None => false,
                        };
                        (node, confirmed)
                    });
                    continue;
                }
                Some(Effect::Remove { node }) => {
                    if !self.remove(node, target).await {
                        // What was sent to it may be applied late, over what is acked when this doubt has ended.
                        let settled_at = self.settled_at();
                        let resource = self.resource_of(target);
                        self.lines.doubt(resource, |doubt| doubt.unsettle(settled_at));
                    }
                    Event::Removed { node }
                }
                Some(Effect::End(end)) => return Compared { end, primary },
                None => tokio::select! {
                    Some(Ok((node, (shown, answered)))) = asked.join_next() => {
                        if Some(node) == primary_node {
                            primary = answered;
                        }
                        Event::Showed { node, shown }
                    }
                    Some(Ok((node, confirmed))) = copies.join_next() => Event::Copied { node, confirmed },
                    else => return Compared { end: End::Overtaken, primary },
                },
            };
            effects.extend(machine.step(&self.standing(), event));
        }
    }

    /// What a node shows of a target, in time; with its answer, whose body is whole.
    pub(super) async fn show(&self, pool: &Pool, node: usize, mut head: Parts) -> (Shown<State>, Option<Answered>) {
        let limit = self.config.mirror.timeout;
        if !head.headers.contains_key(HOST)
            && let Some(host) = self.host(node)
        {
            head.headers.insert(HOST, host);
        }
        let call = Call {
            upstream: self.config.id,
            parts: head,
            body: OutBody::Empty,
            kind: Kind::Read { primary: false },
            aim: Aim::at(node),
            again: None,
            deadline: self.now().after(Span::from(limit)),
            now: None,
            before_send: None,
            on_interim: None,
        };
        let shown = async {
            let Ok(mut answered) = pool.call(call).await else {
                return (Shown::Silent, None);
            };
            let max = usize::try_from(self.config.mirror.max_body).unwrap_or(usize::MAX);
            let body = std::mem::replace(&mut answered.body, NodeBody::whole(Bytes::new()));
            let bytes = match Limited::new(body, max).collect().await {
                Ok(all) => all.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => return (Shown::TooLarge, None),
                Err(_) => return (Shown::Silent, None),
            };
            answered.body = NodeBody::whole(bytes.clone());
            let status = answered.parts.status;
            let shown = match status {
                StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION | StatusCode::NO_CONTENT => {
                    Shown::State((status, bytes))
                }
                StatusCode::NOT_FOUND | StatusCode::GONE => Shown::Gone,
                // A refusal tells nothing of what is stored: neither does it being the same everywhere.
                _ => Shown::Strange((status, Bytes::new())),
            };
            (shown, Some(answered))
        };
        tokio::time::timeout(limit, shown)
            .await
            .unwrap_or((Shown::Silent, None))
    }

    /// What gives a node what the primary has shown; none when that cannot be.
    pub(super) fn repair(
        &self,
        node: usize,
        asked: &Parts,
        shown: &Shown<State>,
        answered: Option<&Answered>,
    ) -> Option<Call> {
        let (head, body) = copied(asked, shown, answered)?;
        Some(self.call_of(node, head, body))
    }
}
