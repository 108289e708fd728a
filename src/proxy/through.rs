//! A write that leaves behind what it made of its target (R9). Between the node's definite answer and the write's end at the gate the
//! target is read again, or what was written is taken as it was; either is put in service by the end itself, or not at all. The client
//! waits for it, no longer than `refresh_timeout`, and is answered whatever came of it.

use super::carry::{carry, content_length};
use super::posted;
use super::request::Job;
use super::{Core, headers, outbound, session, tagging};
use crate::core::admit::{self, Admission, Answer};
use crate::core::http::stored::{Meta, Vary};
use crate::core::http::validate::Conditions;
use crate::core::lookup::Read;
use crate::core::policy::WriteThrough;
use crate::core::reason::WriteOutcome;
use crate::core::through::{self, Write};
use crate::core::time::{MonoTime, Ttl};
use crate::store::entry::{Head, SharedHead};
use crate::store::fill::{self, Pushed};
use crate::store::{EntryRef, Identity, ResourceId, Target, WriteEnd, WriteGuard, new_entry};
use crate::upstream::{Answered, Call};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;

/// Whether the write's body may be what is stored afterwards, so that it is worth holding.
pub(super) fn keeps_body(job: &Job) -> bool {
    let how = through::allowed(&job.parts.headers, &job.policy);
    matches!(how, WriteThrough::Store(_)) && through::may_be_kept(&job.parts.method, &job.parts.headers)
}

/// The write begins at the gate: from here no fill in flight may be stored (R1).
pub(super) fn begin(core: &Core, job: &Job, resources: Vec<(ResourceId, String)>) -> WriteGuard {
    let store = &core.shared.store;
    match target(core, job) {
        Some(target) => store.begin_write_through(resources, target),
        None => store.begin_write(resources),
    }
}

/// What a GET of the write's target is called; none when the write leaves nothing behind.
fn target(core: &Core, job: &Job) -> Option<Target> {
    let store = &core.shared.store;
    match through::allowed(&job.parts.headers, &job.policy) {
        WriteThrough::Invalidate => return None,
        WriteThrough::Refresh(_) | WriteThrough::Store(_) => {}
    }
    if !store.is_exclusive(core.now(), job.resource.upstream, &job.policy)
        || !posted::is_where_a_get_goes(&core.shared, &job.route, job.https, &job.authority, &job.parts)
    {
        return None;
    }
    let (digest, key) = posted::key(core, job)?;
    Some(Target {
        resource: job.resource,
        digest,
        key,
    })
}

/// Ends a write at the gate whose answer is definite, with what it leaves behind. Gives the guard back when it can leave nothing.
/// `body` is what was written, where it was held.
pub(super) async fn end(
    core: &Arc<Core>,
    job: &Job,
    answer: Answer<'_>,
    outcome: WriteOutcome,
    guard: WriteGuard,
    body: Option<&Bytes>,
) -> Option<WriteGuard> {
    let end = match outcome {
        WriteOutcome::Applied => WriteEnd::Applied,
        WriteOutcome::Rejected => WriteEnd::Rejected,
        WriteOutcome::NotApplied | WriteOutcome::Unknown => return Some(guard),
    };
    let within = match through::allowed(&job.parts.headers, &job.policy) {
        WriteThrough::Invalidate => return Some(guard),
        WriteThrough::Refresh(within) | WriteThrough::Store(within) => within,
    };
    // R9: from here it is a fill as well, and any other write that begins kills it.
    let Some(token) = guard.register_own() else {
        return Some(guard);
    };
    let written = match (outcome, body) {
        (WriteOutcome::Applied, Some(body)) => written(core, job, answer, &guard, body).await,
        _ => None,
    };
    let entries = match written {
        Some(entry) => vec![entry],
        // Failed or late: the client is answered all the same, and nothing is stored.
        None => tokio::time::timeout(within.into(), read_again(core, job, &guard, within))
            .await
            .ok()
            .flatten()
            .unwrap_or_default(),
    };
    guard.end_with(end, token, entries);
    None
}

/// What was written, as an entry; none when it is not known to be what the node has stored.
async fn written(core: &Core, job: &Job, answer: Answer<'_>, guard: &WriteGuard, body: &Bytes) -> Option<EntryRef> {
    let before = guard.before().filter(|before| before.variants == 1)?;
    let head = before.heads.first()?;
    let write = Write {
        method: &job.parts.method,
        fields: &job.parts.headers,
        length: body.len(),
        status: answer.status,
        answer: answer.headers,
    };
    let fields = through::written(write, &head.meta, &head.headers)?;
    let asked = through::again(&job.parts.headers, &job.policy, &Vary::Any);
    let stored = Answer {
        status: StatusCode::OK,
        headers: &fields,
        ..answer
    };
    let meta = admitted(job, &asked, &stored)?;
    let caching = job.policy.caching()?;
    let stall = job.connection.peer.listener.body_timeout;
    // In memory of its own, and accounted for.
    let memory = Arc::clone(core.shared.store.fill_memory());
    let (writer, _fill) = fill::channel(memory, caching.max_object, stall);
    match writer.push(body.clone()).await {
        Pushed::Kept => {}
        Pushed::Passing(_) | Pushed::Abandoned(_) => return None,
    }
    let body = writer.finish().ok()?;
    entry(core, job, meta, fields, body)
}

/// Reads the variants that were stored of the target, or a plain GET of it where none was; none when any read failed.
async fn read_again(core: &Arc<Core>, job: &Job, guard: &WriteGuard, within: Ttl) -> Option<Vec<EntryRef>> {
    let deadline = core.now().after(within);
    let heads: &[SharedHead] = guard.before().map_or(&[], |before| &before.heads);
    let vary = |at: usize| match (heads.get(at), at) {
        (Some(head), _) => Some(head.meta.vary.clone()),
        (None, 0) => Some(Vary::Any),
        (None, _) => None,
    };
    let one = |at: usize| Box::pin(read_one(core, job, vary(at), deadline));
    let read = tokio::join!(one(0), one(1), one(2), one(3));
    let mut entries = Vec::new();
    for entry in [read.0, read.1, read.2, read.3] {
        entries.extend(entry.ok()?);
    }
    Some(entries)
}

/// A read that failed.
struct Failed;

/// Reads one variant at the primary, whole, and judges it as any fill's answer.
async fn read_one(
    core: &Arc<Core>,
    job: &Job,
    variant: Option<Vary>,
    deadline: MonoTime,
) -> Result<Option<EntryRef>, Failed> {
    let Some(variant) = variant else { return Ok(None) };
    let mut again = job.clone();
    again.parts.method = Method::GET;
    again.parts.headers = through::again(&job.parts.headers, &job.policy, &variant);
    let mut parts = outbound::parts(&again, &*core.shared.world.entropy);
    Conditions::none(true).apply(&mut parts.headers); // R5b
    let call = Call::at_primary(job.resource.upstream, parts, deadline);
    let mut answered = core.pool.call(call).await.map_err(|_| Failed)?;
    let status = answered.parts.status;
    if status.is_server_error() || status == StatusCode::NOT_MODIFIED {
        return Err(Failed);
    }
    headers::from_node(&mut answered.parts.headers);
    session::strip_answer(&mut answered.parts.headers); // R17
    let fields = answered.parts.headers.clone();
    let Some(meta) = admitted(job, &again.parts.headers, &told(core, &answered)) else {
        return Ok(None);
    };
    let length = content_length(&fields);
    let max = job.policy.caching().map_or(0, |caching| caching.max_object);
    if length.is_some_and(|length| length > max) {
        return Ok(None);
    }
    let stall = job.connection.peer.listener.body_timeout;
    let (writer, _fill) = fill::channel(Arc::clone(core.shared.store.fill_memory()), max, stall);
    let body = carry(answered.body, writer, stall, None).await.map_err(|_| Failed)?;
    if length.is_some_and(|length| length != body.len() as u64) {
        return Err(Failed);
    }
    Ok(entry(core, job, meta, fields, body))
}

/// An answer as the core sees it.
pub(super) fn told<'a>(core: &Core, answered: &'a Answered) -> Answer<'a> {
    Answer {
        status: answered.parts.status,
        headers: &answered.parts.headers,
        sent: answered.sent,
        epoch: answered.epoch,
        lag: answered.lag,
        received: answered.received,
        received_wall: core.shared.world.clock.wall(),
        close_delimited: answered.close_delimited,
    }
}

/// The facts of an answer to a GET with fields `asked`; none when it is not stored.
fn admitted(job: &Job, asked: &HeaderMap, answer: &Answer<'_>) -> Option<Meta> {
    let read = Read::of(&Method::GET, asked, &job.policy, false);
    match admit::admit(&read, answer, &job.policy) {
        Admission::Store(meta) => Some(Meta { proven: true, ..*meta }),
        Admission::PassOn(_) => None,
    }
}

fn entry(core: &Core, job: &Job, meta: Meta, headers: HeaderMap, body: Bytes) -> Option<EntryRef> {
    let (digest, key) = posted::key(core, job)?;
    let identity = Identity {
        resource: job.resource,
        digest,
        key,
        tags: tagging::of(&core.shared, job, &headers),
    };
    let head = Arc::new(Head { meta, headers });
    Some(new_entry(core.shared.store.next_entry_id(), identity, head, body))
}
