//! The key and the fields of a stored answer in one piece of memory, without spares. A map of fields has room for twice as many as it
//! holds, at a hundred bytes each: most of a small object would be room. Who needs a map gets one made.
//!
//! What the answers of one origin have in common, the names of their fields in their order and most of the values, is stored once: a
//! [`Shape`]. An answer is packed with its names until its shape comes a second time.
//!
//! A hit asks for a map that is *ready*: before the stored fields it has places for what an answer gains ([`GAINED`]), so that filling them
//! in neither looks for them nor grows the map. What a thread answers with again and again it keeps so ([`HOT`]), in memory of its own.
//!
//! Invariant: what is unpacked equals what was packed, field by field and in order; in a ready map, behind the places.

mod date;
mod held;
mod shape;

pub use held::Gained;

use bytes::{Buf, Bytes};
use held::{Held, put_in};
use http::header::{AGE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};
use shape::{behind_gained, is_same};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

pub(in crate::store) use shape::Shape;

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

/// How many maps a thread keeps (some 3 KiB each, and what they are made of).
const HOT_SLOTS: usize = 128;

/// Longer heads are not kept by threads: nobody accounts for what these keep, and they keep it when the entry has long gone.
const MAX_HOT_BYTES: usize = 4 * 1024;

thread_local! {
    static HOT: RefCell<Vec<Hot>> = const { RefCell::new(Vec::new()) };
}

/// A key and fields, as they are kept somewhere.
#[derive(Copy, Clone, Debug)]
pub(in crate::store) struct Packed<'a> {
    /// The key; by field the length of its value, and before it, where there is no shape, that of its name; the names; the values that
    /// are not the shape's.
    pub(in crate::store) bytes: &'a [u8],
    pub(in crate::store) ends: Ends,
    pub(in crate::store) shape: Option<&'a Shape>,
    /// Never that of others: what threads keep is known by it.
    pub(in crate::store) number: u64,
}

/// Where the key ends, the lengths, and the names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Ends {
    pub(in crate::store) key: u32,
    pub(in crate::store) lengths: u32,
    pub(in crate::store) names: u32,
}

/// A key and fields, packed, to be kept somewhere.
#[derive(Debug)]
pub(in crate::store) struct Packing {
    pub(in crate::store) bytes: Vec<u8>,
    pub(in crate::store) ends: Ends,
    pub(in crate::store) shape: Option<Arc<Shape>>,
}

/// What was asked for here lately: once only its number, twice in a row the ready map too, if it can be had.
#[derive(Default)]
struct Hot {
    seen: Option<u64>,
    held: Option<Held>,
}

/// What is told in place of a length of a value that is the shape's, and of one that is a date, of which the seconds are there.
const SHAPES: usize = 0;
const DATE: usize = 1;

/// Other values are told by twice their length, one more for a sensitive one, and this much more.
const TEXT: usize = 2;

/// What a date takes.
const SECONDS: usize = size_of::<u32>();

/// A stored value: as it is stored, or made of what is.
pub enum Text<'a> {
    /// As it is stored.
    Stored(&'a [u8]),
    /// Made.
    Made(HeaderValue),
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Stored(text) => text,
            Self::Made(value) => value.as_bytes(),
        }
    }
}

impl Packing {
    /// Copies all of it.
    pub(in crate::store) fn new(key: &[u8], fields: &HeaderMap) -> Self {
        let shape = Shape::of(fields);
        let mut bytes = Vec::with_capacity(key.len() + fields.len() * 24 + 64);
        bytes.extend_from_slice(key);
        let mut shapes = shape.as_deref().map(Shape::lines);
        let mut values: SmallVec<[u8; 512]> = SmallVec::new();
        for (name, value) in fields {
            if shape.is_none() {
                put(&mut bytes, name.as_str().len());
            }
            let known = shapes.as_mut().and_then(Iterator::next);
            if known.is_some_and(|(_, shapes)| is_same(shapes, value)) {
                put(&mut bytes, SHAPES);
            } else if let Some(seconds) = date::seconds(value) {
                put(&mut bytes, DATE);
                values.extend_from_slice(&seconds.to_le_bytes());
            } else {
                put(
                    &mut bytes,
                    (value.len() << 1 | usize::from(value.is_sensitive())) + TEXT,
                );
                values.extend_from_slice(value.as_bytes());
            }
        }
        drop(shapes);
        let lengths = bytes.len();
        if shape.is_none() {
            fields
                .iter()
                .for_each(|(name, _)| bytes.extend_from_slice(name.as_str().as_bytes()));
        }
        let names = bytes.len();
        bytes.extend_from_slice(&values);
        let at = |n: usize| u32::try_from(n).unwrap_or(u32::MAX); // heads are bounded by the listeners and upstreams
        Self {
            bytes,
            shape,
            ends: Ends {
                key: at(key.len()),
                lengths: at(lengths),
                names: at(names),
            },
        }
    }
}

impl<'a> Packed<'a> {
    /// The key.
    #[inline]
    pub(in crate::store) fn key(self) -> &'a [u8] {
        self.part(0, self.ends.key)
    }

    /// A ready map of the fields, of which `prepare` makes what an answer begins with, with its places filled in by `gained`. What is asked for
    /// again and again on one thread is a copy of what `prepare` has made there: it is always to make the same of one entry. None where the
    /// answer has some of what it would gain already, where it is long, or where that is not known yet.
    pub(in crate::store) fn ready(
        self,
        prepare: impl FnOnce(&mut HeaderMap),
        gained: &impl Gained,
    ) -> Option<HeaderMap> {
        if self.bytes.len() > MAX_HOT_BYTES {
            return None;
        }
        HOT.with_borrow_mut(|slots| {
            if slots.is_empty() {
                slots.resize_with(HOT_SLOTS, Hot::default);
            }
            let slot = slots.get_mut(spread(self.number) % HOT_SLOTS)?;
            match &mut slot.held {
                Some(held) if held.number == self.number => return held.filled(gained),
                Some(_) | None => {}
            }
            if slot.seen == Some(self.number) {
                let mut ready = behind_gained(&self.fields());
                if let Some(ready) = &mut ready {
                    prepare(ready);
                }
                return slot.held.insert(Held::new(self.number, ready)).filled(gained);
            }
            slot.seen = Some(self.number);
            let mut ready = self.shape?.mine(|mine| mine.ready.clone())?;
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
    pub(in crate::store) fn lines(self) -> impl Iterator<Item = (&'a str, Text<'a>)> {
        let mut lengths = self.lengths();
        let mut shape = self.shape.map(Shape::lines);
        let (mut names, mut values) = (self.names(), self.values());
        std::iter::from_fn(move || {
            let mut shapes: &[u8] = &[];
            let name = match &mut shape {
                Some(lines) => {
                    let (name, value) = lines.next()?;
                    shapes = value.as_bytes();
                    name.as_str()
                }
                None => {
                    let (name, rest) = names.split_at_checked(lengths.next()?)?;
                    names = rest;
                    std::str::from_utf8(name).ok()?
                }
            };
            let text = match lengths.next()? {
                SHAPES => Text::Stored(shapes),
                DATE => {
                    let (seconds, rest) = values.split_first_chunk()?;
                    values = rest;
                    Text::Made(date::text(u32::from_le_bytes(*seconds)))
                }
                told => {
                    let (value, rest) = values.split_at_checked((told - TEXT) >> 1)?;
                    values = rest;
                    Text::Stored(value)
                }
            };
            Some((name, text))
        })
    }

    /// The values that are not the shape's, in their order, among its own.
    fn fill<'p>(self, places: impl Iterator<Item = &'p mut HeaderValue>) {
        let mut values = Values::of(self);
        for (place, told) in places.zip(self.lengths()) {
            if told != SHAPES {
                *place = values.next(told);
            }
        }
    }

    /// The fields.
    pub(in crate::store) fn fields(self) -> HeaderMap {
        if let Some(shape) = self.shape {
            let mut fields = shape.mine(|mine| mine.plain.clone());
            self.fill(fields.values_mut());
            return fields;
        }
        let (mut lengths, mut names, mut values) = (self.lengths(), self.names(), Values::of(self));
        let mut fields = HeaderMap::with_capacity(names.len() / 8 + SPARE_FIELDS);
        while let (Some(name), Some(told)) = (lengths.next(), lengths.next()) {
            let (this, rest) = names.split_at(name.min(names.len()));
            names = rest;
            if let Ok(name) = HeaderName::from_lowercase(this) {
                fields.append(name, values.next(told));
            }
        }
        fields
    }

    fn lengths(self) -> Lengths<'a> {
        Lengths(self.part(self.ends.key, self.ends.lengths))
    }

    fn names(self) -> &'a [u8] {
        self.part(self.ends.lengths, self.ends.names)
    }

    fn values(self) -> &'a [u8] {
        self.bytes.get(self.ends.names as usize..).unwrap_or_default()
    }

    #[inline]
    fn part(self, from: u32, to: u32) -> &'a [u8] {
        self.bytes.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// The values that are not the shape's, as fields have them.
struct Values<'a> {
    rest: &'a [u8],
    /// A copy of the rest, as soon as one is wanted.
    text: Option<Bytes>,
}

impl<'a> Values<'a> {
    fn of(packed: Packed<'a>) -> Self {
        Self {
            rest: packed.values(),
            text: None,
        }
    }

    fn next(&mut self, told: usize) -> HeaderValue {
        if told == DATE {
            let seconds = self
                .rest
                .first_chunk()
                .map_or(0, |seconds| u32::from_le_bytes(*seconds));
            self.pass(SECONDS);
            if let Some(text) = &mut self.text {
                text.advance(SECONDS.min(text.len()));
            }
            return date::text(seconds);
        }
        let rest = self.rest;
        let text = self.text.get_or_insert_with(|| Bytes::copy_from_slice(rest));
        let value = value(text, told.saturating_sub(TEXT));
        self.pass(value.len());
        value
    }

    fn pass(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

/// The next value of a text; the same bytes in another place are as valid as before. `told` is its length and whether it is sensitive.
fn value(text: &mut Bytes, told: usize) -> HeaderValue {
    let mut value = HeaderValue::from_maybe_shared(text.split_to((told >> 1).min(text.len())))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(told & 1 == 1);
    value
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

/// Those that came one after the other are in different slots, and so are those that came in turn with others.
fn spread(number: u64) -> usize {
    usize::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).unwrap_or_default()
}

#[cfg(test)]
mod tests;
