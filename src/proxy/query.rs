//! QUERY (RFC 10008): a safe request whose content says what is read. Its content is read into memory first, since the content and
//! its metadata are part of the key (RFC 10008 s2.7); from there it is a read like any other: same resource, same gate, same flights.
//! Content longer than [`MAX_CONTENT`] passes, and its answer is not stored.

use super::body::{Body, UploadWatch};
use super::buffered::{self, Buffered};
use super::error::Fault;
use super::request::Job;
use super::{Core, flights, headers, miss, pass};
use crate::core::http::stored::Stored as _;
use crate::core::key::{Content, KeyBuffer};
use crate::core::lookup::{self, Decision};
use crate::core::reason::{FetchReason, Outcome};
use crate::upstream::OutBody;
use bytes::Bytes;
use http::Response;
use http::header::EXPECT;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The longest content that is part of a key, in bytes: a page of SQL or a large GraphQL document. It is held while the request is
/// answered, so `max_connections` times this is what clients can make us hold.
const MAX_CONTENT: usize = 64 * 1024;

/// Answers a QUERY on a route that caches. `job` has the key of the URL alone.
pub(super) async fn run(core: Arc<Core>, job: Arc<Job>, body: OutBody, watch: UploadWatch) -> Response<Body> {
    let left = job.left(core.now());
    let fault = match tokio::time::timeout(left, buffered::whole(body, MAX_CONTENT)).await {
        Ok(Buffered::Whole(content)) => {
            let job = Arc::new(named(&core, &job, content));
            return read(core, job).await;
        }
        Ok(Buffered::Longer(body)) => {
            let _now = core.now(); // what has come of it may have taken long, and what passes goes by the time that was read last
            return pass::run(core, job, (body, watch), FetchReason::Method, |response| response).await;
        }
        Ok(Buffered::Broken) => watch.fault().map_or(Fault::internal(), Fault::of_upload),
        Err(_) => Fault::timed_out(),
    };
    let (response, outcome) = headers::refuse(&job.connection, fault);
    core.account(job.asked(), Some(job.route.id), outcome, response)
}

/// The same request with its content, under the key that holds it.
fn named(core: &Core, job: &Job, content: Bytes) -> Job {
    let mut job = job.clone();
    job.parts.headers.remove(EXPECT); // our server has asked for the content already
    let mut key = KeyBuffer::from(&*job.key);
    let key = key.add_content(&Content {
        headers: &job.parts.headers,
        digest: &Sha256::digest(&content),
    });
    job.digest = core.shared.secret.digest(key).0;
    job.key = Arc::from(key);
    job.content = content;
    job
}

async fn read(core: Arc<Core>, job: Arc<Job>) -> Response<Body> {
    let now = core.now();
    let found = miss::look(&core, &job, now);
    let decision = lookup::decide(
        now,
        &miss::read_now(&core, &job, found.disturbed),
        &found.variants,
        &job.policy,
    );
    let (index, age) = match decision {
        Decision::Serve { index, age } | Decision::ServeAndRefresh { index, age } => (index, age),
        Decision::Revalidate { .. } | Decision::Fetch(_) | Decision::Refuse(_) => {
            return miss::read(core, job, None).await;
        }
    };
    let Some(entry) = found.variants.get(index).filter(|entry| entry.is_in_service()) else {
        return miss::read(core, job, None).await; // R23
    };
    let shared = &core.shared;
    shared.store.touched(entry);
    shared.metrics.served_age(job.route.id, age);
    let response = flights::from_stored(&core, &job, now, entry, flights::From::Hit);
    if matches!(decision, Decision::ServeAndRefresh { .. }) {
        miss::refresh(&core, &job);
    }
    let outcome = if job.policy.is_strong() || age < entry.lifetime() {
        Outcome::Hit
    } else {
        Outcome::Stale
    };
    core.account(job.asked(), Some(job.route.id), outcome, response)
}
