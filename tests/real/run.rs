//! One run: a setup, a seed, clients that play their scripts, the verdict over what they saw; and how a failing one is told.

use super::actor::{Actor, Habits};
use super::fault::Fault;
use super::stage::{Setup, Stage};
use super::store::Store;
use super::support::client::get;
use super::support::eventually;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::verify::history::{self, Kind, Operation, Outcome};
use tidegate::verify::zones::{self, Verdict};

/// What a hit in exclusive gear says of itself.
pub const EXCLUSIVE: &str = "strong;proof=exclusive";

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// None: by the seed.
    pub setup: Option<Setup>,
    pub clients: u32,
    /// In all.
    pub operations: u64,
    pub keys: u64,
    pub write_percent: u64,
    pub fault_percent: u64,
    pub faults: Vec<Fault>,
    /// See [`Habits::varied`].
    pub varied: bool,
    /// For the proxy.
    pub env: Vec<(String, String)>,
}

impl Plan {
    /// Everything goes wrong.
    pub fn stormy(seed: u64, operations: u64) -> Self {
        Self {
            seed,
            setup: None,
            clients: 12,
            operations,
            keys: 5,
            write_percent: 25,
            fault_percent: 12,
            faults: Fault::ALL.to_vec(),
            varied: true,
            env: Vec::new(),
        }
    }

    fn setup(&self) -> Setup {
        self.setup.unwrap_or(Setup::ALL[self.seed as usize % Setup::ALL.len()])
    }

    /// The command that repeats this run's script.
    fn command(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(|f| f.name()).collect();
        let env: Vec<String> = self.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!(
            "JUDGE_SEEDS={} JUDGE_SETUP={:?} JUDGE_OPERATIONS={} JUDGE_FAULTS='{}' JUDGE_FAULT_PERCENT={} JUDGE_ENV='{}' \
            cargo nextest run --test real --run-ignored all --no-capture -E 'test(by_hand)'",
            self.seed,
            self.setup(),
            self.operations,
            faults.join(","),
            self.fault_percent,
            env.join(" ")
        )
    }
}

/// What came of it.
pub struct Report {
    plan: Plan,
    pub history: Vec<Operation>,
    pub verdict: Verdict,
    /// Reads by their proof.
    pub proofs: BTreeMap<String, u64>,
    /// Faults that had their effect.
    pub happened: BTreeMap<String, u64>,
    pub took: Duration,
}

impl Report {
    /// Reads proven by the gate, of all that carried a proof; in percent.
    pub fn hit_percent(&self) -> u64 {
        let all: u64 = self.proofs.values().sum();
        self.hits() * 100 / all.max(1)
    }

    pub fn hits(&self) -> u64 {
        self.proofs.get(EXCLUSIVE).copied().unwrap_or(0)
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let outcomes = |outcome| {
            let writes = self.history.iter().filter(|o| o.kind == Kind::Write);
            writes.filter(|o| o.outcome == outcome).count()
        };
        let mut line = format!(
            "seed {} {:?}: {} operations in {:.1} s, {} % of {} reads were hits, writes {} acked {} unknown {} not applied, {} violations;",
            self.plan.seed,
            self.plan.setup(),
            self.history.len(),
            self.took.as_secs_f64(),
            self.hit_percent(),
            self.proofs.values().sum::<u64>(),
            outcomes(Outcome::Ok),
            outcomes(Outcome::Ambiguous),
            outcomes(Outcome::Failed),
            self.verdict.violations.len()
        );
        for (fault, count) in &self.happened {
            let _ = write!(line, " {fault}={count}");
        }
        line
    }

    /// Saves the history; answers where.
    pub fn keep(&self) -> std::path::PathBuf {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let path = dir.join(format!("judged-{:?}-{}.jsonl", self.plan.setup(), self.plan.seed));
        std::fs::write(&path, history::to_text(&self.history)).expect("target/ can be written");
        path
    }

    /// Fails the test when the history cannot be explained; keeps it, and says how to run it again.
    pub fn must_hold(&self) {
        let Some(clearest) = self.verdict.clearest() else {
            return;
        };
        let path = self.keep();
        panic!(
            "{}\n{clearest}\n\nthe history is in {}\nrepeat with: {}\njudge the history again: \
            JUDGE_HISTORY={} cargo nextest run --test real --run-ignored all --no-capture -E 'test(saved)'",
            self.line(),
            path.display(),
            self.plan.command(),
            path.display()
        );
    }
}

/// Runs one plan to its end.
pub async fn run(plan: &Plan) -> Report {
    let store = Store::default();
    let whole = plan.setup() == Setup::Store;
    if whole {
        store.keeps_what_is_written();
    }
    let mut stage = Stage::start(plan.setup(), &store, plan.env.clone()).await;
    let steps = plan.operations / u64::from(plan.clients);
    stage.plan(plan.seed, &plan.faults, plan.clients, steps);
    let mut all = Vec::new();
    for key in 0..plan.keys {
        let key = format!("/k/{key}");
        store.set(&key, "first");
        all.push(by_hand(&stage, &key, Kind::Write, "first"));
    }
    if plan.setup().is_exclusive() {
        // The first start knows nothing of the past, and would spend a short run in the other gear.
        store.set("/k/warm", "warm");
        let warm = || async { get(stage.address_of(0), "/k/warm").await.consistency() == EXCLUSIVE };
        eventually("a hit in exclusive gear", warm).await;
    }
    let stage = Arc::new(stage);
    let habits = Habits {
        keys: plan.keys,
        operations: steps,
        write_percent: plan.write_percent,
        fault_percent: plan.fault_percent,
        faults: plan.faults.clone(),
        varied: plan.varied,
        whole,
    };
    let began = Instant::now();
    let actors: Vec<_> = (0..plan.clients)
        .map(|id| tokio::spawn(Actor::new(id, plan.seed, Arc::clone(&stage), habits.clone()).play()))
        .collect();
    let mut proofs = BTreeMap::new();
    let mut happened = store.happened();
    for actor in actors {
        let told = actor.await.expect("a client that plays to its end");
        all.extend(told.history);
        add(&mut proofs, told.proofs);
        add(&mut happened, told.happened);
    }
    let took = began.elapsed();
    add(&mut happened, store.happened());
    add(&mut happened, stage.happened());
    // What the store ends with is one more read: an acknowledged write that is gone makes it stale.
    let mut last = BTreeMap::new();
    for key in 0..plan.keys {
        let key = format!("/k/{key}");
        let value = store.value(&key);
        all.push(by_hand(
            &stage,
            &key,
            Kind::Read,
            value.as_deref().unwrap_or("(nothing)"),
        ));
        last.insert(key, value);
    }
    all.sort_by_key(|o| o.start_ns);
    let mut verdict = zones::judge(&all).expect("a history that can be judged");
    verdict.violations.extend(zones::lost_writes(&all, &last));
    Report {
        plan: plan.clone(),
        history: all,
        verdict,
        proofs,
        happened,
        took,
    }
}

fn by_hand(stage: &Stage, key: &str, kind: Kind, value: &str) -> Operation {
    let now = stage.now();
    Operation {
        key: key.to_owned(),
        client: u32::MAX,
        kind,
        value: value.to_owned(),
        start_ns: now,
        end_ns: now,
        outcome: Outcome::Ok,
        how: "at the store".to_owned(),
    }
}

fn add(to: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        *to.entry(name).or_default() += count;
    }
}

/// Runs the plan under one seed after the other until a violation is found; fails the test when none is. For a proxy that was told
/// to break a rule.
pub async fn must_find(plan: &Plan, seeds: std::ops::Range<u64>) -> Report {
    let mut lines = String::new();
    for seed in seeds.clone() {
        let report = run(&Plan { seed, ..plan.clone() }).await;
        if !report.verdict.holds() {
            return report;
        }
        lines += &format!("{}\n", report.line());
    }
    panic!("no violation under seeds {seeds:?} of {plan:?}\n{lines}");
}
