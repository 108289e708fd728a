//! An explanation for a person. Read by its published names alone, so that a proxy of another version can be asked too.

use serde_json::Value;
use std::fmt::Write;

/// The width of the first column.
const LABEL: usize = 13;

/// The document as text.
pub(super) fn text(told: &Value) -> String {
    let mut page = Page(String::new());
    let asked = &told["asked"];
    page.plain(&format!("{} {}", word(&asked["method"]), word(&asked["url"])));
    let trusted = if asked["trusted"] == true {
        ", whose Forwarded is believed"
    } else {
        ""
    };
    page.line(
        "asked",
        &format!(
            "for host {}, from {} on listener {}{trusted}",
            word(&asked["host"]),
            word(&asked["from"]),
            word(&asked["listener"])
        ),
    );
    let fields: Vec<_> = items(&asked["fields"]).map(word).collect();
    page.line("with", &fields.join(", "));
    for over in items(&told["passed_over"]) {
        page.line(
            "passed over",
            &format!("{}: {}", word(&over["route"]), word(&over["because"])),
        );
    }
    route(&mut page, told);
    page.gap();
    verdict(&mut page, &told["verdict"]);
    stored(&mut page, &told["stored"]);
    answer(&mut page, &told["answer"]);
    promise(&mut page, &told["promise"]);
    let notes: Vec<_> = items(&told["notes"]).map(word).collect();
    if !notes.is_empty() {
        page.gap();
        notes.iter().for_each(|note| page.line("note", note));
    }
    page.0
}

fn route(page: &mut Page, told: &Value) {
    let route = &told["route"];
    if route.is_null() {
        return;
    }
    let to = match route["upstream"].as_str() {
        Some(upstream) => format!("{}, to upstream {}", word(&route["consistency"]), printable(upstream)),
        None => word(&route["action"]),
    };
    page.line("route", &format!("{}: {to}", word(&route["name"])));
    if !route["sent_as"].is_null() {
        page.line("sent as", &word(&route["sent_as"]));
    }
    let key = &told["key"];
    if !key.is_null() {
        let mut parts = vec![format!(
            "{}://{}{}{}",
            word(&key["scheme"]),
            word(&key["host"]),
            word(&key["path"]),
            word(&key["query"])
        )];
        parts.extend(items(&key["fields"]).map(|name| format!("field {}", word(name))));
        parts.extend(items(&key["cookies"]).map(|name| format!("cookie {}", word(name))));
        page.line("key", &parts.join(", "));
    }
    let resource = &told["resource"];
    if !resource.is_null() {
        let (what, all) = match resource["query"].as_str() {
            Some(query) => (
                format!("{}?{}", word(&resource["path"]), printable(query)),
                "every method and variant",
            ),
            None => (word(&resource["path"]), "every query, method and variant"),
        };
        page.line(
            "resource",
            &format!("{what} of {} ({all} together)", word(&resource["upstream"])),
        );
    }
}

fn verdict(page: &mut Page, verdict: &Value) {
    page.line("verdict", &word(&verdict["sentence"]));
    page.line("because", &with_rule(verdict));
    page.line("told as", &format!("Cache-Status: {}", word(&verdict["cache_status"])));
}

fn stored(page: &mut Page, stored: &Value) {
    if stored["live"] != true {
        return;
    }
    page.gap();
    if stored["unsettled"] == true {
        let left = match stored["unsettled_ms"].as_u64() {
            Some(ms) => format!("yes, for {} more", span(ms)),
            None => "yes: a write is pending, or its connection is open".to_owned(),
        };
        page.line("unsettled", &left);
    }
    let variants: Vec<_> = items(&stored["variants"]).collect();
    if variants.is_empty() {
        page.line("stored", "nothing under this key");
    }
    for one in variants {
        variant(page, one);
    }
}

fn variant(page: &mut Page, one: &Value) {
    let number = |name: &str| one[name].as_u64().unwrap_or(0);
    let chosen = if one["chosen"] == true { "judged by this: " } else { "" };
    page.line(
        "stored",
        &format!(
            "{chosen}{} of {} bytes, age {}",
            number("status"),
            number("body_bytes"),
            span(number("age_ms"))
        ),
    );
    let left = match one["left_ms"].as_i64() {
        None => String::new(),
        Some(ms) if ms > 0 => format!("; {} left", span(ms.unsigned_abs())),
        Some(ms) => format!("; stale for {}", span(ms.unsigned_abs())),
    };
    page.line("  fresh", &format!("{}{left}", freshness(&one["freshness"])));
    page.line(
        "  current",
        &format!("at some instant in the last {}", span(number("staleness_ms"))),
    );
    let varies: Vec<_> = items(&one["varies_on"]).map(word).collect();
    let mut marks = vec![match one["etag"].as_str() {
        Some(etag) => format!("{} etag", printable(etag)),
        None => "no etag".to_owned(),
    }];
    for (name, mark) in [
        ("proven", "proven"),
        ("revoked", "revoked"),
        ("softly_purged", "softly purged"),
        ("shareable", "may be shared with requests that carry credentials"),
    ] {
        if one[name] == true {
            marks.push(mark.to_owned());
        }
    }
    if !varies.is_empty() {
        marks.push(format!("varies on {}", varies.join(", ")));
    }
    page.line("  marks", &marks.join("; "));
}

/// A lifetime, where it comes from, and what else bounds it.
fn freshness(fresh: &Value) -> String {
    let lifetime = fresh["lifetime_ms"]
        .as_u64()
        .map_or_else(|| "without end".to_owned(), |ms| format!("for {}", span(ms)));
    let mut text = format!("{lifetime}, by {} ({})", word(&fresh["from"]), word(&fresh["rule"]));
    let while_revalidate = fresh["stale_while_revalidate_ms"].as_u64().filter(|ms| *ms > 0);
    for (window, word) in [
        (while_revalidate, "stale-while-revalidate"),
        (fresh["stale_if_error_ms"].as_u64(), "stale-if-error"),
    ] {
        if let Some(ms) = window {
            let _ = write!(text, "; {word} {}", span(ms));
        }
    }
    for (name, word) in [
        ("must_revalidate", "never served stale"),
        ("no_cache", "confirmed before every use"),
    ] {
        if fresh[name] == true {
            let _ = write!(text, "; {word}");
        }
    }
    text
}

fn answer(page: &mut Page, answer: &Value) {
    if answer.is_null() {
        return;
    }
    page.gap();
    let fields: Vec<_> = items(&answer["fields"]).map(word).collect();
    let with = if fields.is_empty() {
        String::new()
    } else {
        format!(" with {}", fields.join(", "))
    };
    page.line("answered", &format!("{}{with}", word(&answer["status"])));
    let stored = if answer["stored"] == true {
        "stored"
    } else {
        "not stored"
    };
    page.line("  it is", stored);
    page.line("  because", &with_rule(answer));
    if !answer["freshness"].is_null() {
        page.line("  fresh", &freshness(&answer["freshness"]));
    }
    let then = &answer["then"];
    if !then.is_null() {
        page.line("  then", &format!("{}: {}", word(&then["does"]), with_rule(then)));
    }
}

fn promise(page: &mut Page, promise: &Value) {
    if promise.is_null() {
        return;
    }
    page.gap();
    let gear = promise["gear"]
        .as_str()
        .map_or_else(String::new, |gear| format!(", {} gear", printable(gear)));
    page.line(
        "promise",
        &format!("{}{gear}: {}", word(&promise["level"]), word(&promise["sentence"])),
    );
    items(&promise["assumes"]).for_each(|one| page.line("assumes", &word(one)));
}

fn with_rule(of: &Value) -> String {
    match of["rule"].as_str() {
        Some(rule) => format!("{} ({})", word(&of["because"]), printable(rule)),
        None => word(&of["because"]),
    }
}

/// Lines of a label and a text.
struct Page(String);

impl Page {
    fn plain(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }

    fn line(&mut self, label: &str, text: &str) {
        if !text.is_empty() {
            self.plain(format!("{label:<LABEL$}{text}").trim_end());
        }
    }
}

fn items(of: &Value) -> impl Iterator<Item = &Value> {
    of.as_array().into_iter().flatten()
}

/// A member as a word; a dash for what is not there.
fn word(member: &Value) -> String {
    match member {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// Nothing a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Milliseconds as seconds, and long spans in larger units.
fn span(ms: u64) -> String {
    match ms {
        0..120_000 => format!("{}.{:03} s", ms / 1000, ms % 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_read_well() {
        let shown = [0, 1234, 119_999, 120_000, 7_200_000, u64::MAX].map(span);
        assert_eq!(
            shown,
            ["0.000 s", "1.234 s", "119.999 s", "2 min", "2 h", "213503982334 days"]
        );
    }

    #[test]
    fn what_is_not_told_is_a_dash_and_nothing_reaches_the_terminal_raw() {
        let shown = text(&json!({ "asked": { "method": "GET", "url": "/\u{1b}[2J" } }));
        assert!(
            shown.starts_with("GET /?[2J\nasked        for host -, from - on listener -\n"),
            "{shown}"
        );
        assert!(shown.contains("verdict      -\n"), "{shown}");
    }
}
