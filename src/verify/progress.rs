//! How far a load is, on stderr: a bar that is redrawn on a terminal, a line every few seconds elsewhere.

use crate::core::time::MonoTime;
use parking_lot::Mutex;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How often the bar is redrawn.
const REDRAW: Duration = Duration::from_millis(100);

/// How often a line is written where no bar is.
const LINE: Duration = Duration::from_secs(5);

/// The bar's width.
const WIDTH: u64 = 40;

pub(super) struct Progress {
    total: u64,
    bar: bool,
    state: Mutex<State>,
}

struct State {
    done: u64,
    failed: u64,
    began: MonoTime,
    told: MonoTime,
}

impl Progress {
    pub(super) fn new(now: MonoTime, total: u64) -> Self {
        Self {
            total,
            bar: std::io::stderr().is_terminal(),
            state: Mutex::new(State {
                done: 0,
                failed: 0,
                began: now,
                told: now,
            }),
        }
    }

    /// One more request has ended.
    pub(super) fn step(&self, now: MonoTime, succeeded: bool) {
        let mut state = self.state.lock();
        state.done += 1;
        state.failed += u64::from(!succeeded);
        let every = if self.bar { REDRAW } else { LINE };
        if now.duration_since(state.told) >= every {
            state.told = now;
            self.tell(now, &state);
        }
    }

    /// The load has ended.
    pub(super) fn over(&self, now: MonoTime) {
        self.tell(now, &self.state.lock());
        if self.bar {
            let _ = writeln!(std::io::stderr());
        }
    }

    fn tell(&self, now: MonoTime, state: &State) {
        let text = line(state.done, state.failed, self.total, now.duration_since(state.began));
        // Nobody may be reading; the verdict does not depend on it.
        let _ = if self.bar {
            write!(std::io::stderr(), "\r{} {text}\x1b[K", bar(state.done, self.total))
        } else {
            writeln!(std::io::stderr(), "{text}")
        };
    }
}

fn line(done: u64, failed: u64, total: u64, took: Duration) -> String {
    format!(
        "{done}/{total} requests, {failed} without success, {:.1} s",
        took.as_secs_f64()
    )
}

fn bar(done: u64, total: u64) -> String {
    let full = done.saturating_mul(WIDTH) / total.max(1);
    let cells = (0..WIDTH).map(|at| if at < full { '#' } else { '.' });
    format!("[{}]", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar(0, 10), format!("[{}]", ".".repeat(40)));
        assert_eq!(bar(5, 10), format!("[{}{}]", "#".repeat(20), ".".repeat(20)));
        assert_eq!(bar(11, 10), format!("[{}]", "#".repeat(40)));
        assert_eq!(
            line(3, 1, 10, Duration::from_millis(1500)),
            "3/10 requests, 1 without success, 1.5 s"
        );
    }
}
