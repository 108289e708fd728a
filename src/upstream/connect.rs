//! The way to a node: a stream to one of its addresses, and a link over it. How long that may take is the caller's.

use super::link::Link;
use super::seat::Place;
use super::{One, Shared};
use crate::world::Stream;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection to a node, ready for requests.
pub(super) async fn open(shared: &Shared, one: &One, node: usize) -> io::Result<Box<Link>> {
    let stream = reach(shared, one, node).await?;
    Link::open(stream).await.map_err(io::Error::other)
}

/// Connects to a node: to the first of its addresses that accepts.
pub(super) async fn reach(shared: &Shared, one: &One, node: usize) -> io::Result<Stream> {
    let net = Arc::clone(&shared.world.net);
    let found;
    let seat = one.seat(node);
    let addresses: &[SocketAddr] = match seat.as_ref().map(|seat| &seat.at) {
        Some(Place::Address(address)) => std::slice::from_ref(address),
        Some(Place::Name { host, port }) => {
            found = net.resolve(host, *port).await?;
            &found
        }
        Some(Place::Socket(path)) => return net.connect_unix(path).await,
        None => &[],
    };
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for &address in addresses {
        match net.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
