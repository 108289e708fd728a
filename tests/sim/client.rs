//! A client that reads, writes and purges over connections it keeps or not, leaves when it likes, and records what it can know.

use super::chance::Chance;
use super::journal::Journal;
use super::origin::{ALSO, OUTSIDE, SERIAL, VALUE, body_of};
use super::plan::Plan;
use super::wire::{Head, Wire};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate::verify::history::Outcome;
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

/// Longer than anything takes that is answered at all.
const PATIENCE: Duration = Duration::from_millis(700);

/// An answer as its client saw it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn get(&self, name: &str) -> &str {
        self.head.get(name).unwrap_or("")
    }
}

/// A read that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    pub client: u32,
    pub proxy: usize,
    pub key: String,
    pub target: String,
    pub variant: &'static str,
    pub method: &'static str,
    pub ranged: bool,
    /// It said that it takes what is stale.
    pub lenient: bool,
    pub start: u64,
    pub end: u64,
    pub answer: Answer,
}

/// A write, answered or not.
#[derive(Clone, Debug)]
pub struct Write {
    pub client: u32,
    /// None: past all of them.
    pub proxy: Option<usize>,
    pub key: String,
    pub also: Option<String>,
    pub value: String,
    pub start: u64,
    pub end: u64,
    pub outcome: Outcome,
    /// Sent in full, and then its client left.
    pub abandoned: bool,
    pub how: String,
}

/// A purge that was answered.
#[derive(Clone, Debug)]
pub struct Purge {
    pub proxy: usize,
    pub covers: Covers,
    pub start: u64,
    pub end: u64,
}

/// What was purged.
#[derive(Clone, Debug)]
pub enum Covers {
    All,
    Target(String),
    /// All registers whose name begins so.
    Group(String),
}

/// What clients bring home.
#[derive(Default)]
pub struct Told {
    pub reads: Vec<Read>,
    pub writes: Vec<Write>,
    pub purges: Vec<Purge>,
    /// Requests without an answer, although their client stayed.
    pub unanswered: Vec<String>,
}

pub struct Client {
    pub id: u32,
    pub journal: Arc<Journal>,
    pub plan: Rc<Plan>,
    pub chance: Chance,
    pub proxies: Vec<IpAddr>,
    pub nodes: Vec<IpAddr>,
    pub kept: BTreeMap<SocketAddr, Wire>,
    pub tags: BTreeMap<String, String>,
    /// The last token it was given.
    pub token: Option<String>,
    pub told: Told,
}

/// How a request ended for its client.
enum End {
    Answer(Answer),
    /// Nothing can have arrived.
    NotSent,
    /// All of it was sent, and then the client left.
    Left,
    /// Something may have arrived.
    Nothing(&'static str),
}

struct Request<'a> {
    method: &'static str,
    target: &'a str,
    fields: Vec<(&'static str, String)>,
    body: &'a str,
    may_leave: bool,
}

impl Client {
    pub async fn play(mut self) -> Told {
        for step in 0..self.plan.steps {
            let thinks = self.chance.below(self.plan.think_ms * 2 + 1);
            let now = turmoil::elapsed().as_millis() as u64;
            let waits = match self.plan.beat_ms {
                0 => thinks,
                beat => beat - now % beat + thinks / 10,
            };
            sleep(Duration::from_millis(waits)).await;
            let dice = self.chance.below(100);
            let key = match self.chance.below(10) {
                0 => "/d/0".to_owned(),
                _ => format!("/k/{}", self.chance.below(self.plan.keys)),
            };
            if dice < self.plan.write_percent {
                self.write(key, step).await;
            } else if dice >= 100 - self.plan.purge_percent {
                self.purge(key).await;
            } else {
                let proxy = self.chance.below(self.plan.proxies as u64) as usize;
                self.read(key, proxy, true).await;
            }
        }
        self.told
    }

    /// Reads everything once, simply and patiently, when all is over.
    pub async fn look_around(mut self) -> Told {
        for proxy in 0..self.plan.proxies {
            for key in (0..self.plan.keys)
                .map(|k| format!("/k/{k}"))
                .chain(["/d/0".to_owned()])
            {
                self.read(key, proxy, false).await;
            }
        }
        self.told
    }

    fn name(&self) -> String {
        format!("c{}", self.id)
    }

    async fn write(&mut self, key: String, step: u64) {
        let outside = self.id < self.plan.outsiders;
        let proxy = self.chance.below(self.plan.proxies as u64) as usize;
        let (to, proxy) = if outside {
            let node = self.chance.below(self.plan.nodes as u64) as usize;
            (SocketAddr::from((self.nodes[node], 9000)), None)
        } else {
            (SocketAddr::from((self.proxies[proxy], 8080)), Some(proxy))
        };
        let kind = match self.chance.below(10) {
            _ if self.plan.puts_only() => 0,
            8 if !self.plan.writes_more() => 0,
            kind => kind,
        };
        let plain = self.plan.plain;
        let gone = if kind == 9 { "gone" } else { "" };
        let value = format!("{gone}c{}n{step}", self.id);
        let whole = if plain { body_of(&value, "a") } else { value.clone() };
        let mut fields = Vec::new();
        let mut also = None;
        let (method, body) = match kind {
            9 => ("DELETE", ""),
            8 => {
                also = (key != "/d/0").then(|| "/d/0".to_owned());
                ("POST", whole.as_str())
            }
            // Without a body it could be sent again by whoever dares (R20).
            5..8 => ("PUT", ""),
            _ => ("PUT", whole.as_str()),
        };
        if body.is_empty() {
            fields.push((VALUE, value.clone()));
        }
        fields.extend(also.clone().map(|also| (ALSO, also)));
        if outside {
            fields.push((OUTSIDE, "1".to_owned()));
        }
        let target = match self.chance.below(10) {
            0 => format!("{key}?q=1"),
            1 => key.replace("/k/", "/k/%3"), // the digit's other name
            _ => key.clone(),
        };
        let request = Request {
            method,
            target: &target,
            fields,
            body,
            may_leave: !outside,
        };
        let start = self.note(format!("{method} {target} {value}"));
        let end = self.ask(to, request).await;
        let (outcome, abandoned, how) = match &end {
            End::NotSent => (Outcome::Failed, false, "not sent".to_owned()),
            End::Left => (Outcome::Ambiguous, true, "left".to_owned()),
            End::Nothing(what) => {
                self.told
                    .unanswered
                    .push(format!("{} {method} {target}: {what}", self.name()));
                (Outcome::Ambiguous, false, (*what).to_owned())
            }
            End::Answer(answer) => {
                let problem = String::from_utf8_lossy(&answer.body).contains("problem:not-applied");
                let outcome = match answer.status {
                    202 => Outcome::Ambiguous,
                    200..300 => Outcome::Ok,
                    503 if problem => Outcome::Failed,
                    400..500 => Outcome::Failed,
                    _ => Outcome::Ambiguous,
                };
                (outcome, false, answer.status.to_string())
            }
        };
        let end = self.note(format!("  {value}: {how} {outcome:?}"));
        self.told.writes.push(Write {
            client: self.id,
            proxy,
            key,
            also,
            value,
            start,
            end,
            outcome,
            abandoned,
            how,
        });
    }

    async fn read(&mut self, key: String, proxy: usize, varied: bool) {
        let dice = if varied { self.chance.below(100) } else { 99 };
        let variant = if varied && !self.plan.plain {
            self.chance.one_of(&["a", "a", "a", "b"])
        } else {
            "a"
        };
        let query = if varied {
            self.chance.one_of(&["", "", "", "?q=1"])
        } else {
            ""
        };
        let target = format!("{key}{query}");
        let mut fields = vec![("Accept-Language", variant.to_owned())];
        let mut method = "GET";
        let mut ranged = false;
        let seen = format!("{target} {variant}");
        let (head, insist, lenient) = (
            self.plan.head_percent,
            self.plan.insist_percent,
            self.plan.lenient_percent,
        );
        match dice {
            d if d < head => method = "HEAD",
            d if d < head + insist => fields.push(("Cache-Control", "no-cache".to_owned())),
            99 => {}
            d if d < head + insist + lenient => fields.push(("Cache-Control", "max-stale".to_owned())),
            95..99 => {
                fields.push(("Range", "bytes=0-49".to_owned()));
                ranged = true;
            }
            90..95 => fields.extend(self.tags.get(&seen).map(|tag| ("If-None-Match", tag.clone()))),
            _ => {}
        }
        let lenient = fields.iter().any(|(_, value)| value == "max-stale");
        let what: Vec<String> = fields.iter().skip(1).map(|(n, v)| format!("{n}: {v}")).collect();
        let request = Request {
            method,
            target: &target,
            fields,
            body: "",
            may_leave: varied,
        };
        let start = self.note(format!("{method} {target} {variant} at {proxy} {}", what.join(" ")));
        let end = self.ask((self.proxies[proxy], 8080).into(), request).await;
        let answer = match end {
            End::Answer(answer) => answer,
            End::NotSent => {
                self.note("  not sent");
                return;
            }
            End::Left => {
                self.note("  left");
                return;
            }
            End::Nothing(what) => {
                self.told
                    .unanswered
                    .push(format!("{} {method} {target}: {what}", self.name()));
                self.note(format!("  {what}"));
                return;
            }
        };
        let tag = answer.get("etag").to_owned();
        let end = self.note(format!(
            "  {} {tag} {} [{}] serial {}",
            answer.status,
            answer.get("tidegate-consistency"),
            answer.get("cache-status"),
            answer.get(SERIAL),
        ));
        if !tag.is_empty() {
            self.tags.insert(seen, tag);
        }
        self.told.reads.push(Read {
            client: self.id,
            proxy,
            key,
            target,
            variant,
            method,
            ranged,
            lenient,
            start,
            end,
            answer,
        });
    }

    async fn purge(&mut self, key: String) {
        let proxy = self.chance.below(self.plan.proxies as u64) as usize;
        let to = SocketAddr::from((self.proxies[proxy], 9901));
        let (covers, json) = match self.chance.below(4) {
            _ if self.plan.purge_groups => by_group(&key),
            0 => (Covers::All, "{\"all\": true}".to_owned()),
            1 => by_group(&key),
            _ => {
                let json = format!("{{\"url\": \"http://shop.example{key}\"}}");
                (Covers::Target(key), json)
            }
        };
        let request = Request {
            method: "POST",
            target: "/purge",
            fields: vec![
                ("Content-Type", "application/json".to_owned()),
                ("Authorization", "Bearer simulated".to_owned()),
            ],
            body: &json,
            may_leave: false,
        };
        let start = self.note(format!("purge {json} at {proxy}"));
        let End::Answer(answer) = self.ask(to, request).await else {
            self.note("  no answer");
            return;
        };
        let end = self.note(format!("  {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        if answer.status == 200 {
            self.told.purges.push(Purge {
                proxy,
                covers,
                start,
                end,
            });
        } else {
            self.told
                .unanswered
                .push(format!("a purge was answered {}", answer.status));
        }
    }

    fn note(&self, what: impl AsRef<str>) -> u64 {
        self.journal.note(&self.name(), what)
    }

    /// One request. A connection is kept for the next one or not, by chance; one that failed never is.
    async fn ask(&mut self, to: SocketAddr, request: Request<'_>) -> End {
        let keep = !self.chance.percent(15);
        let leaves = request.may_leave && self.chance.percent(self.plan.leave_percent);
        let stays = Duration::from_millis(self.chance.below(30));
        let mut wire = match self.kept.remove(&to) {
            Some(wire) => wire,
            None => match timeout(PATIENCE, TcpStream::connect(to)).await {
                Ok(Ok(stream)) => Wire::new(stream),
                _ => return End::NotSent,
            },
        };
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: shop.example\r\n",
            request.method, request.target
        );
        for (name, value) in &request.fields {
            text += &format!("{name}: {value}\r\n");
        }
        if matches!(request.method, "PUT" | "POST" | "DELETE") {
            text += &format!("Content-Length: {}\r\n", request.body.len());
        }
        let token = self
            .token
            .clone()
            .filter(|_| request.target != "/purge" && self.plan.session);
        text += &token.map_or(String::new(), |token| format!("Tidegate-Session: {token}\r\n"));
        text += "\r\n";
        text += request.body;
        if wire.send(text.as_bytes()).await.is_err() {
            return End::Nothing("the connection broke");
        }
        let limit = if leaves { stays } else { PATIENCE };
        match timeout(limit, answer(&mut wire, request.method)).await {
            Err(_) if leaves => End::Left,
            Err(_) => End::Nothing("no answer in time"),
            Ok(Err(_)) => End::Nothing("no answer"),
            Ok(Ok(answer)) => {
                self.token = answer
                    .head
                    .get("tidegate-session")
                    .map(str::to_owned)
                    .or(self.token.take());
                if keep && !answer.get("connection").contains("close") {
                    self.kept.insert(to, wire);
                }
                End::Answer(answer)
            }
        }
    }
}

fn by_group(key: &str) -> (Covers, String) {
    let json = format!("{{\"tag\": \"{}\"}}", &key[1..2]);
    (Covers::Group(key[..3].to_owned()), json)
}

async fn answer(wire: &mut Wire, method: &str) -> std::io::Result<Answer> {
    loop {
        let head = wire.head().await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let status: u16 = head.word(1).parse().map_err(std::io::Error::other)?;
        if status < 200 {
            continue;
        }
        let body = if method == "HEAD" || matches!(status, 204 | 304) {
            Vec::new()
        } else {
            wire.body(&head).await?
        };
        return Ok(Answer { status, head, body });
    }
}
