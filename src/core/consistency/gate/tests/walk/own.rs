//! What a write leaves behind by itself: in exclusive gear it may read its target again before it ends (R9), and where answers are
//! stored by time its own answer may be stored after it has (RFC 9110 s9.3.3).

use super::{
    Fate, Gear, ONE_WRITER, Off, Own, Piece, Size, State, Step, TWO_WRITERS, Walk, Writer, ack, holds, value_of, walk,
};
use crate::core::consistency::gate::{Published, TokenId};
use crate::core::consistency::write::Ended;

/// One write that leaves something behind, whatever becomes of it.
const ONE: Size = Size {
    own: Own::May,
    reads: [1, 1],
    ..ONE_WRITER
};
/// Two that overlap.
const TWO: Size = Size {
    own: Own::May,
    reads: [2, 0],
    ..TWO_WRITERS
};
const TWO_SIDE_BY_SIDE: Size = Size {
    own: Own::May,
    reads: [1, 1],
    ..TWO_WRITERS
};
const TWO_LARGER: Size = Size {
    own: Own::May,
    ..TWO_WRITERS
};

/// Two variants, of which a write reads one again.
const TWO_VARIANTS: Size = Size {
    variants: 2,
    fates: &[Fate::Applied],
    ..TWO
};
const TWO_VARIANTS_LATE: Size = Size {
    fates: &[Fate::Late, Fate::Applied],
    ..TWO_VARIANTS
};

/// Every write has one token of its own, beside those of the reads.
fn token(w: usize) -> TokenId {
    TokenId(w as u64)
}

impl Walk {
    /// What a write may do before it ends.
    pub(super) fn enabled_own(&self, s: &State, w: usize, steps: &mut Vec<Step>) {
        if s.size.own == Own::Never || self.gear != Gear::Exclusive {
            return;
        }
        match s.writers[w] {
            Writer::Decided(Fate::Applied | Fate::Rejected) if s.alone[w].is_some() => steps.push(Step::Register(w)),
            Writer::Registered(_) => steps.push(Step::Reread(w)),
            Writer::Reread(..) => steps.push(Step::EndWith(w)),
            _ => {}
        }
    }

    pub(super) fn begun(&self, s: &mut State, w: usize) {
        if s.size.own == Own::Never {
            return;
        }
        s.alone[w] = s.gate.alone(s.time());
        if self.is_off(Off::R9Alone) || self.is_off(Off::R9Settled) {
            s.alone[w] = Some(crate::core::consistency::gate::Alone::test(s.gate.begins));
        }
        if self.gear == Gear::Stored {
            let now = s.time();
            s.gate.register(now, token(w), false);
        }
    }

    pub(super) fn own(&mut self, s: &mut State, step: Step) {
        match step {
            Step::Register(w) => {
                let (Writer::Decided(fate), Some(alone)) = (s.writers[w], s.alone[w]) else {
                    return;
                };
                let now = s.time();
                let mut may = s.gate.register_own(now, token(w), alone);
                let unsafely = self.is_off(Off::R9Alone) && s.gate.is_settled(now)
                    || self.is_off(Off::R9Settled) && s.gate.writers == 1;
                if !may && unsafely {
                    s.gate.tokens.push(token(w));
                    may = true;
                }
                if may {
                    s.sent[w] = s.registered;
                    s.registered += 1;
                    s.writers[w] = Writer::Registered(fate);
                } else {
                    s.alone[w] = None;
                }
            }
            Step::Reread(w) => {
                let Writer::Registered(fate) = s.writers[w] else { return };
                s.writers[w] = Writer::Reread(fate, s.origin);
            }
            Step::EndWith(w) => {
                let Writer::Reread(fate, value) = s.writers[w] else {
                    return;
                };
                if self.is_off(Off::R9Token) && !s.gate.is_alive(token(w)) {
                    s.gate.tokens.push(token(w));
                }
                let left = s.gate.end_with(token(w), vec![piece(s, w, value, true)]);
                self.stored += left.listed.len() as u64;
                s.writers[w] = Writer::Done;
                ack(s, w, fate);
            }
            Step::PublishOwn(w) => {
                let piece = piece(s, w, value_of(w), false);
                if self.is_off(Off::PostToken) && !s.gate.is_alive(token(w)) {
                    s.gate.tokens.push(token(w));
                }
                if matches!(s.gate.publish(token(w), piece), Published::Listed { .. }) {
                    self.stored += 1;
                }
                s.posting[w] = false;
            }
            _ => {}
        }
    }

    /// The end of a write whose own answer is to be stored. Whether it was one.
    pub(super) fn end_posted(&self, s: &mut State, w: usize, fate: Fate) -> bool {
        if s.size.own == Own::Never || self.gear != Gear::Stored || fate != Fate::Applied {
            s.gate.release(token(w));
            return false;
        }
        s.gate.end_keeping(Ended::Applied, token(w));
        s.writers[w] = Writer::Done;
        s.posting[w] = true;
        true
    }
}

fn piece(s: &State, w: usize, value: u8, proven: bool) -> Piece {
    Piece {
        id: u8::try_from(w).unwrap(),
        variant: 0,
        sent: s.sent[w],
        value,
        proven,
    }
}

#[test]
fn r9_every_schedule_of_a_write_that_reads_again_is_linearizable() {
    holds(ONE, Gear::Exclusive);
}

#[test]
fn r9_every_schedule_of_two_writes_that_read_again_is_linearizable() {
    holds(TWO, Gear::Exclusive);
    holds(TWO_SIDE_BY_SIDE, Gear::Exclusive);
}

#[test]
fn every_schedule_of_writes_whose_answers_are_stored_keeps_them_behind_acks() {
    holds(ONE, Gear::Stored);
    holds(TWO, Gear::Stored);
    holds(TWO_SIDE_BY_SIDE, Gear::Stored);
}

#[test]
#[ignore = "more than half a million states"]
fn larger_every_schedule_of_two_writes_that_leave_something_and_three_reads() {
    holds(TWO_LARGER, Gear::Exclusive);
    holds(TWO_LARGER, Gear::Stored);
}

/// As in the walk of the gate itself.
macro_rules! missed_when_off {
    ($($name:ident: $off:ident, $size:ident, $gear:ident;)*) => {$(
        #[test]
        fn $name() {
            let found = walk($size, Gear::$gear, Some(Off::$off));
            println!("{:?} in {:?} gear: {:?} after {} states", Off::$off, Gear::$gear, found.broken, found.states);
            assert!(found.broken.is_some(), "{:?} is off and nobody noticed in {} states", Off::$off, found.states);
        }
    )*};
}

missed_when_off! {
    r9_reading_again_while_another_write_is_pending_is_seen: R9Alone, TWO_VARIANTS, Exclusive;
    r9_reading_again_while_unsettled_is_seen: R9Settled, TWO_VARIANTS_LATE, Exclusive;
    r9_listing_although_another_write_has_begun_is_seen: R9Token, TWO_VARIANTS, Exclusive;
    r1_a_post_answer_stored_without_its_token_is_seen: PostToken, TWO, Stored;
}
