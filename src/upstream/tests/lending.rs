//! Caps are for all cores together: what one core does not use another may, and never more than the whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use super::support::{Rig, settle, text};
use crate::upstream::pool::Tried;
use crate::upstream::{Aim, CallErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// (open, in flight, idle, waiting) of a core.
fn of(rig: &Rig, core: usize) -> (usize, usize, usize, usize) {
    rig.upstreams.cores[core].counts(0, 0)
}

#[tokio::test(start_paused = true)]
async fn a_busy_core_uses_what_an_idle_one_does_not() {
    let rig = Rig::new(1, 2, "max_connections = 4");
    let busy: Vec<_> = (0..5).map(|_| rig.start_on(0, rig.read("/"))).collect();
    settle().await;
    assert_eq!(of(&rig, 0), (3, 3, 0, 2), "all but the one that the other keeps");
    let late: Vec<_> = (0..2).map(|_| rig.start_on(1, rig.read("/"))).collect();
    settle().await;
    assert_eq!(of(&rig, 1), (1, 1, 0, 1));
    assert_eq!(rig.nodes[0].connects(), 4);
    for call in busy.into_iter().chain(late) {
        call.abort();
    }
    settle().await;
    let back: Vec<_> = (0..4).map(|_| rig.start_on(1, rig.read("/"))).collect();
    settle().await;
    assert_eq!(of(&rig, 1), (3, 3, 0, 1), "and the other way round");
    for call in back {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_share_of_an_idle_connection_is_lent_once_it_is_closed() {
    let mut rig = Rig::new(1, 2, "max_connections = 4");
    let first: Vec<_> = (0..2).map(|_| rig.start_on(1, rig.read("/"))).collect();
    let mut peers = vec![rig.nodes[0].accept().await, rig.nodes[0].accept().await];
    for peer in &mut peers {
        peer.head().await;
        peer.ok("").await;
    }
    for call in first {
        call.await.unwrap().unwrap();
    }
    assert_eq!(of(&rig, 1), (2, 0, 2, 0));
    let busy: Vec<_> = (0..4).map(|_| rig.start_on(0, rig.read("/"))).collect();
    settle().await;
    assert_eq!(of(&rig, 0), (3, 3, 0, 1));
    assert_eq!(of(&rig, 1), (1, 0, 1, 0));
    peers[0].closed().await;
    for call in busy {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_core_lets_go_serves_who_waits_at_another() {
    let mut rig = Rig::new(1, 2, "max_connections = 4");
    let first: Vec<_> = (0..2).map(|_| rig.start_on(1, rig.read("/first"))).collect();
    let mut peer = rig.nodes[0].accept().await;
    settle().await;
    let busy: Vec<_> = (0..3).map(|_| rig.start_on(0, rig.read("/"))).collect();
    settle().await;
    assert_eq!((of(&rig, 0), of(&rig, 1)), ((2, 2, 0, 1), (2, 2, 0, 0)));
    peer.head().await;
    peer.ok("done").await;
    settle().await;
    assert_eq!((of(&rig, 0), of(&rig, 1)), ((3, 3, 0, 0), (1, 1, 0, 0)));
    let mut done = 0;
    for call in first {
        if call.is_finished() {
            assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "done");
            done += 1;
        } else {
            call.abort();
        }
    }
    assert_eq!(done, 1);
    for call in busy {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_where_it_is_let_go_is_lent_though_somebody_waits_there() {
    let mut rig = Rig::new(2, 2, "max_connections = 4");
    let to = |rig: &Rig, core: usize, node: usize| {
        let mut call = rig.read("/");
        call.aim = Aim::at(node);
        rig.start_on(core, call)
    };
    let mut calls: Vec<_> = (0..4).map(|_| to(&rig, 1, 1)).collect();
    calls.extend((0..2).map(|_| to(&rig, 1, 0)));
    let mut peer = rig.nodes[0].accept().await;
    settle().await;
    assert_eq!(
        rig.upstreams.cores[1].counts(0, 1),
        (3, 3, 0, 1),
        "one waits for the second node"
    );
    calls.extend((0..3).map(|_| to(&rig, 0, 0)));
    settle().await;
    assert_eq!(of(&rig, 0), (2, 2, 0, 1), "one waits for the first");
    peer.head().await;
    peer.ok("").await;
    settle().await;
    assert_eq!(of(&rig, 0), (3, 3, 0, 0));
    assert_eq!(of(&rig, 1), (1, 1, 0, 1));
    for call in calls {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn places_to_wait_are_lent_too_and_bounded_all_the_same() {
    let rig = Rig::new(1, 2, "max_connections = 2\nmax_pending = 2");
    let here: Vec<_> = (0..3).map(|_| rig.start_on(0, rig.read("/"))).collect();
    settle().await;
    assert_eq!(of(&rig, 0), (1, 1, 0, 2));
    let there = rig.start_on(1, rig.read("/"));
    settle().await;
    assert_eq!(of(&rig, 1), (1, 1, 0, 0));
    for core in 0..2 {
        let refused = rig.start_on(core, rig.read("/")).await.unwrap().unwrap_err();
        assert_eq!(refused.kind, CallErrorKind::QueueFull, "core {core}");
    }
    for call in here.into_iter().chain([there]) {
        call.abort();
    }
}

#[test]
fn threads_that_lend_to_each_other_never_use_more_than_the_whole() {
    const CORES: usize = 4;
    const WHOLE: usize = 6;
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let home = runtime();
    let keys = format!("max_connections = {WHOLE}\nmax_pending = 100");
    let rig = home.block_on(async { Rig::new(1, CORES, &keys) });
    let (used, lent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..CORES)
        .map(|number| {
            let core = Arc::clone(&rig.upstreams.cores[number]);
            let (used, lent) = (Arc::clone(&used), Arc::clone(&lent));
            std::thread::spawn(move || {
                runtime().block_on(async {
                    // Some want more than their share, others less.
                    let tasks = (0..=number * 2).map(|_| {
                        let (core, used, lent) = (Arc::clone(&core), Arc::clone(&used), Arc::clone(&lent));
                        tokio::spawn(async move {
                            for _ in 0..300 {
                                let now = core.shared.world.clock.mono();
                                let lease = core
                                    .acquire(0, &Tried::new(), Aim::default(), now, Duration::from_secs(60))
                                    .wait()
                                    .await
                                    .unwrap_or_else(|refused| panic!("{refused:?}"));
                                assert!(used.fetch_add(1, Ordering::SeqCst) < WHOLE);
                                lent.fetch_max(core.counts(0, 0).0, Ordering::SeqCst);
                                tokio::task::yield_now().await;
                                used.fetch_sub(1, Ordering::SeqCst);
                                drop(lease);
                            }
                        })
                    });
                    for task in tasks.collect::<Vec<_>>() {
                        task.await.unwrap();
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(
        lent.load(Ordering::SeqCst) > WHOLE.div_ceil(CORES),
        "nobody ever lent anything"
    );
    let shares: Vec<usize> = rig.upstreams.cores.iter().map(|core| core.share_of(0, 0)).collect();
    assert_eq!(shares.iter().sum::<usize>(), WHOLE, "{shares:?}");
    assert!(shares.iter().all(|share| *share >= 1), "{shares:?}");
    assert!((0..CORES).all(|core| of(&rig, core) == (0, 0, 0, 0)));
}
