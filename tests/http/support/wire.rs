//! HTTP/1.1 on a raw socket, read strictly: what both ends of a script share. Nothing is repaired; what is not exactly
//! HTTP/1.1 is an error with the bytes in it.

use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Field lines in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The one value of a field; fails the test when it is there twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {:?}", all.len(), self.0);
        all.first().copied()
    }

    /// Every value of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// A start line and its fields.
#[derive(Clone, Debug)]
pub struct Head {
    pub start: String,
    pub headers: Headers,
}

/// How a body ends, and how much of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes are left.
    Length(u64),
    /// Chunks are left.
    Chunked,
    /// Everything until the peer closes.
    UntilClose,
    /// Nothing is left.
    Done,
}

/// What was not as it should be.
#[derive(Debug)]
pub struct WireError(pub String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for WireError {
    fn from(e: io::Error) -> Self {
        Self(format!("socket: {e}"))
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, WireError> {
    Err(WireError(what.into()))
}

/// A socket and what was read from it but not yet used.
pub struct Wire {
    stream: Arc<TcpStream>,
    pub buffer: BytesMut,
}

impl Wire {
    pub fn new(stream: Arc<TcpStream>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Reads what there is; 0 at the end of the stream.
    pub async fn more(&mut self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Writes all of it, exactly.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes what fits without waiting; 0 when the peer's window and our buffer are full.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Whether the peer has neither closed nor sent anything. Asks the kernel: what the runtime remembers may be old.
    pub fn is_open(&self) -> bool {
        use rustix::net::RecvFlags;
        let peek = rustix::net::recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.buffer.is_empty() && matches!(peek, Err(rustix::io::Errno::AGAIN))
    }

    /// Says "no more from me" and goes on reading.
    pub fn close_write(&self) {
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
    }

    /// Sends a reset at once, whoever else holds the socket.
    pub fn reset(&self) {
        reset(&self.stream);
    }

    /// A head, or none when the peer closed before its first byte.
    pub async fn head(&mut self) -> Result<Option<Head>, WireError> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if self.more().await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return wrong(format!("closed inside a head: {:?}", self.buffer));
            }
        };
        let raw = self.buffer.split_to(end + 4);
        let Ok(text) = std::str::from_utf8(&raw[..end]) else {
            return wrong(format!("a head that is not UTF-8: {raw:?}"));
        };
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut headers = Headers::default();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                return wrong(format!("a field line without a colon: {line:?}"));
            };
            if name.is_empty() || name.contains([' ', '\t']) || line.contains(['\r', '\n']) {
                return wrong(format!("a malformed field line: {line:?}"));
            }
            headers
                .0
                .push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(Some(Head { start, headers }))
    }

    /// The next piece of a body, or none at its end.
    pub async fn body_part(&mut self, body: &mut Body) -> Result<Option<Bytes>, WireError> {
        match body {
            Body::Done => Ok(None),
            Body::Length(left) => {
                if self.buffer.is_empty() && self.more().await? == 0 {
                    return wrong(format!("closed with {left} bytes of the body missing"));
                }
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
                *left -= take as u64;
                if *left == 0 {
                    *body = Body::Done;
                }
                Ok(Some(self.buffer.split_to(take).freeze()))
            }
            Body::UntilClose => {
                if self.buffer.is_empty() && self.more().await? == 0 {
                    *body = Body::Done;
                    return Ok(None);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
            Body::Chunked => {
                let line = self.line().await?;
                let digits = line.split(';').next().unwrap_or_default();
                let Ok(size) = usize::from_str_radix(digits, 16) else {
                    return wrong(format!("a bad chunk size: {line:?}"));
                };
                if size == 0 {
                    while !self.line().await?.is_empty() {}
                    *body = Body::Done;
                    return Ok(None);
                }
                while self.buffer.len() < size + 2 {
                    if self.more().await? == 0 {
                        return wrong("closed inside a chunk");
                    }
                }
                let data = self.buffer.split_to(size).freeze();
                if !self.buffer.starts_with(b"\r\n") {
                    return wrong("a chunk without its line end");
                }
                self.buffer.advance(2);
                Ok(Some(data))
            }
        }
    }

    /// All the rest of a body.
    pub async fn body(&mut self, body: &mut Body) -> Result<Vec<u8>, WireError> {
        let mut all = Vec::new();
        while let Some(part) = self.body_part(body).await? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    async fn line(&mut self) -> Result<String, WireError> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.more().await? == 0 {
                return wrong("closed inside a chunked body");
            }
        }
    }
}

/// How the body after `headers` ends by RFC 9112 s6.3; `otherwise` when neither field is there.
pub fn framing(headers: &Headers, otherwise: Body) -> Result<Body, WireError> {
    let lengths = headers.all("content-length");
    match (headers.all("transfer-encoding").as_slice(), lengths.as_slice()) {
        ([], []) => Ok(otherwise),
        ([], [length]) => match length.parse() {
            Ok(0) => Ok(Body::Done),
            Ok(n) => Ok(Body::Length(n)),
            Err(_) => wrong(format!("a bad Content-Length: {length:?}")),
        },
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Body::Chunked),
        (codings, lengths) => wrong(format!(
            "framing that no one should send: Transfer-Encoding {codings:?}, Content-Length {lengths:?}"
        )),
    }
}

/// Sends a reset at once: connecting a TCP socket to nowhere drops its connection (tcp_disconnect).
pub fn reset(stream: &TcpStream) {
    let _ = rustix::net::connect_unspec(stream);
}

fn find(in_bytes: &[u8], what: &[u8]) -> Option<usize> {
    in_bytes.windows(what.len()).position(|w| w == what)
}
