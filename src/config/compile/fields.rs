//! What a route says in HTTP's own words: which requests it takes, and the fields it sets.

use super::{header_name, header_value};
use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::print::holds_secret;
use crate::config::runtime::{HostPattern, Match, PathPattern};
use http::{HeaderName, HeaderValue, Method};

/// Which requests a route takes.
pub(super) fn matches(table: &Table, sink: &mut Sink) -> Match {
    let mut parsed = Match::default();
    if let Some(text) = table.text("host") {
        parsed.host = HostPattern::parse(text)
            .map_err(|message| sink.error(&table.place_of("host"), message))
            .ok();
    }
    if let Some(text) = table.text("path") {
        parsed.path = PathPattern::parse(text)
            .map_err(|message| sink.error(&table.place_of("path"), message))
            .ok();
    }
    for (text, node) in table.texts("methods") {
        match method(text) {
            Ok(method) => {
                if ["TRACE", "CONNECT", "PURGE"].contains(&text) {
                    sink.warn(&node.place, format!("{text} never reaches a route"));
                }
                if !parsed.methods.contains(&method) {
                    parsed.methods.push(method);
                }
            }
            Err(message) => sink.error(&node.place, message),
        }
    }
    for (name, value) in fields(table, "headers", sink) {
        parsed.headers.push((name, value));
    }
    parsed
}

fn method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    if upper != text && ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"].contains(&upper.as_str())
    {
        return Err(format!(
            "methods are case-sensitive, found \"{text}\" (did you mean \"{upper}\"?)"
        ));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| format!("\"{}\" is no method", text.escape_debug()))
}

fn fields(table: &Table, key: &str, sink: &mut Sink) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, node) in table.table(key).map_or(&[][..], |fields| &fields.entries) {
        let value = node.as_text().map(header_value);
        match (header_name(name), value) {
            (Err(message), _) => sink.error(&node.key_place(), message),
            (_, Some(Err(message))) => sink.error(&node.place, message),
            (Ok(name), _) if fields.iter().any(|(other, _)| *other == name) => {
                sink.error(&node.key_place(), "the same field twice: names differ only in case");
            }
            (Ok(field), Some(Ok(mut value))) => {
                value.set_sensitive(holds_secret(name, node));
                fields.push((field, value));
            }
            (Ok(_), None) => {}
        }
    }
    fields
}

/// Fields that belong to one connection or frame a message (RFC 9110 s7.6.1, RFC 9112 s6), and those that are our own word.
fn reserved(name: &str) -> Option<&'static str> {
    match name {
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" => {
            Some("belongs to one connection and cannot be set")
        }
        "content-length" => Some("frames the message and cannot be set"),
        "host" => Some("cannot be set here: use the upstream's `host`"),
        _ if name.starts_with("tidegate-") => Some("is said by Tidegate itself and cannot be set"),
        _ => None,
    }
}

/// Fields a route sets.
pub(super) fn set(table: &Table, key: &str, sink: &mut Sink) -> Vec<(HeaderName, HeaderValue)> {
    let fields = fields(table, key, sink);
    if let Some(given) = table.table(key) {
        for (name, node) in &given.entries {
            if let Some(why) = reserved(&name.to_ascii_lowercase()) {
                sink.error(&node.key_place(), why);
            }
        }
    }
    fields
}
