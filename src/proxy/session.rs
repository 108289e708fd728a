//! Sessions on the wire (R17, R47-R49): tokens come in by a header and by cookies and are taken off before anything else sees the
//! request; the next token goes onto the answer after the lookup, never into what is stored. What a token says and asks for is the
//! core's business.
//!
//! The header tells of a whole session. A cookie tells of the writes to the resources of its slot alone, and is set only on answers to
//! writes, so that a browser's parallel answers overwrite as little as can be of each other.

mod presented;

pub(super) use self::presented::Presented;

use super::body::Body;
use super::request::Job;
use super::routes;
use super::{Core, Shared};
use crate::config::runtime::{Action, Config, GateBy};
use crate::core::consistency::session::token::{Keyring, MIN_KEY, Opened};
use crate::core::consistency::session::{Demand, Here, Minter, Name, SLOTS, Session};
use crate::core::http::etag;
use crate::core::http::private::make_private;
use crate::core::http::stored::{Etag, Stored};
use crate::core::policy::Contract;
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};
use crate::store::ResourceId;
use crate::world::Entropy;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use smallvec::SmallVec;
use std::sync::Arc;

static TIDEGATE_SESSION: HeaderName = HeaderName::from_static("tidegate-session");

/// What a process needs for sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    ring: Arc<Keyring>,
    minter: Minter,
    /// The largest `max_staleness` of all session routes.
    bound: Span,
}

/// A session's request for one resource.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    demand: Demand,
    header: SmallVec<[Opened; 1]>,
    cookies: Vec<(u8, Opened)>,
}

impl Visit {
    /// What it asks of the resource.
    pub(super) fn demand(&self) -> &Demand {
        &self.demand
    }
}

impl Sessions {
    /// None where no route has sessions.
    pub(super) fn new(config: &Config, entropy: &dyn Entropy) -> Option<Self> {
        Self::after(None, config, config, entropy)
    }

    /// The same after a reload: tokens from before it are as good as ever, unless their key is gone.
    pub(super) fn after(before: Option<&Self>, was: &Config, config: &Config, entropy: &dyn Entropy) -> Option<Self> {
        let bounds = config.routes.iter().filter_map(|route| match &route.action {
            Action::Proxy { policy, .. } if policy.has_sessions() => match &policy.contract {
                Contract::Eventual(_, bounded) => Some(bounded.max_staleness),
                Contract::Off | Contract::Weak(_) | Contract::Strong(..) => None,
            },
            Action::Proxy { .. } | Action::Redirect { .. } | Action::Respond { .. } => None,
        });
        let bound = bounds.max()?;
        if let Some(before) = before.filter(|_| was.session.keys == config.session.keys) {
            return Some(Self {
                ring: Arc::clone(&before.ring),
                minter: before.minter,
                bound,
            });
        }
        let keys: Vec<&[u8]> = config.session.keys.iter().map(|key| key.reveal().as_bytes()).collect();
        let ring = match keys.split_first() {
            Some((first, rest)) => Keyring::new(first, rest),
            None => {
                let words = (0..MIN_KEY / 8).flat_map(|_| entropy.next_u64().to_be_bytes());
                Keyring::new(&words.collect::<Vec<u8>>(), &[])
            }
        };
        Some(Self {
            ring: Arc::new(ring),
            minter: before.map_or_else(|| Minter::of(entropy.next_u64()), |before| before.minter),
            bound,
        })
    }

    fn here(&self, now: MonoTime, shared: &Shared) -> Here {
        Here {
            minter: self.minter,
            now,
            wall: shared.world.clock.wall(),
            bound: self.bound,
        }
    }

    fn visit(&self, here: &Here, presented: Option<&Presented>, name: &Name<'_>) -> Visit {
        let mut visit = Visit {
            demand: Demand::of(here, [], name),
            header: SmallVec::new(),
            cookies: Vec::new(),
        };
        let Some(presented) = presented else {
            return visit;
        };
        visit
            .header
            .extend(presented.header.as_deref().map(|text| self.ring.open(text)));
        if presented.unbelievable {
            visit.header = SmallVec::from_iter([Opened::Foreign]);
        }
        let cookies = presented.cookies.iter();
        visit.cookies = cookies.map(|(slot, text)| (*slot, self.ring.open(text))).collect();
        // R49: the cookie of another slot has nothing to say of this resource.
        let (slot, opened) = (name.slot(), &visit.cookies);
        let cookies = opened.iter().filter(|(of, _)| *of == slot).map(|(_, opened)| opened);
        visit.demand = Demand::of(here, visit.header.iter().chain(cookies), name);
        visit
    }
}

/// A resource's name, which every proxy over the same configuration gives it.
pub(super) fn name<'a>(config: &'a Config, upstream: usize, path: &'a str, query: Option<&'a str>) -> Option<Name<'a>> {
    let upstream = config.upstreams.get(upstream)?;
    Some(Name {
        upstream: &upstream.name,
        path,
        query: match upstream.gate {
            GateBy::Path => None,
            GateBy::Url => query,
        },
    })
}

/// The session of a request for `resource`, whose path as sent to the node is `path`. Only for routes with sessions, and for writes to
/// what such a route reads.
pub(super) fn visit(
    shared: &Shared,
    now: MonoTime,
    parts: &Parts,
    resource: ResourceId,
    path: &str,
) -> Option<Box<Visit>> {
    let sessions = shared.sessions.as_ref()?;
    let name = name(&shared.config, resource.upstream, path, parts.uri.query())?;
    let here = sessions.here(now, shared);
    Some(Box::new(sessions.visit(&here, parts.extensions.get(), &name)))
}

/// Whether sessions may read the resource whose path as sent to the node is `path`, under whatever URL. Where a route rewrites, which
/// URLs come to a path cannot be told backwards: it counts as one of them.
pub(super) fn are_read(shared: &Shared, written: ResourceId, path: &str) -> bool {
    shared.config.routes.iter().any(|route| match &route.action {
        Action::Proxy {
            upstream,
            policy,
            rewrite,
        } if policy.has_sessions() && upstream.id == written.upstream => {
            let takes = || route.matches.path.as_ref().is_none_or(|p| p.matches(path).is_some());
            rewrite.is_some() || takes()
        }
        Action::Proxy { .. } | Action::Redirect { .. } | Action::Respond { .. } => false,
    })
}

/// What a read was answered with.
#[derive(Copy, Clone, Debug)]
pub(super) struct Seen<'a> {
    status: StatusCode,
    strong_tag: Option<&'a [u8]>,
    received: MonoTime,
}

impl<'a> Seen<'a> {
    /// What the store had, unless the session has passed it by: served all the same, it is no step of the session's (R49).
    pub(super) fn stored(entry: &'a impl Stored, visit: &Visit) -> Option<Self> {
        visit.demand.is_met(entry).then(|| Self::fetched(entry))
    }

    /// What was fetched for this request, and need not be measured by instants: it is younger than all the session knows.
    pub(super) fn fetched(answer: &'a impl Stored) -> Self {
        let facts = answer.facts();
        Self {
            status: facts.status,
            strong_tag: answer.strong_tag(),
            received: facts.received,
        }
    }

    /// What a node has just answered.
    pub(super) fn of(status: StatusCode, etag: Option<&'a Etag>, received: MonoTime) -> Self {
        Self {
            status,
            strong_tag: etag.and_then(Etag::strong),
            received,
        }
    }

    /// Other statuses are about the request, or about the origin, and not about the resource.
    fn tells_of_the_resource(&self) -> bool {
        self.status.is_success() || self.status.is_redirection() || matches!(self.status.as_u16(), 404 | 410)
    }
}

/// Puts the next token onto the answer to a read.
pub(super) fn onto_read(
    shared: &Shared,
    visit: &Visit,
    resource: Option<Name<'_>>,
    response: &mut Response<Body>,
    seen: Option<Seen<'_>>,
) {
    let (Some(sessions), Some(resource)) = (&shared.sessions, resource) else {
        return;
    };
    let mut session = continued(shared, sessions, visit);
    if let Some(seen) = seen.filter(Seen::tells_of_the_resource) {
        session.saw(&resource, seen.strong_tag, seen.received);
    }
    put(sessions, &session, shared, response.headers_mut());
}

/// The same for a job, if it is a session's.
pub(super) fn onto_job<'m>(
    core: &Core,
    job: &Job,
    response: &mut Response<Body>,
    seen: impl FnOnce(&Visit) -> Option<Seen<'m>>,
) {
    if let Some(visit) = &job.visit {
        let name = name(
            &core.shared.config,
            job.resource.upstream,
            job.path(),
            job.parts.uri.query(),
        );
        onto_read(&core.shared, visit, name, response, seen(visit));
    }
}

/// Puts the next token, and the cookies that change, onto the answer to a write. `acked`: the write was acknowledged, with this ETag
/// of what it made of its target, by an answer received then. `declared` are records, with their labels, of what the route says it
/// changes too. Nothing acknowledged promises nothing: the session goes on as it was.
pub(super) fn onto_write(
    core: &Core,
    job: &Job,
    response: &mut Response<Body>,
    acked: Option<(Option<Etag>, MonoTime)>,
    declared: &[(ResourceId, String)],
) {
    let shared = &core.shared;
    let (Some(sessions), Some(visit)) = (&shared.sessions, &job.visit) else {
        return;
    };
    let mut session = continued(shared, sessions, visit);
    if let Some((etag, received)) = acked {
        let target = name(&shared.config, job.resource.upstream, job.path(), job.parts.uri.query());
        let target = target.map(|name| (name, etag.as_ref()));
        let others = declared
            .iter()
            .filter(|(resource, _)| *resource != job.resource)
            .filter_map(|(resource, label)| Some((declared_name(&shared.config, resource.upstream, label)?, None)));
        let written: Vec<(Name<'_>, Option<&Etag>)> = others.chain(target).collect();
        let mut slots: SmallVec<[u8; SLOTS as usize]> = SmallVec::new();
        for (resource, etag) in &written {
            session.wrote(resource, *etag, received);
            if !slots.contains(&resource.slot()) {
                slots.push(resource.slot());
            }
        }
        for slot in slots {
            let of_slot = visit
                .cookies
                .iter()
                .filter(|(of, _)| *of == slot)
                .map(|(_, opened)| opened);
            let here = sessions.here(core.now(), shared);
            let mut session = Session::of(here, sessions.ring.secret(), of_slot);
            for (resource, etag) in written.iter().filter(|(resource, _)| resource.slot() == slot) {
                session.wrote(resource, *etag, received);
            }
            let token = sessions.ring.sign(&here, session.token());
            if let Some(cookie) = cookie(slot, &token, &here, job.https) {
                response.headers_mut().append(SET_COOKIE, cookie);
            }
        }
    }
    put(sessions, &session, shared, response.headers_mut());
}

/// The resource that a declared record's label names; none for a tag's.
fn declared_name<'a>(config: &'a Config, upstream: usize, label: &'a str) -> Option<Name<'a>> {
    if let Some(path) = label.strip_prefix(routes::EVERY_QUERY) {
        return Some(name(config, upstream, path, None)?.every_query());
    }
    let (path, query) = match label.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (label, None),
    };
    path.starts_with('/').then(|| name(config, upstream, path, query))?
}

/// It goes when all that it tells has ended: one that no proxy can verify any more would send its reads to the primary for ever.
fn cookie(slot: u8, token: &str, here: &Here, https: bool) -> Option<HeaderValue> {
    let (secure, age) = (if https { "; Secure" } else { "" }, here.seconds_to_keep());
    let cookie = format!("Tidegate-Session-{slot}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(cookie).ok()
}

/// The ETag that an answer to a write gives its target: of a PUT (RFC 9110 s9.3.4), and of a PATCH without a body (RFC 5789 s2.1).
/// Others may speak of something else.
pub(super) fn etag_of_target(method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<Etag> {
    let tells = match *method {
        Method::PUT => status.is_success(),
        Method::PATCH => status == StatusCode::NO_CONTENT,
        _ => false,
    };
    tells.then(|| etag::of(headers)).flatten()
}

/// The session as it was when the request came. Who sends the header tells all there; the cookies of who does not are all there is.
fn continued(shared: &Shared, sessions: &Sessions, visit: &Visit) -> Session {
    let here = sessions.here(shared.world.clock.mono(), shared);
    let secret = sessions.ring.secret();
    if visit.header.is_empty() {
        Session::of(here, secret, visit.cookies.iter().map(|(_, opened)| opened))
    } else {
        Session::of(here, secret, &visit.header)
    }
}

fn put(sessions: &Sessions, session: &Session, shared: &Shared, headers: &mut HeaderMap) {
    let here = sessions.here(shared.world.clock.mono(), shared);
    if let Ok(token) = HeaderValue::try_from(sessions.ring.sign(&here, session.token())) {
        headers.insert(TIDEGATE_SESSION.clone(), token);
        if Rule::R17.holds() {
            make_private(headers);
        }
    }
}

/// R17: what a node says under our names is not stored.
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    headers.remove(&TIDEGATE_SESSION);
}
