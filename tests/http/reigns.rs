//! Another node takes over while a request is under way, where the nodes do not share one store: what the deposed one says counts no more
//! (R29), nor does what it said before (R53), and which node a write was meant for can be told by its epoch (R54).

use super::support::client::{Answer, Client, Fields};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::Proxy;

/// Node `a` is the primary, `b` follows it; the operator promotes.
async fn over(a: &Origin, b: &Origin, upstream: &str, route: &str) -> Proxy {
    let config = format!(
        "[upstreams.o]\nmode = \"active-passive\"\nreplication = \"primary\"\nmax_lag = \"0s\"\n\
         nodes = [{{ url = \"{{a}}\", name = \"a\" }}, {{ url = \"{{b}}\", name = \"b\" }}]\n{upstream}\n\n\
         [upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"20ms\"\ntimeout = \"2s\"\n\n\
         [[routes]]\nname = \"r\"\nupstream = \"o\"\n{route}\n"
    );
    let proxy = Proxy::start(&config, &[("a", &a.url()), ("b", &b.url())]).await;
    proxy.until_state("o", "b", "standby").await;
    proxy
}

async fn promote(proxy: &Proxy, node: &str) {
    let answer = proxy
        .admin_post(&format!("/upstreams/o/nodes/{node}/promote"), "")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

const STRONG: &str = "consistency = \"strong\"";
const EXCLUSIVE: &str = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"20ms\"";

#[tokio::test]
async fn r29_a_write_whose_primary_is_deposed_before_the_acknowledgement_is_unknown() {
    for (method, status) in [("PUT", 204), ("POST", 201), ("DELETE", 200), ("PATCH", 409)] {
        let (mut a, b) = (Origin::start().await, Origin::start().await);
        let proxy = over(&a, &b, "", STRONG).await;
        let mut client = proxy.client().await;
        client.ask(method, "/x", &[], b"v").await;
        let mut exchange = a.next().await;
        exchange.body().await;
        promote(&proxy, "b").await;
        exchange.respond(status, &[], "").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"), "{method}");
        let unknown = [("route", "r"), ("outcome", "unknown")];
        assert_eq!(proxy.metric("tidegate_writes_total", &unknown).await, 1.0, "{method}");
        // The next one is the new primary's.
        let mut b = b;
        client.ask(method, "/x", &[], b"w").await;
        b.next().await.respond(status, &[], "").await;
        assert_eq!(client.answer().await.status, status);
    }
}

/// A strong read that is under way at `a` when `b` is promoted: what `a` answers, and what `b` answers then.
async fn asked_again(proxy: &Proxy, client: &mut Client, a: &mut Origin, b: &mut Origin, old: Exchange) -> Answer {
    promote(proxy, "b").await;
    old.respond(200, &[("ETag", "\"old\"")], "old").await;
    b.next().await.respond(200, &[("ETag", "\"new\"")], "new").await;
    a.expect_idle().await;
    client.answer().await
}

#[tokio::test]
async fn r29_a_strong_read_of_whatever_kind_is_asked_again_at_the_new_primary() {
    let kinds: [(&str, Fields<'_>, &[u8]); 5] = [
        ("GET", &[], b""),
        ("GET", &[("Range", "bytes=0-1")], b""),
        ("GET", &[("If-None-Match", "\"old\"")], b""),
        ("GET", &[("Authorization", "Basic eDp5")], b""),
        ("QUERY", &[("Content-Type", "text/plain")], b"select"),
    ];
    for route in [STRONG, EXCLUSIVE] {
        for (method, fields, body) in kinds {
            let (mut a, mut b) = (Origin::start().await, Origin::start().await);
            let proxy = over(&a, &b, "", route).await;
            let mut client = proxy.client().await;
            client.ask(method, "/x", fields, body).await;
            let old = a.next().await;
            let answer = asked_again(&proxy, &mut client, &mut a, &mut b, old).await;
            assert!(
                matches!(answer.status, 200 | 206) && answer.text().starts_with("ne"),
                "{method} {fields:?}: {} {}",
                answer.status,
                answer.text()
            );
        }
        let (mut a, mut b) = (Origin::start().await, Origin::start().await);
        let proxy = over(&a, &b, "", route).await;
        let mut client = proxy.client().await;
        client.ask("HEAD", "/x", &[], b"").await;
        let old = a.next().await;
        let answer = asked_again(&proxy, &mut client, &mut a, &mut b, old).await;
        assert_eq!(answer.header("etag"), Some("\"new\""), "HEAD");
    }
}

#[tokio::test]
async fn r29_those_who_wait_for_one_fetch_get_the_new_primarys_answer() {
    let (mut a, mut b) = (Origin::start().await, Origin::start().await);
    let proxy = over(&a, &b, "", EXCLUSIVE).await;
    let mut first = proxy.client().await;
    first.ask("GET", "/x", &[], b"").await;
    let old = a.next().await;
    let mut second = proxy.client().await;
    second.ask("GET", "/x", &[], b"").await;
    promote(&proxy, "b").await;
    old.respond(200, &[("ETag", "\"old\"")], "old").await;
    // One fetch, or one each: by whether the second came in time to join. Whichever it is, only the new primary's answer counts.
    let both = async {
        let first = first.answer().await;
        (first, second.answer().await)
    };
    tokio::pin!(both);
    let (one, other) = loop {
        tokio::select! {
            both = &mut both => break both,
            exchange = a.next_or_never() => exchange.respond(200, &[("ETag", "\"old\"")], "old").await,
            exchange = b.next_or_never() => exchange.respond(200, &[("ETag", "\"new\"")], "new").await,
        }
    };
    assert_eq!((one.text(), other.text()), ("new", "new"));
}

#[tokio::test]
async fn r53_what_a_deposed_primary_said_is_no_condition_no_answer_and_no_stand_in() {
    let eventual = "consistency = \"eventual\"\nttl = \"1h\"\nmax_staleness = \"1h\"\non_unreachable = \"stale\"";
    for route in [EXCLUSIVE, eventual] {
        let (mut a, mut b) = (Origin::start().await, Origin::start().await);
        let proxy = over(&a, &b, "", route).await;
        let mut client = proxy.client().await;
        // An exclusive route proves nothing until settle_after is over.
        loop {
            client.ask("GET", "/x", &[], b"").await;
            tokio::select! {
                exchange = a.next() => {
                    exchange.respond(200, &[("ETag", "\"1\"")], "old").await;
                    client.answer().await;
                }
                answer = client.answer() => {
                    assert!(answer.is_hit());
                    break;
                }
            }
        }
        promote(&proxy, "b").await;
        // It cannot be reached for a moment: nothing old stands in for it.
        client.ask("GET", "/x", &[], b"").await;
        b.next().await.respond(503, &[], "busy").await;
        let refused = loop {
            tokio::select! {
                answer = client.answer() => break answer,
                exchange = b.next_or_never() => exchange.respond(503, &[], "busy").await,
            }
        };
        assert_eq!(refused.status, 503, "{}", refused.text());
        client.ask("GET", "/x", &[], b"").await;
        let exchange = b.next().await;
        assert_eq!(
            exchange.header("if-none-match"),
            None,
            "two nodes may use one ETag for two states"
        );
        exchange.respond(200, &[("ETag", "\"1\"")], "new").await;
        assert_eq!(client.answer().await.text(), "new");
    }
}

/// The `Tidegate-Epoch` lines of a request.
fn epochs(exchange: &Exchange) -> Vec<u64> {
    let lines = exchange.headers.all("tidegate-epoch");
    lines.into_iter().map(|line| line.parse().unwrap()).collect()
}

const OWNED: &str = "[upstreams.o.failover]\npromotion = \"automatic\"\nunclean = true";

#[tokio::test]
async fn r54_a_node_is_told_the_epoch_of_a_write_and_refuses_it_by_a_later_one() {
    let (mut a, b) = (Origin::start().await, Origin::start().await);
    let proxy = over(&a, &b, OWNED, STRONG).await;
    let epoch = proxy.status().await["upstreams"][0]["epoch"].as_u64().unwrap();
    let mut client = proxy.client().await;
    let (later, same) = ((epoch + 1).to_string(), epoch.to_string());
    let cases: [(&str, Fields<'_>, u16, &str); 4] = [
        ("of the client's conditions", &[], 412, ""),
        ("in the same epoch", &[("Tidegate-Epoch", &same)], 412, ""),
        ("by no number", &[("Tidegate-Epoch", "later")], 412, ""),
        // The last one: from then on another epoch reigns, and no write is sent any more (tests/http/rivals.rs).
        ("by a later epoch", &[("Tidegate-Epoch", &later)], 503, "not-applied"),
    ];
    for (case, fields, status, problem) in cases {
        // What a client says of epochs is not believed, nor passed on.
        let said = [("Tidegate-Epoch", "99999999999999999")];
        client.ask("PUT", "/x", &said, b"v").await;
        let exchange = a.next().await;
        assert_eq!(epochs(&exchange), [epoch], "{case}");
        exchange.respond(412, fields, "").await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{case}");
        if !problem.is_empty() {
            assert_eq!(answer.problem(), problem, "{case}");
        }
        assert_eq!(answer.header("tidegate-epoch"), None, "{case}");
        if status == 503 {
            break;
        }
        client.ask("GET", "/x", &said, b"").await;
        let exchange = a.next().await;
        assert!(epochs(&exchange).is_empty(), "reads carry none");
        exchange.respond(200, fields, "").await;
        assert_eq!(client.answer().await.header("tidegate-epoch"), None, "{case}");
    }
}

#[tokio::test]
async fn r54_where_tidegate_does_not_promote_nodes_are_told_no_epoch() {
    let (mut a, b) = (Origin::start().await, Origin::start().await);
    let proxy = over(&a, &b, "", STRONG).await;
    let mut client = proxy.client().await;
    client.ask("PUT", "/x", &[("Tidegate-Epoch", "1")], b"v").await;
    let exchange = a.next().await;
    assert!(epochs(&exchange).is_empty());
    exchange
        .respond(412, &[("Tidegate-Epoch", "99999999999999999")], "")
        .await;
    assert_eq!(client.answer().await.status, 412, "the client's own");
}

#[tokio::test]
async fn explain_says_who_answers_what_not_every_node_may() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    let proxy = over(&a, &b, "", STRONG).await;
    for (node, method) in [("a", "GET"), ("a", "PUT"), ("b", "GET")] {
        promote(&proxy, node).await;
        let told = proxy.admin_get(&format!("/explain?method={method}&url=/x")).await;
        let said = format!("the primary answers it, now {node} (R29)");
        assert!(told.text().contains(&said), "{}", told.text());
    }
}
