//! The catalogue as a JSON Schema (draft 2020-12), for editors and pipelines: which keys there are now, what their values look like,
//! their defaults and what they mean. Keys of later capabilities are left out or held to the value that says "off".
//!
//! A schema sees one value at a time: what contradicts something else in the file, only `check` tells.

use super::catalogue::{Key, Keys, Kind, ROOT, Support};
use serde_json::{Map, Value, json};

/// As humantime reads it: numbers with units, in a row.
const DURATION: &str = "^( *[0-9]+([.][0-9]+)? *(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|\
                        hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y) *)+$";

const SIZE: &str = "^[0-9]+ *(B|KiB|MiB|GiB|TiB) *$";

const PERCENT: &str = "^ *0*(100|[0-9]?[0-9]) *%$";

/// What the text becomes is not known here.
const REFERENCE: &str = "[$][{][A-Za-z0-9_]+[}]|^file:";

/// The schema of a configuration file.
#[must_use]
pub fn schema() -> Value {
    let definitions = json!({
        "duration": or_reference(text(DURATION, "250ms", "A span of time with its units.")),
        "timeout": or_reference(text(DURATION, "30s", "A span of time with its units, above zero.")),
        "size": or_reference(text(SIZE, "64MiB", "A number of bytes with its unit.")),
        "percent": or_reference(text(PERCENT, "20%", "A share, in whole percent.")),
        "reference": text(REFERENCE, "${NAME}", "Text filled in from a variable or a file."),
    });
    let head = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("$id", json!("urn:tidegate:schema:configuration")),
        ("title", json!("Tidegate's configuration")),
        (
            "description",
            json!("One value at a time; `tidegate check` also tells what contradicts what."),
        ),
        ("$defs", definitions),
    ];
    with(table(ROOT), head)
}

fn text(pattern: &str, example: &str, what: &str) -> Value {
    json!({ "type": "string", "pattern": pattern, "examples": [example], "description": what })
}

fn refers_to(definition: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}") })
}

fn or_reference(one: Value) -> Value {
    json!({ "anyOf": vec![one, refers_to("reference")] })
}

/// A table with known keys and no others.
fn table(keys: Keys) -> Value {
    let known = keys.iter().flat_map(|group| group.iter());
    let properties = known.filter_map(|key| Some((key.name.to_owned(), property(key)?)));
    let properties: Map<_, _> = properties.collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// One key; none when there is nothing it may say yet.
fn property(key: &Key) -> Option<Value> {
    let default = key.default.map(constant);
    let doc = json!(key.doc);
    let property = match key.support {
        Support::Later => return None,
        Support::LaterUnlessDefault => {
            let doc = json!(format!("{} Not supported yet.", key.doc));
            return Some(with(json!({ "const": default? }), [("description", doc)]));
        }
        // `""` unsets it.
        Support::Now if matches!(key.kind, Kind::Duration) && default.is_none() => {
            json!({ "anyOf": [{ "const": "" }, value(&key.kind)] })
        }
        Support::Now => value(&key.kind),
    };
    let property = with(property, [("description", doc)]);
    Some(match default {
        Some(default) => with(property, [("default", default)]),
        None => property,
    })
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Flag => or_reference(json!({ "type": "boolean" })),
        Kind::Count(min, max) => or_reference(json!({ "type": "integer", "minimum": min, "maximum": max })),
        Kind::Duration => refers_to("duration"),
        Kind::Timeout => refers_to("timeout"),
        Kind::Size => refers_to("size"),
        Kind::Percent => refers_to("percent"),
        Kind::Text | Kind::OptionalText | Kind::Secret | Kind::Pem => json!({ "type": "string" }),
        Kind::Choice { now, .. } => or_reference(json!({ "enum": now })),
        Kind::List(inner) => json!({ "type": "array", "items": value(inner) }),
        Kind::Table(keys) => table(keys),
        Kind::Named(keys) => json!({ "type": "object", "additionalProperties": table(keys) }),
        Kind::Fields => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::TextOr(other) => json!({ "anyOf": [{ "type": "string" }, value(other)] }),
    }
}

/// A default of the catalogue, which is TOML.
fn constant(text: &str) -> Value {
    let parsed: Result<Map<String, Value>, _> = toml::from_str(&format!("it = {text}"));
    let mut table = parsed.expect("a constant: the tests read every default");
    table.remove("it").unwrap_or_default()
}

/// An object with members added.
fn with<const N: usize>(mut object: Value, members: [(&str, Value); N]) -> Value {
    if let Value::Object(object) = &mut object {
        object.extend(members.map(|(name, value)| (name.to_owned(), value)));
    }
    object
}
