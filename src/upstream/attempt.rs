//! One request to an upstream: its attempts, up to the response head.
//!
//! Dropping the future of [`Pool::call`] closes the connection in use; what the node made of the request is unknown then. A caller that
//! must not lose a write runs the call in a task of its own (R21).

mod again;
mod head;
mod hedge;
mod outgoing;
mod strict;

use super::body::OutBody;
use super::call::{Again, Aim, Answered, Call, Kind, OnInterim};
use super::channel::{Channel, Coming, Exchange};
use super::connect::open;
use super::error::{CallError, CallErrorKind};
use super::lease::Lease;
use super::link::Broken;
use super::pool::{Acquired, Refused, Tried};
use super::primary::TIDEGATE_EPOCH;
use super::standing::{End, Learnt};
use super::{One, Pool, held, refusal};
use crate::core::failover::view::Epoch;
use crate::core::http::hop::Framing;
use crate::core::retry::{Failure, Nature, Sent};
use crate::core::time::MonoTime;
use hedge::Asked;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use outgoing::{copy, request};
use std::sync::Arc;
use std::time::Duration;
use strict::Strict;

/// What one attempt came to.
enum Outcome {
    Answered(Response<Coming>, Sending),
    Failed(Failed),
    /// Nothing was sent: by the view as it is now the request is another node's.
    Moved,
}

/// When an attempt was sent and answered, in which epoch (R53), and how what came is framed.
#[derive(Copy, Clone)]
struct Sending {
    at: MonoTime,
    received: MonoTime,
    epoch: Epoch,
    /// None: nothing that follows this answer is believed.
    framing: Option<Framing>,
}

/// An attempt without a response head. Its connection is closed.
struct Failed {
    kind: CallErrorKind,
    failure: Failure,
    sent: Sent,
    node: usize,
}

/// The state of a call between its attempts.
struct Progress<'a> {
    one: &'a One,
    upstream: usize,
    aim: Aim,
    nature: Nature,
    /// It may change something.
    write: bool,
    deadline: MonoTime,
    before_send: Option<Box<dyn FnOnce() + Send>>,
    on_interim: Option<OnInterim>,
    /// The request; none while an attempt has it, and for good when it cannot be sent again.
    request: Option<Request<OutBody>>,
    /// Makes it anew.
    again: Option<Again>,
    /// It may be made anew now: an attempt has it.
    remakes: bool,
    tried: Tried,
    /// Nodes that may not answer at all: they count as tried from the start.
    elsewhere: Tried,
    /// Only the primary may answer; none: any node.
    strict: Option<Strict>,
    /// Its place among those who wait for another view.
    place: Option<held::Place<'a>>,
    /// Who wants to know which node was asked last.
    asked: Option<Arc<Asked>>,
    made: u32,
    /// The time, while nothing has waited since it was read: reading a clock costs more than choosing a node.
    now: Option<MonoTime>,
    /// Whether any attempt wrote a byte.
    sent: Sent,
}

/// A call that is to be awaited.
pub struct Begun<'a> {
    pool: &'a Pool,
    /// None when it is over.
    progress: Option<Progress<'a>>,
}

impl Begun<'_> {
    /// [`Pool::call`]. Once.
    ///
    /// # Errors
    ///
    /// [`CallError`]: every connection that was used is closed by then.
    pub async fn answered(&mut self) -> Result<Answered, CallError> {
        let pool = self.pool;
        let nobody = || Err(pool.error(CallErrorKind::NoNode, Sent::Nothing, None));
        let Some(progress) = &mut self.progress else {
            return nobody();
        };
        let one = progress.one;
        let hedges = one.hedges.as_ref().filter(|_| progress.aim.only.is_none());
        let Some((purse, hedge)) = hedges.zip(one.config.hedge) else {
            return pool.drive(progress).await;
        };
        match self.progress.take() {
            Some(progress) => Box::pin(pool.hedged(progress, hedge, purse)).await,
            None => nobody(),
        }
    }
}

impl std::fmt::Debug for Begun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Begun")
    }
}

impl Pool {
    /// Sends a request, again if it may be, and returns the response head as soon as it is complete.
    ///
    /// # Errors
    ///
    /// [`CallError`]: every connection that was used is closed by then.
    pub async fn call(&self, call: Call) -> Result<Answered, CallError> {
        self.begin(call).answered().await
    }

    /// The same in two steps, for who is in a hurry: what is awaited is small, and what it works on stays where it is.
    #[must_use]
    pub fn begin(&self, call: Call) -> Begun<'_> {
        Begun {
            pool: self,
            progress: self.progress(call),
        }
    }

    /// A call before its first attempt; none without an upstream.
    fn progress(&self, call: Call) -> Option<Progress<'_>> {
        let shared = &*self.core.shared;
        let one = shared.upstreams.get(call.upstream)?;
        let now = call.now.unwrap_or_else(|| shared.world.clock.mono());
        one.retries.request(self.core.number, now);
        let primary_only = call.aim.only.is_none() && !matches!(call.kind, Kind::Read { primary: false });
        let strict = primary_only.then(|| Strict::of(one, &call.parts.uri));
        Some(Progress {
            one,
            upstream: call.upstream,
            aim: one.aim(call.aim, primary_only),
            nature: match call.kind {
                Kind::Read { primary: _ } | Kind::Write { repeatable: true } => Nature::Repeatable,
                Kind::Write { repeatable: false } => Nature::Once,
            },
            write: matches!(call.kind, Kind::Write { .. }),
            deadline: call.deadline,
            before_send: call.before_send,
            on_interim: call.on_interim,
            again: call.again.filter(|_| matches!(call.body, OutBody::Empty)),
            remakes: false,
            request: Some(request(call.parts, call.body)),
            tried: Tried::new(),
            elsewhere: Tried::new(),
            strict,
            place: None,
            asked: None,
            made: 0,
            now: Some(now),
            sent: Sent::Nothing,
        })
    }

    /// The attempts of a call, one after the other.
    async fn drive(&self, progress: &mut Progress<'_>) -> Result<Answered, CallError> {
        let mut last: Option<Failed> = None;
        let mut kept: Option<Box<Answered>> = None;
        loop {
            let leased = match self.lease(progress, kept.is_some()) {
                Ok((Acquired::Now(leased), now)) => leased.map(|lease| (lease, now)).map_err(Refused::kind),
                Ok((Acquired::Later(handed), _)) => {
                    let handed = handed.await;
                    handed.map(|lease| (lease, self.now())).map_err(Refused::kind)
                }
                Err(kind) => Err(kind),
            };
            let (mut lease, now) = match leased {
                Ok(leased) => leased,
                Err(kind) => {
                    if let Some(kept) = kept {
                        return Ok(*kept);
                    }
                    if Box::pin(self.holds(progress, kind)).await {
                        last = None;
                        continue;
                    }
                    // A repeat that finds no connection: the failure it was to make good is the answer.
                    let (kind, node) = last.map_or((kind, None), |failed| (failed.kind, Some(failed.node)));
                    return Err(self.error(kind, progress.sent, node));
                }
            };
            let after_maybe_applied = matches!(progress.sent, Sent::Maybe);
            progress.made += 1;
            match self.attempt(progress, &mut lease, now).await {
                Outcome::Moved => progress.made -= 1,
                Outcome::Failed(failed) => {
                    drop(lease); // whatever is waited for now, not with its place
                    if matches!(failed.sent, Sent::Maybe) {
                        progress.sent = Sent::Maybe;
                    }
                    match self.again(progress, failed.failure, failed.sent, failed.node) {
                        true => last = Some(failed),
                        // The node's own answer, if there was one, says more than ours could.
                        false => match kept {
                            Some(kept) => return Ok(*kept),
                            None if Box::pin(self.holds(progress, failed.kind)).await => last = None,
                            None => return Err(self.error(failed.kind, progress.sent, Some(failed.node))),
                        },
                    }
                }
                Outcome::Answered(response, sent) => {
                    let (node, status) = (lease.node(), response.status().as_u16());
                    progress.sent = Sent::Maybe;
                    if self.again(progress, Failure::Status(status), Sent::Maybe, node) {
                        let answered = self.answered(progress, response, lease, sent, after_maybe_applied);
                        // For writes too: a listed status is a 5xx, which claims nothing about what a repeat did (R11).
                        if kept.replace(Box::new(answered)).is_none() {
                            progress.leave_time(self.now());
                        }
                        last = Some(Failed {
                            kind: CallErrorKind::Reset,
                            failure: Failure::Status(status),
                            sent: Sent::Maybe,
                            node,
                        });
                        continue;
                    }
                    let answered = self.answered(progress, response, lease, sent, after_maybe_applied);
                    if progress.write || progress.strict.is_none() || progress.one.stands(&answered) {
                        return Ok(answered); // of a write its caller asks, once the body has been sent
                    }
                    drop(answered);
                    if !progress.asks_again() {
                        return Err(self.error(CallErrorKind::NoPrimary, Sent::Maybe, Some(node)));
                    }
                }
            }
        }
    }

    fn error(&self, kind: CallErrorKind, sent: Sent, node: Option<usize>) -> CallError {
        CallError {
            kind,
            sent,
            node,
            closed_at: self.now(),
        }
    }

    fn now(&self) -> MonoTime {
        self.core.shared.world.clock.mono()
    }

    /// `keeps_answer`: an answer is kept that will do, and may hold a connection. Nobody waits for one while holding one: calls that
    /// held each other's would wait until their deadlines. Also tells when it was looked for.
    fn lease(
        &self,
        progress: &mut Progress<'_>,
        keeps_answer: bool,
    ) -> Result<(Acquired<'_>, MonoTime), CallErrorKind> {
        let now = progress.now.take().unwrap_or_else(|| self.now());
        let left = progress.deadline.duration_since(now);
        if left.is_zero() {
            return Err(CallErrorKind::DeadlineExceeded);
        }
        let left = if keeps_answer { Duration::ZERO } else { left };
        progress.look()?;
        let (upstream, tried, aim) = (progress.upstream, &progress.tried, progress.aim);
        Ok((self.core.acquire(upstream, tried, aim, now, left), now))
    }

    /// One attempt on a leased slot. A pooled connection that turns out dead before a byte was written is replaced by a fresh one: that
    /// is part of the attempt and costs no budget. `now` is when it begins.
    async fn attempt(&self, progress: &mut Progress<'_>, lease: &mut Lease, mut now: MonoTime) -> Outcome {
        let node = lease.node();
        if let Some(asked) = &progress.asked {
            asked.note(node);
        }
        let failed = |kind, failure, sent| {
            Outcome::Failed(Failed {
                kind,
                failure,
                sent,
                node,
            })
        };
        // At most twice: the second round is on a fresh connection.
        loop {
            if !lease.has_fresh_link() {
                // Boxed, as all that is rare on the way: a call is moved about before it begins.
                match Box::pin(self.connect(progress, node)).await {
                    Ok(Some(channel)) => lease.fill(channel),
                    Ok(None) => {
                        lease.give_back();
                        return Outcome::Moved; // it queues with the others
                    }
                    Err(kind @ CallErrorKind::DeadlineExceeded) => return failed(kind, Failure::Final, Sent::Nothing),
                    Err(kind) => {
                        self.learn(lease, End::of_failure(kind, false, false), now, self.now());
                        return failed(kind, Failure::Connect, Sent::Nothing);
                    }
                }
                now = self.now(); // the connect may have taken long
            }
            let Some(epoch) = progress.epoch_at(node) else {
                lease.give_back();
                return Outcome::Moved;
            };
            let reused = lease.link().is_some_and(Channel::is_reused);
            let sent_at = now;
            let Some(exchange) = progress.send(lease, sent_at, epoch, reused) else {
                return failed(CallErrorKind::Reset, Failure::Final, Sent::Nothing);
            };
            let told = exchange.await;
            lease.heard();
            now = self.now();
            match told {
                Ok(response) => {
                    let Ok(framing) = head::framing(&response) else {
                        lease.close_link();
                        self.learn(lease, Some(End::Broken), sent_at, now);
                        return failed(CallErrorKind::Garbage, Failure::Final, Sent::Maybe);
                    };
                    let end = End::of_status(response.status().as_u16());
                    self.learn(lease, Some(end), sent_at, now);
                    let sending = Sending {
                        at: sent_at,
                        received: now,
                        epoch,
                        framing,
                    };
                    return Outcome::Answered(response, sending);
                }
                Err(broken) => {
                    let asked = lease.link().is_some_and(Channel::uploaded);
                    lease.close_link();
                    let Broken {
                        kind,
                        sent,
                        kept_alive,
                        request,
                    } = *broken;
                    if let Some(request) = request {
                        progress.request = Some(request);
                    }
                    let stale = reused && matches!(sent, Sent::Nothing) && matches!(kind, CallErrorKind::Reset);
                    if stale && progress.can_repeat() {
                        continue;
                    }
                    self.learn(lease, End::of_failure(kind, asked, kept_alive), sent_at, now);
                    let failure = match kind {
                        CallErrorKind::Reset => Failure::Broke { kept_alive },
                        CallErrorKind::NoNode
                        | CallErrorKind::NoPrimary
                        | CallErrorKind::Queued
                        | CallErrorKind::Unproven
                        | CallErrorKind::QueueFull
                        | CallErrorKind::ConnectFailed(_)
                        | CallErrorKind::ConnectTimedOut
                        | CallErrorKind::HeadTimedOut
                        | CallErrorKind::Garbage
                        | CallErrorKind::BodyFailed
                        | CallErrorKind::DeadlineExceeded => Failure::Final,
                    };
                    return failed(kind, failure, sent);
                }
            }
        }
    }

    /// Notes what a request that began at `since` and ended `at` learnt of its node.
    fn learn(&self, lease: &mut Lease, end: Option<End>, since: MonoTime, at: MonoTime) {
        if let Some(end) = end {
            let took = at.duration_since(since);
            lease.learn(Learnt { end, at, took });
            self.core.shared.judge(lease.upstream(), lease.node(), end);
        }
    }

    /// A connection to a node, or a stream of one, within `connect_timeout` and the deadline; none: all streams are in use.
    async fn connect(&self, progress: &mut Progress<'_>, node: usize) -> Result<Option<Channel>, CallErrorKind> {
        let shared = &*self.core.shared;
        let now = shared.world.clock.mono();
        let left = progress.deadline.duration_since(now);
        let limit = progress.one.config.connect_timeout.min(left);
        let streams = self.core.streams(progress.upstream, node);
        let kind = match tokio::time::timeout(limit, open(shared, progress.one, node, streams.as_deref())).await {
            Ok(Ok(channel)) => {
                shared.connected(progress.upstream, node);
                return Ok(channel);
            }
            Ok(Err(why)) => {
                shared.refused(progress.upstream, node, &why);
                CallErrorKind::ConnectFailed(refusal::step(&why))
            }
            Err(_elapsed) if limit == left => return Err(CallErrorKind::DeadlineExceeded),
            Err(_elapsed) => CallErrorKind::ConnectTimedOut,
        };
        self.core.avoid(progress.upstream, node, shared.world.clock.mono());
        // R39: a refused connect starts a probe at once.
        if let Some(target) = progress.one.nodes.get(node) {
            target.probe_now.notify_one();
        }
        Err(kind)
    }
}

impl Progress<'_> {
    /// Gives the request to a node's connection; none when there is no request, or no connection. Not where it is awaited: whatever is
    /// touched there stays there while it waits.
    fn send<'l>(&mut self, lease: &'l mut Lease, now: MonoTime, epoch: Epoch, reused: bool) -> Option<Exchange<'l>> {
        let mut request = self.take_request()?;
        if self.may_need_again(reused) {
            self.remakes = self.again.is_some();
            if !self.remakes {
                self.request = copy(&request);
            }
        }
        if let Some(host) = self.one.host(lease.node()) {
            request.headers_mut().insert(HOST, host);
        }
        if let (Some(told), Some(channel)) = (self.on_interim.clone(), lease.link()) {
            channel.tells(&mut request, told);
        }
        self.place = None; // it waits no more
        if let Some(before_send) = self.before_send.take() {
            before_send();
        }
        if self.write && self.one.owns_promotion() {
            request
                .headers_mut()
                .insert(TIDEGATE_EPOCH.clone(), HeaderValue::from(epoch.0)); // R54
        }
        let deadline = self.deadline.duration_since(now);
        let link = lease.asks(now, self.write && self.one.settles())?;
        Some(link.exchange(request, self.one.config.response_timeout, deadline))
    }
}

/// The proxy spawns calls and sends bodies between tasks: checked here, where it breaks, not where it is used.
const _: fn(&Pool, Call) = |pool, call| {
    fn sendable<T: Send>(_: &T) {}
    sendable(&pool.call(call));
};
