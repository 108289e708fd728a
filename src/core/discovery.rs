//! Which nodes an upstream has, when something outside says so: what was found against the slots there are. Pure: the caller asks the
//! names, and carries the changes out.
//!
//! An upstream with discovery has a fixed table of slots; a node keeps its slot for life, so that everybody may go on naming nodes by
//! their place. A slot whose node has left is emptied by the caller once its last request is over, and only then given to another node.

use crate::core::reason::NodeState;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Slots of an upstream with discovery. More nodes than that are left out, and that is said.
pub const SLOTS: usize = 128;

/// A name is asked again no sooner than this, whatever its records say: a TTL of 0 would mean for every request.
pub const MIN_TTL: Duration = Duration::from_secs(1);

/// And no later: a record that was forgotten with a TTL of a week must not outlive its node for a week.
pub const MAX_TTL: Duration = Duration::from_secs(300);

/// After a failure it is asked again this soon.
pub const RETRY: Duration = Duration::from_secs(5);

/// A node as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: of two with the same the first counts.
    pub name: String,
    /// Host name or address (without brackets) to connect to, or `unix:PATH` ([`socket`]).
    pub host: String,
    /// Port to connect to; 0 with a unix socket.
    pub port: u16,
    /// Nodes of a higher number are asked only when none of a lower one is in service (RFC 2782: priority).
    pub tier: u16,
    /// Share of the load relative to the others of its tier.
    pub weight: u32,
    /// Requests in flight at the node; 0: no limit.
    pub max_in_flight: usize,
}

impl Member {
    /// Whether it is the same node, as far as connections go.
    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.host == other.host && self.port == other.port
    }
}

/// What is asked of a name.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services (RFC 2782).
    Srv,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV (RFC 2782).
    Service {
        /// The lowest goes first.
        priority: u16,
        /// Share within its priority.
        weight: u16,
        /// Port of the target.
        port: u16,
        /// Name of the target; the root: the service is decidedly not there.
        target: String,
    },
}

/// The nodes that records tell, in an order that does not depend on the answer's: servers rotate it.
#[must_use]
pub fn members(records: &[Record], port: u16) -> Vec<Member> {
    let mut members: Vec<Member> = records.iter().filter_map(|record| member(record, port)).collect();
    members.sort_by(|a, b| (a.tier, &a.host, a.port, a.weight).cmp(&(b.tier, &b.host, b.port, b.weight)));
    let mut seen = BTreeSet::new();
    members.retain(|member| seen.insert(member.name.clone()));
    members
}

fn member(record: &Record, port: u16) -> Option<Member> {
    let (host, port, tier, weight) = match record {
        // What a name server says of a name that it blocks: to connect there is to connect to ourselves.
        Record::Address(ip) if ip.is_unspecified() || ip.is_multicast() => return None,
        Record::Address(ip) => (ip.to_string(), port, 0, 1),
        Record::Service {
            priority,
            weight,
            port,
            target,
        } => {
            let host = target.trim_end_matches('.').to_ascii_lowercase();
            // RFC 2782: a weight of 0 among others means very seldom, not never.
            (host, *port, *priority, u32::from(*weight).max(1))
        }
    };
    if host.is_empty() || port == 0 {
        return None;
    }
    Some(Member {
        name: named(&host, port),
        host,
        port,
        tier,
        weight,
        max_in_flight: 0,
    })
}

/// `host:port`, an IPv6 address in brackets.
#[must_use]
pub fn named(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Before the path of a unix socket, wherever an address may be one.
pub const UNIX: &str = "unix:";

/// The path of a node's unix socket, where its host says that it has one. No host name or address holds a colon after `unix`.
#[must_use]
pub fn socket(host: &str) -> Option<&Path> {
    host.strip_prefix(UNIX).map(Path::new)
}

/// The url of a node, as it is shown.
#[must_use]
pub fn url(host: &str, port: u16) -> String {
    match socket(host) {
        Some(_) => host.to_owned(),
        None => format!("http://{}", named(host, port)),
    }
}

/// The `Host` that stands for a node itself: its address, and `localhost` for one behind a unix socket, which has none that HTTP could
/// write (RFC 9110 s7.2).
#[must_use]
pub fn authority(host: &str, port: u16) -> String {
    match socket(host) {
        Some(_) => "localhost".to_owned(),
        None => named(host, port),
    }
}

/// When to ask a name again, by the shortest TTL of its records.
#[must_use]
pub fn ask_again(ttl: Duration) -> Duration {
    ttl.clamp(MIN_TTL, MAX_TTL)
}

/// One place of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Nobody.
    Empty,
    /// A node.
    Taken(Member),
    /// A node that has left, with requests that are not over.
    Leaving(Member),
}

/// What to do with a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node gets the slot: new, or back before its last request was over.
    Join {
        /// Which slot.
        slot: usize,
        /// The node.
        member: Member,
    },
    /// Weight, tier or limit are others now.
    Adjust {
        /// Which slot.
        slot: usize,
        /// The node.
        member: Member,
    },
}

/// What has to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub changes: Vec<Change>,
    /// Slots of nodes that were not found, which leave after the changes, each when [`may_leave`] says so.
    pub leaving: Vec<usize>,
    /// Nodes without a slot.
    pub left_out: usize,
}

/// What has to change for the slots to hold what was found.
#[must_use]
pub fn reconcile(slots: &[Slot], found: &[Member]) -> Plan {
    let mut plan = Plan::default();
    let mut homeless: Vec<&Member> = Vec::new();
    for (slot, taken) in slots.iter().enumerate() {
        if let Slot::Taken(member) = taken
            && !found.iter().any(|one| one.is(member))
        {
            plan.leaving.push(slot);
        }
    }
    for member in found {
        let held = slots.iter().enumerate().find_map(|(slot, taken)| match taken {
            Slot::Taken(now) | Slot::Leaving(now) if now.is(member) => Some((slot, taken)),
            Slot::Taken(_) | Slot::Leaving(_) | Slot::Empty => None,
        });
        match held {
            Some((_, Slot::Taken(now))) if now == member => {}
            Some((slot, Slot::Taken(_))) => plan.changes.push(Change::Adjust {
                slot,
                member: member.clone(),
            }),
            Some((slot, Slot::Leaving(_))) => plan.changes.push(Change::Join {
                slot,
                member: member.clone(),
            }),
            Some((_, Slot::Empty)) | None => homeless.push(member),
        }
    }
    let mut free = slots.iter().enumerate().filter(|(_, taken)| **taken == Slot::Empty);
    for member in homeless {
        match free.next() {
            Some((slot, _)) => plan.changes.push(Change::Join {
                slot,
                member: member.clone(),
            }),
            None => plan.left_out += 1,
        }
    }
    plan
}

/// Which nodes leave now, of those that were not found any more. All, as soon as every node that was found has been probed and one of them
/// can take traffic: when all nodes are replaced at once, as by a deployment, those that come have begun before those that were there end.
/// Until then, and for as long as none that was found is healthy, only who is out of service too: what answers is the last good set.
///
/// `slots` and `states` are as they are after the plan's changes. Where no node that was found has a slot there is nobody to wait for.
#[must_use]
pub fn may_leave(leaving: &[usize], slots: &[Slot], found: &[Member], states: &[NodeState]) -> Vec<usize> {
    let takes = |state: &NodeState| matches!(state, NodeState::Active | NodeState::Standby);
    let is_found = |slot: &Slot| matches!(slot, Slot::Taken(member) if found.iter().any(|one| one.is(member)));
    let mut coming = slots.iter().zip(states).filter(|(slot, _)| is_found(slot)).peekable();
    let (mut all_probed, mut some_takes) = (true, coming.peek().is_none());
    for (_, state) in coming {
        all_probed &= *state != NodeState::Unprobed;
        some_takes |= takes(state);
    }
    let goes = |slot: &usize| all_probed && some_takes || !states.get(*slot).is_some_and(takes);
    leaving.iter().copied().filter(goes).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn at(host: &str) -> Member {
        Member {
            name: named(host, 80),
            host: host.to_owned(),
            port: 80,
            tier: 0,
            weight: 1,
            max_in_flight: 0,
        }
    }

    fn service(priority: u16, weight: u16, target: &str) -> Record {
        Record::Service {
            priority,
            weight,
            port: 80,
            target: target.to_owned(),
        }
    }

    #[test]
    fn rfc2782_services_are_nodes_by_priority_and_weight() {
        let records = [
            service(20, 5, "spare.example."),
            service(10, 0, "B.example."),
            service(10, 60, "a.example."),
            service(10, 60, "a.example."),
            service(10, 1, "."),
        ];
        let found: Vec<_> = members(&records, 0)
            .into_iter()
            .map(|m| (m.name, m.tier, m.weight))
            .collect();
        let wanted = [
            ("a.example:80".to_owned(), 10, 60),
            ("b.example:80".to_owned(), 10, 1),
            ("spare.example:80".to_owned(), 20, 5),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn addresses_are_nodes_whatever_their_order() {
        let one = Record::Address("10.0.0.2".parse().unwrap());
        let other = Record::Address("fd00::1".parse().unwrap());
        let found = members(&[one.clone(), other.clone(), one.clone()], 9000);
        assert_eq!(found, members(&[other, one], 9000));
        let names: Vec<_> = found.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["10.0.0.2:9000", "[fd00::1]:9000"]);
    }

    #[test]
    fn an_address_that_is_nobodys_is_no_node() {
        for nobody in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            let records = [Record::Address(nobody.parse().unwrap())];
            assert!(members(&records, 80).is_empty(), "{nobody}");
        }
        for somebody in ["127.0.0.1", "::1", "::ffff:10.0.0.1", "10.255.255.255"] {
            let records = [Record::Address(somebody.parse().unwrap())];
            assert_eq!(members(&records, 80).len(), 1, "{somebody}");
        }
    }

    #[test]
    fn one_service_with_two_weights_is_the_same_node_in_every_order() {
        let (one, other) = (service(10, 5, "a.example."), service(10, 60, "a.example."));
        assert_eq!(members(&[one.clone(), other.clone()], 0), members(&[other, one], 0));
    }

    #[test]
    fn a_name_is_asked_again_by_its_ttl_within_bounds() {
        let secs = Duration::from_secs;
        assert_eq!(ask_again(secs(30)), secs(30));
        assert_eq!(ask_again(secs(0)), MIN_TTL);
        assert_eq!(ask_again(secs(86_400)), MAX_TTL);
    }

    #[test]
    fn nodes_keep_their_slots_and_only_empty_ones_are_given_away() {
        let adjusted = Member { weight: 5, ..at("b") };
        let slots = [
            Slot::Taken(at("a")),
            Slot::Leaving(at("x")),
            Slot::Taken(at("b")),
            Slot::Empty,
            Slot::Leaving(at("d")),
        ];
        let found = [at("c"), adjusted.clone(), at("d"), at("e")];
        let plan = reconcile(&slots, &found);
        let wanted = [
            Change::Adjust {
                slot: 2,
                member: adjusted,
            },
            Change::Join {
                slot: 4,
                member: at("d"),
            },
            Change::Join {
                slot: 3,
                member: at("c"),
            },
        ];
        assert_eq!((plan.changes.as_slice(), plan.left_out), (wanted.as_slice(), 1));
        assert_eq!(plan.leaving, [0]);
    }

    #[test]
    fn who_is_not_found_any_more_leaves_when_somebody_who_was_found_can_take_the_traffic() {
        use NodeState::{Active, Ejected, Standby, Unhealthy, Unprobed};
        let (old, other, new, newer) = (at("old"), at("other"), at("new"), at("newer"));
        let slots = [old, other, new.clone(), newer.clone()].map(Slot::Taken);
        let found = [new, newer];
        let none: &[usize] = &[];
        let cases = [
            ("none is probed", [Active, Active, Unprobed, Unprobed], none),
            ("the other may still come", [Active, Active, Active, Unprobed], none),
            ("all are probed", [Active, Active, Active, Active], &[0, 1]),
            ("one will not come", [Active, Active, Unhealthy, Active], &[0, 1]),
            (
                "the new one waits for its turn",
                [Active, Standby, Standby, Unhealthy],
                &[0, 1],
            ),
            ("none is healthy", [Active, Active, Unhealthy, Ejected], none),
            ("nor is an old one", [Unhealthy, Active, Unhealthy, Unhealthy], &[0]),
            ("an old one is out", [Active, Unhealthy, Unprobed, Unprobed], &[1]),
        ];
        for (case, states, wanted) in cases {
            assert_eq!(may_leave(&[0, 1], &slots, &found, &states), wanted, "{case}");
        }
        assert_eq!(
            may_leave(&[0, 1], &slots[..2], &found, &[Active, Active]),
            [0, 1],
            "there is no place for those who were found"
        );
    }

    #[test]
    fn what_did_not_change_changes_nothing_and_a_name_at_another_address_is_another_node() {
        let slots = [Slot::Taken(at("a")), Slot::Empty];
        assert_eq!(reconcile(&slots, &[at("a")]), Plan::default());
        let moved = Member { port: 81, ..at("a") };
        let wanted = Plan {
            changes: vec![Change::Join {
                slot: 1,
                member: moved.clone(),
            }],
            leaving: vec![0],
            left_out: 0,
        };
        assert_eq!(reconcile(&slots, &[moved]), wanted);
    }
}
