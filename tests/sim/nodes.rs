//! Nodes that keep what they have each for itself: a durable log of writes, a role and a term. What is modelled is what a client of such a
//! cluster can rely on, not its protocol: followers pull the log of the primary over links that may be cut, and an election gives the
//! longest log of those that can meet a new term.
//!
//! With `quorum` nothing is answered, and nothing shown, before most nodes have it: then no election loses anything. Without, what a
//! primary alone had is lost with its office; the moments from which a poorer history counts are noted for the judge.

use super::chance::Chance;
use super::cluster::{Cluster, Kind};
use super::disk::Platter;
use super::journal::Journal;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    term: u64,
    key: String,
    value: String,
}

#[derive(Clone, Debug, Default)]
struct Node {
    up: bool,
    /// It fails its probes, and does its work.
    sick: bool,
    /// It reaches no other node.
    apart: bool,
    /// Acts on nothing any more, by the operator's hook; since then.
    fenced: Option<u64>,
    primary: bool,
    /// It claims a term that was given to another, and asks nobody; so long was its log before.
    usurps: Option<usize>,
    term: u64,
    log: Vec<Entry>,
    /// Of a primary: how much of its log each node is known to have.
    matched: Vec<usize>,
    /// Where its own term begins.
    from: usize,
    /// Since when a deposed one could know.
    deposed_at: Option<u64>,
    /// The largest epoch it was told.
    epoch: u64,
}

/// The proxy went over to another node, or its own forgot something: what that one held when it was first asked.
#[derive(Clone, Debug)]
pub struct Reign {
    pub from: u64,
    pub held: BTreeMap<String, String>,
}

#[derive(Default)]
struct Inner {
    nodes: Vec<Node>,
    leaderless_since: Option<u64>,
    /// When somebody was made the primary.
    crowned: Vec<u64>,
    reigns: Vec<Reign>,
    /// The view in which the latest began.
    view: String,
    /// Since when something happens to the first node, when it was itself again after the last time, and whether another one was asked.
    out_since: Option<u64>,
    returned_at: u64,
    moved: bool,
    /// When it was asked too early.
    flaps: Vec<u64>,
}

pub struct Nodes {
    journal: Arc<Journal>,
    plan: Cluster,
    /// Of the proxy.
    platter: Arc<Platter>,
    inner: Mutex<Inner>,
    chance: Mutex<Chance>,
}

/// What became of a request to apply something.
pub enum Applied {
    /// So long was the log then.
    At(usize),
    /// With this answer.
    Refused(u16, Vec<(&'static str, String)>),
}

const MS: u64 = 1_000_000;
/// In so much time the proxy knows that a node is out.
const NOTICED_MS: u64 = 200;
/// How long a node is off that nobody brings back.
const FENCED_MS: u64 = 200;

impl Node {
    fn value(&self, key: &str, visible: usize) -> Option<&str> {
        let shown = &self.log[..visible.min(self.log.len())];
        shown.iter().rev().find(|e| e.key == key).map(|e| e.value.as_str())
    }

    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |e| e.term), self.log.len())
    }

    /// It follows from now on.
    fn abdicate(&mut self) {
        self.primary = false;
        self.deposed_at = None;
        if let Some(before) = self.usurps.take() {
            self.log.truncate(before);
        }
    }

    /// How much of its log most nodes have.
    fn committed(&self) -> usize {
        let mut matched = self.matched.clone();
        matched.sort_unstable_by_key(|len| std::cmp::Reverse(*len));
        matched.get(matched.len() / 2).copied().unwrap_or(0)
    }
}

impl Inner {
    fn happens(&mut self, n: usize, begins: bool, now: u64, stable: u64) {
        if n == 0 {
            // By then it may have taken over again, and nobody may have asked it.
            self.moved &= !begins || now < self.returned_at + stable;
            self.out_since = begins.then_some(now);
            self.returned_at = if begins { self.returned_at } else { now };
        }
    }
}

impl Nodes {
    pub fn new(journal: &Arc<Journal>, platter: &Arc<Platter>, plan: &Cluster, seed: u64, count: usize) -> Arc<Self> {
        let node = |n: usize| Node {
            up: true,
            primary: n == 0,
            term: 1,
            matched: vec![0; count],
            ..Node::default()
        };
        let inner = Inner {
            nodes: (0..count).map(node).collect(),
            ..Inner::default()
        };
        Arc::new(Self {
            journal: Arc::clone(journal),
            platter: Arc::clone(platter),
            plan: plan.clone(),
            inner: Mutex::new(inner),
            chance: Mutex::new(Chance::of(seed, 21)),
        })
    }

    /// What all of them have at first.
    pub fn fill(&self, key: &str, value: &str) {
        for node in &mut self.inner.lock().unwrap().nodes {
            let (key, value) = (key.to_owned(), value.to_owned());
            node.log.push(Entry { term: 1, key, value });
            node.matched.iter_mut().for_each(|len| *len = node.log.len());
        }
    }

    pub fn set_up(&self, n: usize, up: bool) {
        let mut inner = self.inner.lock().unwrap();
        inner.nodes[n].up = up;
        inner.happens(n, !up, self.journal.now(), self.plan.stable_ms * MS);
    }

    pub fn set_sick(&self, n: usize, sick: bool) {
        let mut inner = self.inner.lock().unwrap();
        inner.nodes[n].sick = sick;
        inner.happens(n, sick, self.journal.now(), self.plan.stable_ms * MS);
    }

    pub fn set_apart(&self, node: usize, apart: bool) {
        self.inner.lock().unwrap().nodes[node].apart = apart;
    }

    /// It claims the highest term there is, if that is another's and the proxy knows whose; or gives it up.
    pub fn usurp(&self, node: usize, claims: bool, views: &str) {
        let mut inner = self.inner.lock().unwrap();
        let highest = inner.nodes.iter().map(|n| n.term).max().unwrap_or(0);
        let rightful = inner.nodes.iter().position(|n| n.primary && n.term == highest);
        let known =
            rightful.is_some_and(|n| views.contains(&format!("\"term\":{{\"term\":{highest},\"node\":\"o{n}\"}}")));
        let node = &mut inner.nodes[node];
        if claims && !node.primary && known {
            (node.primary, node.usurps, node.term) = (true, Some(node.log.len()), highest);
        } else if !claims && node.usurps.is_some() {
            node.abdicate();
        }
    }

    /// Whether a probe passes, and what it is told.
    pub fn health(&self, n: usize) -> Option<Vec<(&'static str, String)>> {
        let inner = self.inner.lock().unwrap();
        let node = &inner.nodes[n];
        let off = node.fenced.is_some() && self.plan.kind == Kind::Mirrored;
        (!node.sick && !off).then(|| self.says(node))
    }

    pub fn said(&self, n: usize) -> Vec<(&'static str, String)> {
        self.says(&self.inner.lock().unwrap().nodes[n])
    }

    fn says(&self, node: &Node) -> Vec<(&'static str, String)> {
        if !self.plan.kind.is_replicated() {
            return Vec::new();
        }
        let role = if node.primary { "primary" } else { "replica" };
        vec![
            ("Node-Role", role.to_owned()),
            ("Node-Term", node.term.to_string()),
            ("Node-Position", node.log.len().to_string()),
        ]
    }

    /// Whether it takes this at all.
    fn refuses(&self, node: &mut Node, write: bool, epoch: Option<u64>) -> Option<Applied> {
        if node.fenced.is_some() {
            return Some(Applied::Refused(503, self.says(node)));
        }
        if write && self.plan.kind.is_replicated() && !node.primary {
            return Some(Applied::Refused(421, self.says(node)));
        }
        if let Some(epoch) = epoch.filter(|_| write) {
            if epoch < node.epoch {
                let mut said = self.says(node);
                said.push(("Tidegate-Epoch", node.epoch.to_string()));
                return Some(Applied::Refused(412, said));
            }
            node.epoch = epoch;
        }
        None
    }

    /// Applies a write, of all its registers at once.
    pub fn apply(&self, n: usize, keys: &[&str], value: &str, epoch: Option<u64>) -> Applied {
        let mut inner = self.inner.lock().unwrap();
        let node = &mut inner.nodes[n];
        if let Some(refused) = self.refuses(node, true, epoch) {
            return refused;
        }
        for key in keys {
            node.log.push(Entry {
                term: node.term,
                key: (*key).to_owned(),
                value: value.to_owned(),
            });
        }
        node.matched[n] = node.log.len();
        Applied::At(node.log.len())
    }

    /// Waits until what was applied may be answered. False: it never may.
    pub async fn committed(&self, n: usize, at: usize) -> bool {
        let term = {
            let inner = self.inner.lock().unwrap();
            let node = &inner.nodes[n];
            if !self.plan.quorum || node.usurps.is_some() {
                return true;
            }
            node.term
        };
        loop {
            {
                let inner = self.inner.lock().unwrap();
                let node = &inner.nodes[n];
                if !node.primary || node.term != term {
                    return false;
                }
                if node.committed() >= at {
                    return true;
                }
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// What a node shows of a register; waits for what it must know first. The refusal, where it shows nothing.
    pub async fn show(&self, n: usize, key: &str) -> Result<Option<String>, u16> {
        loop {
            {
                let mut inner = self.inner.lock().unwrap();
                let node = &mut inner.nodes[n];
                if let Some(Applied::Refused(status, _)) = self.refuses(node, false, None) {
                    return Err(status);
                }
                let bound = self.plan.quorum && node.primary && node.usurps.is_none();
                let visible = if bound { node.committed() } else { node.log.len() };
                if !bound || visible >= node.from {
                    return Ok(node.value(key, visible).map(str::to_owned));
                }
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// The proxy asks a node.
    pub fn asked(&self, n: usize, at: u64) {
        let mut inner = self.inner.lock().unwrap();
        let view = self.platter.text("/state/views");
        let (epoch, primary) = (first(&view, "epoch"), first(&view, "primary"));
        let reign = format!("{epoch} {primary}");
        if primary == format!("\"o{n}\"") && inner.view != reign {
            let held = held(&inner.nodes[n]);
            inner.reigns.push(Reign { from: at, held });
            inner.view = reign;
        }
        let stable = self.plan.stable_ms * MS;
        let known_out = inner.out_since.is_some_and(|since| at > since + NOTICED_MS * MS);
        if n != 0 {
            // What is not noticed moves nothing.
            inner.moved |= inner.out_since.is_none() || known_out;
            return;
        }
        if std::mem::take(&mut inner.moved) && (known_out || at < inner.returned_at + stable) {
            inner.flaps.push(at);
        }
    }

    /// When the last of so many was made the primary.
    pub fn crowned(&self, times: u64) -> Option<u64> {
        let crowned = &self.inner.lock().unwrap().crowned;
        crowned.get(times as usize - 1).copied()
    }

    pub fn reigns(&self) -> Vec<Reign> {
        self.inner.lock().unwrap().reigns.clone()
    }

    pub fn flaps(&self) -> Vec<u64> {
        self.inner.lock().unwrap().flaps.clone()
    }

    /// Everything a node holds.
    pub fn held(&self, n: usize) -> BTreeMap<String, String> {
        held(&self.inner.lock().unwrap().nodes[n])
    }

    /// Time goes by: followers pull, elections happen.
    pub async fn live(self: Arc<Self>) -> turmoil::Result {
        loop {
            sleep(Duration::from_millis(self.plan.lag_ms)).await;
            let now = self.journal.now();
            let mut inner = self.inner.lock().unwrap();
            if self.plan.kind.is_replicated() {
                self.step_down(&mut inner, now);
                if self.plan.kind == Kind::Followed {
                    self.elect(&mut inner, now);
                }
                self.pull(&mut inner);
            } else {
                // What was switched off is switched on again, with what it had.
                for node in &mut inner.nodes {
                    node.fenced = node.fenced.filter(|since| now < since + FENCED_MS * MS);
                }
            }
        }
    }

    fn step_down(&self, inner: &mut Inner, now: u64) {
        for n in 0..inner.nodes.len() {
            let higher =
                |m: usize| meets(inner, n, m) && inner.nodes[m].primary && inner.nodes[m].term > inner.nodes[n].term;
            let deposed = inner.nodes[n].primary && (0..inner.nodes.len()).any(higher);
            let node = &mut inner.nodes[n];
            if !deposed {
                node.deposed_at = None;
                continue;
            }
            let since = *node.deposed_at.get_or_insert(now);
            // Who is to take over again must follow first.
            let careless = if n == 0 && self.plan.failback {
                0
            } else {
                self.plan.careless_ms
            };
            if now >= since + careless * MS {
                node.abdicate();
                self.journal.note("net", format!("o{n} steps down"));
            }
        }
    }

    fn elect(&self, inner: &mut Inner, now: u64) {
        let count = inner.nodes.len();
        let most = |group: &[usize]| group.len() * 2 > count || !self.plan.quorum;
        let group = |inner: &Inner, n: usize| -> Vec<usize> {
            (0..count)
                .filter(|m| *m == n || meets(inner, n, *m) && inner.nodes[*m].usurps.is_none())
                .collect()
        };
        let highest = inner
            .nodes
            .iter()
            .filter(|n| n.primary && n.usurps.is_none())
            .map(|n| n.term)
            .max();
        let leads = (0..count).any(|n| {
            let node = &inner.nodes[n];
            let heard = group(inner, n).len() * 2 > count;
            node.up && node.primary && node.usurps.is_none() && Some(node.term) == highest && heard
        });
        if leads {
            inner.leaderless_since = None;
            return;
        }
        let since = *inner.leaderless_since.get_or_insert(now);
        if now < since + self.plan.election_ms * MS {
            return;
        }
        let candidates = (0..count).filter(|n| {
            let node = &inner.nodes[*n];
            node.up && node.usurps.is_none() && !(node.primary && Some(node.term) == highest) && most(&group(inner, *n))
        });
        // The least number of equal ones.
        let best = candidates.max_by_key(|n| (inner.nodes[*n].last(), std::cmp::Reverse(*n)));
        let returned = (0..count).find(|n| {
            let node = &inner.nodes[*n];
            node.up && node.primary && node.usurps.is_none() && Some(node.term) == highest
        });
        // A primary whose followers are gone needs no other term, when it can be heard.
        if let Some(n) = best.filter(|n| returned.is_none_or(|r| !meets(inner, *n, r))) {
            self.crown(inner, n);
            inner.leaderless_since = None;
        }
    }

    /// Makes a node the primary of a new term.
    fn crown(&self, inner: &mut Inner, n: usize) {
        let term = inner.nodes.iter().map(|node| node.term).max().unwrap_or(0) + 1;
        inner.crowned.push(self.journal.now());
        let node = &mut inner.nodes[n];
        let count = node.matched.len();
        (node.primary, node.usurps, node.term) = (true, None, term);
        node.fenced = None;
        node.matched = vec![0; count];
        if self.plan.quorum {
            // With an entry of its own it makes those before it its own.
            node.log.push(Entry {
                term,
                key: String::new(),
                value: String::new(),
            });
        }
        node.from = node.log.len();
        node.matched[n] = node.log.len();
        self.journal.note(
            "net",
            format!("o{n} is the primary of term {term} at {}", node.log.len()),
        );
    }

    /// Each follower takes over what the primary of the highest term it meets has, and forgets what that one has not.
    fn pull(&self, inner: &mut Inner) {
        for f in 0..inner.nodes.len() {
            if inner.nodes[f].primary || !inner.nodes[f].up {
                continue;
            }
            let sources = (0..inner.nodes.len()).filter(|s| {
                let source = &inner.nodes[*s];
                meets(inner, f, *s) && source.primary && source.usurps.is_none() && source.term >= inner.nodes[f].term
            });
            let Some(s) = sources.max_by_key(|s| inner.nodes[*s].term) else {
                continue;
            };
            let (term, log) = (inner.nodes[s].term, inner.nodes[s].log.clone());
            let follower = &mut inner.nodes[f];
            let common = follower.log.iter().zip(&log).take_while(|(a, b)| a == b).count();
            if common < follower.log.len() {
                self.journal.note("net", format!("o{f} forgets what follows {common}"));
            }
            (follower.term, follower.fenced) = (term, None);
            let forgot = common < follower.log.len();
            follower.log = log;
            let len = follower.log.len();
            // The proxy's primary, deposed without its knowledge, is not what it was: as much as a change of hands.
            if forgot && inner.view.ends_with(&format!("\"o{f}\"")) {
                let held = held(&inner.nodes[f]);
                inner.reigns.push(Reign {
                    from: self.journal.now(),
                    held,
                });
            }
            inner.nodes[s].matched[f] = len;
        }
    }

    /// A hook of the proxy: its exit code, and how long it takes.
    pub fn hook(&self, argv: &[String]) -> (i32, Duration) {
        let mut chance = self.chance.lock().unwrap();
        let took = Duration::from_millis(chance.below(self.plan.hooks_ms + 1));
        let fails = chance.percent(self.plan.hooks_fail_percent);
        let halfway = chance.percent(50);
        let [what, node, epoch] = argv else { return (64, took) };
        let n: usize = node[1..].parse().unwrap();
        let epoch: u64 = epoch.parse().unwrap();
        let mut inner = self.inner.lock().unwrap();
        let acts = !fails || halfway;
        let mut code = i32::from(fails);
        match what.as_str() {
            "fence" if acts => {
                inner.nodes[n].fenced = Some(self.journal.now());
                inner.nodes[n].epoch = inner.nodes[n].epoch.max(epoch);
            }
            "promote" if !inner.nodes[n].up => code = 1,
            "promote" if acts => self.crown(&mut inner, n),
            _ => {}
        }
        self.journal
            .note("hook", format!("{} ends with {code} in {took:?}", argv.join(" ")));
        (code, took)
    }
}

/// The text of a view's field, up to the next one.
fn first<'v>(view: &'v str, field: &str) -> &'v str {
    let rest = view.split_once(&format!("\"{field}\":")).map_or("", |(_, rest)| rest);
    rest.split(',').next().unwrap_or("")
}

fn held(node: &Node) -> BTreeMap<String, String> {
    let entries = node.log.iter().filter(|e| !e.key.is_empty());
    entries.map(|e| (e.key.clone(), e.value.clone())).collect()
}

/// Whether two nodes hear each other.
fn meets(inner: &Inner, a: usize, b: usize) -> bool {
    let free = |n: usize| inner.nodes[n].up && !inner.nodes[n].apart;
    a != b && free(a) && free(b)
}
