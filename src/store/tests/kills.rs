//! What is remembered of the kills of tags.

use crate::store::index::kills::{Kills, MAX_RECENT};

#[test]
fn r12a_a_kill_concerns_fills_of_before_that_carry_the_tag() {
    let kills = Kills::default();
    let before = kills.mark(0);
    kills.note(0, 7);
    let after = kills.mark(0);
    assert_ne!(before, after);
    assert!(kills.killed_since(0, 7, before));
    assert!(!kills.killed_since(0, 8, before), "another tag");
    assert!(!kills.killed_since(0, 7, after), "a later fill");
    assert_eq!(kills.mark(1), 0, "another upstream");
    assert!(!kills.killed_since(1, 7, 0));
}

#[test]
fn r12a_a_fill_that_has_seen_more_kills_than_are_remembered_is_refused_whatever_its_tags() {
    let kills = Kills::default();
    let before = kills.mark(0);
    for tag in 0..MAX_RECENT as u128 {
        kills.note(0, tag);
    }
    assert!(!kills.killed_since(0, u128::MAX, before));
    kills.note(0, 0);
    assert!(kills.killed_since(0, u128::MAX, before));
    assert!(!kills.killed_since(0, u128::MAX, before + 1));
}
