//! What passes through, and how: streaming with bounded memory, hop-by-hop hygiene, the fields the proxy adds.

use super::support::client::Client;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::within;

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await
}

#[tokio::test]
async fn an_upload_streams_while_the_client_still_sends() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client.ask("POST", "/", &[("Transfer-Encoding", "chunked")], b"").await;
    client.send("3\r\none\r\n").await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.body_part().await.unwrap().as_ref(), b"one");
    client.send("3\r\ntwo\r\n0\r\n\r\n").await;
    assert_eq!(exchange.body().await, b"two");
    exchange.respond(200, &[], "done").await;
    assert_eq!(client.answer().await.text(), "done");
}

#[tokio::test]
async fn rfc_9112_s2_3_the_version_of_an_answer_is_ours_and_not_the_node_s() {
    for (method, keys) in [
        ("GET", "consistency = \"off\""),
        ("GET", "consistency = \"weak\"\nttl = \"1m\""),
        ("PUT", "consistency = \"strong\""),
    ] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = proxy.client().await;
        for path in ["/a", "/b"] {
            client.ask(method, path, &[], b"").await;
            let mut exchange = origin.next().await;
            exchange.send("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na").await;
            let answer = client.answer().await;
            assert_eq!(answer.start, "HTTP/1.1 200 OK", "{method} {keys}");
            assert_eq!(answer.text(), "a", "the connection goes on");
        }
    }
}

#[tokio::test]
async fn an_answer_streams_while_the_origin_still_sends() {
    for keys in ["", "consistency = \"weak\"\nttl = \"1m\"", "consistency = \"strong\""] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let mut exchange = origin.next().await;
        exchange
            .head(200, &[("Transfer-Encoding", "chunked"), ("ETag", "\"1\"")])
            .await;
        exchange.chunk("one").await;
        assert_eq!(client.head().await.0, 200, "{keys}");
        assert_eq!(client.body_part().await.unwrap().as_ref(), b"one", "{keys}");
        exchange.chunk("two").await;
        exchange.last_chunk().await;
        assert_eq!(client.body_up_to(usize::MAX).await, b"two", "{keys}");
    }
}

const LARGE: usize = 100 * 1024 * 1024;
/// What sockets and one window of ours may hold between an origin that sends and a client that does not read.
const IN_TRANSIT: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_large_body_passes_whole_and_is_never_held() {
    for keys in ["", "consistency = \"weak\"\nttl = \"1m\"", "consistency = \"strong\""] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = Client::connect_with_small_window(proxy.address).await;
        client.ask("GET", "/large", &[], b"").await;
        let mut exchange = origin.next().await;
        let length = LARGE.to_string();
        exchange
            .head(200, &[("Content-Length", &length), ("ETag", "\"1\"")])
            .await;
        assert_eq!(client.head().await.0, 200);
        // The client does not read: soon nothing more can be sent.
        let piece = vec![b'x'; 1024 * 1024];
        let mut sent = 0;
        while let Ok(Ok(())) =
            tokio::time::timeout(std::time::Duration::from_millis(500), exchange.try_send(&piece)).await
        {
            sent += piece.len();
            assert!(
                sent < IN_TRANSIT,
                "{keys}: {sent} bytes were taken for a client that reads none"
            );
        }
        drop(exchange);
        drop(client);

        // And to one that reads, all of it comes.
        let mut client = proxy.client().await;
        client.ask("GET", "/larger", &[], b"").await;
        let mut exchange = origin.next().await;
        let sender = tokio::spawn(async move {
            exchange
                .head(200, &[("Content-Length", &length), ("ETag", "\"2\"")])
                .await;
            for _ in 0..LARGE / piece.len() {
                exchange.send(&piece).await;
            }
            exchange.keep();
        });
        assert_eq!(client.head().await.0, 200);
        let mut came = 0;
        while let Some(part) = client.body_part().await {
            came += part.len();
        }
        assert_eq!(came, LARGE, "{keys}");
        within("the origin to have sent all", sender).await.unwrap();
    }
}

#[tokio::test]
async fn a_large_upload_passes_whole_and_waits_for_a_slow_node() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\nmax_body = \"200MiB\"\n{}",
        one_route("")
    );
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    let length = LARGE.to_string();
    client.ask("PUT", "/", &[("Content-Length", &length)], b"").await;
    let piece = vec![b'x'; 1024 * 1024];
    let mut sent = 0;
    let mut exchange = origin.next().await;
    let sender = tokio::spawn(async move {
        while sent < LARGE {
            client.send(&piece).await;
            sent += piece.len();
        }
        client
    });
    let mut came = 0;
    while let Some(part) = exchange.body_part().await {
        came += part.len();
    }
    assert_eq!(came, LARGE);
    exchange.respond(200, &[], "all of it").await;
    let mut client = within("the client to have sent all", sender).await.unwrap();
    assert_eq!(client.answer().await.text(), "all of it");
}

#[tokio::test]
async fn hop_by_hop_fields_and_those_that_connection_names_go_no_further_either_way() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"\nttl = \"1m\"").await;
    let hop = [
        ("Connection", "X-Private, keep-alive"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "Basic eA=="),
        ("X-Public", "1"),
    ];
    let mut client = proxy.client().await;
    client.ask("GET", "/", &hop, b"").await;
    let exchange = origin.next().await;
    for name in ["x-private", "keep-alive", "proxy-connection", "proxy-authorization"] {
        assert!(!exchange.headers.has(name), "{name} reached the node");
    }
    assert_eq!(exchange.header("x-public"), Some("1"));
    let answer = [
        ("Connection", "X-Secret"),
        ("X-Secret", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("X-Shown", "1"),
    ];
    exchange.respond(200, &answer, "body").await;
    for which in ["fetched", "stored"] {
        let answer = if which == "fetched" {
            client.answer().await
        } else {
            client.get("/").await
        };
        for name in ["x-secret", "keep-alive"] {
            assert!(!answer.headers.has(name), "{name} reached the client ({which})");
        }
        assert_eq!(
            (answer.text(), answer.header("x-shown")),
            ("body", Some("1")),
            "{which}"
        );
    }
}

#[tokio::test]
async fn the_node_learns_who_asked_and_the_client_who_answered() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client
        .ask(
            "GET",
            "/",
            &[("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")],
            b"",
        )
        .await;
    let exchange = origin.next().await;
    assert!(
        exchange
            .header("via")
            .is_some_and(|v| v.starts_with("1.1 ") && v.contains("tidegate"))
    );
    assert_eq!(
        exchange.header("x-forwarded-for"),
        Some("127.0.0.1"),
        "nobody here is trusted"
    );
    assert_eq!(exchange.header("x-forwarded-proto"), Some("http"));
    assert_eq!(exchange.header("x-forwarded-host"), Some("shop.example"));
    let forwarded = exchange.header("forwarded").unwrap();
    for part in ["for=127.0.0.1", "proto=http", "host=shop.example"] {
        assert!(
            forwarded.to_lowercase().replace('"', "").contains(part),
            "{part} in {forwarded}"
        );
    }
    assert!(!forwarded.contains("6.6.6.6"));
    assert!(exchange.header("x-request-id").is_some_and(|id| id.len() >= 8));
    exchange.respond(200, &[("Via", "1.0 inner")], "").await;
    let answer = client.answer().await;
    let via = answer.headers.all("via").join(", ");
    assert!(via.starts_with("1.0 inner, 1.1 ") && via.contains("tidegate"), "{via}");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_continued() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n{}",
        one_route("")
    );
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    let told = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-Id", "from-the-edge"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    client.ask("GET", "/", &told, b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.header("x-forwarded-for"), Some("6.6.6.6, 127.0.0.1"));
    assert_eq!(exchange.header("x-forwarded-proto"), Some("https"));
    assert_eq!(exchange.header("x-request-id"), Some("from-the-edge"));
    assert_eq!(exchange.header("traceparent"), Some(told[3].1));
    exchange.respond(200, &[], "").await;
    client.answer().await;
}

#[tokio::test]
async fn the_host_sent_upstream_is_the_clients_the_nodes_or_a_fixed_one() {
    for (key, wanted) in [
        ("", "shop.example"),
        ("host = \"node\"", "{node}"),
        ("host = \"inner.example\"", "inner.example"),
    ] {
        let mut origin = Origin::start().await;
        let config = one_route("").replace("connect_timeout", &format!("{key}\nconnect_timeout"));
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let exchange = origin.next().await;
        let wanted = wanted.replace("{node}", &origin.address.to_string());
        assert_eq!(exchange.header("host"), Some(wanted.as_str()), "{key}");
        exchange.respond(200, &[], "").await;
        client.answer().await;
    }
}

#[tokio::test]
async fn a_route_sets_and_removes_fields() {
    let mut origin = Origin::start().await;
    let keys = "set_request_headers = { \"X-Env\" = \"prod\", \"X-Drop\" = \"\" }\n\
                set_response_headers = { \"X-Frame\" = \"deny\", \"Server\" = \"\" }";
    let proxy = before(&origin, keys).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[("X-Env", "test"), ("X-Drop", "1")], b"").await;
    let exchange = origin.next().await;
    assert_eq!(
        (exchange.header("x-env"), exchange.header("x-drop")),
        (Some("prod"), None)
    );
    exchange.respond(200, &[("Server", "secret/1.0")], "").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.header("x-frame"), answer.header("server")),
        (Some("deny"), None)
    );
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client
        .ask("PUT", "/", &[("Expect", "100-continue"), ("Content-Length", "5")], b"")
        .await;
    let mut exchange = origin.next().await;
    if exchange.headers.has("expect") {
        exchange.head(100, &[]).await;
    }
    let upload = tokio::spawn(async move {
        let body = exchange.body().await;
        exchange.respond(201, &[], "").await;
        body
    });
    let (status, _, interim) = {
        // The 100 comes alone; the body follows only then.
        let mut first = Vec::new();
        within("100 Continue", async {
            while !first.ends_with(b"\r\n\r\n") {
                first.extend_from_slice(&client.raw_part().await);
            }
        })
        .await;
        assert!(
            first.starts_with(b"HTTP/1.1 100"),
            "{:?}",
            String::from_utf8_lossy(&first)
        );
        client.send("hello").await;
        within("the answer", client.try_head()).await.unwrap()
    };
    assert_eq!((status, interim.len()), (201, 0));
    assert_eq!(upload.await.unwrap(), b"hello");
}

#[tokio::test]
async fn an_interim_answer_of_the_node_does_not_disturb_the_final_one() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"\nttl = \"1m\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange.head(103, &[("Link", "</style.css>; rel=preload")]).await;
    exchange.respond(200, &[], "final").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("link")),
        (200, "final", None)
    );
    let stored = client.get("/").await;
    assert!(stored.is_hit() && !stored.headers.has("link"));
}

#[tokio::test]
async fn head_is_forwarded_as_head_and_does_not_fill() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"\nttl = \"1m\"").await;
    let mut client = proxy.client().await;
    client.ask("HEAD", "/", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.method, "HEAD");
    exchange.respond(200, &[], "twelve bytes").await;
    let answer = client.answer().await;
    assert_eq!((answer.header("content-length"), answer.body.len()), (Some("12"), 0));
    client.ask("GET", "/", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.method, "GET", "the HEAD filled nothing");
    exchange.respond(200, &[], "twelve bytes").await;
    assert_eq!(client.answer().await.text(), "twelve bytes");
    let from_store = client.request("HEAD", "/", &[], b"").await;
    assert!(from_store.is_hit() && from_store.body.is_empty());
    assert_eq!(from_store.header("content-length"), Some("12"));
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_has_ended_reaches_the_client() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client
        .ask("PUT", "/", &[("Content-Length", "1000000")], &[b'x'; 1000])
        .await;
    let mut exchange = origin.next().await;
    exchange
        .head(413, &[("Content-Length", "4"), ("Connection", "close")])
        .await;
    exchange.send("full").await;
    let (status, _) = client.head().await;
    assert_eq!(status, 413);
    assert_eq!(client.body_up_to(4).await, b"full");
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_passes_whole() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange.head(200, &[("Connection", "close")]).await;
    exchange.send("until the end").await;
    exchange.close();
    assert_eq!(client.answer().await.text(), "until the end");
}

#[tokio::test]
async fn connections_upstream_are_kept_and_used_again() {
    let mut origin = Origin::start().await;
    let config = format!("[server]\nthreads = 1\n{}", one_route(""));
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    for _ in 0..5 {
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        origin.next().await.respond(200, &[], "x").await;
        assert_eq!(client.answer().await.text(), "x");
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn cache_status_names_what_passed() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    for (method, fwd) in [("GET", "bypass"), ("PUT", "method")] {
        client.ask(method, "/", &[], b"").await;
        origin.next().await.respond(200, &[], "").await;
        let answer = client.answer().await;
        assert!(
            answer.cache_status().starts_with("tidegate"),
            "{}",
            answer.cache_status()
        );
        assert_eq!(answer.fwd(), fwd, "{method}");
        assert!(!answer.headers.has("tidegate-consistency"));
    }
}

#[tokio::test]
async fn a_nodes_own_tidegate_consistency_never_reaches_a_client() {
    for level in ["off", "weak", "eventual", "strong"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, &format!("consistency = \"{level}\"")).await;
        let mut client = proxy.client().await;
        let claims = [
            ("Tidegate-Consistency", "claimed"),
            ("ETag", "\"1\""),
            ("Cache-Control", "max-age=60"),
        ];
        for (method, again) in [("GET", "fresh"), ("GET", "again"), ("HEAD", ""), ("PUT", "")] {
            client.ask(method, "/", &[], b"").await;
            // From memory where the level allows; else the node says it again, on a 304 too.
            let stored = matches!(level, "weak" | "eventual") && (again == "again" || method == "HEAD");
            if !stored {
                let exchange = origin.next().await;
                let status = if exchange.headers.has("if-none-match") {
                    304
                } else {
                    200
                };
                exchange.respond(status, &claims, "x").await;
            }
            let answer = client.answer().await;
            assert_eq!(answer.is_hit(), stored, "{level} {method}");
            let said = answer.headers.all("tidegate-consistency").join(", ");
            assert!(!said.contains("claimed"), "{level} {method}: {said}");
        }
    }
}
