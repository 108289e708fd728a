//! What clients did and saw, on one monotonic clock. The text form is one JSON object per line, so that a history can be saved, cut
//! down by hand and judged again.
//!
//! Honest about what a client cannot know: a write without a definite answer is `ambiguous`, and whoever judges must let it take effect
//! at any time from its start on, or never.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an operation did.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It asked for the value.
    Read,
    /// It set the value.
    Write,
}

/// What its client knows of its end.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A definite success.
    Ok,
    /// It certainly had no effect. A read that failed says nothing.
    Failed,
    /// It may have been applied, may be applied later, or never. A read never is.
    Ambiguous,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The register.
    pub key: String,
    /// Who did it.
    pub client: u32,
    /// Read or write.
    pub kind: Kind,
    /// What was written, which no other write of this key may use; or what was read.
    pub value: String,
    /// Before its first byte was sent; nanoseconds.
    pub start_ns: u64,
    /// After its last byte was received; nanoseconds, on the same clock. Without meaning for an ambiguous write.
    pub end_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Anything that helps a person: the status, the proof, the fault.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
}

impl Operation {
    /// When it was over for the judge: an ambiguous write never is.
    #[must_use]
    pub fn ends(&self) -> u64 {
        match (self.kind, self.outcome) {
            (Kind::Write, Outcome::Ambiguous) => u64::MAX,
            _ => self.end_ns,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Read => "read ",
            Kind::Write => "write",
        };
        let end = if self.ends() == u64::MAX {
            "no end".to_owned()
        } else {
            seconds(self.end_ns)
        };
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Ambiguous => "ambiguous",
        };
        write!(
            f,
            "{:>14} .. {end:>14}  client {:>3}  {kind} {:<12} {outcome:<9} {}",
            seconds(self.start_ns),
            self.client,
            self.value,
            self.how
        )
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// A line that is no operation.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// Counted from 1.
    pub line: usize,
    /// What the JSON parser says.
    pub why: serde_json::Error,
}

/// The text form, of operations or of what is recorded of them: one JSON object per line.
#[must_use]
pub fn to_text<T: Serialize>(history: &[T]) -> String {
    let mut text = String::new();
    for one in history {
        text += &serde_json::json!(one).to_string();
        text.push('\n');
    }
    text
}

/// Reads the text form; empty lines are passed over.
///
/// # Errors
/// The first line that is no operation.
pub fn from_text<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, Unreadable> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| serde_json::from_str(line).map_err(|why| Unreadable { line: at + 1, why }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_history_is_read_back_as_it_was() {
        let one = Operation {
            key: "/k \"0\"".into(),
            client: 7,
            kind: Kind::Write,
            value: "v1".into(),
            start_ns: 1,
            end_ns: u64::MAX - 1,
            outcome: Outcome::Ambiguous,
            how: "504 unknown\nlate".into(),
        };
        let two = Operation {
            kind: Kind::Read,
            outcome: Outcome::Ok,
            how: String::new(),
            ..one.clone()
        };
        let history = vec![one, two];
        let text = to_text(&history);
        assert_eq!(text.lines().count(), 2);
        assert_eq!(from_text::<Operation>(&format!("\n{text}\n")).unwrap(), history);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let error = from_text::<Operation>("\n{\"key\": 1}\n").unwrap_err();
        assert_eq!(error.line, 2);
    }
}
