//! The composition root: brings the rooms together, owns the threads and the tasks, and implements what the admin port asks for.
//!
//! [`App::build`] is the same call for the binary, the demo and the tests. [`App::start`] spawns the serving threads of
//! [`threads`], the one place that spawns any; [`App::serve_here`] runs everything as tasks on the runtime it is called on.

mod control;
mod era;
mod order;
mod pair;
mod past;
mod reload;
mod rooms;
mod threads;
mod turnover;
mod views;

pub use pair::Turn;
pub use reload::{NotReloaded, Reloaded};

use crate::config::runtime::Config;
use crate::proxy::{ExplainError, Explanation, Question};
use crate::server::accept::BindError;
use crate::server::drain::{Drain, Phase};
use crate::server::tls::Unusable;
use crate::world::{Address, World};
use rooms::Rooms;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A proxy that is wired and not yet listening.
#[derive(Debug)]
pub struct App {
    rooms: Arc<Rooms>,
    /// What runs while the other process of the pair serves.
    passive: Option<Running>,
}

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is in use or cannot be bound.
    #[error(transparent)]
    Listener(#[from] BindError),
    /// A listener's certificates are of no use.
    #[error(transparent)]
    Tls(#[from] Unusable),
    /// The admin port's address is in use or cannot be bound.
    #[error("admin on {address}: {source}")]
    Admin {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The state directory cannot be made, or another process works with it.
    #[error("state_dir {path}: {why}")]
    StateDir {
        /// The folder.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It was asked to leave while it waited for the other process of its pair to end.
    #[error("asked to leave while the other process of the pair has the state directory")]
    Left,
    /// No thread, or no runtime on it.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A thread ended before it was ready.
    #[error("the thread {0} ended before it was ready")]
    ThreadEnded(String),
}

impl App {
    /// Wires everything for `config`. Touches neither network nor disk.
    ///
    /// # Errors
    /// None today; kept so that what needs the disk at start (a state directory) can refuse.
    pub fn build(config: Config, world: World) -> Result<Self, StartError> {
        Ok(Self {
            rooms: Rooms::new(config, world),
            passive: None,
        })
    }

    /// Names the file it was read from, so that a reload can read it again.
    #[must_use]
    pub fn read_from(self, file: std::path::PathBuf) -> Self {
        self.rooms.reloads.read_from(file);
        self
    }

    /// Which rule would decide about a request, and why, before anything is stored.
    ///
    /// # Errors
    /// When the question makes no sense.
    pub fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        self.rooms.era().proxy.explain(question, false)
    }

    /// Claims `state_dir`; with `pair`, waits as long as the other process has it, with the admin port open. Dropped while it waits, it has
    /// claimed nothing, and the admin port closes with the `App`.
    ///
    /// # Errors
    /// When it cannot be claimed, or the admin port not be bound.
    pub async fn take_turn(&mut self) -> Result<Turn, StartError> {
        if pair::claim(&self.rooms)? {
            return Ok(Turn::Ours);
        }
        if self.passive.is_none() {
            self.passive = Some(threads::start_passive(&self.rooms)?);
        }
        Ok(pair::wait(&self.rooms).await)
    }

    /// Binds, probes, and serves on threads of its own: one per `server.threads`, and one for background work. Returns when the proxy is
    /// ready: bound, and the first round of probes over. Waits for its turn first, unless [`App::take_turn`] has. Blocks; not for use
    /// inside a runtime.
    ///
    /// # Errors
    /// When an address cannot be bound or a thread not be started; everything that had started is stopped again.
    pub fn start(mut self) -> Result<Running, StartError> {
        match threads::wait(self.take_turn())?? {
            Turn::Ours => threads::start(&self.rooms, self.passive),
            Turn::Left => Err(StartError::Left),
        }
    }

    /// The same as tasks on the current runtime, with one socket per listener: for simulations and for programs with a runtime of their own.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn serve_here(self) -> Result<Running, StartError> {
        let rooms = self.rooms;
        let mut early = None;
        if !pair::claim(&rooms)? {
            let (admin, socket) = rooms.open_admin()?;
            early = Some(Running::new(Arc::clone(&rooms), admin, Vec::new()));
            tokio::spawn(Arc::clone(&rooms).background(socket));
            if pair::wait(&rooms).await == Turn::Left {
                return Err(StartError::Left);
            }
        }
        past::recall(&rooms)?;
        let sockets = rooms.open(1)?;
        // Dropping this ends the tasks, should this future be dropped while it waits.
        let mut running = match early {
            Some(running) => running,
            None => {
                let (admin, socket) = rooms.open_admin()?;
                tokio::spawn(Arc::clone(&rooms).background(socket));
                Running::new(Arc::clone(&rooms), admin, Vec::new())
            }
        };
        rooms.begin();
        tokio::spawn(views::own(Arc::clone(&rooms)));
        if let Some(writer) = views::writer(&rooms) {
            tokio::spawn(views::write(Arc::clone(&rooms), writer));
        }
        rooms.ready().await;
        running.bound(running.admin);
        tokio::spawn(rooms.serve(0, sockets));
        Ok(running)
    }
}

/// A proxy that serves. Dropping it ends it at once.
#[derive(Debug)]
pub struct Running {
    /// Listeners with their real addresses, in the order of the file.
    pub listeners: Vec<(String, Address)>,
    /// The admin port's real address.
    pub admin: SocketAddr,
    rooms: Arc<Rooms>,
    threads: Vec<JoinHandle<()>>,
    /// It writes at its end what the others have to say.
    background: Option<JoinHandle<()>>,
    /// The journal's: it ends after the last request has.
    last: Option<JoinHandle<()>>,
    /// What the next process needs to know has been written.
    over: bool,
}

impl Running {
    fn new(rooms: Arc<Rooms>, admin: SocketAddr, threads: Vec<JoinHandle<()>>) -> Self {
        let mut running = Self {
            listeners: Vec::new(),
            admin,
            rooms,
            threads,
            background: None,
            last: None,
            over: false,
        };
        running.bound(admin);
        running
    }

    /// Takes over the real addresses.
    fn bound(&mut self, admin: SocketAddr) {
        let doors = self.rooms.doors().iter();
        self.listeners = doors
            .map(|door| (door.listener().name.clone(), door.address().clone()))
            .collect();
        self.admin = admin;
    }

    /// `ready listeners=main=127.0.0.1:8080,tls=[::1]:8443 admin=127.0.0.1:9901`
    #[must_use]
    pub fn ready_line(&self) -> String {
        let listeners: Vec<_> = self
            .listeners
            .iter()
            .map(|(name, address)| format!("{name}={address}"))
            .collect();
        format!("ready listeners={} admin={}", listeners.join(","), self.admin)
    }

    /// Begins to leave: `drain_delay`, then the listeners close, then up to `drain_timeout` for what is in flight. Returns at once; a
    /// second call changes nothing.
    pub fn drain(&self) {
        self.rooms.leave();
    }

    /// Reads the file again: all of it runs then, or nothing has changed (R31). Can be awaited on any runtime, or none.
    ///
    /// # Errors
    /// Why nothing has changed, as `check` prints it.
    pub fn reload(&self) -> impl Future<Output = Result<Reloaded, NotReloaded>> + Send + use<> {
        Arc::clone(&self.rooms).ask_reload()
    }

    /// Completes when the proxy has left.
    pub async fn ended(&self) {
        self.rooms.drain().reached(Phase::Over).await;
    }

    /// Ends at once, and waits for the threads. Blocks shortly. Returns false when a thread had panicked.
    pub fn stop(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        self.rooms.drain().advance(Phase::Over);
        // Every thread is waited for, whatever became of the others.
        let mut ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        self.rooms.end_log();
        ended.extend(self.background.take().map(JoinHandle::join));
        ended.extend(self.last.take().map(JoinHandle::join));
        if !self.over {
            self.over = true;
            past::remember(&self.rooms);
        }
        ended.iter().all(Result::is_ok)
    }

    /// The process's drain.
    #[must_use]
    pub fn phase(&self) -> &Drain {
        self.rooms.drain()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
