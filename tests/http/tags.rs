//! Tags on the wire: purge by tag, and the groups of RFC 9875.

use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Node, Point, Register};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const NEWS: &str = r#"{"tag": "news"}"#;

async fn over(keys: &str) -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    register.write("/y", "old");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(keys), &[("origin", &node.url())]).await;
    (register, node, proxy)
}

async fn hits(proxy: &Proxy, paths: &[&str]) -> Vec<bool> {
    let mut found = Vec::new();
    for path in paths {
        found.push(
            proxy
                .get_with(path, &[("Cache-Control", "only-if-cached")])
                .await
                .is_hit(),
        );
    }
    found
}

#[tokio::test]
async fn a_tag_purges_what_carries_it_with_all_variants_and_on_every_host() {
    let (register, _node, proxy) = over(WEAK).await;
    register.write("/z", "old");
    register.answer_with("/x", "Cache-Groups", "\"other\", \"news\";p=1");
    register.answer_with("/x", "Vary", "Accept-Language");
    register.answer_with("/y", "Surrogate-Key", "first news");
    register.answer_with("/z", "Surrogate-Key", "newspaper");
    for host in ["a.example", "b.example"] {
        for language in ["de", "en"] {
            proxy
                .get_with("/x", &[("Host", host), ("Accept-Language", language)])
                .await;
        }
    }
    for path in ["/y", "/y?q", "/z"] {
        proxy.get(path).await;
    }
    let purged = proxy.admin_post("/purge", NEWS).await;
    assert_eq!(purged.text(), r#"{"entries":6,"epoch":1}"#);
    assert_eq!(
        hits(&proxy, &["/x", "/y", "/y?q", "/z"]).await,
        [false, false, false, true]
    );
    assert_eq!(proxy.purge(NEWS).await, 0);
    register.write("/x", "new");
    for host in ["a.example", "b.example"] {
        let headers = [("Host", host), ("Accept-Language", "de")];
        assert_eq!(proxy.get_with("/x", &headers).await.text(), "new");
        assert!(proxy.get_with("/x", &headers).await.is_hit());
    }
    assert_eq!(proxy.purge(r#"{"tag": "other"}"#).await, 2);
    assert_eq!(proxy.purge(r#"{"tag": "nobody's"}"#).await, 0);
}

#[tokio::test]
async fn rfc9875_s2_a_field_that_is_no_list_of_strings_carries_no_tag() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("/x", "Cache-Groups", "\"news\", token");
    register.answer_with("/y", "Cache-Groups", "\"News\"");
    proxy.get("/x").await;
    proxy.get("/y").await;
    assert_eq!(proxy.purge(NEWS).await, 0, "s2.1: case counts");
    assert_eq!(hits(&proxy, &["/x", "/y"]).await, [true, true]);
}

#[tokio::test]
async fn tags_from_names_the_fields_and_none_turns_tags_off() {
    let keys = format!("{WEAK}\ntags_from = [\"Cache-Tag\"]");
    let (register, _node, proxy) = over(&keys).await;
    register.answer_with("/x", "Cache-Tag", "a,news");
    register.answer_with("/y", "Surrogate-Key", "news");
    proxy.get("/x").await;
    proxy.get("/y").await;
    assert_eq!(proxy.purge(NEWS).await, 1);
    assert_eq!(hits(&proxy, &["/x", "/y"]).await, [false, true]);
    let (register, _node, proxy) = over(&format!("{WEAK}\ntags_from = []")).await;
    register.answer_with("*", "Surrogate-Key", "news");
    proxy.get("/x").await;
    assert_eq!(proxy.purge(NEWS).await, 0);
}

#[tokio::test]
async fn an_answer_with_more_tags_than_are_kept_is_not_stored_and_says_so() {
    let (register, _node, proxy) = over(WEAK).await;
    let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    register.answer_with("/x", "Surrogate-Key", &names(256));
    register.answer_with("/y", "Surrogate-Key", &names(257));
    proxy.get("/x").await;
    assert!(proxy.get("/x").await.is_hit());
    proxy.get("/y").await;
    assert!(!proxy.get("/y").await.is_hit());
    let why = [("reason", "too-many-tags")];
    proxy.until_metric("tidegate_fills_refused_total", &why, 2.0).await;
    assert_eq!(proxy.purge(r#"{"tag": "255"}"#).await, 1);
}

#[tokio::test]
async fn r1_r12a_a_fill_in_flight_does_not_outlive_a_purge_by_tag() {
    for (json, point) in [
        (NEWS, Point::Applied),
        (NEWS, Point::MidBody),
        (r#"{"tag": "news", "soft": true}"#, Point::Applied),
        (r#"{"tag": "news", "soft": true}"#, Point::MidBody),
    ] {
        let (register, _node, proxy) = over(WEAK).await;
        register.answer_with("*", "Surrogate-Key", "news");
        let mut hold = register.hold("GET", "/x", point);
        let mut reader: Client = proxy.client().await;
        reader.ask("GET", "/x", &[], b"").await;
        let in_flight = hold.next().await;
        register.write("/x", "new");
        assert_eq!(proxy.purge(json).await, 0);
        in_flight.release();
        drop(hold);
        assert_eq!(reader.answer().await.text(), "old");
        assert_eq!(proxy.get("/x").await.text(), "new", "{json} {point:?}");
        assert!(proxy.get("/x").await.is_hit());
    }
}

#[tokio::test]
async fn r12a_a_reader_after_the_purge_does_not_join_the_fill_from_before() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("*", "Surrogate-Key", "news");
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = proxy.client().await;
    early.ask("GET", "/x", &[], b"").await;
    let sent = hold.next().await;
    register.write("/x", "new");
    proxy.purge(NEWS).await;
    let mut late = proxy.client().await;
    late.ask("GET", "/x", &[], b"").await;
    let own = hold.next().await;
    sent.release();
    own.release();
    assert_eq!(early.answer().await.text(), "old");
    assert_eq!(late.answer().await.text(), "new");
}

#[tokio::test]
async fn r5_r12a_a_validation_in_flight_does_not_outlive_a_purge_by_tag() {
    let (register, _node, proxy) = over("consistency = \"weak\"").await;
    register.answer_with("/x", "Cache-Control", "max-age=0, stale-while-revalidate=60");
    register.answer_with("/x", "Cache-Groups", "\"news\"");
    proxy.get("/x").await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    assert_eq!(proxy.get("/x").await.text(), "old");
    let refresh = hold.next().await;
    register.write("/x", "new");
    assert_eq!(proxy.purge(NEWS).await, 1);
    refresh.release();
    drop(hold);
    assert_eq!(
        proxy.get("/x").await.text(),
        "new",
        "a 304 of before the purge brought it back"
    );
}

#[tokio::test]
async fn after_a_soft_purge_by_tag_what_carries_it_is_validated_once() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("/x", "Cache-Groups", "\"news\"");
    proxy.get("/x").await;
    proxy.get("/y").await;
    let soft = r#"{"tag": "news", "soft": true}"#;
    assert_eq!(proxy.purge(soft).await, 1);
    assert_eq!(proxy.purge(soft).await, 0, "it is marked already");
    let answer = proxy.get("/x").await;
    assert!(
        answer.cache_status().contains("fwd=stale; fwd-status=304"),
        "{}",
        answer.cache_status()
    );
    assert!(proxy.get("/x").await.is_hit(), "validated, it is fresh again");
    assert!(proxy.get("/y").await.is_hit());
    assert_eq!(register.count("GET", "/x"), 2);
    // The entry that the 304 made carries the tag as well.
    assert_eq!(proxy.purge(NEWS).await, 1);
    // A stale copy goes too.
    proxy.get("/x").await;
    assert_eq!(proxy.purge(soft).await, 1);
    assert_eq!(proxy.purge(NEWS).await, 1);
    assert_eq!(hits(&proxy, &["/x"]).await, [false]);
}

#[tokio::test]
async fn rfc9875_s3_a_write_drops_the_groups_its_answer_names_before_the_ack() {
    let (register, _node, proxy) = over(WEAK).await;
    register.write("/z", "old");
    register.answer_with("/x", "Cache-Groups", "\"news\"");
    register.answer_with("/y", "Cache-Groups", "\"sport\", \"news\"");
    register.answer_with("/z", "Cache-Groups", "\"sport\"");
    register.answer_with("/write", "Cache-Group-Invalidation", "\"news\"");
    for round in 0..20 {
        for path in ["/x", "/y", "/z"] {
            proxy.get(path).await;
        }
        let value = round.to_string();
        register.write("/x", &value);
        let mut writer = proxy.client().await;
        writer.ask("PUT", "/write", &[], b"w").await;
        writer.head().await;
        // R10: from the arrival of the head on.
        assert_eq!(proxy.get("/x").await.text(), value);
        assert_eq!(hits(&proxy, &["/y", "/z"]).await, [false, true]);
    }
}

#[tokio::test]
async fn rfc9875_s3_safe_methods_and_failures_drop_no_group() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("/x", "Cache-Groups", "\"news\"");
    register.answer_with("*", "Cache-Group-Invalidation", "\"news\"");
    proxy.get("/x").await;
    for method in ["GET", "HEAD", "OPTIONS", "QUERY"] {
        proxy.request(method, "/y", &[("Cache-Control", "no-cache")], "").await;
        assert_eq!(hits(&proxy, &["/x"]).await, [true], "{method}");
    }
    let refused = proxy.request("DELETE", "/nothing", &[], "").await;
    assert_eq!(refused.status, 404);
    assert_eq!(hits(&proxy, &["/x"]).await, [true], "a 404");
    proxy.request("POST", "/y", &[], "").await;
    assert_eq!(hits(&proxy, &["/x"]).await, [false]);
}

#[tokio::test]
async fn rfc9875_s2_1_a_group_is_of_its_origin_whatever_the_upstream() {
    let register = Register::new();
    for path in ["/a/x", "/b/x", "/b/write"] {
        register.write(path, "v");
    }
    register.answer_with("/a/x", "Cache-Groups", "\"news\"");
    register.answer_with("/b/x", "Cache-Groups", "\"news\"");
    register.answer_with("/b/write", "Cache-Group-Invalidation", "\"news\"");
    let node = register.node("a").await;
    let config = "[upstreams.one]\nnodes = [{ url = \"{origin}\" }]\n[upstreams.two]\nnodes = [{ url = \"{origin}\" }]\n\n\
        [[routes]]\nmatch = { path = \"/a/{*rest}\" }\nupstream = \"one\"\nconsistency = \"weak\"\nttl = \"1h\"\n\n\
        [[routes]]\nmatch = { path = \"/b/{*rest}\" }\nupstream = \"two\"\nconsistency = \"weak\"\nttl = \"1h\"\n";
    let proxy = Proxy::start(config, &[("origin", &node.url())]).await;
    let hosts = ["one.example", "ONE.example:80", "two.example", "one.example:81"];
    let stored = async |host: &str, path: &str| {
        let headers = [("Host", host), ("Cache-Control", "only-if-cached")];
        proxy.get_with(path, &headers).await.is_hit()
    };
    for host in hosts {
        for path in ["/a/x", "/b/x"] {
            proxy.get_with(path, &[("Host", host)]).await;
        }
    }
    let wrote = proxy.request("PUT", "/b/write", &[("Host", "One.Example")], "w").await;
    assert_eq!(wrote.status, 204);
    for (host, stays) in [("one.example", false), ("two.example", true), ("one.example:81", true)] {
        for path in ["/a/x", "/b/x"] {
            assert_eq!(stored(host, path).await, stays, "{host} {path}");
        }
    }
    assert_eq!(proxy.purge(NEWS).await, 4, "a purge asks for no origin");
}

#[tokio::test]
async fn r12_a_fill_in_flight_of_a_group_does_not_outlive_the_write_that_names_it() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("/x", "Cache-Groups", "\"news\"");
    register.answer_with("/write", "Cache-Group-Invalidation", "\"news\"");
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut reader: Client = proxy.client().await;
    reader.ask("GET", "/x", &[], b"").await;
    let in_flight = hold.next().await;
    register.write("/x", "new");
    proxy.put("/write", "w").await;
    in_flight.release();
    drop(hold);
    assert_eq!(reader.answer().await.text(), "old");
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn r12_a_group_takes_exclusive_entries_out_of_service() {
    let (register, _node, proxy) =
        over("consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"100ms\"").await;
    register.answer_with("/x", "Cache-Groups", "\"news\"");
    register.answer_with("/write", "Cache-Group-Invalidation", "\"news\"");
    eventually("exclusive gear", || async {
        proxy.get("/x").await.consistency() == "strong;proof=exclusive"
    })
    .await;
    register.write("/x", "new"); // what the write does to the other members of the group
    proxy.put("/write", "w").await;
    let answer = proxy.get("/x").await;
    assert_eq!((answer.text(), answer.consistency()), ("new", "strong;proof=validated"));
    assert_eq!(proxy.get("/x").await.consistency(), "strong;proof=exclusive");
    assert_eq!(proxy.purge(NEWS).await, 1);
    assert_eq!(proxy.get("/x").await.consistency(), "strong;proof=validated");
}

#[tokio::test]
async fn r12_r13_a_method_override_makes_a_safe_method_drop_groups_too() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("/y", "Cache-Groups", "\"news\"");
    register.answer_with("/x", "Cache-Group-Invalidation", "\"news\"");
    proxy.get("/y").await;
    let over = [("X-HTTP-Method-Override", "DELETE")];
    assert_eq!(proxy.get_with("/x", &over).await.fwd(), "method");
    assert_eq!(hits(&proxy, &["/y"]).await, [false]);
}
