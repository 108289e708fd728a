//! What a write declares to change: `invalidates` on its route, and `POST /begin` for writers outside (R12, R41). Gated before the write
//! is forwarded, whatever the contract of its own route.

use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::register::{Node, Point, Register};

const UPSTREAM: &str = "[upstreams.o]\nnodes = [{ url = \"{origin}\" }]\n[upstreams.o.retry]\nattempts = 1\n\n";

/// Writes to `/orders/{id}` on an `off` route declare `invalidates`; everything else is read under `keys`.
async fn over(upstream: &str, invalidates: &str, keys: &str) -> (Register, Node, Proxy) {
    let register = Register::new();
    for path in ["/orders", "/orders/7", "/orders/8", "/list"] {
        register.write(path, "old");
    }
    let node = register.node("a").await;
    let config = format!(
        "{upstream}[[routes]]\nname = \"writes\"\nmatch = {{ path = \"/orders/{{id}}\", methods = [\"PUT\", \"POST\", \"DELETE\"] }}\n\
         upstream = \"o\"\ninvalidates = {invalidates}\n\n\
         [[routes]]\nname = \"reads\"\nupstream = \"o\"\n{keys}\n"
    );
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    (register, node, proxy)
}

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const EXCLUSIVE: &str = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"100ms\"";

async fn stored(proxy: &Proxy, path: &str) -> bool {
    let only = [("Cache-Control", "only-if-cached")];
    proxy.get_with(path, &only).await.is_hit()
}

async fn asks(proxy: &Proxy, method: &str, target: &str, body: &str) -> Client {
    let mut client = proxy.client().await;
    client.ask(method, target, &[], body.as_bytes()).await;
    client
}

#[tokio::test]
async fn r12_a_write_takes_what_its_route_declares_with_it() {
    let declared = r#"["/orders", "/orders/{id}/items", "tag:all", "tag:order-{id}"]"#;
    let (register, _node, proxy) = over(UPSTREAM, declared, WEAK).await;
    register.write("/orders/7/items", "old");
    register.write("/tagged", "old");
    register.write("/ordered", "old");
    register.answer_with("/tagged", "Surrogate-Key", "all");
    register.answer_with("/ordered", "Cache-Groups", "\"order-7\"");
    let gone = [
        "/orders",
        "/orders?page=2",
        "/orders/7",
        "/orders/7/items",
        "/tagged",
        "/ordered",
    ];
    let kept = ["/orders/8", "/list"];
    for path in gone.iter().chain(&kept) {
        proxy.get(path).await;
        assert!(stored(&proxy, path).await, "{path}");
    }
    // On every host: the path names none.
    proxy.get_with("/orders", &[("Host", "other.example")]).await;
    assert_eq!(proxy.put("/orders/%37", "new").await.status, 204);
    for path in gone {
        assert!(!stored(&proxy, path).await, "{path}");
    }
    for path in kept {
        assert!(stored(&proxy, path).await, "{path}");
    }
    let other = [("Host", "other.example"), ("Cache-Control", "only-if-cached")];
    assert!(!proxy.get_with("/orders", &other).await.is_hit());
}

#[tokio::test]
async fn r12_a_refused_write_takes_nothing_with_it() {
    let (register, _node, proxy) = over(UPSTREAM, r#"["/list", "tag:all"]"#, WEAK).await;
    register.answer_with("/orders", "Surrogate-Key", "all");
    proxy.get("/list").await;
    proxy.get("/orders").await;
    assert_eq!(proxy.request("DELETE", "/orders/9", &[], "").await.status, 404);
    assert!(stored(&proxy, "/list").await && stored(&proxy, "/orders").await);
}

#[tokio::test]
async fn r1_r3_r12_a_fill_in_flight_of_what_is_declared_is_not_stored() {
    for declared in [r#"["/list"]"#, r#"["tag:all"]"#] {
        // The fill begins before the write, or while it is under way.
        for before in [true, false] {
            let (register, _node, proxy) = over(UPSTREAM, declared, WEAK).await;
            register.answer_with("/list", "Surrogate-Key", "all");
            let mut reads = register.hold("GET", "/list", Point::Applied);
            let mut writes = register.hold("PUT", "/orders/7", Point::Arrived);
            let mut reader: Option<Client> = None;
            let mut read = None;
            if before {
                reader = Some(asks(&proxy, "GET", "/list", "").await);
                read = Some(reads.next().await);
            }
            let mut writer = asks(&proxy, "PUT", "/orders/7", "new").await;
            let write = writes.next().await;
            let mut reader = match reader {
                Some(reader) => reader,
                None => asks(&proxy, "GET", "/list", "").await,
            };
            let read = match read {
                Some(read) => read,
                None => reads.next().await,
            };
            register.write("/list", "new"); // what the write does
            write.release();
            assert_eq!(writer.answer().await.status, 204);
            read.release();
            drop(reads);
            assert_eq!(reader.answer().await.text(), "old", "it began before the ack");
            assert_eq!(proxy.get("/list").await.text(), "new", "{declared} before: {before}");
        }
    }
}

#[tokio::test]
async fn r12a_what_carries_a_declared_tag_is_not_stored_while_the_write_is_under_way() {
    let (register, _node, proxy) = over(UPSTREAM, r#"["tag:all"]"#, WEAK).await;
    register.answer_with("/list", "Surrogate-Key", "all");
    let mut writes = register.hold("PUT", "/orders/7", Point::Arrived);
    let mut writer = asks(&proxy, "PUT", "/orders/7", "new").await;
    let write = writes.next().await;
    proxy.get("/list").await;
    assert!(!stored(&proxy, "/list").await, "the tag is busy");
    proxy.get("/orders").await;
    assert!(stored(&proxy, "/orders").await, "others are stored");
    write.release();
    assert_eq!(writer.answer().await.status, 204);
    proxy.get("/list").await;
    assert!(stored(&proxy, "/list").await);
}

#[tokio::test]
async fn r12_what_is_declared_leaves_exclusive_service_before_the_write_is_forwarded() {
    for declared in [r#"["/list"]"#, r#"["tag:all"]"#] {
        let (register, _node, proxy) = over(UPSTREAM, declared, EXCLUSIVE).await;
        register.answer_with("/list", "Surrogate-Key", "all");
        eventually("exclusive gear", || async {
            proxy.get("/list").await.consistency() == "strong;proof=exclusive"
        })
        .await;
        let mut writes = register.hold("PUT", "/orders/7", Point::Arrived);
        let mut writer = asks(&proxy, "PUT", "/orders/7", "new").await;
        let write = writes.next().await;
        for _ in 0..2 {
            let answer = proxy.get("/list").await;
            assert_eq!(
                answer.consistency(),
                "strong;proof=validated",
                "{declared}: the write is under way"
            );
        }
        register.write("/list", "new");
        assert_eq!(proxy.get("/list").await.text(), "new");
        write.release();
        assert_eq!(writer.answer().await.status, 204);
        assert_eq!(proxy.get("/list").await.text(), "new");
        assert_eq!(
            proxy.get("/list").await.consistency(),
            "strong;proof=exclusive",
            "{declared}"
        );
    }
}

#[tokio::test]
async fn r11_r12_an_unknown_write_unsettles_all_that_it_declares() {
    let keys = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"1500ms\"";
    let (register, _node, proxy) = over(UPSTREAM, r#"["/list", "tag:all"]"#, keys).await;
    register.answer_with("/orders", "Surrogate-Key", "all");
    eventually("exclusive gear", || async {
        proxy.get("/orders").await.consistency() == "strong;proof=exclusive"
    })
    .await;
    let mut writes = register.hold("PUT", "/orders/7", Point::Applied);
    let mut writer = asks(&proxy, "PUT", "/orders/7", "new").await;
    writes.next().await.close();
    assert_eq!(writer.answer().await.status, 502, "the route of the write is off");
    let status = proxy.status().await;
    let mut unsettled: Vec<&str> = status["unsettled"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| u["path"].as_str().unwrap())
        .collect();
    unsettled.sort_unstable();
    assert_eq!(unsettled, ["/list", "/orders/7", "tag:all"]);
    for path in ["/list", "/orders"] {
        for _ in 0..2 {
            assert_eq!(proxy.get(path).await.consistency(), "strong;proof=validated", "{path}");
        }
    }
    for path in ["/list", "/orders"] {
        eventually("settled", || async {
            proxy.get(path).await.consistency() == "strong;proof=exclusive"
        })
        .await;
    }
}

#[tokio::test]
async fn r12_a_declared_path_is_resolved_through_the_routes_to_whatever_upstream_reads_it() {
    let register = Register::new();
    register.write("/v2/books", "old");
    let node = register.node("a").await;
    let config = "[upstreams.one]\nnodes = [{ url = \"{origin}\" }]\n[upstreams.two]\nnodes = [{ url = \"{origin}\" }]\n\n\
        [[routes]]\nmatch = { host = \"admin.example\", path = \"/{*rest}\" }\nupstream = \"one\"\ninvalidates = [\"/{*rest}\"]\n\n\
        [[routes]]\nmatch = { host = \"shop.example\", path = \"/books\" }\nupstream = \"two\"\nrewrite = \"/v2/books\"\n\
        consistency = \"weak\"\nttl = \"1h\"\n";
    let proxy = Proxy::start(config, &[("origin", &node.url())]).await;
    let shop = [("Host", "shop.example")];
    proxy.get_with("/books", &shop).await;
    assert!(proxy.get_with("/books", &shop).await.is_hit());
    let wrote = proxy.request("POST", "/books", &[("Host", "admin.example")], "x").await;
    assert_eq!(wrote.status, 200);
    assert!(!proxy.get_with("/books", &shop).await.is_hit());
}

#[tokio::test]
async fn r12_where_queries_are_resources_a_template_without_one_covers_all_and_one_with_one_that_one() {
    let upstream = UPSTREAM.replacen("\n[", "\ngate = \"url\"\n[", 1);
    for (declared, left) in [
        (r#"["/list"]"#, [false, false, false]),
        (r#"["/list?id={id}"]"#, [true, false, true]),
        (r#"["/list?id=9"]"#, [true, true, true]),
    ] {
        let (register, _node, proxy) = over(&upstream, declared, WEAK).await;
        let paths = ["/list", "/list?id=7", "/list?id=8"];
        for path in paths {
            proxy.get(path).await;
        }
        let mut reads = register.hold("GET", "/list", Point::Applied);
        let mut reader = asks(&proxy, "GET", "/list?new", "").await;
        let in_flight = reads.next().await;
        assert_eq!(proxy.put("/orders/7", "new").await.status, 204);
        for (path, left) in paths.iter().zip(left) {
            assert_eq!(stored(&proxy, path).await, left, "{declared} {path}");
        }
        in_flight.release();
        drop(reads);
        reader.answer().await;
        assert_eq!(
            stored(&proxy, "/list?new").await,
            declared != r#"["/list"]"#,
            "{declared}: a fill in flight"
        );
    }
}

async fn begin(proxy: &Proxy, json: &str) -> String {
    let answer = proxy.admin_post("/begin", json).await;
    assert_eq!(answer.status, 200, "{json}: {}", answer.text());
    let answer: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

async fn commit(proxy: &Proxy, id: &str) -> u16 {
    proxy
        .admin_post("/commit", &format!(r#"{{"id": "{id}"}}"#))
        .await
        .status
}

#[tokio::test]
async fn r41_a_write_outside_is_gated_from_its_begin_to_its_commit() {
    for what in [
        r#"{"url": "/list", "ttl": "1m"}"#,
        r#"{"url": "http://shop.example/list", "ttl": 60}"#,
        r#"{"tag": "all"}"#,
    ] {
        let (register, _node, proxy) = over(UPSTREAM, "[]", EXCLUSIVE).await;
        register.answer_with("/list", "Surrogate-Key", "all");
        eventually("exclusive gear", || async {
            proxy.get("/list").await.consistency() == "strong;proof=exclusive"
        })
        .await;
        let id = begin(&proxy, what).await;
        assert_eq!(proxy.status().await["begun"].as_array().unwrap().len(), 1);
        assert_eq!(proxy.get("/list").await.consistency(), "strong;proof=validated");
        register.write("/list", "new");
        assert_eq!(proxy.get("/list").await.text(), "new", "{what}");
        assert_eq!(
            proxy.get("/list").await.consistency(),
            "strong;proof=validated",
            "{what}: not before the commit"
        );
        assert_eq!(commit(&proxy, &id).await, 200);
        assert_eq!(commit(&proxy, &id).await, 404, "once");
        assert_eq!(proxy.get("/list").await.text(), "new");
        assert_eq!(proxy.get("/list").await.consistency(), "strong;proof=exclusive");
        assert_eq!(proxy.status().await["begun"].as_array().unwrap().len(), 0);
    }
}

#[tokio::test]
async fn r41_a_commit_takes_what_is_stored_out_of_service_on_every_level() {
    let (register, _node, proxy) = over(UPSTREAM, "[]", WEAK).await;
    proxy.get("/list").await;
    let id = begin(&proxy, r#"{"url": "/list"}"#).await;
    assert!(stored(&proxy, "/list").await, "nothing is acked yet");
    let mut reads = register.hold("GET", "/orders", Point::Applied);
    let two = begin(&proxy, r#"{"url": "/orders"}"#).await;
    let mut reader = asks(&proxy, "GET", "/orders", "").await;
    let in_flight = reads.next().await;
    register.write("/orders", "new");
    register.write("/list", "new");
    assert_eq!((commit(&proxy, &id).await, commit(&proxy, &two).await), (200, 200));
    assert_eq!(proxy.get("/list").await.text(), "new");
    in_flight.release();
    drop(reads);
    assert_eq!(reader.answer().await.text(), "old");
    assert_eq!(proxy.get("/orders").await.text(), "new", "R1");
}

#[tokio::test]
async fn r41_a_write_outside_that_is_not_committed_in_time_counts_as_unknown() {
    let keys = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"10m\"";
    let (register, _node, proxy) = over(UPSTREAM, "[]", keys).await;
    assert!(register.read("/list").is_some());
    let id = begin(&proxy, r#"{"url": "/list", "ttl": "50ms"}"#).await;
    eventually("expired", || async {
        proxy.status().await["begun"].as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(commit(&proxy, &id).await, 404);
    let status = proxy.status().await;
    assert_eq!(status["unsettled"][0]["path"], "/list", "{status}");
    let reason = proxy.get("/list").await;
    assert!(
        reason.cache_status().contains("fwd=bypass"),
        "{}",
        reason.cache_status()
    );
}

#[tokio::test]
async fn r41_what_cannot_be_begun_is_refused_and_their_number_is_bounded() {
    let (_register, _node, proxy) = over(UPSTREAM, "[]", WEAK).await;
    for (json, expected) in [
        (r#"{"url": "list"}"#, 400),
        (r#"{"url": "ftp://a/list"}"#, 400),
        (r#"{"url": "/list", "ttl": "0s"}"#, 400),
        (r#"{"url": "/list", "ttl": "2h"}"#, 400),
    ] {
        assert_eq!(proxy.admin_post("/begin", json).await.status, expected, "{json}");
    }
    for _ in 0..1024 {
        begin(&proxy, r#"{"tag": "t"}"#).await;
    }
    assert_eq!(proxy.admin_post("/begin", r#"{"tag": "t"}"#).await.status, 503);
    assert_eq!(commit(&proxy, "0123456789abcdef").await, 404);
    assert_eq!(commit(&proxy, "not hexadecimal").await, 404);
}
