//! TLS to nodes: nothing is sent to one that has not proven its name.

use super::reload::Reloading;
use super::support::origin::{HEALTH, Origin};
use super::support::proxy::{Proxy, config_file, run_to_end};
use super::support::tls::{Authority, Terminator, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn config(url: &str, tls: &str) -> String {
    format!(
        "[upstreams.o]\nnodes = [{{ url = \"{url}\", name = \"n\" }}]\n{tls}\n[[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"off\"\n"
    )
}

fn believes(authority: &Authority, more: &str) -> String {
    format!("tls = {{ ca = \"{}\"{more} }}", authority.ca())
}

#[tokio::test]
async fn a_request_reaches_a_node_that_proves_its_name() {
    let authority = Authority::new();
    let mut origin = Origin::start().await;
    let node = Terminator::start(origin.address, &authority.issue("n", &["127.0.0.1"]), None).await;
    let proxy = Proxy::start(&config(&node.url(), &believes(&authority, "")), &[]).await;
    let mut client = proxy.client().await;
    for number in 0..3 {
        client.ask("GET", &format!("/{number}"), &[], b"").await;
        let exchange = origin.next().await;
        assert_eq!(exchange.target, format!("/{number}"));
        exchange.respond(200, &[], "secret").await;
        assert_eq!(client.answer().await.text(), "secret");
    }
    assert_eq!(origin.accepted(), 1, "the connection is kept");
}

#[tokio::test]
async fn a_node_that_proves_nothing_gets_nothing_of_a_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut origin = Origin::start().await;
    let by_stranger = stranger.issue("n", &["127.0.0.1"]);
    let other_name = authority.issue("m", &["orders.example"]);
    let named = ", server_name = \"orders.example\"";
    let other = ", server_name = \"bills.example\"";
    for (name, issued, tls, reaches) in [
        (
            "another authority's word",
            &by_stranger,
            believes(&authority, ""),
            false,
        ),
        ("another name", &other_name, believes(&authority, ""), false),
        (
            "the name that was asked for",
            &other_name,
            believes(&authority, named),
            true,
        ),
        (
            "not the name that was asked for",
            &other_name,
            believes(&authority, other),
            false,
        ),
        (
            "an authority that the machine does not know",
            &by_stranger,
            String::new(),
            false,
        ),
    ] {
        let node = Terminator::start(origin.address, issued, None).await;
        let proxy = Proxy::start(&config(&node.url(), &tls), &[]).await;
        let mut client = proxy.client().await;
        client.ask("PUT", "/secret", &[], b"secret").await;
        if reaches {
            origin.next().await.respond(204, &[], "").await;
            assert_eq!(client.answer().await.status, 204, "{name}");
        } else {
            let answer = client.answer().await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (503, "unreachable"),
                "{name}"
            );
            let told = answer.header("proxy-status");
            assert_eq!(told, Some("tidegate; error=tls_certificate_error"), "{name}");
        }
    }
    origin.expect_idle().await;
}

#[tokio::test]
async fn a_node_that_speaks_no_tls_is_told_from_one_that_is_not_there() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", node.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut io, _)) = node.accept().await {
            io.read_u8().await.unwrap();
            io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    let proxy = Proxy::start(&config(&url, &believes(&Authority::new(), "")), &[]).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unreachable"));
    assert_eq!(
        answer.header("proxy-status"),
        Some("tidegate; error=tls_protocol_error")
    );
}

#[tokio::test]
async fn a_node_that_asks_who_we_are_is_shown_our_certificate() {
    let authority = Authority::new();
    let mut origin = Origin::start().await;
    let (server, me) = (authority.issue("n", &["127.0.0.1"]), authority.issue("me", &["me"]));
    let node = Terminator::start(origin.address, &server, Some(&authority)).await;
    let identity = format!(", certificate = \"{}\", key = \"{}\"", me.certificate, me.key);
    let proxy = Proxy::start(&config(&node.url(), &believes(&authority, &identity)), &[]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "").await;
    assert_eq!(client.answer().await.status, 200);
    let nobody = Proxy::start(&config(&node.url(), &believes(&authority, "")), &[]).await;
    assert_eq!(
        nobody.get("/").await.status,
        502,
        "in TLS 1.3 the refusal comes with the first read"
    );
}

#[tokio::test]
async fn a_node_that_has_no_certificate_for_the_name_is_told_from_one_that_does_not_like_ours() {
    let authority = Authority::new();
    let by_name = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\ntls.certificates = [{{ {} }}]\n[[routes]]\nrespond = {{ body = \"here\" }}\n",
        pair(&authority.issue("n", &["orders.example"]))
    );
    let node = Proxy::start(&by_name, &[]).await;
    let url = format!("https://{}", node.address);
    let asks = |more: &str| config(&url, &believes(&authority, more));
    let named = Proxy::start(&asks(", server_name = \"orders.example\""), &[]).await;
    assert_eq!(named.get("/").await.text(), "here");
    let proxy = Proxy::start(&asks(", server_name = \"other.example\""), &[]).await;
    assert_eq!(proxy.get("/").await.problem(), "unreachable");
    let status = proxy.status().await;
    let why = status["upstreams"][0]["nodes"][0]["connect_error"].as_str().unwrap();
    assert!(
        why.contains("no certificate for the name") && why.contains("tls.server_name"),
        "{why}"
    );
}

#[tokio::test]
async fn a_reload_that_believes_another_authority_uses_no_connection_of_the_former() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut origin = Origin::start().await;
    let node = Terminator::start(origin.address, &authority.issue("n", &["127.0.0.1"]), None).await;
    let reloading = Reloading::start(&config(&node.url(), &believes(&authority, ""))).await;
    let mut client = reloading.proxy.client().await;
    for _ in 0..2 {
        client.ask("GET", "/", &[], b"").await;
        origin.next().await.respond(200, &[], "a").await;
        assert_eq!(client.answer().await.text(), "a");
    }
    // What is not of TLS changes: idle connections go on.
    let slower = format!("{}\nresponse_timeout = \"9s\"", believes(&authority, ""));
    reloading.reload(&config(&node.url(), &slower)).await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "a").await;
    assert_eq!(client.answer().await.text(), "a");
    assert_eq!(origin.accepted(), 1);
    reloading.reload(&config(&node.url(), &believes(&other, ""))).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unreachable"));
    let status = reloading.proxy.status().await;
    let why = status["upstreams"][0]["nodes"][0]["connect_error"].as_str().unwrap();
    assert!(why.contains("not by an authority that is believed here"), "{why}");
    reloading.reload(&config(&node.url(), &believes(&authority, ""))).await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "a").await;
    assert_eq!(client.answer().await.text(), "a");
    let status = reloading.proxy.status().await;
    assert!(status["upstreams"][0]["nodes"][0]["connect_error"].is_null());
}

#[tokio::test]
async fn probes_go_the_way_of_requests() {
    let authority = Authority::new();
    let origin = Origin::start().await;
    let node = Terminator::start(origin.address, &authority.issue("n", &["127.0.0.1"]), None).await;
    let check = format!("[upstreams.o.health_check]\npath = \"{HEALTH}\"\ninterval = \"20ms\"\n");
    let text = config(&node.url(), &believes(&authority, "")).replace("[[routes]]", &format!("{check}[[routes]]"));
    let proxy = Proxy::start(&text, &[]).await;
    proxy.until_state("o", "n", "active").await;
    assert!(origin.probes() > 0);
    let doubtful = Authority::new();
    let text = config(&node.url(), &believes(&doubtful, "")).replace("[[routes]]", &format!("{check}[[routes]]"));
    let proxy = Proxy::start(&text, &[]).await;
    proxy.until_state("o", "n", "unhealthy").await;
}

#[tokio::test]
async fn check_says_where_nothing_would_be_encrypted() {
    let authority = Authority::new();
    let tls = believes(&authority, "");
    let mixed = config(
        "https://127.0.0.1:1\", name = \"a\" }, { url = \"http://127.0.0.1:2",
        &tls,
    );
    for (name, text, expected) in [
        (
            "tls without https",
            config("http://127.0.0.1:1", &tls),
            "upstreams.o.tls: no node has an https:// url",
        ),
        (
            "both",
            mixed,
            "upstreams.o.nodes: some urls are https:// and others are not",
        ),
    ] {
        let (_folder, file) = config_file(&text, &[]);
        let told = run_to_end(&["check", "-c", &file]).await;
        assert_eq!(told.code, Some(78), "{name}");
        assert!(told.stderr.contains(expected), "{name}: {}", told.stderr);
    }
}
