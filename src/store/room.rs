//! One place per upstream that the process may ever know, made at the start: a reload may bring new upstreams (R31), and what a hit reads
//! is neither moved nor locked for it.

use crate::config::diff::MAX_LEARNED;

#[derive(Debug)]
pub(super) struct Room<T>(Box<[T]>);

impl<T: Default> Room<T> {
    /// For the upstreams of the start, and for those that may come.
    pub(super) fn new(first: usize) -> Self {
        Self((0..first.saturating_add(MAX_LEARNED)).map(|_| T::default()).collect())
    }

    pub(super) fn get(&self, upstream: usize) -> Option<&T> {
        self.0.get(upstream)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}
