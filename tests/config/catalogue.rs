//! The catalogue against the interface, and against itself.

use crate::support::{errors, load, messages};
use tidegate::config::catalogue::{Key, Keys, Kind, ROOT, Support};

/// The published list of keys: INTERFACE.md section 1, as it stands there.
const INTERFACE: &str = include_str!("interface.toml");

#[test]
fn every_key_of_the_interface_is_known() {
    let unknown: Vec<_> = errors(INTERFACE)
        .into_iter()
        .filter(|e| e.contains("unknown key"))
        .collect();
    assert_eq!(unknown, [""; 0]);
    // The example is of everything at once, so some of it is to come: had it not been read, nothing would be refused.
    let refused = errors(INTERFACE)
        .iter()
        .filter(|e| e.contains("not supported yet"))
        .count();
    assert!(refused > 1, "only {refused} refusals:\n{}", messages(&load(INTERFACE)));
}

/// A key, and the text that sets it to a value.
type Visit<'a> = dyn FnMut(&Key, &dyn Fn(&str) -> String) + 'a;

/// Each key with a text that sets it: `lead` leads to its table, `inline` closes an inline one.
fn walk(keys: Keys, lead: &str, inline: Option<&str>, visit: &mut Visit<'_>) {
    for key in keys.iter().flat_map(|group| group.iter()) {
        let set = |value: &str| match inline {
            Some(end) => format!("{lead}{} = {value}{end}", key.name),
            None => format!("{lead}{} = {value}\n", key.name),
        };
        visit(key, &set);
    }
}

/// Every table whose keys can be set one by one, with what leads to it.
fn tables() -> Vec<(Keys, &'static str, Option<&'static str>)> {
    let find = |keys: Keys, name: &str| -> Keys {
        let key = tidegate::config::catalogue::find(keys, name).unwrap_or_else(|| panic!("{name}"));
        match &key.kind {
            Kind::Table(keys) | Kind::Named(keys) | Kind::List(Kind::Table(keys)) => keys,
            other => panic!("{name}: {other:?}"),
        }
    };
    let upstream = find(ROOT, "upstreams");
    vec![
        (find(ROOT, "server"), "[server]\n", None),
        (find(ROOT, "listeners"), "[listeners.other]\naddress = \":1\"\n", None),
        (find(ROOT, "telemetry"), "[telemetry]\n", None),
        (find(find(ROOT, "telemetry"), "meter"), "[telemetry.meter]\n", None),
        (upstream, "[upstreams.o]\n", None),
        (
            find(upstream, "nodes"),
            "[upstreams.o]\nnodes = [{ url = \"http://a\", ",
            Some(" }]\n"),
        ),
        (
            find(upstream, "health_check"),
            "[upstreams.o]\nnodes = [{ url = \"http://a\" }]\nhealth_check = { ",
            Some(" }\n"),
        ),
        (
            find(upstream, "outlier"),
            "[upstreams.o]\nnodes = [{ url = \"http://a\" }]\noutlier = { ",
            Some(" }\n"),
        ),
        (
            find(ROOT, "routes"),
            "[upstreams.o]\nnodes = [{ url = \"http://a\" }]\n[[routes]]\nupstream = \"o\"\n",
            None,
        ),
    ]
}

#[test]
fn keys_of_later_capabilities_are_refused_unless_they_say_off() {
    let mut later = 0;
    for (keys, lead, inline) in tables() {
        walk(keys, lead, inline, &mut |key, set| {
            let refused = |value: &str| {
                errors(&set(value))
                    .iter()
                    .any(|e| e.contains(&format!("{}: not supported yet", key.name)))
            };
            match key.support {
                Support::Now => return,
                Support::Later => assert!(refused("\"1s\""), "{}", key.name),
                Support::LaterUnlessDefault => {
                    assert!(!refused(key.default.unwrap()), "{}", key.name);
                    let on = match &key.kind {
                        Kind::Flag => "true",
                        Kind::Count(..) => "7",
                        Kind::Percent => "\"7%\"",
                        Kind::Size => "\"7MiB\"",
                        Kind::Timeout => "\"7s\"",
                        Kind::Text => "\"something\"",
                        Kind::List(_) => "[\"something\"]",
                        Kind::Choice { .. } => {
                            later_words(key, set);
                            later += 1;
                            return;
                        }
                        other => panic!("{}: {other:?}", key.name),
                    };
                    assert!(refused(on), "{}: {:?}", key.name, errors(&set(on)));
                }
            }
            later += 1;
        });
    }
    // Fewer with every capability that is built; none at all would mean that the walk finds nothing.
    assert!(later >= 5, "only {later} keys of later capabilities were found");
}

fn later_words(key: &Key, set: &dyn Fn(&str) -> String) {
    if let Kind::Choice { later, .. } = &key.kind {
        for word in *later {
            let found = errors(&set(&format!("\"{word}\"")));
            assert!(
                found
                    .iter()
                    .any(|e| e.contains(&format!("\"{word}\" is not supported yet"))),
                "{} {word}: {found:?}",
                key.name
            );
        }
    }
}

#[test]
fn words_of_later_capabilities_are_refused() {
    for (keys, lead, inline) in tables() {
        walk(keys, lead, inline, &mut |key, set| {
            if key.support == Support::Now {
                later_words(key, set);
            }
        });
    }
}

#[test]
fn whole_tables_of_later_capabilities_are_refused_once() {
    for text in [
        "[fleet]\nrole = \"anchor\"\nanchors = []\n",
        "[second_levels.pool]\nnodes = []\n",
        "[listeners.main]\nhttp3 = true\n",
    ] {
        let found = errors(text);
        assert!(
            found.len() == 1 && found[0].contains("not supported yet"),
            "{text}{found:?}"
        );
    }
}

#[test]
fn what_is_not_planned_is_refused_with_that_word() {
    for key in ["rate_limit", "compression", "gzip", "disk", "script", "lua"] {
        for table in [
            "[server]",
            "[cache]",
            "[[routes]]\nrespond = {}",
            "[upstreams.o]\nnodes = [{ url = \"http://a\" }]",
        ] {
            let found = errors(&format!("{table}\n{key} = 1\n"));
            assert!(found.len() == 1 && found[0].contains("not in scope"), "{found:?}");
        }
    }
}

#[test]
fn a_file_of_nodes_is_read_like_a_configuration_and_its_mistakes_have_places() {
    let read = |text: &str| tidegate::config::load::nodes_from_text(text, "nodes.toml");
    let nodes =
        read("nodes = [{ url = \"http://10.0.0.1:9000\", weight = 3 }, { url = \"http://b\", name = \"b\" }]").unwrap();
    let told: Vec<_> = nodes
        .iter()
        .map(|n| (n.name.as_str(), n.host.as_str(), n.port, n.weight))
        .collect();
    assert_eq!(told, [("10.0.0.1:9000", "10.0.0.1", 9000, 3), ("b", "b", 80, 1)]);
    assert!(read("nodes = []").unwrap().is_empty(), "said, so it is so");
    for (text, wanted) in [
        ("", "nodes.toml:1:1: error: nodes: missing"),
        (
            "nodes = [{ url = 5 }]",
            "nodes.toml:1:18: error: nodes[0].url: expected a string",
        ),
        ("nodes = [{ url = \"http://a\" ", "nodes.toml:1:"),
        (
            "nodes = [{ url = \"http://a\", standby = \"hot\" }]",
            "nodes.toml:1:30: error: nodes[0].standby: unknown key",
        ),
        (
            "nodes = [{ url = \"http://a\" }, { url = \"http://a\" }]",
            "nodes.toml:1:40: error: nodes[1].url: there is already a node",
        ),
    ] {
        let errors = read(text).unwrap_err();
        let first = errors[0].to_string();
        assert!(first.starts_with(wanted), "{text}: {first}");
    }
}
