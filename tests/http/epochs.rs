//! What is stored when traffic moves to another node (R53): confirmed at the new one before it is used.

use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::register::{Node, Point, Register};

/// An active-passive upstream over one store, `a` active, and one route.
async fn over(a: &Node, b: &Node, route: &str) -> Proxy {
    let config = format!(
        "[upstreams.o]\nmode = \"active-passive\"\nnodes = [{{ url = \"{}\", name = \"a\" }}, {{ url = \"{}\", name = \"b\" }}]\n\n[upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"20ms\"\ntimeout = \"2s\"\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n{route}\n",
        a.url(),
        b.url()
    );
    Proxy::start(&config, &[]).await
}

const EXCLUSIVE: &str = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"300ms\"";
const EVENTUAL: &str = "consistency = \"eventual\"\nttl = \"1m\"";

async fn moved(proxy: &Proxy, a: &Node) {
    a.set_healthy(false).await;
    proxy.until_state("o", "b", "active").await;
}

#[tokio::test]
async fn r53_after_a_failover_over_one_store_what_is_stored_is_confirmed_once() {
    for (route, hit) in [(EXCLUSIVE, "strong;proof=exclusive"), (EVENTUAL, "bounded;")] {
        let register = Register::new();
        register.write("/x", "v");
        let (a, b) = (register.node("a").await, register.node("b").await);
        let proxy = over(&a, &b, route).await;
        eventually("a hit", || async {
            let answer = proxy.get("/x").await;
            answer.is_hit() && answer.consistency().starts_with(hit)
        })
        .await;
        moved(&proxy, &a).await;
        let before = register.count_at("b");
        let first = proxy.get("/x").await;
        assert_eq!(first.text(), "v");
        assert!(
            first.cache_status().contains("fwd=stale; fwd-status=304")
                && first.cache_status().contains("detail=older-epoch"),
            "{}",
            first.cache_status()
        );
        assert_eq!(register.count_at("b"), before + 1);
        let again = proxy.get("/x").await;
        assert!(
            again.is_hit() && again.consistency().starts_with(hit),
            "{}",
            again.cache_status()
        );
    }
}

#[tokio::test]
async fn r53_what_was_under_way_when_traffic_moved_is_as_old_as_what_came_before() {
    let register = Register::new();
    register.write("/x", "v");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let proxy = over(&a, &b, EXCLUSIVE).await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut reader = proxy.client().await;
    reader.ask("GET", "/x", &[], b"").await;
    let held = hold.next().await;
    drop(hold);
    moved(&proxy, &a).await;
    held.release();
    assert_eq!(reader.answer().await.text(), "v");
    // The very next read finds it stored, and of the epoch before.
    eventually("it to be stored", || async {
        proxy.status().await["cache"]["entries"] == 1
    })
    .await;
    let next = proxy.get("/x").await;
    assert!(next.cache_status().contains("older-epoch"), "{}", next.cache_status());
    assert_eq!(
        register.seen().last().map(|seen| seen.node.clone()).as_deref(),
        Some("b")
    );
}
