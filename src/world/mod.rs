//! The only door outside: clock, network, disk, processes, entropy and environment behind traits, so that a simulation can stand in for
//! all of them. `real` is the one module that touches the operating system.

mod names;
mod real;
mod view_cell;

pub use view_cell::ViewCell;

use crate::core::discovery::{Kind, Record, UNIX};
use crate::core::time::{MonoTime, WallTime};
use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// A boxed future, as the object-safe traits below return them. None of them is on the path of a hit.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything outside the process, handed to [`crate::app::App::build`].
#[derive(Clone)]
pub struct World {
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Sockets and names.
    pub net: Arc<dyn Net>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Other programs.
    pub process: Arc<dyn Process>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Environment variables.
    pub env: Arc<dyn Env>,
    /// Where lines for whoever collects them go.
    pub output: Arc<dyn Output>,
}

impl World {
    /// The operating system's.
    #[must_use]
    pub fn real() -> Self {
        real::world()
    }
}

/// Raises this process's limit of open files to the most it may have, and returns it: every connection is one. For the start of a program.
///
/// # Errors
/// When the operating system refuses.
pub fn raise_file_limit() -> io::Result<u64> {
    real::raise_file_limit()
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// Both clocks. Waiting is not here: `tokio::time` waits, and a simulation pauses it.
pub trait Clock: Send + Sync {
    /// CLOCK_BOOTTIME: goes on while the machine is suspended.
    fn mono(&self) -> MonoTime;
    /// What [`Clock::mono`] told this thread last. For who knows that it was asked a moment ago: reading a clock costs more than that.
    fn recent(&self) -> MonoTime {
        self.mono()
    }
    /// CLOCK_REALTIME.
    fn wall(&self) -> WallTime;
}

/// A byte stream to a peer.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + Any {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + Any> Io for T {}

/// A byte stream to a peer, boxed.
pub type Stream = Box<dyn Io>;

/// A stream between two runtimes: called on the second, it is one of that.
pub type Moving = Box<dyn FnOnce() -> io::Result<Stream> + Send>;

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An interface and a port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The address of one that listens on a port.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// How a listener is bound.
#[derive(Copy, Clone, Debug, Default)]
pub struct BindOptions {
    /// Several sockets may share the port (SO_REUSEPORT), one per thread.
    pub reuse_port: bool,
    /// An IPv6 socket refuses IPv4 (IPV6_V6ONLY).
    pub v6_only: bool,
}

/// Sockets and names.
pub trait Net: Send + Sync {
    /// Connects; Nagle's algorithm is off.
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Stream>>;
    /// Binds and listens. Must be called on the runtime that will accept.
    fn listen(&self, on: SocketAddr, options: BindOptions) -> io::Result<Box<dyn Listener>>;
    /// The addresses of a host name (an address is its own).
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
    /// The authorities whose certificates this machine believes, DER. Reads files: not on a core's thread, but for the first time.
    fn authorities(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
    /// The records of a name. Not for a core's thread: a resolver has work of its own.
    fn lookup<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, io::Result<Answer>> {
        let _ = (name, kind);
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// Connects to a unix socket; where its queue is full, as soon as it no longer is.
    fn connect_unix<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Stream>> {
        let _ = path;
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// Claims a path, binds and listens on a unix socket there, which whoever gets into its folder may connect to. A file that a process
    /// left behind is replaced; `AddrInUse` when somebody listens on it, `AlreadyExists` when it is no socket.
    fn listen_unix(&self, path: &Path) -> io::Result<Box<dyn SharedListener>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Claims an address for this process until the guard is dropped; `AddrInUse` when another process holds it. SO_REUSEPORT alone
    /// would let a second process share a port unnoticed. Not for port 0.
    fn claim(&self, address: SocketAddr) -> io::Result<Box<dyn Send + Sync>>;
}

/// What name servers know of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The records, in no order that means anything.
    pub records: Vec<Record>,
    /// How long they hold: the shortest of their TTLs.
    pub ttl: Duration,
}

/// A bound, listening socket.
pub trait Listener: Send {
    /// The next connection and its peer's address; over a unix socket it has none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, Option<SocketAddr>)>>;
    /// The address, with its real port; `Unsupported` for a unix socket.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Takes an accepted stream from this runtime, for another one to serve.
    fn release(&self, stream: Stream) -> io::Result<Moving> {
        Ok(Box::new(move || Ok(stream)))
    }
}

/// A listening unix socket. Dropped, it removes its file; connections that wait in its queue can still be accepted.
pub trait SharedListener: Send + Sync {
    /// The same socket for one more thread: whichever is idle takes the next connection. Must be called on the runtime that will accept.
    fn share(&self) -> io::Result<Box<dyn Listener>>;
}

/// Files. Blocking: never called on a core's thread after start.
pub trait Disk: Send + Sync {
    /// The file's whole text.
    fn read_to_string(&self, path: &Path) -> io::Result<String>;
    /// Puts `text` in place of what the file held, durably: after a crash it holds one or the other.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()>;
    /// Makes the folder if need be and claims it for this process until the guard is dropped; `WouldBlock` when another process holds it.
    fn claim(&self, folder: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Removes the file durably: once this returns, no crash brings it back. `NotFound` when there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The file's whole content, text or not.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_to_string(path).map(String::into_bytes)
    }
    /// Opens the file to append to it, and makes it, durably, if need be.
    fn append_to(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A file that only grows.
pub trait Log: Send {
    /// Appends. A crash before the next [`Log::sync`] may keep all, some or none of it; so may a failure, and what is in the file then is
    /// unknown until it is replaced.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Once this returns `Ok` no crash takes anything back that was appended before. After a failure nothing is known of it any more, not
    /// even if a later call succeeds.
    fn sync(&mut self) -> io::Result<()>;
}

/// A program to run, without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program, found by `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// How long it may take.
    pub time_limit: Duration,
}

/// A program that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to its standard output and its standard error, as it came, in the order it came: the first [`MAX_OUTPUT`] bytes.
    pub output: Vec<u8>,
    /// It wrote more than that.
    pub truncated: bool,
}

/// The most bytes kept of what a program writes: some hundred lines.
pub const MAX_OUTPUT: usize = 16 * 1024;

/// How a program ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code; 0 is success.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took longer than its time limit, and was killed with every process of its group.
    TimedOut,
}

/// Other programs.
pub trait Process: Send + Sync {
    /// Runs a program in a process group of its own, with nothing on its standard input, to its end. A process it leaves behind when it
    /// ends by itself lives on. Dropped before the end, the whole group is killed.
    ///
    /// # Errors
    /// When it cannot be started.
    fn run(&self, command: Command) -> BoxFuture<'_, io::Result<Ran>>;
}

/// Chance.
pub trait Entropy: Send + Sync {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
    /// Whether the same numbers come in every run: then nothing may decide by chance of its own.
    fn repeats(&self) -> bool {
        false
    }
}

/// Environment variables.
pub trait Env: Send + Sync {
    /// The variable's value, when it is set to valid Unicode.
    fn var(&self, name: &str) -> Option<String>;
}

/// The process's standard output.
pub trait Output: Send + Sync {
    /// Writes all of `text` in one piece. Waits as long as the reader lets it, without blocking the thread it is called on; dropped, the
    /// write may still happen.
    fn write(&self, text: Vec<u8>) -> BoxFuture<'_, io::Result<()>>;
}
