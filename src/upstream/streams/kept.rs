//! What has been sent of a request's body, kept until the node answers: a node that leaves or refuses may never have looked at it, and then all of
//! it goes out again.
//!
//! Kept are the pieces themselves, not copies of them, and of a body that is longer than the bound nothing.

use super::super::body::OutBody;
use super::super::error::BoxError;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How much is kept of one body: most requests' whole body, and what every node's window takes at once (RFC 9113 s6.9.2).
const MOST: usize = 64 * 1024;
/// In how many pieces: each may keep a buffer of more than itself.
const MOST_PIECES: usize = 64;

/// What can be sent again.
#[derive(Default)]
pub(super) enum Kept {
    /// All of the body, in memory anyway.
    Whole(OutBody),
    /// What has been taken of it.
    Taken(Taken),
    /// Too much has been taken, or the node has looked at it.
    #[default]
    Lost,
}

/// The beginning of a body.
#[derive(Default)]
pub(super) struct Taken {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    /// That was all of it.
    ended: bool,
}

impl Kept {
    /// Of a body of which nothing has been taken.
    pub(super) fn of(body: &OutBody) -> Self {
        body.again().map_or_else(|| Self::Taken(Taken::default()), Self::Whole)
    }

    /// A piece is taken.
    pub(super) fn piece(&mut self, piece: &Bytes) {
        let Self::Taken(taken) = self else { return };
        taken.bytes = taken.bytes.saturating_add(piece.len());
        if taken.bytes > MOST || taken.pieces.len() == MOST_PIECES {
            *self = Self::Lost;
        } else {
            taken.pieces.push_back(piece.clone());
        }
    }

    /// The end is taken, with trailers if there were any.
    pub(super) fn ended(&mut self, trailers: Option<&HeaderMap>) {
        if let Self::Taken(taken) = self {
            (taken.trailers, taken.ended) = (trailers.cloned(), true);
        }
    }

    /// All of the body, of which `rest` has not been taken.
    pub(super) fn before(self, rest: OutBody) -> Option<OutBody> {
        match self {
            Self::Whole(body) => Some(body),
            Self::Taken(taken) => {
                let rest = if taken.ended { OutBody::Empty } else { rest };
                let nothing = taken.pieces.is_empty() && taken.trailers.is_none();
                Some(if nothing {
                    rest
                } else {
                    OutBody::Stream(Box::pin(Again { taken, rest }))
                })
            }
            Self::Lost => None,
        }
    }
}

/// A body from its first byte.
struct Again {
    taken: Taken,
    rest: OutBody,
}

impl Body for Again {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = self.taken.pieces.pop_front() {
            self.taken.bytes = self.taken.bytes.saturating_sub(piece.len());
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(trailers) = self.taken.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.taken.pieces.is_empty() && self.taken.trailers.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (taken, rest) = (self.taken.bytes as u64, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(taken));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(taken));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;
    use http_body_util::{BodyExt, Full};

    fn stream(text: &'static str) -> OutBody {
        OutBody::stream(Full::new(Bytes::from_static(text.as_bytes())))
    }

    async fn read(body: OutBody) -> (Bytes, Option<HeaderMap>) {
        let read = body.collect().await.unwrap();
        let trailers = read.trailers().cloned();
        (read.to_bytes(), trailers)
    }

    #[tokio::test]
    async fn what_was_taken_comes_before_the_rest_and_the_end_once() {
        let sum = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("1"))]);
        for (name, taken, end, rest, whole, trailers) in [
            ("nothing", &[][..], None, "all of it", "all of it", None),
            ("a part", &["be", "gun "], None, "and ended", "begun and ended", None),
            ("all, and its end", &["all"], Some(None), "never asked", "all", None),
            ("an end alone", &[], Some(None), "never asked", "", None),
            ("trailers", &["all"], Some(Some(&sum)), "never asked", "all", Some(&sum)),
        ] {
            let rest = stream(rest);
            let mut kept = Kept::of(&rest);
            for piece in taken {
                kept.piece(&Bytes::from_static(piece.as_bytes()));
            }
            if let Some(trailers) = end {
                kept.ended(trailers);
            }
            let again = kept.before(rest).unwrap();
            let length = again.size_hint().exact();
            assert_eq!(length, Some(whole.len() as u64), "{name}");
            assert_eq!(read(again).await, (Bytes::from(whole), trailers.cloned()), "{name}");
        }
    }

    #[test]
    fn of_a_long_body_nothing_is_kept() {
        for (name, size, pieces, is_kept) in [
            ("as much as is kept", MOST, 1, true),
            ("a byte more", MOST + 1, 1, false),
            ("as many pieces", 1, MOST_PIECES, true),
            ("one more", 1, MOST_PIECES + 1, false),
        ] {
            let rest = stream("rest");
            let mut kept = Kept::of(&rest);
            for _ in 0..pieces {
                kept.piece(&Bytes::from(vec![0; size]));
            }
            assert_eq!(kept.before(rest).is_some(), is_kept, "{name}");
        }
        let mut whole = Kept::of(&OutBody::Full(Bytes::from(vec![0; MOST * 2])));
        whole.piece(&Bytes::from(vec![0; MOST * 2]));
        assert!(
            whole.before(OutBody::Empty).unwrap().again().is_some(),
            "it can be sent a third time"
        );
    }
}
