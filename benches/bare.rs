//! The floor everything is measured against: hyper alone, on one thread (or as many as asked for), doing nothing but HTTP.
//!
//! `bare serve` answers every request with the same ready response; it is the peer of a cache hit, and the origin of every other peer.
//! `bare proxy` hands every request to one node and its answer back, without looking at either; it is the peer of a pass.
//! `bare load` asks somebody at a fixed rate and tells how long that took.
//! `benches/peers/run` starts them all. It is no part of the product, knows no limits and no timeouts, and listens on loopback only.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench stands outside the world: it opens its own sockets"
)]

#[path = "bare/load.rs"]
mod load;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio_rustls::TlsAcceptor;

/// As in the product: what is compared is the proxy, not its allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: bare serve [--port P] [--size BYTES] [--headers N] [--threads N] [--certificate FILE --key FILE]
       bare proxy [--port P] --upstream ADDRESS:PORT
       bare load --to ADDRESS:PORT --path PATH --rate N [--seconds S] [--connections C]

serve and proxy listen on 127.0.0.1 (port 0, the default: any) and print `ready ADDRESS:PORT`; `serve` adds `h2c ADDRESS:PORT`, where it speaks HTTP/2,
and with a certificate `tls ADDRESS:PORT`.
serve: every GET is answered with BYTES bytes and N header fields (at least 7, the Date included);
       a matching If-None-Match gets 304; GET /count tells how many requests were answered before it on its thread.
       HTTP/1.1 without TLS is dealt in turn over N threads, each with a runtime of its own.
proxy: every request goes to the upstream over one connection per client connection.
load:  N requests a second, whatever becomes of them; times in microseconds from when each was due.";

/// Where `serve` tells how many requests came.
const COUNT_PATH: &str = "/count";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match Command::parse(&arguments) {
        Ok(command) => run(command),
        Err(complaint) => Err(format!("{complaint}\n\n{USAGE}").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What to be.
enum Command {
    Serve {
        port: u16,
        size: usize,
        headers: usize,
        threads: usize,
        /// PEM files: certificate and key.
        tls: Option<(String, String)>,
    },
    Proxy {
        port: u16,
        upstream: SocketAddr,
    },
    Load(load::Load),
    /// `cargo bench` calls every bench; this one has nothing to say to it.
    Nothing,
}

impl Command {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let Some((verb, options)) = arguments.split_first() else {
            return Err("serve, proxy or load?".to_owned());
        };
        let (mut port, mut size, mut headers, mut threads, mut upstream) = (0, 1024, 8, 1, None);
        let (mut certificate, mut key) = (None, None);
        let (mut to, mut path, mut rate, mut seconds, mut connections) = (None, None, None, 3.0, 32);
        if verb == "--bench" {
            return Ok(Self::Nothing);
        }
        for pair in options.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} needs a value", pair.concat()));
            };
            match name.as_str() {
                "--port" => port = number(name, value)?,
                "--size" => size = number(name, value)?,
                "--headers" => headers = number(name, value)?,
                "--threads" => threads = number(name, value)?,
                "--certificate" => certificate = Some(value.clone()),
                "--key" => key = Some(value.clone()),
                "--upstream" => upstream = Some(number(name, value)?),
                "--to" => to = Some(number(name, value)?),
                "--path" => path = Some(value.clone()),
                "--rate" => rate = Some(number(name, value)?),
                "--seconds" => seconds = number(name, value)?,
                "--connections" => connections = number(name, value)?,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        match verb.as_str() {
            "serve" => Ok(Self::Serve {
                port,
                size,
                headers,
                threads,
                tls: certificate.zip(key),
            }),
            "proxy" => Ok(Self::Proxy {
                port,
                upstream: upstream.ok_or("proxy needs --upstream")?,
            }),
            "load" => Ok(Self::Load(load::Load {
                to: to.ok_or("load needs --to")?,
                path: path.ok_or("load needs --path")?,
                rate: rate.ok_or("load needs --rate")?,
                seconds,
                connections,
            })),
            _ => Err(format!("unknown command {verb}")),
        }
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} does not fit"))
}

fn run(command: Command) -> Result<(), BoxError> {
    // No timers: the floor waits for nothing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve {
                port,
                size,
                headers,
                threads,
                tls,
            } => {
                let others: Result<Vec<_>, _> = (1..threads)
                    .map(|_| another_thread(Ready::new(size, headers)?))
                    .collect();
                serve(port, Arc::new(Ready::new(size, headers)?), others?, tls).await
            }
            Command::Proxy { port, upstream } => {
                let listener = listen(port).await?;
                println!("ready {}", listener.local_addr()?);
                proxy(listener, upstream).await
            }
            Command::Load(load) => {
                let times = load.run()?;
                let [p50, p90, p99, p999, most] = [0.5, 0.9, 0.99, 0.999, 1.0].map(|q| load::quantile(&times, q));
                println!(
                    "requests {} p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} p99.9 {p999:.1} max {most:.1}",
                    times.len()
                );
                Ok(())
            }
            Command::Nothing => Ok(()),
        }
    })
}

async fn listen(port: u16) -> Result<TcpListener, BoxError> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?)
}

/// The one answer, made once.
struct Ready {
    headers: HeaderMap,
    body: Bytes,
    etag: HeaderValue,
    answered: AtomicU64,
}

impl Ready {
    fn new(size: usize, headers: usize) -> Result<Self, BoxError> {
        let etag = HeaderValue::try_from(format!("\"{size}-bytes\""))?;
        let mut fields = HeaderMap::with_capacity(headers);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(size));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
        fields.insert(ETAG, etag.clone());
        fields.insert(LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
        let language = HeaderName::from_static("content-language");
        fields.insert(language, HeaderValue::from_static("en"));
        // hyper adds Date.
        for extra in fields.len() + 1..headers {
            let name = HeaderName::try_from(format!("x-field-{extra}"))?;
            fields.insert(name, HeaderValue::from_static("a value of ordinary length"));
        }
        Ok(Self {
            headers: fields,
            body: Bytes::from(vec![b'x'; size]),
            etag,
            answered: AtomicU64::new(0),
        })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == COUNT_PATH {
            let count = self.answered.load(Ordering::Relaxed);
            return Response::new(Full::from(count.to_string()));
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        if request.headers().get(IF_NONE_MATCH) == Some(&self.etag) {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            for name in [CACHE_CONTROL, ETAG, LAST_MODIFIED] {
                if let Some(value) = self.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            return response;
        }
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.headers_mut() = self.headers.clone();
        response
    }
}

/// Serves what it is dealt on a thread with a runtime of its own.
fn another_thread(ready: Ready) -> Result<UnboundedSender<std::net::TcpStream>, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (dealt, mut connections) = tokio::sync::mpsc::unbounded_channel();
    let ready = Arc::new(ready);
    std::thread::spawn(move || {
        runtime.block_on(async {
            while let Some(stream) = connections.recv().await {
                match TcpStream::from_std(stream) {
                    Ok(stream) => drop(tokio::spawn(serve_http1(stream, Arc::clone(&ready)))),
                    Err(error) => eprintln!("bare: {error}"),
                }
            }
        });
    });
    Ok(dealt)
}

async fn serve(
    port: u16,
    ready: Arc<Ready>,
    others: Vec<UnboundedSender<std::net::TcpStream>>,
    tls: Option<(String, String)>,
) -> Result<(), BoxError> {
    let (plain, h2c) = (listen(port).await?, listen(0).await?);
    let mut line = format!("ready {} h2c {}", plain.local_addr()?, h2c.local_addr()?);
    tokio::spawn(serve_http2(h2c, Arc::clone(&ready)));
    if let Some((certificate, key)) = tls {
        let listener = listen(0).await?;
        line += &format!(" tls {}", listener.local_addr()?);
        tokio::spawn(serve_tls(listener, Arc::clone(&ready), acceptor(&certificate, &key)?));
    }
    println!("{line}");
    for turn in 0_usize.. {
        let (stream, _) = plain.accept().await?;
        stream.set_nodelay(true)?;
        match others.get(turn % (others.len() + 1)) {
            Some(other) => other.send(stream.into_std()?)?,
            None => drop(tokio::spawn(serve_http1(stream, Arc::clone(&ready)))),
        }
    }
    Ok(())
}

async fn serve_http1(stream: impl AsyncRead + AsyncWrite + Unpin, ready: Arc<Ready>) {
    let service = service_fn(move |request| {
        let response = ready.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    // Clients end their connections as they like.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve_http2(listener: TcpListener, ready: Arc<Ready>) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let ready = Arc::clone(&ready);
        let service = service_fn(move |request| {
            let response = ready.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move {
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, BoxError> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve_tls(listener: TcpListener, ready: Arc<Ready>, acceptor: TlsAcceptor) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (ready, acceptor) = (Arc::clone(&ready), acceptor.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_http1(stream, ready).await;
            }
        });
    }
}

async fn proxy(listener: TcpListener, upstream: SocketAddr) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // One request at a time on a connection, so nobody ever waits for this lock.
            let node = Arc::new(Mutex::new(None));
            let service = service_fn(move |request| {
                let node = Arc::clone(&node);
                async move {
                    let answer = forward(&mut *node.lock().await, upstream, request).await;
                    Ok::<_, Infallible>(answer.map_or_else(|error| failed(&error), |r| r.map(Either::Left)))
                }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn forward(
    node: &mut Option<SendRequest<Incoming>>,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, BoxError> {
    let sender = match node.take() {
        Some(sender) if !sender.is_closed() => node.insert(sender),
        _ => node.insert(connect(upstream).await?),
    };
    sender.ready().await?;
    Ok(sender.send_request(request).await?)
}

async fn connect(upstream: SocketAddr) -> Result<SendRequest<Incoming>, BoxError> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Whoever waits for its answer learns of the error.
        let _ = connection.await;
    });
    Ok(sender)
}

fn failed(error: &BoxError) -> Response<Either<Incoming, Full<Bytes>>> {
    let mut response = Response::new(Either::Right(Full::from(error.to_string())));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
