//! An answer of ours to a gRPC call, in its words: status 200 with `grpc-status` in the only head there is ("Trailers-Only"), as clients
//! of gRPC understand it. Cache-Status and Proxy-Status say the same as to everybody.

use super::body::{Body, Trace};
use super::error::Fault;
use crate::core::http::grpc::{self, Code, GRPC_MESSAGE, GRPC_STATUS};
use crate::core::reason::Problem;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

/// Says a fault as the request's protocol does.
pub(super) fn shaped(asked: &Parts, mut response: Response<Body>) -> Response<Body> {
    let Some(fault) = response.extensions_mut().remove::<Fault>() else {
        return response;
    };
    if !grpc::is_call(&asked.method, &asked.headers) {
        return response;
    }
    let code = match fault.problem {
        Some(Problem::Unknown) => Code::Unknown, // it may have been applied, and must not be repeated unasked
        _ => Code::of(fault.status.as_u16()),
    };
    let why = response.body().trace.why;
    let mut response = response.map(|_| Body::empty());
    response.body_mut().trace = Trace {
        why,
        ..Trace::default()
    };
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT));
    headers.insert(GRPC_STATUS.clone(), code.value());
    if let Some(words) = grpc::message(fault.detail) {
        headers.insert(GRPC_MESSAGE.clone(), words);
    }
    response
}
