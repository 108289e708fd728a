//! The actors against each other, without a proxy: a harness that cannot fail proves nothing.

use super::support::client::{Client, get};
use super::support::origin::Origin;
use super::support::register::{Point, Register};

#[tokio::test]
async fn a_scripted_answer_arrives_as_written() {
    let mut origin = Origin::start().await;
    let mut client = Client::connect(origin.address).await;
    client.ask("PUT", "/a?b=c", &[("X-One", "1")], b"hello").await;
    let mut exchange = origin.next().await;
    assert_eq!((exchange.method.as_str(), exchange.target.as_str()), ("PUT", "/a?b=c"));
    assert_eq!(exchange.header("x-one"), Some("1"));
    assert_eq!(exchange.body().await, b"hello");
    exchange.respond(201, &[("ETag", "\"1\"")], "made").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("etag")),
        (201, "made", Some("\"1\""))
    );
    client.ask("GET", "/next", &[], b"").await;
    origin.next().await.respond(200, &[], "same connection").await;
    assert_eq!(client.answer().await.text(), "same connection");
    assert_eq!(origin.accepted(), 1);
    origin.expect_idle().await;
}

#[tokio::test]
async fn an_answer_can_be_given_in_steps_with_1xx_first() {
    let mut origin = Origin::start().await;
    let mut client = Client::connect(origin.address).await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange.head(103, &[("Link", "</x>")]).await;
    exchange.head(200, &[("Transfer-Encoding", "chunked")]).await;
    exchange.chunk("one").await;
    let (status, _) = client.head().await;
    assert_eq!((status, client.body_part().await.unwrap().as_ref()), (200, &b"one"[..]));
    exchange.chunk("two").await;
    exchange.last_chunk().await;
    assert_eq!(client.body_part().await.unwrap().as_ref(), b"two");
    assert!(client.body_part().await.is_none());
}

#[tokio::test]
async fn every_way_to_break_an_answer_is_seen_by_the_client() {
    let mut origin = Origin::start().await;
    for how in ["reset", "drop", "short", "garbage", "framing"] {
        let mut client = Client::connect(origin.address).await;
        client.ask("POST", "/", &[], b"x").await;
        let mut exchange = origin.next().await;
        match how {
            "reset" => exchange.reset(),
            "drop" => exchange.apply_and_drop().await,
            "short" => {
                exchange.head(200, &[("Content-Length", "5")]).await;
                exchange.send("abc").await;
                exchange.close();
            }
            "garbage" => exchange.send("not http at all\r\n\r\n").await,
            _ => {
                exchange
                    .head(200, &[("Content-Length", "5"), ("Content-Length", "6")])
                    .await
            }
        }
        assert!(client.try_answer().await.is_err(), "{how}");
    }
}

#[tokio::test]
#[should_panic(expected = "an unexpected GET /surprise")]
async fn a_request_nobody_expected_fails_the_test() {
    let mut origin = Origin::start().await;
    Client::connect(origin.address)
        .await
        .ask("GET", "/surprise", &[], b"")
        .await;
    origin.expect_idle().await;
}

#[tokio::test]
#[should_panic(expected = "framing that no one should send")]
async fn a_malformed_request_fails_the_test() {
    let origin = Origin::start().await;
    let mut client = Client::connect(origin.address).await;
    let smuggled = [("Content-Length", "1"), ("Transfer-Encoding", "chunked")];
    client.ask("POST", "/", &smuggled, b"0").await;
    assert!(client.try_answer().await.is_err());
}

#[tokio::test]
async fn a_node_goes_down_with_its_connections_and_comes_back_on_its_port() {
    let register = Register::new();
    register.write("/a", "one");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let mut idle = Client::connect(a.address).await;
    assert_eq!(idle.get("/a").await.text(), "one");
    let mut hold = register.hold("GET", "/a", Point::Arrived);
    let mut waiting = Client::connect(a.address).await;
    waiting.ask("GET", "/a", &[], b"").await;
    let held = hold.next().await;
    a.down().await;
    idle.closed().await;
    assert!(waiting.try_answer().await.is_err());
    assert!(tokio::net::TcpStream::connect(a.address).await.is_err());
    drop((held, hold));
    assert_eq!(get(b.address, "/a").await.text(), "one");
    a.up().await;
    assert_eq!(get(a.address, "/a").await.text(), "one");
}

#[tokio::test]
async fn the_register_answers_conditions_and_counts() {
    let register = Register::new();
    register.answer_with("*", "Cache-Control", "max-age=60");
    let node = register.node("a").await;
    let mut client = Client::connect(node.address).await;
    assert_eq!(client.get("/a").await.status, 404);
    let made = client.put("/a", "one").await;
    assert_eq!((made.status, made.header("etag")), (201, Some("\"v1\"")));
    let same = client.get_with("/a", &[("If-None-Match", "\"v1\"")]).await;
    assert_eq!((same.status, same.header("cache-control")), (304, Some("max-age=60")));
    assert_eq!(client.put("/a", "two").await.status, 204);
    let other = client.get_with("/a", &[("If-None-Match", "\"v1\"")]).await;
    assert_eq!((other.status, other.text()), (200, "two"));
    let refused = client.request("PUT", "/a", &[("If-Match", "\"v1\"")], b"three").await;
    assert_eq!(refused.status, 412);
    assert_eq!(client.request("HEAD", "/a", &[], b"").await.status, 200);
    assert_eq!(client.request("DELETE", "/a", &[], b"").await.status, 204);
    assert_eq!((register.count("GET", "/a"), register.count("PUT", "/a")), (3, 3));
    assert_eq!(register.count_at("a"), 8);
}

#[tokio::test]
async fn a_request_is_held_at_each_point_and_can_be_failed_there() {
    let register = Register::new();
    register.write("/a", "abcdef");
    let node = register.node("a").await;
    let mut hold = register.hold("PUT", "/a", Point::Applied);
    let mut writer = Client::connect(node.address).await;
    writer.ask("PUT", "/a", &[], b"ghijkl").await;
    let held = hold.next().await;
    assert_eq!(register.read("/a").as_deref(), Some("ghijkl"));
    held.reset();
    assert!(writer.try_answer().await.is_err());
    let mut hold = register.hold("GET", "/a", Point::MidBody);
    let mut reader = Client::connect(node.address).await;
    reader.ask("GET", "/a", &[], b"").await;
    let held = hold.next().await;
    assert_eq!(reader.head().await.0, 200);
    assert_eq!(reader.body_part().await.unwrap().as_ref(), b"ghi");
    held.release();
    assert_eq!(reader.body_up_to(3).await, b"jkl");
}
