//! A read that the store could not answer on the spot: join a fetch or lead one, and shape what comes into this reader's answer.
//! The fetch itself ([`super::lead`]) runs detached: a reader that leaves fails nobody (R21).

use super::error::Fault;
use super::flights::{self, From, Landed, Way};
use super::headers;
use super::lead::{self, Led};
use super::parts;
use super::pass;
use super::request::Job;
use super::session::Visit;
use super::underway;
use super::{Body, Core, head, hit};
use crate::core::http::{validate, vary};
use crate::core::lookup::{self, Decision, Failure, Fallback, Read, Rigor};
use crate::core::policy::Contract;
use crate::core::reason::{FetchReason, NotStored, Outcome};
use crate::core::time::MonoTime;
use crate::store::fill::FillReader;
use crate::store::flight::{Boarding, Wish};
use crate::store::{EntryRef, Found, Token};
use crate::upstream::Answered;
use crate::world::BoxFuture;
use http::header::{RANGE, SET_COOKIE};
use http::{HeaderValue, Method, Response, StatusCode};
use std::future::Future;
use std::sync::Arc;

mod fetching;

use fetching::fetch;

/// How often a reader joins a fetch whose answer turns out not to be for it, before it fetches alone.
const ROUNDS: usize = 3;

/// A look at what is stored, and what the core made of it.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) found: Found,
    pub(super) decision: Decision,
}

/// [`read`], with a last touch, in one: what awaits another future is larger than that.
pub(super) fn read_as_asked(
    core: Arc<Core>,
    job: Arc<Job>,
    looked: Option<Looked>,
    last: impl FnOnce(Response<Body>) -> Response<Body> + Send + 'static,
) -> BoxFuture<'static, Response<Body>> {
    Box::pin(async move {
        if job.parts.method == Method::HEAD {
            return last(Box::pin(head::run(core, job)).await);
        }
        let shared = share(&core, &job, looked).await;
        last(told(&core, &job, shared))
    })
}

/// Answers a read; `looked` is what is known of it already.
pub(super) async fn read(core: Arc<Core>, job: Arc<Job>, looked: Option<Looked>) -> Response<Body> {
    if job.parts.method == Method::HEAD {
        return Box::pin(head::run(core, job)).await;
    }
    let shared = share(&core, &job, looked).await;
    told(&core, &job, shared)
}

/// What came of it, and its account.
fn told(core: &Arc<Core>, job: &Arc<Job>, shared: Result<(Response<Body>, Outcome), TooLate>) -> Response<Body> {
    let (response, outcome) = shared.unwrap_or_else(|TooLate| failed(core, job, Fault::timed_out()));
    let now = match outcome {
        Outcome::Revalidated => core.recently(), // its answer has just come
        _ => core.now(),
    };
    core.account_at(now, job.asked(), Some(job.route.id), outcome, response)
}

/// The reader's deadline has come.
struct TooLate;

/// Waits no longer than the reader may.
async fn in_time<T>(core: &Core, job: &Job, work: impl Future<Output = T>) -> Result<T, TooLate> {
    tokio::time::timeout(job.left(core.now()), work)
        .await
        .map_err(|_elapsed| TooLate)
}

/// Refreshes a stored answer in the background, unless somebody is at it (RFC 5861 s3).
pub(super) fn refresh(core: &Arc<Core>, job: &Arc<Job>) {
    let now = core.now();
    let found = look(core, job, now);
    let wish = Wish {
        unsent_only: false,
        within: None,
        max_waiters: usize::MAX,
    };
    let (boarding, token) = board(core, job, now, &found, wish);
    if let (Boarding::Lead(leader, _), Some(token)) = (boarding, token) {
        let (tell, _) = underway::word();
        core.shared.detached.spawn(lead::run(
            Arc::clone(core),
            Arc::clone(job),
            lead::Role::Refresh(leader),
            token,
            tell,
            None,
        ));
    }
}

/// What the store has for a job.
pub(super) fn look(core: &Core, job: &Job, now: MonoTime) -> Found {
    let mut found = core.shared.store.lookup(now, job.resource, job.digest, &job.key);
    found.variants.retain(|entry| entry.is_in_service()); // by a tag, which has not come round to unlist it yet (R12a)
    found
}

/// The job as the core sees it, for what stands in the request alone.
pub(super) fn as_read(job: &Job, disturbed: bool) -> Read<'_> {
    let demand = job.visit.as_deref().map(Visit::demand);
    Read::of(job.read_as(), &job.parts.headers, &job.policy, disturbed).of_session(demand)
}

/// The same in the epoch of its upstream, for what is stored (R53).
pub(super) fn read_now<'a>(core: &Core, job: &'a Job, disturbed: bool) -> Read<'a> {
    as_read(job, disturbed).in_reign(core.shared.upstreams.reign(job.resource.upstream))
}

async fn share(
    core: &Arc<Core>,
    job: &Arc<Job>,
    mut looked: Option<Looked>,
) -> Result<(Response<Body>, Outcome), TooLate> {
    let mut alone = job.policy.caching().is_none_or(|c| !c.collapse);
    for round in 1.. {
        alone |= round > ROUNDS;
        let now = match looked {
            Some(_) => core.begins(job), // when that was looked up
            None => core.now(),
        };
        let Looked { found, decision } = looked.take().unwrap_or_else(|| look_and_decide(core, job, now));
        let reason = match decision {
            Decision::Serve { index, .. } | Decision::ServeAndRefresh { index, .. } => {
                match found.variants.get(index) {
                    Some(entry) => return Ok((flights::from_stored(core, job, now, entry, From::Hit), Outcome::Hit)),
                    None => FetchReason::UriMiss,
                }
            }
            Decision::Refuse(refusal) => return Ok(refuse(job, Fault::of_refusal(refusal))),
            Decision::Revalidate { reason, .. } | Decision::Fetch(reason) => reason,
        };
        // In validate gear nothing stored is served unasked, whatever comes until the fetch begins: one look is enough.
        let looked_once = job.policy.is_strong() && !job.policy.is_exclusive();
        if let Some(range) = parts::piece(core, job, now, &found) {
            let collapsed = false;
            return in_time(core, job, Box::pin(piece(core, job, range, Way { reason, collapsed }))).await;
        }
        let (boarding, token) = if alone {
            (Boarding::Alone, None)
        } else {
            board(core, job, now, &found, wish(core, job, now, found.disturbed, reason))
        };
        let seen = looked_once.then_some(Looked { found, decision });
        let (led, collapsed) = match boarding {
            Boarding::Follow(mut flight) => {
                let told = in_time(core, job, flight.outcome()).await?;
                let told = told.and_then(|outcome| outcome.downcast::<Landed>().ok());
                let landed = told.map_or(Landed::Alone, |landed| Landed::clone(&landed));
                (Led::Landed(landed, None), true)
            }
            Boarding::Lead(leader, after) => {
                let token = token.unwrap_or_else(|| register(core, job, now));
                let role = lead::Role::Leader(leader, after);
                (fetch(core, job, role, token, seen).await?, false)
            }
            Boarding::Alone => (
                fetch(core, job, lead::Role::Alone, register(core, job, now), seen).await?,
                false,
            ),
        };
        // Not to be shared: whoever waited fetches now, beside the others and not behind them.
        let released = matches!(led, Led::Landed(Landed::Alone, _));
        let shaped = match shape(core, job, led, Way { reason, collapsed }) {
            Shaped::Now(shaped) => shaped,
            Shaped::Later(answer) => Some(answer.await?),
        };
        match shaped {
            Some(answer) => return Ok(answer),
            None => alone |= released || !collapsed || round > 1,
        }
    }
    Err(TooLate) // the loop above only ends by returning
}

pub(super) fn look_and_decide(core: &Core, job: &Job, now: MonoTime) -> Looked {
    let found = look(core, job, now);
    let decision = lookup::decide(now, &read_now(core, job, found.disturbed), &found.variants, &job.policy);
    Looked { found, decision }
}

fn register(core: &Core, job: &Job, now: MonoTime) -> Token {
    let store = &core.shared.store;
    let can_prove = !job.policy.is_strong() || store.is_exclusive(now, job.resource.upstream, &job.policy);
    store.register(now, job.resource, can_prove) // R2
}

fn board(core: &Arc<Core>, job: &Job, now: MonoTime, found: &Found, wish: Wish) -> (Boarding, Option<Token>) {
    let mut token = None;
    let key = flight_key(core, job, found);
    let boarding = core.shared.store.flights().board(now, key, wish, || {
        let made = register(core, job, now);
        let watch = made.watch();
        token = Some(made);
        watch
    });
    (boarding, token)
}

/// What kind of flight this read may join.
fn wish(core: &Core, job: &Job, now: MonoTime, disturbed: bool, reason: FetchReason) -> Wish {
    let policy = &job.policy;
    let max_waiters = policy.caching().map_or(0, |c| c.max_waiters);
    if policy.is_strong() && !policy.is_exclusive() {
        return Wish {
            unsent_only: true, // R8: whatever else is to be said of it
            within: None,
            max_waiters,
        };
    }
    let read = read_now(core, job, disturbed);
    // R14: credentials use validate gear, unless they may share.
    let gated = core.shared.store.is_exclusive(now, job.resource.upstream, policy)
        && (!read.identified || policy.caching().is_some_and(|c| c.shared_auth));
    let within = match &policy.contract {
        Contract::Eventual(_, bounded) => Some(bounded.max_staleness), // R42
        Contract::Off | Contract::Weak(_) | Contract::Strong(..) => None,
    };
    Wish {
        // R8, R47: validated reads, and all reads while a write is pending or unsettled.
        unsent_only: (policy.is_strong() && !gated)
            || read.unsettled
            || read.rigor(policy).asks_primary()
            || read.directives.no_cache
            || reason == FetchReason::Request,
        within,
        max_waiters,
    }
}

/// One flight per cache key and per values of the fields the resource is known to vary on, so that readers of two variants do not
/// wait for each other; and per rigor, since who leads decides which node is asked and how (R47).
fn flight_key(core: &Core, job: &Job, found: &Found) -> u128 {
    let names = found.variants.first().and_then(|e| e.vary().names());
    let rigor = job.rigor();
    if names.is_none() && rigor == Rigor::Usual {
        return job.digest;
    }
    let mut text = job.digest.to_le_bytes().to_vec();
    text.push(rigor as u8);
    for name in names.into_iter().flatten() {
        text.push(0);
        if let Some(value) = vary::normal(&job.parts.headers, name) {
            text.push(1);
            text.extend_from_slice(&value);
        }
    }
    core.shared.secret.digest(&text).0
}

/// One reader's answer from what a fetch brought; none when it is not for this reader, who has to fetch alone.
fn shape<'a>(core: &'a Arc<Core>, job: &'a Arc<Job>, led: Led, way: Way) -> Shaped<'a> {
    match led {
        Led::Landed(landed, reader) => Shaped::Now(landed_on(core, job, landed, reader, way)),
        Led::Confirmed(entry, node, cookies) => {
            let now = core.recently(); // when the answer was in
            let mut response = flights::from_confirmed(core, job, now, &entry, node, way);
            for cookie in cookies {
                response.headers_mut().append(SET_COOKIE, cookie);
            }
            Shaped::Now(Some((response, Outcome::Revalidated)))
        }
        Led::Pass(answered, why) => Shaped::Later(Box::pin(in_time(core, job, passed(core, job, *answered, why, way)))),
    }
}

/// An answer at once, or an answer for its requester alone, which may have to be asked for once more.
enum Shaped<'a> {
    Now(Option<(Response<Body>, Outcome)>),
    Later(BoxFuture<'a, Result<(Response<Body>, Outcome), TooLate>>),
}

impl Shaped<'_> {
    async fn answer(self) -> Result<Option<(Response<Body>, Outcome)>, TooLate> {
        match self {
            Self::Now(answer) => Ok(answer),
            Self::Later(answer) => answer.await.map(Some),
        }
    }
}

fn landed_on(
    core: &Core,
    job: &Job,
    landed: Landed,
    reader: Option<FillReader>,
    way: Way,
) -> Option<(Response<Body>, Outcome)> {
    let now = core.now();
    let outcome = flights::outcome(&landed, way.collapsed);
    match landed {
        Landed::Arriving(arriving) => {
            let reader: FillReader = match reader {
                Some(reader) => reader,
                // R14, RFC 9111 s4.1: a follower that may not have the head's answer leaves.
                None if !lookup::may_use(&read_now(core, job, false), &arriving.head.meta, &job.policy) => return None,
                None => arriving.fill.reader()?,
            };
            Some((flights::from_arriving(core, job, now, &arriving, reader, way), outcome))
        }
        Landed::Confirmed(entry, node) => {
            if way.collapsed && !lookup::may_use(&read_now(core, job, false), &entry, &job.policy) {
                return None;
            }
            Some((flights::from_confirmed(core, job, now, &entry, node, way), outcome))
        }
        Landed::Found(_) if way.collapsed => None,
        Landed::Found(entry) => Some((flights::from_stored(core, job, now, &entry, From::Hit), outcome)),
        Landed::Alone => None,
        // The leader's time was up, not this reader's.
        Landed::Failed(fault) if way.collapsed && fault.is_timeout() => None,
        Landed::Failed(fault) => Some(failed(core, job, fault)),
        Landed::ServerError => stand_in(core, job, Failure::ServerError).and_then(Result::ok),
    }
}

/// An answer for its requester alone.
async fn passed(
    core: &Arc<Core>,
    job: &Arc<Job>,
    answered: Answered,
    why: NotStored,
    way: Way,
) -> (Response<Body>, Outcome) {
    if is_server_error(answered.parts.status)
        && let Some(Ok(stale)) = stand_in(core, job, Failure::ServerError)
    {
        return stale;
    }
    if why == NotStored::TooLarge && job.parts.headers.contains_key(RANGE) {
        // Too large to keep: the origin cuts the range itself.
        drop(answered);
        core.shared.store.flights().remember_too_large(core.now(), job.digest);
        if let Some(range) = parts::asked_piece(job) {
            return Box::pin(piece(core, job, range, way)).await;
        }
        return Box::pin(pass::fetch(core, job, job.content.clone().into(), None, way.reason)).await;
    }
    passed_on(core, job, answered, why, way)
}

/// A range of something too large to keep. What comes may be stored as a part.
async fn piece(core: &Arc<Core>, job: &Arc<Job>, range: HeaderValue, way: Way) -> (Response<Body>, Outcome) {
    let token = register(core, job, core.now());
    let late = || failed(core, job, Fault::timed_out());
    match fetch(core, job, lead::Role::Piece(range), token, None).await {
        Err(TooLate) => late(),
        Ok(Led::Pass(answered, why)) => {
            if is_server_error(answered.parts.status)
                && let Some(Ok(stale)) = stand_in(core, job, Failure::ServerError)
            {
                return stale;
            }
            core.shared.store.flights().remember_too_large(core.now(), job.digest);
            passed_on(core, job, *answered, why, way)
        }
        Ok(led) => match Box::pin(shape(core, job, led, way).answer()).await {
            Err(TooLate) => late(),
            Ok(Some(answer)) => answer,
            Ok(None) => Box::pin(pass::fetch(core, job, job.content.clone().into(), None, way.reason)).await,
        },
    }
}

fn passed_on(
    core: &Arc<Core>,
    job: &Arc<Job>,
    answered: Answered,
    why: NotStored,
    way: Way,
) -> (Response<Body>, Outcome) {
    // R5c: the flight carried no conditions; the requester's own are applied to what came.
    let (request, strong) = (&job.parts, job.policy.is_strong() || job.is_raised());
    let known = validate::has_it(
        job.read_as(),
        &request.headers,
        answered.parts.status,
        &answered.parts.headers,
        strong,
    );
    // RFC 9211 s2.4: what the node sent, where the client is told something else.
    let status = way.forwarded(known.then_some(answered.parts.status), false);
    let mut response = pass::answer(core, job, answered, status, Some(why));
    if known {
        let trace = response.body().trace;
        response = hit::to_not_modified(&response);
        response.body_mut().trace = trace;
    }
    (response, Outcome::Miss)
}

/// What a read gets when no answer came: something stale within the contract, or the fault.
fn failed(core: &Core, job: &Job, fault: Fault) -> (Response<Body>, Outcome) {
    match stand_in(core, job, Failure::Unreachable) {
        Some(Ok(stale)) => stale,
        Some(Err(refused)) => refuse(job, refused),
        None => refuse(job, fault),
    }
}

/// Something stored in place of an answer that did not come (R42); an error when the contract forbids it.
pub(super) fn stand_in(core: &Core, job: &Job, failure: Failure) -> Option<Result<(Response<Body>, Outcome), Fault>> {
    let now = core.now();
    let found = look(core, job, now);
    let read = read_now(core, job, found.disturbed);
    let entry: Option<&EntryRef> =
        lookup::newest(&read, &found.variants, &job.policy).and_then(|index| found.variants.get(index));
    match lookup::fallback(now, &read, entry, failure, &job.policy) {
        Fallback::Serve { breached, .. } => Some(Ok((
            flights::from_stored(core, job, now, entry?, From::StandIn { breached }),
            Outcome::Stale,
        ))),
        Fallback::Refuse(refusal) => Some(Err(Fault::of_refusal(refusal))),
        Fallback::PassOn => None,
    }
}

fn refuse(job: &Job, fault: Fault) -> (Response<Body>, Outcome) {
    headers::refuse(&job.connection, fault)
}

/// The statuses that say the origin is broken rather than what it has to say (RFC 5861 s4).
pub(super) fn is_server_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking_three<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    fn taking_six<A, B, C, D, E, G, F>(_: impl Fn(A, B, C, D, E, G) -> F) -> usize {
        size_of::<F>()
    }

    /// A thousand may wait for one fetch: what is rare on their way is boxed.
    #[test]
    fn who_waits_for_a_fetch_holds_little_and_who_fetches_not_much_more() {
        let (waits, fetches) = (taking_three(read), taking_six(lead::run));
        assert!(waits <= 1296, "{waits} bytes");
        assert!(fetches <= 2048, "{fetches} bytes");
    }
}
