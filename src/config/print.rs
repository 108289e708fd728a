//! The effective configuration for people (`print-config`, TOML with the origin of each value) and for programs (JSON). Secrets,
//! and what a variable or file put into a header, are never shown.

use super::Loaded;
use super::effective::{Effective, Node, Origin, Table, Value};
use super::units;
use serde_json::{Map, Value as Json, json};
use siphasher::sip::SipHasher13;
use std::fmt::Write;
use std::hash::Hasher;

const REDACTED: &str = "<redacted>";

/// Whether secrets are left in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    Hidden,
    Shown,
}

/// The effective configuration as JSON, without secrets: what admin `GET /config` answers.
#[must_use]
pub fn redacted_json(effective: &Effective) -> Json {
    table_json(&effective.root, Secrets::Hidden)
}

/// A short hash of the effective configuration without its secrets: equal for two files that mean the same.
#[must_use]
pub fn hash(effective: &Effective) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(redacted_json(effective).to_string().as_bytes());
    format!("{:016x}", hasher.finish())
}

pub(super) fn json(value: &Value, secrets: Secrets) -> Json {
    match value {
        Value::Bad => Json::Null,
        Value::Flag(flag) => json!(flag),
        Value::Count(n) => json!(n),
        Value::Duration(span) => json!(units::show_duration(*span)),
        Value::Size(bytes) => json!(units::show_size(*bytes)),
        Value::Percent(share) => json!(format!("{share}%")),
        Value::Text(text) => json!(text),
        Value::Secret(secret) => json!(if secrets == Secrets::Shown {
            secret.reveal()
        } else {
            REDACTED
        }),
        // Told apart by what is in it, so that a renewed certificate counts as a change.
        Value::Pem(pem) if secrets == Secrets::Shown => json!([pem.path, pem.text()]),
        Value::Pem(pem) => json!(pem.path.as_deref().unwrap_or(REDACTED)),
        Value::List(items) => items.iter().map(|item| json(&item.value, secrets)).collect(),
        Value::Table(table) => table_json(table, secrets),
    }
}

fn table_json(table: &Table, secrets: Secrets) -> Json {
    let hide = |name: &str, node: &Node| secrets == Secrets::Hidden && holds_secret(name, node);
    let shown = |(name, node): &(String, Node)| {
        let value = if hide(name, node) {
            json!(REDACTED)
        } else {
            json(&node.value, secrets)
        };
        (name.clone(), value)
    };
    Json::Object(table.entries.iter().map(shown).collect::<Map<_, _>>())
}

/// A header's value that came from outside the file, or whose name says that it is a credential.
pub(super) fn holds_secret(name: &str, node: &Node) -> bool {
    let header = node.place.path.contains("headers.");
    let credential = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
    ];
    header && (node.substituted || credential.contains(&name.to_ascii_lowercase().as_str()))
}

/// `print-config`: TOML that loads to the same configuration (but for secrets), each value with its origin behind it.
/// Empty when the file has errors.
#[must_use]
pub fn effective(loaded: &Loaded) -> String {
    loaded
        .config
        .as_ref()
        .map_or_else(String::new, |config| toml_text(&config.effective))
}

fn toml_text(effective: &Effective) -> String {
    let mut out = String::new();
    for (name, node) in &effective.root.entries {
        match &node.value {
            Value::Table(table) => section(&mut out, name, table, &effective.file),
            Value::List(items) => {
                for table in items.iter().filter_map(Node::as_table) {
                    let _ = writeln!(out, "\n[[{name}]]");
                    body(&mut out, name, table, &effective.file);
                }
            }
            _ => line(&mut out, name, node, &effective.file),
        }
    }
    out.trim_start().to_owned()
}

fn section(out: &mut String, path: &str, table: &Table, file: &str) {
    let only_tables = table.entries.iter().all(|(_, node)| node.as_table().is_some());
    if !only_tables {
        let _ = writeln!(out, "\n[{path}]");
    }
    body(out, path, table, file);
}

fn body(out: &mut String, path: &str, table: &Table, file: &str) {
    for (name, node) in table.entries.iter().filter(|(_, node)| !is_section(node)) {
        line(out, name, node, file);
    }
    for (name, node) in &table.entries {
        if let (true, Value::Table(inner)) = (is_section(node), &node.value) {
            section(out, &format!("{path}.{}", bare_or_quoted(name)), inner, file);
        }
    }
}

/// Tables with many keys of their own get a header; small ones stay on one line.
fn is_section(node: &Node) -> bool {
    let path = node.place.path.as_str();
    let deep = path.contains('[') || path.contains("headers");
    node.as_table().is_some() && !deep
}

fn line(out: &mut String, name: &str, node: &Node, file: &str) {
    let origin = match &node.origin {
        Origin::Default => "default".to_owned(),
        Origin::Line(line) => format!("{file}:{line}"),
        Origin::Policy { name, line } => format!("policy {name}, {file}:{line}"),
    };
    let name_shown = bare_or_quoted(name);
    match &node.value {
        Value::List(items) if items.iter().any(|item| item.as_table().is_some()) => {
            let _ = writeln!(out, "{name_shown} = [ # {origin}");
            for item in items {
                let origin = match &item.origin {
                    Origin::Line(line) => format!(" # {file}:{line}"),
                    _ => String::new(),
                };
                let _ = writeln!(out, "  {},{origin}", inline("", item));
            }
            let _ = writeln!(out, "]");
        }
        _ => {
            let _ = writeln!(out, "{name_shown} = {} # {origin}", inline(name, node));
        }
    }
}

fn inline(name: &str, node: &Node) -> String {
    if holds_secret(name, node) {
        return quoted(REDACTED);
    }
    match &node.value {
        Value::Bad => quoted(""),
        Value::Flag(flag) => flag.to_string(),
        Value::Count(n) => n.to_string(),
        Value::Duration(span) => quoted(&units::show_duration(*span)),
        Value::Size(bytes) => quoted(&units::show_size(*bytes)),
        Value::Percent(share) => quoted(&format!("{share}%")),
        Value::Text(text) => quoted(&literally(text)),
        Value::Secret(_) => quoted(REDACTED),
        Value::Pem(pem) => quoted(&pem.path.as_deref().map_or_else(|| REDACTED.to_owned(), literally)),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| inline("", item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) if table.entries.is_empty() => "{}".into(),
        Value::Table(table) => {
            let entries: Vec<_> = table
                .entries
                .iter()
                .map(|(name, node)| format!("{} = {}", bare_or_quoted(name), inline(name, node)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// What reads back as `text`: `${` is a reference in a file.
fn literally(text: &str) -> String {
    text.replace("${", "$${")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn bare_or_quoted(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { name.to_owned() } else { quoted(name) }
}
