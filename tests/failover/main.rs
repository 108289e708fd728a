//! What survives a failover, on real processes: the real binary in front of nodes that are processes too and are killed under load, one
//! after the other. What clients saw is judged; how long reads stood still is measured and printed, and never asserted.
//!
//! `kills` are the runs: a few kills of each kind always, more by hand. `scripts` are the moments that those seldom hit. `node` is the program that the nodes run (this very binary,
//! started again), `cluster` starts and kills them, `clients` read and write meanwhile.
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

mod clients;
mod cluster;
mod kills;
mod node;
mod pair;
mod scripts;
#[path = "../http/support/mod.rs"]
mod support;
