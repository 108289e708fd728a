//! Unix sockets: a listener on one, nodes behind one, and what becomes of the file.

use super::support::origin::Origin;
use super::support::proxy::{Binary, Proxy, config_file, one_route, run_to_end};
use super::support::within;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A folder, and a socket's path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.sock");
    (dir, path)
}

/// A proxy that listens on a unix socket, with these keys of its listener, before `origin`.
async fn behind(path: &Path, listener: &str, origin: &Origin) -> Proxy {
    let config = format!(
        "[listeners.main]\naddress = \"unix:{}\"\n{listener}\n\n{}",
        path.display(),
        one_route("consistency = \"weak\"\n")
    );
    Proxy::start(&config, &[("origin", &origin.url())]).await
}

/// A proxy with the node behind the socket.
async fn before(path: &Path, keys: &str) -> Proxy {
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"unix:{}\" }}]\nconnect_timeout = \"2s\"\n{keys}\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"off\"\n",
        path.display()
    );
    Proxy::start(&config, &[]).await
}

/// One request over the socket, on a connection of its own: the whole answer.
async fn ask(path: &Path, head: &str) -> String {
    within("an answer over the socket", async {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let request = format!("{head}\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    })
    .await
}

#[tokio::test]
async fn a_request_passes_over_a_unix_socket_from_a_listener_of_one_to_a_node_of_another() {
    let mut origin = Origin::start().await;
    let (_dir, path) = place();
    let inner = behind(&path, "trusted_proxies = [\"unix:\"]", &origin).await;
    let outer = before(&path, "host = \"node\"").await;
    let mut client = outer.client().await;
    client.ask("GET", "/a", &[], b"").await;
    let asked = origin.next().await;
    assert_eq!(asked.header("host"), Some("localhost"), "a socket has no host");
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1, unknown"));
    assert_eq!(
        asked.header("forwarded"),
        Some("for=127.0.0.1;host=\"shop.example\";proto=http, for=unknown;host=\"localhost\";proto=http"),
        "RFC 7239 s6.2"
    );
    asked.respond(200, &[("Cache-Control", "max-age=60")], "a").await;
    assert_eq!(client.answer().await.text(), "a");
    let again = client.get("/a").await;
    let said = again.headers.all("cache-status");
    assert!(said[0].contains("; hit") && said[1].contains("fwd=bypass"), "{said:?}");
    let node = &outer.status().await["upstreams"][0]["nodes"][0];
    assert_eq!(node["url"], format!("unix:{}", path.display()));
    assert_eq!(node["name"], "unix:t.sock");
    let labels = [("upstream", "o"), ("node", "unix:t.sock")];
    assert!(outer.metric("tidegate_upstream_seconds_count", &labels).await >= 1.0);
    drop(inner);
    assert!(!path.exists(), "the file goes with the listener");
    assert_eq!(outer.get("/b").await.problem(), "unreachable");
}

#[tokio::test]
async fn a_peer_over_a_unix_socket_is_believed_and_may_purge_and_see_only_where_the_list_says_so() {
    let mut origin = Origin::start().await;
    for (lists, allowed) in [
        (
            "debug_from = [\"0.0.0.0/0\", \"::/0\"]\npurge_from = [\"0.0.0.0/0\"]\ntrusted_proxies = [\"0.0.0.0/0\"]",
            false,
        ),
        (
            "debug_from = [\"unix:\"]\npurge_from = [\"unix:\"]\ntrusted_proxies = [\"10.0.0.0/8\", \"unix:\"]",
            true,
        ),
    ] {
        let (_dir, path) = place();
        let _proxy = behind(&path, lists, &origin).await;
        let get = "GET /a HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7";
        let (answer, asked) = tokio::join!(ask(&path, get), async {
            let asked = origin.next().await;
            let told = asked.header("x-forwarded-for").map(str::to_owned);
            asked.respond(200, &[("Cache-Control", "max-age=60")], "a").await;
            told
        });
        assert_eq!(answer.contains("key="), allowed, "{lists}: {answer}");
        let trail = if allowed { "192.0.2.7, unknown" } else { "unknown" };
        assert_eq!(asked.as_deref(), Some(trail), "{lists}");
        let purged = ask(&path, "PURGE /a HTTP/1.1").await;
        let status = if allowed { "HTTP/1.1 200" } else { "HTTP/1.1 405" };
        assert!(purged.starts_with(status), "{lists}: {purged}");
    }
}

#[tokio::test]
async fn probes_go_over_the_socket_and_a_node_is_back_when_its_socket_is() {
    let origin = Origin::start().await;
    for check in ["path = \"/healthz\"", "tcp = true"] {
        let (_dir, path) = place();
        let keys = format!(
            "health_check = {{ {check}, interval = \"50ms\", timeout = \"500ms\", healthy_threshold = 1, unhealthy_threshold = 1 }}"
        );
        let outer = before(&path, &keys).await;
        outer.until_state("o", "unix:t.sock", "unhealthy").await;
        let inner = behind(&path, "", &origin).await;
        outer.until_state("o", "unix:t.sock", "active").await;
        drop(inner);
        outer.until_state("o", "unix:t.sock", "unhealthy").await;
    }
}

#[tokio::test]
async fn a_file_of_nodes_may_name_unix_sockets() {
    let mut origin = Origin::start().await;
    let (dir, path) = place();
    let _inner = behind(&path, "", &origin).await;
    let file = dir.path().join("nodes.toml");
    // Relative to the file's own folder.
    std::fs::write(&file, "nodes = [{ url = \"unix:t.sock\" }]\n").unwrap();
    let config = "[upstreams.o]\ndiscover = { file = \"{file}\" }\n\n[[routes]]\nname = \"r\"\nupstream = \"o\"\n";
    let outer = Proxy::start(config, &[("file", &file.display().to_string())]).await;
    let (answer, ()) = tokio::join!(outer.get("/a"), async {
        origin.next().await.respond(200, &[], "a").await;
    });
    assert_eq!(answer.text(), "a");
}

#[tokio::test]
async fn a_killed_process_leaves_its_file_and_the_next_one_replaces_it_but_not_while_somebody_listens() {
    let (_dir, path) = place();
    let config = format!(
        "[server]\nthreads = 2\ndrain_timeout = \"1s\"\n[listeners.main]\naddress = \"unix:{}\"\n[telemetry]\naccess_log = \"text\"\n[[routes]]\nname = \"r\"\nrespond = {{ body = \"here\" }}\n",
        path.display()
    );
    let mut killed = Binary::run(&config, &[]);
    let line = killed.ready_line();
    assert!(
        line.contains(&format!("listeners=main=unix:{} ", path.display())),
        "{line}"
    );
    let (_folder, file) = config_file(&config, &[]);
    let refused = run_to_end(&["run", "-c", &file]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("another process listens there"),
        "{}",
        refused.stderr
    );
    assert!(
        ask(&path, "GET / HTTP/1.1").await.ends_with("here"),
        "it has taken nothing away"
    );
    killed.signal(Signal::KILL);
    killed.ended().await;
    assert!(path.exists(), "nobody was left to remove it");
    let mut next = Binary::run(&config, &[]);
    next.ready_line();
    for _ in 0..8 {
        assert!(ask(&path, "GET / HTTP/1.1").await.ends_with("here"));
    }
    next.signal(Signal::TERM);
    let ended = next.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!path.exists(), "a clean end removes the file");
    assert!(
        ended.stdout.contains(" main unix: GET shop.example / "),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn a_listener_that_cannot_have_its_socket_says_what_is_wrong_with_the_place() {
    let (dir, path) = place();
    std::fs::write(&path, "").unwrap();
    let missing = dir.path().join("none/t.sock");
    for (path, word) in [(&path, "no socket"), (&missing, "there is no folder")] {
        let config = format!(
            "[listeners.main]\naddress = \"unix:{}\"\n[[routes]]\nrespond = {{}}\n",
            path.display()
        );
        let (_folder, file) = config_file(&config, &[]);
        let refused = run_to_end(&["run", "-c", &file]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
}
