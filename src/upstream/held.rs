//! Requests that wait for another view, in the order in which they came: a promotion that is under way lets them go on, first come first
//! served, and no more than `max_held` of an upstream wait, over all cores.
//!
//! Invariant: whoever has a place is woken by everything that is told after it took it, and keeps the place until it is sent or gives up:
//! one that is woken for nothing does not lose it to a later one. Dropped, a place is left.

use crate::core::failover::view::{Epoch, Primary, View};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<(u64, Arc<Notify>)>,
    /// The view they were told of last.
    told: Option<(Epoch, Primary)>,
}

/// Those who wait at one upstream.
#[derive(Default)]
pub(super) struct Held(Mutex<Queue>);

/// A place among them.
pub(super) struct Place<'a> {
    held: &'a Held,
    ticket: u64,
    news: Arc<Notify>,
}

impl Held {
    /// Takes a place, unless `max` are taken.
    pub(super) fn enter(&self, max: usize) -> Option<Place<'_>> {
        let mut queue = self.0.lock();
        if queue.waiting.len() >= max {
            return None;
        }
        let ticket = queue.next;
        queue.next += 1;
        let news = Arc::new(Notify::new());
        queue.waiting.push_back((ticket, Arc::clone(&news)));
        Some(Place {
            held: self,
            ticket,
            news,
        })
    }

    /// A view that is in force by now; everybody goes on when another node answers by it.
    pub(super) fn view(&self, view: &View) {
        let is = Some((view.epoch, view.primary));
        let was = std::mem::replace(&mut self.0.lock().told, is);
        if was != is {
            self.wake();
        }
    }

    /// There is a point in trying again: everybody goes on, in the order in which they came.
    pub(super) fn wake(&self) {
        let waiting: Vec<Arc<Notify>> = self.0.lock().waiting.iter().map(|(_, news)| Arc::clone(news)).collect();
        waiting.iter().for_each(|news| news.notify_one());
    }
}

impl Place<'_> {
    /// Ready when there has been something new since the place was taken, or since this was last ready.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.held.0.lock();
        if let Ok(at) = queue.waiting.binary_search_by_key(&self.ticket, |(ticket, _)| *ticket) {
            queue.waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn those_who_wait_go_on_in_the_order_they_came_and_no_more_than_max_wait() {
        let held = Arc::new(Held::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for n in 0..3 {
            let (held, order) = (Arc::clone(&held), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let place = held.enter(3).unwrap();
                place.news().await;
                order.lock().push(n);
            }));
            tokio::task::yield_now().await;
        }
        assert!(held.enter(3).is_none());
        tasks.remove(1).abort();
        tokio::task::yield_now().await;
        drop(held.enter(3).unwrap());
        held.wake();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), [0, 2]);
    }

    #[tokio::test]
    async fn one_that_is_woken_for_nothing_keeps_its_place() {
        let held = Held::default();
        let place = held.enter(1).unwrap();
        held.wake(); // before it waits: not lost
        place.news().await;
        assert!(held.enter(1).is_none());
        drop(place);
        assert!(held.enter(1).is_some());
    }
}
