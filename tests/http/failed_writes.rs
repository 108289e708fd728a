//! What a write that failed leaves of what is stored: RFC 9111 s4.4 where readers were promised no more, all of it gone where a strong
//! route reads the same resources, or where nothing definite came back (R11).

use super::support::client::Client;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Held, Node, Point, Register};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const EVENTUAL: &str = "consistency = \"eventual\"\nttl = \"1h\"\nmax_staleness = \"1h\"";
const ONE_ATTEMPT: &str = "\n[upstreams.o.retry]\nattempts = 1\n";

/// A strong route beside it, on the same upstream.
fn strong_beside(keys: &str) -> String {
    format!(
        "[upstreams.o]\nnodes = [{{ url = \"{{origin}}\" }}]\n{ONE_ATTEMPT}\n\
        [[routes]]\nname = \"strong\"\nmatch = {{ headers = {{ \"X-Level\" = \"strong\" }} }}\nupstream = \"o\"\n\
        consistency = \"strong\"\nsettle_after = \"1ms\"\n\n\
        [[routes]]\nname = \"r\"\nupstream = \"o\"\n{keys}\n"
    )
}

async fn over(config: &str) -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let proxy = Proxy::start(config, &[("origin", &node.url())]).await;
    (register, node, proxy)
}

/// A write whose node does this after it has applied it.
async fn write(register: &Register, proxy: &Proxy, node_does: fn(Held)) -> u16 {
    let mut hold = register.hold("PUT", "/x", Point::Applied);
    let mut writer = asks(proxy, "PUT").await;
    node_does(hold.next().await);
    drop(hold);
    writer.answer().await.status
}

async fn asks(proxy: &Proxy, method: &str) -> Client {
    let mut client = proxy.client().await;
    client.ask(method, "/x", &[], b"new").await;
    client
}

#[tokio::test]
async fn rfc9111_s4_4_an_origins_own_failure_drops_nothing_where_no_strong_route_reads() {
    type Case = (&'static str, fn(Held), bool);
    let cases: [Case; 6] = [
        ("500", |held| held.answer(500), true),
        ("503", |held| held.answer(503), true),
        ("404: it was refused", |held| held.answer(404), true),
        ("202: a promise", |held| held.answer(202), false),
        ("r11: no answer", Held::close, false),
        ("r11: a reset", Held::reset, false),
    ];
    for keys in [WEAK, EVENTUAL] {
        for (name, node_does, stays) in cases {
            let (register, _node, proxy) = over(&(one_route(keys) + ONE_ATTEMPT)).await;
            assert_eq!(proxy.get("/x").await.text(), "old");
            write(&register, &proxy, node_does).await;
            let read = proxy.get("/x").await;
            assert_eq!(read.is_hit(), stays, "{name}, {keys}: {}", read.cache_status());
            assert_eq!(read.text(), if stays { "old" } else { "new" }, "{name}, {keys}");
            assert!(
                proxy.status().await["unsettled"].as_array().unwrap().is_empty(),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn r11_an_origins_own_failure_drops_everything_where_a_strong_route_reads() {
    for status in [500, 503] {
        let (register, _node, proxy) = over(&strong_beside(WEAK)).await;
        assert_eq!(proxy.get("/x").await.text(), "old");
        assert!(proxy.get("/x").await.is_hit());
        let answer = if status == 500 {
            |held: Held| held.answer(500)
        } else {
            |held: Held| held.answer(503)
        };
        assert_eq!(write(&register, &proxy, answer).await, status);
        let read = proxy.get("/x").await;
        assert_eq!((read.is_hit(), read.text()), (false, "new"), "{status}");
    }
}

#[tokio::test]
async fn r20_a_connection_that_its_node_no_longer_keeps_carries_no_write() {
    for (said, connections) in [("timeout=0", 2), ("timeout=60, max=100", 1), ("max=100", 1)] {
        let mut origin = Origin::start().await;
        let config = "[server]\nthreads = 1\n".to_owned() + &one_route(WEAK);
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let mut client = proxy.client().await;
        for _ in 0..2 {
            client.ask("PUT", "/x", &[], b"new").await;
            let mut exchange = origin.next().await;
            exchange.body().await;
            exchange.respond(204, &[("Keep-Alive", said)], "").await;
            assert_eq!(client.answer().await.status, 204, "{said}");
        }
        assert_eq!(origin.accepted(), connections, "{said}");
    }
}

#[tokio::test]
async fn r1_a_fill_that_a_failed_write_has_overtaken_is_not_stored() {
    let (register, _node, proxy) = over(&(one_route(WEAK) + ONE_ATTEMPT)).await;
    let mut reads = register.hold("GET", "/x", Point::Applied);
    let mut reader = asks(&proxy, "GET").await;
    let read_old = reads.next().await;
    drop(reads);
    assert_eq!(write(&register, &proxy, |held| held.answer(500)).await, 500);
    read_old.release();
    assert_eq!(reader.answer().await.text(), "old", "its own reader may have it");
    let read = proxy.get("/x").await;
    assert_eq!(
        (read.is_hit(), read.text()),
        (false, "new"),
        "the write was applied after all"
    );
}
