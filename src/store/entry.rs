//! One stored answer. Everything a hit needs is in it, ready: facts, head, body. Only its two marks ever change, each
//! once: `revoked` takes it out of service, `softened` ends its freshness. A mark lives as long as the entry it covers.

use super::ResourceId;
use super::sync::{AtomicBool, AtomicU64};
use crate::core::consistency::listed;
use crate::core::http::stored::{Meta, Stored, Vary, has_no_body};
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use crate::store::packed::{Gained, Packed};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a stored entry costs beside the memory that is its own: its record in the index at the load a hash table has when it has just
/// grown, and its place in the budget (moka: six pieces of memory), as measured over 100,000 and 1,000,000 entries.
const BOOKKEEPING: usize = 512;

/// A body that anybody has read is counted in memory of its own.
const BODY_COUNT: usize = 32;

/// What a tag costs beside its name in the fields: its digest, the entry's place in the tag's record, and the record itself, as if it
/// were this entry's alone.
const PER_TAG: usize = 256;

/// What a selecting field costs beside its bytes (two boxed names).
const PER_SELECTING_FIELD: usize = 80;

/// No soft purge yet: later than any instant.
const NEVER: u64 = u64::MAX;

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

/// One stored answer.
#[derive(Debug)]
pub struct Entry {
    id: u64,
    resource: ResourceId,
    digest: u128,
    /// None: its digest, as no field of a request selects it.
    variant: Option<Box<u128>>,
    tags: Box<[u128]>,
    meta: Meta,
    packed: Packed,
    body: Bytes,
    revoked: AtomicBool,
    /// When a soft purge came, in microseconds of the monotonic clock, or [`NEVER`].
    softened: AtomicU64,
    weight: u32,
    /// What the judge of what stays knows it by: its number, or that of the entry whose place it took.
    place: u64,
    /// Whether the judge has been told of that place.
    placed: AtomicBool,
    /// What it was admitted under ([`EntryRef::under`]).
    terms: u32,
}

/// No terms that anybody could name.
const NO_TERMS: u32 = u32::MAX;

impl Entry {
    pub(super) fn new(id: u64, identity: Identity, head: SharedHead, body: Bytes) -> Self {
        let Head { meta, mut headers } = Arc::unwrap_or_clone(head);
        if !has_no_body(meta.status) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let meta = detached(meta);
        let packed = Packed::new(&identity.key, &headers);
        let variant = variant(identity.digest, &meta.vary).map(Box::new);
        let mut entry = Self {
            id,
            resource: identity.resource,
            digest: identity.digest,
            variant,
            tags: identity.tags,
            meta,
            packed,
            body,
            revoked: AtomicBool::new(false),
            softened: AtomicU64::new(NEVER),
            weight: 0,
            place: id,
            placed: AtomicBool::new(false),
            terms: NO_TERMS,
        };
        entry.weight = u32::try_from(entry.size()).unwrap_or(u32::MAX);
        entry
    }

    /// Its memory, in bytes, as the allocator hands it out.
    fn size(&self) -> usize {
        let itself = size_of::<Self>() + 2 * size_of::<usize>();
        let etag = self
            .meta
            .etag
            .as_ref()
            .map_or(0, |etag| rounded(etag.value.len()) + BODY_COUNT);
        let body = rounded(self.body.len()) + BODY_COUNT;
        let selected = selecting(&self.meta.vary) + self.variant.as_ref().map_or(0, |_| size_of::<u128>());
        rounded(itself) + rounded(self.packed.size()) + etag + body + selected + self.tags.len() * PER_TAG + BOOKKEEPING
    }

    /// As `old` but for its facts: what a 304 that changes no field makes of it.
    pub(super) fn renewed(id: u64, old: &Self, meta: Meta) -> Self {
        let renewed = Self {
            id,
            resource: old.resource,
            digest: old.digest,
            variant: old.variant.clone(),
            tags: old.tags.clone(),
            meta,
            packed: old.packed.clone(),
            body: old.body.clone(),
            revoked: AtomicBool::new(false),
            softened: AtomicU64::new(NEVER),
            weight: old.weight,
            place: id,
            placed: AtomicBool::new(false),
            terms: old.terms,
        };
        renewed.in_place_of(old)
    }

    /// Takes the place of an entry of the same variant and weight, of which the judge of what stays need not be told. Only where it
    /// knows that one already: who tells it may be late, and looks whether the entry is still in service.
    fn in_place_of(mut self, old: &Self) -> Self {
        if old.weight == self.weight && old.variant == self.variant && old.placed.load(Ordering::Acquire) {
            (self.place, self.placed) = (old.place, AtomicBool::new(true));
        }
        self
    }

    /// What the judge of what stays knows it by.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// The judge knows it.
    pub(super) fn set_placed(&self) {
        self.placed.store(true, Ordering::Release);
    }

    /// Its resource.
    #[must_use]
    pub fn resource(&self) -> ResourceId {
        self.resource
    }

    /// The digest of its cache key.
    #[must_use]
    pub fn key_digest(&self) -> u128 {
        self.digest
    }

    /// The whole cache key: a digest alone never decides.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.packed.key()
    }

    /// The digests of its tags, each once and in order.
    #[must_use]
    pub fn tags(&self) -> &[u128] {
        &self.tags
    }

    /// What it answers, as it is told to make another of it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            resource: self.resource,
            digest: self.digest,
            key: self.key().into(),
            tags: self.tags.clone(),
        }
    }

    /// Its facts.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// A copy of its head.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            meta: self.meta.clone(),
            headers: self.headers(),
        }
    }

    /// A copy of its fields, as received and with `Content-Length`, with room for what an answer gains.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.packed.fields()
    }

    /// Its fields line by line, as they are stored.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.packed.lines()
    }

    /// A copy of its fields for a hit: before them places for `Age`, `Via`, `Cache-Status` and `Tidegate-Consistency`, the last of which `prepare` may take
    /// out; it is to make the same of an entry every time. The places are filled in by `gained`. None where some of these were stored, or that is not
    /// known yet.
    #[must_use]
    pub fn ready_headers(&self, prepare: impl FnOnce(&mut HeaderMap), gained: &impl Gained) -> Option<HeaderMap> {
        self.packed.ready(prepare, gained)
    }

    /// Its body, complete and contiguous.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether no write was pending or unsettled when its fill began (R2), and no soft purge has come since.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.meta().proven && self.softened().is_none()
    }

    /// When a soft purge ended its freshness.
    #[must_use]
    #[inline]
    pub fn softened(&self) -> Option<MonoTime> {
        match self.softened.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(MonoTime::from_micros(at)),
        }
    }

    /// A soft purge. The first one counts; returns whether this was it.
    pub(super) fn soften(&self, now: MonoTime) -> bool {
        let at = now.as_micros().min(NEVER - 1);
        self.softened
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
        self.revoked.load(Ordering::Acquire)
    }

    /// Its memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The digest of its key and selecting fields: stable over refetches, so that the budget remembers how popular it was.
    pub(super) fn variant(&self) -> u128 {
        self.variant.as_ref().map_or(self.digest, |variant| **variant)
    }
}

/// The facts in memory of their own: a field value as received is a slice that keeps a whole read buffer alive, which no budget would see.
fn detached(mut meta: Meta) -> Meta {
    if let Some(etag) = &mut meta.etag {
        etag.value = HeaderValue::from_bytes(etag.value.as_bytes()).unwrap_or_else(|_| etag.value.clone());
    }
    meta
}

/// What an allocator with four sizes from one power of two to the next, as ours is, hands out for so many bytes.
fn rounded(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
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
            Some(hasher.finish128().as_u128())
        }
    }
}

/// A shared stored answer.
#[derive(Clone, Debug)]
pub struct EntryRef(Arc<Entry>);

impl EntryRef {
    pub(super) fn new(entry: Entry) -> Self {
        Self(Arc::new(entry))
    }

    /// What a validation has made of `old`, before anybody else has it: if it weighs the same, it takes its place.
    #[must_use]
    pub fn after(self, old: &Self) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(entry) => Self::new(entry.in_place_of(old)),
            Err(shared) => Self(shared),
        }
    }

    /// Notes under which configuration it was admitted, before anybody else has it.
    #[must_use]
    pub fn under(mut self, terms: u32) -> Self {
        if let Some(entry) = Arc::get_mut(&mut self.0) {
            entry.terms = terms;
        }
        self
    }

    /// Whether it was admitted under this configuration, whose policy would say the same of it again.
    #[must_use]
    pub fn is_under(&self, terms: u32) -> bool {
        self.terms == terms && terms != NO_TERMS
    }
}

impl Deref for EntryRef {
    type Target = Entry;
    fn deref(&self) -> &Entry {
        &self.0
    }
}

impl Stored for EntryRef {
    #[inline]
    fn meta(&self) -> &Meta {
        &self.0.meta
    }

    #[inline]
    fn softened(&self) -> Option<MonoTime> {
        self.0.softened()
    }
}

impl PartialEq for EntryRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for EntryRef {}

impl listed::Entry for EntryRef {
    fn id(&self) -> u64 {
        self.0.id
    }

    fn digest(&self) -> u128 {
        self.0.digest
    }

    fn revoke(&self) {
        self.0.revoked.store(true, Ordering::Release);
    }

    fn is_revoked(&self) -> bool {
        self.0.is_revoked()
    }

    fn same_variant(&self, other: &Self) -> bool {
        self.0.variant() == other.0.variant()
            && self.0.key() == other.0.key()
            && self.0.meta().vary == other.0.meta().vary
    }

    fn older_than(&self, other: &Self) -> bool {
        let (this, other) = (self.0.meta(), other.0.meta());
        let none = MonoTime::default();
        // R43: a replica that was asked later may still have answered with something older.
        if this.valid_as_of != other.valid_as_of && this.valid_as_of != none && other.valid_as_of != none {
            return this.valid_as_of < other.valid_as_of;
        }
        this.sent < other.sent
    }
}
