//! `POST /purge`: when it has answered, nothing of what it named is served, whatever was in flight.

use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Node, Point, Register};

async fn over(keys: &str) -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(keys), &[("origin", &node.url())]).await;
    (register, node, proxy)
}

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";

#[tokio::test]
async fn a_purged_url_is_fetched_again_and_others_stay() {
    let (register, _node, proxy) = over(WEAK).await;
    register.write("/y", "other");
    proxy.get("/x").await;
    proxy.get("/y").await;
    assert!(proxy.get("/x").await.is_hit());
    register.write("/x", "new");
    assert_eq!(proxy.purge(r#"{"url": "http://shop.example/x"}"#).await, 1);
    assert_eq!(proxy.get("/x").await.text(), "new");
    assert!(proxy.get("/y").await.is_hit());
    assert_eq!(proxy.purge(r#"{"url": "http://shop.example/never"}"#).await, 0);
}

#[tokio::test]
async fn a_path_purges_it_on_every_host_with_all_variants() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("/x", "Vary", "Accept-Language");
    for host in ["a.example", "b.example"] {
        for language in ["de", "en"] {
            let headers = [("Host", host), ("Accept-Language", language)];
            proxy.get_with("/x", &headers).await;
            assert!(proxy.get_with("/x", &headers).await.is_hit());
        }
    }
    assert_eq!(proxy.purge(r#"{"url": "/x"}"#).await, 4);
    register.write("/x", "new");
    for host in ["a.example", "b.example"] {
        for language in ["de", "en"] {
            let answer = proxy
                .get_with("/x", &[("Host", host), ("Accept-Language", language)])
                .await;
            assert_eq!(answer.text(), "new");
        }
    }
}

#[tokio::test]
async fn purge_all_empties_the_cache() {
    let (register, _node, proxy) = over(WEAK).await;
    for n in 0..20 {
        register.write(&format!("/{n}"), "v");
        proxy.get(&format!("/{n}")).await;
    }
    assert_eq!(proxy.status().await["cache"]["entries"], 20);
    assert_eq!(proxy.purge(r#"{"all": true}"#).await, 20);
    assert_eq!(proxy.status().await["cache"]["entries"], 0);
    for n in 0..20 {
        assert!(!proxy.get(&format!("/{n}")).await.is_hit());
    }
}

#[tokio::test]
async fn a_fill_in_flight_does_not_outlive_a_purge() {
    for (json, point) in [
        (r#"{"url": "http://shop.example/x"}"#, Point::Applied),
        (r#"{"url": "http://shop.example/x"}"#, Point::MidBody),
        (r#"{"url": "/x"}"#, Point::Applied),
        (r#"{"all": true}"#, Point::Applied),
        (r#"{"all": true}"#, Point::MidBody),
        (r#"{"prefix": "/"}"#, Point::Applied),
        (r#"{"prefix": "http://shop.example/x"}"#, Point::MidBody),
        (r#"{"route": "r"}"#, Point::Applied),
        (r#"{"route": "r"}"#, Point::MidBody),
        (r#"{"url": "/x", "soft": true}"#, Point::Applied),
        (r#"{"prefix": "/x", "soft": true}"#, Point::Applied),
        (r#"{"route": "r", "soft": true}"#, Point::MidBody),
        (r#"{"all": true, "soft": true}"#, Point::Applied),
    ] {
        let (register, _node, proxy) = over(WEAK).await;
        let mut hold = register.hold("GET", "/x", point);
        let mut reader: Client = proxy.client().await;
        reader.ask("GET", "/x", &[], b"").await;
        let in_flight = hold.next().await;
        register.write("/x", "new");
        proxy.purge(json).await;
        in_flight.release();
        drop(hold);
        assert_eq!(reader.answer().await.text(), "old");
        assert_eq!(proxy.get("/x").await.text(), "new", "{json} {point:?}");
    }
}

#[tokio::test]
async fn a_reader_after_the_purge_does_not_join_the_fill_from_before() {
    let (register, _node, proxy) = over(WEAK).await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = proxy.client().await;
    early.ask("GET", "/x", &[], b"").await;
    let sent = hold.next().await;
    register.write("/x", "new");
    proxy.purge(r#"{"url": "/x"}"#).await;
    let mut late = proxy.client().await;
    late.ask("GET", "/x", &[], b"").await;
    let own = hold.next().await;
    sent.release();
    own.release();
    assert_eq!(early.answer().await.text(), "old");
    assert_eq!(late.answer().await.text(), "new");
}

#[tokio::test]
async fn a_purge_also_ends_a_revalidation_in_flight() {
    let (register, _node, proxy) = over("consistency = \"weak\"").await;
    register.answer_with("/x", "Cache-Control", "max-age=0, stale-while-revalidate=60");
    proxy.get("/x").await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    assert_eq!(proxy.get("/x").await.text(), "old");
    let refresh = hold.next().await;
    register.write("/x", "new");
    proxy.purge(r#"{"url": "/x"}"#).await;
    refresh.release();
    drop(hold);
    assert_eq!(
        proxy.get("/x").await.text(),
        "new",
        "a 304 of before the purge brought the entry back"
    );
}

#[tokio::test]
async fn a_prefix_purges_what_begins_with_it_on_every_host_or_one() {
    let (register, _node, proxy) = over(WEAK).await;
    let paths = ["/a", "/ab", "/a/1", "/a/2?q=1", "/a/2?q=2", "/b/a/1"];
    for path in ["/a", "/ab", "/a/1", "/a/2", "/b/a/1"] {
        register.write(path, "v");
    }
    let fill = async |host: &str| {
        for path in paths {
            proxy.get_with(path, &[("Host", host)]).await;
        }
    };
    let stored = async |host: &str| {
        let mut hits = Vec::new();
        for path in paths {
            let headers = [("Host", host), ("Cache-Control", "only-if-cached")];
            if proxy.get_with(path, &headers).await.is_hit() {
                hits.push(path);
            }
        }
        hits
    };
    for (prefix, entries, left_on_a, left_on_b) in [
        ("/a/", 6, vec!["/a", "/ab", "/b/a/1"], vec!["/a", "/ab", "/b/a/1"]),
        (
            "/x/../%61/",
            6,
            vec!["/a", "/ab", "/b/a/1"],
            vec!["/a", "/ab", "/b/a/1"],
        ),
        ("/a", 10, vec!["/b/a/1"], vec!["/b/a/1"]),
        ("http://A.example:80/a/", 3, vec!["/a", "/ab", "/b/a/1"], paths.to_vec()),
        ("http://b.example", 6, paths.to_vec(), vec![]),
        ("http://a.example:81/", 0, paths.to_vec(), paths.to_vec()),
        ("/c", 0, paths.to_vec(), paths.to_vec()),
    ] {
        fill("a.example").await;
        fill("b.example").await;
        let before = register.seen().len();
        assert_eq!(
            proxy.purge(&format!(r#"{{"prefix": "{prefix}"}}"#)).await,
            entries,
            "{prefix}"
        );
        assert_eq!(stored("a.example").await, left_on_a, "{prefix}");
        assert_eq!(stored("b.example").await, left_on_b, "{prefix}");
        assert_eq!(register.seen().len(), before, "only-if-cached asks nobody");
    }
}

#[tokio::test]
async fn a_route_purges_what_it_has_stored_and_not_what_another_has_of_the_same_resource() {
    let register = Register::new();
    register.write("/x", "v");
    register.write("/y", "v");
    let node = register.node("a").await;
    let config = "[upstreams.o]\nnodes = [{ url = \"{origin}\" }]\n\n\
        [[routes]]\nname = \"one\"\nmatch = { host = \"one.example\" }\nupstream = \"o\"\nconsistency = \"weak\"\nttl = \"1h\"\n\n\
        [[routes]]\nname = \"two\"\nupstream = \"o\"\nconsistency = \"eventual\"\nttl = \"1h\"\n";
    let proxy = Proxy::start(config, &[("origin", &node.url())]).await;
    let get = async |host: &str, path: &str| proxy.get_with(path, &[("Host", host)]).await.is_hit();
    for host in ["one.example", "two.example"] {
        for path in ["/x", "/y"] {
            assert!(!get(host, path).await);
        }
    }
    assert_eq!(proxy.purge(r#"{"route": "one"}"#).await, 2);
    assert!(get("two.example", "/x").await && get("two.example", "/y").await);
    assert!(!get("one.example", "/x").await && !get("one.example", "/y").await);
    let unknown = proxy.admin_post("/purge", r#"{"route": "three"}"#).await;
    assert_eq!(unknown.status, 400);
    assert!(
        unknown.text().contains("no route is called `three`"),
        "{}",
        unknown.text()
    );
}

const SOFT: &str = r#"{"url": "/x", "soft": true}"#;

#[tokio::test]
async fn after_a_soft_purge_the_next_readers_share_one_validation_and_the_body_stays() {
    let (register, _node, proxy) = over(WEAK).await;
    register.write("/y", "other");
    proxy.get("/x").await;
    proxy.get("/y").await;
    assert_eq!(proxy.purge(SOFT).await, 1);
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut first: Client = proxy.client().await;
    first.ask("GET", "/x", &[], b"").await;
    let asked = hold.next().await;
    assert!(asked.seen.headers.has("if-none-match"));
    let mut second: Client = proxy.client().await;
    second.ask("GET", "/x", &[], b"").await;
    // The second one's request has been read when one that came after it, on either thread, is answered.
    for _ in 0..4 {
        proxy.get("/y").await;
    }
    asked.release();
    drop(hold);
    let status = first.answer().await;
    assert!(
        status.cache_status().contains("fwd=stale; fwd-status=304"),
        "{}",
        status.cache_status()
    );
    assert_eq!((status.text(), second.answer().await.text()), ("old", "old"));
    assert_eq!(register.count("GET", "/x"), 2);
    assert!(proxy.get("/x").await.is_hit(), "validated, it is fresh again");
    assert!(proxy.get("/y").await.is_hit());
}

#[tokio::test]
async fn a_soft_purge_shows_what_is_new_and_counts_what_it_marked() {
    let (register, _node, proxy) = over(WEAK).await;
    register.write("/y", "old");
    for json in [
        SOFT,
        r#"{"prefix": "/", "soft": true}"#,
        r#"{"route": "r", "soft": true}"#,
        r#"{"all": true, "soft": true}"#,
    ] {
        proxy.get("/x").await;
        proxy.get("/y").await;
        let marked = if json == SOFT { 1 } else { 2 };
        assert_eq!(proxy.purge(json).await, marked, "{json}");
        assert_eq!(proxy.purge(json).await, 0, "they are marked already: {json}");
        assert_eq!(proxy.status().await["cache"]["entries"], 2, "they are still stored");
        let new = format!("after {json}");
        register.write("/x", &new);
        assert_eq!(proxy.get("/x").await.text(), new);
        assert!(proxy.get("/x").await.is_hit());
        assert_eq!(proxy.get("/y").await.is_hit(), json == SOFT, "{json}");
    }
}

#[tokio::test]
async fn after_a_soft_purge_stale_while_revalidate_serves_once_more_and_says_so() {
    let (register, _node, proxy) = over("consistency = \"weak\"").await;
    register.answer_with("/x", "Cache-Control", "max-age=3600, stale-while-revalidate=60");
    proxy.get("/x").await;
    assert_eq!(proxy.purge(SOFT).await, 1);
    register.write("/x", "new");
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let answer = proxy.get("/x").await;
    assert_eq!(answer.text(), "old");
    assert!(
        answer.cache_status().contains("ttl=0") || answer.cache_status().contains("ttl=-"),
        "{}",
        answer.cache_status()
    );
    proxy
        .until_metric("tidegate_requests_total", &[("result", "stale")], 1.0)
        .await;
    hold.next().await.release();
    drop(hold);
    eventually("the refresh", || async { proxy.get("/x").await.text() == "new" }).await;
    assert!(proxy.get("/x").await.is_hit());
}

#[tokio::test]
async fn after_a_soft_purge_stale_if_error_stands_in_and_must_revalidate_does_not() {
    for (control, expected) in [
        ("max-age=3600, stale-if-error=60", 200),
        ("max-age=3600, must-revalidate, stale-if-error=60", 504),
    ] {
        let (register, node, proxy) = over("consistency = \"weak\"").await;
        register.answer_with("/x", "Cache-Control", control);
        proxy.get("/x").await;
        assert_eq!(proxy.purge(SOFT).await, 1);
        node.down().await;
        assert_eq!(proxy.get("/x").await.status, expected, "{control}");
        node.up().await;
        register.write("/x", "new");
        assert_eq!(proxy.get("/x").await.text(), "new", "{control}");
    }
}

#[tokio::test]
async fn a_validation_in_flight_does_not_undo_a_soft_purge() {
    let (register, _node, proxy) = over("consistency = \"weak\"").await;
    register.answer_with("/x", "Cache-Control", "max-age=3600");
    proxy.get("/x").await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = proxy.client().await;
    early.ask("GET", "/x", &[("Cache-Control", "no-cache")], b"").await;
    let validation = hold.next().await;
    register.write("/x", "new");
    assert_eq!(proxy.purge(SOFT).await, 1);
    validation.release();
    drop(hold);
    assert_eq!(early.answer().await.text(), "old", "it was asked before the purge");
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn a_soft_purge_takes_the_proof_of_an_exclusive_route_until_the_next_validation() {
    let (register, _node, proxy) =
        over("consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"100ms\"").await;
    eventually("exclusive gear", || async {
        proxy.get("/x").await.consistency() == "strong;proof=exclusive"
    })
    .await;
    for json in [SOFT, r#"{"route": "r", "soft": true}"#] {
        assert_eq!(proxy.purge(json).await, 1);
        // Who purges says that something changed behind the proxy's back.
        register.write("/x", json);
        let answer = proxy.get("/x").await;
        assert_eq!((answer.text(), answer.consistency()), (json, "strong;proof=validated"));
        let asked = register.seen().len();
        assert_eq!(proxy.get("/x").await.consistency(), "strong;proof=exclusive");
        assert_eq!(register.seen().len(), asked);
    }
}

#[tokio::test]
async fn what_a_purge_does_not_understand_is_400_and_purges_nothing() {
    let (_register, _node, proxy) = over(WEAK).await;
    proxy.get("/x").await;
    for json in [
        "",
        "not json",
        "{}",
        r#"{"url": 7}"#,
        r#"{"urls": "/x"}"#,
        r#"{"url": "/x", "all": true}"#,
        r#"{"prefix": "/x", "route": "r"}"#,
        r#"{"prefix": "x"}"#,
        r#"{"prefix": "/x?q"}"#,
        r#"{"prefix": "/x#f"}"#,
        r#"{"route": "s"}"#,
        r#"{"soft": true}"#,
    ] {
        let answer = proxy.admin_post("/purge", json).await;
        assert!((400..500).contains(&answer.status), "{json}: {}", answer.status);
    }
    assert!(proxy.get("/x").await.is_hit());
}
