//! The access log: one record per request, written when the body of its answer has ended. `[telemetry] access_log = "text"` writes lines
//! for people, `"json"` one object per line, `"off"` (the default) nothing, at the price of one branch per request.
//!
//! It goes to stdout, where containers collect it, after the `ready` line; what the process says of itself goes to stderr. A request's
//! thread fills in a [`Record`] and leaves it in a bounded queue of that thread's own; a task in the background makes the text and
//! writes it. Nobody ever waits for the log: a record that finds its queue full, or whose write failed, is dropped and counted
//! (`tidegate_access_log_dropped_total`). No clock is read for it.
//!
//! It never holds a query string, a cookie, credentials or any header field but `Host` and `X-Request-Id`. It does not see what hyper
//! refuses by itself (what is not HTTP, heads over the limits): the metrics count those.
//!
//! Invariant: a record is one line, whatever a client put into its request. Lines of one thread are in the order in which answers ended.
//!
//! The fields, in the order of a text line, under their names in JSON; what is not known is `-` or `null`:
//!
//! | field | text | meaning |
//! | --- | --- | --- |
//! | `time` | bare | when the request's head was in; RFC 3339, UTC, milliseconds |
//! | `listener` | bare | the listener's name |
//! | `client` | bare | the address at the other end of the connection (not what `X-Forwarded-For` says of it); `unix:` over a unix socket |
//! | `method` | bare | the method |
//! | `host` | bare | the host asked for, as the client wrote it |
//! | `path` | bare | the path as the client wrote it, without the query |
//! | `protocol` | bare | `HTTP/1.1` |
//! | `status` | bare | the status; none when the client left before there was one |
//! | `result` | bare | the `result` label of `tidegate_requests_total` |
//! | `route` | `route=` | the route's name |
//! | `fwd` | `fwd=` | why it was forwarded, in the words of `Cache-Status` |
//! | `why` | `why=` | why the answer was not stored, or what went wrong (the last word of the problem type, or of `Proxy-Status`), where known when the head left |
//! | `node` | `node=` | the node that answered |
//! | `bytes` | `bytes=` | bytes of the body handed to the connection |
//! | `duration_ms` | `ms=` | from `time` to the end of the body; for what was in memory, until it was handed over |
//! | `end` | `end=` | `complete`; `left`: the connection ended first (the client left, or a drain cut it off); `broken`: the body broke off on the node's side |
//! | `request_id` | `id=` | `X-Request-Id`, as the client sent it or as it was made for the node |
//!
//! In text, a byte that is not visible ASCII, and each `"` and `\`, is written `\xNN`. Of a host, a path or an id that is longer than any
//! real one the beginning is kept, and `...` after it.

mod record;

#[cfg(test)]
mod tests;

pub use record::{End, Record, Request};

use super::metrics::stripe::thread_number;
use crate::config::runtime::{Config, LogFormat};
use crate::core::time::Span;
use crate::world::World;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Records of one thread that wait to be written: 400,000 a second, at the pace of [`GATHER`], and a few megabytes at most.
const QUEUE: usize = 8192;

/// How long the writer lets records gather, so that a busy thread wakes it fifty times a second and not for every answer.
const GATHER: Duration = Duration::from_millis(20);

/// How long the last lines may take when the process leaves and nobody reads them.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// How many configurations' names are kept: requests that outlive so many reloads are logged with the names of the running one.
const REMEMBERED: usize = 8;

/// The queues of records, and their writer.
#[derive(Debug)]
pub struct AccessLog {
    format: LogFormat,
    /// Have the names: the last one is the running one, and records of requests from before a reload may still come.
    configs: Mutex<Vec<Arc<Config>>>,
    bound: usize,
    /// One per serving thread, and one for the background.
    stripes: Box<[Stripe]>,
    /// Told when a queue is no longer empty.
    waiting: Notify,
    /// Records whose write failed.
    unwritten: AtomicU64,
}

/// One thread's queue: only that thread and, fifty times a second, the writer lock it. Padded like the stripes of the metrics.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    records: Vec<Record>,
    dropped: u64,
}

impl AccessLog {
    /// The log, if `config` wants one.
    #[must_use]
    pub fn new(config: &Arc<Config>) -> Option<Arc<Self>> {
        let format = config.telemetry.access_log?;
        Some(Arc::new(Self::with_bound(config, format, QUEUE)))
    }

    /// The log with room for `bound` records per thread.
    fn with_bound(config: &Arc<Config>, format: LogFormat, bound: usize) -> Self {
        Self {
            format,
            configs: Mutex::new(vec![Arc::clone(config)]),
            bound,
            stripes: (0..=config.server.threads).map(|_| Stripe::default()).collect(),
            waiting: Notify::new(),
            unwritten: AtomicU64::new(0),
        }
    }

    /// A reload: records of requests from now on have this one's names (R31).
    pub fn take_over(&self, config: &Arc<Config>) {
        let mut configs = self.configs.lock();
        if configs.len() >= REMEMBERED {
            configs.remove(0);
        }
        configs.push(Arc::clone(config));
    }

    /// Leaves a record to be written. Never waits for the writer; drops the record when the queue is full.
    pub fn push(&self, record: Record) {
        let Some(stripe) = self.stripes.get(thread_number() % self.stripes.len()) else {
            return;
        };
        let first = {
            let mut queue = stripe.0.lock();
            if queue.records.len() >= self.bound {
                queue.dropped += 1;
                return;
            }
            queue.records.push(record);
            queue.records.len() == 1
        };
        // Whoever finds the queue empty wakes the writer. It empties a queue under the lock, so that a record pushed after that is
        // the first again: no record waits unannounced.
        if first {
            self.waiting.notify_one();
        }
    }

    /// Records that were never written, since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let full: u64 = self.stripes.iter().map(|stripe| stripe.0.lock().dropped).sum();
        full + self.unwritten.load(Ordering::Relaxed)
    }

    /// Writes to the world's output until `stop`, and then what is left. One task runs this.
    pub async fn run(&self, world: &World, stop: &CancellationToken) {
        let mut said = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.waiting.notified() => {
                    // Either way it is time to write.
                    let _ = tokio::time::timeout(GATHER, stop.cancelled()).await;
                }
            }
            let last = stop.is_cancelled();
            let batch = self.take();
            let count = batch.len() as u64;
            if count > 0
                && let Err(error) = self.write(world, &batch, stop).await
            {
                self.unwritten.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "the access log cannot be written; records are dropped and counted");
                }
            }
            if last {
                return;
            }
        }
    }

    /// What has gathered, in the order in which it ended.
    fn take(&self) -> Vec<Record> {
        let mut batch = Vec::new();
        for stripe in &self.stripes {
            let mut queue = stripe.0.lock();
            if batch.is_empty() {
                batch = std::mem::take(&mut queue.records);
            } else {
                batch.append(&mut queue.records);
            }
        }
        batch.sort_by_key(Record::ended);
        batch
    }

    async fn write(&self, world: &World, batch: &[Record], stop: &CancellationToken) -> std::io::Result<()> {
        let (wall, mono) = (world.clock.wall(), world.clock.mono());
        let mut text = Vec::with_capacity(batch.len() * 256);
        let configs = self.configs.lock().clone();
        for record in batch {
            let of = configs
                .iter()
                .find(|config| config.numbers.generation == record.generation);
            let Some(config) = of.or(configs.last()) else { continue };
            record.write(&mut text, self.format, config, |at| {
                wall.before(Span::from(mono.duration_since(at)))
            });
        }
        let given_up = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WRITE).await;
        };
        tokio::select! {
            biased;
            written = world.output.write(text) => written,
            () = given_up => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }
}
