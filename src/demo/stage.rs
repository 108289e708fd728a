//! What a step of the tour acts on, and how it says what it saw.

use super::client::{Answer, NoAnswer, ask};
use super::setting::Backend;
use crate::core::time::MonoTime;
use crate::world::World;
use http::Method;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a node's state may take to show in `/status`: many probe intervals.
const PATIENCE: Duration = Duration::from_secs(15);

/// The running demo, and how many claims did not hold.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) backend: Arc<Backend>,
    pub(super) broken_claims: AtomicUsize,
}

impl Stage {
    pub(super) fn new(world: &World, proxy: SocketAddr, admin: SocketAddr, backend: Arc<Backend>) -> Self {
        Self {
            world: world.clone(),
            proxy,
            admin,
            backend,
            broken_claims: AtomicUsize::new(0),
        }
    }

    pub(super) fn now(&self) -> MonoTime {
        self.world.clock.mono()
    }

    /// One request through the proxy.
    pub(super) async fn ask(&self, method: Method, path: &str, body: &str) -> Result<Answer, NoAnswer> {
        ask(&self.world, self.proxy, method, path, &[], body).await
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.ask(Method::GET, path, "").await
    }

    pub(super) async fn put(&self, path: &str, value: &str) -> Result<Answer, NoAnswer> {
        self.ask(Method::PUT, path, value).await
    }

    /// One request through the proxy, shown with what matters in its answer.
    pub(super) async fn show(&self, method: Method, path: &str, body: &str) -> Result<Answer, NoAnswer> {
        let answer = self.ask(method.clone(), path, body).await?;
        let sent = if body.is_empty() {
            String::new()
        } else {
            format!(" {body:?}")
        };
        print!("    {method} {path}{sent} -> {}", answer.status.as_u16());
        if answer.value() != "-" {
            print!(" {:?}", answer.value());
        }
        for name in ["age", "cache-status", "tidegate-consistency", "retry-after"] {
            if answer.headers.contains_key(name) {
                print!(" | {name}: {}", answer.field(name));
            }
        }
        let problem: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
        if let Some(kind) = problem.as_ref().and_then(|p| p.get("type")).and_then(|t| t.as_str()) {
            print!(" | problem {kind}");
        }
        println!();
        Ok(answer)
    }

    /// Says whether a claim was seen to hold.
    pub(super) fn claim(&self, holds: bool, claim: &str) {
        println!("  {} {claim}", if holds { "yes:" } else { "NOT SHOWN:" });
        if !holds {
            self.broken_claims.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests at the active-active nodes so far, health checks left out.
    pub(super) fn shop_requests(&self) -> u64 {
        let shop = self
            .backend
            .nodes
            .iter()
            .filter(|n| super::setting::SHOP.contains(&n.name.as_str()));
        shop.map(|n| n.requests()).sum()
    }

    /// Waits until `/status` gives a node this state; false when it does not.
    pub(super) async fn until_state(&self, upstream: &str, node: &str, wanted: &str) -> bool {
        let seen = async {
            while self.state(upstream, node).await.as_deref() != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.is_ok()
    }

    /// Waits until `/status` gives a node any state but this one, and answers that; "" when it does not.
    pub(super) async fn until_not(&self, upstream: &str, node: &str, unwanted: &str) -> String {
        let seen = async {
            loop {
                if let Some(state) = self.state(upstream, node).await.filter(|s| s != unwanted) {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_default()
    }

    /// A node's state as `/status` names it.
    pub(super) async fn state(&self, upstream: &str, node: &str) -> Option<String> {
        let answer = ask(&self.world, self.admin, Method::GET, "/status", &[], "")
            .await
            .ok()?;
        let status: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        let named = |list: &serde_json::Value, name: &str| {
            let found = list
                .as_array()?
                .iter()
                .find(|x| x.get("name").and_then(|n| n.as_str()) == Some(name));
            found.cloned()
        };
        let upstream = named(status.get("upstreams")?, upstream)?;
        let node = named(upstream.get("nodes")?, node)?;
        Some(node.get("state")?.as_str()?.to_owned())
    }
}
