//! `replication = "mirrored"` on the wire: two nodes with a store of their own each, and the proxy copies writes from one to the other
//! (R33-R35, R40).

use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::{Binary, Proxy};
use super::support::register::{Node, Point, Register};
use std::net::SocketAddr;

/// Two nodes that know nothing of each other, and the proxy before them.
struct Pair {
    a: Register,
    b: Register,
    at_a: Node,
    at_b: Node,
    proxy: Proxy,
}

/// An upstream `o` of these, with these keys, and one route.
fn config(at_a: &Node, at_b: &Node, keys: &str) -> String {
    format!(
        r#"
[upstreams.o]
mode = "active-passive"
replication = "mirrored"
nodes = [{{ url = "{}", name = "a" }}, {{ url = "{}", name = "b" }}]
mirror_timeout = "1s"
{keys}
[upstreams.o.failover]
hold = "4s"
[upstreams.o.health_check]
path = "/healthz"
interval = "20ms"
timeout = "2s"

[[routes]]
name = "r"
upstream = "o"
consistency = "strong"
writers = "exclusive"
settle_after = "300ms"
"#,
        at_a.url(),
        at_b.url()
    )
}

async fn pair(keys: &str) -> Pair {
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let proxy = Proxy::start(&config(&at_a, &at_b, keys), &[]).await;
    proxy.until_state("o", "a", "active").await;
    proxy.until_state("o", "b", "standby").await;
    Pair {
        a,
        b,
        at_a,
        at_b,
        proxy,
    }
}

async fn status_at(admin: SocketAddr) -> serde_json::Value {
    let host = admin.to_string();
    let answer = Client::connect(admin)
        .await
        .get_with("/status", &[("Host", &host)])
        .await;
    serde_json::from_slice(&answer.body).unwrap()
}

async fn has_primary(admin: SocketAddr) -> bool {
    let status = status_at(admin).await;
    let states = status["upstreams"][0]["nodes"].as_array().unwrap();
    states.iter().any(|node| node["state"] == "active")
}

/// Whether a node holds every acknowledged write, by `/status`.
async fn in_sync_at(admin: SocketAddr, node: &str) -> Option<bool> {
    let status = status_at(admin).await;
    let nodes = status["upstreams"][0]["nodes"].as_array()?;
    nodes.iter().find(|n| n["name"] == node)?["in_sync"].as_bool()
}

impl Pair {
    async fn in_sync(&self, node: &str) -> bool {
        in_sync_at(self.proxy.admin, node).await == Some(true)
    }

    async fn until_in_sync(&self, node: &str) {
        eventually(format!("{node} to be in sync"), || self.in_sync(node)).await;
    }
}

#[tokio::test]
async fn r33_a_write_is_acknowledged_when_every_node_in_sync_has_it() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    assert_eq!((p.a.read("/x"), p.b.read("/x")), (Some("v1".into()), Some("v1".into())));
    assert_eq!(p.proxy.get("/x").await.text(), "v1");
    let etag = p.proxy.get("/x").await.header("etag").unwrap().to_owned();
    let conditional = p.proxy.request("PUT", "/x", &[("If-Match", &etag)], "v2").await;
    assert_eq!(conditional.status, 204);
    assert_eq!(
        p.b.read("/x").as_deref(),
        Some("v2"),
        "copied without conditions: its ETag is another"
    );
    let refused = p.proxy.request("PUT", "/x", &[("If-Match", "\"no\"")], "v3").await;
    assert_eq!((refused.status, p.b.read("/x").as_deref()), (412, Some("v2")));
    assert_eq!(p.proxy.request("DELETE", "/x", &[], "").await.status, 204);
    assert_eq!((p.a.read("/x"), p.b.read("/x")), (None, None));
    assert!(p.in_sync("b").await);
}

#[tokio::test]
async fn r33_a_node_that_does_not_confirm_leaves_the_set_before_the_acknowledgement_and_returns_with_what_it_missed() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut refuse = p.b.hold("PUT", "/x", Point::Arrived);
    let write = async {
        let answer = p.proxy.put("/x", "v2").await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        assert!(!p.in_sync("b").await, "it lacks an acknowledged write");
    };
    let refusal = async { refuse.next().await.answer(500) };
    tokio::join!(write, refusal);
    assert_eq!(p.proxy.get("/x").await.text(), "v2");
    drop(refuse);
    p.until_in_sync("b").await;
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"));
}

#[tokio::test]
async fn r33_below_min_in_sync_a_write_is_unknown_and_the_next_is_not_sent() {
    let p = pair("min_in_sync = 2").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    p.at_b.down().await;
    let answer = p.proxy.put("/x", "v2").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (504, "unknown"),
        "{}",
        answer.text()
    );
    let answer = p.proxy.put("/x", "v3").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "not-applied"),
        "{}",
        answer.text()
    );
    assert!(p.a.read("/x").as_deref() == Some("v2"));
    assert_eq!(p.proxy.get("/x").await.text(), "v2", "reads go on");
    p.at_b.up().await;
    p.until_in_sync("b").await;
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"));
    assert_eq!(p.proxy.put("/x", "v4").await.status, 204);
}

#[tokio::test]
async fn r33_a_body_that_is_longer_than_can_be_copied_is_sent_to_nobody() {
    let p = pair("mirror_max_body = \"8B\"").await;
    assert_eq!(p.proxy.put("/x", "12345678").await.status, 201);
    assert_eq!(p.proxy.put("/x", "123456789").await.status, 413);
    assert_eq!(
        (p.a.read("/x").as_deref(), p.b.read("/x").as_deref()),
        (Some("12345678"), Some("12345678"))
    );
}

#[tokio::test]
async fn r33_a_promoted_standby_has_every_acknowledged_write() {
    let p = pair("").await;
    for n in 0..20 {
        assert_eq!(p.proxy.put(&format!("/{n}"), &format!("v{n}")).await.status, 201);
    }
    p.at_a.down().await;
    for n in 0..20 {
        let answer = p.proxy.get(&format!("/{n}")).await;
        assert_eq!((answer.status, answer.text()), (200, format!("v{n}").as_str()));
    }
    assert_eq!(p.proxy.put("/0", "w").await.status, 204);
    // What was the primary comes back with what it has missed.
    p.at_a.up().await;
    p.until_in_sync("a").await;
    assert_eq!(p.a.read("/0").as_deref(), Some("w"));
}

#[tokio::test]
async fn r34_a_read_waits_for_the_write_ahead_of_it() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut copies = p.b.hold("PUT", "/x", Point::Arrived);
    let write = p.proxy.put("/x", "v2");
    let read = async {
        let copy = copies.next().await;
        // The primary has v2, the other has not.
        let early = p.proxy.get("/x");
        let release = async {
            let seen = p.a.count("GET", "/x");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert_eq!(
                p.a.count("GET", "/x"),
                seen,
                "a read is sent while the write ahead of it is copied"
            );
            copy.release();
        };
        tokio::join!(early, release).0
    };
    let (written, read) = tokio::join!(write, read);
    assert_eq!((written.status, read.text()), (204, "v2"));
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"));
}

#[tokio::test]
async fn r34_after_an_unknown_write_a_read_is_answered_with_what_all_nodes_hold() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut applied = p.a.hold("PUT", "/x", Point::Applied);
    let write = async {
        let answer = p.proxy.put("/x", "v2").await;
        assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"));
    };
    tokio::join!(write, async { applied.next().await.reset() });
    drop(applied);
    assert_eq!(p.b.read("/x").as_deref(), Some("v1"));
    assert_eq!(p.proxy.get("/x").await.text(), "v2");
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"), "repaired before the answer");
}

#[tokio::test]
async fn r34_a_doubt_that_nobody_reads_is_ended_in_the_background() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut applied = p.a.hold("PUT", "/x", Point::Applied);
    tokio::join!(p.proxy.put("/x", "v2"), async { applied.next().await.reset() });
    drop(applied);
    eventually("the other node to be repaired", || async {
        p.b.read("/x").as_deref() == Some("v2")
    })
    .await;
}

#[tokio::test]
async fn r40_what_cannot_be_copied_is_refused() {
    let p = pair("").await;
    for method in ["POST", "PATCH"] {
        let answer = p.proxy.request(method, "/x", &[], "v").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (501, "not-replicable"),
            "{}",
            answer.text()
        );
        assert_eq!((p.a.count(method, "/x"), p.b.count(method, "/x")), (0, 0));
    }
}

// The nodes answer probes while the test waits for the binary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r35_what_a_killed_process_left_open_is_in_doubt_for_the_next() {
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let server = format!("[server]\nthreads = 1\nstate_dir = \"{}\"\n", state.path().display());
    let config = server + &config(&at_a, &at_b, "");
    // tests/mutations runs it with the rule off; the binary is told by hand.
    let off = std::env::vars().filter(|(name, _)| name == "TIDEGATE_TEST_RULES_OFF");
    let off: Vec<_> = off.collect();
    let mut first = Binary::run_with(&config, &[], &off);
    let (address, admin) = first.ready();
    eventually("a primary", || has_primary(admin)).await;
    let written = Client::connect(address).await.put("/x", "v1").await;
    assert_eq!(
        (written.status, b.read("/x").as_deref()),
        (201, Some("v1")),
        "{}",
        written.text()
    );
    let mut applied = a.hold("PUT", "/x", Point::Applied);
    let mut client = Client::connect(address).await;
    client.ask("PUT", "/x", &[], b"v2").await;
    let held = applied.next().await;
    first.signal(rustix::process::Signal::KILL);
    first.ended().await;
    held.reset();
    drop(applied);
    // The primary has what the other has not, and nobody was told.
    let mut second = Binary::run_with(&config, &[], &off);
    let (address, admin) = second.ready();
    eventually("a primary", || has_primary(admin)).await;
    assert_eq!(Client::connect(address).await.get("/x").await.text(), "v2");
    eventually("the other node to have it too, and to be back", || async {
        in_sync_at(admin, "b").await == Some(true) && b.read("/x").as_deref() == Some("v2")
    })
    .await;
    second.signal(rustix::process::Signal::TERM);
    second.ended().await;
}
