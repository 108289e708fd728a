//! HTTP/2 to nodes (RFC 9113): the same contracts as over HTTP/1.1, by streams of few connections.

use super::reload::Reloading;
use super::support::client::{Client, HOST};
use super::support::frames::{ACK, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use super::support::h2::H2;
use super::support::node2::{Node2, Order, config, fields};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, config_file, run_to_end};
use super::support::tls::{Authority, acceptor};
use super::support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const OFF: &str = "consistency = \"off\"";

#[tokio::test]
async fn requests_go_by_streams_of_one_connection() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let (mut a, mut b) = (proxy.client().await, proxy.client().await);
    a.ask(
        "GET",
        "/a?q=1",
        &[("Connection", "x-hop"), ("X-Hop", "1"), ("Cookie", "c=1")],
        b"",
    )
    .await;
    let first = node.next().await;
    assert_eq!(first.target(), "/a?q=1");
    let uri = first.request.uri();
    assert_eq!(
        (uri.scheme_str(), uri.authority().unwrap().as_str()),
        (Some("http"), HOST)
    );
    assert_eq!(first.header("host"), None, "RFC 9113 s8.3.1: it is the authority");
    assert_eq!(first.header("x-hop"), None);
    assert_eq!(first.header("cookie"), Some("c=1"));
    assert_eq!(first.header("via"), Some("1.1 tidegate"));
    b.ask("PUT", "/b", &[], b"body").await;
    let mut second = node.next().await;
    assert_eq!(second.header("content-length"), Some("4"));
    assert_eq!(second.rest().await.0, b"body");
    second.respond(201, &[], "");
    assert_eq!(b.answer().await.status, 201, "the first one holds up nobody");
    first.respond(200, &[("x-a", "1")], "a");
    let answer = a.answer().await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("x-a")),
        (200, "a", Some("1"))
    );
    assert!(
        answer.header("via").unwrap().ends_with("2.0 tidegate"),
        "{:?}",
        answer.header("via")
    );
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn what_is_stored_came_by_a_stream_and_is_a_hit() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", "consistency = \"weak\"\nttl = \"1h\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    node.next()
        .await
        .respond(200, &[], "stored, although its length was not told");
    assert!(client.answer().await.text().starts_with("stored"));
    assert!(proxy.get("/a").await.is_hit());
    // A truncated answer is stored by nobody.
    client.ask("GET", "/b", &[], b"").await;
    let mut cut = node.next().await;
    let mut send = cut.begin(200, &[], false);
    send.send_data("part".into(), false).unwrap();
    let (status, _) = client.head().await;
    assert_eq!(status, 200);
    assert_eq!(client.body_up_to(4).await, b"part");
    send.send_reset(h2::Reason::NO_ERROR);
    assert!(
        client.try_body_part().await.is_err(),
        "without its end an answer is none"
    );
    let mut other = proxy.client().await;
    other.ask("GET", "/b", &[], b"").await;
    node.next().await.respond(200, &[], "whole");
    assert_eq!(other.answer().await.text(), "whole");
}

#[tokio::test]
async fn a_node_s_limit_of_streams_is_kept_and_a_full_connection_gets_company() {
    let mut node = Node2::start(2).await;
    let proxy = node.proxied("max_connections = 2\nmax_pending = 1", OFF).await;
    let mut clients = Vec::new();
    let mut held = Vec::new();
    for number in 0..4 {
        let mut client = proxy.client().await;
        client.ask("GET", &format!("/{number}"), &[], b"").await;
        held.push(node.next().await);
        clients.push(client);
    }
    let connections: Vec<usize> = held.iter().map(|exchange| exchange.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1]);
    // One may wait, the other is refused.
    let mut more = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut client = proxy.client().await;
        client.ask("GET", "/more", &[], b"").await;
        more.spawn(async move { client.answer().await });
    }
    let refused = within("a refusal", more.join_next()).await.unwrap().unwrap();
    assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"));
    assert!(!node.is_asked());
    for exchange in held {
        exchange.respond(200, &[], "done");
    }
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "done");
    }
    node.next().await.respond(200, &[], "waited");
    let waited = within("who waited", more.join_next()).await.unwrap().unwrap();
    assert_eq!(waited.text(), "waited");
    assert_eq!(node.accepted(), 2);
}

#[tokio::test]
async fn many_at_once_wait_for_one_connection_instead_of_opening_their_own() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = proxy.client().await;
        client.ask("GET", &format!("/{number}"), &[], b"").await;
        clients.push(client);
    }
    for _ in 0..20 {
        node.next().await.respond(200, &[], "");
    }
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn a_node_that_leaves_ends_what_it_has_and_gets_nothing_new() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/before", &[], b"").await;
    let before = node.next().await;
    before.orders.send(Order::Leave).unwrap();
    // The proxy has read GOAWAY by the time that it opens another connection.
    let after = async {
        loop {
            let mut client = proxy.client().await;
            client.ask("GET", "/after", &[], b"").await;
            let exchange = node.next().await;
            let connection = exchange.connection;
            exchange.respond(200, &[], "after");
            assert_eq!(client.answer().await.text(), "after");
            if connection == 1 {
                break;
            }
        }
    };
    within("a request on another connection", after).await;
    before.respond(200, &[], "before");
    assert_eq!(client.answer().await.text(), "before");
}

/// A listener for nodes that are played by hand, and a proxy before it with these keys.
async fn by_hand(upstream: &str, route: &str) -> (TcpListener, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let proxy = Proxy::start(&config(&[&url], upstream, route), &[]).await;
    (listener, proxy)
}

#[tokio::test]
async fn r20_a_write_that_the_node_never_looked_at_goes_out_again() {
    for (name, how) in [("GOAWAY below its stream", GOAWAY), ("REFUSED_STREAM", RST_STREAM)] {
        let (listener, proxy) = by_hand("", "consistency = \"strong\"").await;
        let mut client = proxy.client().await;
        client.ask("PUT", "/a", &[], b"").await;
        let mut node = Frames::accept(&listener).await;
        let asked = node.until(HEADERS).await;
        let mut again = if how == GOAWAY {
            node.goaway(0).await;
            Frames::accept(&listener).await
        } else {
            node.send(RST_STREAM, 0, asked.stream, &7_u32.to_be_bytes()).await;
            node
        };
        let stream = again.until(HEADERS).await.stream;
        again.ok(stream).await;
        assert_eq!(client.answer().await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn r20_a_write_that_the_node_may_have_looked_at_does_not() {
    for (name, how) in [
        ("GOAWAY at its stream, and the end", GOAWAY),
        ("a reset that says nothing", RST_STREAM),
        ("the end", 0),
    ] {
        let (listener, proxy) = by_hand("", "consistency = \"strong\"").await;
        let mut client = proxy.client().await;
        client.ask("PUT", "/a", &[], b"").await;
        let mut node = Frames::accept(&listener).await;
        let asked = node.until(HEADERS).await;
        match how {
            GOAWAY => node.goaway(asked.stream).await,
            RST_STREAM => node.send(RST_STREAM, 0, asked.stream, &2_u32.to_be_bytes()).await,
            _ => {}
        }
        let node = (how == RST_STREAM).then_some(node); // else the connection ends
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"), "{name}");
        drop(node);
        let again = tokio::time::timeout(std::time::Duration::from_millis(1), listener.accept()).await;
        assert!(again.is_err(), "{name}");
    }
}

#[tokio::test]
async fn r19_a_node_that_does_not_show_what_it_has_of_a_write_that_is_given_up_loses_the_connection() {
    for (name, route, asks) in [
        ("strong", "consistency = \"strong\"\ntimeout = \"200ms\"", true),
        ("off", "consistency = \"off\"\ntimeout = \"200ms\"", false),
    ] {
        let (listener, proxy) = by_hand("", route).await;
        let mut client = proxy.client().await;
        client.ask("PUT", "/a", &[], b"body").await;
        let mut node = Frames::accept(&listener).await;
        let stream = node.until(HEADERS).await.stream;
        // It is there: nobody has a doubt of that.
        node.send(103, 0, 0, b"a frame that nobody knows").await;
        assert_eq!(client.answer().await.status, 504, "{name}");
        let reset = node.until(RST_STREAM).await;
        assert_eq!(
            (reset.stream, reset.payload),
            (stream, 8_u32.to_be_bytes().to_vec()),
            "{name}"
        );
        let mut client = proxy.client().await;
        client.ask("GET", "/b", &[], b"").await;
        let asked = loop {
            let frame = node.next().await.unwrap();
            if frame.kind == PING && frame.flags == 0 {
                node.send(PING, 1, 0, &frame.payload).await;
                break true;
            }
            if frame.kind == HEADERS {
                node.ok(frame.stream).await;
                break false;
            }
        };
        assert_eq!(asked, asks, "{name}");
    }
}

#[tokio::test]
async fn a_node_s_max_in_flight_is_kept() {
    let mut node = Node2::start(100).await;
    let text =
        config(&[&node.url()], "max_pending = 1", OFF).replace("name = \"a\"", "name = \"a\", max_in_flight = 1");
    let proxy = Proxy::start(&text, &[]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/first", &[], b"").await;
    let first = node.next().await;
    // One may wait, the other is refused.
    let mut more = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut client = proxy.client().await;
        client.ask("GET", "/more", &[], b"").await;
        more.spawn(async move { client.answer().await });
    }
    let refused = within("a refusal", more.join_next()).await.unwrap().unwrap();
    assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"));
    assert!(!node.is_asked());
    first.respond(200, &[], "");
    node.next().await.respond(200, &[], "waited");
    let waited = within("who waited", more.join_next()).await.unwrap().unwrap();
    assert_eq!(waited.text(), "waited");
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_reset_and_the_connection_goes_on() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", "consistency = \"off\"\ntimeout = \"300ms\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    let mut late = node.next().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "timeout"));
    assert_eq!(late.reset().await, h2::Reason::CANCEL);
    client.ask("GET", "/b", &[], b"").await;
    node.next().await.respond(200, &[], "b");
    assert_eq!(client.answer().await.text(), "b");
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn rfc_9113_s6_5_2_a_node_that_lends_no_stream_for_now_is_waited_for_on_the_one_connection() {
    /// SETTINGS_MAX_CONCURRENT_STREAMS
    const fn at_most(streams: u8) -> [u8; 6] {
        [0, 3, 0, 0, 0, streams]
    }
    let (listener, proxy) = by_hand("", OFF).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut node = Frames::accept_with(&listener, &at_most(0)).await;
    // The proxy has read it, and whatever else it would do it does by now.
    node.until(SETTINGS).await;
    while node.until(SETTINGS).await.flags & ACK == 0 {}
    node.send(SETTINGS, 0, 0, &at_most(10)).await;
    let stream = node.until(HEADERS).await.stream;
    node.ok(stream).await;
    assert_eq!(client.answer().await.status, 200);
    let another = tokio::time::timeout(std::time::Duration::from_millis(1), listener.accept()).await;
    assert!(another.is_err(), "another connection");
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_and_no_other() {
    let (listener, proxy) = by_hand("", OFF).await;
    let (mut leaves, mut stays) = (proxy.client().await, proxy.client().await);
    leaves.ask("GET", "/leaves", &[], b"").await;
    let mut node = Frames::accept(&listener).await;
    let first = node.until(HEADERS).await.stream;
    stays.ask("GET", "/stays", &[], b"").await;
    let second = node.until(HEADERS).await.stream;
    leaves.abort();
    let reset = node.until(RST_STREAM).await;
    assert_eq!(
        (reset.stream, reset.payload),
        (first, 8_u32.to_be_bytes().to_vec()),
        "CANCEL"
    );
    node.ok(second).await;
    assert_eq!(stays.answer().await.status, 200);
}

#[tokio::test]
async fn a_node_that_does_not_speak_it_gets_nothing_and_is_called_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let proxy = Proxy::start(&config(&[&url], "", OFF), &[]).await;
    let mut client = proxy.client().await;
    client.ask("POST", "/secret", &[], b"secret").await;
    let (mut io, _) = within("a connection", listener.accept()).await.unwrap();
    io.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    let _ = within("the end", io.read_to_end(&mut seen)).await;
    assert!(!String::from_utf8_lossy(&seen).contains("secret"), "{seen:?}");
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unreachable"));
    let status = proxy.status().await;
    let why = status["upstreams"][0]["nodes"][0]["connect_error"].as_str().unwrap();
    assert!(
        why.contains("does not speak HTTP/2") && why.contains("http = \"1.1\""),
        "{why}"
    );
}

#[tokio::test]
async fn over_tls_it_is_asked_for_by_alpn() {
    let authority = Authority::new();
    let issued = authority.issue("n", &["127.0.0.1"]);
    let mut node = Node2::behind(100, Some(acceptor(&issued, &["h2"]))).await;
    let tls = format!("tls = {{ ca = \"{}\" }}", authority.ca());
    let proxy = Proxy::start(&config(&[&node.url()], &tls, OFF), &[]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    let exchange = node.next().await;
    assert_eq!(exchange.request.uri().scheme_str(), Some("https"));
    exchange.respond(200, &[], "a");
    assert_eq!(client.answer().await.text(), "a");
    for offered in [&["http/1.1"][..], &[]] {
        let node = Node2::behind(100, Some(acceptor(&issued, offered))).await;
        let proxy = Proxy::start(&config(&[&node.url()], &tls, OFF), &[]).await;
        let answer = proxy.get("/a").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "unreachable"),
            "{offered:?}"
        );
        let status = proxy.status().await;
        let why = status["upstreams"][0]["nodes"][0]["connect_error"].as_str().unwrap();
        assert!(why.contains("ALPN"), "{why}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_before_its_request_does_is_whole() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let mut client = proxy.client().await;
    client
        .send(format!(
            "POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\npart"
        ))
        .await;
    let mut exchange = node.next().await;
    assert_eq!(exchange.piece().await.unwrap(), "part");
    exchange.respond(403, &[("content-length", "2")], "no"); // and a RST_STREAM with NO_ERROR, by the h2 crate
    client.expects_answer_to("POST");
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (403, "no"));
}

#[tokio::test]
async fn uploads_and_answers_wait_for_windows_and_come_whole() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("http2 = { window = \"64KiB\" }", OFF).await;
    let body = "0123456789abcdef".repeat(40_000);
    let mut client = proxy.client().await;
    let sent = body.clone();
    let asked = tokio::spawn(async move {
        client.ask("POST", "/a", &[], sent.as_bytes()).await;
        client
    });
    let mut exchange = node.next().await;
    assert_eq!(exchange.rest().await.0, body.as_bytes());
    let mut client = asked.await.unwrap();
    exchange.respond(200, &[], &body);
    assert_eq!(client.answer().await.text(), body);
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_else() {
    let mut node = Node2::start(100).await;
    let proxy = node
        .proxied("http2 = { window = \"64KiB\", max_streams = 100 }", OFF)
        .await;
    let mut slow = Vec::new();
    let mut sends = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect_with_small_window(proxy.address).await;
        client.ask("GET", "/slow", &[], b"").await;
        let mut exchange = node.next().await;
        let mut send = exchange.begin(200, &[], false);
        send.send_data(vec![b'x'; 16 << 20].into(), false).unwrap();
        sends.push((exchange, send));
        slow.push(client); // reads nothing
    }
    let mut quick = proxy.client().await;
    quick.ask("GET", "/quick", &[], b"").await;
    node.next().await.respond(200, &[], &"q".repeat(60_000));
    assert_eq!(quick.answer().await.text().len(), 60_000);
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn interim_heads_and_trailers_come_through() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/a", &[("TE", "trailers")], b"").await;
    let mut exchange = node.next().await;
    assert_eq!(exchange.header("te"), Some("trailers"));
    let hints = http::Response::builder()
        .status(103)
        .header("link", "</s.css>")
        .body(())
        .unwrap();
    exchange.reply.send_informational(hints).unwrap();
    let mut send = exchange.begin(200, &[("trailer", "x-sum")], false);
    send.send_data("data".into(), false).unwrap();
    send.send_trailers(fields(&[("x-sum", "4")])).unwrap();
    let (status, _, interim) = client.try_head().await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(interim.len(), 1, "103");
    let mut raw = Vec::new();
    while !String::from_utf8_lossy(&raw).contains("x-sum: 4") {
        raw.extend(client.raw_part().await);
    }
    // And to a client of HTTP/2.
    let h2 = H2::connect(proxy.address).await;
    let (answer, ()) = tokio::join!(h2.get("/b"), async {
        let mut exchange = node.next().await;
        let mut send = exchange.begin(200, &[], false);
        send.send_data("data".into(), false).unwrap();
        send.send_trailers(fields(&[("x-sum", "4")])).unwrap();
    });
    assert_eq!(answer.trailers.unwrap()["x-sum"], "4");
}

#[tokio::test]
async fn probes_speak_it_too() {
    let mut node = Node2::start(100).await;
    let check = "health_check = { path = \"/ready\", interval = \"20ms\" }";
    let starting = tokio::spawn({
        let text = config(&[&node.url()], check, OFF);
        async move { Proxy::start(&text, &[]).await }
    });
    let probe = node.next().await;
    assert_eq!(probe.target(), "/ready");
    assert_eq!(probe.header("user-agent"), Some("tidegate-probe"));
    probe.respond(200, &[], "");
    let proxy = starting.await.unwrap();
    proxy.until_state("o", "a", "active").await;
    loop {
        let probe = node.next().await;
        probe.respond(500, &[], "");
        if proxy.node_state("o", "a").await == "unhealthy" {
            break;
        }
    }
}

#[tokio::test]
async fn a_node_of_http_1_1_alone_is_reached_by_it() {
    let mut origin = Origin::start().await;
    let text = config(&[&origin.url()], "", OFF).replace("http = \"2\"", "http = \"1.1\"");
    let proxy = Proxy::start(&text, &[]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    origin.next().await.respond(200, &[], "a").await;
    assert_eq!(client.answer().await.text(), "a");
}

#[tokio::test]
async fn r31_a_reload_ends_what_is_under_way_on_its_connection_and_begins_anew_on_another() {
    let mut node = Node2::start(100).await;
    let reloading = Reloading::start(&config(&[&node.url()], "", OFF)).await;
    let mut client = reloading.proxy.client().await;
    client.ask("GET", "/before", &[], b"").await;
    let before = node.next().await;
    reloading
        .reload(&config(&[&node.url()], "http2 = { max_streams = 9 }", OFF))
        .await;
    let mut other = reloading.proxy.client().await;
    other.ask("GET", "/after", &[], b"").await;
    let after = node.next().await;
    assert_eq!((before.connection, after.connection), (0, 1));
    after.respond(200, &[], "after");
    assert_eq!(other.answer().await.text(), "after");
    before.respond(200, &[], "before");
    assert_eq!(client.answer().await.text(), "before");
    // To the other version and back.
    let text = config(&[&node.url()], "", OFF).replace("http = \"2\"", "http = \"1.1\"");
    reloading.reload(&text).await;
    assert_eq!(
        reloading.proxy.get("/").await.status,
        502,
        "the node speaks HTTP/2 alone"
    );
    reloading.reload(&config(&[&node.url()], "", OFF)).await;
    other.ask("GET", "/again", &[], b"").await;
    node.next().await.respond(200, &[], "again");
    assert_eq!(other.answer().await.text(), "again");
}

#[tokio::test]
async fn check_says_what_is_of_no_use() {
    for (name, upstream, expected) in [
        (
            "limits without it",
            "http = \"1.1\"\nhttp2 = { max_streams = 9 }",
            "upstreams.o.http2: has no effect",
        ),
        (
            "a window too small",
            "http = \"2\"\nhttp2 = { window = \"1KiB\" }",
            "upstreams.o.http2.window: must be between \"64KiB\" and \"2047MiB\"",
        ),
        ("another version", "http = \"3\"", "expected \"1.1\" or \"2\""),
    ] {
        let text = config(&["http://127.0.0.1:1"], upstream, OFF).replacen("http = \"2\"\nconnect", "connect", 1);
        let (_folder, file) = config_file(&text, &[]);
        let told = run_to_end(&["check", "-c", &file]).await;
        assert!(told.stderr.contains(expected), "{name}: {}", told.stderr);
    }
}
