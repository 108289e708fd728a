//! A stored answer as it is shared: how it is made, of a fill or of an entry that a 304 has confirmed, and what of it its readers hold.
//! Whoever reads the body inside an entry holds the entry.

use super::numbers::Numbers;
use super::{
    AtomicBool, AtomicU64, Entry, Fixed, Head, Identity, NEVER, NO_TERMS, Rare, SharedHead, halves, piece, variant,
    weight,
};
use crate::core::consistency::listed;
use crate::core::http::etag;
use crate::core::http::stored::{Facts, Meta, Stored, Vary, has_no_body};
use crate::core::time::MonoTime;
use crate::store::packed::{Ends, Packing};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The facts in memory of their own: a field value as received is a slice that keeps a whole read buffer alive, which no budget would see.
fn detached(mut meta: Meta) -> Meta {
    if let Some(etag) = &mut meta.etag {
        etag.value = HeaderValue::from_bytes(etag.value.as_bytes()).unwrap_or_else(|_| etag.value.clone());
    }
    meta
}

/// A shared stored answer.
#[derive(Clone, Debug)]
pub struct EntryRef(Arc<Entry>);

/// A body inside an entry, for who reads it.
struct Inside(EntryRef);

impl AsRef<[u8]> for Inside {
    fn as_ref(&self) -> &[u8] {
        self.0.body_bytes()
    }
}

impl EntryRef {
    /// The entry of a completed fill.
    pub(in super::super) fn new(id: u64, identity: Identity, head: SharedHead, body: Bytes) -> Self {
        let Head { meta, mut headers } = Arc::unwrap_or_clone(head);
        if !has_no_body(meta.status) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let Packing { bytes, ends, shape } = Packing::new(&identity.key, &headers);
        let mut rare = Rare {
            variant: variant(identity.digest, &meta.vary),
            tags: identity.tags,
            vary: meta.vary.clone(),
            part: meta.part,
            ..Rare::default()
        };
        let fixed = Fixed {
            id,
            resource: halves(identity.resource.digest),
            digest: halves(identity.digest),
            upstream: u32::try_from(identity.resource.upstream).unwrap_or(u32::MAX), // numbers of what a file lists
            place_before: 0,
            head_before: 0,
            numbers: Numbers::default(),
            shape,
            rare: None,
            softened: AtomicU64::new(NEVER),
            weight: 0,
            terms: NO_TERMS,
            ends: [0; 4],
            body: 0,
            revoked: AtomicBool::new(false),
            placed: AtomicBool::new(false),
        };
        let as_told = etag::of(&headers) == meta.etag;
        let head: &[u8] = if bytes.len() > piece::MOST {
            rare.head = Some((Bytes::copy_from_slice(&bytes), ends));
            &[]
        } else {
            &bytes
        };
        let copied;
        let body: &[u8] = if body.len() > piece::MOST {
            rare.body = Some(body);
            &[]
        } else if head.len() + body.len() > piece::MOST {
            // It may be inside another entry, all of which it would keep.
            rare.body = Some(Bytes::copy_from_slice(&body));
            &[]
        } else {
            copied = body;
            &copied
        };
        Self::made(fixed, rare, (meta, as_told), ends, (head, body))
    }

    /// As `old` but for its facts: what a 304 that changes no field makes of it.
    pub(in super::super) fn renewed(id: u64, old: &Self, meta: Meta) -> Self {
        let packed = old.packed();
        let fixed = Fixed {
            id,
            place_before: 0,
            head_before: u32::try_from(id.saturating_sub(packed.number)).unwrap_or(0),
            shape: old.fixed.shape.clone(),
            rare: None,
            softened: AtomicU64::new(NEVER),
            weight: 0,
            revoked: AtomicBool::new(false),
            placed: AtomicBool::new(false),
            ..old.fixed
        };
        let rare = Rare {
            vary: meta.vary.clone(),
            part: meta.part,
            ..old.rare().cloned().unwrap_or_default()
        };
        let told = meta.etag.as_ref().map(|etag| (etag.value.as_bytes(), etag.weak));
        let as_told = rare.meta.is_none() && old.tag() == told;
        let head = if rare.head.is_none() { packed.bytes } else { &[] };
        let body = if rare.body.is_none() { old.body_bytes() } else { &[] };
        let mut entry = Self::made(fixed, rare, (meta, as_told), packed.ends, (head, body));
        if let Some(entry) = Arc::get_mut(&mut entry.0) {
            entry.take_place_of(old);
        }
        entry
    }

    /// Puts it together. `as_told`: its tag is that of its fields. Inside are its head and its body, unless they are elsewhere.
    fn made(
        mut fixed: Fixed,
        mut rare: Rare,
        (meta, as_told): (Meta, bool),
        ends: Ends,
        (head, body): (&[u8], &[u8]),
    ) -> Self {
        if let Some(numbers) = Numbers::of(&meta).filter(|_| as_told) {
            fixed.numbers = numbers.with_tag_at(fixed.numbers.tag_at()); // the head is the same
        } else {
            rare.meta = Some(Box::new(detached(meta)));
        }
        // No more than a piece has room for.
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let end = |n: u32| short(n as usize);
        if rare.head.is_none() {
            fixed.ends = [end(ends.key), end(ends.lengths), end(ends.names), short(head.len())];
        }
        fixed.body = short(body.len());
        fixed.rare = rare.boxed();
        let mut entry = Self(piece::entry(fixed, &[head, body]));
        let weight = weight::of(&entry);
        let tag = entry.tag_at();
        if let Some(entry) = Arc::get_mut(&mut entry.0) {
            entry.fixed.weight = u32::try_from(weight).unwrap_or(u32::MAX);
            entry.fixed.numbers = entry.fixed.numbers.with_tag_at(tag);
        }
        entry
    }

    /// Its body, complete and contiguous.
    #[must_use]
    pub fn body(&self) -> Bytes {
        match self.body_apart() {
            Some(apart) => apart.clone(),
            None if self.fixed.body == 0 => Bytes::new(),
            None => Bytes::from_owner(Inside(self.clone())),
        }
    }

    /// What a validation has made of `old`, before anybody else has it: if it weighs the same, it takes its place.
    #[must_use]
    pub fn after(mut self, old: &Self) -> Self {
        if let Some(entry) = Arc::get_mut(&mut self.0) {
            entry.take_place_of(old);
        }
        self
    }

    /// Notes under which configuration it was admitted, before anybody else has it.
    #[must_use]
    pub fn under(mut self, terms: u32) -> Self {
        if let Some(entry) = Arc::get_mut(&mut self.0) {
            entry.fixed.terms = terms;
        }
        self
    }

    /// Whether it was admitted under this configuration, whose policy would say the same of it again.
    #[must_use]
    pub fn is_under(&self, terms: u32) -> bool {
        self.fixed.terms == terms && terms != NO_TERMS
    }
}

impl Deref for EntryRef {
    type Target = Entry;
    fn deref(&self) -> &Entry {
        &self.0
    }
}

impl Stored for EntryRef {
    #[inline(always)]
    fn facts(&self) -> Facts {
        self.0.facts()
    }

    #[inline]
    fn vary(&self) -> &Vary {
        self.0.vary()
    }

    fn strong_tag(&self) -> Option<&[u8]> {
        self.0.tag().filter(|(_, weak)| !weak).map(|(text, _)| text)
    }

    fn full(&self) -> Cow<'_, Meta> {
        Cow::Owned(self.0.meta())
    }

    #[inline]
    fn softened(&self) -> Option<MonoTime> {
        self.0.softened()
    }
}

impl PartialEq for EntryRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.fixed.id == other.0.fixed.id
    }
}

impl Eq for EntryRef {}

impl listed::Entry for EntryRef {
    fn id(&self) -> u64 {
        self.0.fixed.id
    }

    fn digest(&self) -> u128 {
        self.0.key_digest()
    }

    fn revoke(&self) {
        self.0.fixed.revoked.store(true, Ordering::Release);
    }

    fn is_revoked(&self) -> bool {
        self.0.is_revoked()
    }

    fn same_variant(&self, other: &Self) -> bool {
        self.0.variant() == other.0.variant() && self.0.key() == other.0.key() && self.0.vary() == other.0.vary()
    }

    fn older_than(&self, other: &Self) -> bool {
        let (this, other) = (self.0.facts(), other.0.facts());
        let none = MonoTime::default();
        // R43: a replica that was asked later may still have answered with something older.
        if this.valid_as_of != other.valid_as_of && this.valid_as_of != none && other.valid_as_of != none {
            return this.valid_as_of < other.valid_as_of;
        }
        this.sent < other.sent
    }
}
