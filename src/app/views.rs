//! The owner of the views and the journal's writer, wired: what they remember is read before anybody listens, and they run where the
//! disk keeps nobody else waiting.

use super::StartError;
use super::rooms::Rooms;
use crate::config::runtime::{Config, Replication};
use crate::coord::journal::{Journal, Writer};
use crate::coord::{Coord, Nodes, Owner};
use crate::core::failover::event::Effect;
use crate::server::drain::Phase;
use crate::upstream::Upstreams;
use crate::world::World;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::{Arc, Weak};
use tokio_util::sync::CancellationToken;

/// Everything about the views and what is durable.
pub(super) struct Views {
    pub(super) coord: Arc<Coord>,
    pub(super) journal: Arc<Journal>,
    /// Of every configuration with which something may still be in flight, or will be.
    upstreams: Mutex<Vec<Weak<Upstreams>>>,
    /// Until they run.
    owner: Mutex<Option<Owner>>,
    writer: Mutex<Option<Writer>>,
}

impl Views {
    pub(super) fn new(config: &Arc<Config>, world: &World) -> Self {
        let (coord, owner) = Coord::new(config, world);
        // Even where nothing is mirrored yet: a reload may bring it.
        let journal = match config.server.state_dir {
            Some(_) => Journal::on_disk(),
            None => Journal::in_memory(),
        };
        Self {
            coord,
            journal,
            upstreams: Mutex::default(),
            owner: Mutex::new(Some(owner)),
            writer: Mutex::default(),
        }
    }

    /// One more configuration whose connections follow the views.
    pub(super) fn add(&self, upstreams: &Arc<Upstreams>) {
        let mut all = self.upstreams.lock();
        all.retain(|upstreams| upstreams.strong_count() > 0);
        all.push(Arc::downgrade(upstreams));
    }
}

/// Goes on from what earlier processes left under `state_dir`, which is claimed.
///
/// # Errors
/// When it cannot be read, or cannot be true.
pub(super) fn recall(rooms: &Rooms, folder: &Path) -> Result<(), StartError> {
    let failed = |why: String| StartError::StateDir {
        path: folder.to_owned(),
        why,
    };
    let disk = &rooms.world.disk;
    let views = &rooms.views;
    let states = || views.coord.views().into_iter().map(|cell| cell.load().states.clone());
    let before: Vec<_> = states().collect();
    let mut owner = views.owner.lock();
    let mut strangers = Vec::new();
    if let Some(owner) = owner.as_mut() {
        owner.recall(disk, folder).map_err(|e| failed(e.to_string()))?;
        strangers = owner.strangers();
        let config = rooms.config();
        let mirrored = |name: &str| {
            let upstream = config.upstreams.iter().find(|u| u.name == name);
            upstream.is_some_and(|u| u.replication == Replication::Mirrored)
        };
        strangers.retain(|(upstream, _)| mirrored(upstream));
        for (upstream, node) in &strangers {
            tracing::warn!(
                upstream,
                node,
                "a new node holds nobody knows what: it joins the in-sync set by your word (tidegate resynced)"
            );
        }
    }
    for (upstream, (before, after)) in before.into_iter().zip(states()).enumerate() {
        let changes = before.into_iter().zip(after).enumerate();
        let changed = changes.filter(|(_, (was, is))| was != is);
        let effects: Vec<_> = changed
            .map(|(node, (_, state))| Effect::State { node, state })
            .collect();
        rooms.era().upstreams.carry_out(upstream, &effects);
    }
    let writer = views.journal.open(disk, folder, &strangers);
    *views.writer.lock() = writer.map_err(|e| failed(e.to_string()))?;
    if let Some(owner) = owner.as_mut() {
        owner.remember(disk, folder).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

/// Steps the views until everything is over. Once.
pub(super) async fn own(rooms: Arc<Rooms>) {
    let Some(owner) = rooms.views.owner.lock().take() else {
        return;
    };
    let stop = CancellationToken::new();
    let hands = Arc::new(Hands(Arc::clone(&rooms)));
    let over = async {
        rooms.drain().reached(Phase::Over).await;
        stop.cancel();
    };
    tokio::join!(over, owner.run(hands, stop.clone()));
}

/// The journal's writer, to be run once; none where nothing is written.
pub(super) fn writer(rooms: &Rooms) -> Option<Writer> {
    rooms.views.writer.lock().take()
}

/// Writes the journal until no request is left.
pub(super) async fn write(rooms: Arc<Rooms>, writer: Writer) {
    writer.run(rooms.logged().clone()).await;
}

/// What the owner has done about a change.
struct Hands(Arc<Rooms>);

impl Nodes for Hands {
    fn carry_out(&self, upstream: usize, effects: &[Effect]) {
        let running = Arc::clone(&self.0.era().upstreams);
        running.carry_out(upstream, effects);
        let all = self.0.views.upstreams.lock().clone();
        for other in all.iter().filter_map(Weak::upgrade) {
            if !Arc::ptr_eq(&other, &running) {
                other.follow(upstream, effects);
            }
        }
    }

    fn taken_over(&self, upstream: usize, effects: &[Effect]) {
        let all = self.0.views.upstreams.lock().clone();
        let mut all = all.iter().rev().filter_map(Weak::upgrade);
        // The configuration to come knows the names of what it brings.
        if let Some(coming) = all.next() {
            coming.carry_out(upstream, effects);
        }
        for other in all {
            other.follow(upstream, effects);
        }
    }

    fn not_durable(&self, upstream: usize) {
        self.0.era().metrics.view_not_durable(upstream);
    }
}
