//! A replicated backend that answers by itself: any number of nodes over one store, strong ETags, conditional requests. The test
//! counts what it saw, holds requests at named points, and writes behind the proxy's back.

use super::origin::{Exchange, Origin};
use super::wire::Headers;
use super::within;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

/// A request as a node saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The node's name.
    pub node: String,
    pub method: String,
    pub target: String,
    pub headers: Headers,
    pub body: String,
}

/// Where a request is held.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// It arrived; the store has not been asked.
    Arrived,
    /// The store has been read or changed; no byte of the answer has been sent.
    Applied,
    /// The head and half of the body have been sent.
    MidBody,
}

struct Value {
    body: String,
    etag: String,
}

struct Trap {
    method: String,
    path: String,
    point: Point,
    caught: mpsc::UnboundedSender<Held>,
}

#[derive(Default)]
struct State {
    values: BTreeMap<String, Value>,
    version: u64,
    answer_with: Vec<(String, String, String)>,
    /// Writes of an earlier epoch are refused (R54).
    fence: Option<u64>,
    seen: Vec<Seen>,
    traps: Vec<Trap>,
}

/// The store.
#[derive(Clone, Default)]
pub struct Register(Arc<Mutex<State>>);

/// A node of the register.
pub struct Node {
    pub name: String,
    pub address: SocketAddr,
    control: mpsc::UnboundedSender<Control>,
}

enum Control {
    Down(oneshot::Sender<()>),
    Up(oneshot::Sender<()>),
    Healthy(bool, oneshot::Sender<()>),
}

/// Holds matching requests while it lives; they come out of [`Hold::next`].
pub struct Hold {
    caught: mpsc::UnboundedReceiver<Held>,
}

/// A request that waits. Dropping it lets it go on.
pub struct Held {
    pub seen: Seen,
    verdict: oneshot::Sender<Verdict>,
}

enum Verdict {
    Reset,
    Close,
    Answer(u16),
}

impl Register {
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Refuses writes of an earlier epoch from now on, in the name of this one.
    pub fn fence(&self, epoch: u64) {
        self.state().fence = Some(epoch);
    }

    /// Starts a node over this store.
    pub async fn node(&self, name: &str) -> Node {
        let mut origin = Origin::start().await;
        let (control, mut orders) = mpsc::unbounded_channel();
        let node = Node {
            name: name.to_owned(),
            address: origin.address,
            control,
        };
        let register = self.clone();
        let name = name.to_owned();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    exchange = origin.next_or_never() => {
                        tokio::spawn(register.clone().serve(name.clone(), exchange));
                    }
                    order = orders.recv() => {
                        let done = match order {
                            Some(Control::Down(done)) => { origin.down().await; done }
                            Some(Control::Up(done)) => { origin.up().await; done }
                            Some(Control::Healthy(healthy, done)) => { origin.set_healthy(healthy); done }
                            None => return,
                        };
                        let _ = done.send(());
                    }
                }
            }
        });
        node
    }

    /// A write that no proxy sees. Answers the new ETag.
    pub fn write(&self, path: &str, body: &str) -> String {
        let mut state = self.state();
        state.version += 1;
        let etag = format!("\"v{}\"", state.version);
        let value = Value {
            body: body.to_owned(),
            etag: etag.clone(),
        };
        state.values.insert(path.to_owned(), value);
        etag
    }

    /// What is stored now.
    pub fn read(&self, path: &str) -> Option<String> {
        self.state().values.get(path).map(|v| v.body.clone())
    }

    /// A field on every later answer for `path` (`*`: every path). `ETag` replaces the register's own; an empty one removes it.
    pub fn answer_with(&self, path: &str, name: &str, value: &str) {
        self.state()
            .answer_with
            .push((path.to_owned(), name.to_owned(), value.to_owned()));
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// How many requests of this method came for this target.
    pub fn count(&self, method: &str, target: &str) -> usize {
        let state = self.state();
        state
            .seen
            .iter()
            .filter(|s| s.method == method && s.target == target)
            .count()
    }

    /// How many requests of any kind a node has seen.
    pub fn count_at(&self, node: &str) -> usize {
        self.state().seen.iter().filter(|s| s.node == node).count()
    }

    /// From now on every such request waits at `point` until the test lets it go.
    pub fn hold(&self, method: &str, path: &str, point: Point) -> Hold {
        let (sender, caught) = mpsc::unbounded_channel();
        self.state().traps.push(Trap {
            method: method.to_owned(),
            path: path.to_owned(),
            point,
            caught: sender,
        });
        Hold { caught }
    }

    async fn at(&self, point: Point, seen: &Seen) -> Option<Verdict> {
        let verdict = {
            let mut state = self.state();
            state.traps.retain(|t| !t.caught.is_closed());
            let path = path_of(&seen.target);
            let trap = state
                .traps
                .iter()
                .find(|t| t.point == point && t.method == seen.method && t.path == path)?;
            let (verdict, waits) = oneshot::channel();
            let held = Held {
                seen: seen.clone(),
                verdict,
            };
            trap.caught.send(held).ok()?;
            waits
        };
        verdict.await.ok()
    }

    async fn serve(self, node: String, mut exchange: Exchange) {
        let Ok(body) = exchange.try_body().await else { return };
        let seen = Seen {
            node,
            method: exchange.method.clone(),
            target: exchange.target.clone(),
            headers: exchange.headers.clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        self.state().seen.push(seen.clone());
        if let Some(verdict) = self.at(Point::Arrived, &seen).await {
            return carry_out(verdict, exchange).await;
        }
        let (status, headers, body) = self.apply(&seen);
        if let Some(verdict) = self.at(Point::Applied, &seen).await {
            return carry_out(verdict, exchange).await;
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let held = self
            .state()
            .traps
            .iter()
            .any(|t| t.point == Point::MidBody && t.method == seen.method && t.path == path_of(&seen.target));
        if !held || body.len() < 2 {
            let _ = exchange.try_respond(status, &headers, body).await;
            return;
        }
        let length = body.len().to_string();
        let mut all = headers;
        all.push(("Content-Length", &length));
        exchange.head(status, &all).await;
        let (first, rest) = body.split_at(body.len() / 2);
        exchange.send(first).await;
        if let Some(verdict) = self.at(Point::MidBody, &seen).await {
            return carry_out(verdict, exchange).await;
        }
        if exchange.try_send(rest).await.is_ok() {
            exchange.keep();
        }
    }

    /// What an application does: one step, one store.
    fn apply(&self, seen: &Seen) -> (u16, Vec<(String, String)>, String) {
        let path = path_of(&seen.target).to_owned();
        let current = self.state().values.get(&path).map(|v| (v.body.clone(), v.etag.clone()));
        let tags = |name: &str| {
            seen.headers
                .get(name)
                .map(|v| v.split(',').map(|t| t.trim().to_owned()).collect::<Vec<_>>())
        };
        if let Some(wanted) = tags("if-match")
            && !current
                .as_ref()
                .is_some_and(|(_, etag)| wanted.contains(etag) || wanted == ["*"])
        {
            return (412, Vec::new(), String::new());
        }
        let sent_in: Option<u64> = seen.headers.get("tidegate-epoch").and_then(|epoch| epoch.parse().ok());
        if let (Some(fence), Some(sent_in)) = (self.state().fence, sent_in)
            && sent_in < fence
        {
            return (
                412,
                vec![("Tidegate-Epoch".to_owned(), fence.to_string())],
                String::new(),
            );
        }
        let (status, etag, body) = match (seen.method.as_str(), current) {
            ("GET" | "HEAD", None) => (404, None, "nothing here".to_owned()),
            ("GET" | "HEAD", Some((body, etag))) => {
                let etag = self.own_etag(&path).unwrap_or(etag);
                let same = |t: &String| t.trim_start_matches("W/") == etag.trim_start_matches("W/") || t == "*";
                if tags("if-none-match").is_some_and(|given| given.iter().any(same)) {
                    (304, Some(etag), String::new())
                } else {
                    (200, Some(etag), body)
                }
            }
            ("PUT", before) => {
                let etag = self.write(&path, &seen.body);
                (if before.is_some() { 204 } else { 201 }, Some(etag), String::new())
            }
            ("DELETE", before) => {
                self.state().values.remove(&path);
                (if before.is_some() { 204 } else { 404 }, None, String::new())
            }
            // A collection: it makes a member of its own.
            ("POST", _) if path.len() > 1 && path.ends_with('/') => {
                let member = format!("{path}{}", self.state().version + 1);
                let etag = self.write(&member, &seen.body);
                let mut created = vec![("Location".to_owned(), member), ("ETag".to_owned(), etag)];
                let state = self.state();
                let more = state.answer_with.iter().filter(|(of, ..)| *of == path);
                created.extend(more.map(|(_, name, value)| (name.clone(), value.clone())));
                return (201, created, String::new());
            }
            (_, before) => {
                let body = before.map(|(b, _)| b).unwrap_or_default() + &seen.body;
                let etag = self.write(&path, &body);
                (200, Some(etag), body)
            }
        };
        let mut headers = Vec::new();
        if let Some(etag) = etag.filter(|_| self.own_etag(&path).is_none()) {
            headers.push(("ETag".to_owned(), etag));
        }
        for (of, name, value) in &self.state().answer_with {
            if (*of == path || of == "*") && !(value.is_empty() && name == "ETag") {
                headers.push((name.clone(), value.clone()));
            }
        }
        (status, headers, body)
    }

    fn own_etag(&self, path: &str) -> Option<String> {
        let state = self.state();
        let set = state.answer_with.iter().rev();
        set.clone()
            .find(|(of, name, _)| (of == path || of == "*") && name == "ETag")
            .map(|(_, _, value)| value.clone())
    }
}

async fn carry_out(verdict: Verdict, exchange: Exchange) {
    match verdict {
        Verdict::Reset => exchange.reset(),
        Verdict::Close => exchange.close(),
        Verdict::Answer(status) => {
            let _ = exchange.try_respond(status, &[], "").await;
        }
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or(target)
}

impl Node {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Control) {
        let (done, is_done) = oneshot::channel();
        assert!(self.control.send(order(done)).is_ok(), "the node runs");
        within("the node to obey", is_done).await.expect("the node runs");
    }

    /// The machine dies.
    pub async fn down(&self) {
        self.order(Control::Down).await;
    }

    /// The machine is back, on the same port.
    pub async fn up(&self) {
        self.order(Control::Up).await;
    }

    /// What health checks are told from now on.
    pub async fn set_healthy(&self, healthy: bool) {
        self.order(|done| Control::Healthy(healthy, done)).await;
    }
}

impl Hold {
    /// The next request that reached the point.
    pub async fn next(&mut self) -> Held {
        within("a request to reach the point where it is held", self.caught.recv())
            .await
            .expect("the register runs")
    }

    /// Fails the test when a request is held that the script did not ask for.
    pub fn expect_none(&mut self) {
        if let Ok(held) = self.caught.try_recv() {
            panic!("an unexpected {} {} is held", held.seen.method, held.seen.target);
        }
    }
}

impl Held {
    /// Goes on as if nothing had happened.
    pub fn release(self) {}

    /// Resets the connection instead of answering.
    pub fn reset(self) {
        let _ = self.verdict.send(Verdict::Reset);
    }

    /// Closes the connection instead of answering.
    pub fn close(self) {
        let _ = self.verdict.send(Verdict::Close);
    }

    /// Answers this status instead.
    pub fn answer(self, status: u16) {
        let _ = self.verdict.send(Verdict::Answer(status));
    }
}
