//! What a fetch asks the origin, and what the answer comes to: asked again, for its requester alone, to be stored, or word that what is
//! stored is still good.
//!
//! It does not send, store or tell. Only [`Fetch::ask`] waits, and what waits there is small: an answer is judged where nothing waits.

use super::Fetch;
use crate::core::http::invalidate::is_query;
use crate::core::http::stored::Meta;
use crate::core::http::validate::{self, Conditions};
use crate::core::lookup::{self, Decision, Rigor};
use crate::core::reason::{NotStored, Refusal};
use crate::proxy::error::Fault;
use crate::proxy::flights::Landed;
use crate::proxy::lead::Role;
use crate::proxy::miss::{Looked, is_server_error, look_and_decide, read_now};
use crate::proxy::parts::{Around, Came, Want};
use crate::proxy::request::Job;
use crate::proxy::{headers, mirror, session};
use crate::store::{EntryRef, Found};
use crate::upstream::{Answered, CallError};
use http::StatusCode;

/// What is asked about, and how.
pub(super) struct Question {
    /// What a 304 would confirm.
    condition_on: Option<EntryRef>,
    /// What the answer is compared with, whether or not it could be a condition.
    stored: Option<EntryRef>,
    strong: bool,
    /// Caches below ask as well.
    insisted: bool,
    asked_twice: bool,
    /// The request that is out has conditions.
    conditional: bool,
}

/// What an answer comes to.
pub(super) enum Heard {
    Done,
    /// It has to be asked again.
    Again,
    /// It is carried to everybody, and stored.
    Stored(Box<(Answered, Meta, Option<Around>)>),
}

/// What to ask about, and what an answer that is no 304 is compared with: the core decides about the newest that fits.
fn of_newest(found: &Found, index: usize) -> (Option<EntryRef>, Option<EntryRef>) {
    let stored = found.variants.get(index).cloned();
    (stored.clone().filter(|entry| entry.is_in_service()), stored)
}

impl Fetch {
    /// What is to be asked, by what the store has now; none when that is the answer.
    pub(super) fn question(&mut self, seen: Option<Looked>) -> Option<Question> {
        // The token is registered; look in the store again: what was published in between need not be fetched.
        let Looked { found, decision } = match seen {
            Some(seen) => seen,
            None => {
                let now = self.core.now();
                self.now = Some(now);
                look_and_decide(&self.core, &self.job, now)
            }
        };
        let refresh = matches!(self.role, Role::Refresh(_));
        let (condition_on, stored) = match decision {
            Decision::ServeAndRefresh { index, .. } if refresh => of_newest(&found, index),
            Decision::Serve { index, .. } | Decision::ServeAndRefresh { index, .. } => {
                if let Some(entry) = found.variants.get(index).cloned() {
                    self.land(Landed::Found(entry), None);
                }
                return None;
            }
            Decision::Revalidate { index, .. } => of_newest(&found, index),
            Decision::Fetch(_) | Decision::Refuse(_) => {
                let read = read_now(&self.core, &self.job, found.disturbed);
                if matches!(self.want, Want::Whole) {
                    self.want = Want::of(&read, &found, &self.job, self.max_object());
                }
                let newest = lookup::newest(&read, &found.variants, &self.job.policy)
                    .or_else(|| lookup::newest_part(&read, &found.variants, &self.job.policy));
                (None, newest.and_then(|index| found.variants.get(index).cloned()))
            }
        };
        let rigor = self.job.rigor();
        Some(Question {
            condition_on,
            stored,
            strong: self.job.policy.is_strong() || rigor == Rigor::Proven,
            insisted: rigor.asks_primary(), // R47: caches below ask as well
            asked_twice: false,
            conditional: false,
        })
    }

    /// Asks the origin, once with conditions if something can be validated, and again without when its 304 speaks of something else
    /// (R5b).
    pub(super) async fn ask(&mut self, question: &mut Question) {
        loop {
            let asked = self.asking(question).answered().await;
            match self.heard(question, asked) {
                Heard::Done => return,
                Heard::Again => {}
                Heard::Stored(stored) => {
                    // What was asked about may have left the store by now: nobody holds it while another takes its time to come.
                    (question.condition_on, question.stored) = (None, None);
                    // Boxed: who only confirms what is stored needs no room for it.
                    return Box::pin(self.store(stored)).await;
                }
            }
        }
    }

    /// Sends a request for it.
    fn asking(&mut self, question: &mut Question) -> mirror::Asking<'_> {
        let strong = question.strong;
        let mut conditions = question.condition_on.as_ref().map_or(Conditions::none(strong), |e| {
            let meta = e.meta();
            validate::conditional_headers(&meta, strong).on(&self.job.policy, &meta)
        });
        conditions.no_cache |= question.insisted;
        question.conditional = conditions.is_conditional();
        let now = self.now.take().unwrap_or_else(|| self.core.now());
        let call = self.call(now, conditions);
        mirror::ask(&self.core, &self.job, call)
    }

    /// Judges what came.
    fn heard(&mut self, question: &mut Question, asked: Result<Answered, CallError>) -> Heard {
        let (strong, conditional) = (question.strong, question.conditional);
        let mut answered = match asked {
            Ok(answered) => answered,
            Err(e) => return self.fails(Fault::of_call(&e, strong, false, None)),
        };
        if !question.asked_twice && self.job.is_beyond_bound(&answered) {
            (question.insisted, question.asked_twice) = (true, true); // R42: a cache below answered with something too old; the origin itself is asked
            return Heard::Again;
        }
        if conditional && refuses_conditions(&self.job, answered.parts.status) {
            question.condition_on = None;
            return Heard::Again;
        }
        if answered.parts.status == StatusCode::NOT_MODIFIED {
            return self.heard_the_same(question, &answered);
        }
        match self.want.judge(&answered) {
            Came::AsItIs => {}
            Came::Again => {
                self.want = Want::Whole;
                return Heard::Again;
            }
            Came::Rest(merged, around) => {
                if self.is_refused(&answered) {
                    return self.fails(Fault::of_refusal(Refusal::StaleRefused));
                }
                let mut whole = answered;
                (whole.parts.status, whole.parts.headers) = (StatusCode::OK, merged);
                headers::from_node(&mut whole.parts.headers);
                session::strip_answer(&mut whole.parts.headers); // R17
                if let Ok(meta) = self.admit(&whole) {
                    return Heard::Stored(Box::new((whole, meta, Some(around))));
                }
                self.want = Want::Whole;
                return Heard::Again;
            }
        }
        headers::from_node(&mut answered.parts.headers);
        session::strip_answer(&mut answered.parts.headers); // R17
        if let (Some(old), Some(token)) = (&question.stored, &self.token) {
            self.compare(old, &answered, token);
        }
        if self.is_refused(&answered) {
            return self.fails(Fault::of_refusal(Refusal::StaleRefused));
        }
        match self.admit(&answered) {
            // A broken origin's answer never replaces a good one, however fresh it calls itself (HTTP.md 6).
            Ok(_) if question.stored.is_some() && is_server_error(answered.parts.status) => {
                self.pass(answered, NotStored::Status);
            }
            Ok(meta) if !self.want.is_of_all(meta.status) => self.pass(answered, NotStored::Status),
            Ok(meta) => return Heard::Stored(Box::new((answered, meta, None))),
            Err(why) => self.pass(answered, why),
        }
        Heard::Done
    }

    /// A 304.
    fn heard_the_same(&mut self, question: &mut Question, answered: &Answered) -> Heard {
        match question.condition_on.take() {
            Some(entry) if question.conditional && !answered.speaks_of(entry.facts().epoch) => {} // R53
            // What a purge has taken away since is not confirmed by a weak validator.
            Some(entry) if question.conditional && entry.is_revoked() && !entry.facts().can_be_validated(true) => {}
            Some(entry) if question.conditional => {
                if validate::confirms(&entry.meta(), &answered.parts.headers, question.strong) {
                    if self.is_refused(answered) {
                        return self.fails(Fault::of_refusal(Refusal::StaleRefused));
                    }
                    if let Some(token) = self.token.take() {
                        self.confirmed(&entry, answered, token);
                    }
                    return Heard::Done;
                }
            }
            _ => return self.fails(Fault::senseless_304()), // R5b
        }
        Heard::Again
    }

    fn fails(&mut self, fault: Fault) -> Heard {
        self.land(Landed::Failed(fault), None);
        Heard::Done
    }
}

/// RFC 9110 s13.1.2: a node that knows conditions for GET and HEAD alone refuses ours on a QUERY. Its client never set any.
fn refuses_conditions(job: &Job, status: StatusCode) -> bool {
    status == StatusCode::PRECONDITION_FAILED && is_query(&job.parts.method)
}
