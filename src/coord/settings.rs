//! What a machine must know, read from the configuration of its upstream.

use crate::config::runtime::{Failback, Mode, Promotion, Replication, Standby, Upstream};
use crate::core::failover::health::Thresholds;
use crate::core::failover::settings::{self, Grade, Initial, Settings, Sharing, Slot, Spread};
use crate::core::failover::view::Epoch;
use crate::core::time::Span;

/// The settings of an upstream's machine; `epoch` is where it starts when nothing is remembered.
pub(super) fn settings(upstream: &Upstream, epoch: Epoch) -> Settings {
    let failover = &upstream.failover;
    let check = upstream.health_check.as_ref();
    let thresholds = check.map_or(
        // Without a health check nodes start healthy and stay so.
        Thresholds {
            healthy: 1,
            unhealthy: 1,
        },
        |check| Thresholds {
            healthy: check.healthy_threshold,
            unhealthy: check.unhealthy_threshold,
        },
    );
    let initial = match check {
        Some(check) if !check.initially_healthy => Initial::Unprobed,
        Some(_) | None => Initial::Healthy,
    };
    Settings {
        spread: match upstream.mode {
            Mode::ActiveActive => Spread::All,
            Mode::ActivePassive => Spread::One,
        },
        sharing: sharing(upstream),
        thresholds,
        initial,
        nodes: slots(upstream),
        epoch,
        failback: match failover.failback {
            Failback::Manual => settings::Failback::Manual,
            Failback::Automatic => settings::Failback::After(Span::from(failover.stable_for)),
        },
        hold: Span::from(failover.hold),
        unclean: failover.unclean,
        fences: !failover.fence.is_empty(),
        promotes: !failover.on_promote.is_empty(),
    }
}

/// A slot for each node, or the empty ones that discovery fills.
fn slots(upstream: &Upstream) -> Vec<Slot> {
    let mut slots = vec![Slot::empty(); upstream.slots()];
    for (rank, (place, node)) in upstream.listed().enumerate() {
        if let Some(slot) = slots.get_mut(place) {
            *slot = Slot::of(node.standby.as_ref().map(grade)).ranked(rank);
        }
    }
    slots
}

fn sharing(upstream: &Upstream) -> Sharing {
    let check = upstream.health_check.as_ref();
    let promotion = match upstream.failover.promotion {
        Promotion::Follow => settings::Promotion::Follow,
        Promotion::Automatic => settings::Promotion::Automatic,
        Promotion::Manual => settings::Promotion::Manual,
    };
    match upstream.replication {
        Replication::Shared => Sharing::Store,
        Replication::Primary => Sharing::Primary {
            promotion,
            positions: check.is_some_and(|check| check.position_header.is_some()),
            roles: check.is_some_and(|check| check.role_header.is_some()),
        },
        Replication::Mirrored => Sharing::Mirrored {
            promotion,
            initially_all: upstream.mirror.initially_all,
        },
        Replication::MultiPrimary => Sharing::Homes,
    }
}

fn grade(standby: &Standby) -> Grade {
    match standby {
        Standby::Hot => Grade::Hot,
        Standby::Warm => Grade::Warm,
        Standby::Cold { start_timeout, .. } => Grade::Cold {
            start_timeout: Span::from(*start_timeout),
        },
    }
}
