//! `[telemetry] access_log`: a line per request with what is true of it, nothing in it that is a secret, and nothing a client sends
//! that breaks it.

use super::support::client::Client;
use super::support::origin::Origin;
use super::support::proxy::{Binary, Proxy, complete, config_file, one_route, run_to_end};
use super::support::register::Register;
use super::support::within;
use serde_json::Value;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegate::world::{BoxFuture, Output, World};
use tokio::sync::{Mutex, mpsc};

/// Standard output, line by line.
struct Lines(Mutex<mpsc::UnboundedReceiver<String>>);

struct Writer(mpsc::UnboundedSender<String>);

impl Output for Writer {
    fn write(&self, text: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        let text = String::from_utf8(text).unwrap();
        assert!(text.ends_with('\n'), "half a line: {text:?}");
        for line in text.lines() {
            // The test may have ended.
            let _ = self.0.send(line.to_owned());
        }
        Box::pin(async { Ok(()) })
    }
}

impl Lines {
    fn new() -> (Self, World) {
        let (sender, lines) = mpsc::unbounded_channel();
        let world = World {
            output: Arc::new(Writer(sender)),
            ..World::real()
        };
        (Self(Mutex::new(lines)), world)
    }

    async fn text(&self) -> String {
        let mut lines = self.0.lock().await;
        within("a line in the access log", lines.recv()).await.unwrap()
    }

    async fn json(&self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Fails when there is more.
    async fn no_more(&self) {
        let more = self.0.lock().await.try_recv();
        assert!(more.is_err(), "{more:?}");
    }
}

/// A proxy with a log, one node `n`, and one route for everything with these keys.
async fn over(format: &str, url: &str, keys: &str) -> (Proxy, Lines) {
    let named = one_route(keys).replace("{ url = \"{origin}\" }", "{ url = \"{origin}\", name = \"n\" }");
    // One attempt each: the failure itself is looked at.
    let config = format!("[telemetry]\naccess_log = \"{format}\"\n\n{named}\n[upstreams.o.retry]\nattempts = 1\n");
    let (lines, world) = Lines::new();
    (Proxy::start_in(world, &config, &[("origin", url)]).await, lines)
}

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";

/// The fields of a line that say what became of the request.
fn fate(line: &Value) -> [String; 7] {
    ["method", "path", "status", "result", "fwd", "why", "node"].map(|field| match &line[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

fn millis(at: SystemTime) -> i128 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i128::try_from(since.as_millis()).unwrap()
}

#[tokio::test]
async fn a_miss_says_all_there_is_to_say() {
    let register = Register::new();
    register.write("/x", "twelve bytes");
    let node = register.node("a").await;
    let (proxy, lines) = over("json", &node.url(), WEAK).await;
    let before = millis(SystemTime::now());
    proxy.get("/x?page=1").await;
    let line = lines.json().await;
    let after = millis(SystemTime::now());
    assert_eq!(fate(&line), ["GET", "/x", "200", "miss", "uri-miss", "-", "n"]);
    for (field, value) in [
        ("listener", "main"),
        ("client", "127.0.0.1"),
        ("host", "shop.example"),
        ("protocol", "HTTP/1.1"),
        ("route", "r"),
        ("end", "complete"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["bytes"], 12);
    // A millisecond to each side: three clock readings are cut to one.
    let time = humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    assert!((before - 1..=after + 1).contains(&millis(time)), "{line}");
    let took = line["duration_ms"].as_f64().unwrap();
    assert!(took > 0.0 && took <= (after - before + 1) as f64, "{line}");
    let id = line["request_id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
    lines.no_more().await;
}

#[tokio::test]
async fn every_fate_of_a_request_has_its_own_words() {
    let mut origin = Origin::start().await;
    let (proxy, lines) = over("json", &origin.url(), WEAK).await;
    let asks = async |origin: &mut Origin, method: &str, target: &str, headers: &[(&str, &str)]| {
        let mut client = proxy.client().await;
        client.ask(method, target, &[], b"").await;
        origin.next().await.respond(200, headers, "hello").await;
        client.answer().await;
        lines.json().await
    };
    let miss = asks(&mut origin, "GET", "/a", &[("ETag", "\"1\"")]).await;
    assert_eq!(fate(&miss), ["GET", "/a", "200", "miss", "uri-miss", "-", "n"]);
    proxy.get("/a").await;
    let hit = lines.json().await;
    assert_eq!(fate(&hit), ["GET", "/a", "200", "hit", "-", "-", "-"]);
    assert_eq!((&hit["bytes"], &hit["end"]), (&5.into(), &"complete".into()), "{hit}");
    proxy.request("HEAD", "/a", &[], "").await;
    let head = lines.json().await;
    assert_eq!(fate(&head), ["HEAD", "/a", "200", "hit", "-", "-", "-"]);
    assert_eq!(
        (&head["bytes"], &head["end"]),
        (&0.into(), &"complete".into()),
        "{head}"
    );
    let client_says = [("If-None-Match", "\"1\""), ("X-Request-Id", "mine")];
    proxy.get_with("/a", &client_says).await;
    let not_modified = lines.json().await;
    assert_eq!(fate(&not_modified), ["GET", "/a", "304", "hit", "-", "-", "-"]);
    assert_eq!(not_modified["request_id"], "mine");
    let unshared = asks(&mut origin, "GET", "/b", &[("Cache-Control", "no-store")]).await;
    assert_eq!(
        fate(&unshared),
        ["GET", "/b", "200", "miss", "uri-miss", "no-store", "n"]
    );
    let passed = asks(&mut origin, "OPTIONS", "/a", &[]).await;
    assert_eq!(fate(&passed), ["OPTIONS", "/a", "200", "pass", "method", "-", "n"]);
    let write = asks(&mut origin, "PUT", "/a", &[]).await;
    assert_eq!(fate(&write), ["PUT", "/a", "200", "pass", "method", "-", "n"]);
    origin.down().await;
    proxy.get("/c").await;
    let unreachable = lines.json().await;
    assert_eq!(
        fate(&unreachable),
        ["GET", "/c", "503", "refused", "-", "unreachable", "-"]
    );
    assert!(unreachable["request_id"].is_string() && unreachable["end"] == "complete");
    lines.no_more().await;
}

#[tokio::test]
async fn a_revalidation_names_the_node_that_confirmed() {
    let register = Register::new();
    register.write("/x", "v");
    let node = register.node("a").await;
    let (proxy, lines) = over("json", &node.url(), "consistency = \"strong\"").await;
    proxy.get("/x").await;
    assert_eq!(lines.json().await["result"], "miss");
    proxy.get("/x").await;
    let line = lines.json().await;
    assert_eq!(fate(&line), ["GET", "/x", "200", "revalidated", "stale", "-", "n"]);
    assert_eq!(line["bytes"], 1);
}

#[tokio::test]
async fn what_no_route_takes_and_what_is_refused_is_logged_too() {
    let config = "[telemetry]\naccess_log = \"json\"\n[upstreams.o]\nnodes = [{ url = \"http://127.0.0.1:9\" }]\n\
                  [[routes]]\nname = \"only\"\nmatch = { path = \"/only\" }\nrespond = { status = 200, body = \"abc\" }\n";
    let (lines, world) = Lines::new();
    let proxy = Proxy::start_in(world, config, &[]).await;
    proxy.get("/only").await;
    let own = lines.json().await;
    assert_eq!(fate(&own), ["GET", "/only", "200", "pass", "-", "-", "-"]);
    assert_eq!((&own["route"], &own["bytes"]), (&"only".into(), &3.into()));
    proxy.get("/other").await;
    let nowhere = lines.json().await;
    assert_eq!(
        fate(&nowhere),
        ["GET", "/other", "404", "refused", "-", "destination_not_found", "-"]
    );
    assert!(nowhere["route"].is_null());
    proxy.request("HEAD", "/other", &[], "").await;
    let head = lines.json().await;
    assert_eq!(
        (&head["status"], &head["end"]),
        (&404.into(), &"complete".into()),
        "{head}"
    );
    proxy.get_with("/only", &[("Host", "a,b")]).await;
    let refused = lines.json().await;
    assert_eq!(
        fate(&refused),
        ["GET", "/only", "400", "refused", "-", "http_request_denied", "-"]
    );
    assert_eq!(refused["host"], "a,b");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_body_is_said_to_have_left() {
    for (keys, answer) in [("consistency = \"off\"", "pass"), (WEAK, "miss")] {
        let mut origin = Origin::start().await;
        let (proxy, lines) = over("json", &origin.url(), keys).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/x", &[], b"").await;
        let mut exchange = origin.next().await;
        exchange.head(200, &[("Content-Length", "10")]).await;
        exchange.send("half ").await;
        client.head().await;
        assert_eq!(client.body_up_to(5).await, b"half ");
        client.abort();
        let line = lines.json().await;
        assert_eq!((&line["end"], &line["bytes"]), (&"left".into(), &5.into()), "{line}");
        assert_eq!((&line["status"], &line["result"]), (&200.into(), &answer.into()));
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_logged_without_a_status() {
    for (keys, method) in [("consistency = \"off\"", "GET"), (WEAK, "GET"), (WEAK, "PUT")] {
        let mut origin = Origin::start().await;
        let (proxy, lines) = over("json", &origin.url(), keys).await;
        let mut client = proxy.client().await;
        client.ask(method, "/x", &[], b"").await;
        let exchange = origin.next().await;
        client.abort();
        let line = lines.json().await;
        assert_eq!(fate(&line), [method, "/x", "-", "-", "-", "-", "-"]);
        assert_eq!((&line["end"], &line["route"]), (&"left".into(), &"r".into()), "{line}");
        exchange.close();
        lines.no_more().await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_at_the_node_is_said_to_be_broken() {
    for keys in ["consistency = \"off\"", WEAK] {
        let mut origin = Origin::start().await;
        let (proxy, lines) = over("json", &origin.url(), keys).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/x", &[], b"").await;
        let mut exchange = origin.next().await;
        exchange.head(200, &[("Content-Length", "10")]).await;
        exchange.send("half ").await;
        client.head().await;
        assert_eq!(client.body_up_to(5).await, b"half ");
        exchange.reset();
        let line = lines.json().await;
        assert_eq!((&line["end"], &line["bytes"]), (&"broken".into(), &5.into()), "{line}");
    }
}

#[tokio::test]
async fn a_follower_is_logged_as_collapsed_with_the_node_of_its_leader() {
    let mut origin = Origin::start().await;
    let (proxy, lines) = over("json", &origin.url(), WEAK).await;
    let (mut leader, mut follower) = (proxy.client().await, proxy.client().await);
    leader.ask("GET", "/x", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange.head(200, &[("Content-Length", "4")]).await;
    leader.head().await;
    follower.ask("GET", "/x", &[], b"").await;
    follower.head().await;
    exchange.send("body").await;
    exchange.keep();
    let mut fates = [fate(&lines.json().await), fate(&lines.json().await)];
    fates.sort();
    assert_eq!(fates[0], ["GET", "/x", "200", "collapsed", "uri-miss", "-", "n"]);
    assert_eq!(fates[1], ["GET", "/x", "200", "miss", "uri-miss", "-", "n"]);
}

#[tokio::test]
async fn a_text_line_reads_from_left_to_right() {
    let register = Register::new();
    register.write("/x", "abc");
    let node = register.node("a").await;
    let (proxy, lines) = over("text", &node.url(), WEAK).await;
    proxy.get_with("/x?q", &[("X-Request-Id", "mine")]).await;
    let line = lines.text().await;
    let mut words: Vec<&str> = line.split(' ').collect();
    assert!(humantime::parse_rfc3339(words.remove(0)).is_ok(), "{line}");
    let took = words.remove(13).strip_prefix("ms=").unwrap();
    assert!(took.parse::<f64>().is_ok(), "{line}");
    assert_eq!(
        words.join(" "),
        "main 127.0.0.1 GET shop.example /x HTTP/1.1 200 miss route=r fwd=uri-miss why=- node=n bytes=3 end=complete \
         id=mine"
    );
}

#[tokio::test]
async fn no_query_cookie_or_credentials_are_ever_logged() {
    const SECRET: &str = "hunter2";
    for format in ["text", "json"] {
        let mut origin = Origin::start().await;
        let (proxy, lines) = over(format, &origin.url(), WEAK).await;
        let sent = [
            ("Cookie", "session=hunter2"),
            ("Authorization", "Bearer hunter2"),
            ("Proxy-Authorization", "Basic hunter2"),
            ("Referer", "http://a/?hunter2"),
            ("X-Api-Key", "hunter2"),
        ];
        let target = format!("/x?token={SECRET}");
        for (method, public) in [("GET", "public"), ("PUT", "no-store"), ("OPTIONS", "private")] {
            let mut client = proxy.client().await;
            client.ask(method, &target, &sent, b"hunter2").await;
            let answer = [
                ("Set-Cookie", "session=hunter2"),
                ("Cache-Control", public),
                ("Location", "/?hunter2"),
            ];
            origin.next().await.respond(200, &answer, SECRET).await;
            client.answer().await;
        }
        // A refusal: the host of an absolute target may bring a password.
        let mut client = proxy.client().await;
        client.expects_answer_to("GET");
        client
            .send("GET http://user:hunter2@a.example/x?hunter2 HTTP/1.1\r\nHost: user:hunter2@a.example\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.status, 400);
        for _ in 0..4 {
            let line = lines.text().await;
            assert!(line.contains("/x") && !line.contains(SECRET), "{line}");
        }
        lines.no_more().await;
    }
}

#[tokio::test]
async fn no_bytes_of_a_request_break_its_line() {
    let requests: [&[u8]; 7] = [
        b"GET /a%0a%0d%00%22 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /a\"{}\"\\ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /\xc2\x85\xe2\x80\xa8\xe2\x80\xae\x1b[31m HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\xff\"\\.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Request-Id: \"}\t{\\n\xff\xc2\x85 status=200\r\n\r\n",
        b"!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ];
    for format in ["text", "json"] {
        let config = format!(
            "[telemetry]\naccess_log = \"{format}\"\n[[routes]]\nname = \"all\"\nrespond = {{ status = 200, body = \"a\" }}\n"
        );
        let (lines, world) = Lines::new();
        let proxy = Proxy::start_in(world, &config, &[]).await;
        let mut answered = 0;
        for request in requests {
            let mut client: Client = proxy.client().await;
            client.expects_answer_to("GET");
            client.send(request).await;
            let answer = client.answer().await;
            // What is not HTTP at all never comes to the log.
            if answer.header("cache-status").is_none() {
                continue;
            }
            answered += 1;
            let line = lines.text().await;
            if format == "json" {
                let json: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                assert_eq!(json["status"], answer.status, "{line}");
                assert_eq!(json.as_object().unwrap().len(), 17, "{line}");
            } else {
                let words: Vec<&str> = line.split(' ').collect();
                assert_eq!(words.len(), 17, "{line}");
                assert_eq!(words[7], answer.status.to_string(), "{line}");
                assert!(words.iter().all(|w| w.bytes().all(|b| b.is_ascii_graphic())), "{line}");
            }
            lines.no_more().await;
        }
        assert!(answered >= 5, "only {answered} of the requests came to the proxy");
    }
}

/// An output that refuses everything, or takes it and never says so.
struct Blocked {
    refuses: bool,
}

impl Output for Blocked {
    fn write(&self, _text: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        if self.refuses {
            return Box::pin(async { Err(io::ErrorKind::BrokenPipe.into()) });
        }
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn requests_do_not_care_whether_their_lines_are_written() {
    for refuses in [true, false] {
        let world = World {
            output: Arc::new(Blocked { refuses }),
            ..World::real()
        };
        let config = "[telemetry]\naccess_log = \"text\"\n[[routes]]\nrespond = { status = 200, body = \"a\" }\n";
        let proxy = Proxy::start_in(world, config, &[]).await;
        let mut client = proxy.client().await;
        for _ in 0..100 {
            assert_eq!(client.get("/").await.status, 200);
        }
        if refuses {
            proxy
                .until_metric("tidegate_access_log_dropped_total", &[], 100.0)
                .await;
        } else {
            // They wait in the queue, which has room.
            assert_eq!(proxy.metric("tidegate_access_log_dropped_total", &[]).await, 0.0);
        }
        assert_eq!(proxy.admin_get("/live").await.status, 200);
    }
}

#[tokio::test]
async fn off_writes_nothing() {
    let (lines, world) = Lines::new();
    let config = "[[routes]]\nrespond = { status = 200, body = \"a\" }\n";
    let proxy = Proxy::start_in(world, config, &[]).await;
    proxy.get("/").await;
    drop(proxy); // writes what is left, were there anything
    lines.no_more().await;
}

#[tokio::test]
async fn the_binary_logs_to_stdout_after_the_ready_line_and_to_the_last_request() {
    let config = "[telemetry]\naccess_log = \"json\"\n[[routes]]\nrespond = { status = 200, body = \"a\" }\n";
    let mut binary = Binary::run(config, &[]);
    let (address, _) = binary.ready();
    for number in 0..20 {
        let mut client = Client::connect(address).await;
        assert_eq!(client.get(&format!("/{number}")).await.status, 200);
    }
    binary.signal(rustix::process::Signal::TERM);
    let ended = within("the end", binary.ended()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut paths: Vec<String> = ended
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["path"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    paths.sort_by_key(|path| path.trim_start_matches('/').parse::<u32>().unwrap());
    let expected: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn a_reload_takes_no_listener_s_name_away() {
    let text = |body: &str| {
        format!("[telemetry]\naccess_log = \"json\"\n[[routes]]\nrespond = {{ status = 200, body = \"{body}\" }}\n")
    };
    let (folder, file) = config_file(&text("a"), &[]);
    let mut binary = Binary::start(&["run", "-c", &file], folder);
    let (address, admin) = binary.ready();
    let mut from_before = Client::connect(address).await;
    assert_eq!(from_before.get("/").await.text(), "a");
    std::fs::write(&file, complete(&text("b"), &[])).unwrap();
    let told = run_to_end(&["reload", "--admin", &admin.to_string()]).await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert_eq!(from_before.get("/").await.text(), "b");
    assert_eq!(Client::connect(address).await.get("/").await.text(), "b");
    binary.signal(rustix::process::Signal::TERM);
    let ended = within("the end", binary.ended()).await;
    let lines = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let listeners: Vec<Value> = lines.map(|line| line["listener"].clone()).collect();
    assert_eq!(listeners, ["main", "main", "main"]);
}

#[tokio::test]
async fn a_request_that_the_end_cuts_off_is_still_logged() {
    let mut origin = Origin::start().await;
    let (proxy, lines) = over("json", &origin.url(), "consistency = \"off\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/x", &[], b"").await;
    let exchange = origin.next().await;
    tokio::time::timeout(Duration::from_secs(20), async { drop(proxy) })
        .await
        .unwrap();
    let line = lines.json().await;
    assert_eq!((&line["path"], &line["end"]), (&"/x".into(), &"left".into()), "{line}");
    drop(exchange);
}

#[tokio::test]
async fn a_node_that_was_found_while_the_process_runs_is_named() {
    let register = Register::new();
    register.write("/x", "v");
    let node = register.node("a").await;
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("nodes.toml");
    std::fs::write(
        &list,
        format!("nodes = [{{ url = \"{}\", name = \"found\" }}]\n", node.url()),
    )
    .unwrap();
    let config = format!(
        "[telemetry]\naccess_log = \"json\"\n\n[upstreams.o]\ndiscover = {{ file = \"{}\" }}\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n",
        list.display()
    );
    let (lines, world) = Lines::new();
    let proxy = Proxy::start_in(world, &config, &[]).await;
    assert_eq!(proxy.get("/x").await.text(), "v");
    assert_eq!(lines.json().await["node"], "found");
}
