//! Where requests go: by their hash, past nodes that fail, slowly to nodes that return, anywhere when nobody is left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::{CHECK, Door, Rig, settle, text};
use crate::core::balance::HashKey;
use crate::core::failover::few::WhenNone;
use crate::upstream::{Aim, Call, CallErrorKind, Kind, Step};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn anywhere(call: Call) -> Call {
    let aim = Aim {
        when_none: WhenNone::Try,
        ..call.aim
    };
    Call { aim, ..call }
}

/// Who answered each of so many reads, one after the other.
async fn answers(rig: &Rig, reads: usize) -> Vec<usize> {
    let mut counts = vec![0; rig.upstreams.snapshot()[0].nodes.len()];
    for i in 0..reads {
        let mut call = rig.read("/");
        call.aim.key = Some(HashKey::of(&i.to_le_bytes()));
        let answered = rig.pool().call(call).await.unwrap();
        counts[answered.node] += 1;
        text(answered.body).await.unwrap();
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_with_its_node_and_moves_only_when_that_is_gone() {
    let mut rig = Rig::new(3, 1, &format!("balance = \"hash\"\n{CHECK}"));
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let mut owners = Vec::new();
    let doors: Vec<_> = rig.nodes.iter().map(|node| node.remote()).collect();
    for node in rig.nodes.drain(..) {
        node.serve(OK);
    }
    for (round, down) in [None, Some(1)].into_iter().enumerate() {
        if let Some(down) = down {
            doors[down].refuse();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        for key in 0..60_u32 {
            let mut call = rig.read("/");
            call.aim.key = Some(HashKey::of(&key.to_le_bytes()));
            let node = rig.pool().call(call).await.unwrap().node;
            match round {
                0 => owners.push(node),
                _ if owners[key as usize] == 1 => assert_ne!(node, 1),
                _ => assert_eq!(node, owners[key as usize], "key {key} moved although its node is there"),
            }
        }
    }
    for node in 0..3 {
        assert!(owners.contains(&node), "node {node} has keys");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_fast_attracts_no_traffic() {
    for balance in ["least-request", "peak-ewma"] {
        let mut rig = Rig::new(2, 1, &format!("balance = \"{balance}\"\nretry = {{ attempts = 1 }}"));
        for (node, answer) in rig
            .nodes
            .drain(..)
            .zip(["HTTP/1.1 500 no\r\ncontent-length: 2\r\n\r\nno", OK])
        {
            node.serve(answer);
        }
        let counts = answers(&rig, 500).await;
        assert!(counts[0] > 0, "{balance}: it is tried");
        assert!(counts[0] < 25, "{balance}: {counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_connects_costs_one_trial_per_interval() {
    for hangs in [false, true] {
        let mut rig = Rig::new(2, 1, "balance = \"round-robin\"\nconnect_timeout = \"100ms\"");
        rig.nodes[0].door(if hangs { Door::Hangs } else { Door::Refuses });
        rig.nodes.remove(1).serve(OK);
        let start = rig.now();
        // 200 reads over 20 s.
        for _ in 0..200 {
            let answered = rig.pool().call(rig.read("/")).await.unwrap();
            assert_eq!(answered.node, 1);
            text(answered.body).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let seconds = usize::try_from(rig.now().since(start).as_secs()).unwrap();
        let connects = rig.nodes[0].connects();
        assert!(
            (seconds / 2..=seconds + 1).contains(&connects),
            "{connects} connects in {seconds} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_reached_draws_nobody_who_finds_the_others_busy() {
    let keys = "balance = \"round-robin\"\nmax_connections = 1\nretry = { attempts = 2 }";
    let mut rig = Rig::new(2, 1, keys);
    rig.nodes[0].door(Door::Refuses);
    let busy = rig.start(rig.read("/busy"));
    let mut peer = rig.nodes[1].accept().await;
    peer.head().await;
    let waiting: Vec<_> = (0..5).map(|n| rig.start(rig.read(&format!("/{n}")))).collect();
    settle().await;
    assert!(rig.nodes[0].connects() <= 1, "{} connects", rig.nodes[0].connects());
    peer.ok("").await;
    drop(busy.await.unwrap().unwrap());
    for call in waiting {
        peer.head().await;
        peer.ok("").await;
        let answered = call.await.unwrap().unwrap();
        assert_eq!(answered.node, 1);
        text(answered.body).await.unwrap();
    }
    assert!(rig.nodes[0].connects() <= 1, "{} connects", rig.nodes[0].connects());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_not_handed_the_room_of_a_node_that_cannot_be_reached_and_none_is_forgotten() {
    let keys = "balance = \"round-robin\"\nmax_connections = 1\nconnect_timeout = \"100ms\"\nretry = { attempts = 2, on = [\"connect\"] }";
    let mut rig = Rig::new(2, 1, keys);
    rig.nodes[0].door(Door::Hangs);
    let hanging = rig.start(rig.read("/hangs"));
    let breaking = rig.start(rig.read("/breaks"));
    let mut peer = rig.nodes[1].accept().await;
    peer.head().await;
    settle().await;
    let waiting = rig.start(rig.read("/waits"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        rig.nodes[0].connects(),
        1,
        "out of reach, and nobody else is sent there"
    );
    assert_eq!(rig.counts(1), (1, 1, 0, 2), "two wait for the other one");
    rig.nodes[0].door(Door::Open);
    rig.nodes[1].door(Door::Refuses);
    drop(peer);
    assert_eq!(breaking.await.unwrap().unwrap_err().kind, CallErrorKind::Reset);
    assert_eq!(
        hanging.await.unwrap().unwrap_err().kind,
        CallErrorKind::ConnectFailed(Step::Connection),
        "tried at both"
    );
    let mut other = rig.nodes[0].accept().await;
    assert!(other.head().await.starts_with("get /waits "));
    other.ok("").await;
    assert_eq!(waiting.await.unwrap().unwrap().node, 0);
    assert_eq!((rig.counts(0).1, rig.counts(1).1, rig.counts(1).3), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_of_those_who_wait_tries_a_node_that_could_not_be_reached_when_nobody_else_comes() {
    let keys = "balance = \"round-robin\"\nmax_connections = 1";
    let mut rig = Rig::new(2, 1, keys);
    let _stop = rig.run();
    rig.nodes[0].door(Door::Refuses);
    let _busy = rig.start(rig.read("/busy"));
    let mut peer = rig.nodes[1].accept().await;
    peer.head().await;
    let waiting = rig.start(rig.read("/waits"));
    settle().await;
    assert_eq!(rig.counts(1).3, 1, "it waits for the one that is busy");
    let start = rig.now();
    rig.nodes[0].door(Door::Open);
    let mut back = rig.nodes[0].accept().await;
    back.head().await;
    back.ok("").await;
    assert_eq!(waiting.await.unwrap().unwrap().node, 0);
    assert!(rig.now().since(start).as_secs() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_answers_does_not_draw_all_traffic() {
    for hedge in ["", "\nhedge = { after = \"50ms\", max = \"100%\" }"] {
        let keys = format!("balance = \"peak-ewma\"\nretry = {{ attempts = 1 }}{hedge}");
        let mut rig = Rig::new(2, 1, &keys);
        rig.nodes.remove(1).serve_after(Duration::from_millis(5));
        let mut silent = rig.nodes.remove(0);
        let calls: Vec<_> = (0..50)
            .map(|n| {
                let pool = rig.pool();
                let call = rig.read("/");
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(n * 20)).await;
                    pool.call(call).await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(silent.connects() < 10, "{} of 50 went to it", silent.connects());
        drop(silent.accept().await);
        for call in calls {
            call.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_succeeds_brings_the_node_back() {
    let mut rig = Rig::new(2, 1, "balance = \"round-robin\"");
    rig.nodes[0].door(Door::Refuses);
    rig.nodes.remove(1).serve(OK);
    let reads = |n: usize| answers(&rig, n);
    assert_eq!(reads(4).await, [0, 4]);
    rig.nodes[0].door(Door::Open);
    assert_eq!(reads(4).await, [0, 4], "not before the interval is over");
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.nodes.remove(0).serve(OK);
    assert_eq!(answers(&rig, 4).await, [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn with_nobody_in_service_a_request_is_tried_or_refused_by_its_contract() {
    let mut rig = Rig::new(2, 1, CHECK);
    let _stop = rig.run();
    let early = rig.pool().call(anywhere(rig.read("/"))).await.unwrap_err();
    assert_eq!(early.kind, CallErrorKind::NoNode, "the first probes are awaited");
    for node in &rig.nodes {
        node.health(503);
    }
    rig.upstreams.first_round().await;
    for node in rig.nodes.drain(..) {
        node.serve(OK);
    }
    for (name, call, served) in [
        ("a read under AP", anywhere(rig.read("/")), true),
        ("a write under AP", anywhere(rig.write("/", "x")), true),
        ("a strong read", rig.read("/"), false),
        ("a strong write", rig.write("/", "x"), false),
    ] {
        let told = rig.pool().call(call).await;
        match told {
            Ok(answered) => {
                assert!(served, "{name}");
                assert_eq!(text(answered.body).await.unwrap(), "ok");
            }
            Err(error) => {
                assert!(!served, "{name}");
                assert_eq!(error.kind, CallErrorKind::NoNode, "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_nobody_in_service_a_node_that_cannot_be_reached_is_asked_once_per_interval() {
    let rig = Rig::new(
        1,
        1,
        &format!(
            "retry = {{ attempts = 1 }}\n{}",
            CHECK
                .replace("\"1s\"", "\"100s\"")
                .replace("unhealthy_threshold = 3", "unhealthy_threshold = 1")
        ),
    );
    rig.nodes[0].door(Door::Refuses);
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let before = rig.nodes[0].connects();
    let mut kinds = Vec::new();
    for _ in 0..10 {
        kinds.push(rig.pool().call(anywhere(rig.read("/"))).await.unwrap_err().kind);
    }
    settle().await;
    assert_eq!(kinds[0], CallErrorKind::ConnectFailed(Step::Connection));
    assert!(
        kinds[1..].iter().all(|kind| *kind == CallErrorKind::NoNode),
        "{kinds:?}"
    );
    let probes = 1; // R39: the refusal brings one forward
    assert!(rig.nodes[0].connects() <= before + 1 + probes);
}

#[tokio::test(start_paused = true)]
async fn in_reserve_nobody_is_asked_because_the_active_node_is_out() {
    let mut rig = Rig::new(2, 1, &format!("mode = \"active-passive\"\n{CHECK}"));
    for node in &rig.nodes {
        node.health(503);
    }
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    for node in rig.nodes.drain(..) {
        node.serve(OK);
    }
    for (kind, error) in [
        (Kind::Read { primary: false }, CallErrorKind::NoNode),
        (Kind::Write { repeatable: false }, CallErrorKind::NoPrimary),
    ] {
        let mut call = anywhere(rig.read("/"));
        call.kind = kind;
        assert_eq!(rig.pool().call(call).await.unwrap_err().kind, error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_returns_is_given_its_share_slowly() {
    let mut rig = Rig::new(2, 1, &format!("balance = \"random\"\n{CHECK}"));
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    let remotes: Vec<_> = rig.nodes.iter().map(|node| node.remote()).collect();
    for node in rig.nodes.drain(..) {
        node.serve(OK);
    }
    let counts = answers(&rig, 400).await;
    assert!(
        counts[0] > 120,
        "all have their share after the first round: {counts:?}"
    );
    remotes[0].health(503);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(answers(&rig, 50).await[0], 0);
    remotes[0].health(200);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let counts = answers(&rig, 400).await;
    assert!(
        counts[0] > 0 && counts[0] < 90,
        "a tenth against a whole share: {counts:?}"
    );
    tokio::time::sleep(Duration::from_secs(30)).await;
    let counts = answers(&rig, 400).await;
    assert!(counts[0] > 120, "after slow_start: {counts:?}");
}
