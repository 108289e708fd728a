//! Targeted fields (RFC 9213): a dictionary that governs us in place of `Cache-Control` and `Expires`. The first field of our target list
//! that is there, parses and is not empty counts; one that does not parse is ignored whole, and the next is tried. Allocates only to join
//! several lines, and where a string stands in a value.

use super::structured::{dictionary, joined};
use http::{HeaderMap, HeaderName};

pub(super) use super::structured::Value;

/// Our target list (RFC 9213 s2.2), the narrowest first.
static TARGETS: [HeaderName; 2] = [
    HeaderName::from_static("tidegate-cache-control"),
    HeaderName::from_static("cdn-cache-control"),
];

/// Whether `name` is a field of our target list.
#[must_use]
pub(super) fn is_target(name: &HeaderName) -> bool {
    TARGETS.contains(name)
}

/// Gives the members of the targeted field that governs us, in order, and says whether there is one. Of two members of one name the
/// later counts (RFC 9651 s4.2.2): `take` is given both.
pub(super) fn read(headers: &HeaderMap, mut take: impl FnMut(&str, Value)) -> bool {
    for target in &TARGETS {
        let Some(text) = joined(headers, target) else { continue };
        let mut members = 0;
        if dictionary(&text, |_, _| members += 1).is_none() || members == 0 {
            continue; // RFC 9213 s2.1: ignored, and the next of the list governs
        }
        let again = dictionary(&text, &mut take);
        return again.is_some();
    }
    false
}

#[cfg(test)]
mod tests;
