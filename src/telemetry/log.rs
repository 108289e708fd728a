//! Log lines to stderr, through `tracing`. `[telemetry] log` is the filter, `TIDEGATE_LOG` overrides it.
//!
//! One line per event, nothing per request above `debug`. stdout is left to what a caller reads (the `ready` line, `status`,
//! [`super::access_log`]).

use crate::config::runtime::{LogFormat, Telemetry};
use crate::world::World;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// The variable that overrides `[telemetry] log`.
const FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}: {why}")]
pub struct LogError {
    /// The filter that was asked for.
    pub filter: String,
    /// What is wrong with it.
    pub why: String,
}

/// Installs the process's subscriber. A second call changes nothing and succeeds, so that an embedding program keeps its own.
///
/// # Errors
/// When the filter cannot be parsed.
pub fn install(telemetry: &Telemetry, world: &World) -> Result<(), LogError> {
    let text = world
        .env
        .var(FILTER_VARIABLE)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| telemetry.log.clone());
    let filter = filter(&text)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error here only says that a subscriber is installed already.
    match telemetry.log_format {
        LogFormat::Text => {
            let lines = lines.with_ansi(false).with_filter_reloading();
            let handle = lines.reload_handle();
            if lines.try_init().is_ok() {
                install_change(move |filter| drop(handle.reload(filter)));
            }
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            if lines.try_init().is_ok() {
                install_change(move |filter| drop(handle.reload(filter)));
            }
        }
    }
    Ok(())
}

/// A reload: the filter is this one's from now on, unless the variable overrides it or the subscriber is not ours.
pub fn take_over(telemetry: &Telemetry, world: &World) {
    let overridden = world.env.var(FILTER_VARIABLE).is_some_and(|text| !text.is_empty());
    if let Some(change) = CHANGE.get().filter(|_| !overridden)
        && let Ok(filter) = filter(&telemetry.log)
    {
        change(filter);
    }
}

type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// Changes the filter of the process's subscriber, of which there is one.
static CHANGE: OnceLock<Change> = OnceLock::new();

fn install_change(change: impl Fn(EnvFilter) + Send + Sync + 'static) {
    // The subscriber is installed once, and this with it.
    let _first = CHANGE.set(Box::new(change));
}

/// Warns of each ping's answer that nobody asked for: a peer could fill the log with them.
const NOISY: &str = "h2::proto::ping_pong=error";

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let wrong = |e: &dyn std::fmt::Display| LogError {
        filter: text.to_owned(),
        why: e.to_string(),
    };
    let filter = EnvFilter::builder().parse(text).map_err(|e| wrong(&e))?;
    if text.contains("h2") {
        return Ok(filter); // who names it wants it
    }
    Ok(filter.add_directive(
        NOISY
            .parse()
            .map_err(|e: tracing_subscriber::filter::ParseError| wrong(&e))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_filter_is_a_level_or_a_list_of_targets() {
        assert!(filter("info").is_ok());
        assert!(filter("warn,tidegate::upstream=debug").is_ok());
        let wrong = filter("tidegate=loud").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(wrong.contains("tidegate=loud"), "{wrong}");
    }

    #[test]
    fn a_peer_cannot_fill_the_log_with_pings_unless_that_is_asked_for() {
        for (text, expected) in [("info", false), ("debug", false), ("info,h2=info", true)] {
            let filter = filter(text).unwrap_or_default();
            let subscriber = tracing_subscriber::fmt().with_env_filter(filter).finish();
            tracing::subscriber::with_default(subscriber, || {
                let warns = tracing::enabled!(target: "h2::proto::ping_pong", tracing::Level::WARN);
                let others = tracing::enabled!(target: "tidegate::server", tracing::Level::WARN);
                assert_eq!((warns, others), (expected, true), "{text}");
            });
        }
    }
}
