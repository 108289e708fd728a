//! Which upstreams have exclusive routes, and from when those may prove what they store (CONSISTENCY.md section 1, Start): the
//! previous process may have left writes behind that are still to be applied.

use crate::config::runtime::{Action, Config};
use crate::core::time::{MonoTime, Span};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Gears(Vec<Gear>);

struct Gear {
    exclusive: bool,
    settle_after: Span,
    /// In microseconds of the monotonic clock.
    proves_from: AtomicU64,
}

impl Gears {
    pub(super) fn new(config: &Config) -> Self {
        let exclusive = |id| {
            config.routes.iter().any(|route| match &route.action {
                Action::Proxy { upstream, policy, .. } => upstream.id == id && policy.is_exclusive(),
                Action::Redirect { .. } | Action::Respond { .. } => false,
            })
        };
        let gear = |upstream: &std::sync::Arc<crate::config::runtime::Upstream>| Gear {
            exclusive: exclusive(upstream.id),
            settle_after: upstream.settle_after.map_or(Span::ZERO, Span::from),
            proves_from: AtomicU64::new(0),
        };
        Self(config.upstreams.iter().map(gear).collect())
    }

    /// Whether an exclusive route can read resources of the upstream.
    pub(super) fn any_exclusive(&self, upstream: usize) -> bool {
        self.0.get(upstream).is_some_and(|gear| gear.exclusive)
    }

    pub(super) fn may_prove(&self, now: MonoTime, upstream: usize) -> bool {
        self.0
            .get(upstream)
            .is_some_and(|gear| now.as_micros() >= gear.proves_from.load(Ordering::Acquire))
    }

    /// Nothing is proven before the settling time from now is over.
    pub(super) fn wait(&self, now: MonoTime) {
        for gear in &self.0 {
            gear.proves_from
                .fetch_max(now.after(gear.settle_after).as_micros(), Ordering::AcqRel);
        }
    }

    /// Whether no upstream is still waiting. Those without an exclusive route count too: the next process may have one there.
    pub(super) fn is_quiet(&self, now: MonoTime) -> bool {
        self.0
            .iter()
            .all(|gear| now.as_micros() >= gear.proves_from.load(Ordering::Acquire))
    }
}
