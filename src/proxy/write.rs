//! A request that may change something: gate first, then the node, then out with what it made stale, and only then the answer (R10).
//! Runs as a task of its own: a client that leaves does not cancel its write (R21).

use super::body::{Body, Trace, UploadWatch};
use super::buffered::{self, Buffered};
use super::error::Fault;
use super::headers::{self, Consistency, Told};
use super::request::{Job, Seen, host_name};
use super::{Core, aim, declared, hit, mirror, outbound, posted, routes, session, tagging, through};
use crate::core::consistency::write::{is_failure, judge};
use crate::core::http::cache_status::CacheStatus;
use crate::core::http::grpc;
use crate::core::http::invalidate::{self, RequestUrl};
use crate::core::reason::{FetchReason, Outcome, WriteOutcome};
use crate::core::retry::Sent;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use crate::store::{OpenWrite, ResourceId, Token, WriteEnd, WriteGuard};
use crate::upstream::{Answered, Call, CallError, CallErrorKind, Kind, OutBody};
use bytes::Bytes;
use http::header::EXPECT;
use http::response::Parts;
use http::{Method, Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the rest of an upload may take once the answer is in, before the write counts as unknown.
const LATE_UPLOAD: Duration = Duration::from_secs(1);

/// What the client's side of a write is told.
pub(super) type Told1 = Result<Reply, NoReply>;

/// Why a client is not given the node's answer.
pub(super) enum NoReply {
    /// There was none.
    Failed(CallError),
    /// It counts no more, or was meant for us.
    Refused(Fault),
}

/// A node's answer to a write that has ended at the gate.
pub(super) struct Reply {
    pub(super) parts: Parts,
    pub(super) node: usize,
    /// When its head was.
    pub(super) received: MonoTime,
    pub(super) body: Body,
    /// What still has to happen when its connection closes, of a write whose outcome is unknown.
    pub(super) open: Option<OpenWrite>,
    /// The same, of a mirrored one (R34).
    pub(super) opened: Option<mirror::Opened>,
}

/// Answers a write.
pub(super) async fn run(core: Arc<Core>, job: Arc<Job>, body: OutBody, watch: UploadWatch) -> Response<Body> {
    let (tell, told) = oneshot::channel();
    let mut affected = declared::of(&core.shared, &job); // R12: before it is forwarded
    let declared = job.visit.as_ref().map_or_else(Vec::new, |_| affected.clone());
    affected.push((job.resource, job.path().to_owned()));
    let work = carry(Arc::clone(&core), Arc::clone(&job), body, affected, tell);
    // Where the nodes do not share one store, writes are as strong on every route.
    let strong = job.policy.is_strong() || !core.shared.upstreams.reign(job.resource.upstream).shared;
    let (response, outcome) = match core.detach(work, told).await {
        Some(Ok(Reply {
            parts,
            body,
            open,
            opened,
            ..
        })) if strong && open.is_some() && sounds_definite(parts.status) => {
            drop(body); // closes the connection: the settling time begins
            drop((open, opened));
            headers::refuse(&job.connection, Fault::unknown())
        }
        Some(Ok(reply)) => (answer(&core, &job, reply, &declared), Outcome::Pass),
        Some(Err(NoReply::Failed(e))) => {
            headers::refuse(&job.connection, Fault::of_call(&e, strong, true, watch.fault()))
        }
        Some(Err(NoReply::Refused(fault))) => headers::refuse(&job.connection, fault),
        None => headers::refuse(&job.connection, Fault::internal()),
    };
    core.account(job.asked(), Some(job.route.id), outcome, response)
}

/// Passed on, such an answer to a write of unknown outcome would be read as a promise: a refusal of a repeat whose first attempt may
/// have been applied (R20), or an answer that came before the body was sent (R11).
fn sounds_definite(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::ACCEPTED
}

/// The longest body that is held to be sent again, or to be stored, in bytes: orders, documents, not uploads. It is held while the write
/// is under way, so `max_connections` times this is what clients of such routes can make us hold.
const MAX_HELD: usize = 256 * 1024;

/// Sends the write and ends it at the gate, whoever still listens.
async fn carry(
    core: Arc<Core>,
    job: Arc<Job>,
    body: OutBody,
    affected: Vec<(ResourceId, String)>,
    tell: oneshot::Sender<Told1>,
) {
    let entered = match core.shared.mirror_of(job.resource.upstream) {
        None => hold(&core, &job, body).await.map(|(body, held)| (body, held, None)),
        Some(mirror) => Box::pin(mirror::enter(mirror, &core, &job, body))
            .await
            .map(|(held, copying)| (OutBody::from(held.clone()), Some(held), Some(copying))),
    };
    let (body, held, mut copying) = match entered {
        Ok(entered) => entered,
        Err(why) => {
            core.shared.metrics.write(job.route.id, WriteOutcome::NotApplied);
            let _ = tell.send(Err(why));
            return;
        }
    };
    let guard = through::begin(&core, &job, affected);
    let mut parts = outbound::parts(&job, &*core.shared.world.entropy);
    let is_call = grpc::is_call(&job.parts.method, &job.parts.headers);
    let token = if is_call { None } else { posted::register(&core, &job) };
    parts.headers.remove(EXPECT); // our server has asked for the body already
    let repeatable = is_repeatable(&job);
    let kind = Kind::Write { repeatable };
    let sent = match &mut copying {
        Some(copying) => Box::pin(copying.send(&core, &job, parts, kind)).await,
        None => {
            let call = Call {
                upstream: job.resource.upstream,
                parts,
                body,
                kind,
                aim: aim::of(&job, &core),
                again: None,
                deadline: job.deadline,
                now: None,
                before_send: None,
                on_interim: job.on_interim(),
            };
            core.pool.call(call).await
        }
    };
    let told = match sent {
        Err(e) => {
            let (end, outcome) = match e.sent {
                Sent::Nothing => (WriteEnd::NotSent, WriteOutcome::NotApplied),
                Sent::Maybe if !Rule::R11.holds() => (WriteEnd::Applied, WriteOutcome::Unknown),
                Sent::Maybe => (WriteEnd::UnknownClosed(e.closed_at), WriteOutcome::Unknown),
            };
            if let Some(copying) = &mut copying {
                drop(copying.end(outcome).await);
            }
            guard.end(end);
            core.shared.metrics.write(job.route.id, outcome);
            Err(NoReply::Failed(e))
        }
        Ok(mut answered) => {
            // A call's answer may begin before its request ends: it is not held up for that.
            let late = if is_call { Duration::ZERO } else { LATE_UPLOAD };
            let upload = answered.body.finish_upload();
            let complete = tokio::time::timeout(late, upload).await.unwrap_or(false);
            if let Some((end, outcome, fault)) = overruled(&core, &job, &answered) {
                let opened = match &mut copying {
                    Some(copying) => copying.end(outcome).await,
                    None => None,
                };
                drop(answered); // closes the connection, unless the answer is complete
                drop(opened);
                guard.end(end(core.now()));
                core.shared.metrics.write(job.route.id, outcome);
                let _ = tell.send(Err(NoReply::Refused(fault)));
                return;
            }
            let mut outcome = judge(answered.parts.status, complete, answered.after_maybe_applied);
            let mut opened = None;
            if let Some(copying) = &mut copying {
                outcome = Box::pin(copying.spread(&core, &job, outcome, &answered.parts)).await; // R33: before the ack
                opened = copying.end(outcome).await;
            }
            core.shared.metrics.write(job.route.id, outcome);
            if !Rule::R10.holds() {
                let _ = tell.send(Ok(reply(&job, answered, None, None)));
                tokio::time::sleep(Duration::from_millis(50)).await;
                guard.end(WriteEnd::Applied);
                return;
            }
            let failed = is_failure(answered.parts.status, complete, answered.after_maybe_applied);
            match &token {
                None => headers::from_node_streamed(&mut answered.parts.headers),
                Some(_) => headers::from_node(&mut answered.parts.headers), // it may be stored
            }
            let meta = match outcome {
                WriteOutcome::Applied => posted::admit(&core, &job, &answered),
                WriteOutcome::Rejected | WriteOutcome::NotApplied | WriteOutcome::Unknown => None,
            };
            drop_named(&core, &job, &answered);
            let in_doubt = copying.as_ref().is_some_and(|copying| copying.is_in_doubt());
            let guard = if guard.before().is_some() && !in_doubt {
                let told = through::told(&core, &answered);
                // Boxed: hardly any write reads again.
                let end = Box::pin(through::end(&core, &job, told, outcome, guard, held.as_ref()));
                match end.await {
                    Some(guard) => guard,
                    None => {
                        let _ = tell.send(Ok(reply(&job, answered, None, None)));
                        return;
                    }
                }
            } else {
                guard
            };
            let kept = token.zip(meta);
            let mine = kept.as_ref().map(|(token, _)| token);
            let open = end((outcome, failed), guard, mine);
            if let Some((token, meta)) = kept {
                drop(copying);
                return Box::pin(posted::store(core, job, answered, meta, token, tell)).await;
            }
            Ok(reply(&job, answered, open, opened))
        }
    };
    // A client that has left drops the answer; what it holds open closes with it.
    let _ = tell.send(told);
}

/// How a write ends, by the time at which its connection was closed.
type EndAt = fn(MonoTime) -> WriteEnd;

/// An answer that does not count: a node refused the write by a later epoch than it was sent in (R54), so that it was not applied, or
/// another node has taken over since it was sent, and may not have it (R29).
fn overruled(core: &Core, job: &Job, answered: &Answered) -> Option<(EndAt, WriteOutcome, Fault)> {
    if answered.fenced.is_some() && !answered.after_maybe_applied {
        return Some((|_| WriteEnd::NotSent, WriteOutcome::NotApplied, Fault::fenced()));
    }
    // R29: the last look before the ack.
    (!core.shared.upstreams.stands(job.resource.upstream, answered)).then(|| {
        (
            WriteEnd::UnknownClosed as EndAt,
            WriteOutcome::Unknown,
            Fault::deposed(),
        )
    })
}

/// Whether the write may be sent again although it may have been applied (R20).
fn is_repeatable(job: &Job) -> bool {
    let name = job.policy.idempotency_header.as_ref();
    name.is_some_and(|name| job.parts.headers.contains_key(name))
}

/// The body as it is sent, and a copy of it where it is held: to be sent again (R20), or to be stored (R9). One that is longer than
/// [`MAX_HELD`] streams, and is neither.
async fn hold(core: &Core, job: &Job, body: OutBody) -> Result<(OutBody, Option<Bytes>), NoReply> {
    let is_wanted = is_repeatable(job) || through::keeps_body(job);
    if !is_wanted || grpc::is_call(&job.parts.method, &job.parts.headers) {
        return Ok((body, None));
    }
    match tokio::time::timeout(job.left(core.now()), buffered::whole(body, MAX_HELD)).await {
        Ok(Buffered::Whole(bytes)) => Ok((bytes.clone().into(), Some(bytes))),
        Ok(Buffered::Longer(body)) => Ok((body, None)),
        Ok(Buffered::Broken) => Err(unsent(core, CallErrorKind::BodyFailed)),
        Err(_) => Err(unsent(core, CallErrorKind::DeadlineExceeded)),
    }
}

/// A write that failed before it had a node.
pub(super) fn unsent(core: &Core, kind: CallErrorKind) -> NoReply {
    NoReply::Failed(CallError {
        kind,
        sent: Sent::Nothing,
        node: None,
        closed_at: core.now(),
    })
}

/// R12: what the answer names goes, before the write ends. After any 2xx or 3xx, a 202 too: whatever it made may be there already. The
/// target itself goes with the end.
fn drop_named(core: &Core, job: &Job, answered: &Answered) {
    if !Rule::R12.holds() {
        return;
    }
    for (resource, _) in named(core, job, answered) {
        if resource != job.resource {
            core.shared.store.drop_resource(resource);
        }
    }
    tagging::invalidate(&core.shared, job, answered.parts.status, &answered.parts.headers);
}

/// Ends the write at the gate, before its answer goes anywhere. Returns what still has to happen when its connection closes.
/// `ended`: how, and whether an unknown outcome is the node's own failure. `mine` is the token of its answer, where that is to be stored.
fn end(ended: (WriteOutcome, bool), guard: WriteGuard, mine: Option<&Token>) -> Option<OpenWrite> {
    match ended.0 {
        WriteOutcome::Applied => guard.end_keeping(WriteEnd::Applied, mine),
        WriteOutcome::Rejected => guard.end(WriteEnd::Rejected),
        WriteOutcome::NotApplied => guard.end(WriteEnd::NotSent),
        WriteOutcome::Unknown if ended.1 => guard.end(WriteEnd::Failed),
        WriteOutcome::Unknown => guard.end(WriteEnd::UnknownOpen), // R11
    }
}

/// R12: the resources an answer names, both as a client would ask for them and as paths of the node's own.
fn named(core: &Core, job: &Job, answered: &Answered) -> Vec<(ResourceId, String)> {
    let shared = &core.shared;
    let (status, fields) = (answered.parts.status, &answered.parts.headers);
    // The client's origin, and the one that a trusted proxy in front says is its client's: nodes write their URLs for either.
    let outside = Seen::of(&job.connection, &job.parts.headers).host;
    let hosts = std::iter::once(&*job.authority).chain(outside);
    let urls = hosts.flat_map(|host| {
        let request = RequestUrl {
            https: job.https,
            host,
            path: job.parts.uri.path(),
            query: job.parts.uri.query(),
        };
        invalidate::affected(status, fields, request)
    });
    let host = host_name(&job.authority);
    let mut found = Vec::new();
    for url in urls {
        let query = url.query.as_deref();
        found.extend(routes::resources_of_url(
            &shared.config,
            shared.secret,
            Some(&host),
            &url.path,
            query,
        ));
        if let Some(upstream) = shared.config.upstreams.get(job.resource.upstream) {
            found.push((
                routes::resource(shared.secret, upstream, &url.path, query),
                url.path.clone(),
            ));
        }
    }
    found
}

/// The answer as its client gets it; its body holds the connection it comes over.
fn reply(job: &Job, answered: Answered, open: Option<OpenWrite>, opened: Option<mirror::Opened>) -> Reply {
    let Answered {
        parts,
        body,
        node,
        received,
        ..
    } = answered;
    let body = Body::node(body, job.connection.peer.listener.body_timeout);
    Reply {
        parts,
        node,
        received,
        body,
        open,
        opened,
    }
}

fn answer(core: &Core, job: &Job, reply: Reply, declared: &[(ResourceId, String)]) -> Response<Body> {
    let Reply {
        mut parts,
        node,
        received,
        body,
        open,
        opened,
    } = reply;
    let unknown = open.is_some();
    let status = parts.status;
    // R47: acknowledged, and not a 202, which is unknown; what was refused has changed nothing.
    let acked = !unknown && (status.is_success() || status.is_redirection());
    let acked = acked.then(|| {
        let etag = session::etag_of_target(&job.parts.method, status, &parts.headers);
        (etag, received)
    });
    headers::from_node_streamed(&mut parts.headers);
    let version = parts.version;
    let no_body = job.parts.method == Method::HEAD || hit::has_no_body(parts.status);
    let body = if no_body { Body::empty() } else { body };
    let ticket = job.ticket.clone();
    let body = match open {
        None => body,
        Some(open) => body.at_end(move |node| {
            drop(node); // closes the connection, if it is still there: only now does the settling time begin (R11)
            drop((open, opened));
            drop(ticket); // R31
        }),
    };
    let mut response = Response::from_parts(parts, body);
    response.body_mut().trace = Trace::forwarded(FetchReason::Method, None, node);
    response.extensions_mut().clear();
    let status = CacheStatus::forwarded(FetchReason::Method);
    let consistency = if job.policy.is_strong() && !unknown {
        Consistency::Write
    } else {
        Consistency::Silent
    };
    let age = None;
    headers::finish(
        &mut response,
        &job.connection,
        &job.route,
        &job.policy,
        &Told {
            status,
            age,
            consistency,
            version,
        },
    );
    session::onto_write(core, job, &mut response, acked, declared);
    response
}
