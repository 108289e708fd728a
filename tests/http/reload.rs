//! Reload (R31): all or nothing, and under traffic. The file is read again by `POST /reload`.

use super::support::client::Client;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::{Binary, Proxy, config_file, run_to_end};
use super::support::traffic::{Answering, Traffic, reads_and_writes};
use std::path::PathBuf;
use std::sync::Arc;

/// A proxy over a file that the test rewrites.
pub(super) struct Reloading {
    pub(super) proxy: Proxy,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Reloading {
    pub(super) async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        let proxy = Proxy::start_from_file(&file, text).await;
        Self {
            proxy,
            file,
            _folder: folder,
        }
    }

    pub(super) fn write(&self, text: &str) {
        std::fs::write(&self.file, super::support::proxy::complete(text, &[])).unwrap();
    }

    /// Rewrites the file and reloads; the key paths that changed.
    pub(super) async fn reload(&self, text: &str) -> Vec<String> {
        self.write(text);
        let answer = self.proxy.admin_post("/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let changed = json["changed"].as_array().unwrap().iter();
        changed.map(|path| path.as_str().unwrap().to_owned()).collect()
    }

    pub(super) async fn hash(&self) -> String {
        self.proxy.status().await["config_hash"].as_str().unwrap().to_owned()
    }

    async fn succeeded(&self) -> bool {
        let metrics = self.proxy.admin_get("/metrics").await;
        metrics.text().contains("\ntidegate_config_reload_success 1\n")
    }
}

fn route(url: &str, keys: &str) -> String {
    format!("[upstreams.o]\nnodes = [{{ url = \"{url}\" }}]\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n{keys}\n")
}

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const EXTERNAL: &str = "consistency = \"strong\"";
const EXCLUSIVE: &str = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"1s\"";

#[tokio::test]
async fn r31_a_reload_that_changes_no_contract_keeps_what_is_stored() {
    let mut origin = Origin::start().await;
    let (url, keys) = (origin.url(), WEAK);
    let at = Reloading::start(&route(&url, keys)).await;
    let before = at.hash().await;
    let mut client = at.proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    origin.next().await.respond(200, &[], "one").await;
    assert_eq!(client.answer().await.text(), "one");
    assert!(at.reload(&route(&url, keys)).await.is_empty(), "nothing has changed");
    assert_eq!(at.hash().await, before);
    let text = format!(
        "{}\n[[routes]]\nname = \"n\"\nupstream = \"o\"\nconsistency = \"off\"\n",
        route(
            &url,
            "consistency = \"weak\"\nttl = \"2h\"\nmatch = { path = \"/a\" }\ntimeout = \"9s\""
        )
    );
    assert_eq!(at.reload(&text).await, ["routes"]);
    assert_ne!(at.hash().await, before);
    let hit = client.get("/a").await;
    assert!(hit.is_hit() && hit.text() == "one", "{}", hit.cache_status());
    client.ask("GET", "/b", &[], b"").await;
    origin.next().await.respond(200, &[], "new").await;
    assert_eq!(client.answer().await.text(), "new", "the connection sees the new route");
    // Gone, and it was counted none the less.
    at.reload(&route(&url, keys)).await;
    let metrics = at.proxy.admin_get("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("tidegate_requests_total{route=\"r\",result=\"hit\",code=\"200\"} 1"),
        "{}",
        metrics.text()
    );
    assert!(
        metrics
            .text()
            .contains("tidegate_requests_total{route=\"n\",result=\"pass\",code=\"200\"} 1")
    );
}

#[tokio::test]
async fn r31_no_entry_from_before_is_served_when_weak_becomes_strong() {
    let mut origin = Origin::start().await;
    let url = origin.url();
    let at = Reloading::start(&route(&url, WEAK)).await;
    let mut client = at.proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    origin.next().await.respond(200, &[("ETag", "\"1\"")], "old").await;
    assert_eq!(client.answer().await.text(), "old");
    assert!(client.get("/a").await.is_hit());
    // A fill from before ends after the reload: it is not the strong route's either.
    let mut early = at.proxy.client().await;
    early.ask("GET", "/b", &[], b"").await;
    let fill = origin.next().await;
    assert_eq!(at.reload(&route(&url, EXCLUSIVE)).await, ["routes"]);
    fill.respond(200, &[("ETag", "\"1\"")], "old").await;
    assert_eq!(early.answer().await.text(), "old");
    for path in ["/a", "/b"] {
        client.ask("GET", path, &[], b"").await;
        let asked = origin.next().await;
        assert_eq!(
            asked.header("if-none-match"),
            None,
            "{path}: nothing of before is even validated"
        );
        asked.respond(200, &[("ETag", "\"2\"")], "new").await;
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.is_hit()), ("new", false), "{path}");
        let hit = client.get(path).await;
        assert!(hit.is_hit() && hit.text() == "new", "{path}: {}", hit.cache_status());
    }
    // And back: what was proven is nothing to the weak route.
    at.reload(&route(&url, WEAK)).await;
    client.ask("GET", "/a", &[], b"").await;
    origin.next().await.respond(200, &[], "weak").await;
    assert_eq!(client.answer().await.text(), "weak");
}

#[tokio::test]
async fn r31_a_route_made_exclusive_proves_nothing_before_writes_from_before_are_over() {
    let mut origin = Origin::start().await;
    let url = origin.url();
    // The gate knows of the write to /a alone; the reads that follow are of another resource. What a process before this one could have
    // left behind is over in no time.
    let soon = "settle_after = \"1ms\"";
    let at = Reloading::start(&route(&url, &format!("{EXTERNAL}\n{soon}"))).await;
    let mut writer = at.proxy.client().await;
    writer.ask("PUT", "/a", &[], b"new").await;
    let write = origin.next().await;
    at.reload(&route(&url, &format!("{EXTERNAL}\nwriters = \"exclusive\"\n{soon}")))
        .await;
    let mut reader = at.proxy.client().await;
    reader.ask("GET", "/b", &[], b"").await;
    origin.next().await.respond(200, &[("ETag", "\"1\"")], "old").await;
    assert_eq!(reader.answer().await.text(), "old");
    reader.ask("GET", "/b", &[], b"").await;
    origin.next().await.respond(304, &[("ETag", "\"1\"")], "").await;
    let answer = reader.answer().await;
    assert!(!answer.is_hit() && answer.text() == "old", "{}", answer.cache_status());
    write.respond(204, &[], "").await;
    assert_eq!(writer.answer().await.status, 204);
    // The write was definite: soon, without any settling time, reads are proven.
    let reader = Arc::new(tokio::sync::Mutex::new(reader));
    let origin = Arc::new(tokio::sync::Mutex::new(origin));
    eventually("an exclusive hit", || {
        let (reader, origin) = (Arc::clone(&reader), Arc::clone(&origin));
        async move {
            let (mut reader, mut origin) = (reader.lock().await, origin.lock().await);
            reader.ask("GET", "/b", &[], b"").await;
            tokio::select! {
                exchange = origin.next() => {
                    exchange.respond(200, &[("ETag", "\"2\"")], "new").await;
                    assert_eq!(reader.answer().await.text(), "new");
                    false
                }
                answer = reader.answer() => {
                    assert_eq!(answer.text(), "new");
                    answer.is_hit()
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_reload_under_traffic_loses_no_request() {
    let (one, two) = (Answering::start().await, Answering::start().await);
    let text = |turn: usize| {
        let keys = ["consistency = \"off\"", WEAK, EXCLUSIVE, EXTERNAL][turn % 4];
        let asked = [
            "balance = \"random\"",
            "max_connections = 2",
            "response_timeout = \"9s\"",
        ][turn % 3];
        format!(
            "[upstreams.o]\nnodes = [{{ url = \"{}\" }}, {{ url = \"{}\" }}]\n{asked}\n\
             health_check = {{ path = \"/healthz\", interval = \"50ms\", timeout = \"5s\" }}\n\
             [[routes]]\nname = \"r\"\nupstream = \"o\"\n{keys}\n",
            one.url, two.url
        )
    };
    let at = Reloading::start(&text(0)).await;
    let traffic = Traffic::start(at.proxy.address, 4, reads_and_writes);
    for turn in 1..24 {
        assert!(!at.reload(&text(turn)).await.is_empty());
        traffic.goes_on(20).await;
    }
    traffic.end().await;
}

#[tokio::test]
async fn a_file_that_is_wrong_or_needs_a_restart_changes_nothing_and_the_error_names_the_place() {
    let mut origin = Origin::start().await;
    let url = origin.url();
    let good = route(&url, WEAK);
    let at = Reloading::start(&good).await;
    assert!(at.succeeded().await);
    let hash = at.hash().await;
    let cases = [
        (
            good.replace("upstream = \"o\"", "upstream = \"none\""),
            "routes[0].upstream: there is no upstream",
        ),
        (good.replace("[[routes]]", "[[routes]"), "error"),
        (
            format!("[cache]\nmax_memory = \"1MiB\"\n{good}"),
            ":11:14: error: cache.max_memory: needs a restart",
        ),
    ];
    for (text, named) in cases {
        at.write(&text);
        let answer = at.proxy.admin_post("/reload", "").await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let errors = problem["errors"].as_array().unwrap();
        let named = |error: &serde_json::Value| error.as_str().unwrap().contains(named);
        assert!(errors.iter().any(named), "{errors:?}");
        assert_eq!(at.hash().await, hash);
        assert!(!at.succeeded().await);
        let mut client = at.proxy.client().await;
        client
            .ask(
                "GET",
                &format!("/{}", errors.len()),
                &[("Cache-Control", "no-store")],
                b"",
            )
            .await;
        origin.next().await.respond(200, &[], "still").await;
        assert_eq!(client.answer().await.text(), "still");
    }
    assert!(at.reload(&good).await.is_empty());
    assert!(at.succeeded().await);
}

#[tokio::test]
async fn what_is_in_flight_at_an_upstream_that_changed_ends_there_and_idle_connections_go_on() {
    let mut origin = Origin::start().await;
    let text = |keys: &str| {
        route(&origin.url(), "consistency = \"off\"").replace("\n\n[[routes]]", &format!("\n{keys}[[routes]]"))
    };
    let (before, after) = (text(""), text("response_timeout = \"9s\"\n"));
    let at = Reloading::start(&before).await;
    let mut idle = at.proxy.client().await;
    idle.ask("GET", "/first", &[], b"").await;
    origin.next().await.respond(200, &[], "first").await;
    assert_eq!(idle.answer().await.text(), "first");
    let mut client = at.proxy.client().await;
    client.ask("GET", "/slow", &[], b"").await;
    let mut slow = origin.next().await;
    let mut third = at.proxy.client().await;
    third.ask("GET", "/third", &[], b"").await;
    origin.next().await.respond(200, &[], "third").await;
    assert_eq!(third.answer().await.text(), "third");
    let accepted = origin.accepted();
    assert_eq!(at.reload(&after).await, ["upstreams.o"]);
    // Asked by the same core, over the connection it had.
    third.ask("GET", "/next", &[], b"").await;
    origin.next().await.respond(200, &[], "next").await;
    assert_eq!(third.answer().await.text(), "next");
    assert_eq!(origin.accepted(), accepted);
    slow.head(200, &[("Content-Length", "3")]).await;
    slow.send("old").await;
    assert_eq!(client.answer().await.text(), "old");
    slow.gone().await;
}

#[tokio::test]
async fn r31_the_active_node_and_the_epoch_outlive_a_reload_and_what_is_in_flight_from_before_follows_the_view() {
    let (mut one, mut two) = (Origin::start().await, Origin::start().await);
    let text = |keys: &str| {
        format!(
            "[upstreams.o]\nmode = \"active-passive\"\nnodes = [{{ url = \"{}\" }}, {{ url = \"{}\" }}]\n{keys}\n\
             response_timeout = \"10m\"\n\
             health_check = {{ path = \"/healthz\", interval = \"50ms\", timeout = \"5s\", unhealthy_threshold = 1 }}\n\
             [[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"off\"\ntimeout = \"10m\"\n",
            one.url(),
            two.url()
        )
    };
    let (first, second, third) = (text(""), text("max_pending = 5"), text("max_pending = 6"));
    let at = Reloading::start(&first).await;
    one.set_healthy(false);
    let upstream = || async { at.proxy.status().await["upstreams"][0].clone() };
    let is_primary = |url: String| {
        eventually("traffic to move", move || {
            let url = url.clone();
            async move {
                let upstream = upstream().await;
                upstream["primary"].as_str().is_some_and(|name| url.ends_with(name))
            }
        })
    };
    is_primary(two.url()).await;
    one.set_healthy(true);
    let before = upstream().await;
    assert_eq!(at.reload(&second).await, ["upstreams.o"]);
    let after = upstream().await;
    assert_eq!(
        (&after["primary"], &after["epoch"]),
        (&before["primary"], &before["epoch"])
    );
    // Begun under a configuration that no longer runs: its connection ends with the node's service none the less.
    let mut client = at.proxy.client().await;
    client.ask("POST", "/slow", &[], b"").await;
    let mut slow = two.next().await;
    assert_eq!(at.reload(&third).await, ["upstreams.o"]);
    two.deaf().await;
    slow.gone().await;
    is_primary(one.url()).await;
    let last = upstream().await;
    assert!(last["epoch"].as_u64() > after["epoch"].as_u64(), "{last}");
    let mut other = at.proxy.client().await;
    other.ask("GET", "/next", &[], b"").await;
    one.next().await.respond(200, &[], "one").await;
    assert_eq!(other.answer().await.text(), "one");
}

#[tokio::test]
async fn a_process_without_a_file_says_so() {
    let origin = Origin::start().await;
    let proxy = Proxy::start(&route(&origin.url(), WEAK), &[]).await;
    let answer = proxy.admin_post("/reload", "").await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("without a file"), "{}", answer.text());
}

#[tokio::test]
async fn sighup_and_the_command_reload_and_a_mistake_exits_78() {
    let mut origin = Origin::start().await;
    let text = |path: &str| route(&origin.url(), &format!("match = {{ path = \"{path}\" }}"));
    let (folder, file) = config_file(&text("/a"), &[]);
    let write = |text: &str| std::fs::write(&file, super::support::proxy::complete(text, &[])).unwrap();
    let (b, c) = (text("/b"), text("/c"));
    let mut tidegate = Binary::start(&["run", "-c", &file], folder);
    let (address, admin) = tidegate.ready();
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/b").await.status, 404);
    write(&b);
    tidegate.signal(rustix::process::Signal::HUP);
    let host = admin.to_string();
    eventually("the new configuration", || async {
        let config = Client::connect(admin)
            .await
            .get_with("/config", &[("Host", &host)])
            .await;
        config.text().contains("\"/b\"")
    })
    .await;
    client.ask("GET", "/b", &[], b"").await;
    origin.next().await.respond(200, &[], "b").await;
    assert_eq!(client.answer().await.text(), "b");
    let admin = admin.to_string();
    write(&c);
    let told = run_to_end(&["reload", "--admin", &admin]).await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stdout.contains("\"changed\":[\"routes\"]"), "{}", told.stdout);
    assert_eq!(client.get("/b").await.status, 404);
    write(&c.replace("path", "pfad"));
    let told = run_to_end(&["reload", "--admin", &admin]).await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(78), ""));
    assert!(told.stderr.contains("error: routes[0].match.pfad"), "{}", told.stderr);
    client.ask("GET", "/c", &[], b"").await;
    origin.next().await.respond(200, &[], "c").await;
    assert_eq!(client.answer().await.text(), "c", "nothing has changed");
    tidegate.signal(rustix::process::Signal::TERM);
    assert_eq!(tidegate.ended().await.code, Some(0));
}
