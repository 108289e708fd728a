//! HTTP.md 10: a node's 102 and 103 reach the HTTP/1.1 client whose request they belong to, before its final head, and nobody else. They
//! are never stored and never taken for the answer.

use super::support::client::{Answer, Client};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, one_route};
use std::time::Duration;

const ONE_THREAD: &str = "[server]\nthreads = 1\n\n";
pub(super) const LINK: (&str, &str) = ("Link", "</style.css>; rel=preload");

/// A node's hint, and what of its fields goes no further.
pub(super) const HINT_AND_MORE: [(&str, &str); 5] = [
    LINK,
    ("Connection", "X-Private"),
    ("X-Private", "1"),
    ("Keep-Alive", "timeout=1"),
    ("Tidegate-Consistency", "strong;proof=validated"),
];
const LEVELS: [&str; 4] = [
    "",
    "consistency = \"weak\"\nttl = \"1h\"",
    "consistency = \"eventual\"\nttl = \"1h\"",
    "consistency = \"strong\"",
];

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(
        &(ONE_THREAD.to_owned() + &one_route(keys)),
        &[("origin", &origin.url())],
    )
    .await
}

/// Status and `Link` of each interim head.
fn interim(answer: &Answer) -> Vec<String> {
    let show = |head: &super::support::wire::Head| {
        let status = head.start.split(' ').nth(1).unwrap().to_owned();
        format!("{status} {}", head.headers.get("link").unwrap_or(""))
            .trim_end()
            .to_owned()
    };
    answer.interim.iter().map(show).collect()
}

/// The next head, unparsed; nothing may follow it.
async fn raw_head(client: &mut Client) -> String {
    let mut text = client.raw_part().await;
    while !text.ends_with(b"\r\n\r\n") {
        text.extend(client.raw_part().await);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_103_reaches_the_client_before_its_answer_and_is_not_stored() {
    for keys in LEVELS {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let mut exchange = origin.next().await;
        exchange.head(103, &[LINK]).await;
        // It comes while the answer is not there yet.
        assert_eq!(
            raw_head(&mut client).await,
            "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nvia: 1.1 tidegate\r\n\r\n",
            "{keys}"
        );
        exchange.respond(200, &[("ETag", "\"1\"")], "whole").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "whole"), "{keys}");
        assert!(answer.interim.is_empty() && !answer.headers.has("link"), "{keys}");
        if keys.contains("ttl") {
            let hit = client.get("/").await;
            assert!(
                hit.is_hit() && hit.interim.is_empty() && !hit.headers.has("link"),
                "{keys}"
            );
        }
    }
}

#[tokio::test]
async fn several_keep_their_order_also_when_they_come_with_the_answer_in_one_piece() {
    for keys in LEVELS {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = proxy.client().await;
        for _ in 0..2 {
            client.ask("GET", "/", &[("Cache-Control", "no-cache")], b"").await;
            let mut exchange = origin.next().await;
            exchange
                .send(
                    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n\
                     HTTP/1.1 103 Early Hints\r\nLink: <b>\r\n\r\n",
                )
                .await;
            exchange.respond(200, &[], "whole").await;
            let answer = client.answer().await;
            assert_eq!(interim(&answer), ["102", "103 <a>", "103 <b>"], "{keys}");
            assert_eq!((answer.status, answer.text()), (200, "whole"), "{keys}");
        }
    }
}

#[tokio::test]
async fn a_103_and_then_a_slow_body_arrive_as_they_were_sent() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, LEVELS[1]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange.head(103, &[LINK]).await;
    exchange.head(200, &[("Content-Length", "6")]).await;
    let (status, head, interim) = client.try_head().await.unwrap();
    assert_eq!((status, interim.len()), (200, 1));
    assert_eq!(head.headers.get("content-length"), Some("6"));
    for piece in ["one", "two"] {
        exchange.send(piece).await;
        assert_eq!(client.body_part().await.unwrap(), piece);
    }
    exchange.keep();
    assert!(client.body_part().await.is_none());
}

#[tokio::test]
async fn r10_a_write_passes_them_on_before_its_ack_and_r11_they_promise_nothing() {
    let mut origin = Origin::start().await;
    let config = one_route(LEVELS[3]) + "\n[upstreams.o.retry]\nattempts = 1\n";
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("PUT", "/", &[], b"value").await;
    let mut exchange = origin.next().await;
    exchange.head(103, &[LINK]).await;
    exchange.respond(204, &[], "").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, interim(&answer).len()), (204, 1));
    assert_eq!(answer.consistency(), "strong");

    client.ask("PUT", "/", &[], b"value").await;
    let mut exchange = origin.next().await;
    exchange.body().await;
    exchange.head(103, &[LINK]).await;
    exchange.reset();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"));
    assert_eq!(interim(&answer).len(), 1);
}

#[tokio::test]
async fn rfc9110_s15_2_a_client_of_http_1_0_is_sent_none() {
    for method in ["GET", "PUT"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, "").await;
        let mut client = proxy.client().await;
        let length = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
        client
            .send(format!("{method} / HTTP/1.0\r\nHost: a\r\n{length}\r\n"))
            .await;
        let mut exchange = origin.next().await;
        exchange.head(103, &[LINK]).await;
        exchange.respond(200, &[], "whole").await;
        let mut text = client.raw_part().await;
        while !text.ends_with(b"whole") {
            text.extend(client.raw_part().await);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 ") && !text.contains("103"), "{text}");
    }
}

/// Answers after an interim head.
async fn answer(mut exchange: Exchange) {
    let (link, body) = (format!("<{}>", exchange.target), format!("body of {}", exchange.target));
    exchange.head(103, &[("Link", &link)]).await;
    exchange.respond(200, &[], body).await;
}

#[tokio::test]
async fn pipelined_requests_each_get_their_own_before_their_own_answer() {
    for keys in LEVELS {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = proxy.client().await;
        let requests: Vec<String> = (0..5)
            .map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        client.send(requests.concat()).await;
        for i in 0..5 {
            answer(origin.next().await).await;
            let came = client.answer().await;
            assert_eq!(interim(&came), [format!("103 </{i}>")], "{keys}");
            assert_eq!(came.text(), format!("body of /{i}"), "{keys}");
        }
    }
}

#[tokio::test]
async fn behind_an_answer_that_its_client_does_not_take_none_goes_into_its_bytes() {
    const LARGE: usize = 8 * 1024 * 1024;
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = Client::connect_with_small_window(proxy.address).await;
    client
        .send("GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let exchange = origin.next().await;
    let sender = tokio::spawn(exchange.try_respond(200, &[], vec![b'x'; LARGE]));
    let (status, _) = client.head().await;
    assert_eq!(status, 200);
    let read = async {
        let mut length = 0;
        while let Some(part) = client.body_part().await {
            assert!(part.iter().all(|byte| *byte == b'x'), "something is in the body");
            length += part.len();
        }
        assert_eq!(length, LARGE);
        let next = client.answer().await;
        assert_eq!(next.text(), "body of /next");
    };
    let (_, ()) = tokio::join!(async { answer(origin.next().await).await }, read);
    sender.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_does_not_hold_up_the_node() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, LEVELS[1]).await;
    let mut client = Client::connect_with_small_window(proxy.address).await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    let large = "x".repeat(15_000);
    // Far more than sockets and bounds hold: every one of them is taken from the node.
    for _ in 0..1000 {
        exchange.head(103, &[("X-Large", &large)]).await;
    }
    exchange.respond(200, &[], "whole").await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "whole");
    assert!((1..=64).contains(&answer.interim.len()), "{}", answer.interim.len());
    assert!(client.get("/").await.is_hit());
}

#[tokio::test]
async fn what_belongs_to_the_nodes_connection_and_what_concerns_us_alone_goes_no_further() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client.ask("PUT", "/", &[("Expect", "100-continue")], b"value").await;
    let mut exchange = origin.next().await;
    exchange.head(100, &[("X-Of", "the node")]).await;
    exchange.head(103, &HINT_AND_MORE).await;
    exchange.respond(200, &[], "whole").await;
    let answer = client.answer().await;
    assert_eq!(interim(&answer).last().unwrap(), "103 </style.css>; rel=preload");
    for head in &answer.interim {
        for name in ["x-of", "connection", "x-private", "keep-alive", "tidegate-consistency"] {
            assert!(!head.headers.has(name), "{name} in {head:?}");
        }
    }
}

#[tokio::test]
async fn garbage_in_place_of_an_interim_head_is_502_and_no_101_is_passed() {
    for garbage in [
        "HTTP/1.1 103 Early Hints\r\nno colon\r\n\r\n",
        "HTTP/1.1 99 Too Small\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nX: a\rb\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let mut origin = Origin::start().await;
        let config = one_route("") + "\n[upstreams.o.retry]\nattempts = 1\n";
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let mut exchange = origin.next().await;
        exchange.send(garbage).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.interim.len()),
            (502, "bad-gateway", 0),
            "{garbage:?}"
        );
        exchange.gone().await;
    }
}

#[tokio::test]
async fn an_interim_head_is_not_the_answer_that_response_timeout_waits_for() {
    let mut origin = Origin::start().await;
    let config = one_route("").replace("connect_timeout", "response_timeout = \"300ms\"\nconnect_timeout")
        + "\n[upstreams.o.retry]\nattempts = 1\n";
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    let answer = async {
        loop {
            if exchange.try_send("HTTP/1.1 102 Processing\r\n\r\n").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ((), came) = tokio::join!(answer, client.answer());
    assert_eq!((came.status, came.problem().as_str()), (504, "timeout"));
}

#[tokio::test]
async fn those_who_share_a_fetch_get_its_answer_and_only_its_leader_the_hints() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, LEVELS[1]).await;
    let (mut leader, mut follower) = (proxy.client().await, proxy.client().await);
    leader.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    follower.ask("GET", "/", &[], b"").await;
    exchange.head(103, &[LINK]).await;
    // The leader has its hint, so the follower's request is in as well or comes behind the fill.
    assert!(raw_head(&mut leader).await.starts_with("HTTP/1.1 103 "));
    exchange.respond(200, &[], "whole").await;
    assert_eq!(leader.answer().await.text(), "whole");
    let shared = follower.answer().await;
    assert_eq!((shared.text(), shared.interim.len()), ("whole", 0));
    origin.expect_idle().await;
}
