//! An in-memory network of scripted nodes. A node hands each connection to the test once its first request head is in, but answers
//! probes (`/healthz`) by itself. Time is tokio's, paused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::config::load::from_text;
use crate::config::runtime::Upstream;
use crate::coord::{Coord, Nodes};
use crate::core::discovery::{Kind, Record};
use crate::core::failover::event::Effect;
use crate::core::failover::observed::Observing;
use crate::core::failover::view::{Epoch, Primary, View};
use crate::core::reason::{NodeState, RetryReason};
use crate::core::time::{MonoTime, Span, WallTime};
use crate::upstream::{
    Answered, BodyError, Call, CallError, Events, Kind as CallKind, NodeBody, OutBody, Pool, Upstreams,
};
use crate::world::{Answer, BindOptions, BoxFuture, Clock, Listener, Net, Stream, ViewCell, World};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a node does with a connect.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Refuses,
    /// Neither accepts nor refuses.
    Hangs,
    /// Accepts after so long.
    Opens(Duration),
}

/// One scripted node, as the network sees it.
struct Host {
    door: Mutex<Door>,
    /// What `/healthz` answers; 0: nothing, ever.
    health: AtomicU16,
    connects: AtomicUsize,
    probes: AtomicUsize,
    peers: mpsc::UnboundedSender<Peer>,
}

#[derive(Default)]
struct TestNet {
    hosts: Mutex<BTreeMap<SocketAddr, Arc<Host>>>,
    names: Mutex<Option<Known>>,
}

/// What the one name there is resolves to.
struct Known {
    kind: Kind,
    answer: Result<Vec<Record>, io::ErrorKind>,
    ttl: Duration,
}

impl Net for TestNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        let host = self.hosts.lock().get(&to).cloned();
        Box::pin(async move {
            let host = host.ok_or(io::ErrorKind::ConnectionRefused)?;
            host.connects.fetch_add(1, Ordering::SeqCst);
            let door = *host.door.lock();
            match door {
                Door::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
                Door::Hangs => std::future::pending().await,
                Door::Opens(after) => tokio::time::sleep(after).await,
                Door::Open => {}
            }
            let (near, far) = duplex(64 * 1024);
            let broken = Arc::new(AtomicBool::new(false));
            let peer = Peer {
                io: far,
                buffer: Vec::new(),
                broken: Arc::clone(&broken),
            };
            tokio::spawn(route(host, peer));
            Ok(Box::new(Breakable { io: near, broken }) as Stream)
        })
    }

    fn listen(&self, _: SocketAddr, _: BindOptions) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn lookup<'a>(&'a self, _: &'a str, kind: Kind) -> BoxFuture<'a, io::Result<Answer>> {
        let names = self.names.lock();
        let answer = match names.as_ref().filter(|known| known.kind == kind) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(known) => known.answer.clone().map_err(io::Error::from).map(|records| Answer {
                records,
                ttl: known.ttl,
            }),
        };
        Box::pin(async { answer })
    }

    fn claim(&self, _: SocketAddr) -> io::Result<Box<dyn Send + Sync>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

async fn route(host: Arc<Host>, mut peer: Peer) {
    if !peer.fill_head().await {
        return;
    }
    if !peer.buffer.starts_with(b"GET /healthz ") {
        let _ = host.peers.send(peer);
        return;
    }
    host.probes.fetch_add(1, Ordering::SeqCst);
    match host.health.load(Ordering::SeqCst) {
        0 => std::future::pending().await,
        status => {
            peer.write(&format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n"))
                .await
        }
    }
}

/// Our end of a connection, whose writes can be made to fail before a byte goes out, as on a socket that was reset meanwhile.
struct Breakable {
    io: DuplexStream,
    broken: Arc<AtomicBool>,
}

impl AsyncRead for Breakable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The node's end of a connection. Dropped: closed.
pub(super) struct Peer {
    io: DuplexStream,
    buffer: Vec<u8>,
    broken: Arc<AtomicBool>,
}

impl Peer {
    async fn fill_head(&mut self) -> bool {
        while !self.buffer.windows(4).any(|w| w == b"\r\n\r\n") {
            if self.io.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        true
    }

    /// The next request head, in lower case.
    pub(super) async fn head(&mut self) -> String {
        assert!(
            within(self.fill_head()).await,
            "the connection was closed instead of a request"
        );
        let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        String::from_utf8(head).unwrap().to_lowercase()
    }

    /// The next `n` bytes.
    pub(super) async fn bytes(&mut self, n: usize) -> String {
        while self.buffer.len() < n {
            let n = within(self.io.read_buf(&mut self.buffer)).await.unwrap();
            assert_ne!(n, 0, "closed too early");
        }
        String::from_utf8(self.buffer.drain(..n).collect()).unwrap()
    }

    pub(super) async fn write(&mut self, text: &str) {
        let _ = self.io.write_all(text.as_bytes()).await;
    }

    /// Answers 200 with this body.
    pub(super) async fn ok(&mut self, body: &str) {
        let len = body.len();
        self.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{body}"))
            .await;
    }

    /// Waits until our side closes; panics when more comes instead.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        within(self.io.read_to_end(&mut rest)).await.unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&rest), "", "more came instead of the end");
    }

    /// Waits until our side closes, whatever it sends before.
    pub(super) async fn hangs_up(&mut self) {
        let mut rest = Vec::new();
        within(self.io.read_to_end(&mut rest)).await.unwrap_or_default();
    }

    /// What has come and will come, for a server that speaks something else than the rest of this.
    pub(super) fn into_stream(self) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
        let (read, write) = tokio::io::split(self.io);
        tokio::io::join(std::io::Cursor::new(self.buffer).chain(read), write)
    }

    /// From now on writes of our side fail before a byte goes out, and reads tell nothing.
    pub(super) fn break_writes(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

/// A node, as the test sees it.
pub(super) struct Node {
    host: Arc<Host>,
    peers: mpsc::UnboundedReceiver<Peer>,
}

impl Node {
    /// The next connection that carries a request other than a probe.
    pub(super) async fn accept(&mut self) -> Peer {
        within(self.peers.recv()).await.unwrap()
    }

    pub(super) fn door(&self, door: Door) {
        *self.host.door.lock() = door;
    }

    pub(super) fn health(&self, status: u16) {
        self.host.health.store(status, Ordering::SeqCst);
    }

    /// A hand on the node that stays when it serves.
    pub(super) fn remote(&self) -> Remote {
        Remote(Arc::clone(&self.host))
    }

    pub(super) fn connects(&self) -> usize {
        self.host.connects.load(Ordering::SeqCst)
    }

    pub(super) fn probes(&self) -> usize {
        self.host.probes.load(Ordering::SeqCst)
    }

    /// Serves every request from now on, in the background, each after a while.
    pub(super) fn serve_after(mut self, wait: Duration) {
        tokio::spawn(async move {
            while let Some(mut peer) = self.peers.recv().await {
                tokio::spawn(async move {
                    while peer.fill_head().await {
                        peer.head().await;
                        tokio::time::sleep(wait).await;
                        peer.ok("").await;
                    }
                });
            }
        });
    }

    /// Serves every request from now on, in the background.
    pub(super) fn serve(mut self, answer: &'static str) {
        tokio::spawn(async move {
            while let Some(mut peer) = self.peers.recv().await {
                tokio::spawn(async move {
                    while peer.fill_head().await {
                        peer.head().await;
                        peer.write(answer).await;
                    }
                });
            }
        });
    }
}

/// A hand on a node.
pub(super) struct Remote(Arc<Host>);

impl Remote {
    pub(super) fn refuse(&self) {
        *self.0.door.lock() = Door::Refuses;
    }

    pub(super) fn health(&self, status: u16) {
        self.0.health.store(status, Ordering::SeqCst);
    }
}

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn mono(&self) -> MonoTime {
        let us = u64::try_from(self.0.elapsed().as_micros()).unwrap();
        MonoTime::from_micros(100_000_000 + us)
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(1_800_000_000_000)
    }
}

/// What was told to the events.
#[derive(Default)]
pub(super) struct Told(pub(super) Mutex<Vec<String>>);

impl Events for Told {
    fn answered(&self, _: usize, node: usize, took: Duration) {
        self.0.lock().push(format!("answered {node} in {}ms", took.as_millis()));
    }
    fn retried(&self, _: usize, reason: RetryReason) {
        self.0.lock().push(format!("retried {}", reason.word()));
    }
    fn node_named(&self, _: usize, node: usize, name: Option<&str>) {
        self.0.lock().push(format!("{node} is {}", name.unwrap_or("nobody")));
    }
    fn node_state(&self, _: usize, node: usize, state: NodeState) {
        self.0.lock().push(format!("{node} {}", state.word()));
    }
    fn failover(&self, _: usize, took: Duration) {
        self.0.lock().push(format!("failover {}ms", took.as_millis()));
    }
}

/// A health check with the defaults, spelled out.
pub(super) const CHECK: &str = "[upstreams.u.health_check]\npath = \"/healthz\"\ninterval = \"1s\"\ntimeout = \"500ms\"\nhealthy_threshold = 2\nunhealthy_threshold = 3\n";

/// Keys of nodes that no configuration lists.
const FOUND: &str = "found";

/// An upstream `u` with scripted nodes.
pub(super) struct Rig {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) nodes: Vec<Node>,
    pub(super) world: World,
    pub(super) told: Arc<Told>,
    net: Arc<TestNet>,
    pub(super) views: Vec<Arc<ViewCell>>,
    /// No view can be made durable.
    pub(super) full: Arc<AtomicBool>,
}

/// What the keys of a test's upstream cannot say.
type Change = Box<dyn FnOnce(&mut Upstream)>;

impl Rig {
    /// `keys` are the upstream's keys and subtables in TOML, after `nodes`.
    pub(super) fn new(nodes: usize, cores: usize, keys: &str) -> Self {
        Self::build(nodes, cores, ("", keys), None)
    }

    /// An upstream of which the test knows more than its keys can say; it swaps the views by hand.
    pub(super) fn changed(nodes: usize, change: impl FnOnce(&mut Upstream) + 'static) -> Self {
        Self::build(nodes, 1, ("", ""), Some(Box::new(change)))
    }

    /// One node with keys of its own.
    pub(super) fn with_node_keys(node_keys: &str, cores: usize, keys: &str) -> Self {
        Self::build(1, cores, (&format!(", {node_keys}"), keys), None)
    }

    #[allow(clippy::disallowed_methods)]
    fn build(nodes: usize, cores: usize, (node_keys, keys): (&str, &str), change: Option<Change>) -> Self {
        let net = Arc::new(TestNet::default());
        let mut world = World::real();
        world.clock = Arc::new(TestClock(tokio::time::Instant::now()));
        world.net = Arc::<TestNet>::clone(&net);
        let mut scripted = Vec::new();
        let mut urls = Vec::new();
        for node in 0..nodes {
            let (peers, receiver) = mpsc::unbounded_channel();
            let host = Arc::new(Host {
                door: Mutex::new(Door::Open),
                health: AtomicU16::new(200),
                connects: AtomicUsize::new(0),
                probes: AtomicUsize::new(0),
                peers,
            });
            let address = format!("10.0.0.{}:80", node + 1);
            net.hosts.lock().insert(address.parse().unwrap(), Arc::clone(&host));
            urls.push(format!(
                "{{ url = \"http://{address}\", name = \"n{node}\"{node_keys} }}"
            ));
            scripted.push(Node { host, peers: receiver });
        }
        let listed = (node_keys != FOUND).then_some(urls.as_slice());
        Self::assemble(listed, cores, keys, (scripted, world, net), change)
    }

    /// Nodes that are there, and not in the configuration: `keys` say where to look.
    pub(super) fn discovered(nodes: usize, keys: &str) -> Self {
        Self::build(nodes, 2, (FOUND, keys), None)
    }

    /// What the name servers say from now on.
    pub(super) fn resolves(&mut self, kind: Kind, answer: Result<Vec<Record>, io::ErrorKind>, ttl_s: u64) {
        let ttl = Duration::from_secs(ttl_s);
        *self.net.names.lock() = Some(Known { kind, answer, ttl });
    }

    /// A node on a real socket.
    pub(super) fn real(port: u16, cores: usize, keys: &str) -> Self {
        let urls = [format!("{{ url = \"http://127.0.0.1:{port}\" }}")];
        let net = Arc::new(TestNet::default());
        Self::assemble(Some(&urls), cores, keys, (Vec::new(), World::real(), net), None)
    }

    fn assemble(
        urls: Option<&[String]>,
        cores: usize,
        keys: &str,
        (nodes, world, net): (Vec<Node>, World, Arc<TestNet>),
        change: Option<Change>,
    ) -> Self {
        let listed = urls.map_or_else(String::new, |urls| format!("nodes = [{}]\n", urls.join(", ")));
        let text = format!("[upstreams.u]\n{listed}{keys}\n[[routes]]\nupstream = \"u\"\nconsistency = \"off\"\n");
        let loaded = from_text(&text, "test.toml", Path::new(""), &world);
        let mut config = loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.errors));
        let by_hand = change.is_some();
        if let Some(change) = change {
            change(Arc::make_mut(&mut config.upstreams[0]));
        }
        let config = Arc::new(config);
        let (coord, owner) = Coord::new(&config, &world);
        let told = Arc::new(Told::default());
        let views = coord.views();
        let full = Arc::new(AtomicBool::new(false));
        let is_full = Arc::clone(&full);
        let upstreams = Upstreams::new(
            &config,
            world.clone(),
            Arc::<Told>::clone(&told),
            views.clone(),
            Arc::new(move |upstream, event| {
                let (coord, is_full) = (Arc::clone(&coord), Arc::clone(&is_full));
                Box::pin(async move {
                    while is_full.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    coord.tell(upstream, event).await.unwrap();
                })
            }),
            cores,
        );
        if !by_hand {
            tokio::spawn(owner.run(Arc::new(Hands(Arc::clone(&upstreams))), CancellationToken::new()));
        }
        Self {
            upstreams,
            nodes,
            world,
            told,
            net,
            views,
            full,
        }
    }

    /// The owner swaps in another view, and tells those who wait.
    pub(super) fn view(&self, epoch: u64, primary: Primary) {
        let count = self.nodes.len();
        self.views[0].store(View {
            epoch: Epoch(epoch),
            primary,
            candidates: (0..count).collect(),
            states: vec![NodeState::Active; count],
            in_sync: vec![true; count],
            since: vec![None; count],
            observed: Arc::new(Observing::from(self.now())),
        });
        self.upstreams.shared.upstreams[0].held.wake();
    }

    /// Starts what runs beside the requests: probes, discovery, ejection. Ends with the token.
    pub(super) fn run(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        Arc::clone(&self.upstreams).run_probes(stop.clone());
        stop
    }

    /// Every node's state, as `/status` has it.
    pub(super) fn states(&self) -> Vec<&'static str> {
        let snapshot = self.upstreams.snapshot();
        snapshot[0].nodes.iter().map(|node| node.state).collect()
    }

    pub(super) fn pool(&self) -> Pool {
        self.upstreams.pool(0)
    }

    pub(super) fn now(&self) -> MonoTime {
        self.world.clock.mono()
    }

    pub(super) fn call(&self, method: Method, path: &str, body: OutBody, kind: CallKind) -> Call {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "client.example");
        Call {
            upstream: 0,
            parts: request.body(()).unwrap().into_parts().0,
            body,
            again: None,
            kind,
            aim: crate::upstream::Aim::default(),
            deadline: self.now().after(Span::from_secs(60)),
            now: None,
            before_send: None,
            on_interim: None,
        }
    }

    pub(super) fn read(&self, path: &str) -> Call {
        self.call(Method::GET, path, OutBody::Empty, CallKind::Read { primary: false })
    }

    pub(super) fn write(&self, path: &str, body: &'static str) -> Call {
        let body = OutBody::from(Bytes::from_static(body.as_bytes()));
        self.call(Method::POST, path, body, CallKind::Write { repeatable: false })
    }

    /// Starts a call on the first core.
    pub(super) fn start(&self, call: Call) -> tokio::task::JoinHandle<Result<Answered, CallError>> {
        self.start_on(0, call)
    }

    pub(super) fn start_on(&self, core: usize, call: Call) -> tokio::task::JoinHandle<Result<Answered, CallError>> {
        let pool = self.upstreams.pool(core);
        tokio::spawn(async move { pool.call(call).await })
    }

    /// (open, in flight, idle, waiting) of a node on the first core.
    pub(super) fn counts(&self, node: usize) -> (usize, usize, usize, usize) {
        self.upstreams.cores[0].counts(0, node)
    }

    pub(super) fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.0.lock())
    }
}

/// Fails instead of waiting for ever: time is paused, so an hour passes at once when nothing else can happen.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(3600), future).await;
    waited.expect("what the test waits for never happens")
}

/// A body's text.
pub(super) async fn text(body: NodeBody) -> Result<String, BodyError> {
    Ok(String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap())
}

/// Lets every task that can run do so, without moving time.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// The value, if the task has ended without time moving.
pub(super) async fn ended<T>(task: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    settle().await;
    std::future::poll_fn(|cx| match Pin::new(&mut *task).poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

struct Hands(Arc<Upstreams>);

impl Nodes for Hands {
    fn carry_out(&self, upstream: usize, effects: &[Effect]) {
        self.0.carry_out(upstream, effects);
    }

    fn not_durable(&self, _: usize) {}
}
