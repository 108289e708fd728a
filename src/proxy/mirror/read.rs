//! A read that only the primary may answer, at a mirrored upstream (R34): it waits for the writes ahead of it; while its resource is in
//! doubt it is answered with what all nodes of the set hold.
//!
//! In doubt it is answered from what was compared, not by asking again: what is applied late between the two would be shown although
//! only one node holds it.

use super::Mirror;
use super::ask::{How, chooses, plain};
use crate::core::failover::mirror::compare::End;
use crate::core::failover::mirror::target::Target;
use crate::core::failover::mirror::turns::Turn;
use crate::core::http::validate::Conditions;
use crate::core::retry::Sent;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use crate::proxy::Core;
use crate::proxy::request::Job;
use crate::store::ResourceId;
use crate::upstream::{Answered, Begun, Call, CallError, CallErrorKind, Kind, OutBody, Pool};
use crate::world::BoxFuture;
use http::header::{IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, Method};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// From one comparison that came to nothing to the next.
const AGAIN: Duration = Duration::from_millis(50);

/// A read on its way: straight to the nodes, unless it is one that only the primary may answer, of a mirrored upstream. Not a future: the
/// frequent kind would be moved about as one.
pub(in crate::proxy) fn ask<'a>(core: &'a Arc<Core>, job: &'a Job, mut call: Call) -> Asking<'a> {
    let primary = matches!(call.kind, Kind::Read { primary: true });
    match core.shared.mirror_of(call.upstream) {
        Some(mirror) if primary && Rule::R34.holds() => {
            // What goes out is the mirror's to say, and when.
            (call.again, call.now) = (None, None);
            Asking::Mirror(Box::pin(mirror.answer(core, job, call)))
        }
        _ => Asking::Nodes(core.pool.begin(call)),
    }
}

/// Who is asked. The large one is the frequent one.
#[allow(clippy::large_enum_variant)]
pub(in crate::proxy) enum Asking<'a> {
    Nodes(Begun<'a>),
    Mirror(BoxFuture<'a, Result<Answered, CallError>>),
}

impl Asking<'_> {
    /// Sends it. Once.
    pub(in crate::proxy) async fn answered(&mut self) -> Result<Answered, CallError> {
        match self {
            Self::Nodes(begun) => begun.answered().await,
            Self::Mirror(answer) => answer.as_mut().await,
        }
    }
}

impl Mirror {
    async fn answer(self: &Arc<Self>, core: &Arc<Core>, job: &Job, call: Call) -> Result<Answered, CallError> {
        let resource = job.resource;
        let begun = self.now();
        let until = begun.after(self.hold().into()).min(call.deadline);
        let failed = |kind| CallError {
            kind,
            sent: Sent::Nothing,
            node: None,
            closed_at: self.now(),
        };
        let left = || until.duration_since(self.now());
        let place = self.lines.enter(resource, Turn::Read);
        timeout(left(), place.up())
            .await
            .map_err(|_late| failed(CallErrorKind::Queued))?;
        let in_doubt = || self.lines.is_in_doubt(resource);
        if !in_doubt() {
            return core.pool.call(call).await;
        }
        place.becomes_alone();
        let turn = async {
            place.up().await;
            Arc::clone(&self.under_way).read_owned().await
        };
        let under_way = timeout(left(), turn)
            .await
            .map_err(|_late| failed(CallErrorKind::Queued))?;
        if !in_doubt() {
            return core.pool.call(call).await; // whoever was ahead has ended it
        }
        // R21: what a comparison has sent is waited for, whoever still listens. Cut off, it could be applied over what is acked later.
        let (tell, told) = oneshot::channel();
        let (mirror, shared) = (Arc::clone(self), Arc::clone(core));
        let own = self.target_of(job);
        let work = async move {
            let answered = mirror.compared(&shared, resource, own, call, until).await;
            drop((place, under_way));
            let _left = tell.send(answered);
        };
        let answered = core.detach(work, told).await;
        answered.unwrap_or(Err(CallErrorKind::Unproven)).map_err(failed)
    }

    /// The answer that all nodes of the set agree upon.
    async fn compared(
        self: &Arc<Self>,
        core: &Core,
        resource: ResourceId,
        own: Target,
        mut call: Call,
        until: MonoTime,
    ) -> Result<Answered, CallErrorKind> {
        if let Some(before_send) = call.before_send.take() {
            before_send();
        }
        let fields = &call.parts.headers;
        let whole = matches!(call.parts.method, Method::GET | Method::HEAD)
            && matches!(call.body, OutBody::Empty)
            && !fields.contains_key(IF_MATCH) // the node's to evaluate
            && !fields.contains_key(IF_UNMODIFIED_SINCE);
        loop {
            let end = match self
                .settle(&core.pool, resource, Some((&own, &call.parts.headers)))
                .await
            {
                Ok((answered, settled)) => {
                    let listed = self.list_for_all_out(&own).await; // R33b: before the answer
                    return match answered {
                        _ if !listed => Err(CallErrorKind::Unproven),
                        Some(mut answered) if whole => {
                            if call.parts.method == Method::HEAD {
                                answered.body = crate::upstream::NodeBody::whole(bytes::Bytes::new());
                            }
                            Ok(answered)
                        }
                        // Nothing is applied late any more, and nobody else has a turn.
                        _ if settled => core.pool.call(call).await.map_err(|e| e.kind),
                        _ => Err(CallErrorKind::Queued),
                    };
                }
                Err(end) => end,
            };
            match end {
                End::Unrepairable | End::Same { .. } => return Err(CallErrorKind::Unproven),
                End::Unreachable | End::Overtaken if self.now() >= until => return Err(CallErrorKind::NoPrimary),
                End::Unreachable | End::Overtaken => {
                    core.shared.upstreams.await_primary(self.config.id).await;
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Compares a resource that is in doubt at all its targets, and at a reader's own; ends the doubt when all of it has settled. The
    /// primary's answer to the reader, and whether it had settled before.
    pub(super) async fn settle(
        self: &Arc<Self>,
        pool: &Pool,
        resource: ResourceId,
        own: Option<(&Target, &HeaderMap)>,
    ) -> Result<(Option<Answered>, bool), End> {
        let now = self.now();
        let (begun, targets, settled) = self.lines.doubt(resource, |doubt| {
            let targets: Vec<Target> = doubt.targets().cloned().collect();
            (doubt.begin(now), targets, doubt.settled_at() <= now)
        });
        let mut all_certain = true;
        let mut answered = None;
        let set = self.standing().in_sync;
        let others = targets
            .iter()
            .filter(|target| own.is_none_or(|(own, _)| own != *target));
        for target in others.chain(own.map(|(own, _)| own)) {
            let mine = own.filter(|(own, _)| *own == target).map(|(_, fields)| fields);
            let mut fields = mine.map_or_else(|| self.fields_of(target), Clone::clone);
            Conditions::none(true).apply(&mut fields);
            for (how, compares) in [(How::Stored, true), (How::Wanted, mine.is_some_and(chooses))] {
                if !compares {
                    continue;
                }
                let Some(head) = plain(target, fields.clone(), how) else {
                    return Err(End::Unrepairable);
                };
                let compared = self.compare(pool, &head, target, how).await;
                let End::Same { certain } = compared.end else {
                    return Err(compared.end);
                };
                all_certain &= certain || how == How::Wanted || !targets.contains(target);
                if mine.is_some() {
                    answered = compared.primary;
                }
            }
        }
        // Who has joined meanwhile, by the operator's word, was not compared at every target.
        let joined = self.standing().in_sync.iter().any(|node| !set.contains(node));
        if all_certain && !joined {
            // R35: only now are they forgotten.
            let ended = self.lines.doubt(resource, |doubt| doubt.succeeded(begun));
            for (intent, target) in ended {
                if !self.end(intent, &target).await {
                    self.lines.doubt(resource, |doubt| doubt.raise(&target, intent, now));
                }
            }
        }
        Ok((answered, settled))
    }
}
