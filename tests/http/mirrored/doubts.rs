//! Reads of mirrored resources: behind writes, and after an unknown one (R34).

use super::{eventually, in_doubt, pair, pair_with};
use crate::support::register::Point;

#[tokio::test]
async fn r34_a_read_waits_for_the_write_ahead_of_it() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut copies = p.b.hold("PUT", "/x", Point::Arrived);
    let write = p.proxy.put("/x", "v2");
    let read = async {
        let copy = copies.next().await;
        // The primary has v2, the other has not.
        let early = p.proxy.get("/x");
        let release = async {
            let seen = p.a.count("GET", "/x");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert_eq!(
                p.a.count("GET", "/x"),
                seen,
                "a read is sent while the write ahead of it is copied"
            );
            copy.release();
        };
        tokio::join!(early, release).0
    };
    let (written, read) = tokio::join!(write, read);
    assert_eq!((written.status, read.text()), (204, "v2"));
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"));
}

#[tokio::test]
async fn r34_after_an_unknown_write_a_read_is_answered_with_what_all_nodes_hold() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut applied = p.a.hold("PUT", "/x", Point::Applied);
    let write = async {
        let answer = p.proxy.put("/x", "v2").await;
        assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"));
    };
    tokio::join!(write, async { applied.next().await.reset() });
    drop(applied);
    assert_eq!(p.b.read("/x").as_deref(), Some("v1"));
    assert_eq!(p.proxy.get("/x").await.text(), "v2");
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"), "repaired before the answer");
}

#[tokio::test]
async fn r34_a_doubt_that_nobody_reads_is_ended_in_the_background() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut applied = p.a.hold("PUT", "/x", Point::Applied);
    tokio::join!(p.proxy.put("/x", "v2"), async { applied.next().await.reset() });
    drop(applied);
    eventually("the other node to be repaired", || async {
        p.b.read("/x").as_deref() == Some("v2")
    })
    .await;
}

#[tokio::test]
async fn r21_r34_a_reader_that_leaves_does_not_cut_off_the_repair_it_began() {
    let p = pair_with(|config| config.replace("\"300ms\"", "\"60s\""), "").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut repairs = p.b.hold("PUT", "/x", Point::Arrived);
    in_doubt(&p, "v2").await;
    // Not through the flight, which nobody can leave: HEAD is asked by its client alone.
    let mut client = p.proxy.client().await;
    client.ask("HEAD", "/x", &[], b"").await;
    let first = repairs.next().await;
    client.abort();
    let release_others = async {
        loop {
            repairs.next().await.release();
        }
    };
    let next = async {
        assert_eq!(p.proxy.get("/x").await.text(), "v2");
        assert_eq!(p.proxy.put("/x", "v3").await.status, 204);
        p.in_sync("b").await
    };
    let in_sync = tokio::select! {
        in_sync = next => in_sync,
        () = release_others => unreachable!(),
    };
    // What the reader's repair had sent is applied only now.
    first.release();
    eventually("it to be applied", || async { p.b.read("/x").as_deref() == Some("v2") }).await;
    assert!(!in_sync, "b holds what is older than an acknowledged write");
    assert!(!p.in_sync("b").await);
}

#[tokio::test]
async fn r34_what_a_reader_chose_is_not_copied_as_what_is_stored() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    in_doubt(&p, "v2").await;
    let answer = p
        .proxy
        .get_with("/x", &[("Accept", "text/html"), ("Accept-Language", "de")])
        .await;
    assert_eq!(answer.text(), "v2");
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"));
    let seen = p.a.seen();
    let gets = seen.iter().filter(|seen| seen.method == "GET" && seen.target == "/x");
    let accepts: Vec<_> = gets.map(|seen| seen.headers.get("accept")).collect();
    assert_eq!(
        accepts,
        [None, Some("text/html")],
        "what is stored, and what was asked for"
    );
}
