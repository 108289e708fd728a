//! HTTP/2 to clients (RFC 9113): the same contracts as over HTTP/1.1, streams side by side, limits and leaving.

use super::support::client::{Client, HOST};
use super::support::floods;
use super::support::frames::{self, Frames, Outcome};
use super::support::h2::{H2, whole};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::within;
use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn over(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await
}

fn empty() -> Full<Bytes> {
    Full::default()
}

#[tokio::test]
async fn one_port_speaks_both_and_what_one_stored_the_other_is_served() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    let h2 = H2::connect(proxy.address).await;
    let (answer, ()) = tokio::join!(h2.get("/a?q=1"), async {
        let exchange = origin.next().await;
        assert_eq!(exchange.target, "/a?q=1");
        assert_eq!(
            exchange.headers.get("host"),
            Some(HOST),
            "`:authority` is the node's Host"
        );
        assert_eq!(exchange.headers.get("via"), Some("2.0 tidegate"), "RFC 9110 s7.6.3");
        exchange
            .respond(200, &[("Connection", "x-hop"), ("X-Hop", "1")], "a")
            .await;
    });
    assert_eq!((answer.status, answer.text()), (200, "a"));
    assert_eq!(answer.header("connection"), None, "RFC 9113 s8.2.2");
    assert_eq!(answer.header("x-hop"), None);
    assert!(h2.get("/a?q=1").await.header("cache-status").unwrap().contains("; hit"));
    assert!(Client::connect(proxy.address).await.get("/a?q=1").await.is_hit());
}

#[tokio::test]
async fn a_slow_stream_does_not_hold_up_another() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let slow = h2.head(H2::request("GET", "/slow").body(empty()).unwrap());
    let fast = async {
        let held = origin.next().await;
        assert_eq!(held.target, "/slow");
        let (answer, ()) = tokio::join!(h2.get("/fast"), async {
            origin.next().await.respond(200, &[], "fast").await;
        });
        assert_eq!(answer.text(), "fast");
        held.respond(200, &[], "slow").await;
    };
    let (slow, ()) = tokio::join!(slow, fast);
    assert_eq!(whole(slow.unwrap()).await.text(), "slow");
}

#[tokio::test]
async fn a_write_goes_through_with_its_body_and_its_contract() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"strong\"").await;
    let h2 = H2::connect(proxy.address).await;
    let body = Bytes::from(vec![b'x'; 300_000]);
    let request = H2::request("PUT", "/a").body(Full::new(body.clone())).unwrap();
    let (answer, ()) = tokio::join!(h2.send(request), async {
        let mut exchange = origin.next().await;
        assert_eq!(exchange.body().await, body);
        exchange.respond(204, &[], "").await;
    });
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("tidegate-consistency"), Some("strong"));
}

#[tokio::test]
async fn cookies_that_come_in_crumbs_reach_the_node_as_one_field() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let request = H2::request("GET", "/").header("cookie", "a=1").header("cookie", "b=2");
    let (_, ()) = tokio::join!(h2.send(request.body(empty()).unwrap()), async {
        let exchange = origin.next().await;
        assert_eq!(exchange.headers.all("cookie"), ["a=1; b=2"], "RFC 9113 s8.2.3");
        exchange.respond(200, &[], "").await;
    });
}

#[tokio::test]
async fn a_host_that_is_not_the_authority_is_refused() {
    let origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let other = H2::request("GET", "/").header("host", "other.example");
    assert_eq!(h2.send(other.body(empty()).unwrap()).await.status, 400);
}

#[tokio::test]
async fn a_large_answer_is_carried_whole_at_the_client_s_pace() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    let h2 = H2::connect(proxy.address).await;
    let body = "0123456789abcdef".repeat(200_000);
    let (answer, ()) = tokio::join!(h2.get("/large"), async {
        origin.next().await.respond(200, &[], &body).await;
    });
    assert_eq!(answer.text(), body);
    // From memory, several at once.
    let (a, b, c) = tokio::join!(h2.get("/large"), h2.get("/large"), h2.get("/large"));
    for answer in [a, b, c] {
        assert_eq!(answer.body.len(), body.len());
        assert!(answer.header("cache-status").unwrap().contains("; hit"));
    }
}

#[tokio::test]
async fn an_end_answers_what_is_under_way_and_says_goaway() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let idle = H2::connect(proxy.address).await;
    let under_way = h2.head(H2::request("GET", "/").body(empty()).unwrap());
    let leaving = async {
        let exchange = origin.next().await;
        proxy.drain();
        within("the idle connection to be closed", idle.driven)
            .await
            .unwrap()
            .unwrap();
        exchange.respond(200, &[], "late").await;
    };
    let (answer, ()) = tokio::join!(under_way, leaving);
    assert_eq!(whole(answer.unwrap()).await.text(), "late");
    within("the connection to be closed", h2.driven).await.unwrap().unwrap();
}

#[tokio::test]
async fn floods_end_their_connection_and_nobody_else_s() {
    let proxy = Proxy::start("[[routes]]\nrespond = { status = 200, body = \"a\" }\n", &[]).await;
    let other = H2::connect(proxy.address).await;
    let mut flood = TcpStream::connect(proxy.address).await.unwrap();
    within("the end of a flood of resets", floods::rapid_reset(&mut flood)).await;
    let mut flood = TcpStream::connect(proxy.address).await.unwrap();
    within("the end of a list without an end", floods::continuation(&mut flood)).await;
    let mut flood = TcpStream::connect(proxy.address).await.unwrap();
    within("the end of empty frames", floods::empty_data(&mut flood)).await;
    let mut flood = TcpStream::connect(proxy.address).await.unwrap();
    within(
        "the end of resets we are made to send",
        floods::made_to_reset(&mut flood),
    )
    .await;
    assert_eq!(other.get("/").await.status, 200);
}

/// RFC 9113 s8: `:method`, `:scheme`, `:path`, `:authority`, and what else is asked.
fn asking<'a>(other: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut list = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", HOST),
    ];
    list.extend(other);
    list
}

fn without<'a>(name: &str) -> Vec<(&'a str, &'a str)> {
    asking(&[]).into_iter().filter(|(field, _)| *field != name).collect()
}

fn instead<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let given = |(field, given)| (field, if field == name { value } else { given });
    asking(&[]).into_iter().map(given).collect()
}

#[tokio::test]
async fn a_malformed_request_is_none_and_a_wrong_one_is_told() {
    // Nobody is asked: what would pass is answered by the route.
    let proxy = Proxy::start("[[routes]]\nrespond = { status = 200, body = \"a\" }\n", &[]).await;
    const MALFORMED: Option<u16> = None;
    let many: Vec<(String, String)> = (0..200).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let many: Vec<_> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let long = "x".repeat(40_000);
    for (name, list, expected) in [
        ("as it should be", asking(&[]), Some(200)),
        ("s8.3.1: no method", without(":method"), MALFORMED),
        ("s8.3.1: no scheme", without(":scheme"), MALFORMED),
        ("s8.3.1: no path", without(":path"), MALFORMED),
        ("s8.3.1: an empty path", instead(":path", ""), MALFORMED),
        (
            "s8.3.1: a path that begins with no slash",
            instead(":path", "a"),
            MALFORMED,
        ),
        (
            "s8.3.1: a whole URL for a path",
            instead(":path", "http://b/"),
            MALFORMED,
        ),
        ("s8.3: a field twice", asking(&[(":path", "/b")]), MALFORMED),
        ("s8.3: two authorities", asking(&[(":authority", HOST)]), MALFORMED),
        ("s8.3: a field of answers", asking(&[(":status", "200")]), MALFORMED),
        ("s8.3: one that nobody knows", asking(&[(":other", "1")]), MALFORMED),
        (
            "s8.3: behind the others",
            [&[("x", "y")][..], &asking(&[])].concat(),
            MALFORMED,
        ),
        ("s8.2: a name in upper case", asking(&[("X-Y", "z")]), MALFORMED),
        (
            "s8.2.1: a line end in a value",
            asking(&[("x", "a\r\nb: c")]),
            MALFORMED,
        ),
        ("s8.2.1: a NUL in a value", asking(&[("x", "a\0b")]), MALFORMED),
        ("s8.2.2: connection", asking(&[("connection", "close")]), MALFORMED),
        ("s8.2.2: keep-alive", asking(&[("keep-alive", "1")]), MALFORMED),
        (
            "s8.2.2: proxy-connection",
            asking(&[("proxy-connection", "close")]),
            MALFORMED,
        ),
        (
            "s8.2.2: transfer-encoding",
            asking(&[("transfer-encoding", "chunked")]),
            MALFORMED,
        ),
        ("s8.2.2: upgrade", asking(&[("upgrade", "h2c")]), MALFORMED),
        ("s8.2.2: te other than trailers", asking(&[("te", "gzip")]), MALFORMED),
        ("s8.2.2: te", asking(&[("te", "trailers")]), Some(200)),
        (
            "s8.1.1: a length, and no body",
            asking(&[("content-length", "5")]),
            MALFORMED,
        ),
        (
            "s8.1.1: a length of nothing",
            asking(&[("content-length", "0")]),
            Some(200),
        ),
        (
            "RFC 9110 s8.6: two lengths",
            asking(&[("content-length", "0"), ("content-length", "1")]),
            MALFORMED,
        ),
        (
            "s8.3.1: Host alone",
            [&without(":authority")[..], &[("host", HOST)]].concat(),
            Some(200),
        ),
        ("s8.3.1: Host as well", asking(&[("host", HOST)]), Some(200)),
        ("s8.3.1: another Host", asking(&[("host", "b")]), Some(400)),
        ("RFC 9110 s7.2: no host at all", without(":authority"), Some(400)),
        (
            "s8.3.1: Host alone, and no path",
            [&without(":path")[..3], &[("host", HOST)]]
                .concat()
                .into_iter()
                .filter(|(n, _)| *n != ":authority")
                .collect(),
            Some(400),
        ),
        (
            "s8.3.1: a user in the authority",
            instead(":authority", "me@a"),
            Some(400),
        ),
        ("RFC 9110 s9.3.7: * for a GET", instead(":path", "*"), Some(400)),
        ("RFC 9110 s9.3.8: TRACE", instead(":method", "TRACE"), Some(405)),
        (
            "s8.5: CONNECT",
            vec![(":method", "CONNECT"), (":authority", "a:443")],
            Some(501),
        ),
        (
            "RFC 8441: nobody said that CONNECT is extended",
            [
                &[(":method", "CONNECT"), (":protocol", "websocket")][..],
                &without(":method"),
            ]
            .concat(),
            MALFORMED,
        ),
        ("max_headers", asking(&many), Some(431)),
        ("max_header_bytes", asking(&[("x", &long)]), Some(431)),
    ] {
        let mut client = Frames::connect(proxy.address, &[]).await;
        let block = frames::fields(&list);
        let mut parts = block.chunks(16_000).peekable();
        let mut first = true;
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() { frames::END_HEADERS } else { 0 };
            let (kind, end) = if first {
                (frames::HEADERS, frames::END_STREAM)
            } else {
                (frames::CONTINUATION, 0)
            };
            client.send(kind, end | last, 1, part).await;
            first = false;
        }
        let outcome = client.outcome(1).await;
        let told = match outcome {
            Outcome::Answered { status, .. } => Some(status),
            // PROTOCOL_ERROR; a broken list of fields is the connection's (COMPRESSION_ERROR or PROTOCOL_ERROR).
            Outcome::Reset(1) | Outcome::GoneAway(1 | 9) => None,
            Outcome::Reset(_) | Outcome::GoneAway(_) | Outcome::Closed => panic!("{name}: {outcome:?}"),
        };
        assert_eq!(told, expected, "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_no_write() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    for (name, sent) in [("shorter", "123"), ("longer", "1234567")] {
        let mut client = Frames::connect(proxy.address, &[]).await;
        let mut put = asking(&[("content-length", "5")]);
        put[0].1 = "PUT";
        client
            .send(frames::HEADERS, frames::END_HEADERS, 1, &frames::fields(&put))
            .await;
        let mut exchange = origin.next().await;
        client.send(frames::DATA, frames::END_STREAM, 1, sent.as_bytes()).await;
        assert_eq!(client.outcome(1).await, Outcome::Reset(1), "{name}: RFC 9113 s8.1.1");
        assert!(
            exchange.try_body().await.is_err(),
            "{name}: the node must not take it for whole"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_broken_off_is_no_write_whatever_the_reason() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    for (name, reason) in [("NO_ERROR is a server's to say (RFC 9113 s8.1)", 0_u32), ("CANCEL", 8)] {
        let mut client = Frames::connect(proxy.address, &[]).await;
        let mut put = asking(&[]);
        put[0].1 = "PUT";
        client
            .send(frames::HEADERS, frames::END_HEADERS, 1, &frames::fields(&put))
            .await;
        client.send(frames::DATA, 0, 1, b"123").await;
        let mut exchange = origin.next().await;
        client.send(frames::RST_STREAM, 0, 1, &reason.to_be_bytes()).await;
        assert!(
            exchange.try_body().await.is_err(),
            "{name}: the node must not take it for whole"
        );
    }
}

#[tokio::test]
async fn a_head_that_fails_has_no_body() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    origin.down().await;
    let mut client = Frames::connect(proxy.address, &[]).await;
    let mut head = asking(&[]);
    head[0].1 = "HEAD";
    client
        .send(
            frames::HEADERS,
            frames::END_STREAM | frames::END_HEADERS,
            1,
            &frames::fields(&head),
        )
        .await;
    let expected = Outcome::Answered {
        status: 503,
        ended: true,
    };
    assert_eq!(client.outcome(1).await, expected, "RFC 9110 s9.3.2");
}

#[tokio::test]
async fn trailers_that_name_fields_of_the_node_s_connection_do_not_destroy_the_answer() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let (answer, ()) = tokio::join!(h2.get("/"), async {
        let mut exchange = origin.next().await;
        exchange
            .head(200, &[("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
            .await;
        exchange.chunk("body").await;
        exchange.send("0\r\nConnection: close\r\nX-Sum: 1\r\n\r\n").await;
        exchange.keep();
    });
    assert_eq!(answer.text(), "body", "RFC 9113 s8.2.2");
    let names: Vec<_> = answer.trailers.iter().flat_map(http::HeaderMap::keys).collect();
    assert_eq!(names, ["x-sum"]);
}

#[tokio::test]
async fn an_answer_without_a_body_ends_with_its_head() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    H2::connect(proxy.address).await;
    let h2 = H2::connect(proxy.address).await;
    let (_, ()) = tokio::join!(h2.get("/stored"), async {
        origin.next().await.respond(200, &[("ETag", "\"a\"")], "body").await;
    });
    for (name, method, path, condition, node, expected) in [
        ("a HEAD of what is stored", "HEAD", "/stored", None, None, 200),
        ("a HEAD that passes", "HEAD", "/passed", None, Some(200), 200),
        ("what is not modified", "GET", "/stored", Some("\"a\""), None, 304),
        ("204", "GET", "/nothing", None, Some(204), 204),
    ] {
        let mut client = Frames::connect(proxy.address, &[]).await;
        let mut list = vec![
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", HOST),
        ];
        list.extend(condition.map(|etag| ("if-none-match", etag)));
        client
            .send(
                frames::HEADERS,
                frames::END_STREAM | frames::END_HEADERS,
                1,
                &frames::fields(&list),
            )
            .await;
        if let Some(status) = node {
            origin.next().await.respond(status, &[], "").await;
        }
        let outcome = client.outcome(1).await;
        assert_eq!(
            outcome,
            Outcome::Answered {
                status: expected,
                ended: true
            },
            "{name}"
        );
    }
}

#[tokio::test]
async fn http_2_is_known_by_its_preface_however_it_dribbles_and_never_by_upgrade() {
    let proxy = Proxy::start("[[routes]]\nrespond = { status = 200, body = \"a\" }\n", &[]).await;
    let mut io = TcpStream::connect(proxy.address).await.unwrap();
    io.set_nodelay(true).unwrap();
    for byte in frames::PREFACE {
        io.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    io.write_all(&frames::frame(frames::SETTINGS, 0, 0, &[])).await.unwrap();
    let mut client = Frames { io };
    let whole = frames::END_STREAM | frames::END_HEADERS;
    client
        .send(frames::HEADERS, whole, 1, &frames::fields(&asking(&[])))
        .await;
    assert!(matches!(client.outcome(1).await, Outcome::Answered { status: 200, .. }));
    // RFC 9113 s3.1: the upgrade of RFC 7540 is gone; whoever asks for it goes on as before.
    let mut client = Client::connect(proxy.address).await;
    let upgrade = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ];
    let answer = client.request("GET", "/", &upgrade, b"").await;
    assert_eq!((answer.status, answer.text()), (200, "a"));
}

#[tokio::test]
async fn a_listener_of_one_version_does_not_speak_the_other() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let opening = [frames::PREFACE, &frames::frame(frames::SETTINGS, 0, 0, &[])].concat();
    for (speaks, said, other) in [("h2c", REQUEST, &b"HTTP/1.1 "[..]), ("http/1.1", &opening, &[0, 0])] {
        let config = format!(
            "[listeners.main]\naddress = \"127.0.0.1:0\"\nprotocols = [\"{speaks}\"]\n\
             [[routes]]\nrespond = {{ status = 200, body = \"a\" }}\n"
        );
        let proxy = Proxy::start(&config, &[]).await;
        let mut io = TcpStream::connect(proxy.address).await.unwrap();
        io.write_all(said).await.unwrap();
        let mut told = Vec::new();
        // A reset is an end as well.
        let _ = within("the end", io.read_to_end(&mut told)).await;
        assert!(!told.starts_with(other), "{speaks}: {told:?}");
        if speaks == "h2c" {
            assert_eq!(H2::connect(proxy.address).await.get("/").await.text(), "a");
        } else {
            assert_eq!(Client::connect(proxy.address).await.get("/").await.text(), "a");
        }
    }
}
