//! What a shared fetch tells those who wait for it, and how its answer is put into one reader's shape.

use super::body::{Body, Trace};
use super::error::Fault;
use super::headers::{self, Consistency, Hit, Told};
use super::request::Job;
use super::session::{self, Seen};
use super::{Core, hit, outbound};
use crate::core::http::cache_status::{CacheStatus, Handling};
use crate::core::http::fields::Fields;
use crate::core::http::range::Cut;
use crate::core::http::stored::{Facts, Stored};
use crate::core::policy::Contract;
use crate::core::reason::{FetchReason, NotStored, Outcome};
use crate::core::time::MonoTime;
use crate::store::EntryRef;
use crate::store::entry::SharedHead;
use crate::store::fill::{Fill, FillReader};
use http::{Response, StatusCode};
use std::sync::Arc;

/// How a fetch ended, for all who share it.
#[derive(Clone, Debug)]
pub(super) enum Landed {
    /// An answer that may be shared is arriving.
    Arriving(Arc<Arriving>),
    /// A 304 of this node confirmed what is stored.
    Confirmed(EntryRef, usize),
    /// When the fetch was about to begin, the store had it.
    Found(EntryRef),
    /// The answer is for its requester alone: everybody else fetches.
    Alone,
    /// No answer came.
    Failed(Fault),
    /// The origin answered 500, 502, 503 or 504: what is stored may stand in.
    ServerError,
}

/// A shared answer on its way.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) head: SharedHead,
    pub(super) fill: Arc<Fill>,
    /// From Content-Length.
    pub(super) length: Option<u64>,
    /// As far as is known at the head, it will be stored.
    pub(super) stored: bool,
    /// Whose answer it is.
    pub(super) node: usize,
}

/// How a reader came to a shared answer.
#[derive(Copy, Clone, Debug)]
pub(super) struct Way {
    pub(super) reason: FetchReason,
    pub(super) collapsed: bool,
}

impl Way {
    pub(super) fn forwarded(self, status: Option<StatusCode>, stored: bool) -> CacheStatus<'static> {
        let Self { reason, collapsed } = self;
        CacheStatus {
            handling: Handling::Forwarded {
                reason,
                status,
                stored,
                collapsed,
            },
            ttl: None,
            key: None,
            detail: None,
        }
    }
}

/// The answer to one reader of a shared answer.
pub(super) fn from_arriving(
    core: &Core,
    job: &Job,
    now: MonoTime,
    arriving: &Arriving,
    reader: FillReader,
    way: Way,
) -> Response<Body> {
    let meta = &arriving.head.meta;
    let length = arriving.length;
    let mut reader = Some(reader);
    let body = |cut: Option<Cut>| match (reader.take(), cut) {
        (Some(reader), None) => Body::fill(reader, length),
        (Some(reader), Some(cut)) => Body::fill_part(reader, cut.start, cut.size()),
        (None, _) => Body::empty(),
    };
    let (method, headers) = (job.read_as(), &job.parts.headers);
    let mut response = hit::shaped(
        method,
        headers,
        meta,
        &arriving.head.headers,
        length,
        job.policy.is_strong(),
        body,
    );
    let why = (!arriving.stored).then_some(NotStored::TokenDead.word());
    response.body_mut().trace = Trace::forwarded(way.reason, why, arriving.node);
    // RFC 9211 s2.4: the node sent the whole, this reader gets a part of it, or word that it has it.
    let status = (response.status() != meta.status).then_some(meta.status);
    let status = CacheStatus {
        detail: why,
        ..way.forwarded(status, arriving.stored && !way.collapsed)
    };
    let told = told(job, now, &meta.facts(), status);
    headers::finish(&mut response, &job.connection, &job.route, &job.policy, &told);
    session::onto_job(core, job, &mut response, |_| Some(Seen::fetched(meta)));
    response
}

/// The answer to one reader from an entry that a 304 has just confirmed.
pub(super) fn from_confirmed(
    core: &Core,
    job: &Job,
    now: MonoTime,
    entry: &EntryRef,
    node: usize,
    way: Way,
) -> Response<Body> {
    let told = told(
        job,
        now,
        &entry.facts(),
        way.forwarded(Some(StatusCode::NOT_MODIFIED), false),
    );
    let (connection, policy) = (&*job.connection, &job.policy);
    let ready = if asks_for_all(job, entry) {
        // What every answer of a strong route says beside its fields is the same, whoever proved it.
        let gained = Hit {
            connection,
            policy,
            told,
        };
        entry.ready_headers(|fields| headers::prepare(fields, policy, false), &gained)
    } else {
        None
    };
    let mut response = if let Some(ready) = ready {
        let mut response = hit::whole(job.read_as(), entry, ready);
        outbound::set(response.headers_mut(), &job.route.set_response_headers);
        response
    } else {
        let mut response = hit::answer(job.read_as(), &job.parts.headers, entry, policy.is_strong());
        headers::finish(&mut response, connection, &job.route, policy, &told);
        response
    };
    response.body_mut().trace = Trace::forwarded(way.reason, None, node);
    session::onto_job(core, job, &mut response, |_| Some(Seen::fetched(entry)));
    response
}

/// On a strong route, as hits do: no condition, no range, and nothing that is a part.
fn asks_for_all(job: &Job, entry: &EntryRef) -> bool {
    let asked = || Fields::of(&job.parts.headers);
    job.policy.is_strong() && entry.facts().part.is_none() && !asked().any(Fields::CONDITION | Fields::RANGE)
}

/// Why a reader gets what the store has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// It is good enough.
    Hit,
    /// In place of an answer that did not come (R42).
    StandIn {
        /// Past the contract, by the owner's choice.
        breached: bool,
    },
}

/// The answer to one reader from what the store has, at `now`.
pub(super) fn from_stored(core: &Core, job: &Job, now: MonoTime, entry: &EntryRef, from: From) -> Response<Body> {
    let mut response = hit::answer(job.read_as(), &job.parts.headers, entry, job.policy.is_strong());
    let facts = entry.facts();
    let status = CacheStatus {
        handling: Handling::Hit,
        ttl: entry.ttl_seconds(now),
        key: Some(&job.key),
        detail: match from {
            From::Hit => None,
            From::StandIn { .. } => Some("stand-in"),
        },
    };
    let consistency = match &job.policy.contract {
        Contract::Eventual(..) if from == (From::StandIn { breached: true }) => {
            Consistency::Breached(facts.staleness(now))
        }
        Contract::Eventual(..) => Consistency::Bounded(facts.staleness(now)),
        Contract::Strong(..) => Consistency::Exclusive,
        Contract::Off | Contract::Weak(_) => Consistency::Silent,
    };
    let told = Told {
        status,
        age: Some(facts.current_age(now)),
        consistency,
        version: http::Version::HTTP_11,
    };
    headers::finish(&mut response, &job.connection, &job.route, &job.policy, &told);
    session::onto_job(core, job, &mut response, |visit| Seen::stored(entry, visit));
    response
}

/// What is said of an answer that a node has just given or confirmed.
fn told<'a>(job: &'a Job, now: MonoTime, facts: &Facts, status: CacheStatus<'a>) -> Told<'a> {
    let consistency = match &job.policy.contract {
        _ if job.is_raised() => Consistency::Validated,
        Contract::Off | Contract::Weak(_) => Consistency::Silent,
        // As of the request's beginning: an answer that was current at some instant since is not stale at all.
        Contract::Eventual(..) => Consistency::Bounded(facts.staleness(job.start)),
        Contract::Strong(..) => Consistency::Validated,
    };
    Told {
        status: CacheStatus {
            key: Some(&job.key),
            ..status
        },
        age: Some(facts.current_age(now)),
        consistency,
        version: http::Version::HTTP_11,
    }
}

/// The outcome label of a fetched answer.
pub(super) fn outcome(landed: &Landed, collapsed: bool) -> Outcome {
    match landed {
        _ if collapsed => Outcome::Collapsed,
        Landed::Confirmed(..) => Outcome::Revalidated,
        Landed::Found(_) => Outcome::Hit,
        Landed::Arriving(_) | Landed::Alone | Landed::ServerError => Outcome::Miss,
        Landed::Failed(_) => Outcome::Refused,
    }
}
