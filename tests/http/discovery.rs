//! Nodes that come and go while requests are under way.

use super::reload::Reloading;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::Proxy;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Answers every request with its own name, in the background.
fn serving(mut origin: Origin, name: &'static str) {
    tokio::spawn(async move {
        loop {
            origin.next_or_never().await.respond(200, &[], name).await;
        }
    });
}

fn list(path: &Path, urls: &[&str]) {
    let nodes: Vec<_> = urls.iter().map(|url| format!("{{ url = \"{url}\" }}")).collect();
    // In one step: a file that is half written would be one that makes no sense.
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, format!("nodes = [{}]\n", nodes.join(", "))).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

async fn over(file: &Path) -> Proxy {
    let config = "[upstreams.o]\ndiscover = { file = \"{file}\" }\nbalance = \"round-robin\"\n\
        health_check = { tcp = true, interval = \"200ms\", timeout = \"200ms\" }\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n";
    Proxy::start(config, &[("file", &file.display().to_string())]).await
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.toml");
    (dir, path)
}

async fn names(proxy: &Proxy) -> Vec<String> {
    let status = proxy.status().await;
    let nodes = status["upstreams"][0]["nodes"].as_array().unwrap().clone();
    nodes
        .iter()
        .map(|node| node["url"].as_str().unwrap().to_owned())
        .collect()
}

/// Requests all the while; not one of them fails.
struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u32>>,
}

impl Load {
    fn on(proxy: &Arc<Proxy>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (proxy, over) = (Arc::clone(proxy), Arc::clone(&over));
            tokio::spawn(async move {
                let mut client = proxy.client().await;
                let mut asked = 0;
                while !over.load(Ordering::SeqCst) {
                    let answer = client.get("/").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    asked += 1;
                }
                asked
            })
        };
        let clients = (0..4).map(client).collect();
        Self { over, clients }
    }

    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        for client in self.clients {
            assert!(client.await.unwrap() > 0);
        }
    }
}

#[tokio::test]
async fn a_node_added_to_the_file_takes_traffic_and_one_taken_out_loses_it_without_a_failed_request() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    let (url_a, url_b) = (a.url(), b.url());
    serving(a, "a");
    serving(b, "b");
    let (_dir, path) = file();
    list(&path, &[&url_a]);
    let proxy = Arc::new(over(&path).await);
    assert_eq!(
        proxy.get("/").await.text(),
        "a",
        "ready means that the first look is over"
    );

    let load = Load::on(&proxy);
    list(&path, &[&url_a, &url_b]);
    eventually("the new node to answer", || async {
        proxy.get("/").await.text() == "b"
    })
    .await;
    let (name_b, up) = (url_b.trim_start_matches("http://"), 1.0);
    proxy
        .until_metric(
            "tidegate_node_state",
            &[("upstream", "o"), ("node", name_b), ("state", "active")],
            up,
        )
        .await;
    list(&path, &[&url_b]);
    eventually("the old node to be gone", || async {
        names(&proxy).await == [url_b.clone()]
    })
    .await;
    for _ in 0..8 {
        assert_eq!(proxy.get("/").await.text(), "b");
    }
    load.end().await;
    let metrics = proxy.admin_get("/metrics").await;
    let gone = format!("node=\"{}\"", url_a.trim_start_matches("http://"));
    assert!(!metrics.text().contains(&gone), "nobody is measured who is not there");
}

/// The same, and answers its health checks only when it is told to.
fn serving_once_healthy(mut origin: Origin, name: &'static str, mut healthy: watch::Receiver<bool>) {
    origin.set_healthy(false);
    tokio::spawn(async move {
        tokio::select! {
            _early = origin.next_or_never() => panic!("a request to a node that is not healthy"),
            told = healthy.wait_for(|healthy| *healthy) => drop(told.unwrap()),
        }
        origin.set_healthy(true);
        serving(origin, name);
    });
}

#[tokio::test]
async fn all_nodes_can_be_replaced_at_once_without_a_failed_request() {
    let origins = [Origin::start().await, Origin::start().await];
    let (a, b) = (origins[0].url(), origins[1].url());
    let fresh = [Origin::start().await, Origin::start().await];
    let (c, d) = (fresh[0].url(), fresh[1].url());
    for (origin, name) in origins.into_iter().zip(["a", "b"]) {
        serving(origin, name);
    }
    let (healthy, told) = watch::channel(false);
    for (origin, name) in fresh.into_iter().zip(["c", "d"]) {
        serving_once_healthy(origin, name, told.clone());
    }
    let (_dir, path) = file();
    list(&path, &[&a, &b]);
    let config = "[upstreams.o]\ndiscover = { file = \"{file}\" }\nbalance = \"round-robin\"\n\
        health_check = { path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\" }\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n";
    let proxy = Arc::new(Proxy::start(config, &[("file", &path.display().to_string())]).await);
    let load = Load::on(&proxy);
    list(&path, &[&c, &d]);
    for url in [&c, &d] {
        let node = url.trim_start_matches("http://");
        let labels = [("upstream", "o"), ("node", node), ("state", "unhealthy")];
        proxy.until_metric("tidegate_node_state", &labels, 1.0).await;
    }
    // Nobody is sent away whose successor does not answer.
    assert_eq!(names(&proxy).await, [a, b, c.clone(), d.clone()]);
    healthy.send(true).unwrap();
    eventually("the old nodes to be gone", || async {
        names(&proxy).await == [c.clone(), d.clone()]
    })
    .await;
    load.end().await;
}

#[tokio::test]
async fn a_file_that_is_missing_or_makes_no_sense_keeps_the_nodes_found_last() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    let (url_a, url_b) = (a.url(), b.url());
    serving(a, "a");
    serving(b, "b");
    let (_dir, path) = file();
    let proxy = over(&path).await;
    let answer = proxy.get("/").await;
    assert_eq!(answer.status, 503, "it starts without a node");
    assert!(answer.problem().contains("unreachable"), "{}", answer.text());
    list(&path, &[&url_a]);
    eventually("the first node", || async { proxy.get("/").await.status == 200 }).await;
    std::fs::write(&path, "nodes = [{ url = 5 }]\n").unwrap();
    std::fs::write(path.with_extension("other"), "").unwrap();
    assert_eq!(proxy.get("/").await.text(), "a");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(proxy.get("/").await.text(), "a");
    list(&path, &[&url_b]);
    eventually("the next node", || async { proxy.get("/").await.text() == "b" }).await;
}

#[tokio::test]
async fn r31_a_reload_that_changes_other_things_leaves_found_nodes_and_their_connections_alone() {
    let (mut a, b) = (Origin::start().await, Origin::start().await);
    let (url_a, url_b) = (a.url(), b.url());
    let (_dir, path) = file();
    list(&path, &[&url_a]);
    let text = |name: &str| {
        format!(
            "[server]\nthreads = 1\n\n[upstreams.o]\ndiscover = {{ file = \"{}\" }}\nbalance = \"round-robin\"\n\n\
             [[routes]]\nname = \"{name}\"\nupstream = \"o\"\n",
            path.display()
        )
    };
    let at = Reloading::start(&text("r")).await;
    let (answer, ()) = tokio::join!(at.proxy.get("/"), async { a.next().await.respond(200, &[], "a").await });
    assert_eq!(answer.text(), "a");
    assert_eq!(at.reload(&text("another")).await, ["routes"]);
    let (answer, ()) = tokio::join!(at.proxy.get("/"), async { a.next().await.respond(200, &[], "a").await });
    assert_eq!(answer.text(), "a");
    assert_eq!(a.accepted(), 1, "the connection from before the reload");
    assert_eq!(names(&at.proxy).await, std::slice::from_ref(&url_a));
    serving(a, "a");
    serving(b, "b");
    list(&path, &[&url_b]);
    eventually("the file to be watched as before", || async {
        names(&at.proxy).await == [url_b.clone()]
    })
    .await;
    assert_eq!(at.proxy.get("/").await.text(), "b");
}
