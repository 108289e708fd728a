//! A bounded load on a running deployment, recorded: clients that read and write a few keys, each a session, at one or several proxies.
//! Every key is written once before, so that what an earlier run left is nobody's answer, and read once after at every
//! proxy, past every cache.

use super::client::{Client, Ended, Place, is_of_another, value};
use super::history::{Kind, Operation, Outcome};
use super::progress::Progress;
use super::record::{NOTHING, Recorded};
use crate::core::time::{MonoTime, Span};
use crate::world::World;
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use super::client::Place as Proxy;

/// How often a read or write at the beginning or end is tried.
const TRIES: u32 = 10;

/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);

/// What to do, and how much of it.
#[derive(Clone, Debug)]
pub struct Load {
    /// The proxies, with the path below which the keys are; clients go from one to the other.
    pub proxies: Vec<Place>,
    /// Fields of every request.
    pub fields: HeaderMap,
    /// Sessions at once.
    pub clients: u32,
    /// Registers.
    pub keys: u32,
    /// Requests in all, at most.
    pub operations: u64,
    /// For how long, at most.
    pub seconds: u64,
    /// Requests a second in all, at most.
    pub rate: u64,
    /// How many of a hundred requests are writes.
    pub write_percent: u64,
}

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct Driven {
    /// By start.
    pub history: Vec<Recorded>,
    /// Reads that a cache answered from memory.
    pub hits: u64,
    /// Keys whose end could not be read.
    pub unread: Vec<String>,
}

/// Why nothing was driven.
#[derive(Debug, thiserror::Error)]
pub enum NotDriven {
    /// The first write to a key failed for good.
    #[error("{key}: the first write was never acknowledged: {how}")]
    NoStart {
        /// The key.
        key: String,
        /// How the last try ended.
        how: String,
    },
    /// A task of ours ended without a word.
    #[error("a client ended early: {0}")]
    Client(#[from] tokio::task::JoinError),
}

/// What the clients share.
struct Shared {
    world: World,
    load: Load,
    run: u64,
    /// Requests that were begun.
    begun: AtomicU64,
    progress: Progress,
}

/// The name of a key, below the path of its proxy.
#[must_use]
pub fn key(number: u32) -> String {
    format!("tidegate-verify-{number}")
}

/// Runs the load to its end.
///
/// # Errors
/// When a key could not be written at the beginning.
pub async fn drive(load: &Load, world: &World) -> Result<Driven, NotDriven> {
    let shared = Arc::new(Shared {
        world: world.clone(),
        load: load.clone(),
        run: world.entropy.next_u64(),
        begun: AtomicU64::new(0),
        progress: Progress::new(world.clock.mono(), load.operations),
    });
    let mut driven = Driven::default();
    begin(&shared, &mut driven).await?;
    let deadline = world.clock.mono().after(Span::from_secs(load.seconds));
    let clients: Vec<_> = (0..load.clients)
        .map(|id| tokio::spawn(play(Arc::clone(&shared), id, deadline)))
        .collect();
    for client in clients {
        let (history, hits) = client.await?;
        driven.history.extend(history);
        driven.hits += hits;
    }
    shared.progress.over(world.clock.mono());
    end(&shared, &mut driven).await;
    driven.history.sort_by_key(|one| one.operation.start_ns);
    count_from_first(&mut driven.history);
    Ok(driven)
}

/// Sets the clock to zero at the first request: nobody wants to read the machine's uptime.
fn count_from_first(history: &mut [Recorded]) {
    let zero = history.first().map_or(0, |one| one.operation.start_ns);
    for one in history {
        one.operation.start_ns = one.operation.start_ns.saturating_sub(zero);
        one.operation.end_ns = one.operation.end_ns.saturating_sub(zero);
    }
}

/// Writes every key once.
async fn begin(shared: &Shared, driven: &mut Driven) -> Result<(), NotDriven> {
    let mut session = Session::new(shared, shared.load.clients);
    for number in 0..shared.load.keys {
        let mut tries = 0;
        loop {
            tries += 1;
            let one = session.write(shared, 0, number).await;
            let (outcome, how) = (one.operation.outcome, one.operation.how.clone());
            driven.history.push(one);
            if outcome == Outcome::Ok {
                break;
            }
            if tries == TRIES {
                return Err(NotDriven::NoStart { key: key(number), how });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Reads every key once at every proxy, past every cache.
async fn end(shared: &Shared, driven: &mut Driven) {
    let mut session = Session::new(shared, shared.load.clients + 1);
    for number in 0..shared.load.keys {
        let mut read = true;
        for proxy in 0..shared.load.proxies.len() {
            read &= ends_with(&mut session, shared, driven, (proxy, number)).await;
        }
        if !read {
            driven.unread.push(key(number));
        }
    }
}

/// Whether one proxy told what a key holds.
async fn ends_with(session: &mut Session, shared: &Shared, driven: &mut Driven, (proxy, number): (usize, u32)) -> bool {
    for tries in 1..=TRIES {
        let (mut one, _) = session.read(shared, proxy, number, true).await;
        one.last = one.operation.outcome == Outcome::Ok;
        let read = one.last;
        driven.history.push(one);
        if read {
            return true;
        }
        if tries < TRIES {
            tokio::time::sleep(PAUSE).await;
        }
    }
    false
}

/// One client, until the load is over.
async fn play(shared: Arc<Shared>, id: u32, deadline: MonoTime) -> (Vec<Recorded>, u64) {
    let load = &shared.load;
    let mut chance = Chance(shared.run ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut session = Session::new(&shared, id);
    let (mut history, mut hits) = (Vec::new(), 0);
    // Each has its share of the rate, and its place in the round.
    let pace = 1_000_000 * u64::from(load.clients) / load.rate.max(1);
    let mut due = now_us(&shared.world) + pace * u64::from(id) / u64::from(load.clients.max(1));
    loop {
        let now = now_us(&shared.world);
        tokio::time::sleep(Duration::from_micros(due.saturating_sub(now))).await;
        // What was late is not made up for: the rate is a bound.
        due = due.max(now) + pace;
        let is_over = shared.world.clock.mono() >= deadline;
        if is_over || shared.begun.fetch_add(1, Ordering::Relaxed) >= load.operations {
            return (history, hits);
        }
        let proxy = chance.below(load.proxies.len() as u64);
        let proxy = usize::try_from(proxy).unwrap_or(0);
        let number = u32::try_from(chance.below(u64::from(load.keys))).unwrap_or(0);
        let one = if chance.below(100) < load.write_percent {
            session.write(&shared, proxy, number).await
        } else {
            let (one, hit) = session.read(&shared, proxy, number, false).await;
            hits += u64::from(hit);
            one
        };
        let now = shared.world.clock.mono();
        shared.progress.step(now, one.operation.outcome == Outcome::Ok);
        history.push(one);
    }
}

/// One client's session, recorded.
struct Session {
    id: u32,
    client: Client,
    written: u64,
}

impl Session {
    fn new(shared: &Shared, id: u32) -> Self {
        Self {
            id,
            client: Client::new(&shared.world, &shared.load.fields),
            written: 0,
        }
    }

    async fn read(&mut self, shared: &Shared, proxy: usize, number: u32, fresh: bool) -> (Recorded, bool) {
        let Some(place) = shared.load.proxies.get(proxy) else {
            return (self.recorded(shared, Kind::Read, number, (0, false), nowhere()), false);
        };
        let begun = (now_ns(&shared.world), self.client.has_token());
        let mut ended = self.client.read((proxy, place), &key(number), fresh).await;
        if is_of_another(shared.run, &ended.value) {
            ended.how = format!("{}, {} of another run", ended.how, ended.value);
            NOTHING.clone_into(&mut ended.value);
        }
        let hit = ended.hit;
        (self.recorded(shared, Kind::Read, number, begun, ended), hit)
    }

    async fn write(&mut self, shared: &Shared, proxy: usize, number: u32) -> Recorded {
        let Some(place) = shared.load.proxies.get(proxy) else {
            return self.recorded(shared, Kind::Write, number, (0, false), nowhere());
        };
        self.written += 1;
        let value = value(shared.run, self.id, self.written);
        let begun = (now_ns(&shared.world), self.client.has_token());
        let ended = self.client.write((proxy, place), &key(number), &value).await;
        let ended = Ended { value, ..ended };
        self.recorded(shared, Kind::Write, number, begun, ended)
    }

    fn recorded(
        &self,
        shared: &Shared,
        kind: Kind,
        number: u32,
        (start_ns, token): (u64, bool),
        ended: Ended,
    ) -> Recorded {
        Recorded {
            operation: Operation {
                key: key(number),
                client: self.id,
                kind,
                value: ended.value,
                start_ns,
                end_ns: now_ns(&shared.world).max(start_ns),
                outcome: ended.outcome,
                how: ended.how,
            },
            consistency: ended.consistency,
            token,
            last: false,
        }
    }
}

/// There is no such proxy: a load has at least one.
fn nowhere() -> Ended {
    Ended {
        outcome: Outcome::Failed,
        value: String::new(),
        consistency: String::new(),
        hit: false,
        how: "no proxy".to_owned(),
    }
}

fn now_us(world: &World) -> u64 {
    world.clock.mono().as_micros()
}

fn now_ns(world: &World) -> u64 {
    now_us(world).saturating_mul(1000)
}

/// Numbers that look random (SplitMix64): which key and what, no more.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
