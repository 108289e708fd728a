//! The names of fields in their order, and values that answers with these names had: what one origin's answers say is mostly the same in
//! all of them. An answer is packed with what it says otherwise; most of a map of its fields is a copy.
//!
//! Threads copy from maps of their own: a copy of a value counts it, and a count that all threads write would be in no one's cache.
//!
//! Invariant: a shape never changes once an answer is packed by it.

use super::{GAINED, SPARE_FIELDS};
use crate::core::http::etag;
use bytes::BytesMut;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many shapes a thread looks among for those of new answers, in sets in which one has any place: few have to share theirs.
const KNOWN_SHAPES: usize = 128;
const SET: usize = 8;

/// Who is known stays so until this many answers have come since its last one. Where too many come in turn some have no shape: if each
/// pushed out another, all of them would be made again and again, and entries keep all that were made.
const MAX_IDLE: u32 = 1024;

/// How many shapes the process keeps for entries that are there, 4 KiB each at most with 32 names, and their values: they are nobody's to
/// account for.
const MAX_SHAPES: usize = 1024;

/// Answers with more fields are packed with their names.
const MAX_SHAPE_FIELDS: usize = 32;

/// How many bytes of values a shape has at most; what goes beyond is packed with each answer.
const MAX_VALUES: usize = 2048;

/// A shape whose values this many answers in a row hardly had is made anew; then twice as many, and so on, as there are answers that
/// never have much in common: a shape for every few of them would be more memory than it saves.
const MAX_STRANGERS: u32 = 32;

/// How many shapes a thread keeps copies of.
const COPIES: usize = 32;

/// How often in a row a thread is asked for another shape in the place of one of which it has a copy before that is made: it costs as much as
/// several hits.
const MAX_CREDIT: u8 = 16;

/// Shapes that are there.
static SHAPES: AtomicUsize = AtomicUsize::new(0);

/// Numbers of shapes: none comes twice, so that a thread need not keep a shape to know its copy by.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static KNOWN: RefCell<Known> = const { RefCell::new(Known { sights: Vec::new(), answers: MAX_IDLE }) };
    static MINE: RefCell<Vec<Mine>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
pub(in crate::store) struct Shape {
    number: u64,
    maps: Maps,
    /// The text of the tag among its values.
    tag: Option<Box<[u8]>>,
}

/// A map to be copied and filled in, and the same ready; that is none where an answer has some of what it would gain already.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub(super) plain: HeaderMap,
    pub(super) ready: Option<HeaderMap>,
}

/// What a thread has of a shape.
#[derive(Default)]
struct Mine {
    number: u64,
    maps: Maps,
    /// How many more may ask for others in a row before one of them takes its place.
    credit: u8,
}

/// The shapes that answers had, by their names' hash: the first time only that.
struct Known {
    sights: Vec<Sight>,
    answers: u32,
}

#[derive(Clone, Default)]
struct Sight {
    hash: u64,
    shape: Option<Arc<Shape>>,
    /// The number of its last answer.
    last: u32,
    strangers: u32,
    /// How many it takes.
    patience: u32,
}

impl Shape {
    /// That of these fields, when they have one.
    pub(super) fn of(fields: &HeaderMap) -> Option<Arc<Self>> {
        if fields.len() > MAX_SHAPE_FIELDS {
            return None;
        }
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        fields.iter().for_each(|(name, _)| name.hash(&mut hasher));
        // What has another type has other values besides.
        fields
            .get(CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes)
            .hash(&mut hasher);
        let hash = hasher.finish();
        KNOWN.with_borrow_mut(|known| known.shape(hash, fields))
    }

    fn new(fields: &HeaderMap) -> Option<Arc<Self>> {
        if SHAPES.fetch_add(1, Ordering::Relaxed) >= MAX_SHAPES {
            SHAPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut left = MAX_VALUES;
        let plain = detached(fields.iter().map(|(name, value)| {
            // What is sensitive is kept nowhere else.
            let kept = Some(value.as_bytes()).filter(|text| text.len() <= left && !value.is_sensitive());
            left -= kept.map_or(0, <[u8]>::len);
            (name, kept.unwrap_or_default())
        }));
        Some(Arc::new(Self {
            tag: plain
                .get(ETAG)
                .and_then(|value| etag::text(value.as_bytes()))
                .map(Box::from),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            maps: Maps {
                ready: behind_gained(&plain),
                plain,
            },
        }))
    }

    fn is_of(&self, fields: &HeaderMap) -> bool {
        self.maps.plain.len() == fields.len() && self.maps.plain.iter().zip(fields).all(|((a, _), (b, _))| a == b)
    }

    /// How many values of these fields are its own.
    fn shared(&self, fields: &HeaderMap) -> usize {
        self.lines()
            .zip(fields)
            .filter(|((_, a), (_, b))| is_same(a, b))
            .count()
    }

    /// Its names and values.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.maps.plain.iter()
    }

    /// The text of the tag among its values.
    pub(in crate::store) fn tag(&self) -> Option<&[u8]> {
        self.tag.as_deref()
    }

    /// What `copy` makes of this thread's own maps.
    pub(super) fn mine<T>(&self, copy: impl FnOnce(&Maps) -> T) -> T {
        MINE.with_borrow_mut(|mine| {
            if mine.is_empty() {
                mine.resize_with(COPIES, Default::default);
            }
            let at = usize::try_from(self.number).unwrap_or_default() % COPIES;
            let Some(mine) = mine.get_mut(at) else {
                return copy(&self.maps);
            };
            if mine.number != self.number {
                if mine.credit > 0 {
                    mine.credit -= 1;
                    return copy(&self.maps);
                }
                (mine.number, mine.maps) = (self.number, self.maps.detached());
            }
            mine.credit = MAX_CREDIT;
            copy(&mine.maps)
        })
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        SHAPES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Maps {
    fn detached(&self) -> Self {
        let plain = detached(self.plain.iter().map(|(name, value)| (name, value.as_bytes())));
        Self {
            ready: self.ready.as_ref().and_then(|_| behind_gained(&plain)),
            plain,
        }
    }
}

impl Known {
    fn shape(&mut self, hash: u64, fields: &HeaderMap) -> Option<Arc<Shape>> {
        if self.sights.is_empty() {
            self.sights.resize_with(KNOWN_SHAPES, Sight::default);
        }
        self.answers = self.answers.wrapping_add(1);
        let now = self.answers;
        let at = usize::try_from(hash % (KNOWN_SHAPES / SET) as u64).unwrap_or_default();
        let set = self.sights.chunks_exact_mut(SET).nth(at)?;
        let Some(found) = set.iter().position(|sight| sight.hash == hash) else {
            let is_idle = |sight: &&mut Sight| now.wrapping_sub(sight.last) > MAX_IDLE;
            *set.iter_mut().find(is_idle)? = Sight {
                hash,
                shape: None,
                last: now,
                strangers: 0,
                patience: MAX_STRANGERS,
            };
            return None;
        };
        let sight = set.get_mut(found)?;
        sight.last = now;
        if !sight.shape.as_ref().is_some_and(|shape| shape.is_of(fields)) {
            sight.shape = Shape::new(fields);
            sight.strangers = 0;
            return sight.shape.clone();
        }
        let is_stranger = sight
            .shape
            .as_ref()
            .is_some_and(|shape| 2 * shape.shared(fields) < fields.len());
        sight.strangers = if is_stranger { sight.strangers + 1 } else { 0 };
        if sight.strangers >= sight.patience {
            sight.strangers = 0;
            sight.patience = sight.patience.saturating_mul(2);
            // Its names are its own still, where there may be no more shapes.
            sight.shape = Shape::new(fields).or(sight.shape.take());
        }
        sight.shape.clone()
    }
}

/// Whether a value can be told by the shape's.
pub(super) fn is_same(shapes: &HeaderValue, value: &HeaderValue) -> bool {
    shapes == value && !value.is_sensitive()
}

/// A ready map: places for what an answer gains, then these fields.
pub(super) fn behind_gained(fields: &HeaderMap) -> Option<HeaderMap> {
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

/// A map in memory of its own: what was received may be slices of a read buffer. Its values are slices of one text, so that a copy of the
/// map counts in one place how many there are.
fn detached<'a>(fields: impl Iterator<Item = (&'a HeaderName, &'a [u8])>) -> HeaderMap {
    let fields: Vec<(&HeaderName, &[u8])> = fields.collect();
    let mut text = BytesMut::new();
    for (_, value) in &fields {
        text.extend_from_slice(value);
    }
    let mut text = text.freeze();
    let mut map = HeaderMap::with_capacity(fields.len() + SPARE_FIELDS);
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone());
        map.append(name, super::value(&mut text, value.len() << 1));
    }
    map
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn shapes_asked_for_in_turn_push_each_others_copies_out_but_seldom() {
        let shapes: Vec<Arc<Shape>> = (0..=COPIES)
            .map(|n| {
                let mut fields = HeaderMap::new();
                fields.insert("x-pushed-out", HeaderValue::from(n));
                Shape::new(&fields).unwrap()
            })
            .collect();
        let at = usize::try_from(shapes[0].number).unwrap() % COPIES;
        let turns = |shapes: &[&Arc<Shape>]| {
            let mut owners: Vec<u64> = Vec::new();
            for _ in 0..100 {
                for shape in shapes {
                    assert!(shape.mine(|maps| maps.plain == shape.maps.plain && maps.ready == shape.maps.ready));
                    owners.push(MINE.with_borrow(|mine| mine[at].number));
                }
            }
            owners.dedup();
            owners
        };
        let (first, last) = (&shapes[0], shapes.last().unwrap());
        assert_eq!(turns(&[first, last]), [first.number]);
        assert_eq!(turns(&[last]), [first.number, last.number], "it is not there for good");
    }
}
