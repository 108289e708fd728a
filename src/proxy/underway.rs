//! Work that outlives whoever waits for it (R21), without a task of its own as long as somebody does: who waits for it carries it out, and
//! a task takes over when he is let go of before it is done. Most fetches are done by then: a task each would cost more than the
//! fetch is worth.
//!
//! Invariant: work that has begun is always driven by somebody, until it is done or the process ends.

use crate::world::BoxFuture;
use parking_lot::Mutex;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// What work has to say, once, to whoever waits for it. Nobody is woken: who waits carries the work out, or does not wait any more.
enum Word<T> {
    Unsaid,
    Said(T),
    /// Nobody listens any more.
    Unheard,
}

/// For the work.
pub(super) struct Tell<T>(Arc<Mutex<Word<T>>>);

/// For who waits. Dropped: what is told is dropped as well, at once.
pub(super) struct Told<T>(Arc<Mutex<Word<T>>>);

/// Both ends.
pub(super) fn word<T>() -> (Tell<T>, Told<T>) {
    let word = Arc::new(Mutex::new(Word::Unsaid));
    (Tell(Arc::clone(&word)), Told(word))
}

impl<T> Tell<T> {
    pub(super) fn send(self, said: T) {
        let mut word = self.0.lock();
        if !matches!(*word, Word::Unheard) {
            *word = Word::Said(said);
        }
    }
}

impl<T> Told<T> {
    /// What was said, once.
    fn take(&self) -> Option<T> {
        match std::mem::replace(&mut *self.0.lock(), Word::Unsaid) {
            Word::Said(said) => Some(said),
            Word::Unsaid | Word::Unheard => None,
        }
    }
}

impl<T> Drop for Told<T> {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut *self.0.lock(), Word::Unheard);
        drop(left); // the lock is free again
    }
}

/// Waits for what the work tells; none when it ended without a word. Dropped, or ready before the work is done, it leaves the rest to a task.
pub(super) struct UnderWay<'a, T> {
    work: Option<BoxFuture<'static, ()>>,
    told: Told<T>,
    /// Where the rest is carried on; none: nowhere, it ends with who waits.
    detached: Option<&'a TaskTracker>,
}

impl<'a, T> UnderWay<'a, T> {
    pub(super) fn new(detached: Option<&'a TaskTracker>, work: BoxFuture<'static, ()>, told: Told<T>) -> Self {
        Self {
            work: Some(work),
            told,
            detached,
        }
    }
}

impl<T> Future for UnderWay<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(work) = &mut self.work {
            // As a task of its own would: what panics ends without a word, and takes nobody with it who shares the waiter's task.
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
            if !matches!(polled, Ok(Poll::Pending)) {
                self.work = None;
            }
        }
        match self.told.take() {
            None if self.work.is_some() => Poll::Pending,
            said => Poll::Ready(said),
        }
    }
}

impl<T> Drop for UnderWay<'_, T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        // What has panicked is over, and where nothing runs any more nothing can be carried on.
        if let Some(detached) = self.detached
            && !std::thread::panicking()
            && Handle::try_current().is_ok()
        {
            detached.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    /// Work of three steps, the first two of which wait; it tells after the second.
    struct Bench {
        tracker: TaskTracker,
        steps: Arc<AtomicU32>,
        go: [Arc<Notify>; 2],
    }

    impl Bench {
        fn new() -> Self {
            Self {
                tracker: TaskTracker::new(),
                steps: Arc::default(),
                go: [Arc::default(), Arc::default()],
            }
        }

        fn begin(&self) -> UnderWay<'_, u32> {
            let (tell, told) = word();
            let (steps, [first, second]) = (Arc::clone(&self.steps), self.go.clone());
            let work = async move {
                first.notified().await;
                steps.fetch_add(1, Ordering::SeqCst);
                tell.send(7);
                second.notified().await;
                steps.fetch_add(1, Ordering::SeqCst);
            };
            UnderWay::new(Some(&self.tracker), Box::pin(work), told)
        }

        fn steps(&self) -> u32 {
            self.steps.load(Ordering::SeqCst)
        }

        async fn ends(self) -> u32 {
            self.tracker.close();
            self.tracker.wait().await;
            self.steps()
        }
    }

    #[tokio::test]
    async fn work_that_is_done_when_it_tells_has_no_task() {
        let bench = Bench::new();
        bench.go.iter().for_each(|go| go.notify_one());
        assert_eq!(bench.begin().await, Some(7));
        assert_eq!((bench.steps(), bench.tracker.len()), (2, 0));
    }

    #[tokio::test]
    async fn what_is_left_when_it_has_told_is_carried_on() {
        let bench = Bench::new();
        bench.go[0].notify_one();
        assert_eq!(bench.begin().await, Some(7));
        assert_eq!((bench.steps(), bench.tracker.len()), (1, 1));
        bench.go[1].notify_one();
        assert_eq!(bench.ends().await, 2);
    }

    #[tokio::test]
    async fn r21_who_leaves_cancels_nothing() {
        let bench = Bench::new();
        let mut waiting = bench.begin();
        assert!(std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut waiting).poll(cx).is_pending())).await);
        assert_eq!(bench.tracker.len(), 0);
        drop(waiting);
        drop(bench.begin()); // never polled
        assert_eq!((bench.steps(), bench.tracker.len()), (0, 2));
        bench.go.iter().for_each(|go| {
            go.notify_one();
            go.notify_one();
        });
        tokio::task::yield_now().await;
        bench.go.iter().for_each(|go| go.notify_one());
        assert_eq!(bench.ends().await, 4);
    }

    #[test]
    fn what_is_told_nobody_is_dropped_at_once() {
        let answer = Arc::new(());
        let (tell, told) = word();
        drop(told);
        tell.send(Arc::clone(&answer));
        let (tell, told) = word();
        tell.send(Arc::clone(&answer));
        assert_eq!(Arc::strong_count(&answer), 2, "kept for who may ask");
        drop(told);
        assert_eq!(Arc::strong_count(&answer), 1);
    }

    #[tokio::test]
    async fn what_panics_ends_without_a_word_and_leaves_its_waiter_be() {
        let bench = Bench::new();
        let (tell, told) = word::<u32>();
        let work = async move {
            let _tell = tell;
            tokio::task::yield_now().await;
            panic!("a bug");
        };
        assert_eq!(UnderWay::new(Some(&bench.tracker), Box::pin(work), told).await, None);
        assert!(bench.tracker.is_empty());
    }

    #[test]
    fn where_nothing_runs_any_more_it_is_dropped() {
        let bench = Bench::new();
        drop(bench.begin());
        assert!(bench.tracker.is_empty());
    }
}
