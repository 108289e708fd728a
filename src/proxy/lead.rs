//! The fetch behind a read: asks the origin, judges the answer, tells everybody who waits, carries the body to them and stores it.
//! Runs as a task of its own, so that it outlives any reader.

mod ask;
mod confirm;

use super::Core;
use super::carry::{carry, content_length};
use super::flights::{Arriving, Landed};
use super::miss::{Looked, as_read, is_server_error};
use super::parts::{self, Around, Want};
use super::request::Job;
use super::underway::Tell;
use super::{aim, outbound, tagging};
use crate::core::admit::{self, Admission, Answer};
use crate::core::consistency::bound;
use crate::core::http::freshness;
use crate::core::http::stored::{Meta, has_no_body};
use crate::core::http::validate::{self, Conditions};
use crate::core::lookup::Read;
use crate::core::policy::Policy;
use crate::core::reason::NotStored;
use crate::core::time::MonoTime;
use crate::store::entry::{Head, Identity, SharedHead};
use crate::store::fill::{self, FillReader};
use crate::store::flight::{Follower, Leader};
use crate::store::{EntryRef, Token, new_entry};
use crate::upstream::{Again, Answered, Call, Kind, Remakes};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// R8: a forming flight waits for the head of the one before it, but no longer than this.
const FORMING: Duration = Duration::from_secs(1);

/// What the reader who started the fetch gets.
pub(super) enum Led {
    /// What everybody gets, with a reader from the first byte when there is a body.
    Landed(Landed, Option<FillReader>),
    /// A 304 of this node confirmed what was stored; these cookies came with it.
    Confirmed(EntryRef, usize, Vec<HeaderValue>),
    /// An answer for it alone.
    Pass(Box<Answered>, NotStored),
}

/// For whom the fetch is made.
pub(super) enum Role {
    /// For a reader and its followers; after the flight before it.
    Leader(Leader, Option<Follower>),
    /// For one reader.
    Alone,
    /// For nobody: a stored answer is refreshed.
    Refresh(Leader),
    /// For one reader, of whose range the whole is too large to keep.
    Piece(HeaderValue),
}

impl Role {
    fn leader(&self) -> Option<&Leader> {
        match self {
            Self::Leader(leader, _) | Self::Refresh(leader) => Some(leader),
            Self::Alone | Self::Piece(_) => None,
        }
    }
}

/// The fetch at work.
struct Fetch {
    core: Arc<Core>,
    job: Arc<Job>,
    role: Role,
    want: Want,
    /// None once the reader has been told.
    tell: Option<Tell<Led>>,
    /// The time, while nothing has waited since it was read.
    now: Option<MonoTime>,
    /// When an answer must be there, however often it takes to get one; none before the first request.
    deadline: Option<MonoTime>,
    /// The right to store what comes; none once it was used.
    token: Option<Token>,
}

/// What was asked for: what a head is made anew of.
struct Asked {
    job: Arc<Job>,
    conditions: Conditions,
}

impl Remakes for Asked {
    fn head(&self, _insists: bool) -> Parts {
        let mut parts = outbound::parts_again(&self.job);
        self.conditions.clone().apply(&mut parts.headers); // R5c
        parts
    }
}

/// Fetches for `job`. What it brings is stored only if `token` is alive at the end (R1).
/// `seen` is what the store had a moment ago, where nothing newer could make the fetch needless.
pub(super) fn run(
    core: Arc<Core>,
    job: Arc<Job>,
    role: Role,
    token: Token,
    tell: Tell<Led>,
    seen: Option<Looked>,
) -> impl Future<Output = ()> + Send + 'static {
    // Who fetches for itself, and waits for nobody, has read the clock just now.
    let at_once = matches!(role, Role::Leader(_, None) | Role::Alone) && seen.is_some();
    let now = at_once.then(|| core.begins(&job));
    let want = match &role {
        Role::Piece(range) => Want::Piece(range.clone()),
        Role::Leader(..) | Role::Alone | Role::Refresh(_) => Want::Whole,
    };
    let mut fetch = Fetch {
        core,
        job,
        role,
        want,
        tell: Some(tell),
        now,
        deadline: None,
        token: Some(token),
    };
    // Not an async function: what one is given is there twice, as it came and as it is used, and all of it is moved about.
    let mut seen = seen;
    async move {
        if let Role::Leader(_, after) = &mut fetch.role
            && let Some(mut before) = after.take()
        {
            let _ = Box::pin(tokio::time::timeout(FORMING, before.outcome())).await;
            seen = None; // that one has brought something newer
        }
        if let Some(mut question) = fetch.question(seen.take()) {
            fetch.ask(&mut question).await;
        }
    }
}

impl Fetch {
    /// R42: whether an answer is too old for the bound and the owner wants none then.
    fn is_refused(&self, answered: &Answered) -> bool {
        self.job.is_beyond_bound(answered) && !self.job.policy.serves_beyond_bound()
    }

    fn call(&mut self, now: MonoTime, conditions: Conditions) -> Call {
        let deadline = *self
            .deadline
            .get_or_insert_with(|| self.job.deadline.max(now.after(MIN_REFRESH)));
        let (core, job) = (&self.core, &self.job);
        let mut parts = outbound::parts(job, &*core.shared.world.entropy);
        // R43: what is asked again because it was too old, or nobody could say how old, is asked of the primary.
        let primary = conditions.no_cache || job.is_for_primary(&core.shared.config);
        let again = matches!((&self.want, &*job.content), (Want::Whole, [])).then(|| Again {
            insists: conditions.no_cache,
            by: Arc::new(Asked {
                job: Arc::clone(job),
                conditions: conditions.clone(),
            }),
        });
        conditions.apply(&mut parts.headers); // R5c
        self.want.apply(&mut parts.headers);
        let close = self.role.leader().map(Leader::closer);
        let clock = Arc::clone(&core.shared.world.clock);
        Call {
            upstream: job.resource.upstream,
            parts,
            body: job.content.clone().into(),
            kind: Kind::Read { primary },
            aim: aim::of(job, core),
            again,
            deadline,
            now: Some(now),
            before_send: close.map(|close| Box::new(move || close(clock.recent())) as Box<dyn FnOnce() + Send>),
            on_interim: job.on_interim(),
        }
    }

    /// R12b: an answer that differs from what is stored takes every variant out of service, and every other fill's right to be
    /// stored, before it is passed on.
    fn compare(&self, old: &EntryRef, answered: &Answered, token: &Token) {
        let (fields, known) = (&answered.parts.headers, old.facts().valid_as_of);
        let trails = bound::trails(answered.sent, freshness::age_field(fields), answered.lag, known); // R43
        if !trails && validate::differs(&old.meta(), answered.parts.status, fields) {
            self.core.shared.store.differs(self.job.resource, Some(token));
        }
    }

    fn admit(&self, answered: &Answered) -> Result<Meta, NotStored> {
        let read = as_read(&self.job, false);
        let answer = self.answer(answered, &answered.parts.headers);
        admitted(&self.job.parts.method, &read, &answer, &self.job.policy)
    }

    fn answer<'a>(&self, answered: &Answered, headers: &'a HeaderMap) -> Answer<'a> {
        let world = &self.core.shared.world;
        Answer {
            status: answered.parts.status,
            headers,
            sent: answered.sent,
            epoch: answered.epoch,
            lag: answered.lag,
            received: answered.received,
            received_wall: world.clock.wall(),
            close_delimited: answered.close_delimited,
        }
    }

    /// An answer for its requester alone: followers are released at once, and fetch for themselves.
    fn pass(&mut self, answered: Answered, why: NotStored) {
        self.refused(why);
        let landed = if is_server_error(answered.parts.status) {
            Landed::ServerError
        } else {
            Landed::Alone
        };
        if let Some(leader) = self.role.leader() {
            // Of the origin's will, not of this requester's: the next answer will be the same.
            let lasting = !matches!(why, NotStored::Credentials | NotStored::RequestNoStore);
            if lasting && matches!(landed, Landed::Alone) {
                leader.remember_alone(self.core.now());
            }
            leader.tell(Arc::new(landed));
        }
        if let Some(tell) = self.tell.take() {
            // A requester that has left drops the answer, which closes its connection.
            tell.send(Led::Pass(Box::new(answered), why));
        }
    }

    /// Carries the body to everybody, and stores it at its end.
    async fn store(&mut self, stored: Box<(Answered, Meta, Option<Around>)>) {
        let (mut answered, mut meta, around) = *stored;
        let Some(token) = self.token.take() else { return };
        meta.proven = token.is_provable();
        let shared = Arc::clone(&self.core.shared);
        let length = content_length(&answered.parts.headers);
        if let (Some(length), false) = (length, has_no_body(meta.status)) {
            // Once, and as one number, for everybody it is sent to.
            answered.parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if meta.status == StatusCode::OK {
            // RFC 9110 s14.3: whatever the origin can do, what is stored can be cut.
            let fields = &mut answered.parts.headers;
            fields.entry(ACCEPT_RANGES).or_insert(HeaderValue::from_static("bytes"));
        }
        let head: SharedHead = Arc::new(Head {
            meta,
            headers: answered.parts.headers,
        });
        let stall = self.job.connection.peer.listener.body_timeout;
        let (writer, fill) = fill::channel(Arc::clone(shared.store.fill_memory()), self.max_object(), stall);
        let reader = fill.reader();
        let arriving = Arriving {
            head: Arc::clone(&head),
            fill,
            length,
            stored: token.is_alive(),
            node: answered.node,
        };
        self.land(Landed::Arriving(Arc::new(arriving)), reader);
        let body = match carry(answered.body, writer, stall, around).await {
            Ok(body) => body,
            Err(why) => return self.refused(why),
        };
        let length = length.or(head.meta.part.map(|part| part.cut.size()));
        if length.is_some_and(|length| length != body.len() as u64) {
            return self.refused(NotStored::Incomplete);
        }
        let (head, body) = parts::grown(&self.core, &self.job, head, body, self.max_object());
        let entry = self.entry(head, body);
        if let Err(why) = shared.store.publish(token, &entry, None) {
            self.refused(why);
        }
    }

    fn entry(&self, head: SharedHead, body: bytes::Bytes) -> EntryRef {
        let job = &self.job;
        let identity = Identity {
            resource: job.resource,
            digest: job.digest,
            key: Arc::clone(&job.key),
            tags: tagging::of(&self.core.shared, job, &head.headers),
        };
        new_entry(self.core.shared.store.next_entry_id(), identity, head, body).under(self.terms())
    }

    /// The configuration by which answers are judged.
    fn terms(&self) -> u32 {
        let generation = self.core.shared.config.numbers.generation;
        u32::try_from(generation).unwrap_or(u32::MAX)
    }

    fn land(&mut self, landed: Landed, reader: Option<FillReader>) {
        self.tell(landed.clone(), Led::Landed(landed, reader));
    }

    /// Tells the followers one thing and who started the fetch another.
    fn tell(&mut self, followers: Landed, starter: Led) {
        if let Some(leader) = self.role.leader() {
            leader.tell(Arc::new(followers));
        }
        if let Some(tell) = self.tell.take() {
            // A requester that has left drops the answer, which closes its connection.
            tell.send(starter);
        }
    }

    fn refused(&self, why: NotStored) {
        self.core.shared.metrics.fill_refused(self.job.route.id, why);
    }

    fn max_object(&self) -> u64 {
        self.job.policy.caching().map_or(0, |c| c.max_object)
    }
}

/// Whether an answer to a read is to be stored, and with which facts, as far as its head tells. `method` is the client's. `explain` asks
/// it too.
pub(super) fn admitted(
    method: &Method,
    read: &Read<'_>,
    answer: &Answer<'_>,
    policy: &Policy,
) -> Result<Meta, NotStored> {
    let meta = match admit::admit(read, answer, policy) {
        Admission::Store(meta) => *meta,
        Admission::PassOn(why) => return Err(why),
    };
    let max = policy.caching().map_or(0, |c| c.max_object);
    let length = content_length(answer.headers).or(meta.part.map(|part| part.cut.size()));
    if length.is_some_and(|length| length > max) {
        return Err(NotStored::TooLarge);
    }
    if meta.part.is_some() && *method != Method::GET {
        return Err(NotStored::Partial); // RFC 9110 s14.2: of no other method can more be asked for
    }
    Ok(meta)
}

/// A refresh begins when its client has its answer already: the fetch gets at least this long.
pub(super) const MIN_REFRESH: crate::core::time::Span = crate::core::time::Span::from_secs(1);
