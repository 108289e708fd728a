//! What became of a write: definite or unknown (R11), and what that does to its resource.
//!
//! Every unknown outcome unsettles and revokes, with one exception. An origin that answers a whole write with a complete 5xx says that
//! it failed. RFC 9111 s4.4 lets only a non-error answer invalidate, and weak and eventual promise nothing more: what is stored was
//! current when it was fetched and keeps its bound, and a client that can make an origin answer 500 must not be able to empty the store.
//! So where no strong route reads the upstream such a write kills the fills in flight and leaves what is stored ([`Ended::Failed`]).
//! A strong route on the upstream keeps the full effect: a 500 may come after the write was applied, and its readers are promised that
//! nobody sees the old value once anybody could have seen the new one. Where nothing definite came (a timeout, a reset, an upload
//! that ended early, a repeat of an attempt that was never answered) there is no failure to believe, and everything goes.

use crate::core::reason::WriteOutcome;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use http::StatusCode;

/// How a write ended, as the gate takes it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A definite 2xx or 3xx: the stored answers are out of date.
    Applied,
    /// A definite 4xx: nothing changed.
    Rejected,
    /// It provably never reached an application.
    NotSent,
    /// The origin's own 5xx, where no strong route can read the resource: fills in flight may have read either value, what is stored
    /// stays (RFC 9111 s4.4).
    Failed,
    /// It may have been applied, or may be until `settled_at`.
    Unknown {
        /// The close of its connection plus `settle_after`.
        settled_at: MonoTime,
    },
    /// It may have been applied, and its connection is still open.
    UnknownOpen,
}

impl Ended {
    /// Whether stored answers must go.
    #[must_use]
    pub const fn revokes(self) -> bool {
        match self {
            Self::Applied | Self::Unknown { .. } | Self::UnknownOpen => true,
            Self::Rejected | Self::NotSent | Self::Failed => false,
        }
    }
}

/// What a complete final head says about the write (R11). `upload_complete`: the request body was sent in full.
/// `repeated`: this answers a retry of an attempt that may have been applied, so that a refusal of it proves nothing of the first (R20).
#[must_use]
pub fn judge(status: StatusCode, upload_complete: bool, repeated: bool) -> WriteOutcome {
    let code = status.as_u16();
    if !Rule::R11.holds() {
        return if code >= 400 {
            WriteOutcome::Rejected
        } else {
            WriteOutcome::Applied
        };
    }
    if !upload_complete || code == 202 || !(200..500).contains(&code) {
        return WriteOutcome::Unknown;
    }
    if repeated && code >= 400 {
        return WriteOutcome::Unknown; // R20: the attempt before it may have been applied, or may be yet
    }
    if code >= 400 {
        WriteOutcome::Rejected
    } else {
        WriteOutcome::Applied
    }
}

/// Whether an unknown outcome is the origin's own word that the write failed: a complete 5xx to all of it, and to its only attempt.
#[must_use]
pub fn is_failure(status: StatusCode, upload_complete: bool, repeated: bool) -> bool {
    status.is_server_error() && upload_complete && !repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9111_s4_4_a_failure_is_a_complete_5xx_to_the_only_attempt() {
        let cases = [
            ("500", 500, true, false, true),
            ("503", 503, true, false, true),
            ("202 promises the contrary", 202, true, false, false),
            ("a status that does not exist", 600, true, false, false),
            ("500 before the body was sent", 500, false, false, false),
            (
                "500 to a repeat: the first attempt said nothing",
                500,
                true,
                true,
                false,
            ),
            ("404 is definite", 404, true, false, false),
        ];
        for (name, status, complete, repeated, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_failure(status, complete, repeated), expected, "{name}");
            if expected {
                assert_eq!(judge(status, complete, repeated), WriteOutcome::Unknown, "{name}");
            }
        }
    }

    #[test]
    fn only_what_may_have_been_applied_revokes() {
        assert!(Ended::Applied.revokes());
        assert!(Ended::UnknownOpen.revokes());
        let settled_at = MonoTime::default();
        assert!(Ended::Unknown { settled_at }.revokes());
        assert!(!Ended::Rejected.revokes());
        assert!(!Ended::NotSent.revokes());
        assert!(!Ended::Failed.revokes());
    }

    #[test]
    fn r11_only_a_complete_head_other_than_202_and_5xx_is_definite() {
        let cases = [
            ("200", 200, true, false, WriteOutcome::Applied),
            ("201", 201, true, false, WriteOutcome::Applied),
            (
                "202 is a promise, not a result",
                202,
                true,
                false,
                WriteOutcome::Unknown,
            ),
            ("204", 204, true, false, WriteOutcome::Applied),
            ("303", 303, true, false, WriteOutcome::Applied),
            ("404", 404, true, false, WriteOutcome::Rejected),
            ("412", 412, true, false, WriteOutcome::Rejected),
            ("500 may come after the write", 500, true, false, WriteOutcome::Unknown),
            ("599", 599, true, false, WriteOutcome::Unknown),
            ("200 before the body was sent", 200, false, false, WriteOutcome::Unknown),
            ("413 before the body was sent", 413, false, false, WriteOutcome::Unknown),
        ];
        for (name, status, complete, repeated, expected) in cases {
            assert_eq!(
                judge(StatusCode::from_u16(status).unwrap(), complete, repeated),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn r20_a_refusal_of_a_retry_proves_nothing() {
        for status in [400, 403, 404, 409, 410, 412, 422, 423] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, true, true), WriteOutcome::Unknown, "{status}");
            assert_eq!(judge(status, true, false), WriteOutcome::Rejected, "{status}");
        }
        assert_eq!(judge(StatusCode::OK, true, true), WriteOutcome::Applied);
    }
}
