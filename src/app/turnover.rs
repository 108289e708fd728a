//! The part of a reload that can still refuse (R31): nodes and upstreams that come and go, as far as the owner of the views is concerned.

use super::era::Era;
use super::reload::NotReloaded;
use super::views::Views;
use crate::config::diff;
use crate::config::runtime::{Replication, Upstream};
use crate::coord::{Change, NotTaken};
use crate::core::failover::event::Event;
use crate::core::failover::take_over::Unfit;
use crate::proxy;
use std::sync::Arc;

/// Has the owner of the views take over what is new in `next`. When it returns `Ok` the views are those of `next`, and durable; nothing of
/// `next` serves yet, and requests of `running` go on.
///
/// # Errors
/// When nothing has changed.
pub(super) async fn turn_over(views: &Views, running: &Era, next: &Era) -> Result<(), NotReloaded> {
    let changed: Vec<(&Arc<Upstream>, Was<'_>)> = next
        .config
        .upstreams
        .iter()
        .filter_map(|is| Some((is, was(running, next, is)?)))
        .collect();
    if changed.is_empty() {
        views.add(&next.upstreams);
        return Ok(());
    }
    let new: Vec<usize> = changed
        .iter()
        .filter(|(_, was)| matches!(was, Was::Nothing))
        .map(|(is, _)| is.id)
        .collect();
    let newcomers: Vec<(usize, usize)> = changed.iter().flat_map(|(is, was)| newcomers(is, was)).collect();
    refuse_recalled(views, &changed)?;
    let there = |(upstream, _): &&(usize, usize)| !new.contains(upstream);
    let strangers: Vec<_> = newcomers.iter().filter(there).copied().collect();
    let strangers = next.proxy.expect_strangers(&strangers).await;
    strangers.map_err(|why| NotReloaded::one(format!("what new nodes lack cannot be noted: {why}")))?;
    let mut probes = next.upstreams.probe_first(&newcomers).await;
    let changes = changed.iter().map(|(is, was)| {
        let of_it = |(upstream, _): &mut (usize, Event)| *upstream == is.id;
        Change {
            config: Arc::clone(is),
            cell: match was {
                Was::Nothing => next.upstreams.cell(is.id),
                Was::There(_) => None,
            },
            probes: probes.extract_if(.., of_it).map(|(_, event)| event).collect(),
        }
    });
    let changes = changes.collect();
    let ids: Vec<usize> = changed.iter().map(|(is, _)| is.id).collect();
    running.upstreams.part(&ids);
    views.add(&next.upstreams);
    let taken = views.coord.take_over(changes).await;
    taken.map_err(|why| not_taken(next, why))?;
    next.proxy.forget_gone().await;
    next.proxy.recall_mirrors_of(&new).await;
    Ok(())
}

/// R35: what an earlier process has left of a mirrored upstream is taken up at the start alone.
fn refuse_recalled(views: &Views, changed: &[(&Arc<Upstream>, Was<'_>)]) -> Result<(), NotReloaded> {
    let recalled = |(is, was): &&(&Arc<Upstream>, Was<'_>)| {
        let comes = matches!(was, Was::Nothing) && is.replication == Replication::Mirrored;
        comes && proxy::Shared::is_recalled(&views.journal, &is.name)
    };
    let told = changed.iter().filter(recalled).map(|(is, _)| {
        format!(
            "error: upstreams.{}: needs a restart: an earlier process has left writes of it, in state_dir, of which the outcome is open",
            is.name
        )
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        Ok(())
    } else {
        Err(NotReloaded(told))
    }
}

/// What an upstream was before.
enum Was<'a> {
    /// There was none, or it had gone.
    Nothing,
    /// This.
    There(&'a Upstream),
}

/// What a changed upstream was; none: it goes on as it is.
fn was<'a>(running: &'a Era, next: &Era, is: &Upstream) -> Option<Was<'a>> {
    let was = running.config.upstreams.get(is.id).filter(|was| !was.retired);
    match was {
        None => (!is.retired).then_some(Was::Nothing),
        Some(was) if is.retired => Some(Was::There(was)),
        Some(was) => (!diff::is_kept(&running.config, &next.config, is.id)).then_some(Was::There(was)),
    }
}

/// The nodes that an upstream did not have before.
fn newcomers(is: &Upstream, was: &Was<'_>) -> Vec<(usize, usize)> {
    let known = |place: usize| match was {
        Was::Nothing => false,
        Was::There(was) => was.is_listed(place),
    };
    let places = is.order.iter().copied().filter(|place| !known(*place));
    places.map(|place| (is.id, place)).collect()
}

/// As `check` would say it: the key, and what to do.
fn not_taken(next: &Era, why: NotTaken) -> NotReloaded {
    match why {
        NotTaken::Unfit(all) => NotReloaded(
            all.into_iter()
                .map(|(upstream, why)| unfit(next, upstream, why))
                .collect(),
        ),
        NotTaken::NotDurable(why) => NotReloaded::one(format!("the views cannot be made durable: {why}")),
        NotTaken::Leaving => NotReloaded::one("the process is leaving"),
    }
}

fn unfit(next: &Era, upstream: usize, why: Unfit) -> String {
    let upstream = next.config.upstreams.get(upstream);
    let name = upstream.map_or("", |upstream| upstream.name.as_str());
    let node = |node: usize| {
        let node = upstream.and_then(|upstream| upstream.nodes.get(node));
        node.map_or("", |node| node.name.as_str())
    };
    match why {
        Unfit::InOffice { node: gone } | Unfit::TooFew { node: gone } => {
            format!(
                "error: upstreams.{name}.nodes: \"{}\" cannot be taken out now: {}",
                node(gone),
                why.why()
            )
        }
        Unfit::Promoting | Unfit::Remembered => format!("error: upstreams.{name}: {}", why.why()),
    }
}
