//! A write to a mirrored upstream, around its way through [`crate::proxy::write`] (R33): its turn and its durable intent before it is sent,
//! its copies, the removals and the fate of its intent between the primary's answer and the ack.

use super::Mirror;
use super::line::Place;
use super::result::Created;
use super::room::Taken;
use crate::coord::journal::{Intent, IntentId};
use crate::core::failover::mirror::target::Target;
use crate::core::failover::mirror::turns::Turn;
use crate::core::failover::mirror::write::{Effect, End, Event, Why, Write};
use crate::core::failover::view::Primary;
use crate::core::http::invalidate;
use crate::core::reason::WriteOutcome;
use crate::core::retry::Sent;
use crate::core::rules::Rule;
use crate::core::time::Span;
use crate::proxy::buffered::Buffered;
use crate::proxy::error::Fault;
use crate::proxy::request::Job;
use crate::proxy::write::{NoReply, unsent};
use crate::proxy::{Core, outbound};
use crate::store::ResourceId;
use crate::upstream::{Aim, Answered, Call, CallError, CallErrorKind, Kind, OutBody, Pool};
use bytes::Bytes;
use http::header::{EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::request::Parts;
use http::response;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedRwLockReadGuard;
use tokio::task::JoinSet;

/// While its connection is open a write may be applied: for so long, unless told.
const OPEN: Span = Span::from_secs(365 * 24 * 3600);

/// A write that has its turn, and its intent durable.
pub(in crate::proxy) struct Copying {
    pub(super) mirror: Arc<Mirror>,
    machine: Write,
    pub(super) primary: usize,
    pub(super) intent: IntentId,
    /// What it is sent to.
    pub(super) target: Target,
    /// R40: the primary alone runs it, and its result is copied.
    of_result: bool,
    /// What it has created elsewhere: that is what is copied.
    pub(super) created: Option<Created>,
    /// What the copies are.
    pub(super) head: Parts,
    pub(super) body: Bytes,
    over: bool,
    pub(super) place: Place,
    _under_way: OwnedRwLockReadGuard<()>,
    _room: Taken,
}

/// A write that ended unknown while its connection may be open: dropped, it has closed (R34).
pub(in crate::proxy) struct Opened {
    mirror: Arc<Mirror>,
    intents: Vec<(ResourceId, IntentId)>,
}

/// Takes a write in: its body, its turn, its intent. From here on it may be sent ([`Copying::send`]).
pub(in crate::proxy) async fn enter(
    mirror: &Arc<Mirror>,
    core: &Core,
    job: &Job,
    body: OutBody,
) -> Result<(Bytes, Box<Copying>), NoReply> {
    let refused = |detail| NoReply::Refused(Fault::not_mirrored(detail));
    let whole_state = matches!(job.parts.method, Method::PUT | Method::DELETE);
    let changes = matches!(job.parts.method, Method::POST | Method::PATCH);
    let as_it_is = whole_state && !invalidate::is_overridden(&job.parts.headers); // R13
    let of_result = !as_it_is && (whole_state || changes) && mirror.config.mirror.replicate_result;
    if !as_it_is && !of_result && Rule::R40.holds() {
        return Err(NoReply::Refused(Fault::not_replicable())); // R40
    }
    if mirror.lines.is_full() {
        return Err(refused(
            "too many writes before it ended unknown: the write was not sent",
        ));
    }
    let (body, room) = whole(mirror, core, job, body).await?;
    let hold = mirror.hold();
    let place = mirror.lines.enter(job.resource, Turn::Alone);
    let turn = async {
        place.up().await;
        Arc::clone(&mirror.under_way).read_owned().await
    };
    let under_way = tokio::time::timeout(hold, turn)
        .await
        .map_err(|_late| refused("the requests ahead of it have not ended in time: the write was not sent"))?;
    if mirror.standing().primary.is_none() {
        core.shared.upstreams.await_primary(mirror.config.id).await;
    }
    let mut machine = Write::new(mirror.config.mirror.min_in_sync);
    if let [Effect::End(End::NotApplied(why))] = *machine.step(&mirror.standing(), Event::Turn) {
        return Err(refused(words(why)));
    }
    let target = mirror.target_of(job);
    let intent = Intent {
        upstream: mirror.config.name.clone(),
        target: target.clone(),
    };
    // R33: durable before anything is sent.
    let intent = mirror.journal.intend(intent).await.map_err(|error| {
        tracing::error!(upstream = mirror.config.name, %error, "a mirrored write is refused");
        refused(words(Why::NotDurable))
    })?;
    let [Effect::Send { node: primary }] = *machine.step(&mirror.standing(), Event::Intended(true)) else {
        mirror.journal.end(intent);
        return Err(refused(words(Why::NoPrimary)));
    };
    let mut head = outbound::parts(job, &*core.shared.world.entropy);
    for condition in [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
        EXPECT,
    ] {
        head.headers.remove(condition);
    }
    let copying = Copying {
        mirror: Arc::clone(mirror),
        machine,
        primary,
        intent,
        target,
        of_result,
        created: None,
        head,
        body: body.clone(),
        over: false,
        place,
        _under_way: under_way,
        _room: room,
    };
    Ok((body, Box::new(copying)))
}

const fn words(why: Why) -> &'static str {
    match why {
        Why::NoPrimary => "the upstream has no primary now: the write was not sent",
        Why::TooFew => "fewer nodes are in sync than min_in_sync: the write was not sent",
        Why::NotDurable => "what is about to be written cannot be noted durably: the write was not sent",
        Why::NotSent => "the primary could not be reached: the write was not sent",
    }
}

/// Whether a node could not be reached, or is the primary no more: another may take over.
const fn is_unreachable(kind: &CallErrorKind) -> bool {
    match kind {
        CallErrorKind::NoNode
        | CallErrorKind::NoPrimary
        | CallErrorKind::ConnectFailed(_)
        | CallErrorKind::ConnectTimedOut => true,
        CallErrorKind::Queued
        | CallErrorKind::Unproven
        | CallErrorKind::QueueFull
        | CallErrorKind::HeadTimedOut
        | CallErrorKind::Reset
        | CallErrorKind::Garbage
        | CallErrorKind::BodyFailed
        | CallErrorKind::DeadlineExceeded => false,
    }
}

/// All of a client's body, which has to be sent to every node, and the room it takes.
async fn whole(mirror: &Mirror, core: &Core, job: &Job, body: OutBody) -> Result<(Bytes, Taken), NoReply> {
    let max = usize::try_from(mirror.config.mirror.max_body).unwrap_or(usize::MAX);
    match tokio::time::timeout(job.left(core.now()), mirror.room.whole(body, max)).await {
        Ok(None) => Err(NoReply::Refused(Fault::overloaded())),
        Ok(Some((Buffered::Whole(bytes), taken))) => Ok((bytes, taken)),
        Ok(Some((Buffered::Longer(_), _))) => Err(NoReply::Refused(Fault::refuse_and_close(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than mirror_max_body",
        ))),
        Ok(Some((Buffered::Broken, _))) => Err(unsent(core, CallErrorKind::BodyFailed)),
        Err(_late) => Err(unsent(core, CallErrorKind::DeadlineExceeded)),
    }
}

impl Copying {
    /// Sends it to the primary. What has provably reached nobody is sent to whoever takes over, up to `hold` (R20).
    pub(in crate::proxy) async fn send(
        &mut self,
        core: &Core,
        job: &Job,
        parts: Parts,
        kind: Kind,
    ) -> Result<Answered, CallError> {
        let upstream = self.mirror.config.id;
        let until = core.now().after(self.mirror.hold().into()).min(job.deadline);
        loop {
            let (primary, epoch) = self.machine.aim();
            let mut seen = (epoch, Primary::Node(primary));
            let call = Call {
                upstream,
                parts: parts.clone(),
                body: self.body.clone().into(),
                kind,
                aim: Aim::at_primary_of(epoch, primary), // R54
                again: None,
                deadline: job.deadline,
                now: None,
                before_send: None,
                on_interim: job.on_interim(),
            };
            let error = match core.pool.call(call).await {
                Err(error) if error.sent == Sent::Nothing && is_unreachable(&error.kind) => error,
                answered => return answered,
            };
            loop {
                let left = until.duration_since(core.now());
                if left.is_zero() || !core.shared.upstreams.await_news(upstream, seen, left).await {
                    return Err(error);
                }
                seen = self.mirror.seen();
                match self.begin_again() {
                    Ok(()) => break,
                    Err(Why::NoPrimary) => {}
                    Err(Why::TooFew | Why::NotDurable | Why::NotSent) => return Err(error),
                }
            }
        }
    }

    /// Begins anew, for whoever is the primary now. Its intent is durable.
    fn begin_again(&mut self) -> Result<(), Why> {
        let standing = self.mirror.standing();
        let mut machine = Write::new(self.mirror.config.mirror.min_in_sync);
        if let [Effect::End(End::NotApplied(why))] = *machine.step(&standing, Event::Turn) {
            return Err(why);
        }
        let [Effect::Send { node }] = *machine.step(&standing, Event::Intended(true)) else {
            return Err(Why::NoPrimary);
        };
        (self.machine, self.primary) = (machine, node);
        Ok(())
    }

    /// The primary has answered, as `outcome` says: copies what it applied, and has the nodes leave the set that do not confirm. What
    /// it is then.
    pub(in crate::proxy) async fn spread(
        &mut self,
        core: &Core,
        job: &Job,
        outcome: WriteOutcome,
        answer: &response::Parts,
    ) -> WriteOutcome {
        let mirror = Arc::clone(&self.mirror);
        let made = outcome == WriteOutcome::Applied && self.of_result;
        let outcome = match made && !Box::pin(self.take_result(core, job, answer)).await {
            true => WriteOutcome::Unknown, // R40: the primary has it, and nobody else can be given it
            false => outcome,
        };
        let mut effects = VecDeque::from(self.machine.step(&mirror.standing(), Event::Answered(outcome)));
        let mut copies = JoinSet::new();
        let answered = (!self.of_result).then_some(answer.status);
        loop {
            let event = match effects.pop_front() {
                Some(Effect::Copy { node }) => {
                    let copy = copy(
                        core.pool.clone(),
                        mirror.call_of(node, self.head.clone(), self.body.clone()),
                        mirror.config.mirror.timeout,
                        answered,
                    );
                    copies.spawn(async move { (node, copy.await) });
                    continue;
                }
                Some(Effect::Remove { node }) => {
                    let _left = mirror.remove(node, self.copied()).await; // the view says it
                    Event::Removed { node }
                }
                Some(Effect::End(end)) => {
                    return match end {
                        End::Acked => WriteOutcome::Applied,
                        End::Rejected => WriteOutcome::Rejected,
                        End::NotApplied(_) => WriteOutcome::NotApplied,
                        End::Unknown => WriteOutcome::Unknown,
                    };
                }
                Some(Effect::Intend | Effect::Send { .. }) => continue,
                None => match copies.join_next().await {
                    Some(Ok((node, confirmed))) => Event::Copied {
                        node,
                        confirmed: confirmed || !Rule::R33.holds(),
                    },
                    Some(Err(_)) | None => return WriteOutcome::Unknown,
                },
            };
            effects.extend(self.machine.step(&mirror.standing(), event));
        }
    }

    /// It has ended like this: forgets its intent, or leaves it open and the resource in doubt (R34, R35). What comes back is to be held
    /// until its connection has closed.
    pub(in crate::proxy) async fn end(&mut self, outcome: WriteOutcome) -> Option<Opened> {
        self.over = true;
        let mirror = &self.mirror;
        match outcome {
            WriteOutcome::Rejected | WriteOutcome::NotApplied => mirror.journal.end(self.intent),
            WriteOutcome::Applied => {
                let ended = match &self.created {
                    None => mirror.end(self.intent, &self.target).await,
                    // What was created is what whoever is out has missed.
                    Some(created) => {
                        let ended = mirror.end(created.intent, &created.target).await;
                        if ended {
                            mirror.journal.end(self.intent);
                        }
                        ended
                    }
                };
                if !ended {
                    self.doubt(mirror.now());
                }
            }
            WriteOutcome::Unknown => {
                self.doubt(mirror.now().after(OPEN));
                return Some(Opened {
                    mirror: Arc::clone(mirror),
                    intents: self.intents().map(|(resource, intent, _)| (resource, intent)).collect(),
                });
            }
        }
        None
    }

    /// R34: whether what the primary shows of the resource may be what it alone holds.
    pub(in crate::proxy) fn is_in_doubt(&self) -> bool {
        self.mirror.lines.is_in_doubt(self.place.resource) && Rule::R34.holds()
    }

    /// What the copies are of.
    pub(super) fn copied(&self) -> &Target {
        self.created.as_ref().map_or(&self.target, |created| &created.target)
    }

    fn intents(&self) -> impl Iterator<Item = (ResourceId, IntentId, &Target)> {
        let created = self.created.iter().map(|c| (c.resource, c.intent, &c.target));
        std::iter::once((self.place.resource, self.intent, &self.target)).chain(created)
    }

    fn doubt(&self, settled_at: crate::core::time::MonoTime) {
        for (resource, intent, target) in self.intents() {
            let lines = &self.mirror.lines;
            lines.doubt(resource, |doubt| doubt.raise(target, intent, settled_at));
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        if !self.over {
            self.doubt(self.mirror.settled_at());
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let settled_at = self.mirror.settled_at();
        for (resource, intent) in &self.intents {
            let lines = &self.mirror.lines;
            lines.doubt(*resource, |doubt| doubt.settles(*intent, settled_at));
        }
    }
}

impl Mirror {
    /// A copy of a write, for this node alone.
    pub(super) fn call_of(&self, node: usize, mut head: Parts, body: Bytes) -> Call {
        if !head.headers.contains_key(HOST)
            && let Some(host) = self.host(node)
        {
            head.headers.insert(HOST, host);
        }
        Call {
            upstream: self.config.id,
            parts: head,
            body: body.into(),
            kind: Kind::Write { repeatable: false },
            aim: Aim::at(node),
            again: None,
            deadline: self.now().after(Span::from(self.config.mirror.timeout)),
            now: None,
            before_send: None,
            on_interim: None,
        }
    }
}

/// Sends a copy; whether it was confirmed in time: with a 2xx, or with a 3xx `like` the primary's to the same request. A
/// DELETE of what is not there is, too.
pub(super) async fn copy(pool: Pool, call: Call, limit: Duration, like: Option<StatusCode>) -> bool {
    let deletes = call.parts.method == Method::DELETE;
    let confirmed = async {
        let mut answered = pool.call(call).await.ok()?;
        let complete = answered.body.finish_upload().await;
        let status = answered.parts.status;
        let gone = deletes && matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let same = status.is_redirection() && like == Some(status);
        let done = same || (status.is_success() && status != StatusCode::ACCEPTED);
        // Read to its end, so that the connection can be used again; nobody waits for that.
        let rest = http_body_util::Limited::new(answered.body, REST).collect();
        tokio::spawn(tokio::time::timeout(limit, rest));
        (complete && (done || gone)).then_some(())
    };
    matches!(tokio::time::timeout(limit, confirmed).await, Ok(Some(())))
}

/// So much of a copy's answer is read at most, in bytes.
const REST: usize = 64 * 1024;
