//! The real binary in front of an origin that does everything a network and an application can do to a write, driven by concurrent
//! readers and writers over a few hot keys; `tidegate::verify` says whether what they saw is what one register would have shown.
//!
//! `judged` are the runs, a bounded one always, any by hand; `mutations` are runs that must fail, `restart`
//! are scripts for the moments that runs seldom hit.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::large_futures,
    clippy::needless_pass_by_value,
    clippy::cast_possible_truncation
)]

mod actor;
mod chance;
mod fault;
mod judged;
mod mutations;
mod restart;
mod run;
mod stage;
mod store;
#[path = "../http/support/mod.rs"]
mod support;
