//! Which upstreams have exclusive routes, and from when those may prove what they store (CONSISTENCY.md section 1, Start): the
//! previous process, or the configuration before a reload (R31), may have left writes behind that are still to be applied.
//!
//! Invariant: an upstream that had an exclusive route once counts as having one until the process ends: readers from before a reload
//! may still serve what was proven for them, so a write must take it out of service when it begins.

use super::Room;
use crate::config::runtime::{Action, Config};
use crate::core::time::{MonoTime, Span};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(super) struct Gears(Room<Gear>);

#[derive(Debug, Default)]
struct Gear {
    exclusive: AtomicBool,
    /// In microseconds.
    settle_after: AtomicU64,
    /// It is longer than it was.
    grew: AtomicBool,
    /// In microseconds of the monotonic clock.
    proves_from: AtomicU64,
    /// Reloads that wait for writes from before them.
    holds: AtomicUsize,
}

impl Gears {
    pub(super) fn new(config: &Config) -> Self {
        let gears = Self(Room::new(config.upstreams.len()));
        gears.take_over(config);
        gears
    }

    /// A configuration's exclusive routes and settling times, from now on.
    pub(super) fn take_over(&self, config: &Config) {
        for upstream in &config.upstreams {
            let Some(gear) = self.0.get(upstream.id) else { continue };
            let settle_after = upstream.settle_after.map_or(Span::ZERO, Span::from);
            let micros = MonoTime::default().after(settle_after).as_micros();
            let was = gear.settle_after.swap(micros, Ordering::AcqRel);
            gear.grew.store(micros > was, Ordering::Release);
        }
        for route in &config.routes {
            match &route.action {
                Action::Proxy { upstream, policy, .. } if policy.is_exclusive() => {
                    if let Some(gear) = self.0.get(upstream.id) {
                        gear.exclusive.store(true, Ordering::Release);
                    }
                }
                Action::Proxy { .. } | Action::Redirect { .. } | Action::Respond { .. } => {}
            }
        }
    }

    /// Whether an exclusive route can read resources of the upstream.
    pub(super) fn any_exclusive(&self, upstream: usize) -> bool {
        self.0
            .get(upstream)
            .is_some_and(|gear| gear.exclusive.load(Ordering::Acquire))
    }

    pub(super) fn may_prove(&self, now: MonoTime, upstream: usize) -> bool {
        self.0.get(upstream).is_some_and(|gear| gear.may_prove(now))
    }

    /// Nothing is proven before the settling time from now is over.
    pub(super) fn wait(&self, now: MonoTime) {
        for gear in self.0.iter() {
            gear.proves_from.fetch_max(gear.settled_at(now), Ordering::AcqRel);
        }
    }

    /// Nothing of these upstreams is proven until [`Gears::resume`].
    pub(super) fn hold(&self, upstreams: &[usize]) {
        for gear in upstreams.iter().filter_map(|upstream| self.0.get(*upstream)) {
            gear.holds.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What [`Gears::hold`] waited for is over; the last of it that nobody can vouch for at `unknown`.
    pub(super) fn resume(&self, upstreams: &[usize], unknown: Option<MonoTime>) {
        for gear in upstreams.iter().filter_map(|upstream| self.0.get(*upstream)) {
            let from = unknown.map_or(0, |at| gear.settled_at(at));
            gear.proves_from.fetch_max(from, Ordering::AcqRel);
            gear.holds.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A write ended unknown at `unknown`, and these upstreams may give it longer to settle than they did then.
    pub(super) fn distrust(&self, upstreams: impl Iterator<Item = usize>, unknown: MonoTime) {
        for gear in upstreams.filter_map(|upstream| self.0.get(upstream)) {
            let until = gear.settled_at(unknown);
            if gear.grew.swap(false, Ordering::AcqRel) {
                gear.proves_from.fetch_max(until, Ordering::AcqRel);
            }
        }
    }

    /// Whether no upstream is still waiting. Those without an exclusive route count too: the next process may have one there.
    pub(super) fn is_quiet(&self, now: MonoTime) -> bool {
        self.0.iter().all(|gear| gear.may_prove(now))
    }
}

impl Gear {
    fn may_prove(&self, now: MonoTime) -> bool {
        let waits = self.holds.load(Ordering::Acquire) > 0;
        !waits && now.as_micros() >= self.proves_from.load(Ordering::Acquire)
    }

    fn settled_at(&self, since: MonoTime) -> u64 {
        since
            .as_micros()
            .saturating_add(self.settle_after.load(Ordering::Acquire))
    }
}
