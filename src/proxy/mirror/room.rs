//! How much memory the bodies of a mirrored upstream's writes take together: every one is held whole from its first byte until every node
//! has it. Without a bound, `max_connections` times `mirror_max_body` is what clients could make us hold.
//!
//! Who finds no room is refused before anything is sent, and does not wait: whoever waits may hold what the others wait for.

use crate::proxy::buffered::{self, Buffered};
use crate::upstream::OutBody;
use http_body::Body;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For the bodies of one upstream, in bytes. One body always fits.
const ALL: usize = 256 * 1024 * 1024;

/// A body of unknown length is taken for one of so many bytes until it is longer.
const SHORT: usize = 64 * 1024;

/// What is left.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// A body's room. Dropped, it is given back.
pub(super) type Taken = OwnedSemaphorePermit;

impl Default for Room {
    fn default() -> Self {
        Self::of(ALL)
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    fn take(&self, bytes: usize) -> Option<Taken> {
        let bytes = u32::try_from(bytes.min(ALL)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }

    /// All of a body of at most `max` bytes, with its room; none when there is not enough.
    pub(super) async fn whole(&self, body: OutBody, max: usize) -> Option<(Buffered, Taken)> {
        let hint = body.size_hint();
        let known = hint.exact().and_then(|length| usize::try_from(length).ok());
        let first = known.unwrap_or(SHORT).min(max);
        let mut taken = self.take(first)?;
        let mut found = buffered::whole(body, if known.is_some() { max } else { first }).await;
        if known.is_none()
            && first < max
            && let Buffered::Longer(body) = found
        {
            taken.merge(self.take(max - first)?);
            found = buffered::whole(body, max).await;
        }
        if let Buffered::Whole(bytes) = &found {
            drop(taken.split(taken.num_permits().saturating_sub(bytes.len())));
        }
        Some((found, taken))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use bytes::Bytes;
    use http_body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    fn known(length: usize) -> OutBody {
        Bytes::from(vec![0; length]).into()
    }

    /// A body whose length is not known before its end.
    struct Unsaid(Option<Bytes>);

    impl Body for Unsaid {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    fn unknown(length: usize) -> OutBody {
        OutBody::stream(Unsaid(Some(Bytes::from(vec![0; length]))))
    }

    #[tokio::test]
    async fn bodies_take_the_room_of_their_bytes_and_who_finds_none_is_refused() {
        let room = Room::of(200_000);
        let left = || room.0.available_permits();
        let (_, first) = room.whole(known(100_000), 150_000).await.unwrap();
        assert_eq!(left(), 100_000);
        assert!(room.whole(known(100_001), 150_000).await.is_none());
        assert_eq!(left(), 100_000);
        let (found, short) = room.whole(unknown(10), 100_000).await.unwrap();
        assert!(matches!(found, Buffered::Whole(bytes) if bytes.len() == 10));
        assert_eq!(left(), 99_990, "what it turned out to need");
        assert!(room.whole(unknown(70_000), 100_000).await.is_none());
        assert_eq!(left(), 99_990);
        drop((first, short));
        let (found, long) = room.whole(unknown(70_000), 100_000).await.unwrap();
        assert!(matches!(found, Buffered::Whole(bytes) if bytes.len() == 70_000));
        assert_eq!(left(), 130_000);
        let (found, longer) = room.whole(unknown(100_001), 100_000).await.unwrap();
        assert!(matches!(found, Buffered::Longer(_)));
        drop((long, longer));
        let (found, none) = room.whole(known(0), 0).await.unwrap();
        assert!(matches!(found, Buffered::Whole(_)));
        drop(none);
        assert_eq!(left(), 200_000);
    }

    #[tokio::test]
    async fn one_body_always_fits() {
        let room = Room::default();
        assert!(room.whole(known(1), ALL * 2).await.is_some());
        assert_eq!(room.take(ALL * 2).unwrap().num_permits(), ALL);
    }
}
