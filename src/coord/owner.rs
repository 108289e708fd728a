//! The one task that changes views (R29). It takes one event at a time: steps a clone of the machine, makes its record durable when that
//! changed, and only then swaps the view and hands out what must be done. A step that cannot be made durable did not happen: whoever sent
//! the event is told, and what nobody waits for is tried again. Nodes over one store are the exception: nothing there needs durability, so
//! their traffic moves all the same, and the register is written when that can be done.
//!
//! It blocks while the disk does, so it runs where nobody else is kept waiting.

use super::hooks::{Hook, Hooks};
use super::keep::{InFile, InMemory, Keeper, RecallError, Remembered, Views};
use super::take_over::Changed;
use super::{Asked, Coord, Nodes, NotDone, keep, settings};
use crate::config::runtime::{Config, Replication, Upstream};
use crate::core::failover::event::{Effect, Event};
use crate::core::failover::machine::Machine;
use crate::core::failover::view::Epoch;
use crate::core::time::MonoTime;
use crate::world::{Clock, Disk, Process, World};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long after a failure what nobody waits for is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The owner of all upstreams' views. Run it, or nothing changes; dropped, whoever tells it something is refused.
pub struct Owner {
    pub(super) coord: Arc<Coord>,
    config: Arc<Config>,
    pub(super) clock: Arc<dyn Clock>,
    process: Arc<dyn Process>,
    pub(super) machines: Vec<Owned>,
    pub(super) keeper: Box<dyn Keeper>,
    /// What is kept, upstreams that are not configured any more included.
    pub(super) views: Views,
    /// An upstream over one store whose view went on although it could not be made durable.
    unkept: Option<usize>,
    queue: mpsc::Receiver<Asked>,
    changes: mpsc::Receiver<Changed>,
}

/// One upstream.
pub(super) struct Owned {
    /// As configured now.
    pub(super) config: Arc<Upstream>,
    pub(super) machine: Machine,
    /// When it wants to be told of the time.
    pub(super) wake: Option<MonoTime>,
}

impl Owner {
    pub(super) fn new(
        coord: Arc<Coord>,
        config: &Arc<Config>,
        world: &World,
        machines: Vec<Machine>,
        (queue, changes): (mpsc::Receiver<Asked>, mpsc::Receiver<Changed>),
    ) -> Self {
        Self {
            coord,
            config: Arc::clone(config),
            clock: Arc::clone(&world.clock),
            process: Arc::clone(&world.process),
            machines: Owned::all(config, machines),
            keeper: Box::new(InMemory),
            views: Views::new(),
            unkept: None,
            queue,
            changes,
        }
    }

    /// From here on keeps the views in `folder`, and goes on from what is there. Blocks; for the start, before anybody reads a view.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn recall(&mut self, disk: &Arc<dyn Disk>, folder: &Path) -> Result<(), RecallError> {
        let (keeper, views) = InFile::open(Arc::clone(disk), folder)?;
        for name in views.keys() {
            if !self.config.upstreams.iter().any(|u| u.name == *name) {
                tracing::error!(
                    upstream = name,
                    "an upstream of the remembered views is not configured any more: it is ignored"
                );
            }
        }
        let machines = machines(&self.config, self.clock.as_ref(), &views);
        for (machine, cell) in machines.iter().zip(self.coord.views()) {
            cell.store(machine.view());
        }
        self.machines = Owned::all(&self.config, machines);
        self.keeper = Box::new(keeper);
        self.views = views;
        Ok(())
    }

    /// The nodes, as (upstream, node), that the remembered views did not know: what they hold nobody knows.
    #[must_use]
    pub fn strangers(&self) -> Vec<(String, String)> {
        let upstreams = self.config.upstreams.iter();
        upstreams
            .filter_map(|upstream| Some((upstream, self.views.get(&upstream.name)?)))
            .flat_map(|(upstream, known)| {
                let strangers = known.strangers(upstream);
                strangers.map(|node| (upstream.name.clone(), node.to_owned()))
            })
            .collect()
    }

    /// Makes durable with which nodes this process begins where they hold data of their own, before anybody relies on it: an ack counts on
    /// those in sync, and at the next start one that is not remembered, or was somewhere else, is new (R35), although no view may have changed
    /// until then. What new nodes lack must be durable before. Blocks; for the start.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn remember(&mut self, disk: &Arc<dyn Disk>, folder: &Path) -> Result<(), RecallError> {
        let mut views = self.views.clone();
        for Owned { config, machine, .. } in &self.machines {
            if has_primary(config) {
                views.insert(config.name.clone(), Remembered::of(config, &machine.record()));
            }
        }
        if views != self.views {
            keep::keep_first(disk.as_ref(), folder, &views)?;
            self.views = views;
        }
        Ok(())
    }

    /// Takes events until `stop`.
    pub async fn run(mut self, nodes: Arc<dyn Nodes>, stop: CancellationToken) {
        let mut hooks = Hooks::default();
        // A promotion that was under way goes on, and timers begin.
        let mut again: Vec<(usize, Event)> = (0..self.machines.len()).map(|u| (u, Event::Tick)).collect();
        let mut again_at = Some(self.clock.mono());
        loop {
            let retired = |upstream: &usize| self.machines.get(*upstream).is_none_or(|owned| owned.config.retired);
            self.unkept = self.unkept.filter(|upstream| !retired(upstream));
            if let (Some(upstream), true) = (self.unkept, again.is_empty()) {
                again.push((upstream, Event::Tick));
                again_at = Some(self.clock.mono().after(AGAIN.into()));
            }
            let wait = self.until(again_at);
            let (upstream, event, tell) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(changed) = self.changes.recv() => {
                    self.take_over(changed, &nodes, &mut hooks).await;
                    continue;
                }
                Some(asked) = self.queue.recv() => (asked.upstream, asked.event, Some(asked.tell)),
                Some((upstream, ended)) = hooks.ended() => match ended {
                    Some(event) => (upstream, event, None),
                    None => continue,
                },
                () = wait => {
                    let now = self.clock.mono();
                    if again_at.is_some_and(|at| at <= now) {
                        again_at = None;
                        for (upstream, event) in std::mem::take(&mut again) {
                            if self.take(upstream, event, &nodes, &mut hooks).await.is_err() {
                                again.push((upstream, event));
                                again_at = Some(now.after(AGAIN.into()));
                            }
                        }
                    }
                    for upstream in 0..self.machines.len() {
                        if !self.is_due(upstream, now) {
                            continue;
                        }
                        if self.take(upstream, Event::Tick, &nodes, &mut hooks).await.is_err() {
                            again.push((upstream, Event::Tick));
                            again_at = Some(now.after(AGAIN.into()));
                        }
                    }
                    continue;
                }
            };
            let done = self.take(upstream, event, &nodes, &mut hooks).await;
            match tell {
                Some(tell) => {
                    let _left = tell.send(done);
                }
                None if done.is_err() => {
                    again.push((upstream, event));
                    again_at = Some(self.clock.mono().after(AGAIN.into()));
                }
                None => {}
            }
        }
    }

    /// Waits until the first of the timers is due; for ever without one.
    fn until(&self, again_at: Option<MonoTime>) -> impl Future<Output = ()> + Send + use<> {
        let wakes = self.machines.iter().filter_map(|owned| owned.wake);
        let first = wakes.chain(again_at).min();
        // Timers count whole milliseconds: not one too early.
        let wait = first.map(|at| at.duration_since(self.clock.mono()) + Duration::from_millis(1));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether a machine wants to be told of the time now; it is told once.
    fn is_due(&mut self, upstream: usize, now: MonoTime) -> bool {
        let owned = self.machines.get_mut(upstream);
        owned.is_some_and(|owned| owned.wake.take_if(|at| *at <= now).is_some())
    }

    /// One step.
    async fn take(
        &mut self,
        upstream: usize,
        event: Event,
        nodes: &Arc<dyn Nodes>,
        hooks: &mut Hooks,
    ) -> Result<(), NotDone> {
        let Some(owned) = self.machines.get_mut(upstream).filter(|owned| !owned.config.retired) else {
            return Ok(());
        };
        let config = Arc::clone(&owned.config);
        if let Event::Operator(word) = event
            && let Some(refusal) = owned.machine.refuses(word)
        {
            return Err(NotDone::Refused(refusal));
        }
        let mut next = owned.machine.clone();
        let mut effects = Vec::new();
        let observed = next.observed(); // R32: read afresh for every step
        next.step(self.clock.mono(), event, observed, &mut effects);
        let record = next.record();
        let shared = config.replication == Replication::Shared;
        if record != owned.machine.record() || (shared && self.unkept.is_some()) {
            // R29: durable before anything follows from it.
            let before = self.views.insert(config.name.clone(), Remembered::of(&config, &record));
            match self.keeper.keep(&self.views).await {
                Ok(()) => self.unkept = None,
                Err(error) if shared => {
                    // One store holds every acked write, whoever has the traffic: what a crash would forget harms nobody.
                    let upstream_name = &config.name;
                    tracing::error!(upstream = upstream_name, %error, "the view cannot be made durable: it changes all the same, as the nodes share one store");
                    nodes.not_durable(upstream);
                    self.unkept = Some(upstream);
                }
                Err(error) => {
                    match before {
                        Some(before) => self.views.insert(config.name.clone(), before),
                        None => self.views.remove(&config.name),
                    };
                    tracing::error!(upstream = config.name, %error, "the view cannot be made durable: it does not change");
                    nodes.not_durable(upstream);
                    return Err(NotDone::NotDurable(error.to_string().into()));
                }
            }
        }
        owned.machine = next;
        self.show(upstream, &effects, |effects| nodes.carry_out(upstream, effects), hooks);
        Ok(())
    }

    /// A step has been made durable: everybody sees it, and what follows from it begins.
    pub(super) fn show(
        &mut self,
        upstream: usize,
        effects: &[Effect],
        carry_out: impl FnOnce(&[Effect]),
        hooks: &mut Hooks,
    ) {
        let Some(owned) = self.machines.get_mut(upstream) else {
            return;
        };
        let view = owned.machine.view();
        if let Some(cell) = self.coord.cell(upstream)
            && view != **cell.load()
        {
            cell.store(view);
        }
        for effect in effects {
            if let Effect::WakeAt(at) = effect {
                owned.wake = Some(*at);
            }
            if let Some(hook) = Hook::of(&owned.config, *effect) {
                hooks.run(upstream, hook, Arc::clone(&self.process));
            }
        }
        carry_out(effects);
        self.coord.changed.send_replace(());
    }
}

impl Owned {
    pub(super) fn of(config: &Arc<Upstream>, machine: Machine) -> Self {
        Self {
            config: Arc::clone(config),
            machine,
            wake: None,
        }
    }

    fn all(config: &Config, machines: Vec<Machine>) -> Vec<Self> {
        let both = config.upstreams.iter().zip(machines);
        both.map(|(config, machine)| Self::of(config, machine)).collect()
    }
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner")
            .field("upstreams", &self.machines.len())
            .finish_non_exhaustive()
    }
}

/// Epochs of an upstream that is not remembered start at the wall clock's seconds, so that they do not fall when the process restarts
/// (R54).
pub(super) fn machines(config: &Config, clock: &dyn Clock, views: &Views) -> Vec<Machine> {
    let epoch = first_epoch(clock);
    let now = clock.mono();
    let machine = |upstream: &Arc<Upstream>| {
        let (epoch, remembered) = Remembered::recall(views.get(&upstream.name), upstream, epoch);
        Machine::new(now, settings::settings(upstream, epoch), remembered.as_ref())
    };
    config.upstreams.iter().map(machine).collect()
}

/// Whether it matters after a restart which nodes there were.
pub(super) const fn has_primary(upstream: &Upstream) -> bool {
    matches!(upstream.replication, Replication::Primary | Replication::Mirrored)
}

pub(super) fn first_epoch(clock: &dyn Clock) -> Epoch {
    let seconds = u64::try_from(clock.wall().as_millis() / 1000).unwrap_or(0);
    Epoch(seconds << 16)
}
