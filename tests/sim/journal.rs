//! The one clock of a world, and everything that happened by it. All of a world runs on one thread, so the order of the lines is the
//! order of events; each gets an instant of its own.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Default)]
pub struct Journal {
    /// The latest instant told, in nanoseconds.
    last: AtomicU64,
    /// No host is running: turmoil's clocks mean nothing.
    frozen: AtomicBool,
    text: Mutex<String>,
}

impl Journal {
    /// Now, for the proxy and the origin: never before anything that has happened, on whatever host. turmoil runs the hosts one after
    /// the other, a millisecond each; without this a later event on another host could be up to that much earlier.
    pub fn now(&self) -> u64 {
        let elapsed = match self.frozen.load(Ordering::Relaxed) {
            true => None,
            false => turmoil::sim_elapsed(),
        };
        let elapsed = elapsed.map_or(0, |e| e.as_nanos() as u64);
        self.last.fetch_max(elapsed, Ordering::Relaxed).max(elapsed)
    }

    /// An instant that nothing else has.
    pub fn instant(&self) -> u64 {
        self.now();
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Writes a line; answers its instant.
    pub fn note(&self, who: &str, what: impl AsRef<str>) -> u64 {
        let at = self.instant();
        let mut text = self.text.lock().unwrap();
        let _ = writeln!(text, "{at:>14} {who:<4} {}", what.as_ref());
        at
    }

    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}
