//! What becomes of an upstream's nodes: [`health`] counts probes, [`machine`] decides who takes traffic, [`view`] is the result everybody
//! reads. [`event`] and [`settings`] are what goes in and out, [`observed`] is where the path notes what clients were shown (R32).
//!
//! One machine for every way of replication. Over one store traffic moves by health alone; with one primary it moves by the nodes' own
//! claims, by a promotion of ours, or by the operator's word (R30). Nothing here runs a hook, keeps a file or reads a clock.

pub mod breaker;
mod elect;
mod ended;
pub mod event;
pub mod few;
mod follow;
pub mod health;
pub mod homes;
pub mod machine;
pub mod mirror;
mod node;
pub mod observed;
pub mod outlier;
mod promote;
pub mod refuse;
pub mod reign;
mod reserve;
pub mod settings;
pub mod take_over;
pub mod view;

#[cfg(test)]
mod tests;
