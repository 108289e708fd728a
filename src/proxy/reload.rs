//! A reload on the request path (R31): the same store, secret and writes outside under another configuration. A request belongs to the
//! configuration it was planned by until its answer ends; its connection asks the running one for the next.

use super::begun::Begun;
use super::{Core, Proxy, Shared, meter, routes, session};
use crate::config::runtime::Config;
use crate::core::key;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstreams;
use std::sync::{Arc, OnceLock};

impl Shared {
    /// What all cores share under `config`, which is numbered after the one at hand.
    #[must_use]
    pub fn after(&self, config: Arc<Config>, upstreams: Arc<Upstreams>, metrics: Arc<Metrics>) -> Arc<Self> {
        let counted = (0..config.numbers.routes.len()).map(|id| self.in_flight.get(id).cloned().unwrap_or_default());
        Arc::new(Self {
            table: routes::Table::new(&config),
            world: self.world.clone(),
            store: Arc::clone(&self.store),
            access_log: self.access_log.clone(),
            sessions: session::Sessions::after(self.sessions.as_ref(), &self.config, &config, &*self.world.entropy),
            secret: self.secret,
            in_flight: counted.collect(),
            outside: Arc::clone(&self.outside),
            meter: meter::Meter::after(self.meter.as_ref(), &config),
            mirrors: OnceLock::new(),
            detached: self.detached.clone(),
            begun: Arc::new(Begun::default()),
            config,
            metrics,
            upstreams,
        })
    }

    /// Another configuration runs: no unsafe request begins under this one any more.
    pub fn supersede(&self) {
        self.begun.supersede();
    }

    /// Every unsafe request that began under this configuration is over: it has a definite answer, or its connection has closed.
    pub async fn unsafe_requests_over(&self) {
        self.begun.over().await;
    }

    /// Whether one of them is not over.
    #[must_use]
    pub fn has_unsafe_requests(&self) -> bool {
        self.begun.is_open()
    }

    /// Frees what is stored under routes that are gone, or mean something else now.
    pub fn forget_others(&self) {
        let known = |contract| self.config.routes.iter().any(|route| route.contract == contract);
        self.store
            .forget(|entry| key::named(entry.key()).is_some_and(|named| !known(named.route)));
    }
}

impl Proxy {
    /// Requests from now on are planned by `shared`.
    pub fn switch(&self, shared: Arc<Shared>) {
        self.current.store(Arc::new(Core::new(shared, self.number)));
    }
}
