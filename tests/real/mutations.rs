//! The judge must see what a missing rule does. Each case runs a proxy that was told to break one rule (`core/rules.rs`, debug builds
//! only) under the setup and the faults in which it shows, and fails unless a violation is found under one of the seeds.
//!
//! Not here, because no history of one kept register per key can show it: R5 (a 304 names the value by its own tag, so it is as good as
//! the answer), R7 (the origin sends no 206), R10 (begin has revoked already), R12 (a reply's effects count from the ack on),
//! R21 (a write that is cancelled ends as unknown). Scripts have to show those.

use super::fault::Fault;
use super::run::{Plan, must_find};
use super::stage::Setup;

/// Far more seeds than it took: 0, 1 or 5 of them.
const SEEDS: std::ops::Range<u64> = 0..30;

async fn is_noticed_without(rule: &str, setup: Setup, faults: &str) {
    if !cfg!(debug_assertions) {
        return; // a release build has no switches
    }
    let plan = Plan {
        setup: Some(setup),
        faults: Fault::named(faults),
        fault_percent: 25,
        env: vec![("TIDEGATE_TEST_RULES_OFF".to_owned(), rule.to_owned())],
        ..Plan::stormy(0, 2_000)
    };
    let report = must_find(&plan, SEEDS).await;
    println!(
        "without {rule}: {}\n{}",
        report.line(),
        report.verdict.clearest().unwrap()
    );
}

macro_rules! without {
    ($($name:ident: $rule:literal, $setup:ident, $faults:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            is_noticed_without($rule, Setup::$setup, $faults).await;
        })*
    };
}

without! {
    r1_a_fill_stored_without_its_token_is_noticed: "R1", Three, "SlowBefore,SlowAfter,SlowAround";
    r2_a_token_that_is_provable_during_a_write_is_noticed: "R2", Three, "SlowAround,Late,Late202,Late500";
    r3_a_flag_in_place_of_the_count_is_noticed: "R3", Three, "SlowAround";
    r4_a_record_that_is_not_pinned_is_noticed: "R4", Three, "SlowBefore,SlowAfter,SlowAround";
    r6_a_write_that_spares_variants_is_noticed: "R6", Three, "SlowBefore,SlowAfter,SlowAround";
    r8_joining_a_flight_already_sent_is_noticed: "R8", Pair, "SlowBefore,SlowAfter";
    r9_a_write_that_reads_again_beside_another_is_noticed: "R9", Refresh, "SlowAround,SlowAfter";
    r11_an_unknown_write_that_does_not_unsettle_is_noticed: "R11", One, "Late,Late202,Late500";
    r20_a_write_sent_again_is_noticed: "R20", One, "ResetAfter,LoseReply";
}
