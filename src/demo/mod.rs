//! `tidegate demo`: a replicated backend, the proxy in front of it with one route per level, and a tour. Nothing else to install.
//!
//! The proxy is the real one, built by [`crate::app::App::build`] from a configuration text; the tour talks to it over real HTTP.
//! The backend (`backend`) is for show: one store in memory behind five nodes.

#![allow(dead_code)] // the proxy it shows is being built

mod backend;
mod client;
mod fault;
mod setting;
mod stage;
#[cfg(test)]
mod tests;
mod tour;

pub use setting::Options;
