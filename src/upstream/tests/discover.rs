//! Nodes found by name: what a change of records does to traffic, to connections and to places.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::{CHECK, Rig, settle, text};
use crate::core::discovery::{Kind, Record};
use crate::upstream::CallErrorKind;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

const NAMED: &str = "discover = { dns = \"nodes.example:80\" }";

fn names(rig: &Rig) -> Vec<(String, &'static str)> {
    let snapshot = rig.upstreams.snapshot();
    let nodes = snapshot[0].nodes.iter();
    nodes.map(|node| (node.name.clone(), node.state)).collect()
}

fn addresses(of: &[u8]) -> Vec<Record> {
    let address = |last: &u8| Record::Address([10, 0, 0, *last].into());
    of.iter().map(address).collect()
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_resolve_leaves_no_node_and_is_asked_again() {
    let mut rig = Rig::discovered(2, NAMED);
    rig.resolves(Kind::A, Err(io::ErrorKind::TimedOut), 0);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let error = rig.pool().call(rig.read("/")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NoNode);
    rig.resolves(Kind::A, Ok(addresses(&[1])), 30);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.ok("found").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "found");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_ends_its_requests_loses_its_connections_and_then_its_place() {
    let mut rig = Rig::discovered(2, NAMED);
    rig.resolves(Kind::A, Ok(addresses(&[1])), 10);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let idle = rig.start(rig.read("/idle"));
    let mut one = rig.nodes[0].accept().await;
    one.head().await;
    let busy = rig.start(rig.read("/busy"));
    let mut other = rig.nodes[0].accept().await;
    other.head().await;
    one.ok("").await;
    drop(idle.await.unwrap().unwrap());

    rig.resolves(Kind::A, Ok(addresses(&[2])), 10);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(names(&rig), [("10.0.0.1:80".to_owned(), "active")], "within its TTL");
    tokio::time::sleep(Duration::from_secs(2)).await;
    one.closed().await;
    let states: Vec<_> = names(&rig);
    let wanted = [
        ("10.0.0.1:80".to_owned(), "draining"),
        ("10.0.0.2:80".to_owned(), "active"),
    ];
    assert_eq!(states, wanted);
    let next = rig.start(rig.read("/next"));
    let mut there = rig.nodes[1].accept().await;
    there.head().await;
    there.ok("").await;
    drop(next.await.unwrap().unwrap());

    other.ok("all of it").await;
    assert_eq!(text(busy.await.unwrap().unwrap().body).await.unwrap(), "all of it");
    other.closed().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(names(&rig), [("10.0.0.2:80".to_owned(), "active")]);
    let told = rig.told();
    assert!(
        told.contains(&"0 is 10.0.0.1:80".to_owned()) && told.contains(&"0 is nobody".to_owned()),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_found_last_stays_when_the_name_fails_or_has_no_record_any_more() {
    let mut rig = Rig::discovered(1, NAMED);
    rig.resolves(Kind::A, Ok(addresses(&[1])), 1);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    for answer in [Err(io::ErrorKind::TimedOut), Ok(Vec::new())] {
        rig.resolves(Kind::A, answer, 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(names(&rig), [("10.0.0.1:80".to_owned(), "active")]);
    }
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.ok("").await;
    drop(call.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn rfc2782_a_lower_priority_is_asked_only_when_the_higher_is_out() {
    let keys = "discover = { dns = \"_http._tcp.nodes\", kind = \"SRV\" }\nbalance = \"round-robin\"\nretry = { attempts = 2 }";
    let mut rig = Rig::discovered(2, keys);
    let service = |priority, last: u8| Record::Service {
        priority,
        weight: 1,
        port: 80,
        target: format!("10.0.0.{last}"),
    };
    rig.resolves(Kind::Srv, Ok(vec![service(20, 1), service(10, 2)]), 30);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    for _ in 0..4 {
        let call = rig.start(rig.read("/"));
        let mut peer = rig.nodes[1].accept().await;
        peer.head().await;
        peer.write("HTTP/1.1 200 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
        drop(call.await.unwrap().unwrap());
        settle().await;
    }
    assert_eq!(rig.nodes[0].connects(), 0);
    rig.nodes[1].door(super::support::Door::Refuses);
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.ok("the spare").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "the spare");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_read_while_it_is_written_takes_no_node_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodes.toml");
    let list = |hosts: &[u8]| {
        let nodes: String = hosts
            .iter()
            .map(|last| format!("[[nodes]]\nurl = \"http://10.0.0.{last}:80\"\n"))
            .collect();
        std::fs::write(&file, nodes).unwrap();
    };
    list(&[1, 2]);
    let rig = Rig::discovered(2, &format!("discover = {{ file = \"{}\" }}", file.display()));
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let both = [
        ("10.0.0.1:80".to_owned(), "active"),
        ("10.0.0.2:80".to_owned(), "active"),
    ];
    assert_eq!(names(&rig), both, "the first look counts");
    let second = Duration::from_millis(1_001);
    tokio::time::sleep(second).await;
    list(&[1]); // half of what is being written
    tokio::time::sleep(second).await;
    assert_eq!(names(&rig), both);
    list(&[2, 1]);
    tokio::time::sleep(4 * second).await;
    assert_eq!(names(&rig), both);
    list(&[2]);
    tokio::time::sleep(4 * second).await;
    assert_eq!(names(&rig), both[1..]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_all_replaced_at_once_stay_until_one_of_the_new_is_healthy() {
    let second = Duration::from_secs(1);
    let named = |last: u8, state| (format!("10.0.0.{last}:80"), state);
    let mut rig = Rig::discovered(3, &format!("{NAMED}\n{CHECK}"));
    rig.resolves(Kind::A, Ok(addresses(&[1])), 1);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    rig.nodes[1].health(503);
    rig.resolves(Kind::A, Ok(addresses(&[2])), 1);
    tokio::time::sleep(60 * second).await;
    assert_eq!(names(&rig), [named(1, "active"), named(2, "unhealthy")]);
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.ok("").await;
    drop(call.await.unwrap().unwrap());

    rig.nodes[1].health(200);
    tokio::time::sleep(5 * second).await;
    assert_eq!(names(&rig), [named(2, "active")]);

    rig.nodes[2].health(503);
    rig.resolves(Kind::A, Ok(addresses(&[3])), 1);
    tokio::time::sleep(5 * second).await;
    assert_eq!(names(&rig), [named(3, "unhealthy"), named(2, "active")]);
    rig.nodes[1].health(503);
    tokio::time::sleep(10 * second).await;
    assert_eq!(names(&rig), [named(3, "unhealthy")], "who answers nothing is not kept");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_while_the_view_cannot_be_made_durable_is_used_after_a_reload_too() {
    let mut rig = Rig::discovered(2, NAMED);
    rig.resolves(Kind::A, Ok(addresses(&[1])), 1);
    let stop = rig.run();
    rig.upstreams.first_round().await;
    rig.full.store(true, Ordering::SeqCst);
    rig.resolves(Kind::A, Ok(addresses(&[2])), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.views[0].load().candidates, [0]);
    stop.cancel(); // as a reload ends it
    settle().await;
    let _stop = rig.run();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.views[0].load().candidates, [0]);
    rig.full.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.views[0].load().candidates, [1]);
    assert_eq!(names(&rig), [("10.0.0.2:80".to_owned(), "active")]);
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[1].accept().await;
    peer.head().await;
    peer.ok("").await;
    drop(call.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_while_the_view_cannot_be_made_durable_is_gone_after_a_reload_too() {
    let mut rig = Rig::discovered(2, NAMED);
    rig.resolves(Kind::A, Ok(addresses(&[1, 2])), 1);
    let stop = rig.run();
    rig.upstreams.first_round().await;
    rig.full.store(true, Ordering::SeqCst);
    rig.resolves(Kind::A, Ok(addresses(&[2])), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.cancel();
    settle().await;
    rig.full.store(false, Ordering::SeqCst);
    let _stop = rig.run();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.views[0].load().candidates, [1]);
    assert_eq!(names(&rig), [("10.0.0.2:80".to_owned(), "active")]);
}

#[tokio::test(start_paused = true)]
async fn found_nodes_of_which_one_at_a_time_takes_the_traffic_are_waited_for() {
    let keys = format!("{NAMED}\nmode = \"active-passive\"\n{CHECK}initial = \"healthy\"\n");
    let mut rig = Rig::discovered(2, &keys);
    rig.resolves(Kind::A, Ok(addresses(&[1, 2])), 30);
    let _stop = rig.run();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let one = &rig.upstreams.shared.upstreams[0];
    assert!(one.config.order.is_empty(), "no file names them");
    assert!(one.view.load().active().is_some());
    assert!(one.may_change_hands());
}
