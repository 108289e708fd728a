//! `replication = "primary"`: the first node is written to, the others follow. What a replica may answer, and how stale that is (R43).

use super::support::client::Client;
use super::support::eventually;
use super::support::origin::{Exchange, Origin};
use super::support::proxy::Proxy;

/// Two nodes that take turns, the primary first; reads of `/x`, with these keys in the upstream and in the route.
async fn over(primary: &Origin, replica: &Origin, upstream: &str, route: &str) -> Proxy {
    let config = format!(
        "[upstreams.o]\nreplication = \"primary\"\nbalance = \"round-robin\"\nnodes = [{{ url = \"{{p}}\", name = \"p\" }}, {{ url = \"{{r}}\", name = \"r\" }}]\n{upstream}\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n{route}\n"
    );
    Proxy::start(&config, &[("p", &primary.url()), ("r", &replica.url())]).await
}

const EVENTUAL: &str = "consistency = \"eventual\"\nttl = \"30s\"\nmax_staleness = \"30s\"";

/// The staleness that an answer tells, in ms.
fn staleness(consistency: &str) -> u64 {
    let told = consistency
        .strip_prefix("bounded;staleness=")
        .expect("within the bound");
    told.split_once(';').unwrap().0.parse().unwrap()
}

/// Asks for paths until a replica has been asked; whatever goes to the primary is answered.
async fn at_replica(client: &mut Client, primary: &mut Origin, replica: &mut Origin) -> Exchange {
    for n in 0..4 {
        client.ask("GET", &format!("/{n}"), &[], b"").await;
        tokio::select! {
            exchange = replica.next() => return exchange,
            exchange = primary.next() => exchange.respond(200, &[("X-Position", "1")], "primary").await,
        }
        client.answer().await;
    }
    panic!("the replica is never asked");
}

#[tokio::test]
async fn r43_writes_and_strong_reads_go_to_the_primary_alone() {
    let (mut primary, mut replica) = (Origin::start().await, Origin::start().await);
    let proxy = over(&primary, &replica, "max_lag = \"1s\"", "consistency = \"strong\"").await;
    let mut client = proxy.client().await;
    for n in 0..4 {
        client.ask("GET", &format!("/{n}"), &[], b"").await;
        primary.next().await.respond(200, &[("ETag", "\"1\"")], "one").await;
        assert_eq!(client.answer().await.text(), "one");
        client.ask("PUT", &format!("/{n}"), &[], b"two").await;
        primary.next().await.respond(204, &[], "").await;
        assert_eq!(client.answer().await.status, 204);
    }
    replica.expect_idle().await;
    let status = proxy.status().await;
    let upstream = &status["upstreams"][0];
    assert_eq!(
        (upstream["replication"].as_str(), upstream["primary"].as_str()),
        (Some("primary"), Some("p"))
    );
    assert_eq!(upstream["nodes"][1]["role"].as_str(), Some("replica"));
}

#[tokio::test]
async fn r43_the_declared_lag_counts_against_the_bound() {
    let (mut primary, mut replica) = (Origin::start().await, Origin::start().await);
    let proxy = over(&primary, &replica, "max_lag = \"5s\"", EVENTUAL).await;
    let mut client = proxy.client().await;
    let exchange = at_replica(&mut client, &mut primary, &mut replica).await;
    let target = exchange.target.clone();
    exchange.respond(200, &[], "replica").await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "replica");
    // Of a miss it counts from the request's beginning, which the node was asked a moment after.
    assert!(staleness(answer.consistency()) > 4000, "{}", answer.consistency());
    let hit = client.get(&target).await;
    assert!(
        hit.is_hit() && staleness(hit.consistency()) >= 5000,
        "{}",
        hit.consistency()
    );
}

#[tokio::test]
async fn r43_a_replica_that_may_be_further_behind_than_the_bound_is_not_believed() {
    let (mut primary, mut replica) = (Origin::start().await, Origin::start().await);
    let proxy = over(&primary, &replica, "max_lag = \"60s\"", EVENTUAL).await;
    let mut client = proxy.client().await;
    at_replica(&mut client, &mut primary, &mut replica)
        .await
        .respond(200, &[], "replica")
        .await;
    let again = primary.next().await;
    assert_eq!(again.header("cache-control"), Some("no-cache"));
    again.respond(200, &[], "primary").await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "primary");
    assert!(staleness(answer.consistency()) < 5000, "{}", answer.consistency());
}

#[tokio::test]
async fn r43_without_a_word_on_lag_eventual_reads_go_to_the_primary_and_weak_ones_anywhere() {
    let (mut primary, mut replica) = (Origin::start().await, Origin::start().await);
    let proxy = over(&primary, &replica, "", EVENTUAL).await;
    let mut client = proxy.client().await;
    for n in 0..4 {
        client.ask("GET", &format!("/{n}"), &[], b"").await;
        primary.next().await.respond(200, &[], "primary").await;
        assert_eq!(client.answer().await.text(), "primary");
    }
    replica.expect_idle().await;
    let weak = over(&primary, &replica, "", "consistency = \"weak\"\nttl = \"1m\"").await;
    let mut client = weak.client().await;
    at_replica(&mut client, &mut primary, &mut replica)
        .await
        .respond(200, &[], "replica")
        .await;
    assert_eq!(client.answer().await.text(), "replica");
}

const POSITIONS: &str = "[upstreams.o.health_check]\npath = \"/position\"\ninterval = \"50ms\"\ntimeout = \"40ms\"\ninitial = \"healthy\"\nposition_header = \"X-Position\"";

/// A node that answers every request, probes too, from what it holds: its position and a body that says who it is.
async fn answering(mut node: Origin, name: &'static str, position: tokio::sync::watch::Receiver<u64>) {
    loop {
        let exchange = node.next_or_never().await;
        let at = position.borrow().to_string();
        let _ = exchange.try_respond(200, &[("X-Position", &at)], name).await;
    }
}

#[tokio::test]
async fn r43_a_replica_is_believed_as_far_as_its_position_reaches() {
    let (primary, replica) = (Origin::start().await, Origin::start().await);
    let proxy = over(&primary, &replica, POSITIONS, EVENTUAL).await;
    let (ahead, at_primary) = tokio::sync::watch::channel(7);
    let (behind, at_replica) = tokio::sync::watch::channel(6);
    let nodes = [
        tokio::spawn(answering(primary, "primary", at_primary)),
        tokio::spawn(answering(replica, "replica", at_replica)),
    ];
    eventually("the primary's position to be known", || async {
        proxy.status().await["upstreams"][0]["nodes"][0]["position"].as_u64() == Some(7)
    })
    .await;
    let mut client = proxy.client().await;
    // Behind everything the probes have shown: nobody can say how old it is, so the primary answers.
    for n in 0..4 {
        assert_eq!(client.get(&format!("/behind/{n}")).await.text(), "primary");
    }
    // It has caught up: it holds all that was written before the last probe.
    behind.send_replace(7);
    let mut from_replica = 0;
    for n in 0..4 {
        let answer = client.get(&format!("/level/{n}")).await;
        from_replica += u32::from(answer.text() == "replica");
        assert!(staleness(answer.consistency()) < 30_000, "{}", answer.consistency());
    }
    assert!(from_replica > 0, "the replica is read");
    // The primary goes on, and what the replica says is as old as the last probe before that.
    ahead.send_replace(8);
    eventually("the primary's position to be known", || async {
        proxy.status().await["upstreams"][0]["nodes"][0]["position"].as_u64() == Some(8)
    })
    .await;
    eventually("an answer of the replica that is some probes old", || async {
        let target =
            format!("/older/{:?}", std::time::Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), "/");
        let answer = proxy.get(&target).await;
        answer.text() == "replica" && staleness(answer.consistency()) >= 100
    })
    .await;
    nodes.iter().for_each(|node| node.abort());
}

#[tokio::test]
async fn r43_a_position_below_all_that_is_known_outweighs_the_declared_lag() {
    let (primary, replica) = (Origin::start().await, Origin::start().await);
    let proxy = over(&primary, &replica, &format!("max_lag = \"1s\"\n{POSITIONS}"), EVENTUAL).await;
    let (_ahead, at_primary) = tokio::sync::watch::channel(7);
    let (_behind, at_replica) = tokio::sync::watch::channel(6);
    let nodes = [
        tokio::spawn(answering(primary, "primary", at_primary)),
        tokio::spawn(answering(replica, "replica", at_replica)),
    ];
    eventually("the primary's position to be known", || async {
        proxy.status().await["upstreams"][0]["nodes"][0]["position"].as_u64() == Some(7)
    })
    .await;
    let mut client = proxy.client().await;
    for n in 0..4 {
        assert_eq!(client.get(&format!("/behind/{n}")).await.text(), "primary");
    }
    nodes.iter().for_each(|node| node.abort());
}

/// Two nodes of which the replica is twenty seconds behind, and who is asked next is the primary.
async fn in_turn(keys: &str) -> (Origin, Origin, Proxy, Client) {
    let (mut primary, mut replica) = (Origin::start().await, Origin::start().await);
    let route = format!("{EVENTUAL}\n{keys}\n\n[server]\nthreads = 1");
    let proxy = over(&primary, &replica, "max_lag = \"20s\"", &route).await;
    let mut client = proxy.client().await;
    at_replica(&mut client, &mut primary, &mut replica)
        .await
        .respond(200, &[], "replica")
        .await;
    client.answer().await;
    (primary, replica, proxy, client)
}

#[tokio::test]
async fn r43_a_replicas_later_answer_does_not_replace_the_primarys() {
    let (mut primary, mut replica, proxy, mut client) = in_turn("collapse = false").await;
    client.ask("GET", "/x", &[], b"").await;
    let new = primary.next().await;
    let mut other = proxy.client().await;
    other.ask("GET", "/x", &[], b"").await;
    let old = replica.next().await;
    new.respond(200, &[("ETag", "\"2\"")], "new").await;
    assert_eq!(client.answer().await.text(), "new");
    old.respond(200, &[("ETag", "\"1\"")], "old").await;
    assert_eq!(other.answer().await.text(), "old");
    let hit = client.get("/x").await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(hit.text(), "new");
}

#[tokio::test]
async fn r12b_r43_an_answer_of_a_replica_that_is_behind_takes_nothing_out_of_service() {
    let (mut primary, mut replica, _proxy, mut client) = in_turn("").await;
    client.ask("GET", "/x?kept", &[], b"").await;
    primary.next().await.respond(200, &[("ETag", "\"2\"")], "new").await;
    assert_eq!(client.answer().await.text(), "new");
    client.ask("GET", "/other", &[], b"").await;
    replica.next().await.respond(200, &[], "replica").await;
    client.answer().await;
    let short = [("ETag", "\"2\""), ("Cache-Control", "max-age=0")];
    client.ask("GET", "/x?short", &[], b"").await;
    primary.next().await.respond(200, &short, "new").await;
    assert_eq!(client.answer().await.text(), "new");
    client.ask("GET", "/x?short", &[], b"").await;
    let again = replica.next().await;
    assert_eq!(again.header("if-none-match"), Some("\"2\""));
    again.respond(200, &[("ETag", "\"1\"")], "old").await;
    assert_eq!(client.answer().await.text(), "old");
    assert!(client.get("/x?kept").await.is_hit(), "what is newer stays");
}
