//! Nodes that come and go while requests are under way.

use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::Proxy;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

    // Requests all the while; not one of them fails.
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (proxy, over) = (Arc::clone(&proxy), Arc::clone(&over));
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
        })
        .collect();
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
    over.store(true, Ordering::SeqCst);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
    let metrics = proxy.admin_get("/metrics").await;
    let gone = format!("node=\"{}\"", url_a.trim_start_matches("http://"));
    assert!(!metrics.text().contains(&gone), "nobody is measured who is not there");
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
