//! An origin that does what the test tells it, step by step, and can do everything a real one should not.

use super::wire::{Body, Head, Headers, Wire, WireError, framing, reset};
use super::within;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The path of health checks: answered without the script, 200 while [`Origin::set_healthy`] says so, else 503.
pub const HEALTH: &str = "/healthz";
const MARKER: &str = "/harness-marker";

struct Shared {
    healthy: AtomicBool,
    probes: AtomicUsize,
    accepted: AtomicUsize,
    open: Mutex<Vec<Weak<TcpStream>>>,
    /// What the proxy sent that nobody may send; fails the test at its end.
    blame: Mutex<Vec<String>>,
    exchanges: mpsc::UnboundedSender<Exchange>,
}

/// A listening origin. Its requests come out of [`Origin::next`].
pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    exchanges: mpsc::UnboundedReceiver<Exchange>,
    accepting: Option<JoinHandle<()>>,
    /// Its port while it is down: nobody else on this machine may take it.
    kept: Option<TcpSocket>,
}

impl Origin {
    pub async fn start() -> Self {
        let (sender, exchanges) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            healthy: AtomicBool::new(true),
            probes: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            open: Mutex::new(Vec::new()),
            blame: Mutex::new(Vec::new()),
            exchanges: sender,
        });
        let listener = listen("127.0.0.1:0".parse().unwrap());
        let address = listener.local_addr().unwrap();
        let accepting = Some(tokio::spawn(accept(listener, shared.clone())));
        Self {
            address,
            shared,
            exchanges,
            accepting,
            kept: None,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request, its head read and nothing else. Health checks are not among them.
    pub async fn next(&mut self) -> Exchange {
        within("a request at the origin", self.exchanges.recv())
            .await
            .expect("the origin runs")
    }

    /// The next request, however long it takes: for a node that runs by itself.
    pub async fn next_or_never(&mut self) -> Exchange {
        self.exchanges.recv().await.expect("the origin runs")
    }

    /// Fails the test when a request waits that the script did not ask for. Everything that reached this node's sockets before the
    /// call is seen: an own request travels behind it.
    pub async fn expect_idle(&mut self) {
        let mut own = super::client::Client::connect(self.address).await;
        assert_eq!(own.get(MARKER).await.status, 200);
        if let Ok(exchange) = self.exchanges.try_recv() {
            panic!(
                "an unexpected {} {} reached the origin",
                exchange.method, exchange.target
            );
        }
    }

    /// What health checks are told from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Health checks so far.
    pub fn probes(&self) -> usize {
        self.shared.probes.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// The machine dies: nobody listens any more, every connection is reset.
    pub async fn down(&mut self) {
        self.deaf().await;
        self.cut_connections();
    }

    /// Nobody listens any more; what is open stays.
    pub async fn deaf(&mut self) {
        let accepting = self.accepting.take().expect("the node is up");
        accepting.abort();
        let _ = accepting.await;
        self.kept = Some(bound(self.address));
    }

    /// Resets every open connection; the listener stays.
    pub fn cut_connections(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            if let Some(stream) = stream.upgrade() {
                reset(&stream);
            }
        }
    }

    /// The machine is back, on the same port.
    pub async fn up(&mut self) {
        assert!(self.accepting.is_none(), "the node is up already");
        let listener = self.kept.take().expect("its port was kept").listen(1024).unwrap();
        self.accepting = Some(tokio::spawn(accept(listener, self.shared.clone())));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        let blame = self.shared.blame.lock().unwrap();
        if !std::thread::panicking() {
            assert!(blame.is_empty(), "the origin was sent: {blame:?}");
        }
    }
}

/// A socket that holds the port and refuses connections until it listens.
pub fn bound(on: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
        .bind(on)
        .unwrap_or_else(|e| panic!("the origin cannot bind {on}: {e}"));
    socket
}

fn listen(on: SocketAddr) -> TcpListener {
    bound(on).listen(1024).unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        {
            let mut open = shared.open.lock().unwrap();
            open.retain(|s| s.strong_count() > 0);
            open.push(Arc::downgrade(&stream));
        }
        tokio::spawn(connection(Wire::new(stream), shared.clone()));
    }
}

/// One connection: its requests go to the script one by one; the next is read when the script has given the connection back.
async fn connection(mut wire: Wire, shared: Arc<Shared>) {
    loop {
        let (head, body) = match wire.head().await.and_then(|head| head.map(judged).transpose()) {
            Ok(Some(judged)) => judged,
            Ok(None) => return,
            Err(WireError(what)) => {
                if !what.starts_with("socket:") {
                    shared.blame.lock().unwrap().push(what);
                }
                return;
            }
        };
        let (method, target) = (head.start[0].clone(), head.start[1].clone());
        if target == HEALTH || target == MARKER {
            let healthy = target == MARKER || shared.healthy.load(Ordering::SeqCst);
            if target == HEALTH {
                shared.probes.fetch_add(1, Ordering::SeqCst);
            }
            let status = if healthy { "200 OK" } else { "503 Ill" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            if wire.write(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let (back, given_back) = oneshot::channel();
        let exchange = Exchange {
            method,
            target,
            headers: head.headers,
            wire,
            body,
            back,
        };
        if shared.exchanges.send(exchange).is_err() {
            return;
        }
        match given_back.await {
            Ok(again) => wire = again,
            Err(_) => return,
        }
    }
}

struct RequestHead {
    start: [String; 2],
    headers: Headers,
}

/// The request line in its words and the framing of the body, or why it is no request.
fn judged(head: Head) -> Result<(RequestHead, Body), WireError> {
    let words: Vec<&str> = head.start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(WireError(format!("a request line that is none: {:?}", head.start)));
    };
    let hosts = head.headers.all("host").len();
    if hosts != 1 {
        return Err(WireError(format!("{hosts} Host fields with {:?}", head.start)));
    }
    let body = framing(&head.headers, Body::Done)?;
    let start = [method.to_owned(), target.to_owned()];
    Ok((
        RequestHead {
            start,
            headers: head.headers,
        },
        body,
    ))
}

/// A request and the means to answer it. Dropping it closes the connection without a further byte.
pub struct Exchange {
    pub method: String,
    pub target: String,
    pub headers: Headers,
    wire: Wire,
    body: Body,
    back: oneshot::Sender<Wire>,
}

impl Exchange {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The rest of the request's body.
    pub async fn body(&mut self) -> Vec<u8> {
        self.try_body()
            .await
            .unwrap_or_else(|e| panic!("the request's body: {e}"))
    }

    pub async fn try_body(&mut self) -> Result<Vec<u8>, WireError> {
        within("the request's body", self.wire.body(&mut self.body)).await
    }

    /// The next piece of the request's body; none at its end.
    pub async fn body_part(&mut self) -> Option<Bytes> {
        within("a piece of the request's body", self.wire.body_part(&mut self.body))
            .await
            .unwrap_or_else(|e| panic!("the request's body: {e}"))
    }

    /// Sends exactly these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the proxy takes our bytes");
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        within("the proxy to take our bytes", self.wire.write(bytes.as_ref())).await
    }

    /// Sends what fits right now and says how much that was.
    pub fn send_now(&mut self, bytes: &[u8]) -> usize {
        self.wire.write_now(bytes).expect("the connection lives")
    }

    /// A head with exactly these fields.
    pub async fn head(&mut self, status: u16, headers: &[(&str, &str)]) {
        let text = head(status, headers);
        self.send(text).await;
    }

    /// One chunk of a chunked body.
    pub async fn chunk(&mut self, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
        self.send(bytes).await;
    }

    /// The end of a chunked body; the connection goes on.
    pub async fn last_chunk(mut self) {
        self.send("0\r\n\r\n").await;
        self.keep();
    }

    /// The answer is complete and the connection can carry the next request.
    pub fn keep(self) {
        let _ = self.back.send(self.wire);
    }

    /// An ordinary answer: takes the request's body, answers with a Content-Length, keeps the connection.
    pub async fn respond(self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        self.try_respond(status, headers, body)
            .await
            .expect("the proxy takes our answer");
    }

    pub async fn try_respond(
        mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Result<(), WireError> {
        self.try_body().await?;
        let body = body.as_ref();
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        let bodiless = status == 304 || status == 204;
        if !bodiless && !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-length")) {
            all.push(("Content-Length", &length));
        }
        let mut bytes = head(status, &all).into_bytes();
        if !bodiless && self.method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.try_send(bytes).await?;
        self.keep();
        Ok(())
    }

    /// Takes the whole request, as an application that applies it would, and closes without a byte.
    pub async fn apply_and_drop(mut self) {
        self.body().await;
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.wire.reset();
    }

    /// Closes the connection.
    pub fn close(self) {}

    /// Whether the proxy still holds this connection and has sent nothing more on it.
    pub fn is_open(&self) -> bool {
        self.wire.is_open()
    }

    /// Waits until the proxy has closed this connection.
    pub async fn gone(&mut self) {
        within("the proxy to close its connection", async {
            while !matches!(self.wire.more().await, Ok(0) | Err(_)) {}
        })
        .await;
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Unheard Of")
}
