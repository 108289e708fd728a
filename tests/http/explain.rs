//! `explain` against the wire: what it says is what happens, since the same functions decide. Every case is explained first, then sent;
//! the two must agree on whether a node is asked and on what Cache-Status says.

use super::support::client::{Client, Fields};
use super::support::proxy::{Proxy, config_file, run_to_end};
use super::support::register::{Node, Register};
use serde_json::Value;

const CONFIG: &str = r#"
[listeners.main]
address = "127.0.0.1:0"
debug_from = []
purge_from = ["127.0.0.0/8"]

[upstreams.o]
nodes = [{ url = "{origin}" }]
[upstreams.o.retry]
attempts = 1

[upstreams.x]
nodes = [{ url = "{other}" }]

[[routes]]
name = "elsewhere"
match = { host = "other.example" }
respond = { status = 200, body = "other" }

[[routes]]
name = "old"
match = { path = "/old" }
redirect = { to = "/new", status = 308 }

[[routes]]
name = "tenant"
match = { path = "/t/{*rest}", headers = { "X-Tenant" = "a" } }
upstream = "o"
consistency = "off"

[[routes]]
name = "weak"
match = { path = "/weak/{*rest}" }
upstream = "o"
consistency = "weak"
origin_ttl = "honor"
key = { cookies = ["lang"] }

[[routes]]
name = "eventual"
match = { path = "/eventual/{*rest}" }
upstream = "o"
consistency = "eventual"
max_staleness = "1h"

[[routes]]
name = "strong"
match = { path = "/strong/{*rest}" }
upstream = "o"
consistency = "strong"

[[routes]]
name = "exclusive"
match = { path = "/exclusive/{*rest}", methods = ["GET", "PUT"] }
invalidates = ["/weak/list", "tag:lists"]
upstream = "x"
consistency = "strong"
writers = "exclusive"
settle_after = "100ms"
"#;

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

async fn explain(proxy: &Proxy, method: &str, target: &str, fields: &[(&str, &str)]) -> Value {
    let mut url = format!("/explain?method={}&url={}", encoded(method), encoded(target));
    let host = [("Host", "shop.example")];
    let host = host.iter().filter(|_| fields.iter().all(|(name, _)| *name != "Host"));
    for (name, value) in host.chain(fields) {
        url += &format!("&header={}", encoded(&format!("{name}: {value}")));
    }
    let answer = proxy.admin_get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// A case: what is stored first, the request, and what must come of it.
struct Case {
    name: &'static str,
    /// Fields of every answer of the node.
    origin: &'static [(&'static str, &'static str)],
    /// Asked for first.
    before: Option<(&'static str, &'static [(&'static str, &'static str)])>,
    /// Method, target, fields.
    asked: (&'static str, &'static str, &'static [(&'static str, &'static str)]),
    /// What is done, and the ground of it.
    told: (&'static str, &'static str),
    /// Whether a node is asked.
    asks_node: bool,
}

const FRESH: &[(&str, &str)] = &[("Cache-Control", "max-age=3600")];
const STALE: &[(&str, &str)] = &[("Cache-Control", "max-age=0")];
const WINDOW: &[(&str, &str)] = &[("Cache-Control", "max-age=0, stale-while-revalidate=3600")];

fn cases() -> Vec<Case> {
    let case = |name, origin, before, asked, told, asks_node| Case {
        name,
        origin,
        before,
        asked,
        told,
        asks_node,
    };
    vec![
        case(
            "no route takes it",
            FRESH,
            None,
            ("GET", "/nowhere", &[]),
            ("refuse", ""),
            false,
        ),
        case(
            "no route takes the method",
            FRESH,
            None,
            ("DELETE", "/exclusive/a", &[]),
            ("refuse", ""),
            false,
        ),
        case("TRACE", FRESH, None, ("TRACE", "/weak/a", &[]), ("refuse", ""), false),
        case(
            "PURGE by whom purge_from names",
            FRESH,
            Some(("/weak/a", &[])),
            ("PURGE", "/weak/a", &[]),
            ("purge", "purge"),
            false,
        ),
        case(
            "PURGE through another proxy",
            FRESH,
            None,
            ("PURGE", "/weak/a", &[("Via", "1.1 x")]),
            ("refuse", ""),
            false,
        ),
        case(
            "RFC 10008 QUERY",
            FRESH,
            None,
            ("QUERY", "/weak/a", &[("Content-Length", "0")]),
            ("query", "content"),
            true,
        ),
        case("a redirect", FRESH, None, ("GET", "/old", &[]), ("redirect", ""), false),
        case(
            "an answer of the route's",
            FRESH,
            None,
            ("GET", "/", &[("Host", "other.example")]),
            ("respond", ""),
            false,
        ),
        case(
            "a route that is off",
            FRESH,
            None,
            ("GET", "/t/a", &[("X-Tenant", "a")]),
            ("pass", "route-off"),
            true,
        ),
        case(
            "RFC 9110 s9.2.1 a write",
            FRESH,
            Some(("/weak/a", &[])),
            ("PUT", "/weak/a", &[]),
            ("write", "unsafe"),
            true,
        ),
        case(
            "R13 an override",
            FRESH,
            None,
            ("GET", "/weak/a", &[("X-HTTP-Method-Override", "PUT")]),
            ("write", "overridden"),
            true,
        ),
        case(
            "OPTIONS passes",
            FRESH,
            None,
            ("OPTIONS", "/weak/a", &[]),
            ("pass", "method"),
            true,
        ),
        case(
            "RFC 9111 s4.3.2 a condition of the origin's",
            FRESH,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[("If-Match", "\"v1\"")]),
            ("pass", "for-the-origin"),
            true,
        ),
        case(
            "RFC 9111 s4 nothing is stored",
            FRESH,
            None,
            ("GET", "/weak/a", &[]),
            ("fetch", "nothing-stored"),
            true,
        ),
        case(
            "RFC 9111 s4.2 fresh",
            FRESH,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[]),
            ("serve", "fresh"),
            false,
        ),
        case(
            "HEAD from a GET entry",
            FRESH,
            Some(("/weak/a", &[])),
            ("HEAD", "/weak/a", &[]),
            ("serve", "fresh"),
            false,
        ),
        case(
            "RFC 9111 s4.2.4 stale",
            STALE,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[]),
            ("validate", "stale"),
            true,
        ),
        case(
            "a stale HEAD",
            STALE,
            Some(("/weak/a", &[])),
            ("HEAD", "/weak/a", &[]),
            ("fetch", "stale"),
            true,
        ),
        case(
            "RFC 5861 s3 in the window",
            WINDOW,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[]),
            ("serve-and-refresh", "stale-window"),
            true,
        ),
        case(
            "RFC 9111 s5.2.1.4 no-cache",
            FRESH,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[("Cache-Control", "no-cache")]),
            ("validate", "request-no-cache"),
            true,
        ),
        case(
            "RFC 9111 s5.2.1.3 min-fresh",
            FRESH,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[("Cache-Control", "min-fresh=7200")]),
            ("validate", "request-min-fresh"),
            true,
        ),
        case(
            "RFC 9111 s5.2.1.2 max-stale",
            STALE,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[("Cache-Control", "max-stale")]),
            ("serve", "request-max-stale"),
            false,
        ),
        case(
            "RFC 9111 s5.2.1.7 only-if-cached",
            FRESH,
            None,
            ("GET", "/weak/a", &[("Cache-Control", "only-if-cached")]),
            ("refuse", "only-if-cached"),
            false,
        ),
        case(
            "RFC 9111 s4.1 another variant",
            &[("Cache-Control", "max-age=3600"), ("Vary", "X-V")],
            Some(("/weak/a", &[("X-V", "1")])),
            ("GET", "/weak/a", &[("X-V", "2")]),
            ("fetch", "no-variant-fits"),
            true,
        ),
        case(
            "R14 credentials",
            FRESH,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[("Authorization", "Basic hunter2")]),
            ("fetch", "credentials"),
            true,
        ),
        case(
            "R14 a keyed cookie is another entry",
            FRESH,
            Some(("/weak/a", &[])),
            ("GET", "/weak/a", &[("Cookie", "lang=hunter2")]),
            ("fetch", "nothing-stored"),
            true,
        ),
        case(
            "eventual, fresh",
            FRESH,
            Some(("/eventual/a", &[])),
            ("GET", "/eventual/a", &[]),
            ("serve", "fresh"),
            false,
        ),
        case(
            "strong, validate gear",
            FRESH,
            Some(("/strong/a", &[])),
            ("GET", "/strong/a", &[]),
            ("validate", "validate-gear"),
            true,
        ),
        case(
            "R5 HEAD on strong",
            FRESH,
            Some(("/exclusive/a", &[])),
            ("HEAD", "/exclusive/a", &[]),
            ("validate", "head"),
            true,
        ),
        case(
            "R23 exclusive, proven",
            FRESH,
            Some(("/exclusive/a", &[])),
            ("GET", "/exclusive/a", &[]),
            ("serve", "proven"),
            false,
        ),
        case(
            "R15 exclusive, no-cache",
            FRESH,
            Some(("/exclusive/a", &[])),
            ("GET", "/exclusive/a", &[("Cache-Control", "no-cache")]),
            ("validate", "request-no-cache"),
            true,
        ),
        case(
            "R14 exclusive, a cookie",
            &[("Cache-Control", "public")],
            Some(("/exclusive/a", &[])),
            ("GET", "/exclusive/a", &[("Cookie", "a=hunter2")]),
            ("validate", "identified"),
            true,
        ),
        case(
            "R15 only-if-cached without proof",
            FRESH,
            Some(("/strong/a", &[])),
            ("GET", "/strong/a", &[("Cache-Control", "only-if-cached")]),
            ("refuse", "only-if-cached"),
            false,
        ),
    ]
}

/// The part of Cache-Status that a request's own handling decides: `hit`, or `fwd=...`.
fn handling(cache_status: &str) -> &str {
    let mut parts = cache_status.split(';').map(str::trim);
    parts.find(|p| *p == "hit" || p.starts_with("fwd=")).unwrap_or("")
}

async fn stage(origin: &[(&str, &str)]) -> (Register, [Node; 2], Proxy) {
    let register = Register::new();
    for (name, value) in origin {
        register.answer_with("*", name, value);
    }
    for level in ["weak", "eventual", "strong", "exclusive", "t"] {
        register.write(&format!("/{level}/a"), "a");
    }
    let (node, other) = (register.node("a").await, register.node("b").await);
    let proxy = Proxy::start(CONFIG, &[("origin", &node.url()), ("other", &other.url())]).await;
    super::support::eventually("exclusive gear", || async {
        explain(&proxy, "GET", "/exclusive/a", &[]).await["promise"]["gear"] == "exclusive"
    })
    .await;
    (register, [node, other], proxy)
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (register, _node, proxy) = stage(case.origin).await;
        if let Some((target, fields)) = case.before {
            assert_eq!(proxy.get_with(target, fields).await.status, 200, "{}", case.name);
        }
        let (method, target, fields) = case.asked;
        let told = explain(&proxy, method, target, fields).await;
        let before = register.seen().len();
        assert_eq!(
            explain(&proxy, method, target, fields).await["verdict"],
            told["verdict"]
        );
        let answer = proxy.request(method, target, fields, "").await;
        // A refresh goes on behind the answer.
        if told["verdict"]["does"] == "serve-and-refresh" {
            super::support::eventually("the refresh", || async { register.seen().len() > before }).await;
        }
        let verdict = &told["verdict"];
        let text = told.to_string();
        // What a QUERY finds is known when its content is.
        let status = if verdict["does"] == "query" {
            handling(answer.cache_status())
        } else {
            handling(verdict["cache_status"].as_str().unwrap())
        };
        let happened = (register.seen().len() > before, handling(answer.cache_status()));
        let said = (case.asks_node, status);
        let fits = happened == said
            && (
                verdict["does"].as_str().unwrap(),
                verdict["ground"].as_str().unwrap_or(""),
            ) == case.told
            && verdict["status"]
                .as_u64()
                .is_none_or(|status| status == u64::from(answer.status))
            && !text.contains("hunter2");
        if !fits {
            wrong.push(format!(
                "{}: {happened:?} {}, but\n{verdict:#}",
                case.name, answer.status
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_routes_before_say_why_they_do_not_take_it() {
    let (_register, _node, proxy) = stage(FRESH).await;
    let told = explain(&proxy, "DELETE", "/exclusive/a?b", &[("X-Tenant", "hunter2")]).await;
    let over = told["passed_over"].as_array().unwrap();
    let why: Vec<_> = over
        .iter()
        .map(|o| (o["route"].as_str().unwrap(), o["mismatch"].as_str().unwrap()))
        .collect();
    assert_eq!(
        why,
        [
            ("elsewhere", "host"),
            ("old", "path"),
            ("tenant", "path"),
            ("weak", "path"),
            ("eventual", "path"),
            ("strong", "path"),
            ("exclusive", "method"),
        ]
    );
    assert_eq!(
        (told["verdict"]["status"].as_u64(), &told["route"]),
        (Some(404), &Value::Null)
    );
    let told = explain(&proxy, "GET", "/t/a", &[("X-Tenant", "hunter2")]).await;
    assert_eq!(told["passed_over"][2]["mismatch"], "header");
    assert!(told["passed_over"][2]["because"].as_str().unwrap().contains("x-tenant"));
    assert!(!told.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_running_proxy_tells_what_it_has_stored_and_a_write_that_disturbs_it() {
    let (register, _node, proxy) =
        stage(&[("Cache-Control", "max-age=7200, stale-if-error=60"), ("Vary", "X-V")]).await;
    proxy.get_with("/eventual/a", &[("X-V", "hunter2")]).await;
    let told = explain(&proxy, "GET", "/eventual/a", &[("X-V", "hunter2")]).await;
    let stored = &told["stored"];
    assert_eq!(
        (&stored["live"], &stored["unsettled"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    let one = &stored["variants"][0];
    assert_eq!(
        (&one["chosen"], &one["revoked"], &one["proven"]),
        (&true.into(), &false.into(), &true.into())
    );
    assert_eq!(one["varies_on"], serde_json::json!(["x-v"]));
    let fresh = &one["freshness"];
    assert_eq!(fresh["lifetime_ms"], 3_600_000, "cut to the bound");
    assert_eq!(
        (&fresh["rule"], &fresh["stale_if_error_ms"]),
        (&"R42".into(), &60_000.into())
    );
    assert!(!told.to_string().contains("hunter2"), "{told}");
    proxy.purge(r#"{"url":"/eventual/a","soft":true}"#).await;
    let told = explain(&proxy, "GET", "/eventual/a", &[("X-V", "hunter2")]).await;
    let one = &told["stored"]["variants"][0];
    assert_eq!((&one["softly_purged"], &one["proven"]), (&true.into(), &false.into()));
    assert_eq!(
        (&told["verdict"]["does"], &told["verdict"]["ground"]),
        (&"validate".into(), &"stale".into())
    );
    // A write whose answer never comes leaves the resource unsettled.
    let mut hold = register.hold("PUT", "/strong/a", super::support::register::Point::Applied);
    let mut writer: Client = proxy.client().await;
    writer.ask("PUT", "/strong/a", &[], b"new").await;
    let held = hold.next().await;
    let told = explain(&proxy, "GET", "/strong/a", &[]).await;
    assert_eq!(
        (&told["stored"]["unsettled"], &told["stored"]["unsettled_ms"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(told["verdict"]["ground"], "unsettled");
    held.reset();
    assert_eq!(writer.answer().await.problem(), "unknown");
    let told = explain(&proxy, "GET", "/strong/a", &[]).await;
    let left = told["stored"]["unsettled_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn an_answer_is_judged_as_the_fetch_would_judge_it() {
    let (_register, _node, proxy) = stage(FRESH).await;
    let judged = async |target: &str, status: u16, fields: &[&str]| {
        let mut url = format!("/explain?url={target}&status={status}");
        for field in fields {
            url += &format!("&response_header={}", encoded(field));
        }
        let answer = proxy.admin_get(&url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        told["answer"].clone()
    };
    let cases: &[(&str, &str, u16, &[&str], &str)] = &[
        (
            "RFC 9111 s5.2.2.5",
            "/weak/a",
            200,
            &["Cache-Control: no-store"],
            "no-store",
        ),
        ("RFC 9111 s3", "/weak/a", 200, &[], "no-freshness"),
        (
            "R17",
            "/weak/a",
            200,
            &["Cache-Control: max-age=9", "Set-Cookie: a=hunter2"],
            "set-cookie",
        ),
        ("R5b", "/strong/a", 200, &["ETag: W/\"1\""], "no-strong-etag"),
        ("R18", "/strong/a", 500, &["ETag: \"1\""], "status"),
        (
            "max_object",
            "/weak/a",
            200,
            &["Cache-Control: max-age=9", "Content-Length: 999999999"],
            "too-large",
        ),
        ("off", "/t/a", 200, &[], "not-a-route"),
    ];
    for (name, target, status, fields, ground) in cases {
        let answer = judged(target, *status, fields).await;
        if *ground == "not-a-route" {
            assert_eq!(answer, Value::Null, "{name}: no route takes it");
            continue;
        }
        assert_eq!(
            (&answer["stored"], &answer["ground"]),
            (&false.into(), &(*ground).into()),
            "{name}: {answer}"
        );
        assert!(!answer.to_string().contains("hunter2"), "{name}");
    }
    let stored = judged(
        "/weak/a",
        200,
        &["CDN-Cache-Control: max-age=9", "Cache-Control: no-store"],
    )
    .await;
    assert_eq!(
        (&stored["stored"], &stored["freshness"]["lifetime_ms"]),
        (&true.into(), &9000.into())
    );
    assert_eq!(stored["freshness"]["rule"], "RFC 9213 s2.2");
    assert_eq!(
        (&stored["then"]["does"], &stored["then"]["ground"]),
        (&"serve".into(), &"fresh".into())
    );
    let stored = judged("/exclusive/a", 200, &["ETag: \"1\""]).await;
    assert_eq!(
        (&stored["then"]["does"], &stored["then"]["ground"]),
        (&"serve".into(), &"proven".into())
    );
    let bad = proxy.admin_get("/explain?url=/a&status=99").await;
    assert_eq!(bad.status, 400, "{}", bad.text());
}

#[tokio::test]
async fn the_command_explains_a_file_and_a_running_proxy() {
    let (_register, node, proxy) = stage(FRESH).await;
    let (_dir, path) = config_file(CONFIG, &[("origin", &node[0].url()), ("other", &node[1].url())]);
    let url = "http://shop.example/weak/a?x=1";
    let offline = run_to_end(&["explain", "GET", url, "-H", "Cookie: lang=hunter2", "-c", &path]).await;
    assert_eq!(offline.code, Some(0), "{}", offline.stderr);
    for part in [
        "route        weak: weak, to upstream o\n",
        "key          http://shop.example/weak/a?x=1, cookie lang\n",
        "because      nothing is stored under the request's key (RFC 9111 s4)\n",
        "told as      Cache-Status: tidegate; fwd=uri-miss\n",
    ] {
        assert!(offline.stdout.contains(part), "{part}{}", offline.stdout);
    }
    assert!(
        !offline.stdout.contains("hunter2") && !offline.stdout.contains("\nstored"),
        "{}",
        offline.stdout
    );
    let strong = run_to_end(&["explain", "PUT", "/exclusive/a", "-c", &path]).await;
    for part in [
        "all writes to the route go through this one running process",
        "count from the acknowledgement on (R12, R12b)",
        "gated before it is forwarded: /weak/list, tag:lists (R12)",
    ] {
        assert!(strong.stdout.contains(part), "{part}\n{}", strong.stdout);
    }
    proxy.get_with("/weak/a?x=1", &[("Host", "shop.example")]).await;
    let admin = proxy.admin.to_string();
    let online = run_to_end(&["explain", "GET", url, "--admin", &admin]).await;
    assert_eq!(online.code, Some(0), "{}", online.stderr);
    for part in [
        "because      its age is below its freshness lifetime (RFC 9111 s4.2)\n",
        "stored       judged by this: 200 of 1 bytes, age ",
        "by max-age in Cache-Control (RFC 9111 s4.2.1); ",
    ] {
        assert!(online.stdout.contains(part), "{part}\n{}", online.stdout);
    }
    let json = run_to_end(&["explain", "GET", url, "--admin", &admin, "--json"]).await;
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(told["verdict"]["does"], "serve");
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_usage() {
    let (_register, node, proxy) = stage(FRESH).await;
    let (_dir, path) = config_file(CONFIG, &[("origin", &node[0].url()), ("other", &node[1].url())]);
    let admin = proxy.admin.to_string();
    for wrong in [
        &["GET", "not-a-url"][..],
        &["GET", "ftp://a/"],
        &["G T", "/a"],
        &["GET", "/a", "-H", "hunter2"],
        &["GET", "/a", "-H", "Cookie: hunter2\r\nX: y"],
        &["GET", "/a", "--listener", "none"],
        &["GET", "/a", "--status", "99"],
        &["GET", "/a", "--from", "nobody"],
        &["GET"],
    ] {
        for place in [["-c", &path], ["--admin", &admin]] {
            let ended = run_to_end(&[&["explain"][..], wrong, &place].concat()).await;
            assert_eq!(ended.code, Some(64), "{wrong:?}: {}", ended.stderr);
            assert!(
                !ended.stderr.is_empty() && !ended.stderr.contains("hunter2"),
                "{}",
                ended.stderr
            );
        }
    }
}

#[tokio::test]
async fn an_answer_to_another_request_than_a_plain_get_is_judged_as_on_the_wire() {
    let (register, _node, proxy) = stage(FRESH).await;
    register.write("/weak/b", "b");
    register.answer_with("/weak/a", "Content-Location", "/weak/a");
    let query: Fields<'_> = &[("Content-Type", "text/plain")];
    let cases: [(&str, &str, &str, Fields<'_>, bool); 8] = [
        ("RFC 10008: a QUERY is read as a GET", "QUERY", "/weak/b", query, true),
        (
            "RFC 9110 s9.3.3: a POST that names the target",
            "POST",
            "/weak/a",
            &[],
            true,
        ),
        ("RFC 9110 s9.3.3: one that names none", "POST", "/weak/b", &[], false),
        ("RFC 9110 s9.3.4: a PUT", "PUT", "/weak/a", &[], false),
        ("R13", "GET", "/weak/a", &[("X-HTTP-Method-Override", "PUT")], false),
        ("RFC 9111 s4.3.2", "GET", "/weak/b", &[("If-Match", "*")], false),
        (
            "RFC 9110 s9.3.1: a GET with content",
            "GET",
            "/weak/b",
            &[("Content-Length", "1")],
            false,
        ),
        ("a HEAD fills nothing", "HEAD", "/weak/b", &[], false),
    ];
    for (name, method, target, fields, stored) in cases {
        proxy.purge(r#"{"all": true}"#).await;
        let mut url = format!("/explain?method={method}&url={target}&status=200");
        for (field, value) in fields {
            url += &format!("&header={}", encoded(&format!("{field}: {value}")));
        }
        url += &format!("&response_header={}", encoded("Cache-Control: max-age=3600"));
        if target == "/weak/a" {
            url += &format!("&response_header={}", encoded("Content-Location: /weak/a"));
        }
        let answer = proxy.admin_get(&url).await;
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["answer"]["stored"], stored, "{name}: {told}");
        let then = told["answer"]["then"]["does"].as_str();
        assert_eq!(then, stored.then_some("serve"), "{name}: {told}");
        let body = if fields.iter().any(|(field, _)| *field == "Content-Length") {
            "x"
        } else {
            ""
        };
        let answer = proxy.request(method, target, fields, body).await;
        assert_eq!(answer.status / 100, 2, "{name}");
        let again = if method == "QUERY" { "QUERY" } else { "GET" };
        let again = proxy.request(again, target, query, "").await;
        assert_eq!(again.is_hit(), stored, "{name}: {}", again.cache_status());
    }
}
