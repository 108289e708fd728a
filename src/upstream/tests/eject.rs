//! Passive health: who is ejected by the requests it fails, for how long, and who never is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::attempts::fed;
use super::support::{CHECK, Door, Rig, settle, text};
use crate::core::failover::few::WhenNone;
use crate::upstream::{Aim, Call, CallErrorKind, Kind};
use http::Method;
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 no\r\ncontent-length: 2\r\n\r\nno";
const FAULT: &str = "HTTP/1.1 500 no\r\ncontent-length: 2\r\n\r\nno";
const UNREADABLE: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n";
const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
const OUTLIER: &str = "balance = \"round-robin\"\nretry = { attempts = 1 }\noutlier = { consecutive_errors = 5, ejection_time = \"10s\", max_ejected = \"50%\" }\n";

/// One read; who answered it, if anybody.
async fn read(rig: &Rig) -> Option<usize> {
    let answered = rig.pool().call(rig.read("/")).await.ok()?;
    let node = answered.node;
    text(answered.body).await.unwrap();
    settle().await;
    Some(node)
}

/// How many of so many reads each node answered.
async fn answers(rig: &Rig, reads: usize) -> Vec<usize> {
    let mut counts = vec![0; rig.upstreams.snapshot()[0].nodes.len()];
    for _ in 0..reads {
        if let Some(node) = read(rig).await {
            counts[node] += 1;
        }
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_its_requests_in_a_row_is_ejected_and_given_another_chance() {
    // The probes pass all the while: what they say and how requests end are two things.
    let mut rig = Rig::new(2, 2, &format!("{OUTLIER}{CHECK}"));
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    for (node, answer) in rig.nodes.drain(..).zip([BUSY, OK]) {
        node.serve(answer);
    }
    assert_eq!(answers(&rig, 8).await, [4, 4]);
    assert_eq!(rig.states(), ["active", "active"], "four are not five");
    // The row is one over all cores.
    let other = rig.upstreams.pool(1);
    for _ in 0..2 {
        let answered = other.call(rig.read("/")).await.unwrap();
        text(answered.body).await.unwrap();
    }
    settle().await;
    assert_eq!(rig.states(), ["ejected", "active"]);
    assert_eq!(answers(&rig, 20).await, [0, 20]);
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(rig.states(), ["ejected", "active"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.states(), ["active", "active"], "another chance");
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Its share grows again, so it is asked more rarely.
    answers(&rig, 400).await;
    assert_eq!(rig.states(), ["ejected", "active"], "not taken");
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(rig.states(), ["ejected", "active"], "longer, the second time");
    tokio::time::sleep(Duration::from_millis(8_100)).await;
    assert_eq!(rig.states(), ["active", "active"]);
}

#[tokio::test(start_paused = true)]
async fn which_failures_count() {
    let cases: [(&str, Option<&'static str>, Door, bool); 9] = [
        ("a 503", Some(BUSY), Door::Open, true),
        ("a 500 may be the request's fault", Some(FAULT), Door::Open, false),
        ("an answer", Some(OK), Door::Open, false),
        ("garbage", Some("what?\r\n\r\n"), Door::Open, true),
        ("a head that cannot be believed", Some(UNREADABLE), Door::Open, true),
        ("an upgrade that nobody asked for", Some(UPGRADE), Door::Open, true),
        ("a connect that is refused", None, Door::Refuses, true),
        ("a connect that hangs", None, Door::Hangs, true),
        ("no answer in time", None, Door::Open, true),
    ];
    for (name, answer, door, ejected) in cases {
        let mut rig = Rig::new(2, 1, &format!("response_timeout = \"2s\"\n{OUTLIER}"));
        let _stop = rig.run();
        rig.nodes[0].door(door);
        rig.nodes.remove(1).serve(OK);
        let node = rig.nodes.remove(0);
        let _silent = match answer {
            Some(answer) => {
                node.serve(answer);
                None
            }
            None => Some(node),
        };
        for _ in 0..12 {
            read(&rig).await;
            // A node that cannot be connected to is tried once a second.
            if door != Door::Open {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        let expected = if ejected { "ejected" } else { "active" };
        assert_eq!(rig.states(), [expected, "active"], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_its_upload_ejects_nobody() {
    let keys = format!("response_timeout = \"2s\"\n{}", OUTLIER.replace("50%", "100%"));
    let rig = Rig::new(2, 1, &keys);
    let _stop = rig.run();
    for _ in 0..12 {
        let (_feed, body) = fed();
        let call = rig.call(Method::POST, "/", body, Kind::Write { repeatable: false });
        let error = rig.pool().call(call).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::HeadTimedOut);
        settle().await;
    }
    assert_eq!(rig.states(), ["active", "active"]);
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_row() {
    let mut rig = Rig::new(2, 1, OUTLIER);
    let _stop = rig.run();
    rig.nodes.remove(1).serve(OK);
    let mut node = rig.nodes.remove(0);
    tokio::spawn(async move {
        let mut peer = node.accept().await;
        for at in 1.. {
            peer.head().await;
            peer.write(if at % 5 == 0 { OK } else { BUSY }).await;
        }
    });
    assert_eq!(answers(&rig, 60).await, [30, 30]);
    assert_eq!(rig.states(), ["active", "active"], "four of five, again and again");
}

#[tokio::test(start_paused = true)]
async fn no_more_nodes_are_ejected_than_allowed_and_the_rest_goes_on() {
    let mut rig = Rig::new(3, 1, OUTLIER);
    let _stop = rig.run();
    for node in rig.nodes.drain(..) {
        node.serve(BUSY);
    }
    answers(&rig, 60).await;
    let out = rig.states().iter().filter(|state| **state == "ejected").count();
    assert_eq!(out, 1, "half of three is one: {:?}", rig.states());
    assert!(read(&rig).await.is_some(), "who is left is asked");
}

#[tokio::test(start_paused = true)]
async fn with_all_ejected_a_request_is_tried_or_refused_by_its_contract() {
    let mut rig = Rig::new(2, 1, &OUTLIER.replace("50%", "100%"));
    let _stop = rig.run();
    for node in rig.nodes.drain(..) {
        node.serve(BUSY);
    }
    answers(&rig, 20).await;
    assert_eq!(rig.states(), ["ejected", "ejected"]);
    assert!(rig.pool().call(rig.read("/")).await.is_err(), "strong");
    let call = rig.read("/");
    let aim = Aim {
        when_none: WhenNone::Try,
        ..call.aim
    };
    assert!(rig.pool().call(Call { aim, ..call }).await.is_ok(), "the others");
}

#[tokio::test(start_paused = true)]
async fn r39_who_has_the_traffic_alone_is_not_ejected() {
    let keys = OUTLIER.replace("balance = \"round-robin\"\n", "mode = \"active-passive\"\n");
    let mut rig = Rig::new(2, 1, &keys.replace("50%", "100%"));
    let _stop = rig.run();
    for (node, answer) in rig.nodes.drain(..).zip([BUSY, OK]) {
        node.serve(answer);
    }
    let epoch = rig.upstreams.snapshot()[0].epoch;
    assert_eq!(answers(&rig, 50).await, [50, 0]);
    assert_eq!(rig.states(), ["active", "standby"]);
    assert_eq!(rig.upstreams.snapshot()[0].epoch, epoch);
}

#[tokio::test(start_paused = true)]
async fn r39_a_home_that_has_its_part_alone_is_not_ejected() {
    let keys = format!(
        "replication = \"multi-primary\"\nmax_lag = \"1s\"\n{}",
        OUTLIER.replace("50%", "100%")
    );
    let mut rig = Rig::new(2, 1, &keys);
    let _stop = rig.run();
    for node in rig.nodes.drain(..) {
        node.serve(BUSY);
    }
    for n in 0..50 {
        let call = rig.write(&format!("/{n}"), "x");
        let answered = rig.pool().call(call).await.unwrap();
        assert_eq!(answered.parts.status, 503, "the node's own");
        text(answered.body).await.unwrap();
        settle().await;
    }
    assert_eq!(rig.states(), ["active", "active"]);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_configured_nobody_is_ejected() {
    let mut rig = Rig::new(2, 1, "balance = \"round-robin\"\nretry = { attempts = 1 }\n");
    let _stop = rig.run();
    for (node, answer) in rig.nodes.drain(..).zip([BUSY, OK]) {
        node.serve(answer);
    }
    answers(&rig, 100).await;
    assert_eq!(rig.states(), ["active", "active"]);
}
