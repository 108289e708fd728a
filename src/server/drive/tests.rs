#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

use crate::core::time::{MonoTime, WallTime};
use crate::server::connection::tests::{PausedClock, listener, metrics};
use crate::server::connection::{Shared, protocol, serve};
use crate::server::drain::Drain;
use crate::server::preface::Prefixed;
use crate::world::{Clock, Stream};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// As the machine's clock it remembers what it told last: all of a test is one thread.
struct Remembering(PausedClock, Mutex<MonoTime>);

impl Clock for Remembering {
    fn mono(&self) -> MonoTime {
        let now = self.0.mono();
        *self.1.lock() = now;
        now
    }

    fn recent(&self) -> MonoTime {
        *self.1.lock()
    }

    fn wall(&self) -> WallTime {
        self.0.wall()
    }
}

/// hyper reads a request whose turn has not come when the one before it ends behind its own answer, which the peer does not take.
#[tokio::test(start_paused = true)]
async fn a_request_behind_an_answer_that_is_not_taken_begins_in_the_time_of_its_turn() {
    const LARGE: usize = 64 * 1024;
    let (mut io, far) = tokio::io::duplex(16 * 1024);
    let clock = Arc::new(Remembering(PausedClock(Instant::now()), Mutex::default()));
    let (tell, told) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let begins = Arc::clone(&clock);
    let called = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&called);
    let service = tower::service_fn(move |request: Request<Incoming>| {
        calls.lock().push((request.uri().path().to_owned(), begins.mono())); // as the proxy does
        let (begins, tell) = (Arc::clone(&begins), Arc::clone(&tell));
        async move {
            let body = match request.uri().path() {
                "/first" => {
                    tokio::spawn(request.into_body().collect());
                    vec![b'x'; LARGE]
                }
                _ => {
                    let tell = tell.lock().take();
                    tell.unwrap().send((begins.recent(), begins.0.mono())).unwrap();
                    Vec::new()
                }
            };
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
        }
    });
    let shared = Shared {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        metrics: metrics(),
        drain: Arc::new(Drain::new()),
    };
    tokio::spawn(async move {
        let listener = listener();
        let builder = protocol(&listener);
        let far: Stream = Box::new(far);
        let io = Prefixed::new(Bytes::new(), far);
        serve(io, &builder, &listener, &shared, Arc::default(), service).await;
    });

    let first = "POST /first HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    io.write_all(first.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = "0\r\n\r\nGET /second HTTP/1.1\r\nhost: a\r\n\r\n";
    io.write_all(second.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await; // nobody reads
    let reads = tokio::spawn(async move {
        let mut all = vec![0; LARGE];
        io.read_exact(&mut all).await.unwrap();
        io
    });
    let (recent, now) = told.await.unwrap();
    let called: Vec<_> = called.lock().clone();
    let second = Duration::from_secs(1);
    assert_eq!(
        (
            called.len(),
            called.last().unwrap().1.duration_since(MonoTime::from_micros(0))
        ),
        (2, second),
        "{called:?}"
    );
    assert_eq!(now.duration_since(called.last().unwrap().1), Duration::from_secs(20));
    assert_eq!(recent, now);
    reads.await.unwrap();
}
