#![allow(clippy::unwrap_used)]

use super::super::takes;
use super::*;
use crate::config::runtime::PathPattern;
use http::{HeaderMap, Method};
use proptest::prelude::*;

fn route(host: Option<&str>, path: Option<&str>) -> Match {
    Match {
        host: host.map(|host| HostPattern::parse(host).unwrap()),
        path: path.map(|path| PathPattern::parse(path).unwrap()),
        methods: Vec::new(),
        headers: Vec::new(),
    }
}

/// The numbers that the table finds, and that asking one by one does.
fn both(routes: &[Match], host: &str, path: &str) -> (Option<usize>, Option<usize>) {
    let fields = HeaderMap::new();
    let question = Question {
        host,
        path,
        method: &Method::GET,
        headers: &fields,
        https: false,
    };
    let table = Table::of(routes.iter());
    (
        table.first(host, path, |n| {
            routes.get(n).is_some_and(|matches| takes(matches, &question))
        }),
        routes.iter().position(|matches| takes(matches, &question)),
    )
}

const HOSTS: [&str; 6] = [
    "a.example",
    "*.a.example",
    "*.example",
    "b.a.example",
    "example",
    "[::1]",
];
const PATHS: [&str; 14] = [
    "/",
    "/{*rest}",
    "/x",
    "/x/",
    "/x/y",
    "/x/{*rest}",
    "/x{*rest}",
    "/{id}",
    "/{id}/y",
    "/x/{id}",
    "/x/{id}/z",
    "/x/y/{*rest}",
    "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/{*rest}",
    "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18",
];
const ASKED: [&str; 12] = [
    "/",
    "/x",
    "/x/",
    "/x/y",
    "/x/y/z",
    "/xy",
    "/q",
    "/q/y",
    "/x/q/z",
    "*",
    "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18",
    "",
];

proptest! {
    #[test]
    fn the_table_finds_the_route_that_asking_one_by_one_finds(
        chosen in prop::collection::vec((prop::option::of(0..HOSTS.len()), prop::option::weighted(0.9, 0..PATHS.len())), 0..12),
    ) {
        let at = |n: usize, of: &[&'static str]| of.get(n).copied();
        let routes: Vec<Match> = chosen
            .iter()
            .map(|(host, path)| route(host.and_then(|n| at(n, &HOSTS)), path.and_then(|n| at(n, &PATHS))))
            .collect();
        for host in ["a.example", "b.a.example", "c.b.a.example", "example", ".example", "other", "[::1]", ""] {
            for path in ASKED {
                let (found, first) = both(&routes, host, path);
                prop_assert_eq!(found, first, "{} {}", host, path);
            }
        }
    }
}

#[test]
fn of_a_thousand_routes_a_few_are_asked() {
    let hosts: Vec<String> = (0..50)
        .map(|n| {
            if n % 2 == 0 {
                format!("h{n}.example")
            } else {
                format!("*.h{n}.example")
            }
        })
        .collect();
    let paths: Vec<String> = (0..20)
        .map(|n| {
            if n % 2 == 0 {
                format!("/api/v{n}/{{*rest}}")
            } else {
                format!("/page-{n}")
            }
        })
        .collect();
    let routes: Vec<Match> = hosts
        .iter()
        .flat_map(|host| paths.iter().map(|path| route(Some(host), Some(path))))
        .collect();
    let table = Table::of(routes.iter());
    for (host, path, expected) in [
        ("h0.example", "/api/v0/a/b", Some(0)),
        ("w.h49.example", "/page-19", Some(999)),
        ("w.h49.example", "/api/v18/", Some(998)),
        ("h49.example", "/page-19", None),
        ("h0.example", "/elsewhere", None),
    ] {
        let fields = HeaderMap::new();
        let question = Question {
            host,
            path,
            method: &Method::GET,
            headers: &fields,
            https: false,
        };
        let asked = std::cell::Cell::new(0);
        let found = table.first(host, path, |n| {
            asked.set(asked.get() + 1);
            routes.get(n).is_some_and(|matches| takes(matches, &question))
        });
        assert_eq!(found, expected, "{host} {path}");
        assert!(asked.get() <= 2, "{host} {path}: {} routes were asked", asked.get());
    }
}
