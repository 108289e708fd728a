//! A slow read may be sent a second time: which requests, where to, and whose answer counts (R22). It knows neither time nor budget:
//! the caller waits, and pays.

use crate::core::rules::Rule;
use smallvec::SmallVec;

/// What a request is, as far as sending it twice goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It changes nothing.
    Read,
    /// It may.
    Write,
}

/// R22: only reads are sent twice.
#[must_use]
pub fn may_hedge(nature: Nature) -> bool {
    match nature {
        Nature::Read => true,
        Nature::Write => !Rule::R22.holds(),
    }
}

/// The nodes that must not be given the copy: those that may not answer the request at all (R22: on a strong route all but the primary)
/// and the one that is slow, unless it is the only one that may.
#[must_use]
pub fn barred(candidates: &[usize], elsewhere: &[usize], slow: usize) -> SmallVec<[usize; 4]> {
    let elsewhere = if Rule::R22.holds() { elsewhere } else { &[] };
    let mut barred: SmallVec<[usize; 4]> = elsewhere.into();
    if candidates.iter().any(|node| *node != slow && !barred.contains(node)) {
        barred.push(slow);
    }
    barred
}

/// Whether a copy's answer ends the wait for the first one's. A node in trouble is quick to say so.
#[must_use]
pub fn settles(status: u16) -> bool {
    status < 500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r22_only_reads_are_sent_twice() {
        assert!(may_hedge(Nature::Read));
        assert!(!may_hedge(Nature::Write));
    }

    #[test]
    fn r22_the_copy_goes_to_another_node_that_may_answer_or_else_to_the_same() {
        let barred = |candidates: &[usize], elsewhere: &[usize], slow| barred(candidates, elsewhere, slow).to_vec();
        assert_eq!(barred(&[0, 1, 2], &[], 1), [1], "any node may answer: another one");
        assert!(barred(&[1], &[], 1).is_empty(), "there is no other: the same");
        let primary_again = barred(&[0, 1, 2], &[1, 2], 0);
        assert_eq!(primary_again, [1, 2], "only the primary may: the primary again");
        assert_eq!(barred(&[2], &[], 1), [1], "the slow one has left meanwhile");
    }

    #[test]
    fn an_error_of_the_copys_node_settles_nothing() {
        assert!(settles(200) && settles(304) && settles(404));
        assert!(!settles(500) && !settles(503));
    }
}
