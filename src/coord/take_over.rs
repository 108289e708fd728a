//! A reload as the owner of the views sees it (R31): upstreams come, go, and have other nodes or other settings. All of it is judged first,
//! made durable at once, and only then seen; or nothing has changed.
//!
//! An upstream that is gone keeps its place and the view it had, for the requests that began before. What is remembered of it stays in the
//! register, as it does over a restart: who was in sync is not forgotten because somebody took the upstream out of a file.

use super::hooks::Hooks;
use super::keep::{Remembered, Views};
use super::owner::{Owned, Owner, first_epoch, has_primary};
use super::{Coord, Nodes, settings};
use crate::config::runtime::{Replication, Upstream};
use crate::core::failover::event::{Effect, Event};
use crate::core::failover::machine::Machine;
use crate::core::failover::take_over::{TakeOver, Unfit};
use crate::core::failover::view::Epoch;
use crate::core::time::MonoTime;
use crate::world::ViewCell;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What becomes of one upstream.
#[derive(Debug)]
pub struct Change {
    /// From now on; numbered, with its nodes in their places, and retired when it is gone.
    pub config: Arc<Upstream>,
    /// Where its view is read, when it is new.
    pub cell: Option<Arc<ViewCell>>,
    /// The first probes of its new nodes.
    pub probes: Vec<Event>,
}

/// Why nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Upstreams, by number, that cannot be changed like this now.
    Unfit(Vec<(usize, Unfit)>),
    /// It cannot be made durable.
    NotDurable(Arc<str>),
    /// The owner has ended.
    Leaving,
}

/// All changes of one reload.
pub(super) struct Changed {
    changes: Vec<Change>,
    tell: oneshot::Sender<Result<(), NotTaken>>,
}

/// A change that has been judged.
struct Next {
    owned: Owned,
    cell: Option<Arc<ViewCell>>,
    effects: Vec<Effect>,
}

impl Coord {
    /// Takes over the changes of a reload, those of new upstreams in the order of their numbers. When it returns `Ok` they are durable
    /// and in place, and what follows from them has been carried out.
    ///
    /// # Errors
    /// When nothing has changed.
    pub async fn take_over(&self, changes: Vec<Change>) -> Result<(), NotTaken> {
        let (tell, done) = oneshot::channel();
        let changed = Changed { changes, tell };
        self.changes.send(changed).await.map_err(|_| NotTaken::Leaving)?;
        done.await.unwrap_or(Err(NotTaken::Leaving))
    }

    /// A cell for the view of an upstream that is new; nobody is in service by it yet.
    #[must_use]
    pub fn cell_for(&self, now: MonoTime, upstream: &Upstream) -> Arc<ViewCell> {
        let nobody = Upstream {
            order: Vec::new(),
            ..upstream.clone()
        };
        let settings = settings::settings(&nobody, Epoch(0));
        ViewCell::new(Machine::new(now, settings, None).view())
    }

    /// Puts the cell of a new upstream in its place; the last one's readers go on with it as it was.
    fn place(&self, upstream: usize, cell: Arc<ViewCell>) {
        let mut views = self.views.write();
        match views.get_mut(upstream) {
            Some(known) => *known = cell,
            None => views.push(cell),
        }
    }
}

impl Owner {
    pub(super) async fn take_over(&mut self, changed: Changed, nodes: &Arc<dyn Nodes>, hooks: &mut Hooks) {
        let done = self.exchange(changed.changes, nodes.as_ref(), hooks).await;
        let _left = changed.tell.send(done);
    }

    async fn exchange(&mut self, changes: Vec<Change>, nodes: &dyn Nodes, hooks: &mut Hooks) -> Result<(), NotTaken> {
        let mut views = self.views.clone();
        let (mut all, mut unfit) = (Vec::new(), Vec::new());
        for change in changes {
            let upstream = change.config.id;
            match self.judge(change, &mut views) {
                Ok(next) => all.push(next),
                Err(why) => unfit.push((upstream, why)),
            }
        }
        if !unfit.is_empty() {
            return Err(NotTaken::Unfit(unfit));
        }
        if views != self.views {
            // R29: durable before anything follows from it.
            if let Err(error) = self.keeper.keep(&views).await {
                tracing::error!(%error, "a reload cannot be made durable: nothing changes");
                return Err(NotTaken::NotDurable(error.to_string().into()));
            }
            self.views = views;
        }
        for Next { owned, cell, effects } in all {
            let upstream = owned.config.id;
            if let Some(cell) = cell {
                cell.store(owned.machine.view());
                self.coord.place(upstream, cell);
            }
            let retired = owned.config.retired;
            match self.machines.get_mut(upstream) {
                Some(known) => *known = owned,
                None => self.machines.push(owned),
            }
            if !retired {
                self.show(upstream, &effects, |effects| nodes.taken_over(upstream, effects), hooks);
            }
        }
        Ok(())
    }

    /// What a change comes to, and what would be remembered.
    fn judge(&self, change: Change, views: &mut Views) -> Result<Next, Unfit> {
        let Change { config, cell, probes } = change;
        let now = self.clock.mono();
        let known = self.machines.get(config.id);
        if let Some(known) = known.filter(|_| config.retired) {
            let owned = Owned {
                machine: known.machine.clone(),
                config,
                wake: None,
            };
            return Ok(Next {
                owned,
                cell: None,
                effects: Vec::new(),
            });
        }
        let mut effects = Vec::new();
        let running = known.filter(|known| !known.config.retired);
        let (machine, wake, changed) = match running {
            Some(known) => {
                let to = TakeOver {
                    settings: settings::settings(&config, Epoch(0)),
                    probed: config.health_check.is_some(),
                    min_in_sync: config.mirror.min_in_sync,
                    probes,
                };
                if let Some(why) = known.machine.unfit(&to) {
                    return Err(why);
                }
                let mut machine = known.machine.clone();
                let observed = machine.observed(); // R32: read afresh for every step
                machine.take_over(now, to, observed, &mut effects);
                let changed = machine.record() != known.machine.record();
                (machine, known.wake, changed)
            }
            None if config.replication == Replication::Mirrored && views.contains_key(&config.name) => {
                return Err(Unfit::Remembered);
            }
            None => {
                // Its epochs go on where those of an earlier upstream of this name ended.
                let before = known.map_or(Epoch(0), |known| known.machine.record().epoch.next());
                let epoch = first_epoch(self.clock.as_ref()).max(before);
                let (epoch, remembered) = Remembered::recall(views.get(&config.name), &config, epoch);
                let mut machine = Machine::new(now, settings::settings(&config, epoch), remembered.as_ref());
                let first = machine.record();
                for event in probes.into_iter().chain([Event::Tick]) {
                    let observed = machine.observed();
                    machine.step(now, event, observed, &mut effects);
                }
                let changed = machine.record() != first;
                (machine, None, changed)
            }
        };
        let is = Remembered::of(&config, &machine.record());
        let was = views.get(&config.name);
        // Where nodes hold data of their own the next process must know who they were, though nothing has changed yet (R35).
        if changed || has_primary(&config) || was.is_some_and(|was| *was != is) {
            views.insert(config.name.clone(), is);
        }
        let owned = Owned { config, machine, wake };
        Ok(Next { owned, cell, effects })
    }
}
