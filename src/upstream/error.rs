//! How a call fails. Variants are facts; by the time an error is returned the connection it happened on is closed.

use crate::core::retry::Sent;
use crate::core::time::MonoTime;
use std::error::Error;

/// Any error of a body given to us.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What kept a call from an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CallErrorKind {
    /// No node is in service.
    #[error("no node in service")]
    NoNode,
    /// Only the primary may answer, and there is none.
    #[error("no primary")]
    NoPrimary,
    /// What is ahead of it at its resource has not ended in time (R34).
    #[error("still queued")]
    Queued,
    /// The nodes could not be shown to hold the same (R34).
    #[error("unproven")]
    Unproven,
    /// Every connection is in use and the queue is full.
    #[error("the queue for a connection is full")]
    QueueFull,
    /// No connection could be made.
    #[error("connect failed")]
    ConnectFailed(Step),
    /// The connect took longer than `connect_timeout`.
    #[error("connect timed out")]
    ConnectTimedOut,
    /// No response head within `response_timeout`.
    #[error("no response head in time")]
    HeadTimedOut,
    /// The connection broke, or the node was taken out of service, before the response head was complete.
    #[error("connection broke")]
    Reset,
    /// What came was not an HTTP response one may pass on.
    #[error("malformed response")]
    Garbage,
    /// The request body failed: the client's upload broke.
    #[error("request body broke")]
    BodyFailed,
    /// The call's deadline passed while it waited for a connection, connected, or waited for the response head.
    #[error("deadline exceeded")]
    DeadlineExceeded,
}

/// How far a connect came.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The node's name has no address.
    Name,
    /// Nobody accepted.
    Connection,
    /// The node did not prove its name, or does not believe us.
    Certificate,
    /// The two could not agree on anything else of TLS.
    Tls,
}

/// A call without an answer. Every connection it used is closed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct CallError {
    /// What happened to the last attempt.
    pub kind: CallErrorKind,
    /// Whether any attempt wrote a byte of the request (R20).
    pub sent: Sent,
    /// The node of the last attempt; none when there was no attempt.
    pub node: Option<usize>,
    /// When the last connection was closed (R19).
    pub closed_at: MonoTime,
}

/// A response body that broke off. Its connection is closed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection broke before the body was complete.
    #[error("the node's response broke off")]
    Reset,
    /// The node was taken out of service.
    #[error("the node was taken out of service")]
    NodeDown,
}
