//! Writes interim heads (1xx) between the bytes that hyper writes, because hyper's server cannot send them (HTTP.md 10).
//!
//! An interim head may stand only where a response begins: after the last byte of the response before it and before the first byte of its
//! own final head. hyper buffers, so its calls alone do not tell where one response ends. They do tell when nothing is buffered: hyper flushes
//! the stream only when its own buffer is empty. A flush while the service works on a request is therefore the *gap* in which interim heads
//! may go, and it lasts until hyper writes again: that write begins with the final head, or with a `100 Continue` of hyper's own, before which
//! they may go as well. Where no gap was seen (an earlier answer is still stuck behind a slow client), they are dropped.
//!
//! Invariant: between the first and the last byte of anything hyper writes, not one byte is inserted; and once a head is begun, nothing
//! else is written before its end.

use crate::proxy::Interim;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that interim heads are written to as well.
#[derive(Debug)]
pub(super) struct Informing<T> {
    inner: T,
    interim: Arc<Interim>,
    /// The turn in which hyper had nothing buffered, so that what it writes next belongs to it; 0 once that is written.
    gap: u64,
    /// Heads that are being written, and how far.
    begun: Vec<u8>,
    written: usize,
}

impl<T> Informing<T> {
    pub(super) fn new(inner: T, interim: Arc<Interim>) -> Self {
        Self {
            inner,
            interim,
            gap: 0,
            begun: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn into_inner(self) -> T {
        self.inner
    }

    pub(super) fn inner_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: AsyncWrite + Unpin> Informing<T> {
    /// Writes the heads that are begun. Ready when none is half written.
    fn finish_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.begun.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.begun.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// hyper is about to write: heads go first, and the gap is over.
    fn before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gap != 0 || !self.begun.is_empty() {
            ready!(self.finish_begun(cx))?;
            // In a later turn an answer may have been buffered since.
            let in_gap = std::mem::take(&mut self.gap) == self.interim.number();
            if in_gap && self.interim.has_waiting() {
                self.interim.take(&mut self.begun, None);
                ready!(self.finish_begun(cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// hyper has nothing buffered while the service works: heads may go.
    fn in_between(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gap = self.interim.number();
        // What a slow client has not taken of the heads before is bounded: nothing is added to it.
        ready!(self.finish_begun(cx))?;
        self.interim.take(&mut self.begun, Some(cx.waker()));
        self.finish_begun(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Informing<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Informing<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_awaited() {
            ready!(self.in_between(cx))?;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use http::{HeaderMap, HeaderValue, StatusCode, Version};
    use proptest::prelude::*;

    /// Takes as many bytes as it has room for.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let n = buf.len().min(self.room);
            if n == 0 {
                return Poll::Pending;
            }
            self.room -= n;
            self.taken.extend_from_slice(buf.get(..n).unwrap());
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What hyper does with a stream: buffers, writes what it has, and flushes when it has nothing.
    struct Hyper {
        io: Informing<Narrow>,
        buffered: Vec<u8>,
        interim: Arc<Interim>,
        request: usize,
        heads: usize,
    }

    impl Hyper {
        fn new() -> Self {
            let interim = Arc::new(Interim::default());
            let narrow = Narrow {
                taken: Vec::new(),
                room: usize::MAX,
            };
            Self {
                io: Informing::new(narrow, Arc::clone(&interim)),
                buffered: Vec::new(),
                interim,
                request: 0,
                heads: 0,
            }
        }

        fn begin(&mut self) {
            self.request += 1;
            self.heads = 0;
            self.interim.begin();
        }

        fn leave(&mut self) {
            self.heads += 1;
            let mut fields = HeaderMap::new();
            let of = format!("{}-{}", self.request, self.heads);
            fields.insert("x-of", HeaderValue::from_str(&of).unwrap());
            self.interim
                .turn()
                .pass_on(StatusCode::EARLY_HINTS, Version::HTTP_11, &fields);
        }

        fn ask_for_the_body(&mut self) {
            self.buffered.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }

        fn answer(&mut self) {
            self.interim.answered();
            let body = "x".repeat(50);
            let of = self.request;
            self.buffered
                .extend_from_slice(format!("HTTP/1.1 200 OK\r\nx-of: {of}\r\n\r\n{body}\r\n\r\n").as_bytes());
        }

        fn flush(&mut self) {
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            while !self.buffered.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, &self.buffered) {
                    Poll::Ready(n) => drop(self.buffered.drain(..n.unwrap())),
                    Poll::Pending => return,
                }
            }
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }

        fn taken(mut self) -> String {
            self.io.inner.room = usize::MAX;
            self.flush();
            self.flush();
            String::from_utf8(self.io.inner.taken).unwrap()
        }
    }

    /// The blocks between blank lines, each by its first line's code and what it is of.
    fn blocks(text: &str) -> Vec<String> {
        text.split("\r\n\r\n")
            .filter(|block| !block.is_empty())
            .map(|block| {
                let of = block.lines().find_map(|line| line.strip_prefix("x-of: "));
                match block.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
                    Some(code) => format!("{code} {}", of.unwrap_or("")).trim_end().to_owned(),
                    None => "body".to_owned(),
                }
            })
            .collect()
    }

    #[test]
    fn heads_go_at_once_in_the_gap_and_those_of_the_last_moment_before_the_final_head() {
        let mut hyper = Hyper::new();
        hyper.begin();
        hyper.flush();
        hyper.leave();
        hyper.flush();
        assert_eq!(blocks(&String::from_utf8_lossy(&hyper.io.inner.taken)), ["103 1-1"]);
        hyper.leave();
        hyper.answer();
        assert_eq!(blocks(&hyper.taken()), ["103 1-1", "103 1-2", "200 1", "body"]);
    }

    #[test]
    fn behind_an_answer_that_is_stuck_they_wait_or_are_dropped() {
        let mut hyper = Hyper::new();
        hyper.begin();
        hyper.flush();
        hyper.io.inner.room = 30;
        hyper.answer();
        hyper.flush();
        hyper.begin();
        hyper.leave();
        hyper.flush();
        hyper.io.inner.room = 10;
        hyper.flush();
        assert_eq!(hyper.io.inner.taken.len(), 40);
        hyper.answer();
        hyper.begin();
        hyper.leave();
        assert_eq!(blocks(&hyper.taken()), ["200 1", "body", "200 2", "body", "103 3-1"]);
    }

    #[test]
    fn a_half_written_head_is_finished_before_anything_else() {
        let mut hyper = Hyper::new();
        hyper.begin();
        hyper.io.inner.room = 10;
        hyper.leave();
        hyper.flush();
        hyper.ask_for_the_body();
        hyper.flush();
        hyper.answer();
        hyper.flush();
        assert_eq!(hyper.io.inner.taken.len(), 10);
        assert_eq!(blocks(&hyper.taken()), ["103 1-1", "100", "200 1", "body"]);
    }

    proptest! {
        #[test]
        fn no_schedule_puts_a_head_elsewhere_than_before_its_own_answer(
            steps in prop::collection::vec((0_u8..7, 0_usize..120), 1..80)
        ) {
            let mut hyper = Hyper::new();
            hyper.io.inner.room = 0;
            hyper.begin();
            let mut awaited = true;
            for (step, room) in steps {
                match step {
                    0 if !awaited => { hyper.begin(); awaited = true; }
                    1 if awaited => { hyper.answer(); awaited = false; }
                    2 if awaited => hyper.ask_for_the_body(),
                    3 => hyper.leave(),
                    4 => hyper.io.inner.room = room,
                    _ => hyper.flush(),
                }
            }
            if awaited {
                hyper.answer();
            }
            let requests = hyper.request;
            let text = hyper.taken();
            let blocks = blocks(&text);
            let mut answered = 0;
            let mut last = 0;
            for block in &blocks {
                match block.split_once(' ') {
                    Some(("103", of)) => {
                        let (request, head) = of.split_once('-').unwrap();
                        prop_assert_eq!(request.parse::<usize>().unwrap(), answered + 1, "{}", text);
                        let head: usize = head.parse().unwrap();
                        prop_assert!(head > last, "{}", text);
                        last = head;
                    }
                    Some(("200", of)) => {
                        answered += 1;
                        last = 0;
                        prop_assert_eq!(of.parse::<usize>().unwrap(), answered, "{}", text);
                    }
                    _ => prop_assert!(block == "100" || block == "body", "{}", text),
                }
            }
            prop_assert_eq!(answered, requests);
        }
    }
}
