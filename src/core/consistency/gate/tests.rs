//! The gate's rules, each in a sentence; [`walk`] walks every order of steps of a small world around it, and [`affected`]
//! those around what a write changes beside its own resource.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use std::cell::Cell;
use std::rc::Rc;

mod affected;
mod tagged;
mod walk;

/// An entry that remembers whether it is in service.
#[derive(Clone, Debug)]
struct Kept {
    id: u64,
    digest: u128,
    variant: u8,
    sent: u64,
    revoked: Rc<Cell<bool>>,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Entry for Kept {
    fn id(&self) -> u64 {
        self.id
    }
    fn digest(&self) -> u128 {
        self.digest
    }
    fn revoke(&self) {
        self.revoked.set(true);
    }
    fn is_revoked(&self) -> bool {
        self.revoked.get()
    }
    fn same_variant(&self, other: &Self) -> bool {
        (self.digest, self.variant) == (other.digest, other.variant)
    }
    fn older_than(&self, other: &Self) -> bool {
        self.sent < other.sent
    }
}

fn kept(id: u64, digest: u128) -> Kept {
    Kept {
        id,
        digest,
        variant: 0,
        sent: id,
        revoked: Rc::default(),
    }
}

fn at(us: u64) -> MonoTime {
    MonoTime::from_micros(us)
}

const NOW: MonoTime = MonoTime::from_micros(1000);

/// Registers and publishes at once.
fn store(gate: &mut Gate<Kept>, entry: &Kept) {
    let token = TokenId(1_000 + entry.id);
    gate.register(NOW, token, true);
    assert!(matches!(gate.publish(token, entry.clone()), Published::Listed { .. }));
}

fn refused(published: &Published<Kept>) -> Option<NotStored> {
    match published {
        Published::Refused(why) => Some(*why),
        Published::Listed { .. } => None,
    }
}

#[test]
fn r1_a_fill_in_flight_is_not_stored_after_a_write() {
    let outcomes = [
        ("before it ends", None),
        ("applied", Some(Ended::Applied)),
        ("refused by the origin", Some(Ended::Rejected)),
        ("never sent", Some(Ended::NotSent)),
        ("failed", Some(Ended::Failed)),
        ("unknown", Some(Ended::Unknown { settled_at: at(2000) })),
        ("unknown, connection open", Some(Ended::UnknownOpen)),
    ];
    for (name, ended) in outcomes {
        let mut gate = Gate::default();
        assert!(gate.register(NOW, TokenId(1), true), "{name}: nothing is pending yet");
        gate.begin();
        if let Some(ended) = ended {
            gate.end(ended);
        }
        assert!(!gate.is_alive(TokenId(1)), "{name}");
        assert_eq!(
            refused(&gate.publish(TokenId(1), kept(1, 0))),
            Some(NotStored::TokenDead),
            "{name}"
        );
        assert!(gate.entries().is_empty(), "{name}");
    }
}

#[test]
fn r1_a_token_publishes_once() {
    let mut gate = Gate::default();
    gate.register(NOW, TokenId(1), true);
    assert!(matches!(gate.publish(TokenId(1), kept(1, 0)), Published::Listed { .. }));
    assert_eq!(
        refused(&gate.publish(TokenId(1), kept(2, 1))),
        Some(NotStored::TokenDead)
    );
    gate.register(NOW, TokenId(2), true);
    gate.release(TokenId(2));
    assert_eq!(
        refused(&gate.publish(TokenId(2), kept(3, 1))),
        Some(NotStored::TokenDead)
    );
}

#[test]
fn r2_nothing_read_while_a_write_is_pending_or_unsettled_is_provable() {
    let mut gate: Gate<Kept> = Gate::default();
    assert!(gate.register(NOW, TokenId(1), true));
    assert!(!gate.register(NOW, TokenId(2), false), "the route's gear cannot prove");
    gate.begin();
    assert!(!gate.register(NOW, TokenId(3), true), "pending");
    gate.end(Ended::Unknown { settled_at: at(2000) });
    assert!(!gate.register(at(1999), TokenId(4), true), "unsettled");
    assert!(gate.register(at(2000), TokenId(5), true), "settled");
    gate.begin();
    gate.end(Ended::UnknownOpen);
    assert!(
        !gate.register(at(u64::MAX), TokenId(6), true),
        "the connection is open, however late it is"
    );
    gate.closed(at(3000));
    assert!(!gate.register(at(2999), TokenId(7), true));
    assert!(gate.register(at(3000), TokenId(8), true));
}

#[test]
fn r3_pending_writes_are_counted() {
    let mut gate: Gate<Kept> = Gate::default();
    gate.begin();
    gate.begin();
    gate.end(Ended::Applied);
    assert!(gate.is_disturbed(NOW), "the other one is still pending");
    assert!(!gate.register(NOW, TokenId(1), true));
    gate.end(Ended::Applied);
    assert!(!gate.is_disturbed(NOW));
    assert!(gate.register(NOW, TokenId(2), true));
}

#[test]
fn r3_every_completion_kills_the_fills_that_began_during_the_write() {
    for ended in [
        Ended::Applied,
        Ended::Rejected,
        Ended::NotSent,
        Ended::Failed,
        Ended::Unknown { settled_at: at(2000) },
        Ended::UnknownOpen,
    ] {
        let mut gate = Gate::default();
        gate.begin();
        gate.register(NOW, TokenId(1), true);
        gate.end(ended);
        assert_eq!(
            refused(&gate.publish(TokenId(1), kept(1, 0))),
            Some(NotStored::TokenDead),
            "{ended:?}"
        );
    }
}

#[test]
fn r4_a_record_is_pinned_by_writers_unsettled_time_tokens_and_entries() {
    let mut gate = Gate::default();
    assert!(!gate.is_pinned(NOW));
    gate.register(NOW, TokenId(1), true);
    assert!(gate.is_pinned(NOW), "a token");
    gate.publish(TokenId(1), kept(1, 7));
    assert!(gate.is_pinned(NOW), "an entry");
    assert_eq!(gate.evict(7, 2), None, "another number");
    assert_eq!(gate.evict(7, 1).unwrap().id, 1);
    assert!(!gate.is_pinned(NOW));
    gate.begin();
    assert!(gate.is_pinned(NOW), "a writer");
    gate.end(Ended::Unknown { settled_at: at(2000) });
    assert!(gate.is_pinned(NOW), "an unsettled time");
    assert!(
        gate.is_pinned(MonoTime::default()),
        "a step that does not know the time keeps it"
    );
    assert!(!gate.is_pinned(at(2000)));
    gate.forget_settled(at(1999));
    assert!(gate.is_pinned(at(1999)), "it is not over yet");
    gate.forget_settled(at(2000));
    assert!(
        !gate.is_pinned(MonoTime::default()),
        "a step that does not know the time lets it go once it is forgotten"
    );
    gate.begin();
    gate.end(Ended::UnknownOpen);
    assert!(gate.is_pinned(at(u64::MAX)), "an open connection");
    gate.closed(at(3000));
    assert!(!gate.is_pinned(at(3000)));
}

#[test]
fn r4_a_record_made_again_does_not_know_an_old_token() {
    let mut first: Gate<Kept> = Gate::default();
    first.register(NOW, TokenId(1), true);
    first.drop_all();
    assert!(!first.is_pinned(NOW), "the record goes");
    let mut second: Gate<Kept> = Gate::default();
    second.register(NOW, TokenId(2), true);
    assert_eq!(
        refused(&second.publish(TokenId(1), kept(1, 0))),
        Some(NotStored::TokenDead)
    );
    assert!(second.is_alive(TokenId(2)), "the stranger took nothing with it");
}

#[test]
fn r4_eviction_by_number_leaves_a_newer_entry_of_the_variant() {
    let mut gate = Gate::default();
    store(&mut gate, &kept(1, 7));
    store(&mut gate, &kept(2, 7));
    assert_eq!(gate.evict(7, 1), None);
    assert_eq!(gate.entries().len(), 1);
}

#[test]
fn r5_a_304_is_a_fill_of_its_own() {
    let old = kept(1, 7);
    let mut gate = Gate::default();
    store(&mut gate, &old);
    gate.register(NOW, TokenId(1), true);
    let new = kept(2, 7);
    let published = gate.publish_validated(TokenId(1), &old, new.clone());
    assert_eq!(
        published,
        Published::Listed {
            replaced: vec![old.clone()]
        }
    );
    assert!(old.revoked.get() && !new.revoked.get());
}

#[test]
fn r5_a_304_lists_nothing_when_its_token_is_dead_or_the_validated_entry_is_gone() {
    let old = kept(1, 7);
    let mut gate = Gate::default();
    store(&mut gate, &old);

    gate.register(NOW, TokenId(1), true);
    gate.begin();
    assert_eq!(
        refused(&gate.publish_validated(TokenId(1), &old, kept(2, 7))),
        Some(NotStored::TokenDead),
        "a write began"
    );
    gate.end(Ended::Rejected);
    assert!(!old.revoked.get(), "a rejected write leaves what is stored in service");

    gate.register(NOW, TokenId(2), true);
    gate.evict(7, 1);
    let refused_for = refused(&gate.publish_validated(TokenId(2), &old, kept(3, 7)));
    assert_eq!(
        refused_for,
        Some(NotStored::TokenDead),
        "the validated entry was evicted: its token is alive, and yet"
    );
    assert!(!gate.is_alive(TokenId(2)), "a refused fill leaves no token behind");
    assert!(!gate.is_pinned(NOW));

    let old = kept(1, 7);
    store(&mut gate, &old);
    gate.register(NOW, TokenId(3), true);
    store(&mut gate, &kept(4, 7));
    assert_eq!(
        refused(&gate.publish_validated(TokenId(3), &old, kept(5, 7))),
        Some(NotStored::TokenDead),
        "it was replaced"
    );
    assert_eq!(gate.entries().iter().map(|e| e.id).collect::<Vec<_>>(), [4]);
}

#[test]
fn r6_and_r18_a_write_revokes_every_variant_and_every_negative_entry() {
    for ended in [
        Ended::Applied,
        Ended::Unknown { settled_at: at(2000) },
        Ended::UnknownOpen,
    ] {
        let mut gate = Gate::default();
        // The gate does not look at statuses: a stored 404, a HEAD's or a language's entry is one more digest or variant.
        let all: Vec<Kept> = (0..40)
            .map(|id| Kept {
                variant: u8::from(id % 2 == 0),
                ..kept(id, u128::from(id / 2))
            })
            .collect();
        all.iter().for_each(|e| store(&mut gate, e));
        gate.begin();
        assert_eq!(gate.entries().len(), 40, "nothing is acked yet");
        let gone = gate.end(ended);
        assert_eq!(gone.len(), 40, "{ended:?}");
        assert!(all.iter().all(|e| e.revoked.get()), "{ended:?}");
        assert!(gate.entries().is_empty(), "{ended:?}");
    }
}

#[test]
fn r6_a_write_that_changed_nothing_leaves_what_is_stored() {
    for ended in [Ended::Rejected, Ended::NotSent, Ended::Failed] {
        let mut gate = Gate::default();
        let entry = kept(1, 0);
        store(&mut gate, &entry);
        gate.begin();
        assert_eq!(gate.end(ended), vec![], "{ended:?}");
        assert!(!entry.revoked.get() && gate.entries().contains(&entry), "{ended:?}");
        assert!(!gate.is_disturbed(NOW), "{ended:?}");
    }
}

#[test]
fn r6_in_exclusive_gear_everything_goes_when_the_write_begins() {
    let mut gate = Gate::default();
    let entries = [kept(1, 0), kept(2, 1)];
    entries.iter().for_each(|e| store(&mut gate, e));
    gate.register(NOW, TokenId(1), true);
    assert_eq!(gate.begin_exclusive().len(), 2);
    assert!(entries.iter().all(|e| e.revoked.get()));
    assert!(!gate.is_alive(TokenId(1)));
    assert!(gate.is_disturbed(NOW));
}

#[test]
fn r10_when_the_write_has_ended_nothing_older_is_in_service_or_can_come_to_be() {
    let mut gate = Gate::default();
    let (before, during) = (kept(1, 0), kept(2, 1));
    store(&mut gate, &before);
    gate.begin();
    store(&mut gate, &during);
    gate.register(NOW, TokenId(7), true);
    let gone = gate.end(Ended::Applied);
    // The ack goes out here.
    assert_eq!(gone, vec![before.clone(), during.clone()]);
    assert!(before.revoked.get() && during.revoked.get());
    assert_eq!(
        refused(&gate.publish(TokenId(7), kept(3, 0))),
        Some(NotStored::TokenDead)
    );
}

#[test]
fn r11_an_unknown_write_unsettles_and_a_later_definite_one_does_not_settle_it() {
    let mut gate: Gate<Kept> = Gate::default();
    gate.begin();
    gate.end(Ended::Unknown { settled_at: at(5000) });
    gate.begin();
    gate.end(Ended::Applied);
    assert_eq!(gate.unsettled(NOW), Some(Unsettled::Until(at(5000))));
    gate.begin();
    gate.end(Ended::Unknown { settled_at: at(4000) });
    assert_eq!(
        gate.unsettled(NOW),
        Some(Unsettled::Until(at(5000))),
        "the later of two counts"
    );
    gate.begin();
    gate.end(Ended::UnknownOpen);
    assert_eq!(gate.unsettled(at(6000)), Some(Unsettled::ConnectionOpen));
    gate.closed(at(9000));
    assert_eq!(gate.unsettled(at(6000)), Some(Unsettled::Until(at(9000))));
    assert_eq!(gate.unsettled(at(9000)), None);
}

#[test]
fn r19_the_time_runs_from_the_close_of_the_last_open_connection() {
    let mut gate: Gate<Kept> = Gate::default();
    for _ in 0..2 {
        gate.begin();
        gate.end(Ended::UnknownOpen);
    }
    gate.closed(at(2000));
    assert_eq!(
        gate.unsettled(at(3000)),
        Some(Unsettled::ConnectionOpen),
        "the other one is still open"
    );
    gate.closed(at(4000));
    assert_eq!(gate.unsettled(at(3000)), Some(Unsettled::Until(at(4000))));
}

#[test]
fn r19_the_operator_settles_what_time_would_but_no_open_connection() {
    let mut gate: Gate<Kept> = Gate::default();
    gate.begin();
    gate.end(Ended::Unknown { settled_at: at(5000) });
    gate.settle();
    assert!(gate.is_settled(NOW));
    gate.begin();
    gate.end(Ended::UnknownOpen);
    gate.settle();
    assert!(!gate.is_settled(NOW));
}

#[test]
fn r12b_an_answer_that_differs_revokes_all_and_spares_only_the_fill_that_brought_it() {
    let mut gate = Gate::default();
    let entries = [kept(1, 0), kept(2, 1)];
    entries.iter().for_each(|e| store(&mut gate, e));
    gate.register(NOW, TokenId(1), true);
    gate.register(NOW, TokenId(2), true);
    assert_eq!(gate.differs(Some(TokenId(2))).len(), 2);
    assert!(entries.iter().all(|e| e.revoked.get()));
    assert!(!gate.is_alive(TokenId(1)) && gate.is_alive(TokenId(2)));
    assert!(matches!(gate.publish(TokenId(2), kept(3, 0)), Published::Listed { .. }));
    gate.register(NOW, TokenId(3), true);
    gate.differs(None);
    assert!(!gate.is_alive(TokenId(3)));
}

#[test]
fn r12b_a_dead_fill_is_not_brought_back_by_bringing_a_difference() {
    let mut gate: Gate<Kept> = Gate::default();
    gate.register(NOW, TokenId(1), true);
    gate.begin();
    gate.differs(Some(TokenId(1)));
    assert!(!gate.is_alive(TokenId(1)));
}

#[test]
fn the_older_of_two_answers_of_a_variant_goes_whichever_is_complete_first() {
    let (older, newer) = (kept(1, 0), kept(2, 0));
    let mut gate = Gate::default();
    store(&mut gate, &older);
    store(&mut gate, &newer);
    assert!(older.revoked.get() && !newer.revoked.get());

    let (older, newer) = (kept(1, 0), kept(2, 0));
    let mut gate = Gate::default();
    store(&mut gate, &newer);
    gate.register(NOW, TokenId(1), true);
    assert_eq!(
        refused(&gate.publish(TokenId(1), older.clone())),
        Some(NotStored::Older)
    );
    assert!(older.revoked.get() && !newer.revoked.get());
    assert!(!gate.is_alive(TokenId(1)));

    let other = Kept {
        variant: 1,
        ..kept(0, 0)
    };
    store(&mut gate, &other);
    assert_eq!(gate.entries().len(), 2, "another variant is nobody's elder");
}

#[test]
fn a_purge_of_some_entries_kills_every_fill() {
    let mut gate = Gate::default();
    store(&mut gate, &kept(1, 0));
    store(&mut gate, &kept(2, 1));
    gate.register(NOW, TokenId(1), true);
    assert_eq!(
        gate.drop_where(|e| e.digest == 1)
            .iter()
            .map(|e| e.id)
            .collect::<Vec<_>>(),
        [2]
    );
    assert!(!gate.is_alive(TokenId(1)));
    assert_eq!(gate.drop_all().len(), 1);
    assert!(!gate.is_pinned(NOW));
}

#[test]
fn a_key_has_so_many_variants_and_then_the_one_asked_for_first_goes() {
    let mut gate = Gate::default();
    let bound = u8::try_from(MAX_VARIANTS).unwrap();
    let variant = |id: u8, sent: u64| Kept {
        variant: id,
        sent,
        ..kept(id.into(), 7)
    };
    let other = kept(1000, 8);
    store(&mut gate, &other);
    // The one that is listed third was asked for before all others.
    let entries: Vec<Kept> = (0..bound)
        .map(|id| variant(id, if id == 2 { 0 } else { 10 + u64::from(id) }))
        .collect();
    entries.iter().for_each(|e| store(&mut gate, e));
    assert_eq!(gate.entries().under(7).count(), MAX_VARIANTS, "the bound is reached");
    assert!(!entries.iter().any(|e| e.revoked.get()));
    for (id, leaves) in [(bound, 2), (bound + 1, 0), (bound + 2, 1), (bound + 3, 3)] {
        gate.register(NOW, TokenId(id.into()), true);
        let published = gate.publish(TokenId(id.into()), variant(id, 1000));
        let leaving = entries[leaves].clone();
        assert!(leaving.revoked.get(), "variant {leaves} is in service still");
        assert_eq!(
            published,
            Published::Listed {
                replaced: vec![leaving]
            }
        );
        assert_eq!(gate.entries().under(7).count(), MAX_VARIANTS);
    }
    // A variant that is there already takes nobody's place but its own.
    gate.register(NOW, TokenId(200), true);
    let again = Kept {
        id: 200,
        ..variant(bound, 2000)
    };
    match gate.publish(TokenId(200), again) {
        Published::Listed { replaced } => {
            assert_eq!(replaced.iter().map(|e| e.id).collect::<Vec<_>>(), [u64::from(bound)])
        }
        Published::Refused(why) => panic!("{why:?}"),
    }
    assert_eq!(gate.entries().under(7).count(), MAX_VARIANTS);
    assert!(!other.revoked.get(), "another key's");
}

/// An entry that counts how often it is looked at.
#[derive(Clone, Debug)]
struct Watched {
    id: u64,
    looks: Rc<Cell<u64>>,
}

impl Watched {
    fn look(&self) {
        self.looks.set(self.looks.get() + 1);
    }
}

impl Entry for Watched {
    fn id(&self) -> u64 {
        self.look();
        self.id
    }
    fn digest(&self) -> u128 {
        self.look();
        u128::from(self.id)
    }
    fn revoke(&self) {}
    fn is_revoked(&self) -> bool {
        false
    }
    fn same_variant(&self, _: &Self) -> bool {
        self.look();
        true
    }
    fn older_than(&self, _: &Self) -> bool {
        self.look();
        true
    }
}

#[test]
fn publishing_one_of_many_queries_looks_at_no_other() {
    const QUERIES: u64 = 50_000;
    let mut gate = Gate::default();
    let looks: Rc<Cell<u64>> = Rc::default();
    for id in 0..QUERIES {
        gate.register(NOW, TokenId(id), true);
        let looks = Rc::clone(&looks);
        let published = gate.publish(TokenId(id), Watched { id, looks });
        assert!(matches!(published, Published::Listed { replaced } if replaced.is_empty()));
    }
    assert_eq!(gate.entries().len(), usize::try_from(QUERIES).unwrap());
    assert!(
        looks.get() < 16 * QUERIES,
        "{} looks at entries for {QUERIES} publications",
        looks.get()
    );
}

#[test]
fn a_soft_purge_kills_every_fill_and_leaves_entries_in_service() {
    let mut gate = Gate::default();
    let entries = [kept(1, 0), kept(2, 1)];
    entries.iter().for_each(|entry| store(&mut gate, entry));
    gate.register(NOW, TokenId(1), true);
    let mut asked = Vec::new();
    let marked = gate.soften(|e| {
        asked.push(e.id);
        e.digest == 1
    });
    assert_eq!((marked, asked), (1, vec![1, 2]));
    assert!(!gate.is_alive(TokenId(1)));
    assert_eq!(
        refused(&gate.publish(TokenId(1), kept(3, 0))),
        Some(NotStored::TokenDead)
    );
    assert!(entries.iter().all(|entry| !entry.revoked.get()) && gate.entries().len() == 2);
}

#[test]
fn r1_a_writes_own_answer_outlives_its_end_and_no_other_begin_or_end() {
    let own = TokenId(1);
    let alone = |after: &dyn Fn(&mut Gate<Kept>)| {
        let mut gate: Gate<Kept> = Gate::default();
        gate.begin();
        assert!(!gate.register(NOW, own, true), "R2: nothing it brings is proven");
        gate.register(NOW, TokenId(2), true);
        store(&mut gate, &kept(7, 0));
        let gone = gate.end_keeping(Ended::Applied, own);
        assert_eq!(gone.len(), 1, "what was stored goes");
        assert!(gate.is_alive(own) && !gate.is_alive(TokenId(2)));
        after(&mut gate);
        matches!(gate.publish(own, kept(1, 0)), Published::Listed { .. })
    };
    assert!(alone(&|_| {}));
    assert!(!alone(&|gate| gate.begin()), "another write begins before it is whole");
    assert!(!alone(&|gate| drop(gate.drop_all())), "a purge");
    for first in [true, false] {
        let mut gate: Gate<Kept> = Gate::default();
        gate.begin();
        if first {
            gate.begin();
        }
        gate.register(NOW, own, true);
        if !first {
            gate.begin();
        }
        gate.end(Ended::Applied);
        gate.end_keeping(Ended::Applied, own);
        assert!(!gate.is_alive(own), "another write ended while it was pending");
    }
}
