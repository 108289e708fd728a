//! Routing to active nodes: heartbeats with consecutive thresholds, active-active, active-passive with a hot standby.

use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::Proxy;
use super::support::register::{Node, Register};

const FAST: &str = "[upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"20ms\"\ntimeout = \"2s\"\n";

/// An upstream `o` of these nodes with quick heartbeats and one `off` route.
async fn over(mode: &str, nodes: &[&Node], keys: &str) -> Proxy {
    let list: String = nodes
        .iter()
        .map(|n| format!("{{ url = \"{}\", name = \"{}\" }}, ", n.url(), n.name))
        .collect();
    let config = format!(
        "[upstreams.o]\nmode = \"{mode}\"\nnodes = [{list}]\nresponse_timeout = \"5s\"\n\n{FAST}\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n{keys}\n"
    );
    Proxy::start(&config, &[]).await
}

async fn three(register: &Register) -> (Node, Node, Node) {
    (
        register.node("a").await,
        register.node("b").await,
        register.node("c").await,
    )
}

#[tokio::test]
async fn active_active_spreads_over_all_healthy_nodes() {
    for balance in ["round-robin", "least-request"] {
        let register = Register::new();
        register.write("/x", "v");
        let (a, b, c) = three(&register).await;
        let mode = format!("active-active\"\nbalance = \"{balance}");
        let proxy = over(&mode, &[&a, &b, &c], "").await;
        for _ in 0..60 {
            assert_eq!(proxy.get("/x").await.text(), "v");
        }
        for node in ["a", "b", "c"] {
            assert!(register.count_at(node) > 0, "{node} got nothing in 60 requests");
        }
    }
}

#[tokio::test]
async fn killing_a_node_loses_no_read() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b, c) = three(&register).await;
    let proxy = over("active-active", &[&a, &b, &c], "").await;
    let address = proxy.address;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                for _ in 0..100 {
                    let answer = super::support::client::get(address, "/x").await;
                    assert_eq!((answer.status, answer.text()), (200, "v"));
                }
            })
        })
        .collect();
    eventually("some reads", || async { register.count("GET", "/x") > 40 }).await;
    b.down().await;
    for reader in readers {
        reader.await.unwrap();
    }
    proxy.until_state("o", "b", "unhealthy").await;
    let before = register.count_at("b");
    for _ in 0..30 {
        assert_eq!(proxy.get("/x").await.status, 200);
    }
    assert_eq!(register.count_at("b"), before, "an unhealthy node gets no traffic");
    b.up().await;
    proxy.until_state("o", "b", "active").await;
    eventually("its share of the traffic", || async {
        assert_eq!(proxy.get("/x").await.status, 200);
        register.count_at("b") > before
    })
    .await;
}

#[tokio::test]
async fn a_node_that_answers_its_heartbeat_with_503_leaves_and_comes_back() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b, c) = three(&register).await;
    let proxy = over("active-active", &[&a, &b, &c], "").await;
    a.set_healthy(false).await;
    proxy.until_state("o", "a", "unhealthy").await;
    let before = register.count_at("a");
    for _ in 0..30 {
        proxy.get("/x").await;
    }
    assert_eq!(register.count_at("a"), before);
    let gauge = [("node", "a"), ("state", "unhealthy")];
    assert_eq!(proxy.metric("tidegate_node_state", &gauge).await, 1.0);
    a.set_healthy(true).await;
    proxy.until_state("o", "a", "active").await;
    assert_eq!(proxy.metric("tidegate_node_state", &gauge).await, 0.0);
}

#[tokio::test]
async fn a_hot_standby_gets_no_traffic_until_it_is_promoted() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let proxy = over("active-passive", &[&a, &b], "consistency = \"strong\"").await;
    assert_eq!(
        (
            proxy.node_state("o", "a").await.as_str(),
            proxy.node_state("o", "b").await.as_str()
        ),
        ("active", "standby")
    );
    for n in 0..20 {
        assert_eq!(proxy.put("/x", &n.to_string()).await.status, 204);
        assert_eq!(proxy.get("/x").await.text(), n.to_string());
    }
    assert_eq!(register.count_at("b"), 0);
    a.down().await;
    eventually("the standby to answer", || async {
        proxy.get("/x").await.status == 200
    })
    .await;
    assert_eq!(proxy.get("/x").await.text(), "19", "what was acknowledged is there");
    assert!(register.count_at("b") > 0);
    proxy.until_state("o", "b", "active").await;
    assert_eq!(proxy.put("/x", "after").await.status, 204);
    assert_eq!(proxy.get("/x").await.text(), "after");
    assert_eq!(
        proxy.metric("tidegate_failovers_total", &[("upstream", "o")]).await,
        1.0
    );
    assert_eq!(proxy.status().await["upstreams"][0]["primary"], "b");
}

#[tokio::test]
async fn with_nobody_left_reads_fail_and_recover_with_the_first_node() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let proxy = over("active-passive", &[&a, &b], "").await;
    a.down().await;
    b.down().await;
    proxy.until_state("o", "a", "unhealthy").await;
    proxy.until_state("o", "b", "unhealthy").await;
    let answer = proxy.get("/x").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    b.up().await;
    eventually("the node that came back to answer", || async {
        proxy.get("/x").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn the_first_probe_alone_decides_the_first_state_and_ready_waits_for_it() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b, c) = three(&register).await;
    b.set_healthy(false).await;
    c.down().await;
    let proxy = over("active-active", &[&a, &b, &c], "").await;
    let states = [("a", "active"), ("b", "unhealthy"), ("c", "unhealthy")];
    for (node, state) in states {
        assert_eq!(proxy.node_state("o", node).await, state, "{node}");
    }
    for _ in 0..10 {
        assert_eq!(
            proxy.get("/x").await.status,
            200,
            "the very first requests go where they are answered"
        );
    }
}

#[tokio::test]
async fn a_tcp_heartbeat_needs_only_a_connection() {
    let register = Register::new();
    register.write("/x", "v");
    let a = register.node("a").await;
    a.set_healthy(false).await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{}\", name = \"a\" }}]\n\n[upstreams.o.health_check]\ntcp = true\ninterval = \"20ms\"\n\n[[routes]]\nupstream = \"o\"\n",
        a.url()
    );
    let proxy = Proxy::start(&config, &[]).await;
    assert_eq!(proxy.node_state("o", "a").await, "active");
    a.down().await;
    proxy.until_state("o", "a", "unhealthy").await;
    a.up().await;
    proxy.until_state("o", "a", "active").await;
}

#[tokio::test]
async fn without_a_health_check_nodes_start_healthy() {
    let register = Register::new();
    register.write("/x", "v");
    let a = register.node("a").await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{}\", name = \"a\" }}]\n\n[[routes]]\nupstream = \"o\"\n",
        a.url()
    );
    let proxy = Proxy::start(&config, &[]).await;
    assert_eq!(proxy.node_state("o", "a").await, "active");
    assert_eq!(proxy.get("/x").await.status, 200);
}

/// Answers the next probe.
async fn probed(origin: &mut Origin, healthy: bool) {
    let exchange = origin.next().await;
    assert_eq!(exchange.target, "/probe");
    exchange.respond(if healthy { 200 } else { 500 }, &[], "").await;
}

#[tokio::test]
async fn thresholds_count_consecutive_answers_and_not_interleaved_ones() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{}\", name = \"a\" }}]\n\n[upstreams.o.health_check]\npath = \"/probe\"\ninterval = \"10ms\"\ntimeout = \"5s\"\nhealthy_threshold = 2\nunhealthy_threshold = 3\n\n[[routes]]\nupstream = \"o\"\n",
        origin.url()
    );
    let first = async {
        probed(&mut origin, true).await;
    };
    let (proxy, ()) = tokio::join!(Proxy::start(&config, &[]), first);
    // Two failures of three, again and again: never three in a row.
    for _ in 0..10 {
        probed(&mut origin, false).await;
        probed(&mut origin, false).await;
        assert_eq!(proxy.node_state("o", "a").await, "active");
        probed(&mut origin, true).await;
    }
    for _ in 0..3 {
        probed(&mut origin, false).await;
    }
    proxy.until_state("o", "a", "unhealthy").await;
    for _ in 0..5 {
        probed(&mut origin, true).await;
        probed(&mut origin, false).await;
        assert_eq!(
            proxy.node_state("o", "a").await,
            "unhealthy",
            "one success of two is no comeback"
        );
    }
    probed(&mut origin, true).await;
    probed(&mut origin, true).await;
    proxy.until_state("o", "a", "active").await;
}

/// Answers everything with this status, for good.
fn answers(mut origin: Origin, status: u16) {
    tokio::spawn(async move {
        loop {
            origin.next_or_never().await.respond(status, &[], "").await;
        }
    });
}

#[tokio::test]
async fn a_node_that_fails_its_requests_is_ejected_though_its_probes_pass() {
    let (failing, working) = (Origin::start().await, Origin::start().await);
    let config = format!(
        "[upstreams.o]\nbalance = \"round-robin\"\nretry = {{ attempts = 1 }}\nnodes = [{{ url = \"{}\", name = \"a\" }}, {{ url = \"{}\", name = \"b\" }}]\noutlier = {{ consecutive_errors = 3, ejection_time = \"1h\" }}\n\n{FAST}\n[[routes]]\nupstream = \"o\"\n",
        failing.url(),
        working.url()
    );
    answers(failing, 503);
    answers(working, 200);
    let proxy = Proxy::start(&config, &[]).await;
    eventually("the failing node is ejected", || async {
        proxy.get("/x").await;
        proxy.node_state("o", "a").await == "ejected"
    })
    .await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").await.status, 200);
    }
    assert_eq!(proxy.node_state("o", "a").await, "ejected", "whatever its probes say");
}
