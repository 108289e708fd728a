//! Readers and writers over a few keys while nodes come and go, and what they saw.

use super::support::client::{Answer, Client};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidegate::verify::history::{Kind, Operation, Outcome};
use tokio::task::JoinSet;

pub const KEYS: u64 = 4;

/// What they share.
pub struct Load {
    epoch: Instant,
    at: Mutex<SocketAddr>,
    stop: AtomicBool,
    history: Mutex<Vec<Operation>>,
    /// When reads succeeded, on the history's clock.
    good_reads: Mutex<Vec<u64>>,
    values: AtomicU64,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Load {
    /// Starts `readers` and `writers`.
    pub async fn start(at: SocketAddr, readers: u32, writers: u32) -> Arc<Self> {
        let load = Arc::new(Self {
            epoch: Instant::now(),
            at: Mutex::new(at),
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            good_reads: Mutex::default(),
            values: AtomicU64::new(0),
            tasks: tokio::sync::Mutex::new(JoinSet::new()),
        });
        for client in 0..readers + writers {
            let task = Arc::clone(&load).play(client, client >= readers);
            load.tasks.lock().await.spawn(task);
        }
        load
    }

    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The proxy has come back elsewhere.
    pub fn moved(&self, to: SocketAddr) {
        *self.at.lock().unwrap() = to;
    }

    /// How many operations there were.
    pub fn operations(&self) -> usize {
        self.history.lock().unwrap().len()
    }

    /// The longest time without a good read that ended after `from`, in milliseconds.
    pub fn longest_silence_ms(&self, from: u64) -> u64 {
        let mut reads = self.good_reads.lock().unwrap().clone();
        reads.sort_unstable();
        let mut last = from;
        let mut longest = 0;
        for read in reads.into_iter().filter(|read| *read > from) {
            longest = longest.max(read - last);
            last = read;
        }
        longest / 1_000_000
    }

    /// Waits for so many good reads after `from`.
    pub async fn until_reads(&self, from: u64, count: usize) {
        super::support::eventually(format!("{count} good reads"), || async {
            self.good_reads
                .lock()
                .unwrap()
                .iter()
                .filter(|read| **read > from)
                .count()
                >= count
        })
        .await;
    }

    /// Ends the clients; what they saw.
    pub async fn end(&self) -> Vec<Operation> {
        self.stop.store(true, Ordering::SeqCst);
        let mut tasks = self.tasks.lock().await;
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a client that plays to its end");
        }
        let mut history = std::mem::take(&mut *self.history.lock().unwrap());
        history.sort_by_key(|o| o.start_ns);
        history
    }

    async fn play(self: Arc<Self>, client: u32, writes: bool) {
        let mut connection = None;
        let mut turn = u64::from(client);
        while !self.stop.load(Ordering::SeqCst) {
            turn += 1;
            let key = format!("/k/{}", turn % KEYS);
            let value = if writes {
                format!("v{}", self.values.fetch_add(1, Ordering::SeqCst))
            } else {
                String::new()
            };
            let start_ns = self.now();
            let answer = self
                .ask(&mut connection, if writes { "PUT" } else { "GET" }, &key, &value)
                .await;
            let end_ns = self.now();
            if answer.is_none() || answer.as_ref().is_some_and(|a| a.status >= 500) {
                connection = None;
            }
            let seen = if writes {
                write_of(value, answer.as_ref())
            } else {
                read_of(answer.as_ref())
            };
            if let Some((kind, value, outcome, how)) = seen {
                if kind == Kind::Read {
                    self.good_reads.lock().unwrap().push(end_ns);
                }
                self.history.lock().unwrap().push(Operation {
                    key,
                    client,
                    kind,
                    value,
                    start_ns,
                    end_ns,
                    outcome,
                    how,
                });
            }
            // Readers of a hot key would otherwise leave the nodes no core.
            tokio::time::sleep(Duration::from_millis(if writes { 5 } else { 2 })).await;
        }
    }

    /// One request; none when no answer came.
    async fn ask(&self, connection: &mut Option<Client>, method: &str, key: &str, body: &str) -> Option<Answer> {
        let at = *self.at.lock().unwrap();
        let mut client = match connection.take() {
            Some(client) => client,
            None => Client::try_connect(at).await.ok()?,
        };
        client.try_ask(method, key, &[], body.as_bytes()).await.ok()?;
        let answer = client.try_answer().await.ok()?;
        *connection = Some(client);
        Some(answer)
    }
}

type Seen = Option<(Kind, String, Outcome, String)>;

fn write_of(value: String, answer: Option<&Answer>) -> Seen {
    let outcome = match answer {
        None => Outcome::Ambiguous,
        Some(a) if (200..300).contains(&a.status) && a.status != 202 => Outcome::Ok,
        Some(a) if a.status == 503 && a.problem() != "unknown" => Outcome::Failed,
        Some(a) if (400..500).contains(&a.status) => Outcome::Failed,
        Some(_) => Outcome::Ambiguous,
    };
    let how = answer.map_or_else(|| "no answer".to_owned(), |a| format!("{} {}", a.status, a.problem()));
    Some((Kind::Write, value, outcome, how))
}

fn read_of(answer: Option<&Answer>) -> Seen {
    let answer = answer?;
    let value = match answer.status {
        200 => answer.text().to_owned(),
        404 => "(nothing)".to_owned(),
        _ => return None,
    };
    let how = format!("{} {} [{}]", answer.status, answer.consistency(), answer.cache_status());
    Some((Kind::Read, value, Outcome::Ok, how))
}
