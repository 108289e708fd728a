//! An answer from what is stored: the client's own conditions and range are applied here, at the end, per reader (R5c).

use super::body::Body;
use crate::core::http::range::{self, Selection};
use crate::core::http::stored::Meta;
pub(super) use crate::core::http::stored::has_no_body;
use crate::core::http::validate::{self, Precondition};
use crate::store::EntryRef;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE,
    DATE, ETAG, EXPIRES, LAST_MODIFIED, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

/// The answer to one reader from a complete stored entry.
pub(super) fn answer(method: &Method, request: &HeaderMap, entry: &EntryRef, strong: bool) -> Response<Body> {
    let length = entry.body().len() as u64;
    let whole = entry.body();
    shaped(
        method,
        request,
        entry.meta(),
        entry.headers(),
        Some(length),
        strong,
        |part| match part {
            None => Body::whole(whole.clone()),
            Some((start, length)) => Body::whole(slice(whole, start, length)),
        },
    )
}

/// The answer to one reader from a head and a body of `length`, which the head tells too (none: not yet known, so ranges are not cut). `body` makes the body,
/// or a part of it given by start and length; it is not called when the answer has none.
pub(super) fn shaped(
    method: &Method,
    request: &HeaderMap,
    meta: &Meta,
    headers: &HeaderMap,
    length: Option<u64>,
    strong: bool,
    mut body: impl FnMut(Option<(u64, u64)>) -> Body,
) -> Response<Body> {
    if validate::evaluate(method, request, meta, strong) == Precondition::NotModified {
        return not_modified(headers);
    }
    let selection = match length {
        Some(length) => range::select(method, request, meta, length, strong),
        None => Selection::Whole,
    };
    let mut response = match selection {
        Selection::Whole => {
            let head_only = *method == Method::HEAD || has_no_body(meta.status);
            let mut response = Response::new(if head_only { Body::empty() } else { body(None) });
            *response.status_mut() = meta.status;
            *response.headers_mut() = headers.clone();
            response
        }
        Selection::Part { start, end } => {
            let size = end.saturating_sub(start);
            let mut response = Response::new(body(Some((start, size))));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            *response.headers_mut() = headers.clone();
            let fields = response.headers_mut();
            fields.insert(CONTENT_LENGTH, HeaderValue::from(size));
            fields.insert(CONTENT_RANGE, range::content_range(start, end, length.unwrap_or(end)));
            response
        }
        Selection::Unsatisfiable => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            response
                .headers_mut()
                .insert(CONTENT_RANGE, range::unsatisfied_range(length.unwrap_or(0)));
            response
                .headers_mut()
                .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            response
        }
    };
    if length.is_none() {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

/// RFC 9110 s15.4.5: the fields a 304 must and may carry.
fn not_modified(stored: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY] {
        for value in stored.get_all(&name) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response
}

/// A 304 in place of an answer that its requester has already. Its body is let go.
pub(super) fn to_not_modified(whole: &Response<Body>) -> Response<Body> {
    let mut response = not_modified(whole.headers());
    let gone = [
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        LAST_MODIFIED,
        TRANSFER_ENCODING,
    ];
    for name in whole.headers().keys() {
        // What was said of this request (Age, Via, Cache-Status, ...) stays; what describes the body goes with it.
        if !response.headers().contains_key(name) && !gone.contains(name) {
            for value in whole.headers().get_all(name) {
                response.headers_mut().append(name.clone(), value.clone());
            }
        }
    }
    response
}

fn slice(whole: &Bytes, start: u64, length: u64) -> Bytes {
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(whole.len());
    let end = start
        .saturating_add(usize::try_from(length).unwrap_or(usize::MAX))
        .min(whole.len());
    whole.slice(start..end)
}
