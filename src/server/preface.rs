//! Whether a client without TLS speaks HTTP/2: by prior knowledge, its first bytes are the connection preface (RFC 9113 s3.4), which no
//! HTTP/1 request can begin with. And whether one speaks HTTP in clear that should speak TLS.

use crate::world::Stream;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first read: most requests' whole head.
const FIRST_READ: usize = 4 * 1024;

/// What a connection's first bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// HTTP/2.
    Http2,
    /// Anything else, and HTTP/1 is to judge it.
    Http1,
}

/// Reads into `seen` until it is certain what is spoken; all that was read is left there for whoever speaks it. The end of the stream is
/// HTTP/1's to judge, too. Cancelled, it has lost nothing.
pub(super) async fn read(io: &mut Stream, seen: &mut Vec<u8>) -> io::Result<Opening> {
    loop {
        match judge(seen) {
            Some(opening) => return Ok(opening),
            None if seen.capacity() == seen.len() => seen.reserve(FIRST_READ),
            None => {}
        }
        if io.read_buf(seen).await? == 0 {
            return Ok(Opening::Http1);
        }
    }
}

/// Reads the first bytes of a connection that is to be TLS into `seen`, and tells whether they are HTTP without it. A TLS record begins with its type,
/// which is no letter (RFC 8446 s5.1); every request begins with a method, and so does the preface.
pub(super) async fn is_in_clear(io: &mut Stream, seen: &mut Vec<u8>) -> io::Result<bool> {
    seen.reserve(FIRST_READ);
    // The end of the stream is the handshake's to judge.
    io.read_buf(seen).await?;
    Ok(seen.first().is_some_and(u8::is_ascii_uppercase))
}

/// None: more bytes must tell.
fn judge(seen: &[u8]) -> Option<Opening> {
    if seen.starts_with(PREFACE) {
        Some(Opening::Http2)
    } else if PREFACE.starts_with(seen) {
        None
    } else {
        Some(Opening::Http1)
    }
}

/// A stream of which something has been read already.
#[derive(Debug)]
pub(super) struct Prefixed<T> {
    prefix: Bytes,
    inner: T,
}

impl<T> Prefixed<T> {
    pub(super) fn new(prefix: Bytes, inner: T) -> Self {
        Self { prefix, inner }
    }

    /// The next to be read.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            // Nothing of a large buffer keeps all of it.
        } else if self.prefix.is_empty() {
            self.prefix = bytes;
        } else {
            self.prefix = [bytes, std::mem::take(&mut self.prefix)].concat().into();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let taken = this.prefix.len().min(buf.remaining());
        buf.put_slice(this.prefix.get(..taken).unwrap_or_default());
        this.prefix.advance(taken);
        if this.prefix.is_empty() {
            // Its buffer is not needed any more.
            this.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefixed<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::{Opening, PREFACE, Prefixed, judge};
    use bytes::{Buf, Bytes};

    #[test]
    fn nothing_that_is_left_of_a_buffer_does_not_keep_the_buffer() {
        let buffer = Bytes::from(vec![1; 8192]);
        let mut used = buffer.clone();
        used.advance(8192);
        let mut stream = Prefixed::new(Bytes::new(), ());
        stream.unread(used);
        assert!(buffer.is_unique(), "a quiet connection would have it for hours");
        stream.unread(buffer.slice(4..6));
        stream.unread(buffer.slice(..1));
        assert_eq!(stream.prefix, [1; 3][..]);
    }

    #[test]
    fn only_the_whole_preface_is_http_2() {
        for (name, seen, opening) in [
            ("nothing yet", &b""[..], None),
            ("its beginning", b"PRI * HT", None),
            ("all of it", PREFACE, Some(Opening::Http2)),
            (
                "all of it and a frame",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0",
                Some(Opening::Http2),
            ),
            ("a request", b"GET / HTTP/1.1\r\n", Some(Opening::Http1)),
            (
                "one that begins alike",
                b"PROPFIND / HTTP/1.1\r\n",
                Some(Opening::Http1),
            ),
            (
                "the head of the preface as HTTP/1",
                b"PRI * HTTP/2.0\r\n\r\nGET",
                Some(Opening::Http1),
            ),
        ] {
            assert_eq!(judge(seen), opening, "{name}");
        }
    }
}
