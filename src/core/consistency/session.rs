//! Sessions (R17, R47-R49): what a client's token says it has written and seen, which entries are good enough for it, and what its
//! next token says. Gives read-your-writes and monotonic reads to whoever hands the last token back, over any number of proxies that
//! share a key; those that do not share it answer right as well, by asking the primary.
//!
//! A mark is met by the very state it speaks of (equal strong ETags), or, where it was minted, by anything that was current after it.
//! Instants of two processes are never compared. Nothing here reads a clock or knows headers; [`token`] is the text on the wire.
//!
//! The invariant: what a token asks for is never forgotten before every usable entry anywhere meets it. A mark that finds no room
//! becomes the floor; floors and marks that cannot be told apart become "ask the primary".

pub mod token;

use self::token::Opened;
use crate::core::http::stored::{Etag, Stored};
use crate::core::key::{KeySecret, normalise_escapes, normalise_path};
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span, WallTime};
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;
use std::hash::Hasher;

/// R48: how many resources a token tells apart.
pub const MAX_MARKS: usize = 8;

/// R49: how many cookies a browser's session is spread over.
pub const SLOTS: u8 = 8;

/// R47: how far the wall clocks of two proxies may be apart.
const SKEW: Span = Span::from_secs(5);

/// The random number of one process, by which its instants are known for its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Minter(u32);

impl Minter {
    /// Nobody: instants of two processes have met, and none of them can be compared any more.
    pub const NOBODY: Self = Self(0);

    /// A process's own, from a random number.
    #[must_use]
    pub fn of(random: u64) -> Self {
        let below = random % u64::from(u32::MAX);
        Self(u32::try_from(below).unwrap_or_default().saturating_add(1))
    }
}

/// This process, now.
#[derive(Copy, Clone, Debug)]
pub struct Here {
    /// Who we are.
    pub minter: Minter,
    /// Our monotonic clock.
    pub now: MonoTime,
    /// Our wall clock.
    pub wall: WallTime,
    /// The largest `max_staleness` of all session routes.
    pub bound: Span,
}

impl Here {
    /// An instant of ours, raised now.
    #[must_use]
    pub fn moment(&self, at: MonoTime) -> Moment {
        Moment {
            minter: self.minter,
            at,
            raised: second(self.wall),
        }
    }

    /// R47: by then every usable entry anywhere is younger. Both seconds are rounded down, so "later than" outlasts the bound.
    fn has_ended(&self, moment: &Moment) -> bool {
        u64::from(second(self.wall)) > u64::from(moment.raised).saturating_add(self.lasts())
    }

    fn lasts(&self) -> u64 {
        self.bound.plus(SKEW).as_millis().div_ceil(1000)
    }

    /// In how many seconds from now everything that a token says has ended, for whoever holds it and cannot read it.
    #[must_use]
    pub fn seconds_to_keep(&self) -> u64 {
        self.lasts().saturating_add(1)
    }
}

/// A whole second of the wall clock since 1970.
fn second(wall: WallTime) -> u32 {
    u32::try_from((wall.as_millis() / 1000).max(0)).unwrap_or(u32::MAX)
}

/// An instant of some process, and when it was written down.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Whose.
    pub minter: Minter,
    /// On its monotonic clock.
    pub at: MonoTime,
    /// On its wall clock, when this was written down.
    pub raised: u32,
}

/// What a session has written or seen of one resource.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Keyed hash of the resource's name.
    pub resource: u64,
    /// Keyed hash of the strong ETag, or 0.
    pub etag: u64,
    /// No earlier than this.
    pub since: Moment,
    /// What set it.
    pub by: By,
}

/// What sets a mark.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A write: an entry must be younger.
    Write,
    /// A read: the very entry it was served from, known by when it was received, is good enough again. (Not so for writes: what was
    /// received in the very microsecond of an ack may have been sent long before the write.)
    Read,
}

/// What a session asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// R48: for every resource without a mark.
    floor: Option<Moment>,
    /// The oldest first, at most [`MAX_MARKS`], one for a resource.
    marks: Vec<Mark>,
}

/// A resource by its name, which all proxies call the same.
#[derive(Copy, Clone, Debug)]
pub struct Name<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// The path as sent to the node.
    pub path: &'a str,
    /// The query, where the upstream's gate tells queries apart.
    pub query: Option<&'a str>,
}

impl Name<'_> {
    fn hash(&self, secret: KeySecret) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(secret.0, secret.1);
        let mut part = |text: &str| {
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        };
        part(self.upstream);
        part(&normalise_path(self.path));
        if let Some(query) = self.query {
            part(&normalise_escapes(query));
        }
        hasher.finish128().h1
    }

    /// All queries of the path together, where they are told apart: what is said of them is said of each.
    #[must_use]
    pub fn every_query(&self) -> Self {
        let query = Some("#"); // no query holds one
        Self { query, ..*self }
    }

    /// R49: which cookie tells of it: the same for all queries of a path, and under every key, so that a cookie is found whoever has
    /// set it.
    #[must_use]
    pub fn slot(&self) -> u8 {
        let path = Self { query: None, ..*self };
        u8::try_from(path.hash(KeySecret(0, 0)) % u64::from(SLOTS)).unwrap_or_default()
    }
}

/// The keyed hash of a strong ETag; 0 without one.
fn hash_of(strong_tag: Option<&[u8]>, secret: KeySecret) -> u64 {
    let Some(tag) = strong_tag else {
        return 0;
    };
    let mut hasher = SipHasher13::new_with_keys(secret.0, secret.1);
    hasher.write(tag);
    hasher.finish128().h2.max(1)
}

impl Token {
    fn of(floor: Option<Moment>, marks: Vec<Mark>) -> Self {
        Self { floor, marks }
    }

    /// R48: the token after one that could not be verified: whatever it asked for is met by what is current from now on.
    fn unknown(here: &Here) -> Self {
        let floor = Rule::R48.holds().then(|| here.moment(here.now));
        Self::of(floor, Vec::new())
    }

    /// R47: without what every usable entry meets by now.
    fn current(mut self, here: &Here) -> Self {
        self.floor = self.floor.filter(|floor| !here.has_ended(floor));
        self.marks.retain(|mark| !here.has_ended(&mark.since));
        self
    }

    fn mark(&self, resource: u64) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.resource == resource)
    }

    /// Notes an acked write (R47).
    fn wrote(&mut self, mark: Mark) {
        self.put(mark);
    }

    /// Notes a served read (R47). A mark of the same ETag stays: it may be younger than the entry that has met it by its ETag.
    fn saw(&mut self, mark: Mark) {
        let known = self.mark(mark.resource);
        if known.is_none_or(|known| known.etag == 0 || known.etag != mark.etag) {
            self.put(mark);
        }
    }

    fn put(&mut self, mark: Mark) {
        self.marks.retain(|other| other.resource != mark.resource);
        self.marks.push(mark);
        self.shrink();
    }

    /// R48: the oldest mark becomes the floor.
    fn shrink(&mut self) {
        while self.marks.len() > MAX_MARKS {
            let oldest = self.marks.remove(0);
            if Rule::R48.holds() {
                self.floor = lower(self.floor, Some(oldest.since));
            }
        }
    }

    /// Asks for as much as both together.
    fn absorb(&mut self, other: &Self) {
        // What only one of them marks is under the other's floor.
        let under = |mark: &Mark, other: &Self| match (other.mark(mark.resource), other.floor) {
            (Some(same), _) => join(*mark, *same),
            (None, Some(floor)) => join(
                *mark,
                Mark {
                    etag: 0,
                    since: floor,
                    by: By::Write,
                    ..*mark
                },
            ),
            (None, None) => *mark,
        };
        let missing = other.marks.iter().filter(|mark| self.mark(mark.resource).is_none());
        let missing: Vec<Mark> = missing.map(|mark| under(mark, self)).collect();
        let mut marks: Vec<Mark> = self.marks.iter().map(|mark| under(mark, other)).collect();
        marks.extend(missing);
        self.marks = marks;
        self.floor = lower(self.floor, other.floor);
        self.shrink();
    }

    /// All of it as the floor: under another key its resources have other hashes.
    fn sunk(self) -> Self {
        let moments = self.marks.iter().map(|mark| Some(mark.since));
        Self::of(moments.fold(self.floor, lower), Vec::new())
    }
}

/// R48: floors of one minter merge to the later, of two to "ask the primary".
fn lower(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    let (Some(one), Some(other)) = (one, other) else {
        return one.or(other);
    };
    let same = one.minter == other.minter;
    Some(Moment {
        minter: if same { one.minter } else { Minter::NOBODY },
        at: one.at.max(other.at),
        raised: one.raised.max(other.raised),
    })
}

/// Two marks of one resource from two tokens: which of them is the later cannot be told, so only what both name is left.
fn join(one: Mark, other: Mark) -> Mark {
    if one == other {
        return one;
    }
    Mark {
        etag: if one.etag == other.etag { one.etag } else { 0 },
        since: Moment {
            minter: Minter::NOBODY,
            at: one.since.at.max(other.since.at),
            raised: one.since.raised.max(other.since.raised),
        },
        by: By::Write,
        ..one
    }
}

/// What a session asks of the entries of one resource.
#[derive(Clone, Debug)]
pub struct Demand {
    minter: Minter,
    /// A token that could not be verified: nothing stored is good enough.
    foreign: bool,
    bounds: SmallVec<[Bound; 2]>,
}

#[derive(Copy, Clone, Debug)]
struct Bound {
    secret: KeySecret,
    etag: u64,
    since: Moment,
    by: By,
}

impl Demand {
    /// What `tokens` ask of `resource`.
    #[must_use]
    pub fn of<'t>(here: &Here, tokens: impl IntoIterator<Item = &'t Opened>, resource: &Name<'_>) -> Self {
        let mut demand = Self {
            minter: here.minter,
            foreign: false,
            bounds: SmallVec::new(),
        };
        for opened in tokens {
            let Opened::Verified { secret, token, .. } = opened else {
                demand.foreign = true;
                continue;
            };
            let mark = |name: &Name<'_>| {
                let mark = token.mark(name.hash(*secret));
                mark.filter(|mark| !here.has_ended(&mark.since))
            };
            let (etag, since, by) = match mark(resource) {
                Some(mark) => (mark.etag, Some(mark.since), mark.by),
                None => (0, token.floor.filter(|floor| !here.has_ended(floor)), By::Write),
            };
            let all = resource.query.and_then(|_| mark(&resource.every_query()));
            let all = all.map(|mark| (0, Some(mark.since), By::Write));
            for (etag, since, by) in [Some((etag, since, by)), all].into_iter().flatten() {
                demand.bounds.extend(since.map(|since| Bound {
                    secret: *secret,
                    etag,
                    since,
                    by,
                }));
            }
        }
        demand
    }

    /// Whether it asks for anything: if so, what is fetched for it comes from the primary, after the request (R47, R49).
    #[must_use]
    pub fn binds(&self) -> bool {
        Rule::R49.holds() && (self.foreign || !self.bounds.is_empty())
    }

    /// R47, R48: whether an entry is good enough.
    #[must_use]
    pub fn is_met(&self, entry: &impl Stored) -> bool {
        !self.foreign && (!Rule::R47.holds() || self.bounds.iter().all(|bound| self.meets(entry, bound)))
    }

    fn meets(&self, entry: &impl Stored, bound: &Bound) -> bool {
        let same = hash_of(entry.strong_tag(), bound.secret) == bound.etag;
        if bound.etag != 0 && same {
            return true;
        }
        // The very entry, where no ETag tells: of two variants received at one instant the other may be older.
        let facts = entry.facts();
        let is_it = bound.by == By::Read && same && facts.received == bound.since.at;
        // Instants of another process are never compared.
        bound.since.minter == self.minter && (facts.valid_as_of >= bound.since.at || is_it)
    }
}

/// A session as its next token will tell it.
#[derive(Clone, Debug)]
pub struct Session {
    here: Here,
    secret: KeySecret,
    token: Token,
}

impl Session {
    /// What `tokens` tell together, for a token under the key of `secret`.
    #[must_use]
    pub fn of<'t>(here: Here, secret: KeySecret, tokens: impl IntoIterator<Item = &'t Opened>) -> Self {
        let mut all = Token::default();
        for opened in tokens {
            match opened {
                Opened::Foreign => all.absorb(&Token::unknown(&here)),
                Opened::Verified { token, signs: true, .. } => all.absorb(&token.clone().current(&here)),
                Opened::Verified { token, .. } => all.absorb(&token.clone().current(&here).sunk()),
            }
        }
        let token = all;
        Self { here, secret, token }
    }

    /// An answer of a write was passed on, after which `resource` is as `etag` says (R47); `received` is when its head came.
    pub fn wrote(&mut self, resource: &Name<'_>, etag: Option<&Etag>, received: MonoTime) {
        let mark = self.new_mark(resource, etag.and_then(Etag::strong), received, By::Write);
        self.token.wrote(mark);
    }

    /// A read of `resource` was answered with what a fill received then, under this `ETag` if it is strong (R47).
    pub fn saw(&mut self, resource: &Name<'_>, strong_tag: Option<&[u8]>, received: MonoTime) {
        let mark = self.new_mark(resource, strong_tag, received, By::Read);
        self.token.saw(mark);
    }

    fn new_mark(&self, resource: &Name<'_>, strong_tag: Option<&[u8]>, received: MonoTime, by: By) -> Mark {
        Mark {
            resource: resource.hash(self.secret),
            etag: hash_of(strong_tag, self.secret),
            since: self.here.moment(received),
            by,
        }
    }

    /// What it asks for now.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

#[cfg(test)]
mod tests;
