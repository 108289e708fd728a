//! Whole small worlds from one number each: the proxy as `App::build` assembles it, the nodes behind it and the clients in front of it in
//! one process, on turmoil's network and clocks. The seed draws the contract, the machines, the workload and every fault; the same seed
//! gives the same world to the byte. What clients saw is judged against what the origin did.
//!
//! `world` is the proxy's only door outside, replaced; `origin`, `client` and `stage` play; `plan` draws, and `crowds` what
//! seldom meets by itself; `cluster` and `nodes` are worlds without one store for all; `sky` is what happens to them; `judge` judges; `seeds` are the tests. README.md has the table of rules that were switched off and the seeds that noticed.
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

#[path = "../real/chance.rs"]
mod chance;
mod client;
mod cluster;
mod crowds;
mod disk;
mod ends;
mod journal;
mod judge;
mod nodes;
mod origin;
mod plan;
mod seeds;
mod sky;
mod stage;
mod wire;
mod world;
