//! An answer's body on its way from a node. What has been handed on is given back to the node's windows, so a reader that stops holds up
//! its own stream and no other.

use super::super::error::BodyError;
use super::connection::State;
use super::upload::Progress;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// An answer's body.
pub(in crate::upstream) struct Arriving {
    from: RecvStream,
    state: Arc<State>,
    /// Of its request.
    upload: Arc<Progress>,
    /// What is left of what the head promised.
    left: Option<u64>,
    /// Data has ended: trailers are left, if any.
    trailing: bool,
    over: bool,
}

impl Arriving {
    pub(super) fn new(from: RecvStream, state: Arc<State>, upload: Arc<Progress>, head: &HeaderMap) -> Self {
        let length = head
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let over = from.is_end_stream();
        if over {
            upload.answered();
        }
        Self {
            left: if over { Some(0) } else { length },
            from,
            state,
            upload,
            trailing: false,
            over,
        }
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.over || self.from.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::new(),
        }
    }

    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if !self.trailing {
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Only fails when the stream is over, and then nobody needs room.
                    let _ = self.from.flow_control().release_capacity(data.len());
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    if self.from.is_end_stream() {
                        self.whole();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return self.ended(&error),
                None => self.trailing = true,
            }
        }
        match ready!(self.from.poll_trailers(cx)) {
            Ok(Some(trailers)) => {
                self.whole();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Ok(None) => {
                self.whole();
                Poll::Ready(None)
            }
            Err(error) => self.ended(&error),
        }
    }

    /// All of it has come.
    fn whole(&mut self) {
        self.over = true;
        self.upload.answered();
    }

    /// The stream was reset, or its connection is over.
    fn ended(&mut self, error: &h2::Error) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.over = true;
        // RFC 9113 s8.1: a node that has answered in full asks us so to stop sending. Without its end an answer is none.
        let stops = error.is_reset() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
        if stops && self.state.said.had_ended(self.from.stream_id().as_u32()) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Err(if self.state.is_killed() {
            BodyError::NodeDown
        } else {
            BodyError::Reset
        })))
    }
}
