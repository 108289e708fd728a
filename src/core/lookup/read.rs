//! A read as the core sees it: what of a request, of its session and of its upstream decides what it may be answered with.

use crate::core::consistency::session::Demand;
use crate::core::failover::reign::Reign;
use crate::core::http::directives::RequestDirectives;
use crate::core::http::fields::Fields;
use crate::core::http::prefer;
use crate::core::http::stored::Stored;
use crate::core::key::has_unkeyed_credentials;
use crate::core::policy::Policy;
use crate::core::rules::Rule;
use http::{HeaderMap, Method};

/// A read as the core sees it. Built once per request.
#[derive(Debug)]
pub struct Read<'a> {
    /// GET or HEAD; QUERY is read as GET.
    pub method: &'a Method,
    /// The client's fields.
    pub headers: &'a HeaderMap,
    /// Its Cache-Control (or `Pragma: no-cache` without one), parsed.
    pub directives: RequestDirectives,
    /// Whether it carries `Authorization` or `Cookie` that the key does not hold (R14).
    pub credentials: bool,
    /// Whether it carries `Authorization` or `Cookie` at all: on strong routes that takes validate gear, keyed or not (R14).
    pub identified: bool,
    /// Whether a write to the resource is pending or unsettled (R2, R8).
    pub unsettled: bool,
    /// Whether the client asks a weak or eventual route for a validated read (`Prefer: consistency=strong`).
    pub raised: bool,
    /// What its session asks of the resource (R47); none without one.
    pub session: Option<&'a Demand>,
    /// The epoch it happens in (R53).
    pub reign: Reign,
}

impl<'a> Read<'a> {
    /// Reads what counts of a request's fields under a route's policy.
    #[must_use]
    pub fn of(method: &'a Method, headers: &'a HeaderMap, policy: &Policy, unsettled: bool) -> Self {
        Self::with(method, (headers, Fields::of(headers)), policy, unsettled)
    }

    /// The same where it is known already which fields are there.
    #[must_use]
    #[inline]
    pub fn with(
        method: &'a Method,
        (headers, fields): (&'a HeaderMap, Fields),
        policy: &Policy,
        unsettled: bool,
    ) -> Self {
        let has_identity = fields.any(Fields::AUTHORIZATION | Fields::COOKIE) && Rule::R14.holds();
        let directs = fields.any(Fields::CACHE_CONTROL | Fields::PRAGMA);
        Self {
            method,
            headers,
            directives: if directs {
                RequestDirectives::parse(headers)
            } else {
                RequestDirectives::default()
            },
            credentials: has_identity
                && policy
                    .caching()
                    .is_some_and(|caching| has_unkeyed_credentials(headers, &caching.key)),
            identified: has_identity && policy.is_strong(),
            unsettled,
            raised: fields.any(Fields::PREFER)
                && !policy.is_strong()
                && policy.caching().is_some()
                && prefer::wants_strong(headers),
            session: None,
            reign: Reign::default(),
        }
    }

    /// The same in the epoch of its upstream (R53); without this nothing stored is of an older one.
    #[must_use]
    #[inline]
    pub fn in_reign(self, reign: Reign) -> Self {
        Self { reign, ..self }
    }

    /// The same for a session.
    #[must_use]
    #[inline]
    pub fn of_session(self, session: Option<&'a Demand>) -> Self {
        Self { session, ..self }
    }

    /// R47, R49: whether its session asks for something newer than an entry.
    #[inline]
    pub(super) fn is_ahead_of(&self, stored: &impl Stored) -> bool {
        self.session.is_some_and(|session| !session.is_met(stored))
    }
}
