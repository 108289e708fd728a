//! What the admin port may ask, answered from the rooms.

use super::rooms::Rooms;
use crate::admin::{
    Begin, BegunStatus, BuildStatus, CacheStatus, Control, MeterScale, MeterStatus, NodeWord, NotBegun, NotOrdered,
    NotPurged, NotReloaded, Ordered, Purge, PurgeKind, Purged, Reloaded, Reloading, RouteStatus, Status,
    UnsettledStatus,
};
use crate::config::print::redacted_json;
use crate::config::runtime::Action;
use crate::core::consistency::meter::{SCALES, Tally};
use crate::proxy::{ExplainError, Explanation, OpenOutside, Outside, OutsideError, PurgeTarget, Question};
use crate::store;
use crate::telemetry::metrics::{Gauges, ListenerGauge};
use crate::world::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// The rooms as the admin port sees them.
pub(super) struct Controls(pub(super) Arc<Rooms>);

impl Control for Controls {
    fn unready(&self) -> Vec<String> {
        let rooms = &self.0;
        let mut reasons = Vec::new();
        if self.is_passive() {
            reasons.push("passive: the other process of the pair has the state directory".to_owned());
            return reasons;
        }
        if rooms.drain().is_draining() {
            reasons.push("draining".to_owned());
        }
        if rooms.doors().is_empty() {
            reasons.push("the listeners are not bound yet".to_owned());
        }
        if !rooms.is_probed() {
            reasons.push("the first probes are under way".to_owned());
        }
        let era = rooms.era();
        for upstream in &era.config.server.ready_requires {
            if !era.upstreams.in_service(*upstream) {
                let name = era.config.upstreams.get(*upstream).map_or("?", |u| u.name.as_str());
                reasons.push(format!("upstream {name} has no healthy node"));
            }
        }
        reasons
    }

    fn is_passive(&self) -> bool {
        self.0.is_passive()
    }

    fn status(&self) -> Status {
        let rooms = &self.0;
        let usage = rooms.store.usage();
        let era = rooms.era();
        Status {
            routes: era.config.routes.iter().map(|route| self.route_status(route)).collect(),
            upstreams: era.upstreams.snapshot(),
            cache: CacheStatus {
                entries: usage.entries,
                bytes: usage.bytes,
            },
            unsettled: rooms
                .store
                .unsettled()
                .into_iter()
                .map(|u| self.unsettled_status(u))
                .collect(),
            begun: era.proxy.outside().into_iter().map(begun_status).collect(),
            build: BuildStatus {
                version: env!("CARGO_PKG_VERSION"),
            },
            config_hash: era.config.hash.clone(),
            draining: rooms.drain().is_draining(),
            pair: era.config.server.pair.then(|| match self.is_passive() {
                true => "passive",
                false => "active",
            }),
        }
    }

    fn metrics(&self) -> String {
        let rooms = &self.0;
        let usage = rooms.store.usage();
        let listeners = rooms.doors().iter().map(|door| ListenerGauge {
            name: door.listener().name.clone(),
            open: door.open_connections() as u64,
            refused: door.refused_connections(),
            handshakes: door.tally().handshakes(),
            certificate_expires: door.terms().and_then(|terms| terms.expires()),
            streams_thrown_away: door.tally().thrown_away(),
            floods: door.tally().floods(),
        });
        rooms.era().metrics.render(&Gauges {
            cache_bytes: usage.bytes,
            cache_entries: usage.entries,
            cache_evictions: usage.evictions,
            access_log_dropped: rooms.access_log.as_ref().map_or(0, |log| log.dropped()),
            unsettled: self.unsettled_by_route(),
            reload_failed: rooms.reloads.failed(),
            listeners: listeners.collect(),
        })
    }

    fn config(&self) -> serde_json::Value {
        redacted_json(&self.0.config().effective)
    }

    fn purge(&self, kind: PurgeKind, what: &Purge) -> Result<Purged, NotPurged> {
        let rooms = &self.0;
        let how = match kind {
            PurgeKind::Hard => store::Purge::Hard,
            PurgeKind::Soft => store::Purge::Soft,
        };
        let target = match what {
            Purge::All => PurgeTarget::All,
            Purge::Url(url) => PurgeTarget::Url(url.clone()),
            Purge::Prefix(prefix) => PurgeTarget::Prefix(prefix.clone()),
            Purge::Tag(name) => PurgeTarget::Tag(name.clone()),
            Purge::Route(name) => PurgeTarget::Route(name.clone()),
        };
        let purged = rooms
            .era()
            .proxy
            .purge(how, &target)
            .map_err(|why| NotPurged(why.to_string()))?;
        tracing::info!(?kind, ?what, entries = purged.entries, epoch = purged.epoch, "purged");
        Ok(Purged {
            entries: purged.entries,
            epoch: purged.epoch,
        })
    }

    fn settle(&self, url: &str) -> Result<u64, NotPurged> {
        let settled = self
            .0
            .era()
            .proxy
            .settle(url)
            .map_err(|why| NotPurged(why.to_string()))?;
        tracing::info!(url, settled, "settled by the operator's word");
        Ok(settled)
    }

    fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        self.0.era().proxy.explain(question, true)
    }

    fn begin(&self, what: &Begin, ttl: Duration) -> Result<String, NotBegun> {
        let rooms = &self.0;
        let outside = match what {
            Begin::Url(url) => Outside::Url(url.clone()),
            Begin::Tag(name) => Outside::Tag(name.clone()),
        };
        let id = rooms
            .era()
            .proxy
            .begin_outside(&outside, ttl)
            .map_err(|why| not_begun(&why))?;
        tracing::info!(?what, ?ttl, "a write outside begins");
        let rooms = Arc::clone(rooms);
        tokio::spawn(async move {
            tokio::time::sleep(ttl).await;
            rooms.era().proxy.expire_outside();
        });
        Ok(id)
    }

    fn commit(&self, id: &str) -> Result<(), NotBegun> {
        self.0.era().proxy.commit_outside(id).map_err(|why| not_begun(&why))
    }

    fn reload(&self) -> Reloading {
        let reloading = Arc::clone(&self.0).ask_reload();
        Box::pin(async move {
            match reloading.await {
                Ok(super::Reloaded { changed, config_hash }) => Ok(Reloaded { changed, config_hash }),
                Err(super::NotReloaded(why)) => Err(NotReloaded(why)),
            }
        })
    }

    fn order<'a>(
        &'a self,
        upstream: &'a str,
        node: &'a str,
        word: NodeWord,
    ) -> BoxFuture<'a, Result<Ordered, NotOrdered>> {
        Box::pin(self.ordered(upstream, node, word))
    }

    fn drain(&self) {
        self.0.leave();
    }
}

impl Controls {
    /// Resources unsettled on the upstream a strong route proxies to; a resource is not a route's alone.
    fn unsettled_by_route(&self) -> Vec<u64> {
        let rooms = &self.0;
        let unsettled = rooms.store.unsettled();
        let count = |upstream: usize| unsettled.iter().filter(|u| u.upstream == upstream).count() as u64;
        let config = rooms.config();
        let of = |id| match &config.route(id)?.action {
            Action::Proxy { upstream, .. } => Some(count(upstream.id)),
            Action::Redirect { .. } | Action::Respond { .. } => None,
        };
        (0..config.numbers.routes.len())
            .map(|id| of(id).unwrap_or_default())
            .collect()
    }

    fn route_status(&self, route: &crate::config::runtime::Route) -> RouteStatus {
        RouteStatus {
            name: route.name.clone(),
            consistency: match &route.action {
                Action::Proxy { policy, .. } => Some(policy.level()),
                Action::Redirect { .. } | Action::Respond { .. } => None,
            },
            meter: self
                .0
                .era()
                .proxy
                .metered(route.id)
                .filter(|_| matches!(&route.action, Action::Proxy { policy, .. } if policy.caching().is_some()))
                .map(meter_status),
        }
    }

    fn unsettled_status(&self, unsettled: crate::store::UnsettledResource) -> UnsettledStatus {
        let config = self.0.config();
        let upstream = config.upstreams.get(unsettled.upstream);
        UnsettledStatus {
            upstream: upstream.map_or_else(String::new, |u| u.name.clone()),
            path: unsettled.path,
            remaining_ms: unsettled.remaining.map(crate::core::time::Span::as_millis),
        }
    }
}

fn not_begun(why: &OutsideError) -> NotBegun {
    let text = why.to_string();
    match why {
        OutsideError::NotAUrl(_) | OutsideError::Nothing(_) | OutsideError::Ttl => NotBegun::Senseless(text),
        OutsideError::TooMany | OutsideError::Superseded => NotBegun::Full(text),
        OutsideError::NotOpen => NotBegun::NotOpen(text),
    }
}

fn begun_status(open: OpenOutside) -> BegunStatus {
    BegunStatus {
        what: open.what,
        remaining_ms: open.remaining.as_millis(),
    }
}

fn meter_status(tally: Tally) -> MeterStatus {
    let scales = tally.scales.iter().zip(SCALES).map(|(scale, span)| MeterScale {
        seconds: span.as_secs(),
        within: scale.within,
        beyond: scale.beyond,
        nines: scale.nines().map(|nines| (nines * 100.0).floor() / 100.0),
    });
    MeterStatus {
        judged: tally.judged,
        void: tally.void,
        scales: scales.collect(),
    }
}
