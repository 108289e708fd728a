//! HTTP.md 10 over HTTP/2: interim heads of nodes reach the client of the stream they belong to, and nobody else; a client that waits to be
//! asked for its content is asked.

use super::interim::{HINT_AND_MORE, LINK};
use super::support::client::HOST;
use super::support::node2::Node2;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::within;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use std::future::poll_fn;
use tokio::net::TcpStream;

/// A connection whose client sees interim heads as they come.
struct Seeing(SendRequest<Bytes>);

impl Seeing {
    async fn connect(to: &Proxy) -> Self {
        let io = TcpStream::connect(to.address).await.unwrap();
        let (send, connection) = within("a handshake", h2::client::handshake(io)).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Without content: `is_all`.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        is_all: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::builder().method(method).uri(format!("http://{HOST}{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.0.send_request(request.body(()).unwrap(), is_all).unwrap()
    }

    fn get(&mut self, path: &str) -> ResponseFuture {
        self.ask("GET", path, &[], true).0
    }
}

/// The next interim head; none when the answer has come.
async fn interim(answer: &mut ResponseFuture) -> Option<Response<()>> {
    let head = within("a head", poll_fn(|cx| answer.poll_informational(cx))).await;
    head.map(Result::unwrap)
}

/// All that come before the answer, and the answer.
async fn heads(mut answer: ResponseFuture) -> (Vec<Response<()>>, Response<RecvStream>) {
    let mut before = Vec::new();
    while let Some(head) = interim(&mut answer).await {
        before.push(head);
    }
    (before, within("an answer's head", answer).await.unwrap())
}

async fn text(answer: Response<RecvStream>) -> String {
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while let Some(part) = within("a body", body.data()).await {
        bytes.extend(part.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_103_reaches_the_client_before_its_answer_and_is_not_stored() {
    for keys in [
        "",
        "consistency = \"weak\"\nttl = \"1h\"",
        "consistency = \"eventual\"\nttl = \"1h\"",
        "consistency = \"strong\"",
    ] {
        let mut origin = Origin::start().await;
        let proxy = Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await;
        let mut client = Seeing::connect(&proxy).await;
        let mut answer = client.get("/");
        let mut exchange = origin.next().await;
        exchange.head(103, &HINT_AND_MORE).await;
        // It comes while the answer is not there yet, without what belongs to the node's connection (RFC 9113 s8.2.2).
        let hints = interim(&mut answer).await.unwrap();
        assert_eq!(hints.status(), 103, "{keys}");
        let fields: Vec<_> = hints.headers().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(fields, ["link", "via"], "{keys}");
        exchange.head(102, &[]).await;
        exchange.respond(200, &[("ETag", "\"1\"")], "whole").await;
        let (more, answer) = heads(answer).await;
        assert_eq!(more.len(), 1, "{keys}");
        assert_eq!(
            (more[0].status().as_u16(), answer.status().as_u16()),
            (102, 200),
            "{keys}"
        );
        assert!(!answer.headers().contains_key("link"), "{keys}");
        assert_eq!(text(answer).await, "whole", "{keys}");
        if keys.contains("ttl") {
            let (none, hit) = heads(client.get("/")).await;
            assert!(none.is_empty() && !hit.headers().contains_key("link"), "{keys}");
            assert_eq!(text(hit).await, "whole", "{keys}");
        }
    }
}

#[tokio::test]
async fn streams_side_by_side_get_each_its_own() {
    let mut origin = Origin::start().await;
    let proxy = Proxy::start(&one_route(""), &[("origin", &origin.url())]).await;
    let mut client = Seeing::connect(&proxy).await;
    let (mut answers, mut exchanges) = (Vec::new(), Vec::new());
    for path in ["/0", "/1", "/2"] {
        answers.push(client.get(path));
        exchanges.push(origin.next().await);
    }
    for (exchange, n) in exchanges.iter_mut().zip(0..3).rev() {
        exchange.head(103, &[("Link", &format!("<{n}>"))]).await;
    }
    for (exchange, n) in exchanges.into_iter().zip(0..) {
        exchange.respond(200, &[], format!("body {n}")).await;
    }
    for (answer, n) in answers.into_iter().zip(0..) {
        let (before, answer) = heads(answer).await;
        assert_eq!(before.len(), 1, "{n}");
        assert_eq!(before[0].headers()["link"], format!("<{n}>"));
        assert_eq!(text(answer).await, format!("body {n}"));
    }
}

#[tokio::test]
async fn from_a_node_of_http_2_they_come_as_well() {
    let mut node = Node2::start(100).await;
    let proxy = node.proxied("", "consistency = \"off\"").await;
    let mut client = Seeing::connect(&proxy).await;
    let answer = client.get("/");
    let mut exchange = node.next().await;
    let hints = Response::builder().status(103).header("link", "<a>").body(()).unwrap();
    exchange.reply.send_informational(hints).unwrap();
    exchange.respond(200, &[], "whole");
    let (before, answer) = heads(answer).await;
    assert_eq!((before.len(), answer.status().as_u16()), (1, 200));
    assert_eq!(before[0].headers()["link"], "<a>");
    for head in [before[0].headers(), answer.headers()] {
        assert_eq!(head["via"], "2.0 tidegate", "RFC 9110 s7.6.3: as it came");
    }
}

#[tokio::test]
async fn rfc9110_s10_1_1_a_client_that_waits_is_asked_for_its_content_and_only_by_us() {
    for (method, keys) in [
        ("PUT", "consistency = \"strong\""),
        ("QUERY", "consistency = \"weak\"\nttl = \"1h\""),
        ("POST", "consistency = \"off\""),
    ] {
        let mut origin = Origin::start().await;
        let proxy = Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await;
        let mut client = Seeing::connect(&proxy).await;
        let fields = [("expect", "100-continue"), ("content-type", "text/plain")];
        let (mut answer, mut send) = client.ask(method, "/", &fields, false);
        // It sends nothing before.
        let asked = interim(&mut answer).await.unwrap();
        assert_eq!((asked.status().as_u16(), asked.headers().len()), (100, 0), "{method}");
        send.send_data("value".into(), true).unwrap();
        let mut exchange = origin.next().await;
        assert_eq!(exchange.body().await, b"value", "{method}");
        exchange.head(100, &[("X-Of", "the node")]).await;
        exchange.head(103, &[LINK]).await;
        exchange.respond(200, &[], "whole").await;
        let (before, answer) = heads(answer).await;
        let before: Vec<_> = before.iter().map(|head| head.status().as_u16()).collect();
        assert_eq!((before, answer.status().as_u16()), (vec![103], 200), "{method}");
    }
}

#[tokio::test]
async fn rfc9110_s10_1_1_who_is_refused_by_its_head_is_not_asked() {
    let mut origin = Origin::start().await;
    let config = "[listeners.main]\naddress = \"127.0.0.1:0\"\nmax_body = \"8B\"\n".to_owned()
        + &one_route("consistency = \"strong\"");
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = Seeing::connect(&proxy).await;
    let fields = [("expect", "100-continue"), ("content-length", "9")];
    let (answer, _send) = client.ask("PUT", "/", &fields, false);
    let (before, answer) = heads(answer).await;
    assert_eq!((before.len(), answer.status().as_u16()), (0, 413));
    origin.expect_idle().await;
}
