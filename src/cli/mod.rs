//! The command line: what a person or a script meets. Every flag has a `TIDEGATE_*` variable; exit codes are 0 clean, 1 runtime failure, 64
//! usage, 78 configuration (sysexits.h). What a caller reads goes to stdout, everything else to stderr.

mod ask;
mod explain;
mod explained;
mod nodes;
mod run;
mod show;
mod verify;

use crate::config::diagnostic::Diagnostic;
use crate::config::load::{self, Loaded};
use crate::config::print;
use crate::config::schema::schema;
use crate::demo;
use crate::world::World;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// How a command ended, as the process's exit code.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Clean,
    /// Something failed while it ran.
    Failure,
    /// The command line is wrong (EX_USAGE).
    Usage,
    /// The configuration is wrong or cannot be read (EX_CONFIG).
    Config,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failure => 1,
            Self::Usage => 64,
            Self::Config => 78,
        }
    }
}

/// A reverse proxy that caches under a consistency contract chosen per route.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    args_conflicts_with_subcommands = true,
    propagate_version = false
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default)
    Run(run::RunArgs),
    /// Check a configuration without touching the network
    ///
    /// Errors and warnings go to stderr, `FILE: ok` to stdout. Of what runs later: `run` prints its `ready` line on stdout and after it,
    /// with `[telemetry] access_log` "text" or "json", one line per request; log lines go to stderr.
    Check(File),
    /// Print the effective configuration with the origin of each value
    PrintConfig(File),
    /// Print the JSON Schema of the configuration, for editors and pipelines
    Schema,
    /// Say which rule decides about a request, and why
    ///
    /// With `-c FILE` from the file alone; otherwise the running proxy is asked, and says what it has stored too.
    Explain(explain::ExplainArgs),
    /// Take something out of the cache of a running proxy
    Purge(ask::PurgeArgs),
    /// Take the word that no abandoned write to a URL will be applied any more, at a running proxy
    Settle(ask::SettleArgs),
    /// Print the status of a running proxy
    Status(ask::StatusArgs),
    /// Ask a running proxy to read its configuration again: all of it runs then, or nothing has changed
    Reload(ask::AdminArgs),
    /// Ask a running proxy to finish what is in flight and leave
    Drain(ask::AdminArgs),
    /// Make a node the primary (or the active one) at a running proxy, whatever it lacks, and wait until it is
    Promote(nodes::NodeArgs),
    /// Send a node of a running proxy no new traffic
    DrainNode(nodes::NodeArgs),
    /// Send a node that was drained traffic again
    Undrain(nodes::NodeArgs),
    /// Take the word that a node holds every acknowledged write, at a running proxy
    Resynced(nodes::NodeArgs),
    /// Ask a running proxy whether it lives, or is ready; for images without a shell
    Healthcheck(ask::HealthArgs),
    /// Drive a running deployment, or read a recorded history, and judge whether its promises were kept
    ///
    /// It writes, below the path of --url. Exits 0 only when every promise was judged and kept.
    Verify(verify::VerifyArgs),
    /// Run a replicated backend, the proxy in front of it, and a tour
    Demo(demo::Options),
    /// Print the version
    Version,
}

/// The one argument of commands about a file.
#[derive(Debug, Args)]
struct File {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: PathBuf,
}

/// Parses the command line (program name first) and does what it says.
pub fn main(arguments: impl IntoIterator<Item = OsString>, world: &World) -> Exit {
    let parsed = Cli::command().try_get_matches_from(arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Nobody may be reading; there is nowhere else to say it.
            let _ = error.print();
            // Help and version are not errors.
            return if error.use_stderr() { Exit::Usage } else { Exit::Clean };
        }
    };
    let given = Given(matches.subcommand().map_or(&matches, |(_, matches)| matches));
    match cli.command {
        None => run::run(&cli.run, given, world),
        Some(Command::Run(args)) => run::run(&args, given, world),
        Some(Command::Explain(args)) => explain::explain(&args, given, world),
        Some(Command::Check(file)) => check(&file, world),
        Some(Command::PrintConfig(file)) => print_config(&file, world),
        Some(Command::Schema) => {
            // A reader that has left is not our failure.
            let _ = writeln!(std::io::stdout(), "{:#}", schema());
            Exit::Clean
        }
        Some(Command::Purge(args)) => ask::purge(&args, world),
        Some(Command::Settle(args)) => ask::settle(&args, world),
        Some(Command::Status(args)) => ask::status(&args, world),
        Some(Command::Reload(args)) => ask::reload(&args, world),
        Some(Command::Drain(args)) => ask::drain(&args, world),
        Some(Command::Promote(args)) => nodes::say("promote", &args, world),
        Some(Command::DrainNode(args)) => nodes::say("drain", &args, world),
        Some(Command::Undrain(args)) => nodes::say("undrain", &args, world),
        Some(Command::Resynced(args)) => nodes::say("resynced", &args, world),
        Some(Command::Healthcheck(args)) => ask::healthcheck(&args, world),
        Some(Command::Verify(args)) => verify::verify(&args, given, world),
        Some(Command::Demo(options)) => demonstrate(&options, world),
        Some(Command::Version) => {
            let _ = writeln!(std::io::stdout(), "tidegate {}", env!("CARGO_PKG_VERSION"));
            Exit::Clean
        }
    }
}

/// Which arguments were given, and where: what stands on the command line goes before the environment.
#[derive(Copy, Clone)]
struct Given<'a>(&'a ArgMatches);

impl Given<'_> {
    fn on_command_line(self, argument: &str) -> bool {
        self.0.value_source(argument) == Some(ValueSource::CommandLine)
    }

    fn in_environment(self, argument: &str) -> bool {
        self.0.value_source(argument) == Some(ValueSource::EnvVariable)
    }
}

/// Reads a file and says what is wrong with it.
fn load(file: &std::path::Path, world: &World) -> Result<Loaded, Exit> {
    match load::from_file(file, world) {
        Ok(loaded) => {
            complain(&loaded);
            Ok(loaded)
        }
        Err(unreadable) => {
            eprintln!("{unreadable}");
            Err(Exit::Config)
        }
    }
}

fn complain(loaded: &Loaded) {
    let lines = loaded.errors.iter().chain(&loaded.warnings).map(Diagnostic::to_string);
    lines.for_each(|line| eprintln!("{line}"));
}

fn check(file: &File, world: &World) -> Exit {
    match load(&file.config, world) {
        Ok(loaded) if loaded.config.is_some() => {
            // A reader that has left is not our failure.
            let _ = writeln!(std::io::stdout(), "{}: ok", file.config.display());
            Exit::Clean
        }
        Ok(_) => Exit::Config,
        Err(exit) => exit,
    }
}

fn print_config(file: &File, world: &World) -> Exit {
    match load(&file.config, world) {
        Ok(loaded) if loaded.config.is_some() => {
            // A reader that has left is not our failure.
            let _ = write!(std::io::stdout(), "{}", print::effective(&loaded));
            Exit::Clean
        }
        Ok(_) => Exit::Config,
        Err(exit) => exit,
    }
}

fn demonstrate(options: &demo::Options, world: &World) -> Exit {
    match demo::run(options, world) {
        Ok(()) => Exit::Clean,
        Err(error) => {
            eprintln!("tidegate: {error}");
            Exit::Failure
        }
    }
}

#[cfg(test)]
mod tests;
