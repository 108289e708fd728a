//! The origin: nodes over one store of registers, which never lies about what it has, however it treats an exchange. What it did, and
//! when, is the truth the judges compare with.
//!
//! The contract's assumption is kept to the millisecond: a write whose connection the proxy has closed is applied within
//! [`LATEST_MS`] or never.

use super::chance::Chance;
use super::cluster::{Cluster, Kind};
use super::journal::Journal;
use super::nodes::{Applied, Nodes};
use super::plan::{Fault, LATEST_MS, Plan};
use super::wire::{Head, Wire};
use super::world::{Closings, EPOCH_MS};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::sleep;
use turmoil::net::TcpListener;

/// The field that carries the value of a write without a body.
pub const VALUE: &str = "x-value";
/// The field that names another register which the write changes too.
pub const ALSO: &str = "x-also";
/// The field by which a write that comes past the proxy says so.
pub const OUTSIDE: &str = "x-outside";
/// A number on each answer of its own.
pub const SERIAL: &str = "x-serial";

/// What a register held, from when on.
pub type Reign = (u64, String);

#[derive(Default)]
pub struct State {
    pub registers: BTreeMap<String, Vec<Reign>>,
    pub happened: BTreeMap<String, u64>,
    /// Values of writes that arrived.
    pub arrived: BTreeSet<String>,
    serial: u64,
}

pub struct Origin {
    pub journal: Arc<Journal>,
    pub closings: Arc<Closings>,
    pub plan: Rc<Plan>,
    pub state: RefCell<State>,
    pub chance: RefCell<Chance>,
    /// Each node has its own; else all of them have the same.
    pub nodes: Option<Arc<Nodes>>,
}

/// What became of a request at the store.
enum Done {
    /// So long is the node's log now.
    At(usize),
    Never,
    Refused(Answer),
}

struct Answer {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: String,
}

/// What one request asks.
struct Asked {
    node: usize,
    peer: SocketAddr,
    method: String,
    key: String,
    write: Option<String>,
    also: Option<String>,
    head: Head,
    outside: bool,
}

impl Origin {
    pub fn new(
        journal: &Arc<Journal>,
        closings: &Arc<Closings>,
        plan: &Rc<Plan>,
        nodes: Option<Arc<Nodes>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            nodes,
            journal: Arc::clone(journal),
            closings: Arc::clone(closings),
            plan: Rc::clone(plan),
            state: RefCell::default(),
            chance: RefCell::new(Chance::of(plan.seed, 1)),
        })
    }

    /// One node, until it is killed.
    pub async fn node(self: Rc<Self>, node: usize) -> turmoil::Result {
        let listener = TcpListener::bind("0.0.0.0:9000").await?;
        loop {
            let (stream, peer) = listener.accept().await?;
            let this = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                let mut wire = Wire::new(stream);
                // An error is a peer that left.
                while let Ok(true) = this.exchange(node, peer, &mut wire).await {}
            });
        }
    }

    pub fn set(&self, key: &str, value: &str, at: u64) {
        let mut state = self.state.borrow_mut();
        state
            .registers
            .entry(key.to_owned())
            .or_default()
            .push((at, value.to_owned()));
    }

    pub fn value(&self, key: &str) -> Option<String> {
        Some(self.state.borrow().registers.get(key)?.last()?.1.clone())
    }

    fn count(&self, fault: Fault) {
        *self
            .state
            .borrow_mut()
            .happened
            .entry(format!("{fault:?}"))
            .or_default() += 1;
    }

    fn may_apply(&self, peer: SocketAddr) -> bool {
        let now = self.journal.now();
        self.closings
            .of(peer)
            .is_none_or(|closed| now < closed + LATEST_MS * 1_000_000)
    }

    /// The nodes, where each keeps its own.
    fn own(&self) -> Option<&Arc<Nodes>> {
        let standby = |c: &Cluster| c.kind == Kind::Standby;
        self.nodes
            .as_ref()
            .filter(|_| !self.plan.cluster.as_ref().is_some_and(standby))
    }

    /// Applies a write if it still may be; a read is applied in any case.
    fn apply(&self, asked: &Asked) -> Done {
        let Some(value) = &asked.write else { return Done::At(0) };
        if !self.may_apply(asked.peer) {
            return Done::Never;
        }
        let keys: Vec<&str> = std::iter::once(&asked.key)
            .chain(&asked.also)
            .map(String::as_str)
            .collect();
        let mut reached = 0;
        if let Some(nodes) = self.own() {
            let epoch = asked.head.get("tidegate-epoch").and_then(|e| e.parse().ok());
            match nodes.apply(asked.node, &keys, value, epoch) {
                Applied::At(at) => reached = at,
                Applied::Refused(status, fields) => {
                    self.journal
                        .note(&name(asked.node), format!("refuses {value} with {status}"));
                    return Done::Refused(Answer {
                        status,
                        fields,
                        body: String::new(),
                    });
                }
            }
        }
        for key in keys {
            let at = self.journal.note(&name(asked.node), format!("applied {key} = {value}"));
            let copied = || {
                self.state
                    .borrow()
                    .registers
                    .get(key)
                    .is_some_and(|all| all.iter().any(|(_, v)| v == value))
            };
            // Of what every node has the first counts.
            if self.own().is_none() || !copied() {
                self.set(key, value, at);
            }
        }
        Done::At(reached)
    }

    /// One request and its answer. False when the connection is to be closed.
    async fn exchange(&self, node: usize, peer: SocketAddr, wire: &mut Wire) -> std::io::Result<bool> {
        let name = &name(node);
        let Some(head) = wire.head().await? else {
            return Ok(false);
        };
        let body = wire.body(&head).await?;
        let (method, target) = (head.word(0).to_owned(), head.word(1).to_owned());
        if target == "/healthz" {
            let said = match &self.nodes {
                Some(nodes) => nodes.health(node),
                None => Some(Vec::new()),
            };
            let status = if said.is_some() { "200 OK" } else { "503 Sick" };
            let said: String = said
                .iter()
                .flatten()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            let text = format!("HTTP/1.1 {status}\r\n{said}Content-Length: 0\r\n\r\n");
            wire.send(text.as_bytes()).await?;
            return Ok(true);
        }
        let write = matches!(method.as_str(), "PUT" | "POST" | "DELETE").then(|| {
            let in_head = head.get(VALUE).map(str::to_owned);
            // A body may be the whole representation, which begins with the value.
            let first = || String::from_utf8_lossy(&body).split(' ').next().unwrap().to_owned();
            in_head.unwrap_or_else(first)
        });
        let asked = Asked {
            node,
            peer,
            key: register(&target),
            also: head.get(ALSO).map(str::to_owned),
            outside: head.get(OUTSIDE).is_some(),
            method,
            write,
            head,
        };
        let (fault, delay) = {
            let mut chance = self.chance.borrow_mut();
            let fault = if asked.outside {
                None
            } else {
                self.plan.fault(&mut chance)
            };
            (fault, Duration::from_millis(1 + chance.below(LATEST_MS)))
        };
        let short = delay / 7;
        self.state.borrow_mut().arrived.extend(asked.write.clone());
        let what = asked.write.as_deref().unwrap_or("");
        let at = self.journal.note(
            name,
            format!(
                "got {} {} {what} from {} {fault:?}",
                asked.method,
                asked.head.word(1),
                peer.port()
            ),
        );
        if let Some(nodes) = &self.nodes {
            nodes.asked(node, at);
        }
        match fault {
            Some(f @ Fault::CloseBefore) => {
                self.count(f);
                return Ok(false);
            }
            Some(f @ (Fault::Hang | Fault::Late)) => {
                while self.closings.of(peer).is_none() {
                    sleep(Duration::from_millis(5)).await;
                }
                if f == Fault::Late {
                    sleep(delay).await;
                    self.apply(&asked);
                }
                self.count(f);
                return Ok(false);
            }
            Some(f @ (Fault::Late500 | Fault::Late202)) if asked.write.is_some() => {
                let status = if f == Fault::Late202 { 202 } else { 500 };
                let answer = self.plain(node, status);
                self.count(f);
                let sent = self.send(name, wire, &asked, &answer).await;
                sleep(delay).await;
                self.apply(&asked);
                return sent.map(|()| false);
            }
            Some(f @ (Fault::SlowBefore | Fault::SlowAround)) => {
                sleep(short).await;
                self.count(f);
                // An application may notice that nobody waits any more, and not begin.
                if self.plan.is_calm() && self.closings.of(peer).is_some() {
                    return Ok(false);
                }
            }
            _ => {}
        }
        let mut answer = match self.apply(&asked) {
            Done::Never => return Ok(false),
            Done::Refused(answer) => answer,
            Done::At(at) => {
                if let Some(nodes) = self.own().filter(|_| asked.write.is_some())
                    && !nodes.committed(node, at).await
                {
                    return Ok(false);
                }
                self.answer(&asked).await
            }
        };
        let whole = asked.method == "GET" && answer.status == 200 && asked.head.get("range").is_none();
        match fault {
            Some(f @ Fault::LoseReply) => {
                sleep(short).await;
                self.count(f);
                return Ok(false);
            }
            Some(f @ Fault::Error500) => {
                self.count(f);
                answer = self.plain(node, 500);
            }
            Some(f @ (Fault::SlowAfter | Fault::SlowAround)) => {
                sleep(short).await;
                self.count(f);
            }
            Some(f @ Fault::UnaskedPart) if whole => {
                self.count(f);
                let length = answer.body.len();
                answer.body.truncate(length / 2);
                answer.status = 206;
                answer
                    .fields
                    .push(("Content-Range", format!("bytes 0-{}/{length}", length / 2 - 1)));
            }
            Some(f @ (Fault::CutBody | Fault::SlowBody)) if whole => {
                let text = self.text(&asked, &answer);
                let half = text.len() - answer.body.len() / 2;
                self.journal.note(name, format!("answers half of {}", asked.key));
                wire.send(&text.as_bytes()[..half]).await?;
                sleep(short).await;
                self.count(f);
                if f == Fault::CutBody {
                    return Ok(false);
                }
                wire.send(&text.as_bytes()[half..]).await?;
                return Ok(true);
            }
            _ => {}
        }
        self.send(name, wire, &asked, &answer).await.map(|()| true)
    }

    /// An answer that says nothing of a register.
    fn plain(&self, node: usize, status: u16) -> Answer {
        Answer {
            status,
            fields: self.nodes.as_ref().map_or_else(Vec::new, |nodes| nodes.said(node)),
            body: String::new(),
        }
    }

    async fn send(&self, name: &str, wire: &mut Wire, asked: &Asked, answer: &Answer) -> std::io::Result<()> {
        let text = self.text(asked, answer);
        self.journal.note(
            name,
            format!("answers {} {} to {}", answer.status, asked.key, asked.peer.port()),
        );
        wire.send(text.as_bytes()).await
    }

    fn text(&self, asked: &Asked, answer: &Answer) -> String {
        let serial = {
            let mut state = self.state.borrow_mut();
            state.serial += 1;
            state.serial
        };
        let mut text = format!("HTTP/1.1 {} Said\r\n{SERIAL}: {serial}\r\n", answer.status);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_MS as u64 + self.journal.now() / 1_000_000);
        text += &format!("Date: {}\r\n", httpdate::fmt_http_date(wall));
        if !matches!(answer.status, 204 | 304) {
            text += &format!("Content-Length: {}\r\n", answer.body.len());
        }
        for (name, value) in &answer.fields {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        if asked.method != "HEAD" {
            text += &answer.body;
        }
        text
    }

    /// What the store says at this instant. The tag is the value's, so equal tags mean equal representations on all nodes.
    async fn answer(&self, asked: &Asked) -> Answer {
        let said = || self.plain(asked.node, 0).fields;
        if asked.write.is_some() {
            let named = asked.also.clone().map(|also| match self.plan.by_group {
                true => ("Cache-Group-Invalidation", group(&also)),
                false => ("Content-Location", also),
            });
            // RFC 9110 s9.3.4: only where the body was stored as it was.
            let as_it_was = self.plan.plain && asked.method == "PUT" && asked.head.get(VALUE).is_none();
            let tag = asked.write.as_ref().filter(|_| as_it_was);
            let tag = tag.map(|value| ("ETag", format!("\"{value}.a\"")));
            return Answer {
                status: 204,
                fields: named.into_iter().chain(tag).chain(said()).collect(),
                body: String::new(),
            };
        }
        let value = match self.own() {
            Some(nodes) => match nodes.show(asked.node, &asked.key).await {
                Ok(value) => value,
                Err(status) => return self.plain(asked.node, status),
            },
            None => self.value(&asked.key),
        };
        let Some(value) = value else {
            return Answer {
                body: "nothing here".into(),
                ..self.plain(asked.node, 404)
            };
        };
        let variant = asked.head.get("accept-language").unwrap_or("a");
        let etag = format!("\"{value}.{variant}\"");
        let mut fields = vec![("ETag", etag.clone()), ("Cache-Groups", group(&asked.key))];
        fields.extend(said());
        if !self.plan.plain {
            fields.push(("Vary", "Accept-Language".to_owned()));
        }
        let given = asked.head.get("if-none-match").unwrap_or("");
        if given.split(',').any(|tag| tag.trim() == etag) {
            return Answer {
                status: 304,
                fields,
                body: String::new(),
            };
        }
        let status = if value.starts_with("gone") { 404 } else { 200 };
        Answer {
            status,
            fields,
            body: body_of(&value, variant),
        }
    }
}

/// Of a node.
pub fn name(node: usize) -> String {
    format!("o{node}")
}

/// The group of a register: its folder.
fn group(key: &str) -> String {
    format!("\"{}\"", &key[1..2])
}

/// A body that shows when its halves are of two values.
pub fn body_of(value: &str, variant: &str) -> String {
    format!("{value} {variant} {:.>80} {value}", "")
}

/// The register that a target names: `/k/%33` is another name of `/k/3`, and no query names another one.
pub fn register(target: &str) -> String {
    let path = target.split('?').next().unwrap();
    path.replace("/%3", "/")
}
