//! The contract's machinery: what a write does to what is stored ([`gate`]), and what became of the write ([`write`]).

pub mod gate;
pub mod listed;
pub mod write;
