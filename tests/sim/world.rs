//! The world of a simulated process: turmoil's network, one virtual clock, chance from the seed, and a disk that keeps what was
//! written durably when its process dies.

use super::chance::Chance;
pub use super::disk::Platter;
use super::disk::SimDisk;
use super::journal::Journal;
use super::nodes::Nodes;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tidegate::core::time::{MonoTime, WallTime};
use tidegate::world::{
    BindOptions, BoxFuture, Clock, Command, Entropy, Env, Exit, Listener, Net, Output, Process, Ran, Stream, World,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// 2026-11-22T00:00:00Z.
pub const EPOCH_MS: i64 = 1_795_305_600_000;

/// When each connection was closed by whoever opened it, by that end's address.
#[derive(Default)]
pub struct Closings(Mutex<BTreeMap<SocketAddr, u64>>);

impl Closings {
    pub fn of(&self, opener: SocketAddr) -> Option<u64> {
        self.0.lock().unwrap().get(&opener).copied()
    }
}

/// A stream that its process can be deprived of.
type Shared = Arc<Mutex<Option<TcpStream>>>;

/// One life of a process.
///
/// tokio drops the tasks of a runtime in an order that depends on what else this test program has spawned; so before they are dropped
/// everything they hold of the outside is taken from them, in the order they came by it.
pub struct Life {
    name: String,
    seed: u64,
    journal: Arc<Journal>,
    closings: Arc<Closings>,
    platter: Arc<Platter>,
    process: Arc<dyn Process>,
    off: AtomicBool,
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    next: u64,
    /// With the address of this end, if it opened the connection.
    held: BTreeMap<u64, (Option<SocketAddr>, Shared)>,
}

impl Life {
    pub fn new(
        name: String,
        seed: u64,
        journal: &Arc<Journal>,
        closings: &Arc<Closings>,
        platter: &Arc<Platter>,
        process: Arc<dyn Process>,
    ) -> Arc<Self> {
        Arc::new(Self {
            process,
            name,
            seed,
            journal: Arc::clone(journal),
            closings: Arc::clone(closings),
            platter: Arc::clone(platter),
            off: AtomicBool::new(false),
            streams: Mutex::default(),
        })
    }

    pub fn world(self: &Arc<Self>) -> World {
        World {
            clock: Arc::new(SimClock(Arc::clone(self))),
            net: Arc::new(SimNet(Arc::clone(self))),
            disk: Arc::new(SimDisk::new(self, &self.platter)),
            process: Arc::clone(&self.process),
            entropy: Arc::new(SimEntropy(Mutex::new(Chance::of(self.seed, 77)))),
            env: Arc::new(NoEnv),
            output: Arc::new(NoOutput),
        }
    }

    pub fn note(&self, what: impl AsRef<str>) {
        self.journal.note(&self.name, what);
    }

    /// From here on nothing the process does reaches its disk or the network. To be called on its own host.
    pub fn cut(&self) {
        self.off.store(true, Ordering::Relaxed);
        let held = std::mem::take(&mut self.streams.lock().unwrap().held);
        for (opener, stream) in held.into_values() {
            self.close(opener, &stream);
        }
    }

    fn close(&self, opener: Option<SocketAddr>, stream: &Shared) {
        let Some(stream) = stream.lock().unwrap().take() else {
            return;
        };
        drop(stream);
        if let Some(opener) = opener {
            let at = self.journal.note(&self.name, format!("closes {}", opener.port()));
            self.closings.0.lock().unwrap().insert(opener, at);
        }
    }

    fn hold(self: &Arc<Self>, stream: TcpStream, opener: Option<SocketAddr>) -> Wired {
        let stream = Arc::new(Mutex::new(Some(stream)));
        let mut streams = self.streams.lock().unwrap();
        let number = streams.next;
        streams.next += 1;
        streams.held.insert(number, (opener, Arc::clone(&stream)));
        Wired {
            number,
            stream,
            opener,
            life: Arc::clone(self),
        }
    }

    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }
}

struct SimClock(Arc<Life>);

/// As the real clock's: there is a time before the machine was started.
const BEFORE_BOOT_US: u64 = (1 << 32) * 1_000_000;

impl Clock for SimClock {
    fn mono(&self) -> MonoTime {
        MonoTime::from_micros(BEFORE_BOOT_US + self.0.journal.now() / 1000)
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(EPOCH_MS + (self.0.journal.now() / 1_000_000) as i64)
    }
}

struct SimNet(Arc<Life>);

impl Net for SimNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            let opener = stream.local_addr()?;
            if self.0.is_off() {
                return Err(io::ErrorKind::NetworkDown.into());
            }
            Ok(Box::new(self.0.hold(stream, Some(opener))) as Stream)
        })
    }

    fn listen(&self, on: SocketAddr, _: BindOptions) -> io::Result<Box<dyn Listener>> {
        let on = SocketAddr::from((Ipv4Addr::UNSPECIFIED, on.port()));
        match pin!(TcpListener::bind(on)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(bound) => Ok(Box::new(SimListener(bound?, Arc::clone(&self.0)))),
            Poll::Pending => unreachable!("turmoil binds at once"),
        }
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(vec![(turmoil::lookup(host), port).into()]) })
    }

    fn claim(&self, _: SocketAddr) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }
}

/// A connection that tells when it is closed, if this end opened it.
struct Wired {
    number: u64,
    stream: Shared,
    opener: Option<SocketAddr>,
    life: Arc<Life>,
}

impl Wired {
    fn with<R>(&self, act: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match &mut *self.stream.lock().unwrap() {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        self.life.streams.lock().unwrap().held.remove(&self.number);
        self.life.close(self.opener, &self.stream);
    }
}

impl AsyncRead for Wired {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Wired {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

struct SimListener(TcpListener, Arc<Life>);

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, Option<SocketAddr>)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(self.1.hold(stream, None)) as Stream, Some(peer)))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct SimEntropy(Mutex<Chance>);

impl Entropy for SimEntropy {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap().next()
    }

    fn repeats(&self) -> bool {
        true
    }
}

struct NoEnv;

impl Env for NoEnv {
    fn var(&self, _: &str) -> Option<String> {
        None
    }
}

struct NoOutput;

impl Output for NoOutput {
    fn write(&self, _: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// The hooks a proxy may run: they act on the nodes; where there are none to act on, no program is found.
pub struct Hooks(pub Option<Arc<Nodes>>);

impl Process for Hooks {
    fn run(&self, command: Command) -> BoxFuture<'_, io::Result<Ran>> {
        Box::pin(async move {
            let nodes = self.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let (code, took) = nodes.hook(&command.argv);
            let in_time = took < command.time_limit;
            tokio::time::sleep(took.min(command.time_limit)).await;
            Ok(Ran {
                exit: if in_time { Exit::Code(code) } else { Exit::TimedOut },
                output: Vec::new(),
                truncated: false,
            })
        })
    }
}
