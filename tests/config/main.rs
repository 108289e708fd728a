//! Configuration as a user meets it.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod bad;
mod catalogue;
mod defaults;
mod examples;
mod fuzz;
mod levels;
mod patterns;
mod print;
mod schema;
mod support;
