//! Judges what clients saw: a recorded history of registers, and whether it could have happened if every key were one register that
//! takes each operation at one instant between its start and its end. Drives nothing and knows no HTTP; nothing below it imports it.
//!
//! The invariant: a history is rejected only if no order of its operations explains it, and then always
//! (tested against a search through all orders).

pub mod history;
pub mod zones;
