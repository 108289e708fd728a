//! A read that is slow is sent a second time, and the first good answer is the answer (R22). The copy that lost is dropped, and its
//! connection with it.
//!
//! The copy waits for nobody: without a slot that is free at once there is none, and a first copy that still waits for its own slot is
//! not overtaken. It is not repeated when it fails. The invariant of R8 stays: whoever is told before anything is sent is told once,
//! by whichever copy is sent first.

use super::super::purse::Purse;
use super::{Outcome, Progress, copy};
use crate::config::runtime::Hedge;
use crate::core::hedge::{Nature, barred, may_hedge, settles};
use crate::core::reason::RetryReason;
use crate::core::retry::Sent;
use crate::core::time::MonoTime;
use crate::upstream::Pool;
use crate::upstream::call::Answered;
use crate::upstream::error::CallError;
use crate::upstream::pool::Tried;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The node that a call has asked last.
pub(super) struct Asked(AtomicUsize);

impl Asked {
    const NOBODY: usize = usize::MAX;

    pub(super) fn note(&self, node: usize) {
        self.0.store(node, Ordering::Relaxed);
    }

    fn node(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|node| *node != Self::NOBODY)
    }
}

type BeforeSend = Box<dyn FnOnce() + Send>;

/// Two of which only the one that is called first does anything.
fn twice(before_send: BeforeSend) -> (BeforeSend, BeforeSend) {
    let shared = Arc::new(Mutex::new(Some(before_send)));
    let half = |shared: Arc<Mutex<Option<BeforeSend>>>| -> BeforeSend {
        Box::new(move || {
            let run = shared.lock().take();
            if let Some(run) = run {
                run();
            }
        })
    };
    (half(Arc::clone(&shared)), half(shared))
}

impl Pool {
    /// [`Pool::drive`] with a second copy of a slow read.
    pub(super) async fn hedged(
        &self,
        mut progress: Progress<'_>,
        hedge: Hedge,
        purse: &Purse,
    ) -> Result<Answered, CallError> {
        let nature = if progress.write { Nature::Write } else { Nature::Read };
        // What cannot be sent again is sent once.
        let Some(spare) = progress.request.as_ref().filter(|_| may_hedge(nature)).and_then(copy) else {
            return self.drive(&mut progress).await;
        };
        let one = progress.one;
        purse.request(self.core.number, self.core.shared.world.clock.mono());
        let asked = Arc::new(Asked(AtomicUsize::new(Asked::NOBODY)));
        // R8: the flight is closed once, by whoever is sent first.
        let (mine, theirs) = progress.before_send.take().map(twice).unzip();
        progress.before_send = mine;
        progress.asked = Some(Arc::clone(&asked));
        let mut second = Progress {
            one,
            upstream: progress.upstream,
            aim: progress.aim,
            nature: progress.nature,
            write: progress.write,
            deadline: progress.deadline,
            before_send: theirs,
            // Interim heads are the first copy's: a client that is told them twice has been told two answers.
            on_interim: None,
            request: Some(spare),
            again: None,
            remakes: false,
            tried: Tried::new(),
            elsewhere: progress.elsewhere.clone(),
            strict: progress.strict.clone(),
            place: None,
            asked: None,
            made: one.config.retry.attempts,
            now: None,
            sent: Sent::Nothing,
        };
        let mut first = pin!(self.drive(&mut progress));
        if let Ok(ended) = tokio::time::timeout(hedge.after, &mut first).await {
            return ended;
        }
        let Some(slow) = asked.node() else {
            return first.await;
        };
        let now = self.core.shared.world.clock.mono();
        if second.look().is_err() {
            return first.await;
        }
        second.tried = barred(&one.view().candidates, &second.elsewhere, slow);
        let lease = self
            .core
            .acquire(second.upstream, &second.tried, second.aim, now, Duration::ZERO)
            .wait()
            .await;
        let Ok(mut lease) = lease else {
            return first.await;
        };
        if !purse.pay(self.core.number, now) {
            lease.give_back();
            return first.await;
        }
        self.note_retry(second.upstream, RetryReason::Hedge);
        let mut copied = pin!(self.copied(&mut second, lease, now));
        tokio::select! {
            biased;
            ended = &mut first => match ended {
                Ok(answered) => Ok(answered),
                Err(error) => copied.await.ok_or(error),
            },
            ended = &mut copied => match ended {
                Some(answered) => Ok(answered),
                None => first.await,
            },
        }
    }

    /// The second copy's answer, if it is one to go by.
    async fn copied(&self, second: &mut Progress<'_>, mut lease: super::Lease, now: MonoTime) -> Option<Answered> {
        match self.attempt(second, &mut lease, now).await {
            Outcome::Failed(_) | Outcome::Moved => None,
            Outcome::Answered(response, sent) => {
                let settled = settles(response.status().as_u16());
                let answered = self.answered(second, response, lease, sent, false);
                // R29: a deposed primary's answer counts no more for having been asked twice.
                let stands = second.strict.is_none() || second.one.stands(&answered);
                (settled && stands).then_some(answered)
            }
        }
    }
}
