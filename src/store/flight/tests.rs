//! Who may share which fetch.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::store::ResourceId;
use crate::store::index::{Index, Token};
use std::sync::Barrier;
use std::thread;

const KEY: u128 = 9;
const RESOURCE: ResourceId = ResourceId { digest: 5, upstream: 0 };
const ANY: Wish = Wish {
    unsent_only: false,
    within: None,
    max_waiters: usize::MAX,
};
const UNSENT: Wish = Wish {
    unsent_only: true,
    ..ANY
};

fn at(ms: u64) -> MonoTime {
    MonoTime::from_micros(ms * 1000)
}

struct Table {
    flights: Arc<Flights>,
    index: Arc<Index>,
}

impl Table {
    fn new() -> Self {
        Self {
            flights: Arc::default(),
            index: Arc::default(),
        }
    }

    fn token(&self, can_prove: bool) -> Token {
        Index::register(&self.index, at(0), RESOURCE, can_prove)
    }

    fn board(&self, now: MonoTime, wish: Wish, token: &Token) -> Boarding {
        self.flights.board(now, KEY, wish, || token.watch())
    }

    fn lead(&self, wish: Wish, token: &Token) -> (Leader, Option<Follower>) {
        match self.board(at(0), wish, token) {
            Boarding::Lead(leader, after) => (leader, after),
            other => panic!("{other:?}"),
        }
    }
}

fn outcome(n: u32) -> Outcome {
    Arc::new(n)
}

fn number(outcome: Option<Outcome>) -> Option<u32> {
    outcome.and_then(|o| o.downcast_ref().copied())
}

fn follower(boarding: Boarding) -> Follower {
    match boarding {
        Boarding::Follow(follower) => follower,
        other => panic!("{other:?}"),
    }
}

/// What boarding led to, without keeping anything.
fn word(boarding: &Boarding) -> &'static str {
    match boarding {
        Boarding::Follow(_) => "follow",
        Boarding::Lead(_, None) => "lead",
        Boarding::Lead(_, Some(_)) => "lead after",
        Boarding::Alone => "alone",
    }
}

#[tokio::test]
async fn r8_a_validated_read_joins_a_forming_flight_and_never_a_sent_one() {
    let table = Table::new();
    let token = table.token(true);
    let (first, after) = table.lead(UNSENT, &token);
    assert!(after.is_none(), "nothing to wait for");
    let mut joined = follower(table.board(at(0), UNSENT, &token));
    first.close(at(1));
    let (second, after) = table.lead(UNSENT, &token);
    let mut after = after.unwrap();
    let mut third = follower(table.board(at(2), UNSENT, &token));
    first.tell(outcome(1));
    assert_eq!(number(joined.outcome().await), Some(1));
    assert_eq!(
        number(after.outcome().await),
        Some(1),
        "the forming one waits for the other's head"
    );
    second.close(at(3));
    second.tell(outcome(2));
    assert_eq!(number(third.outcome().await), Some(2));
}

#[test]
fn r8_one_is_in_flight_and_one_forms() {
    let table = Table::new();
    let token = table.token(true);
    let (first, _) = table.lead(UNSENT, &token);
    first.close(at(1));
    let _second = table.lead(UNSENT, &token);
    for _ in 0..10 {
        assert_eq!(word(&table.board(at(1), UNSENT, &token)), "follow");
        assert_eq!(word(&table.board(at(1), ANY, &token)), "follow");
    }
}

#[test]
fn r8_a_sent_flight_whose_head_is_known_delays_nobody() {
    let table = Table::new();
    let token = table.token(true);
    let (first, _) = table.lead(UNSENT, &token);
    first.close(at(1));
    first.tell(outcome(1));
    assert_eq!(word(&table.board(at(2), UNSENT, &token)), "lead");
}

#[test]
fn r8_a_flight_that_closed_never_opens_again() {
    let table = Table::new();
    let token = table.token(true);
    let (first, _) = table.lead(UNSENT, &token);
    first.close(at(1));
    first.closer()(at(2)); // a retry's
    assert_eq!(word(&table.board(at(3), UNSENT, &token)), "lead after");
    let (second, _) = table.lead(UNSENT, &token);
    first.close(at(4));
    assert_eq!(
        word(&table.board(at(5), UNSENT, &token)),
        "follow",
        "an old flight's close is not the forming one's"
    );
    drop(second);
}

#[test]
fn r8_a_sent_flight_is_joined_only_if_provable_alive_and_young() {
    let bound = Wish {
        within: Some(Span::from_millis(100)),
        ..ANY
    };
    let cases: [(&str, bool, bool, u64, Wish, &str); 6] = [
        ("provable, alive, no bound", true, false, 100_000, ANY, "follow"),
        ("not provable", false, false, 10, ANY, "lead"),
        ("killed by a write", true, true, 10, ANY, "lead"),
        ("at the bound", true, false, 110, bound, "follow"),
        ("past the bound", true, false, 111, bound, "lead"),
        ("a validated read", true, false, 10, UNSENT, "lead after"),
    ];
    for (name, provable, killed, now, wish, expected) in cases {
        let table = Table::new();
        let token = table.token(provable);
        let (leader, _) = table.lead(ANY, &token);
        leader.closer()(at(10));
        if killed {
            table
                .index
                .begin(crate::core::time::MonoTime::default(), RESOURCE.digest, false);
        }
        assert_eq!(word(&table.board(at(now), wish, &token)), expected, "{name}");
    }
}

#[test]
fn a_flight_that_is_full_sends_one_more_alone_and_takes_the_next_when_one_left() {
    let table = Table::new();
    let token = table.token(true);
    let two = Wish { max_waiters: 2, ..ANY };
    let (leader, _) = table.lead(two, &token);
    assert!(!leader.has_followers());
    for stage in ["forming", "sent"] {
        let first = follower(table.board(at(0), two, &token));
        let _second = follower(table.board(at(0), two, &token));
        assert!(leader.has_followers());
        for _ in 0..3 {
            assert_eq!(word(&table.board(at(0), two, &token)), "alone", "{stage}");
        }
        drop(first);
        let _third = follower(table.board(at(0), two, &token));
        assert_eq!(word(&table.board(at(0), two, &token)), "alone", "{stage}");
        leader.close(at(0));
    }
    assert!(!leader.has_followers());
    let none = Wish { max_waiters: 0, ..ANY };
    assert_eq!(word(&table.board(at(0), none, &token)), "alone");
}

#[tokio::test]
async fn followers_of_a_leader_that_is_gone_learn_it_whether_it_was_sent_or_not() {
    for sent in [false, true] {
        let table = Table::new();
        let token = table.token(true);
        let (leader, _) = table.lead(ANY, &token);
        let mut waiting = follower(table.board(at(0), ANY, &token));
        let waiting = tokio::spawn(async move { waiting.outcome().await.is_none() });
        let mut asks_later = follower(table.board(at(0), ANY, &token));
        if sent {
            leader.close(at(1));
        }
        let late_closer = leader.closer();
        drop(leader);
        assert!(waiting.await.unwrap());
        assert!(asks_later.outcome().await.is_none());
        late_closer(at(2)); // the sender only learns later that nobody leads
        assert!(asks_later.outcome().await.is_none());
        assert!(table.flights.is_empty(), "sent: {sent}");
    }
}

#[tokio::test]
async fn what_was_told_outlives_its_leader() {
    let table = Table::new();
    let token = table.token(true);
    let (leader, _) = table.lead(ANY, &token);
    let mut early = follower(table.board(at(0), ANY, &token));
    leader.close(at(0));
    leader.tell(outcome(1));
    let mut late = follower(table.board(at(0), ANY, &token));
    drop(leader);
    assert_eq!(number(early.outcome().await), Some(1));
    assert_eq!(number(late.outcome().await), Some(1));
    assert!(table.flights.is_empty());
}

#[test]
fn an_older_flight_that_ends_takes_no_newer_one_with_it() {
    let table = Table::new();
    let token = table.token(true);
    let (first, _) = table.lead(UNSENT, &token);
    first.close(at(0));
    let (second, _) = table.lead(UNSENT, &token);
    second.close(at(0)); // it waited long enough for the first one's head
    let (third, _) = table.lead(UNSENT, &token);
    drop(first);
    assert_eq!(word(&table.board(at(0), ANY, &token)), "follow");
    drop(third);
    assert_eq!(
        word(&table.board(at(0), ANY, &token)),
        "follow",
        "the second one is sent, provable and alive"
    );
    drop(second);
    assert!(table.flights.is_empty());
}

/// Threads board while leaders close. `sent` is raised before the request could be read by an origin; a reader that looked after that
/// must not be given this flight.
#[test]
fn r8_boarding_while_it_closes_never_follows_a_request_sent_before() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 3_000;
    let table = Arc::new(Table::new());
    // Requests sent so far: raised by the leader after the close, as the connection would do it.
    let sent = Arc::new(AtomicU64::new(0));
    let followed = Arc::new(AtomicU64::new(0));
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (table, sent, followed, barrier) = (
                Arc::clone(&table),
                Arc::clone(&sent),
                Arc::clone(&followed),
                Arc::clone(&barrier),
            );
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                barrier.wait();
                for _ in 0..ROUNDS {
                    let before = sent.load(Ordering::SeqCst);
                    let token = table.token(true);
                    match table.board(at(0), UNSENT, &token) {
                        Boarding::Lead(leader, _) => {
                            thread::yield_now();
                            leader.close(at(0));
                            let mine = sent.fetch_add(1, Ordering::SeqCst) + 1;
                            leader.tell(Arc::new(mine));
                        }
                        Boarding::Follow(mut follower) => {
                            if let Some(told) = runtime.block_on(follower.outcome()) {
                                let request = *told.downcast_ref::<u64>().unwrap();
                                assert!(request > before, "request {request} was sent when {before} had been");
                                followed.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                        Boarding::Alone => panic!("there is no bound here"),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(
        followed.load(Ordering::SeqCst) > 0,
        "nobody ever followed: the race did not happen"
    );
    assert!(table.flights.is_empty(), "{} keys are left", table.flights.len());
    assert_eq!(table.index.records(), 0);
}

#[test]
fn a_key_is_fetched_alone_for_a_while_and_then_shared_again() {
    let table = Table::new();
    let token = table.token(true);
    let (leader, _) = table.lead(ANY, &token);
    leader.remember_alone(at(0));
    drop(leader);
    assert_eq!(word(&table.board(at(9_999), ANY, &token)), "alone");
    let other = table.flights.board(at(9_999), KEY + 1, ANY, || token.watch());
    assert_eq!(word(&other), "lead", "another key");
    assert_eq!(word(&table.board(at(10_000), ANY, &token)), "lead");
}
