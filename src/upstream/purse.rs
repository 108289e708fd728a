//! An upstream's budgets: each core counts its own requests, and all spend together. Counting touches what only this core writes; only
//! paying, which is rare, looks at the others. It does not decide what is paid for.

use crate::core::retry::{Budget, Spent};
use crate::core::time::MonoTime;
use parking_lot::Mutex;

/// One budget of one upstream, over all cores.
pub(super) struct Purse {
    parts: Box<[Part]>,
    /// Held while somebody pays: two cores must not spend the same.
    paying: Mutex<()>,
}

/// One core's part, on cache lines of its own (128: adjacent lines are fetched in pairs).
#[repr(align(128))]
struct Part(Mutex<Budget>);

impl Purse {
    pub(super) fn new(budget: &Budget, cores: usize) -> Self {
        Self {
            parts: (0..cores.max(1)).map(|_| Part(Mutex::new(budget.clone()))).collect(),
            paying: Mutex::new(()),
        }
    }

    /// Counts a request on a core.
    pub(super) fn request(&self, core: usize, now: MonoTime) {
        if let Some(part) = self.parts.get(core) {
            part.0.lock().request(now);
        }
    }

    /// Takes one repeat out, when all cores together have left one.
    pub(super) fn pay(&self, core: usize, now: MonoTime) -> bool {
        let _one_at_a_time = self.paying.lock();
        let spent = self.parts.iter().map(|part| part.0.lock().spent(now));
        let all = spent.fold(Spent::default(), |sum, each| sum + each);
        self.parts
            .get(core)
            .is_some_and(|part| part.0.lock().withdraw(now, all))
    }
}
