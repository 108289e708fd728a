//! What the index and its entries are synchronised by, in one place: tests compile the same sources over primitives whose schedules
//! they decide (`tests::schedules`).

pub(super) use dashmap::DashMap;
pub(super) use dashmap::mapref::entry::Entry as Slot;
pub(super) use parking_lot::Mutex;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64};
