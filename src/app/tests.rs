#![allow(clippy::unwrap_used, clippy::disallowed_types, clippy::disallowed_methods)]

use super::{App, Running, StartError};
use crate::config::load::from_text;
use crate::world::{Address, World};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Long enough for anything that should happen; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn app(server: &str, listeners: &str) -> App {
    let text = format!(
        "[server]\nthreads = 2\n{server}\n{listeners}\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [upstreams.dead]\nnodes = [{{ url = \"http://127.0.0.1:9\", name = \"a\" }}]\n\
         health_check = {{ tcp = true, timeout = \"1s\" }}\n\
         [[routes]]\nname = \"hello\"\nmatch = {{ path = \"/\" }}\nrespond = {{ status = 200, body = \"hello\" }}\n\
         [[routes]]\nname = \"orders\"\nupstream = \"dead\"\nconsistency = \"strong\"\n"
    );
    let loaded = from_text(&text, "test.toml", Path::new(""), &World::real());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.errors));
    App::build(config, World::real()).unwrap()
}

const MAIN: &str = "[listeners.main]\naddress = \"127.0.0.1:0\"";

fn main_of(running: &Running) -> SocketAddr {
    running.listeners.first().unwrap().1.tcp().unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One request on a connection of its own: the whole answer.
fn ask(to: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = connect(to);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// One request on a connection that stays open: the answer, which must end in `hello`.
fn hello(stream: &mut (impl Read + Write)) -> io::Result<String> {
    write!(stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"hello") {
        stream.read_exact(&mut byte)?;
        text.extend(byte);
    }
    Ok(String::from_utf8(text).unwrap())
}

/// Waits until `seen` is true of the metrics.
fn until_metrics(running: &Running, seen: impl Fn(&str) -> bool) {
    let start = Instant::now();
    loop {
        let text = ask(running.admin, "GET", "/metrics");
        if seen(&text) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not seen in\n{text}");
        std::thread::yield_now();
    }
}

#[test]
fn every_interface_is_both_families_and_the_ready_line_has_real_ports() {
    let running = app(
        "",
        "[listeners.main]\naddress = \":0\"\n[listeners.other]\naddress = \"127.0.0.1:0\"",
    )
    .start()
    .unwrap();
    let port = main_of(&running).port();
    let other = running.listeners.get(1).unwrap().1.tcp().unwrap();
    let line = format!("ready listeners=main=[::]:{port},other={other} admin={}", running.admin);
    assert_eq!(running.ready_line(), line);
    assert_ne!(port, 0);
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), other.to_string()] {
        // Several connections, so that the kernel deals some to either thread.
        for _ in 0..8 {
            assert!(
                ask(address.parse().unwrap(), "GET", "/").ends_with("hello"),
                "{address}"
            );
        }
    }
    assert!(running.stop());
}

#[test]
fn an_address_in_use_is_an_error_and_stops_what_had_started() {
    let running = app("", MAIN).start().unwrap();
    let taken = main_of(&running);
    let both = format!("[listeners.first]\naddress = \"127.0.0.1:0\"\n[listeners.second]\naddress = \"{taken}\"");
    match app("", &both).start() {
        Err(StartError::Listener(error)) => {
            assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
            assert_eq!((error.name.as_str(), error.address), ("second", Address::Tcp(taken)));
        }
        other => panic!("{other:?}"),
    }
    assert!(ask(taken, "GET", "/").ends_with("hello"), "the first is not disturbed");
    drop(running);
    let again = app("", &format!("[listeners.main]\naddress = \"{taken}\""))
        .start()
        .unwrap();
    assert_eq!(main_of(&again), taken);
}

#[test]
fn ready_needs_the_upstreams_that_were_asked_for() {
    let running = app("ready_requires = [\"dead\"]", MAIN).start().unwrap();
    let text = ask(running.admin, "GET", "/ready");
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.contains("upstream dead has no healthy node"),
        "{text}"
    );
    assert!(ask(running.admin, "GET", "/live").starts_with("HTTP/1.1 200 "));
    drop(running);
    let running = app("", MAIN).start().unwrap();
    let text = ask(running.admin, "GET", "/ready");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let status = ask(running.admin, "GET", "/status");
    assert!(status.contains("\"state\":\"unhealthy\""), "{status}");
    assert!(
        status.contains("{\"name\":\"orders\",\"consistency\":\"strong\"}"),
        "{status}"
    );
    assert!(status.contains("{\"name\":\"hello\",\"consistency\":null}"), "{status}");
}

#[test]
fn a_drain_serves_on_for_its_delay_then_closes() {
    let running = app("drain_delay = \"2s\"", MAIN).start().unwrap();
    let address = main_of(&running);
    let mut kept = connect(address);
    let text = hello(&mut kept).unwrap();
    assert!(!text.contains("connection: close"), "{text}");
    assert!(ask(running.admin, "POST", "/drain").starts_with("HTTP/1.1 202 "));
    let text = ask(running.admin, "GET", "/ready");
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("draining"), "{text}");
    // Within the delay both a new and a kept connection are answered, for the last time.
    assert!(ask(address, "GET", "/").ends_with("hello"));
    let text = hello(&mut kept).unwrap();
    assert!(text.contains("connection: close"), "{text}");
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, running.ended()).await.unwrap() });
    assert!(running.stop());
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
}

#[test]
fn above_the_cap_connections_are_closed_at_once_and_counted_over_all_threads() {
    let running = app("", &format!("{MAIN}\nmax_connections = 3")).start().unwrap();
    let address = main_of(&running);
    let mut open: Vec<_> = (0..3).map(|_| connect(address)).collect();
    for stream in &mut open {
        hello(stream).unwrap();
    }
    for _ in 0..5 {
        // Closed, or reset because of the bytes it had sent.
        assert!(hello(&mut connect(address)).is_err());
    }
    until_metrics(&running, |text| {
        text.contains("tidegate_connections{listener=\"main\"} 3")
            && text.contains("tidegate_connections_refused_total{listener=\"main\"} 5")
    });
    open.clear();
    until_metrics(&running, |text| {
        text.contains("tidegate_connections{listener=\"main\"} 0")
    });
    hello(&mut connect(address)).unwrap();
}

#[test]
fn everything_runs_on_one_ordinary_runtime_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let running = runtime.block_on(app("", MAIN).serve_here()).unwrap();
    assert!(ask(main_of(&running), "GET", "/").ends_with("hello"));
    assert!(ask(running.admin, "GET", "/ready").contains("ready"));
    running.drain();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, running.ended()).await.unwrap() });
}

#[test]
fn nothing_is_ready_before_the_first_probes_are_over() {
    let node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let answered = Arc::new(AtomicBool::new(false));
    let check = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [upstreams.slow]\nnodes = [{{ url = \"http://{}\" }}]\n\
         health_check = {{ path = \"/healthz\", interval = \"20s\", timeout = \"20s\" }}\n[[routes]]\nupstream = \"slow\"\n",
        node.local_addr().unwrap()
    );
    let says = Arc::clone(&answered);
    let origin = std::thread::spawn(move || {
        let (mut stream, _) = node.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        says.store(true, Ordering::SeqCst);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        stream
    });
    let loaded = from_text(&check, "test.toml", Path::new(""), &World::real());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.errors));
    let running = App::build(config, World::real()).unwrap().start().unwrap();
    assert!(answered.load(Ordering::SeqCst));
    let status = ask(running.admin, "GET", "/status");
    assert!(status.contains("\"state\":\"active\""), "{status}");
    drop(origin.join().unwrap());
}

#[test]
fn a_few_connections_are_dealt_out_evenly_and_answered_where_they_are() {
    let folder = std::env::temp_dir().join(format!("tidegate-dealt-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("s");
    let local = format!("{MAIN}\n[listeners.local]\naddress = \"unix:{}\"", path.display());
    let running = app("drain_delay = \"0s\"", &local).start().unwrap();
    let open = || running.rooms.doors().first().unwrap().cores().open();
    let main = main_of(&running);
    // The kernel deals by chance: six rounds of six that are even by chance alone are one in a thousand.
    for _ in 0..6 {
        let mut connections: Vec<_> = (0..6).map(|_| connect(main)).collect();
        for connection in &mut connections {
            hello(connection).unwrap();
            hello(connection).unwrap();
        }
        assert_eq!(open(), [3, 3], "of a port");
        let mut local: Vec<_> = (0..4).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for connection in &mut local {
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            hello(connection).unwrap();
        }
        assert_eq!(open(), [5, 5], "with those of a unix socket");
        drop((connections, local));
        until_metrics(&running, |_| open() == [0, 0]);
    }
    // Draining waits for those that were handed over, as for any.
    let mut connections: Vec<_> = (0..2).map(|_| connect(main)).collect();
    for connection in &mut connections {
        hello(connection).unwrap();
    }
    assert_eq!(open(), [1, 1]);
    running.drain();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(running.ended());
    assert_eq!(open(), [0, 0]);
    for connection in &mut connections {
        assert_eq!(connection.read(&mut [0]).unwrap(), 0, "closed in order");
    }
    assert!(running.stop());
    std::fs::remove_dir_all(folder).unwrap();
}
