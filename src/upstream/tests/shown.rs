//! What answers and probes say of the position that clients have been shown (R32).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::Rig;
use crate::core::consistency::bound::Position;
use crate::core::failover::event::Observed;
use crate::core::time::Span;
use crate::upstream::{Kind, OutBody};
use http::Method;
use std::time::Duration;

const KEYS: &str = "replication = \"primary\"\n[upstreams.u.health_check]\npath = \"/\"\ninitial = \"healthy\"\nposition_header = \"X-Position\"\n";

#[tokio::test(start_paused = true)]
async fn r32_every_answer_counts_and_one_without_a_position_hides_them_all() {
    let mut rig = Rig::new(2, 1, KEYS);
    let one = &rig.upstreams.shared.upstreams[0];
    let primary = one.view.load().active().unwrap();
    let observed = |rig: &Rig| rig.upstreams.shared.upstreams[0].view.load().observed.read();
    let reported = |rig: &Rig, node, position| {
        rig.upstreams.shared.upstreams[0].note_reported(node, rig.now(), Position(position));
    };
    assert_eq!(
        observed(&rig),
        Observed::Unknown,
        "nobody knows what was shown before the start"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    reported(&rig, 1 - primary, 8);
    assert_eq!(
        observed(&rig),
        Observed::Unknown,
        "only the primary's probes say where it all was"
    );
    reported(&rig, primary, 3);
    assert_eq!(observed(&rig), Observed::At(Position(3)));

    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nX-Position: 9\r\n", Observed::At(Position(9))),
        ("HTTP/1.1 200 OK\r\nX-Position: 4\r\n", Observed::At(Position(9))),
        ("HTTP/1.1 304 Not Modified\r\n", Observed::Unknown),
    ] {
        let mut call = rig.read("/");
        call.kind = crate::upstream::Kind::Read { primary: true };
        let call = rig.start(call);
        let mut peer = rig.nodes[primary].accept().await;
        peer.head().await;
        peer.write(&format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n"))
            .await;
        call.await.unwrap().unwrap();
        assert_eq!(observed(&rig), expected, "{head}");
    }
    reported(&rig, primary, 5);
    assert_eq!(observed(&rig), Observed::Unknown, "not sent after that answer");
    tokio::time::sleep(Duration::from_secs(1)).await;
    reported(&rig, primary, 5);
    assert_eq!(observed(&rig), Observed::At(Position(9)));
}

#[tokio::test(start_paused = true)]
async fn r32_what_we_answer_for_a_node_that_fails_is_no_nodes_answer() {
    let mut rig = Rig::new(2, 1, KEYS);
    let one = &rig.upstreams.shared.upstreams[0];
    let primary = one.view.load().active().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    one.note_reported(primary, rig.now(), Position(9));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let observed = |rig: &Rig| rig.upstreams.shared.upstreams[0].view.load().observed.read();
    for (case, head, ends, expected) in [
        ("it breaks off: 502", "", true, Observed::At(Position(9))),
        (
            "it breaks off in its head: 502",
            "HTTP/1.1 200 OK\r\nX-Pos",
            true,
            Observed::At(Position(9)),
        ),
        (
            "what it says is not HTTP: 502",
            "nonsense\r\n\r\n",
            false,
            Observed::At(Position(9)),
        ),
        ("it says nothing: 504", "", false, Observed::At(Position(9))),
        (
            "a 503 of its own",
            "HTTP/1.1 503 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            false,
            Observed::Unknown,
        ),
    ] {
        let mut call = rig.call(Method::POST, "/", OutBody::Empty, Kind::Write { repeatable: false });
        call.deadline = rig.now().after(Span::from_secs(5));
        let call = rig.start(call);
        let mut peer = rig.nodes[primary].accept().await;
        peer.head().await;
        peer.write(head).await;
        let peer = (!ends).then_some(peer);
        let answered = call.await.unwrap();
        assert_eq!(answered.is_ok(), expected == Observed::Unknown, "{case}");
        assert_eq!(observed(&rig), expected, "{case}");
        drop(peer);
    }
}
