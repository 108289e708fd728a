//! `tidegate demo`: a replicated backend, the proxy in front of it with one route per level, and a tour. Nothing else to install.
//!
//! The proxy is the real one, built by [`App::build`] from a configuration text; the tour talks to it over real HTTP.
//! The backend (`backend`) is for show: one store in memory behind five nodes.

mod backend;
mod client;
mod fault;
mod guide;
mod setting;
mod stage;
#[cfg(test)]
mod tests;
mod tour;

pub use setting::Options;

use crate::app::{App, StartError};
use crate::world::World;
use setting::{Backend, Ports};
use stage::Stage;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Why the demo could not run, or did not show what it claims.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The backend could not be started.
    #[error("the demo's backend cannot start: {0}")]
    Backend(#[source] io::Error),
    /// The proxy could not be started.
    #[error("the demo's proxy cannot start: {0}")]
    Proxy(#[from] StartError),
    /// The demo's own configuration was refused.
    #[error("the demo's configuration was refused:\n{0}")]
    Config(String),
    /// A step of the tour did not show what it claims.
    #[error("the tour did not show everything it claims")]
    NotShown,
}

/// Runs the demo until Ctrl-C, or with `--once` until the tour is over. Blocks; not for use inside a runtime.
///
/// # Errors
/// When something cannot start, or a step of the tour did not show what it claims.
pub fn run(options: &Options, world: &World) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo")
        .enable_all()
        .build()
        .map_err(DemoError::Backend)?;
    let (backend, ports) = runtime
        .block_on(async { Ok((Backend::start(options, world)?, Ports::choose(options, world))) })
        .map_err(DemoError::Backend)?;
    let backend = Arc::new(backend);
    let text = setting::config(&ports, &backend);
    let loaded = crate::config::load::from_text(&text, "demo.toml", Path::new("."), world);
    let config = loaded.config.ok_or_else(|| {
        let said: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        DemoError::Config(said.join("\n"))
    })?;
    let running = App::build(config, world.clone())?.start()?;
    let proxy = running.listeners.first().and_then(|(_, address)| address.tcp());
    let proxy = proxy.unwrap_or(ports.proxy);
    let stage = Stage::new(world, proxy, running.admin, Arc::clone(&backend));
    let shown = if options.once {
        println!("The tour: five nodes over one store, the proxy on {proxy}, one route per level.");
        runtime.block_on(tour::run(&stage))
    } else {
        let fault = runtime
            .block_on(async { fault::start(ports.fault, Arc::clone(&backend), world) })
            .map_err(DemoError::Backend)?;
        println!("{}", guide::text(&stage, fault));
        let _ = runtime.block_on(tokio::signal::ctrl_c());
        println!("\nThe demo ends.");
        true
    };
    let orderly = running.stop();
    if shown && orderly {
        Ok(())
    } else {
        Err(DemoError::NotShown)
    }
}
