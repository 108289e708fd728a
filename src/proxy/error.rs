//! Answers made here: refusals and failures as `application/problem+json` (RFC 9457) with Proxy-Status (RFC 9209). The one place
//! that turns a failed call into a status.

use super::body::{Body, UploadFault};
use crate::core::reason::{Problem, Refusal};
use crate::core::retry::Sent;
use crate::upstream::{CallError, CallErrorKind, Step};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// An answer of our own instead of the origin's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    /// None: `about:blank`.
    pub(super) problem: Option<Problem>,
    /// What is wrong and, where the reader can do something, what.
    pub(super) detail: &'static str,
    /// The Proxy-Status error type (RFC 9209 s2.3); none: the request was at fault, not the way to the origin.
    pub(super) proxy_error: Option<&'static str>,
    /// After how many seconds it may be worth trying again.
    pub(super) retry_after: Option<u32>,
    /// The client's body was not read; the connection is of no use any more.
    pub(super) close: bool,
}

impl Fault {
    /// A refusal of the request itself.
    pub(super) const fn refuse(status: StatusCode, detail: &'static str) -> Self {
        Self {
            status,
            problem: None,
            detail,
            proxy_error: Some("http_request_denied"),
            retry_after: None,
            close: false,
        }
    }

    /// A refusal that leaves part of the request unread.
    pub(super) const fn refuse_and_close(status: StatusCode, detail: &'static str) -> Self {
        Self {
            close: true,
            ..Self::refuse(status, detail)
        }
    }

    const fn failure(status: StatusCode, problem: Problem, detail: &'static str, proxy_error: &'static str) -> Self {
        Self {
            status,
            problem: Some(problem),
            detail,
            proxy_error: Some(proxy_error),
            retry_after: None,
            close: false,
        }
    }

    const fn retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// The target does not fit into a request line.
    pub(super) const fn too_long() -> Self {
        Self::refuse(StatusCode::URI_TOO_LONG, "the request target is too long")
    }

    /// Too many requests in flight or waiting.
    pub(super) const fn overloaded() -> Self {
        Self::failure(
            StatusCode::SERVICE_UNAVAILABLE,
            Problem::Overloaded,
            "the queue for this route or its upstream is full",
            "connection_limit_reached",
        )
        .retry_after(1)
    }

    /// Whether time ran out.
    pub(super) fn is_timeout(self) -> bool {
        self.problem == Some(Problem::Timeout)
    }

    /// A task of ours ended without a word.
    pub(super) const fn internal() -> Self {
        Self::failure(
            StatusCode::BAD_GATEWAY,
            Problem::BadGateway,
            "the proxy failed to answer",
            "proxy_internal_error",
        )
    }

    /// The deadline passed while waiting for an answer.
    pub(super) const fn timed_out() -> Self {
        Self::failure(
            StatusCode::GATEWAY_TIMEOUT,
            Problem::Timeout,
            "the response head was not there in time",
            "http_response_timeout",
        )
    }

    /// A node answered a write in a way that proves nothing: to a repeat whose first attempt may have been applied (R20), or before the
    /// body was sent (R11).
    pub(super) const fn unknown() -> Self {
        Self::failure(
            StatusCode::GATEWAY_TIMEOUT,
            Problem::Unknown,
            "the node's answer does not tell whether the write was applied: it may have been, or may be yet",
            "connection_terminated",
        )
    }

    /// A mirrored write that was sent to nobody (R33).
    pub(super) const fn not_mirrored(detail: &'static str) -> Self {
        Self::failure(
            StatusCode::SERVICE_UNAVAILABLE,
            Problem::NotApplied,
            detail,
            "destination_unavailable",
        )
        .retry_after(1)
    }

    /// A method whose result cannot be copied (R40).
    pub(super) const fn not_replicable() -> Self {
        Self::failure(
            StatusCode::NOT_IMPLEMENTED,
            Problem::NotReplicable,
            "writes of this upstream are copied to every node: PUT and DELETE can be, this method cannot",
            "http_request_denied",
        )
    }

    /// Another node took over while a write was under way (R29).
    pub(super) const fn deposed() -> Self {
        Self::failure(
            StatusCode::GATEWAY_TIMEOUT,
            Problem::Unknown,
            "another node took over before the answer came: the write may have been applied there, or be lost",
            "destination_unavailable",
        )
    }

    /// A node has seen a later epoch than ours, and did not apply the write (R54).
    pub(super) const fn fenced() -> Self {
        Self::failure(
            StatusCode::SERVICE_UNAVAILABLE,
            Problem::NotApplied,
            "the node follows a later epoch and refused the write: nothing has changed",
            "destination_unavailable",
        )
        .retry_after(1)
    }

    /// A 304 answered a request that asked for no validation (R5b).
    pub(super) const fn senseless_304() -> Self {
        Self::failure(
            StatusCode::BAD_GATEWAY,
            Problem::BadGateway,
            "the node answered 304 to an unconditional request",
            "http_protocol_error",
        )
    }

    /// A read that the contract refuses.
    pub(super) const fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OnlyIfCached => Self {
                status: StatusCode::GATEWAY_TIMEOUT,
                problem: None,
                detail: "only-if-cached, and nothing that may be served is stored",
                proxy_error: None,
                retry_after: None,
                close: false,
            },
            Refusal::StaleRefused => Self::failure(
                StatusCode::GATEWAY_TIMEOUT,
                Problem::StaleRefused,
                "the origin cannot be asked, and what is stored may not be served any more",
                "destination_unavailable",
            ),
        }
    }

    /// A call that brought no answer. `strong`: on a strong route; `write`: the request may change something.
    pub(super) fn of_call(error: &CallError, strong: bool, write: bool, upload: Option<UploadFault>) -> Self {
        if let Some(fault) = upload.filter(|_| matches!(error.kind, CallErrorKind::BodyFailed)) {
            return Self::of_upload(fault);
        }
        // A strong write that was not sent says so below, whatever kept it.
        if matches!(error.kind, CallErrorKind::NoPrimary) && !(write && (strong || error.sent == Sent::Maybe)) {
            // To a route that is not strong, over one store, all nodes are the same: none is in service.
            return Self::plain(if strong { &error.kind } else { &CallErrorKind::NoNode });
        }
        if strong && write {
            return match error.sent {
                Sent::Nothing => Self {
                    problem: Some(Problem::NotApplied),
                    ..Self::plain(&error.kind)
                }
                .not_applied(),
                Sent::Maybe => Self::failure(
                    StatusCode::GATEWAY_TIMEOUT,
                    Problem::Unknown,
                    "the write was sent and nothing definite came back: it may have been applied, or may be yet",
                    Self::plain(&error.kind).proxy_error.unwrap_or("proxy_internal_error"),
                ),
            };
        }
        let plain = Self::plain(&error.kind);
        if write && error.sent == Sent::Nothing && plain.status == StatusCode::GATEWAY_TIMEOUT {
            // Time ran out, but nothing was sent: 503 says so.
            return Self::failure(
                StatusCode::SERVICE_UNAVAILABLE,
                Problem::Unreachable,
                "there was no connection to a node in time: the request was not sent",
                "connection_timeout",
            )
            .retry_after(1);
        }
        if strong && plain.problem == Some(Problem::Unreachable) {
            // A strong read whose primary cannot be asked is 504: it is not the client's to retry elsewhere.
            return Self {
                status: StatusCode::GATEWAY_TIMEOUT,
                retry_after: None,
                ..plain
            };
        }
        plain
    }

    fn not_applied(self) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: "the write was not sent to any node: nothing has changed",
            retry_after: Some(1),
            ..self
        }
    }

    pub(super) fn of_upload(fault: UploadFault) -> Self {
        match fault {
            UploadFault::TooLarge => {
                Self::refuse_and_close(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than max_body")
            }
            UploadFault::Stalled => Self::refuse_and_close(
                StatusCode::REQUEST_TIMEOUT,
                "the body made no progress for body_timeout",
            ),
            UploadFault::Broken => Self::refuse_and_close(StatusCode::BAD_REQUEST, "the body broke off"),
        }
    }

    fn plain(kind: &CallErrorKind) -> Self {
        let unreachable = |detail, proxy_error| {
            Self::failure(
                StatusCode::SERVICE_UNAVAILABLE,
                Problem::Unreachable,
                detail,
                proxy_error,
            )
            .retry_after(1)
        };
        let broken =
            |detail, proxy_error| Self::failure(StatusCode::BAD_GATEWAY, Problem::BadGateway, detail, proxy_error);
        match kind {
            CallErrorKind::NoNode => unreachable("no node of the upstream is in service", "destination_unavailable"),
            CallErrorKind::NoPrimary => Self::failure(
                StatusCode::SERVICE_UNAVAILABLE,
                Problem::NoPrimary,
                "the upstream has no primary now: the request was not sent",
                "destination_unavailable",
            )
            .retry_after(1),
            CallErrorKind::Queued => Self {
                detail: "the writes ahead of it have not ended in time: the request was not sent",
                ..Self::overloaded()
            },
            CallErrorKind::Unproven => Self::failure(
                StatusCode::GATEWAY_TIMEOUT,
                Problem::Timeout,
                "a write before ended unknown, and the nodes could not be shown to hold the same",
                "destination_unavailable",
            ),
            CallErrorKind::ConnectFailed(step) => match step {
                Step::Name => unreachable("the node's name has no address", "dns_error"),
                Step::Connection => unreachable("no connection to the node could be made", "connection_refused"),
                Step::Certificate => unreachable(
                    "the node's certificate is not believed, or ours is not",
                    "tls_certificate_error",
                ),
                Step::Tls => unreachable("no TLS could be spoken with the node", "tls_protocol_error"),
            },
            CallErrorKind::ConnectTimedOut => unreachable("the connect took too long", "connection_timeout"),
            CallErrorKind::QueueFull => Self::overloaded(),
            CallErrorKind::HeadTimedOut | CallErrorKind::DeadlineExceeded => Self::timed_out(),
            CallErrorKind::Reset => broken("the connection to the node broke", "connection_terminated"),
            CallErrorKind::Garbage => broken("the node's answer is not valid HTTP", "http_protocol_error"),
            CallErrorKind::BodyFailed => Self::refuse_and_close(StatusCode::BAD_REQUEST, "the body broke off"),
        }
    }

    /// The answer itself.
    pub(super) fn response(self) -> Response<Body> {
        let kind = self.problem.map_or_else(
            || "about:blank".to_owned(),
            |p| format!("urn:tidegate:problem:{}", p.word()),
        );
        let title = self.status.canonical_reason().unwrap_or("Error");
        let text = serde_json::json!({
            "type": kind, "title": title, "status": self.status.as_u16(), "detail": self.detail,
        });
        let mut response = Response::new(Body::whole(Bytes::from(text.to_string())));
        response.extensions_mut().insert(self); // for those who want it in other words
        response.body_mut().trace.why = self.problem.map(Problem::word).or(self.proxy_error);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(Ok(value)) = self
            .proxy_error
            .map(|e| HeaderValue::from_str(&format!("tidegate; error={e}")))
        {
            headers.insert(PROXY_STATUS.clone(), value);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY"),
            );
        }
        if self.close {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
