//! The actors of the scripts: [`origin::Origin`] (does what the test tells it, step by step), [`register::Register`] (a replicated
//! store that answers by itself), [`client::Client`] (sends bytes exactly as written). Every wait ends by an event or, after
//! [`DEADLINE`], by failing the test; nothing here sleeps to let a race pass.
#![allow(dead_code)] // a tool box: not every script needs every tool

pub mod client;
pub mod floods;
pub mod frames;
pub mod h2;
pub mod node2;
pub mod origin;
pub mod proxy;
pub mod register;
pub mod tls;
pub mod traffic;
pub mod wire;

use std::future::Future;
use std::time::Duration;

/// Far above what any step takes on a loaded machine: reaching it means that the awaited thing does not come.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for `event`, or fails the test saying what did not happen.
pub async fn within<T>(what: impl std::fmt::Display, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} in vain for: {what}"),
    }
}

/// Asks again and again until `question` says yes: for facts that have no event of their own (a counter, `/status`).
pub async fn eventually<F: Future<Output = bool>>(what: impl std::fmt::Display, mut question: impl FnMut() -> F) {
    within(what, async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
