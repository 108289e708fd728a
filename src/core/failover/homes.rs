//! Where a resource lives when every node takes writes (`replication = "multi-primary"`): its home, by rendezvous hashing (Thaler and
//! Ravishankar, 1998) over the *configured* nodes, whatever their state. Strong reads and writes go there, so that they are
//! linearizable per resource although the nodes exchange their writes later.
//!
//! Every proxy, and the same one after a restart, gives the same answer: the hash has a fixed key, and nodes count by name, not by
//! their place in the file.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Part of what homes are: changing it moves every resource.
const KEY: (u64, u64) = (0x7469_6465_6761_7465, 0x686f_6d65_732d_7631);

/// How much a node is a resource's home: the largest is.
fn claim(node: &str, resource: &[&str]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(KEY.0, KEY.1);
    for part in std::iter::once(&node).chain(resource) {
        hasher.write(part.as_bytes());
        hasher.write_u8(0xff); // no text holds this byte
    }
    hasher.finish()
}

/// The home of a resource among nodes by name: the place of one for which `may` says yes. `resource` is its path as sent to the node, and
/// its query where the query is part of what a resource is.
#[must_use]
pub fn home<'a>(nodes: impl Iterator<Item = &'a str>, resource: &[&str], may: impl Fn(usize) -> bool) -> Option<usize> {
    nodes
        .enumerate()
        .filter(|(place, _)| may(*place))
        // Of equal claims the lesser name's, which no order of the file changes.
        .max_by_key(|(_, name)| (claim(name, resource), std::cmp::Reverse(*name)))
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use proptest::prelude::*;

    const ALL: fn(usize) -> bool = |_| true;

    proptest! {
        #[test]
        fn a_home_is_the_same_in_every_order_of_the_file(mut names in prop::collection::hash_set("[a-z]{1,6}", 1..8), path in "/.{0,20}") {
            let mut sorted: Vec<String> = names.drain().collect();
            sorted.sort();
            let reversed: Vec<String> = sorted.iter().rev().cloned().collect();
            let of = |names: &[String]| names[home(names.iter().map(String::as_str), &[&path], ALL).unwrap()].clone();
            prop_assert_eq!(of(&sorted), of(&reversed));
        }

        #[test]
        fn without_one_node_only_what_lived_there_moves(count in 2_usize..8, gone in 0_usize..8, path in "/.{0,20}") {
            let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
            let gone = gone % count;
            let of = |may: &dyn Fn(usize) -> bool| home(names.iter().map(String::as_str), &[&path], may).unwrap();
            let (whole, left) = (of(&ALL), of(&|place| place != gone));
            prop_assert!(left != gone && (whole == gone || whole == left));
        }
    }

    #[test]
    fn homes_are_spread_and_stay_where_they_are() {
        let names = ["a", "b", "c"];
        let mut counts = [0; 3];
        for n in 0..3000 {
            counts[home(names.into_iter(), &[&format!("/orders/{n}")], ALL).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(home(names.into_iter(), &["/x"], |_| false), None);
        assert_eq!(home(std::iter::empty(), &["/x"], ALL), None);
        let homes: Vec<_> = (0..8)
            .map(|n| home(names.into_iter(), &[&format!("/{n}")], ALL).unwrap())
            .collect();
        assert_eq!(homes, PINNED, "a change here moves every resource of every deployment");
    }

    const PINNED: [usize; 8] = [0, 2, 1, 0, 2, 0, 1, 2];
}
