//! Behaviour on the wire, as short scripts: a scripted origin, the proxy, clients, barriers. `support` has the three actors;
//! every other module is one chapter of the contract, one test per rule, the rule's number in the test's name.
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

mod access_log;
mod asking;
mod cache_status;
mod collapse;
mod commands;
mod declared;
mod discovery;
mod epochs;
mod eventual;
mod exclusive;
mod explain;
mod failed_writes;
mod failover;
mod failures;
mod gate;
mod grpc;
mod harness;
mod hashing;
mod hedge;
mod http2;
mod interim;
mod interim_http2;
mod leaving;
mod matching;
mod meter;
mod methods;
mod mirrored;
mod moments;
mod naming;
mod operations;
mod outcomes;
mod pair;
mod passing;
mod purge;
mod purge_method;
mod ranges;
mod readme;
mod refusals;
mod reigns;
mod reload;
mod reload_nodes;
mod reload_replicated;
mod replicas;
mod rivals;
mod session;
mod sockets;
mod standby;
mod strong;
mod support;
mod tags;
mod through;
mod tls;
mod upstream_http2;
mod upstream_http2_nodes;
mod upstream_tls;
mod verify;
mod weak;
mod words;
