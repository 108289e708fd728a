//! Straight to a node and back: nothing is stored, nothing shared, and the body streams without a task in between.

use super::body::{Body, Trace, UploadWatch};
use super::error::Fault;
use super::headers::{self, Consistency, Told};
use super::outbound;
use super::request::Job;
use super::session::{self, Seen};
use super::{Core, aim, hit, mirror, miss};
use crate::core::http::cache_status::{CacheStatus, Handling};
use crate::core::http::{etag, validate};
use crate::core::lookup::{self, Rigor};
use crate::core::policy::Contract;
use crate::core::reason::{FetchReason, NotStored, Outcome, Refusal};
use crate::upstream::{Again, Answered, Call, CallError, Kind, OutBody, Remakes};
use crate::world::BoxFuture;
use http::header::{CACHE_CONTROL, IF_MODIFIED_SINCE, IF_RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response};
use std::sync::Arc;

/// Answers a request that passes.
pub(super) fn run(
    core: Arc<Core>,
    job: Arc<Job>,
    (body, watch): (OutBody, UploadWatch),
    reason: FetchReason,
    last: impl FnOnce(Response<Body>) -> Response<Body> + Send + 'static,
) -> BoxFuture<'static, Response<Body>> {
    // All of it in one, and boxed here: a future that another awaits is moved into it.
    Box::pin(async move {
        let (response, outcome) = if matches!(job.policy.contract, Contract::Eventual(..)) {
            Box::pin(fetch(&core, &job, body, Some(&watch), reason)).await
        } else {
            let mut asking = mirror::ask(&core, &job, call(&core, &job, body, insists(&job)));
            let asked = asking.answered().await;
            told(&core, &job, asked, Some(&watch), reason)
        };
        // The clock was read when the answer was in.
        last(core.account_at(core.recently(), job.asked(), Some(job.route.id), outcome, response))
    })
}

/// Asks a node, and shapes its answer or the fault.
pub(super) async fn fetch(
    core: &Arc<Core>,
    job: &Arc<Job>,
    body: OutBody,
    watch: Option<&UploadWatch>,
    reason: FetchReason,
) -> (Response<Body>, Outcome) {
    let again = body.again();
    let asked = mirror::ask(core, job, call(core, job, body, insists(job)))
        .answered()
        .await;
    // R42: an answer older than the bound is asked for once more, where the request can be sent again.
    let asked = match again {
        Some(body) if is_breach(job, &asked) => {
            drop(asked);
            Box::pin(async { mirror::ask(core, job, call(core, job, body, true)).answered().await }).await
        }
        Some(_) | None => asked,
    };
    told(core, job, asked, watch, reason)
}

/// Whether caches below must ask as well: on strong routes, and where a read is to be validated.
fn insists(job: &Job) -> bool {
    job.policy.is_strong() || job.rigor() == Rigor::Proven
}

/// What came of it, as its requester gets it.
fn told(
    core: &Arc<Core>,
    job: &Arc<Job>,
    asked: Result<Answered, CallError>,
    watch: Option<&UploadWatch>,
    reason: FetchReason,
) -> (Response<Body>, Outcome) {
    if is_breach(job, &asked) && !job.policy.serves_beyond_bound() {
        return headers::refuse(&job.connection, Fault::of_refusal(Refusal::StaleRefused));
    }
    match asked {
        Ok(answered) => (
            answer(core, job, answered, CacheStatus::forwarded(reason), None),
            Outcome::Pass,
        ),
        Err(e) => {
            let fault = Fault::of_call(&e, insists(job), false, watch.and_then(UploadWatch::fault));
            headers::refuse(&job.connection, fault)
        }
    }
}

/// `insists`: whatever is below must ask as well, on strong routes, and where a read is to be validated, the primary (R5b, R47).
fn call(core: &Arc<Core>, job: &Arc<Job>, body: OutBody, insists: bool) -> Call {
    let rigor = job.rigor();
    let again = || Again {
        by: Arc::<Job>::clone(job),
        insists,
    };
    Call {
        upstream: job.resource.upstream,
        parts: outgoing(outbound::parts(job, &*core.shared.world.entropy), job, insists),
        again: matches!(body, OutBody::Empty).then(again),
        body,
        kind: Kind::Read {
            primary: insists || rigor.asks_primary() || job.is_for_primary(&core.shared.config),
        },
        aim: aim::of(job, core),
        deadline: job.deadline,
        now: Some(core.begins(job)), // for the request, or for the answer that was too old
        before_send: None,
        on_interim: job.on_interim(),
    }
}

impl Remakes for Job {
    fn head(&self, insists: bool) -> Parts {
        outgoing(outbound::parts_again(self), self, insists)
    }
}

/// The head as it is sent.
fn outgoing(mut parts: Parts, job: &Job, insists: bool) -> Parts {
    if job.policy.is_strong() || job.rigor() == Rigor::Proven {
        undated(&mut parts.headers);
    }
    if insists {
        parts
            .headers
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    parts
}

fn is_breach(job: &Job, asked: &Result<Answered, CallError>) -> bool {
    is_read(&job.parts.method) && asked.as_ref().is_ok_and(|answered| job.is_beyond_bound(answered))
}

/// Of whose answers the contract speaks.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD) || method.as_str() == "QUERY"
}

/// R5c: on strong routes dates prove nothing.
fn undated(headers: &mut HeaderMap) {
    headers.remove(IF_MODIFIED_SINCE);
    if headers.get(IF_RANGE).is_some_and(|v| !v.as_bytes().starts_with(b"\"")) {
        headers.remove(IF_RANGE);
    }
}

/// R12b: an answer that differs from what is stored takes every variant out of service before it is passed on.
fn compare(core: &Core, job: &Job, answer: &http::response::Parts) {
    let found = miss::look(core, job, core.now());
    let read = miss::read_now(core, job, found.disturbed);
    let newest = lookup::newest(&read, &found.variants, &job.policy).and_then(|index| found.variants.get(index));
    if newest.is_some_and(|old| validate::differs(&old.meta(), answer.status, &answer.headers)) {
        core.shared.store.differs(job.resource, None);
    }
}

/// A node's answer as its requester gets it. `why` it was not stored, where it could have been.
pub(super) fn answer(
    core: &Arc<Core>,
    job: &Job,
    answered: Answered,
    status: CacheStatus<'_>,
    why: Option<NotStored>,
) -> Response<Body> {
    let Answered {
        mut parts,
        body,
        sent,
        received,
        node,
        lag,
        ..
    } = answered;
    headers::from_node_streamed(&mut parts.headers);
    if job.policy.is_strong() && matches!(job.parts.method, Method::GET | Method::HEAD) {
        compare(core, job, &parts);
    }
    let stall = job.connection.peer.listener.body_timeout;
    let no_body = job.parts.method == Method::HEAD || hit::has_no_body(parts.status);
    let reads = is_read(&job.parts.method);
    let consistency = match &job.policy.contract {
        _ if reads && job.is_raised() => Consistency::Validated,
        Contract::Eventual(..) if reads => {
            let age = crate::core::http::freshness::age_field(&parts.headers);
            let valid = crate::core::consistency::bound::valid_as_of(sent, age, lag).unwrap_or_default();
            Consistency::Bounded(job.start.since(valid))
        }
        Contract::Strong(..) if reads => Consistency::Validated,
        Contract::Off | Contract::Weak(_) | Contract::Eventual(..) | Contract::Strong(..) => Consistency::Silent,
    };
    // RFC 9111 s5.1: an answer that was not generated here for this request carries its Age; a fresh one is zero seconds old.
    let age = job.policy.caching().map(|_| {
        crate::core::http::freshness::age_field(&parts.headers)
            .unwrap_or_default()
            .plus(core.recently().since(received))
    });
    let version = parts.version;
    let code = parts.status;
    let etag = job.visit.as_ref().and_then(|_| etag::of(&parts.headers)); // for its session
    let mut response = Response::from_parts(parts, Body::node(body, stall));
    if no_body {
        response = response.map(|_| Body::empty());
    }
    if let Handling::Forwarded { reason, .. } = status.handling {
        response.body_mut().trace = Trace::forwarded(reason, why.map(NotStored::word), node);
    }
    response.extensions_mut().clear();
    let status = CacheStatus {
        key: Some(&job.key),
        detail: status.detail.or(why.map(NotStored::word)),
        ..status
    };
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
    if reads {
        session::onto_job(core, job, &mut response, |_| {
            Some(Seen::of(code, etag.as_ref(), received))
        });
    }
    response
}
