//! gRPC through, end to end: its messages are never waited for, its trailers reach the client, and what we say to a call ourselves is
//! said in its words.

use super::support::node2::{Node2, config, fields};
use super::support::proxy::Proxy;
use super::support::tls::{Authority, acceptor, connect, pair};
use super::support::{client::HOST, within};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

const OFF: &str = "consistency = \"off\"";
const METHOD: &str = "/shop.Orders/Watch";

/// A channel of gRPC.
struct Channel {
    send: SendRequest<Bytes>,
    scheme: &'static str,
}

impl Channel {
    async fn connect(proxy: &Proxy) -> Self {
        Self::over(TcpStream::connect(proxy.address).await.unwrap(), "http").await
    }

    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, scheme: &'static str) -> Self {
        let (send, connection) = within("a handshake", h2::client::handshake(io)).await.unwrap();
        tokio::spawn(connection);
        Self { send, scheme }
    }

    /// Begins a call.
    async fn call(&self, fields: &[(&str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("{}://{HOST}{METHOD}", self.scheme))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await.unwrap();
        send.send_request(request.body(()).unwrap(), false).unwrap()
    }

    async fn head(answer: ResponseFuture) -> Response<RecvStream> {
        within("an answer's head", answer).await.unwrap()
    }
}

/// A message with its prefix.
fn message(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

async fn piece(body: &mut RecvStream) -> Option<Bytes> {
    let piece = within("a message", body.data()).await?.unwrap();
    body.flow_control().release_capacity(piece.len()).unwrap();
    Some(piece)
}

async fn trailers(body: &mut RecvStream) -> HeaderMap {
    within("trailers", body.trailers()).await.unwrap().unwrap()
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];

#[tokio::test]
async fn a_call_goes_through_with_its_fields_and_its_status() {
    let mut node = Node2::start(100).await;
    // Whatever a route caches: a call is none of it.
    for route in [OFF, "consistency = \"weak\"\nttl = \"1h\"", "consistency = \"strong\""] {
        let proxy = node.proxied("", route).await;
        let channel = Channel::connect(&proxy).await;
        for _ in 0..2 {
            let (answer, mut send) = channel.call(&[("grpc-timeout", "20S"), ("x-meta-bin", "AAE")]).await;
            send.send_data(message("ask"), true).unwrap();
            let mut exchange = node.next().await;
            assert_eq!(exchange.target(), METHOD);
            for (name, value) in [
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-timeout", "20S"),
                ("x-meta-bin", "AAE"),
            ] {
                assert_eq!(exchange.header(name), Some(value), "{route}");
            }
            assert_eq!(exchange.rest().await.0, message("ask"));
            let head = [GRPC, &[("cache-control", "max-age=60"), ("content-location", METHOD)]].concat();
            let mut back = exchange.begin(200, &head, false);
            back.send_data(message("told"), false).unwrap();
            back.send_trailers(fields(&[("grpc-status", "0"), ("x-sum-bin", "AA")]))
                .unwrap();
            let answer = Channel::head(answer).await;
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            let mut body = answer.into_body();
            assert_eq!(piece(&mut body).await, Some(message("told")));
            assert_eq!(piece(&mut body).await, None);
            let trailers = trailers(&mut body).await;
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-sum-bin"]),
                (&"0".parse().unwrap(), &"AA".parse().unwrap())
            );
        }
    }
}

/// So many messages from the client, each seen by the node as it comes, and so many back, each seen by the client as it comes.
async fn converse(channel: &Channel, node: &mut Node2, sent: usize, told: usize) {
    let (answer, mut send) = channel.call(&[]).await;
    let mut exchange = node.next().await;
    for turn in 1..=sent {
        let asked = message(&format!("ask {turn}"));
        send.send_data(asked.clone(), turn == sent).unwrap();
        assert_eq!(exchange.piece().await, Some(asked));
    }
    assert_eq!(exchange.piece().await.filter(|piece| !piece.is_empty()), None);
    let mut back = exchange.begin(200, GRPC, false);
    let mut body = Channel::head(answer).await.into_body();
    for turn in 1..=told {
        let answered = message(&format!("tell {turn}"));
        back.send_data(answered.clone(), false).unwrap();
        assert_eq!(piece(&mut body).await, Some(answered));
    }
    back.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
    assert_eq!(piece(&mut body).await, None);
    assert_eq!(trailers(&mut body).await["grpc-status"], "0");
}

#[tokio::test]
async fn every_kind_of_call_goes_through_tls_on_both_sides() {
    let authority = Authority::new();
    let issued = authority.issue("n", &[HOST, "127.0.0.1"]);
    let mut node = Node2::behind(100, Some(acceptor(&issued, &["h2"]))).await;
    let believes = format!("tls = {{ ca = \"{}\" }}", authority.ca());
    let text = format!(
        "{}[listeners.main]\naddress = \"127.0.0.1:0\"\ntls = {{ {} }}\n",
        config(&[&node.url()], &believes, OFF),
        pair(&issued)
    );
    let proxy = Proxy::start(&text, &[]).await;
    let stream = connect(&authority.client(&["h2"], None), proxy.address, HOST).await;
    let channel = Channel::over(stream.unwrap(), "https").await;
    for (_kind, sent, told) in [
        ("unary", 1, 1),
        ("server streaming", 1, 3),
        ("client streaming", 3, 1),
        ("both ways", 3, 3),
    ] {
        converse(&channel, &mut node, sent, told).await;
    }
    // And an answer without a message.
    let (answer, mut send) = channel.call(&[]).await;
    send.send_data(message("ask"), true).unwrap();
    let mut exchange = node.next().await;
    exchange.begin(200, &[GRPC, &[("grpc-status", "7")]].concat(), true);
    let answer = Channel::head(answer).await;
    assert_eq!(answer.headers()["grpc-status"], "7");
    assert!(answer.body().is_end_stream(), "Trailers-Only");
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_told_so_and_given_up_at_the_node() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", "consistency = \"off\"\ntimeout = \"300ms\"").await;
    let channel = Channel::connect(&proxy).await;
    // The client's own time is its own to keep, and the node's: it only passes.
    let (answer, mut send) = channel.call(&[("grpc-timeout", "1m")]).await;
    send.send_data(message("ask"), true).unwrap();
    let mut exchange = node.next().await;
    assert_eq!(exchange.header("grpc-timeout"), Some("1m"));
    let answer = Channel::head(answer).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["grpc-status"]),
        (200, &"4".parse().unwrap())
    );
    assert!(answer.body().is_end_stream(), "Trailers-Only");
    assert_eq!(exchange.reset().await, h2::Reason::CANCEL);
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_off_does_not_end_well() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let channel = Channel::connect(&proxy).await;
    for how in ["the node gives up", "the node leaves"] {
        let (answer, mut send) = channel.call(&[]).await;
        send.send_data(message("ask"), true).unwrap();
        let mut exchange = node.next().await;
        let mut back = exchange.begin(200, GRPC, false);
        back.send_data(message("one"), false).unwrap();
        let mut body = Channel::head(answer).await.into_body();
        assert_eq!(piece(&mut body).await, Some(message("one")));
        match how {
            "the node leaves" => node.cut_connections(),
            _ => back.send_reset(h2::Reason::INTERNAL_ERROR),
        }
        let ended = within("the end", body.data()).await;
        let reason = ended.expect("no end that looks like one").unwrap_err().reason();
        assert!(
            reason.is_some_and(|reason| reason != h2::Reason::NO_ERROR),
            "{how}: {reason:?}"
        );
    }
    converse(&channel, &mut node, 1, 1).await;
}

#[tokio::test]
async fn what_may_have_been_done_is_not_said_to_be_worth_another_try() {
    let mut node = Node2::start(100).await;
    for route in [OFF, "consistency = \"strong\""] {
        let proxy = node.proxied("", route).await;
        let channel = Channel::connect(&proxy).await;
        let (answer, mut send) = channel.call(&[]).await;
        send.send_data(message("ask"), true).unwrap();
        let mut exchange = node.next().await;
        exchange.rest().await;
        exchange.reply.send_reset(h2::Reason::INTERNAL_ERROR);
        let answer = Channel::head(answer).await;
        assert_eq!(answer.headers()["grpc-status"], "2", "{route}");
        assert!(answer.body().is_end_stream(), "{route}: Trailers-Only");
    }
}

#[tokio::test]
async fn messages_beyond_max_body_exhaust_it() {
    let mut node = Node2::start(100).await;
    let text = format!(
        "{}[listeners.main]\naddress = \"127.0.0.1:0\"\nmax_body = \"1KiB\"\n",
        config(&[&node.url()], "", OFF)
    );
    let proxy = Proxy::start(&text, &[]).await;
    let channel = Channel::connect(&proxy).await;
    let (answer, mut send) = channel.call(&[]).await;
    let mut exchange = node.next().await;
    send.send_data(message(&"x".repeat(2000)), false).unwrap();
    let answer = Channel::head(answer).await;
    assert_eq!(answer.headers()["grpc-status"], "8");
    assert_eq!(exchange.reset().await, h2::Reason::CANCEL);
}

#[tokio::test]
async fn an_error_without_a_message_is_one_head() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let channel = Channel::connect(&proxy).await;
    let (answer, mut send) = channel.call(&[]).await;
    send.send_data(message("ask"), true).unwrap();
    let mut exchange = node.next().await;
    exchange.rest().await;
    let head = [GRPC, &[("grpc-status", "5"), ("grpc-message", "no such order")]].concat();
    exchange.begin(200, &head, true);
    let answer = Channel::head(answer).await;
    assert_eq!(answer.headers()["grpc-status"], "5");
    assert_eq!(answer.headers()["grpc-message"], "no such order");
    assert!(answer.body().is_end_stream(), "Trailers-Only");
}

#[tokio::test]
async fn both_sides_speak_in_turn_and_nobody_waits_for_more() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let channel = Channel::connect(&proxy).await;
    let (answer, mut send) = channel.call(&[]).await;
    let mut exchange = node.next().await;
    // The answer begins before anything of the request's body has been sent.
    let mut back = exchange.begin(200, GRPC, false);
    let mut body = Channel::head(answer).await.into_body();
    for turn in 0..50 {
        let (ping, pong) = (message(&format!("ping {turn}")), message(&format!("pong {turn}")));
        send.send_data(ping.clone(), false).unwrap();
        assert_eq!(exchange.piece().await, Some(ping));
        back.send_data(pong.clone(), false).unwrap();
        assert_eq!(piece(&mut body).await, Some(pong));
    }
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(exchange.piece().await.filter(|piece| !piece.is_empty()), None);
    back.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
    assert_eq!(piece(&mut body).await, None);
    assert_eq!(trailers(&mut body).await["grpc-status"], "0");
}

#[tokio::test]
async fn a_stream_in_either_direction_alone() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let channel = Channel::connect(&proxy).await;
    // The client's.
    let (answer, mut send) = channel.call(&[]).await;
    let mut exchange = node.next().await;
    for turn in 0..5 {
        let piece = message(&format!("{turn}"));
        send.send_data(piece.clone(), false).unwrap();
        assert_eq!(exchange.piece().await, Some(piece));
    }
    send.send_data(Bytes::new(), true).unwrap();
    exchange.rest().await;
    let mut back = exchange.begin(200, GRPC, false);
    back.send_data(message("5"), false).unwrap();
    back.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
    let mut body = Channel::head(answer).await.into_body();
    assert_eq!(piece(&mut body).await, Some(message("5")));
    // The node's; it does not wait for the client to ask for it all.
    let (answer, mut send) = channel.call(&[]).await;
    send.send_data(message("all"), true).unwrap();
    let mut exchange = node.next().await;
    exchange.rest().await;
    let mut back = exchange.begin(200, GRPC, false);
    let mut body = Channel::head(answer).await.into_body();
    for turn in 0..5 {
        let told = message(&format!("{turn}"));
        back.send_data(told.clone(), false).unwrap();
        assert_eq!(piece(&mut body).await, Some(told));
    }
    back.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
    assert_eq!(piece(&mut body).await, None);
    assert_eq!(trailers(&mut body).await["grpc-status"], "0");
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_the_answer() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let channel = Channel::connect(&proxy).await;
    let (answer, mut send) = channel.call(&[]).await;
    let mut exchange = node.next().await;
    let mut back = exchange.begin(200, GRPC, false);
    // More than all windows on the way take.
    back.send_data(vec![b'x'; 4 << 20].into(), false).unwrap();
    let _unread = Channel::head(answer).await;
    for turn in 0..20 {
        let piece = message(&format!("{turn}"));
        send.send_data(piece.clone(), false).unwrap();
        assert_eq!(exchange.piece().await, Some(piece));
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_given_up_at_the_node() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", OFF).await;
    let channel = Channel::connect(&proxy).await;
    for head_first in [false, true] {
        let (answer, mut send) = channel.call(&[]).await;
        send.send_data(message("ask"), false).unwrap();
        let mut exchange = node.next().await;
        assert_eq!(exchange.piece().await, Some(message("ask")));
        if head_first {
            let mut back = exchange.begin(200, GRPC, false);
            let body = Channel::head(answer).await.into_body();
            send.send_reset(h2::Reason::CANCEL);
            drop(body);
            let reset = within("a reset", std::future::poll_fn(|cx| back.poll_reset(cx))).await;
            assert_eq!(reset.unwrap(), h2::Reason::CANCEL);
        } else {
            send.send_reset(h2::Reason::CANCEL);
            drop(answer);
            assert_eq!(exchange.reset().await, h2::Reason::CANCEL);
        }
    }
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn what_we_say_to_a_call_is_said_in_its_words() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{closed}");
    for (name, more, status, words) in [
        ("unreachable", OFF, "14", "no connection to the node could be made"),
        (
            "a strong write that was not sent",
            "consistency = \"strong\"",
            "14",
            "the write was not sent to any node: nothing has changed",
        ),
        (
            "no route",
            "match = { path = \"/other\" }\nconsistency = \"off\"",
            "12",
            "no route takes this request",
        ),
    ] {
        let proxy = Proxy::start(&config(&[&url], "", more), &[]).await;
        let channel = Channel::connect(&proxy).await;
        let (answer, mut send) = channel.call(&[]).await;
        send.send_data(message("ask"), true).unwrap();
        let answer = Channel::head(answer).await;
        assert_eq!(answer.status(), 200, "{name}");
        assert_eq!(answer.headers()["content-type"], "application/grpc", "{name}");
        assert_eq!(answer.headers()["grpc-status"], status, "{name}");
        assert_eq!(answer.headers()["grpc-message"], words, "{name}");
        assert!(answer.body().is_end_stream(), "{name}: Trailers-Only");
        let refused = [("result", "refused"), ("code", "200")];
        proxy.until_metric("tidegate_requests_total", &refused, 1.0).await;
        let calls = ("content-type", "application/grpc");
        for (method, fields) in [
            ("GET", &[][..]),
            ("GET", &[calls]),
            ("PUT", &[calls]),
            ("POST", &[("content-type", "application/grpc-web+proto")]),
        ] {
            let other = proxy.request(method, METHOD, fields, "").await;
            assert!(
                other.status >= 400,
                "{name}: {method} {fields:?} is no call and gets a status"
            );
            assert_eq!(other.header("grpc-status"), None, "{name}: {method} {fields:?}");
        }
    }
}
