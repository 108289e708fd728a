//! The contract's machinery: what a write does to what is stored ([`gate`]), what became of the write ([`write`]), and what a client has
//! written and seen ([`session`]).

pub mod gate;
pub mod listed;
pub mod session;
pub mod write;
