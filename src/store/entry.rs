//! One stored answer. Everything a hit needs is in it, ready: facts, head, body. Only its two marks ever change, each
//! once: `revoked` takes it out of service, `softened` ends its freshness. A mark lives as long as the entry it covers.

use super::ResourceId;
use super::sync::{AtomicBool, AtomicU64};
use crate::core::consistency::listed;
use crate::core::http::stored::{Meta, Stored, Vary, has_no_body};
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a stored entry costs beside its bytes: the entry itself, two `Arc` counts, its place in the index and in the budget
/// (moka: 152-184 bytes an entry by its author's count), and the allocator's rounding.
const BOOKKEEPING: usize = 640;

/// What a header field costs beside its bytes: its slot in the map and its share of the index.
const PER_FIELD: usize = 112;

/// What a tag costs beside its name in the fields: its digest, the entry's place in the tag's record, and the record itself, as if it
/// were this entry's alone.
const PER_TAG: usize = 256;

/// How many fields an answer made of a stored head gains (Age, Via, Cache-Status, Tidegate-Consistency, and one of the route's own). A copy
/// of a map has the room of the original: without this, every hit would index its fields anew.
const SPARE_FIELDS: usize = 5;

/// What a selecting field costs beside its bytes (two boxed names).
const PER_SELECTING_FIELD: usize = 80;

/// No soft purge yet: later than any instant.
const NEVER: u64 = u64::MAX;

/// The head of a stored answer, shared by everybody who reads it.
pub type SharedHead = Arc<Head>;

/// Status facts and fields.
#[derive(Clone, Debug)]
pub struct Head {
    /// The facts a lookup reads.
    pub meta: Meta,
    /// The fields as received, hop-by-hop fields removed. In an entry, with `Content-Length`.
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
    identity: Identity,
    variant: u128,
    head: SharedHead,
    body: Bytes,
    revoked: AtomicBool,
    /// When a soft purge came, in microseconds of the monotonic clock, or [`NEVER`].
    softened: AtomicU64,
    weight: u32,
}

impl Entry {
    pub(super) fn new(id: u64, identity: Identity, head: SharedHead, body: Bytes) -> Self {
        let mut head = Arc::unwrap_or_clone(head);
        if !has_no_body(head.meta.status) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let head = Arc::new(detached(head));
        let fields: usize = head
            .headers
            .iter()
            .map(|(n, v)| n.as_str().len() + v.len() + PER_FIELD)
            .sum();
        let tags = identity.tags.len() * PER_TAG;
        let weight = BOOKKEEPING + identity.key.len() + fields + tags + selecting(&head.meta.vary) + body.len();
        Self {
            id,
            variant: variant(identity.digest, &head.meta.vary),
            identity,
            head,
            body,
            revoked: AtomicBool::new(false),
            softened: AtomicU64::new(NEVER),
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
        }
    }

    /// What it answers.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its facts.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.head.meta
    }

    /// Its head.
    #[must_use]
    pub fn head(&self) -> &SharedHead {
        &self.head
    }

    /// Its fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
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
        self.variant
    }
}

/// A copy of the head in memory of its own: a field value as received is a slice that keeps a whole read buffer alive, which no
/// budget would see.
fn detached(head: Head) -> Head {
    let mut text = BytesMut::with_capacity(head.headers.values().map(HeaderValue::len).sum());
    head.headers
        .values()
        .for_each(|value| text.extend_from_slice(value.as_bytes()));
    let mut text = text.freeze();
    let mut headers = HeaderMap::with_capacity(head.headers.len() + SPARE_FIELDS);
    for (name, value) in &head.headers {
        // The same bytes in another place are as valid as before.
        let mut copy = HeaderValue::from_maybe_shared(text.split_to(value.len())).unwrap_or_else(|_| value.clone());
        copy.set_sensitive(value.is_sensitive());
        headers.append(name.clone(), copy);
    }
    let mut meta = head.meta;
    if let Some(etag) = &mut meta.etag {
        etag.value = HeaderValue::from_bytes(etag.value.as_bytes()).unwrap_or_else(|_| etag.value.clone());
    }
    Head { meta, headers }
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

fn variant(digest: u128, vary: &Vary) -> u128 {
    match vary {
        Vary::Any => digest,
        Vary::Fields(fields) => {
            let mut hasher = SipHasher13::new_with_key(&digest.to_be_bytes());
            for (name, value) in fields {
                hasher.write(name.as_str().as_bytes());
                hasher.write_u8(u8::from(value.is_some()));
                hasher.write(value.as_deref().unwrap_or("").as_bytes());
                hasher.write_u8(0xff); // no field value holds this byte twice: the text is visible ASCII or UTF-8
            }
            hasher.finish128().as_u128()
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
        &self.0.head.meta
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
        self.0.identity.digest
    }

    fn revoke(&self) {
        self.0.revoked.store(true, Ordering::Release);
    }

    fn is_revoked(&self) -> bool {
        self.0.is_revoked()
    }

    fn same_variant(&self, other: &Self) -> bool {
        self.0.variant == other.0.variant
            && self.0.identity.key == other.0.identity.key
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
