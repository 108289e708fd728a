//! `POST /purge`: when it has answered, nothing of what it named is served, whatever was in flight.

use super::support::client::Client;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Node, Point, Register};

async fn over(keys: &str) -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(keys), &[("origin", &node.url())]).await;
    (register, node, proxy)
}

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";

#[tokio::test]
async fn a_purged_url_is_fetched_again_and_others_stay() {
    let (register, _node, proxy) = over(WEAK).await;
    register.write("/y", "other");
    proxy.get("/x").await;
    proxy.get("/y").await;
    assert!(proxy.get("/x").await.is_hit());
    register.write("/x", "new");
    assert_eq!(proxy.purge(r#"{"url": "http://shop.example/x"}"#).await, 1);
    assert_eq!(proxy.get("/x").await.text(), "new");
    assert!(proxy.get("/y").await.is_hit());
    assert_eq!(proxy.purge(r#"{"url": "http://shop.example/never"}"#).await, 0);
}

#[tokio::test]
async fn a_path_purges_it_on_every_host_with_all_variants() {
    let (register, _node, proxy) = over(WEAK).await;
    register.answer_with("/x", "Vary", "Accept-Language");
    for host in ["a.example", "b.example"] {
        for language in ["de", "en"] {
            let headers = [("Host", host), ("Accept-Language", language)];
            proxy.get_with("/x", &headers).await;
            assert!(proxy.get_with("/x", &headers).await.is_hit());
        }
    }
    assert_eq!(proxy.purge(r#"{"url": "/x"}"#).await, 4);
    register.write("/x", "new");
    for host in ["a.example", "b.example"] {
        for language in ["de", "en"] {
            let answer = proxy
                .get_with("/x", &[("Host", host), ("Accept-Language", language)])
                .await;
            assert_eq!(answer.text(), "new");
        }
    }
}

#[tokio::test]
async fn purge_all_empties_the_cache() {
    let (register, _node, proxy) = over(WEAK).await;
    for n in 0..20 {
        register.write(&format!("/{n}"), "v");
        proxy.get(&format!("/{n}")).await;
    }
    assert_eq!(proxy.status().await["cache"]["entries"], 20);
    assert_eq!(proxy.purge(r#"{"all": true}"#).await, 20);
    assert_eq!(proxy.status().await["cache"]["entries"], 0);
    for n in 0..20 {
        assert!(!proxy.get(&format!("/{n}")).await.is_hit());
    }
}

#[tokio::test]
async fn a_fill_in_flight_does_not_outlive_a_purge() {
    for (json, point) in [
        (r#"{"url": "http://shop.example/x"}"#, Point::Applied),
        (r#"{"url": "http://shop.example/x"}"#, Point::MidBody),
        (r#"{"url": "/x"}"#, Point::Applied),
        (r#"{"all": true}"#, Point::Applied),
        (r#"{"all": true}"#, Point::MidBody),
    ] {
        let (register, _node, proxy) = over(WEAK).await;
        let mut hold = register.hold("GET", "/x", point);
        let mut reader: Client = proxy.client().await;
        reader.ask("GET", "/x", &[], b"").await;
        let in_flight = hold.next().await;
        register.write("/x", "new");
        proxy.purge(json).await;
        in_flight.release();
        drop(hold);
        assert_eq!(reader.answer().await.text(), "old");
        assert_eq!(proxy.get("/x").await.text(), "new", "{json} {point:?}");
    }
}

#[tokio::test]
async fn a_reader_after_the_purge_does_not_join_the_fill_from_before() {
    let (register, _node, proxy) = over(WEAK).await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = proxy.client().await;
    early.ask("GET", "/x", &[], b"").await;
    let sent = hold.next().await;
    register.write("/x", "new");
    proxy.purge(r#"{"url": "/x"}"#).await;
    let mut late = proxy.client().await;
    late.ask("GET", "/x", &[], b"").await;
    let own = hold.next().await;
    sent.release();
    own.release();
    assert_eq!(early.answer().await.text(), "old");
    assert_eq!(late.answer().await.text(), "new");
}

#[tokio::test]
async fn a_purge_also_ends_a_revalidation_in_flight() {
    let (register, _node, proxy) = over("consistency = \"weak\"").await;
    register.answer_with("/x", "Cache-Control", "max-age=0, stale-while-revalidate=60");
    proxy.get("/x").await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    assert_eq!(proxy.get("/x").await.text(), "old");
    let refresh = hold.next().await;
    register.write("/x", "new");
    proxy.purge(r#"{"url": "/x"}"#).await;
    refresh.release();
    drop(hold);
    assert_eq!(
        proxy.get("/x").await.text(),
        "new",
        "a 304 of before the purge brought the entry back"
    );
}

#[tokio::test]
async fn what_a_purge_does_not_understand_is_400_and_purges_nothing() {
    let (_register, _node, proxy) = over(WEAK).await;
    proxy.get("/x").await;
    for json in [
        "",
        "not json",
        "{}",
        r#"{"url": 7}"#,
        r#"{"urls": "/x"}"#,
        r#"{"url": "/x", "all": true}"#,
    ] {
        let answer = proxy.admin_post("/purge", json).await;
        assert!((400..500).contains(&answer.status), "{json}: {}", answer.status);
    }
    assert!(proxy.get("/x").await.is_hit());
}
