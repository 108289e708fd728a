//! Probes, and what they do to traffic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::{CHECK, Door, Rig, ended, settle, text};
use crate::upstream::{BodyError, CallErrorKind, Step};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn the_first_round_decides_and_is_waited_for() {
    let rig = Rig::new(3, 1, CHECK);
    rig.nodes[1].health(500);
    rig.nodes[2].health(0);
    let start = rig.now();
    assert_eq!(rig.states(), ["unprobed"; 3]);
    let error = rig.pool().call(rig.read("/")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NoNode, "no traffic before the first probe");
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    assert_eq!(rig.states(), ["active", "unhealthy", "unhealthy"]);
    assert_eq!(
        rig.now().since(start).as_millis(),
        500,
        "the hanging probe's timeout, no more"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_health_check_nodes_are_healthy_and_stay_so() {
    let rig = Rig::new(2, 1, "");
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    assert_eq!(rig.states(), ["active", "active"]);
    for node in &rig.nodes {
        node.door(Door::Refuses);
    }
    for _ in 0..20 {
        let error = rig.pool().call(rig.read("/")).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::ConnectFailed(Step::Connection));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.states(), ["active", "active"]);
    assert_eq!(rig.nodes[0].probes() + rig.nodes[1].probes(), 0);
}

#[tokio::test(start_paused = true)]
async fn consecutive_failures_take_a_node_out_and_consecutive_successes_bring_it_back() {
    let rig = Rig::new(1, 1, CHECK);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    // Probes are 0.9 to 1.1 s apart.
    rig.nodes[0].health(503);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(rig.states(), ["active"], "two failures are not three");
    rig.nodes[0].health(200);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    rig.nodes[0].health(503);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(rig.states(), ["active"], "a success in between starts the count afresh");
    tokio::time::sleep(Duration::from_millis(2_400)).await;
    assert_eq!(rig.states(), ["unhealthy"]);
    rig.nodes[0].health(200);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(rig.states(), ["active"]);
    let told = rig.told();
    assert_eq!(told, ["0 unprobed", "0 active", "0 unhealthy", "0 active"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_reached_loses_all_its_connections_on_every_core_at_once() {
    let mut rig = Rig::new(1, 2, CHECK);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    // An idle connection and one that waits for its head on core 0, a body in flight on core 1.
    let call = rig.start(rig.read("/"));
    let mut idle = rig.nodes[0].accept().await;
    let mut waiting = rig.start(rig.read("/waiting"));
    let mut silent = rig.nodes[0].accept().await;
    idle.head().await;
    idle.ok("").await;
    drop(call.await.unwrap().unwrap());
    let call = rig.start_on(1, rig.read("/body"));
    let mut streaming = rig.nodes[0].accept().await;
    streaming.head().await;
    streaming
        .write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        .await;
    let body = call.await.unwrap().unwrap().body;
    let mut reading = tokio::spawn(text(body));
    assert!(ended(&mut reading).await.is_none());
    assert!(ended(&mut waiting).await.is_none());

    rig.nodes[0].door(Door::Refuses);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(rig.states(), ["unhealthy"]);
    let error = ended(&mut waiting).await.expect("ended at once").unwrap().unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Reset);
    let read = ended(&mut reading).await.expect("ended at once").unwrap();
    assert_eq!(read, Err(BodyError::NodeDown));
    silent.head().await;
    silent.closed().await;
    streaming.closed().await;
    idle.closed().await;
    assert_eq!(rig.counts(0), (0, 0, 0, 0));
    assert_eq!(rig.upstreams.cores[1].counts(0, 0), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_down_by_status_keeps_what_is_in_flight_and_loses_the_rest() {
    let mut rig = Rig::new(1, 1, CHECK);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let call = rig.start(rig.read("/"));
    let mut idle = rig.nodes[0].accept().await;
    let in_flight = rig.start(rig.read("/"));
    let mut busy = rig.nodes[0].accept().await;
    idle.head().await;
    idle.ok("").await;
    drop(call.await.unwrap().unwrap());
    rig.nodes[0].health(503);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(rig.states(), ["unhealthy"]);
    idle.closed().await;
    assert_eq!(rig.counts(0), (1, 1, 0, 0));
    busy.head().await;
    busy.ok("in the end").await;
    assert_eq!(
        text(in_flight.await.unwrap().unwrap().body).await.unwrap(),
        "in the end"
    );
    assert_eq!(rig.counts(0), (0, 0, 0, 0), "and it is not kept for later");
    let error = rig.pool().call(rig.read("/")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NoNode);
}

#[tokio::test(start_paused = true)]
async fn the_standby_gets_no_traffic_until_the_active_node_fails_and_keeps_it_after() {
    let keys = format!("mode = \"active-passive\"\nretry = {{ attempts = 2 }}\n{CHECK}");
    let mut rig = Rig::new(2, 1, &keys);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    assert_eq!(rig.states(), ["active", "standby"]);
    let epoch = rig.upstreams.snapshot()[0].epoch;
    for _ in 0..10 {
        let call = rig.start(rig.read("/"));
        let mut peer = rig.nodes[0].accept().await;
        peer.head().await;
        peer.write("HTTP/1.1 204 x\r\nconnection: close\r\n\r\n").await;
        assert_eq!(call.await.unwrap().unwrap().node, 0);
    }
    rig.nodes[0].door(Door::Refuses);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(rig.states(), ["unhealthy", "active"]);
    let snapshot = &rig.upstreams.snapshot()[0];
    assert_eq!((snapshot.epoch, snapshot.primary.as_deref()), (epoch + 1, Some("n1")));
    assert!(rig.told().iter().any(|t| t.starts_with("failover ")));
    rig.nodes[0].door(Door::Open);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.states(), ["standby", "active"], "failback is manual");
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[1].accept().await;
    peer.head().await;
    peer.ok("").await;
    assert_eq!(call.await.unwrap().unwrap().node, 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_node_that_fails_moves_on_with_the_traffic() {
    let keys = format!("mode = \"active-passive\"\nmax_connections = 1\nretry = {{ attempts = 1 }}\n{CHECK}");
    let mut rig = Rig::new(2, 1, &keys);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let stuck = rig.start(rig.read("/stuck"));
    let _silent = rig.nodes[0].accept().await;
    let waiting = rig.start(rig.read("/waiting"));
    settle().await;
    assert_eq!(rig.counts(0).3, 1);
    rig.nodes[0].door(Door::Refuses);
    let mut peer = rig.nodes[1].accept().await;
    assert!(peer.head().await.starts_with("get /waiting "));
    peer.ok("").await;
    assert_eq!(waiting.await.unwrap().unwrap().node, 1);
    assert_eq!(stuck.await.unwrap().unwrap_err().kind, CallErrorKind::Reset);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_no_node_is_left() {
    let keys = format!("max_connections = 1\nretry = {{ attempts = 1 }}\n{CHECK}");
    let mut rig = Rig::new(1, 1, &keys);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let stuck = rig.start(rig.read("/stuck"));
    let _silent = rig.nodes[0].accept().await;
    let waiting = rig.start(rig.read("/waiting"));
    settle().await;
    rig.nodes[0].health(503);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind, CallErrorKind::NoNode);
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn r39_a_refused_connect_brings_the_probe_forward() {
    let keys = CHECK.replace("interval = \"1s\"", "interval = \"100s\"");
    let rig = Rig::new(1, 1, &keys);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    rig.nodes[0].door(Door::Refuses);
    let connects = rig.nodes[0].connects();
    rig.pool().call(rig.read("/")).await.unwrap_err();
    settle().await;
    assert_eq!(
        rig.nodes[0].connects(),
        connects + 2,
        "the call's, and a probe's at once"
    );
    assert_eq!(rig.states(), ["active"], "one bad link is not a failure");
    rig.pool().call(rig.read("/")).await.unwrap_err();
    settle().await;
    assert_eq!(rig.nodes[0].connects(), connects + 3, "early probes are spaced");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(
        rig.nodes[0].connects(),
        connects + 4,
        "the refusal meanwhile is remembered"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tcp_probe_asks_for_a_connection_and_no_more() {
    let keys = CHECK.replace("path = \"/healthz\"", "tcp = true");
    let rig = Rig::new(2, 1, &keys);
    rig.nodes[0].health(500);
    rig.nodes[1].door(Door::Hangs);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    assert_eq!(rig.states(), ["active", "unhealthy"]);
    assert_eq!(rig.nodes[0].probes(), 0);
}

#[tokio::test(start_paused = true)]
async fn probes_end_with_their_token() {
    let rig = Rig::new(1, 1, CHECK);
    let stop = rig.run();
    rig.upstreams.first_round().await;
    stop.cancel();
    settle().await;
    let probes = rig.nodes[0].probes();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.nodes[0].probes(), probes);
}

#[tokio::test(start_paused = true)]
async fn reads_survive_the_death_of_a_node() {
    let mut rig = Rig::new(3, 1, CHECK);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    for node in rig.nodes.drain(1..) {
        node.serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
    rig.nodes[0].door(Door::Refuses);
    for _ in 0..500 {
        let answered = rig.pool().call(rig.read("/")).await.unwrap();
        assert_eq!(text(answered.body).await.unwrap(), "ok");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.states(), ["unhealthy", "active", "active"]);
}
