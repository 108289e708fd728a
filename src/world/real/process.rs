//! Programs in process groups of their own, so that a time limit ends all that a program has started and not the program alone.
//!
//! A program that ends by itself may leave something running (a start hook's very purpose): its output is read on and thrown away for as
//! long as that holds the pipe, so that it does not die of a broken one.

use super::super::{BoxFuture, Command, Exit, MAX_OUTPUT, Process, Ran};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

/// How long the rest of the output is waited for when the program has ended: it is in the pipe already, unless something it left behind
/// holds the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);

pub(super) struct RealProcess;

impl Process for RealProcess {
    fn run(&self, command: Command) -> BoxFuture<'_, io::Result<Ran>> {
        Box::pin(run(command))
    }
}

async fn run(command: Command) -> io::Result<Ran> {
    let (program, arguments) = command
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program is named"))?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    // Its leader's id is the group's.
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let kept = Arc::new(Mutex::new(Kept::default()));
    let readers = [
        child.stdout.take().map(|pipe| read(pipe, &kept)),
        child.stderr.take().map(|pipe| read(pipe, &kept)),
    ];
    let exit = match tokio::time::timeout(command.time_limit, child.wait()).await {
        Ok(status) => {
            let exit = exit(status?);
            group.0 = None;
            exit
        }
        Err(_late) => {
            group.kill();
            child.wait().await?;
            Exit::TimedOut
        }
    };
    let rest = async {
        for reader in readers.into_iter().flatten() {
            let _ended = reader.await;
        }
    };
    let _ended_or_held = tokio::time::timeout(LAST_WORDS, rest).await;
    let Kept { output, truncated } = std::mem::take(&mut *kept.lock());
    Ok(Ran {
        exit,
        output,
        truncated,
    })
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

#[derive(Default)]
struct Kept {
    output: Vec<u8>,
    truncated: bool,
}

/// Reads to the end, whoever still waits for it.
fn read(mut pipe: impl AsyncRead + Send + Unpin + 'static, kept: &Arc<Mutex<Kept>>) -> JoinHandle<()> {
    let kept = Arc::clone(kept);
    tokio::spawn(async move {
        let mut piece = Vec::with_capacity(4096);
        while let Ok(1..) = pipe.read_buf(&mut piece).await {
            let mut kept = kept.lock();
            let room = MAX_OUTPUT.saturating_sub(kept.output.len()).min(piece.len());
            kept.truncated |= room < piece.len();
            kept.output.extend(piece.drain(..).take(room));
        }
    })
}

/// Kills the whole group when dropped, unless its leader has ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(leader) = self.0.take() {
            // Fails only when nobody is left in it.
            let _nobody_left = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Instant;

    fn sh(script: &str, time_limit: Duration) -> Command {
        Command {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            time_limit,
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_program_is_run_without_a_shell_and_tells_its_end_and_its_words() {
        let argv = ["echo", "$HOME;", "{node}"].map(str::to_owned).to_vec();
        let ran = run(Command { argv, time_limit: LONG }).await.unwrap();
        assert_eq!((ran.exit, ran.output), (Exit::Code(0), b"$HOME; {node}\n".to_vec()));
        for (script, exit) in [("exit 3", Exit::Code(3)), ("kill -9 $$", Exit::Signal(9))] {
            assert_eq!(run(sh(script, LONG)).await.unwrap().exit, exit, "{script}");
        }
        let ran = run(sh("echo out; echo err >&2", LONG)).await.unwrap();
        let mut lines: Vec<_> = ran.output.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        assert_eq!(lines, [b"".to_vec(), b"err".to_vec(), b"out".to_vec()]);
        let nothing = Command {
            argv: vec!["/no/such/program".to_owned()],
            time_limit: LONG,
        };
        assert_eq!(run(nothing).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_time_limit_ends_all_that_the_program_started() {
        let begun = Instant::now();
        // The group's members hold the pipe: had one of them survived, its last words would be waited for.
        let script = "sleep 60 & echo $!; sleep 60";
        let ran = run(sh(script, Duration::from_millis(300))).await.unwrap();
        assert_eq!(ran.exit, Exit::TimedOut);
        let inner: u32 = std::str::from_utf8(&ran.output).unwrap().trim().parse().unwrap();
        until_gone(inner).await;
        assert!(begun.elapsed() < LONG);
    }

    #[tokio::test]
    async fn a_run_that_is_dropped_ends_all_that_the_program_started() {
        let told = tempfile::NamedTempFile::new().unwrap();
        let path = told.path().to_owned();
        let script = format!("sleep 60 & echo $! > {}; sleep 60", path.display());
        let running = tokio::spawn(run(sh(&script, LONG)));
        let inner: u32 = tokio::time::timeout(LONG, async {
            loop {
                if let Some(id) = std::fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok()) {
                    return id;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        running.abort();
        let _aborted = running.await;
        until_gone(inner).await;
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_lives_on_and_is_not_waited_for() {
        let begun = Instant::now();
        let ran = run(sh("(while sleep 0.01; do echo on; done) & echo $!", LONG))
            .await
            .unwrap();
        assert_eq!(ran.exit, Exit::Code(0));
        assert!(begun.elapsed() < LONG, "it waited for what was left behind");
        let first = ran.output.split(|b| *b == b'\n').next().unwrap();
        let left: i32 = std::str::from_utf8(first).unwrap().parse().unwrap();
        // It goes on writing, and would die of a broken pipe.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(state(left.unsigned_abs()).is_some_and(|s| s != 'Z'), "it is gone");
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn what_a_program_says_is_kept_up_to_a_bound() {
        let ran = run(sh("head -c 100000 /dev/zero; exit 7", LONG)).await.unwrap();
        assert_eq!(
            (ran.exit, ran.output.len(), ran.truncated),
            (Exit::Code(7), MAX_OUTPUT, true)
        );
    }

    /// The letter of a process's state; none when there is no such process.
    fn state(id: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    async fn until_gone(id: u32) {
        tokio::time::timeout(LONG, async {
            while state(id).is_some_and(|s| s != 'Z') {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{id} lives"));
    }
}
