//! The operating system behind the traits of [`super`]: the one module allowed to read clocks and open sockets.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{BindOptions, BoxFuture, Clock, Disk, Entropy, Env, Listener, Net, Stream, World};
use crate::core::time::{MonoTime, WallTime};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
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
        net: Arc::new(RealNet),
        disk: Arc::new(RealDisk),
        entropy: Arc::new(RealEntropy::default()),
        env: Arc::new(RealEnv),
    }
}

struct RealClock;

impl Clock for RealClock {
    fn mono(&self) -> MonoTime {
        let t = clock_gettime(ClockId::Boottime);
        MonoTime::from_micros(t.tv_sec.unsigned_abs() * 1_000_000 + t.tv_nsec.unsigned_abs() / 1000)
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

struct RealNet;

impl Net for RealNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        })
    }

    fn listen(&self, on: SocketAddr, options: BindOptions) -> io::Result<Box<dyn Listener>> {
        let socket = Socket::new(Domain::for_address(on), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if on.is_ipv6() {
            socket.set_only_v6(options.v6_only)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&on.into())?;
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

    fn claim(&self, address: SocketAddr) -> io::Result<Box<dyn Send + Sync>> {
        let name = std::os::unix::net::SocketAddr::from_abstract_name(format!("tidegate/listen/{address}"))?;
        Ok(Box::new(std::os::unix::net::UnixListener::bind_addr(&name)?))
    }
}

struct RealListener(TcpListener);

impl Listener for RealListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Stream, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct RealDisk;

impl Disk for RealDisk {
    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
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
