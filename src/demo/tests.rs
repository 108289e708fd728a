#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::backend::NODE;
use super::client::{Answer, NoAnswer, ask};
use super::fault;
use super::setting::{Backend, Options};
use crate::world::World;
use http::{HeaderName, Method};
use std::net::SocketAddr;
use std::sync::Arc;

const FREE: Options = Options {
    once: true,
    port: None,
    admin_port: None,
    fault_port: None,
    nodes_from: None,
};

async fn send(to: SocketAddr, method: Method, path: &str, body: &str) -> Result<Answer, NoAnswer> {
    ask(&World::real(), to, method, path, &[], body).await
}

async fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, Method::GET, path, "").await.unwrap()
}

#[tokio::test]
async fn nodes_share_one_store_and_equal_etags_mean_equal_bytes() {
    let backend = Backend::start(&FREE, &World::real()).unwrap();
    let (a, b) = (backend.nodes[0].address, backend.nodes[1].address);
    assert_eq!(get(a, "/x").await.status, 404);
    let made = send(a, Method::PUT, "/x", "one").await.unwrap();
    let (at_a, at_b) = (get(a, "/x").await, get(b, "/x").await);
    assert_eq!((made.status.as_u16(), at_b.value().as_str()), (201, "one"));
    assert_eq!((at_a.field(NODE), at_b.field(NODE)), ("a", "b"));
    assert_eq!((at_a.field("etag"), &at_a.body), (at_b.field("etag"), &at_b.body));
    assert_eq!(made.field("etag"), at_b.field("etag"));
    let same = [(HeaderName::from_static("if-none-match"), "\"1\"")];
    let unchanged = ask(&World::real(), b, Method::GET, "/x", &same, "").await.unwrap();
    assert_eq!(unchanged.status, 304);
    let other = [(HeaderName::from_static("if-match"), "\"7\"")];
    let refused = ask(&World::real(), b, Method::PUT, "/x", &other, "two").await.unwrap();
    assert_eq!(refused.status, 412);
    assert_eq!(send(b, Method::DELETE, "/x", "").await.unwrap().status, 204);
    assert_eq!(get(a, "/x").await.status, 404);
}

#[tokio::test]
async fn the_fault_port_kills_revives_and_loses_replies() {
    let world = World::real();
    let backend = Arc::new(Backend::start(&FREE, &world).unwrap());
    let port = fault::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&backend), &world).unwrap();
    let a = backend.nodes[0].address;
    assert_eq!(send(port, Method::POST, "/nodes/a/kill", "").await.unwrap().status, 200);
    assert!(matches!(
        send(a, Method::GET, "/x", "").await,
        Err(NoAnswer::Connect(_))
    ));
    assert!(get(port, "/nodes").await.body.contains("dead"));
    assert_eq!(
        send(port, Method::POST, "/nodes/a/revive", "").await.unwrap().status,
        200
    );
    assert_eq!(get(a, "/healthz").await.status, 200);
    send(port, Method::POST, "/lose-next-reply", "").await.unwrap();
    assert!(matches!(
        send(a, Method::PUT, "/x", "applied").await,
        Err(NoAnswer::Broken(_))
    ));
    assert_eq!(get(a, "/x").await.value(), "applied");
    assert_eq!(backend.nodes[0].writes(), 1);
    assert_eq!(send(port, Method::POST, "/nodes/z/kill", "").await.unwrap().status, 404);
    let page = [(http::header::ORIGIN, "http://evil.example")];
    let refused = ask(&world, port, Method::POST, "/nodes/a/kill", &page, "")
        .await
        .unwrap();
    assert_eq!((refused.status.as_u16(), backend.nodes[0].is_alive()), (403, true));
}

#[tokio::test]
async fn the_demos_configuration_is_without_errors_and_warnings() {
    let world = World::real();
    let backend = Backend::start(&FREE, &world).unwrap();
    let ports = super::setting::Ports::choose(&FREE, &world);
    let text = super::setting::config(&ports, &backend);
    let loaded = crate::config::load::from_text(&text, "demo.toml", std::path::Path::new("."), &world);
    let said: Vec<String> = loaded
        .errors
        .iter()
        .chain(&loaded.warnings)
        .map(ToString::to_string)
        .collect();
    assert!(said.is_empty(), "{}\n{text}", said.join("\n"));
    assert_eq!(loaded.config.unwrap().routes.len(), 7);
}
