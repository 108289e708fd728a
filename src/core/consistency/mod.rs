//! The contract's machinery: what a write does to what is stored ([`gate`]), what became of the write ([`write`]), what a client has
//! written and seen ([`session`]), by which instant an answer is known to have been current ([`bound`]), and what a re-read proves
//! about a hit ([`meter`]).

pub mod bound;
pub mod gate;
pub mod listed;
pub mod meter;
pub mod session;
pub mod write;
