//! Which rule decides about a request, and why. The request path's own first steps are run ([`super::plan`]) and told instead of acted
//! on; nothing is sent, nothing changes, nothing is counted. A running proxy is asked about its store, a file about an empty one.
//!
//! No value of a field, a cookie or a stored answer is ever told: the asker may see less than the clients do.

mod node;
mod question;
mod stored;
mod told;

pub use question::{ExplainError, Question, Supposed};
pub use told::Explanation;

use super::error::Fault;
use super::plan::{self, Course, Toward};
use super::request::Admitted;
use super::routes::{self, PassedOver};
use super::session::Presented;
use super::{Shared, declared, posted, request};
use crate::config::runtime::{Action, GateBy, Route, Upstream};
use crate::core::ground::Ground;
use crate::core::http::cache_status::CacheStatus;
use crate::core::http::fields::Fields;
use crate::core::http::invalidate::{self, RequestUrl};
use crate::core::key::{self, KeyBuffer};
use crate::core::lookup::{Decision, Read};
use crate::core::policy::{Contract, OnUnreachable, Policy, Writers};
use crate::core::posted as core_posted;
use crate::core::reason::{FetchReason, Problem};
use http::Method;
use http::request::Parts;
use question::Asked;
use std::sync::Arc;
use stored::Judge;
use told::{AskedTold, KeyTold, PassedOverTold, Promise, ResourceTold, RouteTold, Verdict};

impl Shared {
    /// Explains what would be done with a request now. `live`: this is a process that serves.
    ///
    /// # Errors
    /// When the question makes no sense.
    pub fn explain(&self, question: &Question, live: bool) -> Result<Explanation, ExplainError> {
        let supposed = question.answer.as_ref().map(question::Supposed::read).transpose()?;
        let Asked {
            mut parts,
            connection,
            no_body,
            notes,
        } = question.read(&self.config)?;
        let (now, wall) = (self.world.clock.mono(), self.world.clock.wall());
        let mut told = Explanation {
            asked: asked(question, &parts, &connection),
            verdict: serve_nothing(),
            passed_over: Vec::new(),
            route: None,
            key: None,
            resource: None,
            promise: None,
            stored: None,
            answer: None,
            notes: notes.into_iter().map(str::to_owned).collect(),
        };
        if self.sessions.is_some() {
            Presented::take(&mut parts); // R17
        }
        let fields = match plan::admit(&mut parts, &connection) {
            Ok(Admitted::Request(fields)) => fields,
            Ok(Admitted::Purge) => {
                let sentence = "what is stored of the URL is purged; no route sees it";
                let made_here = line(&CacheStatus::generated("purge"));
                told.verdict = by_ground("purge", sentence, Ground::Purge, made_here);
                return Ok(told);
            }
            Err(fault) => {
                told.verdict = refused(fault);
                return Ok(told);
            }
        };
        let path = request::path(&parts.uri);
        told.passed_over = self.passed_over(&connection, &parts, &path);
        let mut buffer = KeyBuffer::new();
        let plan = match plan::plan(self, &connection, (&parts, fields, &path, no_body), now, &mut buffer) {
            Ok(plan) => plan,
            Err((_, fault)) => {
                told.verdict = refused(fault);
                return Ok(told);
            }
        };
        told.route = Some(route(plan.route));
        let passes = match &plan.course {
            Course::Pass(_, reason) => Some(stored::ground_of(*reason)),
            _ => None,
        };
        let writes = matches!(plan.course, Course::Write(_));
        let toward = match plan.course {
            Course::Redirect(_, status) => {
                told.verdict = own("redirect", status.as_u16(), "the client is sent elsewhere");
                return Ok(told);
            }
            Course::Respond(status, _) => {
                told.verdict = own("respond", status.as_u16(), "the answer stands in the configuration");
                return Ok(told);
            }
            Course::Write(toward) => {
                told.verdict = write(&parts);
                told.notes.extend(self.declared(plan.route, &parts));
                told.notes.extend(write_notes(toward.policy, upstream(plan.route)));
                toward
            }
            Course::Pass(toward, reason) => {
                told.verdict = pass(stored::ground_of(reason), reason);
                toward
            }
            Course::Query(toward) => {
                let sentence = "read as a GET with its content in the key";
                told.verdict = by_ground("query", sentence, Ground::Content, "tidegate".to_owned());
                told.key = key_told(&buffer, &toward);
                toward
            }
            Course::Read(toward, found, decision, ground) => {
                told.verdict = read(&parts, toward.policy, decision, ground);
                told.key = key_told(&buffer, &toward);
                let read = Read::of(&parts.method, &parts.headers, toward.policy, found.disturbed)
                    .in_reign(self.upstreams.reign(toward.resource.upstream));
                let chosen = stored::chosen(decision, &read, &found, toward.policy);
                let resource = (toward.resource, &*toward.sent);
                told.stored = Some(stored::stored(
                    self,
                    now,
                    (&found, chosen),
                    resource,
                    toward.policy,
                    live,
                ));
                toward
            }
        };
        let upstream = upstream(plan.route);
        let exclusive = self.store.is_exclusive(now, toward.resource.upstream, toward.policy);
        if writes || toward.policy.is_strong() {
            let query = parts.uri.query();
            told.notes
                .extend(node::who_answers(&self.upstreams, &toward, query, live));
        }
        if let Some(route) = &mut told.route {
            route.sent_as = Some(toward.sent.clone().into_owned());
        }
        told.resource = upstream.map(|upstream| resource(upstream, &toward, &parts));
        told.promise = Some(promise(toward.policy, exclusive));
        let judge = match passes {
            Some(ground) => Judge::Nobody(ground),
            None if writes => self.judge_of_write(plan.route, plan.authority, &parts, &toward),
            None => Judge::Fetch,
        };
        let judge = (judge, exclusive);
        told.answer = supposed.map(|answer| stored::answer((now, wall), &parts, toward.policy, judge, answer));
        if let Some(max) = plan.route.max_in_flight {
            told.notes.push(format!(
                "what is not served from memory is refused with 503 while {max} requests of the route are in flight"
            ));
        }
        Ok(told)
    }

    /// What a write to the route changes beside its target.
    fn declared(&self, route: &Route, parts: &Parts) -> Option<String> {
        let records = declared::records(self, route, parts.uri.path());
        let mut names: Vec<_> = records.into_iter().map(|(_, name)| name).collect();
        names.sort();
        names.dedup();
        let names = names.join(", ");
        (!names.is_empty()).then(|| format!("declared by its route, and gated before it is forwarded: {names} (R12)"))
    }

    /// By which rules an answer to a write would be stored.
    fn judge_of_write<'a>(
        &self,
        route: &Arc<Route>,
        authority: &'a str,
        parts: &'a Parts,
        toward: &'a Toward<'_>,
    ) -> Judge<'a> {
        let may = core_posted::may_be_stored(&parts.method, &parts.headers, toward.policy)
            && posted::is_where_a_get_goes(self, route, toward.https, authority, parts);
        if !may {
            return Judge::Nobody(Ground::Method);
        }
        Judge::Posted(RequestUrl {
            https: toward.https,
            host: authority,
            path: &toward.sent,
            query: parts.uri.query(),
        })
    }

    /// The routes before the one that takes the request.
    fn passed_over(&self, connection: &super::ConnectionInfo, parts: &Parts, path: &str) -> Vec<PassedOverTold> {
        let Ok(authority) = authority(parts) else {
            return Vec::new();
        };
        let host = request::host_name(authority);
        let question = routes::Question {
            host: &host,
            path,
            method: &parts.method,
            headers: &parts.headers,
            https: request::Seen::of(connection, &parts.headers).https,
        };
        let routes = self.config.routes.iter();
        let why = routes.map_while(|route| Some((route, routes::passed_over(route, &question)?)));
        why.map(|(route, why)| passed_over(route, why)).collect()
    }
}

fn authority(parts: &Parts) -> Result<&str, Fault> {
    request::authority(parts, Fields::of(&parts.headers))
}

fn asked(question: &Question, parts: &Parts, connection: &super::ConnectionInfo) -> AskedTold {
    AskedTold {
        method: parts.method.as_str().to_owned(),
        url: question.url.clone(),
        host: authority(parts).unwrap_or_default().to_owned(),
        fields: stored::names(&parts.headers),
        listener: connection.peer.listener.name.clone(),
        from: connection.address.clone(),
        trusted: connection.trusted,
    }
}

fn passed_over(route: &Route, why: PassedOver<'_>) -> PassedOverTold {
    let (mismatch, because) = match why {
        PassedOver::Host => ("host", "its match.host is another".to_owned()),
        PassedOver::Path => {
            let pattern = route.matches.path.as_ref().map_or("", |path| path.text.as_str());
            ("path", format!("its match.path is {pattern}"))
        }
        PassedOver::Method => {
            let methods: Vec<_> = route.matches.methods.iter().map(Method::as_str).collect();
            ("method", format!("its match.methods are {}", methods.join(", ")))
        }
        PassedOver::Header(name) => ("header", format!("no line of {name} is what its match.headers wants")),
        PassedOver::IsHttps => ("scheme", "it sends clients to https, and this one used it".to_owned()),
    };
    PassedOverTold {
        route: route.name.clone(),
        mismatch,
        because,
    }
}

fn upstream(route: &Route) -> Option<&Upstream> {
    match &route.action {
        Action::Proxy { upstream, .. } => Some(upstream),
        Action::Redirect { .. } | Action::Respond { .. } => None,
    }
}

fn route(route: &Route) -> RouteTold {
    let (action, consistency) = match &route.action {
        Action::Proxy { policy, .. } => ("proxy", Some(policy.level())),
        Action::Redirect { .. } => ("redirect", None),
        Action::Respond { .. } => ("respond", None),
    };
    RouteTold {
        name: route.name.clone(),
        action,
        consistency,
        upstream: upstream(route).map(|upstream| upstream.name.clone()),
        sent_as: None,
    }
}

/// The key as it was looked up.
fn key_told(buffer: &KeyBuffer, toward: &Toward<'_>) -> Option<KeyTold> {
    let (named, rules) = (key::named(buffer.text())?, &toward.policy.caching()?.key);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(KeyTold {
        scheme: if toward.https { "https" } else { "http" },
        host: text(named.host),
        path: text(named.path),
        query: text(named.query),
        fields: rules.headers.iter().map(|name| name.as_str().to_owned()).collect(),
        cookies: rules.cookies.clone(),
    })
}

fn resource(upstream: &Upstream, toward: &Toward<'_>, parts: &Parts) -> ResourceTold {
    ResourceTold {
        upstream: upstream.name.clone(),
        path: toward.sent.clone().into_owned(),
        query: match upstream.gate {
            GateBy::Path => None,
            GateBy::Url => parts.uri.query().map(str::to_owned),
        },
    }
}

/// What a level promises (CONSISTENCY.md section 1).
fn promise(policy: &Policy, exclusive: bool) -> Promise {
    let (gear, sentence) = match &policy.contract {
        Contract::Off => (None, "nothing is stored: every answer is a node's own".to_owned()),
        Contract::Weak(_) => (
            None,
            "best effort: an answer is used within its freshness lifetime".to_owned(),
        ),
        Contract::Eventual(_, bounded) => {
            let beyond = match bounded.on_unreachable {
                OnUnreachable::Error => "504",
                OnUnreachable::Stale => "stale, and flagged breached",
            };
            let bound = bounded.max_staleness.as_millis();
            (
                None,
                format!(
                    "an answer was current at most {bound} ms before it was asked for; when that cannot be had: {beyond}"
                ),
            )
        }
        Contract::Strong(_, proof) => {
            let (gear, how) = match (proof.writers, exclusive) {
                (Writers::External, _) => ("validate", "the primary is asked on every read"),
                (Writers::Exclusive, true) => ("exclusive", "what the gate proves is served from memory"),
                (Writers::Exclusive, false) => (
                    "validate",
                    "the primary is asked on every read until settle_after has passed since the start",
                ),
            };
            (
                Some(gear),
                format!("every read sees the last acknowledged write: {how}"),
            )
        }
    };
    Promise {
        level: policy.level(),
        gear,
        sentence,
        assumes: policy.assumptions(),
    }
}

fn forwarded(reason: FetchReason) -> String {
    line(&CacheStatus::forwarded(reason))
}

fn line(status: &CacheStatus<'_>) -> String {
    status.value().to_str().unwrap_or_default().to_owned()
}

fn by_ground(does: &'static str, sentence: &str, ground: Ground, cache_status: String) -> Verdict {
    Verdict {
        does,
        sentence: sentence.to_owned(),
        ground: Some(ground.word()),
        because: ground.sentence().to_owned(),
        rule: Some(ground.rule()),
        status: None,
        cache_status,
    }
}

/// Nothing has been decided yet.
fn serve_nothing() -> Verdict {
    own("refuse", 500, "")
}

fn own(does: &'static str, status: u16, because: &str) -> Verdict {
    Verdict {
        does,
        sentence: format!("the route answers {status} by itself; no node is asked"),
        ground: None,
        because: because.to_owned(),
        rule: None,
        status: Some(status),
        cache_status: line(&CacheStatus::generated("not-proxied")),
    }
}

/// A refusal of the request path, as it would be answered.
fn refused(fault: Fault) -> Verdict {
    let kind = fault.problem.map_or("about:blank", Problem::word);
    let rule = match fault.status.as_u16() {
        400 => Some("RFC 9112 s3.2"),
        404 => Some("INTERFACE 1: no route, 404"),
        405 => Some("RFC 9110 s15.5.6"),
        413 => Some("max_body"),
        501 => Some("RFC 9110 s15.6.2"),
        _ => None,
    };
    Verdict {
        sentence: format!("refused with {} ({kind})", fault.status.as_u16()),
        rule,
        ..own("refuse", fault.status.as_u16(), fault.detail)
    }
}

fn pass(ground: Ground, reason: FetchReason) -> Verdict {
    let sentence = "passed to a node and back: nothing is stored, nothing is dropped";
    by_ground("pass", sentence, ground, forwarded(reason))
}

fn write(parts: &Parts) -> Verdict {
    let ground = if invalidate::is_safe(&parts.method) {
        Ground::Overridden
    } else {
        Ground::Unsafe
    };
    let sentence = "a write: what is stored of the resource is dropped before its answer is passed on";
    by_ground("write", sentence, ground, forwarded(FetchReason::Method))
}

/// What a writer should know of its route.
fn write_notes(policy: &Policy, upstream: Option<&Upstream>) -> Vec<String> {
    let mut notes = vec![
        "no fetch in flight for the resource is stored once the write has begun (R1, R3, R10)".to_owned(),
        "what its answer names (Location, Content-Location of the same origin) is dropped before the acknowledgement too; such effects, derived from the reply, count from the acknowledgement on (R12, R12b)".to_owned(),
    ];
    if policy.is_strong() {
        notes.push(
            "not sent: 503 not-applied; sent, and nothing definite came back: 504 unknown, never repeated (R11, R20)"
                .to_owned(),
        );
    }
    if let Some(settle) = upstream.and_then(|upstream| upstream.settle_after) {
        let ms = settle.as_millis();
        notes.push(format!(
            "of unknown outcome, it leaves the resource unsettled until {ms} ms after its connection has closed (R11, R19)"
        ));
    }
    if let Some(name) = &policy.idempotency_header {
        notes.push(format!("with a {name} field it may be repeated (R20)"));
    }
    notes
}

fn read(parts: &Parts, policy: &Policy, decision: Decision, ground: Ground) -> Verdict {
    let asks = if policy.is_strong() { "the primary" } else { "a node" };
    let is_head = parts.method == Method::HEAD;
    match decision {
        Decision::Serve { .. } => {
            let hit = "tidegate; hit".to_owned();
            by_ground("serve", "a hit: served from memory, no node is asked", ground, hit)
        }
        Decision::ServeAndRefresh { .. } => {
            let hit = "tidegate; hit".to_owned();
            by_ground(
                "serve-and-refresh",
                "served from memory, stale, while a node is asked behind",
                ground,
                hit,
            )
        }
        // On other routes HEAD is forwarded as it is, without conditions of ours.
        Decision::Revalidate { reason, .. } if !is_head || policy.is_strong() => {
            let sentence = format!("validated: {asks} is asked whether what is stored is still good");
            by_ground("validate", &sentence, ground, forwarded(reason))
        }
        Decision::Revalidate { reason, .. } | Decision::Fetch(reason) if is_head => {
            let sentence = format!("forwarded to {asks} as HEAD, which stores nothing");
            by_ground("fetch", &sentence, ground, forwarded(reason))
        }
        Decision::Revalidate { reason, .. } | Decision::Fetch(reason) => {
            let sentence = format!("fetched from {asks}, or from a fetch that is under way");
            by_ground("fetch", &sentence, ground, forwarded(reason))
        }
        Decision::Refuse(refusal) => Verdict {
            ground: Some(ground.word()),
            because: ground.sentence().to_owned(),
            rule: Some(ground.rule()),
            cache_status: line(&CacheStatus::generated("refused")),
            ..refused(Fault::of_refusal(refusal))
        },
    }
}
