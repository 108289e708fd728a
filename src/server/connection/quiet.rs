//! A connection on which nothing happens: its stream, its service and a timer, and nothing to parse with. hyper keeps two buffers of 8 KiB
//! and a map of fields for each connection it has; ten thousand that are idle would have 200 MB of them.
//!
//! Invariant: hyper had nothing left to write when the connection became quiet, nor the stream anything to flush (they write as soon as they
//! can, and a peer that takes nothing is stalled, not idle), nothing of a request's body was to come, and what was read and not used goes
//! to the next one.

use super::{Shared, Wire, ebb, unread};
use crate::config::runtime::Listener;
use crate::core::time::MonoTime;
use crate::server::drain::Phase;
use crate::server::drive::{End, Limit};
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, ReadBuf};

/// The first read of a connection that wakes up: most requests' whole head.
const FIRST_READ: usize = 2048;

/// Waits for the peer's next bytes and leaves them in the stream to be read again. Returns how the connection ended, if it did.
pub(super) async fn wait(io: &mut Wire, since: MonoTime, listener: &Listener, shared: &Shared) -> Option<End> {
    ebb::became_quiet();
    let left = since
        .after(listener.idle_timeout.into())
        .duration_since(shared.clock.mono());
    let read = tokio::select! {
        biased;
        () = shared.drain.reached(Phase::Cutting) => return Some(End::Closed),
        read = first_bytes(io) => read,
        () = tokio::time::sleep(left) => return Some(End::TimedOut(Limit::Idle)),
    };
    match read {
        Ok(bytes) if bytes.is_empty() => Some(End::Closed),
        Ok(bytes) => {
            unread(io, bytes);
            None
        }
        // Between requests nobody waits for anything.
        Err(_) => Some(End::Closed),
    }
}

/// Reads into memory that is needed only then.
async fn first_bytes(io: &mut Wire) -> io::Result<Bytes> {
    poll_fn(|cx| {
        let mut room = [0; FIRST_READ];
        let mut room = ReadBuf::new(&mut room);
        Pin::new(&mut *io)
            .poll_read(cx, &mut room)
            .map_ok(|()| Bytes::copy_from_slice(room.filled()))
    })
    .await
}
