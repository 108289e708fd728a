//! TLS towards clients: names, protocols, client certificates, resumption, and certificates that are renewed while it runs.

use super::reload::Reloading;
use super::support::client::{Client, HOST};
use super::support::h2::H2;
use super::support::proxy::{Proxy, config_file, run_to_end};
use super::support::tls::{Authority, Talk, connect, pair, shown};
use super::support::{eventually, within};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HELLO: &str = "[[routes]]\nrespond = { status = 200, body = \"hello\" }\n";

fn listener(tls: &str) -> String {
    format!("[listeners.main]\naddress = \"127.0.0.1:0\"\ntls = {{ {tls} }}\n{HELLO}")
}

#[tokio::test]
async fn a_client_gets_the_protocol_it_asks_for() {
    let authority = Authority::new();
    let proxy = Proxy::start(&listener(&pair(&authority.issue("a", &[HOST]))), &[]).await;
    for (offers, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = connect(&authority.client(offers, None), proxy.address, HOST)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
        let text = if chosen == Some(b"h2") {
            H2::over(stream).await.get("/").await.text().to_owned()
        } else {
            Talk::over(stream).get("/").await.body
        };
        assert_eq!(text, "hello", "{offers:?}");
    }
    let stranger = connect(&authority.client(&["spdy/3"], None), proxy.address, HOST).await;
    let told = stranger.unwrap_err().to_string();
    assert!(told.contains("NoApplicationProtocol"), "RFC 7301 s3.2: {told}");
    for labels in [
        "result=\"ok\",version=\"1.3\",alpn=\"h2\",resumed=\"false\"",
        "result=\"ok\",version=\"1.3\",alpn=\"http/1.1\",resumed=\"false\"",
        "result=\"ok\",version=\"1.3\",alpn=\"none\",resumed=\"false\"",
        "result=\"no-application-protocol\",version=\"\",alpn=\"\",resumed=\"false\"",
    ] {
        let sample = format!("tidegate_tls_handshakes_total{{listener=\"main\",{labels}}} 1\n");
        eventually(&sample, || async {
            proxy.admin_get("/metrics").await.text().contains(&sample)
        })
        .await;
    }
}

#[tokio::test]
async fn http_in_clear_on_a_port_with_tls_is_told_so() {
    let authority = Authority::new();
    let proxy = Proxy::start(&listener(&pair(&authority.issue("a", &[HOST]))), &[]).await;
    let answer = Client::connect(proxy.address).await.get("/secret").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(
        answer.text().contains("plain HTTP request was sent to HTTPS port"),
        "{}",
        answer.text()
    );
    let refused = [("result", "refused"), ("code", "400")];
    proxy.until_metric("tidegate_requests_total", &refused, 1.0).await;
    // What is neither is closed, with an alert that a client of TLS may understand.
    let mut garbage = TcpStream::connect(proxy.address).await.unwrap();
    garbage.write_all(&[0x80, 0, 1, 2, 3, 4, 5, 6]).await.unwrap();
    let mut told = Vec::new();
    let _ = within("the end", garbage.read_to_end(&mut told)).await;
    assert!(told.is_empty() || told[0] == 0x15, "{told:?}");
    for result in ["plain-http", "not-tls"] {
        let sample = format!(
            "tidegate_tls_handshakes_total{{listener=\"main\",result=\"{result}\",version=\"\",alpn=\"\",resumed=\"false\"}} 1\n"
        );
        eventually(&sample, || async {
            proxy.admin_get("/metrics").await.text().contains(&sample)
        })
        .await;
    }
}

#[tokio::test]
async fn a_listener_of_http_2_alone_speaks_it_to_who_says_nothing_of_alpn() {
    let authority = Authority::new();
    let file = listener(&pair(&authority.issue("a", &[HOST]))).replace("tls =", "protocols = [\"h2\"]\ntls =");
    let proxy = Proxy::start(&file, &[]).await;
    for offers in [&["h2"][..], &[]] {
        let stream = connect(&authority.client(offers, None), proxy.address, HOST).await;
        let answer = H2::over(stream.unwrap()).await.get("/").await;
        assert_eq!(answer.text(), "hello", "{offers:?}");
    }
    let stranger = connect(&authority.client(&["http/1.1"], None), proxy.address, HOST).await;
    let told = stranger.unwrap_err().to_string();
    assert!(told.contains("NoApplicationProtocol"), "RFC 7301 s3.2: {told}");
}

#[tokio::test]
async fn a_connection_that_is_closed_says_that_nothing_is_missing() {
    let authority = Authority::new();
    let file = listener(&pair(&authority.issue("a", &[HOST])));
    let proxy = Proxy::start(&file.replace("tls =", "idle_timeout = \"50ms\"\ntls ="), &[]).await;
    let stream = connect(&authority.client(&["http/1.1"], None), proxy.address, HOST)
        .await
        .unwrap();
    let mut talk = Talk::over(stream);
    assert_eq!(talk.get("/").await.body, "hello");
    let end = within("the end", talk.io.read(&mut [0; 16])).await;
    assert_eq!(end.expect("close_notify (RFC 8446 s6.1)"), 0);
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_an_unknown_one_none_but_the_default() {
    let authority = Authority::new();
    let (exact, wild) = (
        authority.issue("exact", &["a.example"]),
        authority.issue("wild", &["*.example.org", "b.example"]),
    );
    let others = format!("certificates = [{{ {} }}, {{ {} }}]", pair(&exact), pair(&wild));
    let client = authority.client(&[], None);
    let named = Proxy::start(&listener(&others), &[]).await;
    for (name, expected) in [
        ("a.example", Some("a.example")),
        ("A.EXAMPLE", Some("a.example")),
        ("b.example", Some("*.example.org")),
        ("x.example.org", Some("*.example.org")),
        ("x.y.example.org", None), // RFC 9525 s6.3: one label
        ("example.org", None),
        ("c.example", None),
    ] {
        let stream = connect(&client, named.address, name).await;
        let first = stream.ok().map(|stream| shown(&stream)[0].clone());
        assert_eq!(first.as_deref(), expected, "{name}");
    }
    let default = authority.issue("default", &["default.example", "127.0.0.1"]);
    let proxy = Proxy::start(&listener(&format!("{}, {others}", pair(&default))), &[]).await;
    let stream = connect(&client, proxy.address, "a.example").await.unwrap();
    assert_eq!(shown(&stream), ["a.example"]);
    // An address is no name to ask for.
    let stream = connect(&client, proxy.address, "127.0.0.1").await.unwrap();
    assert_eq!(shown(&stream), ["default.example"]);
}

#[tokio::test]
async fn sessions_are_resumed_but_never_past_a_look_at_a_client_certificate() {
    let authority = Authority::new();
    let server = authority.issue("a", &[HOST]);
    let me = authority.issue("me", &["me"]);
    let open = Proxy::start(&listener(&pair(&server)), &[]).await;
    let ca = format!("{}, client_ca = \"{}\"", pair(&server), authority.ca());
    let closed = Proxy::start(&listener(&ca), &[]).await;
    for (proxy, second) in [(&open, HandshakeKind::Resumed), (&closed, HandshakeKind::Full)] {
        let config = authority.client(&["http/1.1"], Some(&me));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = connect(&config, proxy.address, HOST).await.unwrap();
            let mut talk = Talk::over(stream);
            // The ticket comes with the answer.
            assert_eq!(talk.get("/").await.body, "hello");
            kinds.push(talk.io.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [HandshakeKind::Full, second]);
    }
}

#[tokio::test]
async fn without_a_certificate_of_the_authority_nobody_gets_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = format!(
        "{}, client_ca = \"{}\"",
        pair(&authority.issue("a", &[HOST])),
        authority.ca()
    );
    let proxy = Proxy::start(&listener(&tls), &[]).await;
    let foreign = stranger.issue("me", &["me"]);
    for identity in [None, Some(&foreign)] {
        let config = authority.client(&[], identity);
        // In TLS 1.3 the client is done first and hears of it when it reads.
        let heard = match connect(&config, proxy.address, HOST).await {
            Err(error) => Err(error),
            Ok(mut stream) => {
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                stream.read(&mut [0; 64]).await
            }
        };
        assert!(heard.is_err(), "{heard:?}");
    }
}

#[tokio::test]
async fn a_request_over_tls_is_https_to_the_node_and_the_cache() {
    use super::support::origin::Origin;
    let authority = Authority::new();
    let mut origin = Origin::start().await;
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\ntls = {{ {} }}\n[listeners.plain]\naddress = \"127.0.0.1:0\"\n{}",
        pair(&authority.issue("a", &[HOST])),
        super::support::proxy::one_route("consistency = \"weak\"\nttl = \"1h\"")
    );
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let stream = connect(&authority.client(&[], None), proxy.address, HOST)
        .await
        .unwrap();
    let mut client = Talk::over(stream);
    client.ask("/a").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.headers.get("x-forwarded-proto"), Some("https"));
    assert!(exchange.headers.get("forwarded").unwrap().contains("proto=https"));
    exchange.respond(200, &[], "secure").await;
    assert_eq!(client.answer().await.body, "secure");
    assert!(client.get("/a").await.head.contains("; hit"));
    // http://HOST/a is another resource's URL: the scheme is in the key.
    let mut plain = Client::connect(proxy.listener(1)).await;
    plain.ask("GET", "/a", &[], b"").await;
    origin.next().await.respond(200, &[], "plain").await;
    assert_eq!(plain.answer().await.text(), "plain");
}

#[tokio::test]
async fn a_reload_renews_certificates_and_drops_no_connection() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    let text = listener(&pair(&authority.issue("a", &[HOST, "old.example"])));
    let proxy = Proxy::start_from_file(&file, &text).await;
    let config = authority.client(&["http/1.1"], None);
    let stream = connect(&config, proxy.address, HOST).await.unwrap();
    assert_eq!(shown(&stream), [HOST, "old.example"]);
    let mut before = Talk::over(stream);
    assert_eq!(before.get("/").await.body, "hello");
    // The same paths with other content, as tools that renew certificates do.
    let renewed = authority.issue("a", &[HOST, "new.example"]);
    assert_eq!(proxy.admin_post("/reload", "").await.status, 200);
    let stream = connect(&authority.client(&["http/1.1"], None), proxy.address, HOST)
        .await
        .unwrap();
    assert_eq!(shown(&stream), [HOST, "new.example"]);
    assert_eq!(before.get("/").await.body, "hello", "what was open goes on");
    // Half renewed: the key of another certificate. Nothing changes.
    let _other = authority.issue("b", &[HOST]);
    std::fs::copy(renewed.key.replace("a.key", "b.key"), &renewed.key).unwrap();
    let answer = proxy.admin_post("/reload", "").await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("does not fit"), "{}", answer.text());
    let stream = connect(&authority.client(&["http/1.1"], None), proxy.address, HOST)
        .await
        .unwrap();
    assert_eq!(shown(&stream), [HOST, "new.example"]);
}

#[tokio::test]
async fn sessions_outlive_a_reload_and_never_the_certificate() {
    let authority = Authority::new();
    let text = listener(&pair(&authority.issue("a", &[HOST])));
    let at = Reloading::start(&text).await;
    let config = authority.client(&["http/1.1"], None);
    let handshake = async || {
        let stream = connect(&config, at.proxy.address, HOST).await.unwrap();
        let mut talk = Talk::over(stream);
        // The ticket comes with the answer.
        talk.get("/").await;
        talk.io.get_ref().1.handshake_kind().unwrap()
    };
    assert_eq!(handshake().await, HandshakeKind::Full);
    assert_eq!(handshake().await, HandshakeKind::Resumed);
    assert_eq!(at.reload(&text.replace("hello", "changed")).await, ["routes"]);
    assert_eq!(handshake().await, HandshakeKind::Resumed);
    // Whoever knew the old one is shown the new one at once.
    authority.issue("a", &[HOST, "new.example"]);
    assert_eq!(at.reload(&text).await, ["listeners.main", "routes"]);
    let stream = connect(&config, at.proxy.address, HOST).await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(shown(&stream), [HOST, "new.example"]);
    Talk::over(stream).get("/").await;
    assert_eq!(handshake().await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_or_has_not_come_is_shown_and_warned_of() {
    let authority = Authority::new();
    let good = authority.issue("good", &[HOST]);
    let old = authority.issue_for("old", &[HOST], 2019..2020);
    let early = authority.issue_for("early", &[HOST], 4000..4001);
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let chain = [read(&good.certificate), read(&old.certificate)].concat();
    std::fs::write(good.certificate.replace("good.pem", "chain.pem"), chain).unwrap();
    let chained = pair(&good).replace("good.pem", "chain.pem");
    let node = "\n[upstreams.o]\nnodes = [{ url = \"https://127.0.0.1:1\" }]\n";
    for (name, text, expected) in [
        ("it is valid", listener(&pair(&good)), None),
        (
            "its time is over",
            listener(&pair(&old)),
            Some(
                "listeners.main.tls.certificate: OLD expired on Wed, 01 Jan 2020 00:00:00 GMT: it is shown all the same, and clients refuse it; put",
            ),
        ),
        (
            "its time has not come",
            listener(&format!("certificates = [{{ {} }}]", pair(&early))),
            Some(
                "certificates[0].certificate: EARLY is not valid before Sat, 01 Jan 4000 00:00:00 GMT: it is shown all the same, and clients refuse it until then",
            ),
        ),
        (
            "of one that stands between it and its authority",
            listener(&chained),
            Some("listeners.main.tls.certificate: certificate 2 in CHAIN expired on Wed, 01 Jan 2020"),
        ),
        (
            "what nodes are shown",
            format!("{}{node}tls = {{ {} }}\n", listener(&pair(&good)), pair(&old)),
            Some(
                "upstreams.o.tls.certificate: OLD expired on Wed, 01 Jan 2020 00:00:00 GMT: it is shown all the same, and nodes refuse it",
            ),
        ),
    ] {
        let (_folder, file) = config_file(&text, &[]);
        let told = run_to_end(&["check", "-c", &file]).await;
        assert_eq!(told.code, Some(0), "{name}: {}", told.stderr);
        let stderr = told
            .stderr
            .replace(&old.certificate, "OLD")
            .replace(&early.certificate, "EARLY");
        let stderr = stderr.replace(&good.certificate.replace("good.pem", "chain.pem"), "CHAIN");
        match expected {
            Some(expected) => assert!(stderr.contains(expected), "{name}: {stderr}"),
            None => assert!(
                !stderr.contains("expired") && !stderr.contains("not valid"),
                "{name}: {stderr}"
            ),
        }
    }
    let both = format!("{}, certificates = [{{ {} }}]", pair(&early), pair(&old));
    let proxy = Proxy::start(&listener(&both), &[]).await;
    let expires = proxy.metric("tidegate_tls_certificate_expires_seconds", &[("listener", "main")]);
    assert_eq!(expires.await, 1_577_836_800.0, "the first of 2020");
    let refused = connect(&authority.client(&[], None), proxy.address, HOST)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("expired"),
        "by the client, which was shown it: {refused}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_an_error_of_the_file_with_its_place() {
    let authority = Authority::new();
    let (a, b) = (authority.issue("a", &["a"]), authority.issue("b", &["b"]));
    let (cert, key) = (a.certificate.as_str(), a.key.as_str());
    for (name, tls, expected) in [
        (
            "another's key",
            format!("certificate = \"{cert}\", key = \"{}\"", b.key),
            "tls.key: the key does not fit the certificate",
        ),
        (
            "a missing file",
            format!("certificate = \"/nowhere/c.pem\", key = \"{key}\""),
            "tls.certificate: cannot read /nowhere/c.pem",
        ),
        (
            "no key",
            format!("certificate = \"{cert}\""),
            "tls.certificate: needs its key",
        ),
        (
            "no certificate",
            format!("key = \"{key}\""),
            "tls.key: needs its certificate",
        ),
        (
            "mixed up",
            format!("certificate = \"{key}\", key = \"{cert}\""),
            "tls.certificate: holds no certificate",
        ),
        (
            "mixed up, the key",
            format!("certificate = \"{cert}\", key = \"{cert}\""),
            "tls.key: holds a certificate and no private key",
        ),
        ("nothing at all", String::new(), "tls: needs certificate and key"),
        (
            "no authority",
            format!("certificate = \"{cert}\", key = \"{key}\", client_ca = \"{key}\""),
            "tls.client_ca: holds no certificate",
        ),
    ] {
        let (_folder, file) = config_file(&listener(&tls), &[]);
        let told = run_to_end(&["check", "-c", &file]).await;
        assert_eq!(told.code, Some(78), "{name}");
        assert!(told.stderr.contains(expected), "{name}: {}", told.stderr);
    }
}
