//! Nodes and upstreams that come and go by reload (R31), under traffic and without it.

use super::reload::Reloading;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::traffic::{Answering, Traffic, reads_and_writes};

const CHECK: &str =
    "health_check = { path = \"/healthz\", interval = \"50ms\", timeout = \"5s\", unhealthy_threshold = 1 }";

fn listed(urls: &[&str]) -> String {
    let nodes: Vec<_> = urls.iter().map(|url| format!("{{ url = \"{url}\" }}")).collect();
    nodes.join(", ")
}

fn over(urls: &[&str], keys: &str, contract: &str) -> String {
    format!(
        "[upstreams.o]\nnodes = [{}]\n{keys}\n{CHECK}\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n{contract}\n",
        listed(urls)
    )
}

#[tokio::test]
async fn r31_nodes_come_and_go_under_traffic_and_no_request_is_lost() {
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(Answering::start().await);
    }
    let sets: [&[usize]; 9] = [
        &[0, 1],
        &[0, 1, 2],
        &[2],
        &[3],
        &[0, 1],
        &[1, 0, 3],
        &[2, 3],
        &[0],
        &[1, 2, 3, 0],
    ];
    // What is spoken to the nodes stays, or changes with them.
    for versions in [["1.1", "1.1"], ["2", "2"], ["1.1", "2"]] {
        let text = |turn: usize, set: &[usize]| {
            let urls: Vec<&str> = set.iter().map(|node| nodes[*node].url.as_str()).collect();
            let mode = ["active-active", "active-passive"][turn / 2 % 2];
            let contract = ["consistency = \"off\"", "consistency = \"strong\""][turn / 3 % 2];
            let version = versions[turn % 2];
            let keys = format!("mode = \"{mode}\"\nhttp = \"{version}\"\nfailover = {{ slow_start = \"0s\" }}");
            over(&urls, &keys, contract)
        };
        let at = Reloading::start(&text(0, sets[0])).await;
        let traffic = Traffic::start(at.proxy.address, 4, reads_and_writes);
        for (turn, set) in sets.iter().enumerate().skip(1).chain(sets.iter().enumerate()) {
            assert!(!at.reload(&text(turn, set)).await.is_empty());
            let before: Vec<usize> = nodes.iter().map(Answering::asked).collect();
            traffic.goes_on(40).await;
            let asked = nodes.iter().zip(before).map(|(node, before)| node.asked() - before);
            for (node, asked) in asked.enumerate() {
                // What was planned before the reload may still arrive: one per client at the most.
                assert!(
                    set.contains(&node) || asked <= 4,
                    "{versions:?}, turn {turn}: node {node} is out and was asked {asked} times"
                );
            }
        }
        traffic.end().await;
    }
}

#[tokio::test]
async fn r31_what_is_in_flight_at_a_node_that_is_taken_out_ends_there_and_its_connections_close() {
    let (mut one, mut two) = (Origin::start().await, Origin::start().await);
    let urls = [one.url(), two.url()];
    let both = over(&[&urls[0]], "", "consistency = \"off\"");
    let at = Reloading::start(&both).await;
    let mut client = at.proxy.client().await;
    client.ask("GET", "/slow", &[], b"").await;
    let mut slow = one.next().await;
    assert_eq!(
        at.reload(&over(&[&urls[1]], "", "consistency = \"off\"")).await,
        ["upstreams.o"]
    );
    let mut other = at.proxy.client().await;
    other.ask("GET", "/next", &[], b"").await;
    two.next().await.respond(200, &[], "two").await;
    assert_eq!(other.answer().await.text(), "two");
    slow.head(200, &[("Content-Length", "3")]).await;
    slow.send("old").await;
    assert_eq!(client.answer().await.text(), "old");
    slow.gone().await;
    let nodes = at.proxy.status().await["upstreams"][0]["nodes"].clone();
    assert_eq!(nodes.as_array().unwrap().len(), 1, "{nodes}");
    assert_eq!(nodes[0]["state"], "active", "it was probed before it was asked");
    let metrics = at.proxy.admin_get("/metrics").await;
    let gone = urls[0].trim_start_matches("http://");
    assert!(
        !metrics.text().contains(&format!("node=\"{gone}\"")),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn r31_what_is_known_of_a_node_that_stays_outlives_a_change_of_the_others_and_of_the_health_check() {
    let (one, two, three) = (Origin::start().await, Origin::start().await, Origin::start().await);
    let urls = [one.url(), two.url(), three.url()];
    let off = "consistency = \"off\"";
    let at = Reloading::start(&over(&[&urls[0], &urls[1]], "", off)).await;
    let states = || async {
        let nodes = at.proxy.status().await["upstreams"][0]["nodes"].clone();
        let nodes = nodes.as_array().unwrap().iter();
        let told = |node: &serde_json::Value| {
            let url = node["url"].as_str().unwrap().to_owned();
            let place = urls.iter().position(|known| *known == url).unwrap();
            format!("{place} {}", node["state"].as_str().unwrap())
        };
        nodes.map(told).collect::<Vec<_>>()
    };
    two.set_healthy(false);
    eventually("a node that is out", || async {
        states().await == ["0 active", "1 unhealthy"]
    })
    .await;
    let epoch = at.proxy.status().await["upstreams"][0]["epoch"].clone();
    // In the order of the file; a path that nobody answers with success turns nobody over before its time.
    let text = over(&[&urls[2], &urls[1], &urls[0]], "", off);
    let text = text.replace("interval = \"50ms\"", "interval = \"10m\"");
    at.reload(&text).await;
    let known = states().await;
    assert_eq!(known, ["2 active", "1 unhealthy", "0 active"]);
    let upstream = at.proxy.status().await["upstreams"][0].clone();
    assert_eq!(upstream["epoch"], epoch, "one of them was there before");
    // Who is not probed any more is not kept out for ever.
    at.reload(&text.replace("health_check", "# health_check")).await;
    assert_eq!(states().await, ["2 active", "1 active", "0 active"]);
    at.reload(&over(&[&urls[1]], "", off)).await;
    eventually("a node that is out", || async { states().await == ["1 unhealthy"] }).await;
}

#[tokio::test]
async fn r53_what_is_stored_is_confirmed_once_when_no_node_stays() {
    let (mut one, mut two, three) = (Origin::start().await, Origin::start().await, Origin::start().await);
    let urls = [one.url(), two.url(), three.url()];
    let weak = "consistency = \"weak\"\nttl = \"1h\"";
    let at = Reloading::start(&over(&[&urls[0]], "", weak)).await;
    let mut client = at.proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    one.next().await.respond(200, &[("ETag", "\"1\"")], "one").await;
    assert_eq!(client.answer().await.text(), "one");
    at.reload(&over(&[&urls[0], &urls[2]], "", weak)).await;
    assert!(
        client.get("/a").await.is_hit(),
        "nodes over one store: one more changes nothing"
    );
    at.reload(&over(&[&urls[1]], "", weak)).await;
    client.ask("GET", "/a", &[], b"").await;
    let asked = two.next().await;
    assert_eq!(asked.header("if-none-match"), Some("\"1\""));
    asked.respond(304, &[("ETag", "\"1\"")], "").await;
    assert_eq!(client.answer().await.text(), "one");
    assert!(client.get("/a").await.is_hit());
}

#[tokio::test]
async fn r31_upstreams_come_and_go_with_their_routes_and_no_request_is_lost() {
    let (old, new) = (Answering::start().await, Answering::start().await);
    let text = |name: &str, url: &str| {
        over(&[url], "", "consistency = \"off\"")
            .replace("upstreams.o]", &format!("upstreams.{name}]"))
            .replace("\"o\"", &format!("\"{name}\""))
    };
    let at = Reloading::start(&text("old", &old.url)).await;
    let traffic = Traffic::start(at.proxy.address, 4, reads_and_writes);
    for turn in 0..6 {
        let (name, node) = [("new", &new), ("old", &old)][turn % 2];
        let changed = at.reload(&text(name, &node.url)).await;
        assert!(changed.contains(&format!("upstreams.{name}")), "{changed:?}");
        let before = node.asked();
        traffic.goes_on(30).await;
        assert!(node.asked() >= before + 20, "the route goes to the new one");
        let upstreams = at.proxy.status().await["upstreams"].clone();
        assert_eq!(upstreams.as_array().unwrap().len(), 1, "{upstreams}");
        assert_eq!(upstreams[0]["nodes"][0]["state"], "active");
    }
    traffic.end().await;
}

#[tokio::test]
async fn a_node_that_has_moved_is_another_one_and_is_counted_as_such() {
    let (mut one, mut two) = (Origin::start().await, Origin::start().await);
    let named = |url: &str| over(&[url], "", "consistency = \"off\"").replace("{ url", "{ name = \"n\", url");
    let at = Reloading::start(&named(&one.url())).await;
    let mut client = at.proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    one.next().await.respond(200, &[], "one").await;
    assert_eq!(client.answer().await.text(), "one");
    at.reload(&named(&two.url())).await;
    client.ask("GET", "/a", &[], b"").await;
    two.next().await.respond(200, &[], "two").await;
    assert_eq!(client.answer().await.text(), "two");
    let labels = [("upstream", "o"), ("node", "n")];
    assert!((at.proxy.metric("tidegate_upstream_seconds_count", &labels).await - 1.0).abs() < 0.5);
}
