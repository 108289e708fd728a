//! Plays one plan to its end: hosts on turmoil's network, and what happens to them.

use super::chance::Chance;
use super::client::{Client, Told};
use super::journal::Journal;
use super::origin::{Origin, State};
use super::plan::{Event, Plan, SETTLE_AFTER_MS};
use super::world::{Closings, Life, Platter};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tidegate::app::App;
use tokio::sync::Notify;

/// Everything that is known of a world when it is over.
pub struct Outcome {
    pub plan: Rc<Plan>,
    pub told: Told,
    /// When each proxy was started again.
    pub lives: u64,
    pub origin: State,
    pub journal: String,
}

/// A proxy's machine.
struct Machine {
    platter: Arc<Platter>,
    leave: Rc<Notify>,
    die: Rc<Notify>,
    dead: Rc<Cell<bool>>,
    lives: Cell<u64>,
}

/// How long a world may last; far more than any takes.
const LIMIT: Duration = Duration::from_secs(60);

pub fn play(plan: Plan) -> Result<Outcome, String> {
    let plan = Rc::new(plan);
    let journal = Arc::new(Journal::default());
    let closings = Arc::new(Closings::default());
    journal.freeze(true);
    journal.note("plan", plan.to_string());
    let origin = Origin::new(&journal, &closings, &plan);
    let told = Rc::new(RefCell::new(Told::default()));
    let machines: Rc<Vec<Machine>> = Rc::new((0..plan.proxies).map(|_| Machine::new(&plan)).collect());
    let latency = Duration::from_millis(plan.latency_ms);
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .epoch(UNIX_EPOCH)
        .simulation_duration(LIMIT)
        .min_message_latency(latency / 4)
        .max_message_latency(latency)
        .tcp_capacity(1024)
        .build();
    let nodes: Vec<IpAddr> = (0..plan.nodes).map(|n| sim.lookup(format!("o{n}"))).collect();
    for at in 0..plan.nodes {
        let (origin, name) = (Rc::clone(&origin), format!("o{at}"));
        sim.host(name.clone(), move || Rc::clone(&origin).node(name.clone()));
    }
    let proxies: Vec<IpAddr> = (0..plan.proxies).map(|p| sim.lookup(format!("p{p}"))).collect();
    let config = plan.config(&nodes);
    for at in 0..plan.proxies {
        let (machines, plan, config) = (Rc::clone(&machines), Rc::clone(&plan), config.clone());
        let (journal, closings) = (Arc::clone(&journal), Arc::clone(&closings));
        sim.host(format!("p{at}"), move || {
            let machine = &machines[at];
            let life = machine.lives.get();
            machine.lives.set(life + 1);
            let seed = plan.seed ^ ((at as u64 + 1) << 40) ^ (life << 48);
            let life = Life::new(format!("p{at}"), seed, &journal, &closings, &machine.platter);
            life.note("starts");
            machine.dead.set(false);
            let (die, dead, ruins) = (Rc::clone(&machine.die), Rc::clone(&machine.dead), Arc::clone(&life));
            let lives = run_proxy(life, config.clone(), Rc::clone(&machine.leave));
            async move {
                tokio::select! {
                    biased;
                    () = die.notified() => {
                        ruins.cut();
                        dead.set(true);
                        std::future::pending().await
                    }
                    ended = lives => ended,
                }
            }
        });
    }
    let keys = (0..plan.keys).map(|k| format!("/k/{k}")).chain(["/d/0".to_owned()]);
    for key in keys {
        let at = journal.instant();
        origin.set(&key, "first", at);
    }
    let client = |id: u32| Client {
        id,
        journal: Arc::clone(&journal),
        plan: Rc::clone(&plan),
        chance: Chance::of(plan.seed, 100 + u64::from(id)),
        proxies: proxies.clone(),
        nodes: nodes.clone(),
        kept: BTreeMap::new(),
        tags: BTreeMap::new(),
        token: None,
        told: Told::default(),
    };
    let clients: Vec<Client> = (0..plan.clients).map(client).collect();
    let last = client(99);
    let (results, machine) = (Rc::clone(&told), Rc::clone(&machines));
    let quiet = Rc::new(Cell::new(false));
    let when_quiet = Rc::clone(&quiet);
    sim.client("c", async move {
        // The first probes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let playing: Vec<_> = clients
            .into_iter()
            .map(|client| tokio::task::spawn_local(client.play()))
            .collect();
        for one in playing {
            let told = one.await?;
            results.borrow_mut().add(told);
        }
        // Nothing abandoned is applied after that.
        tokio::time::sleep(Duration::from_millis(SETTLE_AFTER_MS + 60)).await;
        while !when_quiet.get() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The network is whole, the nodes are found again.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let told = last.look_around().await;
        results.borrow_mut().add(told);
        drop(machine);
        Ok(())
    });
    let mut weather = Weather::new(&plan);
    let over = loop {
        journal.freeze(false);
        let step = sim.step();
        journal.freeze(true);
        match step {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            Err(error) => break Err(error.to_string()),
        }
        weather.step(&mut sim, &machines, &journal);
        quiet.set(weather.is_over());
    };
    let text = journal.text();
    drop(sim);
    over?;
    let lives = machines.iter().map(|m| m.lives.get()).sum();
    let told = std::mem::take(&mut *told.borrow_mut());
    let origin = std::mem::take(&mut *origin.state.borrow_mut());
    Ok(Outcome {
        plan,
        told,
        lives,
        origin,
        journal: text,
    })
}

impl Told {
    fn add(&mut self, more: Self) {
        self.reads.extend(more.reads);
        self.writes.extend(more.writes);
        self.purges.extend(more.purges);
        self.unanswered.extend(more.unanswered);
    }
}

impl Machine {
    fn new(plan: &Plan) -> Self {
        let platter = Platter::default();
        if plan.trusted {
            platter.write("/state/clean-stop", "{\"o\":60000}");
        }
        Self {
            platter: Arc::new(platter),
            leave: Rc::default(),
            die: Rc::default(),
            dead: Rc::default(),
            lives: Cell::new(0),
        }
    }
}

async fn run_proxy(life: Arc<Life>, config: String, leave: Rc<Notify>) -> turmoil::Result {
    let world = life.world();
    let loaded = tidegate::config::load::from_text(&config, "sim.toml", Path::new("/"), &world);
    let Some(config) = loaded.config else {
        let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        return Err(format!("{}\nin\n{config}", errors.join("\n")).into());
    };
    let running = App::build(config, world)?.serve_here().await?;
    life.note("serves");
    leave.notified().await;
    running.drain();
    running.ended().await;
    let ended_well = running.stop();
    life.note(format!("has left, {ended_well}"));
    life.cut();
    Ok(())
}

/// What of the plan's events is to come, and what is going on.
struct Weather {
    to_come: std::vec::IntoIter<(u64, u64, Event)>,
    next: Option<(u64, u64, Event)>,
    on: Option<(u64, Event)>,
}

impl Weather {
    fn new(plan: &Plan) -> Self {
        let mut to_come = plan.events.clone().into_iter();
        Self {
            next: to_come.next(),
            to_come,
            on: None,
        }
    }

    fn is_over(&self) -> bool {
        self.next.is_none() && self.on.is_none()
    }

    fn step(&mut self, sim: &mut turmoil::Sim<'_>, machines: &[Machine], journal: &Journal) {
        let now = sim.elapsed().as_millis() as u64;
        if let Some((until, event)) = self.on {
            if let Event::Kill { proxy } = event
                && machines[proxy].dead.take()
            {
                sim.crash(format!("p{proxy}"));
            }
            let over = match event {
                // It leaves at its own pace.
                Event::Stop { proxy } => !sim.is_host_running(format!("p{proxy}")),
                _ => now >= until,
            };
            if over {
                self.on = None;
                journal.note("sky", format!("over: {event:?}"));
                end(event, sim);
            }
        } else if let Some((from, lasts, event)) = self.next
            && now >= from
        {
            self.next = self.to_come.next();
            self.on = Some((now + lasts, event));
            journal.note("sky", format!("{event:?} for {lasts} ms"));
            begin(event, sim, machines);
        }
    }
}

fn begin(event: Event, sim: &mut turmoil::Sim<'_>, machines: &[Machine]) {
    match event {
        Event::Cut { proxy, node } => sim.partition(format!("p{proxy}"), format!("o{node}")),
        Event::Hold { proxy, node } => sim.hold(format!("p{proxy}"), format!("o{node}")),
        Event::CutOff { proxy } => sim.partition("c", format!("p{proxy}")),
        Event::Kill { proxy } => machines[proxy].die.notify_one(),
        Event::Stop { proxy } => machines[proxy].leave.notify_one(),
        Event::NodeDown { node } => sim.crash(format!("o{node}")),
    }
}

fn end(event: Event, sim: &mut turmoil::Sim<'_>) {
    match event {
        Event::Cut { proxy, node } => sim.repair(format!("p{proxy}"), format!("o{node}")),
        Event::Hold { proxy, node } => sim.release(format!("p{proxy}"), format!("o{node}")),
        Event::CutOff { proxy } => sim.repair("c", format!("p{proxy}")),
        Event::Kill { proxy } | Event::Stop { proxy } => sim.bounce(format!("p{proxy}")),
        Event::NodeDown { node } => sim.bounce(format!("o{node}")),
    }
}
