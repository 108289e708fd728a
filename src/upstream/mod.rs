//! Everything towards the nodes: connections ([`link`]), who uses them ([`pool`]), one request with its attempts ([`attempt`]), and
//! heartbeats ([`probe`]).
//!
//! It does not decide: which node, whether to repeat, what a probe changes is [`crate::core::balance`], [`crate::core::retry`] and
//! [`crate::core::failover`]. It does not own the view either: it reads views it is given and reports probes to the owner it is given,
//! then carries out what the owner answers. It knows nothing of caching.
//!
//! Invariants: no connection outlives its node's service; when an error is returned its connection is closed; a write goes out a second
//! time only if nothing of it went out the first time, or it is repeatable (R20).

mod attempt;
mod body;
mod call;
mod channel;
mod connect;
mod discover;
mod eject;
mod error;
mod held;
mod hot;
mod lease;
mod link;
mod pool;
mod primary;
mod probe;
mod purse;
mod refusal;
mod reload;
mod replica;
mod rival;
mod seat;
mod shown;
mod signal;
mod snapshot;
mod standing;
mod streams;
mod tls;

#[cfg(test)]
mod tests;

pub use attempt::Begun;
pub use body::{BoxBody, NodeBody, OutBody};
pub use call::{Again, Aim, Answered, Call, Kind, OnInterim, Remakes};
pub use error::{BodyError, BoxError, CallError, CallErrorKind, Step};
pub use hot::LOOK as HOT_LOOK;
pub use primary::Who;
pub use snapshot::{NodeSnapshot, UpstreamSnapshot};

use crate::config::runtime::{Balance, Config, HostHeader, Mode, Replication, Upstream};
use crate::core::balance::Rule;
use crate::core::consistency::bound::Probes;
use crate::core::failover::event::{Alarm, Effect, Event};
use crate::core::failover::few::WhenNone;
use crate::core::failover::health::Outcome;
use crate::core::failover::outlier::Outlier;
use crate::core::failover::reign::Reign;
use crate::core::failover::view::{Primary, View};
use crate::core::reason::{NodeState, RetryReason};
use crate::core::retry::Budget;
use crate::world::{BoxFuture, ViewCell, World};
use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;
use purse::Purse;
use seat::{Seat, Target};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What happens here that others count. Every method does nothing unless implemented.
pub trait Events: Send + Sync {
    /// A node answered; `took` is from the first byte sent to the complete response head.
    fn answered(&self, upstream: usize, node: usize, took: Duration) {
        let _ = (upstream, node, took);
    }
    /// A request is repeated.
    fn retried(&self, upstream: usize, reason: RetryReason) {
        let _ = (upstream, reason);
    }
    /// A node has been found, or none is there any more: where nodes are discovered.
    fn node_named(&self, upstream: usize, node: usize, name: Option<&str>) {
        let _ = (upstream, node, name);
    }
    /// A node's state changed.
    fn node_state(&self, upstream: usize, node: usize, state: NodeState) {
        let _ = (upstream, node, state);
    }
    /// Traffic moved to another node; `took` is from the first failed probe.
    fn failover(&self, upstream: usize, took: Duration) {
        let _ = (upstream, took);
    }
}

/// Nobody counts.
#[derive(Copy, Clone, Debug, Default)]
pub struct NoEvents;

impl Events for NoEvents {}

/// Tells the owner of the views what happened at an upstream. When it completes, the owner has swapped in the new view and had
/// [`Upstreams::carry_out`] what follows, or nothing changed.
pub type Report = Arc<dyn Fn(usize, Event) -> BoxFuture<'static, ()> + Send + Sync>;

/// All upstreams and all cores' connections.
pub struct Upstreams {
    shared: Arc<Shared>,
    /// Those that serve, and one more for the background where writes are mirrored.
    cores: Vec<Arc<pool::Core>>,
    serving: usize,
    report: Report,
    /// Nodes whose first probe has not ended.
    unprobed: watch::Sender<usize>,
}

/// What every core reads.
pub(crate) struct Shared {
    world: World,
    events: Arc<dyn Events>,
    upstreams: Vec<Arc<One>>,
}

/// One upstream.
struct One {
    config: Arc<Upstream>,
    rule: Rule,
    view: Arc<ViewCell>,
    nodes: Arc<[Arc<Target>]>,
    /// The last view in which one of these nodes was certain to be, when a reload takes some of them out.
    former: ArcSwapOption<View>,
    /// What the probes of the primary have shown (R43).
    probes: Arc<Mutex<Probes>>,
    /// Who waits for another primary.
    held: Arc<held::Held>,
    /// Who is ejected; the requests have their own count beside the nodes.
    ejected: Arc<Mutex<Outlier>>,
    /// How often somebody began to wait for a connection, on whatever core; 0 again when a core with one to spare saw nobody wait.
    wanted: AtomicU64,
    /// A node has failed as many requests in a row as ejects one.
    trouble: Notify,
    /// Somebody else promotes.
    rival: rival::Rival,
    /// TLS to its nodes.
    ways: tls::Ways,
    /// What pays for retries.
    retries: Purse,
    /// What pays for reads sent twice; none: nothing is.
    hedges: Option<Purse>,
}

impl Upstreams {
    /// All upstreams of a configuration, without a connection yet. `views` are in the order of the configuration; `report` leads to
    /// whoever swaps them.
    #[must_use]
    pub fn new(
        config: &Config,
        world: World,
        events: Arc<dyn Events>,
        views: Vec<Arc<ViewCell>>,
        report: Report,
        cores: usize,
    ) -> Arc<Self> {
        let upstreams: Vec<Arc<One>> = config
            .upstreams
            .iter()
            .zip(views)
            .map(|(c, view)| Arc::new(One::new(c, view, cores)))
            .collect();
        let unprobed = unprobed(&upstreams);
        let shared = Arc::new(Shared {
            world,
            events,
            upstreams,
        });
        shared.tell_states();
        let serving = cores.max(1);
        let mirrors = config.upstreams.iter().any(|u| u.replication == Replication::Mirrored);
        let background = mirrors.then_some(0); // with a share like the first core's
        let cores = (0..serving)
            .chain(background)
            .map(|number| Arc::new(pool::Core::new(Arc::clone(&shared), number, serving)))
            .collect::<Vec<_>>();
        pool::Core::introduce(cores.get(..serving).unwrap_or_default());
        Arc::new(Self {
            shared,
            cores,
            serving,
            report,
            unprobed: watch::Sender::new(unprobed),
        })
    }

    /// A core's connections. A number beyond the cores means the last core.
    ///
    /// # Panics
    ///
    /// Never: there is at least one core.
    #[must_use]
    pub fn pool(&self, core: usize) -> Pool {
        let core = self
            .cores
            .get(core.min(self.serving - 1))
            .expect("there is at least one core");
        Pool { core: Arc::clone(core) }
    }

    /// The background's connections; the last core's where nothing is mirrored.
    ///
    /// # Panics
    ///
    /// Never: there is at least one core.
    #[must_use]
    pub fn background_pool(&self) -> Pool {
        let core = self.cores.last().expect("there is at least one core");
        Pool { core: Arc::clone(core) }
    }

    /// Every upstream, for `/status`.
    #[must_use]
    pub fn snapshot(&self) -> Vec<UpstreamSnapshot> {
        let known = self.shared.upstreams.iter().filter(|one| !one.config.retired);
        known.map(|one| one.snapshot()).collect()
    }

    /// Whether an upstream has a node in service.
    #[must_use]
    pub fn in_service(&self, upstream: usize) -> bool {
        let one = self.shared.upstreams.get(upstream);
        one.is_some_and(|one| !one.view.load().candidates.is_empty())
    }

    /// The epoch a read happens in (R53). On the way to a hit: one load of what hardly ever changes.
    #[must_use]
    #[inline]
    pub fn reign(&self, upstream: usize) -> Reign {
        self.shared
            .upstreams
            .get(upstream)
            .map_or(Reign::default(), |one| Reign {
                epoch: one.view.epoch(),
                shared: one.is_shared(),
            })
    }

    /// R29: whether an answer still counts: nobody else has taken over since its request was sent.
    #[must_use]
    pub fn stands(&self, upstream: usize, answered: &Answered) -> bool {
        self.shared
            .upstreams
            .get(upstream)
            .is_none_or(|one| one.stands(answered))
    }

    /// The place of an upstream's node of this name.
    #[must_use]
    pub fn place(&self, upstream: usize, node: &str) -> Option<usize> {
        let nodes = &self.shared.upstreams.get(upstream)?.nodes;
        let named = |target: &Arc<Target>| target.seat().is_some_and(|seat| seat.member.name == node);
        nodes.iter().position(named)
    }

    /// The name of the node in a place of an upstream.
    #[must_use]
    pub fn node_name(&self, upstream: usize, node: usize) -> Option<String> {
        self.shared.upstreams.get(upstream)?.node_name(node)
    }

    /// Waits until every node's first probe has ended; at once where nothing is probed. Needs [`Upstreams::run_probes`].
    pub async fn first_round(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.unprobed.subscribe().wait_for(|left| *left == 0).await;
    }

    async fn tell(&self, upstream: usize, event: Event) {
        let passed = match event {
            Event::Probed {
                node,
                outcome: Outcome::Passed,
                ..
            } => Some(node),
            _ => None,
        };
        (self.report)(upstream, event).await;
        if let Some(one) = self.shared.upstreams.get(upstream)
            && passed.is_some_and(|node| one.primary(&one.view.load()) == Primary::Node(node))
        {
            one.held.wake(); // the primary, which may have refused a connect a moment ago, answers
        }
    }

    /// Carries out what a step of the owner asks for, on every core.
    pub fn carry_out(&self, upstream: usize, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::State { node, state } => {
                    self.shared.log_state(upstream, node, state);
                    self.shared.events.node_state(upstream, node, state);
                }
                Effect::Failover { from, to, took } => {
                    self.shared.log_failover(upstream, from, to, took);
                    self.shared.events.failover(upstream, took);
                }
                Effect::ProbeNow { node } => self.shared.probe_now(upstream, node),
                Effect::Alarm(alarm) => self.shared.log_alarm(upstream, alarm),
                Effect::CloseAll { .. } | Effect::CloseIdle { .. } => {}
                // The owner's own business: hooks and timers.
                Effect::Fence { .. } | Effect::Promote { .. } | Effect::Start { .. } | Effect::WakeAt(_) => {}
            }
        }
        self.follow(upstream, effects);
    }

    /// As much of it as concerns the connections alone: where another configuration runs, and says and counts the rest.
    pub fn follow(&self, upstream: usize, effects: &[Effect]) {
        let now = self.shared.world.clock.mono();
        for effect in effects {
            match *effect {
                Effect::CloseAll { node } => self.close(upstream, node, true),
                Effect::CloseIdle { node } => self.close(upstream, node, false),
                _ => {}
            }
        }
        if !effects.is_empty() {
            for core in &self.cores {
                core.look_again(upstream, now);
            }
        }
        // Whatever the effects: the view may be another one without any.
        if let Some(one) = self.shared.upstreams.get(upstream) {
            one.held.view(&one.view.load());
        }
    }

    fn close(&self, upstream: usize, node: usize, in_flight: bool) {
        for core in &self.cores {
            core.close(upstream, node, in_flight);
        }
    }
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams")
            .field("cores", &self.cores.len())
            .finish_non_exhaustive()
    }
}

/// How many first probes and first looks are to come.
fn unprobed(upstreams: &[Arc<One>]) -> usize {
    let awaited = |one: &Arc<One>| {
        // The first look adds what it finds.
        let look = usize::from(one.config.discover.is_some());
        // After a reload there are nodes that were probed before it.
        let probes = match one.config.health_check {
            Some(_) => one.nodes.iter().filter(|node| node.is_awaited()).count(),
            None => 0,
        };
        look + probes
    };
    upstreams.iter().map(awaited).sum()
}

impl Shared {
    /// Says where every node stands.
    fn tell_states(&self) {
        for (id, one) in self.upstreams.iter().enumerate() {
            let view = one.view.load();
            for (node, target) in one.nodes.iter().enumerate() {
                match target.seat() {
                    Some(_) => self.events.node_state(id, node, view.state(node)),
                    None => self.events.node_named(id, node, None),
                }
            }
        }
    }

    fn names(&self, upstream: usize, node: usize) -> (&str, String) {
        let one = self.upstreams.get(upstream);
        let node = one.and_then(|one| one.node_name(node)).unwrap_or_default();
        (one.map_or("", |one| one.config.name.as_str()), node)
    }

    fn log_state(&self, upstream: usize, node: usize, state: NodeState) {
        let config = self.upstreams.get(upstream).map(|one| &one.config);
        if let Some(config) = config.filter(|config| config.discover.is_none() && !config.is_listed(node)) {
            let node = config.nodes.get(node).map(|node| &node.name);
            tracing::info!(upstream = config.name, node, "node gone");
            return;
        }
        let (upstream, node) = self.names(upstream, node);
        tracing::info!(upstream, node, state = state.word(), "node changed");
    }

    fn probe_now(&self, upstream: usize, node: usize) {
        let one = self.upstreams.get(upstream);
        if let Some(target) = one.and_then(|one| one.nodes.get(node)) {
            target.probe_now.notify_one();
        }
    }

    fn log_alarm(&self, upstream: usize, alarm: Alarm) {
        let (upstream, node) = self.names(upstream, alarm.node().unwrap_or(0));
        let node = alarm.node().map(|_| node);
        tracing::error!(upstream, node, "an operator should look: {}", alarm.why());
    }

    fn log_failover(&self, upstream: usize, from: usize, to: usize, took: Duration) {
        let (_, from) = self.names(upstream, from);
        let (upstream, to) = self.names(upstream, to);
        tracing::warn!(upstream, from, to, ?took, "traffic moved");
    }
}

impl One {
    fn new(config: &Arc<Upstream>, view: Arc<ViewCell>, cores: usize) -> Self {
        let rule = match &config.balance {
            Balance::LeastRequest => Rule::LeastRequest,
            Balance::RoundRobin => Rule::RoundRobin,
            Balance::Random => Rule::Random,
            Balance::PeakEwma => Rule::PeakEwma,
            Balance::Hash(_) => Rule::Hash,
        };
        let nodes = match config.discover {
            Some(_) => (0..config.slots()).map(|_| Arc::new(Target::empty())).collect(),
            None => reload::targets(config),
        };
        Self {
            config: Arc::clone(config),
            rule,
            view,
            nodes,
            former: ArcSwapOption::empty(),
            probes: Arc::default(),
            held: Arc::default(),
            ejected: Arc::new(Mutex::new(eject::nobody(config))),
            wanted: AtomicU64::new(0),
            trouble: Notify::new(),
            rival: rival::Rival::default(),
            ways: tls::Ways::default(),
            retries: Purse::new(&Budget::new(config.retry.budget_percent), cores),
            hedges: config
                .hedge
                .map(|hedge| Purse::new(&Budget::strict(hedge.max_percent), cores)),
        }
    }

    /// Whether its nodes are stateless over one store.
    fn is_shared(&self) -> bool {
        self.config.replication == Replication::Shared
    }

    /// A call's aim, as far as the upstream allows it. Where one node has the traffic or the writes, nobody else gets them because that
    /// one is out: that would be a promotion (R29).
    fn aim(&self, aim: Aim, primary_only: bool) -> Aim {
        let alike =
            self.config.mode == Mode::ActiveActive && (!primary_only || self.config.replication == Replication::Shared);
        Aim {
            when_none: if alike { aim.when_none } else { WhenNone::Refuse },
            ..aim
        }
    }

    /// The `Host` to send to a node; none: the client's.
    fn host(&self, node: usize) -> Option<HeaderValue> {
        match &self.config.host {
            HostHeader::Preserve => None,
            HostHeader::Node => self.seat(node).map(|seat| seat.authority.clone()),
            HostHeader::Fixed(host) => Some(host.clone()),
        }
    }

    /// Who sits in a place.
    fn seat(&self, node: usize) -> Option<Arc<Seat>> {
        self.nodes.get(node).and_then(|target| target.seat())
    }

    fn node_name(&self, node: usize) -> Option<String> {
        self.seat(node).map(|seat| seat.member.name.clone())
    }
}

/// One core's connections. Cheap to clone; use it on the core it was made for.
#[derive(Clone)]
pub struct Pool {
    core: Arc<pool::Core>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}
