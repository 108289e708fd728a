//! What became of a write: definite or unknown (R11), and what that does to its resource.

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
            Self::Rejected | Self::NotSent => false,
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

#[cfg(test)]
mod tests {
    use super::*;

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
