//! What to do with an answer: store it, or pass it on and say why. RFC 9111 s3 under a route's contract.

use crate::core::http::stored::Meta;
use crate::core::reason::NotStored;
use crate::core::time::{MonoTime, WallTime};
use http::{HeaderMap, StatusCode};

/// An answer of the origin as the core sees it.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields as received, hop-by-hop fields already removed.
    pub headers: &'a HeaderMap,
    /// When the request of the successful attempt was sent.
    pub sent: MonoTime,
    /// When its head was received.
    pub received: MonoTime,
    /// The same on the wall clock.
    pub received_wall: WallTime,
    /// Whether its body ends with the connection (R16b).
    pub close_delimited: bool,
}

/// Whether an answer is stored.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Store it with these facts, if its token is alive at the end.
    Store(Box<Meta>),
    /// Pass it on only.
    PassOn(NotStored),
}
