//! Reload (R31): the file is read again, and either all of it runs or nothing changes.
//!
//! The order. New nodes are probed first, so that none is asked before it is known. Then the owner of the views takes the change over,
//! durably, or refuses it: the last that can. Then the store takes
//! over, before any request is planned by the new configuration; then the cores switch one after another, and a request belongs to the
//! configuration it was planned by. At last, when every unsafe request from before is over, what became exclusive may prove.

use super::era::Era;
use super::past;
use super::rooms::Rooms;
use super::turnover;
use crate::config::diff;
use crate::config::load;
use crate::config::runtime::Config;
use crate::proxy;
use crate::server::accept::Door;
use crate::server::drain::Phase;
use crate::server::tls::Terms;
use crate::telemetry::log;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

/// Reloads that may wait for the one under way; more at once is a mistake of whoever asks.
const WAITING: usize = 16;

/// What a reload changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Key paths; empty when the file says what runs already.
    pub changed: Vec<String>,
    /// The hash of what runs now.
    pub config_hash: String,
}

/// Why a reload changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct NotReloaded(pub Vec<String>);

impl NotReloaded {
    pub(super) fn one(why: impl Into<String>) -> Self {
        Self(vec![why.into()])
    }
}

/// A listener and what it offers new connections.
type Offer = (Arc<Door>, Option<Arc<Terms>>);

type Wish = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// What a process needs to reload.
pub(super) struct Reloads {
    /// None: it was started without a file.
    file: OnceLock<PathBuf>,
    wishes: mpsc::Sender<Wish>,
    /// Taken by the background.
    waiting: Mutex<Option<mpsc::Receiver<Wish>>>,
    failed: AtomicBool,
    /// What ran before, while unsafe requests of it may be open.
    past: Mutex<Vec<Arc<proxy::Shared>>>,
}

impl Default for Reloads {
    fn default() -> Self {
        let (wishes, waiting) = mpsc::channel(WAITING);
        Self {
            file: OnceLock::new(),
            wishes,
            waiting: Mutex::new(Some(waiting)),
            failed: AtomicBool::new(false),
            past: Mutex::default(),
        }
    }
}

impl Reloads {
    /// Names the file to read again.
    pub(super) fn read_from(&self, file: PathBuf) {
        // Named once, when the process starts.
        let _first = self.file.set(file);
    }

    /// Whether the last one failed.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Rooms {
    /// Asks the background to reload, and waits for what becomes of it.
    pub(super) async fn ask_reload(self: Arc<Self>) -> Result<Reloaded, NotReloaded> {
        let (tell, told) = oneshot::channel();
        let leaving = || NotReloaded::one("the process is leaving");
        self.reloads.wishes.send(tell).await.map_err(|_| leaving())?;
        told.await.unwrap_or_else(|_| Err(leaving()))
    }

    /// Reloads as often as it is asked to, one after another. One task of the background runs this.
    pub(super) async fn reload_when_asked(self: Arc<Self>) {
        let Some(mut waiting) = self.reloads.waiting.lock().take() else {
            return;
        };
        while let Some(tell) = waiting.recv().await {
            let result = self.reload().await;
            self.reloads.failed.store(result.is_err(), Ordering::Relaxed);
            match &result {
                Ok(reloaded) if reloaded.changed.is_empty() => tracing::info!("reloaded: nothing has changed"),
                Ok(reloaded) => {
                    tracing::info!(
                        config_hash = reloaded.config_hash,
                        "reloaded: {}",
                        reloaded.changed.join(", ")
                    );
                }
                Err(NotReloaded(why)) => {
                    for why in why {
                        tracing::error!("not reloaded, what runs is unchanged: {why}");
                    }
                }
            }
            // Whoever asked may have left.
            let _ = tell.send(result);
        }
    }

    async fn reload(&self) -> Result<Reloaded, NotReloaded> {
        let running = self.era();
        let file = self.reloads.file.get();
        let file = file.ok_or_else(|| {
            NotReloaded::one("the process was started without a file: there is nothing to read again")
        })?;
        let loaded = load::again(file, &self.world, &running.config).map_err(|e| NotReloaded::one(e.to_string()))?;
        let Some(config) = loaded.config else {
            return Err(NotReloaded(loaded.errors.iter().map(ToString::to_string).collect()));
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let changed = diff::changed(&running.config, &config);
        let terms = self.terms(&config)?;
        if !changed.is_empty() {
            let next = running.after(self.world.clock.mono(), config, &self.views);
            turnover::turn_over(&self.views, &running, &next).await?;
            self.probe(&running, &next).await;
            self.take_over(&running, &next);
            for (door, terms) in terms {
                door.offer(terms);
            }
        }
        Ok(Reloaded {
            changed,
            config_hash: self.era().config.hash.clone(),
        })
    }

    /// What each listener offers new connections under the new configuration.
    fn terms(&self, config: &Config) -> Result<Vec<Offer>, NotReloaded> {
        let listeners = config.listeners.iter().filter_map(|listener| {
            let mut doors = self.doors().iter();
            let door = doors.find(|door| door.listener().name == listener.name)?;
            Some((Arc::clone(door), listener))
        });
        listeners
            .map(|(door, listener)| match Terms::of(listener, door.terms()) {
                Ok(terms) => Ok((door, terms)),
                Err(error) => Err(NotReloaded::one(error.to_string())),
            })
            .collect()
    }

    /// Has the new configuration probe the nodes, and waits for those that nobody has probed before. The old probes end first: two that
    /// count the same failures would count them twice.
    async fn probe(&self, running: &Era, next: &Era) {
        running.probes.cancel();
        Arc::clone(&next.upstreams).run_probes(next.probes.clone());
        tokio::select! {
            biased;
            () = self.drain().reached(Phase::Over) => {}
            () = next.upstreams.first_round() => {}
        }
    }

    fn take_over(&self, running: &Arc<Era>, next: &Arc<Era>) {
        let held = diff::newly_exclusive(&running.config, &next.config);
        self.store.take_over(&next.config, &held);
        if let Some(log) = &self.access_log {
            log.take_over(&next.config);
        }
        log::take_over(&next.config.telemetry, &self.world);
        past::assume(&next.config);
        next.proxy.run_mirrors();
        self.swap(next);
        running.proxy.supersede();
        next.upstreams.adopt(&running.upstreams);
        next.proxy.forget_others();
        let before = self.before(&running.proxy);
        if !held.is_empty() {
            let store = Arc::clone(&self.store);
            tokio::spawn(async move {
                for era in before {
                    era.unsafe_requests_over().await;
                }
                store.resume(&held);
            });
        }
    }

    /// All configurations of which unsafe requests may be open, with this one.
    fn before(&self, last: &Arc<proxy::Shared>) -> Vec<Arc<proxy::Shared>> {
        let mut past = self.reloads.past.lock();
        past.retain(|era| era.has_unsafe_requests());
        past.push(Arc::clone(last));
        past.clone()
    }
}
