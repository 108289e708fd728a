//! Heartbeats: one task per node, its first probe at once, then one per interval with jitter. A refused connect of the traffic brings
//! the next probe forward (R39). Each probe opens its own connection, so that it sees what a new connection would.
//!
//! It decides nothing: every result goes to the owner of the view.

mod grpc;

use super::body::OutBody;
use super::connect::alone;
use super::{One, Shared, Upstreams};
use crate::config::runtime::{HealthCheck, Probe};
use crate::core::failover::event::{Event, Said};
use crate::core::failover::health::Outcome;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Probes brought forward follow each other no closer than this part of the interval: a node that restarts within a moment is not
/// counted out by the requests it refuses meanwhile.
const EARLY_PART: u32 = 10;

/// Jitter in both directions, as a part of the interval: proxies started together do not probe together.
const JITTER_PART: u32 = 10;

/// How often those who wait are let try a node that could not be connected to.
const TRIAL: Duration = Duration::from_secs(1);

/// After how many of these idle connections are looked through for ones that their node has closed.
const SWEEP: u64 = 10;

impl Upstreams {
    /// Starts the probes, and whatever else watches nodes, on the current runtime; they end with `stop`. Call it once.
    pub fn run_probes(self: Arc<Self>, stop: CancellationToken) {
        for (upstream, one) in self.shared.upstreams.iter().enumerate() {
            if one.config.health_check.is_some() {
                for node in (0..one.nodes.len()).filter(|node| one.may_sit(*node)) {
                    let this = Arc::clone(&self);
                    let stop = stop.clone();
                    tokio::spawn(async move {
                        stop.run_until_cancelled(this.probe_node(upstream, node)).await;
                    });
                }
            }
            let (this, ended) = (Arc::clone(&self), stop.clone());
            tokio::spawn(async move {
                ended.run_until_cancelled(this.eject(upstream)).await;
            });
            if one.owns_promotion() {
                let (this, ended) = (Arc::clone(&self), stop.clone());
                tokio::spawn(async move {
                    ended.run_until_cancelled(this.tell_of_rivals(upstream)).await;
                });
            }
            if one.config.discover.is_some() {
                let this = Arc::clone(&self);
                let stop = stop.clone();
                tokio::spawn(async move {
                    stop.run_until_cancelled(this.discover(upstream)).await;
                });
            }
        }
        tokio::spawn(async move {
            stop.run_until_cancelled(self.sweep()).await;
        });
    }

    async fn probe_node(&self, upstream: usize, node: usize) {
        let Some(one) = self.shared.upstreams.get(upstream) else {
            return;
        };
        let (Some(check), Some(target)) = (&one.config.health_check, one.nodes.get(node)) else {
            return;
        };
        loop {
            let Some(seat) = target.staying() else {
                target.probe_now.notified().await;
                continue;
            };
            let epoch = one.view.load().epoch;
            let sent = self.shared.world.clock.mono(); // R43: earlier than it could be is never wrong
            let (outcome, said) = probe(&self.shared, one, node, check).await;
            // What a node said that has left meanwhile is nothing to the next one in its place.
            let still = target.staying().is_some_and(|now| Arc::ptr_eq(&now, &seat));
            if !still {
                continue;
            }
            if let Some(position) = said.position {
                one.probed(node, (sent, epoch), position);
                one.note_reported(node, sent, position);
            }
            let event = Event::Probed {
                node,
                outcome,
                said,
                sent,
            };
            self.tell(upstream, event).await;
            self.probed_first(one, node);
            let wait = jittered(check.interval, self.shared.world.entropy.next_u64());
            let spacing = check.interval / EARLY_PART;
            tokio::time::sleep(spacing).await;
            // A refusal during the spacing has left its permit.
            let _ = tokio::time::timeout(wait.saturating_sub(spacing), target.probe_now.notified()).await;
        }
    }

    /// One probe of a node that the owner does not know yet; none where nodes are not probed.
    pub(super) async fn probe_once(&self, upstream: usize, node: usize) -> Option<Event> {
        let one = self.shared.upstreams.get(upstream)?;
        let check = one.config.health_check.as_ref()?;
        let sent = self.shared.world.clock.mono();
        let (outcome, said) = probe(&self.shared, one, node, check).await;
        self.probed_first(one, node);
        Some(Event::Probed {
            node,
            outcome,
            said,
            sent,
        })
    }

    async fn sweep(&self) {
        for second in 1_u64.. {
            tokio::time::sleep(TRIAL).await;
            let now = self.shared.world.clock.mono();
            let sweeps = second.is_multiple_of(SWEEP);
            for core in &self.cores {
                for upstream in 0..self.shared.upstreams.len() {
                    core.try_again(upstream, now);
                    if sweeps {
                        core.sweep(upstream);
                    }
                }
            }
        }
    }
}

/// The interval, up to a tenth shorter or longer.
fn jittered(interval: Duration, random: u64) -> Duration {
    let spread = (interval / JITTER_PART).saturating_mul(2);
    let micros = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX);
    let offset = random.checked_rem(micros.saturating_add(1)).unwrap_or(0);
    (interval - interval / JITTER_PART).saturating_add(Duration::from_micros(offset))
}

async fn probe(shared: &Shared, one: &One, node: usize, check: &HealthCheck) -> (Outcome, Said) {
    let asked = tokio::time::timeout(check.timeout, ask(shared, one, node, check)).await;
    asked.unwrap_or((Outcome::Unreachable, Said::default()))
}

async fn ask(shared: &Shared, one: &One, node: usize, check: &HealthCheck) -> (Outcome, Said) {
    let nothing = Said::default();
    if let Probe::Grpc { service } = &check.probe {
        return grpc::check(shared, one, node, service).await;
    }
    let mut link = match alone(shared, one, node).await {
        Ok(link) => {
            shared.connected(one.config.id, node);
            link
        }
        Err(why) => {
            shared.refused(one.config.id, node, &why);
            return (Outcome::Unreachable, nothing);
        }
    };
    let (path, expect) = match &check.probe {
        Probe::Tcp | Probe::Grpc { .. } => return (Outcome::Passed, nothing),
        Probe::Http { path, expect } => (path, expect),
    };
    let mut request = Request::new(OutBody::Empty);
    *request.uri_mut() = path.parse().unwrap_or(Uri::from_static("/"));
    let headers = request.headers_mut();
    let host = one
        .host(node)
        .or_else(|| one.seat(node).map(|seat| seat.authority.clone()));
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static("tidegate-probe"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    match link.exchange(request, check.timeout, check.timeout).await {
        Ok(response) => {
            let status = response.status().as_u16();
            let expected = expect.iter().any(|(low, high)| (*low..=*high).contains(&status));
            if !expected {
                return (Outcome::Refused, nothing);
            }
            (Outcome::Passed, one.said(response.headers()))
        }
        Err(_broken) => (Outcome::Unreachable, nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth() {
        let interval = Duration::from_secs(1);
        for random in [0, 1, u64::MAX, u64::MAX / 3, 0x9e37_79b9_7f4a_7c15] {
            let wait = jittered(interval, random);
            assert!(
                wait >= Duration::from_millis(900) && wait <= Duration::from_millis(1100),
                "{wait:?}"
            );
        }
        assert_ne!(
            jittered(interval, 1),
            jittered(interval, 100_000),
            "there is jitter at all"
        );
    }
}
