//! Sockets in: accepts connections, speaks HTTP/1.1 on them and sees them off. It knows nothing of routes or caching: what answers a
//! request is a tower service it is given, one per connection.
//!
//! Invariant: a connection is counted from accept to its last byte, and ends by the peer, a timeout, an error or a drain, never by
//! being forgotten.

pub mod accept;
pub mod connection;
pub mod drain;
mod informational;
mod watch;
