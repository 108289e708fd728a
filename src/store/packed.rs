//! The key and the fields of a stored answer in one piece of memory, without spares. A map of fields has room for twice as many as it
//! holds, at a hundred bytes each: most of a small object would be room. Who needs a map gets one made.
//!
//! Names are stored once for all answers that have the same ones in the same order, as most of one origin's do: a [`Shape`], a map with
//! its index built and no values, which is copied and filled in. An answer is packed with its names until its shape comes a second time.
//!
//! A hit asks for a map that is *ready*: before the stored fields it has places for what an answer gains ([`GAINED`]), so that filling them
//! in neither looks for them nor grows the map. What a thread answers with again and again it keeps so ([`HOT`]), in memory of its own.
//!
//! Invariant: what is unpacked equals what was packed, field by field and in order; in a ready map, behind the places.

mod held;

pub use held::Gained;

use bytes::Bytes;
use held::{Held, put_in};
use http::header::{AGE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many fields an answer made of stored fields gains (Age, Via, Cache-Status, Tidegate-Consistency, and one of the route's own). A copy
/// of a map has the index of the original: without this, every hit would index its fields anew.
const SPARE_FIELDS: usize = 5;

/// What an answer made of stored fields gains, in the order of a ready map. The last is not for every answer: taken out, it moves no other
/// of them.
pub(in crate::store) static GAINED: [HeaderName; 4] = [
    AGE,
    VIA,
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("tidegate-consistency"),
];

/// How many shapes a thread looks among for those of new answers.
const KNOWN_SHAPES: usize = 64;

/// How many shapes the process keeps for entries that are there, 4 KiB each at most with 32 names: they are nobody's to account for.
const MAX_SHAPES: usize = 1024;

/// Answers with more fields are packed with their names.
const MAX_SHAPE_FIELDS: usize = 32;

/// How many maps a thread keeps (some 3 KiB each, and what they are made of twice).
const HOT_SLOTS: usize = 128;

/// Longer heads are not kept by threads: nobody accounts for what these keep, and they keep it when the entry has long gone.
const MAX_HOT_BYTES: usize = 4 * 1024;

/// Shapes that are there.
static SHAPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static KNOWN: RefCell<Known> = const { RefCell::new(Known(Vec::new())) };
    static HOT: RefCell<Vec<Hot>> = const { RefCell::new(Vec::new()) };
}

/// A key and fields. A copy of it shares them.
#[derive(Clone, Debug)]
pub(in crate::store) struct Packed {
    /// The key; by field the length of its value, and before it, where there is no shape, that of its name; the names; the values.
    bytes: Arc<[u8]>,
    shape: Option<Arc<Shape>>,
    key: u32,
    /// Where the names begin, and where the values.
    names: u32,
    values: u32,
}

/// Names in their order, in a map that is copied and filled in.
#[derive(Debug)]
struct Shape {
    template: HeaderMap,
    /// The same, ready; none where an answer has some of what it would gain already.
    ready: Option<HeaderMap>,
}

/// The shapes that answers had, by their names' hash: the first time only that.
struct Known(Vec<(u64, Option<Arc<Shape>>)>);

/// What was asked for here lately: once only where it is, twice in a row the ready map too, if it can be had.
#[derive(Default)]
struct Hot {
    seen: usize,
    held: Option<Held>,
}

impl Packed {
    /// Copies all of it.
    pub(in crate::store) fn new(key: &[u8], fields: &HeaderMap) -> Self {
        let shape = Shape::of(fields);
        let mut bytes = Vec::with_capacity(key.len() + fields.len() * 16 + 64);
        bytes.extend_from_slice(key);
        for (name, value) in fields {
            if shape.is_none() {
                put(&mut bytes, name.as_str().len());
            }
            put(&mut bytes, value.len() << 1 | usize::from(value.is_sensitive()));
        }
        let names = bytes.len();
        if shape.is_none() {
            fields
                .iter()
                .for_each(|(name, _)| bytes.extend_from_slice(name.as_str().as_bytes()));
        }
        let values = bytes.len();
        fields
            .values()
            .for_each(|value| bytes.extend_from_slice(value.as_bytes()));
        let at = |n: usize| u32::try_from(n).unwrap_or(u32::MAX); // heads are bounded by the listeners and upstreams
        Self {
            bytes: bytes.into(),
            shape,
            key: at(key.len()),
            names: at(names),
            values: at(values),
        }
    }

    /// The key.
    pub(in crate::store) fn key(&self) -> &[u8] {
        self.part(0, self.key)
    }

    /// Bytes of memory that this holds beside itself.
    pub(in crate::store) fn size(&self) -> usize {
        self.bytes.len() + 2 * size_of::<usize>()
    }

    /// A ready map of the fields, of which `prepare` makes what an answer begins with, with its places filled in by `gained`. What is asked for
    /// again and again on one thread is a copy of what `prepare` has made there: it is always to make the same of one entry. None where the
    /// answer has some of what it would gain already, where it is long, or where that is not known yet.
    pub(in crate::store) fn ready(
        &self,
        prepare: impl FnOnce(&mut HeaderMap),
        gained: &impl Gained,
    ) -> Option<HeaderMap> {
        if self.bytes.len() > MAX_HOT_BYTES {
            return None;
        }
        let here = self.bytes.as_ptr().addr();
        HOT.with_borrow_mut(|slots| {
            if slots.is_empty() {
                slots.resize_with(HOT_SLOTS, Hot::default);
            }
            let slot = slots.get_mut(spread(here) % HOT_SLOTS)?;
            match &mut slot.held {
                // Held, its place is nobody else's.
                Some(held) if held.bytes.as_ptr().addr() == here => return held.filled(gained),
                Some(_) | None => {}
            }
            if slot.seen == here {
                let mut ready = behind_gained(&self.fields());
                if let Some(ready) = &mut ready {
                    prepare(ready);
                }
                return slot
                    .held
                    .insert(Held::new(Arc::clone(&self.bytes), ready))
                    .filled(gained);
            }
            slot.seen = here;
            let mut ready = self.shape.as_ref()?.ready.clone()?;
            self.fill(ready.values_mut().skip(GAINED.len()));
            prepare(&mut ready);
            let mut places = ready.values_mut();
            for at in 0..GAINED.len() {
                put_in(places.next(), gained.value(at));
            }
            Some(ready)
        })
    }

    /// The fields line by line, without a map.
    pub(in crate::store) fn lines(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut lengths = Lengths(self.part(self.key, self.names));
        let mut shape = self.shape.as_ref().map(|shape| shape.template.iter());
        let mut names = self.part(self.names, self.values);
        let mut values = self.bytes.get(self.values as usize..).unwrap_or_default();
        std::iter::from_fn(move || {
            let name = match &mut shape {
                Some(names) => names.next()?.0.as_str(),
                None => {
                    let (name, rest) = names.split_at_checked(lengths.next()?)?;
                    names = rest;
                    std::str::from_utf8(name).ok()?
                }
            };
            let (value, rest) = values.split_at_checked(lengths.next()? >> 1)?;
            values = rest;
            Some((name, value))
        })
    }

    /// The values, in their order.
    fn fill<'a>(&self, places: impl Iterator<Item = &'a mut HeaderValue>) {
        let (mut lengths, mut text) = self.lengths_and_text();
        for place in places {
            *place = value(&mut text, lengths.next().unwrap_or_default());
        }
    }

    fn lengths_and_text(&self) -> (Lengths<'_>, Bytes) {
        let text = self.bytes.get(self.values as usize..).unwrap_or_default();
        (Lengths(self.part(self.key, self.names)), Bytes::copy_from_slice(text))
    }

    /// The fields.
    pub(in crate::store) fn fields(&self) -> HeaderMap {
        if let Some(shape) = &self.shape {
            let mut fields = shape.template.clone();
            self.fill(fields.values_mut());
            return fields;
        }
        let (mut lengths, mut text) = self.lengths_and_text();
        let mut names = self.part(self.names, self.values);
        let mut fields = HeaderMap::with_capacity(names.len() / 8 + SPARE_FIELDS);
        while let (Some(name), Some(told)) = (lengths.next(), lengths.next()) {
            let (this, rest) = names.split_at(name.min(names.len()));
            names = rest;
            if let Ok(name) = HeaderName::from_lowercase(this) {
                fields.append(name, value(&mut text, told));
            }
        }
        fields
    }

    fn part(&self, from: u32, to: u32) -> &[u8] {
        self.bytes.get(from as usize..to as usize).unwrap_or_default()
    }
}

impl Shape {
    /// That of these fields, when they have one.
    fn of(fields: &HeaderMap) -> Option<Arc<Self>> {
        if fields.len() > MAX_SHAPE_FIELDS {
            return None;
        }
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        fields.iter().for_each(|(name, _)| name.hash(&mut hasher));
        let hash = hasher.finish();
        KNOWN.with_borrow_mut(|known| known.shape(hash, fields))
    }

    fn new(fields: &HeaderMap) -> Option<Arc<Self>> {
        if SHAPES.fetch_add(1, Ordering::Relaxed) >= MAX_SHAPES {
            SHAPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut template = HeaderMap::with_capacity(fields.len() + SPARE_FIELDS);
        for (name, _) in fields {
            template.append(detached(name), HeaderValue::from_static(""));
        }
        let ready = behind_gained(&template);
        Some(Arc::new(Self { template, ready }))
    }

    fn is_of(&self, fields: &HeaderMap) -> bool {
        self.template.len() == fields.len() && self.template.iter().zip(fields).all(|((a, _), (b, _))| a == b)
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        SHAPES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Known {
    fn shape(&mut self, hash: u64, fields: &HeaderMap) -> Option<Arc<Shape>> {
        if self.0.is_empty() {
            self.0.resize(KNOWN_SHAPES, (0, None));
        }
        let at = usize::try_from(hash % KNOWN_SHAPES as u64).unwrap_or_default();
        let (seen, shape) = self.0.get_mut(at)?;
        if *seen != hash {
            (*seen, *shape) = (hash, None);
            return None;
        }
        if !shape.as_ref().is_some_and(|shape| shape.is_of(fields)) {
            *shape = Shape::new(fields);
        }
        shape.clone()
    }
}

/// The next value of a text; the same bytes in another place are as valid as before. `told` is its length and whether it is sensitive.
fn value(text: &mut Bytes, told: usize) -> HeaderValue {
    let mut value = HeaderValue::from_maybe_shared(text.split_to((told >> 1).min(text.len())))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(told & 1 == 1);
    value
}

/// A ready map: places for what an answer gains, then these fields.
fn behind_gained(fields: &HeaderMap) -> Option<HeaderMap> {
    if GAINED.iter().any(|name| fields.contains_key(name)) {
        return None;
    }
    let mut ready = HeaderMap::with_capacity(fields.len() + SPARE_FIELDS);
    for name in &GAINED {
        ready.append(name.clone(), HeaderValue::from_static(""));
    }
    for (name, value) in fields {
        ready.append(name.clone(), value.clone());
    }
    Some(ready)
}

/// The lengths in a packed head, seven bits in a byte and the lowest first.
struct Lengths<'a>(&'a [u8]);

impl Iterator for Lengths<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let (mut length, mut shift) = (0, 0);
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(length);
            }
            shift += 7;
        }
    }
}

fn put(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap_or_default());
}

/// Neighbours in memory are to be in different slots, whatever the distance.
fn spread(address: usize) -> usize {
    (address >> 4).wrapping_mul(0x9e37_79b9) >> 12
}

/// A name of its own: one as received may be a slice of a read buffer.
fn detached(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

#[cfg(test)]
mod tests;
