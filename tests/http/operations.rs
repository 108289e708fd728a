//! What an operator meets: the ready line, exit codes, signals, drain, the admin port.

use super::support::client::Client;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::{Binary, Proxy, config_file, metric_in, one_route, run_to_end};
use rustix::process::Signal;

#[tokio::test]
async fn run_prints_one_ready_line_with_the_real_ports_and_serves() {
    let mut origin = Origin::start().await;
    let mut tidegate = Binary::run(&one_route(""), &[("origin", &origin.url())]);
    let (address, admin) = tidegate.ready();
    assert!(address.port() != 0 && admin.port() != 0);
    let mut client = Client::connect(address).await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "through").await;
    assert_eq!(client.answer().await.text(), "through");
    tidegate.signal(Signal::TERM);
    let ended = tidegate.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "nothing but the ready line on stdout");
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    let mut origin = Origin::start().await;
    let mut tidegate = Binary::run(&one_route(""), &[("origin", &origin.url())]);
    let (address, _) = tidegate.ready();
    let mut client = Client::connect(address).await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange.head(200, &[("Content-Length", "8")]).await;
    assert_eq!(client.head().await.0, 200);
    tidegate.signal(Signal::TERM);
    eventually("the listener to be closed", || async {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    exchange.send("complete").await;
    exchange.keep();
    assert_eq!(client.body_up_to(usize::MAX).await, b"complete");
    assert_eq!(tidegate.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut origin = Origin::start().await;
    let mut tidegate = Binary::run(&one_route(""), &[("origin", &origin.url())]);
    let (address, _) = tidegate.ready();
    let mut client = Client::connect(address).await;
    client.ask("GET", "/", &[], b"").await;
    let _held = origin.next().await;
    tidegate.signal(Signal::INT);
    eventually("the listener to be closed", || async {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    tidegate.signal(Signal::INT);
    tidegate.ended().await;
    assert!(client.try_answer().await.is_err());
}

#[tokio::test]
async fn during_drain_delay_ready_says_503_and_requests_are_still_served() {
    let mut origin = Origin::start().await;
    let config = "[server]\nthreads = 1\ndrain_delay = \"30s\"\n".to_owned() + &one_route("");
    let mut tidegate = Binary::run(&config, &[("origin", &origin.url())]);
    let (address, admin) = tidegate.ready();
    let probe = |path: &'static str| async move {
        let host = admin.to_string();
        Client::connect(admin)
            .await
            .get_with(path, &[("Host", &host)])
            .await
            .status
    };
    assert_eq!((probe("/live").await, probe("/ready").await), (200, 200));
    tidegate.signal(Signal::TERM);
    eventually("/ready to say 503", || async { probe("/ready").await == 503 }).await;
    assert_eq!(probe("/live").await, 200);
    let mut client = Client::connect(address).await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "still here").await;
    assert_eq!(client.answer().await.text(), "still here");
    tidegate.signal(Signal::TERM);
    tidegate.ended().await;
}

#[tokio::test]
async fn an_answer_under_way_when_the_drain_begins_is_its_connection_s_last() {
    let mut origin = Origin::start().await;
    let config = "[server]\nthreads = 1\ndrain_delay = \"10m\"\n".to_owned() + &one_route("");
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut exchange = origin.next().await;
    exchange.head(200, &[("Transfer-Encoding", "chunked")]).await;
    exchange.chunk("one").await;
    let (_, head) = client.head().await;
    assert_eq!(head.headers.get("connection"), None, "too late to say it");
    proxy.drain();
    eventually("the drain to begin", || async {
        proxy.admin_get("/ready").await.status == 503
    })
    .await;
    exchange.chunk("two").await;
    exchange.last_chunk().await;
    assert_eq!(client.body_up_to(6).await, b"onetwo");
    assert!(client.try_body_part().await.unwrap().is_none());
    // Long before the listeners are shut.
    client.closed().await;
}

#[tokio::test]
async fn exit_codes_name_whose_fault_it_is() {
    let (_dir, good) = config_file(&one_route(""), &[("origin", "http://127.0.0.1:1")]);
    let (_dir2, bad) = config_file("[server]\nthraeds = 2\n", &[]);
    for (args, code) in [
        (&["check", "-c", &good][..], 0),
        (&["check", "-c", &bad][..], 78),
        (&["run", "-c", &bad][..], 78),
        (&["run", "-c", "/nowhere/tidegate.toml"][..], 78),
        (&["check", "-c", "/nowhere/tidegate.toml"][..], 78),
        (&["--no-such-flag"][..], 64),
        (&["no-such-command"][..], 64),
        (&["--version"][..], 0),
        (&["--help"][..], 0),
    ] {
        let ended = run_to_end(args).await;
        assert_eq!(ended.code, Some(code), "{args:?}: {} {}", ended.stdout, ended.stderr);
    }
    let checked = run_to_end(&["check", "-c", &good]).await;
    assert_eq!(checked.stdout.trim(), format!("{good}: ok"));
    let told = run_to_end(&["check", "-c", &bad]).await;
    assert!(
        told.stderr.contains("thraeds") && told.stderr.contains("did you mean \"threads\""),
        "{}",
        told.stderr
    );
}

#[tokio::test]
async fn a_taken_address_is_exit_1_and_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = format!("[listeners.main]\naddress = \"{address}\"\n{}", one_route(""));
    let ended = Binary::run(&config, &[("origin", "http://127.0.0.1:1")]).ended().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
}

#[tokio::test]
async fn two_processes_do_not_share_a_port() {
    let config = one_route("");
    let values = [("origin", "http://127.0.0.1:1")];
    let mut first = Binary::run(&config, &values);
    let (address, _) = first.ready();
    let again = format!("[listeners.main]\naddress = \"{address}\"\n{config}");
    let ended = Binary::run(&again, &values).ended().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.to_lowercase().contains("in use"), "{}", ended.stderr);
}

#[tokio::test]
async fn run_needs_no_file() {
    let mut origin = Origin::start().await;
    let dir = tempfile::tempdir().unwrap();
    let url = origin.url();
    let flags = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--upstream",
        &url,
        "--consistency",
        "eventual",
    ];
    let mut tidegate = Binary::start(&flags, dir);
    let (address, _) = tidegate.ready();
    let mut client = Client::connect(address).await;
    client.ask("GET", "/", &[], b"").await;
    origin
        .next()
        .await
        .respond(200, &[("Cache-Control", "max-age=60")], "x")
        .await;
    assert!(client.answer().await.consistency().starts_with("bounded;"));
    assert!(client.get("/").await.is_hit());
}

#[tokio::test]
async fn print_config_shows_every_value_and_where_it_is_from() {
    let (_dir, path) = config_file(
        &one_route("consistency = \"eventual\""),
        &[("origin", "http://127.0.0.1:1")],
    );
    let ended = run_to_end(&["print-config", "-c", &path]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for part in [
        "max_staleness = \"60s\"",
        "on_unreachable = \"error\"",
        "drain_timeout = \"25s\"",
        "connect_timeout = \"2s\"",
    ] {
        assert!(ended.stdout.contains(part), "{part} in\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("default"), "where a value is from");
}

#[tokio::test]
async fn status_tells_routes_upstreams_cache_and_build() {
    let mut origin = Origin::start().await;
    let proxy = Proxy::start(
        &one_route("consistency = \"weak\"\nttl = \"1h\""),
        &[("origin", &origin.url())],
    )
    .await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, &[], "stored").await;
    client.answer().await;
    let status = proxy.status().await;
    assert_eq!(
        (&status["routes"][0]["name"], &status["routes"][0]["consistency"]),
        (&"r".into(), &"weak".into())
    );
    let upstream = &status["upstreams"][0];
    assert_eq!(
        (&upstream["name"], &upstream["mode"]),
        (&"o".into(), &"active-active".into())
    );
    assert_eq!(upstream["replication"], "shared");
    let node = &upstream["nodes"][0];
    assert_eq!((&node["url"], &node["state"]), (&origin.url().into(), &"active".into()));
    for field in ["epoch", "primary"] {
        assert!(upstream.get(field).is_some(), "{field}");
    }
    for field in ["role", "position", "in_sync"] {
        assert!(node.get(field).is_some(), "{field}");
    }
    assert_eq!(status["cache"]["entries"], 1);
    assert!(status["cache"]["bytes"].as_u64().unwrap() > 6);
    assert_eq!(status["unsettled"].as_array().map(Vec::len), Some(0));
    assert_eq!(status["build"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["config_hash"].is_string());
}

#[tokio::test]
async fn status_on_the_command_line_is_a_table_for_people_and_a_document_for_scripts() {
    let config = one_route("consistency = \"weak\"") + "\n[upstreams.o.health_check]\ntcp = true\n";
    let proxy = Proxy::start(&config, &[("origin", "http://127.0.0.1:1")]).await;
    let admin = proxy.admin.to_string();
    let shown = run_to_end(&["status", "--admin", &admin]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for expected in [
        "\nr      weak\n",
        "\no         127.0.0.1:1  unhealthy  -     http://127.0.0.1:1\n",
        "\ncache: 0 entries, 0 B\n",
        "\nunsettled: nothing\n",
    ] {
        assert!(
            shown.stdout.contains(expected),
            "{expected:?} is not in\n{}",
            shown.stdout
        );
    }
    let raw = run_to_end(&["status", "--json", "--admin", &admin]).await;
    assert_eq!(raw.code, Some(0), "{}", raw.stderr);
    let raw: serde_json::Value = serde_json::from_str(&raw.stdout).unwrap();
    assert_eq!(raw, proxy.status().await);
}

#[tokio::test]
async fn metrics_are_prometheus_text_with_the_promised_names() {
    let proxy = Proxy::start(
        &one_route("consistency = \"weak\""),
        &[("origin", "http://127.0.0.1:1")],
    )
    .await;
    proxy.get("/").await;
    let answer = proxy.admin_get("/metrics").await;
    let text = answer.text();
    for name in [
        "tidegate_requests_total",
        "tidegate_request_seconds",
        "tidegate_upstream_seconds",
        "tidegate_node_state",
        "tidegate_failovers_total",
        "tidegate_fills_refused_total",
        "tidegate_served_age_seconds",
        "tidegate_writes_total",
        "tidegate_unsettled",
        "tidegate_cache_bytes",
        "tidegate_cache_entries",
        "tidegate_cache_evictions_total",
        "tidegate_retries_total",
        "tidegate_build_info",
    ] {
        assert!(
            text.contains(&format!("# TYPE {name} "))
                || text.contains(&format!("# TYPE {} ", name.trim_end_matches("_total"))),
            "{name}"
        );
    }
    assert_eq!(
        metric_in(
            text,
            "tidegate_requests_total",
            &[("result", "refused"), ("route", "r"), ("code", "503")]
        ),
        1.0
    );
}

#[tokio::test]
async fn the_admin_port_wants_a_loopback_host_and_known_paths() {
    let proxy = Proxy::start(&one_route(""), &[("origin", "http://127.0.0.1:1")]).await;
    let rebound = Client::connect(proxy.admin)
        .await
        .get_with("/status", &[("Host", "evil.example")])
        .await;
    assert!(
        (400..500).contains(&rebound.status),
        "DNS rebinding: {}",
        rebound.status
    );
    let purge = Client::connect(proxy.admin)
        .await
        .request("POST", "/purge", &[("Host", "evil.example:9901")], b"{\"all\":true}")
        .await;
    assert!((400..500).contains(&purge.status));
    assert_eq!(proxy.admin_get("/nothing").await.status, 404);
    assert_eq!(proxy.admin_get("/purge").await.status, 405);
    let config = proxy.admin_get("/config").await;
    assert_eq!(config.status, 200);
}

#[tokio::test]
async fn debug_from_decides_who_sees_details() {
    for (networks, seen) in [("\"127.0.0.0/8\"", true), ("", false)] {
        let mut origin = Origin::start().await;
        let config = format!(
            "[listeners.main]\naddress = \"127.0.0.1:0\"\ndebug_from = [{networks}]\n{}",
            one_route("consistency = \"weak\"")
        );
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        origin
            .next()
            .await
            .respond(200, &[("Cache-Control", "no-store")], "x")
            .await;
        let answer = client.answer().await;
        assert_eq!(
            answer.cache_status().contains("detail="),
            seen,
            "{}",
            answer.cache_status()
        );
    }
}

#[tokio::test]
async fn memory_stays_within_max_memory() {
    let mut origin = Origin::start().await;
    let config = "[cache]\nmax_memory = \"4MiB\"\nmax_object = \"256KiB\"\n".to_owned()
        + &one_route("consistency = \"weak\"\nttl = \"1h\"");
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let body = vec![b'x'; 100_000];
    let mut client = proxy.client().await;
    for n in 0..100 {
        client.ask("GET", &format!("/{n}"), &[], b"").await;
        origin.next().await.respond(200, &[], &body).await;
        assert_eq!(client.answer().await.body.len(), body.len());
        let bytes = proxy.metric("tidegate_cache_bytes", &[]).await;
        assert!(bytes <= 4.0 * 1024.0 * 1024.0, "{bytes} bytes after {n} objects");
    }
    assert!(
        proxy.metric("tidegate_cache_entries", &[]).await > 10.0,
        "and it is used"
    );
}

#[tokio::test]
async fn keys_count_against_max_memory_too() {
    let mut origin = Origin::start().await;
    let config = "[cache]\nmax_memory = \"1MiB\"\nmax_object = \"64KiB\"\n".to_owned()
        + &one_route("consistency = \"weak\"\nttl = \"1h\"");
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let long = "k".repeat(4000);
    let mut client = proxy.client().await;
    for n in 0..1000 {
        client.ask("GET", &format!("/{n}?{long}"), &[], b"").await;
        origin.next().await.respond(200, &[], "").await;
        assert_eq!(client.answer().await.status, 200);
    }
    // A thousand keys of 4,000 bytes are four times what there is.
    let entries = proxy.metric("tidegate_cache_entries", &[]).await;
    assert!(
        entries > 0.0 && entries * 4000.0 <= 1024.0 * 1024.0,
        "{entries} entries"
    );
}
