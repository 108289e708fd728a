//! What gRPC says by HTTP (grpc/doc/PROTOCOL-HTTP2.md): which requests are calls, and an error in its words. Messages are nobody's business
//! here.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// `grpc-status`.
pub static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`.
pub static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The content type that begins every call's and every answer's.
pub const CONTENT: &str = "application/grpc";

/// Statuses of a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// Nobody knows what became of it. Clients do not repeat it by themselves.
    Unknown = 2,
    /// Time ran out; it may have been done.
    DeadlineExceeded = 4,
    /// More than is allowed.
    ResourceExhausted = 8,
    /// Nobody does this here.
    Unimplemented = 12,
    /// Something is wrong with the request as HTTP.
    Internal = 13,
    /// Not now. Clients may repeat it by themselves.
    Unavailable = 14,
    /// Who are you?
    Unauthenticated = 16,
    /// Not for you.
    PermissionDenied = 7,
}

impl Code {
    /// What an HTTP status of ours means to a caller (grpc/doc/http-grpc-status-mapping.md, and where that is coarse, the closer one).
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 | 405 | 501 => Self::Unimplemented,
            408 | 504 => Self::DeadlineExceeded,
            413 | 414 | 431 => Self::ResourceExhausted,
            400..=499 => Self::Internal,
            503 => Self::Unavailable,
            // A 502 too: it was sent, and clients repeat by themselves what they are told is unavailable.
            _ => Self::Unknown,
        }
    }

    /// Its number, as a field's value.
    #[must_use]
    pub fn value(self) -> HeaderValue {
        HeaderValue::from(self as u16)
    }
}

/// Whether a request is a call. gRPC-Web is not: its answers are bodies like any other.
#[must_use]
pub fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    if *method != Method::POST {
        return false;
    }
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let kind = kind.as_bytes();
    let Some((start, rest)) = kind.split_at_checked(CONTENT.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(CONTENT.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Words as `grpc-message` says them: percent-encoded but for printable ASCII.
#[must_use]
pub fn message(words: &str) -> Option<HeaderValue> {
    let mut encoded = String::with_capacity(words.len());
    for byte in words.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            0x20..=0x7e => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(encoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_requests_are_calls() {
        let cases = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("Application/GRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ];
        for (kind, expected) in cases {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_call(&Method::POST, &headers), expected, "{kind}");
            for method in [Method::GET, Method::HEAD, Method::PUT] {
                assert!(!is_call(&method, &headers), "{method} {kind}");
            }
        }
        assert!(!is_call(&Method::POST, &HeaderMap::new()));
    }

    #[test]
    fn words_are_encoded_as_the_protocol_says() {
        let said = |words| message(words).map(|value| value.to_str().unwrap_or_default().to_owned());
        assert_eq!(said("100 % sure").as_deref(), Some("100 %25 sure"));
        assert_eq!(said("na\u{ef}ve\n").as_deref(), Some("na%C3%AFve%0A"));
    }

    #[test]
    fn what_may_have_been_done_is_not_called_unavailable() {
        // Clients repeat that by themselves.
        for (status, code) in [
            (502, Code::Unknown),
            (503, Code::Unavailable),
            (504, Code::DeadlineExceeded),
            (404, Code::Unimplemented),
        ] {
            assert_eq!(Code::of(status), code, "{status}");
        }
        assert_eq!(Code::of(404).value(), "12");
    }
}
