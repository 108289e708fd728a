//! What a core has seen of a node's answers lately: how long they take, and how many of them are failures.
//!
//! Latency is Finagle's peak EWMA: a slower answer counts at once and whole, faster ones wear it down with time, and so does silence: a
//! node that nobody asks is tried again. Failures count by share, not by latency: a node of which one in a hundred requests fails must
//! not look as slow as its failures would, and one that only fails must look slow however fast it is. That share fades with silence as
//! well, so that a node that failed is asked now and then.

use crate::core::time::MonoTime;
use std::time::Duration;

/// After so long without an answer a latency counts for 1/e of itself (Finagle's default).
const DECAY_SECONDS: f64 = 10.0;

/// After so long without an answer the share of failures counts for half: as long as a first ejection takes.
const FADE_SECONDS: f64 = 10.0;

/// How much one request's end moves the share of failures: three failures in a row make it more than half.
const GAIN: f64 = 0.25;

/// The largest share: what asking costs stays finite.
const MOST: f64 = 0.98;

/// What an answer of a node that mostly fails takes at least: longer than any that is worth waiting for.
pub(super) const PENALTY_SECONDS: f64 = 1.0;

/// What is known of one node. It begins with nothing: a latency of zero, so that a new node is tried, by one request at a time.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Experience {
    latency: f64,
    failing: f64,
    at: MonoTime,
}

/// An experience, as of a moment.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The share of failures among the latest requests, below one.
    pub failing: f64,
    /// How long a request takes, in seconds, when those that fail must be sent again: whole times, as a single failure must not starve a
    /// node that is idle like the others.
    pub latency: f64,
}

impl Experience {
    /// A request ended well: its head came after `took`.
    pub fn answered(&mut self, now: MonoTime, took: Duration) {
        let took = took.as_secs_f64();
        let faded = self.faded(now);
        let worn = self.worn(now);
        self.latency = if took > worn {
            took
        } else {
            took + (worn - took) * keeps(self.silence(now))
        };
        self.failing = step(faded, 0.0);
        self.at = self.at.max(now);
    }

    /// A request failed after `took`. A slow failure is a slow answer too; a fast one tells nothing of latency.
    pub fn failed(&mut self, now: MonoTime, took: Duration) {
        let (faded, worn) = (self.faded(now), self.worn(now));
        self.latency = worn.max(took.as_secs_f64());
        self.failing = step(faded, 1.0);
        self.at = self.at.max(now);
    }

    /// A request was given up after `took`: its answer would have taken longer, and may have been a failure or not.
    pub fn waited(&mut self, now: MonoTime, took: Duration) {
        (self.failing, self.latency) = (self.faded(now), self.worn(now).max(took.as_secs_f64()));
        self.at = self.at.max(now);
    }

    /// What is known as of now.
    #[must_use]
    pub fn seen(&self, now: MonoTime) -> Seen {
        let failing = self.faded(now);
        let least = if failing > 0.5 { PENALTY_SECONDS } else { 0.0 };
        Seen {
            failing,
            latency: self.worn(now).max(least) * (1.0 / (1.0 - failing)).floor(),
        }
    }

    fn silence(&self, now: MonoTime) -> f64 {
        now.duration_since(self.at).as_secs_f64()
    }

    fn faded(&self, now: MonoTime) -> f64 {
        if self.failing == 0.0 {
            return 0.0;
        }
        self.failing * (-self.silence(now) / FADE_SECONDS).exp2()
    }

    fn worn(&self, now: MonoTime) -> f64 {
        self.latency * keeps(self.silence(now))
    }
}

fn keeps(silence: f64) -> f64 {
    (-silence / DECAY_SECONDS).exp()
}

/// The share after one more request. What is next to nothing is nothing.
fn step(share: f64, to: f64) -> f64 {
    let next = share + (to - share) * GAIN;
    if next < 0.001 { 0.0 } else { next.min(MOST) }
}
