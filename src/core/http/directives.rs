//! `Cache-Control` (RFC 9111 s5.2), or the targeted field that stands in for it (RFC 9213): quoted strings, any case, repeated lines, duplicates (the strictest wins), saturating numbers.
//! A number that does not parse counts as zero where a longer one would loosen, and is as good as absent where it would tighten.
//! What is not known is skipped. Neither allocates nor fails.

use crate::core::http::syntax::{MAX_SECONDS, all_members, argument, delta_seconds, trim_ows};
use crate::core::http::targeted::{self, Value};
use crate::core::time::Ttl;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

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

/// The response directives of RFC 9111 s5.2.2, RFC 5861 and RFC 8246.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`; the form that names fields counts as the whole (RFC 9111 s5.2.2.4 allows it).
    pub no_cache: bool,
    /// `private`; the form that names fields counts as the whole (RFC 9111 s5.2.2.7 allows it).
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `max-age`.
    pub max_age: Option<Ttl>,
    /// `s-maxage`.
    pub s_maxage: Option<Ttl>,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: Option<Ttl>,
    /// `stale-if-error`.
    pub stale_if_error: Option<Ttl>,
    /// `immutable`.
    pub immutable: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// A targeted field governs: `Cache-Control` was not read, and `Expires` must not be (RFC 9213 s2.2).
    pub targeted: bool,
}

impl RequestDirectives {
    /// Reads a request's fields. A request without `Cache-Control` and `Pragma` costs two look-ups.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            // RFC 9111 s5.4
            found.no_cache = headers.contains_key(PRAGMA)
                && all_members(headers, &PRAGMA).any(|member| member.eq_ignore_ascii_case(b"no-cache"));
            return found;
        }
        for member in all_members(headers, &CACHE_CONTROL) {
            found.take(member);
        }
        found
    }

    fn take(&mut self, member: &[u8]) {
        let (name, value) = argument(member);
        let name = trim_ows(name);
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            shorten(&mut self.max_age, number(value));
        } else if is("max-stale") {
            let limit = if value.is_none() { Ttl::MAX } else { number(value) };
            shorten(&mut self.max_stale, limit);
        } else if is("min-fresh") {
            if let Some(least) = value.and_then(delta_seconds) {
                self.min_fresh = Some(self.min_fresh.map_or(least, |other| other.max(least)));
            }
        } else if is("stale-if-error") {
            shorten(&mut self.stale_if_error, number(value));
        }
    }
}

impl ResponseDirectives {
    /// Reads an answer's fields: the targeted one that governs us, else `Cache-Control`.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        if targeted::read(headers, |name, value| found.take_targeted(name, value)) {
            found.targeted = true;
            return found;
        }
        Self::of_cache_control(headers)
    }

    /// Reads `Cache-Control` alone: what caches that are no target of ours go by.
    #[must_use]
    pub fn of_cache_control(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for member in all_members(headers, &CACHE_CONTROL) {
            found.take(member);
        }
        found
    }

    /// RFC 9111 s4.2.4: one of the directives that forbid serving stale. `s-maxage` is one of them (s5.2.2.10).
    #[must_use]
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some()
    }

    /// RFC 9111 s3.5: one of the directives that let an answer to a request with credentials be shared (R14).
    #[must_use]
    pub fn permits_sharing(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }

    fn take(&mut self, member: &[u8]) {
        let (name, value) = argument(member);
        let name = trim_ows(name);
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("max-age") {
            shorten(&mut self.max_age, number(value));
        } else if is("s-maxage") {
            shorten(&mut self.s_maxage, number(value));
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("private") {
            self.private = true;
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("stale-while-revalidate") {
            shorten(&mut self.stale_while_revalidate, number(value));
        } else if is("stale-if-error") {
            shorten(&mut self.stale_if_error, number(value));
        } else if is("immutable") {
            self.immutable = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("no-transform") {
            self.no_transform = true;
        }
    }

    /// A member of a targeted field. The later of two counts (RFC 9651 s4.2.2). A value of the wrong type gives no freshness, restricts
    /// as the right one would, and permits nothing (RFC 9213 s2.1).
    fn take_targeted(&mut self, name: &str, value: Value) {
        let seconds = || match value {
            Value::Integer(n) => Ttl::from_secs(u64::try_from(n).unwrap_or(0).min(MAX_SECONDS)),
            Value::True | Value::False | Value::Other => Ttl::ZERO,
        };
        let (restricts, permits) = (value != Value::False, value == Value::True);
        match name {
            "max-age" => self.max_age = Some(seconds()),
            "s-maxage" => self.s_maxage = Some(seconds()),
            "stale-while-revalidate" => self.stale_while_revalidate = Some(seconds()),
            "stale-if-error" => self.stale_if_error = Some(seconds()),
            "no-store" => self.no_store = restricts,
            "no-cache" => self.no_cache = restricts,
            "private" => self.private = restricts,
            "must-revalidate" => self.must_revalidate = restricts,
            "proxy-revalidate" => self.proxy_revalidate = restricts,
            "no-transform" => self.no_transform = restricts,
            "public" => self.public = permits,
            "immutable" => self.immutable = permits,
            "must-understand" => self.must_understand = permits,
            _ => {}
        }
    }
}

/// A lifetime; zero when it is no number (RFC 9111 s4.2.1: treat invalid freshness as stale).
fn number(value: Option<&[u8]>) -> Ttl {
    value.and_then(delta_seconds).unwrap_or(Ttl::ZERO)
}

/// Keeps the shorter: the strictest of duplicates wins.
fn shorten(kept: &mut Option<Ttl>, seen: Ttl) {
    *kept = Some(kept.map_or(seen, |other| other.min(seen)));
}

#[cfg(test)]
mod tests;
