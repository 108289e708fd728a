//! The queues of a mirrored upstream's resources, with what is in doubt of each (R33, R34). A place in a queue is a guard: dropping it is
//! all that leaving takes.

use crate::coord::journal::IntentId;
use crate::core::failover::mirror::doubt::Doubt;
use crate::core::failover::mirror::turns::{Ticket, Turn, Turns};
use crate::core::time::MonoTime;
use crate::store::ResourceId;
use http::HeaderValue;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::Notify;

/// The queues that anybody is in, or that are in doubt.
#[derive(Default)]
pub(super) struct Lines(Mutex<HashMap<ResourceId, Line>>);

#[derive(Default)]
struct Line {
    turns: Turns,
    waiting: BTreeMap<Ticket, Arc<Notify>>,
    doubt: Doubt<IntentId>,
    /// What the last write that was sent called the host.
    host: Option<HeaderValue>,
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
        let ticket = self.0.lock().entry(resource).or_default().turns.enter(turn);
        Place {
            lines: Arc::clone(self),
            resource,
            ticket,
        }
    }

    /// What is in doubt of a resource, to be changed. What is empty afterwards is dropped.
    pub(super) fn doubt<T>(&self, resource: ResourceId, change: impl FnOnce(&mut Doubt<IntentId>) -> T) -> T {
        let mut lines = self.0.lock();
        let line = lines.entry(resource).or_default();
        let changed = change(&mut line.doubt);
        if line.is_over() {
            lines.remove(&resource);
        }
        changed
    }

    /// The `Host` that the last write of a resource in doubt was sent with.
    pub(super) fn host(&self, resource: ResourceId) -> Option<HeaderValue> {
        self.0.lock().get(&resource).and_then(|line| line.host.clone())
    }

    /// Notes that `Host`.
    pub(super) fn note_host(&self, resource: ResourceId, host: Option<&HeaderValue>) {
        if let Some(line) = self.0.lock().get_mut(&resource) {
            line.host = host.cloned();
        }
    }

    /// A resource that is in doubt although it has settled, and has not been compared since `again` was last given for it.
    pub(super) fn overdue(&self, now: MonoTime, again: MonoTime) -> Option<ResourceId> {
        let mut lines = self.0.lock();
        let overdue = |line: &Line| line.doubt.is_open() && line.doubt.settled_at() <= now && line.not_before <= now;
        let (resource, line) = lines.iter_mut().find(|(_, line)| overdue(line))?;
        line.not_before = again;
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
                let mut lines = self.lines.0.lock();
                let Some(line) = lines.get_mut(&self.resource) else {
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
        if let Some(line) = self.lines.0.lock().get_mut(&self.resource) {
            line.turns.becomes_alone(self.ticket);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        let Some(line) = lines.get_mut(&self.resource) else {
            return;
        };
        line.waiting.remove(&self.ticket);
        for up in line.turns.leave(self.ticket) {
            if let Some(news) = line.waiting.get(&up) {
                news.notify_one();
            }
        }
        if line.is_over() {
            lines.remove(&self.resource);
        }
    }
}
