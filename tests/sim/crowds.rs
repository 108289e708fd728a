//! Draws that bring together what seldom meets by itself: many clients around one register, and the one fault that a rule is there for.
//! A small part of all worlds are such.

use super::chance::Chance;
use super::plan::{Event, Fault, Plan, Weather};

impl Plan {
    /// One register, nobody thinks, writes are long: what must coincide does.
    pub(super) fn crowd_together(&mut self, chance: &mut Chance) {
        self.clients = 8;
        self.keys = 1;
        self.think_ms = 2;
        self.latency_ms = chance.below(2);
        self.beat_ms = 0;
        self.fault_percent = 45;
        self.faults = match self.weather {
            Weather::Stormy | Weather::Doomsday => {
                vec![chance.one_of(&[Fault::Late, Fault::Late202, Fault::SlowAround])]
            }
            Weather::Calm | Weather::Foggy | Weather::Quakes => vec![Fault::SlowAround],
        };
    }

    /// Sessions go from one proxy to another, which is in the middle of a fetch, or cannot reach the node.
    pub(super) fn part_ways(&mut self, chance: &mut Chance) {
        if !chance.percent(25) {
            return;
        }
        self.proxies = 2;
        self.nodes = 1;
        for (_, _, event) in &mut self.events {
            if let Event::Cut { node, .. } | Event::Hold { node, .. } | Event::NodeDown { node } = event {
                *node = 0;
            }
        }
        self.shared_key = true;
        self.clients = 8;
        self.keys = 1;
        self.outsiders = 0;
        self.think_ms = 10;
        self.latency_ms = chance.below(2);
        self.beat_ms = 0;
        self.bound_ms = 400;
        self.ttl_ms = chance.one_of(&[30, 300]);
        self.refresh_ms = chance.one_of(&[0, 150]);
        self.fault_percent = 45;
        self.faults = vec![Fault::SlowAfter];
    }

    /// What is being fetched is written past the proxy, and purged by its tag.
    pub(super) fn tidy_up(&mut self, chance: &mut Chance) {
        if !chance.percent(20) {
            return;
        }
        self.clients = 8;
        self.outsiders = 3;
        self.keys = 1;
        self.think_ms = 10;
        self.latency_ms = chance.below(2);
        self.beat_ms = 0;
        self.purge_percent = 20;
        self.purge_groups = true;
        self.ttl_ms = 300;
        self.bound_ms = 400;
        self.fault_percent = 45;
        self.faults = vec![chance.one_of(&[Fault::SlowAfter, Fault::SlowBody])];
    }
}
