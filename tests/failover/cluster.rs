//! Nodes as processes, the store behind shared ones, and the proxy in front.

use super::support::DEADLINE;
use super::support::client::Client;
use super::support::origin::bound;
use super::support::proxy::Binary;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

/// How the nodes hold their data.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over one store.
    Shared,
    /// Each by itself; the proxy copies.
    Mirrored,
    /// One is written to and sends it on, before it answers or after.
    Primary {
        /// So long after; zero: before.
        lag_ms: u64,
    },
}

/// A node in this and its later lives.
pub struct NodeProcess {
    pub address: SocketAddr,
    dir: tempfile::TempDir,
    child: Option<Child>,
    /// Its port while it is dead: nobody else on this machine may take it.
    kept: Option<tokio::net::TcpSocket>,
}

pub struct Cluster {
    pub kind: Kind,
    pub nodes: Vec<NodeProcess>,
    store: Option<NodeProcess>,
    state: tempfile::TempDir,
    /// A node whose name is on a file in here writes nothing.
    fences: tempfile::TempDir,
    proxy: Option<Binary>,
    /// The proxy's addresses: clients, admin.
    pub proxy_at: SocketAddr,
    pub admin: SocketAddr,
    /// Keys of `[upstreams.o]`, of `[upstreams.o.failover]`, and of the route, beside the usual ones.
    extra: [String; 3],
}

/// From one probe to the next, and how many fail before a node is out: what the outage is compared with.
pub const INTERVAL_MS: u64 = 100;
pub const UNHEALTHY: u64 = 3;
pub const TIMEOUT_MS: u64 = 100;

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl NodeProcess {
    fn new() -> Self {
        Self {
            address: nowhere(),
            dir: tempfile::tempdir().unwrap(),
            child: None,
            kept: None,
        }
    }

    /// Starts it, at the address of its last life if it had one.
    fn start(&mut self, env: &[(&str, String)]) {
        self.kept = None;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node::serve", "--ignored", "--nocapture"])
            .env("NODE_DIR", self.dir.path())
            .env("NODE_LISTEN", self.address.to_string())
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary starts again");
        let (tell, told) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening ") {
                    let _ = tell.send(address.parse().unwrap());
                }
            }
        });
        self.address = told.recv_timeout(DEADLINE).expect("the node listens");
        self.child = Some(child);
    }

    /// SIGKILL; returns when it is dead.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            self.kept = Some(bound(self.address));
        }
    }

    /// A write that does not come through the proxy.
    pub async fn write_behind(&self, target: &str, value: &str) {
        let answer = Client::connect(self.address).await.put(target, value).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    pub async fn tell(&self, target: &str, body: &str) -> u16 {
        let mut client = Client::connect(self.address).await;
        client
            .request("POST", target, &[("Connection", "close")], body.as_bytes())
            .await
            .status
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    /// Nodes that serve, and no proxy yet.
    pub fn nodes(kind: Kind, count: usize, extra: [&str; 3]) -> Self {
        let store = (kind == Kind::Shared).then(|| {
            let mut store = NodeProcess::new();
            store.start(&[("NODE_MODE", "alone".to_owned())]);
            store
        });
        let mut cluster = Self {
            kind,
            nodes: (0..count).map(|_| NodeProcess::new()).collect(),
            store,
            state: tempfile::tempdir().unwrap(),
            fences: tempfile::tempdir().unwrap(),
            proxy: None,
            proxy_at: nowhere(),
            admin: nowhere(),
            extra: extra.map(str::to_owned),
        };
        for node in 0..count {
            cluster.start_node(node);
        }
        if matches!(kind, Kind::Primary { .. }) {
            // Only now does everybody know where everybody is.
            for node in 0..count {
                cluster.nodes[node].kill();
                cluster.start_node(node);
            }
        }
        cluster
    }

    /// Starts a node, for the first time or again; a fence that stands is taken away, as who repairs it would.
    pub fn start_node(&mut self, node: usize) {
        let followers = self.nodes.iter().enumerate().filter(|(n, _)| *n != node);
        let followers: Vec<_> = followers.map(|(_, n)| n.address.to_string()).collect();
        let mode = match self.kind {
            Kind::Shared => "shared",
            Kind::Mirrored => "alone",
            Kind::Primary { .. } => "primary",
        };
        let mut env = vec![("NODE_MODE", mode.to_owned()), ("NODE_FOLLOWERS", followers.join(","))];
        env.extend(
            self.store
                .as_ref()
                .map(|store| ("NODE_STORE", store.address.to_string())),
        );
        if node == 0 {
            env.push(("NODE_PRIMARY", "1".to_owned()));
        }
        if let Kind::Primary { lag_ms } = self.kind
            && lag_ms > 0
        {
            env.push(("NODE_LAG_MS", lag_ms.to_string()));
        }
        env.push(("NODE_FENCES", self.fences.path().to_str().unwrap().to_owned()));
        if self.kind == Kind::Mirrored {
            env.retain(|(name, _)| *name != "NODE_FOLLOWERS");
        }
        let _ = std::fs::remove_file(self.fences.path().join(format!("fence-{}", self.nodes[node].address)));
        self.nodes[node].start(&env);
    }

    /// Starts the proxy, or starts it again.
    pub fn start_proxy(&mut self) {
        let mut binary = Binary::run(&self.config(), &[]);
        (self.proxy_at, self.admin) = binary.ready();
        self.proxy = Some(binary);
    }

    /// SIGKILL; its clients see their connections break.
    pub fn kill_proxy(&mut self) {
        self.proxy = None;
    }

    /// What the proxy is given.
    pub fn config(&self) -> String {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(n, node)| {
                let standby = if n == 0 { "" } else { ", standby = \"hot\"" };
                format!("{{ url = \"http://{0}\", name = \"{0}\"{standby} }}", node.address)
            })
            .collect();
        let (replication, headers) = match self.kind {
            Kind::Shared => ("shared", ""),
            Kind::Mirrored => ("mirrored", ""),
            Kind::Primary { .. } => (
                "primary",
                "role_header = \"Node-Role\"\nterm_header = \"Node-Term\"\nposition_header = \"Node-Position\"\n",
            ),
        };
        let writers = if self.kind == Kind::Mirrored {
            "writers = \"exclusive\"\n"
        } else {
            ""
        };
        let [upstream, failover, route] = &self.extra;
        format!(
            "[server]\nthreads = 2\nstate_dir = \"{state}\"\ndrain_timeout = \"2s\"\n\n\
            [upstreams.o]\nmode = \"active-passive\"\nreplication = \"{replication}\"\nnodes = [{nodes}]\nconnect_timeout = \"1s\"\nresponse_timeout = \"1s\"\n{upstream}\n\n\
            [upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"{INTERVAL_MS}ms\"\ntimeout = \"{TIMEOUT_MS}ms\"\nhealthy_threshold = 2\nunhealthy_threshold = {UNHEALTHY}\n{headers}\n\
            {failover}\n\n\
            [[routes]]\nname = \"k\"\nupstream = \"o\"\nconsistency = \"strong\"\nsettle_after = \"2s\"\n{writers}{route}\n",
            state = self.state.path().display(),
            nodes = nodes.join(", "),
        )
    }

    /// Promotion by the proxy: a fence that stops the old primary from writing, and a word to the new one. Hooks are given a node's
    /// name, which is its address.
    pub fn hooks(&self) -> String {
        format!(
            "fence = [\"touch\", \"{}/fence-{{node}}\"]\n\
            on_promote = [\"curl\", \"-fsS\", \"-m\", \"2\", \"-X\", \"POST\", \"http://{{node}}/promote\"]\n",
            self.fences.path().display()
        )
    }

    /// Sets keys of `[upstreams.o.failover]`.
    pub fn failover(&mut self, keys: &str) {
        self.extra[1] = format!("[upstreams.o.failover]\n{keys}");
    }

    /// `/status` of the upstream.
    pub async fn status(&self) -> serde_json::Value {
        let mut client = Client::connect(self.admin).await;
        let answer = client
            .request("GET", "/status", &[("Connection", "close"), ("Host", "localhost")], b"")
            .await;
        let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        status["upstreams"][0].clone()
    }

    /// Which node is the primary now.
    pub async fn primary(&self) -> Option<usize> {
        let status = self.status().await;
        let name = status["primary"].as_str()?.to_owned();
        self.nodes.iter().position(|node| node.address.to_string() == name)
    }

    pub async fn metrics(&self) -> String {
        let mut client = Client::connect(self.admin).await;
        let answer = client
            .request(
                "GET",
                "/metrics",
                &[("Connection", "close"), ("Host", "localhost")],
                b"",
            )
            .await;
        answer.text().to_owned()
    }
}
