//! A value that many wait to see change. As `tokio::sync::watch`, with one difference: whoever waits is woken in the order of coming.
//! `watch` deals its receivers over eight lists by a chance that cannot be seeded, so no schedule with it can be repeated.

use parking_lot::Mutex;
use std::pin::pin;
use tokio::sync::Notify;

pub(super) struct Shown<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Shown<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Notify::new(),
        }
    }

    /// What `look` makes of the value now.
    pub(super) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.lock())
    }

    pub(super) fn set(&self, value: T) {
        let old = std::mem::replace(&mut *self.value.lock(), value);
        self.changed.notify_waiters();
        drop(old); // what it drops is not ours to know: never under the lock
    }

    /// Sets it if the present value is such.
    pub(super) fn set_if(&self, is_such: impl FnOnce(&T) -> bool, value: T) {
        let mut present = self.value.lock();
        if is_such(&present) {
            let old = std::mem::replace(&mut *present, value);
            drop(present);
            self.changed.notify_waiters();
            drop(old);
        }
    }

    /// Waits until `find` finds something in the value. Cancel-safe.
    pub(super) async fn until<R>(&self, find: impl Fn(&T) -> Option<R>) -> R {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable(); // before the look: a change in between is not missed
            if let Some(found) = self.look(&find) {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn all_who_wait_are_woken_in_the_order_they_came() {
        let shown = Arc::new(Shown::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..20)
            .map(|n| {
                let (shown, order) = (Arc::clone(&shown), Arc::clone(&order));
                tokio::spawn(async move {
                    let seen = shown.until(|value| (*value == 2).then_some(*value)).await;
                    order.lock().push(n);
                    seen
                })
            })
            .collect();
        tokio::task::yield_now().await;
        shown.set_if(|value| *value == 1, 9);
        shown.set(1);
        tokio::task::yield_now().await;
        shown.set_if(|value| *value == 1, 2);
        for one in waiting {
            assert_eq!(one.await.unwrap(), 2);
        }
        assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
    }
}
