//! Somebody else who promotes: a node refuses a write in the name of a later epoch than it was sent in (R54).

use super::mirrored::config;
use super::support::proxy::Proxy;
use super::support::register::{Register, Seen};
use super::support::within;

fn epoch(seen: &Seen) -> u64 {
    seen.headers.get("tidegate-epoch").unwrap().parse().unwrap()
}

#[tokio::test]
async fn r54_after_a_refusal_in_a_later_epoch_nothing_is_written_until_the_operator_promotes() {
    let register = Register::new();
    let (a, b) = (register.node("a").await, register.node("b").await);
    let config = config(&a, &b, "").replace("hold = \"4s\"", "hold = \"2s\"");
    let proxy = Proxy::start(&config, &[]).await;
    proxy.until_state("o", "a", "active").await;
    proxy.until_state("o", "b", "standby").await;
    assert_eq!(proxy.put("/x", "1").await.status, 201);
    let ours = epoch(register.seen().last().unwrap());
    let theirs = ours + 1000;
    register.fence(theirs);
    let refused = proxy.put("/x", "2").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("not-applied"), "{}", refused.text());
    within("nobody is the primary", async {
        while !proxy.status().await["upstreams"][0]["primary"].is_null() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let asked = register.count("PUT", "/x");
    let refused = proxy.put("/x", "3").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("not-applied"), "{}", refused.text());
    assert_eq!(register.count("PUT", "/x"), asked, "nobody is asked any more");
    assert_eq!(register.read("/x").as_deref(), Some("1"));

    let promoted = proxy.admin_post("/upstreams/o/nodes/b/promote", "").await;
    assert_eq!(promoted.status, 200, "{}", promoted.text());
    assert!(proxy.put("/x", "4").await.status < 300);
    assert!(epoch(register.seen().last().unwrap()) > theirs);
    assert_eq!(register.read("/x").as_deref(), Some("4"));
}
