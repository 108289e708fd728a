//! The origin: any number of nodes over one store of registers, which it never lies about, however it treats the requests.
//!
//! The contract's assumption is kept exactly: an abandoned write is applied within the settling time or never. The origin cannot see
//! when the proxy closed, only until when it had not; counted from there, nothing is applied after [`LATEST`].

use super::fault::{FIELD, Fault, LATEST, Order};
use super::support::origin::{Exchange, HEALTH, Origin};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// The field that carries the value of a write without a body.
pub const VALUE: &str = "X-Value";

#[derive(Default)]
struct State {
    /// One representation each, and the answer to a PUT of one names it: only then may it (RFC 9110 s9.3.4).
    whole: bool,
    values: BTreeMap<String, String>,
    /// How often each fault had its effect: a run without them would prove nothing.
    happened: BTreeMap<String, u64>,
}

/// The registers.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<State>>);

/// A node over the store.
pub struct Node {
    url: String,
    orders: mpsc::UnboundedSender<(bool, oneshot::Sender<()>)>,
}

/// Until when the request's connection was certainly open.
struct Life(Option<Instant>);

impl Life {
    fn look(&mut self, exchange: &Exchange) -> bool {
        let now = Instant::now();
        let open = exchange.is_open();
        if open {
            self.0 = Some(now);
        }
        open
    }

    fn may_apply(&self) -> bool {
        self.0.is_some_and(|open| open.elapsed() < LATEST)
    }
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on a value has one representation, and who writes that is told its tag.
    pub fn keeps_what_is_written(&self) {
        self.state().whole = true;
    }

    pub fn set(&self, path: &str, value: &str) {
        self.state().values.insert(path.to_owned(), value.to_owned());
    }

    pub fn value(&self, path: &str) -> Option<String> {
        self.state().values.get(path).cloned()
    }

    pub fn happened(&self) -> BTreeMap<String, u64> {
        self.state().happened.clone()
    }

    fn count(&self, fault: Fault) {
        *self.state().happened.entry(fault.name()).or_default() += 1;
    }

    /// Starts a node.
    pub async fn node(&self) -> Node {
        let mut origin = Origin::start().await;
        let (orders, mut told) = mpsc::unbounded_channel::<(bool, oneshot::Sender<()>)>();
        let url = origin.url();
        let store = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    exchange = origin.next_or_never() => {
                        tokio::spawn(store.clone().serve(exchange));
                    }
                    order = told.recv() => match order {
                        Some((true, done)) => { origin.up().await; let _ = done.send(()); }
                        Some((false, done)) => { origin.down().await; let _ = done.send(()); }
                        None => return,
                    }
                }
            }
        });
        Node { url, orders }
    }

    async fn serve(self, mut exchange: Exchange) {
        let Ok(body) = exchange.try_body().await else { return };
        assert_ne!(exchange.target, HEALTH, "the origin answers health checks by itself");
        let mut life = Life(None);
        life.look(&exchange);
        let write = (exchange.method == "PUT").then(|| {
            let in_head = exchange.header(VALUE).map(str::to_owned);
            let written = in_head.unwrap_or_else(|| String::from_utf8(body.clone()).unwrap());
            written.split(' ').next().unwrap().to_owned()
        });
        let whole = self.state().whole;
        let verbatim = whole
            && write
                .as_ref()
                .is_some_and(|value| body == body_of(value, "a").as_bytes());
        let path = register(&exchange.target);
        let order = exchange.header(FIELD).map(Order::read);
        let fault = order.map(|o| o.fault);
        let delay = order.map_or(Duration::ZERO, |o| o.delay);
        let apply = |life: &Life| {
            let mut state = self.state();
            let Some(value) = &write else { return true };
            let may = life.may_apply();
            if may {
                state.values.insert(path.clone(), value.clone());
            }
            may
        };
        match fault {
            Some(f @ Fault::ResetBefore) => {
                self.count(f);
                return exchange.reset();
            }
            Some(Fault::Hang | Fault::Late) => {
                // The only way to know until when the connection was open is to look again and again.
                while life.look(&exchange) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                drop(exchange);
                if fault == Some(Fault::Late) && write.is_some() {
                    tokio::time::sleep(delay).await;
                    if apply(&life) {
                        self.count(Fault::Late);
                    }
                } else {
                    self.count(Fault::Hang);
                }
                return;
            }
            Some(f @ (Fault::Late202 | Fault::Late500)) if write.is_some() => {
                life.look(&exchange);
                let status = if f == Fault::Late202 { 202 } else { 500 };
                let _ = exchange.try_respond(status, &[], "").await;
                tokio::time::sleep(delay).await;
                if apply(&life) {
                    self.count(f);
                }
                return;
            }
            Some(f @ (Fault::SlowBefore | Fault::SlowAround)) => {
                tokio::time::sleep(delay).await;
                life.look(&exchange);
                self.count(f);
            }
            _ => {}
        }
        let applied = apply(&life);
        if !applied {
            return; // nobody waits for it, and too late to apply it
        }
        let tag = write
            .as_ref()
            .filter(|_| verbatim)
            .map(|value| format!("\"{value}.a\""));
        let answer = match &write {
            Some(_) => Answer {
                status: 204,
                headers: tag.map(|tag| ("ETag", tag)).into_iter().collect(),
                body: String::new(),
            },
            None => self.answer(&exchange, &path, whole),
        };
        match fault {
            Some(f @ Fault::ResetAfter) => {
                tokio::time::sleep(delay).await;
                self.count(f);
                return exchange.reset();
            }
            Some(f @ Fault::LoseReply) => {
                tokio::time::sleep(delay).await;
                self.count(f);
                return exchange.close();
            }
            Some(f @ (Fault::Error500 | Fault::Late202 | Fault::Late500)) => {
                self.count(f);
                let _ = exchange.try_respond(500, &[], "").await;
                return;
            }
            Some(f @ (Fault::SlowAfter | Fault::SlowAround)) => {
                tokio::time::sleep(delay).await;
                if f == Fault::SlowAfter {
                    self.count(f);
                }
            }
            Some(f @ (Fault::CutBody | Fault::SlowBody)) if answer.status == 200 && exchange.method == "GET" => {
                return self.in_halves(exchange, answer, f, delay).await;
            }
            _ => {}
        }
        let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let _ = exchange.try_respond(answer.status, &headers, answer.body).await;
    }

    async fn in_halves(&self, mut exchange: Exchange, answer: Answer, fault: Fault, delay: Duration) {
        let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", answer.body.len());
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let (first, rest) = answer.body.split_at(answer.body.len() / 2);
        if exchange.try_send(format!("{head}\r\n{first}")).await.is_err() {
            return;
        }
        tokio::time::sleep(delay).await;
        self.count(fault);
        if fault == Fault::CutBody {
            return exchange.reset();
        }
        if exchange.try_send(rest).await.is_ok() {
            exchange.keep();
        }
    }

    /// What the store says at this instant. The tag is the value's, so equal tags mean equal representations on all nodes.
    fn answer(&self, exchange: &Exchange, path: &str, whole: bool) -> Answer {
        let Some(value) = self.value(path) else {
            return Answer {
                status: 404,
                headers: Vec::new(),
                body: "nothing here".into(),
            };
        };
        let variant = exchange.header("accept-language").unwrap_or("a");
        let etag = format!("\"{value}.{variant}\"");
        let mut headers = vec![("ETag", etag.clone())];
        if !whole {
            headers.push(("Vary", "Accept-Language".to_owned()));
        }
        let given = exchange.headers.all("if-none-match").join(",");
        if given.split(',').any(|tag| tag.trim() == etag) {
            return Answer {
                status: 304,
                headers,
                body: String::new(),
            };
        }
        Answer {
            status: 200,
            headers,
            body: body_of(&value, variant),
        }
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A body that shows when its halves are of two values.
pub fn body_of(value: &str, variant: &str) -> String {
    format!("{value} {variant} {:.>400} {value}", "")
}

/// The register that a target names: `/k/%33` is another name of `/k/3`, and no query names another one.
fn register(target: &str) -> String {
    let path = target.split('?').next().unwrap();
    path.replace("/k/%3", "/k/")
}

impl Node {
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The machine dies, or is back on the same port.
    pub async fn set_up(&self, up: bool) {
        let (done, is_done) = oneshot::channel();
        assert!(self.orders.send((up, done)).is_ok(), "the node runs");
        super::support::within("the node to obey", is_done).await.unwrap();
    }
}
