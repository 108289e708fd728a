//! The moments that runs of kills seldom hit, one by one.

use super::clients::{KEYS, Load};
use super::cluster::{Cluster, Kind};
use super::kills::{judge, primary};
use super::support::client::Client;
use super::support::eventually;
use std::collections::BTreeMap;

async fn put(cluster: &Cluster, key: &str, value: &str) -> (u16, String) {
    let answer = Client::connect(cluster.proxy_at).await.put(key, value).await;
    (answer.status, answer.problem())
}

async fn until_primary(cluster: &Cluster, node: Option<usize>) {
    eventually(format!("the primary to be {node:?}"), || async {
        cluster.primary().await == node
    })
    .await;
}

/// Two nodes that follow a leader they elect among themselves.
fn followed() -> Cluster {
    let mut cluster = Cluster::nodes(Kind::Primary { lag_ms: 0 }, 2, ["", "", ""]);
    cluster.failover("promotion = \"follow\"\nhold = \"1s\"\n");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r51_two_claims_of_one_term_stop_writes_and_strong_reads_until_a_later_term() {
    let mut cluster = followed();
    cluster.start_proxy();
    until_primary(&cluster, Some(0)).await;
    assert_eq!(put(&cluster, "/k/0", "before").await.0, 204);
    assert_eq!(cluster.nodes[1].tell("/claim", "true 1").await, 204);
    until_primary(&cluster, None).await;
    let mut client = Client::connect(cluster.proxy_at).await;
    let refused = client.put("/k/0", "between").await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (503, "not-applied"),
        "{refused:?}"
    );
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let read = client.get("/k/0").await;
    assert_eq!((read.status, read.problem().as_str()), (503, "no-primary"), "{read:?}");
    // A claim of a later term ends it.
    assert_eq!(cluster.nodes[1].tell("/claim", "false 1").await, 204);
    assert_eq!(cluster.nodes[0].tell("/claim", "true 2").await, 204);
    until_primary(&cluster, Some(0)).await;
    let read = client.get("/k/0").await;
    assert_eq!((read.status, read.text()), (200, "before"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r30_who_claims_the_highest_term_is_followed_and_a_stale_claim_is_not() {
    let mut cluster = followed();
    cluster.start_proxy();
    until_primary(&cluster, Some(0)).await;
    assert_eq!(put(&cluster, "/k/0", "first").await.0, 204);
    // The other was elected, and the old one has not noticed.
    assert_eq!(cluster.nodes[1].tell("/claim", "true 2").await, 204);
    until_primary(&cluster, Some(1)).await;
    assert_eq!(put(&cluster, "/k/0", "second").await.0, 204);
    let status = cluster.status().await;
    assert_eq!(status["nodes"][0]["in_sync"], false, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r36_a_deposed_primary_with_the_larger_position_stays_out() {
    let mut cluster = Cluster::nodes(Kind::Primary { lag_ms: 0 }, 2, ["", "", ""]);
    let hooks = cluster.hooks();
    cluster.failover(&format!("promotion = \"automatic\"\n{hooks}"));
    cluster.start_proxy();
    until_primary(&cluster, Some(0)).await;
    assert_eq!(put(&cluster, "/k/0", "kept").await.0, 204);
    eventually("what clients were shown to be known", || async {
        cluster.status().await["observed"] == 1
    })
    .await;
    cluster.nodes[0].kill();
    until_primary(&cluster, Some(1)).await;
    // It returns with writes that nobody else has, as one does that was cut off; and then the new primary dies.
    cluster.start_node(0);
    for n in 0..5 {
        cluster.nodes[0].write_behind("/k/0", &format!("forked{n}")).await;
    }
    eventually("the old primary to be probed", || async {
        cluster.status().await["nodes"][0]["state"] == "quarantined"
    })
    .await;
    cluster.nodes[1].kill();
    until_primary(&cluster, None).await;
    let answer = Client::connect(cluster.proxy_at).await.get("/k/0").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "no-primary"),
        "{answer:?}"
    );
    assert_eq!(cluster.primary().await, None, "a forked history was promoted");
    cluster.start_node(1);
    until_primary(&cluster, Some(1)).await;
    let answer = Client::connect(cluster.proxy_at).await.get("/k/0").await;
    assert_eq!((answer.status, answer.text()), (200, "kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r32_a_replica_that_lacks_what_clients_saw_is_not_promoted() {
    // Follows a minute behind: for this test never.
    let mut cluster = Cluster::nodes(Kind::Primary { lag_ms: 60_000 }, 2, ["", "", ""]);
    let hooks = cluster.hooks();
    cluster.failover(&format!("promotion = \"automatic\"\nhold = \"1s\"\n{hooks}"));
    cluster.start_proxy();
    until_primary(&cluster, Some(0)).await;
    assert_eq!(put(&cluster, "/k/0", "acked").await.0, 204);
    eventually("what clients were shown to be known", || async {
        cluster.status().await["observed"] == 1
    })
    .await;
    cluster.nodes[0].kill();
    until_primary(&cluster, None).await;
    let mut client = Client::connect(cluster.proxy_at).await;
    let answer = client.get("/k/0").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(cluster.primary().await, None);
    // Who has it returns, and is the primary again.
    cluster.start_node(0);
    until_primary(&cluster, Some(0)).await;
    let answer = client.get("/k/0").await;
    assert_eq!((answer.status, answer.text()), (200, "acked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_killed_proxy_remembers_who_is_the_primary() {
    let mut cluster = primary();
    cluster.start_proxy();
    until_primary(&cluster, Some(0)).await;
    let load = Load::start(cluster.proxy_at, 4, 2).await;
    eventually("what clients were shown to be known", || async {
        cluster.status().await["observed"].is_u64()
    })
    .await;
    cluster.nodes[0].kill();
    until_primary(&cluster, Some(1)).await;
    let before = cluster.status().await;
    for _ in 0..2 {
        let from = load.operations();
        eventually("some operations", || async { load.operations() > from + 40 }).await;
        cluster.kill_proxy();
        cluster.start_proxy();
        load.moved(cluster.proxy_at);
        let now = load.now();
        load.until_reads(now, 10).await;
        let after = cluster.status().await;
        assert_eq!(after["primary"], before["primary"], "{after}");
        assert_eq!(after["epoch"], before["epoch"], "nothing changed hands: {after}");
    }
    let history = load.end().await;
    let mut last = BTreeMap::new();
    for key in 0..KEYS {
        let key = format!("/k/{key}");
        let answer = Client::connect(cluster.proxy_at).await.get(&key).await;
        last.insert(key, (answer.status == 200).then(|| answer.text().to_owned()));
    }
    judge(&history, &last, "two restarts of the proxy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r35_a_killed_proxy_forgets_no_mirrored_write() {
    let mut cluster = Cluster::nodes(Kind::Mirrored, 2, ["", "", ""]);
    cluster.start_proxy();
    let load = Load::start(cluster.proxy_at, 4, 3).await;
    for _ in 0..3 {
        let from = load.operations();
        eventually("some operations", || async { load.operations() > from + 60 }).await;
        cluster.kill_proxy();
        cluster.start_proxy();
        load.moved(cluster.proxy_at);
        let now = load.now();
        load.until_reads(now, 10).await;
    }
    let history = load.end().await;
    let mut last = BTreeMap::new();
    for key in 0..KEYS {
        let key = format!("/k/{key}");
        let mut value = None;
        eventually("an answer after all that is unsettled", || async {
            Client::connect(cluster.proxy_at).await.get(&key).await.status < 500
        })
        .await;
        let answer = Client::connect(cluster.proxy_at).await.get(&key).await;
        if answer.status == 200 {
            value = Some(answer.text().to_owned());
        }
        last.insert(key, value);
    }
    judge(&history, &last, "three restarts of the proxy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers_are_counted_and_timed() {
    let mut cluster = Cluster::nodes(Kind::Shared, 2, ["", "", ""]);
    cluster.start_proxy();
    until_primary(&cluster, Some(0)).await;
    cluster.nodes[0].kill();
    until_primary(&cluster, Some(1)).await;
    let metrics = cluster.metrics().await;
    let value = |name: &str| super::support::proxy::metric_in(&metrics, name, &[("upstream", "o")]);
    assert_eq!(value("tidegate_failovers_total") as u64, 1, "{metrics}");
    assert_eq!(value("tidegate_failover_seconds_count") as u64, 1, "{metrics}");
    assert!(value("tidegate_failover_seconds_sum") > 0.0, "{metrics}");
}
