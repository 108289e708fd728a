//! HTTP/1.1 as far as a simulated peer needs it, over turmoil's streams.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;

pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A start line and its fields.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first field of that name (in lower case).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn word(&self, at: usize) -> &str {
        self.start.split(' ').nth(at).unwrap_or("")
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 4096];
        let read = self.stream.read(&mut piece).await?;
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    /// The next head; none when the peer closed before it began one.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let text: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return parse(&text[..end]).map(Some);
            }
            if self.more().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(broken("closed in a head"))
                };
            }
        }
    }

    /// The body that a head announces; without a length there is none.
    pub async fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        if head.get("transfer-encoding").is_some() {
            return self.chunks().await;
        }
        let length = head.get("content-length").map_or(Ok(0), str::parse);
        let length = length.map_err(|_| broken("a bad length"))?;
        self.exactly(length).await
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.more().await? == 0 {
                return Err(broken("closed in a body"));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let line = loop {
                if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                    let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                    break String::from_utf8_lossy(&line).trim().to_owned();
                }
                if self.more().await? == 0 {
                    return Err(broken("closed in a chunk"));
                }
            };
            let length = usize::from_str_radix(&line, 16).map_err(|_| broken("a bad chunk"))?;
            all.extend(self.exactly(length).await?);
            self.exactly(2).await?;
            if length == 0 {
                return Ok(all);
            }
        }
    }
}

fn parse(text: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(text).map_err(|_| broken("a head that is no text"))?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or("").to_owned();
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a line without a colon"))?;
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let fields = fields.collect::<io::Result<_>>()?;
    Ok(Head { start, fields })
}
