//! Work that outlives whoever waits for it (R21), without a task of its own as long as somebody does: who waits for it carries it out, and
//! a task takes over when he is let go of before it is done. Most fetches are done by then: a task each would cost more than the
//! fetch is worth.
//!
//! Invariant: work that has begun is always driven by somebody, until it is done or the process ends.

use crate::world::BoxFuture;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Waits for what the work tells; none when it ended without a word. Dropped, or ready before the work is done, it leaves the rest to a task.
pub(super) struct UnderWay<'a, T> {
    work: Option<BoxFuture<'static, ()>>,
    told: oneshot::Receiver<T>,
    detached: &'a TaskTracker,
}

impl<'a, T> UnderWay<'a, T> {
    pub(super) fn new(detached: &'a TaskTracker, work: BoxFuture<'static, ()>, told: oneshot::Receiver<T>) -> Self {
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
        Pin::new(&mut self.told).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for UnderWay<'_, T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        // What has panicked is over, and where nothing runs any more nothing can be carried on.
        if !std::thread::panicking() && Handle::try_current().is_ok() {
            self.detached.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::sync::Arc;
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
            let (tell, told) = oneshot::channel();
            let (steps, [first, second]) = (Arc::clone(&self.steps), self.go.clone());
            let work = async move {
                first.notified().await;
                steps.fetch_add(1, Ordering::SeqCst);
                let _left = tell.send(7);
                second.notified().await;
                steps.fetch_add(1, Ordering::SeqCst);
            };
            UnderWay::new(&self.tracker, Box::pin(work), told)
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

    #[tokio::test]
    async fn what_panics_ends_without_a_word_and_leaves_its_waiter_be() {
        let bench = Bench::new();
        let (tell, told) = oneshot::channel::<u32>();
        let work = async move {
            let _tell = tell;
            tokio::task::yield_now().await;
            panic!("a bug");
        };
        assert_eq!(UnderWay::new(&bench.tracker, Box::pin(work), told).await, None);
        assert!(bench.tracker.is_empty());
    }

    #[test]
    fn where_nothing_runs_any_more_it_is_dropped() {
        let bench = Bench::new();
        drop(bench.begin());
        assert!(bench.tracker.is_empty());
    }
}
