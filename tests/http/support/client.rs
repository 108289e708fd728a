//! A client that sends bytes exactly as written and believes nothing it is answered.

use super::wire::{Body, Head, Headers, Wire, WireError, framing};
use super::within;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};

/// The `Host` of every request that does not bring its own.
pub const HOST: &str = "shop.example";

/// Field lines to send.
pub type Fields<'a> = &'a [(&'a str, &'a str)];

/// One connection.
pub struct Client {
    wire: Wire,
    /// What the last request was, for answers whose framing depends on it.
    method: String,
    body: Body,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub start: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// 1xx heads that came before.
    pub interim: Vec<Head>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// `Cache-Status`, or "" without one.
    pub fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or("")
    }

    /// `Tidegate-Consistency`, or "" without one.
    pub fn consistency(&self) -> &str {
        self.header("tidegate-consistency").unwrap_or("")
    }

    /// Whether `Cache-Status` says that the cache answered.
    pub fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit")
    }

    /// The `fwd` parameter of `Cache-Status`, or "".
    pub fn fwd(&self) -> &str {
        self.cache_status()
            .split(';')
            .find_map(|p| p.trim().strip_prefix("fwd="))
            .unwrap_or("")
    }

    /// `Age` in seconds.
    pub fn age(&self) -> Option<u64> {
        self.header("age").map(|a| a.parse().expect("Age in digits"))
    }

    /// The last word of the problem type, or "".
    pub fn problem(&self) -> String {
        if self.header("content-type") != Some("application/problem+json") {
            return String::new();
        }
        let json: serde_json::Value = serde_json::from_slice(&self.body).expect("a problem document in JSON");
        json["type"]
            .as_str()
            .unwrap_or("")
            .trim_start_matches("urn:tidegate:problem:")
            .to_owned()
    }
}

impl Client {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::try_connect(to).await.expect("connect")
    }

    /// Connects to somebody who may not be there.
    pub async fn try_connect(to: SocketAddr) -> std::io::Result<Self> {
        let stream = within("a connection", TcpStream::connect(to)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// A client whose receive buffer is as small as the kernel allows: it reads slowly by nature.
    pub async fn connect_with_small_window(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(within("a connection", socket.connect(to)).await.expect("connect"))
    }

    fn over(stream: TcpStream) -> Self {
        Self {
            wire: Wire::new(Arc::new(stream)),
            method: String::new(),
            body: Body::Done,
        }
    }

    /// Sends exactly these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the peer takes our bytes");
    }

    /// Sends exactly these bytes, which the peer may refuse by closing.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        let bytes = bytes.as_ref();
        within("the peer to take our bytes", self.wire.write(bytes)).await
    }

    /// Sends a request head (and body with its Content-Length, when there is one) without waiting for the answer.
    pub async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let sent = self.try_ask(method, target, headers, body).await;
        sent.expect("the peer takes our bytes");
    }

    /// The same to a peer that may have closed.
    pub async fn try_ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            text += &format!("Host: {HOST}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let framed = headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding"));
        if !framed && (!body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH")) {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        method.clone_into(&mut self.method);
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        self.try_send(bytes).await
    }

    /// Says which method the bytes sent by hand were of, when it matters for the framing of the answer.
    pub fn expects_answer_to(&mut self, method: &str) {
        method.clone_into(&mut self.method);
    }

    /// Reads the final head (passing over 1xx).
    pub async fn try_head(&mut self) -> Result<(u16, Head, Vec<Head>), WireError> {
        let mut interim = Vec::new();
        loop {
            let Some(head) = self.wire.head().await? else {
                return Err(WireError("closed without an answer".into()));
            };
            let mut words = head.start.splitn(3, ' ');
            let (version, status) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            if version != "HTTP/1.1" || status.len() != 3 || words.next().is_none() {
                return Err(WireError(format!("a malformed status line: {:?}", head.start)));
            }
            let status: u16 = status.parse().map_err(|_| WireError(head.start.clone()))?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                continue;
            }
            let bodiless = self.method == "HEAD" || status == 204 || status == 304;
            self.body = framing(&head.headers, Body::UntilClose)?;
            if bodiless {
                self.body = Body::Done;
            }
            return Ok((status, head, interim));
        }
    }

    /// Reads the final head; the body is left to [`Client::body_part`].
    pub async fn head(&mut self) -> (u16, Head) {
        let what = format!("the head of the answer to {}", self.method);
        let (status, head, _) = within(&what, self.try_head())
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        (status, head)
    }

    pub async fn try_body_part(&mut self) -> Result<Option<Bytes>, WireError> {
        within("a piece of the body", self.wire.body_part(&mut self.body)).await
    }

    /// The next piece of the body; none at its end.
    pub async fn body_part(&mut self) -> Option<Bytes> {
        self.try_body_part().await.unwrap_or_else(|e| panic!("the body: {e}"))
    }

    /// The rest of the body, at least until it holds `bytes` bytes or ends.
    pub async fn body_up_to(&mut self, bytes: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < bytes {
            match self.body_part().await {
                Some(part) => all.extend_from_slice(&part),
                None => break,
            }
        }
        all
    }

    /// Reads a whole answer, or says what was wrong with it.
    pub async fn try_answer(&mut self) -> Result<Answer, WireError> {
        let what = format!("the answer to {}", self.method);
        within(what, async {
            let (status, head, interim) = self.try_head().await?;
            let body = self.wire.body(&mut self.body).await?;
            Ok(Answer {
                status,
                start: head.start,
                headers: head.headers,
                body,
                interim,
            })
        })
        .await
    }

    /// Reads a whole answer.
    pub async fn answer(&mut self) -> Answer {
        let method = self.method.clone();
        self.try_answer()
            .await
            .unwrap_or_else(|e| panic!("the answer to {method}: {e}"))
    }

    pub async fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask(method, target, headers, body).await;
        self.answer().await
    }

    pub async fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"").await
    }

    pub async fn get_with(&mut self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", target, headers, b"").await
    }

    pub async fn put(&mut self, target: &str, body: &str) -> Answer {
        self.request("PUT", target, &[], body.as_bytes()).await
    }

    /// Whatever bytes come next, unparsed.
    pub async fn raw_part(&mut self) -> Vec<u8> {
        if self.wire.buffer.is_empty() {
            let read = within("bytes from the peer", self.wire.more())
                .await
                .expect("the connection lives");
            assert!(read > 0, "closed instead");
        }
        self.wire.buffer.split().to_vec()
    }

    /// Sends no more and goes on reading.
    pub fn close_write(&mut self) {
        self.wire.close_write();
    }

    /// Waits until the peer has closed; fails the test when it sends anything more.
    pub async fn closed(&mut self) {
        let left = within("the peer to close", self.wire.more()).await;
        assert!(
            matches!(left, Ok(0) | Err(_)) && self.wire.buffer.is_empty(),
            "more came instead of the end: {:?}",
            self.wire.buffer
        );
    }

    /// Leaves with a reset, as a crashed client does.
    pub fn abort(self) {
        self.wire.reset();
    }
}

/// One request on a connection of its own.
pub async fn get(from: SocketAddr, target: &str) -> Answer {
    Client::connect(from).await.get(target).await
}
