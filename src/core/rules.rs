//! Switches that turn one rule of CONSISTENCY.md off, so that a test can show that the judges notice. They exist in builds with debug
//! assertions only; in a release build every rule holds, and asking costs nothing. The table of rule, switch and what caught it is
//! `tests/mutations.md`.
//!
//! This is the one piece of state in `core`: set once, before anything runs, by the program that was told to misbehave.

use std::sync::atomic::{AtomicU64, Ordering};

/// A rule that can be turned off. In the rules' order, here and in `ALL`; at most 64 of them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// A fill is listed only while its token is alive.
    R1,
    /// No provable token while a write is pending or unsettled.
    R2,
    /// Pending writes are counted, and every completion kills and revokes.
    R3,
    /// Records are pinned by what they hold.
    R4,
    /// A 304 needs the very entry it was sent for.
    R5,
    /// Towards the primary of a strong route only a strong ETag is a validator, and a 304 must name it.
    R5b,
    /// A flight carries none of its client's conditions, and on strong routes dates are none.
    R5c,
    /// A write acts on all variants.
    R6,
    /// A strong route stores no 206.
    R7,
    /// Validated reads join unsent flights only.
    R8,
    /// What a write reads again is stored only if it was the only one.
    R9,
    /// Kill and revoke first, then the final status line.
    R10,
    /// An unknown write unsettles.
    R11,
    /// What an answer names is dropped too.
    R12,
    /// An entry is listed under its tags only if none was killed or busy since its fill began.
    R12a,
    /// An answer that differs from what is stored takes every variant out of service.
    R12b,
    /// A field that overrides the method makes a request unsafe.
    R13,
    /// A request with credentials uses only what may be shared, and validate gear.
    R14,
    /// On strong routes `max-stale` is ignored.
    R15,
    /// Strong answers are to be validated below.
    R16,
    /// A body that ends with its connection is not stored on strong routes.
    R16b,
    /// Session tokens travel outside of what is stored, and make an answer private.
    R17,
    /// Errors other than 404 and 410 are not stored on strong routes.
    R18,
    /// What an abandoned write left unsettled is so for `settle_after`.
    R19,
    /// A write that may have been applied is not sent again.
    R20,
    /// A client that leaves cancels nothing.
    R21,
    /// Only reads are sent twice, and strong ones to the primary.
    R22,
    /// What is served was in service after its request came.
    R23,
    /// The old primary is fenced before another is promoted, and a fence that fails stops that; an answer counts only while nobody else
    /// has taken over since its request was sent.
    R29,
    /// Terms only grow: a stale claim is not followed.
    R30,
    /// What was stored under a route that a reload has changed is not used.
    R31,
    /// Nobody is promoted below what clients were shown.
    R32,
    /// A node that did not confirm a copy leaves the in-sync set before the ack.
    R33,
    /// A node returns to the in-sync set with what it has missed, and when nothing is applied late any more.
    R33b,
    /// A read waits for the writes ahead of it, and while a write may be applied late it is answered with what all nodes hold.
    R34,
    /// What a process left open is in doubt when the next one starts.
    R35,
    /// A deposed primary leaves the in-sync set.
    R36,
    /// Nobody outside the in-sync set is promoted.
    R37,
    /// Only consecutive failures take a node out of service.
    R39,
    /// What cannot be copied is refused.
    R40,
    /// A write outside that is not committed in time counts as unknown.
    R41,
    /// Nothing is served beyond the bound.
    R42,
    /// An answer of a replica is as old as its replica may be behind.
    R43,
    /// An entry is served to a session only if it meets its mark.
    R47,
    /// What a token has no room for, or could not be read, is not forgotten.
    R48,
    /// A session binds joining and stale answers too.
    R49,
    /// Two claims in one term are followed by nobody.
    R51,
    /// A node that returned waits until it has caught up, and before it takes over again.
    R52,
    /// A change of hands is a new epoch; what was fetched in an older one is confirmed, or not used.
    R53,
    /// Nodes are told the epoch of a write where Tidegate promotes, and what refuses by a later one was not applied.
    R54,
}

impl Rule {
    /// Every rule with a switch.
    pub const ALL: &[Self] = &[
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R5b,
        Self::R5c,
        Self::R6,
        Self::R7,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R12a,
        Self::R12b,
        Self::R13,
        Self::R14,
        Self::R15,
        Self::R16,
        Self::R16b,
        Self::R17,
        Self::R18,
        Self::R19,
        Self::R20,
        Self::R21,
        Self::R22,
        Self::R23,
        Self::R29,
        Self::R30,
        Self::R31,
        Self::R32,
        Self::R33,
        Self::R33b,
        Self::R34,
        Self::R35,
        Self::R36,
        Self::R37,
        Self::R39,
        Self::R40,
        Self::R41,
        Self::R42,
        Self::R43,
        Self::R47,
        Self::R48,
        Self::R49,
        Self::R51,
        Self::R52,
        Self::R53,
        Self::R54,
    ];

    /// Its name, as CONSISTENCY.md writes it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Its place among those that are off.
    const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Whether it holds. Always, without debug assertions.
    #[must_use]
    #[inline]
    pub fn holds(self) -> bool {
        !cfg!(debug_assertions) || OFF.load(Ordering::Relaxed) & self.bit() == 0
    }
}

static OFF: AtomicU64 = AtomicU64::new(0);

/// Turns rules off for the rest of the process: names separated by commas.
///
/// # Errors
/// A name that is no rule with a switch, or a build without switches.
pub fn switch_off(names: &str) -> Result<(), String> {
    if !cfg!(debug_assertions) {
        return Err("this build has no switches: every rule holds".to_owned());
    }
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let rule = Rule::ALL.iter().copied().find(|rule| rule.name() == name);
        let rule = rule.ok_or_else(|| format!("`{name}` is no rule with a switch"))?;
        OFF.fetch_or(rule.bit(), Ordering::Relaxed);
    }
    Ok(())
}

/// For those of our own tests that `tests/mutations.md` names.
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has no World to ask")]
pub(crate) fn switch_off_as_told() {
    if let Ok(names) = std::env::var("TIDEGATE_TEST_RULES_OFF") {
        switch_off(&names).expect("rules with switches");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_switches_leaves_none_out() {
        assert!(
            Rule::ALL
                .iter()
                .enumerate()
                .all(|(place, rule)| *rule as usize == place)
        );
    }

    #[test]
    fn every_rule_holds_until_it_is_switched_off_and_unknown_names_are_refused() {
        assert!(Rule::ALL.iter().all(|rule| rule.holds()));
        assert!(switch_off("R99").is_err_and(|e| e.contains("R99")));
        assert!(switch_off("").is_ok());
        assert!(Rule::ALL.iter().all(|rule| rule.holds()));
    }
}
