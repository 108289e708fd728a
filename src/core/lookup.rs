//! What to do with a read: serve what is stored, validate it, fetch, or refuse. RFC 9111 s4 under a route's contract.

use crate::core::http::directives::RequestDirectives;
use crate::core::http::stored::Meta;
use crate::core::policy::Policy;
use crate::core::reason::{FetchReason, Refusal};
use crate::core::time::{Age, MonoTime};
use http::{HeaderMap, Method};

/// A read as the core sees it. Built once per request.
#[derive(Debug)]
pub struct Read<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// The client's fields.
    pub headers: &'a HeaderMap,
    /// Its Cache-Control (or `Pragma: no-cache` without one), parsed.
    pub directives: RequestDirectives,
    /// Whether it carries `Authorization` or `Cookie` that the key does not hold (R14).
    pub credentials: bool,
    /// Whether a write to the resource is pending or unsettled (R2, R8).
    pub unsettled: bool,
}

/// What to do with a read. `index` points into the variants that were given.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Serve {
        /// Which variant.
        index: usize,
        /// Its current age.
        age: Age,
    },
    /// Serve it, past its lifetime, and refresh it in the background (RFC 5861 s3).
    ServeAndRefresh {
        /// Which variant.
        index: usize,
        /// Its current age.
        age: Age,
    },
    /// Ask the origin whether it is still good.
    Revalidate {
        /// Which variant.
        index: usize,
        /// Why it is not simply served.
        reason: FetchReason,
    },
    /// Fetch.
    Fetch(FetchReason),
    /// Refuse.
    Refuse(Refusal),
}

/// What to do when the origin did not give a usable answer to a read for which a variant is stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Serve the stored variant, stale.
    Serve {
        /// Its current age.
        age: Age,
        /// Beyond the bound of the route's contract, by `on_unreachable = "stale"`.
        breached: bool,
    },
    /// Refuse with 504 `stale-refused`: something is stored, but may not be served any more.
    Refuse(Refusal),
    /// Pass on the failure itself (the origin's 5xx, or our own 503/504/502).
    PassOn,
}

/// How the origin failed to give a usable answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Connect failure, timeout, reset, garbage.
    Unreachable,
    /// A 500, 502, 503 or 504 of its own.
    ServerError,
}
