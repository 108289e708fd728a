//! What a listener counts of its connections beside how many there are: TLS handshakes, each of which costs far more than the count.

use crate::telemetry::metrics::Handshake;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The counts of one listener.
#[derive(Debug, Default)]
pub struct Tally {
    handshakes: Mutex<BTreeMap<Handshake, u64>>,
}

impl Tally {
    pub(super) fn handshake(&self, handshake: Handshake) {
        *self.handshakes.lock().entry(handshake).or_default() += 1;
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
}
