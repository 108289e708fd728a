//! HTTP/2 to nodes (RFC 9113): a core's connections to one node, which lend streams.
//!
//! A stream is taken where there is one; where there is none and another connection is allowed, one is opened, one at a time: what comes
//! meanwhile waits for it instead of opening its own. A connection that closes (the node leaves, it has been idle, the configuration has
//! changed) lends no more and ends with its last stream.
//!
//! It does not queue requests and does not choose nodes; the pool does. Bounds: `max_connections` that lend, as many again that are closing.

mod arriving;
mod connection;
mod frames;
mod kept;
mod pulse;
mod stream;
mod upload;

#[cfg(test)]
mod tests;

pub(super) use arriving::Arriving;
pub(super) use stream::{Interim, Stream};

use super::connect::reach;
use super::tls::Spoken;
use super::{One, Shared};
use crate::config::runtime::Http2;
use connection::State;
use http::uri::Scheme;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One core's connections to one node.
pub(super) struct Streams {
    limits: Http2,
    scheme: Scheme,
    /// Of connections that lend, this core's share.
    max: AtomicUsize,
    connections: Mutex<Vec<Arc<State>>>,
    /// Held by who opens one.
    opening: tokio::sync::Mutex<()>,
    /// Requests that wait for a connection to open.
    waiting: AtomicUsize,
    /// Connects that failed.
    failures: AtomicU64,
    /// Each stream that is asked for from now on is its connection's only one.
    retired: AtomicBool,
}

/// What asking for a stream came to.
pub(super) enum Lent {
    Stream(Box<Stream>),
    /// All streams are in use, and no connection may be added.
    Full,
}

impl Streams {
    pub(super) fn new(limits: Http2, tls: bool, max: usize) -> Self {
        Self {
            limits,
            scheme: if tls { Scheme::HTTPS } else { Scheme::HTTP },
            max: AtomicUsize::new(max),
            connections: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            failures: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        }
    }

    /// Whether there is a stream, or may be one on a connection to come, that nobody waits for.
    pub(super) fn has_room(&self) -> bool {
        let connections = self.connections.lock();
        let lending = connections.iter().filter(|connection| connection.lends());
        let (count, free) = lending.fold((0_usize, 0_usize), |(count, free), connection| {
            (count + 1, free.saturating_add(connection.free()))
        });
        let to_come = self.may_open(&connections, count).saturating_mul(self.expected());
        drop(connections);
        free.saturating_add(to_come) > self.waiting.load(Ordering::Acquire)
    }

    fn expected(&self) -> usize {
        usize::try_from(self.limits.max_streams).unwrap_or(usize::MAX)
    }

    /// How many connections may be added.
    fn may_open(&self, connections: &[Arc<State>], lending: usize) -> usize {
        if connections.iter().any(|connection| connection.lends_none()) {
            return 0; // RFC 9113 s6.5.2: for a while it wants no request, and no other connection to say so on
        }
        let max = self.max.load(Ordering::Acquire);
        let alive = connections.iter().filter(|connection| !connection.is_over()).count();
        max.saturating_sub(lending)
            .min(max.saturating_mul(2).saturating_sub(alive))
    }

    /// A stream that is free at once.
    pub(super) fn lend(&self) -> Option<Box<Stream>> {
        self.take(true)
    }

    /// The first connection that has a stream: what is not needed becomes idle, and is closed.
    fn take(&self, may_be_stale: bool) -> Option<Box<Stream>> {
        let connections = self.connections.lock();
        let state = connections.iter().find(|connection| connection.take())?;
        let stream = Stream::new(Arc::clone(state), self.scheme.clone(), may_be_stale);
        Some(Box::new(stream))
    }

    /// Whether there is a connection that lends: the node need not be connected to.
    pub(super) fn lends(&self) -> bool {
        self.connections.lock().iter().any(|connection| connection.lends())
    }

    /// Whether no connection is alive.
    pub(super) fn is_unused(&self) -> bool {
        self.connections.lock().iter().all(|connection| connection.is_over())
    }

    /// A stream: a free one, or the first of a new connection. How long that may take is the caller's.
    pub(super) async fn open(&self, shared: &Shared, one: &One, node: usize) -> io::Result<Lent> {
        if let Some(stream) = self.take(false) {
            return Ok(Lent::Stream(stream));
        }
        let _waiting = Waiting::new(&self.waiting);
        let failures = self.failures.load(Ordering::Acquire);
        let _turn = self.opening.lock().await;
        if let Some(stream) = self.take(false) {
            return Ok(Lent::Stream(stream));
        }
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the connection that was waited for could not be opened",
            ));
        }
        {
            let mut connections = self.connections.lock();
            connections.retain(|connection| !connection.is_over());
            let lending = connections.iter().filter(|connection| connection.lends()).count();
            if self.may_open(&connections, lending) == 0 {
                return Ok(Lent::Full);
            }
        }
        let opened = async {
            let stream = reach(shared, one, node, Spoken::Http2).await?;
            connection::open(stream, self.limits).await
        };
        // A connect that was given up is nobody else's failure: the next one tries for itself.
        let state = opened.await.inspect_err(|_| {
            self.failures.fetch_add(1, Ordering::AcqRel);
        })?;
        let is_free = state.take();
        let is_retired = self.is_retired();
        if !is_retired {
            self.connections.lock().push(Arc::clone(&state));
        }
        if !is_free {
            return Ok(Lent::Full); // the node lends none now
        }
        let stream = Stream::new(state, self.scheme.clone(), false);
        Ok(Lent::Stream(Box::new(if is_retired { stream.alone() } else { stream })))
    }

    /// Lends no more of the connections there are, which end with their last streams; with `in_flight` those end too.
    pub(super) fn close(&self, in_flight: bool) {
        let connections = self.connections.lock().clone();
        for connection in connections {
            if in_flight {
                connection.kill();
            } else {
                connection.close();
            }
        }
    }

    /// The node leaves, or other settings have taken their place: what there is ends with its last stream.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.close(false);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Who sits here may have another share now.
    pub(super) fn limit(&self, max: usize) {
        self.max.store(max, Ordering::Release);
    }
}

/// A stream of a connection of its own, which ends with it: for probes.
pub(super) async fn alone(shared: &Shared, one: &One, node: usize, limits: Http2) -> io::Result<Box<Stream>> {
    let io = reach(shared, one, node, Spoken::Http2).await?;
    let state = connection::open(io, limits).await?;
    let scheme = if one.config.tls.is_some() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    if !state.take() {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(Box::new(Stream::new(state, scheme, false).alone()))
}

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
