#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::guard::{Access, Peer};
use super::{
    Begin, BegunStatus, BuildStatus, CacheStatus, Control, NodeWord, NotBegun, NotOrdered, NotPurged, Ordered, Purge,
    PurgeKind, Purged, RouteStatus, Status, UnsettledStatus, router,
};
use crate::config::load::from_text;
use crate::proxy::{ExplainError, Explanation, Question};
use crate::upstream::{NodeSnapshot, UpstreamSnapshot};
use crate::world::{BoxFuture, World};
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

#[derive(Default)]
struct Fake {
    unready: Mutex<Vec<String>>,
    done: Mutex<Vec<String>>,
}

impl Control for Fake {
    fn settle(&self, url: &str) -> Result<u64, NotPurged> {
        if url.starts_with('/') {
            Ok(1)
        } else {
            Err(NotPurged(format!("`{url}` is no path")))
        }
    }

    fn unready(&self) -> Vec<String> {
        self.unready.lock().clone()
    }

    fn status(&self) -> Status {
        Status {
            routes: vec![RouteStatus {
                name: "orders".to_owned(),
                consistency: Some("strong"),
                meter: None,
            }],
            upstreams: vec![UpstreamSnapshot {
                name: "orders".to_owned(),
                mode: "active-passive",
                replication: "shared",
                epoch: 3,
                primary: Some("a".to_owned()),
                observed: None,
                nodes: vec![NodeSnapshot {
                    name: "a".to_owned(),
                    url: "http://a:1".to_owned(),
                    state: "active",
                    role: None,
                    position: None,
                    in_sync: true,
                    connect_error: None,
                }],
            }],
            cache: CacheStatus { entries: 1, bytes: 2 },
            unsettled: vec![UnsettledStatus {
                upstream: "orders".to_owned(),
                path: Some("/orders/1".to_owned()),
                remaining_ms: Some(5),
            }],
            begun: vec![BegunStatus {
                what: "tag:news".to_owned(),
                remaining_ms: 7,
            }],
            build: BuildStatus { version: "0" },
            config_hash: "abc".to_owned(),
            draining: false,
            pair: None,
        }
    }

    fn metrics(&self) -> String {
        "tidegate_build_info 1\n".to_owned()
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "server": {} })
    }

    fn purge(&self, kind: PurgeKind, what: &Purge) -> Result<Purged, NotPurged> {
        self.done.lock().push(format!("{kind:?} {what:?}"));
        match what {
            Purge::Url(url) if !url.starts_with('/') => Err(NotPurged(url.clone())),
            Purge::Url(_) | Purge::Prefix(_) | Purge::Tag(_) | Purge::Route(_) | Purge::All => {
                Ok(Purged { entries: 2, epoch: 7 })
            }
        }
    }

    fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        self.done.lock().push(format!("{question:?}"));
        Err(ExplainError::Url(question.url.clone()))
    }

    fn begin(&self, what: &Begin, ttl: Duration) -> Result<String, NotBegun> {
        self.done.lock().push(format!("begin {what:?} {ttl:?}"));
        match what {
            Begin::Url(url) if !url.starts_with('/') => Err(NotBegun::Senseless(url.clone())),
            Begin::Tag(tag) if tag == "full" => Err(NotBegun::Full("full".to_owned())),
            Begin::Url(_) | Begin::Tag(_) => Ok("0a".to_owned()),
        }
    }

    fn commit(&self, id: &str) -> Result<(), NotBegun> {
        if id == "0a" {
            Ok(())
        } else {
            Err(NotBegun::NotOpen(id.to_owned()))
        }
    }

    fn reload(&self) -> super::Reloading {
        Box::pin(async { Err(super::NotReloaded(vec!["f.toml:1:1: error: routes: wrong".to_owned()])) })
    }

    fn order<'a>(
        &'a self,
        upstream: &'a str,
        node: &'a str,
        word: NodeWord,
    ) -> BoxFuture<'a, Result<Ordered, NotOrdered>> {
        self.done.lock().push(format!("{word:?} {upstream} {node}"));
        let answer = match node {
            "a" | "ä/b" => self.status().upstreams.pop().map(|upstream| Ordered {
                upstream,
                under_way: word == NodeWord::Promote && node != "a",
            }),
            _ => None,
        };
        let refused = match node {
            "down" => NotOrdered::Refused("its probes do not pass".to_owned()),
            "full" => NotOrdered::Unable("the disk is full".to_owned()),
            _ => NotOrdered::Unknown("no node".to_owned()),
        };
        Box::pin(async { answer.ok_or(refused) })
    }

    fn drain(&self) {
        self.done.lock().push("drain".to_owned());
    }
}

/// A port with `[admin]` set as given.
struct Port {
    control: Arc<Fake>,
    router: axum::Router,
}

fn port(admin: &str) -> Port {
    let text = format!(
        "[admin]\n{admin}\n[upstreams.u]\nnodes = [{{ url = \"http://127.0.0.1:1\" }}]\n[[routes]]\nupstream = \"u\"\n"
    );
    let loaded = from_text(&text, "test.toml", Path::new(""), &World::real());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.errors));
    let control = Arc::new(Fake::default());
    let router = router(Arc::clone(&control) as Arc<dyn Control>, Access::new(&config.admin));
    Port { control, router }
}

const LOCAL: &str = "127.0.0.1:5000";
const REMOTE: &str = "192.0.2.7:5000";
const TOKEN: &str = "token = \"0123456789abcdef0123456789abcdef\"";
const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");

impl Port {
    async fn ask(
        &self,
        peer: &str,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, http::HeaderMap, String) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .extension(Peer(peer.parse::<SocketAddr>().unwrap()));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    /// From this machine, as a program asks.
    async fn local(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let (status, _, text) = self.ask(LOCAL, method, path, &[("host", "127.0.0.1:9901")], body).await;
        (status, text)
    }
}

#[tokio::test]
async fn a_word_on_a_node_reaches_it_and_its_refusal_comes_back() {
    let port = port("");
    for (method, path, expected) in [
        ("POST", "/upstreams/orders/nodes/a/promote", 200),
        ("POST", "/upstreams/orders/nodes/a/drain", 200),
        ("POST", "/upstreams/orders/nodes/a/undrain", 200),
        ("POST", "/upstreams/orders/nodes/a/resynced", 200),
        ("POST", "/upstreams/orders/nodes/%C3%A4%2Fb/promote", 202),
        ("POST", "/upstreams/orders/nodes/nobody/promote", 404),
        ("POST", "/upstreams/orders/nodes/down/promote", 409),
        ("POST", "/upstreams/orders/nodes/full/promote", 503),
        ("POST", "/upstreams/orders/nodes/a/praise", 404),
        ("POST", "/upstreams/orders/nodes/a", 404),
        ("GET", "/upstreams/orders/nodes/a/promote", 405),
    ] {
        let (status, text) = port.local(method, path, "").await;
        assert_eq!(status.as_u16(), expected, "{method} {path}: {text}");
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        if expected < 300 {
            assert_eq!(
                (&answer["name"], &answer["primary"]),
                (&"orders".into(), &"a".into()),
                "{text}"
            );
        } else {
            assert_eq!(answer["status"], expected, "{text}");
        }
    }
    let done = port.control.done.lock().join(", ");
    assert!(
        done.starts_with("Promote orders a, Drain orders a, Undrain orders a, Resynced orders a, Promote orders ä/b"),
        "{done}"
    );
}

#[tokio::test]
async fn a_request_from_this_machine_must_name_this_machine() {
    let port = port("");
    for (host, expected) in [
        ("127.0.0.1:9901", 200),
        ("127.0.0.1", 200),
        ("localhost:9901", 200),
        ("LOCALHOST", 200),
        ("[::1]:9901", 200),
        ("evil.example", 403),
        ("localhost.evil.example:9901", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.0.2.7", 403),
        ("", 403),
    ] {
        for path in ["/live", "/status", "/nothing"] {
            let expected = if (expected, path) == (200, "/nothing") {
                404
            } else {
                expected
            };
            let (status, _, text) = port.ask(LOCAL, "GET", path, &[("host", host)], "").await;
            assert_eq!(status.as_u16(), expected, "{host} {path}: {text}");
        }
    }
    assert_eq!(
        port.ask(LOCAL, "GET", "/live", &[], "").await.0,
        StatusCode::FORBIDDEN,
        "no Host"
    );
    let two = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(
        port.ask("[::1]:1", "GET", "/live", &two, "").await.0,
        StatusCode::FORBIDDEN,
        "two Hosts"
    );
    assert_eq!(
        port.ask("[::ffff:127.0.0.1]:1", "GET", "/live", &[("host", "evil.example")], "")
            .await
            .0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn another_sites_page_changes_nothing() {
    let port = port("");
    for (field, value, expected) in [
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "same-origin", 202),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:9901", 202),
        ("user-agent", "curl", 202),
    ] {
        let (status, ..) = port
            .ask(
                LOCAL,
                "POST",
                "/drain",
                &[("host", "localhost:9901"), (field, value)],
                "",
            )
            .await;
        assert_eq!(status.as_u16(), expected, "{field}: {value}");
    }
    assert_eq!(port.control.done.lock().len(), 3);
}

#[tokio::test]
async fn the_token_opens_everything_but_health_which_is_open() {
    let port = port(&format!("address = \"0.0.0.0:9901\"\n{TOKEN}"));
    let host = ("host", "proxy.example:9901");
    for (path, without) in [
        ("/live", 200),
        ("/ready", 200),
        ("/metrics", 200),
        ("/status", 401),
        ("/config", 401),
        ("/x", 401),
    ] {
        let (status, headers, _) = port.ask(REMOTE, "GET", path, &[host], "").await;
        assert_eq!(status.as_u16(), without, "{path}");
        assert_eq!(headers.contains_key("www-authenticate"), without == 401);
        let (status, ..) = port.ask(REMOTE, "GET", path, &[host, BEARER], "").await;
        assert_eq!(status.as_u16(), if path == "/x" { 404 } else { 200 }, "{path}");
    }
    for wrong in [
        "Bearer 0123456789abcdef0123456789abcdee",
        "Bearer ",
        "Bearer",
        "0123456789abcdef0123456789abcdef",
        "Basic x",
    ] {
        let (status, ..) = port
            .ask(REMOTE, "POST", "/drain", &[host, ("authorization", wrong)], "")
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    assert!(port.control.done.lock().is_empty());
    let (status, ..) = port
        .ask(REMOTE, "POST", "/drain", &[host, ("authorization", BEARER.1)], "")
        .await;
    assert_eq!(status, StatusCode::ACCEPTED);
    // A token set for a loopback port binds there too.
    assert_eq!(port.local("GET", "/status", "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn metrics_need_the_token_only_when_told_so() {
    let port = port(&format!("{TOKEN}\nmetrics_token = true"));
    assert_eq!(port.local("GET", "/metrics", "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(port.local("GET", "/live", "").await.0, StatusCode::OK);
    let (status, headers, _) = port
        .ask(LOCAL, "GET", "/metrics", &[("host", "localhost"), BEARER], "")
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(!headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn ready_says_why_not() {
    let port = port("");
    assert_eq!(
        port.local("GET", "/ready", "").await,
        (StatusCode::OK, "ready\n".to_owned())
    );
    *port.control.unready.lock() = vec!["draining".to_owned(), "upstream orders has no healthy node".to_owned()];
    let (status, text) = port.local("GET", "/ready", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("draining; upstream orders has no healthy node"), "{text}");
    assert_eq!(
        port.local("GET", "/live", "").await.0,
        StatusCode::OK,
        "a proxy that is not ready lives"
    );
}

#[tokio::test]
async fn a_purge_names_exactly_one_thing() {
    let port = port("");
    for (body, expected) in [
        (r#"{"url":"/orders/1"}"#, 200),
        (r#"{"all":true}"#, 200),
        (r#"{"url":"orders"}"#, 400),
        (r#"{"url":"/a","all":true}"#, 400),
        (r#"{"all":false}"#, 400),
        ("{}", 400),
        ("", 400),
        ("[]", 400),
        (r#"{"urls":"/a"}"#, 400),
        (r#"{"prefix":"/a"}"#, 200),
        (r#"{"route":"a","soft":false}"#, 200),
        (r#"{"url":"/a","soft":true}"#, 200),
        (r#"{"prefix":"/a","route":"a"}"#, 400),
        (r#"{"soft":true}"#, 400),
        (r#"{"prefix":"/a","soft":"yes"}"#, 400),
        (r#"{"tag":"a"}"#, 200),
        (r#"{"tag":"a","soft":true}"#, 200),
        (r#"{"tag":"a","url":"/a"}"#, 400),
    ] {
        let (status, headers, text) = port.ask(LOCAL, "POST", "/purge", &[("host", "localhost")], body).await;
        assert_eq!(status.as_u16(), expected, "{body}: {text}");
        let kind = if expected == 200 {
            "application/json"
        } else {
            "application/problem+json"
        };
        assert_eq!(headers["content-type"], kind, "{body}");
        if expected == 200 {
            assert_eq!(text, r#"{"entries":2,"epoch":7}"#);
        }
    }
    assert_eq!(
        port.control.done.lock().as_slice(),
        [
            r#"Hard Url("/orders/1")"#,
            "Hard All",
            r#"Hard Url("orders")"#,
            r#"Hard Prefix("/a")"#,
            r#"Hard Route("a")"#,
            r#"Soft Url("/a")"#,
            r#"Hard Tag("a")"#,
            r#"Soft Tag("a")"#
        ]
    );
}

#[tokio::test]
async fn r41_begin_takes_one_url_or_tag_and_commit_its_id() {
    let port = port("");
    for (path, body, expected) in [
        ("/begin", r#"{"url":"/a","ttl":"1m 30s"}"#, 200),
        ("/begin", r#"{"tag":"a","ttl":5}"#, 200),
        ("/begin", r#"{"tag":"a"}"#, 200),
        ("/begin", r#"{"tag":"full"}"#, 503),
        ("/begin", r#"{"url":"a"}"#, 400),
        ("/begin", r#"{"url":"/a","tag":"a"}"#, 400),
        ("/begin", r#"{"ttl":"1s"}"#, 400),
        ("/begin", r#"{"url":"/a","ttl":"soon"}"#, 400),
        ("/begin", r#"{"url":"/a","ttl":-1}"#, 400),
        ("/begin", r#"{"url":"/a","tll":"1s"}"#, 400),
        ("/begin", "", 400),
        ("/commit", r#"{"id":"0a"}"#, 200),
        ("/commit", r#"{"id":"0b"}"#, 404),
        ("/commit", r#"{"id":10}"#, 400),
        ("/commit", "{}", 400),
    ] {
        let (status, headers, text) = port.ask(LOCAL, "POST", path, &[("host", "localhost")], body).await;
        assert_eq!(status.as_u16(), expected, "{path} {body}: {text}");
        match (expected, path) {
            (200, "/begin") => assert_eq!(text, r#"{"id":"0a"}"#),
            (200, _) => assert_eq!(text, r#"{"committed":true}"#),
            _ => assert_eq!(headers["content-type"], "application/problem+json", "{body}"),
        }
    }
    assert_eq!(
        port.control.done.lock().as_slice(),
        [
            r#"begin Url("/a") 90s"#,
            r#"begin Tag("a") 5s"#,
            r#"begin Tag("a") 60s"#,
            r#"begin Tag("full") 60s"#,
            r#"begin Url("a") 60s"#,
        ]
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let port = port("");
    for (method, path, expected) in [
        ("GET", "/nothing", 404),
        ("GET", "/purge", 405),
        ("POST", "/status", 405),
        ("OPTIONS", "/status", 405),
    ] {
        let (status, headers, text) = port.ask(LOCAL, method, path, &[("host", "localhost")], "").await;
        assert_eq!(status.as_u16(), expected, "{method} {path}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert!(text.contains(&format!("\"status\":{expected}")), "{text}");
        assert_eq!(
            headers.contains_key("allow"),
            expected == 405,
            "{method} {path}: RFC 9110 s15.5.6"
        );
    }
}

#[tokio::test]
async fn status_has_the_fields_of_the_contract() {
    let (status, text) = port("").local("GET", "/status", "").await;
    assert_eq!(status, StatusCode::OK);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    for pointer in [
        "/routes/0/name",
        "/routes/0/consistency",
        "/upstreams/0/name",
        "/upstreams/0/mode",
        "/upstreams/0/replication",
        "/upstreams/0/epoch",
        "/upstreams/0/primary",
        "/upstreams/0/nodes/0/name",
        "/upstreams/0/nodes/0/url",
        "/upstreams/0/nodes/0/state",
        "/upstreams/0/nodes/0/role",
        "/upstreams/0/nodes/0/position",
        "/upstreams/0/nodes/0/in_sync",
        "/cache/entries",
        "/cache/bytes",
        "/unsettled/0",
        "/build/version",
        "/config_hash",
    ] {
        assert!(document.pointer(pointer).is_some(), "{pointer} in {text}");
    }
}

#[tokio::test]
async fn a_question_stands_in_the_query_and_what_is_no_question_is_a_400() {
    let port = port("");
    let asked =
        "/explain?method=PUT&url=%2Fa%3Fb&header=A:%201&header=B:2&from=192.0.2.1&status=404&response_header=C:3";
    let (status, said) = port.local("GET", asked, "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "the fake says so: {said}");
    let question = port.control.done.lock().pop().unwrap();
    for part in [
        r#"method: "PUT""#,
        r#"url: "/a?b""#,
        r#"headers: ["A: 1", "B:2"]"#,
        "from: Some(192.0.2.1)",
        r#"answer: Some(Supposed { status: Some(404), headers: ["C:3"] })"#,
    ] {
        assert!(question.contains(part), "{part} in {question}");
    }
    for wrong in [
        "/explain",
        "/explain?method=GET",
        "/explain?url=/a&url=/b",
        "/explain?url=/a&from=nobody",
        "/explain?url=/a&status=many",
        "/explain?url=/a&unknown=1",
    ] {
        assert_eq!(port.local("GET", wrong, "").await.0, StatusCode::BAD_REQUEST, "{wrong}");
        assert!(port.control.done.lock().is_empty(), "{wrong}");
    }
}
