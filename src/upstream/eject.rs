//! Passive health: requests count how many in a row a node has failed, and one task per upstream with `outlier` ejects by that count and
//! gives nodes another chance. It decides nothing: [`crate::core::failover::outlier`] does.
//!
//! Nobody who has the traffic alone is ejected: that would hand it to another node, and only probes and promotions do that (R37, R39).
//!
//! The count is shared by the cores and written by failures, and by the success that ends a row: a node that works costs one load.

use super::standing::End;
use super::{One, Shared, Upstreams};
use crate::core::failover::event::Event;
use crate::core::failover::outlier::{Among, Outlier, Record, Settings};
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
            End::Broken => {
                if target.failed() >= outlier.consecutive_errors {
                    one.trouble.notify_one();
                }
            }
        }
    }
}

impl Upstreams {
    /// Ejects an upstream's nodes and readmits them, for good.
    pub(super) async fn eject(&self, upstream: usize) {
        let Some(one) = self.shared.upstreams.get(upstream) else {
            return;
        };
        let Some(config) = one.config.outlier else {
            return;
        };
        let settings = Settings {
            ejection_time: Span::from(config.ejection_time),
            max_ejected_percent: config.max_ejected_percent,
        };
        let mut outlier = Outlier::new(settings, one.nodes.len());
        let mut names: Names = vec![None; one.nodes.len()];
        loop {
            let now = self.shared.world.clock.mono();
            one.forget_who_left(&mut outlier, &mut names);
            for node in outlier.readmit(now) {
                // What was still in flight when it was ejected has failed too.
                one.worked(node);
                self.tell(upstream, Event::Readmitted { node }).await;
            }
            for (node, target) in one.nodes.iter().enumerate() {
                if target.streak() < config.consecutive_errors {
                    continue;
                }
                match one.among(node) {
                    // Should it come to be of use again, it starts afresh.
                    None => target.worked(),
                    Some(among) if outlier.failing(now, node, among) => {
                        target.worked();
                        self.tell(upstream, Event::Ejected { node }).await;
                    }
                    // Enough are out: it goes as soon as fewer are, unless it works again.
                    Some(_) => {}
                }
            }
            let trouble = one.trouble.notified();
            match outlier.next() {
                None => trouble.await,
                Some(next) => {
                    let left = next.duration_since(self.shared.world.clock.mono());
                    // Whichever comes first: both are looked at.
                    let _ = tokio::time::timeout(left, trouble).await;
                }
            }
        }
    }
}

impl One {
    fn worked(&self, node: usize) {
        if let Some(target) = self.nodes.get(node) {
            target.worked();
        }
    }

    fn forget_who_left(&self, outlier: &mut Outlier, names: &mut Names) {
        for (node, known) in names.iter_mut().enumerate() {
            let name = self.node_name(node);
            if *known != name {
                outlier.resume(node, Record::default());
                *known = name;
            }
        }
    }

    /// Among whom a node fails; none: it cannot be ejected.
    fn among(&self, node: usize) -> Option<Among> {
        let view = self.view.load();
        if view.active() == Some(node) || !view.candidates.contains(&node) {
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
