//! The level table of INTERFACE.md section 1, cell by cell, and merging of policies.

use crate::support::{errors, good, load, messages};
use tidegate::config::runtime::Action;
use tidegate::core::policy::{Contract, Policy};

const UPSTREAM: &str = "[upstreams.o]\nnodes = [{ url = \"http://a\" }]\n";

fn inline(level: &str, key: &str) -> String {
    format!("{UPSTREAM}[[routes]]\nname = \"r\"\nupstream = \"o\"\nconsistency = \"{level}\"\n{key}\n")
}

fn named(level: &str, key: &str) -> String {
    format!(
        "{UPSTREAM}[[routes]]\nname = \"r\"\nupstream = \"o\"\npolicy = \"p\"\n[policies.p]\nconsistency = \"{level}\"\n{key}\n"
    )
}

fn policy(text: &str) -> Policy {
    let config = good(text);
    let Action::Proxy { policy, .. } = &config.routes[0].action else {
        panic!()
    };
    Policy::clone(policy)
}

/// Key, an example of it, and on which levels (off, weak, eventual, strong) it is allowed.
const TABLE: [(&str, &str, [bool; 4]); 11] = [
    ("ttl", "ttl = \"30s\"", [false, true, true, true]),
    ("max_staleness", "max_staleness = \"60s\"", [false, false, true, false]),
    (
        "stale_while_revalidate",
        "stale_while_revalidate = \"5s\"",
        [false, true, true, false],
    ),
    ("stale_if_error", "stale_if_error = \"5s\"", [false, true, true, false]),
    (
        "on_unreachable",
        "on_unreachable = \"error\"",
        [false, false, true, false],
    ),
    ("session", "session = \"none\"", [false, false, true, false]),
    ("writers", "writers = \"external\"", [false, false, false, true]),
    (
        "write_through",
        "write_through = \"invalidate\"",
        [false, false, false, true],
    ),
    (
        "refresh_timeout",
        "refresh_timeout = \"1s\"",
        [false, false, false, true],
    ),
    ("settle_after", "settle_after = \"10s\"", [false, false, false, true]),
    ("second_level", "second_level = \"pool\"", [false, true, false, false]),
];

#[test]
fn each_cell_of_the_level_table_is_enforced_inline_and_in_policies() {
    for (key, example, allowed) in TABLE {
        for (level, allowed) in ["off", "weak", "eventual", "strong"].into_iter().zip(allowed) {
            for text in [inline(level, example), named(level, example)] {
                let found = errors(&text);
                if !allowed {
                    assert_eq!(found.len(), 1, "{key} on {level}: {found:?}");
                    assert!(
                        found[0].contains(&format!("{key}: contradicts consistency = \"{level}\"")),
                        "{found:?}"
                    );
                } else if key == "second_level" {
                    assert!(found[0].contains("not supported yet"), "{found:?}");
                } else {
                    assert_eq!(found, [""; 0], "{key} on {level}");
                }
            }
        }
    }
}

#[test]
fn a_route_without_a_level_is_off_and_says_so() {
    let found = errors(&format!("{UPSTREAM}[[routes]]\nupstream = \"o\"\nttl = \"1s\"\n"));
    assert_eq!(
        found,
        [
            "tidegate.toml:5:1: error: routes[0].ttl: contradicts consistency = \"off\", the default (only \"weak\", \"eventual\" or \"strong\" has it)"
        ]
    );
}

#[test]
fn ignoring_the_origins_lifetime_needs_another() {
    for level in ["weak", "eventual"] {
        let found = errors(&inline(level, "origin_ttl = \"ignore\""));
        assert!(found.len() == 1 && found[0].contains("needs ttl"), "{found:?}");
        assert_eq!(errors(&inline(level, "origin_ttl = \"ignore\"\nttl = \"5s\"")), [""; 0]);
    }
}

#[test]
fn what_stands_beside_the_route_wins_over_its_policy() {
    let text = format!(
        "{UPSTREAM}[[routes]]\nupstream = \"o\"\npolicy = \"p\"\nttl = \"5s\"\ncollapse = false\n[policies.p]\nconsistency = \"weak\"\nttl = \"30s\"\nmax_waiters = 7\n"
    );
    let Contract::Weak(caching) = policy(&text).contract else {
        panic!()
    };
    assert_eq!(
        (caching.ttl.map(|t| t.as_secs()), caching.max_waiters, caching.collapse),
        (Some(5), 7, false)
    );
}

#[test]
fn a_route_may_give_its_policy_a_level() {
    let text = format!(
        "{UPSTREAM}[[routes]]\nupstream = \"o\"\npolicy = \"p\"\nconsistency = \"eventual\"\n[policies.p]\nttl = \"30s\"\n"
    );
    assert_eq!(policy(&text).level(), "eventual");
    let text = text
        .replace("\"eventual\"", "\"weak\"")
        .replace("ttl =", "max_staleness =");
    let found = errors(&text);
    assert!(
        found.len() == 1 && found[0].starts_with("tidegate.toml:8:1:") && found[0].contains("of route \"route-1\""),
        "{found:?}"
    );
}

#[test]
fn a_policys_mistake_is_said_once_for_all_its_routes() {
    let route = "[[routes]]\nupstream = \"o\"\npolicy = \"p\"\n";
    let text = format!("{UPSTREAM}{route}{route}{route}[policies.p]\nconsistency = \"off\"\nttl = \"1s\"\n");
    assert_eq!(errors(&text).len(), 1);
}

#[test]
fn a_policy_nobody_uses_is_judged_and_named() {
    let text = format!(
        "{UPSTREAM}[[routes]]\nupstream = \"o\"\n[policies.p]\nconsistency = \"weak\"\nsettle_after = \"1s\"\n"
    );
    let loaded = load(&text);
    assert_eq!(loaded.errors.len(), 1);
    assert!(messages(&loaded).contains("policies.p: no route uses it"));
}

#[test]
fn r19_an_upstream_settles_after_the_longest_of_its_strong_routes() {
    let strong = |more: &str| {
        format!("[[routes]]\nupstream = \"o\"\nconsistency = \"strong\"\nmatch = {{ methods = [\"GET\"] }}\n{more}\n")
    };
    let text = format!(
        "{UPSTREAM}{}{}[[routes]]\nupstream = \"o\"\n",
        strong("settle_after = \"5s\""),
        strong("settle_after = \"90s\"")
    );
    assert_eq!(good(&text).upstreams[0].settle_after.map(|d| d.as_secs()), Some(90));
    assert_eq!(good(&inline("eventual", "")).upstreams[0].settle_after, None);
}

#[test]
fn key_rules_and_switches_reach_the_contract() {
    let text = inline(
        "weak",
        "key = { query_ignore = [\"utm_*\", \"*\"], query = [\"page\"], headers = [\"Accept-Language\"], cookies = [\"lang\"], cookies_ignore = [\"_ga*\", \"*\"] }\nstore_set_cookie = true\nshared_auth = true\nmax_object = \"1KiB\"\nidempotency_header = \"Idempotency-Key\"",
    );
    let policy = policy(&text);
    let caching = policy.caching().unwrap();
    assert_eq!(caching.key.query_ignore, ["utm_*", "*"]);
    assert_eq!(caching.key.cookies_ignore, ["_ga*", "*"]);
    assert_eq!(caching.key.query.as_deref(), Some(&["page".to_owned()][..]));
    assert_eq!(caching.key.headers, ["accept-language"]);
    assert_eq!(caching.key.cookies, ["lang"]);
    assert!(caching.store_set_cookie && caching.shared_auth && caching.max_object == 1024);
    assert_eq!(policy.idempotency_header.unwrap(), "idempotency-key");
}

#[test]
fn an_empty_query_list_is_not_no_query_list() {
    let list = |key: &str| policy(&inline("weak", key)).caching().unwrap().key.query.clone();
    assert_eq!(list(""), None);
    assert_eq!(list("key = { query = [] }"), Some(Vec::new()));
}
