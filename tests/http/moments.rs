//! What time it is for a request: the clock is read seldom, and a reading is used again only while nothing has waited since. The clock of
//! these tests is set ahead while somebody is waited for, so that an old reading is one of an hour ago.

use super::support::client::Answer;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate::core::time::{MonoTime, Span, WallTime};
use tidegate::world::{Clock, World};

const WEAK: &str = "consistency = \"weak\"\nttl = \"3h\"";
const STRONG: &str = "consistency = \"strong\"";
/// Longer than any request may take.
const HOUR: Span = Span::from_secs(3600);

thread_local! {
    static TOLD: Cell<Option<MonoTime>> = const { Cell::new(None) };
}

/// The machine's clock and what it is set ahead by. As the machine's it remembers what it told each thread last.
struct Ahead {
    real: Arc<dyn Clock>,
    hours: AtomicU64,
}

impl Ahead {
    fn world() -> (Arc<Self>, World) {
        let world = World::real();
        let clock = Arc::new(Self {
            real: Arc::clone(&world.clock),
            hours: AtomicU64::new(0),
        });
        let ahead = Arc::clone(&clock);
        (clock, World { clock: ahead, ..world })
    }

    fn passes_an_hour(&self) {
        self.hours.fetch_add(1, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn mono(&self) -> MonoTime {
        let hours = self.hours.load(Ordering::SeqCst);
        let now = (0..hours).fold(self.real.mono(), |now, _| now.after(HOUR));
        TOLD.set(Some(now));
        now
    }

    fn recent(&self) -> MonoTime {
        TOLD.get().unwrap_or_else(|| self.mono())
    }

    fn wall(&self) -> WallTime {
        self.real.wall()
    }
}

/// The machine's clock as a thread has it that has not asked it for long.
struct Elsewhere(Arc<dyn Clock>);

impl Clock for Elsewhere {
    fn mono(&self) -> MonoTime {
        self.0.mono()
    }

    fn recent(&self) -> MonoTime {
        MonoTime::from_micros(1)
    }

    fn wall(&self) -> WallTime {
        self.0.wall()
    }
}

/// An origin, a proxy with one route for everything, and its clock.
async fn stage(keys: &str) -> (Origin, Proxy, Arc<Ahead>) {
    let origin = Origin::start().await;
    let (clock, world) = Ahead::world();
    let proxy = Proxy::start_in(world, &one_route(keys), &[("origin", &origin.url())]).await;
    (origin, proxy, clock)
}

fn is_too_late(answer: &Answer, case: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (504, "timeout"), "{case}");
}

#[tokio::test]
async fn content_that_comes_slowly_is_part_of_the_time_a_request_has() {
    let (mut origin, proxy, clock) = stage(WEAK).await;
    let long = "x".repeat(64 * 1024 + 1);
    let mut client = proxy.client().await;
    let head = "QUERY /x HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\n";
    client.expects_answer_to("QUERY");
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    assert!(client.raw_part().await.starts_with(b"HTTP/1.1 100 "), "it waits for it");
    for _ in 0..3 {
        proxy.status().await; // by then it has done what it does once it has said so, and looks at no clock any more
    }
    clock.passes_an_hour();
    client.send(format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len())).await;
    is_too_late(&client.answer().await, "a QUERY that passes");
    origin.expect_idle().await;
}

#[tokio::test]
async fn r5b_what_is_asked_again_has_no_more_time_than_its_reader() {
    let (mut origin, proxy, clock) = stage(STRONG).await;
    let mut client = proxy.client().await;
    for etag in ["\"1\"", "\"2\""] {
        client.ask("GET", "/x", &[], b"").await;
        let exchange = origin.next().await;
        if etag == "\"1\"" {
            assert_eq!(exchange.header("if-none-match"), None);
            exchange.respond(200, &[("ETag", etag)], "one").await;
            assert_eq!(client.answer().await.text(), "one");
        } else {
            assert_eq!(exchange.header("if-none-match"), Some("\"1\""));
            clock.passes_an_hour();
            exchange.respond(304, &[("ETag", etag)], "").await;
            is_too_late(&client.answer().await, "a 304 that speaks of something else");
        }
    }
    origin.expect_idle().await;
}

/// Who embeds the proxy may have an answer worked on by another thread than the one that read its request.
#[tokio::test]
async fn a_request_has_no_more_time_where_another_thread_takes_it_over() {
    for keys in ["", STRONG] {
        let mut origin = Origin::start().await;
        let world = World::real();
        let clock: Arc<dyn Clock> = Arc::new(Elsewhere(Arc::clone(&world.clock)));
        let keys = format!("timeout = \"2s\"\n{keys}");
        let config = one_route(&keys).replace("connect_timeout", "response_timeout = \"5m\"\nconnect_timeout");
        let proxy = Proxy::start_in(World { clock, ..world }, &config, &[("origin", &origin.url())]).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/before", &[], b"").await;
        origin.next().await.respond(200, &[], "before").await; // whoever has to connect looks at the clock after it
        assert_eq!(client.answer().await.text(), "before");
        client.ask("GET", "/x", &[], b"").await;
        let _held = origin.next().await;
        is_too_late(&client.answer().await, &keys);
    }
}
