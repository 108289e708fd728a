//! The request path: from a client's request to an answer, with every decision taken in `core` and every act in an adapter.
//!
//! A request is a walk (ARCHITECTURE.md): [`request`] names it, [`plan`] says what it comes to, [`pipeline`] branches once into a read, a pass or a write, a read is
//! answered by [`hit`] or fetched by [`miss`] and [`lead`], and every answer leaves through [`headers`]. A hit is answered
//! synchronously, without a task, a box or a lock held; everything else is a boxed future.

mod aim;
mod begun;
mod body;
mod buffered;
mod carry;
mod declared;
mod error;
mod explain;
mod flights;
mod grpc;
mod head;
mod headers;
mod hit;
mod interim;
mod lead;
mod logged;
mod meter;
mod mirror;
mod miss;
mod multipart;
mod outbound;
mod outside;
mod parts;
mod pass;
mod pipeline;
mod plan;
mod posted;
mod purge;
mod purging;
mod query;
mod reload;
mod request;
mod routes;
mod session;
mod tagging;
mod through;
mod underway;
mod write;

pub use body::{AnswerError, Body, BoxError};
pub use explain::{ExplainError, Explanation, Question, Supposed};
pub use interim::Interim;
pub use outside::{OpenOutside, Outside, OutsideError};
pub use purge::{PurgeError, PurgeTarget};

use crate::config::runtime::{Config, Listener};
use crate::core::key::KeySecret;
use crate::core::reason::Outcome;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use crate::store::Store;
use crate::telemetry::access_log::{AccessLog, Record};
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Pool, Upstreams};
use crate::world::{Address, World};
use arc_swap::{ArcSwap, Cache};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use request::Job;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// What all cores share.
pub struct Shared {
    config: Arc<Config>,
    table: routes::Table,
    world: World,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
    upstreams: Arc<Upstreams>,
    /// None where no route has sessions.
    sessions: Option<session::Sessions>,
    /// Digests are keyed at random per process: clients cannot aim for collisions.
    secret: KeySecret,
    /// Requests in flight, by route; counted only where the route has a limit.
    in_flight: Vec<Arc<AtomicUsize>>,
    /// Writes that do not come through here.
    outside: Arc<outside::Opened>,
    /// None when it is off.
    meter: Option<meter::Meter>,
    /// What copies writes to mirrored upstreams; unset where nothing is mirrored.
    mirrors: OnceLock<mirror::Mirrors>,
    /// Writes and fetches whose client may have left: leaving waits for them.
    detached: TaskTracker,
    /// Unsafe requests planned by this configuration.
    begun: Arc<begun::Begun>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Brings the rooms together. What outlives its client is spawned on `detached`.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        world: World,
        store: Arc<Store>,
        upstreams: Arc<Upstreams>,
        metrics: Arc<Metrics>,
        detached: TaskTracker,
        access_log: Option<Arc<AccessLog>>,
    ) -> Arc<Self> {
        let secret = KeySecret(world.entropy.next_u64(), world.entropy.next_u64());
        let sessions = session::Sessions::new(&config, &*world.entropy);
        let meter = meter::Meter::new(&config);
        let in_flight = config.routes.iter().map(|_| Arc::default()).collect();
        Arc::new(Self {
            table: routes::Table::new(&config),
            config,
            world,
            store,
            metrics,
            access_log,
            upstreams,
            sessions,
            secret,
            in_flight,
            outside: Arc::default(),
            meter,
            mirrors: OnceLock::new(),
            detached,
            begun: Arc::default(),
        })
    }
}

/// The request path on one core: its own connections to the nodes, everything else shared.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Under the running configuration.
    current: Arc<ArcSwap<Core>>,
    number: usize,
}

/// What one core works with.
#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    pool: Pool,
    /// What the meter draws by.
    chance: AtomicU64,
}

impl Core {
    fn new(shared: Arc<Shared>, number: usize) -> Self {
        let pool = shared.upstreams.pool(number);
        let seed = shared.meter.as_ref().map(|_| shared.world.entropy.next_u64());
        let chance = AtomicU64::new(seed.unwrap_or_default() | 1);
        Self { shared, pool, chance }
    }

    fn now(&self) -> MonoTime {
        self.shared.world.clock.mono()
    }

    /// The time as this thread has read it last: for what follows at once upon what read it.
    fn recently(&self) -> MonoTime {
        self.shared.world.clock.recent()
    }

    /// The same for what begins with a request that has just come: never before it came, should another thread have taken it over.
    fn begins(&self, job: &Job) -> MonoTime {
        self.recently().max(job.start)
    }

    /// Runs `work` whatever becomes of the client, and waits for what it tells; none when it ended without a word (R21).
    async fn detach<T>(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
        told: oneshot::Receiver<T>,
    ) -> Option<T> {
        if Rule::R21.holds() {
            self.shared.detached.spawn(work);
            return told.await.ok();
        }
        let ((), told) = tokio::join!(work, told);
        told.ok()
    }

    /// Counts an answer when it is done: now, or when its body has ended. The access log always waits for the body.
    fn account(
        self: &Arc<Self>,
        asked: Asked<'_>,
        route: Option<usize>,
        outcome: Outcome,
        response: Response<Body>,
    ) -> Response<Body> {
        self.account_at(self.now(), asked, route, outcome, response)
    }

    /// The same for who knows what time it is.
    fn account_at(
        self: &Arc<Self>,
        now: MonoTime,
        asked: Asked<'_>,
        route: Option<usize>,
        outcome: Outcome,
        response: Response<Body>,
    ) -> Response<Body> {
        let response = match outcome {
            Outcome::Refused => grpc::shaped(asked.parts, response),
            _ => response,
        };
        let (status, start) = (response.status(), asked.start);
        if response.body().is_ready() {
            let took = now.duration_since(start);
            self.shared.metrics.request(route, outcome, status, took);
            let Some(log) = &self.shared.access_log else {
                return response;
            };
            let log = Arc::clone(log);
            let logged = self.logged(asked, route, outcome, &response);
            return response.map(|body| body.accounted(move |_, carried| log.push(logged.ended(took, carried))));
        }
        let log = self.shared.access_log.clone();
        let log = log.map(|log| (log, self.logged(asked, route, outcome, &response)));
        let core = Arc::clone(self);
        response.map(|body| {
            body.accounted(move |open, carried| {
                drop(open);
                let took = core.now().duration_since(start);
                core.shared.metrics.request(route, outcome, status, took);
                if let Some((log, logged)) = log {
                    log.push(logged.ended(took, carried));
                }
            })
        })
    }
}

/// Who asked for what, for the account of the answer.
#[derive(Copy, Clone)]
struct Asked<'a> {
    connection: &'a ConnectionInfo,
    parts: &'a Parts,
    /// When the request's head was in.
    start: MonoTime,
    /// The id made for it, if one was.
    request_id: &'a OnceLock<HeaderValue>,
}

/// A request that waits for its answer: dropped before that, it is logged as one whose client left.
struct Waiting(Option<(Arc<Core>, Arc<Job>)>);

impl Waiting {
    fn new(core: &Arc<Core>, job: &Arc<Job>) -> Self {
        let logs = core.shared.access_log.is_some();
        Self(logs.then(|| (Arc::clone(core), Arc::clone(job))))
    }

    /// From here on its body is watched.
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((core, job)) = self.0.take()
            && let Some(log) = &core.shared.access_log
        {
            log.push(Record {
                took: core.now().duration_since(job.start),
                ..core.unanswered(job.asked(), Some(job.route.id))
            });
        }
    }
}

impl Proxy {
    /// The request path of core number `core`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, core: usize) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(Core::new(shared, core))),
            number: core,
        }
    }

    /// A service for one connection.
    #[must_use]
    pub fn for_connection(&self, peer: Peer) -> Connection {
        Connection {
            current: Cache::new(Arc::clone(&self.current)),
            connection: Arc::new(ConnectionInfo::new(peer)),
        }
    }
}

/// Who is at the other end of a connection, and where it came in.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; over a unix socket it has none.
    pub address: Option<SocketAddr>,
    /// Ours.
    pub local: Address,
    /// The listener it came to.
    pub listener: Arc<Listener>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Where interim heads for it are left; none: nobody writes them.
    pub interim: Option<Arc<Interim>>,
}

/// A client whose address nobody knows (RFC 7239 s6.2).
const UNKNOWN: &str = "unknown";

/// What is worked out once per connection.
#[derive(Debug)]
struct ConnectionInfo {
    peer: Peer,
    /// The peer's address as text, or [`UNKNOWN`].
    address: String,
    /// The same as a member of `Forwarded` begins: `for=...` (RFC 7239 s6).
    forwarded_node: String,
    /// What nodes are told of it.
    client: outbound::Client,
    /// Its `Forwarded` and `X-Forwarded-*` are believed.
    trusted: bool,
    /// It may use the PURGE method.
    purges: bool,
    /// It sees Cache-Status `key` and `detail`.
    debug: bool,
}

impl ConnectionInfo {
    fn new(peer: Peer) -> Self {
        let address = peer.address.map(|address| address.ip().to_canonical());
        let text = address.map_or_else(|| UNKNOWN.to_owned(), |address| address.to_string());
        Self {
            client: outbound::Client::new(&text),
            address: text,
            forwarded_node: match address {
                Some(IpAddr::V4(address)) => format!("for={address}"),
                Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
                None => format!("for={UNKNOWN}"),
            },
            trusted: peer.listener.trusted_proxies.contains(address),
            purges: peer.listener.purge_from.contains(address),
            debug: peer.listener.debug_from.contains(address),
            peer,
        }
    }
}

/// A connection's snapshot of its core: as long as nothing is reloaded, looking at it is one load.
type Current = Cache<Arc<ArcSwap<Core>>, Arc<Core>>;

/// The service of one connection.
#[derive(Clone, Debug)]
pub struct Connection {
    current: Current,
    connection: Arc<ConnectionInfo>,
}

impl<B> tower::Service<Request<B>> for Connection
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        pipeline::handle(&mut self.current, &self.connection, request)
    }
}

/// An answer that is ready, or on its way. The large variant is the frequent one: a hit allocates nothing for it. Dropped, it cancels neither a write nor a fetch that others wait for (R21).
#[must_use = "futures do nothing unless polled"]
#[allow(clippy::large_enum_variant)]
pub enum Answering {
    /// At once.
    Ready(Option<Response<Body>>),
    /// Later.
    Pending(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Answering(ready)",
            Self::Pending(_) => "Answering(pending)",
        })
    }
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(response) => response.take().map_or(Poll::Pending, |r| Poll::Ready(Ok(r))),
            Self::Pending(future) => future.as_mut().poll(cx).map(Ok),
        }
    }
}

/// A request counted against its route's `max_in_flight`, until it is dropped.
#[derive(Debug)]
struct InFlight {
    shared: Arc<Shared>,
    route: usize,
}

impl InFlight {
    /// None when the route is full.
    fn enter(shared: &Arc<Shared>, route: usize, max: usize) -> Option<Self> {
        let count = shared.in_flight.get(route)?;
        let guard = Self {
            shared: Arc::clone(shared),
            route,
        };
        (count.fetch_add(1, Ordering::Relaxed) < max).then_some(guard)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(count) = self.shared.in_flight.get(self.route) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
