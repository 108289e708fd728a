//! The steps of a hit one by one, without a socket, for `benches/instructions/run`, which counts their instructions: a guard is only good
//! where it says which step became dearer. `micro STEP TIMES` does a step so many times and checks once that it does what it claims.
//!
//! Measures nothing by itself, and tells no time.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use mimalloc::MiMalloc;
use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidegate::config::load;
use tidegate::config::runtime::{Action, Config, Route};
use tidegate::coord::Coord;
use tidegate::core::consistency::write::Ended;
use tidegate::core::failover::view::Epoch;
use tidegate::core::http::stored::{Meta, Vary};
use tidegate::core::http::{dates, etag};
use tidegate::core::key::{KeyBuffer, KeyParts, KeySecret, NormalPath, resource_digest};
use tidegate::core::lookup::{Decision, Read, decide};
use tidegate::core::policy::{Caching, Policy};
use tidegate::core::time::{Age, MonoTime, Ttl, WallTime};
use tidegate::proxy::{Body, Connection, Peer, Proxy, Shared};
use tidegate::store::entry::Head;
use tidegate::store::{EntryRef, Identity, ResourceId, Store, WriteEnd, new_entry};
use tidegate::telemetry::metrics::Metrics;
use tidegate::upstream::{NoEvents, Upstreams};
use tidegate::world::{Address, Entropy, World};
use tokio_util::task::TaskTracker;
use tower::Service;

/// The program's own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const CONFIG: &str = r#"
[server]
threads = 1
[listeners.main]
address = "127.0.0.1:0"
debug_from = []
[upstreams.origin]
nodes = [{ url = "http://127.0.0.1:9" }]
[[routes]]
name = "eventual"
match = { path = "/eventual/{*rest}" }
upstream = "origin"
consistency = "eventual"
ttl = "1h"
max_staleness = "1h"
"#;

const HOST: &str = "www.example.org";
const PATH: &str = "/eventual/articles/1";

/// What every random number is here, so that the digests of this program and of the proxy in it are the same.
const CHANCE: u64 = 7;
const SECRET: KeySecret = KeySecret(CHANCE, CHANCE);

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let [step, times] = arguments.as_slice() else {
        // `cargo bench` runs every target without arguments.
        println!("usage: micro decide|gate|key|hit-path TIMES; benches/instructions/run counts");
        return Ok(());
    };
    let times: u32 = times.parse()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            match step.as_str() {
                "decide" => decides(times),
                "gate" => gate(times),
                "key" => keys(times),
                "hit-path" => hits(times),
                other => Err(format!("no such step: {other}").into()),
            }
        })
}

/// The core's decision on one fresh variant.
fn decides(times: u32) -> Result<(), Failed> {
    let rig = Rig::new()?;
    let (now, headers, variants) = (rig.now(), request_fields(), [meta(rig.now(), Epoch::default())]);
    let once = || {
        let read = Read::of(&Method::GET, &headers, rig.policy()?, false);
        Ok::<_, Failed>(decide(black_box(now), &read, black_box(&variants), rig.policy()?))
    };
    holds(matches!(once()?, Decision::Serve { index: 0, .. }), "it is served")?;
    for _ in 0..times {
        black_box(once()?);
    }
    Ok(())
}

/// A request's key and resource, with their digests.
fn keys(times: u32) -> Result<(), Failed> {
    let rig = Rig::new()?;
    let (caching, mut buffer, headers) = (rig.caching()?, KeyBuffer::new(), request_fields());
    let mut once = || {
        let path = NormalPath::of(black_box(PATH));
        let digest = SECRET.digest(buffer.write(rig.key(&path, &headers), &caching.key));
        (digest, resource_digest(SECRET, 0, &path, None))
    };
    let first = once();
    holds(first == once() && first.0 != first.1, "names are stable")?;
    for _ in 0..times {
        black_box(once());
    }
    Ok(())
}

/// A fill is stored, found, and taken out by a write.
fn gate(times: u32) -> Result<(), Failed> {
    let rig = Rig::new()?;
    for time in 0..times + 1 {
        let (resource, identity) = rig.identity()?;
        let (digest, key) = (identity.digest, Arc::clone(&identity.key));
        let entry = rig.entry(identity);
        let token = rig.store.register(rig.now(), resource, true);
        rig.store
            .publish(token, &entry, None)
            .map_err(|why| format!("{why:?}"))?;
        let found = rig.store.lookup(rig.now(), resource, digest, &key).variants.len();
        let write = rig.store.begin_write(vec![(resource, PATH.to_owned())]);
        write.end(WriteEnd::Applied);
        let is_over = time > 0 || (found == 1 && entry.is_revoked() && Ended::Applied.revokes());
        holds(is_over, "it was found, and is out of service")?;
    }
    Ok(())
}

/// A plain hit from the request's head to the answer's.
fn hits(times: u32) -> Result<(), Failed> {
    let rig = Rig::new()?;
    let (resource, identity) = rig.identity()?;
    let entry = rig.entry(identity);
    let token = rig.store.register(rig.now(), resource, true);
    rig.store
        .publish(token, &entry, None)
        .map_err(|why| format!("{why:?}"))?;
    let mut connection = rig.connection()?;
    let answer = hit(&mut connection)?;
    let is_hit = answer
        .headers()
        .get("cache-status")
        .is_some_and(|value| value.as_bytes().starts_with(b"tidegate; hit"));
    holds(is_hit && answer.status() == StatusCode::OK, "it is a hit")?;
    for _ in 0..times {
        black_box(hit(&mut connection)?);
    }
    Ok(())
}

fn hit(connection: &mut Connection) -> Result<Response<Body>, Failed> {
    let request = Request::builder()
        .uri(PATH)
        .header("host", HOST)
        .header("accept", "*/*");
    let mut answering = pin!(connection.call(request.body(Empty::<Bytes>::new())?));
    match answering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(answer)) => Ok(answer),
        Poll::Pending => Err("it was not answered at once".into()),
    }
}

fn holds(what: bool, told: &str) -> Result<(), Failed> {
    what.then_some(()).ok_or_else(|| format!("not so: {told}").into())
}

fn request_fields() -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(http::header::HOST, HeaderValue::from_static(HOST));
    fields.insert(http::header::ACCEPT, HeaderValue::from_static("*/*"));
    fields
}

fn meta(now: MonoTime, epoch: Epoch) -> Meta {
    Meta {
        status: StatusCode::OK,
        part: None,
        sent: now,
        epoch,
        received: now,
        initial_age: Age::ZERO,
        lifetime: Ttl::from_secs(3600),
        valid_as_of: now,
        stale_while_revalidate: Ttl::ZERO,
        stale_if_error: None,
        must_revalidate: false,
        no_cache: false,
        etag: None,
        last_modified: None,
        date: WallTime::from_millis(0),
        vary: Vary::Any,
        shareable: true,
        proven: true,
    }
}

/// The proxy without its sockets.
struct Rig {
    config: Arc<Config>,
    world: World,
    store: Arc<Store>,
    shared: Arc<Shared>,
    /// Of the upstream, and of what is stored (R53).
    epoch: Epoch,
}

/// The same number every time.
struct NoChance;

impl Entropy for NoChance {
    fn next_u64(&self) -> u64 {
        CHANCE
    }
}

impl Rig {
    fn new() -> Result<Self, Failed> {
        let world = World {
            entropy: Arc::new(NoChance),
            ..World::real()
        };
        let loaded = load::from_text(CONFIG, "micro.toml", Path::new(""), &world);
        let config = Arc::new(loaded.config.ok_or_else(|| format!("{:#?}", loaded.errors))?);
        let (coord, _owner) = Coord::new(&config, &world);
        let upstreams = Upstreams::new(
            &config,
            world.clone(),
            Arc::new(NoEvents),
            coord.views(),
            Arc::new(|_, _| Box::pin(async {})),
            1,
        );
        let epoch = upstreams.reign(0).epoch;
        let store = Store::new(&config, &world);
        let shared = Shared::new(
            Arc::clone(&config),
            world.clone(),
            Arc::clone(&store),
            upstreams,
            Metrics::new(&config),
            TaskTracker::new(),
            None,
        );
        Ok(Self {
            config,
            world,
            store,
            shared,
            epoch,
        })
    }

    fn now(&self) -> MonoTime {
        self.world.clock.mono()
    }

    fn route(&self) -> Result<&Route, Failed> {
        Ok(self.config.routes.first().ok_or("a route")?)
    }

    fn policy(&self) -> Result<&Policy, Failed> {
        match &self.route()?.action {
            Action::Proxy { policy, .. } => Ok(policy),
            Action::Redirect { .. } | Action::Respond { .. } => Err("the route proxies".into()),
        }
    }

    fn caching(&self) -> Result<&Caching, Failed> {
        Ok(self.policy()?.caching().ok_or("the route caches")?)
    }

    fn key<'a>(&self, path: &'a NormalPath<'a>, headers: &'a HeaderMap) -> KeyParts<'a> {
        KeyParts {
            route: self.config.routes.first().map_or(0, |route| route.contract),
            https: false,
            host: HOST,
            forwarded_host: None,
            path,
            query: None,
            headers,
        }
    }

    fn identity(&self) -> Result<(ResourceId, Identity), Failed> {
        let (path, headers, mut buffer) = (NormalPath::of(PATH), request_fields(), KeyBuffer::new());
        let key: Arc<[u8]> = Arc::from(buffer.write(self.key(&path, &headers), &self.caching()?.key));
        let resource = ResourceId {
            digest: resource_digest(SECRET, 0, &path, None).0,
            upstream: 0,
        };
        let identity = Identity {
            resource,
            digest: SECRET.digest(&key).0,
            key,
            tags: Box::default(),
        };
        Ok((resource, identity))
    }

    fn entry(&self, identity: Identity) -> EntryRef {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("cache-control", "max-age=3600"),
            ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("etag", "\"1\""),
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("content-language", "en"),
            ("x-content-type-options", "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Facts that are not those of the fields are kept in another way.
        let meta = Meta {
            etag: etag::of(&headers),
            last_modified: dates::field(&headers, &http::header::LAST_MODIFIED).valid(),
            ..meta(self.now(), self.epoch)
        };
        let body = Bytes::from(vec![b'x'; 1024]);
        new_entry(
            self.store.next_entry_id(),
            identity,
            Arc::new(Head { meta, headers }),
            body,
        )
    }

    fn connection(&self) -> Result<Connection, Failed> {
        let listener = self.config.listeners.first().ok_or("a listener")?;
        let address = "127.0.0.1:1".parse()?;
        Ok(Proxy::new(Arc::clone(&self.shared), 0).for_connection(Peer {
            address: Some(address),
            local: Address::Tcp(address),
            listener: Arc::clone(listener),
            tls: false,
            interim: None,
        }))
    }
}
