//! What an entry weighs: the memory it holds, as the allocator hands it out, and what is kept of it elsewhere.

use super::{Entry, Rare, piece};
use crate::core::http::stored::{Meta, Vary};

/// What a stored entry costs beside the memory that is its own: its record in the index at the load a hash table has when it has just
/// grown, and its place in the budget (moka: six pieces of memory), as measured over 100,000 and 1,000,000 entries.
const BOOKKEEPING: usize = 448;

/// A body that anybody has read is counted in memory of its own.
const BODY_COUNT: usize = 32;

/// What a tag costs beside its name in the fields: its digest, the entry's place in the tag's record, and the record itself, as if it
/// were this entry's alone.
const PER_TAG: usize = 256;

/// What a selecting field costs beside its bytes (two boxed names).
const PER_SELECTING_FIELD: usize = 80;

pub(super) fn of(entry: &Entry) -> usize {
    piece::size(entry) + entry.rare().map_or(0, rare) + BOOKKEEPING
}

fn rare(rare: &Rare) -> usize {
    let apart = |bytes: usize| piece::rounded(bytes) + BODY_COUNT;
    let head = rare.head.as_ref().map_or(0, |(bytes, _)| apart(bytes.len()));
    let body = rare.body.as_ref().map_or(0, |body| apart(body.len()));
    let facts = rare.meta.as_ref().map_or(0, |meta| {
        let etag = meta.etag.as_ref().map_or(0, |etag| apart(etag.value.len()));
        piece::rounded(size_of::<Meta>()) + etag + selecting(&meta.vary)
    });
    piece::rounded(size_of::<Rare>()) + head + body + facts + selecting(&rare.vary) + rare.tags.len() * PER_TAG
}

/// The memory of the request's own fields that an answer was selected by.
fn selecting(vary: &Vary) -> usize {
    match vary {
        Vary::Any => 0,
        Vary::Fields(fields) => fields
            .iter()
            .map(|(n, v)| n.as_str().len() + v.as_deref().map_or(0, str::len) + PER_SELECTING_FIELD)
            .sum(),
    }
}
