//! HEAD that the store could not answer: forwarded as HEAD, and never a fill. On strong routes it is validated like a GET, and a 304
//! is answered with the stored head (R5).

use super::error::Fault;
use super::flights::{self, Way};
use super::headers;
use super::miss::{is_server_error, look, read_now, stand_in};
use super::request::Job;
use super::{Body, Core, mirror, outbound, pass};
use crate::core::http::validate::{self, Conditions};
use crate::core::lookup::{self, Decision, Failure};
use crate::core::reason::{FetchReason, Outcome};
use crate::upstream::{Call, OutBody};
use http::{Response, StatusCode};
use std::sync::Arc;

/// Answers a HEAD.
pub(super) async fn run(core: Arc<Core>, job: Arc<Job>) -> Response<Body> {
    let (response, outcome) = if job.policy.is_strong() {
        validated(&core, &job).await
    } else {
        let reason = reason(&core, &job).0;
        let (response, outcome) = pass::fetch(&core, &job, OutBody::Empty, None, reason).await;
        let failure = match outcome {
            Outcome::Refused => Some(Failure::Unreachable),
            _ => is_server_error(response.status()).then_some(Failure::ServerError),
        };
        match failure.and_then(|failure| stand_in(&core, &job, failure)) {
            Some(Ok(stale)) => stale,
            Some(Err(refused)) => headers::refuse(&job.connection, refused),
            None if outcome == Outcome::Pass => (response, Outcome::Miss),
            None => (response, outcome),
        }
    };
    core.account(job.asked(), Some(job.route.id), outcome, response)
}

/// Why it is forwarded, and what it can be validated against.
fn reason(core: &Core, job: &Job) -> (FetchReason, Option<crate::store::EntryRef>) {
    let now = core.now();
    let found = look(core, job, now);
    match lookup::decide(now, &read_now(core, job, found.disturbed), &found.variants, &job.policy) {
        Decision::Revalidate { index, reason } => (reason, found.variants.get(index).cloned()),
        Decision::Fetch(reason) => (reason, None),
        Decision::Serve { .. } | Decision::ServeAndRefresh { .. } | Decision::Refuse(_) => (FetchReason::UriMiss, None),
    }
}

async fn validated(core: &Arc<Core>, job: &Arc<Job>) -> (Response<Body>, Outcome) {
    let (reason, mut stored) = reason(core, job);
    let way = Way {
        reason,
        collapsed: false,
    };
    loop {
        let conditions = stored.as_ref().map_or(Conditions::none(true), |e| {
            validate::conditional_headers(&e.meta(), true)
        });
        let conditional = conditions.is_conditional();
        let mut parts = outbound::parts(job, &*core.shared.world.entropy);
        conditions.apply(&mut parts.headers);
        let call = Call {
            on_interim: job.on_interim(),
            ..Call::at_primary(job.resource.upstream, parts, job.deadline)
        };
        let mut answered = match mirror::ask(core, job, call).answered().await {
            Ok(answered) => answered,
            Err(e) => {
                return headers::refuse(&job.connection, Fault::of_call(&e, true, false, None));
            }
        };
        if answered.parts.status == StatusCode::NOT_MODIFIED {
            match stored.take() {
                Some(entry) if conditional => {
                    if answered.speaks_of(entry.facts().epoch)
                        && validate::confirms(&entry.meta(), &answered.parts.headers, true)
                    {
                        return (
                            flights::from_confirmed(core, job, core.now(), &entry, answered.node, way),
                            Outcome::Revalidated,
                        );
                    }
                    continue; // R5b: asked again without conditions
                }
                _ => return headers::refuse(&job.connection, Fault::senseless_304()),
            }
        }
        headers::from_node(&mut answered.parts.headers);
        if stored
            .as_ref()
            .is_some_and(|old| validate::differs(&old.meta(), answered.parts.status, &answered.parts.headers))
        {
            core.shared.store.differs(job.resource, None); // R12b
        }
        return (
            pass::answer(core, job, answered, way.forwarded(None, false), None),
            Outcome::Miss,
        );
    }
}
