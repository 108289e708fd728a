//! Pure decisions. Nothing here reads a clock, takes a lock, draws a random number, logs, awaits or touches the outside:
//! `now`, epochs and chance are parameters, iteration is ordered, and the same input always gives the same answer.
//! `tests/architecture.rs` reads the imports of this floor and fails on anything that could act.
//!
//! Entry points: [`lookup::decide`] (what to do with a read), [`admit::admit`] (what to do with an answer),
//! [`consistency::gate`] (what a write does to what is stored), [`balance`] (which node), [`retry`] (may an attempt be repeated),
//! [`hedge`] (may it be sent twice),
//! [`failover`] (what a probe changes), [`discovery`] (which nodes there are), [`key`] (what a request is called).

pub mod admit;
pub mod balance;
pub mod consistency;
pub mod discovery;
pub mod failover;
pub mod ground;
pub mod hedge;
pub mod http;
pub mod key;
pub mod lookup;
pub mod policy;
pub mod posted;
pub mod reason;
pub mod retry;
pub mod rules;
pub mod through;
pub mod time;

#[cfg(test)]
mod tests;
