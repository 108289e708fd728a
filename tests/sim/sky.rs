//! What happens to machines, links and disks while a world is played.

use super::chance::Chance;
use super::journal::Journal;
use super::nodes::Nodes;
use super::plan::{Event, Plan};
use super::stage::Machine;

/// Everything that is to come and going on.
pub struct Sky(Vec<Lane>);

/// What happens one after the other.
struct Lane {
    to_come: std::vec::IntoIter<(u64, u64, Event)>,
    next: Option<(u64, u64, Event)>,
    on: Option<(u64, Event)>,
}

impl Lane {
    fn new(events: Vec<(u64, u64, Event)>) -> Self {
        let mut to_come = events.into_iter();
        Self {
            next: to_come.next(),
            to_come,
            on: None,
        }
    }
}

impl Sky {
    pub fn new(plan: &Plan) -> Self {
        let lanes = plan.cluster.iter().flat_map(|c| c.lanes.clone());
        Self(
            std::iter::once(plan.events.clone())
                .chain(lanes)
                .map(Lane::new)
                .collect(),
        )
    }

    pub fn is_over(&self) -> bool {
        self.0.iter().all(|lane| lane.next.is_none() && lane.on.is_none())
    }

    pub fn step(&mut self, sim: &mut turmoil::Sim<'_>, machines: &[Machine], nodes: Option<&Nodes>, journal: &Journal) {
        let now = sim.elapsed().as_millis() as u64;
        let mut ground = Ground {
            sim,
            machines,
            nodes,
            journal,
        };
        for lane in &mut self.0 {
            lane.step(now, &mut ground);
        }
    }
}

impl Lane {
    fn step(&mut self, now: u64, ground: &mut Ground<'_, '_>) {
        if let Some((until, event)) = self.on {
            ground.go_on(event);
            let over = match event {
                // It leaves at its own pace.
                Event::Stop { proxy } => !ground.sim.is_host_running(format!("p{proxy}")),
                Event::Crowned { times, delay_ms } => now >= until || ground.crowned(times, delay_ms),
                _ => now >= until,
            };
            if over {
                self.on = None;
                ground.journal.note("sky", format!("over: {event:?}"));
                ground.end(event);
            }
        } else if let Some((from, lasts, event)) = self.next
            && now >= from
        {
            self.next = self.to_come.next();
            self.on = Some((now + lasts, event));
            ground.journal.note("sky", format!("{event:?} for {lasts} ms"));
            ground.begin(event);
        }
    }
}

/// What events act on.
struct Ground<'a, 's> {
    sim: &'a mut turmoil::Sim<'s>,
    machines: &'a [Machine],
    nodes: Option<&'a Nodes>,
    journal: &'a Journal,
}

impl Ground<'_, '_> {
    fn begin(&mut self, event: Event) {
        let sim = &mut *self.sim;
        match event {
            Event::Cut { proxy, node } => sim.partition(format!("p{proxy}"), format!("o{node}")),
            Event::Hold { proxy, node } => sim.hold(format!("p{proxy}"), format!("o{node}")),
            Event::CutOff { proxy } => sim.partition("c", format!("p{proxy}")),
            Event::Kill { proxy } | Event::Blackout { proxy } => self.machines[proxy].die.notify_one(),
            Event::Stop { proxy } => self.machines[proxy].leave.notify_one(),
            Event::NodeDown { node } => {
                sim.crash(format!("o{node}"));
                self.tell(|nodes| nodes.set_up(node, false));
            }
            Event::Sick { node } => self.tell(|nodes| nodes.set_sick(node, true)),
            Event::Apart { node } => self.tell(|nodes| nodes.set_apart(node, true)),
            Event::Usurp { node } => {
                let view = self.machines[0].platter.text("/state/views");
                self.tell(|nodes| nodes.usurp(node, true, &view));
            }
            Event::Full { proxy } => self.machines[proxy].platter.set_full(true),
            Event::Crowned { .. } => {}
        }
    }

    /// A process that was told to die is dead a moment later.
    fn go_on(&mut self, event: Event) {
        if let Event::Kill { proxy } | Event::Blackout { proxy } = event
            && self.machines[proxy].dead.take()
        {
            self.sim.crash(format!("p{proxy}"));
            if let Event::Blackout { .. } = event {
                let seed = self.sim.elapsed().as_millis() as u64;
                self.machines[proxy].platter.lose_power(&mut Chance::of(seed, 22));
            }
        }
    }

    fn end(&mut self, event: Event) {
        let sim = &mut *self.sim;
        match event {
            Event::Cut { proxy, node } => sim.repair(format!("p{proxy}"), format!("o{node}")),
            Event::Hold { proxy, node } => sim.release(format!("p{proxy}"), format!("o{node}")),
            Event::CutOff { proxy } => sim.repair("c", format!("p{proxy}")),
            Event::Kill { proxy } | Event::Stop { proxy } | Event::Blackout { proxy } => {
                sim.bounce(format!("p{proxy}"));
            }
            Event::NodeDown { node } => {
                sim.bounce(format!("o{node}"));
                self.tell(|nodes| nodes.set_up(node, true));
            }
            Event::Sick { node } => self.tell(|nodes| nodes.set_sick(node, false)),
            Event::Apart { node } => self.tell(|nodes| nodes.set_apart(node, false)),
            Event::Usurp { node } => self.tell(|nodes| nodes.usurp(node, false, "")),
            Event::Full { proxy } => self.machines[proxy].platter.set_full(false),
            Event::Crowned { .. } => {}
        }
    }

    fn crowned(&self, times: u64, delay_ms: u64) -> bool {
        let crowned = self.nodes.and_then(|nodes| nodes.crowned(times));
        crowned.is_some_and(|at| self.sim.elapsed().as_nanos() as u64 >= at + delay_ms * 1_000_000)
    }

    fn tell(&self, what: impl FnOnce(&Nodes)) {
        if let Some(nodes) = self.nodes {
            what(nodes);
        }
    }
}
