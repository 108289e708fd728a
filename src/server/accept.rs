//! Listening sockets: one per listener and serving thread on the same port (SO_REUSEPORT), so that the kernel deals connections out. A
//! unix socket is one for all threads: the kernel wakes those that are idle, and the first takes the connection. Who accepted it hands
//! it on where another core has fewer (`deal`). The cap on connections is the listener's, over all threads.

use super::connection::{self, Shared};
use super::deal::{Cores, Deal, Handed, Hands, Seat};
use super::drain::Phase;
use super::opening;
use super::streams::Upload;
use super::tally::Tally;
use super::tls::Terms;
use crate::config::runtime::{Bind, Listener};
use crate::proxy::Interim;
use crate::world::{Address, BindOptions, Listener as Socket, Net, SharedListener, Stream};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tower::Service;

/// How long accepting pauses when the process or the machine has run out of something (file descriptors, memory): doubled from the first to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Linux's EAFNOSUPPORT, which std names nowhere: the kernel was built or booted without IPv6.
const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;

/// A listener of the configuration with its real address, shared by the threads that accept on it.
pub struct Door {
    listener: Arc<Listener>,
    address: Address,
    /// None: no TLS. Exchanged by a reload.
    terms: ArcSwapOption<Terms>,
    open: AtomicUsize,
    refused: AtomicU64,
    tally: Tally,
    held: Held,
    cores: Arc<Cores>,
    hands: Hands<Place>,
}

/// What keeps another process out.
enum Held {
    /// Nobody else shares the port; nothing for port 0, which the kernel gives to nobody else.
    Port { _claim: Option<Box<dyn Send + Sync>> },
    /// The unix socket with its file, until it is closed.
    File(Mutex<Option<Box<dyn SharedListener>>>),
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Door({} on {})", self.listener.name, self.address)
    }
}

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener {name} on {address}: {source}")]
pub struct BindError {
    /// The listener's name.
    pub name: String,
    /// The address that was asked for.
    pub address: Address,
    /// What the operating system said.
    pub source: io::Error,
}

impl Door {
    /// Claims the listener's address and binds the first socket, which settles the port when it was 0. Call it on a runtime that will accept.
    ///
    /// # Errors
    /// When the address is in use, by this or another process, or cannot be bound.
    pub fn open(
        net: &dyn Net,
        listener: Arc<Listener>,
        cores: &Arc<Cores>,
    ) -> Result<(Arc<Self>, Box<dyn Socket>), BindError> {
        let opened = match &listener.bind {
            Bind::Address(address) => claim_and_listen(net, *address),
            Bind::AllInterfaces(port) => {
                let wanted = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port);
                claim_and_listen(net, wanted).or_else(|(wanted, error)| match lacks_ipv6(&error) {
                    true => claim_and_listen(net, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.port())),
                    false => Err((wanted, error)),
                })
            }
            Bind::Socket(path) => return Self::open_unix(net, Arc::clone(&listener), cores, path),
        };
        let (claim, socket, address) = opened.map_err(|(wanted, source)| BindError {
            name: listener.name.clone(),
            address: Address::Tcp(wanted),
            source,
        })?;
        let door = Self::new(listener, cores, Address::Tcp(address), Held::Port { _claim: claim });
        Ok((door, socket))
    }

    fn open_unix(
        net: &dyn Net,
        listener: Arc<Listener>,
        cores: &Arc<Cores>,
        path: &Path,
    ) -> Result<(Arc<Self>, Box<dyn Socket>), BindError> {
        let address = Address::Unix(path.to_owned());
        let opened = net.listen_unix(path).and_then(|file| Ok((file.share()?, file)));
        match opened {
            Ok((socket, file)) => {
                let door = Self::new(listener, cores, address, Held::File(Mutex::new(Some(file))));
                Ok((door, socket))
            }
            Err(source) => Err(BindError {
                name: listener.name.clone(),
                address,
                source,
            }),
        }
    }

    fn new(listener: Arc<Listener>, cores: &Arc<Cores>, address: Address, held: Held) -> Arc<Self> {
        Arc::new(Self {
            listener,
            address,
            terms: ArcSwapOption::empty(),
            open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            tally: Tally::default(),
            held,
            hands: Hands::of(cores),
            cores: Arc::clone(cores),
        })
    }

    /// Binds one more socket to the same port, or takes one more hold of the unix socket, for one more thread.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn share(&self, net: &dyn Net) -> Result<Box<dyn Socket>, BindError> {
        let shared = match (&self.address, &self.held) {
            (Address::Tcp(address), _) => net.listen(*address, OPTIONS),
            (Address::Unix(_), Held::File(file)) => match &*file.lock() {
                Some(file) => file.share(),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
            (Address::Unix(_), Held::Port { .. }) => Err(io::ErrorKind::NotConnected.into()),
        };
        shared.map_err(|source| BindError {
            name: self.listener.name.clone(),
            address: self.address.clone(),
            source,
        })
    }

    /// Nobody new finds the door: a unix socket's file goes at once, so that another process can put its own there.
    fn shut(&self) {
        match &self.held {
            Held::File(file) => drop(file.lock().take()),
            Held::Port { .. } => {} // as long as connections live, the port is ours
        }
    }

    /// Whether connections are TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.listener.tls.is_some()
    }

    /// What new connections are offered from now on; those under way keep what they began with.
    pub fn offer(&self, terms: Option<Arc<Terms>>) {
        self.terms.store(terms);
    }

    /// What new connections are offered.
    #[must_use]
    pub fn terms(&self) -> Option<Arc<Terms>> {
        self.terms.load_full()
    }

    /// The listener's configuration.
    #[must_use]
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// The address, with its real port.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The process's connections, by the core that serves them.
    #[must_use]
    pub fn cores(&self) -> &Cores {
        &self.cores
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections closed at once since the start.
    #[must_use]
    pub fn refused_connections(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What was counted of its connections.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A place under the cap for a connection that core `at` has accepted, and the core that is to serve it.
    fn admit(self: &Arc<Self>, at: usize, peer: Option<SocketAddr>, leaving: bool) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) < self.listener.max_connections {
            let deal = match &self.address {
                _ if leaving => Deal::Keep,
                Address::Tcp(_) => Deal::Roughly,
                Address::Unix(_) => Deal::Evenly,
            };
            let (door, seat) = (Arc::clone(self), self.cores.seat(at, deal));
            return Some(Place { door, seat });
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(listener = %self.listener.name, ?peer, "refused: max_connections are open");
        None
    }
}

/// What a connection holds of its listener, given back when dropped.
struct Place {
    door: Arc<Door>,
    seat: Seat,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.open.fetch_sub(1, Ordering::Relaxed);
    }
}

const OPTIONS: BindOptions = BindOptions {
    reuse_port: true,
    v6_only: false,
};

type Opened = (Option<Box<dyn Send + Sync>>, Box<dyn Socket>, SocketAddr);

/// A failure says which address could not be had.
fn claim_and_listen(net: &dyn Net, wanted: SocketAddr) -> Result<Opened, (SocketAddr, io::Error)> {
    let opened = || {
        // The kernel gives port 0 to nobody else.
        let claim = (wanted.port() != 0).then(|| net.claim(wanted)).transpose()?;
        let socket = net.listen(wanted, OPTIONS)?;
        let address = socket.local_addr()?;
        Ok((claim, socket, address))
    };
    opened().map_err(|error| (wanted, error))
}

fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED)
}

/// Accepts on one socket as core number `core` until the drain closes it, and serves each connection in a task of its own on the
/// current runtime, or has another core do so. `service` makes the service of a connection from its peer's address and the place where
/// it leaves interim heads.
pub async fn accept<M, S, B>(door: Arc<Door>, core: usize, mut socket: Box<dyn Socket>, shared: Shared, service: M)
where
    M: Fn(Option<SocketAddr>, Arc<Interim>) -> S,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    <S as Service<Request<Incoming>>>::Future: Send + 'static,
    <S as Service<Request<Upload>>>::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let http1 = connection::protocol(&door.listener);
    let mut inbox = door.hands.take(core);
    let serve = |stream: Stream, peer: Option<SocketAddr>, place: Place| {
        // A dual-stack socket writes IPv4 peers as ::ffff:a.b.c.d; networks in the configuration are written as people do.
        let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        let interim = Arc::new(Interim::default());
        let service = service(peer, Arc::clone(&interim));
        let (terms, http1, shared) = (door.terms.load_full(), http1.clone(), shared.clone());
        shared.drain.clone().connections().spawn(async move {
            opening::serve(stream, terms, &http1, &place.door, &shared, interim, service).await;
        });
    };
    let serve_handed = |handed: Handed<Place>| match (handed.stream)() {
        Ok(stream) => serve(stream, handed.peer, handed.place),
        Err(error) => tracing::warn!(listener = %door.listener.name, %error, "cannot take over a connection"),
    };
    // Leaving waits for this loop too: the last connections are spawned after the phase has changed.
    let _accepting = shared.drain.connections().token();
    let mut backoff = BACKOFF_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.drain.reached(Phase::Closing) => break,
            Some(handed) = inbox.recv() => {
                serve_handed(handed);
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = BACKOFF_MIN;
                let Some(place) = door.admit(core, peer, false) else {
                    continue;
                };
                let to = place.seat.core();
                if to == core {
                    serve(stream, peer, place);
                    continue;
                }
                match socket.release(stream) {
                    // Given back by a core that is leaving.
                    Ok(stream) => drop(
                        door.hands
                            .over(to, Handed { stream, peer, place })
                            .map_err(serve_handed),
                    ),
                    Err(error) => {
                        tracing::warn!(listener = %door.listener.name, %error, "cannot hand over a connection")
                    }
                }
            }
            // The peer was gone before it was accepted: nothing of ours.
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::warn!(listener = %door.listener.name, %error, ?backoff, "cannot accept");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
    door.shut();
    // What the kernel has already accepted for us would be reset by closing the socket.
    tokio::task::yield_now().await;
    while let Some(Ok((stream, peer))) = accept_now(&mut *socket).await {
        if let Some(place) = door.admit(core, peer, true) {
            serve(stream, peer, place);
        }
    }
    // So is what the others have handed over; from here on they keep what they have.
    inbox.close();
    while let Some(handed) = inbox.recv().await {
        serve_handed(handed);
    }
}

/// A connection that is waiting already.
async fn accept_now(socket: &mut dyn Socket) -> Option<io::Result<(Stream, Option<SocketAddr>)>> {
    let mut accept = pin!(socket.accept());
    poll_fn(|cx| match accept.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
