//! Sockets in: accepts connections, speaks TLS, HTTP/1.1 and HTTP/2 on them and sees them off. It knows nothing of routes or caching: what answers a
//! request is a tower service it is given, one per connection.
//!
//! Invariant: a connection is counted from accept to its last byte, and ends by the peer, a timeout, an error or a drain, never by
//! being forgotten.

pub mod accept;
mod coalesce;
pub mod connection;
pub mod deal;
pub mod drain;
mod drive;
mod http2;
mod informational;
mod opening;
mod preface;
mod streams;
pub mod tally;
pub mod tls;
mod watch;

pub use streams::Upload;
