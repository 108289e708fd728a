//! The one branching function on the path. A request is refused, answered by its route alone, served from the store on the spot, or
//! handed to the child that reads, passes or writes.

use super::begun::Ticket;
use super::body::{Body, BoxError, Upload, UploadWatch};
use super::error::Fault;
use super::headers::{self, Consistency, Told};
use super::miss::Looked;
use super::plan::{Course, Plan, Refused, Toward, admit, plan};
use super::request::{self, Admitted, Job};
use super::session::{self, Presented, Seen, Visit};
use super::{
    Answering, Asked, ConnectionInfo, Core, Current, InFlight, Waiting, hit, meter, miss, outbound, pass, purging,
    query, write,
};
use crate::config::runtime::{RedirectTo, Route};
use crate::core::http::cache_status::{self, CacheStatus};
use crate::core::http::fields::Fields;
use crate::core::http::stored::{Facts, Stored as _, seconds_left};
use crate::core::key::KeyBuffer;
use crate::core::lookup::Decision;
use crate::core::policy::{Contract, Policy};
use crate::core::reason::{FetchReason, Outcome};
use crate::core::time::{Age, MonoTime, Ttl};
use crate::store::{EntryRef, ResourceId};
use crate::upstream::OutBody;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, LOCATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

thread_local! {
    /// The key of the request at hand; borrowed only while it is made and looked up.
    static KEY: RefCell<KeyBuffer> = RefCell::new(KeyBuffer::new());
}

/// Answers a request.
pub(super) fn handle<B>(current: &mut Current, connection: &Arc<ConnectionInfo>, request: Request<B>) -> Answering
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut core = current.load();
    let start = core.now();
    let (mut parts, body) = request.into_parts();
    if core.shared.sessions.is_some() {
        Presented::take(&mut parts); // R17
    }
    let step = match admit(&mut parts, connection) {
        Ok(Admitted::Request(fields)) => loop {
            let mut step = answer_now(core, connection, (&parts, fields), body.is_end_stream(), start);
            if let Ok(Step::Go(go)) = &mut step
                && matches!(go.next, Next::Write)
            {
                go.ticket = core.shared.begun.enter();
                if go.ticket.is_none() {
                    core = current.load(); // R31: a reload has come before it began
                    continue;
                }
            }
            break step;
        },
        Ok(Admitted::Purge) => return purging::answer(core, connection, &parts, start),
        Err(fault) => Err((None, fault)),
    };
    let request_id = OnceLock::new();
    let asked = Asked {
        connection,
        parts: &parts,
        start,
        request_id: &request_id,
    };
    match step {
        Ok(Step::Ready(route, outcome, response)) => {
            Answering::Ready(Some(core.account(asked, route, outcome, response)))
        }
        Ok(Step::Go(go)) => launch(core, connection, parts, body, *go),
        Err((route, fault)) => {
            let mut response = fault.response();
            headers::stamp(response.headers_mut(), connection, refused_status(route));
            Answering::Ready(Some(core.account(asked, route, Outcome::Refused, response)))
        }
    }
}

/// What a first, synchronous look at a request leads to. The large variant is the frequent one.
#[allow(clippy::large_enum_variant)]
enum Step {
    Ready(Option<usize>, Outcome, Response<Body>),
    Go(Box<Go>),
}

/// Everything known of a request that has to wait.
struct Go {
    route: Arc<Route>,
    policy: Arc<Policy>,
    guard: Option<Arc<InFlight>>,
    https: bool,
    target: Uri,
    authority: Arc<str>,
    path: Option<Box<str>>,
    resource: ResourceId,
    digest: u128,
    key: Arc<[u8]>,
    start: MonoTime,
    visit: Option<Box<Visit>>,
    ticket: Option<Arc<Ticket>>,
    next: Next,
}

/// Which child takes it.
enum Next {
    Read(Option<Looked>),
    /// A hit that is served now, and refreshed behind the client's back.
    Refresh(Box<Response<Body>>),
    /// A hit that is served now, and asked about behind the client's back.
    Measure(Box<Response<Body>>, EntryRef),
    Pass(FetchReason),
    Query,
    Write,
}

fn answer_now(
    core: &Arc<Core>,
    connection: &ConnectionInfo,
    (parts, fields): (&Parts, Fields),
    no_body: bool,
    start: MonoTime,
) -> Result<Step, Refused> {
    let path = request::path(&parts.uri);
    KEY.with_borrow_mut(|buffer| {
        let plan = plan(&core.shared, connection, (parts, fields, &path, no_body), start, buffer)?;
        act(core, connection, (parts, fields), start, plan, buffer)
    })
}

fn act(
    core: &Arc<Core>,
    connection: &ConnectionInfo,
    (parts, fields): (&Parts, Fields),
    start: MonoTime,
    plan: Plan<'_>,
    buffer: &KeyBuffer,
) -> Result<Step, Refused> {
    let (shared, route, authority) = (&core.shared, plan.route, plan.authority);
    let go = |next, toward: Toward<'_>, key: Arc<[u8]>| {
        // Counted only where a request has to wait: what is in memory costs nobody anything.
        let guard = match (&next, route.max_in_flight) {
            (Next::Refresh(_) | Next::Measure(..), _) | (_, None) => None,
            (Next::Read(_) | Next::Pass(_) | Next::Query | Next::Write, Some(max)) => Some(Arc::new(
                InFlight::enter(shared, route.id, max).ok_or((Some(route.id), Fault::overloaded()))?,
            )),
        };
        let target = target(&toward.sent, &parts.uri).ok_or((Some(route.id), Fault::too_long()))?;
        Ok(Step::Go(Box::new(Go {
            route: Arc::clone(route),
            policy: Arc::clone(toward.policy),
            guard,
            https: toward.https,
            path: (target.path() != toward.sent).then(|| toward.sent.into()),
            target,
            authority: connection.client.host(authority),
            resource: toward.resource,
            digest: toward.digest,
            key,
            start,
            visit: toward.visit,
            ticket: None,
            next,
        })))
    };
    let (toward, found, decision) = match plan.course {
        Course::Redirect(to, status) => return Ok(own(connection, route, redirect(to, status, parts, authority))),
        Course::Respond(status, body) => return Ok(own(connection, route, respond(status, body, &parts.method))),
        Course::Write(toward) => return go(Next::Write, toward, Arc::default()),
        Course::Pass(toward, reason) => {
            let key = if toward.policy.is_strong() {
                Arc::from(buffer.text())
            } else {
                Arc::default()
            };
            return go(Next::Pass(reason), toward, key);
        }
        Course::Query(toward) => return go(Next::Query, toward, Arc::from(buffer.text())),
        Course::Read(toward, found, decision, _) => (toward, found, decision),
    };
    match decision {
        Decision::Serve { index, age } | Decision::ServeAndRefresh { index, age } => {
            let Some(entry) = found.variants.get(index).filter(|e| e.is_in_service()) else {
                // R23: taken out of service since the look; whoever did it has not been answered yet.
                return go(Next::Read(None), toward, Arc::from(buffer.text()));
            };
            let policy = toward.policy;
            shared.store.touched(entry);
            shared.metrics.served_age(route.id, age);
            let asked = (parts, fields, buffer.text());
            let facts = entry.facts();
            let lifetime = entry.lifetime_by(&facts);
            let mut response = stored(
                connection,
                route,
                policy,
                asked,
                (entry, &facts),
                (age, lifetime),
                start,
            );
            if let Some(visit) = &toward.visit {
                let name = session::name(
                    &shared.config,
                    toward.resource.upstream,
                    &toward.sent,
                    parts.uri.query(),
                );
                let seen = Seen::stored(entry, visit);
                session::onto_read(shared, visit, name, &mut response, seen);
            }
            if matches!(decision, Decision::ServeAndRefresh { .. }) {
                return go(Next::Refresh(Box::new(response)), toward, Arc::from(buffer.text()));
            }
            let outcome = if policy.is_strong() || age < lifetime {
                Outcome::Hit
            } else {
                Outcome::Stale
            };
            if outcome == Outcome::Hit
                && let Some(meter) = &shared.meter
                && meter.draws(&core.chance, parts, start)
            {
                let next = Next::Measure(Box::new(response), EntryRef::clone(entry));
                return go(next, toward, Arc::from(buffer.text()));
            }
            Ok(Step::Ready(Some(route.id), outcome, response))
        }
        Decision::Refuse(refusal) => Err((Some(route.id), Fault::of_refusal(refusal))),
        Decision::Revalidate { .. } | Decision::Fetch(_) => {
            let looked = Looked { found, decision };
            go(Next::Read(Some(looked)), toward, Arc::from(buffer.text()))
        }
    }
}

/// The answer of a route that asks no node.
fn own(connection: &ConnectionInfo, route: &Route, mut response: Response<Body>) -> Step {
    outbound::set(response.headers_mut(), &route.set_response_headers);
    headers::stamp(response.headers_mut(), connection, refused_status(None));
    Step::Ready(Some(route.id), Outcome::Pass, response)
}

/// Origin-form, as the node gets it; none when it is longer than a request target can be.
fn target(path: &str, asked: &Uri) -> Option<Uri> {
    if let Some(same) = asked.path_and_query().filter(|asked| asked.path() == path) {
        return Some(Uri::from(same.clone())); // nothing is copied
    }
    let target = match asked.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    target.ok().map(Uri::from)
}

/// A stored answer, as it leaves: a hit, fresh or stale.
fn stored(
    connection: &ConnectionInfo,
    route: &Route,
    policy: &Policy,
    (parts, fields, key): (&Parts, Fields, &[u8]),
    (entry, facts): (&EntryRef, &Facts),
    (age, lifetime): (Age, Ttl),
    now: MonoTime,
) -> Response<Body> {
    let status = CacheStatus {
        handling: cache_status::Handling::Hit,
        ttl: seconds_left(age, lifetime),
        key: connection.debug.then_some(key),
        detail: None,
    };
    let consistency = match &policy.contract {
        Contract::Eventual(..) => Consistency::Bounded(facts.staleness(now)),
        Contract::Strong(..) => Consistency::Exclusive,
        Contract::Off | Contract::Weak(_) => Consistency::Silent,
    };
    let told = Told {
        status,
        age: Some(age),
        consistency,
        version: Version::HTTP_11,
    };
    if fields.any(Fields::CONDITION | Fields::RANGE) || facts.part.is_some() {
        let mut response = hit::answer(&parts.method, &parts.headers, entry, policy.is_strong());
        headers::finish(&mut response, connection, route, policy, &told);
        return response;
    }
    let is_silent = consistency == Consistency::Silent;
    let gained = headers::Hit {
        connection,
        policy,
        told,
    };
    if let Some(ready) = entry.ready_headers(|fields| headers::prepare(fields, policy, is_silent), &gained) {
        let mut response = hit::whole(&parts.method, entry, ready);
        outbound::set(response.headers_mut(), &route.set_response_headers);
        return response;
    }
    let mut response = hit::whole(&parts.method, entry, entry.headers());
    headers::finish(&mut response, connection, route, policy, &gained.told);
    response
}

fn launch<B>(core: &Arc<Core>, connection: &Arc<ConnectionInfo>, mut parts: Parts, body: B, go: Go) -> Answering
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Go {
        route,
        policy,
        guard,
        https,
        target,
        authority,
        path,
        resource,
        digest,
        key,
        start,
        visit,
        ticket,
        next,
    } = go;
    let deadline = request::deadline(start, &route);
    if matches!(next, Next::Refresh(_)) {
        parts.method = Method::GET; // HEAD is served from it, but refreshes nothing
    }
    let connection = Arc::clone(connection);
    // A refresh and a measure are nobody's request any more.
    let is_awaited = !matches!(next, Next::Refresh(_) | Next::Measure(..));
    let interim = connection.peer.interim.as_ref().filter(|_| is_awaited);
    let interim = interim.and_then(|interim| interim.turn_of(parts.version));
    let (max, stall) = (connection.peer.listener.max_body, connection.peer.listener.body_timeout);
    let request_id = match next {
        Next::Pass(_) => outbound::request_id(&parts, &*core.shared.world.entropy),
        Next::Read(_) | Next::Refresh(_) | Next::Measure(..) | Next::Query | Next::Write => OnceLock::new(),
    };
    let job = Job {
        connection,
        route,
        policy,
        parts,
        https,
        target,
        authority,
        path,
        resource,
        digest,
        key,
        content: Bytes::new(),
        start,
        deadline,
        request_id,
        visit,
        ticket,
        interim,
        _in_flight: guard.clone(),
    };
    let (core, job) = (Arc::clone(core), Arc::new(job));
    match next {
        Next::Read(looked) => {
            let waiting = Waiting::new(&core, &job);
            Answering::Pending(miss::read_as_asked(core, job, looked, |response| {
                waiting.answered();
                guarded(guard, response)
            }))
        }
        Next::Refresh(response) => {
            miss::refresh(&core, &job);
            let response = core.account(job.asked(), Some(job.route.id), Outcome::Stale, *response);
            Answering::Ready(Some(guarded(guard, response)))
        }
        Next::Measure(response, entry) => {
            meter::ask_about(&core, &job, entry);
            let response = core.account(job.asked(), Some(job.route.id), Outcome::Hit, *response);
            Answering::Ready(Some(response))
        }
        Next::Pass(reason) => {
            let upload = upload(body, max, stall);
            let waiting = Waiting::new(&core, &job);
            Answering::Pending(pass::run(core, job, upload, reason, |response| {
                waiting.answered();
                guarded(guard, response)
            }))
        }
        Next::Query => {
            let (body, watch) = upload(body, max, stall);
            let waiting = Waiting::new(&core, &job);
            Answering::Pending(Box::pin(async move {
                let response = query::run(core, job, body, watch).await;
                waiting.answered();
                guarded(guard, response)
            }))
        }
        Next::Write => {
            let (body, watch) = upload(body, max, stall);
            let waiting = Waiting::new(&core, &job);
            Answering::Pending(Box::pin(async move {
                let response = write::run(core, job, body, watch).await;
                waiting.answered();
                guarded(guard, response)
            }))
        }
    }
}

/// The client's body, bounded; nothing when there is none.
fn upload<B>(body: B, max: u64, stall: std::time::Duration) -> (OutBody, UploadWatch)
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if body.is_end_stream() {
        return (OutBody::Empty, UploadWatch::default());
    }
    let (body, watch) = Upload::new(body, max, stall);
    (OutBody::stream(body), watch)
}

/// Counts the request as in flight until nothing of its body is to come any more: what is in hand costs nobody anything.
fn guarded(guard: Option<Arc<InFlight>>, response: Response<Body>) -> Response<Body> {
    match guard.filter(|_| !response.body().is_ready()) {
        None => response,
        Some(guard) => response.map(|body| body.at_end(move |_| drop(guard))),
    }
}

/// The client is sent elsewhere.
fn redirect(to: &RedirectTo, status: StatusCode, parts: &Parts, authority: &str) -> Response<Body> {
    let location = match to {
        RedirectTo::Location(location) => Some(location.clone()),
        RedirectTo::Https => {
            let target = parts.uri.path_and_query().map_or("/", |t| t.as_str());
            HeaderValue::from_str(&format!("https://{}{target}", request::host_name(authority))).ok()
        }
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// An answer written in the configuration.
fn respond(status: StatusCode, body: &Bytes, method: &Method) -> Response<Body> {
    let mut response = Response::new(if hit::has_no_body(status) {
        Body::empty()
    } else {
        Body::whole(body.clone())
    });
    if *method == Method::HEAD {
        response = Response::new(Body::empty());
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    *response.status_mut() = status;
    response
}

/// What Cache-Status says of an answer made here: nothing was forwarded and nothing was stored.
fn refused_status(route: Option<usize>) -> CacheStatus<'static> {
    let detail = if route.is_some() { "refused" } else { "not-proxied" };
    CacheStatus::generated(detail)
}
