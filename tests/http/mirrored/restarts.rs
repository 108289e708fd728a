//! Mirrored writes over a kill of the proxy (R33b, R35), and over a reload.

use super::{config, eventually, has_primary, in_doubt, in_sync_at};
use crate::support::client::Client;
use crate::support::proxy::Binary;
use crate::support::register::{Point, Register};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r35_r40_what_a_killed_process_was_copying_of_a_result_is_in_doubt_for_the_next() {
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let server = format!("[server]\nthreads = 1\nstate_dir = \"{}\"\n", state.path().display());
    let config = server + &config(&at_a, &at_b, "replicate_result = true");
    let mut first = Binary::run(&config, &[]);
    let (address, admin) = first.ready();
    eventually("a primary", || has_primary(admin)).await;
    let mut copies = b.hold("PUT", "/c/1", Point::Arrived);
    let mut client = Client::connect(address).await;
    client.ask("POST", "/c/", &[], b"v").await;
    let copy = copies.next().await;
    first.signal(rustix::process::Signal::KILL);
    first.ended().await;
    copy.reset();
    drop(copies);
    assert_eq!((a.read("/c/1").as_deref(), b.read("/c/1")), (Some("v"), None));
    let mut second = Binary::run(&config, &[]);
    let (_, admin) = second.ready();
    eventually("the other node to be back with it", || async {
        in_sync_at(admin, "b").await == Some(true) && b.read("/c/1").as_deref() == Some("v")
    })
    .await;
    second.signal(rustix::process::Signal::TERM);
    second.ended().await;
}

/// Two nodes and a configuration whose state is kept.
struct Kept {
    a: Register,
    b: Register,
    config: String,
    state: tempfile::TempDir,
    _nodes: [crate::support::register::Node; 2],
}

async fn kept(keys: &str) -> Kept {
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let server = format!("[server]\nthreads = 1\nstate_dir = \"{}\"\n", state.path().display());
    let config = server + &config(&at_a, &at_b, keys);
    Kept {
        a,
        b,
        config,
        state,
        _nodes: [at_a, at_b],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r35_a_second_kill_inside_the_window_forgets_nothing() {
    let kept = kept("").await;
    let config = kept.config.replace("\"300ms\"", "\"60s\"");
    let journal = || std::fs::read_to_string(kept.state.path().join("journal")).unwrap();
    let is_open = || journal().contains("\"intent\"") && !journal().contains("\"end\"");
    let mut first = Binary::run(&config, &[]);
    let (address, admin) = first.ready();
    eventually("a primary", || has_primary(admin)).await;
    let mut arrived = kept.a.hold("PUT", "/x", Point::Arrived);
    let mut client = Client::connect(address).await;
    client.ask("PUT", "/x", &[], b"v1").await;
    let late = arrived.next().await;
    first.signal(rustix::process::Signal::KILL);
    first.ended().await;
    for _ in 0..2 {
        assert!(is_open(), "{}", journal());
        let mut next = Binary::run(&config, &[]);
        let (address, admin) = next.ready();
        eventually("a primary", || has_primary(admin)).await;
        // Compared and found the same, but nothing has settled.
        assert_eq!(Client::connect(address).await.get("/x").await.status, 404);
        next.signal(rustix::process::Signal::KILL);
        next.ended().await;
    }
    assert!(is_open(), "{}", journal());
    // The last one finds what was applied late, and ends it.
    late.release();
    eventually("the late write", || async { kept.a.read("/x").is_some() }).await;
    let mut last = Binary::run(&kept.config, &[]);
    let (address, admin) = last.ready();
    eventually("a primary", || has_primary(admin)).await;
    assert_eq!(Client::connect(address).await.get("/x").await.text(), "v1");
    eventually("the other node to be back with it", || async {
        in_sync_at(admin, "b").await == Some(true) && kept.b.read("/x").as_deref() == Some("v1")
    })
    .await;
    last.signal(rustix::process::Signal::TERM);
    last.ended().await;
    assert_eq!(
        journal().matches("\"intent\"").count(),
        journal().matches("\"end\"").count()
    );
}

#[tokio::test]
async fn r31_r34_a_doubt_survives_a_reload_and_a_reload_of_settle_after_reaches_the_next() {
    let p = super::pair_from_file(|config| config.replace("\"300ms\"", "\"60s\"")).await;
    assert_eq!(p.pair.proxy.put("/x", "v1").await.status, 201);
    in_doubt(&p.pair, "v2").await;
    p.reload(&(p.text.clone() + "timeout = \"20s\"\n")).await;
    assert_eq!(p.pair.proxy.get("/x").await.text(), "v2");
    assert_eq!(p.pair.b.read("/x").as_deref(), Some("v2"), "it is still compared");
    p.reload(&p.text.replace("\"60s\"", "\"300ms\"")).await;
    let mut applied = p.pair.a.hold("PUT", "/y", Point::Applied);
    tokio::join!(p.pair.proxy.put("/y", "w"), async { applied.next().await.reset() });
    drop(applied);
    // Nobody reads it: it is compared once it has settled.
    eventually("the other node to be given it", || async {
        p.pair.b.read("/y").as_deref() == Some("w")
    })
    .await;
}
