//! Slow reads sent a second time (R22).

use super::support::origin::Origin;
use super::support::proxy::Proxy;

const HEDGE: &str = "hedge = { after = \"10ms\", max = \"100%\" }\nretry = { attempts = 1 }";

async fn over(a: &Origin, b: &Origin, upstream: &str, route: &str) -> Proxy {
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{{a}}\", name = \"a\" }}, {{ url = \"{{b}}\", name = \"b\" }}]\n{HEDGE}\n{upstream}\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n{route}\n"
    );
    Proxy::start(&config, &[("a", &a.url()), ("b", &b.url())]).await
}

#[tokio::test]
async fn r22_a_slow_read_is_asked_of_another_node_and_a_slow_write_is_not() {
    let (mut a, mut b) = (Origin::start().await, Origin::start().await);
    let proxy = over(&a, &b, "", "consistency = \"off\"").await;
    let mut writer = proxy.client().await;
    // Without a body, so that it could be sent again.
    writer.ask("DELETE", "/w", &[], b"").await;
    let write = tokio::select! { exchange = a.next() => exchange, exchange = b.next() => exchange };
    assert_eq!(write.method, "DELETE");
    // The read's copy goes later than the write's would have gone: what comes next at either node is a read.
    let mut reader = proxy.client().await;
    reader.ask("GET", "/r", &[], b"").await;
    let (one, other) = (a.next().await, b.next().await);
    assert_eq!(
        (one.method.as_str(), other.method.as_str()),
        ("GET", "GET"),
        "one copy at each"
    );
    one.respond(200, &[], "quick").await;
    assert_eq!(reader.answer().await.text(), "quick");
    write.respond(204, &[], "").await;
    assert_eq!(writer.answer().await.status, 204);
    let labels = [("upstream", "o"), ("reason", "hedge")];
    assert_eq!(proxy.metric("tidegate_retries_total", &labels).await, 1.0);
    drop(other);
}

#[tokio::test]
async fn r22_both_copies_of_a_slow_strong_read_go_to_the_primary() {
    let (mut primary, mut replica) = (Origin::start().await, Origin::start().await);
    let replicas = "replication = \"primary\"\nmax_lag = \"1s\"";
    let proxy = over(&primary, &replica, replicas, "consistency = \"strong\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/r", &[], b"").await;
    let slow = primary.next().await;
    let copy = primary.next().await;
    assert_eq!((slow.target.as_str(), copy.target.as_str()), ("/r", "/r"));
    copy.respond(200, &[("ETag", "\"1\"")], "the primary's").await;
    assert_eq!(client.answer().await.text(), "the primary's");
    drop(slow);
    replica.expect_idle().await;
}
