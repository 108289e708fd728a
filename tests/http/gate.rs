//! The gate on the wire (CONSISTENCY.md sections 2 and 3): what a write does to fills in flight and to what is stored, and what
//! an unknown outcome leaves behind.

use super::support::client::Client;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Node, Point, Register};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
/// Short enough to wait for, long enough to look inside.
const STRONG: &str = "consistency = \"strong\"\nsettle_after = \"1500ms\"";

async fn over(keys: &str) -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let config = one_route(keys) + "\n[upstreams.o.retry]\nattempts = 1\n";
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    (register, node, proxy)
}

async fn asks(proxy: &Proxy, method: &str, target: &str, body: &str) -> Client {
    let mut client = proxy.client().await;
    client.ask(method, target, &[], body.as_bytes()).await;
    client
}

/// A weak route beside a strong one on the same upstream: what the weak one stores shows what the gate let through.
async fn weak_beside_strong() -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let config = "[upstreams.o]\nnodes = [{ url = \"{origin}\" }]\nresponse_timeout = \"2s\"\n\n\
        [upstreams.o.retry]\nattempts = 1\n\n\
        [[routes]]\nname = \"strong\"\nmatch = { headers = { \"X-Level\" = \"strong\" } }\nupstream = \"o\"\n\
        consistency = \"strong\"\nsettle_after = \"1500ms\"\n\n\
        [[routes]]\nname = \"weak\"\nupstream = \"o\"\nconsistency = \"weak\"\nttl = \"1h\"\n";
    let proxy = Proxy::start(config, &[("origin", &node.url())]).await;
    (register, node, proxy)
}

#[tokio::test]
async fn r1_a_fill_in_flight_is_not_stored_after_a_write() {
    let (register, _node, proxy) = over(WEAK).await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut reader = asks(&proxy, "GET", "/x", "").await;
    let read_old = hold.next().await;
    assert_eq!(proxy.put("/x", "new").await.status, 204);
    drop(hold);
    // What is stored since keeps the resource's record, so that only the dead token stands against the old answer.
    assert_eq!(proxy.get("/x?since").await.text(), "new");
    read_old.release();
    assert_eq!(
        reader.answer().await.text(),
        "old",
        "its own reader may have it: it began before the write ended"
    );
    let refused = [("reason", "token-dead")];
    proxy.until_metric("tidegate_fills_refused_total", &refused, 1.0).await;
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn r1_neither_when_half_of_its_body_has_already_come() {
    let (register, _node, proxy) = over(WEAK).await;
    let mut hold = register.hold("GET", "/x", Point::MidBody);
    let mut reader = asks(&proxy, "GET", "/x", "").await;
    let halfway = hold.next().await;
    assert_eq!(reader.head().await.0, 200);
    assert_eq!(proxy.put("/x", "new").await.status, 204);
    halfway.release();
    drop(hold);
    assert_eq!(reader.body_up_to(3).await, b"old");
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn r1_a_reader_after_the_write_does_not_join_the_fill_from_before() {
    let (register, _node, proxy) = over(WEAK).await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = asks(&proxy, "GET", "/x", "").await;
    let read_old = hold.next().await;
    assert_eq!(proxy.put("/x", "new").await.status, 204);
    let mut late = asks(&proxy, "GET", "/x", "").await;
    let own = hold.next().await;
    read_old.release();
    own.release();
    assert_eq!(early.answer().await.text(), "old");
    assert_eq!(late.answer().await.text(), "new");
}

#[tokio::test]
async fn r3_two_pending_writes_are_counted_and_each_end_kills_fills() {
    let (register, _node, proxy) = over(WEAK).await;
    let mut writes = register.hold("PUT", "/x", Point::Applied);
    let mut first = asks(&proxy, "PUT", "/x", "one").await;
    let first_applied = writes.next().await;
    let mut second = asks(&proxy, "PUT", "/x", "two").await;
    let second_applied = writes.next().await;
    first_applied.release();
    assert_eq!(first.answer().await.status, 204);
    // A fill that begins between the two ends must not outlive the second.
    let mut reads = register.hold("GET", "/x", Point::Applied);
    let mut reader = asks(&proxy, "GET", "/x", "").await;
    let between = reads.next().await;
    register.write("/x", "three");
    second_applied.release();
    assert_eq!(second.answer().await.status, 204);
    between.release();
    drop(reads);
    assert_eq!(reader.answer().await.text(), "two");
    assert_eq!(proxy.get("/x").await.text(), "three");
}

#[tokio::test]
async fn r10_what_is_stored_goes_before_the_ack_does() {
    let (register, _node, proxy) = over(WEAK).await;
    for n in 0..50 {
        proxy.get("/x").await;
        let value = format!("{n}");
        let mut writer = proxy.client().await;
        writer.ask("PUT", "/x", &[], value.as_bytes()).await;
        // The head of the answer is the ack: from its arrival on nothing older may be served.
        writer.head().await;
        assert_eq!(proxy.get("/x").await.text(), value);
    }
    assert_eq!(register.count("PUT", "/x"), 50);
}

#[tokio::test]
async fn r6_r12_a_write_on_any_route_gates_the_resource_of_every_route() {
    let register = Register::new();
    register.write("/same", "old");
    let node = register.node("a").await;
    let config = "[upstreams.o]\nnodes = [{ url = \"{origin}\" }]\n\
        [[routes]]\nmatch = { path = \"/write\" }\nupstream = \"o\"\nrewrite = \"/same\"\n\
        [[routes]]\nmatch = { path = \"/read\" }\nupstream = \"o\"\nrewrite = \"/same\"\nconsistency = \"weak\"\nttl = \"1h\"\n";
    let proxy = Proxy::start(config, &[("origin", &node.url())]).await;
    assert_eq!(proxy.get("/read").await.text(), "old");
    assert!(proxy.get("/read").await.is_hit());
    assert_eq!(proxy.put("/write", "new").await.status, 204);
    assert_eq!(proxy.get("/read").await.text(), "new", "an off route gates too");
}

#[tokio::test]
async fn r11_an_unknown_write_unsettles_its_resource_until_settle_after() {
    let (register, _node, proxy) = over(STRONG).await;
    proxy.get("/x").await;
    let mut hold = register.hold("PUT", "/x", Point::Applied);
    let mut writer = asks(&proxy, "PUT", "/x", "maybe").await;
    hold.next().await.close();
    drop(hold);
    assert_eq!(writer.answer().await.problem(), "unknown");
    let read = proxy.get("/x").await;
    assert_eq!((read.text(), read.fwd()), ("maybe", "bypass"));
    assert!(
        read.cache_status().contains("detail=unsettled"),
        "{}",
        read.cache_status()
    );
    assert_eq!(read.consistency(), "strong;proof=validated");
    assert_eq!(proxy.metric("tidegate_unsettled", &[]).await, 1.0);
    assert_eq!(proxy.status().await["unsettled"].as_array().unwrap().len(), 1);
    // R19: it ends by time since the connection closed, and by nothing else.
    eventually("the resource to be settled", || async {
        !proxy.get("/x").await.cache_status().contains("unsettled")
    })
    .await;
    assert_eq!(proxy.status().await["unsettled"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn r11_what_is_definite_and_what_is_unknown() {
    for (status, unsettles) in [
        (200, false),
        (204, false),
        (303, false),
        (404, false),
        (409, false),
        (202, true),
        (500, true),
        (503, true),
    ] {
        let (register, _node, proxy) = over(STRONG).await;
        let mut hold = register.hold("PUT", "/x", Point::Applied);
        let mut writer = asks(&proxy, "PUT", "/x", "v").await;
        hold.next().await.answer(status);
        drop(hold);
        assert_eq!(
            writer.answer().await.status,
            status,
            "the origin's own answer passes unchanged"
        );
        let unsettled = proxy.status().await["unsettled"].as_array().unwrap().len();
        assert_eq!(unsettled == 1, unsettles, "{status}");
    }
}

#[tokio::test]
async fn r11_after_an_unknown_the_connection_upstream_is_closed() {
    for status in [202, 500] {
        let mut origin = Origin::start().await;
        let config =
            "[server]\nthreads = 1\n".to_owned() + &one_route(STRONG) + "\n[upstreams.o.retry]\nattempts = 1\n";
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let mut client = asks(&proxy, "PUT", "/x", "v").await;
        let mut exchange = origin.next().await;
        exchange.body().await;
        exchange.head(status, &[("Content-Length", "0")]).await;
        assert_eq!(client.answer().await.status, status);
        exchange.gone().await;
    }
}

#[tokio::test]
async fn r11_an_upload_that_breaks_off_is_unknown() {
    let mut origin = Origin::start().await;
    let proxy = Proxy::start(&one_route(STRONG), &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("PUT", "/x", &[("Content-Length", "10")], b"half").await;
    let mut exchange = origin.next().await;
    exchange.body_part().await;
    client.abort();
    exchange.gone().await;
    eventually("the resource to be unsettled", || async {
        proxy.status().await["unsettled"].as_array().unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn r2_while_a_write_is_unsettled_nothing_stored_is_served_unvalidated_on_the_strong_route() {
    let (register, _node, proxy) = weak_beside_strong().await;
    let strong = [("X-Level", "strong")];
    assert_eq!(proxy.get_with("/x", &strong).await.text(), "old");
    let mut hold = register.hold("PUT", "/x", Point::Arrived);
    let mut writer = proxy.client().await;
    writer.ask("PUT", "/x", &strong, b"late").await;
    let pending = hold.next().await;
    assert_eq!(
        proxy.get_with("/x", &strong).await.text(),
        "old",
        "pending: the node still has the old value"
    );
    // The client and we give up; the node applies the write later.
    pending.close();
    assert_eq!(writer.answer().await.problem(), "unknown");
    register.write("/x", "late");
    let read = proxy.get_with("/x", &strong).await;
    assert_eq!((read.text(), read.consistency()), ("late", "strong;proof=validated"));
}

#[tokio::test]
async fn r8_reads_while_unsettled_join_nothing_that_was_sent() {
    let (register, _node, proxy) = over(STRONG).await;
    let mut writes = register.hold("PUT", "/x", Point::Arrived);
    let mut writer = asks(&proxy, "PUT", "/x", "v").await;
    writes.next().await.close();
    assert_eq!(writer.answer().await.problem(), "unknown");
    let mut reads = register.hold("GET", "/x", Point::Applied);
    let mut early = asks(&proxy, "GET", "/x", "").await;
    let sent = reads.next().await;
    register.write("/x", "applied late");
    let mut late = asks(&proxy, "GET", "/x", "").await;
    let own = {
        sent.release();
        assert_eq!(early.answer().await.text(), "old");
        reads.next().await
    };
    own.release();
    assert_eq!(late.answer().await.text(), "applied late");
}

#[tokio::test]
async fn r21_a_client_that_leaves_cancels_neither_its_write() {
    let (register, _node, proxy) = over(WEAK).await;
    proxy.get("/x").await;
    let mut hold = register.hold("PUT", "/x", Point::Arrived);
    let writer = asks(&proxy, "PUT", "/x", "left behind").await;
    let arrived = hold.next().await;
    writer.abort();
    arrived.release();
    drop(hold);
    eventually("the write to count as applied", || async {
        proxy.metric("tidegate_writes_total", &[("outcome", "applied")]).await == 1.0
    })
    .await;
    assert_eq!(proxy.get("/x").await.text(), "left behind");
}

#[tokio::test]
async fn writes_are_counted_by_outcome() {
    let (register, node, proxy) = over(STRONG).await;
    assert_eq!(proxy.put("/x", "v").await.status, 204);
    let mut hold = register.hold("PUT", "/x", Point::Arrived);
    let mut rejected = asks(&proxy, "PUT", "/x", "v").await;
    hold.next().await.answer(409);
    assert_eq!(rejected.answer().await.status, 409);
    let mut unknown = asks(&proxy, "PUT", "/x", "v").await;
    hold.next().await.reset();
    unknown.answer().await;
    drop(hold);
    node.down().await;
    assert_eq!(proxy.put("/y", "v").await.problem(), "not-applied");
    for outcome in ["applied", "rejected", "unknown", "not-applied"] {
        let count = proxy
            .metric("tidegate_writes_total", &[("outcome", outcome), ("route", "r")])
            .await;
        assert_eq!(count, 1.0, "{outcome}");
    }
}

#[tokio::test]
async fn r4_eviction_does_not_make_the_gate_forget() {
    let register = Register::new();
    register.write("/x", "old");
    let filler = "f".repeat(100_000);
    let node = register.node("a").await;
    let config = "[cache]\nmax_memory = \"1MiB\"\nmax_object = \"256KiB\"\n".to_owned() + &one_route(WEAK);
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    proxy.get("/x").await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut reader = proxy.client().await;
    reader.ask("GET", "/x", &[("Cache-Control", "no-cache")], b"").await;
    let read_old = hold.next().await;
    // Everything stored is pushed out while the fill is in flight, before and after the write.
    for round in 0..2 {
        for n in 0..30 {
            register.write(&format!("/filler/{round}/{n}"), &filler);
            proxy.get(&format!("/filler/{round}/{n}")).await;
        }
        if round == 0 {
            assert_eq!(proxy.put("/x", "new").await.status, 204);
        }
    }
    assert!(proxy.metric("tidegate_cache_evictions_total", &[]).await > 0.0);
    read_old.release();
    drop(hold);
    assert_eq!(reader.answer().await.text(), "old");
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn r5_a_304_does_not_revive_what_a_write_revoked() {
    let (register, _node, proxy) = over("consistency = \"weak\"").await;
    register.answer_with("/x", "Cache-Control", "max-age=60");
    assert_eq!(proxy.get("/x").await.text(), "old");
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut reader = proxy.client().await;
    reader.ask("GET", "/x", &[("Cache-Control", "no-cache")], b"").await;
    let confirms_old = hold.next().await;
    assert!(confirms_old.seen.headers.has("if-none-match"));
    assert_eq!(proxy.put("/x", "new").await.status, 204);
    confirms_old.release();
    drop(hold);
    assert_eq!(reader.answer().await.text(), "old");
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn r19_seeing_the_old_state_does_not_settle() {
    let (register, _node, proxy) = over("consistency = \"strong\"\nsettle_after = \"1h\"").await;
    proxy.get("/x").await;
    let mut hold = register.hold("PUT", "/x", Point::Arrived);
    let mut writer = asks(&proxy, "PUT", "/x", "later").await;
    hold.next().await.close();
    drop(hold);
    assert_eq!(writer.answer().await.problem(), "unknown");
    for _ in 0..5 {
        let read = proxy.get("/x").await;
        assert_eq!(read.text(), "old", "the node has not applied it");
        assert!(
            read.cache_status().contains("detail=unsettled"),
            "{}",
            read.cache_status()
        );
    }
    // Not even a later, definite write settles the one before.
    assert_eq!(proxy.put("/x", "new").await.status, 204);
    assert!(proxy.get("/x").await.cache_status().contains("detail=unsettled"));
    assert_eq!(proxy.status().await["unsettled"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn r8_a_read_with_no_cache_does_not_join_what_was_sent() {
    let (register, _node, proxy) = over(WEAK).await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = asks(&proxy, "GET", "/x", "").await;
    let sent = hold.next().await;
    register.write("/x", "new");
    let mut fresh = proxy.client().await;
    fresh.ask("GET", "/x", &[("Cache-Control", "no-cache")], b"").await;
    sent.release();
    assert_eq!(early.answer().await.text(), "old");
    hold.next().await.release();
    assert_eq!(fresh.answer().await.text(), "new");
}

#[tokio::test]
async fn r11_an_answer_before_the_end_of_the_upload_proves_nothing() {
    let mut origin = Origin::start().await;
    let proxy = Proxy::start(&one_route(STRONG), &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("PUT", "/x", &[("Content-Length", "10")], b"half").await;
    let mut exchange = origin.next().await;
    exchange.body_part().await;
    exchange.head(204, &[]).await;
    eventually("the resource to be unsettled", || async {
        proxy.status().await["unsettled"].as_array().unwrap().len() == 1
    })
    .await;
}
