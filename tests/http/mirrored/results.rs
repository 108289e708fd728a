//! Writes that the primary alone runs, and whose results are copied (`replicate_result`, R40).

use super::{pair, pair_with};
use crate::support::register::Point;
use std::time::Duration;

#[tokio::test]
async fn r40_the_result_of_what_cannot_be_copied_is_copied_instead() {
    let p = pair("replicate_result = true").await;
    assert_eq!(p.proxy.put("/x", "a").await.status, 201);
    for (method, result) in [("POST", "ab"), ("PATCH", "abb")] {
        let answer = p.proxy.request(method, "/x", &[("If-Match", "*")], "b").await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, result),
            "the primary's own answer"
        );
        assert_eq!(
            (p.a.read("/x").as_deref(), p.b.read("/x").as_deref()),
            (Some(result), Some(result))
        );
        assert_eq!((p.a.count(method, "/x"), p.b.count(method, "/x")), (1, 0));
        assert_eq!(p.proxy.get("/x").await.text(), result);
    }
    let refused = p.proxy.request("PATCH", "/x", &[("If-Match", "\"no\"")], "c").await;
    assert_eq!((refused.status, p.b.read("/x").as_deref()), (412, Some("abb")));
    // R13: what a PUT does that names another method, only the primary can say.
    let overridden = [("X-HTTP-Method-Override", "PATCH")];
    assert_eq!(p.proxy.request("PUT", "/x", &overridden, "d").await.status, 204);
    let copies = p.b.seen();
    let last = copies.iter().rfind(|seen| seen.method == "PUT").unwrap();
    assert_eq!(
        (last.body.as_str(), last.headers.get("x-http-method-override")),
        ("d", None)
    );
    assert!(p.in_sync("b").await);
    assert_eq!(p.proxy.request("MOVE", "/x", &[], "").await.status, 501);
}

#[tokio::test]
async fn r40_what_a_write_has_created_is_copied_before_the_acknowledgement_and_read_only_then() {
    let p = pair("replicate_result = true").await;
    let mut copies = p.b.hold("PUT", "/c/1", Point::Arrived);
    let write = p.proxy.request("POST", "/c/", &[], "v");
    let read = async {
        let copy = copies.next().await;
        let early = p.proxy.get("/c/1");
        let release = async {
            let seen = p.a.count("GET", "/c/1");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert_eq!(p.a.count("GET", "/c/1"), seen, "it is read before every node has it");
            copy.release();
        };
        tokio::join!(early, release).0
    };
    let (written, read) = tokio::join!(write, read);
    assert_eq!((written.status, written.header("location")), (201, Some("/c/1")));
    assert_eq!((read.text(), p.b.read("/c/1").as_deref()), ("v", Some("v")));
    assert_eq!((p.b.count("POST", "/c/"), p.b.count("PUT", "/c/")), (0, 0));
    assert!(p.in_sync("b").await);
    // Who is out has missed what was created, not the collection.
    p.at_b.down().await;
    assert_eq!(p.proxy.request("POST", "/c/", &[], "w").await.status, 201);
    assert_eq!(p.a.read("/c/2").as_deref(), Some("w"));
    p.at_b.up().await;
    p.until_in_sync("b").await;
    assert_eq!(p.b.read("/c/2").as_deref(), Some("w"));
    assert_eq!((p.b.count("PUT", "/c/"), p.b.count("DELETE", "/c/")), (0, 0));
}

#[tokio::test]
async fn r40_a_result_that_cannot_be_copied_is_unknown() {
    let p = pair("replicate_result = true\nmirror_max_body = \"8B\"").await;
    assert_eq!(p.proxy.put("/x", "aaaa").await.status, 201);
    let answer = p.proxy.request("POST", "/x", &[], "bbbbb").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (504, "unknown"),
        "{}",
        answer.text()
    );
    assert_eq!(p.b.read("/x").as_deref(), Some("aaaa"));
    assert_eq!(
        p.proxy.get("/x").await.status,
        504,
        "the nodes differ, and it cannot be repaired"
    );
    assert_eq!(
        p.proxy.put("/x", "cc").await.status,
        204,
        "until somebody writes all of it"
    );
    assert_eq!(p.proxy.get("/x").await.text(), "cc");
    // Nobody can say what it has created.
    p.a.answer_with("/c/", "Location", "http://elsewhere.example/c/9");
    let answer = p.proxy.request("POST", "/c/", &[], "v").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (504, "unknown"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn r40_a_result_that_is_not_where_the_answer_says_is_unknown() {
    let p = pair("replicate_result = true").await;
    // It did something, and there is nothing at its target.
    let mut calls = p.a.hold("POST", "/call", Point::Arrived);
    let (answer, ()) = tokio::join!(p.proxy.request("POST", "/call", &[], "v"), async {
        calls.next().await.answer(200);
    });
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (504, "unknown"),
        "{}",
        answer.text()
    );
    assert_eq!(p.b.count("DELETE", "/call"), 0);
    // What was to be deleted is gone by it.
    p.b.write("/old", "v");
    let mut deletes = p.a.hold("POST", "/old", Point::Arrived);
    let overridden = [("X-HTTP-Method-Override", "delete")];
    let (answer, ()) = tokio::join!(p.proxy.request("POST", "/old", &overridden, ""), async {
        deletes.next().await.answer(200);
    });
    assert_eq!((answer.status, p.b.read("/old")), (200, None));
    // Who is alone has nobody to copy it to yet.
    p.at_b.down().await;
    assert_eq!(p.proxy.put("/x", "v").await.status, 201);
    assert!(!p.in_sync("b").await);
    let (answer, ()) = tokio::join!(p.proxy.request("POST", "/call", &[], "v"), async {
        calls.next().await.answer(200);
    });
    assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"));
}

#[tokio::test]
async fn r9_r34_what_the_primary_shows_of_a_resource_in_doubt_is_not_stored_by_a_refused_write() {
    let through = |config: String| config + "write_through = \"refresh\"\n";
    let p = pair_with(through, "replicate_result = true\nmirror_max_body = \"8B\"").await;
    assert_eq!(p.proxy.put("/x", "aaaa").await.status, 201);
    assert_eq!(
        p.proxy.request("POST", "/x", &[], "bbbbb").await.status,
        504,
        "too long to be copied"
    );
    // At the gate it has settled by then: only the nodes still differ.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..2 {
        let refused = p.proxy.request("PUT", "/x", &[("If-Match", "\"no\"")], "c").await;
        assert_eq!(refused.status, 412);
        let read = p.proxy.get("/x").await;
        assert_eq!(read.status, 504, "{}", read.text());
    }
    assert_eq!(p.b.read("/x").as_deref(), Some("aaaa"));
}
