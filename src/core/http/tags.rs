//! The tags of an answer: `Cache-Groups` (RFC 9875 s2), `Surrogate-Key` and what other fields a route names; and the groups that an
//! answer to an unsafe request names (`Cache-Group-Invalidation`, RFC 9875 s3). Names are compared byte by byte (s2.1); whose they are,
//! the key of an entry knows.
//!
//! Not done, as RFC 9875 s2.2.1 leaves it to a cache: an entry that a write drops takes nobody of its groups with it.

use super::invalidate::is_unsafe_request;
use super::structured;
use http::{HeaderMap, HeaderName, Method, StatusCode};

/// How many tags one answer may have. RFC 9875 s2 wants 32 at least.
pub const MAX_TAGS: usize = 256;

/// How many bytes they may have together (Fastly's bound for `Surrogate-Key`). RFC 9875 s2 wants 32 times 32 at least.
pub const MAX_TAG_BYTES: usize = 16 * 1024;

static CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
static CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
static SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// An answer with more tags than [`MAX_TAGS`], or longer ones than [`MAX_TAG_BYTES`]. It cannot be stored: a purge by a tag that was
/// left out would miss it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The tags of an answer by the fields that carry them, each once and in order of their bytes. A field of structured strings that does
/// not parse carries none (RFC 9651 s4.2).
///
/// # Errors
/// When there are too many of them.
pub fn of(headers: &HeaderMap, fields: &[HeaderName]) -> Result<Vec<String>, TooMany> {
    let mut tags = Vec::new();
    for field in fields {
        if *field == CACHE_GROUPS {
            tags.extend(list(headers, field));
        } else {
            words(headers, field, &mut tags);
        }
    }
    tags.sort_unstable();
    tags.dedup();
    let fits = tags.len() <= MAX_TAGS && tags.iter().map(String::len).sum::<usize>() <= MAX_TAG_BYTES;
    if fits { Ok(tags) } else { Err(TooMany) }
}

/// The groups that an answer takes out of service: none when its request was safe (RFC 9875 s3, R13) or failed (RFC 9111 s4.4).
#[must_use]
pub fn invalidated(method: &Method, request: &HeaderMap, status: StatusCode, answer: &HeaderMap) -> Vec<String> {
    if !is_unsafe_request(method, request) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut groups = list(answer, &CACHE_GROUP_INVALIDATION);
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The members of a list of strings over all lines of a field.
fn list(headers: &HeaderMap, field: &HeaderName) -> Vec<String> {
    let text = structured::joined(headers, field);
    text.and_then(|text| structured::strings(&text)).unwrap_or_default()
}

/// The words of a field: `Surrogate-Key` has spaces between them, others (`Cache-Tag`, `xkey`) spaces or commas. What is no text is no tag:
/// nobody could name it.
fn words(headers: &HeaderMap, field: &HeaderName, tags: &mut Vec<String>) {
    let commas = *field != SURROGATE_KEY;
    for line in headers.get_all(field) {
        let words = line
            .as_bytes()
            .split(|b| matches!(b, b' ' | b'\t') || (commas && *b == b','));
        let words = words.filter(|word| !word.is_empty());
        tags.extend(words.filter_map(|word| std::str::from_utf8(word).ok().map(str::to_owned)));
    }
}

#[cfg(test)]
mod tests;
