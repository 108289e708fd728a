//! INTERFACE.md "Failures of the upstream", R11 and R20 as clients see them: what is said, and what is repeated.

use super::support::client::Answer;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Point, Register};

/// One attempt per request: the failure itself is under test.
const ONE_ATTEMPT: &str = "\n[upstreams.o.retry]\nattempts = 1\n";

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&(one_route(keys) + ONE_ATTEMPT), &[("origin", &origin.url())]).await
}

/// A loopback address where nobody listens.
fn nobody() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", socket.local_addr().unwrap())
}

fn is_problem(answer: &Answer, status: u16, problem: &str) {
    let shown = format!(
        "{} {:?} {}",
        answer.status,
        answer.headers,
        String::from_utf8_lossy(&answer.body)
    );
    assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{shown}");
    assert!(
        answer.header("proxy-status").is_some_and(|p| p.contains("tidegate")),
        "{shown}"
    );
    assert_eq!(
        answer.header("retry-after").is_some(),
        status == 503,
        "Retry-After on 503 only: {shown}"
    );
    assert!(
        !answer.headers.has("tidegate-consistency"),
        "a generated error promises nothing: {shown}"
    );
}

#[tokio::test]
async fn a_refused_connection_is_503_unreachable_for_reads_and_writes() {
    for level in ["off", "weak", "eventual"] {
        let proxy = Proxy::start(
            &one_route(&format!("consistency = \"{level}\"")),
            &[("origin", &nobody())],
        )
        .await;
        let read = proxy.get("/").await;
        is_problem(&read, 503, "unreachable");
        assert_eq!(read.header("retry-after"), Some("1"));
        assert_eq!(read.header("proxy-status"), Some("tidegate; error=connection_refused"));
        is_problem(&proxy.put("/", "x").await, 503, "unreachable");
    }
}

#[tokio::test]
async fn a_strong_read_that_cannot_ask_is_504_and_a_strong_write_not_sent_is_503_not_applied() {
    let proxy = Proxy::start(&one_route("consistency = \"strong\""), &[("origin", &nobody())]).await;
    is_problem(&proxy.get("/").await, 504, "unreachable");
    is_problem(&proxy.put("/", "x").await, 503, "not-applied");
    assert_eq!(
        proxy
            .metric("tidegate_writes_total", &[("outcome", "not-applied")])
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_504_timeout() {
    for level in ["off", "weak", "eventual"] {
        let mut origin = Origin::start().await;
        let config = one_route(&format!("consistency = \"{level}\""))
            .replace("connect_timeout", "response_timeout = \"200ms\"\nconnect_timeout");
        let proxy = Proxy::start(&(config + ONE_ATTEMPT), &[("origin", &origin.url())]).await;
        for method in ["GET", "PUT"] {
            let mut client = proxy.client().await;
            client.ask(method, "/", &[], b"").await;
            let mut exchange = origin.next().await;
            is_problem(&client.answer().await, 504, "timeout");
            exchange.gone().await;
        }
    }
}

#[tokio::test]
async fn the_route_s_timeout_bounds_the_whole_wait() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "timeout = \"200ms\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    is_problem(&client.answer().await, 504, "timeout");
    exchange.gone().await;
}

#[tokio::test]
async fn a_reset_is_502_bad_gateway() {
    for level in ["off", "weak", "eventual"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, &format!("consistency = \"{level}\"")).await;
        for method in ["GET", "PUT"] {
            let mut client = proxy.client().await;
            client.ask(method, "/", &[], b"").await;
            origin.next().await.reset();
            is_problem(&client.answer().await, 502, "bad-gateway");
        }
    }
}

#[tokio::test]
async fn a_node_that_answers_garbage_is_502_and_its_connection_is_not_used_again() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let mut exchange = origin.next().await;
        exchange.send(garbage).await;
        is_problem(&client.answer().await, 502, "bad-gateway");
        exchange.gone().await;
    }
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "fine").await;
    assert_eq!(client.answer().await.text(), "fine");
}

#[tokio::test]
async fn bytes_behind_an_answer_never_become_the_next_answer() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/1", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        .await;
    assert_eq!(client.answer().await.text(), "a");
    client.ask("GET", "/2", &[], b"").await;
    origin.next().await.respond(200, &[], "own").await;
    assert_eq!(client.answer().await.text(), "own");
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_complete() {
    for keys in ["", "consistency = \"weak\"\nttl = \"1m\"", "consistency = \"strong\""] {
        for framing in [("Content-Length", "100"), ("Transfer-Encoding", "chunked")] {
            let mut origin = Origin::start().await;
            let proxy = before(&origin, keys).await;
            let mut client = proxy.client().await;
            client.ask("GET", "/", &[], b"").await;
            let mut exchange = origin.next().await;
            exchange.head(200, &[framing, ("ETag", "\"1\"")]).await;
            if framing.1 == "chunked" {
                exchange.chunk("half").await;
            } else {
                exchange.send("half").await;
            }
            assert_eq!(client.head().await.0, 200);
            assert_eq!(client.body_up_to(4).await, b"half");
            exchange.close();
            assert!(client.try_body_part().await.is_err(), "{keys} {framing:?}");
            let mut again = proxy.client().await;
            again.ask("GET", "/", &[], b"").await;
            origin.next().await.respond(200, &[], "whole").await;
            assert_eq!(again.answer().await.text(), "whole", "half an answer was stored");
        }
    }
}

#[tokio::test]
async fn a_full_queue_is_503_overloaded() {
    let mut origin = Origin::start().await;
    let config = "[server]\nthreads = 1\n".to_owned()
        + &one_route("").replace(
            "connect_timeout",
            "max_connections = 1\nmax_pending = 1\nconnect_timeout",
        );
    let proxy = Proxy::start(&(config + ONE_ATTEMPT), &[("origin", &origin.url())]).await;
    let mut first = proxy.client().await;
    first.ask("GET", "/first", &[], b"").await;
    let held = origin.next().await;
    // One of the two waits, the other is refused; which of them is the scheduler's choice.
    let (mut a, mut b) = (proxy.client().await, proxy.client().await);
    a.ask("GET", "/a", &[], b"").await;
    b.ask("GET", "/b", &[], b"").await;
    let (refused, mut waits) = tokio::select! {
        answer = a.answer() => (answer, b),
        answer = b.answer() => (answer, a),
    };
    is_problem(&refused, 503, "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    held.respond(200, &[], "first").await;
    origin.next().await.respond(200, &[], "second").await;
    assert_eq!(waits.answer().await.text(), "second");
    assert_eq!(first.answer().await.text(), "first");
}

#[tokio::test]
async fn a_route_at_max_in_flight_sheds_at_once() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "max_in_flight = 1").await;
    let mut first = proxy.client().await;
    first.ask("GET", "/", &[], b"").await;
    let held = origin.next().await;
    is_problem(&proxy.get("/").await, 503, "overloaded");
    held.respond(200, &[], "").await;
    assert_eq!(first.answer().await.status, 200);
}

#[tokio::test]
async fn a_write_whose_client_has_left_keeps_its_place_in_flight() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "max_in_flight = 1").await;
    let mut first = proxy.client().await;
    first.ask("PUT", "/", &[], b"x").await;
    let held = origin.next().await;
    first.abort();
    eventually("the client to be gone", || async {
        proxy.metric("tidegate_connections", &[("listener", "main")]).await == 0.0
    })
    .await;
    is_problem(&proxy.put("/", "y").await, 503, "overloaded");
    held.respond(204, &[], "").await;
}

#[tokio::test]
async fn a_route_at_max_in_flight_still_serves_what_is_in_memory() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "max_in_flight = 1\nconsistency = \"weak\"\nttl = \"1h\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/stored", &[], b"").await;
    origin.next().await.respond(200, &[], "stored").await;
    assert_eq!(client.answer().await.text(), "stored");
    client.ask("GET", "/slow", &[], b"").await;
    let held = origin.next().await;
    is_problem(&proxy.get("/other").await, 503, "overloaded");
    let hit = proxy.get("/stored").await;
    assert!(hit.is_hit() && hit.text() == "stored", "{}", hit.cache_status());
    held.respond(200, &[], "slow").await;
    assert_eq!(client.answer().await.text(), "slow");
}

#[tokio::test]
async fn an_origins_own_error_passes_unchanged() {
    for level in ["off", "weak", "eventual", "strong"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, &format!("consistency = \"{level}\"")).await;
        for method in ["GET", "PUT"] {
            for status in [500, 502, 503, 504, 599] {
                let mut client = proxy.client().await;
                client.ask(method, &format!("/{status}"), &[], b"").await;
                let own = [("Content-Type", "text/plain"), ("X-Own", "1"), ("Retry-After", "7")];
                origin.next().await.respond(status, &own, "mine").await;
                let answer = client.answer().await;
                assert_eq!((answer.status, answer.text()), (status, "mine"), "{level} {method}");
                assert_eq!(
                    (answer.header("x-own"), answer.header("retry-after")),
                    (Some("1"), Some("7"))
                );
                assert!(!answer.headers.has("proxy-status"), "{level} {method} {status}");
            }
        }
    }
}

/// Two nodes over one register, no health checks, two attempts.
async fn pair(
    register: &Register,
    keys: &str,
) -> (Proxy, super::support::register::Node, super::support::register::Node) {
    let (a, b) = (register.node("a").await, register.node("b").await);
    let config = one_route(keys).replace(
        "nodes = [{ url = \"{origin}\" }]",
        "nodes = [{ url = \"{a}\" }, { url = \"{b}\" }]\nbalance = \"round-robin\"",
    );
    let proxy = Proxy::start(&config, &[("a", &a.url()), ("b", &b.url())]).await;
    (proxy, a, b)
}

#[tokio::test]
async fn a_read_whose_connection_breaks_is_answered_by_another_node() {
    let register = Register::new();
    register.write("/x", "value");
    let (proxy, _a, _b) = pair(&register, "").await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut client = proxy.client().await;
    client.ask("GET", "/x", &[], b"").await;
    let first = hold.next().await;
    let at_first = first.seen.node.clone();
    first.reset();
    let second = hold.next().await;
    assert_ne!(second.seen.node, at_first);
    second.release();
    assert_eq!(client.answer().await.text(), "value");
    assert_eq!(proxy.metric("tidegate_retries_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_503_to_a_read_is_asked_again_at_another_node() {
    let register = Register::new();
    register.write("/x", "value");
    let (proxy, _a, _b) = pair(&register, "").await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut client = proxy.client().await;
    client.ask("GET", "/x", &[], b"").await;
    hold.next().await.answer(503);
    hold.next().await.release();
    assert_eq!(client.answer().await.text(), "value");
}

#[tokio::test]
async fn attempts_end() {
    let register = Register::new();
    let (proxy, _a, _b) = pair(&register, "").await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut client = proxy.client().await;
    client.ask("GET", "/x", &[], b"").await;
    hold.next().await.reset();
    hold.next().await.reset();
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(register.count("GET", "/x"), 2);
}

#[tokio::test]
async fn a_write_that_was_sent_is_never_repeated() {
    // A body that is gone could not be sent again anyway; without one, only the rule stands against it.
    let methods = ["POST", "PUT", "PATCH", "DELETE"];
    for (method, body) in methods.into_iter().flat_map(|m| [(m, "once"), (m, "")]) {
        let register = Register::new();
        let (proxy, _a, _b) = pair(&register, "").await;
        let mut hold = register.hold(method, "/x", Point::Applied);
        let mut client = proxy.client().await;
        client.ask(method, "/x", &[], body.as_bytes()).await;
        hold.next().await.reset();
        assert_eq!(client.answer().await.status, 502, "{method}");
        hold.expect_none();
        assert_eq!(register.count(method, "/x"), 1, "{method} ran twice");
    }
}

#[tokio::test]
async fn a_503_to_a_write_is_never_repeated() {
    let register = Register::new();
    let (proxy, _a, _b) = pair(&register, "").await;
    let mut hold = register.hold("PUT", "/x", Point::Applied);
    let mut client = proxy.client().await;
    client.ask("PUT", "/x", &[], b"once").await;
    hold.next().await.answer(503);
    assert_eq!(client.answer().await.status, 503);
    assert_eq!(register.count("PUT", "/x"), 1);
}

#[tokio::test]
async fn a_write_that_provably_never_left_goes_to_another_node() {
    for level in ["off", "strong"] {
        let register = Register::new();
        let (proxy, a, _b) = pair(&register, &format!("consistency = \"{level}\"")).await;
        a.down().await;
        for n in 0..4 {
            let answer = proxy.put("/x", &format!("{n}")).await;
            assert!(matches!(answer.status, 201 | 204), "{level} {n}: {}", answer.status);
        }
        assert_eq!(register.count("PUT", "/x"), 4);
        assert_eq!(register.read("/x").as_deref(), Some("3"));
    }
}

#[tokio::test]
async fn r20_a_write_without_a_body_is_not_repeated_either() {
    let register = Register::new();
    register.write("/x", "here");
    let (proxy, _a, _b) = pair(&register, "consistency = \"strong\"").await;
    let mut hold = register.hold("DELETE", "/x", Point::Applied);
    let mut client = proxy.client().await;
    client.ask("DELETE", "/x", &[], b"").await;
    hold.next().await.close();
    is_problem(&client.answer().await, 504, "unknown");
    hold.expect_none();
    assert_eq!(register.count("DELETE", "/x"), 1);
}

#[tokio::test]
async fn r20_a_strong_write_whose_reply_is_lost_is_unknown_and_not_repeated() {
    let register = Register::new();
    let (proxy, _a, _b) = pair(&register, "consistency = \"strong\"").await;
    let mut hold = register.hold("PUT", "/x", Point::Applied);
    let mut client = proxy.client().await;
    client.ask("PUT", "/x", &[], b"once").await;
    hold.next().await.close();
    is_problem(&client.answer().await, 504, "unknown");
    hold.expect_none();
    assert_eq!(register.count("PUT", "/x"), 1);
    assert_eq!(
        proxy.metric("tidegate_writes_total", &[("outcome", "unknown")]).await,
        1.0
    );
}

#[tokio::test]
async fn r20_a_write_with_the_idempotency_header_is_repeated() {
    let register = Register::new();
    let keys = "consistency = \"strong\"\nidempotency_header = \"Idempotency-Key\"";
    let (proxy, _a, _b) = pair(&register, keys).await;
    let mut hold = register.hold("DELETE", "/x", Point::Applied);
    let mut client = proxy.client().await;
    client.ask("DELETE", "/x", &[("Idempotency-Key", "7")], b"").await;
    hold.next().await.reset();
    hold.next().await.answer(200);
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(register.count("DELETE", "/x"), 2);
    // Without the header the same route repeats nothing.
    client.ask("DELETE", "/x", &[], b"").await;
    hold.next().await.reset();
    is_problem(&client.answer().await, 504, "unknown");
    assert_eq!(register.count("DELETE", "/x"), 3);
}

#[tokio::test]
async fn r20_a_write_with_the_idempotency_header_is_repeated_with_its_body_up_to_a_bound() {
    let register = Register::new();
    let keys = "consistency = \"strong\"\nidempotency_header = \"Idempotency-Key\"";
    let (proxy, _a, _b) = pair(&register, keys).await;
    let keyed = ("Idempotency-Key", "7");
    for (length, chunked, sent) in [
        (1, false, 2),
        (256 * 1024, false, 2),
        (256 * 1024, true, 2),
        (256 * 1024 + 1, false, 1),
        (256 * 1024 + 1, true, 1),
    ] {
        let mut hold = register.hold("PUT", "/x", Point::Applied);
        let mut client = proxy.client().await;
        let body = "x".repeat(length);
        let before = register.count("PUT", "/x");
        if chunked {
            let head =
                "PUT /x HTTP/1.1\r\nHost: shop.example\r\nIdempotency-Key: 7\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.expects_answer_to("PUT");
            client.send(format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n")).await;
        } else {
            client.ask("PUT", "/x", &[keyed], body.as_bytes()).await;
        }
        hold.next().await.reset();
        if sent == 2 {
            hold.next().await.release();
            assert_eq!(client.answer().await.status, 204, "{length} {chunked}");
        } else {
            is_problem(&client.answer().await, 504, "unknown");
        }
        assert_eq!(register.count("PUT", "/x") - before, sent, "{length} {chunked}");
        let seen = register.seen();
        assert!(
            seen.iter().rev().take(sent).all(|put| put.body == body),
            "{length} {chunked}"
        );
    }
}

#[tokio::test]
async fn a_keyed_write_whose_body_never_came_whole_was_not_sent() {
    let mut origin = Origin::start().await;
    let keys = "consistency = \"strong\"\nidempotency_header = \"Idempotency-Key\"";
    let proxy = before(&origin, keys).await;
    let mut client = proxy.client().await;
    let fields = [("Idempotency-Key", "7"), ("Content-Length", "10")];
    client.ask("PUT", "/x", &fields, b"half").await;
    client.close_write();
    let answer = client.try_answer().await;
    assert!(answer.is_err() || answer.is_ok_and(|a| a.status == 400));
    let not_applied = [("outcome", "not-applied")];
    proxy.until_metric("tidegate_writes_total", &not_applied, 1.0).await;
    origin.expect_idle().await;
}

#[tokio::test]
async fn r20_a_412_to_the_repetition_of_a_write_that_may_have_been_applied_is_unknown() {
    for status in [404, 409, 410, 412] {
        let register = Register::new();
        let keys = "consistency = \"strong\"\nidempotency_header = \"Idempotency-Key\"";
        let (proxy, _a, _b) = pair(&register, keys).await;
        let mut hold = register.hold("DELETE", "/x", Point::Applied);
        let mut client = proxy.client().await;
        client.ask("DELETE", "/x", &[("Idempotency-Key", "7")], b"").await;
        hold.next().await.reset();
        hold.next().await.answer(status);
        is_problem(&client.answer().await, 504, "unknown");
    }
}

#[tokio::test]
async fn an_upload_that_the_client_breaks_off_breaks_off_at_the_node() {
    for level in ["off", "strong"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, &format!("consistency = \"{level}\"")).await;
        let mut client = proxy.client().await;
        client.ask("PUT", "/", &[("Content-Length", "10")], b"half").await;
        let mut exchange = origin.next().await;
        assert_eq!(exchange.body_part().await.unwrap().as_ref(), b"half");
        client.abort();
        assert!(
            exchange.try_body().await.is_err(),
            "{level}: half an upload looked complete"
        );
    }
}

#[tokio::test]
async fn without_a_healthy_node_a_strong_route_refuses_and_any_other_asks_all_the_same() {
    for (level, tried) in [("off", true), ("weak", true), ("eventual", true), ("strong", false)] {
        let mut origin = Origin::start().await;
        origin.set_healthy(false);
        let config =
            one_route(&format!("consistency = \"{level}\"")) + "\n[upstreams.o.health_check]\npath = \"/healthz\"\n";
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        if tried {
            let serve = async { origin.next().await.respond(200, &[], "fine").await };
            let (answer, ()) = tokio::join!(proxy.get("/"), serve);
            assert_eq!((answer.status, answer.body.as_ref()), (200, &b"fine"[..]), "{level}");
            let serve = async { origin.next().await.respond(204, &[], "").await };
            let (answer, ()) = tokio::join!(proxy.put("/", "x"), serve);
            assert_eq!(answer.status, 204, "{level}");
        } else {
            is_problem(&proxy.get("/").await, 504, "unreachable");
            is_problem(&proxy.put("/", "x").await, 503, "not-applied");
            origin.expect_idle().await;
        }
    }
}
