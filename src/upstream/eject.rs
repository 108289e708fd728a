//! Passive health: requests count how many in a row a node has failed, and one task per upstream with `outlier` ejects by that count and
//! gives nodes another chance. It decides nothing: [`crate::core::failover::outlier`] does.
//!
//! Nobody who has the traffic alone is ejected: that would hand it to another node, and only probes and promotions do that (R37, R39).
//!
//! The count is shared by the cores and written by failures, and by the success that ends a row: a node that works costs one load.

use super::standing::End;
use super::{One, Shared, Upstreams};
use crate::config::runtime::{self, Upstream};
use crate::core::failover::event::Event;
use crate::core::failover::outlier::{Among, Outlier, Settings};
use crate::core::failover::view::Primary;
use crate::core::time::Span;

/// Who sits where, as far as ejection has seen: what one node did is nothing to the next one in its place.
type Names = Vec<Option<String>>;

impl Shared {
    /// A request to a node ended.
    pub(super) fn judge(&self, upstream: usize, node: usize, end: End) {
        let Some(one) = self.upstreams.get(upstream) else {
            return;
        };
        let (Some(outlier), Some(target)) = (one.config.outlier, one.nodes.get(node)) else {
            return;
        };
        match end {
            // A 500 may be the request's fault: the node answers.
            End::Well | End::Failing => target.worked(),
            End::GivenUp => {} // it may have been about to answer
            End::Broken => {
                if target.failed() >= outlier.consecutive_errors {
                    one.trouble.notify_one();
                }
            }
        }
    }
}

impl Upstreams {
    /// Ejects an upstream's nodes and readmits them, for good. Who was ejected before a reload is known (R31).
    pub(super) async fn eject(&self, upstream: usize) {
        let Some(one) = self.shared.upstreams.get(upstream) else {
            return;
        };
        let Some(config) = one.config.outlier else {
            let over = one.ejected.lock().end();
            return self.readmit(upstream, one, over).await;
        };
        one.ejected.lock().adjust(settings(config));
        let mut names: Names = (0..one.nodes.len()).map(|node| one.node_name(node)).collect();
        loop {
            one.forget_who_left(&mut names);
            let now = self.shared.world.clock.mono();
            let over = one.ejected.lock().readmit(now);
            self.readmit(upstream, one, over).await;
            for (node, target) in one.nodes.iter().enumerate() {
                if target.streak() < config.consecutive_errors {
                    continue;
                }
                let Some(among) = one.among(node) else {
                    // Should it come to be of use again, it starts afresh.
                    target.worked();
                    continue;
                };
                // Where enough are out it goes as soon as fewer are, unless it works again.
                let ejected = one.ejected.lock().failing(now, node, among);
                if ejected {
                    target.worked();
                    self.tell(upstream, Event::Ejected { node }).await;
                }
            }
            let next = one.ejected.lock().next();
            let trouble = one.trouble.notified();
            match next {
                None => trouble.await,
                Some(next) => {
                    let left = next.duration_since(self.shared.world.clock.mono());
                    // Whichever comes first: both are looked at.
                    let _ = tokio::time::timeout(left, trouble).await;
                }
            }
        }
    }

    async fn readmit(&self, upstream: usize, one: &One, over: Vec<usize>) {
        for node in over {
            // What was still in flight when it was ejected has failed too.
            one.worked(node);
            self.tell(upstream, Event::Readmitted { node }).await;
        }
    }
}

/// Nobody is ejected at an upstream.
pub(super) fn nobody(config: &Upstream) -> Outlier {
    let off = Settings {
        ejection_time: Span::default(),
        max_ejected_percent: 0,
    };
    Outlier::new(config.outlier.map_or(off, settings), config.slots())
}

fn settings(config: runtime::Outlier) -> Settings {
    Settings {
        ejection_time: Span::from(config.ejection_time),
        max_ejected_percent: config.max_ejected_percent,
    }
}

impl One {
    fn worked(&self, node: usize) {
        if let Some(target) = self.nodes.get(node) {
            target.worked();
        }
    }

    fn forget_who_left(&self, names: &mut Names) {
        for (node, known) in names.iter_mut().enumerate() {
            let name = self.node_name(node);
            if *known != name {
                self.ejected.lock().forget(node);
                *known = name;
            }
        }
    }

    /// Among whom a node fails; none: it cannot be ejected.
    fn among(&self, node: usize) -> Option<Among> {
        let view = self.view.load();
        // A home has its part of the traffic alone.
        let alone = view.active() == Some(node) || view.primary == Primary::Homes;
        if alone || !view.candidates.contains(&node) {
            return None;
        }
        let there = |node: &usize| self.nodes.get(*node).is_some_and(|target| target.staying().is_some());
        let others = (0..self.nodes.len()).filter(|other| *other != node).filter(there);
        let (nodes, others_out) = others.fold((1, 0), |(nodes, out), other| {
            (nodes + 1, out + usize::from(!view.candidates.contains(&other)))
        });
        Some(Among { nodes, others_out })
    }
}
