//! The request as it goes out: framed, and copied where it may have to go out again.

use super::super::body::OutBody;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Version};
use http_body::Body;

/// The request as it is sent.
pub(super) fn request(mut parts: Parts, body: OutBody) -> Request<OutBody> {
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let mut request = Request::from_parts(parts, body);
    frame(&mut request);
    request
}

/// Completes the framing fields where hyper would leave the body out or the length open.
fn frame(request: &mut Request<OutBody>) {
    let zero = match request.body() {
        // RFC 9110 s8.6: methods that mean something by a body say that there is none.
        OutBody::Empty => {
            *request.method() == Method::POST || *request.method() == Method::PUT || *request.method() == Method::PATCH
        }
        OutBody::Full(_) => return,
        OutBody::Stream(body) => {
            if body.size_hint().exact().is_none() && !request.headers().contains_key(CONTENT_LENGTH) {
                request
                    .headers_mut()
                    .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            return;
        }
    };
    if zero && !request.headers().contains_key(CONTENT_LENGTH) {
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// A copy of a request whose body can be sent again.
pub(super) fn copy(request: &Request<OutBody>) -> Option<Request<OutBody>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.version_mut() = request.version();
    Some(copy)
}
