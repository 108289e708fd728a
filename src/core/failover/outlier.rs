//! Passive health: a node that fails request after request is ejected for a while, whatever its probes say.
//!
//! Where it counts: an ejected node takes no part in the balancing of an upstream; it is neither dead nor out of the in-sync set, so
//! ejection promotes nobody where data follows a primary (R37, R39). Probes decide who is alive, ejection who is worth asking.
//!
//! The counting of errors in a row is the caller's, beside the requests; this decides what so many of them mean. Ejections grow with
//! repeats, as Envoy's do, and a node that stays in service works them off.

use crate::core::time::{MonoTime, Span};

/// The longest ejection (Envoy's `max_ejection_time`), unless the first one is longer.
const LONGEST: Span = Span::from_secs(300);

/// What is configured.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a node is ejected the first time; the second time twice as long, and so on.
    pub ejection_time: Span,
    /// How many of a hundred nodes may be out of service before no more are ejected.
    pub max_ejected_percent: u32,
}

/// Who is ejected at one upstream.
#[derive(Clone, Debug)]
pub struct Outlier {
    settings: Settings,
    nodes: Vec<Record>,
}

/// Among whom a node fails. Places that nobody sits in do not count.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Among {
    /// All nodes there are, this one too.
    pub nodes: usize,
    /// The other ones that take no traffic, for whatever reason.
    pub others_out: usize,
}

/// One node's ejections.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    until: Option<MonoTime>,
    /// Ejections not worked off.
    times: u32,
    /// When the last one ended.
    readmitted: MonoTime,
}

impl Outlier {
    /// Nobody is ejected; so many places for nodes.
    #[must_use]
    pub fn new(settings: Settings, nodes: usize) -> Self {
        Self {
            settings,
            nodes: vec![Record::default(); nodes],
        }
    }

    /// A node has failed as often in a row as is allowed. Whether it is ejected now.
    pub fn failing(&mut self, now: MonoTime, node: usize, among: Among) -> bool {
        let percent = self.settings.max_ejected_percent as usize;
        let most = among.nodes.saturating_mul(percent) / 100;
        let (settings, Some(record)) = (self.settings, self.nodes.get_mut(node)) else {
            return false;
        };
        if record.until.is_some() || among.others_out >= most {
            return false;
        }
        let worked_off = now.since(record.readmitted).as_millis() / settings.ejection_time.as_millis().max(1);
        let worked_off = u32::try_from(worked_off).unwrap_or(u32::MAX);
        record.times = record.times.saturating_sub(worked_off).saturating_add(1);
        let first = settings.ejection_time.as_millis();
        let longest = LONGEST.as_millis().max(first);
        let length = first.saturating_mul(u64::from(record.times)).min(longest);
        record.until = Some(now.after(Span::from_millis(length)));
        true
    }

    /// The nodes whose ejection is over.
    #[must_use]
    pub fn readmit(&mut self, now: MonoTime) -> Vec<usize> {
        let mut over = Vec::new();
        for (node, record) in self.nodes.iter_mut().enumerate() {
            if record.until.is_some_and(|until| until <= now) {
                record.until = None;
                record.readmitted = now;
                over.push(node);
            }
        }
        over
    }

    /// When the next ejection is over.
    #[must_use]
    pub fn next(&self) -> Option<MonoTime> {
        self.nodes.iter().filter_map(|record| record.until).min()
    }

    /// Whether a node is ejected.
    #[must_use]
    pub fn is_ejected(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|record| record.until.is_some())
    }

    /// From now on by other settings. Ejections that are under way last as long as they would have.
    pub fn adjust(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// So many places for nodes from now on.
    pub fn resize(&mut self, nodes: usize) {
        self.nodes.resize(nodes, Record::default());
    }

    /// Nothing is known of a node any more: another one sits in its place.
    pub fn forget(&mut self, node: usize) {
        if let Some(here) = self.nodes.get_mut(node) {
            *here = Record::default();
        }
    }

    /// Ends every ejection: nobody is ejected any more by what is configured.
    #[must_use]
    pub fn end(&mut self) -> Vec<usize> {
        let nodes = self.nodes.iter_mut().enumerate();
        nodes
            .filter_map(|(node, record)| record.until.take().map(|_| node))
            .collect()
    }
}

/// Whether an answer's status counts as an error of the node: a gateway's words for "nobody there" (RFC 9110 s15.6.3 to s15.6.5). A 500
/// does not: it may be the request's fault, and would be on every node.
#[must_use]
pub const fn is_error(status: u16) -> bool {
    matches!(status, 502..=504)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::default().after(Span::from_secs(1_000 + seconds))
    }

    fn outlier(nodes: usize, max_ejected_percent: u32) -> Outlier {
        let settings = Settings {
            ejection_time: Span::from_secs(10),
            max_ejected_percent,
        };
        Outlier::new(settings, nodes)
    }

    #[test]
    fn ejections_are_capped_by_the_share_of_nodes_that_are_out() {
        let cases: [(&str, usize, u32, usize, bool); 9] = [
            ("one of two", 2, 50, 0, true),
            ("both of two", 2, 50, 1, false),
            ("the only one", 1, 50, 0, false),
            ("half of three is one", 3, 50, 0, true),
            ("not two of three", 3, 50, 1, false),
            ("two of four", 4, 50, 1, true),
            ("the last one, when all may go", 2, 100, 1, true),
            ("the only one, when all may go", 1, 100, 0, true),
            ("none may go", 10, 0, 0, false),
        ];
        for (name, nodes, percent, others_out, ejected) in cases {
            let mut outlier = outlier(nodes.max(128), percent);
            assert_eq!(outlier.failing(at(0), 0, among(nodes, others_out)), ejected, "{name}");
            assert_eq!(outlier.is_ejected(0), ejected, "{name}");
            assert_eq!(outlier.next().is_some(), ejected, "{name}");
        }
    }

    fn among(nodes: usize, others_out: usize) -> Among {
        Among { nodes, others_out }
    }

    /// How long each ejection lasts when the node fails again `gap` seconds after it came back.
    fn lengths(outlier: &mut Outlier, gap: u64, times: usize) -> Vec<u64> {
        let mut now = at(0);
        let mut lengths = Vec::new();
        for _ in 0..times {
            assert!(outlier.failing(now, 0, among(2, 0)));
            let until = outlier.next().unwrap_or_default();
            assert!(outlier.readmit(until.before(Span::from_millis(1))).is_empty());
            assert_eq!(outlier.readmit(until), [0]);
            lengths.push(until.since(now).as_secs());
            now = until.after(Span::from_secs(gap));
        }
        lengths
    }

    #[test]
    fn ejections_grow_with_repeats_up_to_a_bound() {
        assert_eq!(lengths(&mut outlier(2, 50), 1, 5), [10, 20, 30, 40, 50]);
        let long = lengths(&mut outlier(2, 50), 1, 60);
        assert_eq!(long.last(), Some(&300));
    }

    #[test]
    fn time_in_service_works_ejections_off() {
        assert_eq!(lengths(&mut outlier(2, 50), 10, 4), [10, 10, 10, 10]);
        let mut outlier = outlier(2, 50);
        lengths(&mut outlier, 0, 4);
        let back = outlier.nodes[0].readmitted;
        assert!(outlier.failing(back.after(Span::from_secs(25)), 0, among(2, 0)));
        assert_eq!(outlier.nodes[0].times, 3, "four, less two for 25 s, and this one");
    }

    #[test]
    fn an_ejected_node_is_not_ejected_again_and_others_may_be() {
        let mut outlier = outlier(4, 50);
        assert!(outlier.failing(at(0), 1, among(4, 0)));
        assert!(
            !outlier.failing(at(1), 1, among(4, 0)),
            "what was in flight fails as well"
        );
        assert!(outlier.failing(at(2), 3, among(4, 1)));
        assert!(!outlier.failing(at(3), 0, among(4, 2)));
        assert!(!outlier.failing(at(3), 9, among(4, 0)), "there is no such node");
        assert_eq!(outlier.readmit(at(12)), [1, 3]);
        assert_eq!(outlier.next(), None);
    }

    #[test]
    fn other_settings_leave_ejections_as_they_are_and_count_for_the_next() {
        let mut outlier = outlier(2, 50);
        assert!(outlier.failing(at(0), 1, among(2, 0)));
        outlier.adjust(Settings {
            ejection_time: Span::from_secs(1),
            max_ejected_percent: 100,
        });
        assert!(outlier.readmit(at(9)).is_empty());
        assert!(outlier.failing(at(9), 0, among(2, 1)));
        assert_eq!(outlier.readmit(at(10)), [0, 1]);
    }

    #[test]
    fn who_leaves_is_forgotten_and_all_come_back_at_the_end() {
        let mut outlier = outlier(4, 50);
        assert!(outlier.failing(at(0), 1, among(4, 0)));
        assert!(outlier.failing(at(0), 2, among(4, 1)));
        outlier.forget(1);
        assert!(!outlier.is_ejected(1));
        assert_eq!(outlier.end(), [2]);
        assert_eq!(outlier.next(), None);
    }

    #[test]
    fn which_statuses_are_errors_of_the_node() {
        for (status, error) in [
            (200, false),
            (404, false),
            (429, false),
            (500, false),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
            (505, false),
        ] {
            assert_eq!(is_error(status), error, "{status}");
        }
    }
}
