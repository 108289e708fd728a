//! Sessions (R17, R47-R49): read-your-writes and monotonic reads for whoever hands the token back, over proxies that share the key and
//! over those that do not. Every test of a rule first shows that the answer it forbids was there to be given.

use super::support::client::{Answer, Client};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Node, Point, Register};

const KEY: &str = "\n[session]\nkey = \"a key that two proxies have in common\"\n";
const TOKEN: &str = "Tidegate-Session";

async fn proxy(node: &Node, keys: &str, session: &str) -> Proxy {
    let route = format!("consistency = \"eventual\"\nttl = \"60s\"\nsession = \"read-your-writes\"\n{keys}");
    let config = one_route(&route) + "\n[upstreams.o.retry]\nattempts = 1\n" + session;
    Proxy::start(&config, &[("origin", &node.url())]).await
}

/// A store with one node, and two proxies over it that share the key.
async fn pair(keys: &str) -> (Register, Node, Proxy, Proxy) {
    let register = Register::new();
    let node = register.node("a").await;
    let (a, b) = (proxy(&node, keys, KEY).await, proxy(&node, keys, KEY).await);
    (register, node, a, b)
}

fn token(answer: &Answer) -> String {
    let token = answer
        .header(TOKEN)
        .unwrap_or_else(|| panic!("no token on {}", answer.status));
    assert!(
        answer.header("cache-control").is_some_and(|c| c.starts_with("private")),
        "R17: {:?}",
        answer.header("cache-control")
    );
    token.to_owned()
}

/// A client that hands back the last token it got.
#[derive(Default)]
struct Header(String);

impl Header {
    async fn ask(&mut self, proxy: &Proxy, method: &str, target: &str, body: &str) -> Answer {
        let token = self.0.clone();
        let fields: &[(&str, &str)] = if token.is_empty() { &[] } else { &[(TOKEN, &token)] };
        let answer = proxy.request(method, target, fields, body).await;
        if let Some(token) = answer.header(TOKEN) {
            self.0 = token.to_owned();
        }
        answer
    }

    async fn get(&mut self, proxy: &Proxy, target: &str) -> Answer {
        self.ask(proxy, "GET", target, "").await
    }

    async fn put(&mut self, proxy: &Proxy, target: &str, body: &str) -> Answer {
        self.ask(proxy, "PUT", target, body).await
    }
}

/// A client with a cookie jar, as browsers have it: it never looks at the header.
#[derive(Default)]
struct Browser(std::collections::BTreeMap<String, String>);

impl Browser {
    fn cookies(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    fn keep(&mut self, answer: &Answer) {
        for (name, line) in answer.headers.0.iter() {
            if name.eq_ignore_ascii_case("set-cookie") {
                let pair = line.split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    async fn ask(&mut self, proxy: &Proxy, method: &str, target: &str, body: &str) -> Answer {
        let cookies = self.cookies();
        let fields: &[(&str, &str)] = if cookies.is_empty() {
            &[]
        } else {
            &[("Cookie", &cookies)]
        };
        let answer = proxy.request(method, target, fields, body).await;
        self.keep(&answer);
        answer
    }
}

#[tokio::test]
async fn r47_a_write_at_one_proxy_is_read_at_another() {
    let (register, _node, a, b) = pair("").await;
    register.write("/x", "one");
    assert_eq!(b.get("/x").await.text(), "one");
    let mut client = Header::default();
    assert_eq!(client.put(&a, "/x", "two").await.status, 204);
    let stranger = b.get("/x").await;
    assert!(stranger.is_hit() && stranger.text() == "one", "nothing to forbid");
    let read = client.get(&b, "/x").await;
    assert_eq!((read.text(), read.fwd()), ("two", "request"));
    let again = client.get(&b, "/x").await;
    assert!(
        again.is_hit(),
        "by its ETag, though the mark is another's: {}",
        again.cache_status()
    );
    assert!(client.get(&a, "/x").await.text() == "two" && client.get(&a, "/x").await.is_hit());
}

#[tokio::test]
async fn r47_an_entry_filled_by_somebody_else_is_good_enough_by_its_etag() {
    let (register, _node, a, b) = pair("").await;
    register.write("/x", "one");
    let mut client = Header::default();
    client.put(&a, "/x", "two").await;
    b.get("/x").await;
    let read = client.get(&b, "/x").await;
    assert!(read.is_hit() && read.text() == "two");
    assert_eq!(register.count("GET", "/x"), 1);
}

#[tokio::test]
async fn r47_without_etags_instants_of_the_own_process_count_and_others_ask() {
    let (register, _node, a, b) = pair("").await;
    register.write("/x", "one");
    register.answer_with("/x", "ETag", "");
    let mut client = Header::default();
    client.put(&a, "/x", "two").await;
    a.get("/x").await;
    b.get("/x").await;
    let here = client.get(&a, "/x").await;
    assert!(
        here.is_hit() && here.text() == "two",
        "sent after the write by the same clock"
    );
    let there = client.get(&b, "/x").await;
    assert_eq!((there.text(), there.fwd()), ("two", "request"));
    let again = client.get(&b, "/x").await;
    assert!(
        again.is_hit(),
        "received when its own mark says: {}",
        again.cache_status()
    );
    assert!(!client.get(&a, "/x").await.is_hit(), "the mark is the other's now");
}

#[tokio::test]
async fn r48_proxies_without_a_common_key_ask_and_start_again_from_there() {
    let register = Register::new();
    let node = register.node("a").await;
    let (a, b) = (proxy(&node, "", "").await, proxy(&node, "", "").await);
    for path in ["/x", "/y", "/z"] {
        register.write(path, "one");
        b.get(path).await;
    }
    let mut client = Header::default();
    client.put(&a, "/x", "two").await;
    client.put(&a, "/y", "two").await;
    assert_eq!(client.get(&b, "/x").await.text(), "two");
    // The new token remembers nothing of /y but that it is to be no older than itself.
    let other = client.get(&b, "/y").await;
    assert_eq!((other.text(), other.fwd()), ("two", "request"));
    assert_eq!(
        client.get(&b, "/z").await.fwd(),
        "request",
        "the floor is for every resource"
    );
    for path in ["/x", "/y", "/z"] {
        assert!(client.get(&b, path).await.is_hit(), "{path}: paid once");
    }
}

#[tokio::test]
async fn r47_a_restarted_proxy_is_another_one_with_the_same_key() {
    let register = Register::new();
    let node = register.node("a").await;
    register.write("/x", "one");
    register.answer_with("/x", "ETag", "");
    let mut client = Header::default();
    let before = proxy(&node, "", KEY).await;
    client.put(&before, "/x", "two").await;
    drop(before);
    let after = proxy(&node, "", KEY).await;
    after.get("/x").await;
    let read = client.get(&after, "/x").await;
    assert_eq!(
        (read.text(), read.fwd()),
        ("two", "request"),
        "its instants are nobody's any more"
    );
    assert!(client.get(&after, "/x").await.is_hit());
}

#[tokio::test]
async fn r47_reads_never_go_back() {
    let (register, _node, a, b) = pair("").await;
    register.write("/x", "one");
    assert_eq!(b.get("/x").await.text(), "one");
    register.write("/x", "two");
    let mut client = Header::default();
    assert_eq!(client.get(&a, "/x").await.text(), "two");
    assert!(b.get("/x").await.text() == "one", "nothing to forbid");
    assert_eq!(client.get(&b, "/x").await.text(), "two");
    assert_eq!(client.get(&a, "/x").await.text(), "two");
}

#[tokio::test]
async fn r47_the_unwritten_the_deleted_head_and_conditions_follow_the_session() {
    let (register, _node, a, b) = pair("").await;
    assert_eq!(b.get("/x").await.status, 404);
    let mut client = Header::default();
    let made = client.put(&a, "/x", "one").await;
    assert_eq!(made.status, 201);
    let head = client.ask(&b, "HEAD", "/x", "").await;
    assert_eq!((head.status, head.header("etag")), (200, made.header("etag")));
    assert_eq!(client.get(&b, "/x").await.text(), "one");
    assert_eq!(client.ask(&a, "DELETE", "/x", "").await.status, 204);
    assert!(b.get("/x").await.is_hit(), "nothing to forbid");
    let token = client.0.clone();
    let fields = [(TOKEN, token.as_str()), ("If-None-Match", made.header("etag").unwrap())];
    assert_eq!(
        b.get_with("/x", &fields).await.status,
        404,
        "not a 304 of what was deleted"
    );
    assert_eq!(client.get(&b, "/x").await.status, 404);
    assert!(
        client.get(&b, "/x").await.is_hit(),
        "a stored 404 is an entry as any other"
    );
    assert_eq!(register.read("/x"), None);
}

#[tokio::test]
async fn r47_a_range_and_a_read_that_names_conditions_of_its_own_follow_the_session_too() {
    let (register, _node, a, b) = pair("").await;
    register.write("/x", "one");
    let before = b.get("/x").await;
    let mut client = Header::default();
    client.put(&a, "/x", "two").await;
    let token = client.0.clone();
    let range = ("Range", "bytes=0-1");
    let stranger = b.get_with("/x", &[range]).await;
    assert!(stranger.status == 206 && stranger.text() == "on", "nothing to forbid");
    // A part of what it has passed by is not to be put together with what it asks for.
    let own = [range, ("If-Range", before.header("etag").unwrap()), (TOKEN, &token)];
    let whole = b.get_with("/x", &own).await;
    assert_eq!((whole.status, whole.text()), (200, "two"));
    let mut client = Header(token);
    let part = b.get_with("/x", &[range, (TOKEN, &client.0)]).await;
    assert_eq!(
        (part.status, part.text(), part.is_hit()),
        (206, "tw", true),
        "by its ETag"
    );
    assert!(part.header("cache-control").is_some_and(|c| c.starts_with("private")));
    client.0 = part.header(TOKEN).unwrap().to_owned();
    // What passes is a step of the session as well: the entry at B is older than what it shows.
    register.write("/x", "three");
    let passed = b.get_with("/x", &[("If-Match", "*"), (TOKEN, &client.0)]).await;
    assert_eq!(passed.text(), "three");
    assert!(b.get("/x").await.text() == "two", "nothing to forbid");
    let next = b.get_with("/x", &[(TOKEN, passed.header(TOKEN).unwrap())]).await;
    assert_eq!(next.text(), "three");
}

#[tokio::test]
async fn r48_what_does_not_verify_asks_the_primary_everywhere_and_is_not_forgotten() {
    let (register, _node, a, _) = pair("").await;
    for path in ["/x", "/y"] {
        register.write(path, "one");
    }
    let mut client = Header::default();
    client.put(&a, "/w", "mine").await;
    let good = client.0.clone();
    let tampered = {
        let mut bytes = good.clone().into_bytes();
        bytes[20] = if bytes[20] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let foreign = "v1.AAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA".to_owned();
    for bad in [
        tampered,
        foreign,
        format!("{good}A"),
        "x".repeat(4000),
        good.replace("v1", "v2"),
        String::new(),
    ] {
        for path in ["/x", "/y"] {
            a.get(path).await;
            register.write(path, &bad[..bad.len().min(30)]);
            assert!(a.get(path).await.is_hit(), "nothing to forbid");
        }
        let read = a.get_with("/x", &[(TOKEN, &bad)]).await;
        assert_eq!(
            (read.text(), read.fwd()),
            (&bad[..bad.len().min(30)], "request"),
            "{bad}"
        );
        let next = token(&read);
        let other = a.get_with("/y", &[(TOKEN, &next)]).await;
        assert_eq!(other.fwd(), "request", "{bad}: older than the floor");
        assert!(a.get_with("/y", &[(TOKEN, &token(&other))]).await.is_hit(), "{bad}");
    }
    let two = a.get_with("/x", &[(TOKEN, &good), (TOKEN, &good)]).await;
    assert_eq!(two.fwd(), "request", "two tokens are none");
}

#[tokio::test]
async fn r48_more_resources_than_a_token_tells_apart_are_not_forgotten() {
    let (register, _node, a, b) = pair("").await;
    let paths: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
    for path in &paths {
        register.write(path, "one");
        b.get(path).await;
    }
    let mut client = Header::default();
    let mut longest = 0;
    for path in &paths {
        client.put(&a, path, "two").await;
        longest = longest.max(client.0.len());
    }
    assert!(longest <= 401, "{longest}");
    for path in &paths {
        assert!(b.get(path).await.text() == "one", "nothing to forbid");
        assert_eq!(client.get(&b, path).await.text(), "two", "{path}");
    }
}

#[tokio::test]
async fn r49_a_session_joins_no_fetch_that_was_sent_before_it_came() {
    let (register, _node, a, b) = pair("").await;
    register.write("/x", "one");
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = b.client().await;
    early.ask("GET", "/x", &[], b"").await;
    let held = hold.next().await;
    drop(hold);
    let mut client = Header::default();
    client.put(&a, "/x", "two").await;
    assert_eq!(client.get(&b, "/x").await.text(), "two");
    held.release();
    assert_eq!(early.answer().await.text(), "one", "nothing to forbid");
    assert_eq!(client.get(&b, "/x").await.text(), "two");
}

#[tokio::test]
async fn r49_the_stale_window_is_not_for_what_a_session_has_passed() {
    let (register, _node, a, b) = pair("").await;
    register.answer_with("/x", "Cache-Control", "max-age=0, stale-while-revalidate=50");
    register.write("/x", "one");
    assert_eq!(b.get("/x").await.text(), "one");
    let mut client = Header::default();
    client.put(&a, "/x", "two").await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    assert_eq!(b.get("/x").await.text(), "one", "nothing to forbid");
    let background = hold.next().await;
    drop(hold);
    assert_eq!(client.get(&b, "/x").await.text(), "two");
    background.release();
}

#[tokio::test]
async fn r49_a_primary_that_cannot_be_asked_is_the_owners_choice() {
    for (choice, status) in [("error", 504), ("stale", 200)] {
        let (register, node, a, b) = pair(&format!("on_unreachable = \"{choice}\"")).await;
        register.write("/x", "one");
        b.get("/x").await;
        let mut client = Header::default();
        client.put(&a, "/x", "two").await;
        node.down().await;
        let read = client.get(&b, "/x").await;
        assert_eq!(read.status, status, "{choice}");
        if choice == "error" {
            assert_eq!(read.problem(), "stale-refused");
        } else {
            assert!(
                read.text() == "one" && read.consistency().starts_with("breached;"),
                "{}",
                read.consistency()
            );
        }
        assert!(
            b.get("/x").await.text() == "one",
            "without a session it is within the bound"
        );
        node.up().await;
        assert_eq!(
            client.get(&b, "/x").await.text(),
            "two",
            "{choice}: the token has not gone back"
        );
    }
}

#[tokio::test]
async fn r49_a_broken_origin_does_not_send_a_session_back() {
    let (register, _node, a, b) = pair("stale_if_error = \"50s\"").await;
    register.write("/x", "one");
    b.get("/x").await;
    let mut client = Header::default();
    client.put(&a, "/x", "two").await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let token = client.0.clone();
    let mut waiting = b.client().await;
    waiting.ask("GET", "/x", &[(TOKEN, &token)], b"").await;
    hold.next().await.answer(500);
    assert_eq!(waiting.answer().await.status, 500, "the stale answer is not for it");
    let mut stranger = b.client().await;
    stranger.ask("GET", "/x", &[("Cache-Control", "max-age=0")], b"").await;
    hold.next().await.answer(500);
    assert_eq!(stranger.answer().await.text(), "one", "nothing to forbid");
}

#[tokio::test]
async fn r17_nothing_but_the_session_sees_its_tokens() {
    let (register, _node, a, _) = pair("").await;
    register.write("/x", "one");
    register.answer_with("/x", "Cache-Control", "max-age=60, public, s-maxage=70");
    register.answer_with("/x", TOKEN, "somebody else's");
    let mut browser = Browser::default();
    let made = browser.ask(&a, "PUT", "/w", "mine").await;
    let header = token(&made);
    let cookies = browser.cookies() + "; theirs=1";
    let fields = [("Cookie", cookies.as_str()), (TOKEN, &header)];
    let miss = a.get_with("/x", &fields).await;
    assert_eq!(miss.header("cache-control"), Some("private, max-age=60"));
    let own = [("Cookie", browser.cookies()), (TOKEN, header.clone())];
    let own: Vec<(&str, &str)> = own.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert!(
        a.get_with("/x", &own).await.is_hit(),
        "cookies of ours are no credentials (R14)"
    );
    let stranger = a.get("/x").await;
    assert!(
        stranger.is_hit() && token(&stranger).len() < token(&miss).len(),
        "a token is not stored"
    );
    a.request("PUT", "/x", &fields, "two").await;
    a.request("OPTIONS", "/x", &fields, "").await;
    a.request("HEAD", "/new", &fields, "").await;
    for seen in register.seen() {
        assert!(!seen.headers.has(TOKEN), "{seen:?}");
        let cookie = seen.headers.get("cookie").unwrap_or("theirs=1");
        assert_eq!(cookie, "theirs=1", "{seen:?}");
    }
    let theirs = register.seen().iter().filter(|seen| seen.headers.has("cookie")).count();
    assert_eq!(theirs, 4);
}

#[tokio::test]
async fn r17_the_key_takes_no_notice_of_our_cookies() {
    let (register, _node, a, _) = pair("key = { headers = [\"Cookie\"] }").await;
    register.write("/x", "one");
    register.answer_with("/x", "Vary", "Cookie");
    let mut browser = Browser::default();
    browser.ask(&a, "PUT", "/w", "mine").await;
    a.get("/x").await;
    let cookies = browser.cookies();
    assert!(a.get_with("/x", &[("Cookie", &cookies)]).await.is_hit());
}

#[tokio::test]
async fn r49_cookies_are_set_by_writes_alone_one_for_a_slot() {
    let (register, _node, a, b) = pair("").await;
    let mut browser = Browser::default();
    let mut paths: Vec<String> = Vec::new();
    // Until there are writes in three slots, and two in one of them.
    for n in 0.. {
        let path = format!("/{n}");
        let made = browser.ask(&a, "PUT", &path, "one").await;
        let cookies: Vec<&str> = made.headers.all("set-cookie");
        assert_eq!(cookies.len(), 1, "{cookies:?}");
        let (name, rest) = cookies[0].split_once('=').unwrap();
        let slot: u8 = name.strip_prefix("Tidegate-Session-").unwrap().parse().unwrap();
        assert!(slot < 8);
        let attributes = rest.split_once("; ").unwrap().1;
        assert_eq!(attributes, "Path=/; Max-Age=66; HttpOnly; SameSite=Lax");
        paths.push(path);
        if browser.0.len() >= 3 && paths.len() > browser.0.len() {
            break;
        }
    }
    for path in &paths {
        b.get(path).await;
        register.write(path, "between");
        let read = browser.ask(&a, "PUT", path, "two").await;
        assert_eq!(read.status, 204);
    }
    for path in &paths {
        assert!(b.get(path).await.text() == "one", "nothing to forbid");
        let read = browser.ask(&b, "GET", path, "").await;
        assert_eq!(read.text(), "two", "{path}");
        assert!(!read.headers.has("set-cookie"));
    }
}

#[tokio::test]
async fn r49_the_cookie_of_another_slot_costs_nothing() {
    let (register, _node, a, _) = pair("").await;
    let mut browser = Browser::default();
    browser.ask(&a, "PUT", "/w", "mine").await;
    let written = browser.0.keys().next().unwrap().clone();
    // A resource of another slot: the cookie of a write to it has another name.
    let mut other = String::new();
    for n in 0.. {
        other = format!("/{n}");
        let mut probe = Browser::default();
        probe.ask(&a, "PUT", &other, "x").await;
        if !probe.0.contains_key(&written) {
            break;
        }
    }
    register.write("/w", "changed");
    a.get(&other).await;
    a.get("/w").await;
    let broken = format!("{written}=v1.broken.token");
    assert!(a.get_with(&other, &[("Cookie", &broken)]).await.is_hit());
    assert_eq!(a.get_with("/w", &[("Cookie", &broken)]).await.fwd(), "request");
}

#[tokio::test]
async fn the_cookie_is_secure_where_the_client_used_https() {
    let register = Register::new();
    let node = register.node("a").await;
    let keys = "consistency = \"eventual\"\nttl = \"60s\"\nsession = \"read-your-writes\"\n";
    let listener = "\n[listeners.main]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let config = one_route(keys) + listener + KEY;
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    let made = proxy
        .request("PUT", "/x", &[("X-Forwarded-Proto", "https")], "one")
        .await;
    assert!(made.header("set-cookie").unwrap().ends_with("; SameSite=Lax; Secure"));
    let made = proxy
        .request("PUT", "/x", &[("X-Forwarded-Proto", "http")], "one")
        .await;
    assert!(made.header("set-cookie").unwrap().ends_with("; SameSite=Lax"));
}

#[tokio::test]
async fn a_write_that_was_not_acknowledged_promises_nothing() {
    let (register, _node, a, _) = pair("").await;
    register.write("/x", "one");
    let before = token(&a.get("/other").await);
    for status in [500, 404] {
        let mut hold = register.hold("PUT", "/x", Point::Arrived);
        let mut writer = a.client().await;
        writer.ask("PUT", "/x", &[(TOKEN, &before)], b"two").await;
        hold.next().await.answer(status);
        drop(hold);
        let answer = writer.answer().await;
        assert_eq!(answer.status, status);
        assert!(!answer.headers.has("set-cookie"), "{status}");
        assert_eq!(token(&answer).len(), before.len(), "{status}: no mark more");
    }
}

#[tokio::test]
async fn a_write_by_another_route_counts_for_the_sessions_that_read_it() {
    let register = Register::new();
    let node = register.node("a").await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{{origin}}\" }}]\n{KEY}\n[[routes]]\nmatch = {{ path = \"/in/{{id}}\", methods = [\"GET\"] }}\n\
        upstream = \"o\"\nconsistency = \"eventual\"\nttl = \"60s\"\nsession = \"read-your-writes\"\n\n[[routes]]\nupstream = \"o\"\n"
    );
    let values = [("origin", node.url())];
    let values: Vec<(&str, &str)> = values.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let (a, b) = (
        Proxy::start(&config, &values).await,
        Proxy::start(&config, &values).await,
    );
    register.write("/in/x", "one");
    b.get("/in/x").await;
    let made = a.put("/in/x", "two").await;
    assert!(b.get("/in/x").await.text() == "one", "nothing to forbid");
    let read = b.get_with("/in/x", &[(TOKEN, &token(&made))]).await;
    assert_eq!(read.text(), "two");
    let outside = a.put("/out", "two").await;
    assert!(!outside.headers.has(TOKEN) && !outside.headers.has("set-cookie"));
    assert!(!a.get("/out").await.headers.has(TOKEN));
}

#[tokio::test]
async fn r47_what_a_write_declares_is_marked_too() {
    let register = Register::new();
    let node = register.node("a").await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{{origin}}\" }}]\n{KEY}\n[[routes]]\nmatch = {{ path = \"/do/{{id}}\" }}\n\
        upstream = \"o\"\ninvalidates = [\"/in/{{id}}\"]\n\n[[routes]]\nupstream = \"o\"\nconsistency = \"eventual\"\nttl = \"60s\"\n\
        session = \"read-your-writes\"\n"
    );
    let url = node.url();
    let values = [("origin", url.as_str())];
    let (a, b) = (
        Proxy::start(&config, &values).await,
        Proxy::start(&config, &values).await,
    );
    register.write("/in/x", "one");
    b.get("/in/x").await;
    let done = a.put("/do/x", "something").await;
    register.write("/in/x", "two");
    assert!(b.get("/in/x").await.text() == "one", "nothing to forbid");
    let read = b.get_with("/in/x", &[(TOKEN, &token(&done))]).await;
    assert_eq!((read.text(), read.fwd()), ("two", "request"));
    let cookies: Vec<&str> = done.headers.all("set-cookie");
    let cookies: Vec<&str> = cookies.iter().map(|line| line.split(';').next().unwrap()).collect();
    register.write("/in/x", "three");
    let read = b.get_with("/in/x", &[("Cookie", &cookies.join("; "))]).await;
    assert_eq!((read.text(), read.fwd()), ("three", "request"));
}

#[tokio::test]
async fn r47_where_queries_are_resources_what_a_write_declares_of_a_path_is_marked_for_all_of_them() {
    let register = Register::new();
    let node = register.node("a").await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{{origin}}\" }}]\ngate = \"url\"\n{KEY}\n[[routes]]\nmatch = {{ path = \"/do/{{id}}\" }}\n\
        upstream = \"o\"\ninvalidates = [\"/all/{{id}}\", \"/one/{{id}}?page=2\"]\n\n[[routes]]\nupstream = \"o\"\n\
        consistency = \"eventual\"\nttl = \"60s\"\nsession = \"read-your-writes\"\n"
    );
    let url = node.url();
    let values = [("origin", url.as_str())];
    let (a, b) = (
        Proxy::start(&config, &values).await,
        Proxy::start(&config, &values).await,
    );
    for target in ["/all/x", "/all/x?page=2", "/one/x?page=2"] {
        register.write(target.split('?').next().unwrap(), "one");
        b.get(target).await;
    }
    let done = a.put("/do/x", "something").await;
    let cookies: Vec<&str> = done.headers.all("set-cookie");
    let cookies: Vec<&str> = cookies.iter().map(|line| line.split(';').next().unwrap()).collect();
    for target in ["/all/x", "/all/x?page=2", "/one/x?page=2"] {
        let path = target.split('?').next().unwrap();
        register.write(path, "two");
        assert!(b.get(target).await.text() == "one", "{target}: nothing to forbid");
        let read = b.get_with(target, &[("Cookie", &cookies.join("; "))]).await;
        assert_eq!((read.text(), read.fwd()), ("two", "request"), "{target}, by cookie");
        register.write(path, "three");
        let read = b.get_with(target, &[(TOKEN, &token(&done))]).await;
        assert_eq!((read.text(), read.fwd()), ("three", "request"), "{target}, by header");
        register.write(path, "one");
        b.get_with(target, &[("Cache-Control", "no-cache")]).await;
    }
    let mut client = Header(token(&done));
    for _ in 0..2 {
        assert_eq!(client.get(&a, "/all/x?page=2").await.text(), "one");
    }
    assert!(
        client.get(&a, "/all/x?page=2").await.is_hit(),
        "the mark is of this process"
    );
}

#[tokio::test]
async fn r47_a_write_by_another_url_counts_for_the_sessions_that_read_what_it_wrote() {
    let register = Register::new();
    let node = register.node("a").await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{{origin}}\" }}]\n{KEY}\n[[routes]]\nmatch = {{ host = \"admin.example\", path = \"/edit/{{id}}\" }}\n\
        upstream = \"o\"\nrewrite = \"/in/{{id}}\"\n\n[[routes]]\nmatch = {{ host = \"shop.example\", path = \"/in/{{id}}\" }}\n\
        upstream = \"o\"\nconsistency = \"eventual\"\nttl = \"60s\"\nsession = \"read-your-writes\"\n\n[[routes]]\nupstream = \"o\"\n"
    );
    let url = node.url();
    let values = [("origin", url.as_str())];
    let (a, b) = (
        Proxy::start(&config, &values).await,
        Proxy::start(&config, &values).await,
    );
    register.write("/in/x", "one");
    let shop = [("Host", "shop.example")];
    b.get_with("/in/x", &shop).await;
    let made = a.request("PUT", "/edit/x", &[("Host", "admin.example")], "two").await;
    assert!(b.get_with("/in/x", &shop).await.text() == "one", "nothing to forbid");
    let token = token(&made);
    let read = b.get_with("/in/x", &[shop[0], (TOKEN, &token)]).await;
    assert_eq!(read.text(), "two");
    let outside = a.put("/out", "two").await;
    assert!(!outside.headers.has(TOKEN) && !outside.headers.has("set-cookie"));
}

#[tokio::test]
async fn without_session_routes_the_field_is_nobodys() {
    let register = Register::new();
    let node = register.node("a").await;
    register.write("/x", "one");
    let proxy = Proxy::start(
        &one_route("consistency = \"eventual\"\nttl = \"60s\""),
        &[("origin", &node.url())],
    )
    .await;
    let read = proxy.get_with("/x", &[(TOKEN, "an inner proxy's")]).await;
    assert!(!read.headers.has(TOKEN));
    assert_eq!(register.seen()[0].headers.get(TOKEN), Some("an inner proxy's"));
    assert!(proxy.get_with("/x", &[(TOKEN, "x")]).await.is_hit());
}

async fn raised(client: &mut Client, target: &str) -> Answer {
    client.get_with(target, &[("Prefer", "consistency=strong")]).await
}

#[tokio::test]
async fn prefer_raises_one_read_to_a_validated_one() {
    for level in ["weak", "eventual"] {
        let register = Register::new();
        let node = register.node("a").await;
        let config =
            one_route(&format!("consistency = \"{level}\"\nttl = \"60s\"")) + "\n[upstreams.o.retry]\nattempts = 1\n";
        let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
        let mut client = proxy.client().await;
        register.write("/x", "one");
        register.answer_with("/x", "Vary", "Accept");
        client.get("/x").await;
        register.write("/x", "two");
        assert!(client.get("/x").await.text() == "one", "nothing to forbid");
        let read = raised(&mut client, "/x").await;
        assert_eq!((read.text(), read.fwd()), ("two", "request"), "{level}");
        assert_eq!(read.consistency(), "strong;proof=validated", "{level}");
        assert_eq!(read.header("preference-applied"), Some("consistency=strong"), "{level}");
        assert_eq!(read.header("vary"), Some("Accept"), "{level}");
        let same = raised(&mut client, "/x").await;
        assert!(
            same.cache_status().contains("fwd-status=304"),
            "{}",
            same.cache_status()
        );
        assert_eq!(same.consistency(), "strong;proof=validated", "{level}");
        assert!(register.seen().last().unwrap().headers.get("cache-control") == Some("no-cache"));
        let hit = client.get("/x").await;
        assert!(hit.is_hit() && !hit.headers.has("preference-applied") && hit.text() == "two");
        let head = client
            .request("HEAD", "/x", &[("Prefer", "consistency=strong")], b"")
            .await;
        assert_eq!(head.consistency(), "strong;proof=validated", "{level}");
        node.down().await;
        let refused = raised(&mut client, "/x").await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (504, "unreachable"),
            "{level}: as a strong read"
        );
        assert!(client.get("/x").await.is_hit());
    }
}

#[tokio::test]
async fn a_raised_read_joins_no_fetch_that_was_sent_before_it_and_takes_no_weak_validator() {
    let register = Register::new();
    let node = register.node("a").await;
    let proxy = Proxy::start(
        &one_route("consistency = \"eventual\"\nttl = \"60s\""),
        &[("origin", &node.url())],
    )
    .await;
    register.write("/x", "one");
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = proxy.client().await;
    early.ask("GET", "/x", &[], b"").await;
    let held = hold.next().await;
    drop(hold);
    register.write("/x", "two");
    let mut client = proxy.client().await;
    assert_eq!(raised(&mut client, "/x").await.text(), "two");
    held.release();
    assert_eq!(early.answer().await.text(), "one", "nothing to forbid");
    register.write("/w", "one");
    register.answer_with("/w", "ETag", "W/\"same\"");
    client.get("/w").await;
    register.write("/w", "two");
    assert_eq!(
        raised(&mut client, "/w").await.text(),
        "two",
        "a weak ETag does not say that nothing has changed"
    );
}

#[tokio::test]
async fn r47_a_modification_date_of_the_same_second_confirms_nothing_where_there_are_sessions() {
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (session, date, is_condition) in [
        ("", modified, true),
        ("session = \"read-your-writes\"", modified, false),
        ("session = \"read-your-writes\"", "Sun, 06 Nov 1994 08:49:38 GMT", true),
    ] {
        let mut origin = Origin::start().await;
        let config = one_route(&format!("consistency = \"eventual\"\nttl = \"60s\"\n{session}"));
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let mut client = proxy.client().await;
        for round in 0..2 {
            client.ask("GET", "/", &[], b"").await;
            let exchange = origin.next().await;
            let asks = exchange.headers.has("if-modified-since");
            assert_eq!(asks, round == 1 && is_condition, "{session} {date}");
            let fields = [("Last-Modified", modified), ("Date", date)];
            exchange.respond(200, &fields, "one").await;
            assert_eq!(client.answer().await.text(), "one");
        }
    }
}
