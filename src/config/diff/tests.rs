#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::{changed, is_kept, newly_exclusive};
use crate::config::load::{Loaded, again, from_text};
use crate::config::runtime::Config;
use crate::world::World;
use std::path::Path;

const BASE: &str = "[upstreams.a]\nnodes = [{ url = \"http://127.0.0.1:1\" }]\n\
    [upstreams.b]\nnodes = [{ url = \"http://127.0.0.1:2\" }]\n\
    [[routes]]\nname = \"x\"\nmatch = { path = \"/x/{id}\" }\nupstream = \"a\"\nconsistency = \"weak\"\n\
    [[routes]]\nname = \"y\"\nupstream = \"b\"\nconsistency = \"strong\"\n";

fn first() -> Config {
    from_text(BASE, "f.toml", Path::new(""), &World::real()).config.unwrap()
}

fn reload(running: &Config, text: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    std::fs::write(&file, text).unwrap();
    again(&file, &World::real(), running).unwrap()
}

fn contract(config: &Config, name: &str) -> usize {
    config.routes.iter().find(|r| r.name == name).unwrap().contract
}

#[test]
fn r31_a_name_keeps_its_number_for_life_and_no_number_is_given_twice() {
    let running = first();
    let second = reload(&running, &BASE.replace("name = \"x\"", "name = \"z\""))
        .config
        .unwrap();
    let ids: Vec<_> = second.routes.iter().map(|r| (r.id, r.name.as_str())).collect();
    assert_eq!(ids, [(2, "z"), (1, "y")]);
    let third = reload(&second, BASE).config.unwrap();
    assert_eq!(third.route(0).unwrap().name, "x");
    assert_ne!(contract(&third, "x"), contract(&running, "x"), "it was gone in between");
    assert_eq!(contract(&third, "y"), contract(&running, "y"));
    // The order of the file is nothing: an upstream keeps its number too.
    let (a, b) = BASE.split_at(BASE.find("[upstreams.b]").unwrap());
    let (b, routes) = b.split_at(b.find("[[routes]]").unwrap());
    let turned = reload(&third, &format!("{b}{a}{routes}")).config.unwrap();
    let names: Vec<_> = turned.upstreams.iter().map(|u| (u.id, u.name.as_str())).collect();
    assert_eq!(names, [(0, "a"), (1, "b")]);
    let crate::config::runtime::Action::Proxy { upstream, .. } = &turned.route(1).unwrap().action else {
        panic!("it proxies");
    };
    assert_eq!(upstream.id, 1);
}

#[test]
fn r31_what_a_route_promises_or_stores_makes_a_new_contract_and_nothing_else_does() {
    let x = |from: &str, to: &str| BASE.replace(from, to);
    let weak = "consistency = \"weak\"";
    let cases = [
        ("level", x(weak, "consistency = \"eventual\""), true),
        ("upstream", x("upstream = \"a\"", "upstream = \"b\""), true),
        (
            "rewrite",
            x(weak, "consistency = \"weak\"\nrewrite = \"/v2/{id}\""),
            true,
        ),
        (
            "key",
            x(weak, "consistency = \"weak\"\nkey = { query_ignore = [\"utm_*\"] }"),
            true,
        ),
        (
            "what the node is asked",
            x(
                weak,
                "consistency = \"weak\"\nset_request_headers = { \"X-A\" = \"1\" }",
            ),
            true,
        ),
        (
            "credentials",
            x(weak, "consistency = \"weak\"\nshared_auth = true"),
            true,
        ),
        ("gate", x("127.0.0.1:1\" }]", "127.0.0.1:1\" }]\ngate = \"url\""), true),
        ("ttl", x(weak, "consistency = \"weak\"\nttl = \"9s\""), false),
        ("timeout", x(weak, "consistency = \"weak\"\ntimeout = \"9s\""), false),
        (
            "what the client is told",
            x(
                weak,
                "consistency = \"weak\"\nset_response_headers = { \"X-A\" = \"1\" }",
            ),
            false,
        ),
        (
            "how a node is asked",
            x("127.0.0.1:1\" }]", "127.0.0.1:1\" }]\nresponse_timeout = \"3s\""),
            false,
        ),
        (
            "another route",
            x("consistency = \"strong\"", "consistency = \"off\""),
            false,
        ),
        (
            "order",
            format!(
                "{}\n[[routes]]\nname = \"first\"\nrespond = {{ status = 200, body = \"\" }}\n",
                BASE
            ),
            false,
        ),
    ];
    for (what, text, anew) in cases {
        let running = first();
        let loaded = reload(&running, &text);
        let config = loaded.config.unwrap_or_else(|| panic!("{what}: {:?}", loaded.errors));
        assert_eq!(contract(&config, "x") != contract(&running, "x"), anew, "{what}");
    }
}

#[test]
fn r31_a_route_is_newly_exclusive_when_its_contract_is_new() {
    let running = first();
    let exclusive = BASE.replace("\"strong\"", "\"strong\"\nwriters = \"exclusive\"");
    let second = reload(&running, &exclusive).config.unwrap();
    assert_eq!(newly_exclusive(&running, &second), [1]);
    let third = reload(&second, &exclusive.replace("\"weak\"", "\"off\""))
        .config
        .unwrap();
    assert!(newly_exclusive(&second, &third).is_empty(), "it was before");
    let longer = exclusive.replace("\"exclusive\"", "\"exclusive\"\nsettle_after = \"2m\"");
    let fourth = reload(&third, &longer).config.unwrap();
    assert_eq!(
        newly_exclusive(&third, &fourth),
        [1],
        "R19: abandoned writes are given longer"
    );
}

#[test]
fn what_needs_a_restart_is_named_with_its_place_and_nothing_is_loaded() {
    let running = first();
    let text = format!(
        "[server]\nthreads = 3\ndrain_delay = \"1s\"\n[listeners.main]\naddress = \"127.0.0.1:1\"\n\
         [cache]\nmax_memory = \"1MiB\"\nmax_object = \"1KiB\"\n[telemetry]\nlog = \"debug\"\naccess_log = \"json\"\n{BASE}"
    );
    let text = text.replace("threads = 3", &format!("threads = {}", running.server.threads + 1));
    let loaded = reload(&running, &text);
    assert!(loaded.config.is_none());
    let errors: Vec<_> = loaded.errors.iter().map(|e| (e.line, e.path.as_str())).collect();
    assert_eq!(
        errors,
        [
            (2, "server.threads"),
            (5, "listeners.main.address"),
            (7, "cache.max_memory"),
            (11, "telemetry.access_log"),
        ]
    );
    assert!(
        loaded.errors.iter().all(|e| e.message.contains("needs a restart")),
        "{:?}",
        loaded.errors
    );
}

#[test]
fn what_changed_is_told_by_its_key() {
    let running = first();
    let slower = BASE.replace(":2\" }]", ":2\" }]\nresponse_timeout = \"3s\"");
    let text = format!("[telemetry]\nlog = \"debug\"\n{slower}");
    let new = reload(&running, &text.replace("\"weak\"", "\"off\"")).config.unwrap();
    assert_eq!(changed(&running, &new), ["telemetry.log", "upstreams.b", "routes"]);
    assert!(changed(&running, &reload(&running, BASE).config.unwrap()).is_empty());
    assert!(is_kept(&running, &new, 0) && !is_kept(&running, &new, 1));
}

#[test]
fn what_of_an_upstream_a_reload_cannot_change_is_refused_with_the_reason() {
    let check = |keys: &str| format!("health_check = {{ path = \"/ok\"{keys} }}\n");
    let a = |nodes: &str, keys: &str| {
        format!("[upstreams.a]\nnodes = [{nodes}]\n{keys}[[routes]]\nupstream = \"a\"\nconsistency = \"off\"\n")
    };
    let (one, two) = ("{ url = \"http://127.0.0.1:1\" }", "{ url = \"http://127.0.0.1:2\" }");
    let both = format!("{one}, {two}");
    let three = format!("{both}, {}", one.replace(":1\"", ":3\""));
    let primary = |keys: &str| format!("{}replication = \"primary\"\nmax_lag = \"1s\"\n", check(keys));
    let homes = "replication = \"multi-primary\"\n";
    let cases: [(&str, String, String, &[&str]); 14] = [
        ("no change", check(""), a(&both, &check("")), &[]),
        ("a node more", check(""), a(&three, &check("")), &[]),
        ("a node less", check(""), a(two, &check("")), &[]),
        ("their order", check(""), a(&format!("{two}, {one}"), &check("")), &[]),
        (
            "a weight",
            check(""),
            a(&both.replace(":1\"", ":1\", weight = 3"), &check("")),
            &[],
        ),
        (
            "what is probed",
            check(""),
            a(&both, "health_check = { tcp = true }\n"),
            &[],
        ),
        ("whether", check(""), a(&both, ""), &[]),
        (
            "mode",
            check(""),
            a(&both, &format!("mode = \"active-passive\"\n{}", check(""))),
            &[],
        ),
        (
            "failover",
            primary(""),
            a(&both, &format!("{}failover = {{ hold = \"9s\" }}\n", primary(""))),
            &[],
        ),
        (
            "one store or a primary",
            check(""),
            a(&both, &primary("")),
            &["upstreams.a.replication"],
        ),
        (
            "by what name a position is told",
            primary(", position_header = \"P\""),
            a(&both, &primary(", position_header = \"Q\"")),
            &["upstreams.a.health_check"],
        ),
        (
            "a home more",
            homes.to_owned(),
            a(&three, homes),
            &["upstreams.a.nodes"],
        ),
        (
            "another upstream",
            check(""),
            format!("[upstreams.b]\nnodes = [{two}]\n{}", a(&both, &check(""))),
            &[],
        ),
        (
            "another name",
            check(""),
            a(&both, &check(""))
                .replace("upstreams.a]", "upstreams.b]")
                .replace("\"a\"", "\"b\""),
            &[],
        ),
    ];
    for (what, before, text, named) in cases {
        let loaded = from_text(&a(&both, &before), "f.toml", Path::new(""), &World::real());
        let running = loaded.config.unwrap_or_else(|| panic!("{what}: {:?}", loaded.errors));
        let loaded = reload(&running, &text);
        let errors: Vec<_> = loaded.errors.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(errors, named, "{what}: {:?}", loaded.errors);
        assert!(
            loaded.errors.iter().all(|e| e.message.contains("needs a restart: ")),
            "{what}"
        );
        assert_eq!(loaded.config.is_none(), !named.is_empty(), "{what}");
    }
}

#[test]
fn r31_a_place_belongs_to_one_node_for_life_and_a_node_that_moved_is_another_one() {
    let text = |nodes: &[(&str, u16)]| {
        let nodes = nodes
            .iter()
            .map(|(name, port)| format!("{{ name = \"{name}\", url = \"http://127.0.0.1:{port}\" }}"));
        let nodes: Vec<_> = nodes.collect();
        format!(
            "[upstreams.u]\nnodes = [{}]\n[[routes]]\nupstream = \"u\"\nconsistency = \"off\"\n",
            nodes.join(", ")
        )
    };
    let loaded = from_text(&text(&[("a", 1), ("b", 2)]), "f.toml", Path::new(""), &World::real());
    let mut running = loaded.config.unwrap();
    let places = |config: &Config| -> Vec<(String, usize)> {
        let listed = config.upstreams[0].listed();
        listed
            .map(|(place, node)| (node.url.replace("http://127.0.0.1:", &node.name), place))
            .collect()
    };
    for (nodes, expected) in [
        (vec![("b", 2), ("a", 1)], vec![("b2", 1), ("a1", 0)]),
        (vec![("c", 3), ("b", 2)], vec![("c3", 2), ("b2", 1)]),
        (vec![("b", 9), ("c", 3)], vec![("b9", 3), ("c3", 2)]),
        // Back, and nobody knows where it has been.
        (vec![("a", 1), ("b", 9)], vec![("a1", 4), ("b9", 3)]),
    ] {
        running = reload(&running, &text(&nodes)).config.unwrap();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, place)| (name.to_owned(), place))
            .collect();
        assert_eq!(places(&running), expected, "{nodes:?}");
        assert!(reload(&running, &text(&nodes)).config.is_some());
    }
    let names: Vec<_> = running.upstreams[0]
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["a", "b", "c", "b", "a"],
        "who has gone is still called by its name"
    );
}

#[test]
fn an_upstream_whose_nodes_are_discovered_needs_a_restart_for_everything() {
    let text = |keys: &str| {
        format!(
            "[upstreams.a]\ndiscover = {{ dns = \"nodes.test:80\" }}\n{keys}[[routes]]\nupstream = \"a\"\nconsistency = \"off\"\n"
        )
    };
    let loaded = from_text(&text(""), "f.toml", Path::new(""), &World::real());
    let running = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.errors));
    let refused = reload(&running, &text("response_timeout = \"3s\"\n"));
    assert_eq!(refused.errors[0].path, "upstreams.a.response_timeout");
    assert!(
        reload(&running, &text("").replace("\"off\"", "\"weak\""))
            .config
            .is_some()
    );
}
