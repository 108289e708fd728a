//! The rooms of one process, wired once, and the work that runs in them. What runs where is decided elsewhere (`threads`).

use super::StartError;
use super::control::Controls;
use super::era::{Counting, Era, report};
use super::reload::Reloads;
use super::views::Views;
use crate::admin;
use crate::config::runtime::Config;
use crate::proxy;
use crate::server::accept::{Door, accept};
use crate::server::connection;
use crate::server::deal::Cores;
use crate::server::drain::{Drain, Phase};
use crate::server::tls::Terms;
use crate::store::Store;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{HOT_LOOK, Upstreams};
use crate::world::{BindOptions, Listener, World};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the store forgets what is settled: well below any `settle_after`, rare enough to cost nothing.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How often what mirrored upstreams have to make good is looked after.
const TENDING: Duration = Duration::from_millis(250);

/// A listener and one of its sockets.
pub(super) type Sockets = Vec<(Arc<Door>, Box<dyn Listener>)>;

/// Everything one process consists of.
pub(super) struct Rooms {
    pub(super) world: World,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) store: Arc<Store>,
    pub(super) views: Views,
    pub(super) reloads: Reloads,
    /// What the running configuration works with.
    era: ArcSwap<Era>,
    /// One per core that serves.
    proxies: Mutex<Vec<proxy::Proxy>>,
    drain: Arc<Drain>,
    leave: CancellationToken,
    /// No request is left to be logged.
    logged: CancellationToken,
    /// Bound once.
    doors: OnceLock<Vec<Arc<Door>>>,
    /// The first round of probes is over.
    probed: CancellationToken,
    /// The state directory, if there is one, is this process's: its work begins.
    begun: CancellationToken,
    /// The claim on the state directory, for the life of the process.
    owned: OnceLock<Box<dyn Send + Sync>>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms")
            .field("doors", &self.doors)
            .finish_non_exhaustive()
    }
}

impl Rooms {
    pub(super) fn new(config: Config, world: World) -> Arc<Self> {
        let config = Arc::new(config);
        let metrics = Metrics::new(&config);
        let access_log = AccessLog::new(&config);
        let views = Views::new(&config, &world);
        let upstreams = Upstreams::new(
            &config,
            world.clone(),
            Arc::new(Counting(Arc::clone(&metrics))),
            views.coord.views(),
            report(&views.coord),
            config.server.threads,
        );
        let store = Store::new(&config, &world);
        let drain = Arc::new(Drain::new());
        let proxy = proxy::Shared::new(
            Arc::clone(&config),
            world.clone(),
            Arc::clone(&store),
            Arc::clone(&upstreams),
            Arc::clone(&metrics),
            drain.connections().clone(),
            access_log.clone(),
        );
        proxy.mirror(&views.coord, &views.journal);
        let era = Arc::new(Era {
            config,
            metrics,
            upstreams,
            proxy,
            probes: CancellationToken::new(),
        });
        views.add(&era.upstreams);
        Arc::new(Self {
            world,
            access_log,
            store,
            views,
            reloads: Reloads::default(),
            era: ArcSwap::new(era),
            proxies: Mutex::default(),
            drain,
            leave: CancellationToken::new(),
            logged: CancellationToken::new(),
            doors: OnceLock::new(),
            probed: CancellationToken::new(),
            begun: CancellationToken::new(),
            owned: OnceLock::new(),
        })
    }

    /// What the running configuration works with.
    pub(super) fn era(&self) -> Arc<Era> {
        self.era.load_full()
    }

    /// The running configuration.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.era.load().config)
    }

    /// Every core plans requests by this one from now on.
    pub(super) fn swap(&self, era: &Arc<Era>) {
        let proxies = self.proxies.lock();
        self.era.store(Arc::clone(era));
        for proxy in proxies.iter() {
            proxy.switch(Arc::clone(&era.proxy));
        }
    }

    pub(super) fn drain(&self) -> &Arc<Drain> {
        &self.drain
    }

    /// Keeps the claim on the state directory.
    pub(super) fn own(&self, claim: Box<dyn Send + Sync>) {
        // Claimed once: a second claim would have failed.
        let _first = self.owned.set(claim);
    }

    /// Whether the state directory is ours.
    pub(super) fn owns(&self) -> bool {
        self.owned.get().is_some()
    }

    /// What was remembered has been read: the work begins.
    pub(super) fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether the other process of the pair has the state directory.
    pub(super) fn is_passive(&self) -> bool {
        !self.begun.is_cancelled()
    }

    /// Completes when the process was asked to leave.
    pub(super) async fn asked_to_leave(&self) {
        tokio::select! {
            biased;
            () = self.leave.cancelled() => {}
            () = self.drain.reached(Phase::Over) => {}
        }
    }

    /// Asks the background to leave.
    pub(super) fn leave(&self) {
        self.leave.cancel();
    }

    /// Says that every request has ended, so that the access log can end too.
    pub(super) fn end_log(&self) {
        self.logged.cancel();
    }

    /// Cancelled when every request has ended.
    pub(super) fn logged(&self) -> &CancellationToken {
        &self.logged
    }

    /// The listeners; empty before they are bound.
    pub(super) fn doors(&self) -> &[Arc<Door>] {
        self.doors.get().map_or(&[], Vec::as_slice)
    }

    /// Whether the first round of probes is over.
    pub(super) fn is_probed(&self) -> bool {
        self.probed.is_cancelled()
    }

    /// Binds every listener's first socket, on the current runtime, for so many cores to accept.
    pub(super) fn open(&self, cores: usize) -> Result<Sockets, StartError> {
        let cores = Cores::new(cores);
        let net = self.world.net.as_ref();
        let config = self.config();
        let listeners = config.listeners.iter();
        let sockets: Sockets = listeners
            .map(|listener| {
                let terms = Terms::of(listener, None)?;
                let (door, socket) = Door::open(net, Arc::clone(listener), &cores)?;
                door.offer(terms);
                Ok((door, socket))
            })
            .collect::<Result<_, StartError>>()?;
        let doors = sockets.iter().map(|(door, _)| Arc::clone(door)).collect();
        // Called once: a second set of doors would have failed to bind, or be other ports.
        let _first = self.doors.set(doors);
        Ok(sockets)
    }

    /// Binds one more socket of every listener, on the current runtime.
    pub(super) fn share(&self) -> Result<Sockets, StartError> {
        let net = self.world.net.as_ref();
        let doors = self.doors().iter();
        Ok(doors
            .map(|door| door.share(net).map(|socket| (Arc::clone(door), socket)))
            .collect::<Result<_, _>>()?)
    }

    /// Binds the admin port, on the current runtime.
    pub(super) fn open_admin(&self) -> Result<(SocketAddr, Box<dyn Listener>), StartError> {
        let address = self.config().admin.address;
        let bound = self.world.net.listen(address, BindOptions::default());
        let bound = bound.and_then(|socket| Ok((socket.local_addr()?, socket)));
        bound.map_err(|source| StartError::Admin { address, source })
    }

    /// Completes when requests may come: the first round of probes is over, or everything is.
    pub(super) async fn ready(&self) {
        tokio::select! {
            biased;
            () = self.drain.reached(Phase::Over) => {}
            () = self.probed.cancelled() => {}
        }
    }

    /// The request path of a core; it is switched with all others.
    fn proxy_of(&self, core: usize) -> proxy::Proxy {
        let mut proxies = self.proxies.lock();
        let proxy = proxy::Proxy::new(Arc::clone(&self.era().proxy), core);
        proxies.push(proxy.clone());
        proxy
    }

    /// Accepts and serves on `sockets` as core number `core`, on the current runtime, until the listeners close.
    pub(super) async fn serve(self: Arc<Self>, core: usize, sockets: Sockets) {
        let proxy = self.proxy_of(core);
        let shared = connection::Shared {
            clock: Arc::clone(&self.world.clock),
            metrics: Arc::clone(&self.era().metrics),
            drain: Arc::clone(&self.drain),
        };
        let mut accepting = JoinSet::new();
        for (door, socket) in sockets {
            let (proxy, at) = (proxy.clone(), Arc::clone(&door));
            let service = move |peer, interim| {
                proxy.for_connection(proxy::Peer {
                    address: peer,
                    local: at.address().clone(),
                    listener: Arc::clone(at.listener()),
                    tls: at.is_tls(),
                    interim: Some(interim),
                })
            };
            accepting.spawn(accept(door, core, socket, shared.clone(), service));
        }
        let keeping = async {
            loop {
                self.era().upstreams.pool(core).warm_up().await;
                tokio::time::sleep(HOT_LOOK).await;
            }
        };
        let closed = async { while accepting.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = closed => {}
            () = keeping => {}
        }
    }

    /// The admin port, and from the begin of the work probes, sweeping, the access log, and the drain, on the current runtime, until
    /// everything is over and logged.
    pub(super) async fn background(self: Arc<Self>, admin_socket: Box<dyn Listener>) {
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        let mut tasks = JoinSet::new();
        let control = Arc::new(Controls(Arc::clone(&self)));
        let access = admin::Access::new(&self.config().admin);
        tasks.spawn(admin::serve(
            admin_socket,
            control,
            access,
            stop.clone().cancelled_owned(),
        ));
        tokio::select! {
            biased;
            () = self.drain.reached(Phase::Over) => return,
            () = self.begun.cancelled() => {}
        }
        let first = self.era();
        Arc::clone(&first.upstreams).run_probes(first.probes.clone());
        let _probes = ProbesEnd(Arc::clone(&self));
        let sweeper = Arc::clone(&self);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                sweeper.era().proxy.expire_outside();
                sweeper.store.sweep();
            }
        });
        let tender = Arc::clone(&self);
        tasks.spawn(async move {
            tender.probed.cancelled().await; // before, nobody knows what the nodes have missed
            loop {
                tokio::time::sleep(TENDING).await;
                tender.era().proxy.tend_mirrors().await;
            }
        });
        let prober = Arc::clone(&self);
        tasks.spawn(async move {
            first.upstreams.first_round().await;
            first.proxy.recall_mirrors().await; // R35
            prober.probed.cancel();
            prober.reload_when_asked().await;
        });
        let logging = async {
            if let Some(log) = &self.access_log {
                log.run(&self.world, &self.logged).await;
            }
        };
        let leaving = async {
            tokio::select! {
                biased;
                () = self.drain.reached(Phase::Over) => {}
                () = self.leave.cancelled() => self.see_off().await,
            }
        };
        tokio::join!(leaving, logging);
    }

    async fn see_off(&self) {
        let config = self.config();
        let server = &config.server;
        tracing::info!(delay = ?server.drain_delay, timeout = ?server.drain_timeout, "draining");
        if self.drain.run(server.drain_delay, server.drain_timeout).await {
            tracing::info!("drained");
        } else {
            tracing::warn!("connections were cut off: the drain timeout is over");
        }
    }
}

/// Ends the probes with the background, whichever era's they are by then.
struct ProbesEnd(Arc<Rooms>);

impl Drop for ProbesEnd {
    fn drop(&mut self) {
        self.0.era().probes.cancel();
    }
}
