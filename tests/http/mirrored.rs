//! `replication = "mirrored"` on the wire: two nodes with a store of their own each, and the proxy copies writes from one to the other
//! (R33-R35, R40).

mod doubts;
mod restarts;
mod results;

use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::Proxy;
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
pub(super) fn config(at_a: &Node, at_b: &Node, keys: &str) -> String {
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
    pair_with(|config| config, keys).await
}

/// The same with another configuration.
async fn pair_with(change: impl Fn(String) -> String, keys: &str) -> Pair {
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let proxy = Proxy::start(&change(config(&at_a, &at_b, keys)), &[]).await;
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

/// The same over a file that can be reloaded.
struct Reloadable {
    pair: Pair,
    text: String,
    file: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

async fn pair_from_file(change: impl Fn(String) -> String) -> Reloadable {
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    let text = change(config(&at_a, &at_b, ""));
    let proxy = Proxy::start_from_file(&file, &text).await;
    proxy.until_state("o", "a", "active").await;
    proxy.until_state("o", "b", "standby").await;
    Reloadable {
        pair: Pair {
            a,
            b,
            at_a,
            at_b,
            proxy,
        },
        text,
        file,
        _folder: folder,
    }
}

impl Reloadable {
    async fn reload(&self, text: &str) {
        std::fs::write(&self.file, super::support::proxy::complete(text, &[])).unwrap();
        let answer = self.pair.proxy.admin_post("/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
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

/// An unknown write that only `a` has applied.
async fn in_doubt(p: &Pair, value: &str) {
    let mut applied = p.a.hold("PUT", "/x", Point::Applied);
    let (answer, ()) = tokio::join!(p.proxy.put("/x", value), async { applied.next().await.reset() });
    assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"));
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

#[tokio::test]
async fn r13_r40_a_method_that_overrides_another_is_not_copied() {
    let p = pair("").await;
    let answer = p
        .proxy
        .request("PUT", "/x", &[("X-HTTP-Method-Override", "PATCH")], "v")
        .await;
    assert_eq!((answer.status, answer.problem().as_str()), (501, "not-replicable"));
    assert_eq!((p.a.count("PUT", "/x"), p.b.count("PUT", "/x")), (0, 0));
}

#[tokio::test]
async fn r33_a_redirect_that_every_node_answers_is_a_confirmation() {
    let p = pair("").await;
    let mut at_a = p.a.hold("PUT", "/x", Point::Applied);
    let mut at_b = p.b.hold("PUT", "/x", Point::Applied);
    let redirects = async {
        at_a.next().await.answer(303);
        at_b.next().await.answer(303);
    };
    let (answer, ()) = tokio::join!(p.proxy.put("/x", "v"), redirects);
    assert_eq!(answer.status, 303);
    assert!(p.in_sync("b").await);
    let other = async {
        at_a.next().await.answer(303);
        at_b.next().await.answer(302);
    };
    let (answer, ()) = tokio::join!(p.proxy.put("/x", "v"), other);
    assert_eq!(answer.status, 303);
    assert!(!p.in_sync("b").await, "it did something else");
}

#[tokio::test]
async fn r33b_after_a_promotion_by_the_operator_the_others_are_given_what_it_lost() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut refuse = p.b.hold("PUT", "/x", Point::Arrived);
    let (answer, ()) = tokio::join!(p.proxy.put("/x", "v2"), async { refuse.next().await.answer(500) });
    assert_eq!(answer.status, 204);
    assert!(!p.in_sync("b").await);
    let answer = p.proxy.admin_post("/upstreams/o/nodes/b/promote", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(refuse);
    p.until_in_sync("a").await;
    assert_eq!(
        p.proxy.get("/x").await.text(),
        "v1",
        "v2 is lost by the operator's word"
    );
    assert_eq!(p.a.read("/x").as_deref(), Some("v1"), "on every node");
}

#[tokio::test]
async fn r33b_a_node_returns_with_everything_it_has_missed() {
    let p = pair("").await;
    for path in ["/put", "/deleted", "/twice"] {
        assert_eq!(p.proxy.put(path, "v1").await.status, 201);
    }
    p.at_b.down().await;
    assert_eq!(p.proxy.put("/put", "v2").await.status, 204);
    assert!(!p.in_sync("b").await);
    assert_eq!(p.proxy.request("DELETE", "/deleted", &[], "").await.status, 204);
    for value in ["v2", "v3"] {
        assert_eq!(p.proxy.put("/twice", value).await.status, 204);
    }
    assert_eq!(p.proxy.put("/made?by=us", "v1").await.status, 201);
    p.at_b.up().await;
    p.until_in_sync("b").await;
    let held = ["/put", "/deleted", "/twice", "/made"].map(|path| p.b.read(path));
    assert_eq!(held, [Some("v2".into()), None, Some("v3".into()), Some("v1".into())]);
}

#[tokio::test]
async fn r33_a_write_whose_primary_refuses_the_connect_waits_for_the_promotion() {
    let p = pair_with(|config| config.replace("\"20ms\"", "\"200ms\""), "").await;
    p.at_a.down().await;
    let answer = p.proxy.put("/x", "v1").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!((p.a.read("/x"), p.b.read("/x").as_deref()), (None, Some("v1")));
    // With nobody left to take over it is refused in the end, and nothing of it is in doubt.
    p.at_b.down().await;
    let answer = p.proxy.put("/x", "v2").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "not-applied"));
    p.at_b.up().await;
    p.proxy.until_state("o", "b", "active").await;
    let asked = p.b.count("GET", "/x");
    assert_eq!(p.proxy.get("/x").await.text(), "v1");
    assert_eq!(p.b.count("GET", "/x"), asked + 1, "nothing is compared");
}

/// Who answered what, by the `Host` it was asked for.

#[tokio::test]
async fn r35_at_the_first_start_the_others_may_wait_for_the_operators_word() {
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    a.write("/old", "v0");
    let proxy = Proxy::start(&config(&at_a, &at_b, "initial_in_sync = \"primary\""), &[]).await;
    proxy.until_state("o", "a", "active").await;
    proxy.until_state("o", "b", "quarantined").await;
    assert_eq!(proxy.put("/x", "v1").await.status, 201);
    assert_eq!((in_sync_at(proxy.admin, "b").await, b.read("/x")), (Some(false), None));
    // Rounds go by, and nobody brings it back: what it lacks nobody knows.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(in_sync_at(proxy.admin, "b").await, Some(false));
    b.write("/old", "v0");
    b.write("/x", "v1");
    let answer = proxy.admin_post("/upstreams/o/nodes/b/resynced", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually("b to be in sync", || async {
        in_sync_at(proxy.admin, "b").await == Some(true)
    })
    .await;
    assert_eq!(proxy.put("/x", "v2").await.status, 204);
    assert_eq!(b.read("/x").as_deref(), Some("v2"));
}

/// A disk on which the views are made durable only while the test lets them.
struct Gated {
    real: std::sync::Arc<dyn tidegate::world::Disk>,
    shut: std::sync::Arc<std::sync::Mutex<()>>,
}

impl tidegate::world::Disk for Gated {
    fn read_to_string(&self, path: &std::path::Path) -> std::io::Result<String> {
        self.real.read_to_string(path)
    }
    fn replace(&self, path: &std::path::Path, text: &str) -> std::io::Result<()> {
        let views = path.ends_with("views");
        let _open = views.then(|| self.shut.lock());
        self.real.replace(path, text)
    }
    fn claim(&self, folder: &std::path::Path) -> std::io::Result<Box<dyn Send + Sync>> {
        self.real.claim(folder)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.real.remove(path)
    }
    fn read(&self, path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        self.real.read(path)
    }
    fn append_to(&self, path: &std::path::Path) -> std::io::Result<Box<dyn tidegate::world::Log>> {
        self.real.append_to(path)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r33b_a_node_that_is_about_to_leave_is_not_taken_for_one_that_the_operator_has_resynced() {
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let shut = std::sync::Arc::default();
    let mut world = tidegate::world::World::real();
    world.disk = std::sync::Arc::new(Gated {
        real: world.disk,
        shut: std::sync::Arc::clone(&shut),
    });
    let server = format!("[server]\nthreads = 1\nstate_dir = \"{}\"\n", state.path().display());
    let config = (server + &config(&at_a, &at_b, "")).replace("\"300ms\"", "\"60s\"");
    let proxy = Proxy::start_in(world, &config, &[]).await;
    proxy.until_state("o", "b", "standby").await;
    assert_eq!(proxy.put("/x", "v1").await.status, 201);
    let mut late = b.hold("PUT", "/x", Point::Arrived);
    let (closed, opened) = (std::sync::Arc::clone(&shut), tokio::sync::oneshot::channel::<()>());
    let (shutting, is_shut) = tokio::sync::oneshot::channel();
    let disk = tokio::task::spawn_blocking(move || {
        let _closed = closed.lock();
        let _left = shutting.send(());
        let _opened = opened.1.blocking_recv();
    });
    is_shut.await.unwrap();
    let write = async {
        let answer = proxy.put("/x", "v2").await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    };
    let rounds = || tokio::time::sleep(std::time::Duration::from_millis(700));
    let leaving = async {
        let copy = late.next().await;
        // Its time is up after a second: it is listed then, and not out yet. Rounds go by.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        rounds().await;
        let _left = opened.0.send(());
        copy
    };
    let ((), copy) = tokio::join!(write, leaving);
    disk.await.unwrap();
    drop(late);
    // It is out, and quiet in a minute: until then nothing is copied to it.
    rounds().await;
    assert_eq!(in_sync_at(proxy.admin, "b").await, Some(false));
    // Nor may the operator say meanwhile that it holds what it should: the copy may still be applied over what comes later.
    let answer = proxy.admin_post("/upstreams/o/nodes/b/resynced", "").await;
    assert_eq!(answer.status, 409);
    assert!(
        answer.text().contains("may still be applied there"),
        "{}",
        answer.text()
    );
    copy.release();
}
