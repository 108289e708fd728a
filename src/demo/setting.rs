//! The demo's stage: which ports, which nodes, and the configuration the proxy runs with.

use super::backend::{HEALTH, Node, Store};
use crate::world::{BindOptions, World};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The nodes of the active-active upstream.
pub(super) const SHOP: [&str; 3] = ["a", "b", "c"];
/// The active-passive upstream: the active, and its hot standby.
pub(super) const LEDGER: [&str; 2] = ["north", "south"];
/// The bound of the eventual routes.
pub(super) const BOUND_MS: u64 = 3000;
/// How long a lost write may still be applied, by the strong routes' contract: the backend applies a write at once or never.
pub(super) const SETTLE_AFTER_MS: u64 = 1000;

/// `tidegate demo`: a replicated backend, the proxy in front of it, and a tour.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Run the tour by itself on free ports, print what each step showed, and exit 0, or 1 when a step did not show what it claims
    #[arg(long, env = "TIDEGATE_DEMO_ONCE")]
    pub once: bool,
    /// Port of the proxy
    #[arg(long, value_name = "PORT", env = "TIDEGATE_DEMO_PORT")]
    pub port: Option<u16>,
    /// Port of the proxy's admin interface
    #[arg(long, value_name = "PORT", env = "TIDEGATE_DEMO_ADMIN_PORT")]
    pub admin_port: Option<u16>,
    /// Port where nodes are killed and revived
    #[arg(long, value_name = "PORT", env = "TIDEGATE_DEMO_FAULT_PORT")]
    pub fault_port: Option<u16>,
    /// Port of the first node; the others follow
    #[arg(long, value_name = "PORT", env = "TIDEGATE_DEMO_NODES_FROM")]
    pub nodes_from: Option<u16>,
}

/// Where everything listens.
pub(super) struct Ports {
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) fault: SocketAddr,
}

/// The backend: one store, five nodes.
pub(super) struct Backend {
    pub(super) store: Arc<Store>,
    pub(super) nodes: Vec<Arc<Node>>,
}

impl Backend {
    /// Starts the nodes on their ports, or on free ones, saying so.
    pub(super) fn start(options: &Options, world: &World) -> io::Result<Self> {
        let store = Arc::new(Store::default());
        let mut nodes = Vec::new();
        for (name, offset) in SHOP.into_iter().chain(LEDGER).zip(0..) {
            let wanted = wanted(options.once, options.nodes_from, 9001, offset);
            let on = free(world, wanted, "--nodes-from");
            nodes.push(Arc::new(Node::start(name, on, Arc::clone(&store), world)?));
        }
        Ok(Self { store, nodes })
    }

    pub(super) fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|n| n.name == name)
    }
}

impl Ports {
    /// The ports as asked for, or free ones, saying so.
    pub(super) fn choose(options: &Options, world: &World) -> Self {
        let of = |given, default, flag| free(world, wanted(options.once, given, default, 0), flag);
        Self {
            proxy: of(options.port, 8080, "--port"),
            admin: of(options.admin_port, 9901, "--admin-port"),
            fault: of(options.fault_port, 9900, "--fault-port"),
        }
    }
}

/// The tour by itself takes any free port unless told otherwise, so that it runs beside anything.
fn wanted(once: bool, given: Option<u16>, default: u16, offset: u16) -> SocketAddr {
    let port = match given {
        Some(0) => 0,
        Some(port) => port.saturating_add(offset),
        None if once => 0,
        None => default + offset,
    };
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The address itself when it can be bound, else one with a free port.
fn free(world: &World, wanted: SocketAddr, flag: &str) -> SocketAddr {
    match world.net.listen(wanted, BindOptions::default()) {
        Ok(_) => wanted,
        Err(e) => {
            println!(
                "port {} cannot be used ({e}): taking a free one ({flag} chooses another)",
                wanted.port()
            );
            SocketAddr::new(wanted.ip(), 0)
        }
    }
}

/// The configuration of the demo's proxy: one route per level, and an active-passive pair.
pub(super) fn config(ports: &Ports, backend: &Backend) -> String {
    let nodes = |names: &[&str]| {
        let known = backend.nodes.iter().filter(|n| names.contains(&n.name.as_str()));
        let lines = known.map(|n| {
            let standby = if n.name == "south" { ", standby = \"hot\"" } else { "" };
            format!(
                "  {{ url = \"http://{}\", name = \"{}\"{standby} }},\n",
                n.address, n.name
            )
        });
        lines.collect::<String>()
    };
    format!(
        r#"[listeners.main]
address = "{proxy}"

[admin]
address = "{admin}"

[telemetry]
log = "error"

# Three active nodes over one store.
[upstreams.shop]
mode = "active-active"
connect_timeout = "500ms"
response_timeout = "2s"
nodes = [
{shop}]

[upstreams.shop.health_check]
path = "{HEALTH}"
interval = "200ms"
timeout = "200ms"

# One active node and a hot standby.
[upstreams.ledger]
mode = "active-passive"
connect_timeout = "500ms"
response_timeout = "2s"
nodes = [
{ledger}]

[upstreams.ledger.health_check]
path = "{HEALTH}"
interval = "200ms"
timeout = "200ms"

[[routes]]
name = "off"                       # nothing is stored
match = {{ path = "/off/{{*rest}}" }}
upstream = "shop"

[[routes]]
name = "weak"                      # whatever was produced in the last 30 s
match = {{ path = "/weak/{{*rest}}" }}
upstream = "shop"
consistency = "weak"
ttl = "30s"

[[routes]]
name = "eventual"                  # never older than 3 s; rather no answer (CP)
match = {{ path = "/eventual/{{*rest}}" }}
upstream = "shop"
consistency = "eventual"
ttl = "{BOUND_MS}ms"
max_staleness = "{BOUND_MS}ms"
on_unreachable = "error"

[[routes]]
name = "available"                 # the same, but rather an old answer than none (AP)
match = {{ path = "/available/{{*rest}}" }}
upstream = "shop"
consistency = "eventual"
ttl = "{BOUND_MS}ms"
max_staleness = "{BOUND_MS}ms"
on_unreachable = "stale"

[[routes]]
name = "strong"                    # always the last acknowledged write; all writes come through here, so reads are hits
match = {{ path = "/strong/{{*rest}}" }}
upstream = "shop"
consistency = "strong"
writers = "exclusive"
settle_after = "{SETTLE_AFTER_MS}ms"

[[routes]]
name = "shared"                    # the same, whoever else writes: a node confirms every read
match = {{ path = "/shared/{{*rest}}" }}
upstream = "shop"
consistency = "strong"
settle_after = "{SETTLE_AFTER_MS}ms"

[[routes]]
name = "ledger"                    # the active-passive pair
match = {{ path = "/ledger/{{*rest}}" }}
upstream = "ledger"
consistency = "strong"
settle_after = "{SETTLE_AFTER_MS}ms"
"#,
        proxy = ports.proxy,
        admin = ports.admin,
        shop = nodes(&SHOP),
        ledger = nodes(&LEDGER),
    )
}
