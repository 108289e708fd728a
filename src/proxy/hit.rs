//! An answer from what is stored: the client's own conditions and range are applied here, at the end, per reader (R5c).

use super::body::Body;
use super::multipart;
use crate::core::http::range::{self, Cut, Selection};
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

/// The answer to one reader from a stored entry: the whole, or as much of it as is stored.
pub(super) fn answer(method: &Method, request: &HeaderMap, entry: &EntryRef, strong: bool) -> Response<Body> {
    let (meta, headers) = (entry.meta(), entry.headers());
    let length = entry.body_bytes().len() as u64;
    match shape(method, request, &meta, Some(length), strong) {
        Shape::NotModified => not_modified(&headers),
        Shape::Of(Selection::Several(cuts)) if multipart::can_be_cut(&headers) => multipart::answer(entry, &cuts),
        Shape::Of(selection) => build(method, &meta, headers, Some(length), &selection, |cut| match cut {
            None => Body::whole(entry.body()),
            Some(cut) => Body::whole(slice(&entry.body(), cut)),
        }),
    }
}

/// The same with these fields for a reader who asks for no range and on no condition, of an entry that is no part.
pub(super) fn whole(method: &Method, entry: &EntryRef, headers: HeaderMap) -> Response<Body> {
    let status = entry.status();
    let head_only = *method == Method::HEAD || has_no_body(status);
    let mut response = Response::new(if head_only {
        Body::empty()
    } else {
        Body::whole(entry.body())
    });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The answer to one reader from a head and a body of `length`, which the head tells too (none: not yet known, so ranges are not
/// cut). Several ranges are answered whole: they may be out of order, and the body is still arriving. `body` makes the body, or a
/// cut of it; it is not called when the answer has none.
pub(super) fn shaped(
    method: &Method,
    request: &HeaderMap,
    meta: &Meta,
    headers: &HeaderMap,
    length: Option<u64>,
    strong: bool,
    body: impl FnMut(Option<Cut>) -> Body,
) -> Response<Body> {
    match shape(method, request, meta, length, strong) {
        Shape::NotModified => not_modified(headers),
        Shape::Of(selection) => build(method, meta, headers.clone(), length, &selection, body),
    }
}

/// What one reader gets.
enum Shape {
    NotModified,
    Of(Selection),
}

fn shape(method: &Method, request: &HeaderMap, meta: &Meta, length: Option<u64>, strong: bool) -> Shape {
    if validate::evaluate(method, request, meta, strong) == Precondition::NotModified {
        return Shape::NotModified;
    }
    Shape::Of(match (meta.part, length) {
        // RFC 9111 s3.3: what lies inside it. A part that nobody asked for goes to its requester as it came.
        (Some(part), _) => part
            .answers(method, request, meta)
            .map_or(Selection::Whole, Selection::Part),
        (None, Some(length)) => range::select(method, request, meta, length, strong),
        (None, None) => Selection::Whole,
    })
}

fn build(
    method: &Method,
    meta: &Meta,
    headers: HeaderMap,
    length: Option<u64>,
    selection: &Selection,
    mut body: impl FnMut(Option<Cut>) -> Body,
) -> Response<Body> {
    // Of the representation, and where in it the body begins.
    let (complete, start) = match meta.part {
        Some(part) => (part.length, part.cut.start),
        None => (length.unwrap_or(0), 0),
    };
    let mut response = match *selection {
        Selection::Whole | Selection::Several(_) => {
            let head_only = *method == Method::HEAD || has_no_body(meta.status);
            let mut response = Response::new(if head_only { Body::empty() } else { body(None) });
            *response.status_mut() = meta.status;
            *response.headers_mut() = headers;
            response
        }
        Selection::Part(cut) => {
            let in_body = Cut {
                start: cut.start.saturating_sub(start),
                end: cut.end.saturating_sub(start),
            };
            let mut response = Response::new(body(Some(in_body)));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            *response.headers_mut() = headers;
            let fields = response.headers_mut();
            if meta.part.is_none_or(|part| part.cut != cut) {
                range::drop_content_digests(fields);
            }
            fields.insert(CONTENT_LENGTH, HeaderValue::from(cut.size()));
            fields.insert(CONTENT_RANGE, range::content_range(cut, complete));
            response
        }
        Selection::Unsatisfiable => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            response
                .headers_mut()
                .insert(CONTENT_RANGE, range::unsatisfied_range(complete));
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

/// These bytes of it, shared.
pub(super) fn slice(whole: &Bytes, cut: Cut) -> Bytes {
    let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
    let end = at(cut.end);
    whole.slice(at(cut.start).min(end)..end)
}
