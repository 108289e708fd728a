//! Whole runs under a judge.
//!
//! By hand, with these variables:
//! `JUDGE_SEEDS` (`7` or `1..20`), `JUDGE_OPERATIONS` (per seed), `JUDGE_SECONDS` (go on with further seeds for so long),
//! `JUDGE_SETUP` (`One`, `Three`, `Crowded`, `Pair`, `Refresh`, `Store`; by default the seed chooses), `JUDGE_FAULTS` (names, commas; by default all),
//! `JUDGE_FAULT_PERCENT` (of the operations in fair weather; three times as many in foul),
//! `JUDGE_ENV` (`NAME=VALUE NAME=VALUE`, for the proxy), `JUDGE_KEEP=1` (save every history in `target/`),
//! `JUDGE_EXPECT=violation` (fail unless one is found):
//! ```sh
//! JUDGE_SEEDS=1..50 JUDGE_OPERATIONS=2000 cargo nextest run --test real --run-ignored all --no-capture -E 'test(by_hand)'
//! ```

use super::fault::Fault;
use super::run::{Plan, must_find, run};
use super::stage::Setup;
use std::ops::Range;
use std::time::{Duration, Instant};
use tidegate::verify::{history, zones};

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn number(name: &str) -> Option<u64> {
    var(name).map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn seeds() -> Option<Range<u64>> {
    let text = var("JUDGE_SEEDS")?;
    let (from, to) = text.split_once("..").unwrap_or((&text, ""));
    let from: u64 = from.parse().expect("JUDGE_SEEDS begins with a number");
    let to = to.trim_start_matches('=').parse().map_or(from + 1, |to: u64| to + 1);
    Some(from..to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_see_under_all_faults_is_one_register_per_key() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..6 {
        let report = run(&Plan::stormy(seed, 2_000)).await;
        println!("{}", report.line());
        report.must_hold();
        seen.extend(report.happened.into_keys());
    }
    let missing: Vec<Fault> = Fault::ALL.into_iter().filter(|f| !seen.contains(&f.name())).collect();
    assert!(missing.is_empty(), "these faults never had their effect: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_fifth_of_writes_a_third_of_strong_reads_come_from_memory() {
    let plan = Plan {
        setup: Some(Setup::Three),
        write_percent: 20,
        faults: Vec::new(),
        varied: false,
        ..Plan::stormy(1, 3_000)
    };
    let report = run(&plan).await;
    println!("{}", report.line());
    report.must_hold();
    assert!(report.hit_percent() >= 30, "{}", report.line());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: see the module's doc"]
async fn by_hand() {
    let operations = number("JUDGE_OPERATIONS").unwrap_or(2_000);
    let until = number("JUDGE_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let plan = Plan {
        setup: var("JUDGE_SETUP").map(|name| {
            let named = Setup::ALL.into_iter().find(|s| format!("{s:?}") == name);
            named.unwrap_or_else(|| panic!("no setup is named {name}: {:?}", Setup::ALL))
        }),
        faults: std::env::var("JUDGE_FAULTS").map_or(Fault::ALL.to_vec(), |names| Fault::named(&names)),
        fault_percent: number("JUDGE_FAULT_PERCENT").unwrap_or(12),
        env: var("JUDGE_ENV")
            .unwrap_or_default()
            .split_whitespace()
            .map(|pair| pair.split_once('=').expect("JUDGE_ENV is NAME=VALUE"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..Plan::stormy(0, operations)
    };
    let seeds = seeds().unwrap_or(0..5);
    if var("JUDGE_EXPECT").as_deref() == Some("violation") {
        let report = must_find(&plan, seeds).await;
        println!("{}\n{}", report.line(), report.verdict.clearest().unwrap());
        return;
    }
    let (mut all, mut hits, mut reads) = (0, 0, 0);
    let began = Instant::now();
    for seed in seeds.start.. {
        let over = until.map_or(seed >= seeds.end, |until| Instant::now() >= until);
        if over {
            break;
        }
        let report = run(&Plan { seed, ..plan.clone() }).await;
        println!("{}", report.line());
        if var("JUDGE_KEEP").is_some() {
            println!("{}", report.keep().display());
        }
        report.must_hold();
        all += report.history.len();
        hits += report.hits();
        reads += report.proofs.values().sum::<u64>();
    }
    println!(
        "{all} operations in {:.0} s, {} % of {reads} reads were hits, no violation",
        began.elapsed().as_secs_f64(),
        hits * 100 / reads.max(1)
    );
}

#[test]
#[ignore = "by hand: JUDGE_HISTORY names a saved history"]
fn a_saved_history() {
    let path = var("JUDGE_HISTORY").expect("JUDGE_HISTORY names a file");
    let text = std::fs::read_to_string(&path).unwrap();
    let operations = history::from_text(&text).unwrap();
    let verdict = zones::judge(&operations).unwrap();
    for violation in &verdict.violations {
        println!("{violation}\n");
    }
    assert!(verdict.holds(), "{} violations", verdict.violations.len());
}
