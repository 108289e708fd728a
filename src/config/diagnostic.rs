//! What is wrong with a file and where: `FILE:LINE:COLUMN: error: key.path: what is wrong (did you mean "x"?)`, the line and a
//! caret below it. Positions are found from byte ranges here and nowhere else.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Whether a diagnostic stops the start.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, and probably does not do what was meant.
    Warning,
}

/// One error or warning, with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name as given.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Error or warning.
    pub severity: Severity,
    /// The key's path, `upstreams.orders.nodes[0].url`; empty when the text is no TOML.
    pub path: String,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// The line itself, its value masked where that may be a secret.
    pub text: String,
    /// How many characters of the line are meant.
    pub width: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        if self.text.trim().is_empty() {
            return Ok(());
        }
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // The pad repeats the line's tabs, so that the caret stands right whatever their width.
        let pad: String = self
            .text
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        write!(
            f,
            "\n {number} | {}\n {gutter} | {pad}{}",
            self.text,
            "^".repeat(self.width.max(1))
        )
    }
}

/// A text and its name: turns byte ranges into places.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    text: Arc<str>,
    line_starts: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            name: name.into(),
            text: text.into(),
            line_starts,
        }
    }

    /// The line a byte lies on, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at).max(1)
    }

    fn diagnostic(&self, severity: Severity, span: &Range<usize>, path: String, message: String) -> Diagnostic {
        let at = floor_boundary(&self.text, span.start);
        let line = self.line(at);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or("");
        let text = rest.split('\n').next().unwrap_or("").trim_end_matches('\r');
        let before = self.text.get(start..at).unwrap_or("").chars().count();
        let end = floor_boundary(&self.text, span.end.min(start + text.len()));
        let width = self.text.get(at..end).map_or(1, |meant| meant.chars().count());
        let secret = (path == "admin.token" || text.trim_start().starts_with("token"))
            && !(text.contains("file:") || text.contains("${"));
        let secret = secret || (path.ends_with(".url") && text.contains('@'));
        Diagnostic {
            file: self.name.clone(),
            line,
            column: before + 1,
            severity,
            path,
            message,
            text: if secret { masked(text) } else { text.to_owned() },
            width,
        }
    }
}

/// The line with the letters of its value starred out: messages end up in logs.
fn masked(line: &str) -> String {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let star = |c: char| if c.is_alphanumeric() { '*' } else { c };
    format!("{key}={}", value.chars().map(star).collect::<String>())
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Where something was said: a byte range and a key path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Range<usize>,
    pub(super) path: String,
}

/// Gathers diagnostics. The same words about the same place are said once (a policy's mistake, met from each of its routes).
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) source: Source,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    broken_lines: Vec<usize>,
}

impl Sink {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            errors: Vec::new(),
            warnings: Vec::new(),
            broken_lines: Vec::new(),
        }
    }

    /// An error, unless its line is already known to be no TOML.
    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>) {
        let found = self
            .source
            .diagnostic(Severity::Error, &place.span, place.path.clone(), message.into());
        if !self.broken_lines.contains(&found.line) && !self.errors.contains(&found) {
            self.errors.push(found);
        }
    }

    /// What is no TOML. Nothing else is said about its line.
    pub(super) fn syntax_error(&mut self, place: &Place, message: impl Into<String>) {
        self.error(place, message);
        self.broken_lines.push(self.source.line(place.span.start));
    }

    /// Forgets what was said about this line and all below, but for the syntax errors themselves.
    pub(super) fn forget_from(&mut self, line: usize) {
        self.errors.retain(|error| error.line < line || error.path.is_empty());
        self.warnings.clear();
    }

    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>) {
        let found = self
            .source
            .diagnostic(Severity::Warning, &place.span, place.path.clone(), message.into());
        if !self.warnings.contains(&found) {
            self.warnings.push(found);
        }
    }

    pub(super) fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Errors and warnings, each in the order of the file.
    pub(super) fn finish(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let place = |d: &Diagnostic| (d.line, d.column);
        self.errors.sort_by_key(place);
        self.warnings.sort_by_key(place);
        (self.errors, self.warnings)
    }
}

/// The candidate nearest to `word`, when it is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 0,
        long => (long / 3).min(3),
    };
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase().replace('-', "_")), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean "x"?)`, or nothing.
pub(super) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!(" (did you mean \"{near}\"?)"))
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous: Option<char> = None;
    for (i, ca) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
        for (j, cb) in b.iter().enumerate() {
            let mut best = (at(&last, j) + usize::from(ca != *cb))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = j > 0 && previous == Some(*cb) && b.get(j - 1) == Some(&ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(ca);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        for (a, b, edits) in [
            ("", "", 0),
            ("ttl", "ttl", 0),
            ("tll", "ttl", 1),
            ("threds", "threads", 1),
            ("abc", "", 3),
            ("ab", "ba", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(
            nearest("conect_timeout", ["connect_timeout", "response_timeout"]),
            Some("connect_timeout")
        );
        assert_eq!(nearest("colour", ["ttl", "key"]), None);
        assert_eq!(nearest("Max-Memory", ["max_memory"]), Some("max_memory"));
    }

    #[test]
    fn a_place_is_counted_in_characters_and_the_caret_follows_tabs() {
        let source = Source::new("f.toml", "a = 1\r\n\tä = \"é\"\n");
        let d = source.diagnostic(Severity::Error, &(13..17), "ä".into(), "wrong".into());
        assert_eq!((d.line, d.column, d.width), (2, 6, 3));
        assert_eq!(
            d.to_string(),
            "f.toml:2:6: error: ä: wrong\n 2 | \tä = \"é\"\n   | \t    ^^^"
        );
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_masked() {
        let shown = |text: &str, path: &str| {
            Source::new("f", text)
                .diagnostic(Severity::Error, &(0..1), path.into(), "wrong".into())
                .text
        };
        assert_eq!(shown("token = \"s3cret\"", "admin.token"), "token = \"******\"");
        assert_eq!(shown("token = \"s3cret", ""), "token = \"******");
        assert_eq!(
            shown("token = \"file:admin-token\"", "admin.token"),
            "token = \"file:admin-token\""
        );
        assert_eq!(
            shown("{ url = \"http://u:p@a\" }", "upstreams.o.nodes[0].url"),
            "{ url = \"****://*:*@*\" }"
        );
        assert_eq!(shown("log = \"info\"", "telemetry.log"), "log = \"info\"");
    }

    #[test]
    fn a_place_past_the_end_is_the_end() {
        let source = Source::new("f.toml", "");
        let d = source.diagnostic(Severity::Error, &(7..9), String::new(), "wrong".into());
        assert_eq!(d.to_string(), "f.toml:1:1: error: wrong");
    }
}
