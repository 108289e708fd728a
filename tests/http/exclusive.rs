//! Level strong in exclusive gear: this process is the only writer, so hits come from memory without a round trip, by the gate.

use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::{Binary, Proxy, one_route};
use super::support::register::{Node, Point, Register};
use rustix::process::Signal;

const EXCLUSIVE: &str = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"300ms\"";

/// An exclusive route over one node, in gear, with `/x` = "old" stored and proven.
async fn in_gear() -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let config = one_route(EXCLUSIVE) + "\n[upstreams.o.retry]\nattempts = 1\n";
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    until_proven(&proxy).await;
    (register, node, proxy)
}

async fn until_proven(proxy: &Proxy) {
    eventually("a hit by the gate", || async {
        proxy.get("/x").await.consistency() == "strong;proof=exclusive"
    })
    .await;
}

async fn asks(proxy: &Proxy, method: &str, body: &str) -> Client {
    let mut client = proxy.client().await;
    client.ask(method, "/x", &[], body.as_bytes()).await;
    client
}

#[tokio::test]
async fn hits_are_served_from_memory_and_say_what_proves_them() {
    let (register, _node, proxy) = in_gear().await;
    let before = register.count("GET", "/x");
    for _ in 0..20 {
        let hit = proxy.get("/x").await;
        assert!(hit.is_hit(), "{}", hit.cache_status());
        assert_eq!((hit.text(), hit.consistency()), ("old", "strong;proof=exclusive"));
    }
    assert_eq!(register.count("GET", "/x"), before);
}

#[tokio::test]
async fn every_write_is_read_back() {
    let (_register, _node, proxy) = in_gear().await;
    for n in 0..50 {
        assert_eq!(proxy.put("/x", &n.to_string()).await.status, 204);
        for _ in 0..3 {
            assert_eq!(proxy.get("/x").await.text(), n.to_string());
        }
    }
}

#[tokio::test]
async fn from_the_beginning_of_a_write_nobody_is_served_from_memory() {
    let (register, _node, proxy) = in_gear().await;
    let mut hold = register.hold("PUT", "/x", Point::Applied);
    let mut writer = asks(&proxy, "PUT", "new").await;
    let applied = hold.next().await;
    // Applied and not acknowledged: one reader sees the new value; no later one may see the old.
    for _ in 0..3 {
        let read = proxy.get("/x").await;
        assert_eq!((read.text(), read.is_hit()), ("new", false));
    }
    applied.release();
    assert_eq!(writer.answer().await.status, 204);
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn r2_a_fill_that_began_during_a_write_is_never_a_hit() {
    let (register, _node, proxy) = in_gear().await;
    let mut writes = register.hold("PUT", "/x", Point::Arrived);
    let mut writer = asks(&proxy, "PUT", "new").await;
    let pending = writes.next().await;
    let mut reads = register.hold("GET", "/x", Point::Applied);
    let mut reader = asks(&proxy, "GET", "").await;
    let read_old = reads.next().await;
    drop(reads);
    pending.release();
    assert_eq!(writer.answer().await.status, 204);
    read_old.release();
    assert_eq!(reader.answer().await.text(), "old");
    assert_eq!(proxy.get("/x").await.text(), "new");
}

/// What a read brought while a write was pending is in the store; then the node applies the write, and one reader sees it under
/// another query. Nobody may be served the old value after that: it is one resource.
async fn nobody_sees_the_old_value_again(register: &Register, proxy: &Proxy) {
    for _ in 0..3 {
        assert_eq!(proxy.get("/x").await.text(), "old");
    }
    register.write("/x", "new"); // applied, and not yet acknowledged
    assert_eq!(proxy.get("/x?another=query").await.text(), "new");
    assert_eq!(proxy.get("/x").await.text(), "new");
}

#[tokio::test]
async fn r2_what_was_read_during_a_write_proves_nothing() {
    let (register, _node, proxy) = in_gear().await;
    let mut writes = register.hold("PUT", "/x", Point::Arrived);
    let _writer = asks(&proxy, "PUT", "new").await;
    let _pending = writes.next().await;
    nobody_sees_the_old_value_again(&register, &proxy).await;
}

#[tokio::test]
async fn r3_the_end_of_one_write_is_not_the_end_of_another() {
    let (register, _node, proxy) = in_gear().await;
    let mut writes = register.hold("PUT", "/x", Point::Arrived);
    let _writer = asks(&proxy, "PUT", "new").await;
    let _pending = writes.next().await;
    let mut refused = asks(&proxy, "PUT", "no").await;
    writes.next().await.answer(409);
    assert_eq!(refused.answer().await.status, 409);
    nobody_sees_the_old_value_again(&register, &proxy).await;
}

#[tokio::test]
async fn r4_a_read_that_ends_does_not_take_the_pending_write_with_it() {
    let (register, _node, proxy) = in_gear().await;
    let mut writes = register.hold("PUT", "/x", Point::Arrived);
    let _writer = asks(&proxy, "PUT", "new").await;
    let _pending = writes.next().await;
    // Stored by nobody: what it registered is given up, and nothing else is in the record.
    assert_eq!(
        proxy.get_with("/x", &[("Cache-Control", "no-store")]).await.text(),
        "old"
    );
    nobody_sees_the_old_value_again(&register, &proxy).await;
}

#[tokio::test]
async fn r11_after_an_unknown_write_every_read_is_validated_until_it_has_settled() {
    let (register, _node, proxy) = in_gear().await;
    let mut hold = register.hold("PUT", "/x", Point::Arrived);
    let mut writer = asks(&proxy, "PUT", "late").await;
    hold.next().await.close();
    drop(hold);
    assert_eq!(writer.answer().await.problem(), "unknown");
    assert_eq!(proxy.get("/x").await.text(), "old");
    register.write("/x", "late"); // the node applies the abandoned write after all
    assert_eq!(proxy.get("/x").await.text(), "late");
    until_proven(&proxy).await;
    assert_eq!(proxy.get("/x").await.text(), "late");
}

#[tokio::test]
async fn r14_credentials_are_validated_and_never_served_by_the_gate() {
    let (register, _node, proxy) = in_gear().await;
    let before = register.count("GET", "/x");
    let own = proxy.get_with("/x", &[("Authorization", "Basic eA==")]).await;
    assert_eq!((own.text(), own.consistency()), ("old", "strong;proof=validated"));
    assert_eq!(register.count("GET", "/x"), before + 1);
}

#[tokio::test]
async fn a_start_without_a_clean_stop_validates_until_settle_after() {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let config = one_route("consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"1h\"");
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    for _ in 0..3 {
        assert_eq!(proxy.get("/x").await.consistency(), "strong;proof=validated");
    }
    assert_eq!(register.count("GET", "/x"), 3);
}

#[tokio::test]
async fn a_clean_stop_vouches_for_the_next_start_once_and_a_kill_for_none() {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let state = tempfile::tempdir().unwrap();
    let config = format!(
        "[server]\nthreads = 2\nstate_dir = \"{}\"\n{}",
        state.path().display(),
        one_route("consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"4s\"")
    );
    let values = [("origin", node.url())];
    let values: Vec<(&str, &str)> = values.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let exclusive = "strong;proof=exclusive";
    for (start, ends_by) in [
        ("first", Signal::TERM),
        ("vouched", Signal::KILL),
        ("killed", Signal::TERM),
    ] {
        let mut tidegate = Binary::run(&config, &values);
        let (address, _) = tidegate.ready();
        let mut client = Client::connect(address).await;
        assert_ne!(client.get("/x").await.consistency(), exclusive, "{start}: a fetch");
        let second = client.get("/x").await.consistency() == exclusive;
        assert_eq!(second, start == "vouched", "{start}");
        // A process can vouch only for what it knows: the first has to outlive what may have been before it.
        while start == "first" && client.get("/x").await.consistency() != exclusive {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        drop(client);
        tidegate.signal(ends_by);
        tidegate.ended().await;
    }
}

#[tokio::test]
async fn r12b_what_passes_is_compared_with_what_is_proven() {
    let (register, _node, proxy) = in_gear().await;
    register.write("/x", "behind our back");
    let passed = proxy.get_with("/x", &[("If-Match", "*")]).await;
    assert_eq!(passed.text(), "behind our back");
    assert_eq!(
        proxy.get("/x").await.text(),
        "behind our back",
        "nobody sees the old value after that"
    );
}

#[tokio::test]
async fn r12b_a_304_that_passes_is_compared_with_what_is_proven() {
    let (register, _node, proxy) = in_gear().await;
    let etag = register.write("/x", "behind our back");
    let passed = proxy
        .get_with("/x", &[("If-Match", "*"), ("If-None-Match", &etag)])
        .await;
    assert_eq!((passed.status, passed.header("etag")), (304, Some(etag.as_str())));
    assert_eq!(
        proxy.get("/x").await.text(),
        "behind our back",
        "nobody sees the old value after that"
    );
}

#[tokio::test]
async fn r14_a_token_in_the_key_still_takes_validate_gear() {
    let register = Register::new();
    register.write("/x", "mine");
    let node = register.node("a").await;
    let config = one_route(&format!("{EXCLUSIVE}\nkey = {{ headers = [\"authorization\"] }}"));
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    until_proven(&proxy).await;
    for _ in 0..3 {
        let read = proxy.get_with("/x", &[("Authorization", "Bearer x")]).await;
        assert_eq!((read.text(), read.consistency()), ("mine", "strong;proof=validated"));
    }
}

/// A configuration whose process leaves its word in `state`.
fn with_state(state: &tempfile::TempDir, keys: &str) -> String {
    format!(
        "[server]\nstate_dir = \"{}\"\n{}",
        state.path().display(),
        one_route(keys)
    )
}

#[tokio::test]
async fn one_process_at_a_time_works_with_a_state_dir() {
    let node = Register::new().node("a").await;
    let (state, url) = (tempfile::tempdir().unwrap(), node.url());
    let config = with_state(&state, EXCLUSIVE);
    let mut first = Binary::run(&config, &[("origin", &url)]);
    first.ready();
    let second = Binary::run(&config, &[("origin", &url)]);
    let ended = second.ended().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("another process works with it"),
        "{}",
        ended.stderr
    );
    first.signal(Signal::TERM);
    first.ended().await;
}

#[tokio::test]
async fn a_process_that_cannot_know_the_past_vouches_for_nothing() {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let (state, url) = (tempfile::tempdir().unwrap(), node.url());
    // It stops long before what its predecessor may have abandoned is settled, and has no exclusive route of its own.
    let external = with_state(&state, "consistency = \"strong\"\nsettle_after = \"1h\"");
    let mut short = Binary::run(&external, &[("origin", &url)]);
    short.ready();
    short.signal(Signal::TERM);
    short.ended().await;
    let exclusive = with_state(
        &state,
        "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"1h\"",
    );
    let mut next = Binary::run(&exclusive, &[("origin", &url)]);
    let (address, _) = next.ready();
    let mut client = Client::connect(address).await;
    for _ in 0..3 {
        assert_eq!(client.get("/x").await.consistency(), "strong;proof=validated");
    }
    next.signal(Signal::KILL);
    next.ended().await;
}
