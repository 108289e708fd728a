//! Leaving without losing a request. The phases only move forward:
//!
//! 1. *Serving*.
//! 2. *Lame duck*: still accepting, while `/ready` tells load balancers to look elsewhere (`drain_delay`). Every answer from here on says
//!    `Connection: close`.
//! 3. *Closing*: the listeners are shut. Idle connections stay for [`IDLE_GRACE`], since a request may just be on its way.
//! 4. *Cutting*: idle connections are closed; those that work finish.
//! 5. *Over*: `drain_timeout` after closing, or a second signal; whatever is left is dropped.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// How long an idle connection stays open after the listeners closed: well above the time a request spends on its way.
pub const IDLE_GRACE: Duration = Duration::from_millis(500);

/// How far the leaving has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Business as usual.
    Serving,
    /// Accepting, but asking clients to go elsewhere.
    LameDuck,
    /// Not accepting any more.
    Closing,
    /// Idle connections are closed.
    Cutting,
    /// Everything is closed.
    Over,
}

const PHASES: [Phase; 5] = [
    Phase::Serving,
    Phase::LameDuck,
    Phase::Closing,
    Phase::Cutting,
    Phase::Over,
];

/// The one drain of a process: its phase, and the connections it waits for.
#[derive(Debug, Default)]
pub struct Drain {
    /// Index into [`PHASES`]. Read by every connection whenever it is polled, written five times in a process's life.
    phase: AtomicU8,
    changed: Notify,
    connections: TaskTracker,
}

impl Drain {
    /// Serving, without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let index = usize::from(self.phase.load(Ordering::Acquire));
        PHASES.get(index).copied().unwrap_or(Phase::Over)
    }

    /// Whether answers ask the client to go elsewhere.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        let index = PHASES.iter().position(|each| *each == phase).unwrap_or(PHASES.len());
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        self.phase.fetch_max(index, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Between the two steps of [`Self::advance`].
    #[cfg(test)]
    pub(super) fn advance_unnoticed(&self, phase: Phase) {
        let index = PHASES.iter().position(|each| *each == phase).unwrap_or(PHASES.len());
        self.phase
            .fetch_max(u8::try_from(index).unwrap_or(u8::MAX), Ordering::AcqRel);
    }

    /// Completes when the phase changes after the returned future was first polled. Poll it, then read the phase: nothing is missed.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Waits until `phase`, or a later one.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let mut changed = std::pin::pin!(self.changed());
            changed.as_mut().enable();
            if self.phase() >= phase {
                return;
            }
            changed.await;
        }
    }

    /// Every connection is spawned through this, so that leaving can wait for it.
    #[must_use]
    pub fn connections(&self) -> &TaskTracker {
        &self.connections
    }

    /// Walks through all phases. Returns true when every connection ended by itself, false when time was up (or [`Phase::Over`] was
    /// reached from elsewhere) and some were dropped. Dropping the future leaves the phase where it is.
    pub async fn run(&self, delay: Duration, timeout: Duration) -> bool {
        self.advance(Phase::LameDuck);
        self.pause(delay).await;
        self.advance(Phase::Closing);
        self.connections.close();
        let clean = tokio::time::timeout(timeout, async {
            tokio::select! {
                biased;
                () = self.connections.wait() => return,
                () = self.pause(IDLE_GRACE) => {}
            }
            self.advance(Phase::Cutting);
            tokio::select! {
                biased;
                () = self.connections.wait() => {}
                () = self.reached(Phase::Over) => {}
            }
        })
        .await
        .is_ok();
        let clean = clean && self.connections.is_empty();
        self.advance(Phase::Over);
        clean
    }

    /// Waits, unless everything is over before.
    async fn pause(&self, time: Duration) {
        // An error means the time has passed.
        let _ = tokio::time::timeout(time, self.reached(Phase::Over)).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::{Drain, IDLE_GRACE, Phase};
    use std::sync::Arc;
    use std::time::Duration;

    const DELAY: Duration = Duration::from_secs(3);
    const TIMEOUT: Duration = Duration::from_secs(25);

    /// Runs the drain next to `connection` on paused time and notes when each phase was reached, in milliseconds.
    async fn timeline(connection: Duration) -> (bool, Vec<(Phase, u128)>) {
        let drain = Arc::new(Drain::new());
        let start = tokio::time::Instant::now();
        drain.connections().spawn(tokio::time::sleep(connection));
        let watcher = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move {
                let mut seen = Vec::new();
                for phase in [Phase::LameDuck, Phase::Closing, Phase::Cutting, Phase::Over] {
                    drain.reached(phase).await;
                    seen.push((phase, start.elapsed().as_millis()));
                }
                seen
            }
        });
        let clean = drain.run(DELAY, TIMEOUT).await;
        (clean, watcher.await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_phases_follow_delay_grace_and_the_last_connection() {
        let (clean, seen) = timeline(Duration::from_secs(10)).await;
        assert!(clean);
        let grace = IDLE_GRACE.as_millis();
        assert_eq!(
            seen,
            [
                (Phase::LameDuck, 0),
                (Phase::Closing, 3000),
                (Phase::Cutting, 3000 + grace),
                (Phase::Over, 10_000)
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_end_is_dropped_when_time_is_up() {
        let (clean, seen) = timeline(Duration::from_secs(1000)).await;
        assert!(!clean);
        assert_eq!(seen.last(), Some(&(Phase::Over, 28_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_connections_there_is_no_waiting_beyond_the_delay() {
        let (clean, seen) = timeline(Duration::from_secs(1)).await;
        assert!(clean);
        assert_eq!(seen.last(), Some(&(Phase::Over, 3000)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_at_once() {
        let drain = Arc::new(Drain::new());
        let start = tokio::time::Instant::now();
        drain.connections().spawn(tokio::time::sleep(Duration::from_secs(1000)));
        let (clean, ()) = tokio::join!(drain.run(DELAY, TIMEOUT), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drain.advance(Phase::Over);
        });
        assert!(!clean);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[test]
    fn a_phase_never_goes_back() {
        let drain = Drain::new();
        drain.advance(Phase::Cutting);
        drain.advance(Phase::LameDuck);
        assert_eq!(drain.phase(), Phase::Cutting);
        assert!(drain.is_draining());
    }
}
