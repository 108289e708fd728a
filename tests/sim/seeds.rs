//! One seed, one world. A failing one is printed as the command that repeats it.
//!
//! By hand: `SIM_SEEDS` (`7` or `0..10000`), `SIM_LEVEL` (`Weak`, `Eventual`, `External`, `Exclusive`; by default the seed chooses),
//! `SIM_NODES` (a cluster: `Followed`, `Promoted`, `Mirrored`, `Standby`, `Homes`), `SIM_WEATHER` (`Calm`, `Stormy`, `Foggy`, `Quakes`, `Doomsday`), `SIM_JOURNAL=1` (write every world's journal to `target/`), `SIM_STOP_AFTER` (so many that failed; 10):
//! ```sh
//! SIM_SEEDS=0..10000 cargo test --test sim every_world -- --nocapture
//! ```

use super::cluster::Kind;
use super::judge::judge;
use super::origin::SERIAL;
use super::plan::{Level, Plan, Weather};
use super::stage::{Outcome, play};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    /// While a world runs on this thread: panics in it, wherever they were caught.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn named<T: Debug + Copy>(name: &str, all: &[T]) -> Option<T> {
    let text = var(name)?;
    let found = all.iter().find(|one| format!("{one:?}") == text);
    Some(*found.unwrap_or_else(|| panic!("{name}={text} is none of {all:?}")))
}

fn seeds(otherwise: Range<u64>) -> Range<u64> {
    let Some(text) = var("SIM_SEEDS") else { return otherwise };
    let (from, to) = text.split_once("..").unwrap_or((&text, ""));
    let from: u64 = from.parse().expect("SIM_SEEDS begins with a number");
    from..to.parse().unwrap_or(from + 1)
}

/// The worlds that are played when nobody says which.
#[derive(Copy, Clone)]
enum Worlds {
    OneStore,
    Clusters,
}

fn plan(worlds: Worlds, seed: u64) -> Plan {
    let level = named("SIM_LEVEL", &Level::ALL);
    let weather = named("SIM_WEATHER", &Weather::ALL);
    let kind = named("SIM_NODES", &Kind::ALL);
    if matches!(worlds, Worlds::Clusters) || kind.is_some() {
        return Plan::of_cluster(seed, kind, level, weather);
    }
    let drawn = Plan::of(seed);
    Plan::for_level(seed, level.unwrap_or(drawn.level), weather)
}

/// A world and what is wrong with it.
struct Judged {
    outcome: Option<Outcome>,
    found: Vec<String>,
}

fn run(plan: Plan) -> Judged {
    static READY: Once = Once::new();
    READY.call_once(|| {
        if let Some(rules) = var("TIDEGATE_TEST_RULES_OFF") {
            tidegate::core::rules::switch_off(&rules).expect("rules with switches");
        }
        let otherwise = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| match &mut *panics.borrow_mut() {
                Some(panics) => panics.push(info.to_string()),
                None => otherwise(info),
            });
        }));
    });
    PANICS.set(Some(Vec::new()));
    let outcome = catch_unwind(AssertUnwindSafe(|| play(plan)));
    let panics = PANICS.take().unwrap_or_default();
    let mut found: Vec<String> = panics.iter().map(|p| format!("a panic: {p}")).collect();
    let outcome = match outcome {
        Ok(Ok(outcome)) => Some(outcome),
        Ok(Err(error)) => {
            found.push(format!("the world did not come to its end: {error}"));
            None
        }
        Err(_) => None,
    };
    found.extend(outcome.iter().flat_map(judge));
    Judged { outcome, found }
}

/// The journal's file, and how to see this world again.
fn tell(seed: u64, plan: &Plan, judged: &Judged) -> String {
    let mut text = format!("seed {seed}: {plan}\n");
    for found in judged.found.iter().take(5) {
        let _ = writeln!(text, "  {found}");
    }
    if let Some(path) = keep(seed, judged) {
        let _ = writeln!(text, "  its journal: {}", path.display());
    }
    let mut vars = format!("SIM_SEEDS={seed}");
    if let Some(cluster) = &plan.cluster {
        let _ = write!(vars, " SIM_NODES={:?}", cluster.kind);
    }
    for name in ["SIM_LEVEL", "SIM_WEATHER", "TIDEGATE_TEST_RULES_OFF"] {
        if let Some(value) = var(name) {
            let _ = write!(vars, " {name}={value}");
        }
    }
    let _ = write!(
        text,
        "  repeat with: {vars} cargo test --test sim every_world -- --nocapture"
    );
    text
}

fn keep(seed: u64, judged: &Judged) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("target/sim-{seed}.log"));
    std::fs::write(&path, &judged.outcome.as_ref()?.journal).ok()?;
    Some(path)
}

#[test]
fn one_seed_twice_is_one_world_to_the_byte() {
    let worlds = [Worlds::OneStore, Worlds::Clusters];
    for (worlds, seed) in worlds
        .into_iter()
        .flat_map(|worlds| seeds(0..12).map(move |seed| (worlds, seed)))
    {
        let plan = || plan(worlds, seed);
        let [one, two] = [run(plan()), run(plan())].map(|judged| judged.outcome.expect("a world").journal);
        if one != two {
            let differs = one.lines().zip(two.lines()).position(|(a, b)| a != b).unwrap_or(0);
            let around = |text: &str| {
                text.lines()
                    .skip(differs.saturating_sub(12))
                    .take(20)
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            panic!("seed {seed}: {}\n{}\n\n{}", plan(), around(&one), around(&two));
        }
    }
}

#[test]
fn every_world_keeps_its_contract() {
    play_all(Worlds::OneStore);
}

#[test]
fn every_cluster_keeps_its_contract() {
    play_all(Worlds::Clusters);
}

fn play_all(of: Worlds) {
    let seeds = seeds(0..40);
    let stop_after = var("SIM_STOP_AFTER").map_or(10, |n| n.parse().expect("SIM_STOP_AFTER is a number"));
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    let sums: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().len() >= stop_after {
                        return;
                    }
                    let plan = plan(of, seed);
                    let judged = run(plan.clone());
                    if var("SIM_JOURNAL").is_some() {
                        keep(seed, &judged);
                    }
                    if let Some(outcome) = &judged.outcome {
                        add(&mut sums.lock().unwrap(), outcome);
                    }
                    if !judged.found.is_empty() {
                        failed.lock().unwrap().push((seed, tell(seed, &plan, &judged)));
                    }
                }
            });
        }
    });
    let took = began.elapsed();
    for (what, count) in &*sums.lock().unwrap() {
        println!("{what:<24} {count}");
    }
    let worlds = seeds.end - seeds.start;
    println!(
        "{worlds} worlds in {:.1} s, {:.0} ms each",
        took.as_secs_f64(),
        took.as_secs_f64() * 1000.0 / worlds as f64
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    if !failed.is_empty() {
        let texts: Vec<&str> = failed.iter().map(|(_, text)| text.as_str()).collect();
        panic!("{}\n{} failed", texts.join("\n\n"), failed.len());
    }
}

/// What the worlds were made of: a run in which nothing happened would prove nothing.
fn add(sums: &mut BTreeMap<String, u64>, outcome: &Outcome) {
    let mut add = |what: String, count: u64| *sums.entry(what).or_default() += count;
    let plan = &outcome.plan;
    add(format!("worlds {:?}", plan.level), 1);
    add(format!("worlds {:?}", plan.weather), 1);
    if let Some(cluster) = &plan.cluster {
        add(format!("worlds {:?}", cluster.kind), 1);
    }
    if let Some(ends) = &outcome.ends {
        add("changes of hands".into(), (ends.reigns.len() as u64).saturating_sub(1));
    }
    if plan.level == Level::Exclusive {
        add(format!("worlds {:?}", plan.through), 1);
    }
    add("lives".into(), outcome.lives);
    let mut shown = BTreeSet::new();
    for read in &outcome.told.reads {
        add(format!("reads {}", read.answer.status), 1);
        // The head before, with the tag of what was written.
        let answer = &read.answer;
        if plan.plain && answer.status == 200 && shown.insert((answer.get(SERIAL), answer.get("etag"))) {
            let others = shown.iter().filter(|(serial, _)| *serial == answer.get(SERIAL)).count();
            add("stored as written".into(), u64::from(others > 1));
        }
        if read.answer.get("cache-status").contains("; hit") {
            add(format!("hits {:?}", plan.level), 1);
        }
        let says = read.answer.get("tidegate-consistency");
        if !says.is_empty() {
            add(
                format!(
                    "told {}",
                    says.split("=")
                        .next()
                        .unwrap_or("")
                        .split_once(';')
                        .map_or("", |(a, _)| a)
                ),
                1,
            );
        }
    }
    for write in &outcome.told.writes {
        add(format!("writes {:?}", write.outcome), 1);
    }
    add("purges".into(), outcome.told.purges.len() as u64);
    add("unanswered".into(), outcome.told.unanswered.len() as u64);
    for (fault, count) in &outcome.origin.happened {
        add(format!("fault {fault}"), *count);
    }
}
