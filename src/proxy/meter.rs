//! The consistency meter (`[telemetry.meter]`): a share of the hits is asked about at the primary, in the background, behind the client's
//! back, and what that proves is counted. What it proves is [`crate::core::consistency::meter`]; this asks, and keeps the books.
//!
//! What the numbers mean. `tidegate_measured_staleness_seconds` holds, for every re-read that proved something, by how much the hit was stale *at
//! least*; `tidegate_stale_reads_total` counts the hits that were provably stale by more than their route's contract allows: `max_staleness` on eventual
//! routes, anything on weak ones, which promise no bound. On strong routes a hit is proven by the gate, so any difference that no write through here
//! explains is a violation: counted there, logged as an error, and the resource is dropped. The nines in `/status` are, per
//! time scale, of the hits known to have been staler or not; those that a re-read leaves open count neither way.
//!
//! What it does not see: hits of requests with `Authorization` or `Cookie` (their owners' credentials are not used for anything they have not asked
//! for), HEAD, stale hits that were meant to be stale, and whatever comes beyond `max_per_second`, of which each second's first are
//! taken. It changes nothing that is stored on weak and eventual routes, and a re-read is no request of the route: it is not in its metrics, joins
//! no flight and fills nothing.
//!
//! Invariant: a re-read says something of a hit only if no write or purge has come to the resource in between, as the gate knows by a
//! token of the re-read's own: that may be what changed it.

use super::request::Job;
use super::{Core, outbound};
use crate::config::runtime;
use crate::core::consistency::listed::Entry as _;
use crate::core::consistency::meter::{self, ReRead, Sightings, Tally, Verdict};
use crate::core::http::validate;
use crate::core::policy::Contract;
use crate::core::time::{MonoTime, Span};
use crate::store::EntryRef;
use crate::upstream::{Answered, Call, NodeBody};
use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How long a re-read may take, head and body: it is worth less than any request.
const PATIENCE: Span = Span::from_secs(5);

/// The meter of a process.
#[derive(Debug)]
pub(super) struct Meter {
    /// Of a hundred hits.
    sample: u32,
    per_second: u32,
    /// The second at hand in the upper half, and how many were taken in it.
    second: AtomicU64,
    under_way: AtomicUsize,
    sightings: Mutex<Sightings>,
    /// By route.
    tallies: Vec<Arc<Mutex<Tally>>>,
}

impl Meter {
    /// None when it is off.
    pub(super) fn new(config: &runtime::Config) -> Option<Self> {
        Self::after(None, config)
    }

    /// The same after a reload: each route's books go on.
    pub(super) fn after(before: Option<&Self>, config: &runtime::Config) -> Option<Self> {
        let books = |id| before.and_then(|before| before.tallies.get(id)).cloned();
        let routes = config.numbers.routes.len().max(config.routes.len());
        let runtime::Meter { sample, max_per_second } = config.telemetry.meter?;
        Some(Self {
            sample,
            per_second: max_per_second,
            second: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            sightings: Mutex::default(),
            tallies: (0..routes).map(|id| books(id).unwrap_or_default()).collect(),
        })
    }

    /// Whether the hit on this request is asked about. `chance` is the core's own.
    pub(super) fn draws(&self, chance: &AtomicU64, parts: &Parts, now: MonoTime) -> bool {
        draw(chance) % 100 < u64::from(self.sample)
            && parts.method == Method::GET
            && !parts.headers.contains_key(AUTHORIZATION)
            && !parts.headers.contains_key(COOKIE)
            && self.is_within_rate(now)
    }

    fn is_within_rate(&self, now: MonoTime) -> bool {
        let second = now.as_micros() / 1_000_000;
        let count = |taken: u64| {
            let (of, count) = (taken >> 32, taken & u64::from(u32::MAX));
            let count = if of == second & u64::from(u32::MAX) { count } else { 0 };
            (count < u64::from(self.per_second)).then_some(second << 32 | (count + 1))
        };
        self.second
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            .is_ok()
    }

    /// How a route's re-reads came out.
    fn tally(&self, route: usize) -> Option<&Mutex<Tally>> {
        self.tallies.get(route).map(Arc::as_ref)
    }
}

impl super::Shared {
    /// How the re-reads of a route's hits came out; none when the meter is off.
    #[must_use]
    pub fn metered(&self, route: usize) -> Option<Tally> {
        let tally = self.meter.as_ref()?.tally(route)?.lock();
        Some(*tally)
    }
}

/// xorshift64 on a number that is never zero and that only its core changes: chance enough, and no system call.
fn draw(chance: &AtomicU64) -> u64 {
    let mut x = chance.load(Ordering::Relaxed);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    chance.store(x, Ordering::Relaxed);
    x >> 11
}

/// A re-read under way; there are no more than come in a second.
struct UnderWay(Arc<Core>);

impl UnderWay {
    fn enter(core: &Arc<Core>) -> Option<Self> {
        let meter = core.shared.meter.as_ref()?;
        let place = Self(Arc::clone(core));
        let before = meter.under_way.fetch_add(1, Ordering::Relaxed);
        (before < meter.per_second as usize).then_some(place)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(meter) = &self.0.shared.meter {
            meter.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Asks the primary about a hit that has just been served. Nobody waits for it, not even whoever ends the process.
pub(super) fn ask_about(core: &Arc<Core>, job: &Arc<Job>, entry: EntryRef) {
    if !core.shared.upstreams.in_service(job.resource.upstream) {
        return;
    }
    let Some(place) = UnderWay::enter(core) else { return };
    let (core, job) = (Arc::clone(core), Arc::clone(job));
    tokio::spawn(async move {
        let re_read = re_read(&core, &job, &entry).await;
        count(&core, &job, &entry, re_read);
        drop(place);
    });
}

fn count(core: &Core, job: &Job, entry: &EntryRef, re_read: Option<ReRead>) {
    let (shared, route) = (&core.shared, job.route.id);
    let Some(meter) = &shared.meter else { return };
    let Some(tally) = meter.tally(route) else { return };
    let Some(mut re_read) = re_read else {
        tally.lock().void += 1;
        return;
    };
    let differs = re_read.newer.is_some();
    re_read.differed_before = meter.sightings.lock().note(entry.id(), differs, re_read.told);
    let staleness = re_read.staleness();
    tally.lock().add(staleness);
    shared.metrics.measured_staleness(route, staleness.least);
    let stale = match &job.policy.contract {
        Contract::Eventual(_, bounded) => staleness.least > bounded.max_staleness,
        Contract::Strong(..) => differs,
        Contract::Weak(_) | Contract::Off => staleness.least > Span::ZERO,
    };
    if stale {
        shared.metrics.stale_read(route);
    }
}

/// What a re-read proves; none when nothing.
async fn re_read(core: &Core, job: &Job, entry: &EntryRef) -> Option<ReRead> {
    let shared = &core.shared;
    let token = shared.store.register(core.now(), job.resource, true);
    // A write that is pending, or was while the hit was served, may be what is seen; one that begins from here on kills the token.
    if !token.is_provable() || entry.is_revoked() {
        return None;
    }
    let deadline = core.now().after(PATIENCE);
    let asked = async {
        let answered = call(core, job, entry, deadline).await?;
        if !answered.speaks_of(entry.facts().epoch) {
            return None; // R53: another node may have something else, and nobody has written
        }
        let told = answered.received;
        let conditional = entry.facts().can_be_validated(true);
        let newer = compare(answered, entry, conditional).await?;
        Some((told, newer))
    };
    let (told, newer) = tokio::time::timeout(PATIENCE.into(), asked).await.ok()??;
    if !token.is_alive() {
        return None;
    }
    if newer.is_some() && job.policy.is_strong() {
        tracing::error!(
            route = %job.route.name, path = %job.path(),
            "a hit proven by the gate is not what the primary has, and no write came through here: somebody else writes, or a write \
             was applied after settle_after"
        );
        shared.store.differs(job.resource, Some(&token));
    }
    Some(ReRead {
        hit: job.start,
        valid_as_of: entry.facts().valid_as_of,
        told,
        newer,
        differed_before: None,
    })
}

async fn call(core: &Core, job: &Job, entry: &EntryRef, deadline: MonoTime) -> Option<Answered> {
    let mut parts = outbound::parts(job, &*core.shared.world.entropy);
    // By a strong ETag or in full, and past every cache below (R5b), without the client's conditions and range (R5c).
    let mut conditions = validate::conditional_headers(&entry.meta(), true);
    conditions.no_cache = true;
    conditions.apply(&mut parts.headers);
    let call = Call::at_primary(job.resource.upstream, parts, deadline);
    core.pool.call(call).await.ok()
}

/// Whether the primary has something else, and for how long it has had it; none when nothing can be concluded.
async fn compare(answered: Answered, entry: &EntryRef, conditional: bool) -> Option<Option<Option<Span>>> {
    let Answered { parts, body, .. } = answered;
    let existed = meter::existed_for(&parts.headers);
    match meter::judge(&entry.meta(), conditional, parts.status, &parts.headers) {
        Verdict::Same => {
            if parts.status != StatusCode::NOT_MODIFIED {
                drop(body); // closes the connection: its body is of no interest
            }
            Some(None)
        }
        Verdict::Differs => Some(Some(existed)),
        Verdict::Bodies if is_same(body, entry.body_bytes()).await? => Some(None),
        Verdict::Bodies => Some(Some(existed)),
        Verdict::Void => None,
    }
}

/// Whether a body is this one; none when it broke off.
async fn is_same(mut body: NodeBody, stored: &[u8]) -> Option<bool> {
    let mut rest = stored;
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.ok()?.into_data() else { continue };
        match rest.strip_prefix(&*chunk) {
            Some(left) => rest = left,
            None => return Some(false),
        }
    }
    Some(rest.is_empty())
}
