//! INTERFACE.md "Refusals" and "Methods", HTTP.md 12: what does not get past the proxy.

use super::support::client::Client;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await
}

/// Bytes on the wire, and the status that must come back without the origin hearing of it.
async fn refuses(proxy: &Proxy, origin: &mut Origin, bytes: &str, status: u16) {
    let mut client = proxy.client().await;
    client.try_send(bytes).await.unwrap();
    let answer = client.try_answer().await.unwrap_or_else(|e| panic!("{bytes:?}: {e}"));
    assert_eq!(answer.status, status, "{bytes:?}");
    origin.expect_idle().await;
}

/// The proxy still serves others.
async fn lives(proxy: &Proxy, origin: &mut Origin) {
    let mut client = proxy.client().await;
    client.ask("GET", "/alive", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.target, "/alive");
    exchange.respond(200, &[], "yes").await;
    assert_eq!(client.answer().await.text(), "yes");
}

#[tokio::test]
async fn a_host_that_is_missing_repeated_a_list_or_malformed_is_400() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    for hosts in [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a:port\r\n",
        "Host: \r\n",
    ] {
        refuses(&proxy, &mut origin, &format!("GET / HTTP/1.1\r\n{hosts}\r\n"), 400).await;
    }
    lives(&proxy, &mut origin).await;
}

#[tokio::test]
async fn a_transfer_coding_other_than_chunked_is_501() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    for codings in [
        "gzip, chunked",
        "gzip\r\nTransfer-Encoding: chunked",
        "identity, chunked",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {codings}\r\n\r\n0\r\n\r\n");
        refuses(&proxy, &mut origin, &request, 501).await;
    }
    lives(&proxy, &mut origin).await;
}

#[tokio::test]
async fn garbage_on_the_socket_is_400_and_the_proxy_lives() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    for garbage in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03garbage\r\n\r\n",
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    ] {
        refuses(&proxy, &mut origin, garbage, 400).await;
    }
    lives(&proxy, &mut origin).await;
}

#[tokio::test]
async fn both_framings_at_once_never_reach_the_node_as_received() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    // Whoever believes the Content-Length sees a second request inside the body.
    let smuggled = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
                    0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(smuggled).await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.target, "/first");
    assert!(exchange.body().await.is_empty());
    exchange.respond(200, &[], "").await;
    assert_eq!(client.answer().await.status, 200);
    client.closed().await;
    origin.expect_idle().await;
}

#[tokio::test]
async fn a_bad_chunk_size_breaks_the_request_and_not_the_proxy() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        .await;
    let answer = client.try_answer().await;
    assert!(answer.is_err() || answer.is_ok_and(|a| a.status == 400));
    drop(client);
    // The node may have seen the beginning; it must not see an end.
    if let Ok(mut exchange) = tokio::time::timeout(std::time::Duration::ZERO, origin.next_or_never()).await {
        assert!(exchange.try_body().await.is_err(), "a broken upload looked complete");
    }
    lives(&proxy, &mut origin).await;
}

#[tokio::test]
async fn an_absolute_target_is_forwarded_in_origin_form_with_its_own_host() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client
        .send("GET http://other.example/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        .await;
    // RFC 9112 s3.2.2: the target's authority wins.
    let exchange = origin.next().await;
    assert_eq!(
        (exchange.target.as_str(), exchange.header("host")),
        ("/a?b", Some("other.example"))
    );
    exchange.respond(200, &[], "").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_body_over_max_body_is_413_whether_announced_or_not() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\nmax_body = \"1KiB\"\n{}",
        one_route("")
    );
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    let answer = client.request("PUT", "/", &[], &[b'x'; 1025]).await;
    assert_eq!(answer.status, 413);
    origin.expect_idle().await;

    let mut client = proxy.client().await;
    client.ask("PUT", "/", &[("Transfer-Encoding", "chunked")], b"").await;
    client.send(format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000))).await;
    let mut exchange = origin.next().await;
    assert!(exchange.body_part().await.is_some());
    client
        .send(format!("{:x}\r\n{}\r\n0\r\n\r\n", 1000, "x".repeat(1000)))
        .await;
    assert_eq!(client.answer().await.status, 413);
    assert!(
        exchange.try_body().await.is_err(),
        "the node must not see a complete body"
    );

    let mut client = proxy.client().await;
    client.ask("PUT", "/", &[], &[b'x'; 1024]).await;
    origin.next().await.respond(201, &[], "").await;
    assert_eq!(client.answer().await.status, 201, "exactly max_body passes");
}

#[tokio::test]
async fn headers_over_the_limits_are_431() {
    let mut origin = Origin::start().await;
    let limits = "[listeners.main]\naddress = \"127.0.0.1:0\"\nmax_headers = 20\nmax_header_bytes = \"8KiB\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("")), &[("origin", &origin.url())]).await;
    let many: String = (0..30).map(|n| format!("X-{n}: 1\r\n")).collect();
    refuses(
        &proxy,
        &mut origin,
        &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        431,
    )
    .await;
    let large = "x".repeat(20_000);
    refuses(
        &proxy,
        &mut origin,
        &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {large}\r\n\r\n"),
        431,
    )
    .await;
    lives(&proxy, &mut origin).await;
}

/// hyper is not told of the number that it has anyway.
#[tokio::test]
async fn a_hundred_fields_pass_where_nothing_is_configured_and_one_more_is_431() {
    let mut origin = Origin::start().await;
    let proxy = Proxy::start(&one_route(""), &[("origin", &origin.url())]).await;
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    refuses(
        &proxy,
        &mut origin,
        &format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(100)),
        431,
    )
    .await;
    let mut client = proxy.client().await;
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(99)).as_bytes())
        .await;
    origin.next().await.respond(200, &[], "").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_connection_above_max_connections_is_closed_at_once_and_counted() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\nmax_connections = 2\n{}",
        one_route("")
    );
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        origin.next().await.respond(200, &[], "").await;
        assert_eq!(client.answer().await.status, 200);
        kept.push(client);
    }
    proxy.client().await.closed().await;
    origin.expect_idle().await;
    let text = proxy.admin_get("/metrics").await;
    let refused: Vec<&str> = text
        .text()
        .lines()
        .filter(|l| !l.starts_with('#') && l.contains("refused"))
        .collect();
    let counted = refused.iter().any(|l| l.contains("connections") && l.ends_with(" 1"));
    assert!(counted, "no connection counter says 1: {refused:?}");
    kept.pop();
    // Closing frees a place; the proxy learns of it by an event of its own.
    super::support::eventually("a place to be free", || async {
        let mut client = proxy.client().await;
        if client.try_send("GET /no HTTP/1.1\r\n\r\n").await.is_err() {
            return false;
        }
        client.try_answer().await.is_ok_and(|a| a.status == 400)
    })
    .await;
}

#[tokio::test]
async fn trace_is_405_connect_501_purge_405() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"").await;
    refuses(&proxy, &mut origin, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405).await;
    refuses(
        &proxy,
        &mut origin,
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        501,
    )
    .await;
    refuses(&proxy, &mut origin, "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", 405).await;
    lives(&proxy, &mut origin).await;
}

#[tokio::test]
async fn options_passes_uncached_and_an_unknown_method_passes_as_unsafe() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client.ask("OPTIONS", "/", &[], b"").await;
        let exchange = origin.next().await;
        assert_eq!(exchange.method, "OPTIONS");
        exchange.respond(200, &[("Cache-Control", "max-age=60")], "").await;
        assert_eq!(client.answer().await.status, 200);
    }
    client.ask("GET", "/", &[], b"").await;
    origin
        .next()
        .await
        .respond(200, &[("Cache-Control", "max-age=60")], "old")
        .await;
    assert_eq!(client.answer().await.text(), "old");
    assert!(client.get("/").await.is_hit());
    client.ask("FROB", "/", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.method, "FROB");
    exchange.respond(200, &[], "").await;
    assert_eq!(client.answer().await.status, 200);
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "new").await;
    assert_eq!(client.answer().await.text(), "new", "the unknown method invalidated");
}

#[tokio::test]
async fn an_upgrade_is_stripped_on_a_route_without_upgrade() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    client.ask("GET", "/", &upgrade, b"").await;
    let exchange = origin.next().await;
    assert!(!exchange.headers.has("upgrade"));
    exchange.respond(200, &[], "").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_or_body_is_let_go() {
    let mut origin = Origin::start().await;
    let limits = "[listeners.main]\naddress = \"127.0.0.1:0\"\nheader_timeout = \"200ms\"\nidle_timeout = \"200ms\"\nbody_timeout = \"200ms\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("")), &[("origin", &origin.url())]).await;
    let mut head = proxy.client().await;
    head.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    let answer = head.try_answer().await;
    assert!(answer.is_err() || answer.is_ok_and(|a| a.status == 408), "a slow head");

    let mut idle = proxy.client().await;
    idle.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "").await;
    assert_eq!(idle.answer().await.status, 200);
    idle.closed().await;

    let mut body = Client::connect(proxy.address).await;
    body.ask("PUT", "/", &[("Content-Length", "10")], b"abc").await;
    let mut exchange = origin.next().await;
    assert!(exchange.try_body().await.is_err(), "the upload breaks off");
    let answer = body.try_answer().await;
    assert!(
        answer.is_err() || answer.is_ok_and(|a| a.status == 408 || a.status == 400),
        "a slow body"
    );
}

#[tokio::test]
async fn query_is_safe_and_is_not_repeated_from_another_query_s_answer() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "document").await;
    assert_eq!(client.answer().await.text(), "document");
    for body in ["one", "two"] {
        client.ask("QUERY", "/", &[], body.as_bytes()).await;
        let mut exchange = origin.next().await;
        assert_eq!(exchange.method, "QUERY");
        assert_eq!(exchange.body().await, body.as_bytes());
        exchange.respond(200, &[("Cache-Control", "max-age=60")], body).await;
        assert_eq!(client.answer().await.text(), body);
    }
    assert!(client.get("/").await.is_hit(), "a safe method invalidates nothing");
}

#[tokio::test]
async fn a_target_that_normalisation_makes_too_long_is_414_and_nothing_reaches_the_origin() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    // Each brace becomes three bytes: 66,000 are more than a target can have.
    for method in ["PUT", "GET", "DELETE"] {
        let mut client = proxy.client().await;
        let target = format!("/{}", "{".repeat(22_000));
        let answer = client.request(method, &target, &[], b"").await;
        assert_eq!(answer.status, 414, "{method}");
        origin.expect_idle().await;
    }
    lives(&proxy, &mut origin).await;
}

#[tokio::test]
async fn targets_that_are_no_target_are_400_and_options_star_passes() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    for target in [
        "http://user@a/",
        "http://user:secret@a/",
        "http://a:port/",
        "http://a:123456/",
        "http://[::g]/",
        "a:443",
        "a.example",
        "*",
    ] {
        for method in ["GET", "PUT"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            refuses(&proxy, &mut origin, &request, 400).await;
        }
    }
    let mut client = proxy.client().await;
    client.ask("OPTIONS", "*", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!((exchange.method.as_str(), exchange.target.as_str()), ("OPTIONS", "*"));
    exchange.respond(200, &[("Allow", "GET")], "").await;
    assert_eq!(client.answer().await.header("allow"), Some("GET"));
}
