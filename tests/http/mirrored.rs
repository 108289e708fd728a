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

/// An unknown write that only `a` has applied.
async fn in_doubt(p: &Pair, value: &str) {
    let mut applied = p.a.hold("PUT", "/x", Point::Applied);
    let (answer, ()) = tokio::join!(p.proxy.put("/x", value), async { applied.next().await.reset() });
    assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"));
}

#[tokio::test]
async fn r21_r34_a_reader_that_leaves_does_not_cut_off_the_repair_it_began() {
    let p = pair_with(|config| config.replace("\"300ms\"", "\"60s\""), "").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    let mut repairs = p.b.hold("PUT", "/x", Point::Arrived);
    in_doubt(&p, "v2").await;
    // Not through the flight, which nobody can leave: HEAD is asked by its client alone.
    let mut client = p.proxy.client().await;
    client.ask("HEAD", "/x", &[], b"").await;
    let first = repairs.next().await;
    client.abort();
    let release_others = async {
        loop {
            repairs.next().await.release();
        }
    };
    let next = async {
        assert_eq!(p.proxy.get("/x").await.text(), "v2");
        assert_eq!(p.proxy.put("/x", "v3").await.status, 204);
        p.in_sync("b").await
    };
    let in_sync = tokio::select! {
        in_sync = next => in_sync,
        () = release_others => unreachable!(),
    };
    // What the reader's repair had sent is applied only now.
    first.release();
    eventually("it to be applied", || async { p.b.read("/x").as_deref() == Some("v2") }).await;
    assert!(!in_sync, "b holds what is older than an acknowledged write");
    assert!(!p.in_sync("b").await);
}

#[tokio::test]
async fn r34_what_a_reader_chose_is_not_copied_as_what_is_stored() {
    let p = pair("").await;
    assert_eq!(p.proxy.put("/x", "v1").await.status, 201);
    in_doubt(&p, "v2").await;
    let answer = p
        .proxy
        .get_with("/x", &[("Accept", "text/html"), ("Accept-Language", "de")])
        .await;
    assert_eq!(answer.text(), "v2");
    assert_eq!(p.b.read("/x").as_deref(), Some("v2"));
    let seen = p.a.seen();
    let gets = seen.iter().filter(|seen| seen.method == "GET" && seen.target == "/x");
    let accepts: Vec<_> = gets.map(|seen| seen.headers.get("accept")).collect();
    assert_eq!(
        accepts,
        [None, Some("text/html")],
        "what is stored, and what was asked for"
    );
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
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r33b_r35_what_is_compared_and_copied_back_has_its_clients_host_and_its_routes_fields_over_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let server = format!("[server]\nthreads = 1\nstate_dir = \"{}\"\n", state.path().display());
    let config = server + &config(&at_a, &at_b, "") + "set_request_headers = { \"X-Tenant\" = \"t\" }\n";
    let mut first = Binary::run(&config, &[]);
    let (address, admin) = first.ready();
    eventually("a primary", || has_primary(admin)).await;
    let host = [("Host", "Shop.example")];
    let mut client = Client::connect(address).await;
    let written = client.request("PUT", "/x", &host, b"v1").await;
    assert_eq!(written.status, 201, "{}", written.text());
    let mut applied = a.hold("PUT", "/x", Point::Applied);
    client.ask("PUT", "/x", &host, b"v2").await;
    let held = applied.next().await;
    first.signal(rustix::process::Signal::KILL);
    first.ended().await;
    held.reset();
    drop(applied);
    let before = (a.seen().len(), b.seen().len());
    let mut second = Binary::run(&config, &[]);
    let (_, admin) = second.ready();
    // Nobody asks for it: the doubt is ended and the node brought back by the proxy alone.
    eventually("the other node to be back with it", || async {
        in_sync_at(admin, "b").await == Some(true) && b.read("/x").as_deref() == Some("v2")
    })
    .await;
    let (at_a, at_b) = (a.seen().split_off(before.0), b.seen().split_off(before.1));
    let ours: Vec<_> = at_a.iter().chain(&at_b).filter(|seen| seen.target == "/x").collect();
    assert!(ours.len() >= 2, "{ours:?}");
    for seen in ours {
        let fields = (seen.headers.get("host"), seen.headers.get("x-tenant"));
        assert_eq!(fields, (Some("shop.example"), Some("t")), "{seen:?}");
    }
    second.signal(rustix::process::Signal::TERM);
    second.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r33b_a_restart_does_not_make_a_node_quiet() {
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let server = format!("[server]\nthreads = 1\nstate_dir = \"{}\"\n", state.path().display());
    let config = (server + &config(&at_a, &at_b, "")).replace("\"300ms\"", "\"60s\"");
    let off = std::env::vars().filter(|(name, _)| name == "TIDEGATE_TEST_RULES_OFF");
    let off: Vec<_> = off.collect();
    let mut first = Binary::run_with(&config, &[], &off);
    let (address, admin) = first.ready();
    eventually("a primary", || has_primary(admin)).await;
    assert_eq!(Client::connect(address).await.put("/x", "v1").await.status, 201);
    let mut late = b.hold("PUT", "/x", Point::Arrived);
    let mut client = Client::connect(address).await;
    let (answer, late) = tokio::join!(client.put("/x", "v2"), late.next());
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(
        in_sync_at(admin, "b").await,
        Some(false),
        "its copy may be applied late"
    );
    first.signal(rustix::process::Signal::KILL);
    first.ended().await;
    let mut second = Binary::run_with(&config, &[], &off);
    let (address, admin) = second.ready();
    eventually("a primary", || has_primary(admin)).await;
    let answer = Client::connect(address).await.put("/x", "v3").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    // Rounds go by. Nothing is copied to it before a minute is over.
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    assert_eq!(in_sync_at(admin, "b").await, Some(false));
    late.release();
    eventually("the late copy", || async { b.read("/x").as_deref() == Some("v2") }).await;
    assert_eq!(in_sync_at(admin, "b").await, Some(false));
    second.signal(rustix::process::Signal::TERM);
    second.ended().await;
}
