//! The grades of standbys: connections to a hot one are open before it takes over, to a warm one they are not.

use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::Proxy;

const THREADS: usize = 2;

/// The first probe of each node is the only one for a long time: whatever else connects is no probe.
async fn over(nodes: &[(&Origin, &str)]) -> Proxy {
    let list: Vec<String> = nodes
        .iter()
        .map(|(node, keys)| format!("{{ url = \"{}\"{keys} }}", node.url()))
        .collect();
    let config = format!(
        "[server]\nthreads = {THREADS}\n[upstreams.o]\nmode = \"active-passive\"\nnodes = [{}]\nconnect_timeout = \"2s\"\n\
        [upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"60s\"\ntimeout = \"2s\"\nunhealthy_threshold = 1\nhealthy_threshold = 1\n\
        [upstreams.o.failover]\nhold = \"10s\"\n\
        [[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"strong\"\n",
        list.join(", ")
    );
    Proxy::start(&config, &[]).await
}

async fn until_accepted(node: &Origin, count: usize) {
    eventually(format!("{count} connections"), || async { node.accepted() >= count }).await;
}

#[tokio::test]
async fn the_first_request_after_a_failover_to_a_hot_standby_opens_no_connection() {
    let (mut active, mut hot, warm) = (Origin::start().await, Origin::start().await, Origin::start().await);
    let proxy = over(&[
        (&active, ""),
        (&hot, ", standby = \"hot\""),
        (&warm, ", standby = \"warm\""),
    ])
    .await;
    let probes = 1;
    until_accepted(&hot, probes + THREADS).await;
    // What the node closes is opened again.
    hot.cut_connections();
    until_accepted(&hot, probes + 2 * THREADS).await;
    assert_eq!(
        hot.accepted(),
        probes + 2 * THREADS,
        "one idle connection on each thread is enough"
    );
    assert_eq!(warm.accepted(), probes, "a warm one is probed only");
    let (first, second) = (proxy.get("/first"), async {
        active.next().await.respond(200, &[], "active").await;
    });
    let (answer, ()) = tokio::join!(first, second);
    assert_eq!(answer.text(), "active");
    // From now on a connect to the standby would be refused.
    hot.deaf().await;
    active.down().await;
    let mut client = proxy.client().await;
    client.ask("PUT", "/after", &[], b"body").await;
    let asked = hot.next().await;
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("PUT", "/after"));
    asked.respond(204, &[], "").await;
    assert_eq!(client.answer().await.status, 204);
}
