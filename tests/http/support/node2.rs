//! Nodes that speak HTTP/2: [`Node2`] hands every request to the test, head, body and answer as streams; [`RawNode`] is played frame by
//! frame.

use super::within;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// What a connection is told to do.
#[derive(Copy, Clone, Debug)]
pub enum Order {
    /// GOAWAY; what is under way goes on.
    Leave,
    /// The socket is closed.
    Close,
}

/// A node.
pub struct Node2 {
    pub address: SocketAddr,
    exchanges: UnboundedReceiver<Exchange2>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// A request, and how to answer it.
pub struct Exchange2 {
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
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let (tell, tls) = (tell.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(io, streams, connection, tell).await,
                        Some(tls) => {
                            if let Ok(io) = tls.accept(io).await {
                                serve(io, streams, connection, tell).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            exchanges,
            accepted,
            accepting,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
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

async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin,
    streams: u32,
    connection: usize,
    tell: UnboundedSender<Exchange2>,
) {
    let mut builder = h2::server::Builder::new();
    let Ok(mut served) = builder.max_concurrent_streams(streams).handshake(io).await else {
        return;
    };
    let (orders, mut ordered) = unbounded_channel();
    loop {
        tokio::select! {
            asked = served.accept() => match asked {
                Some(Ok((request, reply))) => {
                    let orders = orders.clone();
                    let _ = tell.send(Exchange2 { connection, orders, request, reply });
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

const PREFACE: usize = 24;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

/// One connection, by hand.
pub struct RawNode {
    pub io: TcpStream,
}

/// A frame.
#[derive(Debug)]
pub struct Frame2 {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl RawNode {
    /// The next connection, its preface read and settings sent.
    pub async fn accept(listener: &TcpListener) -> Self {
        let (mut io, _) = within("a connection", listener.accept()).await.unwrap();
        let mut preface = [0; PREFACE];
        within("a preface", io.read_exact(&mut preface)).await.unwrap();
        let mut node = Self { io };
        node.send(SETTINGS, 0, 0, &[]).await;
        node
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        self.io.write_all(&bytes).await.unwrap();
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Frame2 {
        within("a frame", async {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.io.read_exact(&mut payload).await.unwrap();
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Frame2 {
                kind: head[3],
                flags: head[4],
                stream,
                payload,
            }
        })
        .await
    }

    /// The next frame of this kind.
    pub async fn until(&mut self, kind: u8) -> Frame2 {
        loop {
            let frame = self.frame().await;
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// `:status 200` and nothing else, the end of the stream (RFC 7541 appendix A).
    pub async fn ok(&mut self, stream: u32) {
        self.send(HEADERS, 5, stream, &[0x88]).await;
    }

    pub async fn goaway(&mut self, last: u32) {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }
}
