//! `run`: from a file or four flags to a proxy that serves until a signal ends it.

use super::{Exit, Given, complain, load};
use crate::app::{App, Running, Turn};
use crate::config::load::zero_file;
use crate::config::runtime::Config;
use crate::core::rules;
use crate::telemetry::log;
use crate::world::{World, raise_file_limit};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A file, or the flags that replace one.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Without a file: where to listen; `:PORT` is every interface [default: :8080]
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_LISTEN")]
    listen: Option<String>,
    /// Without a file: where the admin port listens [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ADMIN")]
    admin: Option<String>,
    /// Without a file: the node to pass requests to, as http://HOST:PORT
    #[arg(long, value_name = "URL", env = "TIDEGATE_UPSTREAM")]
    upstream: Option<String>,
    /// Without a file: off, weak, eventual or strong [default: off]
    #[arg(long, value_name = "LEVEL", env = "TIDEGATE_CONSISTENCY")]
    consistency: Option<String>,
}

pub(super) fn run(args: &RunArgs, given: Given<'_>, world: &World) -> Exit {
    let (config, file) = match configuration(args, given, world) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    if let Err(error) = log::install(&config.telemetry, world) {
        eprintln!("tidegate: {error}");
        return Exit::Config;
    }
    if let Some(rules) = world.env.var("TIDEGATE_TEST_RULES_OFF") {
        if let Err(why) = rules::switch_off(&rules) {
            eprintln!("tidegate: TIDEGATE_TEST_RULES_OFF: {why}");
            return Exit::Config;
        }
        tracing::warn!(
            rules,
            "rules are switched off: this process breaks its promises on purpose"
        );
    }
    match raise_file_limit() {
        Ok(limit) => {
            let connections: usize = config.listeners.iter().map(|each| each.max_connections).sum();
            tracing::debug!(limit, "open files");
            if connections as u64 > limit {
                let wanted = "the limit of open files is lower than the listeners' max_connections";
                tracing::warn!(limit, connections, "{wanted}");
            }
        }
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
    match serve(config, file, world) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            Exit::Failure
        }
    }
}

/// What stands on the command line goes before the environment: a file there before flags in variables, and `--upstream` there before
/// a file in a variable. `TIDEGATE_ADMIN` is no contradiction to a file: the other commands read it too.
fn configuration(args: &RunArgs, given: Given<'_>, world: &World) -> Result<(Config, Option<PathBuf>), Exit> {
    let from_file = given.on_command_line("config");
    let flags = ["listen", "admin", "upstream", "consistency"];
    let contradicts = |flag: &&str| {
        let in_environment = *flag != "admin" && !from_file && given.in_environment(flag);
        given.on_command_line(flag) || in_environment
    };
    let file = args.config.as_ref();
    let file = file.filter(|_| from_file || !given.on_command_line("upstream"));
    let loaded = match (file, &args.upstream) {
        (Some(_), _) if flags.iter().any(contradicts) => {
            eprintln!(
                "tidegate: --listen, --admin, --upstream and --consistency replace a file; give --config or them, not both"
            );
            return Err(Exit::Usage);
        }
        (Some(file), _) => load(file, world)?,
        (None, Some(upstream)) => {
            let or = |flag: &Option<String>, default: &str| flag.clone().unwrap_or_else(|| default.to_owned());
            let loaded = zero_file(
                &or(&args.listen, ":8080"),
                &or(&args.admin, "127.0.0.1:9901"),
                upstream,
                &or(&args.consistency, "off"),
            );
            complain(&loaded);
            loaded
        }
        (None, None) => {
            eprintln!(
                "tidegate: nothing to run: give --config FILE, or --upstream URL; `tidegate demo` needs neither, `tidegate --help` tells more"
            );
            return Err(Exit::Usage);
        }
    };
    let config = loaded.config.ok_or(Exit::Config)?;
    Ok((config, file.cloned()))
}

fn serve(config: Config, file: Option<PathBuf>, world: &World) -> Result<Exit, Box<dyn std::error::Error>> {
    // Signals count from here on, so that one during the start is not lost.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    // Taken before anything can be asked: the access log comes after the ready line.
    let mut out = std::io::stdout().lock();
    let app = App::build(config, world.clone())?;
    let mut app = match file {
        Some(file) => app.read_from(file),
        None => app,
    };
    let turn = runtime.block_on(async {
        tokio::select! {
            biased;
            () = Signals::leave(&mut signals.terminate, &mut signals.interrupt) => Ok(Turn::Left),
            turn = app.take_turn() => turn,
        }
    })?;
    match turn {
        // A SIGHUP that came meanwhile is answered when everything runs.
        Turn::Ours => {}
        Turn::Left => {
            tracing::info!("asked to leave before anything was begun");
            return Ok(Exit::Clean);
        }
    }
    let running = app.start()?;
    writeln!(out, "{}", running.ready_line())?;
    out.flush()?;
    drop(out);
    runtime.block_on(until_left(&running, &mut signals));
    Ok(if running.stop() { Exit::Clean } else { Exit::Failure })
}

/// SIGHUP reloads. The first other signal drains, the second ends.
async fn until_left(running: &Running, signals: &mut Signals) {
    loop {
        tokio::select! {
            biased;
            () = running.ended() => return,
            () = Signals::leave(&mut signals.terminate, &mut signals.interrupt) => break,
            _ = signals.reload.recv() => {
                // What becomes of it is logged.
                tokio::spawn(running.reload());
            }
        }
    }
    running.drain();
    tokio::select! {
        biased;
        () = running.ended() => {}
        () = Signals::leave(&mut signals.terminate, &mut signals.interrupt) => tracing::warn!("a second signal: leaving at once"),
    }
}

/// SIGTERM, SIGINT and SIGHUP.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    async fn leave(terminate: &mut Signal, interrupt: &mut Signal) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
