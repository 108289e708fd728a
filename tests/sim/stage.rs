//! Plays one plan to its end: hosts on turmoil's network, and what happens to them.

use super::chance::Chance;
use super::client::{Client, Told};
use super::journal::Journal;
use super::nodes::{Nodes, Reign};
use super::origin::{Origin, State};
use super::plan::{Plan, SETTLE_AFTER_MS};
use super::sky::Sky;
use super::world::{Closings, Hooks, Life, Platter};
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
    /// Of nodes that keep each their own.
    pub ends: Option<Ends>,
}

/// How a cluster ends.
pub struct Ends {
    /// What the proxy's machine remembers.
    pub view: String,
    /// By node.
    pub held: Vec<BTreeMap<String, String>>,
    pub reigns: Vec<Reign>,
    pub flaps: Vec<u64>,
}

/// A proxy's machine.
pub struct Machine {
    pub platter: Arc<Platter>,
    pub leave: Rc<Notify>,
    pub die: Rc<Notify>,
    pub dead: Rc<Cell<bool>>,
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
    let told = Rc::new(RefCell::new(Told::default()));
    let machines: Rc<Vec<Machine>> = Rc::new((0..plan.proxies).map(|_| Machine::new(&plan)).collect());
    let cluster = plan.cluster.as_ref();
    let cluster = cluster.map(|c| Nodes::new(&journal, &machines[0].platter, c, plan.seed, plan.nodes));
    let origin = Origin::new(&journal, &closings, &plan, cluster.clone());
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
        let origin = Rc::clone(&origin);
        sim.host(format!("o{at}"), move || Rc::clone(&origin).node(at));
    }
    if let Some(nodes) = cluster.clone() {
        sim.host("net", move || Arc::clone(&nodes).live());
    }
    let proxies: Vec<IpAddr> = (0..plan.proxies).map(|p| sim.lookup(format!("p{p}"))).collect();
    let config = plan.config(&nodes);
    for at in 0..plan.proxies {
        let (machines, plan, config) = (Rc::clone(&machines), Rc::clone(&plan), config.clone());
        let (journal, closings) = (Arc::clone(&journal), Arc::clone(&closings));
        let cluster = cluster.clone();
        sim.host(format!("p{at}"), move || {
            let machine = &machines[at];
            let life = machine.lives.get();
            machine.lives.set(life + 1);
            let seed = plan.seed ^ ((at as u64 + 1) << 40) ^ (life << 48);
            let hooks = Arc::new(Hooks(cluster.clone()));
            let life = Life::new(format!("p{at}"), seed, &journal, &closings, &machine.platter, hooks);
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
        if let Some(nodes) = &cluster {
            nodes.fill(&key, "first");
        }
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
    let mut sky = Sky::new(&plan);
    let over = loop {
        journal.freeze(false);
        let step = sim.step();
        journal.freeze(true);
        match step {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            Err(error) => break Err(error.to_string()),
        }
        sky.step(&mut sim, &machines, cluster.as_deref(), &journal);
        quiet.set(sky.is_over());
    };
    let text = journal.text();
    drop(sim);
    over?;
    let lives = machines.iter().map(|m| m.lives.get()).sum();
    let told = std::mem::take(&mut *told.borrow_mut());
    let origin = std::mem::take(&mut *origin.state.borrow_mut());
    let ends = cluster.map(|nodes| Ends {
        view: machines[0].platter.text("/state/views"),
        held: (0..plan.nodes).map(|n| nodes.held(n)).collect(),
        reigns: nodes.reigns(),
        flaps: nodes.flaps(),
    });
    Ok(Outcome {
        plan,
        ends,
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
