//! A pair of proxies over one `state_dir`: the active is killed under mirrored writes, and the passive takes over from what is on the disk.

use super::clients::{KEYS, Load};
use super::cluster::{Cluster, Kind};
use super::kills::{at_first, judge};
use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::Binary;
use std::collections::BTreeMap;
use std::time::Instant;

/// How often the active is killed in an ordinary run.
const KILLS: usize = 3;

fn config(cluster: &Cluster) -> String {
    cluster.config().replace("[server]\n", "[server]\npair = true\n")
}

async fn ready(admin: std::net::SocketAddr) -> (u16, String) {
    let Ok(mut client) = Client::try_connect(admin).await else {
        return (0, String::new());
    };
    let answer = client.get_with("/ready", &[("Host", "localhost")]).await;
    let text = answer.text().to_owned();
    (answer.status, text)
}

/// A passive process, which waits already.
async fn passive(cluster: &Cluster) -> Binary {
    let kept = super::support::origin::bound(([127, 0, 0, 1], 0).into());
    let admin = kept.local_addr().unwrap();
    let config = format!("{}\n[admin]\naddress = \"{admin}\"\n", config(cluster));
    let binary = Binary::run(&config, &[]);
    eventually("the passive to wait", || async {
        let (status, why) = ready(admin).await;
        status == 503 && why.contains("passive")
    })
    .await;
    binary
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r35_the_passive_of_a_pair_takes_over_from_a_killed_active_and_no_acked_write_is_lost() {
    let kills = std::env::var("KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(KILLS);
    let cluster = Cluster::nodes(Kind::Mirrored, 2, ["", "", ""]);
    let mut active = Binary::run(&config(&cluster), &[]);
    let (mut at, _) = active.ready();
    for key in 0..KEYS {
        let answer = Client::connect(at)
            .await
            .put(&format!("/k/{key}"), &format!("first{key}"))
            .await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
    }
    let load = Load::start(at, 3, 3).await;
    let (mut took, mut silences) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        let mut next = passive(&cluster).await;
        let before = load.now();
        load.until_reads(before, 20).await;
        let (killed, began) = (load.now(), Instant::now());
        drop(active); // SIGKILL
        (at, _) = next.ready();
        took.push(began.elapsed().as_millis());
        load.moved(at);
        let moved = load.now();
        load.until_reads(moved, 20).await;
        silences.push(load.longest_silence_ms(killed));
        active = next;
    }
    let mut history = load.end().await;
    let mut last = BTreeMap::new();
    for key in 0..KEYS {
        let key = format!("/k/{key}");
        let answer = Client::connect(at).await.get(&key).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        last.insert(key, Some(answer.text().to_owned()));
    }
    history.extend((0..KEYS).map(|key| at_first(&format!("/k/{key}"), &format!("first{key}"))));
    let line = format!(
        "pair: {kills} kills of the active, {} operations; the passive was ready after {took:?} ms, reads stood still for {silences:?} ms",
        history.len()
    );
    println!("{line}");
    judge(&history, &last, &line);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_passive_knows_of_the_nodes_is_what_the_active_knew_at_its_end() {
    let mut cluster = Cluster::nodes(Kind::Mirrored, 2, ["", "", ""]);
    let mut active = Binary::run(&config(&cluster), &[]);
    (cluster.proxy_at, cluster.admin) = active.ready();
    let mut next = passive(&cluster).await;
    // After the passive has begun to wait, a node leaves the set, and a write is acknowledged without it.
    cluster.nodes[1].kill();
    eventually("a write without the dead node", || async {
        Client::connect(cluster.proxy_at)
            .await
            .put("/k/0", "alone")
            .await
            .status
            == 204
    })
    .await;
    assert_eq!(cluster.status().await["nodes"][1]["in_sync"], false);
    let reign = cluster.status().await["epoch"].as_u64();
    drop(active); // SIGKILL
    (cluster.proxy_at, cluster.admin) = next.ready();
    let status = cluster.status().await;
    assert_eq!(status["nodes"][1]["in_sync"], false, "{status}");
    assert_eq!(status["epoch"].as_u64(), reign, "{status}");
    assert_eq!(
        Client::connect(cluster.proxy_at).await.get("/k/0").await.text(),
        "alone"
    );
}
