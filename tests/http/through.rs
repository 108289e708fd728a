//! Write-through (R9): what a write leaves behind of its target in exclusive gear, and when it leaves nothing.

use super::support::client::{Answer, Client, Fields};
use super::support::eventually;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Node, Point, Register};

const EXCLUSIVE: &str = "strong;proof=exclusive";
const VALIDATED: &str = "strong;proof=validated";
const WAYS: [&str; 2] = ["refresh", "store"];

/// An exclusive route that writes through over one node, in gear, with `/x` = "old" stored and proven.
async fn in_gear(way: &str, keys: &str) -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let keys = format!(
        "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"300ms\"\nwrite_through = \"{way}\"\n{keys}"
    );
    let config = one_route(&keys) + "\n[upstreams.o.retry]\nattempts = 1\n";
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    until_proven(&proxy).await;
    (register, node, proxy)
}

async fn until_proven(proxy: &Proxy) {
    eventually("a hit by the gate", || async {
        proxy.get("/x").await.consistency() == EXCLUSIVE
    })
    .await;
}

async fn puts(proxy: &Proxy, body: &str) -> Client {
    let mut client = proxy.client().await;
    client.ask("PUT", "/x", &[], body.as_bytes()).await;
    client
}

fn is_hit(answer: &Answer, body: &str) {
    let shown = answer.cache_status();
    assert_eq!((answer.text(), answer.consistency()), (body, EXCLUSIVE), "{shown}");
}

fn is_fetched(answer: &Answer, body: &str) {
    let shown = answer.cache_status();
    assert_eq!((answer.text(), answer.consistency()), (body, VALIDATED), "{shown}");
}

#[tokio::test]
async fn r9_after_a_refreshing_write_the_first_read_is_a_hit() {
    let (register, _node, proxy) = in_gear("refresh", "").await;
    for n in 0..20 {
        let (value, before) = (n.to_string(), register.count("GET", "/x"));
        assert_eq!(proxy.put("/x", &value).await.status, 204);
        assert_eq!(register.count("GET", "/x"), before + 1, "the write has read it again");
        is_hit(&proxy.get("/x").await, &value);
        assert_eq!(register.count("GET", "/x"), before + 1);
    }
    let again = register
        .seen()
        .into_iter()
        .rev()
        .find(|seen| seen.method == "GET")
        .unwrap();
    assert_eq!(again.headers.get("cache-control"), Some("no-cache"), "R5b");
    assert!(!again.headers.has("if-none-match") && !again.headers.has("content-type"));
}

#[tokio::test]
async fn r9_after_a_storing_write_the_first_read_is_a_hit_that_cost_no_request() {
    let (register, _node, proxy) = in_gear("store", "").await;
    register.answer_with("/x", "X-Kept", "1");
    assert_eq!(proxy.put("/x", "first").await.status, 204);
    let before = register.count("GET", "/x");
    for n in 0..20 {
        let value = n.to_string();
        let fields = [("Content-Type", "text/new")];
        let answer = proxy.request("PUT", "/x", &fields, &value).await;
        let hit = proxy.get("/x").await;
        is_hit(&hit, &value);
        assert_eq!(hit.header("content-type"), Some("text/new"));
        assert_eq!(hit.header("etag"), answer.header("etag"));
        assert_eq!(hit.header("content-length"), Some(&*value.len().to_string()));
    }
    assert_eq!(register.count("GET", "/x"), before);
}

#[tokio::test]
async fn r9_what_does_not_say_that_it_was_stored_as_it_was_is_read_again() {
    let long = "x".repeat(256 * 1024 + 1);
    let cases: [(&str, &str, Fields<'_>, &str); 5] = [
        ("POST", "", &[], "more"),
        ("PUT", "", &[("Content-Encoding", "identity")], "new"),
        ("PUT", "ETag", &[], "new"), // no validator
        ("PUT", "Content-Location", &[], "new"),
        ("PUT", "", &[], &long),
    ];
    for (method, answer, fields, body) in cases {
        let (register, _node, proxy) = in_gear("store", "").await;
        let before = register.count("GET", "/x");
        match answer {
            "ETag" => {
                // Its GETs have one; what answers the PUT has none.
                let mut hold = register.hold("PUT", "/x", Point::Applied);
                let mut writer = puts(&proxy, body).await;
                hold.next().await.answer(200);
                assert_eq!(writer.answer().await.status, 200);
            }
            "" => drop(proxy.request(method, "/x", fields, body).await),
            name => {
                register.answer_with("/x", name, "/x");
                proxy.request(method, "/x", fields, body).await;
            }
        }
        assert_eq!(register.count("GET", "/x"), before + 1, "{method} {answer} {fields:?}");
        let expected = if method == "POST" { "oldmore" } else { body };
        is_hit(&proxy.get("/x").await, expected);
    }
}

#[tokio::test]
async fn r9_each_variant_that_was_stored_is_read_again_up_to_four() {
    for stored in [1, 2, 4, 6] {
        let (register, _node, proxy) = in_gear("refresh", "").await;
        register.answer_with("/x", "Vary", "Accept-Language");
        let languages: Vec<String> = (0..stored).map(|n| format!("l{n}")).collect();
        proxy.put("/x", "varies").await;
        for language in &languages {
            proxy.get_with("/x", &[("Accept-Language", language)]).await;
            is_hit(&proxy.get_with("/x", &[("Accept-Language", language)]).await, "varies");
        }
        let before = register.count("GET", "/x");
        assert_eq!(proxy.put("/x", "new").await.status, 204);
        let again = (stored + 1).min(4); // the first write has read the one without the field
        assert_eq!(register.count("GET", "/x"), before + again);
        let seen = register.seen();
        let mut asked: Vec<_> = seen
            .iter()
            .rev()
            .take(again)
            .filter_map(|s| s.headers.get("accept-language"))
            .collect();
        asked.sort_unstable();
        let newest: Vec<_> = languages.iter().rev().take(4).rev().map(String::as_str).collect();
        assert_eq!(asked, newest);
        for language in newest {
            is_hit(&proxy.get_with("/x", &[("Accept-Language", language)]).await, "new");
        }
        assert_eq!(register.count("GET", "/x"), before + again);
    }
}

#[tokio::test]
async fn r9_another_write_that_begins_while_a_write_reads_again_keeps_that_from_being_stored() {
    for way in WAYS {
        let (register, _node, proxy) = in_gear(way, "").await;
        let mut hold = register.hold("GET", "/x", Point::Applied);
        register.answer_with("/x", "Content-Location", "/x"); // so that both ways read again
        let mut first = puts(&proxy, "first").await;
        let read_first = hold.next().await;
        drop(hold);
        assert_eq!(proxy.put("/x", "second").await.status, 204);
        read_first.release();
        assert_eq!(first.answer().await.status, 204);
        for _ in 0..2 {
            assert_eq!(proxy.get("/x").await.text(), "second", "{way}");
        }
    }
}

#[tokio::test]
async fn r9_a_write_beside_another_one_leaves_nothing() {
    for way in WAYS {
        let (register, _node, proxy) = in_gear(way, "").await;
        let mut hold = register.hold("PUT", "/x", Point::Arrived);
        let mut first = puts(&proxy, "first").await;
        let pending = hold.next().await;
        drop(hold);
        let before = register.count("GET", "/x");
        // It is not the only one when it begins, nor is the first one from there to its end.
        assert_eq!(proxy.put("/x", "second").await.status, 204);
        is_fetched(&proxy.get("/x").await, "second");
        pending.release();
        assert_eq!(first.answer().await.status, 204);
        assert_eq!(
            register.count("GET", "/x"),
            before + 1,
            "{way}: no write has read again"
        );
        is_fetched(&proxy.get("/x").await, "first");
        assert_eq!(proxy.put("/x", "alone").await.status, 204);
        is_hit(&proxy.get("/x").await, "alone");
    }
}

#[tokio::test]
async fn r9_a_write_while_its_resource_is_unsettled_leaves_nothing() {
    for way in WAYS {
        let (register, _node, proxy) = in_gear(way, "").await;
        let mut hold = register.hold("PUT", "/x", Point::Arrived);
        let mut lost = puts(&proxy, "lost").await;
        hold.next().await.close();
        drop(hold);
        assert_eq!(lost.answer().await.problem(), "unknown");
        let before = register.count("GET", "/x");
        assert_eq!(proxy.put("/x", "new").await.status, 204);
        assert_eq!(register.count("GET", "/x"), before, "{way}");
        register.write("/x", "lost"); // applied after all
        assert_eq!(proxy.get("/x").await.text(), "lost");
        until_proven(&proxy).await;
        assert_eq!(proxy.put("/x", "settled").await.status, 204);
        is_hit(&proxy.get("/x").await, "settled");
    }
}

#[tokio::test]
async fn r9_a_write_with_credentials_leaves_nothing_unless_answers_are_shared() {
    for (way, shared) in [("refresh", false), ("refresh", true), ("store", false), ("store", true)] {
        for field in [("Authorization", "Basic eA=="), ("Cookie", "a=b")] {
            let (_register, _node, proxy) = in_gear(way, &format!("shared_auth = {shared}")).await;
            assert_eq!(proxy.request("PUT", "/x", &[field], "mine").await.status, 204);
            let read = proxy.get("/x").await;
            let proof = if shared { EXCLUSIVE } else { VALIDATED };
            assert_eq!((read.text(), read.consistency()), ("mine", proof), "{way} {field:?}");
        }
    }
}

#[tokio::test]
async fn r9_a_read_that_is_late_or_fails_holds_no_write_up_and_stores_nothing() {
    for ends in ["late", "reset", "500", "304"] {
        let (register, _node, proxy) = in_gear("refresh", "refresh_timeout = \"100ms\"").await;
        let mut hold = register.hold("GET", "/x", Point::Applied);
        let mut writer = puts(&proxy, "new").await;
        let again = hold.next().await;
        let held = match ends {
            "reset" => {
                again.reset();
                None
            }
            "late" => Some(again),
            status => {
                again.answer(status.parse().unwrap());
                None
            }
        };
        let answer = writer.answer().await;
        assert_eq!((answer.status, answer.consistency()), (204, "strong"), "{ends}");
        drop(hold);
        is_fetched(&proxy.get("/x").await, "new");
        drop(held);
        is_hit(&proxy.get("/x").await, "new");
    }
}

#[tokio::test]
async fn r9_a_read_that_began_during_a_refreshing_write_is_not_stored_after_it() {
    let (register, _node, proxy) = in_gear("refresh", "").await;
    let mut writes = register.hold("PUT", "/x", Point::Arrived);
    let mut writer = puts(&proxy, "new").await;
    let pending = writes.next().await;
    let mut reads = register.hold("GET", "/x", Point::Applied);
    let mut reader = proxy.client().await;
    reader.ask("GET", "/x", &[], b"").await;
    let read_old = reads.next().await;
    drop(reads);
    pending.release();
    assert_eq!(writer.answer().await.status, 204);
    is_hit(&proxy.get("/x").await, "new");
    read_old.release();
    assert_eq!(reader.answer().await.text(), "old");
    is_hit(&proxy.get("/x").await, "new");
}

#[tokio::test]
async fn r10_nobody_is_answered_from_memory_while_a_write_reads_again() {
    let (register, _node, proxy) = in_gear("refresh", "").await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut writer = puts(&proxy, "new").await;
    let again = hold.next().await;
    drop(hold);
    for _ in 0..2 {
        is_fetched(&proxy.get("/x").await, "new");
    }
    again.release();
    assert_eq!(writer.answer().await.status, 204);
    is_hit(&proxy.get("/x").await, "new");
}

#[tokio::test]
async fn r9_a_write_that_was_refused_reads_again_and_one_of_unknown_outcome_does_not() {
    for way in WAYS {
        let (register, _node, proxy) = in_gear(way, "").await;
        let before = register.count("GET", "/x");
        let refused = proxy.request("PUT", "/x", &[("If-Match", "\"another\"")], "new").await;
        assert_eq!(refused.status, 412);
        is_hit(&proxy.get("/x").await, "old");
        assert_eq!(register.count("GET", "/x"), before + 1, "{way}");
        let mut hold = register.hold("PUT", "/x", Point::Applied);
        let mut writer = puts(&proxy, "unknown").await;
        hold.next().await.answer(500);
        assert_eq!(writer.answer().await.status, 500);
        assert_eq!(register.count("GET", "/x"), before + 1, "{way}");
        is_fetched(&proxy.get("/x").await, "unknown");
    }
}

#[tokio::test]
async fn r21_a_client_that_leaves_does_not_keep_its_write_from_leaving_its_value() {
    for way in WAYS {
        let (register, _node, proxy) = in_gear(way, "").await;
        let mut hold = register.hold("PUT", "/x", Point::Applied);
        let writer = puts(&proxy, "new").await;
        let applied = hold.next().await;
        drop(writer);
        applied.release();
        let done = [("outcome", "applied")];
        proxy.until_metric("tidegate_writes_total", &done, 1.0).await;
        eventually("a hit", || async { proxy.get("/x").await.consistency() == EXCLUSIVE }).await;
        assert_eq!(proxy.get("/x").await.text(), "new", "{way}");
    }
}

#[tokio::test]
async fn every_outcome_of_a_write_is_counted_once_and_told_as_it_is() {
    for way in ["invalidate", "refresh", "store"] {
        let (register, node, proxy) = in_gear(way, "").await;
        let mut expected = [
            ("applied", 0.0),
            ("rejected", 0.0),
            ("not-applied", 0.0),
            ("unknown", 0.0),
        ];
        let cases = [
            ("applied", 204, "", "strong"),
            ("rejected", 412, "", "strong"),
            ("unknown: its answer is lost", 504, "unknown", ""),
            ("unknown: the node's own", 500, "", ""),
            ("unknown: a promise", 202, "", ""),
            ("not-applied", 503, "not-applied", ""),
        ];
        for (name, status, problem, consistency) in cases {
            let mut client = proxy.client().await;
            let answer = match name {
                "rejected" => client.request("PUT", "/x", &[("If-Match", "\"another\"")], b"x").await,
                "applied" => client.put("/x", "x").await,
                "not-applied" => {
                    node.down().await;
                    client.put("/x", "x").await
                }
                _ => {
                    let mut hold = register.hold("PUT", "/x", Point::Applied);
                    client.ask("PUT", "/x", &[], b"x").await;
                    let held = hold.next().await;
                    match status {
                        504 => held.reset(),
                        status => held.answer(status),
                    }
                    client.answer().await
                }
            };
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (status, problem),
                "{way} {name}"
            );
            assert_eq!(answer.consistency(), consistency, "{way} {name}");
            if !problem.is_empty() {
                assert_eq!(
                    answer.header("content-type"),
                    Some("application/problem+json"),
                    "{way} {name}"
                );
                let retry = (problem == "not-applied").then_some("1");
                assert_eq!(answer.header("retry-after"), retry, "{way} {name}");
            }
            for (outcome, count) in &mut expected {
                if name.split(':').next() == Some(*outcome) {
                    *count += 1.0;
                }
                let labels = [("outcome", *outcome)];
                assert_eq!(
                    proxy.metric("tidegate_writes_total", &labels).await,
                    *count,
                    "{way} {name}: {outcome}"
                );
            }
        }
    }
}
