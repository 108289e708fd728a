//! The names of fields in their order, and values that answers with these names had: what one origin's answers say is mostly the same in
//! all of them. An answer is packed with what it says otherwise; most of a map of its fields is a copy.
//!
//! Threads copy from maps of their own: a copy of a value counts it, and a count that all threads write would be in no one's cache.
//!
//! Invariant: a shape never changes once an answer is packed by it.

use super::{GAINED, SPARE_FIELDS};
use bytes::BytesMut;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many shapes a thread looks among for those of new answers.
const KNOWN_SHAPES: usize = 64;

/// How many shapes the process keeps for entries that are there, 4 KiB each at most with 32 names, and their values: they are nobody's to
/// account for.
const MAX_SHAPES: usize = 1024;

/// Answers with more fields are packed with their names.
const MAX_SHAPE_FIELDS: usize = 32;

/// How many bytes of values a shape has at most; what goes beyond is packed with each answer.
const MAX_VALUES: usize = 2048;

/// A shape whose values this many answers in a row hardly had is made anew.
const MAX_STRANGERS: u8 = 32;

/// How many shapes a thread keeps copies of.
const COPIES: usize = 32;

/// Shapes that are there.
static SHAPES: AtomicUsize = AtomicUsize::new(0);

/// Numbers of shapes: none comes twice, so that a thread need not keep a shape to know its copy by.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static KNOWN: RefCell<Known> = const { RefCell::new(Known(Vec::new())) };
    static MINE: RefCell<Vec<(u64, Maps)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
pub(in crate::store) struct Shape {
    number: u64,
    maps: Maps,
}

/// A map to be copied and filled in, and the same ready; that is none where an answer has some of what it would gain already.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub(super) plain: HeaderMap,
    pub(super) ready: Option<HeaderMap>,
}

/// The shapes that answers had, by their names' hash: the first time only that.
struct Known(Vec<Sight>);

#[derive(Clone, Default)]
struct Sight {
    hash: u64,
    shape: Option<Arc<Shape>>,
    strangers: u8,
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

    /// What `copy` makes of this thread's own maps.
    pub(super) fn mine<T>(&self, copy: impl FnOnce(&Maps) -> T) -> T {
        MINE.with_borrow_mut(|mine| {
            if mine.is_empty() {
                mine.resize_with(COPIES, Default::default);
            }
            let at = usize::try_from(self.number).unwrap_or_default() % COPIES;
            let Some((number, maps)) = mine.get_mut(at) else {
                return copy(&self.maps);
            };
            if *number != self.number {
                (*number, *maps) = (self.number, self.maps.detached());
            }
            copy(maps)
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
        if self.0.is_empty() {
            self.0.resize_with(KNOWN_SHAPES, Sight::default);
        }
        let at = usize::try_from(hash % KNOWN_SHAPES as u64).unwrap_or_default();
        let sight = self.0.get_mut(at)?;
        if sight.hash != hash {
            *sight = Sight {
                hash,
                ..Sight::default()
            };
            return None;
        }
        let fits = sight.shape.as_ref().filter(|shape| shape.is_of(fields));
        let is_stranger = fits.is_some_and(|shape| 2 * shape.shared(fields) < fields.len());
        sight.strangers = if is_stranger { sight.strangers + 1 } else { 0 };
        if fits.is_none() || sight.strangers >= MAX_STRANGERS {
            sight.shape = Shape::new(fields);
            sight.strangers = 0;
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
