//! Tidegate: a reverse proxy for replicated HTTP backends that caches under a consistency contract chosen per route.
//!
//! The house has floors; imports only point down (`tests/architecture.rs` reads them):
//! `core` decides and never acts, `world` is the only door outside, `config` turns text into runtime types, `telemetry` counts,
//! `upstream`, `store` and `coord` are adapters, `proxy` is the request path, `server` and `admin` are the sockets in,
//! `app` wires everything, `demo` and `cli` are programs built on it.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod coord;
pub mod core;
pub mod demo;
pub mod proxy;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod verify;
pub mod world;
