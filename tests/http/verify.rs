//! `tidegate verify` against running proxies: it must say "kept" of one that keeps its promises, and find the violation of one that was
//! told to break a rule. The store behind has reads that take their time between looking and answering, as a busy database does: without
//! them a proxy that forgets the gate is hardly ever caught.

use super::support::proxy::{Binary, run_to_end};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Store {
    documents: BTreeMap<String, (u64, String)>,
    reads: u64,
}

/// A store over HTTP; answers its URL.
async fn store() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::default());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn answer(
    State(store): State<Arc<Mutex<Store>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method == Method::PUT {
        let text = String::from_utf8(body.to_vec()).unwrap();
        let mut store = store.lock().unwrap();
        let document = store.documents.entry(uri.path().to_owned()).or_default();
        *document = (document.0 + 1, text);
        return StatusCode::NO_CONTENT.into_response();
    }
    let (found, slow) = {
        let mut store = store.lock().unwrap();
        store.reads += 1;
        (store.documents.get(uri.path()).cloned(), store.reads % 3 == 0)
    };
    if slow {
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let Some((version, text)) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = format!("\"v{version}\"");
    if headers.get("if-none-match").is_some_and(|tag| *tag == *etag) {
        return (StatusCode::NOT_MODIFIED, [("etag", etag)]).into_response();
    }
    ([("etag", etag)], format!("{{\"value\":\"{text}\"}}\n")).into_response()
}

fn config(store: &str, keys: &str) -> String {
    format!(
        "[upstreams.o]\nnodes = [{{ url = \"{store}\" }}]\n\n[[routes]]\nname = \"r\"\nmatch = {{ path = \"/r/{{*rest}}\" }}\nupstream = \"o\"\n{keys}\n"
    )
}

const EXCLUSIVE: &str = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"100ms\"";

/// Enough for a proxy that breaks a rule to be seen, in about four seconds.
const LOAD: [&str; 8] = [
    "--operations",
    "1600",
    "--rate",
    "400",
    "--keys",
    "2",
    "--seconds",
    "20",
];

async fn verified(rules_off: &str) -> super::support::proxy::Ended {
    let store = store().await;
    let env = (!rules_off.is_empty()).then(|| ("TIDEGATE_TEST_RULES_OFF".to_owned(), rules_off.to_owned()));
    let env: Vec<_> = env.into_iter().collect();
    let mut proxy = Binary::run_with(&config(&store, EXCLUSIVE), &[], &env);
    let url = format!("http://{}/r", proxy.ready().0);
    run_to_end(&[&["verify", "--url", &url][..], &LOAD].concat()).await
}

#[tokio::test]
async fn a_strong_route_that_keeps_its_promise_is_kept() {
    let ended = verified("").await;
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    for part in [
        "judged as                      strong\n",
        "linearizable                   yes, ",
        "read your writes               yes, ",
        "no acknowledged write is lost  yes, 2 judged\n",
        "\nverdict: KEPT\n",
    ] {
        assert!(ended.stdout.contains(part), "{part}\n{}", ended.stdout);
    }
    assert!(
        ended.stderr.contains("this writes /r/tidegate-verify-0 to -1 at "),
        "{}",
        ended.stderr
    );
    let hits: u64 = ended.stdout.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(
        hits > 100,
        "hardly anything came from memory, so hardly anything was shown:\n{}",
        ended.stdout
    );
}

#[tokio::test]
async fn a_proxy_that_stores_what_a_write_has_overtaken_is_found_r1() {
    let ended = verified("R1").await;
    assert_eq!(ended.code, Some(1), "{}\n{}", ended.stdout, ended.stderr);
    for part in [
        "linearizable                   NO, ",
        "The smallest schedule that shows it (in seconds):\n",
        "\nverdict: NOT KEPT\n",
    ] {
        assert!(ended.stdout.contains(part), "{part}\n{}", ended.stdout);
    }
}

#[tokio::test]
async fn two_eventual_proxies_keep_the_bound_and_nothing_more() {
    let store = store().await;
    let keys = "consistency = \"eventual\"\nttl = \"60s\"\nmax_staleness = \"60s\"";
    let mut proxies = [(); 2].map(|()| Binary::run_with(&config(&store, keys), &[], &[]));
    let urls = proxies.each_mut().map(|proxy| format!("http://{}/r", proxy.ready().0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl").to_str().unwrap().to_owned();
    let driven = ["verify", "--url", &urls[0], "--url", &urls[1], "--record", &file];
    let ended = run_to_end(&[&driven[..], &LOAD].concat()).await;
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(
        ended.stdout.contains("within the bound               yes, "),
        "{}",
        ended.stdout
    );
    let history = std::fs::read_to_string(&file).unwrap();
    let last = history.lines().filter(|line| line.contains("\"last\":true"));
    assert_eq!(last.count(), 2 * 2, "both keys at both proxies");
    let judged = async |more: &[&str]| run_to_end(&[&["verify", "--history", &file][..], more].concat()).await;
    assert_eq!(judged(&[]).await.code, Some(0), "the same history says the same");
    for (more, part) in [
        (&["--max-staleness", "1ms"][..], "within the bound               NO, "),
        (&["--sessions"], "read your writes               NO, "),
        (&["--sessions"], "monotonic reads                NO, "),
        (&["--level", "strong"], "linearizable                   NO, "),
    ] {
        let ended = judged(more).await;
        assert_eq!(ended.code, Some(1), "{more:?}\n{}", ended.stdout);
        assert!(ended.stdout.contains(part), "{part}\n{}", ended.stdout);
        let shown = ended.stdout.split("(in seconds):").nth(1).unwrap();
        assert!(
            shown.lines().filter(|line| line.contains(" client ")).count() <= 7,
            "{shown}"
        );
    }
}

#[tokio::test]
async fn what_an_earlier_run_left_in_a_cache_is_no_violation_of_a_bound() {
    let store = store().await;
    let keys = "consistency = \"eventual\"\nttl = \"60s\"\nmax_staleness = \"60s\"";
    let mut proxies = [(); 2].map(|()| Binary::run_with(&config(&store, keys), &[], &[]));
    let urls = proxies.each_mut().map(|proxy| format!("http://{}/r", proxy.ready().0));
    let driven = ["verify", "--url", &urls[0], "--url", &urls[1], "--operations", "200"];
    for run in ["the first", "the second"] {
        let ended = run_to_end(&driven).await;
        assert_eq!(ended.code, Some(0), "{run}: {}\n{}", ended.stdout, ended.stderr);
    }
}

/// A deployment that is no Tidegate, and what it does beside keeping documents.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Does {
    Nothing,
    /// Applies a write, and cuts the connection or answers 504.
    LeavesOpen,
    /// Says that it is beyond its bound when it is.
    AdmitsToBeLate,
    /// Acknowledges, and forgets.
    Loses,
    /// Refuses, and applies.
    AppliesWhatItRefuses,
    /// Serves what was replaced before.
    ServesThePast,
    /// The same, to readers of whom each has a token.
    GoesBack,
    Invents,
}

#[derive(Default)]
struct Documents {
    values: BTreeMap<String, Vec<String>>,
    asked: u64,
}

/// Its URL. `claims` is the `Tidegate-Consistency` of its answers.
async fn deployment(does: Does, claims: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/r", listener.local_addr().unwrap());
    let documents = Arc::new(Mutex::new(Documents::default()));
    let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let documents = Arc::clone(&documents);
        async move { lie(&documents, does, claims, &method, uri.path(), &headers, &body) }
    };
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn lie(
    documents: &Mutex<Documents>,
    does: Does,
    claims: &'static str,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let mut documents = documents.lock().unwrap();
    documents.asked += 1;
    let asked = documents.asked;
    let values = documents.values.entry(path.to_owned()).or_default();
    if method == Method::PUT {
        let first = values.is_empty();
        if first || does != Does::Loses {
            values.push(String::from_utf8(body.to_vec()).unwrap());
        }
        return match does {
            Does::LeavesOpen if !first && asked.is_multiple_of(5) => StatusCode::GATEWAY_TIMEOUT,
            Does::AppliesWhatItRefuses if !first => StatusCode::CONFLICT,
            _ => StatusCode::NO_CONTENT,
        }
        .into_response();
    }
    let fresh = headers.contains_key("cache-control");
    // Clients take turns, and there are four of them: each is to see both.
    let past = asked.is_multiple_of(3) && !fresh && values.len() > 1;
    let late = "breached;staleness=9999;bound=1";
    let (value, claims) = match does {
        Does::AdmitsToBeLate if past => (values[0].clone(), late),
        Does::ServesThePast | Does::GoesBack if past => (values[0].clone(), claims),
        Does::Invents if past => (format!("{}-x", values[0]), claims),
        _ => (values.last().unwrap().clone(), claims),
    };
    let fields = [("tidegate-consistency", claims), ("tidegate-session", "a token")];
    let tokens = matches!(does, Does::GoesBack | Does::AdmitsToBeLate);
    (
        axum::response::AppendHeaders(fields.into_iter().take(1 + usize::from(tokens))),
        value,
    )
        .into_response()
}

#[tokio::test]
async fn every_kind_of_lie_is_found_and_no_honest_deployment_is_blamed() {
    const STRONG: &str = "strong;proof=exclusive";
    const BOUNDED: &str = "bounded;staleness=0;bound=1";
    const WIDE: &str = "bounded;staleness=0;bound=60000";
    let cases = [
        (Does::Nothing, STRONG, None),
        (Does::Nothing, BOUNDED, None),
        (Does::LeavesOpen, STRONG, None),
        (Does::AdmitsToBeLate, BOUNDED, None),
        (Does::GoesBack, "", Some("monotonic reads                NO, ")),
        (Does::GoesBack, WIDE, Some("read your writes               NO, ")),
        (Does::ServesThePast, STRONG, Some("linearizable                   NO, ")),
        (
            Does::ServesThePast,
            BOUNDED,
            Some("within the bound               NO, "),
        ),
        (Does::ServesThePast, WIDE, None),
        (Does::Loses, "", Some("no acknowledged write is lost  NO, ")),
        (Does::Loses, STRONG, Some("linearizable                   NO, ")),
        (
            Does::AppliesWhatItRefuses,
            "",
            Some("every value read was written   NO, "),
        ),
        (Does::Invents, "", Some("every value read was written   NO, ")),
    ];
    let run = |(does, claims, expected): (Does, &'static str, Option<&'static str>)| async move {
        let url = deployment(does, claims).await;
        let load = [
            "verify",
            "--url",
            &url,
            "--operations",
            "300",
            "--rate",
            "300",
            "--clients",
            "4",
            "--keys",
            "2",
        ];
        let ended = run_to_end(&load).await;
        let told = format!("{does:?}, {claims}:\n{}\n{}", ended.stdout, ended.stderr);
        match expected {
            None => assert!(
                ended.code == Some(0) && ended.stdout.ends_with("verdict: KEPT\n"),
                "{told}"
            ),
            Some(part) => assert!(ended.code == Some(1) && ended.stdout.contains(part), "{told}"),
        }
    };
    for run in cases.map(|case| tokio::spawn(run(case))) {
        run.await.unwrap();
    }
}

#[tokio::test]
async fn what_shows_nothing_is_not_kept() {
    let store = store().await;
    let mut proxy = Binary::run_with(&config(&store, EXCLUSIVE), &[], &[]);
    let url = format!("http://{}/r", proxy.ready().0);
    let few = run_to_end(&["verify", "--url", &url, "--operations", "6"]).await;
    assert_eq!(few.code, Some(1), "{}", few.stdout);
    assert!(few.stdout.contains("too few successful operations"), "{}", few.stdout);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    for text in ["", "no json\n"] {
        std::fs::write(&file, text).unwrap();
        let ended = run_to_end(&["verify", "--history", file.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(1), "{text:?}: {}", ended.stdout);
    }
    let gone = run_to_end(&["verify", "--history", "/nowhere/history.jsonl"]).await;
    assert_eq!(gone.code, Some(1));
}

#[tokio::test]
async fn where_to_write_must_be_said() {
    for wrong in [
        &["verify"][..],
        &["verify", "--url", "http://127.0.0.1:1"],
        &["verify", "--url", "http://127.0.0.1:1/"],
        &["verify", "--url", "https://127.0.0.1:1/a"],
        &["verify", "--url", "http://127.0.0.1:1/a", "--history", "b"],
        &["verify", "--history", "a", "--record", "b"],
        &["verify", "--url", "http://127.0.0.1:1/a", "-H", "hunter2"],
        &["verify", "--url", "http://127.0.0.1:1/a", "--operations", "0"],
        &["verify", "--url", "http://127.0.0.1:1/a", "--max-staleness", "5"],
    ] {
        let ended = run_to_end(wrong).await;
        assert_eq!(ended.code, Some(64), "{wrong:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}
