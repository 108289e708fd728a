//! `verify`: drives a running deployment, or reads what was recorded, and judges it. Exit 0 means that every promise was judged and kept.

use super::{Exit, Given};
use crate::config::units;
use crate::core::time::Span;
use crate::verify::drive::{Load, Proxy, drive};
use crate::verify::history;
use crate::verify::judge::{Level, Terms, judge, text};
use crate::verify::record::Recorded;
use crate::world::World;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use std::io::Write;
use std::path::PathBuf;

/// Fewer successful operations show nothing.
const LEAST: (usize, usize) = (20, 5);

/// What to drive, or read, and what to judge it by.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A proxy, with the path below which keys may be written; several times for several proxies over one backend
    #[arg(long, value_name = "URL", env = "TIDEGATE_URL", required_unless_present = "history")]
    url: Vec<String>,
    /// Judge this recorded history instead
    #[arg(long, value_name = "FILE", env = "TIDEGATE_HISTORY")]
    history: Option<PathBuf>,
    /// Record what was done and seen, a JSON object per line
    #[arg(long, value_name = "FILE", env = "TIDEGATE_RECORD")]
    record: Option<PathBuf>,
    /// A field of every request; its value is never recorded
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", env = "TIDEGATE_HEADER")]
    headers: Vec<String>,
    /// Requests in all, at most
    #[arg(long, value_name = "N", env = "TIDEGATE_OPERATIONS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    operations: u64,
    /// For how many seconds, at most
    #[arg(long, value_name = "N", env = "TIDEGATE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Requests a second, at most
    #[arg(long, value_name = "N", env = "TIDEGATE_RATE", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Clients at once, each a session
    #[arg(long, value_name = "N", env = "TIDEGATE_CLIENTS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// Keys that are written and read
    #[arg(long, value_name = "N", env = "TIDEGATE_KEYS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keys: u32,
    /// How many of a hundred requests are writes
    #[arg(long, value_name = "PERCENT", env = "TIDEGATE_WRITES", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=99))]
    writes: u64,
    /// The level whose promises are judged [default: what the answers call themselves]
    #[arg(long, value_name = "LEVEL", env = "TIDEGATE_LEVEL")]
    level: Option<Level>,
    /// Judge staleness by this bound [default: the one each answer names]
    #[arg(long, value_name = "DURATION", env = "TIDEGATE_MAX_STALENESS", value_parser = units::duration)]
    max_staleness: Option<std::time::Duration>,
    /// Judge read-your-writes and monotonic reads of clients that got no session token, too
    #[arg(long, env = "TIDEGATE_SESSIONS")]
    sessions: bool,
}

pub(super) fn verify(args: &VerifyArgs, given: Given<'_>, world: &World) -> Exit {
    let drives = ["url", "record"].iter().any(|flag| given.on_command_line(flag));
    if args.history.is_some() && drives {
        eprintln!("tidegate: --history judges what was recorded: --url and --record drive");
        return Exit::Usage;
    }
    let seen = match &args.history {
        Some(file) => read(file, world).map(|history| (history, Vec::new())),
        None => driven(args, world),
    };
    let (history, unread) = match seen {
        Ok(seen) => seen,
        Err(exit) => return exit,
    };
    let terms = Terms {
        level: args.level,
        max_staleness: args.max_staleness.map(Span::from),
        sessions: args.sessions,
        // A history that was cut down by hand is judged as it is, but not an empty one.
        least: if args.history.is_some() { (1, 1) } else { LEAST },
    };
    let verdict = match judge(&history, &terms, &unread) {
        Ok(verdict) => verdict,
        Err(malformed) => {
            eprintln!("tidegate: no history: {malformed}");
            return Exit::Failure;
        }
    };
    // A reader that has left does not change the verdict.
    let _ = writeln!(std::io::stdout(), "{}", text(&verdict));
    if verdict.holds() { Exit::Clean } else { Exit::Failure }
}

fn read(file: &std::path::Path, world: &World) -> Result<Vec<Recorded>, Exit> {
    let text = world.disk.read_to_string(file).map_err(|error| {
        eprintln!("tidegate: {}: {error}", file.display());
        Exit::Failure
    })?;
    history::from_text(&text).map_err(|unreadable| {
        eprintln!("tidegate: {}: {unreadable}", file.display());
        Exit::Failure
    })
}

fn driven(args: &VerifyArgs, world: &World) -> Result<(Vec<Recorded>, Vec<String>), Exit> {
    let usage = |why: String| {
        eprintln!("tidegate: {why}");
        Exit::Usage
    };
    let failed = |why: &dyn std::fmt::Display| {
        eprintln!("tidegate: {why}");
        Exit::Failure
    };
    let load = Load {
        proxies: args
            .url
            .iter()
            .map(|url| place(url))
            .collect::<Result<_, _>>()
            .map_err(usage)?,
        fields: fields(&args.headers).map_err(usage)?,
        clients: args.clients,
        keys: args.keys,
        operations: args.operations,
        seconds: args.seconds,
        rate: args.rate,
        write_percent: args.writes,
    };
    for proxy in &load.proxies {
        eprintln!(
            "tidegate: this writes {}/tidegate-verify-0 to -{} at {}",
            proxy.path,
            load.keys - 1,
            proxy.authority
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| failed(&why))?;
    let driven = runtime.block_on(drive(&load, world)).map_err(|why| failed(&why))?;
    if let Some(file) = &args.record {
        let text = history::to_text(&driven.history);
        world
            .disk
            .replace(file, &text)
            .map_err(|why| failed(&format!("{}: {why}", file.display())))?;
    }
    let _ = writeln!(std::io::stdout(), "{:<31}{} reads", "served from memory", driven.hits);
    Ok((driven.history, driven.unread))
}

/// The proxy of a URL. It has to name a path: what is below is written.
fn place(url: &str) -> Result<Proxy, String> {
    let wrong = || format!("`{url}` is no URL of the form http://HOST[:PORT]/PATH");
    let parsed: Uri = url.parse().map_err(|_| wrong())?;
    let authority = parsed.authority().ok_or_else(wrong)?;
    if parsed.scheme_str() != Some("http") || authority.as_str().contains('@') {
        return Err(wrong());
    }
    if parsed.query().is_some() || url.contains('#') {
        return Err(format!("`{url}` goes on behind its path: keys are written below it"));
    }
    let path = parsed.path().trim_end_matches('/');
    if path.is_empty() {
        return Err(format!(
            "`{url}` names no path: verify writes, so say below which path it may (http://HOST/PATH)"
        ));
    }
    Ok(Proxy {
        authority: authority.as_str().to_owned(),
        host: authority.host().trim_matches(['[', ']']).to_owned(),
        port: authority.port_u16().unwrap_or(80),
        path: path.to_owned(),
    })
}

fn fields(lines: &[String]) -> Result<HeaderMap, String> {
    let mut fields = HeaderMap::new();
    for (number, line) in lines.iter().enumerate() {
        let wrong = || format!("field {} is not of the form `Name: value`", number + 1);
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        fields.append(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_url_names_a_path_to_write_below() {
        let one = place("http://127.0.0.1:8080/strong/").unwrap();
        assert_eq!(
            (one.host.as_str(), one.port, one.path.as_str()),
            ("127.0.0.1", 8080, "/strong")
        );
        let six = place("http://[::1]/a/b").unwrap();
        assert_eq!(
            (six.host.as_str(), six.port, six.authority.as_str()),
            ("::1", 80, "[::1]")
        );
        for wrong in [
            "http://a",
            "http://a/",
            "http://a/b?c",
            "https://a/b",
            "a/b",
            "/b",
            "http://user@a/b",
            "",
        ] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
