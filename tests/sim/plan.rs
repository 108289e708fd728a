//! What a seed stands for: the contract, the machines, the workload, and everything that goes wrong.

use super::chance::Chance;
use super::cluster::Cluster;
use std::fmt;

/// How long an abandoned write is given: `settle_after` of strong routes.
pub const SETTLE_AFTER_MS: u64 = 300;
/// Nothing is applied later than this after its connection was closed. Below [`SETTLE_AFTER_MS`] by what turmoil's clocks differ.
pub const LATEST_MS: u64 = 295;
/// The proxy's patience with a node.
pub const RESPONSE_TIMEOUT_MS: u64 = 120;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Level {
    Weak,
    Eventual,
    /// Strong, validate gear.
    External,
    /// Strong, exclusive gear.
    Exclusive,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Weak, Self::Eventual, Self::External, Self::Exclusive];

    pub fn is_strong(self) -> bool {
        matches!(self, Self::External | Self::Exclusive)
    }
}

/// What goes wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Answers are slow and clients leave; nothing else: everybody who stays is answered.
    Calm,
    /// The origin does everything to an exchange that an application and its host can.
    Stormy,
    /// Messages are lost or held.
    Foggy,
    /// Machines die and come back.
    Quakes,
    /// All of it.
    Doomsday,
}

impl Weather {
    pub const ALL: [Self; 5] = [Self::Calm, Self::Stormy, Self::Foggy, Self::Quakes, Self::Doomsday];
}

/// What an origin does to one exchange.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request waits before the store is asked.
    SlowBefore,
    /// The answer waits after the store was asked.
    SlowAfter,
    /// Both.
    SlowAround,
    /// Half of the body waits for the other.
    SlowBody,
    /// The first half of the body, as a part nobody asked for.
    UnaskedPart,
    /// Closed before the store is asked.
    CloseBefore,
    /// Applied, then closed without a byte.
    LoseReply,
    /// Half of the body, then closed.
    CutBody,
    /// Never applied, never answered.
    Hang,
    /// Applied after the proxy gave up and closed.
    Late,
    /// 500, applied.
    Error500,
    /// 500, and applied later.
    Late500,
    /// 202, and applied later.
    Late202,
}

impl Fault {
    const GENTLE: [Self; 5] = [
        Self::SlowBefore,
        Self::SlowAfter,
        Self::SlowAround,
        Self::SlowBody,
        Self::UnaskedPart,
    ];
    const ALL: [Self; 13] = [
        Self::SlowBefore,
        Self::SlowAfter,
        Self::SlowAround,
        Self::SlowBody,
        Self::UnaskedPart,
        Self::CloseBefore,
        Self::LoseReply,
        Self::CutBody,
        Self::Hang,
        Self::Late,
        Self::Error500,
        Self::Late500,
        Self::Late202,
    ];
}

/// What happens to machines and links, and when it is over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Messages between a proxy and a node are lost.
    Cut { proxy: usize, node: usize },
    /// They are held back.
    Hold { proxy: usize, node: usize },
    /// Messages between the clients and a proxy are lost.
    CutOff { proxy: usize },
    /// A proxy is killed.
    Kill { proxy: usize },
    /// A proxy is asked to leave, and started again when it has.
    Stop { proxy: usize },
    /// A node is killed.
    NodeDown { node: usize },
    /// A node fails its probes, and nothing else.
    Sick { node: usize },
    /// A node reaches no other node.
    Apart { node: usize },
    /// A node claims the term of another.
    Usurp { node: usize },
    /// Nothing yet: what is next waits until so many were made the primary, and so long.
    Crowned { times: u64, delay_ms: u64 },
    /// A proxy's machine loses power.
    Blackout { proxy: usize },
    /// A proxy's disk is full.
    Full { proxy: usize },
}

/// What a write leaves behind of its target, on exclusive routes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Through {
    Invalidate,
    Refresh,
    Store,
}

impl Through {
    const ALL: [Self; 3] = [Self::Invalidate, Self::Refresh, Self::Store];
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub level: Level,
    pub weather: Weather,
    pub nodes: usize,
    pub proxies: usize,
    pub passive: bool,
    pub clients: u32,
    pub steps: u64,
    pub keys: u64,
    pub write_percent: u64,
    pub fault_percent: u64,
    /// What the origin does of what its weather allows. Often one thing only: what happens once in a while never meets itself.
    pub faults: Vec<Fault>,
    /// Of reads: those that demand a validation.
    pub insist_percent: u64,
    pub head_percent: u64,
    /// And those that take what is stale.
    pub lenient_percent: u64,
    /// Clients act at the same moments, so many milliseconds apart; 0: each at its own.
    pub beat_ms: u64,
    pub leave_percent: u64,
    pub think_ms: u64,
    pub latency_ms: u64,
    /// Of the clients, those who write at a node and not through a proxy.
    pub outsiders: u32,
    /// Room for a handful of entries.
    pub crowded: bool,
    pub collapse: bool,
    /// A write names what else it changed by its group, and not by its place.
    pub by_group: bool,
    /// Eventual: clients hand their token back.
    pub session: bool,
    /// The proxies read each other's tokens.
    pub shared_key: bool,
    /// Eventual: beyond the bound, serve and say so.
    pub stale: bool,
    pub bound_ms: u64,
    pub ttl_ms: u64,
    pub refresh_ms: u64,
    /// Exclusive: what writes leave behind, and how long they may take for it.
    pub through: Through,
    pub through_ms: u64,
    /// Nothing varies, and what is written is what is stored.
    pub plain: bool,
    pub purge_percent: u64,
    /// All of them by tag.
    pub purge_groups: bool,
    /// The first start finds the word of a clean stop.
    pub trusted: bool,
    /// From, for how long, what. In milliseconds.
    pub events: Vec<(u64, u64, Event)>,
    /// How the nodes share what they have, when that is not one store.
    pub cluster: Option<Cluster>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let level = Level::ALL[[3, 2, 0, 1, 3][(seed % 5) as usize]];
        Self::for_level(seed, level, None)
    }

    pub fn for_level(seed: u64, level: Level, weather: Option<Weather>) -> Self {
        let mut chance = Chance::of(seed, 0);
        let drawn = chance.one_of(&Weather::ALL);
        let weather = weather.unwrap_or(drawn);
        let nodes = 1 + chance.below(2) as usize;
        let proxies = if level == Level::Exclusive {
            1
        } else {
            1 + chance.below(2) as usize
        };
        let mut plan = Self {
            seed,
            level,
            weather,
            nodes,
            proxies,
            passive: chance.percent(40),
            clients: 4 + chance.below(5) as u32,
            steps: 12 + chance.below(14),
            keys: 1 + chance.below(3),
            write_percent: 10 + chance.below(40),
            fault_percent: chance.one_of(&[10, 25, 45]),
            faults: Vec::new(),
            insist_percent: 0,
            head_percent: 0,
            lenient_percent: Chance::of(seed, 4).one_of(&[0, 5, 40]),
            beat_ms: 0,
            leave_percent: chance.one_of(&[0, 5, 15]),
            think_ms: chance.one_of(&[2, 10, 30]),
            latency_ms: chance.one_of(&[0, 1, 3, 8]),
            outsiders: if level == Level::Exclusive {
                0
            } else {
                chance.below(3) as u32
            },
            crowded: chance.percent(15),
            collapse: chance.percent(85),
            session: level == Level::Eventual && Chance::of(seed, 5).percent(60),
            shared_key: Chance::of(seed, 6).percent(70),
            by_group: Chance::of(seed, 3).percent(50),
            stale: chance.percent(50),
            bound_ms: chance.one_of(&[60, 150, 400]),
            ttl_ms: chance.one_of(&[30, 100, 300]),
            refresh_ms: chance.one_of(&[0, 50, 150]),
            trusted: chance.percent(75),
            through: Through::Invalidate,
            through_ms: 0,
            plain: false,
            purge_percent: 3,
            purge_groups: false,
            events: Vec::new(),
            cluster: None,
        };
        plan.draw_events(&mut chance);
        plan.draw_habits(&mut Chance::of(seed, 2));
        match level {
            Level::Exclusive => plan.draw_through(&mut Chance::of(seed, 7)),
            Level::Eventual if plan.session => plan.part_ways(&mut Chance::of(seed, 8)),
            Level::Weak | Level::Eventual => plan.tidy_up(&mut Chance::of(seed, 9)),
            Level::External => {}
        }
        plan
    }

    fn draw_events(&mut self, chance: &mut Chance) {
        let (fog, quakes) = match self.weather {
            Weather::Calm | Weather::Stormy => return,
            Weather::Foggy => (3, 0),
            Weather::Quakes => (0, 2),
            Weather::Doomsday => (2, 2),
        };
        // One after the other: what is over is over before the next begins.
        let mut at = 20;
        let mut kinds = vec![true; fog];
        kinds.extend(vec![false; quakes]);
        while !kinds.is_empty() {
            let of_links = kinds.swap_remove(chance.below(kinds.len() as u64) as usize);
            let proxy = chance.below(self.proxies as u64) as usize;
            let node = chance.below(self.nodes as u64) as usize;
            let event = match (of_links, chance.below(3)) {
                (true, 0) => Event::Cut { proxy, node },
                (true, 1) => Event::Hold { proxy, node },
                (true, _) => Event::CutOff { proxy },
                (false, 0) => Event::Kill { proxy },
                (false, 1) => Event::Stop { proxy },
                (false, _) => Event::NodeDown { node },
            };
            at += 10 + chance.below(100);
            let lasts = 10 + chance.below(140);
            self.events.push((at, lasts, event));
            at += lasts;
        }
    }

    fn draw_habits(&mut self, chance: &mut Chance) {
        self.insist_percent = chance.one_of(&[5, 10, 40]);
        self.head_percent = chance.one_of(&[0, 5, 20, 45]);
        self.beat_ms = chance.one_of(&[0, 0, 15, 40]);
        let possible: &[Fault] = match self.weather {
            Weather::Stormy | Weather::Doomsday => &Fault::ALL,
            Weather::Calm | Weather::Foggy | Weather::Quakes => &Fault::GENTLE,
        };
        let kinds = chance.one_of(&[1, 2, possible.len()]);
        self.faults = if kinds == possible.len() {
            possible.to_vec()
        } else {
            (0..kinds).map(|_| chance.one_of(possible)).collect()
        };
        if chance.percent(20) {
            self.crowd_together(chance);
        }
    }

    fn draw_through(&mut self, chance: &mut Chance) {
        self.through = chance.one_of(&Through::ALL);
        self.through_ms = chance.one_of(&[20, 60, 200]);
        self.plain = self.through == Through::Store && chance.percent(70);
    }

    /// Of an exchange at the origin.
    pub fn fault(&self, chance: &mut Chance) -> Option<Fault> {
        chance.percent(self.fault_percent).then(|| chance.one_of(&self.faults))
    }

    pub fn is_calm(&self) -> bool {
        self.weather == Weather::Calm
    }

    fn write_through(&self) -> String {
        let way = match self.through {
            Through::Invalidate => return String::new(),
            Through::Refresh => "refresh",
            Through::Store => "store",
        };
        format!(
            "write_through = \"{way}\"\nrefresh_timeout = \"{}ms\"\n",
            self.through_ms
        )
    }

    pub fn config(&self, nodes: &[std::net::IpAddr]) -> String {
        let standby = |at| {
            if self.passive && at > 0 {
                ", standby = \"hot\""
            } else {
                ""
            }
        };
        let name = |at| match &self.cluster {
            Some(_) => format!(", name = \"o{at}\""),
            None => String::new(),
        };
        let nodes: Vec<String> = nodes
            .iter()
            .enumerate()
            .map(|(at, ip)| {
                format!(
                    "{{ url = \"http://{ip}:9000\"{named}{} }}",
                    standby(at),
                    named = name(at)
                )
            })
            .collect();
        let mode = if self.passive {
            "active-passive"
        } else {
            "active-active"
        };
        let one_store = || (format!("mode = \"{mode}\"\n"), String::new(), String::new());
        let (shared_how, asked_what, failover) = self.cluster.as_ref().map_or_else(one_store, Cluster::config);
        let key = if self.session && self.shared_key {
            "[session]\nkey = \"what two proxies have in common, and no more\"\n"
        } else {
            ""
        };
        let memory = if self.crowded {
            "[cache]\nmax_memory = \"64KiB\"\nmax_object = \"4KiB\"\n"
        } else {
            ""
        };
        let (bound, ttl, refresh) = (self.bound_ms, self.ttl_ms, self.refresh_ms);
        let timed = format!("origin_ttl = \"ignore\"\nttl = \"{ttl}ms\"\nstale_while_revalidate = \"{refresh}ms\"\n");
        let contract = match self.level {
            Level::Weak => format!("consistency = \"weak\"\n{timed}"),
            Level::Eventual => {
                format!(
                    "consistency = \"eventual\"\n{timed}max_staleness = \"{bound}ms\"\non_unreachable = \"{}\"\n",
                    if self.stale { "stale" } else { "error" }
                ) + if self.session {
                    "session = \"read-your-writes\"\n"
                } else {
                    ""
                }
            }
            Level::External | Level::Exclusive => format!(
                "{}consistency = \"strong\"\nwriters = \"{}\"\nsettle_after = \"{SETTLE_AFTER_MS}ms\"\n",
                self.write_through(),
                if self.level == Level::Exclusive {
                    "exclusive"
                } else {
                    "external"
                }
            ),
        };
        format!(
            "[server]\nthreads = 1\nstate_dir = \"/state\"\ndrain_delay = \"0s\"\ndrain_timeout = \"200ms\"\n\n\
            [listeners.main]\naddress = \"0.0.0.0:8080\"\n\n[admin]\naddress = \"0.0.0.0:9901\"\ntoken = \"simulated\"\n\n{memory}\n{key}\n\
            [upstreams.o]\nnodes = [{}]\n{shared_how}connect_timeout = \"60ms\"\nresponse_timeout = \"{RESPONSE_TIMEOUT_MS}ms\"\n\n\
            [upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"50ms\"\ntimeout = \"40ms\"\nhealthy_threshold = 1\nunhealthy_threshold = 2\n{asked_what}\n{failover}\n\
            [upstreams.o.retry]\nattempts = 3\nbudget = \"100%\"\n\n\
            [[routes]]\nname = \"k\"\nupstream = \"o\"\ncollapse = {}\n{contract}",
            nodes.join(", "),
            self.collapse
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
