//! A client's body held in memory up to a bound, for what needs all of it before a node is asked: a QUERY's content is in its key, and
//! a write that may be repeated is sent again from its first byte. What is longer goes on as a stream, from its first byte.

use super::body::BoxError;
use crate::upstream::OutBody;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A client's body, looked at up to a bound.
pub(super) enum Buffered {
    /// All of it.
    Whole(Bytes),
    /// Longer than the bound; nothing of it is lost.
    Longer(OutBody),
    /// The upload broke off; its watch knows why.
    Broken,
}

/// Reads `body` to its end, or until it is longer than `max` bytes. A body that says so at once is not touched. Trailers are dropped
/// (RFC 9110 s6.5.1 permits it).
pub(super) async fn whole(mut body: OutBody, max: usize) -> Buffered {
    if body.size_hint().lower() > max as u64 {
        return Buffered::Longer(body);
    }
    let mut chunks = VecDeque::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Buffered::Broken };
        let Ok(chunk) = frame.into_data() else { continue };
        length = length.saturating_add(chunk.len());
        chunks.push_back(chunk);
        if length > max {
            return Buffered::Longer(OutBody::stream(Begun { chunks, rest: body }));
        }
        // As many small chunks cost more than their bytes.
        if chunks.len() > MANY {
            let joined = join(&chunks, length);
            chunks.clear();
            chunks.push_back(joined);
        }
    }
    Buffered::Whole(match chunks.pop_front() {
        None => Bytes::new(),
        Some(one) if chunks.is_empty() => one,
        Some(first) => {
            chunks.push_front(first);
            join(&chunks, length)
        }
    })
}

/// So many chunks are joined to one.
const MANY: usize = 64;

fn join(chunks: &VecDeque<Bytes>, length: usize) -> Bytes {
    let mut all = BytesMut::with_capacity(length);
    chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
    all.freeze()
}

/// A body whose beginning has been read.
struct Begun {
    chunks: VecDeque<Bytes>,
    rest: OutBody,
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.chunks.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read: u64 = self.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Chunks, and perhaps an error at the end.
    struct Parts(Vec<&'static str>, bool);

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(match (self.0.is_empty(), self.1) {
                (false, _) => Some(Ok(Frame::data(Bytes::from_static(self.0.remove(0).as_bytes())))),
                (true, true) => Some(Err("broke off".into())),
                (true, false) => None,
            })
        }
    }

    #[tokio::test]
    async fn a_body_is_held_whole_up_to_the_bound_and_nothing_of_a_longer_one_is_lost() {
        for (name, chunks, breaks, expected) in [
            ("nothing", vec![], false, "whole "),
            ("one chunk", vec!["abcd"], false, "whole abcd"),
            ("up to the bound", vec!["ab", "", "cd"], false, "whole abcd"),
            ("one byte more", vec!["ab", "cd", "e"], false, "longer abcde"),
            (
                "much more",
                vec!["ab", "cdefgh", "ij", "kl"],
                false,
                "longer abcdefghijkl",
            ),
            ("many chunks", vec!["a"; 4], false, "whole aaaa"),
            ("broken off", vec!["ab"], true, "broken"),
        ] {
            let found = match whole(OutBody::stream(Parts(chunks, breaks)), 4).await {
                Buffered::Whole(bytes) => format!("whole {}", str::from_utf8(&bytes).unwrap()),
                Buffered::Longer(body) => {
                    let all = body.collect().await.unwrap().to_bytes();
                    format!("longer {}", str::from_utf8(&all).unwrap())
                }
                Buffered::Broken => "broken".to_owned(),
            };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn many_small_chunks_are_joined() {
        let Buffered::Whole(bytes) = whole(OutBody::stream(Parts(vec!["a"; 1000], false)), 1000).await else {
            panic!("it fits");
        };
        assert_eq!(bytes, "a".repeat(1000));
    }
}
