#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use super::{AccessLog, End, LAST_WRITE, Record, Request};
use crate::config::load::from_text;
use crate::config::runtime::{Config, LogFormat};
use crate::core::reason::{FetchReason, Outcome};
use crate::core::time::{MonoTime, WallTime};
use crate::world::{BoxFuture, Output, World};
use http::StatusCode;
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

fn config() -> Arc<Config> {
    let text = "[server]\nthreads = 1\n[upstreams.o]\nnodes = [{ url = \"http://127.0.0.1:9\", name = \"a\" }]\n\
                [[routes]]\nname = \"orders\"\nupstream = \"o\"\n";
    Arc::new(
        from_text(text, "test.toml", Path::new(""), &World::real())
            .config
            .unwrap(),
    )
}

fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Request {
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let parts = builder.body(()).unwrap().into_parts().0;
    let start = MonoTime::from_micros(5_000_000);
    Request::new(start, Some(0), Some([10, 0, 0, 7].into()), &parts, None)
}

fn record(request: Request) -> Record {
    Record {
        generation: 0,
        request,
        status: Some(StatusCode::OK),
        outcome: Some(Outcome::Miss),
        route: Some(0),
        fwd: Some(FetchReason::UriMiss),
        why: Some("no-store"),
        node: Some(0),
        found: None,
        bytes: 1234,
        took: Duration::from_micros(2_050),
        end: End::Complete,
    }
}

/// A record that is told apart by its path.
fn numbered(number: usize) -> Record {
    record(request("GET", &format!("/{number}"), &[]))
}

fn line(record: &Record, format: LogFormat) -> String {
    let mut out = Vec::new();
    record.write(&mut out, format, &config(), |start| {
        assert_eq!(start, MonoTime::from_micros(5_000_000));
        WallTime::from_millis(1_795_367_676_123)
    });
    String::from_utf8(out).unwrap()
}

#[test]
fn a_text_line_has_its_fields_in_order() {
    let full = request(
        "GET",
        "/a?secret",
        &[("host", b"shop.example:81"), ("x-request-id", b"r-1")],
    );
    assert_eq!(
        line(&record(full), LogFormat::Text),
        "2026-11-22T17:14:36.123Z main 10.0.0.7 GET shop.example:81 /a HTTP/1.1 200 miss route=orders fwd=uri-miss \
         why=no-store node=a bytes=1234 ms=2.050 end=complete id=r-1\n"
    );
}

#[test]
fn what_is_not_known_is_a_dash_or_null() {
    let parts = http::Request::connect("a.example:1").body(()).unwrap().into_parts().0;
    let start = MonoTime::from_micros(5_000_000);
    let empty = Record {
        generation: 0,
        request: Request::new(start, None, Some([10, 0, 0, 7].into()), &parts, None),
        status: None,
        outcome: None,
        route: None,
        fwd: None,
        why: None,
        node: None,
        found: None,
        bytes: 0,
        took: Duration::ZERO,
        end: End::Left,
    };
    assert_eq!(
        line(&empty, LogFormat::Text),
        "2026-11-22T17:14:36.123Z - 10.0.0.7 CONNECT a.example:1 - HTTP/1.1 - - route=- fwd=- why=- node=- bytes=0 ms=0.000 \
         end=left id=-\n"
    );
    assert_eq!(
        line(&empty, LogFormat::Json),
        "{\"time\":\"2026-11-22T17:14:36.123Z\",\"listener\":null,\"client\":\"10.0.0.7\",\"method\":\"CONNECT\",\
         \"host\":\"a.example:1\",\"path\":null,\"protocol\":\"HTTP/1.1\",\"status\":null,\"result\":null,\"route\":null,\
         \"fwd\":null,\"why\":null,\"node\":null,\"bytes\":0,\"duration_ms\":0.0,\"end\":\"left\",\"request_id\":null}\n"
    );
}

#[test]
fn no_text_breaks_a_line_and_no_secret_is_kept() {
    let hostile = request(
        "GET",
        "http://user:hunter2@h.example/\u{85}\"%0a?hunter2",
        &[
            ("x-request-id", b"a \"b\\\tc\xff\xc2\x85"),
            ("cookie", b"hunter2"),
            ("authorization", b"hunter2"),
        ],
    );
    let hostile = record(hostile);
    let text = line(&hostile, LogFormat::Text);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(
        text.trim_end().bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
        "{text}"
    );
    assert_eq!(text.split(' ').count(), 17, "{text}");
    assert!(!text.contains(['"']) && !text.contains("hunter2"), "{text}");
    assert!(text.contains(" /\\xc2\\x85\\x22%0a "), "{text}");
    let json = line(&hostile, LogFormat::Json);
    assert_eq!(json.matches('\n').count(), 1, "{json}");
    assert!(!json.contains("hunter2"), "{json}");
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["path"], "/\u{85}\"%0a");
    assert_eq!(read["request_id"], "a \"b\\\tc\u{fffd}\u{85}");
}

#[test]
fn what_is_longer_than_anything_real_is_cut() {
    let long = "x".repeat(9000);
    let id = "i".repeat(9000);
    let cut = request(
        &long,
        &format!("/{long}"),
        &[("host", long.as_bytes()), ("x-request-id", id.as_bytes())],
    );
    let json = line(&record(cut), LogFormat::Json);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    let length = |field: &str| read[field].as_str().unwrap().len();
    assert_eq!(
        (length("method"), length("host"), length("path"), length("request_id")),
        (32, 258, 2051, 147)
    );
    assert!(read["path"].as_str().unwrap().ends_with("x..."), "{json}");
}

/// An output that keeps what is written, as long as it has permits, and may fail.
struct Sink {
    lines: Mutex<Vec<String>>,
    permits: Semaphore,
    fails: AtomicBool,
}

impl Sink {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            lines: Mutex::new(Vec::new()),
            permits: Semaphore::new(permits),
            fails: AtomicBool::new(false),
        })
    }

    fn world(self: &Arc<Self>) -> World {
        World {
            output: Arc::clone(self) as Arc<dyn Output>,
            ..World::real()
        }
    }

    /// The paths of the lines so far.
    fn paths(&self) -> Vec<String> {
        let lines = self.lines.lock();
        let path = |line: &String| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["path"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        lines.iter().map(path).collect()
    }
}

impl Output for Sink {
    fn write(&self, text: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.permits.acquire().await.unwrap().forget();
            if self.fails.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let text = String::from_utf8(text).unwrap();
            self.lines.lock().extend(text.lines().map(str::to_owned));
            Ok(())
        })
    }
}

/// Runs the writer as a task.
fn writer(log: &Arc<AccessLog>, world: World) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let (log, stop) = (Arc::clone(log), CancellationToken::new());
    let stopped = stop.clone();
    let task = tokio::spawn(async move { log.run(&world, &stopped).await });
    (stop, task)
}

fn log(bound: usize) -> Arc<AccessLog> {
    Arc::new(AccessLog::with_bound(&config(), LogFormat::Json, bound))
}

#[tokio::test(start_paused = true)]
async fn records_are_written_and_what_is_left_at_the_stop_too() {
    let (sink, log) = (Sink::new(99), log(10));
    let (stop, task) = writer(&log, sink.world());
    log.push(numbered(1));
    log.push(numbered(2));
    while sink.paths().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Pushed again after the writer has slept: it is woken again.
    log.push(numbered(3));
    while sink.paths().len() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    log.push(numbered(4));
    stop.cancel();
    task.await.unwrap();
    assert_eq!(sink.paths(), ["/1", "/2", "/3", "/4"]);
    assert_eq!(log.dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_counts_and_nobody_waits() {
    let (sink, log) = (Sink::new(0), log(3));
    let (stop, task) = writer(&log, sink.world());
    log.push(numbered(0));
    // Long enough for the writer to take it, and to get stuck with it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 1..=10 {
        log.push(numbered(number));
    }
    assert_eq!(log.dropped(), 7);
    sink.permits.add_permits(99);
    while sink.paths().len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(sink.paths(), ["/0", "/1", "/2", "/3"]);
    log.push(numbered(11));
    stop.cancel();
    task.await.unwrap();
    assert_eq!(sink.paths().last().unwrap(), "/11");
    assert_eq!(log.dropped(), 7);
}

#[tokio::test(start_paused = true)]
async fn records_whose_write_fails_are_counted_and_later_ones_are_written() {
    let (sink, log) = (Sink::new(99), log(10));
    sink.fails.store(true, Ordering::SeqCst);
    let (stop, task) = writer(&log, sink.world());
    log.push(numbered(1));
    log.push(numbered(2));
    while log.dropped() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sink.fails.store(false, Ordering::SeqCst);
    log.push(numbered(3));
    stop.cancel();
    task.await.unwrap();
    assert_eq!((sink.paths(), log.dropped()), (vec!["/3".to_owned()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_nothing_does_not_hold_up_the_end() {
    let (sink, log) = (Sink::new(0), log(10));
    let (stop, task) = writer(&log, sink.world());
    log.push(numbered(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    log.push(numbered(2));
    stop.cancel();
    // Time is moved by hand: it is what the writer waits for, and nothing else.
    tokio::time::timeout(LAST_WRITE * 3, task).await.unwrap().unwrap();
    assert_eq!(log.dropped(), 2);
}

#[test]
fn without_a_format_there_is_no_log() {
    assert!(AccessLog::new(&config()).is_none());
}
