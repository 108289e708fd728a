//! The printed JSON Schema against its golden file, against what the reader accepts, and against itself. `TIDEGATE_BLESS=1` writes
//! the golden file.

use crate::support::{errors, load, messages};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::config::schema::schema;
use tidegate::config::units;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn toml_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder(name)).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

/// What the schema has against a file, as `PATH: WHY`; none when the file is no TOML.
fn complaints(text: &str) -> Option<Vec<String>> {
    let file: Value = toml::from_str(text).ok()?;
    let schema = schema();
    Some(Checker { root: &schema }.check(&schema, &file, ""))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch that rewrites the expectation")]
fn the_schema_is_the_one_in_the_tree() {
    let path = folder("tests/config/schema.json");
    let found = format!("{:#}\n", schema());
    if std::env::var("TIDEGATE_BLESS").is_ok() {
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "found and expected");
    assert_eq!(found.len(), expected.len());
}

#[test]
fn every_example_conforms() {
    let files = toml_files("config");
    assert!(files.len() >= 9, "{files:?}");
    for path in files {
        let complaints = complaints(&fs::read_to_string(&path).unwrap());
        assert_eq!(complaints, Some(Vec::new()), "{}", path.display());
    }
}

/// The messages that are about one value, and so within reach of a schema.
const WITHIN_REACH: [&str; 12] = [
    "unknown key",
    "\" is not supported yet",
    "not in scope",
    "is not between",
    "expected true or false",
    "expected a number",
    "expected a duration",
    "expected a size",
    "expected a percentage",
    "expected a string",
    "expected a list",
    "expected a table",
];

#[test]
fn what_is_wrong_with_one_value_of_a_bad_file_the_schema_says_too() {
    let (mut files, mut unknown) = (0, 0);
    for path in toml_files("tests/config/bad") {
        let text = fs::read_to_string(&path).unwrap();
        let Some(complaints) = complaints(&text) else { continue };
        files += 1;
        for error in errors(&text) {
            let (_, error) = error.split_once("error: ").unwrap();
            let Some((at, what)) = error.split_once(": ") else {
                continue;
            };
            if what != "not supported yet" && !WITHIN_REACH.iter().any(|within| what.contains(within)) {
                continue;
            }
            let at = at.replace('"', "");
            unknown += usize::from(what.contains("unknown key"));
            assert!(
                complaints.iter().any(|c| c.starts_with(&format!("{at}: "))),
                "{}: {at}: {what}\n{complaints:#?}",
                path.display()
            );
        }
    }
    assert!(files >= 12 && unknown >= 8, "{unknown} unknown keys in {files} files");
}

#[test]
fn what_print_config_prints_conforms() {
    for path in toml_files("config") {
        let loaded = load(
            &fs::read_to_string(&path)
                .unwrap()
                .replace("${TIDEGATE_ADMIN_TOKEN}", "0123456789abcdef"),
        );
        let printed = tidegate::config::print::effective(&loaded);
        assert_eq!(
            complaints(&printed),
            Some(Vec::new()),
            "{}\n{}{printed}",
            path.display(),
            messages(&loaded)
        );
    }
}

#[test]
fn patterns_take_the_units_that_the_reader_takes() {
    let schema = schema();
    let checker = Checker { root: &schema };
    let takes = |definition: &str, text: &str| {
        let definition = &schema["$defs"][definition];
        checker.check(definition, &Value::from(text), "").is_empty()
    };
    for text in [
        "250ms",
        "30s",
        "1h",
        "0s",
        "1h 30m",
        "1h30m",
        "2min",
        "1.5s",
        "90 seconds",
        "5us",
        "5µs",
        "3days",
        "1M",
        "1y",
        "30",
        "",
        "soon",
        "-1s",
        "1x",
        "s",
        "1s2",
        "1.s",
        "ms5",
        "1 h h",
    ] {
        assert_eq!(takes("duration", text), units::duration(text).is_ok(), "{text:?}");
    }
    for text in [
        "512B", "32KiB", "1 TiB", "0B", "64MB", "64", "big", "", "1zz", "KiB", "1.5MiB", "-1B",
    ] {
        assert_eq!(takes("size", text), units::size(text).is_ok(), "{text:?}");
    }
    for text in [
        "0%", "20%", "100%", "007%", "20 %", "101%", "200%", "1000%", "20", "0.5%", "%", "",
    ] {
        assert_eq!(takes("percent", text), units::percent(text).is_ok(), "{text:?}");
    }
    for definition in ["duration", "timeout", "size", "percent"] {
        assert!(takes(definition, "${VALUE}") && takes(definition, "${N}s") && takes(definition, "file:value"));
        assert!(!takes(definition, "${}") && !takes(definition, "$VALUE"));
    }
}

/// Every default the schema tells is one that it takes.
#[test]
fn every_default_conforms_to_its_own_schema() {
    fn walk(checker: &Checker<'_>, schema: &Value, seen: &mut usize) {
        if let Some(default) = schema.get("default") {
            assert_eq!(checker.check(schema, default, ""), [""; 0], "{schema:#}");
            *seen += 1;
        }
        let inside = [schema.get("additionalProperties"), schema.get("items")];
        let named = schema.get("properties").and_then(Value::as_object);
        let inside = inside.into_iter().flatten();
        for inner in inside.chain(named.into_iter().flat_map(|named| named.values())) {
            walk(checker, inner, seen);
        }
    }
    let schema = schema();
    let mut seen = 0;
    walk(&Checker { root: &schema }, &schema, &mut seen);
    assert!(seen > 50, "only {seen} defaults were found");
}

/// A checker of the keywords the schema uses; any other is a mistake of the schema.
struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let (mut found, mut own) = (Vec::new(), Vec::new());
        let mut wrong = |why: String| own.push(format!("{at}: {why}"));
        if let Value::Bool(anything) = schema {
            if !anything {
                wrong("unknown key".to_owned());
            }
            return own;
        }
        for (keyword, rule) in schema.as_object().expect("a schema") {
            let text = || rule.as_str().unwrap();
            match keyword.as_str() {
                "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "examples" => {}
                "type" if kind(value) != text() => wrong(format!("expected {}, found {}", text(), kind(value))),
                "type" => {}
                "const" if value != rule => wrong(format!("expected {rule}")),
                "const" => {}
                "enum" if !rule.as_array().unwrap().contains(value) => wrong(format!("expected one of {rule}")),
                "enum" => {}
                "minimum" if value.as_i64().is_some_and(|n| n < rule.as_i64().unwrap()) => {
                    wrong(format!("below {rule}"))
                }
                "maximum" if value.as_i64().is_some_and(|n| n > rule.as_i64().unwrap()) => {
                    wrong(format!("above {rule}"))
                }
                "minimum" | "maximum" => {}
                "pattern" if value.as_str().is_some_and(|value| !matches(text(), value)) => {
                    wrong(format!("{value} is not {rule}"));
                }
                "pattern" => {}
                "$ref" => {
                    let definition = text().strip_prefix("#/$defs/").expect("a definition");
                    let definition = self.root["$defs"].get(definition).expect("it is defined");
                    found.extend(self.check(definition, value, at));
                }
                "anyOf" => {
                    let tries: Vec<_> = rule
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|one| self.check(one, value, at))
                        .collect();
                    if !tries.iter().any(Vec::is_empty) {
                        found.extend(tries.into_iter().flatten());
                    }
                }
                "items" => {
                    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                        found.extend(self.check(rule, item, &format!("{at}[{n}]")));
                    }
                }
                "properties" => {}
                "additionalProperties" => {
                    let properties = schema.get("properties");
                    for (name, member) in value.as_object().into_iter().flatten() {
                        let rule = properties.and_then(|p| p.get(name)).unwrap_or(rule);
                        let dot = if at.is_empty() { "" } else { "." };
                        found.extend(self.check(rule, member, &format!("{at}{dot}{name}")));
                    }
                }
                other => panic!("{other} is no keyword of ours"),
            }
        }
        found.extend(own);
        found
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a regular expression of the kind the schema writes is found in a text: characters, `[classes]`, `(groups|of alternatives)`,
/// `*`, `+`, `?`, `^` and `$`.
fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut rest: Vec<char> = pattern.chars().collect();
    rest.reverse();
    let expression = parse_alternatives(&mut rest);
    assert!(rest.is_empty(), "{pattern} goes on");
    (0..=text.len()).any(|start| !ends(&expression, &text, &[start]).is_empty())
}

enum Piece {
    Start,
    End,
    OneOf(Vec<(char, char)>),
    Group(Vec<Vec<(Piece, Times)>>),
}

#[derive(Clone, Copy, PartialEq)]
enum Times {
    Once,
    Maybe,
    Some,
    Any,
}

/// `rest` is reversed: the next character is its last.
fn parse_alternatives(rest: &mut Vec<char>) -> Vec<Vec<(Piece, Times)>> {
    let mut alternatives = vec![Vec::new()];
    while let Some(&next) = rest.last() {
        if next == ')' {
            break;
        }
        rest.pop();
        let piece = match next {
            '|' => {
                alternatives.push(Vec::new());
                continue;
            }
            '^' => Piece::Start,
            '$' => Piece::End,
            '(' => {
                let inside = parse_alternatives(rest);
                assert_eq!(rest.pop(), Some(')'));
                Piece::Group(inside)
            }
            '[' => parse_class(rest),
            '.' | '\\' | '{' => panic!("{next} is more than this reads"),
            plain => Piece::OneOf(vec![(plain, plain)]),
        };
        let times = match rest.last() {
            Some('?') => Times::Maybe,
            Some('+') => Times::Some,
            Some('*') => Times::Any,
            _ => Times::Once,
        };
        if times != Times::Once {
            rest.pop();
        }
        alternatives.last_mut().unwrap().push((piece, times));
    }
    alternatives
}

fn parse_class(rest: &mut Vec<char>) -> Piece {
    let mut ranges = Vec::new();
    loop {
        let from = rest.pop().expect("a class ends");
        if from == ']' {
            return Piece::OneOf(ranges);
        }
        if rest.last() == Some(&'-') {
            rest.pop();
            ranges.push((from, rest.pop().unwrap()));
        } else {
            ranges.push((from, from));
        }
    }
}

/// Where a match that begins at one of `starts` can end.
fn ends(alternatives: &[Vec<(Piece, Times)>], text: &[char], starts: &[usize]) -> Vec<usize> {
    let mut found = Vec::new();
    for pieces in alternatives {
        let mut at = starts.to_vec();
        for (piece, times) in pieces {
            let mut next = if matches!(times, Times::Maybe | Times::Any) {
                at.clone()
            } else {
                Vec::new()
            };
            let mut front = at;
            loop {
                front = one(piece, text, &front);
                front.retain(|end| !next.contains(end));
                next.extend(&front);
                if front.is_empty() || matches!(times, Times::Once | Times::Maybe) {
                    break;
                }
            }
            at = next;
        }
        found.extend(at);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn one(piece: &Piece, text: &[char], starts: &[usize]) -> Vec<usize> {
    let fits = |ranges: &[(char, char)], c: char| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
    match piece {
        Piece::Start => starts.iter().copied().filter(|at| *at == 0).collect(),
        Piece::End => starts.iter().copied().filter(|at| *at == text.len()).collect(),
        Piece::OneOf(ranges) => {
            let on = starts
                .iter()
                .filter(|at| text.get(**at).is_some_and(|c| fits(ranges, *c)));
            on.map(|at| at + 1).collect()
        }
        Piece::Group(alternatives) => ends(alternatives, text, starts),
    }
}
