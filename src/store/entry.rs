//! One stored answer. Everything a hit needs is in it, ready: facts, head, body, in one piece of memory where that is not too much. Only its
//! two marks ever change, each once: `revoked` takes it out of service, `softened` ends its freshness. A mark lives as long as the entry it
//! covers.
//!
//! There are many of them, and few are looked at twice in a row: what nearly all have is in the piece itself, told briefly ([`numbers`]),
//! and what is rare is elsewhere ([`Rare`]).

use super::ResourceId;
use super::sync::{AtomicBool, AtomicU64};
use crate::core::http::etag;
use crate::core::http::part::Part;
use crate::core::http::stored::{Etag, Facts, Meta, Vary};
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use crate::store::packed::{Ends, Gained, Packed, Shape, Text};
use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, HeaderValue, StatusCode};
use numbers::{Numbers, TagAt};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[path = "entry/numbers.rs"] // named, as tests take this file in from another place too
mod numbers;
#[path = "entry/piece.rs"]
mod piece;
#[path = "entry/shared.rs"]
mod shared;
#[path = "entry/weight.rs"]
mod weight;

pub use shared::EntryRef;

/// No soft purge yet: later than any instant.
const NEVER: u64 = u64::MAX;

/// No terms that anybody could name.
const NO_TERMS: u32 = u32::MAX;

/// The head of an answer that is arriving or was stored, shared by everybody who reads it.
pub type SharedHead = Arc<Head>;

/// Status facts and fields.
#[derive(Clone, Debug)]
pub struct Head {
    /// The facts a lookup reads.
    pub meta: Meta,
    /// The fields as received, hop-by-hop fields removed.
    pub headers: HeaderMap,
}

/// What an entry answers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its resource.
    pub resource: ResourceId,
    /// The digest of its cache key.
    pub digest: u128,
    /// The whole cache key: a digest alone never decides.
    pub key: Arc<[u8]>,
    /// The digests of its tags (`key::tag_digest`), each once and in order.
    pub tags: Box<[u128]>,
}

/// One stored answer. Behind what all have, in the same piece of memory: its packed head and its body, as far as there is room.
pub struct Entry<B: ?Sized = [u8]> {
    fixed: Fixed,
    bytes: B,
}

struct Fixed {
    id: u64,
    /// In halves: a number of 128 bits would stand at every other place only.
    resource: [u64; 2],
    digest: [u64; 2],
    upstream: u32,
    /// How much less than its own the number is that the judge of what stays knows it by: that of the entry whose place it took.
    place_before: u32,
    /// The same for that of the first entry with these very fields.
    head_before: u32,
    numbers: Numbers,
    shape: Option<Arc<Shape>>,
    rare: Option<Box<Rare>>,
    /// When a soft purge came, in microseconds of the monotonic clock, or [`NEVER`].
    softened: AtomicU64,
    weight: u32,
    /// What it was admitted under ([`EntryRef::under`]).
    terms: u32,
    /// Where in its bytes the key ends, the lengths, the names and the head. All at the beginning where the head is elsewhere.
    ends: [u16; 4],
    /// The length of the body behind it.
    body: u16,
    revoked: AtomicBool,
    /// Whether the judge has been told of its place.
    placed: AtomicBool,
}

/// What few entries have.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// The digest that tells it from others under its key, where fields of a request select it.
    variant: Option<u128>,
    tags: Box<[u128]>,
    vary: Vary,
    part: Option<Part>,
    /// Its facts, where the short form cannot tell them.
    meta: Option<Box<Meta>>,
    /// A head too long for the piece.
    head: Option<(Bytes, Ends)>,
    /// A body too long for it.
    body: Option<Bytes>,
}

impl Rare {
    /// None where it has nothing.
    fn boxed(self) -> Option<Box<Self>> {
        let Self {
            variant,
            tags,
            vary,
            part,
            meta,
            head,
            body,
        } = &self;
        let is_plain = variant.is_none() && tags.is_empty() && *vary == Vary::Any && part.is_none();
        let is_short = meta.is_none() && head.is_none() && body.is_none();
        (!is_plain || !is_short).then(|| Box::new(self))
    }
}

static ANY: Vary = Vary::Any;

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.fixed.id)
            .field("facts", &self.facts())
            .field("is_revoked", &self.is_revoked())
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// Takes the place of an entry of the same variant and weight, of which the judge of what stays need not be told. Only where it
    /// knows that one already: who tells it may be late, and looks whether the entry is still in service.
    fn take_place_of(&mut self, old: &Self) {
        if old.fixed.weight == self.fixed.weight
            && old.variant() == self.variant()
            && old.fixed.placed.load(Ordering::Acquire)
            && let Ok(before) = u32::try_from(self.fixed.id.saturating_sub(old.place()))
        {
            (self.fixed.place_before, self.fixed.placed) = (before, AtomicBool::new(true));
        }
    }

    /// What the judge of what stays knows it by: its number, or that of the entry whose place it took.
    pub(super) fn place(&self) -> u64 {
        self.fixed.id - u64::from(self.fixed.place_before)
    }

    /// As much of it as the judge keeps. Two of one variant that are told the same are 2^32 stored answers apart.
    pub(super) fn short_place(&self) -> u32 {
        let [.., a, b, c, d] = self.place().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// The judge knows it.
    pub(super) fn set_placed(&self) {
        self.fixed.placed.store(true, Ordering::Release);
    }

    /// Its resource.
    #[must_use]
    pub fn resource(&self) -> ResourceId {
        ResourceId {
            digest: whole(self.fixed.resource),
            upstream: self.fixed.upstream as usize,
        }
    }

    /// The digest of its cache key.
    #[must_use]
    #[inline]
    pub fn key_digest(&self) -> u128 {
        whole(self.fixed.digest)
    }

    /// The whole cache key: a digest alone never decides.
    #[must_use]
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.packed().key()
    }

    /// The digests of its tags, each once and in order.
    #[must_use]
    pub fn tags(&self) -> &[u128] {
        self.rare().map_or(&[], |rare| &rare.tags)
    }

    /// What it answers, as it is told to make another of it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            resource: self.resource(),
            digest: self.key_digest(),
            key: self.key().into(),
            tags: self.tags().into(),
        }
    }

    /// What of its facts decides about most reads. Inlined as its numbers are.
    #[must_use]
    #[inline(always)]
    pub fn facts(&self) -> Facts {
        match self.rare() {
            None => self.fixed.numbers.facts(None),
            Some(rare) => match &rare.meta {
                None => self.fixed.numbers.facts(rare.part),
                Some(meta) => meta.facts(),
            },
        }
    }

    /// Its status.
    #[must_use]
    #[inline]
    pub fn status(&self) -> StatusCode {
        let rare = self.rare().and_then(|rare| rare.meta.as_ref());
        rare.map_or(self.fixed.numbers.status(), |meta| meta.status)
    }

    /// All its facts, put together.
    #[must_use]
    pub fn meta(&self) -> Meta {
        let Some(rare) = self.rare() else {
            return self.fixed.numbers.meta(None, Vary::Any, self.etag());
        };
        match &rare.meta {
            None => self.fixed.numbers.meta(rare.part, rare.vary.clone(), self.etag()),
            Some(meta) => Meta::clone(meta),
        }
    }

    /// Which requests it fits.
    #[must_use]
    #[inline]
    pub fn vary(&self) -> &Vary {
        self.rare().map_or(&ANY, |rare| &rare.vary)
    }

    /// The text of its tag, and whether that is weak.
    fn tag(&self) -> Option<(&[u8], bool)> {
        if let Some(meta) = self.rare().and_then(|rare| rare.meta.as_ref()) {
            return meta.etag.as_ref().map(|etag| (etag.value.as_bytes(), etag.weak));
        }
        let numbers = &self.fixed.numbers;
        let weak = numbers.tag()?;
        let told = match numbers.tag_at() {
            TagAt::Bytes(at) => self.packed().bytes.get(at),
            TagAt::Shape => self.shapes_tag(),
            TagAt::Fields => None,
        };
        if let Some(text) = told {
            return Some((text, weak));
        }
        match self.lines().find(|(name, _)| *name == ETAG.as_str())? {
            (_, Text::Stored(value)) => Some((etag::text(value)?, weak)),
            (_, Text::Made(_)) => None, // no date is a tag
        }
    }

    /// The text of the tag among what its shape says.
    #[inline]
    fn shapes_tag(&self) -> Option<&[u8]> {
        self.fixed.shape.as_ref()?.tag()
    }

    /// Where the text of its tag is found without looking through its fields.
    fn tag_at(&self) -> TagAt {
        let Some((text, _)) = self.tag() else {
            return TagAt::Fields;
        };
        let head = self.packed().bytes;
        match text.as_ptr().addr().checked_sub(head.as_ptr().addr()) {
            Some(start) if start + text.len() <= head.len() => TagAt::Bytes(start..start + text.len()),
            _ if self.shapes_tag() == Some(text) => TagAt::Shape,
            _ => TagAt::Fields,
        }
    }

    fn etag(&self) -> Option<Etag> {
        let (text, weak) = self.tag()?;
        let value = HeaderValue::from_bytes(text).ok()?;
        Some(Etag { value, weak })
    }

    /// A copy of its head.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            meta: self.meta(),
            headers: self.headers(),
        }
    }

    /// A copy of its fields, as received and with `Content-Length`, with room for what an answer gains.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.packed().fields()
    }

    /// Its fields line by line, as they are stored.
    pub fn lines(&self) -> impl Iterator<Item = (&str, Text<'_>)> {
        self.packed().lines()
    }

    /// A copy of its fields for a hit: before them places for `Age`, `Via`, `Cache-Status` and `Tidegate-Consistency`, the last of which `prepare` may take
    /// out; it is to make the same of an entry every time. The places are filled in by `gained`. None where some of these were stored, or that is not
    /// known yet.
    #[must_use]
    pub fn ready_headers(&self, prepare: impl FnOnce(&mut HeaderMap), gained: &impl Gained) -> Option<HeaderMap> {
        self.packed().ready(prepare, gained)
    }

    /// The bytes of its body, complete and contiguous.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        if let Some(apart) = self.body_apart() {
            return apart;
        }
        let [.., start] = self.fixed.ends;
        let (start, length) = (usize::from(start), usize::from(self.fixed.body));
        self.bytes.get(start..start + length).unwrap_or_default()
    }

    /// Its body, where that is no part of its own piece of memory.
    pub(super) fn body_apart(&self) -> Option<&Bytes> {
        self.rare()?.body.as_ref()
    }

    /// Whether no write was pending or unsettled when its fill began (R2), and no soft purge has come since.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.facts().proven && self.softened().is_none()
    }

    /// When a soft purge ended its freshness.
    #[must_use]
    #[inline]
    pub fn softened(&self) -> Option<MonoTime> {
        match self.fixed.softened.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(MonoTime::from_micros(at)),
        }
    }

    /// A soft purge. The first one counts; returns whether this was it.
    pub(super) fn soften(&self, now: MonoTime) -> bool {
        let at = now.as_micros().min(NEVER - 1);
        self.fixed
            .softened
            .compare_exchange(NEVER, at, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether it may be served at this instant. The load is a hit's linearization point (R23).
    #[must_use]
    #[inline]
    pub fn is_in_service(&self) -> bool {
        !self.is_revoked() || !Rule::R23.holds()
    }

    /// Whether a write, a purge or a newer answer took it out of service.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.fixed.revoked.load(Ordering::Acquire)
    }

    /// Its memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.fixed.weight
    }

    /// The digest of its key and selecting fields: stable over refetches, so that the budget remembers how popular it was. Its higher half
    /// is the key's.
    pub(super) fn variant(&self) -> u128 {
        self.rare()
            .and_then(|rare| rare.variant)
            .unwrap_or_else(|| self.key_digest())
    }

    #[inline]
    fn rare(&self) -> Option<&Rare> {
        self.fixed.rare.as_deref()
    }

    #[inline]
    fn packed(&self) -> Packed<'_> {
        let (bytes, ends) = match self.rare().and_then(|rare| rare.head.as_ref()) {
            Some((bytes, ends)) => (&**bytes, *ends),
            None => {
                let [key, lengths, names, end] = self.fixed.ends;
                let ends = Ends {
                    key: u32::from(key),
                    lengths: u32::from(lengths),
                    names: u32::from(names),
                };
                (self.bytes.get(..usize::from(end)).unwrap_or_default(), ends)
            }
        };
        Packed {
            bytes,
            ends,
            shape: self.fixed.shape.as_deref(),
            number: self.fixed.id - u64::from(self.fixed.head_before),
        }
    }
}

/// None: no field of a request selects it.
fn variant(digest: u128, vary: &Vary) -> Option<u128> {
    match vary {
        Vary::Any => None,
        Vary::Fields(fields) => {
            let mut hasher = SipHasher13::new_with_key(&digest.to_be_bytes());
            for (name, value) in fields {
                hasher.write(name.as_str().as_bytes());
                hasher.write_u8(u8::from(value.is_some()));
                hasher.write(value.as_deref().unwrap_or("").as_bytes());
                hasher.write_u8(0xff); // no field value holds this byte twice: the text is visible ASCII or UTF-8
            }
            let [high, _] = halves(digest);
            let [_, low] = halves(hasher.finish128().as_u128());
            Some(whole([high, low]))
        }
    }
}

/// A number of 128 bits as two of 64, of which the first is the higher one.
pub(super) const fn halves(digest: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = digest.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)]
}

/// The number again.
#[inline]
pub(super) fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
