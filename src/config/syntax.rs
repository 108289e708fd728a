//! Text to tree. What is no TOML is reported here, once per line; a mistake that stays on its line does not hide those on others,
//! one that breaks the structure (a bracket, a string that never ends) makes everything below it a guess, and nothing is said about it.

use super::diagnostic::{Place, Sink};
use toml::de::DeTable;

/// How far the tree can be trusted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Everywhere but on the lines already reported.
    Whole,
    /// Only above this line, and not for what seems to be missing.
    Above(usize),
}

/// The tree and how far to trust it. Mistakes are in the sink.
pub(super) fn parse<'i>(text: &'i str, sink: &mut Sink) -> (DeTable<'i>, Trust) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(0..0), error.message()))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    let mut trust = Trust::Whole;
    let mut last_line = 0;
    for (span, message) in errors {
        let line = sink.source.line(span.start);
        if line == last_line {
            continue;
        }
        last_line = line;
        let (message, local) = explain(text, span.start, message);
        sink.syntax_error(
            &Place {
                span,
                path: String::new(),
            },
            message,
        );
        if !local {
            trust = Trust::Above(line);
            break;
        }
    }
    (root.into_inner(), trust)
}

/// The message in our words, and whether the mistake stays on its line.
fn explain(text: &str, at: usize, message: &str) -> (String, bool) {
    let scalar = [
        "string values must be quoted",
        "invalid boolean",
        "invalid number",
        "invalid integer",
        "invalid float",
    ];
    if message.starts_with("duplicate key") {
        return ("the key is there twice".into(), true);
    }
    let starts = |message: &str| scalar.iter().any(|start| message.starts_with(start));
    let line_start = text
        .get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |end| end + 1);
    let in_list = !text.get(line_start..at).unwrap_or("").contains('=');
    if in_list && (starts(message) || message.starts_with("missing comma between array")) {
        let header = text.get(line_start..).unwrap_or("").trim_start().starts_with('[');
        let message = if header {
            "a list or table above is not closed"
        } else {
            message
        };
        return (message.to_owned(), false);
    }
    if starts(message) {
        let rest = text.get(at..).unwrap_or("").lines().next().unwrap_or("");
        let word = rest.split(['#', ',', ']', '}']).next().unwrap_or("").trim();
        if word.is_empty() {
            return ("the value is missing".into(), true);
        }
        // A word cut by brackets or another assignment may have broken more than itself.
        let local = !word.contains(['=', '[', '{', '"', '\'']);
        return (
            format!("a value that is no number, true or false is quoted: {}", shown(word)),
            local,
        );
    }
    (message.to_owned(), false)
}

/// A word as it would be written, with what a terminal must not see left out.
fn shown(word: &str) -> String {
    let word: String = word.chars().filter(|c| !c.is_control()).collect();
    toml::Value::String(word).to_string()
}
