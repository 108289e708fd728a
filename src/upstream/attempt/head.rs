//! A node's response head as it is passed on: what is not HTTP is refused, and what is known of the attempt is kept beside it.

use super::{Progress, Sending};
use crate::core::http::hop::{self, BadFraming, Framing};
use crate::upstream::Pool;
use crate::upstream::body::NodeBody;
use crate::upstream::call::Answered;
use crate::upstream::channel::{Channel, Coming};
use crate::upstream::lease::Lease;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode, Version};

/// What is not HTTP, and may not be passed on.
pub(super) struct NotHttp;

/// How an answer is framed; none: in two ways at once.
pub(super) fn framing(response: &Response<Coming>) -> Result<Option<Framing>, NotHttp> {
    // We never ask for an upgrade, so nobody may switch.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(NotHttp);
    }
    match hop::framing(response.headers()) {
        Ok(framing) => Ok(Some(framing)),
        Err(BadFraming::Both) => Ok(None),
        Err(BadFraming::UnknownCoding | BadFraming::BadLength) => Err(NotHttp),
    }
}

impl Pool {
    /// A response head as it is passed on.
    pub(super) fn answered(
        &self,
        progress: &Progress<'_>,
        response: Response<Coming>,
        lease: Lease,
        sending: Sending,
        after_maybe_applied: bool,
    ) -> Answered {
        let Progress {
            one, upstream, write, ..
        } = *progress;
        let received = sending.received;
        let node = lease.node();
        let (mut parts, incoming) = response.into_parts();
        let framing = sending.framing;
        if framing.is_none() {
            // RFC 9112 s6.3: read as chunked, and nothing after it is believed.
            parts.headers.remove(CONTENT_LENGTH);
        }
        let shared = &self.core.shared;
        let lag = one.lag(node, sending.epoch, &parts.headers);
        one.note_shown(received, sending.epoch, one.told(&parts.headers));
        let took = received.duration_since(sending.at);
        shared.events.answered(upstream, node, took);
        let close_delimited =
            framing == Some(Framing::Unsaid) && parts.version != Version::HTTP_2 && !incoming.is_end_stream();
        // An answer that came before the whole request was sent: the node may not read the rest.
        let early = !lease.link().is_some_and(Channel::uploaded);
        // R11: a write that ended unknown takes its connection with it.
        let unknown = write && (parts.status.is_server_error() || parts.status == StatusCode::ACCEPTED);
        let reusable = !early && !unknown && framing.is_some();
        let fenced = one.fence_refusal(write, sending.epoch, &parts);
        if let Some(epoch) = fenced {
            one.rival.refused(epoch); // R54
            shared.probe_now(upstream, node);
        }
        Answered {
            fenced,
            parts,
            body: NodeBody::new(incoming, lease, reusable),
            node,
            lag,
            sent: sending.at,
            epoch: sending.epoch,
            shared: one.is_shared(),
            received,
            close_delimited,
            after_maybe_applied,
        }
    }
}
