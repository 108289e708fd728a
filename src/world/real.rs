//! The operating system behind the traits of [`super`]: the one module allowed to read clocks and open sockets.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod process;
mod unix;

use super::names::Names;
use super::{
    Answer, BindOptions, BoxFuture, Clock, Disk, Entropy, Env, Listener, Log, Moving, Net, Output, SharedListener,
    Stream, World,
};
use crate::core::discovery::Kind;
use crate::core::time::{MonoTime, WallTime};
use rustix::process::{Resource, Rlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use std::any::Any;
use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};

pub(super) fn world() -> World {
    World {
        clock: Arc::new(RealClock),
        net: Arc::new(RealNet::default()),
        disk: Arc::new(RealDisk),
        process: Arc::new(process::RealProcess),
        entropy: Arc::new(RealEntropy::default()),
        env: Arc::new(RealEnv),
        output: Arc::new(RealOutput),
    }
}

/// Seconds before boot at which the monotonic clock has its origin: an answer that was old when the machine started must still have
/// an instant at which it was current (R42). More than the largest `Age` (2^31 s).
const BEFORE_BOOT: u64 = 1 << 32;

struct RealClock;

thread_local! {
    /// What the clock told this thread last, in microseconds; zero: it was never asked.
    static RECENT: Cell<u64> = const { Cell::new(0) };
}

impl Clock for RealClock {
    fn mono(&self) -> MonoTime {
        let t = clock_gettime(ClockId::Boottime);
        let now = (t.tv_sec.unsigned_abs() + BEFORE_BOOT) * 1_000_000 + t.tv_nsec.unsigned_abs() / 1000;
        RECENT.set(now);
        MonoTime::from_micros(now)
    }

    fn recent(&self) -> MonoTime {
        match RECENT.get() {
            0 => self.mono(),
            told => MonoTime::from_micros(told),
        }
    }

    fn wall(&self) -> WallTime {
        let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(d) => i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
            Err(e) => i64::try_from(e.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        WallTime::from_millis(ms)
    }
}

/// The kernel's queue of connections not yet accepted; it caps this at net.core.somaxconn.
const BACKLOG: i32 = 4096;

#[derive(Default)]
struct RealNet {
    names: Names,
}

impl Net for RealNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        })
    }

    fn listen(&self, on: SocketAddr, options: BindOptions) -> io::Result<Box<dyn Listener>> {
        let socket = bind(on, options)?;
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        Ok(Box::new(RealListener(TcpListener::from_std(socket.into())?)))
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
                return Ok(vec![SocketAddr::new(ip, port)]);
            }
            Ok(tokio::net::lookup_host((host, port)).await?.collect())
        })
    }

    fn authorities(&self) -> Vec<Vec<u8>> {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "an authority of this machine cannot be read");
        }
        found
            .certs
            .into_iter()
            .map(|certificate| certificate.to_vec())
            .collect()
    }

    fn lookup<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, io::Result<Answer>> {
        Box::pin(self.names.lookup(name, kind))
    }

    fn connect_unix<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(unix::connect(path))
    }

    fn listen_unix(&self, path: &Path) -> io::Result<Box<dyn SharedListener>> {
        unix::listen(path)
    }

    fn claim(&self, address: SocketAddr) -> io::Result<Box<dyn Send + Sync>> {
        // The name keeps out a second process of ours that starts at the same moment.
        let name = std::os::unix::net::SocketAddr::from_abstract_name(format!("tidegate/listen/{address}"))?;
        let claim = std::os::unix::net::UnixListener::bind_addr(&name)?;
        // Without SO_REUSEPORT a bind fails when anybody listens there already, whatever options they used.
        drop(bind(address, BindOptions::default())?);
        Ok(Box::new(claim))
    }
}

fn bind(on: SocketAddr, options: BindOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(on), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if on.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    socket.bind(&on.into())?;
    Ok(socket)
}

pub(super) fn raise_file_limit() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised)?;
    // None: without limit.
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

struct RealListener(TcpListener);

impl Listener for RealListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, Option<SocketAddr>)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Stream, Some(peer)))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn release(&self, stream: Stream) -> io::Result<Moving> {
        let stream = accepted::<TcpStream>(stream)?.into_std()?;
        Ok(Box::new(move || Ok(Box::new(TcpStream::from_std(stream)?))))
    }
}

/// The stream as it was accepted here.
fn accepted<T: Any>(stream: Stream) -> io::Result<T> {
    let stream: Box<dyn Any> = stream;
    match stream.downcast() {
        Ok(stream) => Ok(*stream),
        Err(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

struct RealDisk;

impl Disk for RealDisk {
    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        sync_folder(path)
    }

    fn claim(&self, folder: &Path) -> io::Result<Box<dyn Send + Sync>> {
        std::fs::create_dir_all(folder)?;
        let file = std::fs::File::create(folder.join("lock"))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)?;
        sync_folder(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn append_to(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        let file = std::fs::File::options().append(true).create(true).open(path)?;
        sync_folder(path)?;
        Ok(Box::new(RealLog(file)))
    }
}

struct RealLog(std::fs::File);

impl Log for RealLog {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // fdatasync: the new length is synced with the data, times are not.
        self.0.sync_data()
    }
}

/// A rename or removal is durable only when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Numbers from the standard library's randomly keyed hasher (keyed by the operating system once per process) over a counter:
/// unpredictable enough to balance load and to key hash tables, and no dependency.
#[derive(Default)]
struct RealEntropy {
    state: RandomState,
    counter: AtomicU64,
}

impl Entropy for RealEntropy {
    fn next_u64(&self) -> u64 {
        self.state.hash_one(self.counter.fetch_add(1, Ordering::Relaxed))
    }
}

struct RealEnv;

impl Env for RealEnv {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

struct RealOutput;

impl Output for RealOutput {
    fn write(&self, text: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        // A pipe that nobody reads blocks: on a thread of the runtime's, which then waits for nobody else.
        let written = tokio::task::spawn_blocking(move || {
            let mut out = io::stdout().lock();
            out.write_all(&text)?;
            out.flush()
        });
        Box::pin(async move { written.await.map_err(io::Error::other)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{BindOptions, Clock as _, Net, RealClock, RealNet};
    use std::io;

    const SHARED: BindOptions = BindOptions {
        reuse_port: true,
        v6_only: false,
    };

    #[test]
    fn what_the_clock_told_last_is_told_again_without_asking() {
        let first = RealClock.mono();
        while RealClock.mono() == first {}
        let told = RealClock.mono();
        assert!(told > first);
        assert_eq!((RealClock.recent(), RealClock.recent()), (told, told));
        let elsewhere = std::thread::spawn(|| RealClock.recent()).join().unwrap();
        assert!(elsewhere >= told, "a thread that never asked asks");
    }

    #[tokio::test]
    async fn a_port_that_somebody_shares_cannot_be_claimed() {
        let net = RealNet::default();
        let theirs = net.listen(([127, 0, 0, 1], 0).into(), SHARED).unwrap();
        let address = theirs.local_addr().unwrap();
        assert!(net.listen(address, SHARED).is_ok(), "the kernel would let us join");
        let refused = net.claim(address).map(|_| ()).map_err(|e| e.kind());
        assert_eq!(refused, Err(io::ErrorKind::AddrInUse));
        // Also when theirs is one of the interfaces we want.
        let refused = net
            .claim(([0, 0, 0, 0], address.port()).into())
            .map(|_| ())
            .map_err(|e| e.kind());
        assert_eq!(refused, Err(io::ErrorKind::AddrInUse));
        drop(theirs);
        let claim = net.claim(address).unwrap();
        assert!(net.claim(address).is_err(), "claimed by us");
        assert!(net.listen(address, SHARED).is_ok());
        drop(claim);
    }
}
