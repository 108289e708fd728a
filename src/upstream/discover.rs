//! Nodes that come and go: one task per upstream with `discover` looks for them, by a name's TTL or whenever the file has changed, and
//! carries out what [`crate::core::discovery`] makes of it.
//!
//! What was found last stays when nothing can be found out: a name that does not resolve, or no longer has a record, and a file that is
//! gone or makes no sense, change nothing, and that is said once. Who comes begins before who is not found any more ends
//! ([`discovery::may_leave`]). It never runs on a core's thread.
//!
//! Invariant: the task may be ended at any time, by a reload; the next one goes on where it was.

use super::seat::Target;
use super::{One, Upstreams};
use crate::config::load::nodes_from_text;
use crate::config::runtime::Discover;
use crate::core::discovery::{self, Change, Kind, Member, RETRY, Slot, may_leave, members, reconcile};
use crate::core::failover::event::Event;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a file is looked at, and places of nodes that have left.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked whether those who are to leave may.
const SOON: Duration = Duration::from_millis(100);

/// The process says that it is ready after the first look, and does not wait longer than this for it.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// What has been seen so far.
#[derive(Default)]
struct Seen {
    /// The file's text, when it was last read.
    text: Option<String>,
    /// It has been acted on.
    taken: bool,
    /// What is wrong, as it was told.
    told: Option<String>,
    /// More nodes than places, as it was told.
    left_out: usize,
    /// The nodes there are, as they were found last.
    found: Option<Arc<[Member]>>,
    /// Not all that follows from it has been done.
    open: bool,
    /// That nodes stay which were not found, as it was told.
    held: bool,
}

/// What a look came to.
struct Looked {
    /// The nodes there are; none: as before.
    found: Result<Option<Vec<Member>>, String>,
    /// When to look again.
    next: Duration,
}

impl Upstreams {
    /// Looks for an upstream's nodes, for good.
    pub(super) async fn discover(&self, upstream: usize) {
        let Some(one) = self.shared.upstreams.get(upstream) else {
            return;
        };
        let Some(discover) = &one.config.discover else {
            return;
        };
        let mut seen = Seen::default();
        let mut first = true;
        loop {
            let looked = if first {
                let looked = tokio::time::timeout(FIRST_LOOK, self.look(discover, &mut seen)).await;
                looked.unwrap_or_else(|_elapsed| Looked {
                    found: Err("no answer in time".to_owned()),
                    next: Duration::ZERO,
                })
            } else {
                self.look(discover, &mut seen).await
            };
            match looked.found {
                Ok(found) => {
                    if seen.told.take().is_some() {
                        tracing::info!(upstream = one.config.name, "the nodes can be found again");
                    }
                    if let Some(found) = found {
                        seen.found = Some(found.into());
                        seen.open = true;
                    }
                }
                Err(why) => {
                    if seen.told.as_ref() != Some(&why) {
                        tracing::error!(
                            upstream = one.config.name,
                            why,
                            "cannot find the nodes: those found last stay"
                        );
                        seen.told = Some(why);
                    }
                }
            }
            if first {
                // While the view cannot be made durable nobody joins: what is left open is done as soon as it can.
                let _done = tokio::time::timeout(FIRST_LOOK, self.apply(upstream, one, true, &mut seen)).await;
                first = false;
                self.unprobed.send_modify(|left| *left = left.saturating_sub(1));
            } else {
                self.apply(upstream, one, false, &mut seen).await;
            }
            let mut left = looked.next;
            while !left.is_zero() {
                let nap = left.min(if seen.open { SOON } else { LOOK });
                tokio::time::sleep(nap).await;
                left = left.saturating_sub(nap);
                self.apply(upstream, one, false, &mut seen).await;
            }
        }
    }

    async fn look(&self, discover: &Discover, seen: &mut Seen) -> Looked {
        match discover {
            Discover::File(path) => Looked {
                found: self.read(path, seen),
                next: LOOK,
            },
            Discover::Dns { name, port, kind } => self.ask(name, *port, *kind).await,
        }
    }

    /// A file that another process is writing is half of what it will be: a text is acted on when it is read a second time. Only the
    /// first one is not: there is nothing yet that it could take away.
    fn read(&self, path: &Path, seen: &mut Seen) -> Result<Option<Vec<Member>>, String> {
        let text = self.shared.world.disk.read_to_string(path);
        let text = text.map_err(|error| {
            (seen.text, seen.taken) = (Some(String::new()), false);
            format!("{}: {error}", path.display())
        })?;
        let settled = seen.text.as_ref().is_none_or(|before| *before == text);
        if !settled || seen.taken {
            seen.taken &= settled;
            seen.text = Some(text);
            // A mistake that is still there has been told.
            return match &seen.told {
                Some(told) => Err(told.clone()),
                None => Ok(None),
            };
        }
        seen.taken = true;
        let read = nodes_from_text(&text, &path.display().to_string());
        seen.text = Some(text);
        let told = |errors: Vec<crate::config::diagnostic::Diagnostic>| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            errors.join("\n")
        };
        read.map(Some).map_err(told)
    }

    async fn ask(&self, name: &str, port: u16, kind: Kind) -> Looked {
        let answer = self.shared.world.net.lookup(name, kind).await;
        let found = match &answer {
            Err(error) => Err(format!("{name}: {error}")),
            Ok(answer) => Ok(members(&answer.records, port)),
        };
        match (found, answer) {
            (Err(why), _) => Looked {
                found: Err(why),
                next: RETRY,
            },
            // All nodes gone at once is far more often a mistake of the name server's than true.
            (Ok(found), _) if found.is_empty() => Looked {
                found: Err(format!("{name}: no such record")),
                next: RETRY,
            },
            (Ok(found), answer) => Looked {
                found: Ok(Some(found)),
                next: answer.map_or(RETRY, |answer| discovery::ask_again(answer.ttl)),
            },
        }
    }

    /// Does what is to be done by now. Ended before its time, it goes on when it is called again.
    async fn apply(&self, upstream: usize, one: &One, first: bool, seen: &mut Seen) {
        self.tell_again(upstream, one).await;
        self.clear_places(upstream, one);
        let Some(found) = seen.found.clone().filter(|_| seen.open) else {
            return;
        };
        let plan = reconcile(&one.seats(), &found);
        if plan.left_out != seen.left_out {
            seen.left_out = plan.left_out;
            if plan.left_out > 0 {
                tracing::warn!(
                    upstream = one.config.name,
                    left_out = plan.left_out,
                    places = one.nodes.len(),
                    "more nodes than places: some take no traffic"
                );
            }
        }
        for change in plan.changes {
            match change {
                Change::Join { slot, member } => self.join(upstream, one, slot, member, first).await,
                Change::Adjust { slot, member } => {
                    if let Some(target) = one.nodes.get(slot) {
                        self.seat(upstream, slot, &member);
                        target.sit(member);
                        self.look_again(upstream); // there may be room for who waits
                    }
                }
            }
        }
        let go = may_leave(&plan.leaving, &one.seats(), &found, &one.view.load().states);
        let held = go.len() < plan.leaving.len();
        if held && !seen.held {
            tracing::info!(
                upstream = one.config.name,
                "nodes that were not found any more stay until one that was found is healthy"
            );
        }
        seen.held = held;
        for slot in go {
            self.leave(upstream, one, slot).await;
        }
        seen.open = held || plan.left_out > 0;
    }

    /// A task that ended before the owner of the views had taken in who came and who left: without a view that can be made durable, that
    /// may take long.
    async fn tell_again(&self, upstream: usize, one: &One) {
        for (node, target) in one.nodes.iter().enumerate() {
            if !target.is_untold() {
                continue;
            }
            if target.is_leaving() {
                self.left(upstream, target, node).await;
            } else {
                self.joined(upstream, target, node).await;
            }
        }
    }

    fn seat(&self, upstream: usize, node: usize, member: &Member) {
        for core in &self.cores {
            core.seat(upstream, node, member);
        }
    }

    fn look_again(&self, upstream: usize) {
        let now = self.shared.world.clock.mono();
        for core in &self.cores {
            core.look_again(upstream, now);
        }
    }

    async fn join(&self, upstream: usize, one: &One, node: usize, member: Member, first: bool) {
        let Some(target) = one.nodes.get(node) else {
            return;
        };
        tracing::info!(upstream = one.config.name, node = member.name, "a node has come");
        self.shared.events.node_named(upstream, node, Some(&member.name));
        self.seat(upstream, node, &member);
        target.sit(member);
        if first && one.config.health_check.is_some() {
            target.awaited.store(true, Ordering::SeqCst);
            self.unprobed.send_modify(|left| *left += 1);
        }
        self.joined(upstream, target, node).await;
    }

    async fn joined(&self, upstream: usize, target: &Target, node: usize) {
        target.untold.store(true, Ordering::SeqCst);
        self.tell(upstream, Event::Joined { node }).await;
        target.untold.store(false, Ordering::SeqCst);
        target.probe_now.notify_one();
        self.look_again(upstream);
    }

    async fn leave(&self, upstream: usize, one: &One, node: usize) {
        let Some(target) = one.nodes.get(node) else {
            return;
        };
        if let Some(seat) = target.seat() {
            tracing::info!(upstream = one.config.name, node = seat.member.name, "a node has left");
        }
        target.leave();
        self.probed_first(one, node);
        self.left(upstream, target, node).await;
    }

    async fn left(&self, upstream: usize, target: &Target, node: usize) {
        target.untold.store(true, Ordering::SeqCst);
        self.tell(upstream, Event::Left { node }).await;
        target.untold.store(false, Ordering::SeqCst);
        // What was handed back while the view changed lies idle by now: nobody will use it.
        for core in &self.cores {
            core.leave(upstream, node);
        }
        self.look_again(upstream);
    }

    /// Empties the places of nodes whose last request is over.
    fn clear_places(&self, upstream: usize, one: &One) {
        for (node, target) in one.nodes.iter().enumerate() {
            if target.is_leaving() && self.cores.iter().all(|core| core.is_unused(upstream, node)) {
                target.clear();
                self.shared.events.node_named(upstream, node, None);
            }
        }
    }

    /// A node's first probe has ended, or never will: who waits for it waits no longer.
    pub(super) fn probed_first(&self, one: &One, node: usize) {
        let target = one.nodes.get(node);
        if target.is_some_and(|target| target.awaited.swap(false, Ordering::SeqCst)) {
            self.unprobed.send_modify(|left| *left = left.saturating_sub(1));
        }
    }
}

impl One {
    fn seats(&self) -> Vec<Slot> {
        let place = |target: &Arc<Target>| match target.seat() {
            None => Slot::Empty,
            Some(seat) if target.is_leaving() => Slot::Leaving(seat.member.clone()),
            Some(seat) => Slot::Taken(seat.member.clone()),
        };
        self.nodes.iter().map(place).collect()
    }
}
