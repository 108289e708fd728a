//! A request's body as it arrives on a stream. The peer may send more of it once what was handed on is credited, which is when it is handed on.
//!
//! A client that resets its stream has broken off, whatever the reason: "no error" (RFC 9113 s8.1) is a server's to say. What came until then is
//! never the whole body.
//!
//! A client that waits to be asked for it (`Expect: 100-continue`) is asked when it is first read and nothing of it has come.

use crate::proxy::Interim;
use bytes::Bytes;
use h2::RecvStream;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The body of a request over HTTP/2.
#[derive(Debug)]
pub struct Upload {
    stream: RecvStream,
    /// The request ended with its head.
    is_empty: bool,
    /// Only trailers may come yet.
    is_read: bool,
    /// What is to come, where the head told it; h2 holds the peer to it.
    left: Option<u64>,
    /// Its client may wait to be asked for it, over here.
    awaited: Option<Arc<Interim>>,
}

impl Upload {
    /// On a connection whose interim heads go to `interim`.
    pub(super) fn of(request: Request<RecvStream>, interim: &Interim) -> Request<Self> {
        let (parts, stream) = request.into_parts();
        let is_empty = stream.is_end_stream();
        let left = if is_empty { Some(0) } else { told(&parts.headers) };
        let is_awaited = !is_empty && expects_100(&parts.headers);
        let body = Self {
            stream,
            is_empty,
            is_read: false,
            left,
            awaited: is_awaited.then(|| interim.of_stream()),
        };
        Request::from_parts(parts, body)
    }
}

/// RFC 9110 s10.1.1.
fn expects_100(headers: &HeaderMap) -> bool {
    let expected = headers.get(EXPECT);
    expected.is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn told(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Body for Upload {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if !this.is_read {
            let polled = this.stream.poll_data(cx);
            if let Some(client) = this.awaited.take()
                && polled.is_pending()
            {
                client.ask_for_content();
            }
            match ready!(polled) {
                Some(Ok(bytes)) => {
                    // It fails for more than has come.
                    let _credited = this.stream.flow_control().release_capacity(bytes.len());
                    if let Some(left) = &mut this.left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.is_read = true,
            }
        }
        match ready!(this.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
