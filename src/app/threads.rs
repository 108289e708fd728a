//! The threads of a process: one per serving core with a single-threaded runtime of its own, and one for background work. Nothing else
//! spawns threads.

use super::rooms::Rooms;
use super::{Running, StartError};
use super::{past, views};
use crate::server::drain::Phase;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long a runtime that ends waits for calls that block.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Starts what a process has open while it waits for its turn: the admin port, on the thread that the background is on later.
pub(super) fn start_passive(rooms: &Arc<Rooms>) -> Result<Running, StartError> {
    let (admin, background) = background_thread(rooms)?;
    let mut running = Running::new(Arc::clone(rooms), admin, Vec::new());
    running.background = Some(background);
    Ok(running)
}

/// Starts everything else and waits until it is ready. The state directory is claimed.
pub(super) fn start(rooms: &Arc<Rooms>, passive: Option<Running>) -> Result<Running, StartError> {
    // Should anything fail below, dropping this ends the threads that run already.
    let config = rooms.config();
    let mut running = passive.unwrap_or_else(|| Running::new(Arc::clone(rooms), config.admin.address, Vec::new()));
    past::recall(rooms)?;
    rooms.begin();
    running
        .threads
        .push(disk_thread("tidegate-views", views::own(Arc::clone(rooms)))?);
    for core in 0..config.server.threads {
        running.threads.push(core_thread(rooms, core)?);
    }
    let writer = views::writer(rooms).map(|writer| views::write(Arc::clone(rooms), writer));
    let writer = writer
        .map(|writing| disk_thread("tidegate-journal", writing))
        .transpose()?;
    if running.background.is_none() {
        let (admin, background) = background_thread(rooms)?;
        running.background = Some(background);
        running.admin = admin;
    }
    running.last = writer;
    wait(rooms.ready())?;
    running.bound(running.admin);
    Ok(running)
}

/// Serves on a thread; the first one binds the listeners, the others share them.
fn core_thread(rooms: &Arc<Rooms>, core: usize) -> Result<JoinHandle<()>, StartError> {
    let rooms = Arc::clone(rooms);
    let work = move |ready: Sender<Result<(), StartError>>| async move {
        let sockets = match core {
            0 => rooms.open(rooms.config().server.threads),
            _ => rooms.share(),
        };
        match sockets {
            Ok(sockets) => {
                let _ = ready.send(Ok(()));
                // Until then connections wait in the kernel's queue.
                rooms.ready().await;
                Arc::clone(&rooms).serve(core, sockets).await;
                // Connections live on until then.
                rooms.drain().reached(Phase::Over).await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    };
    let ((), thread) = spawn(format!("tidegate-core-{core}"), work)?;
    Ok(thread)
}

/// For work that waits for the disk.
fn disk_thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let ((), thread) = spawn(name.to_owned(), move |ready| async move {
        let _ = ready.send(Ok(()));
        work.await;
    })?;
    Ok(thread)
}

fn background_thread(rooms: &Arc<Rooms>) -> Result<(SocketAddr, JoinHandle<()>), StartError> {
    let rooms = Arc::clone(rooms);
    spawn("tidegate-back".to_owned(), move |ready| async move {
        match rooms.open_admin() {
            Ok((address, socket)) => {
                let _ = ready.send(Ok(address));
                rooms.background(socket).await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    })
}

/// Runs `work` on a thread and a runtime of its own, and waits for what it tells when it is ready.
fn spawn<T, W, F>(name: String, work: W) -> Result<(T, JoinHandle<()>), StartError>
where
    T: Send + 'static,
    W: FnOnce(Sender<Result<T, StartError>>) -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let (tell, ready) = mpsc::channel();
    let runtime = runtime().map_err(StartError::Thread)?;
    let thread = thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            runtime.block_on(work(tell));
            // Not for ever: a write to a pipe that nobody reads never returns.
            runtime.shutdown_timeout(LAST_CALLS);
        })
        .map_err(StartError::Thread)?;
    let told = ready.recv().map_err(|_| StartError::ThreadEnded(name))??;
    Ok((told, thread))
}

/// Drives something that waits, on this thread.
pub(super) fn wait<T>(what: impl Future<Output = T>) -> Result<T, StartError> {
    Ok(runtime().map_err(StartError::Thread)?.block_on(what))
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
