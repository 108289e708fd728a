//! The queues of a mirrored upstream's resources, with what is in doubt of each (R33, R34). A place in a queue is a guard: dropping it is
//! all that leaving takes.

use crate::coord::journal::IntentId;
use crate::core::failover::mirror::doubt::Doubt;
use crate::core::failover::mirror::turns::{Ticket, Turn, Turns};
use crate::core::time::MonoTime;
use crate::store::ResourceId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Notify;

/// The most intents that may be open of writes whose end nobody knows. Beyond, writes are refused: more are ended in the background, or
/// something is wrong for good.
pub(super) const MAX_IN_DOUBT: usize = 100_000;

/// The queues that anybody is in, or that are in doubt.
#[derive(Default)]
pub(super) struct Lines(Mutex<All>);

#[derive(Default)]
struct All {
    lines: BTreeMap<ResourceId, Line>,
    in_doubt: BTreeSet<ResourceId>,
    /// Open intents of all of them.
    open: usize,
}

#[derive(Default)]
struct Line {
    turns: Turns,
    waiting: BTreeMap<Ticket, Arc<Notify>>,
    doubt: Doubt<IntentId>,
    /// Not before that is it compared in the background.
    not_before: MonoTime,
}

/// A place in a resource's queue.
pub(super) struct Place {
    lines: Arc<Lines>,
    pub(super) resource: ResourceId,
    ticket: Ticket,
}

impl Lines {
    /// Takes a place at the end of a resource's queue.
    pub(super) fn enter(self: &Arc<Self>, resource: ResourceId, turn: Turn) -> Place {
        let ticket = self.0.lock().lines.entry(resource).or_default().turns.enter(turn);
        Place {
            lines: Arc::clone(self),
            resource,
            ticket,
        }
    }

    /// What is in doubt of a resource, to be changed. What is empty afterwards is dropped.
    pub(super) fn doubt<T>(&self, resource: ResourceId, change: impl FnOnce(&mut Doubt<IntentId>) -> T) -> T {
        let mut all = self.0.lock();
        let all = &mut *all;
        let line = all.lines.entry(resource).or_default();
        let before = line.doubt.count();
        let changed = change(&mut line.doubt);
        all.open = all.open.saturating_sub(before).saturating_add(line.doubt.count());
        if line.doubt.is_open() {
            all.in_doubt.insert(resource);
        } else {
            all.in_doubt.remove(&resource);
        }
        if line.is_over() {
            all.lines.remove(&resource);
        }
        changed
    }

    /// Whether a resource is in doubt.
    pub(super) fn is_in_doubt(&self, resource: ResourceId) -> bool {
        self.0.lock().in_doubt.contains(&resource)
    }

    /// Whether so much is in doubt that nothing may be added.
    pub(super) fn is_full(&self) -> bool {
        self.0.lock().open >= MAX_IN_DOUBT
    }

    /// A resource that is in doubt although it has settled, and has not been compared since `again` was last given for it.
    pub(super) fn overdue(&self, now: MonoTime, again: MonoTime) -> Option<ResourceId> {
        let mut all = self.0.lock();
        let All { lines, in_doubt, .. } = &mut *all;
        let overdue = |line: &Line| line.doubt.settled_at() <= now && line.not_before <= now;
        let resource = in_doubt
            .iter()
            .find(|resource| lines.get(resource).is_some_and(overdue))?;
        lines.get_mut(resource)?.not_before = again;
        Some(*resource)
    }
}

impl Line {
    fn is_over(&self) -> bool {
        self.turns.is_empty() && !self.doubt.is_open()
    }
}

impl Place {
    /// Waits until it is this place's turn.
    pub(super) async fn up(&self) {
        loop {
            let news = {
                let mut all = self.lines.0.lock();
                let Some(line) = all.lines.get_mut(&self.resource) else {
                    return;
                };
                if line.turns.is_up(self.ticket) {
                    return;
                }
                Arc::clone(line.waiting.entry(self.ticket).or_default())
            };
            news.notified().await; // told before, it is not lost
        }
    }

    /// R34: from now on the place excludes everything behind it.
    pub(super) fn becomes_alone(&self) {
        if let Some(line) = self.lines.0.lock().lines.get_mut(&self.resource) {
            line.turns.becomes_alone(self.ticket);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.lines.0.lock();
        let Some(line) = all.lines.get_mut(&self.resource) else {
            return;
        };
        line.waiting.remove(&self.ticket);
        for up in line.turns.leave(self.ticket) {
            if let Some(news) = line.waiting.get(&up) {
                news.notify_one();
            }
        }
        if line.is_over() {
            all.lines.remove(&self.resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::failover::mirror::target::Target;
    use crate::core::time::Span;

    fn resource(digest: u128) -> ResourceId {
        ResourceId { digest, upstream: 0 }
    }

    #[tokio::test]
    async fn what_is_in_doubt_is_counted_and_compared_once_in_a_while() {
        let at = |ms| MonoTime::default().after(Span::from_millis(ms));
        let lines = Arc::new(Lines::default());
        let journal = crate::coord::journal::Journal::in_memory();
        let mut ids = Vec::new();
        for (n, target) in ["/a", "/b"].into_iter().enumerate() {
            let target = Target::from(target);
            let intent = crate::coord::journal::Intent {
                upstream: "o".to_owned(),
                target: target.clone(),
            };
            let id = journal.intend(intent).await.unwrap();
            ids.push(id);
            lines.doubt(resource(n as u128), |doubt| doubt.raise(&target, id, at(10)));
        }
        assert_eq!(lines.overdue(at(9), at(9)), None, "neither has settled");
        assert_eq!(lines.overdue(at(10), at(20)), Some(resource(0)));
        assert_eq!(lines.overdue(at(10), at(20)), Some(resource(1)));
        assert_eq!(lines.overdue(at(19), at(29)), None);
        assert_eq!(lines.overdue(at(20), at(30)), Some(resource(0)));
        let (open, kept) = {
            let all = lines.0.lock();
            (all.open, all.lines.len())
        };
        assert_eq!((open, kept), (2, 2));
        lines.doubt(resource(0), |doubt| doubt.succeeded(doubt.begin(at(30))));
        assert!(!lines.is_in_doubt(resource(0)) && lines.is_in_doubt(resource(1)));
        let all = lines.0.lock();
        assert_eq!((all.open, all.lines.len()), (1, 1));
    }

    #[tokio::test]
    async fn so_many_intents_may_be_open_and_no_more() {
        let (lines, journal) = (Lines::default(), crate::coord::journal::Journal::in_memory());
        let target = Target::from("/a");
        for n in 0..MAX_IN_DOUBT {
            assert!(!lines.is_full(), "{n}");
            let intent = crate::coord::journal::Intent {
                upstream: "o".to_owned(),
                target: target.clone(),
            };
            let id = journal.intend(intent).await.unwrap();
            lines.doubt(resource(0), |doubt| doubt.raise(&target, id, MonoTime::default()));
        }
        assert!(lines.is_full());
        lines.doubt(resource(0), |doubt| doubt.succeeded(doubt.begin(MonoTime::default())));
        assert!(!lines.is_full());
    }
}
