//! Nodes that speak HTTP/2: every request is handed to the test, head, body and answer as streams. One that is played frame by frame is a
//! [`super::frames::Frames`].

use super::origin::{HEALTH, bound};
use super::proxy::Proxy;
use super::within;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// An upstream `o` of these nodes, named `a`, `b` and so on, to which HTTP/2 is spoken by one core, and a route for everything.
pub fn config(urls: &[&str], upstream: &str, route: &str) -> String {
    let nodes = urls.iter().zip('a'..);
    let nodes: Vec<_> = nodes
        .map(|(url, name)| format!("{{ url = \"{url}\", name = \"{name}\" }}"))
        .collect();
    format!(
        "[server]\nthreads = 1\n[upstreams.o]\nnodes = [{}]\nhttp = \"2\"\nconnect_timeout = \"10s\"\n{upstream}\n\
         [[routes]]\nname = \"r\"\nupstream = \"o\"\n{route}\n",
        nodes.join(", ")
    )
}

/// What a connection is told to do.
#[derive(Copy, Clone, Debug)]
pub enum Order {
    /// GOAWAY; what is under way goes on.
    Leave,
    /// The socket is closed.
    Close,
}

/// A node. It answers health checks by itself.
pub struct Node2 {
    pub address: SocketAddr,
    exchanges: UnboundedReceiver<Exchange2>,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    /// Its port while it is deaf.
    kept: Option<TcpSocket>,
}

struct Shared {
    address: SocketAddr,
    streams: u32,
    tls: Option<tokio_rustls::TlsAcceptor>,
    tell: UnboundedSender<Exchange2>,
    accepted: AtomicUsize,
    ended: AtomicUsize,
    healthy: AtomicBool,
    cut: Notify,
}

/// A request, and how to answer it.
pub struct Exchange2 {
    /// Who was asked.
    pub node: SocketAddr,
    /// Which connection it came on.
    pub connection: usize,
    pub orders: UnboundedSender<Order>,
    pub request: Request<RecvStream>,
    pub reply: SendResponse<Bytes>,
}

impl Node2 {
    /// With up to `streams` at once on a connection.
    pub async fn start(streams: u32) -> Self {
        Self::behind(streams, None).await
    }

    /// The same over TLS.
    pub async fn behind(streams: u32, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, exchanges) = unbounded_channel();
        let shared = Arc::new(Shared {
            address,
            streams,
            tls,
            tell,
            accepted: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            cut: Notify::new(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            exchanges,
            shared,
            accepting,
            kept: None,
        }
    }

    /// A proxy with one core before it, with these keys.
    pub async fn proxied(&self, upstream: &str, route: &str) -> Proxy {
        Proxy::start(&config(&[&self.url()], upstream, route), &[]).await
    }

    /// Closes every open connection; the listener stays.
    pub fn cut_connections(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Nobody listens any more; what is open stays.
    pub async fn deaf(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.kept = Some(bound(self.address));
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Of these, those that are over.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// What health checks are told from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::SeqCst);
    }

    pub async fn next(&mut self) -> Exchange2 {
        within("a request at the node", self.exchanges.recv()).await.unwrap()
    }

    /// Whether a request is there that nobody has looked at.
    pub fn is_asked(&mut self) -> bool {
        !self.exchanges.is_empty()
    }
}

impl Drop for Node2 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((io, _)) = listener.accept().await {
        let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let served = async {
                match &shared.tls {
                    None => serve(io, connection, &shared).await,
                    Some(tls) => {
                        if let Ok(io) = tls.accept(io).await {
                            serve(io, connection, &shared).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = shared.cut.notified() => {}
                () = served => {}
            }
            shared.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, connection: usize, shared: &Shared) {
    let mut builder = h2::server::Builder::new();
    let Ok(mut served) = builder.max_concurrent_streams(shared.streams).handshake(io).await else {
        return;
    };
    let (orders, mut ordered) = unbounded_channel();
    loop {
        tokio::select! {
            asked = served.accept() => match asked {
                Some(Ok((request, mut reply))) if request.uri().path() == HEALTH => {
                    let mut answer = Response::new(());
                    if !shared.healthy.load(Ordering::SeqCst) {
                        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    }
                    let _ = reply.send_response(answer, true);
                }
                Some(Ok((request, reply))) => {
                    let orders = orders.clone();
                    let node = shared.address;
                    let _ = shared.tell.send(Exchange2 { node, connection, orders, request, reply });
                }
                Some(Err(_)) | None => return,
            },
            Some(order) = ordered.recv() => match order {
                Order::Leave => served.graceful_shutdown(),
                Order::Close => return,
            },
        }
    }
}

impl Exchange2 {
    pub fn target(&self) -> &str {
        self.request.uri().path_and_query().unwrap().as_str()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// The next piece of the request's body; none at its end.
    pub async fn piece(&mut self) -> Option<Bytes> {
        let body = self.request.body_mut();
        let piece = within("a piece of the upload", body.data()).await?;
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        Some(piece)
    }

    /// The rest of it, and what follows it.
    pub async fn rest(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await {
            all.extend_from_slice(&piece);
        }
        let trailers = self.request.body_mut().trailers().await.unwrap();
        (all, trailers)
    }

    /// Waits until the proxy has reset the stream, and tells with what.
    pub async fn reset(&mut self) -> h2::Reason {
        let reset = std::future::poll_fn(|cx| self.reply.poll_reset(cx));
        within("a reset", reset).await.unwrap()
    }

    /// Answers at once, with a body.
    pub fn respond(mut self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut send = self.begin(status, headers, body.is_empty());
        if !body.is_empty() {
            send.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        }
    }

    /// Sends a head; what follows is the test's.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)], end: bool) -> h2::SendStream<Bytes> {
        let mut head = Response::builder().status(status);
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        self.reply.send_response(head.body(()).unwrap(), end).unwrap()
    }
}

/// Fields of trailers.
pub fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static(value),
        )
    };
    fields.iter().map(field).collect()
}
