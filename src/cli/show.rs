//! `/status` for a person: what is served under which contract, by which nodes, and what is not as it should be. The document is
//! read by its published names alone, so that a proxy of another version can be asked too; what it does not tell is a dash.

use serde_json::Value;
use std::fmt::Write;

/// More would scroll away what matters; `--json` has all.
const UNSETTLED_SHOWN: usize = 10;

/// The document as text, a line per thing.
pub(super) fn status(document: &Value) -> String {
    let mut out = String::new();
    let leaving = if document.get("draining") == Some(&Value::Bool(true)) {
        ", draining"
    } else {
        ""
    };
    let pair = match document.get("pair").and_then(Value::as_str) {
        Some(which) => format!(", {which} of a pair"),
        None => String::new(),
    };
    let version = document.pointer("/build/version");
    line(
        &mut out,
        &format!(
            "tidegate {}, configuration {}{pair}{leaving}",
            text(version),
            text(document.get("config_hash"))
        ),
    );
    let routes = list(document, "routes").map(|route| [text(route.get("name")), text(route.get("consistency"))]);
    table(&mut out, ["ROUTE", "LEVEL"], routes.collect());
    meters(&mut out, document);
    nodes(&mut out, list(document, "upstreams"));
    let cache = |name| document.get("cache").and_then(|cache| cache.get(name));
    let bytes = cache("bytes").and_then(Value::as_u64).map_or_else(|| text(None), size);
    line(&mut out, "");
    line(&mut out, &format!("cache: {} entries, {bytes}", text(cache("entries"))));
    unsettled(&mut out, document);
    begun(&mut out, document);
    out
}

/// One upstream, as the words about its nodes are answered.
pub(super) fn upstream(document: &Value) -> String {
    let mut out = String::new();
    nodes(&mut out, std::iter::once(document));
    out.trim_start().to_owned()
}

fn nodes<'a>(out: &mut String, upstreams: impl Iterator<Item = &'a Value>) {
    let rows = upstreams.flat_map(|upstream| {
        list(upstream, "nodes").map(|node| {
            let primary = upstream.get("primary").filter(|p| !p.is_null());
            let is_primary = primary.is_some() && primary == node.get("name");
            let role = if is_primary {
                "primary".to_owned()
            } else {
                text(node.get("role"))
            };
            [
                text(upstream.get("name")),
                text(node.get("name")),
                text(node.get("state")),
                role,
                text(node.get("url")),
            ]
        })
    });
    table(out, ["UPSTREAM", "NODE", "STATE", "ROLE", "URL"], rows.collect());
}

/// Writes outside that are open; a line only when there are some.
fn begun(out: &mut String, document: &Value) {
    let count = list(document, "begun").count();
    if count == 0 {
        return;
    }
    line(out, "");
    line(out, &format!("writes outside: {count}"));
    let rows = list(document, "begun").take(UNSETTLED_SHOWN).map(|one| {
        let what = one.get("what").and_then(Value::as_str).unwrap_or("-");
        let left = one.get("remaining_ms").and_then(Value::as_u64).unwrap_or_default();
        [printable(what), format!("{} s", left.div_ceil(1000))]
    });
    table(out, ["WHAT", "FOR"], rows.collect());
    if count > UNSETTLED_SHOWN {
        line(out, &format!("and {} more", count - UNSETTLED_SHOWN));
    }
}

/// What the meter found, where it is on: the nines of hits that were no staler than each scale.
fn meters(out: &mut String, document: &Value) {
    let rows = list(document, "routes").filter_map(|route| {
        let meter = route.get("meter").filter(|meter| !meter.is_null())?;
        let scales = list(meter, "scales").map(|scale| {
            let nines = scale.get("nines").and_then(Value::as_f64);
            // Nothing beyond yet: so many hits can show no more.
            let more = if nines.is_some() && scale.get("beyond").and_then(Value::as_u64) == Some(0) {
                "+"
            } else {
                ""
            };
            let nines = nines.map_or_else(|| text(None), |nines| format!("{nines:.2}"));
            format!("{nines}{more} in {} s", text(scale.get("seconds")))
        });
        let scales: Vec<_> = scales.collect();
        Some([text(route.get("name")), text(meter.get("judged")), scales.join(", ")])
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        table(out, ["ROUTE", "RE-READS", "NINES OF HITS WITHIN"], rows);
    }
}

fn unsettled(out: &mut String, document: &Value) {
    let count = list(document, "unsettled").count();
    if count == 0 {
        return line(out, "unsettled: nothing");
    }
    line(out, &format!("unsettled: {count}"));
    let rows = list(document, "unsettled").take(UNSETTLED_SHOWN).map(|one| {
        let path = one.get("path").and_then(Value::as_str).unwrap_or("all of it");
        let left = match one.get("remaining_ms").and_then(Value::as_u64) {
            Some(ms) => format!("{} s", ms.div_ceil(1000)),
            None => "its connection is open".to_owned(),
        };
        [text(one.get("upstream")), printable(path), left]
    });
    table(out, ["UPSTREAM", "PATH", "FOR"], rows.collect());
    if count > UNSETTLED_SHOWN {
        line(out, &format!("and {} more", count - UNSETTLED_SHOWN));
    }
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// A member as a word; a dash for what is not there.
fn text(member: Option<&Value>) -> String {
    match member {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(other) => other.to_string(),
    }
}

/// Nothing a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(out: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    line(out, "");
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(head.map(str::to_owned)).chain(rows) {
        let mut cells = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(cells, "{cell:<width$}  ");
        }
        line(out, cells.trim_end());
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Bytes in the largest unit that leaves a whole number in front of the point.
fn size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor {
            return format!("{}.{} {unit}", bytes / factor, bytes % factor * 10 / factor);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_shown_as_tables() {
        let mut document = json!({
            "routes": [
                { "name": "accounts", "consistency": "strong" },
                { "name": "to-https", "consistency": null },
            ],
            "upstreams": [{
                "name": "ledger", "primary": "a",
                "nodes": [
                    { "name": "a", "url": "http://10.0.0.1:9000", "state": "active", "role": null },
                    { "name": "b", "url": "http://10.0.0.2:9000", "state": "unhealthy", "role": "replica" },
                ],
            }],
            "cache": { "entries": 3, "bytes": 5_767_168 },
            "unsettled": [
                { "upstream": "ledger", "path": "/accounts/\u{1b}7", "remaining_ms": 1500 },
                { "upstream": "ledger", "path": null, "remaining_ms": null },
            ],
            "build": { "version": "0.1.0" },
            "config_hash": "abc",
            "draining": true,
        });
        let shown = status(&document);
        assert_eq!(
            shown,
            "tidegate 0.1.0, configuration abc, draining\n\n\
             ROUTE     LEVEL\n\
             accounts  strong\n\
             to-https  -\n\n\
             UPSTREAM  NODE  STATE      ROLE     URL\n\
             ledger    a     active     primary  http://10.0.0.1:9000\n\
             ledger    b     unhealthy  replica  http://10.0.0.2:9000\n\n\
             cache: 3 entries, 5.5 MiB\n\
             unsettled: 2\n\n\
             UPSTREAM  PATH          FOR\n\
             ledger    /accounts/?7  2 s\n\
             ledger    all of it     its connection is open\n"
        );
        document["begun"] = json!([{ "what": "tag:a\u{1b}b", "remaining_ms": 1001 }]);
        let with_begun = status(&document);
        assert!(
            with_begun.ends_with("\nwrites outside: 1\n\nWHAT     FOR\ntag:a?b  2 s\n"),
            "{with_begun}"
        );
        document["begun"] = json!([]);
        let many: Vec<_> = (0..25)
            .map(|n| json!({ "upstream": "u", "path": format!("/{n}") }))
            .collect();
        document["unsettled"] = many.into();
        let shown = status(&document);
        assert!(
            shown.contains("unsettled: 25\n") && shown.ends_with("\nand 15 more\n"),
            "{shown}"
        );
        assert_eq!(shown.lines().filter(|l| l.starts_with("u ")).count(), UNSETTLED_SHOWN);
    }

    #[test]
    fn what_the_meter_found_is_shown_where_it_is_on() {
        let scale =
            |seconds, beyond, nines: Option<f64>| json!({ "seconds": seconds, "beyond": beyond, "nines": nines });
        let shown = status(&json!({ "routes": [
            { "name": "a", "meter": { "judged": 1000, "scales": [scale(1, 1, Some(3.0)), scale(10, 0, Some(2.5))] } },
            { "name": "b", "meter": { "judged": 0, "scales": [scale(1, 0, None)] } },
            { "name": "c" },
        ] }));
        assert!(
            shown.contains(
                "ROUTE  RE-READS  NINES OF HITS WITHIN\n\
                 a      1000      3.00 in 1 s, 2.50+ in 10 s\n\
                 b      0         - in 1 s\n\n"
            ),
            "{shown}"
        );
    }

    #[test]
    fn what_a_proxy_does_not_tell_is_a_dash() {
        let shown = status(&json!({}));
        assert!(shown.starts_with("tidegate -, configuration -\n"), "{shown}");
        assert!(shown.ends_with("cache: - entries, -\nunsettled: nothing\n"), "{shown}");
    }

    #[test]
    fn sizes_read_well() {
        let shown = [0, 1023, 1024, 1536, (5 << 20) - 1, 3 << 30].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "4.9 MiB", "3.0 GiB"]);
    }
}
