//! The way to a node: a stream to one of its addresses, and a link over it. How long that may take is the caller's.

use super::channel::Channel;
use super::link::Link;
use super::refusal::Nameless;
use super::seat::Place;
use super::streams::{self, Lent, Streams};
use super::tls::Spoken;
use super::{One, Shared};
use crate::world::{Net, Stream};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection to a node, ready for requests, or a stream of one of `streams`; none: all of those are in use.
pub(super) async fn open(
    shared: &Shared,
    one: &One,
    node: usize,
    streams: Option<&Streams>,
) -> io::Result<Option<Channel>> {
    match streams {
        None => Ok(Some(Channel::Link(link(shared, one, node).await?))),
        // Boxed: it is large, and seldom.
        Some(streams) => match Box::pin(streams.open(shared, one, node)).await? {
            Lent::Stream(stream) => Ok(Some(Channel::Stream(stream))),
            Lent::Full => Ok(None),
        },
    }
}

/// A connection of its own, for probes.
pub(super) async fn alone(shared: &Shared, one: &One, node: usize) -> io::Result<Channel> {
    match one.config.http2 {
        None => link(shared, one, node).await.map(Channel::Link),
        Some(limits) => Box::pin(streams::alone(shared, one, node, limits))
            .await
            .map(Channel::Stream),
    }
}

async fn link(shared: &Shared, one: &One, node: usize) -> io::Result<Box<Link>> {
    let stream = reach(shared, one, node, Spoken::Http1).await?;
    Link::open(stream).await.map_err(io::Error::other)
}

/// Connects to a node, to the first of its addresses that accepts, and has it prove its name where the upstream speaks TLS.
pub(super) async fn reach(shared: &Shared, one: &One, node: usize, spoken: Spoken) -> io::Result<Stream> {
    let net = Arc::clone(&shared.world.net);
    let Some(seat) = one.seat(node) else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let stream = match &seat.at {
        Place::Address(address) => net.connect(*address).await?,
        Place::Name { host, port } => {
            let found = net.resolve(host, *port).await.map_err(Nameless::because)?;
            first(&*net, &found).await?
        }
        Place::Socket(path) => return net.connect_unix(path).await,
    };
    match &one.config.tls {
        Some(tls) => {
            let host = seat.member.host.as_str();
            one.ways.secure(tls, &*net, (host, spoken), stream).await
        }
        None => Ok(stream),
    }
}

async fn first(net: &dyn Net, addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut last = Nameless::because(io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "the name has no address",
    ));
    for &address in addresses {
        match net.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
