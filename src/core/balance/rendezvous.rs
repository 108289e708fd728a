//! Weighted rendezvous hashing (Thaler and Ravishankar; the weights as by Schindelhauer and Schomaker): each node has a time for each
//! key, exponentially distributed with the node's share as its rate, and the earliest takes it. So a node gets keys by its share, a
//! node that leaves gives its own keys away and moves no other, and a share that grows only attracts.
//!
//! The hash is the same in every process: two proxies in a row agree.

use super::Load;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// What a request is hashed by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct HashKey(u64);

/// A node's name, hashed: its keys stay its own wherever it stands among the nodes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(u64);

impl HashKey {
    /// Of a path, an address, or a field's value.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(digest(text))
    }
}

impl Identity {
    /// Of a node's name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(digest(name.as_bytes()))
    }
}

fn digest(text: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text);
    hasher.finish()
}

/// The node the key belongs to.
pub(super) fn choose<'a>(loads: impl Iterator<Item = &'a Load>, key: HashKey) -> Option<&'a Load> {
    loads
        .filter(|load| load.weight > 0)
        .map(|load| (time(load, key), load))
        .min_by(|(a, x), (b, y)| a.total_cmp(b).then(x.identity.cmp(&y.identity)))
        .map(|(_, load)| load)
}

#[allow(clippy::cast_precision_loss, reason = "53 bits, and a share of at most 100,000")]
fn time(load: &Load, key: HashKey) -> f64 {
    // Uniform in (0, 1].
    let uniform = ((mix(key.0 ^ mix(load.identity.0)) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln() / load.share() as f64
}

/// The finaliser of splitmix64 (Steele, Lea and Flood).
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
