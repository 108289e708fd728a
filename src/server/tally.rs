//! What a listener counts of its connections beside how many there are: handshakes and floods. All of it is rare, or costs far more than the count.

use crate::telemetry::metrics::Handshake;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of one listener.
#[derive(Debug, Default)]
pub struct Tally {
    handshakes: Mutex<BTreeMap<Handshake, u64>>,
    thrown_away: AtomicU64,
    floods: AtomicU64,
}

impl Tally {
    pub(super) fn handshake(&self, handshake: Handshake) {
        *self.handshakes.lock().entry(handshake).or_default() += 1;
    }

    /// An HTTP/2 connection is over, of which the client threw so many streams away.
    pub(super) fn http2_ended(&self, thrown_away: u64, flooded: bool) {
        self.thrown_away.fetch_add(thrown_away, Ordering::Relaxed);
        self.floods.fetch_add(u64::from(flooded), Ordering::Relaxed);
    }

    /// Handshakes so far.
    #[must_use]
    pub fn handshakes(&self) -> Vec<(Handshake, u64)> {
        self.handshakes
            .lock()
            .iter()
            .map(|(key, count)| (*key, *count))
            .collect()
    }

    /// HTTP/2 streams that ended before their answer did, of connections that are over.
    #[must_use]
    pub fn thrown_away(&self) -> u64 {
        self.thrown_away.load(Ordering::Relaxed)
    }

    /// HTTP/2 connections that were closed for it.
    #[must_use]
    pub fn floods(&self) -> u64 {
        self.floods.load(Ordering::Relaxed)
    }
}
