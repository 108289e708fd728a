//! gRPC's own health check (`grpc.health.v1.Health/Check`) over HTTP/2 with prior knowledge, by one connection per probe. Two messages of
//! one field each are not worth a protobuf library: they are read and written here.
//!
//! Invariant: what hyper does beside the probe ends with it.

use super::super::connect::reach;
use super::super::tls::Spoken;
use super::super::{One, Shared};
use crate::core::failover::event::Said;
use crate::core::failover::health::Outcome;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use tokio::task::JoinSet;

/// No health check's answer is longer.
const LONGEST: usize = 64 * 1024;

/// What `SERVING` is on the wire. It alone passes: `UNKNOWN`, `NOT_SERVING` and `SERVICE_UNKNOWN` do not.
const SERVING: u64 = 1;

/// Asks a node for a service's health; an empty name asks for the whole server's. The caller limits how long that may take.
pub(super) async fn check(shared: &Shared, one: &One, node: usize, service: &str) -> (Outcome, Said) {
    let nothing = |outcome| (outcome, Said::default());
    let Ok(stream) = reach(shared, one, node, Spoken::Http2).await else {
        return nothing(Outcome::Unreachable);
    };
    let Some(request) = question(one, node, service) else {
        return nothing(Outcome::Refused);
    };
    let tasks = Tasks::default();
    let opened = http2::handshake::<_, _, Full<Bytes>>(tasks.clone(), TokioIo::new(stream)).await;
    let Ok((mut sender, connection)) = opened else {
        return nothing(Outcome::Unreachable);
    };
    let asked = async {
        let Ok(response) = sender.send_request(request).await else {
            return nothing(Outcome::Unreachable);
        };
        let (head, body) = response.into_parts();
        // A server that speaks HTTP/2 and not this: it answers.
        if head.status != StatusCode::OK {
            return nothing(Outcome::Refused);
        }
        let Ok(body) = Limited::new(body, LONGEST).collect().await else {
            return nothing(Outcome::Unreachable);
        };
        // An answer without a message has its status in the head ("Trailers-Only").
        let is_ok = grpc_ok(body.trailers().unwrap_or(&head.headers));
        match is_ok && status(&body.to_bytes()) == Some(SERVING) {
            true => (Outcome::Passed, one.said(&head.headers)),
            false => nothing(Outcome::Refused),
        }
    };
    tokio::select! {
        biased;
        told = asked => told,
        _ended = connection => nothing(Outcome::Unreachable),
    }
}

fn question(one: &One, node: usize, service: &str) -> Option<Request<Full<Bytes>>> {
    let host = one
        .host(node)
        .or_else(|| one.seat(node).map(|seat| seat.authority.clone()))?;
    let uri = Uri::builder()
        .scheme(if one.config.tls.is_some() { "https" } else { "http" })
        .authority(host.as_bytes())
        .path_and_query("/grpc.health.v1.Health/Check");
    let mut request = Request::new(Full::new(message(service)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.build().ok()?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("tidegate-probe"));
    Some(request)
}

fn grpc_ok(trailers: &HeaderMap) -> bool {
    trailers.get("grpc-status").is_some_and(|status| status == "0")
}

/// `HealthCheckRequest { string service = 1; }`, with gRPC's prefix: not compressed, so long.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        field.put_u8(u8::try_from(length).unwrap_or(0));
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    message.put(field);
    message.freeze()
}

/// `HealthCheckResponse { ServingStatus status = 1; }`; none: that is no such message.
fn status(answer: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = answer.split_at_checked(5)?;
    let (compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *compressed != 0 || usize::try_from(length).ok()? != rest.len() {
        return None;
    }
    let mut status = 0; // proto3: what is not there is zero
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let skip = match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        rest = rest.get(skip..)?;
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// What hyper runs beside the connection. Ended when the last of its handles goes.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_the_service_as_protobuf_does() {
        assert_eq!(message("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(message("shop").as_ref(), b"\0\0\0\0\x06\x0a\x04shop");
        let long = "x".repeat(300);
        assert_eq!(message(&long).get(..8), Some(&b"\0\0\0\x01\x2f\x0a\xac\x02"[..]));
    }

    #[test]
    fn what_answers_say() {
        let cases: [(&str, &[u8], Option<u64>); 12] = [
            ("serving", b"\0\0\0\0\x02\x08\x01", Some(SERVING)),
            ("not serving", b"\0\0\0\0\x02\x08\x02", Some(2)),
            ("unknown is left out", b"\0\0\0\0\0", Some(0)),
            ("the last one counts", b"\0\0\0\0\x04\x08\x02\x08\x01", Some(SERVING)),
            (
                "an unknown field before",
                b"\0\0\0\0\x06\x12\x02ab\x08\x01",
                Some(SERVING),
            ),
            ("unknown fixed fields", b"\0\0\0\0\x07\x15abcd\x08\x01", Some(SERVING)),
            ("nothing at all", b"", None),
            ("compressed", b"\x01\0\0\0\x02\x08\x01", None),
            ("shorter than it says", b"\0\0\0\0\x03\x08\x01", None),
            ("two messages", b"\0\0\0\0\x02\x08\x01\0\0\0\0\x02\x08\x01", None),
            ("a field cut short", b"\0\0\0\0\x02\x12\x09", None),
            ("a number without an end", b"\0\0\0\0\x02\x08\x81", None),
        ];
        for (name, answer, expected) in cases {
            assert_eq!(status(answer), expected, "{name}");
        }
    }
}
