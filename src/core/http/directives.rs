//! `Cache-Control` (RFC 9111 s5.2): quoted strings, any case, repeated lines, duplicates (the strictest wins), saturating numbers.

use crate::core::time::Ttl;

/// The request directives of RFC 9111 s5.2.1 and RFC 5861 s4.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`, or `Pragma: no-cache` without a Cache-Control (RFC 9111 s5.4).
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`.
    pub max_age: Option<Ttl>,
    /// `max-stale`; [`Ttl::MAX`] without an argument.
    pub max_stale: Option<Ttl>,
    /// `min-fresh`.
    pub min_fresh: Option<Ttl>,
    /// `stale-if-error`.
    pub stale_if_error: Option<Ttl>,
}
