//! A write whose answer is the new representation of its target: stored for later GETs while its body goes to the client (RFC 9110
//! s9.3.3). A fill like any other, but that its token is registered before the write is sent and is the one token that the write's
//! own end does not kill: any other write that begins or ends meanwhile does, so what is stored is never older than an acked write.

use super::body::Body;
use super::carry::{carry, content_length};
use super::request::{self, Job, Seen};
use super::through::told;
use super::write::{Reply, Told1};
use super::{Core, Shared, plan, routes, session, tagging};
use crate::config::runtime::Route;
use crate::core::admit::Answer;
use crate::core::http::invalidate::RequestUrl;
use crate::core::http::stored::Meta;
use crate::core::key::KeyBuffer;
use crate::core::lookup::Read;
use crate::core::policy::Policy;
use crate::core::posted;
use crate::core::reason::NotStored;
use crate::store::entry::Head;
use crate::store::{Identity, Token, fill, new_entry};
use crate::upstream::Answered;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The token of a write whose answer might be stored; none for any other. Asked for after the write has begun at the gate and before
/// it is sent: what ended before is in its answer, what ends or begins later kills the token.
pub(super) fn register(core: &Core, job: &Job) -> Option<Token> {
    let asked = &job.parts;
    if !posted::may_be_stored(&asked.method, &asked.headers, &job.policy)
        || !is_where_a_get_goes(&core.shared, &job.route, job.https, &job.authority, asked)
    {
        return None;
    }
    Some(core.shared.store.register(core.now(), job.resource, false))
}

/// Whether a GET of the same URL with the same fields would take the same route: only there could it find the answer.
pub(super) fn is_where_a_get_goes(
    shared: &Shared,
    route: &Arc<Route>,
    https: bool,
    authority: &str,
    parts: &Parts,
) -> bool {
    let path = request::path(&parts.uri);
    let question = routes::Question {
        host: &request::host_name(authority),
        path: &path,
        method: &Method::GET,
        headers: &parts.headers,
        https,
    };
    routes::find(shared, &question).is_some_and(|found| Arc::ptr_eq(found, route))
}

/// The facts under which the answer is stored; none when it is not.
pub(super) fn admit(core: &Core, job: &Job, answered: &Answered) -> Option<Meta> {
    let answer = told(core, answered);
    // As the node saw it: only then does it speak of what it was asked.
    let target = RequestUrl {
        https: job.https,
        host: &job.authority,
        path: job.path(),
        query: job.target.query(),
    };
    admitted(&job.parts.headers, &answer, target, &job.policy).ok()
}

/// Whether an answer to a write that may leave one is stored, and with which facts, as far as its head tells. `explain` asks it too.
pub(super) fn admitted(
    request: &HeaderMap,
    answer: &Answer<'_>,
    target: RequestUrl<'_>,
    policy: &Policy,
) -> Result<Meta, NotStored> {
    let read = Read::of(&Method::GET, request, policy, false);
    let meta = posted::admit(&read, answer, target, policy)?;
    let max = policy.caching().map_or(0, |caching| caching.max_object);
    if content_length(answer.headers).is_some_and(|length| length > max) {
        return Err(NotStored::TooLarge);
    }
    Ok(*meta)
}

/// Tells the client, carries the body to it, and stores the answer at its end.
pub(super) async fn store(
    core: Arc<Core>,
    job: Arc<Job>,
    mut answered: Answered,
    meta: Meta,
    token: Token,
    tell: oneshot::Sender<Told1>,
) {
    let (store, route) = (&core.shared.store, job.route.id);
    let Some((digest, key)) = key(&core, &job) else {
        return; // the route caches, or nothing would have been admitted
    };
    let length = content_length(&answered.parts.headers);
    if let Some(length) = length {
        answered.parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    session::strip_answer(&mut answered.parts.headers); // R17
    let tags = tagging::of(&core.shared, &job, &answered.parts.headers);
    let head = Arc::new(Head {
        meta,
        headers: answered.parts.headers.clone(),
    });
    let caching = job.policy.caching();
    let stall = job.connection.peer.listener.body_timeout;
    let max = caching.map_or(0, |caching| caching.max_object);
    let (writer, fill) = fill::channel(Arc::clone(store.fill_memory()), max, stall);
    let body = fill
        .reader()
        .map_or_else(Body::empty, |reader| Body::fill(reader, length));
    // A client that has left leaves the fill to later readers.
    let _ = tell.send(Ok(Reply {
        parts: answered.parts,
        node: answered.node,
        received: answered.received,
        body,
        open: None,
        opened: None,
    }));
    let stored = match carry(answered.body, writer, stall, None).await {
        Err(why) => Err(why),
        Ok(body) if length.is_some_and(|length| length != body.len() as u64) => Err(NotStored::Incomplete),
        Ok(body) => {
            let identity = Identity {
                resource: job.resource,
                digest,
                key,
                tags,
            };
            store.publish(token, &new_entry(store.next_entry_id(), identity, head, body), None)
        }
    };
    if let Err(why) = stored {
        core.shared.metrics.fill_refused(route, why);
    }
}

/// What a GET of the same URL with the same fields is called.
pub(super) fn key(core: &Core, job: &Job) -> Option<(u128, Arc<[u8]>)> {
    let mut buffer = KeyBuffer::new();
    let path = request::path(&job.parts.uri);
    let seen = Seen::of(&job.connection, &job.parts.headers);
    let named = (&*job.authority, &path);
    let key = plan::write_key(&mut buffer, &job.route, &seen, &job.parts, named, job.policy.caching()?);
    Some((core.shared.secret.digest(key).0, Arc::from(key)))
}
