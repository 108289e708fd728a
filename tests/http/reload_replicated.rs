//! Reloads of upstreams whose nodes hold data of their own (R31, R33b, R36): nobody is in the set by configuration alone, nobody loses what
//! was acknowledged, and what cannot be done safely is refused.

use super::reload::Reloading;
use super::support::client::{Answer, Client};
use super::support::register::{Node, Point, Register};
use super::support::{eventually, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn config(server: &str, nodes: &[(&str, &Node)], keys: &str) -> String {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(name, node)| format!("{{ url = \"{}\", name = \"{name}\" }}", node.url()))
        .collect();
    // Copies are made of what passes here: nobody else may write.
    let writers = if keys.contains("mirrored") {
        "writers = \"exclusive\""
    } else {
        ""
    };
    format!(
        "{server}\n[upstreams.o]\nmode = \"active-passive\"\nnodes = [{}]\n{keys}\n\
         [upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"20ms\"\ntimeout = \"2s\"\n\
         [[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"strong\"\nsettle_after = \"300ms\"\n{writers}\n",
        nodes.join(", ")
    )
}

const MIRRORED: &str = "replication = \"mirrored\"";
const PRIMARY: &str = "replication = \"primary\"\nmax_lag = \"1s\"";

async fn node(at: &Reloading, name: &str) -> serde_json::Value {
    let status = at.proxy.status().await;
    let nodes = status["upstreams"][0]["nodes"].as_array().unwrap();
    nodes
        .iter()
        .find(|node| node["name"] == name)
        .cloned()
        .unwrap_or_default()
}

async fn is_in_sync(at: &Reloading, name: &str) -> bool {
    node(at, name).await["in_sync"] == true
}

async fn order(at: &Reloading, name: &str, word: &str) {
    let answer = at
        .proxy
        .admin_post(&format!("/upstreams/o/nodes/{name}/{word}"), "")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What cannot be reloaded: the one error, and nothing has changed.
async fn refused(at: &Reloading, text: &str) -> String {
    let before = (at.hash().await, at.proxy.status().await["upstreams"].clone());
    at.write(text);
    let answer = at.proxy.admin_post("/reload", "").await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let after = (at.hash().await, at.proxy.status().await["upstreams"].clone());
    assert_eq!(before.0, after.0);
    assert_eq!(before.1[0]["epoch"], after.1[0]["epoch"]);
    let names = |upstreams: &serde_json::Value| -> Vec<String> {
        let nodes = upstreams[0]["nodes"].as_array().unwrap().iter();
        nodes
            .map(|node| format!("{} {}", node["name"], node["in_sync"]))
            .collect()
    };
    assert_eq!(names(&before.1), names(&after.1));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].as_str().unwrap().to_owned()
}

fn acknowledged(answer: &Answer) {
    assert!(
        matches!(answer.status, 201 | 204),
        "{} {}",
        answer.status,
        answer.text()
    );
}

#[tokio::test]
async fn r33b_a_node_that_a_reload_brings_is_outside_the_set_until_the_operators_word_and_the_primary_stays() {
    let (a, b, c) = (Register::new(), Register::new(), Register::new());
    let (at_a, at_b, at_c) = (a.node("a").await, b.node("b").await, c.node("c").await);
    let at = Reloading::start(&config("", &[("a", &at_a), ("b", &at_b)], MIRRORED)).await;
    acknowledged(&at.proxy.put("/x", "v1").await);
    at.reload(&config("", &[("c", &at_c), ("a", &at_a), ("b", &at_b)], MIRRORED))
        .await;
    for turn in 0..5 {
        acknowledged(&at.proxy.put("/x", &format!("w{turn}")).await);
    }
    assert_eq!(node(&at, "c").await["state"], "quarantined");
    assert_eq!((b.read("/x").as_deref(), c.read("/x")), (Some("w4"), None));
    assert!(!is_in_sync(&at, "c").await && is_in_sync(&at, "b").await);
    order(&at, "c", "resynced").await;
    acknowledged(&at.proxy.put("/y", "v1").await);
    assert_eq!(c.read("/y").as_deref(), Some("v1"));
    let why = refused(&at, &config("", &[("b", &at_b), ("c", &at_c)], MIRRORED)).await;
    assert!(
        why.contains("upstreams.o.nodes: \"a\" cannot be taken out now: it is the primary"),
        "{why}"
    );
    at.reload(&config("", &[("c", &at_c), ("a", &at_a)], MIRRORED)).await;
    acknowledged(&at.proxy.put("/z", "v1").await);
    assert_eq!((c.read("/z").as_deref(), b.read("/z")), (Some("v1"), None));
    order(&at, "c", "promote").await;
    at.reload(&config("", &[("c", &at_c)], MIRRORED)).await;
    assert_eq!(at.proxy.get("/z").await.text(), "v1");
    acknowledged(&at.proxy.put("/z", "v2").await);
    assert_eq!(
        (c.read("/z").as_deref(), a.read("/z").as_deref()),
        (Some("v2"), Some("v1"))
    );
}

#[tokio::test]
async fn r33_a_reload_leaves_as_many_nodes_in_the_set_as_writes_need() {
    let (a, b, c) = (Register::new(), Register::new(), Register::new());
    let (at_a, at_b, at_c) = (a.node("a").await, b.node("b").await, c.node("c").await);
    let keys = format!("{MIRRORED}\nmin_in_sync = 2");
    let at = Reloading::start(&config("", &[("a", &at_a), ("b", &at_b)], &keys)).await;
    // The new one does not hold what the other does.
    let why = refused(&at, &config("", &[("a", &at_a), ("c", &at_c)], &keys)).await;
    assert!(
        why.contains("\"b\" cannot be taken out now: without it fewer than min_in_sync"),
        "{why}"
    );
    acknowledged(&at.proxy.put("/x", "v1").await);
    at.reload(&config("", &[("a", &at_a), ("b", &at_b), ("c", &at_c)], &keys))
        .await;
    order(&at, "c", "resynced").await;
    at.reload(&config("", &[("a", &at_a), ("c", &at_c)], &keys)).await;
    acknowledged(&at.proxy.put("/x", "v2").await);
    assert_eq!(
        (b.read("/x").as_deref(), c.read("/x").as_deref()),
        (Some("v1"), Some("v2"))
    );
}

#[tokio::test]
async fn r33_a_write_that_is_being_copied_to_a_node_that_goes_is_acknowledged_without_it() {
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let keys = format!("{MIRRORED}\nmirror_timeout = \"300ms\"");
    let at = Reloading::start(&config("", &[("a", &at_a), ("b", &at_b)], &keys)).await;
    acknowledged(&at.proxy.put("/x", "v1").await);
    let mut held = b.hold("PUT", "/x", Point::Arrived);
    let write = async {
        acknowledged(&at.proxy.put("/x", "v2").await);
        assert_eq!(at.proxy.get("/x").await.text(), "v2");
    };
    let reload = async {
        let copy = held.next().await;
        at.reload(&config("", &[("a", &at_a)], &keys)).await;
        acknowledged(&at.proxy.put("/y", "v1").await);
        assert_eq!(b.read("/y"), None);
        copy
    };
    let ((), _never_answered) = tokio::join!(write, reload);
    // It comes back as a stranger: what it missed nobody has listed.
    at.reload(&config("", &[("a", &at_a), ("b", &at_b)], &keys)).await;
    acknowledged(&at.proxy.put("/y", "v2").await);
    assert!(!is_in_sync(&at, "b").await);
}

#[tokio::test]
async fn r35_what_a_reload_has_changed_of_the_nodes_outlives_the_process() {
    let state = tempfile::tempdir().unwrap();
    let server = format!("[server]\nstate_dir = \"{}\"\n", state.path().display());
    let (a, b, c) = (Register::new(), Register::new(), Register::new());
    let (at_a, at_b, at_c) = (a.node("a").await, b.node("b").await, c.node("c").await);
    let three = [("a", &at_a), ("b", &at_b), ("c", &at_c)];
    let at = Reloading::start(&config(&server, &three[..2], MIRRORED)).await;
    acknowledged(&at.proxy.put("/x", "v1").await);
    at.reload(&config(&server, &three, MIRRORED)).await;
    acknowledged(&at.proxy.put("/x", "v2").await);
    at.reload(&config(&server, &[("a", &at_a), ("c", &at_c)], MIRRORED))
        .await;
    drop(at);
    let at = Reloading::start(&config(&server, &three, MIRRORED)).await;
    for turn in 0..5 {
        acknowledged(&at.proxy.put("/y", &format!("w{turn}")).await);
    }
    eventually("probes", || async { node(&at, "b").await["state"] == "quarantined" }).await;
    eventually("probes", || async { node(&at, "c").await["state"] == "quarantined" }).await;
    assert_eq!((b.read("/y"), c.read("/y")), (None, None), "neither is in the set");
}

#[tokio::test]
async fn r35_an_upstream_of_before_is_not_taken_up_by_a_reload() {
    let state = tempfile::tempdir().unwrap();
    let server = format!("[server]\nstate_dir = \"{}\"\n", state.path().display());
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let other = format!(
        "{server}\n[upstreams.p]\nnodes = [{{ url = \"{}\" }}]\n[[routes]]\nupstream = \"p\"\nconsistency = \"off\"\n",
        at_a.url()
    );
    let mirrored = config(&server, &[("a", &at_a), ("b", &at_b)], MIRRORED);
    let at = Reloading::start(&other).await;
    // New: it begins as an upstream does at its first start, with what must be durable on the disk.
    at.reload(&mirrored).await;
    acknowledged(&at.proxy.put("/x", "v1").await);
    assert_eq!(b.read("/x").as_deref(), Some("v1"));
    assert!(
        std::fs::read_to_string(state.path().join("journal"))
            .unwrap()
            .contains("/x")
    );
    order(&at, "b", "promote").await;
    at.reload(&other).await;
    at.write(&mirrored);
    let answer = at.proxy.admin_post("/reload", "").await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.text().contains("upstreams.o: needs a restart"),
        "{}",
        answer.text()
    );
    drop(at);
    let at = Reloading::start(&other).await;
    at.write(&mirrored);
    let answer = at.proxy.admin_post("/reload", "").await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("state_dir remembers"), "{}", answer.text());
    drop(at);
    let at = Reloading::start(&mirrored).await;
    at.proxy.until_state("o", "b", "active").await;
}

#[tokio::test]
async fn r36_a_replica_that_a_reload_brings_waits_for_the_operators_word_and_one_that_goes_takes_nothing_along() {
    let (a, b, c) = (Register::new(), Register::new(), Register::new());
    let (at_a, at_b, at_c) = (a.node("a").await, b.node("b").await, c.node("c").await);
    let at = Reloading::start(&config("", &[("a", &at_a), ("b", &at_b)], PRIMARY)).await;
    at.proxy.until_state("o", "a", "active").await;
    let epoch = at.proxy.status().await["upstreams"][0]["epoch"].clone();
    at.reload(&config("", &[("c", &at_c), ("b", &at_b), ("a", &at_a)], PRIMARY))
        .await;
    acknowledged(&at.proxy.put("/x", "v1").await);
    assert_eq!((a.read("/x").as_deref(), c.read("/x")), (Some("v1"), None));
    assert_eq!(node(&at, "c").await["state"], "quarantined");
    let why = refused(&at, &config("", &[("c", &at_c), ("b", &at_b)], PRIMARY)).await;
    assert!(why.contains("promote another node first"), "{why}");
    order(&at, "c", "resynced").await;
    at.proxy.until_state("o", "c", "standby").await;
    at.reload(&config(
        "",
        &[("c", &at_c), ("a", &at_a)],
        &format!("{PRIMARY}\nfailover = {{ hold = \"7s\" }}"),
    ))
    .await;
    let upstream = at.proxy.status().await["upstreams"][0].clone();
    assert_eq!((&upstream["primary"], &upstream["epoch"]), (&"a".into(), &epoch));
    assert_eq!(at.proxy.get("/x").await.text(), "v1");
}

#[tokio::test]
async fn r31_reloads_of_a_mirrored_upstream_lose_no_write_and_show_none_too_late() {
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let text = |turn: usize| {
        let both = [("a", &at_a), ("b", &at_b)];
        let nodes = if turn.is_multiple_of(2) { &both[..] } else { &both[..1] };
        let keys = [
            "response_timeout = \"9s\"",
            "mirror_timeout = \"2s\"",
            "mirror_max_body = \"1MiB\"",
        ][turn % 3];
        config("", nodes, &format!("{MIRRORED}\n{keys}"))
    };
    let at = Reloading::start(&text(0)).await;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..3).map(|number| {
        let (address, over, answered) = (at.proxy.address, Arc::clone(&over), Arc::clone(&answered));
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let (path, mut turn) = (format!("/{number}"), 0);
            while !over.load(Ordering::SeqCst) {
                turn += 1;
                let value = format!("{number}-{turn}");
                acknowledged(&client.put(&path, &value).await);
                let read = client.get(&path).await;
                assert_eq!((read.status, read.text()), (200, value.as_str()));
                answered.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for turn in 1..16 {
        let before = answered.load(Ordering::SeqCst);
        at.reload(&text(turn)).await;
        if turn % 4 == 0 {
            // What it lacks the next writes bring.
            order(&at, "b", "resynced").await;
        }
        eventually("writes", || {
            let now = answered.load(Ordering::SeqCst);
            let dead = clients.iter().any(tokio::task::JoinHandle::is_finished);
            async move { dead || now >= before + 12 }
        })
        .await;
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        within("a client", client).await.expect("no write was lost");
    }
}

#[tokio::test]
async fn r33b_a_node_that_a_reload_has_moved_is_not_in_the_set_of_the_next_process_either() {
    let state = tempfile::tempdir().unwrap();
    let server = format!("[server]\nstate_dir = \"{}\"\n", state.path().display());
    let (a, b, c) = (Register::new(), Register::new(), Register::new());
    let (at_a, at_b, at_c) = (a.node("a").await, b.node("b").await, c.node("c").await);
    let at = Reloading::start(&config(&server, &[("a", &at_a), ("b", &at_b)], MIRRORED)).await;
    acknowledged(&at.proxy.put("/x", "v1").await);
    let moved = config(&server, &[("a", &at_a), ("b", &at_c)], MIRRORED);
    at.reload(&moved).await;
    assert!(!is_in_sync(&at, "b").await);
    drop(at);
    let at = Reloading::start(&moved).await;
    // Whoever may come back by itself has done so by then: what the process before had under way has settled.
    for turn in 0..15 {
        acknowledged(&at.proxy.put("/y", &format!("w{turn}")).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(
        !is_in_sync(&at, "b").await,
        "it lacks what was acknowledged before it came"
    );
    assert_eq!((c.read("/x"), c.read("/y")), (None, None));
    order(&at, "b", "resynced").await;
    acknowledged(&at.proxy.put("/y", "last").await);
    assert_eq!(c.read("/y").as_deref(), Some("last"));
}

#[tokio::test]
async fn r35_whoever_comes_or_moves_between_two_processes_is_not_in_the_set_though_no_view_had_changed() {
    let (a, b, c) = (Register::new(), Register::new(), Register::new());
    let (at_a, at_b, at_c) = (a.node("a").await, b.node("b").await, c.node("c").await);
    let before = [("a", &at_a), ("b", &at_b)];
    for (case, new, after) in [
        ("one more", "c", vec![("a", &at_a), ("b", &at_b), ("c", &at_c)]),
        ("another url", "b", vec![("a", &at_a), ("b", &at_c)]),
    ] {
        let state = tempfile::tempdir().unwrap();
        let server = format!("[server]\nstate_dir = \"{}\"\n", state.path().display());
        let at = Reloading::start(&config(&server, &before, MIRRORED)).await;
        acknowledged(&at.proxy.put("/x", "v1").await);
        drop(at);
        let at = Reloading::start(&config(&server, &after, MIRRORED)).await;
        for turn in 0..5 {
            acknowledged(&at.proxy.put("/y", &format!("w{turn}")).await);
        }
        eventually("probes", || async { node(&at, new).await["state"] == "quarantined" }).await;
        assert!(!is_in_sync(&at, new).await, "{case}");
        assert_eq!((c.read("/x"), c.read("/y")), (None, None), "{case}");
        drop(at);
    }
}

#[tokio::test]
async fn r35_the_first_primary_is_remembered_before_any_view_changes() {
    let state = tempfile::tempdir().unwrap();
    let server = format!("[server]\nstate_dir = \"{}\"\n", state.path().display());
    let (a, b) = (Register::new(), Register::new());
    let (at_a, at_b) = (a.node("a").await, b.node("b").await);
    let at = Reloading::start(&config(&server, &[("a", &at_a), ("b", &at_b)], PRIMARY)).await;
    acknowledged(&at.proxy.put("/x", "v1").await);
    drop(at);
    let at = Reloading::start(&config(&server, &[("b", &at_b), ("a", &at_a)], PRIMARY)).await;
    assert_eq!(at.proxy.get("/x").await.text(), "v1");
    acknowledged(&at.proxy.put("/x", "v2").await);
    assert_eq!((a.read("/x").as_deref(), b.read("/x")), (Some("v2"), None));
}
