//! Random schedules of sessions that hop between two proxies whose monotonic clocks cannot be compared and whose wall clocks differ by
//! as much as they may; with a shared key or without one, with restarts. Every answer is judged for read-your-writes and monotonic
//! reads. Tokens, marks and demands are the product's; proxies, stores and the origin are played here. With any one rule off, some
//! schedule must fail. (Which of two entries a store keeps is no such rule: a demand is met by what an entry is, not by its being the last.)
//! No two things happen in one microsecond here: a read's mark knows its entry by the instant it was received.

use super::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A step is a quarter of a second.
const STEP_US: u64 = 250_000;
const BOUND: u64 = 240;
const SKEW_STEPS: u64 = 20;
const MAX_RESOURCES: usize = 12;

/// A world's shape; the seed decides the rest.
#[derive(Copy, Clone, Debug)]
struct Setting {
    /// Whether the proxies share a key.
    shared: bool,
    restarts: bool,
    /// What all sessions are like, or each by chance.
    kind: Option<Kind>,
    /// Whether the second wall clock is ahead by as much as it may be.
    apart: bool,
    resources: u64,
    fillers: usize,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Goes over so many resources that marks sink into the floor.
    Wide,
    /// Comes back just when a mark may end.
    Late,
}

const PLAIN: Setting = Setting {
    shared: true,
    restarts: false,
    kind: None,
    apart: false,
    resources: MAX_RESOURCES as u64,
    fillers: 3,
};
const RESTARTED: Setting = Setting {
    restarts: true,
    ..PLAIN
};
const UNSHARED: Setting = Setting { shared: false, ..PLAIN };
const STRANGERS: Setting = Setting {
    restarts: true,
    ..UNSHARED
};
const LATE: Setting = Setting {
    kind: Some(Kind::Late),
    apart: true,
    resources: 2,
    fillers: 2,
    ..PLAIN
};
const WIDE: Setting = Setting {
    kind: Some(Kind::Wide),
    fillers: 1,
    ..PLAIN
};

const SETTINGS: [Setting; 6] = [PLAIN, RESTARTED, UNSHARED, STRANGERS, LATE, WIDE];

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Off {
    Nothing,
    ForgetsTheUnverified,
    ComparesForeignInstants,
    MarksWritesBySendTime,
    NoFloor,
    LaterOfTwoFloors,
    NoSkew,
    MarksReadsBySendTime,
    ServesUnmet,
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Clone)]
struct Held {
    value: u64,
    meta: Meta,
    sent_true: u64,
}

struct Proxy {
    minter: Minter,
    mono0: u64,
    wall0: u64,
    ring: Rc<Keyring>,
    store: BTreeMap<usize, Held>,
}

struct World {
    chance: Chance,
    off: Off,
    setting: Setting,
    now: u64,
    version: u64,
    origin: Vec<u64>,
    proxies: Vec<Proxy>,
    faults: u64,
    reads: u64,
    hits: u64,
}

type Shared = Rc<RefCell<World>>;

/// Lets anybody else go first.
fn step() -> impl Future<Output = ()> {
    let mut waited = false;
    std::future::poll_fn(move |_| {
        if std::mem::replace(&mut waited, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
}

async fn steps(world: &Shared, below: u64) {
    let n = world.borrow_mut().chance.below(below);
    for _ in 0..n {
        step().await;
    }
}

fn at(world: &World, proxy: usize) -> Here {
    let p = &world.proxies[proxy];
    let bound = Span::from_millis(BOUND * STEP_US / 1000);
    let bound = if world.off == Off::NoSkew {
        bound.minus(SKEW)
    } else {
        bound
    };
    Here {
        minter: p.minter,
        now: MonoTime::from_micros((world.now + p.mono0) * STEP_US),
        wall: WallTime::from_millis(i64::try_from((world.now + p.wall0) * STEP_US / 1000).unwrap()),
        bound,
    }
}

fn tag(value: u64) -> Etag {
    etag(&format!("\"{value}\""))
}

async fn fetch(world: &Shared, proxy: usize, resource: usize) -> Held {
    let (sent, sent_true) = (at(&world.borrow(), proxy).now, world.borrow().now);
    step().await; // nothing is sent, applied and answered in one instant
    steps(world, 2).await;
    let value = world.borrow().origin[resource];
    steps(world, 5).await;
    let mut w = world.borrow_mut();
    let held = Held {
        value,
        meta: Meta {
            sent,
            received: at(&w, proxy).now,
            valid_as_of: sent,
            etag: Some(tag(value)),
            ..meta()
        },
        sent_true,
    };
    let store = &mut w.proxies[proxy].store;
    if store.get(&resource).is_none_or(|old| old.meta.sent <= sent) {
        store.insert(resource, held.clone());
    }
    held
}

/// The next token, as the proxy makes it.
fn after(w: &World, proxy: usize, came: &[Opened], note: impl FnOnce(&mut Session)) -> String {
    let (here, ring) = (at(w, proxy), &w.proxies[proxy].ring);
    let forgets = w.off == Off::ForgetsTheUnverified && matches!(came, [Opened::Foreign]);
    let mut session = Session::of(here, ring.secret(), if forgets { &[] } else { came });
    let before = session.token.clone();
    note(&mut session);
    match w.off {
        Off::NoFloor => session.token.floor = before.floor,
        Off::LaterOfTwoFloors => {
            let sunk = before.marks.iter().find(|m| session.token.mark(m.resource).is_none());
            if let (Some(sunk), Some(floor)) = (sunk, &mut session.token.floor)
                && floor.minter == Minter::NOBODY
            {
                *floor = sunk.since;
            }
        }
        _ => {}
    }
    ring.sign(&here, session.token())
}

fn demand(w: &World, proxy: usize, came: &[Opened], resource: &Name<'_>) -> Demand {
    let mut demand = Demand::of(&at(w, proxy), came, resource);
    if w.off == Off::ComparesForeignInstants {
        for bound in &mut demand.bounds {
            bound.since.minter = demand.minter;
        }
    }
    demand
}

async fn session(world: Shared) {
    let (mut text, mut own) = (None::<String>, BTreeMap::<usize, u64>::new());
    let (rounds, wide, late) = {
        let w = &mut *world.borrow_mut();
        let kind = w.setting.kind.unwrap_or(match w.chance.below(3) {
            0 => Kind::Wide,
            1 => Kind::Late,
            _ => Kind::Plain,
        });
        (4 + w.chance.below(36), kind == Kind::Wide, kind == Kind::Late)
    };
    for _ in 0..rounds {
        let until = {
            let w = &mut *world.borrow_mut();
            let pause = if late {
                BOUND - 30 + w.chance.below(40)
            } else {
                w.chance.below(10)
            };
            w.now + pause
        };
        while world.borrow().now < until {
            step().await;
        }
        let (proxy, resource, writes) = {
            let w = &mut *world.borrow_mut();
            let proxy = usize::from(w.chance.below(2) == 1);
            let resource = w.chance.below(if wide { w.setting.resources } else { 2 });
            (proxy, usize::try_from(resource).unwrap(), w.chance.below(10) < 3)
        };
        let path = format!("/{resource}");
        let came: Vec<Opened> = {
            let w = world.borrow();
            text.iter().map(|t| w.proxies[proxy].ring.open(t.as_bytes())).collect()
        };
        if writes {
            let sent = at(&world.borrow(), proxy).now;
            step().await;
            steps(&world, 2).await;
            let mine = {
                let w = &mut *world.borrow_mut();
                w.version += 1;
                w.origin[resource] = w.version;
                w.version
            };
            steps(&world, 3).await;
            let w = world.borrow();
            let by = if w.off == Off::MarksWritesBySendTime {
                sent
            } else {
                at(&w, proxy).now
            };
            // Half of them without an ETag, so that instants count.
            let tagged = mine % 2 == 0;
            text = Some(after(&w, proxy, &came, |s| {
                s.wrote(&name(&path), tagged.then(|| tag(mine)).as_ref(), by);
            }));
            let floor = own.entry(resource).or_default();
            *floor = mine.max(*floor);
            continue;
        }
        let stored = {
            let w = world.borrow();
            let held = w.proxies[proxy].store.get(&resource);
            let usable = held.filter(|held| w.now - held.sent_true <= BOUND);
            let demand = demand(&w, proxy, &came, &name(&path));
            usable
                .filter(|held| w.off == Off::ServesUnmet || demand.is_met(&held.meta))
                .cloned()
        };
        world.borrow_mut().reads += 1;
        let held = match stored {
            Some(held) => {
                world.borrow_mut().hits += 1;
                held
            }
            None => fetch(&world, proxy, resource).await,
        };
        let seen = own.entry(resource).or_default();
        let mut w = world.borrow_mut();
        w.faults += u64::from(held.value < *seen);
        *seen = held.value.max(*seen);
        let by = if w.off == Off::MarksReadsBySendTime {
            held.meta.sent
        } else {
            held.meta.received
        };
        text = Some(after(&w, proxy, &came, |s| {
            s.saw(&name(&path), held.meta.strong_tag(), by);
        }));
    }
}

/// Other people's reads keep both stores full of entries of every age.
async fn filler(world: Shared) {
    let rounds = 5 + world.borrow_mut().chance.below(80);
    for _ in 0..rounds {
        steps(&world, 8).await;
        let (proxy, resource) = {
            let w = &mut *world.borrow_mut();
            (usize::from(w.chance.below(2) == 1), w.chance.below(w.setting.resources))
        };
        fetch(&world, proxy, usize::try_from(resource).unwrap()).await;
    }
}

/// A process ends and another takes its place: another minter, an empty store, and its key if it was a random one.
async fn restart(world: Shared, shared: bool) {
    steps(&world, 400).await;
    let w = &mut *world.borrow_mut();
    let minter = Minter::of(w.chance.next());
    w.proxies[0].minter = minter;
    w.proxies[0].store.clear();
    if !shared {
        w.proxies[0].ring = Rc::new(Keyring::new(&[9; 32], &[]));
    }
}

fn run(seed: u64, off: Off, setting: Setting) -> (u64, u64, u64) {
    let shared = setting.shared;
    let mut chance = Chance(seed);
    let one = Rc::new(ring());
    let two = if shared {
        Rc::clone(&one)
    } else {
        Rc::new(Keyring::new(&[1; 32], &[]))
    };
    let mut proxies = [one, two].map(|ring| Proxy {
        minter: Minter::of(chance.next()),
        mono0: chance.below(10_000),
        wall0: 2_000_000_000 + chance.below(SKEW_STEPS + 1),
        ring,
        store: BTreeMap::new(),
    });
    if setting.apart {
        proxies[1].wall0 = proxies[0].wall0 + SKEW_STEPS;
    }
    let world = Rc::new(RefCell::new(World {
        chance,
        off,
        setting,
        now: 0,
        version: 0,
        origin: vec![0; MAX_RESOURCES],
        proxies: proxies.into(),
        faults: 0,
        reads: 0,
        hits: 0,
    }));
    let mut live: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    for _ in 0..3 {
        live.push(Box::pin(session(Rc::clone(&world))));
    }
    for _ in 0..setting.fillers {
        live.push(Box::pin(filler(Rc::clone(&world))));
    }
    if setting.restarts {
        live.push(Box::pin(restart(Rc::clone(&world), shared)));
    }
    let mut context = Context::from_waker(Waker::noop());
    while !live.is_empty() {
        let at = {
            let mut w = world.borrow_mut();
            w.now += 1;
            let n = live.len() as u64;
            usize::try_from(w.chance.below(n)).unwrap()
        };
        if live[at].as_mut().poll(&mut context).is_ready() {
            drop(live.swap_remove(at));
        }
    }
    let w = world.borrow();
    (w.faults, w.reads, w.hits)
}

fn no_schedule_breaks_a_session(seeds: u64) {
    for setting in SETTINGS {
        let (mut reads, mut hits) = (0, 0);
        for seed in 0..seeds {
            let (faults, r, h) = run(seed, Off::Nothing, setting);
            assert_eq!(faults, 0, "seed {seed}, {setting:?}");
            (reads, hits) = (reads + r, hits + h);
        }
        assert!(hits * 20 > reads, "{hits} hits in {reads} reads: nothing was tried");
    }
}

#[test]
fn r47_r48_r49_no_schedule_of_two_proxies_breaks_a_session() {
    no_schedule_breaks_a_session(100);
}

#[test]
#[ignore = "by hand: 30,000 schedules"]
fn more_schedules() {
    no_schedule_breaks_a_session(5_000);
}

/// For each rule a schedule that shows it; `seeds_that_show_what_is_off` finds others when the model changes.
const SHOWN: [(Off, Setting, u64); 8] = [
    (Off::ForgetsTheUnverified, STRANGERS, 0),
    (Off::ComparesForeignInstants, RESTARTED, 0),
    (Off::MarksWritesBySendTime, STRANGERS, 3),
    (Off::NoFloor, WIDE, 35),
    (Off::MarksReadsBySendTime, UNSHARED, 794),
    (Off::ServesUnmet, RESTARTED, 0),
    (Off::LaterOfTwoFloors, WIDE, 310),
    (Off::NoSkew, LATE, 546),
];

#[test]
fn every_rule_turned_off_breaks_some_session() {
    for (off, setting, seed) in SHOWN {
        assert!(run(seed, off, setting).0 > 0, "{off:?} was not noticed");
        assert_eq!(run(seed, Off::Nothing, setting).0, 0, "{off:?} is not what was noticed");
    }
}

#[test]
#[ignore = "by hand: up to 60,000 schedules for each rule"]
fn seeds_that_show_what_is_off() {
    for (off, ..) in SHOWN {
        let mut tried = (0..10_000).flat_map(|seed| (0..SETTINGS.len()).map(move |n| (n, seed)));
        let found = tried.find(|(n, seed)| run(*seed, off, SETTINGS[*n]).0 > 0);
        println!("{off:?}: {found:?} (setting, seed)");
    }
}
