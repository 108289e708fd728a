//! Every order of steps around what a write changes beside its own resource: a resource or a tag that its route declares, gated before
//! the write is forwarded, or one that its answer names, dropped before the ack (R12, R12a). One write elsewhere, and readers of what it
//! changes. A tag's steps are those of the store: a kill is noted before its record is locked, an entry is listed under its tag before it
//! is put in service, and what a tag gave up is unlisted later.
//!
//! Judged as in [`super::walk`]: each read of stored answers on its own, the whole history in exclusive gear. What an answer names counts
//! from the ack on, so exclusive gear is judged for what is declared.
//!
//! Here the kills show that one resource in exclusive gear does not need: the one at a write's completion (R3), and the one before the ack
//! (R10). (The third, of other tokens during a refresh, belongs to R9.) Not seen to matter: that a refusal revokes, and that a revoked
//! entry is not put in service; readers look at the flag, and both only keep the records clean.

use super::super::{Entry, Gate, Published, Since, TokenId};
use super::walk::{Gear, History, Op, Piece, REVOKED, encoded, linearizable};
use crate::core::consistency::write::Ended;
use crate::core::time::MonoTime;
use std::collections::HashSet;

/// What the write changes, and how that is known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Affects {
    DeclaredResource,
    DeclaredTag,
    NamedResource,
    NamedTag,
}

impl Affects {
    fn tag(self) -> bool {
        matches!(self, Self::DeclaredTag | Self::NamedTag)
    }

    fn declared(self) -> bool {
        matches!(self, Self::DeclaredResource | Self::DeclaredTag)
    }
}

/// A rule that is not kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Off {
    R12NotAffected,
    R3CompletionKills,
    R10BeforeAck,
    R12NamedKills,
    R12aKilledSince,
    R12aBusy,
    R12aUnsettledThen,
    R12aNotedFirst,
    R12aListedFirst,
    R12aJoinAfterKill,
    R12aJoinWhileBusy,
    BeginRevokes,
    R11Unknown,
}

/// What the write does, one step at a time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Do {
    Invoke,
    Note,
    Begin,
    Decide,
    End,
    Drop,
    Unlist,
    Ack,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    Applied,
    Rejected,
    /// Unknown; applied at any time before it settles, or never.
    Late,
}

/// What a fetch knew when it began.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Fill {
    sent: u8,
    provable: bool,
    sociable: bool,
    mark: u8,
    at: u64,
    value: u8,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reader {
    Idle,
    Captured(Piece),
    Registered(Fill),
    Fetched(Fill),
    /// Listed under the tag, or in service with the order reversed.
    Listed(Fill),
    Following,
}

const SETTLE: u64 = 1;
const READS: [u8; 2] = [2, 1];
const RESOURCE_READ: usize = 2;

#[derive(Clone, Debug)]
struct State {
    resource: Gate<Piece>,
    tag: Gate<Piece>,
    /// Kills of the tag, writes to it that are pending, and until when it is unsettled: what tokens remember.
    kills: u8,
    pending: u8,
    until: u64,
    /// What a step on the tag's record gave up, until it is unlisted.
    gone: Vec<Piece>,
    now: u64,
    origin: u8,
    late: Option<u64>,
    done: usize,
    fate: Option<Fate>,
    readers: [Reader; 2],
    reads: [u8; 2],
    registered: u8,
    revoked: u8,
    history: History,
}

#[derive(Copy, Clone, Debug)]
enum Step {
    Write(Option<Fate>),
    ApplyLate,
    Tick,
    Read(usize),
    Follow(usize),
    Load(usize),
    Fetch(usize),
    List(usize),
    Publish(usize),
}

struct Walk {
    affects: Affects,
    gear: Gear,
    off: Option<Off>,
    program: Vec<Do>,
    hits: u64,
    stored: u64,
    followed: u64,
}

struct Found {
    states: usize,
    hits: u64,
    stored: u64,
    followed: u64,
    broken: Option<String>,
}

fn walk(affects: Affects, gear: Gear, off: Option<Off>) -> Found {
    let mut walk = Walk {
        affects,
        gear,
        off,
        program: program(affects, off),
        hits: 0,
        stored: 0,
        followed: 0,
    };
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut stack = vec![(State::new(), Vec::new())];
    let mut broken = None;
    'all: while let Some((state, trail)) = stack.pop() {
        for step in walk.enabled(&state) {
            let mut next = state.clone();
            REVOKED.set(state.revoked);
            walk.take(&mut next, step);
            next.revoked = REVOKED.get();
            if !seen.insert(next.key()) {
                continue;
            }
            let mut trail: Vec<Step> = trail.clone();
            trail.push(step);
            if !walk.holds(&next.history) {
                broken = Some(format!("{trail:?}\n{:?}", next.history));
                break 'all;
            }
            stack.push((next, trail));
        }
    }
    Found {
        states: seen.len(),
        hits: walk.hits,
        stored: walk.stored,
        followed: walk.followed,
        broken,
    }
}

fn program(affects: Affects, off: Option<Off>) -> Vec<Do> {
    let mut program = match affects {
        Affects::DeclaredResource => vec![Do::Invoke, Do::Begin, Do::Decide, Do::End, Do::Ack],
        Affects::DeclaredTag => vec![
            Do::Invoke,
            Do::Note,
            Do::Begin,
            Do::Unlist,
            Do::Decide,
            Do::Note,
            Do::End,
            Do::Unlist,
            Do::Ack,
        ],
        Affects::NamedResource => vec![Do::Invoke, Do::Decide, Do::Drop, Do::Ack],
        Affects::NamedTag => vec![Do::Invoke, Do::Decide, Do::Note, Do::Drop, Do::Unlist, Do::Ack],
    };
    let decide = program.iter().position(|step| *step == Do::Decide).unwrap();
    match off {
        Some(Off::R12NotAffected) => return vec![Do::Invoke, Do::Decide, Do::Ack],
        Some(Off::R10BeforeAck) => {
            program.pop();
            program.insert(decide + 1, Do::Ack);
        }
        Some(Off::R3CompletionKills | Off::R12NamedKills) if affects.tag() => {
            program.remove(decide + 1);
        }
        Some(Off::R12aNotedFirst) => program.swap(decide + 1, decide + 2),
        _ => {}
    }
    program
}

impl State {
    fn new() -> Self {
        Self {
            resource: Gate::default(),
            tag: Gate::default(),
            kills: 0,
            pending: 0,
            until: 0,
            gone: Vec::new(),
            now: 0,
            origin: 0,
            late: None,
            done: 0,
            fate: None,
            readers: [Reader::Idle; 2],
            reads: READS,
            registered: 0,
            revoked: 0,
            history: History::default(),
        }
    }

    fn time(&self) -> MonoTime {
        MonoTime::from_micros(self.now)
    }

    fn key(&self) -> Vec<u8> {
        let small = |n: u64| u8::try_from(n.min(200)).unwrap();
        let mut key = Vec::with_capacity(128);
        let piece = |key: &mut Vec<u8>, p: &Piece| key.extend([p.id, p.sent, p.value, u8::from(p.proven)]);
        for gate in [&self.resource, &self.tag] {
            key.extend([small(gate.writers.into()), small(gate.unsettled_until.as_micros())]);
            key.push(gate.tokens.iter().fold(0, |tokens, t| tokens | 1 << t.0));
            let mut entries: Vec<Piece> = gate.entries.iter().copied().collect();
            entries.sort_by_key(|p| p.id);
            entries.iter().for_each(|p| piece(&mut key, p));
            key.push(0xf0);
        }
        self.gone.iter().for_each(|p| piece(&mut key, p));
        key.push(0xf1);
        key.extend([
            self.kills,
            self.pending,
            small(self.until),
            small(self.now),
            self.origin,
        ]);
        key.extend([small(self.late.map_or(199, |l| l.min(100))), small(self.done as u64)]);
        key.push(self.fate.map_or(9, |fate| fate as u8));
        for reader in &self.readers {
            let (kind, fill) = match reader {
                Reader::Idle => (0, None),
                Reader::Captured(p) => {
                    piece(&mut key, p);
                    (1, None)
                }
                Reader::Registered(fill) => (2, Some(fill)),
                Reader::Fetched(fill) => (3, Some(fill)),
                Reader::Listed(fill) => (4, Some(fill)),
                Reader::Following => (5, None),
            };
            key.push(kind);
            if let Some(f) = fill {
                key.extend([
                    f.sent,
                    u8::from(f.provable),
                    u8::from(f.sociable),
                    f.mark,
                    small(f.at),
                    f.value,
                ]);
            }
        }
        key.extend(self.reads);
        key.extend([self.registered, self.revoked]);
        key.extend(self.history.iter().flat_map(encoded));
        key
    }

    fn op(&self, reader: usize) -> usize {
        RESOURCE_READ + reader * 2 + usize::from(READS[reader] - self.reads[reader])
    }

    fn token(&self, reader: usize) -> TokenId {
        TokenId(self.op(reader) as u64)
    }

    fn invoke(&mut self, op: usize) {
        let counts = |o: &Op| o.ended && !o.void;
        let after = (0..6)
            .filter(|n| counts(&self.history[*n]) && (*n >= 2 || self.history[*n].definite))
            .fold(0, |after, n| after | 1 << n);
        self.history[op] = Op {
            after,
            begun: true,
            value: self.history[op].value,
            ..Op::default()
        };
    }

    fn respond(&mut self, reader: usize, value: u8) {
        let op = self.op(reader);
        self.history[op].ended = true;
        self.history[op].value = value;
        self.reads[reader] -= 1;
        self.readers[reader] = Reader::Idle;
    }
}

impl Walk {
    fn is_off(&self, off: Off) -> bool {
        self.off == Some(off)
    }

    fn enabled(&self, s: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        match self.program.get(s.done) {
            Some(Do::Decide) => {
                steps.push(Step::Write(Some(Fate::Applied)));
                if self.affects.declared() {
                    steps.extend([Step::Write(Some(Fate::Rejected)), Step::Write(Some(Fate::Late))]);
                }
            }
            Some(_) => steps.push(Step::Write(None)),
            None => {}
        }
        if s.late.is_some() {
            steps.push(Step::ApplyLate);
        }
        if s.until.max(s.resource.unsettled_until.as_micros()) > s.now {
            steps.push(Step::Tick);
        }
        for r in 0..2 {
            match s.readers[r] {
                Reader::Idle if s.reads[r] > 0 => {
                    steps.push(Step::Read(r));
                    if self.may_follow(s, 1 - r) {
                        steps.push(Step::Follow(r));
                    }
                }
                Reader::Captured(_) => steps.push(Step::Load(r)),
                Reader::Registered(_) => steps.push(Step::Fetch(r)),
                Reader::Fetched(_) if self.affects.tag() && !self.is_off(Off::R12aListedFirst) => {
                    steps.push(Step::List(r))
                }
                Reader::Fetched(_) => steps.push(Step::Publish(r)),
                Reader::Listed(_) if self.is_off(Off::R12aListedFirst) => steps.push(Step::List(r)),
                Reader::Listed(_) => steps.push(Step::Publish(r)),
                Reader::Idle | Reader::Following => {}
            }
        }
        steps
    }

    /// As `TokenWatch::is_provable_and_alive` of the store.
    fn may_follow(&self, s: &State, leader: usize) -> bool {
        match s.readers[leader] {
            Reader::Registered(_) => true, // not yet sent
            Reader::Fetched(fill) | Reader::Listed(fill) => {
                fill.provable
                    && (fill.sociable || self.is_off(Off::R12aJoinWhileBusy))
                    && (fill.mark == s.kills || self.is_off(Off::R12aJoinAfterKill))
                    && s.resource.is_alive(s.token(leader))
            }
            Reader::Idle | Reader::Captured(_) | Reader::Following => false,
        }
    }

    fn take(&mut self, s: &mut State, step: Step) {
        match step {
            Step::Write(fate) => self.write(s, fate),
            Step::ApplyLate => {
                s.origin = 1;
                s.late = None;
            }
            Step::Tick => {
                s.now += 1;
                s.late = s.late.filter(|l| *l > s.now);
            }
            Step::Read(r) => {
                s.invoke(s.op(r));
                let exclusive = self.gear == Gear::Exclusive;
                let hit = s.resource.entries.iter().find(|e| e.proven || !exclusive).copied();
                match hit {
                    Some(piece) => s.readers[r] = Reader::Captured(piece),
                    None => register(s, r),
                }
            }
            Step::Follow(r) => {
                s.invoke(s.op(r));
                s.readers[r] = Reader::Following;
                self.followed += 1;
            }
            Step::Load(r) => {
                let Reader::Captured(piece) = s.readers[r] else { return };
                if piece.is_revoked() {
                    register(s, r);
                } else {
                    self.hits += 1;
                    s.respond(r, piece.value);
                }
            }
            Step::Fetch(r) => {
                let Reader::Registered(fill) = s.readers[r] else { return };
                s.readers[r] = Reader::Fetched(Fill {
                    value: s.origin,
                    ..fill
                });
            }
            Step::List(r) => self.list(s, r),
            Step::Publish(r) => self.publish(s, r),
        }
    }

    fn write(&self, s: &mut State, fate: Option<Fate>) {
        let step = self.program[s.done];
        s.done += 1;
        let exclusive = self.gear == Gear::Exclusive && !self.is_off(Off::BeginRevokes);
        match step {
            Do::Invoke => {
                s.history[0].value = 1;
                s.invoke(0);
                // The store counts the write before it notes the kill.
                s.pending += u8::from(self.affects == Affects::DeclaredTag);
            }
            Do::Note => s.kills += 1,
            Do::Begin => {
                let gate = if self.affects.tag() {
                    &mut s.tag
                } else {
                    &mut s.resource
                };
                let gone = if exclusive {
                    gate.begin_exclusive()
                } else {
                    gate.begin();
                    Vec::new()
                };
                self.gave_up(s, &gone);
            }
            Do::Decide => {
                s.fate = fate;
                match fate {
                    Some(Fate::Applied) => s.origin = 1,
                    Some(Fate::Late) => s.late = Some(u64::MAX),
                    Some(Fate::Rejected) | None => {}
                }
            }
            Do::End => {
                let settled_at = s.now + SETTLE;
                let ended = match s.fate {
                    Some(Fate::Late) if self.is_off(Off::R11Unknown) => Ended::Applied,
                    Some(Fate::Late) => Ended::Unknown {
                        settled_at: MonoTime::from_micros(settled_at),
                    },
                    Some(Fate::Rejected) => Ended::Rejected,
                    Some(Fate::Applied) | None => Ended::Applied,
                };
                s.late = s.late.map(|_| settled_at);
                if s.fate == Some(Fate::Late) {
                    s.until = settled_at;
                }
                s.pending = s.pending.saturating_sub(u8::from(self.affects.tag()));
                let gate = if self.affects.tag() {
                    &mut s.tag
                } else {
                    &mut s.resource
                };
                let tokens = gate.tokens.clone();
                let gone = gate.end(ended);
                if self.is_off(Off::R3CompletionKills) {
                    gate.tokens = tokens;
                }
                self.gave_up(s, &gone);
            }
            Do::Drop => {
                let gate = if self.affects.tag() {
                    &mut s.tag
                } else {
                    &mut s.resource
                };
                let tokens = gate.tokens.clone();
                let gone = gate.drop_all();
                if self.is_off(Off::R12NamedKills) {
                    gate.tokens = tokens;
                }
                self.gave_up(s, &gone);
            }
            Do::Unlist => {
                for piece in std::mem::take(&mut s.gone) {
                    s.resource.evict(piece.digest(), piece.id());
                }
            }
            Do::Ack => {
                s.history[0].ended = true;
                s.history[0].definite = s.fate == Some(Fate::Applied);
                s.history[0].void = s.fate == Some(Fate::Rejected);
            }
        }
    }

    fn gave_up(&self, s: &mut State, gone: &[Piece]) {
        if self.affects.tag() {
            s.gone.extend(gone);
        }
    }

    /// As `Index::list` of the store.
    fn list(&mut self, s: &mut State, r: usize) {
        let (Reader::Fetched(fill) | Reader::Listed(fill)) = s.readers[r] else {
            return;
        };
        let piece = self.piece(s, r, fill);
        let since = Since {
            registered: if self.is_off(Off::R12aUnsettledThen) {
                s.time()
            } else {
                MonoTime::from_micros(fill.at)
            },
            killed: fill.mark < s.kills && !self.is_off(Off::R12aKilledSince),
        };
        let writers = s.tag.writers;
        if self.is_off(Off::R12aBusy) {
            s.tag.writers = 0;
        }
        let listed = s.tag.tag(since, &piece).is_ok();
        s.tag.writers = writers;
        if listed && !self.is_off(Off::R12aListedFirst) {
            s.readers[r] = Reader::Listed(fill);
            return;
        }
        if !listed {
            piece.revoke();
            s.resource.release(s.token(r));
            s.resource.evict(piece.digest(), piece.id());
        }
        answered(s, r, fill.value);
    }

    fn publish(&mut self, s: &mut State, r: usize) {
        let (Reader::Fetched(fill) | Reader::Listed(fill)) = s.readers[r] else {
            return;
        };
        let piece = self.piece(s, r, fill);
        match s.resource.publish(s.token(r), piece) {
            Published::Listed { replaced } => {
                self.stored += 1;
                replaced.iter().for_each(|old| s.tag.untag(old));
                if self.is_off(Off::R12aListedFirst) {
                    s.readers[r] = Reader::Listed(fill);
                    return;
                }
            }
            Published::Refused(_) => {
                piece.revoke();
                s.tag.untag(&piece);
            }
        }
        answered(s, r, fill.value);
    }

    #[allow(clippy::unused_self)]
    fn piece(&self, s: &State, r: usize, fill: Fill) -> Piece {
        Piece {
            id: u8::try_from(s.op(r)).unwrap(),
            variant: 0,
            sent: fill.sent,
            value: fill.value,
            proven: fill.provable,
        }
    }

    fn holds(&self, history: &History) -> bool {
        match self.gear {
            Gear::Exclusive => linearizable(history, 0b11_1111),
            Gear::Stored => (2..6).all(|read| linearizable(history, 0b11 | 1 << read)),
        }
    }
}

fn register(s: &mut State, r: usize) {
    let provable = s.resource.register(s.time(), s.token(r), true);
    s.readers[r] = Reader::Registered(Fill {
        sent: s.registered,
        provable,
        sociable: s.pending == 0 && s.now >= s.until,
        mark: s.kills,
        at: s.now,
        value: 0,
    });
    s.registered += 1;
}

/// The reader has its answer, and who follows has the same.
fn answered(s: &mut State, r: usize, value: u8) {
    s.respond(r, value);
    if s.readers[1 - r] == Reader::Following {
        s.respond(1 - r, value);
    }
}

fn holds(affects: Affects, gear: Gear) {
    let found = walk(affects, gear, None);
    println!(
        "{affects:?}, {gear:?}: {} states, {} stored, {} hits, {} followed",
        found.states, found.stored, found.hits, found.followed
    );
    assert_eq!(found.broken, None);
    assert!(
        found.stored > 100 && found.hits > 10 && found.followed > 10,
        "the walk stored {}, served {} and followed {}",
        found.stored,
        found.hits,
        found.followed
    );
}

#[test]
fn r12_every_schedule_around_a_declared_resource_is_linearizable() {
    holds(Affects::DeclaredResource, Gear::Exclusive);
    holds(Affects::DeclaredResource, Gear::Stored);
}

#[test]
fn r12a_every_schedule_around_a_declared_tag_is_linearizable() {
    holds(Affects::DeclaredTag, Gear::Exclusive);
    holds(Affects::DeclaredTag, Gear::Stored);
}

#[test]
fn r12_every_schedule_around_what_an_answer_names_keeps_stored_answers_behind_the_ack() {
    holds(Affects::NamedResource, Gear::Stored);
    holds(Affects::NamedTag, Gear::Stored);
}

macro_rules! missed_when_off {
    ($($name:ident: $off:ident, $affects:ident, $gear:ident;)*) => {$(
        #[test]
        fn $name() {
            let found = walk(Affects::$affects, Gear::$gear, Some(Off::$off));
            println!("{:?}: {:?} after {} states", Off::$off, found.broken, found.states);
            assert!(found.broken.is_some(), "{:?} is off and nobody noticed in {} states", Off::$off, found.states);
        }
    )*};
}

missed_when_off! {
    r12_a_declared_resource_that_is_not_gated_is_seen: R12NotAffected, DeclaredResource, Stored;
    r12_a_declared_tag_that_is_not_gated_is_seen: R12NotAffected, DeclaredTag, Stored;
    r12_a_named_resource_that_stays_is_seen: R12NotAffected, NamedResource, Stored;
    r12_a_named_tag_that_stays_is_seen: R12NotAffected, NamedTag, Stored;
    r3_a_completion_that_does_not_kill_is_seen_in_a_declared_resource: R3CompletionKills, DeclaredResource, Stored;
    r3_a_completion_that_does_not_kill_is_seen_in_a_declared_tag: R3CompletionKills, DeclaredTag, Stored;
    r3_and_for_a_tag_in_exclusive_gear_too: R3CompletionKills, DeclaredTag, Exclusive;
    r10_a_named_resource_dropped_after_the_ack_is_seen: R10BeforeAck, NamedResource, Stored;
    r10_a_named_tag_dropped_after_the_ack_is_seen: R10BeforeAck, NamedTag, Stored;
    r10_a_declared_tag_that_ends_after_the_ack_is_seen: R10BeforeAck, DeclaredTag, Stored;
    r12_a_named_resource_whose_fills_live_on_is_seen: R12NamedKills, NamedResource, Stored;
    r12_a_named_tag_whose_fills_live_on_is_seen: R12NamedKills, NamedTag, Stored;
    r12a_listing_under_a_tag_killed_since_is_seen: R12aKilledSince, NamedTag, Stored;
    r12a_listing_under_a_busy_tag_is_seen: R12aBusy, DeclaredTag, Exclusive;
    r12a_a_tag_that_was_unsettled_when_the_fill_began_is_seen: R12aUnsettledThen, DeclaredTag, Exclusive;
    r12a_a_kill_noted_after_the_record_was_locked_is_seen: R12aNotedFirst, NamedTag, Stored;
    r12a_an_entry_in_service_before_it_is_listed_is_seen: R12aListedFirst, NamedTag, Stored;
    r12a_joining_a_fill_after_a_tag_was_killed_is_seen: R12aJoinAfterKill, NamedTag, Stored;
    r12a_joining_a_fill_that_began_while_a_tag_was_busy_is_seen: R12aJoinWhileBusy, DeclaredTag, Exclusive;
    r12_entries_of_a_declared_tag_that_stay_when_the_write_begins_are_seen: BeginRevokes, DeclaredTag, Exclusive;
    r11_an_unknown_write_that_settles_its_tag_is_seen: R11Unknown, DeclaredTag, Exclusive;
}
