//! The pool, its calls and the probes against scripted nodes on an in-memory network under tokio's paused clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod answers;
mod attempts;
mod balancing;
mod connections;
mod discover;
mod eject;
mod grpc;
mod health;
mod hedge;
mod lending;
mod primary;
mod shown;
mod sockets;
mod support;
