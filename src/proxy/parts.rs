//! What a fetch asks for when only a part of a representation is stored, or only a part can be: what is missing of it, or one range.
//! A part grows by what comes, under the same strong validator (RFC 9111 s3.4); strong routes store none (R7). Whoever waits gets
//! bytes of one representation or a broken answer, never a mixture: an answer that does not fit the part is asked for again, whole.

use super::Core;
use super::miss::{look, read_now};
use super::request::Job;
use crate::core::http::part::{self, Missing, Part};
use crate::core::http::range::{self, Cut};
use crate::core::http::stored::Meta;
use crate::core::http::validate;
use crate::core::lookup::{self, Read};
use crate::core::time::MonoTime;
use crate::store::entry::{Head, SharedHead};
use crate::store::{EntryRef, Found};
use crate::upstream::Answered;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::Arc;

/// What a fetch asks for.
#[derive(Debug)]
pub(super) enum Want {
    /// All of it.
    Whole,
    /// What is missing of a stored part, if the origin still has that representation.
    Rest(Rest),
    /// One range, as its requester names it: the whole would be too large to keep.
    Piece(HeaderValue),
}

/// A stored part that one more piece makes whole.
#[derive(Debug)]
pub(super) struct Rest {
    old: EntryRef,
    part: Part,
    missing: Missing,
}

/// What an answer is to what was wanted.
#[derive(Debug)]
pub(super) enum Came {
    /// An answer in its own right.
    AsItIs,
    /// The missing piece: with these fields and bytes it is the whole.
    Rest(HeaderMap, Around),
    /// Of no use: the whole must be asked for.
    Again,
}

/// Stored bytes that belong before and behind those that arrive, and how many must arrive between.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) before: Bytes,
    pub(super) size: u64,
    pub(super) after: Bytes,
}

impl Want {
    /// What a shared fetch asks for: the rest of a stored part, where there is one worth completing.
    pub(super) fn of(read: &Read<'_>, found: &Found, job: &Job, max_object: u64) -> Self {
        let newest = lookup::newest_part(read, &found.variants, &job.policy);
        let Some(old) = newest.and_then(|index| found.variants.get(index)) else {
            return Self::Whole;
        };
        match old.facts().part.map(|part| (part, part.missing())) {
            Some((part, Some(missing))) if part.length <= max_object && !old.is_revoked() => Self::Rest(Rest {
                old: old.clone(),
                part,
                missing,
            }),
            Some(_) | None => Self::Whole,
        }
    }

    /// Writes it into the fetch's request, which carries nothing of the client's (R5c).
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Whole => {}
            Self::Rest(rest) => {
                if let Some(etag) = &rest.old.meta().etag {
                    headers.insert(IF_RANGE, etag.value.clone());
                    headers.insert(RANGE, rest.missing.range());
                }
            }
            Self::Piece(range) => {
                headers.insert(RANGE, range.clone());
            }
        }
    }

    /// Whether an answer with this status can be stored as one to the request as it was before a range was added to it.
    pub(super) fn is_of_all(&self, status: StatusCode) -> bool {
        match self {
            Self::Whole | Self::Rest(_) => true,
            Self::Piece(_) => matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT),
        }
    }

    /// What has come.
    pub(super) fn judge(&self, answered: &Answered) -> Came {
        match self {
            Self::Whole | Self::Piece(_) => Came::AsItIs,
            Self::Rest(rest) => rest.judge(answered),
        }
    }
}

impl Rest {
    fn judge(&self, answered: &Answered) -> Came {
        let fields = &answered.parts.headers;
        match answered.parts.status {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => return Came::Again,
            _ => return Came::AsItIs,
        }
        let wanted = match self.missing {
            Missing::Before(end) => Cut { start: 0, end },
            Missing::From(start) => Cut {
                start,
                end: self.part.length,
            },
        };
        // RFC 9111 s3.4: exactly the piece, of exactly the representation.
        let came = Part::of(fields).filter(|came| came.cut == wanted && came.length == self.part.length);
        let speaks_of_it = answered.speaks_of(self.old.facts().epoch); // R53
        if came.is_none() || !speaks_of_it || !part::is_of_one(&self.old.meta(), &self.old.headers(), fields) {
            return Came::Again;
        }
        let mut merged = self.old.headers();
        validate::merge_304(&mut merged, fields);
        range::drop_content_digests(&mut merged);
        merged.remove(CONTENT_RANGE);
        merged.insert(CONTENT_LENGTH, HeaderValue::from(self.part.length));
        let stored = self.old.body();
        let (before, after) = match self.missing {
            Missing::Before(_) => (Bytes::new(), stored),
            Missing::From(_) => (stored, Bytes::new()),
        };
        let size = wanted.size();
        Came::Rest(merged, Around { before, size, after })
    }
}

/// The range to ask the origin for in a request of which the whole is known to be too large to keep; none when the whole is to be
/// fetched, or the client's `If-Range` is for the origin to judge.
pub(super) fn piece(core: &Core, job: &Job, now: MonoTime, found: &Found) -> Option<HeaderValue> {
    let max_object = job.policy.caching()?.max_object;
    let too_large = |entry: &EntryRef| entry.facts().part.is_some_and(|part| part.length > max_object);
    let is_known = found.variants.iter().any(too_large) || core.shared.store.flights().is_too_large(now, job.digest);
    is_known.then(|| asked_piece(job)).flatten()
}

/// The one range a request asks for, where its answer could be stored as a part.
pub(super) fn asked_piece(job: &Job) -> Option<HeaderValue> {
    let stores_parts = !job.policy.is_strong(); // R7
    stores_parts
        .then(|| range::one_unconditional(&job.parts.method, &job.parts.headers))
        .flatten()
}

/// A part that has come, as it is stored: together with what was stored of the same representation and touches it, and as the whole
/// when nothing is missing any more.
pub(super) fn grown(core: &Core, job: &Job, head: SharedHead, body: Bytes, max_object: u64) -> (SharedHead, Bytes) {
    let Some(came) = head.meta.part else {
        return (head, body);
    };
    let found = look(core, job, core.now());
    let read = read_now(core, job, false);
    let old = lookup::newest_part(&read, &found.variants, &job.policy).and_then(|index| found.variants.get(index));
    let (part, body) = old
        .and_then(|old| joined(old, &head, came, &body, max_object))
        .unwrap_or((came, body));
    if part == came && !part.is_whole() {
        return (head, body);
    }
    let mut headers = head.headers.clone();
    if part != came {
        range::drop_content_digests(&mut headers);
    }
    let mut meta = Meta {
        part: Some(part),
        ..head.meta.clone()
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(part.cut.size()));
    if part.is_whole() {
        meta.part = None;
        meta.status = StatusCode::OK;
        headers.remove(CONTENT_RANGE);
    } else {
        headers.insert(CONTENT_RANGE, range::content_range(part.cut, part.length));
    }
    (Arc::new(Head { meta, headers }), body)
}

/// RFC 9111 s3.4: both as one, when they are of one representation.
fn joined(old: &EntryRef, head: &Head, came: Part, body: &Bytes, max_object: u64) -> Option<(Part, Bytes)> {
    let meta = old.meta();
    let had = meta.part?;
    let same = meta.vary == head.meta.vary && part::is_of_one(&meta, &old.headers(), &head.headers);
    if !same || old.is_revoked() {
        return None;
    }
    let (part, bytes) = part::joined((had, old.body_bytes()), (came, body), max_object)?;
    Some((part, Bytes::from(bytes)))
}
