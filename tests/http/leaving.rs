//! Clients that leave at every point of an answer's way: what they held is free again, and what was begun for others goes on (R21).

use super::support::client::Client;
use super::support::h2::{H2, whole};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, one_route};
use super::support::{eventually, within};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;

const LEVELS: [&str; 3] = [
    "consistency = \"off\"",
    "consistency = \"weak\"\nttl = \"1h\"",
    "consistency = \"strong\"",
];

/// When a client leaves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum When {
    /// The node has its request.
    Asked,
    /// The node has said that there will be an answer.
    Hinted,
    /// The node's first connection broke, and its request was sent again.
    AskedAgain,
    /// Half of the body has come.
    Half,
}

/// One place, one connection, and one thread which has both.
async fn stage(keys: &str) -> (Origin, Proxy) {
    let origin = Origin::start().await;
    let config = one_route(&format!("{keys}\nmax_in_flight = 1"))
        .replace("connect_timeout", "max_connections = 1\nconnect_timeout");
    let config = format!("[server]\nthreads = 1\n\n{config}");
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    (origin, proxy)
}

/// A client that has asked, and reads until it is let go of.
enum Asking {
    One(Client),
    Two(JoinHandle<()>),
}

impl Asking {
    async fn ask(proxy: &Proxy, version: u8, when: When) -> Self {
        let address = proxy.address;
        if version == 1 {
            let mut client = proxy.client().await;
            client.ask("GET", "/x", &[], b"").await;
            return Self::One(client);
        }
        let client = async move {
            let connection = H2::connect(address).await;
            let request = H2::request("GET", "/x").body(http_body_util::Full::default()).unwrap();
            let mut answer = connection.head(request).await.unwrap();
            assert_eq!(when, When::Half);
            while answer.body_mut().frame().await.is_some() {}
        };
        Self::Two(tokio::spawn(client))
    }

    async fn sees(&mut self, when: When) {
        if let (Self::One(client), When::Half) = (&mut *self, when) {
            assert_eq!(client.head().await.0, 200);
            assert_eq!(client.body_up_to(4).await, b"half");
        }
    }

    async fn leaves(self, proxy: &Proxy) {
        match self {
            Self::One(client) => client.abort(),
            Self::Two(client) => {
                client.abort();
                let _ = client.await;
            }
        }
        eventually("the client to be gone", || async {
            proxy.metric("tidegate_connections", &[("listener", "main")]).await == 0.0
        })
        .await;
    }
}

/// Plays the node's part up to the moment.
async fn plays(origin: &mut Origin, when: When) -> Exchange {
    let mut exchange = origin.next().await;
    match when {
        When::Asked => {}
        When::Hinted => exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await,
        When::AskedAgain => {
            exchange.close();
            exchange = origin.next().await;
        }
        When::Half => {
            exchange.head(200, &[("Content-Length", "8"), ("ETag", "\"1\"")]).await;
            exchange.send("half").await;
        }
    }
    exchange
}

async fn leave(keys: &str, version: u8, when: When) {
    let case = format!("{keys}, HTTP/{version}, {when:?}");
    let (mut origin, proxy) = stage(keys).await;
    let mut before = proxy.client().await;
    before.ask("GET", "/before", &[], b"").await;
    origin.next().await.respond(200, &[("ETag", "\"0\"")], "before").await;
    assert_eq!(before.answer().await.text(), "before", "{case}");
    drop(before);

    let mut client = Asking::ask(&proxy, version, when).await;
    let mut exchange = plays(&mut origin, when).await;
    client.sees(when).await;
    client.leaves(&proxy).await;
    if keys == LEVELS[0] {
        within(&case, exchange.gone()).await; // nobody wants it
    } else {
        match when {
            When::Half => {
                exchange.send("more").await;
                exchange.keep();
            }
            When::Asked | When::Hinted | When::AskedAgain => {
                exchange.respond(200, &[("ETag", "\"1\"")], "halfmore").await
            }
        }
    }

    let address = proxy.address;
    let free = tokio::spawn(async move {
        loop {
            let answer = super::support::client::get(address, "/free").await;
            if answer.status != 503 {
                return answer.status;
            }
        }
    });
    origin.next().await.respond(200, &[], "free").await;
    assert_eq!(within(&case, free).await.unwrap(), 200, "{case}");
    if keys == LEVELS[0] {
        return;
    }
    let mut next = proxy.client().await;
    next.ask("GET", "/x", &[], b"").await;
    if keys == LEVELS[2] {
        let exchange = origin.next().await;
        assert_eq!(exchange.header("if-none-match"), Some("\"1\""), "{case}");
        exchange.respond(304, &[("ETag", "\"1\"")], "").await;
    }
    assert_eq!(next.answer().await.text(), "halfmore", "{case}");
}

#[tokio::test]
async fn r21_who_has_left_holds_no_place_and_spoils_no_fetch() {
    for keys in LEVELS {
        for version in [1, 2] {
            for when in [When::Asked, When::Hinted, When::AskedAgain, When::Half] {
                leave(keys, version, when).await;
            }
        }
    }
}

/// The one who leads carries the fetch; whoever follows, on whatever connection, gets what it brings.
#[tokio::test]
async fn r21_whoever_leads_may_leave_at_any_time() {
    for version in [1, 2] {
        for when in [When::Asked, When::Hinted, When::AskedAgain, When::Half] {
            let case = format!("HTTP/{version}, {when:?}");
            let mut origin = Origin::start().await;
            let proxy = Proxy::start(&one_route(LEVELS[1]), &[("origin", &origin.url())]).await;
            let mut before = proxy.client().await;
            before.ask("GET", "/before", &[], b"").await;
            origin.next().await.respond(200, &[], "before").await;
            before.answer().await;
            drop(before);

            let mut leader = Asking::ask(&proxy, version, when).await;
            let mut exchange = plays(&mut origin, when).await;
            let mut one = proxy.client().await;
            one.ask("GET", "/x", &[], b"").await;
            let two = H2::connect(proxy.address).await;
            let request = H2::request("GET", "/x").body(http_body_util::Full::default()).unwrap();
            let two = tokio::spawn(async move { whole(two.head(request).await.unwrap()).await });
            leader.sees(when).await;
            match leader {
                Asking::One(client) => client.abort(),
                Asking::Two(client) => client.abort(),
            }
            eventually("the leader to be gone", || async {
                proxy.metric("tidegate_connections", &[("listener", "main")]).await < 3.0
            })
            .await;
            origin.expect_idle().await;
            match when {
                When::Half => {
                    exchange.send("more").await;
                    exchange.keep();
                }
                _ => exchange.respond(200, &[], "halfmore").await,
            }
            assert_eq!(one.answer().await.text(), "halfmore", "{case}");
            assert_eq!(within(&case, two).await.unwrap().text(), "halfmore", "{case}");
        }
    }
}

/// What this process holds of the machine's memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The other way round: what has left the store is not held by those who asked whether it is still good.
#[tokio::test]
async fn r12b_what_an_answer_has_taken_out_of_service_is_let_go_of_before_all_of_the_answer_has_come() {
    const LARGE: usize = 48 * 1024 * 1024;
    let mut origin = Origin::start().await;
    let keys = format!("{}\nmax_object = \"64MiB\"", LEVELS[2]);
    let proxy = Proxy::start(&one_route(&keys), &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/x", &[], b"").await;
    let large = vec![b'x'; LARGE];
    let node = tokio::spawn(async move {
        origin.next().await.respond(200, &[("ETag", "\"1\"")], &large).await;
        origin
    });
    assert_eq!(client.answer().await.body.len(), LARGE);
    let mut origin = node.await.unwrap();
    client.ask("GET", "/x", &[], b"").await;
    origin.next().await.respond(304, &[("ETag", "\"1\"")], "").await;
    assert_eq!(client.answer().await.body.len(), LARGE, "it is stored");

    let stored = resident();
    client.ask("GET", "/x", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange
        .head(200, &[("ETag", "\"2\""), ("Content-Length", &LARGE.to_string())])
        .await;
    exchange.send("y").await;
    assert_eq!(client.head().await.0, 200);
    assert_eq!(client.body_up_to(1).await, b"y");
    eventually("the old body to be gone", || async {
        resident() + LARGE as u64 / 2 < stored
    })
    .await;
}

#[tokio::test]
async fn who_followed_and_has_left_leaves_his_place_to_another() {
    let mut origin = Origin::start().await;
    let keys = format!("{}\nmax_waiters = 1", LEVELS[1]);
    let proxy = Proxy::start(&one_route(&keys), &[("origin", &origin.url())]).await;
    let ask = async || {
        let mut client = proxy.client().await;
        client.ask("GET", "/x", &[], b"").await;
        client
    };
    let mut leader = ask().await;
    let held = origin.next().await;
    let (one, two) = (ask().await, ask().await);
    let alone = origin.next().await; // one of them follows, and one is too many
    one.abort();
    two.abort();
    eventually("both to be gone", || async {
        proxy.metric("tidegate_connections", &[("listener", "main")]).await < 2.0
    })
    .await;
    let mut third = ask().await;
    for _ in 0..4 {
        let known = proxy.get_with("/x", &[("Cache-Control", "only-if-cached")]).await;
        assert_eq!(known.status, 504, "what came before this was read before it");
    }
    origin.expect_idle().await;
    held.respond(200, &[], "x").await;
    assert_eq!(leader.answer().await.text(), "x");
    assert_eq!(third.answer().await.text(), "x");
    origin.expect_idle().await; // it followed
    drop(alone);
}
