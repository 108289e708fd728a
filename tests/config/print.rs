//! print-config and the redacted form.

use crate::support::{load, world};
use std::path::Path;
use tidegate::config::{Loaded, load as loader, print};

const TOKEN: &str = "correct-horse-battery-staple";

fn secretive() -> Loaded {
    let text = "[admin]\naddress = \"0.0.0.0:9901\"\ntoken = \"file:token\"\n[upstreams.o]\nnodes = [{ url = \"http://${NODE}\" }]\n\
        [policies.catalog]\nconsistency = \"weak\"\nttl = \"30s\"\n[[routes]]\nupstream = \"o\"\npolicy = \"catalog\"\nmax_waiters = 5\n\
        set_request_headers = { \"X-Key\" = \"${KEY}\", \"Authorization\" = \"Basic abc\", \"X-Plain\" = \"plain\" }\n";
    let world = world(
        &[("NODE", "10.0.0.1:9000"), ("KEY", TOKEN)],
        &[("/etc/tidegate/token", &format!("{TOKEN}\n"))],
    );
    loader::from_text(text, "t.toml", Path::new("/etc/tidegate"), &world)
}

#[test]
fn each_value_says_where_it_comes_from() {
    let printed = print::effective(&secretive());
    for line in [
        "drain_timeout = \"25s\" # default",
        "address = \"0.0.0.0:9901\" # t.toml:2",
        "address = \":8080\" # default",
        "  { url = \"http://10.0.0.1:9000\", weight = 1, max_in_flight = 0 }, # t.toml:5",
        "ttl = \"30s\" # policy catalog, t.toml:8",
        "max_waiters = 5 # t.toml:12",
        "collapse = true # default",
        "name = \"route-1\" # default",
    ] {
        assert!(printed.lines().any(|l| l == line), "{line}\n---\n{printed}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let loaded = secretive();
    let config = loaded.config.as_ref().unwrap();
    assert_eq!(config.admin.token.as_ref().unwrap().reveal(), TOKEN);
    let printed = print::effective(&loaded);
    let json = print::redacted_json(&config.effective).to_string();
    for shown in [&printed, &json, &format!("{config:?}")] {
        assert!(!shown.contains(TOKEN) && !shown.contains("Basic abc"), "{shown}");
    }
    assert!(
        printed.contains("X-Plain = \"plain\"") && printed.contains("\"<redacted>\""),
        "{printed}"
    );
}

#[test]
fn a_configuration_with_errors_prints_nothing() {
    assert_eq!(print::effective(&load("x = 1")), "");
}

#[test]
fn the_hash_follows_the_meaning_and_not_the_text() {
    let hash = |text: &str| load(text).config.unwrap().hash;
    assert_eq!(hash(""), hash("# a comment\n[server]\ndrain_timeout = \"25s\"\n"));
    assert_eq!(
        hash("[cache]\nmax_memory = \"1GiB\"\n"),
        hash("cache.max_memory = \"1024MiB\"\n")
    );
    assert_ne!(hash(""), hash("[server]\ndrain_timeout = \"26s\"\n"));
    assert_eq!(hash("").len(), 16);
}

#[test]
fn the_redacted_form_is_json_by_section() {
    let loaded = secretive();
    let json = print::redacted_json(&loaded.config.unwrap().effective);
    assert_eq!(json["cache"]["max_memory"], "256MiB");
    assert_eq!(json["admin"]["token"], "<redacted>");
    assert_eq!(json["routes"][0]["ttl"], "30s");
    assert_eq!(json["upstreams"]["o"]["nodes"][0]["url"], "http://10.0.0.1:9000");
}

#[test]
fn text_that_looks_like_a_reference_survives_printing() {
    let text = "[[routes]]\nrespond = { body = \"$${NOT_A_VARIABLE}\\n\\\"quoted\\\"\" }\n";
    let loaded = load(text);
    let again = load(&print::effective(&loaded));
    assert_eq!(again.config.unwrap().hash, loaded.config.unwrap().hash);
}

#[test]
fn no_file_is_needed_for_one_upstream() {
    let loaded = loader::zero_file(":0", "127.0.0.1:0", "http://127.0.0.1:9000", "eventual");
    let config = loaded.config.unwrap();
    assert_eq!(
        (config.listeners.len(), config.routes.len(), config.upstreams.len()),
        (1, 1, 1)
    );
    let wrong = loader::zero_file("nowhere", "0.0.0.0:1", "${HOME}", "string");
    let messages: Vec<_> = wrong
        .errors
        .iter()
        .map(|e| format!("{}: {}", e.path, e.message))
        .collect();
    assert_eq!(messages.len(), 4, "{messages:?}");
    assert!(messages[3].contains("did you mean \"strong\""), "{messages:?}");
}

#[test]
fn session_keys_are_read_from_anywhere_and_never_shown() {
    let (one, two) = (TOKEN.repeat(2), TOKEN.repeat(3));
    let world = world(&[("OLD", &two)], &[("/etc/tidegate/session.key", &format!("{one}\n"))]);
    let keys = |value: &str| {
        let text = format!("[session]\nkey = {value}\n");
        let loaded = loader::from_text(&text, "t.toml", Path::new("/etc/tidegate"), &world);
        let config = loaded.config.as_ref().unwrap();
        let printed =
            print::effective(&loaded) + &print::redacted_json(&config.effective).to_string() + &format!("{config:?}");
        assert!(!printed.contains(TOKEN), "{printed}");
        assert!(printed.contains("\"<redacted>\""), "{printed}");
        let keys = config.session.keys.iter().map(|key| key.reveal().to_owned());
        keys.collect::<Vec<_>>()
    };
    assert_eq!(keys("\"file:session.key\""), [one.as_str()]);
    assert_eq!(keys("[\"${OLD}\", \"file:session.key\"]"), [two.as_str(), one.as_str()]);
    assert_eq!(keys(&format!("\"{one}\"")), [one.as_str()]);
}
