//! The machines of a run: nodes over one store, one proxy or two, and what happens to them at certain steps of certain clients.

use super::chance::Chance;
use super::fault::{Fault, RESPONSE_TIMEOUT, SETTLE_AFTER};
use super::store::{Node, Store};
use super::support::proxy::Binary;
use super::support::within;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;
use tokio::sync::watch;

/// How a run is set up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Exclusive gear, one node.
    One,
    /// Exclusive gear, three nodes over one store.
    Three,
    /// Exclusive gear, three nodes, and writes that read their target again.
    Refresh,
    /// The same, and what they write is stored where the node says so.
    Store,
    /// Exclusive gear, two nodes, room for a handful of entries.
    Crowded,
    /// Validate gear, two nodes, two proxies: the other's writes are those nobody told us about.
    Pair,
}

impl Setup {
    pub const ALL: [Self; 6] = [
        Self::One,
        Self::Three,
        Self::Crowded,
        Self::Pair,
        Self::Refresh,
        Self::Store,
    ];

    fn nodes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Crowded | Self::Pair => 2,
            Self::Three | Self::Refresh | Self::Store => 3,
        }
    }

    fn proxies(self) -> usize {
        if self == Self::Pair { 2 } else { 1 }
    }

    pub fn is_exclusive(self) -> bool {
        self != Self::Pair
    }

    fn config(self, nodes: &[Node], state_dir: &str) -> String {
        let nodes: Vec<String> = nodes.iter().map(|n| format!("{{ url = \"{}\" }}", n.url())).collect();
        let strong = format!(
            "consistency = \"strong\"\nsettle_after = \"{}ms\"\nwriters = \"{}\"\n{}",
            SETTLE_AFTER.as_millis(),
            if self.is_exclusive() { "exclusive" } else { "external" },
            match self {
                Self::Refresh => "write_through = \"refresh\"\n",
                Self::Store => "write_through = \"store\"\n",
                Self::One | Self::Three | Self::Crowded | Self::Pair => "",
            }
        );
        let memory = if self == Self::Crowded {
            "[cache]\nmax_memory = \"64KiB\"\nmax_object = \"4KiB\""
        } else {
            ""
        };
        format!(
            "[server]\nthreads = 2\nstate_dir = \"{state_dir}\"\ndrain_timeout = \"2s\"\n\n\
            {memory}\n\n\
            [upstreams.o]\nnodes = [{}]\nconnect_timeout = \"1s\"\nresponse_timeout = \"{}ms\"\n\n\
            [upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\nhealthy_threshold = 1\nunhealthy_threshold = 2\n\n\
            [upstreams.o.retry]\nattempts = 3\nbudget = \"100%\"\n\n\
            [[routes]]\nname = \"k\"\nupstream = \"o\"\n{strong}\n",
            nodes.join(", "),
            RESPONSE_TIMEOUT.as_millis(),
        )
    }
}

/// Steps between a node's death and its return.
const DOWN_FOR: u64 = 15;

/// Who does what to which machine, at which of its own steps.
type Script = BTreeMap<(u32, u64), Fault>;

pub struct Stage {
    epoch: Instant,
    setup: Setup,
    nodes: Vec<Node>,
    proxies: Vec<Proxy>,
    env: Vec<(String, String)>,
    script: Script,
    /// How many want each node down.
    down: Vec<tokio::sync::Mutex<u32>>,
    happened: Mutex<BTreeMap<String, u64>>,
}

/// One proxy, in this and its later lives.
struct Proxy {
    state: tempfile::TempDir,
    child: tokio::sync::Mutex<Option<Binary>>,
    address: watch::Sender<SocketAddr>,
    up: watch::Sender<bool>,
}

impl Stage {
    pub async fn start(setup: Setup, store: &Store, env: Vec<(String, String)>) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..setup.nodes() {
            nodes.push(store.node().await);
        }
        let mut proxies = Vec::new();
        for _ in 0..setup.proxies() {
            let state = tempfile::tempdir().unwrap();
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
            proxies.push(Proxy {
                state,
                child: tokio::sync::Mutex::new(None),
                address: watch::Sender::new(nowhere),
                up: watch::Sender::new(false),
            });
        }
        let down = nodes.iter().map(|_| tokio::sync::Mutex::default()).collect();
        let stage = Self {
            epoch: Instant::now(),
            setup,
            nodes,
            proxies,
            env,
            script: Script::new(),
            down,
            happened: Mutex::default(),
        };
        for proxy in &stage.proxies {
            stage.launch(proxy, &mut *proxy.child.lock().await);
        }
        stage
    }

    /// Plans the machines' faults over the clients' scripts.
    pub fn plan(&mut self, seed: u64, faults: &[Fault], clients: u32, steps: u64) {
        let mut chance = Chance::of(seed, 0);
        for fault in faults.iter().copied().filter(|f| f.is_of_a_machine()) {
            for _ in 0..1 + u64::from(clients) * steps / 1500 {
                let when = (chance.below(u64::from(clients)) as u32, chance.below(steps - DOWN_FOR));
                self.script.insert(when, fault);
            }
        }
    }

    /// Nanoseconds on the one clock of the history.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    pub fn address_of(&self, client: u32) -> SocketAddr {
        *self.proxy_of(client).address.borrow()
    }

    fn proxy_of(&self, client: u32) -> &Proxy {
        &self.proxies[client as usize % self.proxies.len()]
    }

    /// Waits until this client's proxy has been started again.
    pub async fn until_up(&self, client: u32) {
        let mut up = self.proxy_of(client).up.subscribe();
        let _ = within("the proxy to be up again", up.wait_for(|up| *up)).await;
    }

    pub fn happened(&self) -> BTreeMap<String, u64> {
        self.happened.lock().unwrap().clone()
    }

    /// Whether this step of this client does anything to a machine. Who restarts a proxy should hold no connection to it.
    pub fn is_due(&self, client: u32, step: u64) -> bool {
        self.script.contains_key(&(client, step))
    }

    /// What this step of this client does to the machines.
    pub async fn machines(&self, client: u32, step: u64) {
        let due = |step: Option<u64>| step.and_then(|s| self.script.get(&(client, s))).copied();
        if due(step.checked_sub(DOWN_FOR)) == Some(Fault::NodeDown) {
            self.want_node(client, true).await;
        }
        let Some(fault) = due(Some(step)) else { return };
        match fault {
            Fault::NodeDown => self.want_node(client, false).await,
            Fault::Kill => self.restart(self.proxy_of(client), Signal::KILL).await,
            Fault::CleanStop => self.restart(self.proxy_of(client), Signal::TERM).await,
            _ => unreachable!("{fault:?} is of no machine"),
        }
        *self.happened.lock().unwrap().entry(fault.name()).or_default() += 1;
    }

    /// A node is down while anybody wants it down.
    async fn want_node(&self, client: u32, up: bool) {
        let at = client as usize % self.nodes.len();
        let mut down = self.down[at].lock().await;
        if !up && *down == 0 || up && *down == 1 {
            self.nodes[at].set_up(up).await;
        }
        *down = if up { *down - 1 } else { *down + 1 };
    }

    async fn restart(&self, proxy: &Proxy, signal: Signal) {
        let mut child = proxy.child.lock().await;
        proxy.up.send_replace(false);
        let old = child.take().expect("the proxy runs");
        old.signal(signal);
        let ended = old.ended().await;
        assert!(
            signal == Signal::KILL || ended.code == Some(0),
            "the proxy did not stop cleanly: {ended:?}"
        );
        self.launch(proxy, &mut child);
    }

    fn launch(&self, proxy: &Proxy, child: &mut Option<Binary>) {
        let config = self.setup.config(&self.nodes, proxy.state.path().to_str().unwrap());
        let address = tokio::task::block_in_place(|| {
            let mut binary = Binary::run_with(&config, &[], &self.env);
            let (address, _) = binary.ready();
            *child = Some(binary);
            address
        });
        proxy.address.send_replace(address);
        proxy.up.send_replace(true);
    }
}
