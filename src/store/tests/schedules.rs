//! The gate under many threads, whose schedule shuttle decides at every lock and every atomic: writers, readers that fill, purges by
//! tag and by URL, eviction, over two resources that share a tag.
//!
//! Real: the index with its tags' records and kill counts (`store::index`), the entries with their `revoked` flag (`store::entry`), and
//! the core's gate. The first two are compiled here a second time from the same files, over [`sync`]: shuttle's atomics and mutex, and
//! a map whose shards are shuttle's locks. Standing in: the store's own loop over what a write names (`begin_write`, `end_write`: one
//! record after the other in key order), the look of a hit at the flag of what it found (`core::lookup` and the pipeline), the origin.
//! Not here: flights, the budget's own threads, weak memory orderings (shuttle's atomics are sequentially consistent).
//!
//! Judged: no read misses a write acknowledged before it began; in exclusive gear, nor what another read had returned by then; nothing
//! that was fetched before a purge began is read after the purge has ended; no record outlives what pinned it.
//!
//! `more_schedules` runs twenty-five times as many by hand.

#[path = "../entry.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    reason = "another look at a file of the product"
)]
mod entry;
#[path = "../index.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    reason = "another look at a file of the product"
)]
mod index;
mod sync;
mod world;

use crate::core::rules::switch_off_as_told;
use crate::store::ResourceId;
use entry::{Entry, EntryRef};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use std::sync::{Arc, Mutex};
use world::{Gear, Off, World};

const GEARS: [Gear; 2] = [Gear::Exclusive, Gear::Stored];

/// What the schedules of one test came to.
#[derive(Debug, Default)]
struct Sum {
    hits: u64,
    listed: u64,
    refused: u64,
    revoked: u64,
    fault: Option<String>,
}

/// Where nothing is off `words` is empty: any fault counts, and shuttle prints its schedule, which `shuttle::replay` takes.
fn run(scheduler: impl Scheduler + 'static, gear: Gear, off: Option<Off>, words: &'static str) -> Sum {
    switch_off_as_told();
    let sum = Arc::new(Mutex::new(Sum::default()));
    let all = Arc::clone(&sum);
    let mut config = Config::new();
    config.stack_size = 0x4_0000;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        if all.lock().unwrap().fault.is_some() {
            return; // shown already
        }
        let world = World::new(gear, off);
        world.live();
        let mut sum = all.lock().unwrap();
        sum.hits += world.hits();
        sum.listed += world.listed();
        sum.refused += world.refused();
        sum.revoked += world.revoked();
        sum.fault = world.fault(words);
        assert!(off.is_some() || sum.fault.is_none(), "{:?}", sum.fault);
    });
    Arc::try_unwrap(sum).unwrap().into_inner().unwrap()
}

fn holds(seed: u64, schedules: usize) {
    for gear in GEARS {
        let by_chance = run(RandomScheduler::new_from_seed(seed, schedules), gear, None, "");
        let by_priority = run(PctScheduler::new_from_seed(seed, 4, schedules), gear, None, "");
        for sum in [by_chance, by_priority] {
            println!("{gear:?}: {sum:?}");
            assert!(
                sum.hits > 10 && sum.listed > 10 && sum.refused > 10 && sum.revoked > 0,
                "nothing was tried: {sum:?}"
            );
        }
    }
}

#[test]
fn r1_r12a_r23_no_schedule_of_threads_reads_what_was_overwritten_or_purged() {
    holds(1, 400);
}

#[test]
#[ignore = "by hand: 40,000 schedules"]
fn more_schedules() {
    holds(2, 10_000);
}

/// A test for each, so that they run side by side and a name says what is not noticed.
macro_rules! seen_when_off {
    ($($name:ident: $off:ident, $gear:ident, $words:literal;)*) => {$(
        #[test]
        fn $name() {
            let mut sum = run(RandomScheduler::new_from_seed(1, 4_000), Gear::$gear, Some(Off::$off), $words);
            if sum.fault.is_none() {
                sum = run(PctScheduler::new_from_seed(1, 4, 4_000), Gear::$gear, Some(Off::$off), $words);
            }
            println!("{sum:?}");
            assert!(sum.fault.is_some(), "{:?} is off and nobody noticed: {sum:?}", Off::$off);
        }
    )*};
}

seen_when_off! {
    r1_publishing_without_the_fills_own_token_is_seen_after_a_write: Token, Stored, "was known";
    r1_publishing_without_the_fills_own_token_is_seen_after_a_purge: Token, Stored, "purges";
    r12a_listing_under_tags_after_coming_into_service_is_seen: TagsFirst, Stored, "purges";
    r12a_listing_under_tags_after_coming_into_service_leaves_something: TagsFirst, Stored, "are left";
    r12a_noting_a_kill_after_the_tags_record_was_locked_is_seen: KillFirst, Stored, "purges";
    r23_not_looking_at_the_flag_is_seen_after_a_purge: Flag, Stored, "purges";
    r10_an_ack_before_the_end_is_seen: EndFirst, Stored, "was known";
    r11_counting_a_writer_out_before_the_time_is_raised_is_seen: EndInOneStep, Exclusive, "was known";
    exclusive_entries_that_stay_when_a_write_begins_are_seen: BeginRevokes, Exclusive, "was known";
}
