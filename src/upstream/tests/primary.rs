//! Who answers writes and strong reads while primaries come and go: no primary, held requests, deposed ones, epochs of writes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::{Door, Rig, ended, settle, text};
use crate::config::runtime::{GateBy, HealthCheck, Hedge, Probe, Promotion, Replication, Upstream};
use crate::core::consistency::bound::{Lag, Position};
use crate::core::failover::homes;
use crate::core::failover::view::{Epoch, NoPrimary, Primary};
use crate::core::retry::Sent;
use crate::core::rules::switch_off_as_told;
use crate::core::time::Span;
use crate::upstream::{Aim, Call, CallErrorKind, Kind, OutBody};
use http::Method;
use std::time::Duration;

fn replicated(replication: Replication) -> impl FnOnce(&mut Upstream) {
    move |upstream| {
        upstream.replication = replication;
        upstream.failover.promotion = Promotion::Automatic;
        upstream.failover.max_held = 2;
        upstream.retry.attempts = 1;
        let second = Duration::from_secs(1);
        upstream.health_check = Some(HealthCheck {
            probe: Probe::Tcp,
            interval: second,
            timeout: second,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            initially_healthy: true,
            role_header: None,
            term_header: None,
            position_header: None,
        });
    }
}

/// Two nodes of which the first is the primary, in epoch 1.
fn pair() -> Rig {
    let rig = Rig::changed(2, replicated(Replication::Primary));
    rig.view(1, Primary::Node(0));
    rig
}

fn strong(rig: &Rig, path: &str) -> Call {
    rig.call(Method::GET, path, OutBody::Empty, Kind::Read { primary: true })
}

#[tokio::test(start_paused = true)]
async fn strong_reads_and_writes_follow_the_view() {
    let mut rig = pair();
    for (epoch, node) in [(1, 0), (2, 1), (3, 0)] {
        rig.view(epoch, Primary::Node(node));
        for call in [strong(&rig, "/"), rig.write("/", "x")] {
            let call = rig.start(call);
            let mut peer = rig.nodes[node].accept().await;
            peer.head().await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            let answered = call.await.unwrap().unwrap();
            assert_eq!((answered.node, answered.epoch), (node, Epoch(epoch)));
            assert!(rig.upstreams.stands(0, &answered));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn by_a_view_of_one_store_nobody_is_the_primary_of_nodes_with_data_of_their_own() {
    let rig = pair();
    rig.view(2, Primary::Any);
    for call in [strong(&rig, "/"), rig.write("/", "x")] {
        let error = rig.pool().call(call).await.unwrap_err();
        assert_eq!((error.kind, error.sent), (CallErrorKind::NoPrimary, Sent::Nothing));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_primary_that_could_come_nobody_waits() {
    let rig = pair();
    rig.view(1, Primary::None(NoPrimary::Conflict));
    let start = rig.now();
    for call in [strong(&rig, "/"), rig.write("/", "x")] {
        let error = rig.pool().call(call).await.unwrap_err();
        assert_eq!((error.kind, error.sent), (CallErrorKind::NoPrimary, Sent::Nothing));
    }
    assert_eq!(rig.now().since(start).as_millis(), 0);
    let mut rig = rig;
    let call = rig.start(rig.read("/"));
    // R51: reads that any node may answer go on.
    let (first, second) = rig.nodes.split_at_mut(1);
    let mut peer = tokio::select! { peer = first[0].accept() => peer, peer = second[0].accept() => peer };
    peer.head().await;
    peer.ok("any").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "any");
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_may_come_is_waited_for_up_to_hold_and_by_max_held_requests() {
    let mut rig = pair();
    rig.view(2, Primary::Pending);
    let start = rig.now();
    let mut calls = vec![rig.start(rig.write("/a", "a")), rig.start(strong(&rig, "/b"))];
    settle().await;
    let error = rig.pool().call(strong(&rig, "/c")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NoPrimary, "two are held, and no more may be");
    assert_eq!(rig.now().since(start).as_millis(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.view(3, Primary::Node(1));
    for _ in 0..2 {
        let mut peer = rig.nodes[1].accept().await;
        peer.head().await;
        peer.ok("").await;
    }
    for call in calls.drain(..) {
        assert_eq!(call.await.unwrap().unwrap().epoch, Epoch(3));
    }
    rig.view(4, Primary::Pending);
    let start = rig.now();
    let error = rig.pool().call(rig.write("/", "x")).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::NoPrimary, Sent::Nothing));
    assert_eq!(rig.now().since(start).as_millis(), 5000);
}

#[tokio::test(start_paused = true)]
async fn r54_what_was_aimed_at_the_primary_of_an_epoch_that_has_ended_is_sent_to_nobody() {
    switch_off_as_told();
    let mut rig = pair();
    let aimed = |rig: &Rig| Call {
        aim: Aim::at_primary_of(Epoch(1), 0),
        ..rig.write("/", "x")
    };
    let call = rig.start(aimed(&rig));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.write("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    assert_eq!(call.await.unwrap().unwrap().epoch, Epoch(1));
    // While it connects another node takes over.
    rig.nodes[0].door(Door::Opens(Duration::from_millis(500)));
    let call = rig.start(aimed(&rig));
    settle().await;
    rig.view(2, Primary::Node(1));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::NoPrimary, Sent::Nothing));
    // The same node again, in another epoch.
    rig.view(3, Primary::Node(0));
    let error = rig.start(aimed(&rig)).await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::NoPrimary, Sent::Nothing));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_refuses_the_connect_is_waited_for_and_what_was_sent_is_not() {
    let mut rig = pair();
    rig.nodes[0].door(Door::Refuses);
    let mut held = rig.start(rig.write("/", "held"));
    settle().await;
    assert!(ended(&mut held).await.is_none(), "a promotion may come");
    rig.view(2, Primary::Node(1));
    let mut peer = rig.nodes[1].accept().await;
    peer.head().await;
    peer.bytes(4).await;
    drop(peer);
    let error = held.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::Reset, Sent::Maybe), "R20");
    settle().await;
    assert_eq!(rig.nodes[1].connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn r29_a_strong_read_that_a_deposed_primary_answered_is_asked_again() {
    switch_off_as_told();
    let mut rig = pair();
    let call = rig.start(strong(&rig, "/"));
    let mut old = rig.nodes[0].accept().await;
    old.head().await;
    rig.view(2, Primary::Node(1));
    old.ok("old").await;
    let mut new = rig.nodes[1].accept().await;
    new.head().await;
    new.ok("new").await;
    let answered = call.await.unwrap().unwrap();
    assert_eq!((answered.node, answered.epoch), (1, Epoch(2)));
    assert_eq!(text(answered.body).await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn r29_the_second_copy_of_a_strong_read_counts_no_more_than_the_first_when_both_asked_a_deposed_primary() {
    switch_off_as_told();
    let mut rig = Rig::changed(2, |upstream| {
        replicated(Replication::Primary)(upstream);
        upstream.hedge = Some(Hedge {
            after: Duration::from_millis(50),
            max_percent: 100,
        });
    });
    rig.view(1, Primary::Node(0));
    let call = rig.start(strong(&rig, "/"));
    let mut first = rig.nodes[0].accept().await;
    let mut copy = rig.nodes[0].accept().await;
    first.head().await;
    copy.head().await;
    rig.view(2, Primary::Node(1));
    copy.ok("old").await;
    settle().await;
    first.ok("old").await;
    let mut new = rig.nodes[1].accept().await;
    new.head().await;
    new.ok("new").await;
    let answered = call.await.unwrap().unwrap();
    assert_eq!((answered.node, answered.epoch), (1, Epoch(2)));
    assert_eq!(text(answered.body).await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn r53_r54_nothing_is_sent_to_a_node_that_was_deposed_while_it_was_connected_to() {
    let calls: [fn(&Rig) -> Call; 3] = [|rig| strong(rig, "/"), |rig| rig.write("/", "x"), |rig| rig.read("/")];
    for call in calls {
        let mut rig = pair();
        // A replica that may answer reads is not there, so that the first choice is known.
        let mut view = (**rig.views[0].load()).clone();
        view.candidates = vec![0];
        rig.views[0].store(view.clone());
        rig.nodes[0].door(Door::Opens(Duration::from_millis(500)));
        let call = rig.start(call(&rig));
        settle().await;
        (view.epoch, view.primary, view.candidates) = (Epoch(2), Primary::Node(1), vec![1]);
        rig.views[0].store(view);
        let mut new = rig.nodes[1].accept().await;
        new.head().await;
        new.ok("").await;
        let answered = call.await.unwrap().unwrap();
        assert_eq!((answered.node, answered.epoch), (1, Epoch(2)));
        assert_eq!(rig.nodes[0].connects(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn r29_the_answer_to_a_write_stands_until_another_view_comes_except_over_one_store() {
    switch_off_as_told();
    for (replication, stands) in [(Replication::Primary, false), (Replication::Shared, true)] {
        let mut rig = Rig::changed(2, replicated(replication));
        rig.view(1, Primary::Node(0));
        let call = rig.start(rig.write("/", "x"));
        let mut peer = rig.nodes[0].accept().await;
        peer.head().await;
        peer.ok("").await;
        let answered = call.await.unwrap().unwrap();
        assert!(rig.upstreams.stands(0, &answered));
        rig.view(2, Primary::Pending);
        assert_eq!(rig.upstreams.stands(0, &answered), stands);
        rig.view(2, Primary::Node(0));
        assert_eq!(rig.upstreams.stands(0, &answered), stands, "of an older epoch");
    }
}

#[tokio::test(start_paused = true)]
async fn r54_a_write_carries_its_epoch_and_a_412_of_a_later_one_is_a_fence() {
    switch_off_as_told();
    let cases = [
        ("Tidegate-Epoch: 8\r\n", Some(Epoch(8))),
        ("Tidegate-Epoch: 7\r\n", None),
        ("Tidegate-Epoch: x\r\n", None),
        ("", None),
    ];
    for (field, fenced) in cases {
        let mut rig = pair();
        rig.view(7, Primary::Node(0));
        let call = rig.start(rig.write("/", "x"));
        let mut peer = rig.nodes[0].accept().await;
        assert!(peer.head().await.to_lowercase().contains("tidegate-epoch: 7\r\n"));
        peer.write(&format!(
            "HTTP/1.1 412 Precondition Failed\r\n{field}Content-Length: 0\r\n\r\n"
        ))
        .await;
        assert_eq!(call.await.unwrap().unwrap().fenced, fenced, "{field}");
        let call = rig.start(strong(&rig, "/"));
        assert!(
            !peer.head().await.to_lowercase().contains("tidegate-epoch"),
            "reads carry none"
        );
        call.abort();
    }
    for change in [Replication::Shared, Replication::MultiPrimary] {
        let mut rig = Rig::changed(1, replicated(change));
        rig.view(7, Primary::Node(0));
        let call = rig.start(rig.write("/", "x"));
        let mut peer = rig.nodes[0].accept().await;
        assert!(!peer.head().await.to_lowercase().contains("tidegate-epoch"));
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_lives_at_its_home_alone_unless_unclean() {
    for unclean in [false, true] {
        let mut rig = Rig::changed(2, move |upstream| {
            replicated(Replication::MultiPrimary)(upstream);
            upstream.failover.unclean = unclean;
        });
        rig.view(1, Primary::Homes);
        let home = homes::home(["n0", "n1"].into_iter(), &["/x"], |_| true).unwrap();
        let call = rig.start(rig.write("/x?q", "x"));
        let mut peer = rig.nodes[home].accept().await;
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(call.await.unwrap().unwrap().node, home);
        let mut view = (**rig.views[0].load()).clone();
        view.candidates.retain(|node| *node != home);
        rig.views[0].store(view);
        let call = rig.start(rig.write("/x", "x"));
        if unclean {
            let mut peer = rig.nodes[1 - home].accept().await;
            peer.head().await;
            peer.ok("").await;
            assert_eq!(call.await.unwrap().unwrap().node, 1 - home);
        } else {
            assert_eq!(call.await.unwrap().unwrap_err().kind, CallErrorKind::NoPrimary);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r43_who_is_promoted_while_it_answers_was_a_replica_when_it_was_asked() {
    for (case, begins, lag) in [
        ("promoted meanwhile", Some((2, Primary::Node(1))), Lag::Unknown),
        ("nobody is", Some((2, Primary::Pending)), Lag::Unknown),
        ("still a replica", None, Lag::Declared(Span::from_secs(5))),
    ] {
        let mut rig = Rig::changed(2, |upstream| {
            replicated(Replication::Primary)(upstream);
            upstream.max_lag = Some(Duration::from_secs(5));
        });
        rig.view(1, Primary::Node(0));
        let mut view = (**rig.views[0].load()).clone();
        view.candidates = vec![1];
        rig.views[0].store(view);
        let call = rig.start(rig.read("/"));
        let mut peer = rig.nodes[1].accept().await;
        peer.head().await;
        if let Some((epoch, primary)) = begins {
            rig.view(epoch, primary);
        }
        peer.ok("").await;
        assert_eq!(call.await.unwrap().unwrap().lag, lag, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn r43_what_a_probe_told_of_a_replica_is_not_its_primarys_after_it_was_promoted() {
    let rig = pair();
    let one = &rig.upstreams.shared.upstreams[0];
    let told = |sent_in| {
        one.probed(1, (rig.now(), Epoch(sent_in)), Position(90));
        one.probes.lock().know(Epoch(2))
    };
    assert!(!told(1), "a replica's");
    rig.view(2, Primary::Node(1));
    assert!(!told(1), "sent when it was one");
    assert!(told(2), "sent to the primary");
}

#[tokio::test]
async fn two_spellings_of_a_resource_live_in_one_place() {
    let rig = Rig::changed(3, |upstream| {
        replicated(Replication::MultiPrimary)(upstream);
        upstream.gate = GateBy::Url;
    });
    rig.view(1, Primary::Homes);
    for n in 0..20 {
        let home = |path: &str, query: &str| rig.upstreams.who(0, &format!("{path}{n}"), Some(query));
        assert_eq!(home("/%41", "q=%61"), home("/A", "q=a"));
        assert_eq!(home("/x/../A", "q=a"), home("/A", "q=a"));
    }
}
