//! RFC 9211, HTTP.md 13: `Cache-Status` tells what became of a request, in every situation a request can get into. `key` and `detail`
//! are for `debug_from` alone.

use super::support::client::{Answer, Client};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use std::time::Duration;

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
/// Everything is stale at once, and can be validated.
const STALE: &str = "consistency = \"eventual\"\nttl = \"1h\"\nmax_staleness = \"1ms\"";
const STRONG: &str = "consistency = \"strong\"";

type Fields<'a> = &'a [(&'a str, &'a str)];

struct Stage {
    origin: Origin,
    proxy: Proxy,
    client: Client,
}

impl Stage {
    async fn new(keys: &str) -> Self {
        Self::seen_by(keys, "").await
    }

    /// `networks` see details.
    async fn seen_by(keys: &str, networks: &str) -> Self {
        let origin = Origin::start().await;
        let config = format!(
            "[listeners.main]\naddress = \"127.0.0.1:0\"\ndebug_from = [{networks}]\n{}\n[upstreams.o.retry]\nattempts = 1\n",
            one_route(keys)
        );
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let client = proxy.client().await;
        Self { origin, proxy, client }
    }

    /// A request that the node answers so.
    async fn asked(&mut self, ask: (&str, Fields<'_>), status: u16, fields: Fields<'_>) -> Answer {
        let body = if matches!(ask.0, "PUT" | "POST") { "x" } else { "" };
        self.client.ask(ask.0, "/x?q", ask.1, body.as_bytes()).await;
        self.origin.next().await.respond(status, fields, "0123456789").await;
        self.client.answer().await
    }

    /// A request that is answered here.
    async fn alone(&mut self, ask: (&str, Fields<'_>)) -> Answer {
        let answer = self.client.request(ask.0, "/x?q", ask.1, b"").await;
        self.origin.expect_idle().await;
        answer
    }
}

const GET: (&str, Fields<'static>) = ("GET", &[]);
const TAG: Fields<'static> = &[("ETag", "\"1\"")];
const VARY: Fields<'static> = &[("ETag", "\"1\""), ("Vary", "X-V")];

#[tokio::test]
async fn rfc9211_s2_what_was_forwarded_for_which_reason() {
    // The route; what is asked first and answered with these fields; what is asked then; the node's answer to it; what is said of it.
    struct Case<'a> {
        name: &'a str,
        keys: &'a str,
        before: Option<Fields<'a>>,
        ask: (&'a str, Fields<'a>),
        answer: (u16, Fields<'a>),
        status: u16,
        said: &'a str,
    }
    let case = |name, keys, before, ask, answer, status, said| Case {
        name,
        keys,
        before,
        ask,
        answer,
        status,
        said,
    };
    let no_cache: (&str, Fields<'_>) = ("GET", &[("Cache-Control", "no-cache")]);
    let other: (&str, Fields<'_>) = ("GET", &[("X-V", "2")]);
    let knows: (&str, Fields<'_>) = ("GET", &[("If-None-Match", "\"1\"")]);
    let part: (&str, Fields<'_>) = ("GET", &[("Range", "bytes=0-3")]);
    let beyond: (&str, Fields<'_>) = ("GET", &[("Range", "bytes=99-")]);
    let if_match: (&str, Fields<'_>) = ("GET", &[("If-Match", "\"1\"")]);
    let no_store: Fields<'_> = &[("Cache-Control", "no-store"), ("ETag", "\"1\"")];
    let cases = [
        case(
            "s2.2 nothing is stored",
            WEAK,
            None,
            GET,
            (200, TAG),
            200,
            "fwd=uri-miss; stored",
        ),
        case(
            "s2.5 the answer is not stored",
            WEAK,
            None,
            GET,
            (200, no_store),
            200,
            "fwd=uri-miss",
        ),
        case(
            "s2.5 a 500 is not stored",
            WEAK,
            None,
            GET,
            (500, &[]),
            500,
            "fwd=uri-miss",
        ),
        case(
            "s2.2 another variant",
            WEAK,
            Some(VARY),
            other,
            (200, VARY),
            200,
            "fwd=vary-miss; stored",
        ),
        case(
            "s2.2 stale, confirmed",
            STALE,
            Some(TAG),
            GET,
            (304, TAG),
            200,
            "fwd=stale; fwd-status=304",
        ),
        case(
            "s2.2 stale, replaced",
            STALE,
            Some(TAG),
            GET,
            (200, &[("ETag", "\"2\"")]),
            200,
            "fwd=stale; stored",
        ),
        case(
            "s2.2 a strong read",
            STRONG,
            Some(TAG),
            GET,
            (304, TAG),
            200,
            "fwd=stale; fwd-status=304",
        ),
        case(
            "s2.2 the client insists",
            WEAK,
            Some(TAG),
            no_cache,
            (304, TAG),
            200,
            "fwd=request; fwd-status=304",
        ),
        case(
            "s2.2 the client insists, replaced",
            WEAK,
            Some(TAG),
            no_cache,
            (200, TAG),
            200,
            "fwd=request; stored",
        ),
        case(
            "s2.2 for the origin to evaluate",
            WEAK,
            Some(TAG),
            if_match,
            (200, TAG),
            200,
            "fwd=request",
        ),
        case(
            "s2.4 the client has it",
            WEAK,
            None,
            knows,
            (200, TAG),
            304,
            "fwd=uri-miss; fwd-status=200; stored",
        ),
        case(
            "s2.4 the client has it, not stored",
            WEAK,
            None,
            knows,
            (200, no_store),
            304,
            "fwd=uri-miss; fwd-status=200",
        ),
        case(
            "s2.4 a part of a whole",
            WEAK,
            None,
            part,
            (200, TAG),
            206,
            "fwd=uri-miss; fwd-status=200; stored",
        ),
        case(
            "s2.4 beyond the whole",
            WEAK,
            None,
            beyond,
            (200, TAG),
            416,
            "fwd=uri-miss; fwd-status=200; stored",
        ),
        case(
            "s2.4 stale, and the client has it",
            STALE,
            Some(TAG),
            knows,
            (304, TAG),
            304,
            "fwd=stale; fwd-status=304",
        ),
        case("s2.2 a write", WEAK, None, ("PUT", &[]), (204, &[]), 204, "fwd=method"),
        case(
            "s2.2 a strong write",
            STRONG,
            None,
            ("POST", &[]),
            (200, &[]),
            200,
            "fwd=method",
        ),
        case(
            "s2.2 a write on an off route",
            "",
            None,
            ("PUT", &[]),
            (204, &[]),
            204,
            "fwd=method",
        ),
        case(
            "s2.2 OPTIONS",
            WEAK,
            None,
            ("OPTIONS", &[]),
            (200, &[]),
            200,
            "fwd=method",
        ),
        case("s2.2 an off route", "", None, GET, (200, TAG), 200, "fwd=bypass"),
        case(
            "s2.2 HEAD, nothing stored",
            WEAK,
            None,
            ("HEAD", &[]),
            (200, TAG),
            200,
            "fwd=uri-miss",
        ),
        case(
            "s2.2 HEAD, stale",
            STALE,
            Some(TAG),
            ("HEAD", &[]),
            (200, TAG),
            200,
            "fwd=stale",
        ),
        case(
            "s2.2 a strong HEAD",
            STRONG,
            Some(TAG),
            ("HEAD", &[]),
            (304, TAG),
            200,
            "fwd=stale; fwd-status=304",
        ),
    ];
    for case in cases {
        let mut stage = Stage::new(case.keys).await;
        if let Some(fields) = case.before {
            stage.asked(GET, 200, fields).await;
            tokio::time::sleep(Duration::from_millis(3)).await; // past the bound of a stale route
        }
        let answer = stage.asked(case.ask, case.answer.0, case.answer.1).await;
        let said = format!("tidegate; {}", case.said);
        assert_eq!(
            (answer.status, answer.cache_status()),
            (case.status, said.as_str()),
            "{}",
            case.name
        );
    }
}

#[tokio::test]
async fn rfc9211_s2_1_what_was_not_forwarded() {
    let cases: [(&str, (&str, Fields<'_>), u16); 5] = [
        ("a hit", GET, 200),
        ("HEAD", ("HEAD", &[]), 200),
        ("the client has it", ("GET", &[("If-None-Match", "\"1\"")]), 304),
        ("a part", ("GET", &[("Range", "bytes=2-3")]), 206),
        ("only-if-cached", ("GET", &[("Cache-Control", "only-if-cached")]), 200),
    ];
    for (name, ask, status) in cases {
        let mut stage = Stage::new(WEAK).await;
        stage.asked(GET, 200, TAG).await;
        let answer = stage.alone(ask).await;
        assert_eq!(answer.status, status, "{name}");
        let ttl = answer
            .cache_status()
            .strip_prefix("tidegate; hit; ttl=")
            .unwrap_or_else(|| panic!("{name}"));
        assert!((3590..=3600).contains(&ttl.parse::<i64>().unwrap()), "{name}: {ttl}");
    }
    // Past its lifetime, by the client's leave.
    let mut stage = Stage::new("consistency = \"weak\"").await;
    stage
        .asked(
            GET,
            200,
            &[("ETag", "\"1\""), ("Cache-Control", "max-age=60"), ("Age", "100")],
        )
        .await;
    let stale = stage.alone(("GET", &[("Cache-Control", "max-stale=1000")])).await;
    assert!(
        stale.cache_status().starts_with("tidegate; hit; ttl=-"),
        "{}",
        stale.cache_status()
    );
}

#[tokio::test]
async fn rfc9211_s2_what_was_made_here_was_neither_a_hit_nor_forwarded() {
    let config = "[upstreams.o]\nnodes = [{ url = \"{origin}\" }]\n\n\
        [[routes]]\nmatch = { path = \"/moved\" }\nredirect = { to = \"/\", status = 308 }\n\n\
        [[routes]]\nmatch = { path = \"/said\" }\nrespond = { status = 200, body = \"said\" }\n\n\
        [[routes]]\nmatch = { path = \"/x\" }\nupstream = \"o\"\nconsistency = \"weak\"\n";
    let origin = Origin::start().await;
    let config = format!("[listeners.main]\naddress = \"127.0.0.1:0\"\ndebug_from = []\n{config}");
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    for (method, target, fields, status) in [
        ("GET", "/moved", &[][..], 308),
        ("GET", "/said", &[], 200),
        ("GET", "/nowhere", &[], 404),
        ("TRACE", "/x", &[], 405),
        ("GET", "/x", &[("Cache-Control", "only-if-cached")], 504),
    ] {
        let answer = proxy.request(method, target, fields, "").await;
        assert_eq!(
            (answer.status, answer.cache_status()),
            (status, "tidegate"),
            "{method} {target}"
        );
    }
}

#[tokio::test]
async fn rfc9211_s2_6_followers_are_collapsed_and_store_nothing_themselves() {
    let mut stage = Stage::new(WEAK).await;
    let mut follower = stage.proxy.client().await;
    stage.client.ask("GET", "/x", &[], b"").await;
    let mut exchange = stage.origin.next().await;
    exchange.head(200, &[("Content-Length", "6"), ("ETag", "\"1\"")]).await;
    let (_, head) = stage.client.head().await;
    assert_eq!(head.headers.get("cache-status"), Some("tidegate; fwd=uri-miss; stored"));
    // The fill is under way, and its reader in the middle of it: who comes now joins.
    follower.ask("GET", "/x", &[], b"").await;
    let (_, head) = follower.head().await;
    assert_eq!(
        head.headers.get("cache-status"),
        Some("tidegate; fwd=uri-miss; collapsed")
    );
    exchange.send("123456").await;
    exchange.keep();
    assert_eq!(follower.body_up_to(usize::MAX).await, b"123456");
}

#[tokio::test]
async fn rfc9211_s2_while_a_write_is_unsettled_a_strong_read_says_so_to_everybody() {
    let mut stage = Stage::new(STRONG).await;
    stage.client.ask("PUT", "/x?q", &[], b"x").await;
    stage.origin.next().await.apply_and_drop().await;
    assert_eq!(stage.client.answer().await.problem(), "unknown");
    let answer = stage.asked(GET, 200, TAG).await;
    assert_eq!(answer.cache_status(), "tidegate; fwd=bypass; stored; detail=unsettled");
}

#[tokio::test]
async fn rfc9211_s1_a_caches_member_follows_those_of_the_caches_before_it() {
    let mut stage = Stage::new(WEAK).await;
    let fields: Fields<'_> = &[("ETag", "\"1\""), ("Cache-Status", "Origin; hit")];
    let answer = stage.asked(GET, 200, fields).await;
    assert_eq!(
        answer.headers.all("cache-status"),
        ["Origin; hit", "tidegate; fwd=uri-miss; stored"]
    );
    let hit = stage.alone(GET).await;
    assert_eq!(hit.headers.all("cache-status").len(), 2);
}

#[tokio::test]
async fn debug_from_sees_the_key_and_why_on_hits_misses_and_confirmations_alike() {
    const KEY: &str = "; key=\"http://shop.example/x?q\"";
    let keyed = format!("{WEAK}\nkey = {{ headers = [\"X-Secret\"] }}");
    let mut stage = Stage::seen_by(&keyed, "\"127.0.0.0/8\"").await;
    let fields: Fields<'_> = &[("X-Secret", "hush")];
    let miss = stage.asked(("GET", fields), 200, TAG).await;
    assert_eq!(miss.cache_status(), format!("tidegate; fwd=uri-miss; stored{KEY}"));
    let hit = stage.alone(("GET", fields)).await;
    assert!(
        hit.cache_status().starts_with("tidegate; hit; ttl="),
        "{}",
        hit.cache_status()
    );
    assert!(hit.cache_status().ends_with(KEY), "{}", hit.cache_status());
    let insists: Fields<'_> = &[("X-Secret", "hush"), ("Cache-Control", "no-cache")];
    let confirmed = stage.asked(("GET", insists), 304, TAG).await;
    assert_eq!(
        confirmed.cache_status(),
        format!("tidegate; fwd=request; fwd-status=304{KEY}")
    );
    let head = stage.asked(("HEAD", insists), 200, TAG).await;
    assert_eq!(head.cache_status(), format!("tidegate; fwd=request{KEY}"));
    let unstored = stage
        .asked(("GET", insists), 200, &[("Cache-Control", "no-store")])
        .await;
    assert_eq!(
        unstored.cache_status(),
        format!("tidegate; fwd=request{KEY}; detail=no-store")
    );
    let refused = stage.alone(("GET", &[("Cache-Control", "only-if-cached")])).await;
    assert_eq!(refused.cache_status(), "tidegate; detail=refused");
    // Nobody else sees any of it.
    let mut stage = Stage::seen_by(&keyed, "\"10.0.0.0/8\", \"::1\"").await;
    let miss = stage
        .asked(("GET", fields), 200, &[("Cache-Control", "no-store")])
        .await;
    assert_eq!(miss.cache_status(), "tidegate; fwd=uri-miss");
}

#[tokio::test]
async fn debug_from_sees_only_the_parameters_that_are_in_the_key() {
    let keyed = format!("{WEAK}\nkey = {{ query = [\"page\"] }}");
    let mut stage = Stage::seen_by(&keyed, "\"127.0.0.1\"").await;
    stage.client.ask("GET", "/x?utm=1&page=2", &[], b"").await;
    stage.origin.next().await.respond(200, TAG, "x").await;
    let answer = stage.client.answer().await;
    let said = "tidegate; fwd=uri-miss; stored; key=\"http://shop.example/x?page=2\"";
    assert_eq!(answer.cache_status(), said);
}
