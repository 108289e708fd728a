//! The active is killed under load, again and again.
//!
//! By hand, with `KILLS=20`:
//! ```sh
//! KILLS=20 cargo nextest run --release --test failover --run-ignored all --no-capture -E 'test(by_hand)'
//! ```

use super::clients::{KEYS, Load};
use super::cluster::{Cluster, INTERVAL_MS, Kind, TIMEOUT_MS, UNHEALTHY};
use super::support::client::get;
use super::support::eventually;
use std::collections::BTreeMap;
use tidegate::verify::history::{self, Operation};
use tidegate::verify::zones;

/// What reads may stand still for: INTERFACE.md's timers and 300 ms.
fn allowed_ms() -> u64 {
    INTERVAL_MS * UNHEALTHY + TIMEOUT_MS + 300
}

/// How long each kill silenced the readers, and what everybody saw.
pub struct Outcome {
    silences: Vec<u64>,
    history: Vec<Operation>,
    kind: Kind,
}

impl Outcome {
    fn line(&self) -> String {
        let mut sorted = self.silences.clone();
        sorted.sort_unstable();
        let at = |part: usize| {
            sorted
                .get((sorted.len().saturating_sub(1)) * part / 100)
                .copied()
                .unwrap_or(0)
        };
        format!(
            "{:?}: {} kills, {} operations; reads stood still for {} ms in the median, {} ms at most (timers allow {} ms): {sorted:?}",
            self.kind,
            sorted.len(),
            self.history.len(),
            at(50),
            at(100),
            allowed_ms()
        )
    }
}

/// Fails the test when the history cannot be explained by one register per key.
pub fn judge(history: &[Operation], last: &BTreeMap<String, Option<String>>, what: &str) {
    let mut history = history.to_vec();
    history.extend(last.keys().map(|key| at_first(key, "(nothing)")));
    history.sort_by_key(|o| o.start_ns);
    let history = &history;
    let mut verdict = zones::judge(history).expect("a history that can be judged");
    verdict.violations.extend(zones::lost_writes(history, last));
    if let Some(clearest) = verdict.clearest() {
        let name = format!("target/failover-{}.jsonl", std::process::id());
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::write(&path, history::to_text(history)).unwrap();
        panic!("{what}\n{clearest}\nthe history is in {}", path.display());
    }
}

/// A write before everybody's clock.
pub fn at_first(key: &str, value: &str) -> Operation {
    Operation {
        key: key.to_owned(),
        client: u32::MAX,
        kind: history::Kind::Write,
        value: value.to_owned(),
        start_ns: 0,
        end_ns: u64::from(value != "(nothing)"),
        outcome: history::Outcome::Ok,
        how: "before".to_owned(),
    }
}

fn in_service(node: &serde_json::Value) -> bool {
    let up = matches!(node["state"].as_str(), Some("active" | "standby"));
    up && node["in_sync"].as_bool() == Some(true)
}

/// Kills the primary `kills` times, each time it has been replaced and the old one is back in reserve.
pub async fn play(mut cluster: Cluster, kills: usize) -> Outcome {
    cluster.start_proxy();
    for key in 0..KEYS {
        let mut client = super::support::client::Client::connect(cluster.proxy_at).await;
        let answer = client.put(&format!("/k/{key}"), &format!("first{key}")).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
    }
    let load = Load::start(cluster.proxy_at, 4, 2).await;
    let mut silences = Vec::new();
    for _ in 0..kills {
        let ready = || async {
            let status = cluster.status().await;
            let nodes = status["nodes"].as_array().unwrap();
            // R32: before the first probe of a reign nobody knows what clients were shown.
            let known = status["observed"].is_u64() || !matches!(cluster.kind, Kind::Primary { .. });
            status["primary"].is_string() && known && nodes.iter().all(in_service)
        };
        eventually("every node in service and in sync", ready).await;
        let before = load.now();
        load.until_reads(before, 20).await;
        let victim = cluster.primary().await.expect("a primary");
        let at = load.now();
        cluster.nodes[victim].kill();
        let replaced = || async { cluster.primary().await.is_some_and(|primary| primary != victim) };
        eventually("another primary", replaced).await;
        let replaced = load.now();
        load.until_reads(replaced, 20).await;
        silences.push(load.longest_silence_ms(at));
        cluster.start_node(victim);
    }
    let mut history = load.end().await;
    let mut last = BTreeMap::new();
    for key in 0..KEYS {
        let key = format!("/k/{key}");
        // What is unsettled is answered in time.
        let answer = get(cluster.proxy_at, &key).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        last.insert(key, Some(answer.text().to_owned()));
    }
    // The first values were written before anybody's clock.
    history.extend((0..KEYS).map(|key| at_first(&format!("/k/{key}"), &format!("first{key}"))));
    let outcome = Outcome {
        silences,
        history,
        kind: cluster.kind,
    };
    println!("{}", outcome.line());
    judge(&outcome.history, &last, &outcome.line());
    outcome
}

fn shared() -> Cluster {
    Cluster::nodes(Kind::Shared, 2, ["", "", ""])
}

fn mirrored() -> Cluster {
    Cluster::nodes(Kind::Mirrored, 2, ["", "", ""])
}

/// Acks what the other has.
pub fn primary() -> Cluster {
    let mut cluster = Cluster::nodes(Kind::Primary { lag_ms: 0 }, 2, ["", "", ""]);
    let hooks = cluster.hooks();
    cluster.failover(&format!("promotion = \"automatic\"\n{hooks}"));
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_active_over_one_store_loses_no_acked_write() {
    assert_eq!(play(shared(), 3).await.silences.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_active_of_a_mirrored_pair_loses_no_acked_write() {
    assert_eq!(play(mirrored(), 3).await.silences.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_whose_replica_has_its_position_loses_no_acked_write() {
    assert_eq!(play(primary(), 3).await.silences.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: see the module's doc"]
async fn by_hand() {
    let kills = std::env::var("KILLS").map_or(20, |k| k.parse().expect("KILLS is a number"));
    for cluster in [shared(), mirrored(), primary()] {
        play(cluster, kills).await;
    }
}
