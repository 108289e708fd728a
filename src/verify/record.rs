//! A history as it is kept: [`Operation`]s with what their answers claimed. One JSON object per line: `key`, `client` (each is a session),
//! `kind` ("read", "write"), `value`, `start_ns`, `end_ns`, `outcome` ("ok", "failed", "ambiguous"), and, where there is something to
//! say, `how` (free text), `consistency` (the answer's `Tidegate-Consistency`), `token` (a session token had been received before) and
//! `last` (asked of the origin after everything had ended: what the store holds).

use super::history::Operation;
use crate::core::time::Span;
use serde::{Deserialize, Serialize};

/// What is read where nothing is.
pub const NOTHING: &str = "(nothing)";

/// An operation, and what its answer claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What was done and seen.
    #[serde(flatten)]
    pub operation: Operation,
    /// `Tidegate-Consistency`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// Its client had received a session token before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token: bool,
    /// A read at the end, past every cache: what the store holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

impl Recorded {
    /// Whether its answer calls itself strong.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        self.consistency == "strong" || self.consistency.starts_with("strong;")
    }

    /// The bound that its answer claims to keep.
    #[must_use]
    pub fn bound(&self) -> Option<Span> {
        let mut parameters = self.consistency.strip_prefix("bounded;")?.split(';');
        let ms = parameters.find_map(|p| p.trim().strip_prefix("bound="))?;
        ms.parse().ok().map(Span::from_millis)
    }

    /// Whether its answer admits to be beyond its bound.
    #[must_use]
    pub fn is_breached(&self) -> bool {
        self.consistency.split(';').any(|part| part.trim() == "breached")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::verify::history::{from_text, to_text};

    #[test]
    fn a_history_is_read_back_as_it_was_and_fields_that_say_nothing_are_left_out() {
        let plain = r#"{"key":"/k","client":1,"kind":"read","value":"a","start_ns":1,"end_ns":2,"outcome":"ok"}"#;
        let full = plain.replace(
            '}',
            r#","consistency":"bounded;staleness=1;bound=60","token":true,"last":true}"#,
        );
        let text = format!("{plain}\n\n{full}\n");
        let read: Vec<Recorded> = from_text(&text).unwrap();
        assert_eq!(from_text::<Recorded>(&to_text(&read)).unwrap(), read);
        assert_eq!(to_text(&read).lines().next().unwrap(), {
            let value: serde_json::Value = serde_json::from_str(plain).unwrap();
            value.to_string()
        });
        assert_eq!(from_text::<Recorded>("{}").unwrap_err().line, 1);
    }

    #[test]
    fn what_an_answer_claims() {
        let claims = |text: &str| {
            let line = r#"{"key":"/k","client":1,"kind":"read","value":"a","start_ns":1,"end_ns":2,"outcome":"ok"}"#;
            let mut one = from_text::<Recorded>(line).unwrap().pop().unwrap();
            text.clone_into(&mut one.consistency);
            (one.is_strong(), one.bound().map(Span::as_millis), one.is_breached())
        };
        assert_eq!(claims("strong;proof=exclusive"), (true, None, false));
        assert_eq!(claims("strong"), (true, None, false));
        assert_eq!(claims("bounded;staleness=12;bound=3000"), (false, Some(3000), false));
        assert_eq!(
            claims("bounded;staleness=12;bound=3000;breached"),
            (false, Some(3000), true)
        );
        assert_eq!(claims(""), (false, None, false));
    }
}
