//! gRPC's health check, asked of a real HTTP/2 server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::{CHECK, Door, Node, Rig};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Channel};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// What a server answers.
#[derive(Copy, Clone)]
struct Script {
    status: u16,
    message: &'static [u8],
    /// `grpc-status` after the message.
    trailer: Option<&'static str>,
    /// `grpc-status` in the head.
    head: Option<&'static str>,
}

const SERVING: Script = Script {
    status: 200,
    message: b"\0\0\0\0\x02\x08\x01",
    trailer: Some("0"),
    head: None,
};

/// What a server was asked: method and target, the fields gRPC needs, and the message.
type Asked = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

fn serve(mut node: Node, script: Arc<Mutex<Script>>) -> Asked {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let stream = TokioIo::new(node.accept().await.into_stream());
            let (script, seen) = (*script.lock(), Arc::clone(&seen));
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    let (parts, body) = request.into_parts();
                    let message = body.collect().await.unwrap().to_bytes();
                    let line = format!("{} {}", parts.method, parts.uri);
                    seen.lock().push((line, parts.headers, message));
                    Ok::<_, Infallible>(answer(script).await)
                }
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(stream, service).await;
            });
        }
    });
    asked
}

async fn answer(script: Script) -> Response<Channel<Bytes, Infallible>> {
    let (mut sender, body) = Channel::new(2);
    if !script.message.is_empty() {
        sender.send_data(Bytes::from_static(script.message)).await.unwrap();
    }
    if let Some(status) = script.trailer {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        sender.send_trailers(trailers).await.unwrap();
    }
    let mut response = Response::builder().status(script.status);
    if let Some(status) = script.head {
        response = response.header("grpc-status", status);
    }
    response.body(body).unwrap()
}

fn keys(service: &str) -> String {
    CHECK.replace("path = \"/healthz\"", &format!("grpc = \"{service}\""))
}

#[tokio::test(start_paused = true)]
async fn it_asks_as_grpc_does() {
    for (service, message) in [
        ("shop.Orders", &b"\0\0\0\0\x0d\x0a\x0bshop.Orders"[..]),
        ("", &b"\0\0\0\0\0"[..]),
    ] {
        let mut rig = Rig::new(1, 1, &keys(service));
        let asked = serve(rig.nodes.remove(0), Arc::new(Mutex::new(SERVING)));
        let _stop = rig.run();
        rig.upstreams.first_round().await;
        assert_eq!(rig.states(), ["active"]);
        let (line, headers, body) = asked.lock()[0].clone();
        assert_eq!(line, "POST http://10.0.0.1:80/grpc.health.v1.Health/Check");
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["te"], "trailers");
        assert_eq!(body, message);
    }
}

#[tokio::test(start_paused = true)]
async fn serving_alone_passes() {
    let cases: [(&str, Script, bool); 9] = [
        ("serving", SERVING, true),
        (
            "not serving",
            Script {
                message: b"\0\0\0\0\x02\x08\x02",
                ..SERVING
            },
            false,
        ),
        (
            "unknown",
            Script {
                message: b"\0\0\0\0\0",
                ..SERVING
            },
            false,
        ),
        (
            "an error after the message",
            Script {
                trailer: Some("13"),
                ..SERVING
            },
            false,
        ),
        (
            "no status at all",
            Script {
                trailer: None,
                ..SERVING
            },
            false,
        ),
        (
            "a status before the message, an error after it",
            Script {
                head: Some("0"),
                trailer: Some("14"),
                ..SERVING
            },
            false,
        ),
        (
            "no such service",
            Script {
                message: b"",
                head: Some("5"),
                trailer: None,
                ..SERVING
            },
            false,
        ),
        ("not gRPC", Script { status: 404, ..SERVING }, false),
        (
            "no message",
            Script {
                message: b"",
                ..SERVING
            },
            false,
        ),
    ];
    for (name, script, passes) in cases {
        let mut rig = Rig::new(1, 1, &keys("s"));
        let _asked = serve(rig.nodes.remove(0), Arc::new(Mutex::new(script)));
        let _stop = rig.run();
        rig.upstreams.first_round().await;
        let expected = if passes { "active" } else { "unhealthy" };
        assert_eq!(rig.states(), [expected], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_serving_goes_out_and_comes_back() {
    let mut rig = Rig::new(1, 1, &keys("s"));
    let script = Arc::new(Mutex::new(SERVING));
    let _asked = serve(rig.nodes.remove(0), Arc::clone(&script));
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    script.lock().message = b"\0\0\0\0\x02\x08\x02";
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(rig.states(), ["unhealthy"]);
    script.lock().message = SERVING.message;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(rig.states(), ["active"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_there_hangs_or_speaks_something_else_fails() {
    let mut rig = Rig::new(4, 1, &keys("s"));
    rig.nodes[0].door(Door::Refuses);
    rig.nodes[1].door(Door::Hangs);
    rig.nodes
        .remove(3)
        .serve("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    // The third accepts, and says nothing.
    let _stop = rig.run();
    rig.upstreams.first_round().await;
    assert_eq!(rig.states(), ["unhealthy"; 4]);
    let mut silent = rig.nodes.remove(2).accept().await;
    silent.hangs_up().await;
}
