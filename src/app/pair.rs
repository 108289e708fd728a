//! Two processes over one `state_dir` (`[server] pair`): the one that holds the folder's lock serves, the other waits for it with nothing
//! open but its admin port. The kernel gives the lock back when its holder ends, however it ends.
//!
//! Invariant: nothing under `state_dir` is read, and no listener is opened, before the lock is held; whoever holds it keeps it to its end.

use super::StartError;
use super::rooms::Rooms;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How often a process that waits asks for the lock: well below what notices that the other one is gone, and nothing to a file system.
const POLL: Duration = Duration::from_millis(100);

/// Whose turn it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This process's.
    Ours,
    /// It was asked to leave while it waited.
    Left,
}

/// Claims the state directory, if there is one. False: the other process of the pair has it.
///
/// # Errors
/// When it cannot be claimed, or another process has it that is no pair's.
pub(super) fn claim(rooms: &Rooms) -> Result<bool, StartError> {
    let config = rooms.config();
    let Some(path) = config.server.state_dir.clone().filter(|_| !rooms.owns()) else {
        return Ok(true);
    };
    match rooms.world.disk.claim(&path) {
        Ok(claim) => {
            rooms.own(claim);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && config.server.pair => Ok(false),
        Err(error) => Err(refused(path, &error)),
    }
}

fn refused(path: PathBuf, error: &io::Error) -> StartError {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock => "another process works with it".to_owned(),
        _ => error.to_string(),
    };
    StartError::StateDir { path, why }
}

/// Waits until the other process has let go of the state directory, or this one is asked to leave.
pub(super) async fn wait(rooms: &Rooms) -> Turn {
    let began = rooms.world.clock.mono();
    tracing::info!("passive: the other process of the pair has the state directory, this one waits for it");
    let mut told = None;
    loop {
        tokio::select! {
            biased;
            () = rooms.asked_to_leave() => return Turn::Left,
            () = tokio::time::sleep(POLL) => {}
        }
        match claim(rooms) {
            Ok(true) => break,
            Ok(false) => told = None,
            // It may pass, and a process that had given up could not take over then.
            Err(error) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    tracing::error!(why, "passive: cannot ask for the state directory, and goes on trying");
                    told = Some(why);
                }
            }
        }
    }
    let waited = rooms.world.clock.mono().duration_since(began);
    tracing::warn!(
        ?waited,
        "active: the other process of the pair has let go of the state directory"
    );
    Turn::Ours
}
