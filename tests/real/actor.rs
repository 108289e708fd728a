//! A client that reads and writes over connections it keeps or not, leaves when it likes, and records what it can know.

use super::chance::Chance;
use super::fault::{FIELD, Fault, Order};
use super::stage::Stage;
use super::store::{VALUE, body_of};
use super::support::client::{Answer, Client};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidegate::verify::history::{Kind, Operation, Outcome};

/// What a client does, in numbers.
#[derive(Clone, Debug)]
pub struct Habits {
    pub keys: u64,
    pub operations: u64,
    pub write_percent: u64,
    /// Of the operations in foul weather.
    pub fault_percent: u64,
    pub faults: Vec<Fault>,
    /// Several variants, names, methods and conditions; otherwise plain GET and PUT of one name.
    pub varied: bool,
    /// One variant, and what is written is the representation itself.
    pub whole: bool,
}

impl Habits {
    /// The weather: of every so many steps ...
    const SPELL: u64 = 80;
    /// ... the last ones are foul: every fault may come. In fair weather only those come that leave nothing unknown, so that there
    /// is something in memory when the weather turns.
    const FOUL: u64 = 12;
}

/// What a client brings home.
#[derive(Default)]
pub struct Told {
    pub history: Vec<Operation>,
    /// Reads by their `Tidegate-Consistency`.
    pub proofs: BTreeMap<String, u64>,
    /// Faults of the client itself.
    pub happened: BTreeMap<String, u64>,
}

pub struct Actor {
    id: u32,
    chance: Chance,
    stage: Arc<Stage>,
    habits: Habits,
    connection: Option<Client>,
    last_tag: BTreeMap<String, String>,
    told: Told,
}

/// How a request ended for its client.
enum End {
    Answer(Answer),
    /// Nothing can have arrived.
    NotSent,
    /// Something may have arrived.
    Nothing(&'static str),
}

impl Actor {
    pub fn new(id: u32, seed: u64, stage: Arc<Stage>, habits: Habits) -> Self {
        Self {
            id,
            chance: Chance::of(seed, u64::from(id) + 1),
            stage,
            habits,
            connection: None,
            last_tag: BTreeMap::new(),
            told: Told::default(),
        }
    }

    /// Plays its whole script.
    pub async fn play(mut self) -> Told {
        for step in 0..self.habits.operations {
            if self.stage.is_due(self.id, step) {
                self.connection = None;
            }
            self.stage.machines(self.id, step).await;
            let foul = step % Habits::SPELL >= Habits::SPELL - Habits::FOUL;
            let percent = self.habits.fault_percent * if foul { 3 } else { 1 };
            let write = self.chance.percent(self.habits.write_percent);
            let fault = self.chance.percent(percent).then(|| self.fault(foul, write)).flatten();
            let key = format!("/k/{}", self.chance.below(self.habits.keys));
            if write {
                self.write(key, step, fault).await;
            } else {
                self.read(key, fault).await;
            }
        }
        self.told
    }

    fn fault(&mut self, foul: bool, write: bool) -> Option<Fault> {
        let possible = |f: &Fault| !f.is_of_a_machine() && (foul || f.is_gentle()) && (write || f.concerns_reads());
        let faults: Vec<Fault> = self.habits.faults.iter().copied().filter(possible).collect();
        (!faults.is_empty()).then(|| self.chance.one_of(&faults))
    }

    async fn write(&mut self, key: String, step: u64, fault: Option<Fault>) {
        let value = format!("c{}n{step}", self.id);
        let target = match self.chance.below(10) {
            _ if !self.habits.varied => key.clone(),
            0..7 => key.clone(),
            7 => format!("{key}?q=1"),
            _ => key.replace("/k/", "/k/%3"), // the digit's other name
        };
        let start_ns = self.stage.now();
        // Without a body it could be sent again by whoever dares (R20).
        let bodiless = self.habits.varied && self.chance.percent(40) && fault != Some(Fault::HalfUpload);
        let end = if bodiless {
            self.ask("PUT", &target, &[(VALUE, &value)], b"", fault).await
        } else {
            let whole = self.habits.whole.then(|| body_of(&value, "a"));
            let body = whole.as_deref().unwrap_or(&value);
            self.ask("PUT", &target, &[], body.as_bytes(), fault).await
        };
        let end_ns = self.stage.now();
        let (outcome, how) = match &end {
            End::NotSent => (Outcome::Failed, "not sent".to_owned()),
            End::Nothing(what) => (Outcome::Ambiguous, (*what).to_owned()),
            End::Answer(answer) => {
                let outcome = match answer.status {
                    202 => Outcome::Ambiguous,
                    200..300 => Outcome::Ok,
                    503 if answer.problem() == "not-applied" => Outcome::Failed,
                    400..500 => Outcome::Failed,
                    _ => Outcome::Ambiguous,
                };
                (outcome, format!("{} {}", answer.status, answer.problem()))
            }
        };
        self.record(
            Kind::Write,
            key,
            value,
            (start_ns, end_ns),
            outcome,
            format!("{target} {how}"),
            fault,
        );
    }

    async fn read(&mut self, key: String, fault: Option<Fault>) {
        let varied = self.habits.varied;
        let language = self.chance.one_of(if varied && !self.habits.whole {
            &["a", "a", "a", "b"]
        } else {
            &["a"]
        });
        let query = self.chance.one_of(if varied { &["", "", "", "?q=1"] } else { &[""] });
        let target = format!("{key}{query}");
        let seen = format!("{target} {language}");
        let mut headers = vec![("Accept-Language", language)];
        let mut method = "GET";
        let last_tag = self.last_tag.get(&seen).cloned();
        match self.chance.below(14) {
            _ if !varied => {}
            0 => method = "HEAD",
            1 => headers.push(("Range", "bytes=0-99")),
            2 => headers.push(("Cache-Control", "no-cache")),
            3 => headers.extend(last_tag.as_deref().map(|tag| ("If-None-Match", tag))),
            _ => {}
        }
        let start_ns = self.stage.now();
        let end = self.ask(method, &target, &headers, b"", fault).await;
        let end_ns = self.stage.now();
        let End::Answer(answer) = end else { return };
        let proof = answer.consistency().to_owned();
        *self.told.proofs.entry(proof.clone()).or_default() += 1;
        let value = match answer.status {
            200 | 206 | 304 => shown(method, &answer, language),
            404 => "(nothing)".to_owned(),
            _ => return,
        };
        if let Some(tag) = answer.header("etag") {
            self.last_tag.insert(seen, tag.to_owned());
        }
        let how = format!(
            "{method} {target} {} {proof} [{}]",
            answer.status,
            answer.cache_status()
        );
        self.record(Kind::Read, key, value, (start_ns, end_ns), Outcome::Ok, how, fault);
    }

    #[allow(clippy::too_many_arguments)]
    fn record(
        &mut self,
        kind: Kind,
        key: String,
        value: String,
        (start_ns, end_ns): (u64, u64),
        outcome: Outcome,
        how: String,
        fault: Option<Fault>,
    ) {
        let fault = fault.map(|f| format!(" ({f:?})")).unwrap_or_default();
        self.told.history.push(Operation {
            key,
            client: self.id,
            kind,
            value,
            start_ns,
            end_ns,
            outcome,
            how: how.trim_end().to_owned() + &fault,
        });
    }

    /// One request. A connection is kept for the next one or not, by chance; one that failed never is.
    async fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        fault: Option<Fault>,
    ) -> End {
        let keep = !self.chance.percent(15);
        let patience = Duration::from_millis(self.chance.below(30));
        let at_origin = fault.filter(|f| !f.is_of_the_client());
        let order = at_origin.map(|f| Order::choose(&mut self.chance, f).text());
        let mut client = match self.connection.take() {
            Some(client) => client,
            None => match Client::try_connect(self.stage.address_of(self.id)).await {
                Ok(client) => client,
                Err(_) => {
                    self.stage.until_up(self.id).await;
                    return End::NotSent;
                }
            },
        };
        let mut all = headers.to_vec();
        all.extend(order.as_deref().map(|order| (FIELD, order)));
        if fault == Some(Fault::HalfUpload) && method == "PUT" {
            self.happened(Fault::HalfUpload);
            let length = (body.len() * 2).to_string();
            all.push(("Content-Length", &length));
            let _ = client.try_ask(method, target, &all, body).await;
            // What answers to half of a request, if anything, is no answer to the write.
            let _ = tokio::time::timeout(patience, client.try_answer()).await;
            client.abort();
            return End::Nothing("left in its upload");
        }
        if client.try_ask(method, target, &all, body).await.is_err() {
            return End::Nothing("the connection broke");
        }
        if fault == Some(Fault::ClientLeaves) {
            let Ok(answer) = tokio::time::timeout(patience, client.try_answer()).await else {
                self.happened(Fault::ClientLeaves);
                if self.chance.percent(50) {
                    client.abort();
                }
                return End::Nothing("left");
            };
            return answer.map_or(End::Nothing("no answer"), End::Answer);
        }
        match client.try_answer().await {
            Ok(answer) => {
                let closes = answer.header("connection").is_some_and(|c| c.contains("close"));
                self.connection = (keep && !closes).then_some(client);
                End::Answer(answer)
            }
            Err(_) => End::Nothing("no answer"),
        }
    }

    fn happened(&mut self, fault: Fault) {
        *self.told.happened.entry(fault.name()).or_default() += 1;
    }
}

/// The value that an answer shows, in its body and in its tag. Whatever is not one whole representation is a value nobody wrote.
fn shown(method: &str, answer: &Answer, language: &str) -> String {
    let odd = |what: &str| {
        format!(
            "({what}: {:?} {:?})",
            answer.header("etag"),
            String::from_utf8_lossy(&answer.body)
        )
    };
    if !answer.consistency().starts_with("strong;proof=") {
        return odd("without a proof");
    }
    let Some(tag) = answer.header("etag") else {
        return odd("without a tag");
    };
    let Some(value) = tag.trim_matches('"').strip_suffix(&format!(".{language}")) else {
        return odd("another variant");
    };
    let whole = body_of(value, language);
    let right = match (method, answer.status) {
        ("HEAD", _) | (_, 304) => answer.body.is_empty(),
        (_, 206) => answer.body == whole.as_bytes()[..100],
        _ => answer.body == whole.as_bytes(),
    };
    if right { value.to_owned() } else { odd("torn") }
}
