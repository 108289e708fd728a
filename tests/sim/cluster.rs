//! Worlds whose nodes keep what they have each for itself (or over one store, but taking turns): how they replicate, who makes one of them
//! the primary, and what happens to them. Several things may happen at once, each in a lane of its own.

use super::chance::Chance;
use super::plan::{Event, Fault, Level, Plan, Through, Weather};

/// From, for how long, what. In milliseconds.
pub type Happening = (u64, u64, Event);

/// How the nodes share what they have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They elect their primary among themselves.
    Followed,
    /// The proxy promotes, by its hooks.
    Promoted,
    /// The proxy copies.
    Mirrored,
    /// One store; the first node is preferred.
    Standby,
    /// Every node takes writes.
    Homes,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Followed,
        Self::Promoted,
        Self::Mirrored,
        Self::Standby,
        Self::Homes,
    ];

    /// Nodes say their role, term and position.
    pub fn is_replicated(self) -> bool {
        matches!(self, Self::Followed | Self::Promoted)
    }
}

#[derive(Clone, Debug)]
pub struct Cluster {
    pub kind: Kind,
    /// A write is answered when most nodes have it, and only such are shown. Otherwise a failover may lose writes, and what follows it is
    /// judged for itself.
    pub quorum: bool,
    /// Between two pulls of a follower.
    pub lag_ms: u64,
    /// How long nobody leads before another is elected.
    pub election_ms: u64,
    /// A deposed primary goes on for so long after it could know.
    pub careless_ms: u64,
    /// Nodes tell their position.
    pub positions: bool,
    pub fence: bool,
    pub hooks_fail_percent: u64,
    pub hooks_ms: u64,
    pub unclean: bool,
    pub failback: bool,
    pub stable_ms: u64,
    pub min_in_sync: u64,
    /// Nothing happens but that the first node comes and goes.
    pub flaps: bool,
    pub lanes: Vec<Vec<Happening>>,
}

/// The proxy's patience with a copy.
const MIRROR_TIMEOUT_MS: u64 = 100;
/// And with an upstream without a primary.
const HOLD_MS: u64 = 300;

impl Plan {
    pub fn of_cluster(seed: u64, kind: Option<Kind>, level: Option<Level>, weather: Option<Weather>) -> Self {
        let mut chance = Chance::of(seed, 20);
        let drawn = Kind::ALL[(seed % Kind::ALL.len() as u64) as usize];
        let kind = kind.unwrap_or(drawn);
        let gear = chance.one_of(&[Level::External, Level::Exclusive]);
        let level = match kind {
            Kind::Mirrored => Level::Exclusive, // two proxies would both copy
            _ => level.unwrap_or(gear),
        };
        let mut plan = Self::for_level(seed, level, weather);
        plan.nodes = 2 + chance.below(2) as usize;
        plan.proxies = 1;
        plan.passive = kind != Kind::Homes;
        plan.clients = 3 + chance.below(4) as u32;
        plan.steps = 20 + chance.below(25);
        plan.think_ms = chance.one_of(&[8, 15, 25]);
        plan.write_percent = 20 + chance.below(40);
        plan.beat_ms = 0;
        plan.latency_ms = chance.one_of(&[0, 1, 3]);
        plan.outsiders = 0;
        plan.crowded = false;
        plan.fault_percent = chance.one_of(&[5, 15, 30]);
        plan.events = Vec::new();
        if kind == Kind::Mirrored {
            plan.plain = true;
            plan.through = Through::Invalidate;
            if plan.weather == Weather::Calm {
                plan.fault_percent = 0; // who is slow leaves the set
            }
        }
        let quorum = kind == Kind::Followed && chance.percent(70);
        if quorum {
            plan.nodes = 3;
        }
        let mut cluster = Cluster {
            kind,
            quorum,
            lag_ms: chance.one_of(&[5, 5, 15, 40]),
            election_ms: chance.one_of(&[20, 80, 150]),
            careless_ms: chance.one_of(&[0, 50, 200]),
            positions: kind == Kind::Promoted || chance.percent(50),
            fence: chance.percent(60),
            hooks_fail_percent: chance.one_of(&[0, 0, 0, 20]),
            hooks_ms: chance.one_of(&[1, 10, 60]),
            unclean: kind == Kind::Promoted && chance.percent(15),
            failback: chance.percent(50),
            stable_ms: chance.one_of(&[100, 250]),
            min_in_sync: chance.one_of(&[1, 1, 2]),
            flaps: false,
            lanes: Vec::new(),
        };
        if plan.weather != Weather::Calm {
            cluster.draw(&mut chance, plan.weather, plan.nodes);
            match kind {
                Kind::Standby if chance.percent(30) => cluster.flap(&mut chance),
                Kind::Promoted if chance.percent(30) => plan.hand_over(&mut cluster, &mut chance),
                Kind::Mirrored if chance.percent(20) => plan.give_up(&mut cluster, &mut chance),
                _ => {}
            }
        }
        plan.cluster = Some(cluster);
        plan
    }

    /// Whether nothing but a whole representation can be written: what is copied is seen as it was sent.
    pub fn puts_only(&self) -> bool {
        self.cluster.as_ref().is_some_and(|c| c.kind == Kind::Mirrored)
    }

    /// Whether a write may change another register too.
    pub fn writes_more(&self) -> bool {
        let kind = self.cluster.as_ref().map(|c| c.kind);
        !matches!(kind, Some(Kind::Mirrored | Kind::Homes))
    }
}

impl Plan {
    /// What must coincide for an answer of a deposed primary, or its longer log, to be taken for something: many slow writes of many
    /// registers, followers that lag, and a primary that is deposed alive, with what it applies from then on.
    fn hand_over(&mut self, cluster: &mut Cluster, chance: &mut Chance) {
        self.clients = 8;
        self.keys = 6;
        self.think_ms = 8;
        self.write_percent = 50;
        self.fault_percent = 80;
        self.faults = vec![Fault::SlowBefore];
        self.latency_ms = chance.below(2);
        cluster.lag_ms = chance.one_of(&[5, 15]);
        cluster.careless_ms = 600;
        cluster.hooks_fail_percent = 0;
        cluster.hooks_ms = 1;
        cluster.unclean = false;
        let at = 60 + chance.below(100);
        let node = 0;
        cluster.failback = chance.percent(60);
        cluster.lanes = if cluster.failback {
            // It takes over again, and dies when it has.
            cluster.stable_ms = 100;
            cluster.fence = false;
            self.nodes = 2;
            self.clients = 5;
            // Long enough for two probes, and for few writes.
            let delay_ms = 90 + chance.below(40);
            vec![vec![
                (at, 150, Event::NodeDown { node }),
                (at + 151, 800, Event::Crowned { times: 2, delay_ms }),
                (at + 152, 300, Event::NodeDown { node }),
            ]]
        } else {
            vec![vec![(at, 300, Event::Sick { node })]]
        };
    }

    /// A proxy dies in the middle of its copies, and the primary soon after.
    fn give_up(&mut self, cluster: &mut Cluster, chance: &mut Chance) {
        self.clients = 8;
        self.keys = 6;
        self.think_ms = 8;
        self.write_percent = 40;
        self.fault_percent = 60;
        self.faults = vec![Fault::SlowBefore];
        cluster.min_in_sync = 1;
        let at = 60 + chance.below(200);
        let after = at + 60 + chance.below(120);
        cluster.lanes = vec![
            vec![(at, 10, Event::Kill { proxy: 0 })],
            vec![(after, 300, Event::NodeDown { node: 0 })],
        ];
    }
}

impl Cluster {
    fn flap(&mut self, chance: &mut Chance) {
        self.flaps = true;
        self.failback = true;
        let mut at = 60 + chance.below(100);
        let mut lane = Vec::new();
        for _ in 0..3 {
            let lasts = 220 + chance.below(80); // long enough to be noticed
            let node = 0;
            lane.push((
                at,
                lasts,
                chance.one_of(&[Event::Sick { node }, Event::NodeDown { node }]),
            ));
            at += lasts + 20 + chance.below(2 * self.stable_ms);
        }
        self.lanes = vec![lane];
    }

    fn draw(&mut self, chance: &mut Chance, weather: Weather, nodes: usize) {
        let mut kinds: Vec<fn(usize) -> Event> = match weather {
            Weather::Calm => Vec::new(),
            Weather::Stormy => vec![|node| Event::Sick { node }],
            Weather::Foggy => vec![|node| Event::Cut { proxy: 0, node }, |node| Event::Hold {
                proxy: 0,
                node,
            }],
            Weather::Quakes => vec![|node| Event::NodeDown { node }],
            Weather::Doomsday => vec![
                |node| Event::NodeDown { node },
                |node| Event::NodeDown { node },
                |node| Event::Sick { node },
                |node| Event::Cut { proxy: 0, node },
                |node| Event::Hold { proxy: 0, node },
            ],
        };
        if self.kind.is_replicated() {
            kinds.push(|node| Event::Apart { node });
        }
        if self.kind == Kind::Followed {
            kinds.push(|node| Event::Usurp { node });
        }
        for node in 0..nodes {
            let most = if node == 0 { [1, 2, 3] } else { [0, 1, 2] };
            let mut at = 30 + chance.below(250);
            let mut lane = Vec::new();
            for _ in 0..chance.one_of(&most) {
                let lasts = chance.one_of(&[40, 150, 300]) + chance.below(200);
                lane.push((at, lasts, chance.one_of(&kinds)(node)));
                at += lasts + 20 + chance.below(300);
            }
            self.lanes.push(lane);
        }
        if matches!(weather, Weather::Quakes | Weather::Doomsday) && chance.percent(50) {
            let event = chance.one_of(&[
                Event::Kill { proxy: 0 },
                Event::Stop { proxy: 0 },
                Event::Blackout { proxy: 0 },
                Event::Full { proxy: 0 },
            ]);
            self.lanes
                .push(vec![(50 + chance.below(600), 20 + chance.below(150), event)]);
        }
    }

    /// Whether a failover may lose acknowledged writes.
    pub fn is_lossy(&self) -> bool {
        (self.kind == Kind::Followed && !self.quorum) || self.unclean
    }

    /// What the configuration says of the upstream, of its health check and of its failover.
    pub fn config(&self) -> (String, String, String) {
        let mode = match self.kind {
            Kind::Homes => "active-active",
            _ => "active-passive",
        };
        let replication = match self.kind {
            Kind::Followed | Kind::Promoted => "primary",
            Kind::Mirrored => "mirrored",
            Kind::Standby => "shared",
            Kind::Homes => "multi-primary",
        };
        let mut upstream = format!("mode = \"{mode}\"\nreplication = \"{replication}\"\n");
        if self.kind == Kind::Mirrored {
            let least = self.min_in_sync;
            upstream += &format!("min_in_sync = {least}\nmirror_timeout = \"{MIRROR_TIMEOUT_MS}ms\"\n");
        }
        let mut check = String::new();
        if self.kind.is_replicated() {
            check += "role_header = \"Node-Role\"\nterm_header = \"Node-Term\"\n";
            if self.positions {
                check += "position_header = \"Node-Position\"\n";
            }
        }
        if self.kind == Kind::Homes {
            return (upstream, check, String::new());
        }
        let mut failover = format!("[upstreams.o.failover]\nhold = \"{HOLD_MS}ms\"\n");
        match self.kind {
            Kind::Followed => failover += "promotion = \"follow\"\n",
            Kind::Promoted | Kind::Mirrored => {
                failover += "promotion = \"automatic\"\nhook_timeout = \"200ms\"\n";
                if self.kind == Kind::Promoted {
                    failover += "on_promote = [\"promote\", \"{node}\", \"{epoch}\"]\n";
                }
                if self.fence {
                    failover += "fence = [\"fence\", \"{node}\", \"{epoch}\"]\n";
                }
                if self.unclean {
                    failover += "unclean = true\n";
                }
            }
            Kind::Standby | Kind::Homes => {}
        }
        if self.failback && self.kind != Kind::Followed {
            failover += &format!("failback = \"automatic\"\nstable_for = \"{}ms\"\n", self.stable_ms);
        }
        (upstream, check, failover)
    }
}
