//! What a probe changes: [`health`] counts, [`machine`] decides who takes traffic, [`view`] is the result everybody reads.
//!
//! Replication `shared` only: stateless nodes over one store, so traffic moves by health alone (R30). Nothing here promotes a node
//! that others must follow. The invariant: a node that is not healthy is never in a view's candidates, and an active-passive view
//! has at most one.

pub mod event;
pub mod health;
pub mod machine;
pub mod observed;
pub mod reign;
pub mod settings;
pub mod view;

#[cfg(test)]
mod tests;
