//! Memory that connections had before they became quiet, on its way back to the kernel. The allocator keeps what is freed for a second, and
//! looks for what it has kept for longer when a large piece comes or goes: where nothing happens any more, never. So it is given cause
//! to look, some time after the last connection of a thread became quiet.
//!
//! Does nothing that a busy process would not do by itself, and never more often than every [`AFTER`].

use std::cell::Cell;
use std::time::Duration;

/// Longer than the allocator keeps anything (mimalloc's `purge_delay`: one second).
const AFTER: Duration = Duration::from_secs(2);

/// Memory of its own, of which nothing is touched.
const LARGE: usize = 1024 * 1024;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Look {
    /// Nobody is waiting to give cause for one.
    None,
    Awaited,
    /// One more is needed: somebody has become quiet since.
    Twice,
}

thread_local! {
    static LOOK: Cell<Look> = const { Cell::new(Look::None) };
}

/// A connection of this thread has become quiet.
pub(super) fn became_quiet() {
    let before = LOOK.replace(Look::Twice);
    if before == Look::None {
        tokio::spawn(give_cause(Awaiting));
    }
}

async fn give_cause(_awaiting: Awaiting) {
    while LOOK.replace(Look::Awaited) == Look::Twice {
        tokio::time::sleep(AFTER).await;
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}

/// Dropped when nobody waits any more: it is done, or its runtime is.
struct Awaiting;

impl Drop for Awaiting {
    fn drop(&mut self) {
        LOOK.set(Look::None);
    }
}

#[cfg(test)]
mod tests {
    use super::{AFTER, LOOK, Look, became_quiet};

    #[tokio::test(start_paused = true)]
    async fn the_last_to_become_quiet_is_waited_for_and_then_nobody() {
        became_quiet();
        tokio::time::sleep(AFTER / 2).await;
        assert_eq!(LOOK.get(), Look::Awaited);
        became_quiet();
        tokio::time::sleep(AFTER).await;
        assert_eq!(LOOK.get(), Look::Awaited, "for the second");
        tokio::time::sleep(AFTER).await;
        assert_eq!(LOOK.get(), Look::None);
    }

    #[test]
    fn a_runtime_that_ends_leaves_nobody_waiting() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build();
        for _ in 0..2 {
            let runtime = runtime().unwrap_or_else(|e| panic!("{e}"));
            runtime.block_on(async { became_quiet() });
            drop(runtime);
            assert_eq!(LOOK.get(), Look::None);
        }
    }
}
