//! The proxy under test: in this process through `App::build`, or the real binary as a child.

use super::client::{Answer, Client, get};
use super::{DEADLINE, eventually, within};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use tidegate::app::{App, Running};
use tidegate::world::World;

/// For a proxy whose first listener is no port.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// One upstream `o` with one node `{origin}`, and one route for everything with these keys.
pub fn one_route(keys: &str) -> String {
    format!(
        "[upstreams.o]\nnodes = [{{ url = \"{{origin}}\" }}]\nconnect_timeout = \"2s\"\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n{keys}\n"
    )
}

/// A running proxy. It stops when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    running: Option<Running>,
}

impl Proxy {
    /// Starts the proxy from a configuration text in which `{name}` stands for each of the given values. Where the text has no
    /// `[listeners.main]`, `[admin]` or `[server]`, it gets free loopback ports and two threads.
    pub async fn start(config: &str, values: &[(&str, &str)]) -> Self {
        Self::start_in(World::real(), config, values).await
    }

    /// The same in this world.
    pub async fn start_in(world: World, config: &str, values: &[(&str, &str)]) -> Self {
        Self::start_as(world, complete(config, values), None).await
    }

    /// The same from a file, which is written first and can be reloaded.
    pub async fn start_from_file(file: &Path, config: &str) -> Self {
        let text = complete(config, &[]);
        std::fs::write(file, &text).expect("a file to write to");
        Self::start_as(World::real(), text, Some(file.to_owned())).await
    }

    async fn start_as(world: World, text: String, file: Option<std::path::PathBuf>) -> Self {
        // tests/mutations runs a test with a rule off and wants to see it fail.
        if let Ok(rules) = std::env::var("TIDEGATE_TEST_RULES_OFF") {
            tidegate::core::rules::switch_off(&rules).expect("rules with switches");
        }
        let running = aside("the proxy to start", move || {
            let loaded = tidegate::config::load::from_text(&text, "test.toml", Path::new("."), &world);
            let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
            assert!(errors.is_empty(), "{}\nin\n{text}", errors.join("\n"));
            let config = loaded.config.expect("a configuration without errors");
            let app = App::build(config, world).unwrap_or_else(|e| panic!("build: {e}"));
            let app = match file {
                Some(file) => app.read_from(file),
                None => app,
            };
            app.start().unwrap_or_else(|e| panic!("start: {e}"))
        })
        .await;
        Self {
            address: running.listeners[0].1.tcp().unwrap_or(NOWHERE),
            admin: running.admin,
            running: Some(running),
        }
    }

    /// The address of the listener at this place in the file.
    pub fn listener(&self, place: usize) -> SocketAddr {
        self.running.as_ref().unwrap().listeners[place].1.tcp().unwrap()
    }

    /// Begins to leave, as on SIGTERM.
    pub fn drain(&self) {
        self.running.as_ref().unwrap().drain();
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, target: &str) -> Answer {
        get(self.address, target).await
    }

    /// One request on a connection of its own.
    pub async fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.client()
            .await
            .request(method, target, headers, body.as_bytes())
            .await
    }

    pub async fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", target, headers, "").await
    }

    pub async fn put(&self, target: &str, body: &str) -> Answer {
        self.request("PUT", target, &[], body).await
    }

    /// One GET at the admin port.
    pub async fn admin_get(&self, target: &str) -> Answer {
        let host = self.admin.to_string();
        let mut client = Client::connect(self.admin).await;
        client.get_with(target, &[("Host", &host)]).await
    }

    /// One POST of a JSON text at the admin port.
    pub async fn admin_post(&self, target: &str, json: &str) -> Answer {
        let host = self.admin.to_string();
        let mut client = Client::connect(self.admin).await;
        let headers = [("Host", host.as_str()), ("Content-Type", "application/json")];
        client.request("POST", target, &headers, json.as_bytes()).await
    }

    /// Purges a URL and answers how many entries went.
    pub async fn purge(&self, json: &str) -> u64 {
        let answer = self.admin_post("/purge", json).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        json["entries"].as_u64().unwrap()
    }

    pub async fn status(&self) -> serde_json::Value {
        let answer = self.admin_get("/status").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// A node's state in `/status`.
    pub async fn node_state(&self, upstream: &str, node: &str) -> String {
        let status = self.status().await;
        let upstreams = status["upstreams"].as_array().unwrap();
        let upstream = upstreams
            .iter()
            .find(|u| u["name"] == upstream)
            .expect("the upstream is in /status");
        let nodes = upstream["nodes"].as_array().unwrap();
        let node = nodes
            .iter()
            .find(|n| n["name"] == node)
            .expect("the node is in /status");
        node["state"].as_str().unwrap().to_owned()
    }

    pub async fn until_state(&self, upstream: &str, node: &str, state: &str) {
        eventually(format!("{upstream}/{node} to be {state}"), || async {
            self.node_state(upstream, node).await == state
        })
        .await;
    }

    /// The sum of a metric over all its series that carry these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let answer = self.admin_get("/metrics").await;
        assert_eq!(answer.status, 200);
        metric_in(answer.text(), name, labels)
    }

    /// How many requests may have come to this result.
    pub async fn results(&self, result: &str) -> f64 {
        self.metric("tidegate_requests_total", &[("result", result)]).await
    }

    pub async fn until_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(format!("{name}{labels:?} to be {value}"), || async {
            (self.metric(name, labels).await - value).abs() < f64::EPSILON
        })
        .await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Stopping joins threads, which must not happen on a thread that drives futures.
            let stopped = std::thread::spawn(move || running.stop()).join();
            assert!(
                stopped.is_ok() || std::thread::panicking(),
                "the proxy panicked while stopping"
            );
        }
    }
}

/// The sum of a metric in the Prometheus text format.
pub fn metric_in(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (named, of) = series.split_once('{').unwrap_or((series, ""));
        if named == name && labels.iter().all(|(n, v)| of.contains(&format!("{n}=\"{v}\""))) {
            sum += value.parse::<f64>().expect("a number in the metrics");
        }
    }
    sum
}

pub fn complete(config: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (table, keys) in [
        ("[server]", "threads = 2"),
        ("[listeners.main]", "address = \"127.0.0.1:0\""),
        ("[admin]", "address = \"127.0.0.1:0\""),
    ] {
        if !config.contains(table) {
            text += &format!("{table}\n{keys}\n\n");
        }
    }
    text += config;
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

/// Runs something that blocks on a thread of its own.
async fn aside<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = tokio::sync::oneshot::channel();
    let worker = std::thread::spawn(move || {
        let _ = done.send(work());
    });
    match within(what, is_done).await {
        Ok(value) => value,
        Err(_) => std::panic::resume_unwind(worker.join().expect_err("the worker panicked")),
    }
}

/// The real binary as a child process. Killed when it is dropped.
pub struct Binary {
    child: Child,
    lines: mpsc::Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
    _config: tempfile::TempDir,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the binary to its end.
pub async fn run_to_end(args: &[&str]) -> Ended {
    run_with_variables(args, &[]).await
}

/// The same with variables in its environment.
pub async fn run_with_variables(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let child = command(args)
        .envs(variables.iter().copied())
        .spawn()
        .expect("the binary starts");
    let output = aside("the binary to end", move || child.wait_with_output().unwrap()).await;
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Writes a configuration file and answers its folder and its path.
pub fn config_file(config: &str, values: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.toml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(complete(config, values).as_bytes()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

impl Binary {
    /// Starts `tidegate run -c` with this configuration, completed as for [`Proxy::start`].
    pub fn run(config: &str, values: &[(&str, &str)]) -> Self {
        let (dir, path) = config_file(config, values);
        Self::start(&["run", "-c", &path], dir)
    }

    /// The same with variables in its environment.
    pub fn run_with(config: &str, values: &[(&str, &str)], env: &[(String, String)]) -> Self {
        let (dir, path) = config_file(config, values);
        let mut command = command(&["run", "-c", &path]);
        command.envs(env.iter().map(|(n, v)| (n, v)));
        Self::spawn(command, dir)
    }

    /// Starts the binary with these arguments.
    pub fn start(args: &[&str], dir: tempfile::TempDir) -> Self {
        Self::spawn(command(args), dir)
    }

    fn spawn(mut command: Command, dir: tempfile::TempDir) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut errors = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self {
            child,
            lines,
            stderr: Some(stderr),
            _config: dir,
        }
    }

    /// Waits for the `ready` line and answers it.
    pub fn ready_line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(_) => {
                let _ = self.child.kill();
                let stderr = self.stderr.take().map(|s| s.join().unwrap());
                panic!("no ready line came; stderr:\n{}", stderr.unwrap_or_default());
            }
        }
    }

    /// Waits for the `ready` line and answers the addresses in it: the first listener's and the admin port's.
    pub fn ready(&mut self) -> (SocketAddr, SocketAddr) {
        let line = self.ready_line();
        let part = |name: &str| {
            let found = line.split(' ').find_map(|w| w.strip_prefix(name)).map(str::to_owned);
            found.unwrap_or_else(|| panic!("{name} is not in {line:?}"))
        };
        assert!(line.starts_with("ready "), "{line:?}");
        let listeners = part("listeners=");
        let first = listeners.split(',').next().unwrap();
        let (_, address) = first.split_once('=').unwrap();
        (address.parse().unwrap(), part("admin=").parse().unwrap())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until the process has ended.
    pub async fn ended(mut self) -> Ended {
        let stderr = self.stderr.take().unwrap();
        let mut code = None;
        eventually("the process to end", || {
            code = self.child.try_wait().unwrap();
            async move { code.is_some() }
        })
        .await;
        Ended {
            code: self.child.wait().unwrap().code(),
            // To the end of the stream: what the process wrote last may be on its way to us.
            stdout: self.lines.iter().collect::<Vec<_>>().join("\n"),
            stderr: stderr.join().unwrap(),
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
