//! Judges what clients saw: a recorded history of registers, and whether it keeps what was promised: linearizable, within a bound, a
//! client's own writes and no way back, no acknowledged write lost. The judges drive nothing and know no HTTP; [`drive`] makes a history
//! at a running deployment, [`judge`] puts both together for `tidegate verify`.
//!
//! The invariant: a history is rejected only if no order of its operations explains it, and then always
//! (tested against a search through all orders).

mod client;
pub mod drive;
pub mod history;
pub mod judge;
mod progress;
pub mod promises;
pub mod record;
pub mod zones;
