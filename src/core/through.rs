//! Write-through (R9): which writes may leave something behind of their target, how it is read again, and when what was written is
//! known to be what the node has stored. That no other write comes near is the gate's business.

use crate::core::http::etag;
use crate::core::http::invalidate;
use crate::core::http::stored::{Meta, Vary};
use crate::core::policy::{Policy, WriteThrough};
use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE, ETAG, EXPECT, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, PRAGMA, RANGE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// Fields of a write that speak of its body, of its conditions or of how it is to be treated: a GET of its target has none of them.
const OF_THE_WRITE: [HeaderName; 18] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_DISPOSITION,
    TRANSFER_ENCODING,
    TRAILER,
    EXPECT,
    CACHE_CONTROL,
    PRAGMA,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
];

/// The same, by names that have no constant.
const OF_THE_WRITE_TOO: [&str; 5] = ["content-md5", "content-digest", "repr-digest", "digest", "prefer"];

/// What a stored head says of the bytes it came with: with other bytes it would be wrong.
const OF_THE_BYTES: [&str; 7] = [
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-digest",
    "repr-digest",
    "digest",
];

/// What such a write leaves behind, as far as its request and its route say. R9: nothing where a request has credentials that its
/// answers are not shared under; nothing where a field names another method than the request does (R13).
#[must_use]
pub fn allowed(headers: &HeaderMap, policy: &Policy) -> WriteThrough {
    let shared = policy.caching().is_some_and(|caching| caching.shared_auth);
    let credentials = headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE);
    if credentials && !shared || invalidate::is_overridden(headers) {
        return WriteThrough::Invalidate;
    }
    policy.write_through()
}

/// The fields of the GET that reads a write's target again: those of a client that could have asked for this variant.
#[must_use]
pub fn again(write: &HeaderMap, policy: &Policy, variant: &Vary) -> HeaderMap {
    let mut fields = write.clone();
    for name in &OF_THE_WRITE {
        fields.remove(name);
    }
    for name in OF_THE_WRITE_TOO {
        fields.remove(name);
    }
    if let Some(name) = &policy.idempotency_header {
        fields.remove(name);
    }
    if let Vary::Fields(selecting) = variant {
        for (name, value) in selecting {
            fields.remove(name);
            // In its normal form, which asks for the same: its bytes were kept as characters.
            let bytes: Option<Vec<u8>> = value.as_ref().map(|v| v.chars().flat_map(u8::try_from).collect());
            if let Some(value) = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()) {
                fields.insert(name.clone(), value);
            }
        }
    }
    fields
}

/// A write and its answer, for [`written`].
#[derive(Copy, Clone, Debug)]
pub struct Write<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// How long its body is.
    pub length: usize,
    /// The status of the answer.
    pub status: StatusCode,
    /// The fields of the answer.
    pub answer: &'a HeaderMap,
}

/// Whether a PUT's body could be what is stored afterwards, as far as its request says.
#[must_use]
pub fn may_be_kept(method: &Method, fields: &HeaderMap) -> bool {
    let told = [CONTENT_RANGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION];
    *method == Method::PUT && !told.iter().any(|name| fields.contains_key(name))
}

/// The head under which a PUT's body is stored, from the one head that was stored before; none where the node has not said that it
/// stored the body as it was (RFC 9110 s9.3.4: only then may it send a validator), or where the head before speaks of other bytes.
/// An answer with a `Content-Location` is about what that names (RFC 9110 s8.7): the target is read again.
#[must_use]
pub fn written(write: Write<'_>, before: &Meta, head: &HeaderMap) -> Option<HeaderMap> {
    let stored = matches!(
        write.status,
        StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT
    );
    let tag = etag::of(write.answer).filter(|tag| !tag.weak)?;
    let fits = before.status == StatusCode::OK
        && before.vary == Vary::Any
        && !OF_THE_BYTES.iter().any(|name| head.contains_key(*name));
    if !stored || !fits || !may_be_kept(write.method, write.fields) || write.answer.contains_key(CONTENT_LOCATION) {
        return None;
    }
    let mut fields = head.clone();
    fields.remove(AGE);
    fields.insert(ETAG, tag.value);
    fields.insert(CONTENT_LENGTH, HeaderValue::from(write.length));
    for (name, of) in [
        (LAST_MODIFIED, write.answer),
        (DATE, write.answer),
        (CONTENT_TYPE, write.fields),
    ] {
        fields.remove(&name);
        if let Some(value) = of.get(&name) {
            fields.insert(name, value.clone());
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests;
