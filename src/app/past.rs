//! What one process leaves to the next (CONSISTENCY.md section 1, Start): a marker that it stopped with no write pending or unsettled.
//! Read and durably removed before listening, so that no crash from then on can look like a clean stop; without it, exclusive routes are
//! in validate gear until what the previous process abandoned can no longer be applied.
//!
//! The marker holds how long each upstream's writes were given to settle: a longer time asked for now cannot be vouched for by it.

use super::StartError;
use super::rooms::Rooms;
use super::views;
use crate::config::runtime::{Action, Config};
use crate::core::policy::Contract;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// The marker's name under `state_dir`.
const MARKER: &str = "clean-stop";

/// Decides what exclusive routes may trust, and says what strong routes rely on. The state directory is claimed: another process's
/// marker would vouch for writes of ours.
///
/// # Errors
/// When what is in the state directory cannot be read, or cannot be true.
pub(super) fn recall(rooms: &Rooms) -> Result<(), StartError> {
    let config = rooms.config();
    if let Some(path) = &config.server.state_dir {
        views::recall(rooms, path)?;
    }
    assume(&config);
    let vouched = take_marker(rooms);
    let trusted = vouched.is_some_and(|times| {
        settling_times(&config)
            .iter()
            .all(|(name, ms)| times.get(name) >= Some(ms))
    });
    if !trusted {
        rooms.store.distrust_the_past(rooms.world.clock.mono());
    }
    Ok(())
}

/// Leaves the marker, if there is nothing the next process would have to fear.
pub(super) fn remember(rooms: &Rooms) {
    let config = rooms.config();
    let Some(path) = marker(&config) else { return };
    if !rooms.owns() || rooms.is_passive() {
        return; // it never got so far as to know what there was
    }
    if !rooms.store.is_quiet() {
        tracing::warn!(
            "writes are pending or unsettled, or those before this start may be: the next start will validate until they are settled"
        );
        return;
    }
    let text = serde_json::json!(settling_times(&config)).to_string();
    if let Err(error) = rooms.world.disk.replace(&path, &text) {
        tracing::warn!(path = %path.display(), %error, "cannot write the clean-stop marker");
    }
}

fn marker(config: &Config) -> Option<PathBuf> {
    config.server.state_dir.as_ref().map(|dir| dir.join(MARKER))
}

/// The marker's settling times; none when there is no marker, or when it could not be removed for good.
fn take_marker(rooms: &Rooms) -> Option<BTreeMap<String, u128>> {
    let path = marker(&rooms.config())?;
    let text = match rooms.world.disk.read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot read the clean-stop marker");
            }
            return None;
        }
    };
    if let Err(error) = rooms.world.disk.remove(&path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove the clean-stop marker: it is not trusted");
        return None;
    }
    serde_json::from_str(&text).ok()
}

/// By upstream: how long abandoned writes are given, in milliseconds, where a strong route asks for it.
fn settling_times(config: &Config) -> BTreeMap<String, u128> {
    let upstreams = config.upstreams.iter();
    upstreams
        .filter_map(|u| Some((u.name.clone(), u.settle_after?.as_millis())))
        .collect()
}

/// What each strong route relies on, once per start and reload.
pub(super) fn assume(config: &Config) {
    for route in &config.routes {
        let Action::Proxy { upstream, policy, .. } = &route.action else {
            continue;
        };
        let Contract::Strong(_, proof) = &policy.contract else {
            continue;
        };
        tracing::info!(
            route = route.name,
            upstream = upstream.name,
            settle_after_ms = proof.settle_after.as_millis(),
            "strong, {} gear; relies on: {}",
            if policy.is_exclusive() { "exclusive" } else { "validate" },
            policy.assumptions().join("; "),
        );
    }
}
