//! `Prefer` (RFC 7240), of which one preference is ours: `consistency=strong`, for one read on a route that promises less.

use crate::core::http::syntax::{all_members, trim_ows};
use http::{HeaderMap, HeaderName, HeaderValue};

static PREFER: HeaderName = HeaderName::from_static("prefer");

/// The field that says which preferences were honoured (RFC 7240 s3).
pub static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What it says.
pub static STRONG_APPLIED: HeaderValue = HeaderValue::from_static("consistency=strong");

/// Whether the client asks for a validated read. Of a preference given twice the first counts (RFC 7240 s2); one of another value, or
/// without one, asks for nothing.
#[must_use]
#[inline]
pub fn wants_strong(headers: &HeaderMap) -> bool {
    headers.contains_key(&PREFER) && first_consistency(headers).is_some_and(|value| value == b"strong")
}

fn first_consistency(headers: &HeaderMap) -> Option<&[u8]> {
    all_members(headers, &PREFER).find_map(|member| {
        // Parameters follow a semicolon; the name and value we look for hold none.
        let preference = member.split(|byte| *byte == b';').next().unwrap_or_default();
        let at = preference.iter().position(|byte| *byte == b'=');
        let (name, value) = preference.split_at_checked(at.unwrap_or(preference.len()))?;
        let value = trim_ows(value.get(1..).unwrap_or_default());
        let value = match value {
            [b'"', inner @ .., b'"'] => inner,
            value => value,
        };
        trim_ows(name).eq_ignore_ascii_case(b"consistency").then_some(value)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rfc7240_s2_preferences() {
        let cases: &[(&str, &[&str], bool)] = &[
            ("none", &[], false),
            ("ours", &["consistency=strong"], true),
            ("among others", &["respond-async, wait=10, consistency=strong"], true),
            ("on a second line", &["return=minimal", "consistency=strong"], true),
            ("white space and case", &["Consistency = strong"], true),
            ("quoted", &["consistency=\"strong\""], true),
            ("with parameters", &["consistency=strong; scope=\"a,b\""], true),
            (
                "the first of two counts",
                &["consistency=weak, consistency=strong"],
                false,
            ),
            (
                "the first of two lines counts",
                &["consistency=strong", "consistency=weak"],
                true,
            ),
            ("another value", &["consistency=stronger"], false),
            ("no value", &["consistency"], false),
            ("another preference", &["handling=strong"], false),
            ("inside a quoted string", &["x=\"consistency=strong\""], false),
            ("as a parameter", &["x; consistency=strong"], false),
        ];
        for (case, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append("prefer", HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(wants_strong(&headers), *expected, "{case}");
        }
    }
}
