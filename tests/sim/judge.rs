//! Whether what clients saw is what the contract promises. Strong routes are judged by `tidegate::verify`, from the history alone. For
//! the rest there is the truth: the origin's own account of which value was in force when.
//!
//! Every level: an answer is whole and shows a value that was written; what an acknowledged write or a purge has taken out of service
//! does not come back from the proxy that was told. Eventual: no older than the bound, and than it says. Weak: no older than its lifetime
//! allows. Calm worlds: whoever stays is answered, and what has arrived is applied.

use super::client::{Covers, Read, Write};
use super::ends;
use super::origin::{SERIAL, body_of};
use super::plan::Level;
use super::stage::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use tidegate::verify::history::{Kind, Operation, Outcome as Ended};
use tidegate::verify::zones;

/// More than a fetch may take from its start to its last byte, and twice that for one that waited.
const FETCH_NS: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

struct Judge<'a> {
    world: &'a Outcome,
    found: Vec<String>,
}

/// A read, and what it saw.
pub(super) struct Seen<'a> {
    pub(super) read: &'a Read,
    pub(super) value: String,
    /// From when on another value was in force.
    over: u64,
}

/// What is wrong with a world; nothing, if its contract held.
pub fn judge(world: &Outcome) -> Vec<String> {
    let mut judge = Judge {
        world,
        found: Vec::new(),
    };
    let seen = judge.contents();
    if world.plan.level.is_strong() {
        judge.proofs(&seen);
    }
    if let (Some(cluster), Some(ends)) = (&world.plan.cluster, &world.ends) {
        judge.found.extend(ends::judge(world, cluster, ends, &seen));
    } else {
        judge.visibility(&seen);
        judge.age(&seen);
        if world.plan.level.is_strong() {
            judge.strong(&seen);
        }
    }
    if world.plan.session {
        judge.session(&seen);
    }
    if world.plan.is_calm() {
        judge.calm();
    }
    judge.found
}

impl Judge<'_> {
    fn blame(&mut self, what: &str, read: &Read, because: String) {
        self.found.push(format!(
            "{what}: client {} read {} at proxy {} from {} to {}: {} {} [{}] {}: {because}",
            read.client,
            read.target,
            read.proxy,
            read.start,
            read.end,
            read.answer.status,
            read.answer.get("etag"),
            read.answer.get("cache-status"),
            read.answer.get("tidegate-consistency"),
        ));
    }

    /// What each answer shows; whatever is not one whole representation of a written value is blamed.
    fn contents<'w>(&mut self) -> Vec<Seen<'w>>
    where
        Self: 'w,
    {
        let world = self.world;
        let mut parts = BTreeSet::new();
        let mut seen = Vec::new();
        for read in &world.told.reads {
            let answer = &read.answer;
            if !matches!(answer.status, 200 | 206 | 304 | 404) {
                continue;
            }
            let tag = answer.get("etag").trim_matches('"');
            let Some(value) = tag.strip_suffix(&format!(".{}", read.variant)) else {
                self.blame("another variant", read, format!("wanted {}", read.variant));
                continue;
            };
            let whole = body_of(value, read.variant);
            let (whole, body) = (whole.as_bytes(), answer.body.as_slice());
            let right = match (read.method, answer.status) {
                ("HEAD", _) | (_, 304) => body.is_empty(),
                (_, 206) if answer.get("content-range").starts_with("bytes 0-49/") => body == &whole[..50],
                (_, 206) => body == &whole[..whole.len() / 2],
                _ => body == whole,
            };
            if !right {
                self.blame("torn", read, String::from_utf8_lossy(body).into_owned());
                continue;
            }
            if answer.status == 206 && !read.ranged && !parts.insert(answer.get(SERIAL)) {
                self.blame("a part in place of the whole", read, "it was another's".to_owned());
            }
            let reigns = world.origin.registers.get(&read.key).map_or(&[][..], Vec::as_slice);
            let Some(at) = reigns.iter().rposition(|(_, v)| v == value) else {
                self.blame("a value that never was", read, value.to_owned());
                continue;
            };
            let over = reigns.get(at + 1).map_or(u64::MAX, |(from, _)| *from);
            let value = value.to_owned();
            seen.push(Seen { read, value, over });
        }
        seen
    }

    /// When a value came into force.
    fn applied(&self, key: &str, value: &str) -> Option<u64> {
        let reigns = self.world.origin.registers.get(key)?;
        reigns.iter().find(|(_, v)| v == value).map(|(from, _)| *from)
    }

    /// What was taken out of service stays out.
    fn visibility(&mut self, seen: &[Seen<'_>]) {
        let world = self.world;
        let strong = world.plan.level.is_strong();
        for write in world.told.writes.iter().filter(|w| w.outcome == Ended::Ok) {
            let Some(proxy) = write.proxy else { continue };
            for key in std::iter::once(&write.key).chain(&write.also) {
                let Some(applied) = self.applied(key, &write.value) else {
                    self.found
                        .push(format!("an acknowledged write was never applied: {write:?}"));
                    continue;
                };
                let stale = |s: &&Seen<'_>| {
                    let told = s.read.proxy == proxy || strong;
                    told && s.read.key == *key && s.read.start > write.end && s.over <= applied
                };
                if let Some(stale) = seen.iter().find(stale) {
                    let because = format!(
                        "{:?} was over at {}, before {:?} was acknowledged at {}",
                        stale.value, stale.over, write.value, write.end
                    );
                    let what = if *key == write.key {
                        "stale after an acknowledged write"
                    } else {
                        "stale after an acknowledged write that named it"
                    };
                    self.blame(what, stale.read, because);
                }
            }
        }
        for purge in &world.told.purges {
            let stale = |s: &&Seen<'_>| {
                let covered = match &purge.covers {
                    Covers::All => true,
                    Covers::Target(target) => s.read.target == *target,
                    Covers::Group(prefix) => s.read.key.starts_with(prefix),
                };
                covered && s.read.proxy == purge.proxy && s.read.start > purge.end && s.over <= purge.start
            };
            if let Some(stale) = seen.iter().find(stale) {
                let because = format!("{:?} was over before the purge at {}", stale.value, purge.start);
                self.blame("stale after a purge", stale.read, because);
            }
        }
    }

    fn age(&mut self, seen: &[Seen<'_>]) {
        let plan = &self.world.plan;
        let bound = match plan.level {
            Level::Weak => (plan.ttl_ms + plan.refresh_ms) * MS + FETCH_NS,
            Level::Eventual => plan.bound_ms * MS,
            Level::External | Level::Exclusive => return,
        };
        for s in seen {
            let says = s.read.answer.get("tidegate-consistency");
            let breached = says.contains("breached");
            if breached && (!plan.stale || plan.is_calm()) {
                let because = format!("on_unreachable stale: {}, {:?}", plan.stale, plan.weather);
                self.blame("breached where that is refused", s.read, because);
            }
            // A weak route gives a client what it asks for.
            let asked = plan.level == Level::Weak && s.read.lenient;
            if !breached && !asked && s.over.saturating_add(bound) <= s.read.start {
                let because = format!("{:?} was over at {}, bound {bound} ns", s.value, s.over);
                self.blame("older than the bound", s.read, because);
            }
            let staleness = says.split(';').find_map(|p| p.trim().strip_prefix("staleness="));
            if let Some(staleness) = staleness.and_then(|ms| ms.parse::<u64>().ok())
                && s.over.saturating_add((staleness + 1) * MS) <= s.read.start
            {
                let because = format!("{:?} was over at {}", s.value, s.over);
                self.blame("older than it says", s.read, because);
            }
        }
    }

    fn proofs(&mut self, seen: &[Seen<'_>]) {
        for s in seen {
            if s.read.answer.status != 206 && !s.read.answer.get("tidegate-consistency").starts_with("strong;proof=") {
                self.blame("without a proof", s.read, String::new());
            }
        }
    }

    /// Linearizable, nothing acknowledged lost, nothing written twice.
    fn strong(&mut self, seen: &[Seen<'_>]) {
        let world = self.world;
        let mut history = Vec::new();
        let mut last = BTreeMap::new();
        for (key, reigns) in world.origin.registers.iter().filter(|(k, _)| k.starts_with("/k/")) {
            for (twice, _) in reigns
                .iter()
                .enumerate()
                .filter(|(at, (_, value))| reigns[..*at].iter().any(|(_, v)| v == value))
            {
                self.found.push(format!(
                    "sent again after it may have been applied: {key} {:?}",
                    reigns[twice]
                ));
            }
            history.push(operation(
                key,
                Kind::Write,
                &reigns[0].1,
                (reigns[0].0, reigns[0].0),
                "at first",
            ));
            let end = world.told.reads.iter().map(|r| r.end).max().unwrap_or(0) + 1;
            let value = &reigns[reigns.len() - 1].1;
            history.push(operation(key, Kind::Read, value, (end, end), "at the store"));
            last.insert(key.clone(), Some(value.clone()));
        }
        history.extend(
            world
                .told
                .writes
                .iter()
                .filter(|w| w.key.starts_with("/k/"))
                .map(of_write),
        );
        history.extend(seen.iter().filter(|s| s.read.key.starts_with("/k/")).map(of_read));
        history.sort_by_key(|o| o.start_ns);
        match zones::judge(&history) {
            Ok(verdict) => {
                if let Some(clearest) = verdict.clearest() {
                    self.found.push(clearest.to_string());
                }
            }
            Err(malformed) => self.found.push(malformed.to_string()),
        }
        let lost = zones::lost_writes(&history, &last);
        self.found.extend(lost.iter().map(ToString::to_string));
    }

    /// Read-your-writes and monotonic reads, of one client and one register.
    fn session(&mut self, seen: &[Seen<'_>]) {
        let world = self.world;
        let bound = |s: &&Seen<'_>| !s.read.answer.get("tidegate-consistency").contains("breached");
        for s in seen.iter().filter(bound) {
            let (client, key) = (s.read.client, &s.read.key);
            for write in world
                .told
                .writes
                .iter()
                .filter(|w| w.client == client && w.proxy.is_some())
            {
                if write.outcome == Ended::Ok
                    && write.key == *key
                    && write.end < s.read.start
                    && self.applied(key, &write.value).is_some_and(|at| s.over <= at)
                {
                    let because = format!("{:?} was over before {:?}", s.value, write.value);
                    self.blame("not its own write", s.read, because);
                }
            }
            let before = seen
                .iter()
                .filter(|e| e.read.client == client && e.read.key == *key && e.read.end < s.read.start);
            for earlier in before {
                if self.applied(key, &earlier.value).is_some_and(|at| s.over <= at) {
                    let because = format!("{:?} was over before {:?}, which it had seen", s.value, earlier.value);
                    self.blame("back in time", s.read, because);
                }
            }
        }
    }

    /// Nothing but slowness and clients that leave.
    fn calm(&mut self) {
        let world = self.world;
        for what in &world.told.unanswered {
            self.found.push(format!("without an answer in a calm world: {what}"));
        }
        for read in &world.told.reads {
            if !matches!(read.answer.status, 200 | 206 | 304 | 404) {
                self.blame("failed in a calm world", read, String::new());
            }
        }
        for write in &world.told.writes {
            if write.outcome != Ended::Ok && !write.abandoned {
                self.found.push(format!("failed in a calm world: {write:?}"));
            }
            let arrived = world.origin.arrived.contains(&write.value);
            if arrived && self.applied(&write.key, &write.value).is_none() {
                self.found
                    .push(format!("given up because its client had left: {write:?}"));
            }
        }
    }
}

pub(super) fn operation(key: &str, kind: Kind, value: &str, (start_ns, end_ns): (u64, u64), how: &str) -> Operation {
    Operation {
        key: key.to_owned(),
        client: u32::MAX,
        kind,
        value: value.to_owned(),
        start_ns,
        end_ns,
        outcome: Ended::Ok,
        how: how.to_owned(),
    }
}

pub(super) fn of_write(write: &Write) -> Operation {
    Operation {
        client: write.client,
        outcome: write.outcome,
        ..operation(
            &write.key,
            Kind::Write,
            &write.value,
            (write.start, write.end),
            &write.how,
        )
    }
}

pub(super) fn of_read(seen: &Seen<'_>) -> Operation {
    let read = seen.read;
    let how = format!(
        "{} {} {} {} [{}]",
        read.method,
        read.target,
        read.answer.status,
        read.answer.get("tidegate-consistency"),
        read.answer.get("cache-status")
    );
    Operation {
        client: read.client,
        ..operation(&read.key, Kind::Read, &seen.value, (read.start, read.end), &how)
    }
}
