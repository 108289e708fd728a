//! Validation (RFC 9111 s4.3): the client's conditions against what is stored, our own conditions to the origin, and what a 304
//! changes. `strong` is whether the route is: there only a strong ETag proves anything (R5b), and dates never do (R5c).

use crate::core::http::dates;
use crate::core::http::etag;
use crate::core::http::hop;
use crate::core::http::range::STRONG_DATE_MS;
use crate::core::http::stored::{Etag, Meta};
use crate::core::policy::Policy;
use crate::core::rules::Rule;
use crate::core::time::WallTime;
use http::header::{
    AGE, CACHE_CONTROL, DATE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::ops::Deref;

/// What the client's conditions make of a stored answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Send it.
    Proceed,
    /// Answer 304.
    NotModified,
}

/// RFC 9110 s13.2.2 as RFC 9111 s4.3.2 has it for caches: `If-None-Match` by weak comparison, and only without one
/// `If-Modified-Since`, against `Last-Modified` or else `Date`. Conditions count for GET and HEAD on 2xx answers.
#[must_use]
pub fn evaluate(method: &Method, headers: &HeaderMap, meta: &Meta, strong: bool) -> Precondition {
    let strong = strong && Rule::R5c.holds();
    if !matches!(*method, Method::GET | Method::HEAD) || !meta.status.is_success() {
        return Precondition::Proceed;
    }
    let unchanged = if headers.contains_key(IF_NONE_MATCH) {
        etag::list_names(headers, &IF_NONE_MATCH, meta.etag.as_ref())
    } else if !strong && headers.contains_key(IF_MODIFIED_SINCE) {
        // R5c: never on strong routes
        let modified = meta.last_modified.unwrap_or(meta.date);
        dates::field(headers, &IF_MODIFIED_SINCE)
            .valid()
            .is_some_and(|since| modified <= since)
    } else {
        false
    };
    if unchanged {
        Precondition::NotModified
    } else {
        Precondition::Proceed
    }
}

/// The same for an answer that is not stored, by its own fields: whether its requester has it already.
#[must_use]
pub fn has_it(method: &Method, request: &HeaderMap, status: StatusCode, answer: &HeaderMap, strong: bool) -> bool {
    let strong = strong && Rule::R5c.holds();
    if !matches!(*method, Method::GET | Method::HEAD) || !status.is_success() {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        return etag::list_names(request, &IF_NONE_MATCH, etag::of(answer).as_ref());
    }
    let date = |name| dates::field(answer, name).valid();
    let modified = date(&LAST_MODIFIED).or_else(|| date(&DATE));
    let since = dates::field(request, &IF_MODIFIED_SINCE).valid();
    !strong && matches!((modified, since), (Some(modified), Some(since)) if modified <= since) // R5c
}

/// What we ask of the origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-None-Match`.
    pub if_none_match: Option<HeaderValue>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<HeaderValue>,
    /// `Cache-Control: no-cache`: caches below must ask too (R5b).
    pub no_cache: bool,
}

/// The conditions that ask whether `meta` is still good. On strong routes exactly its strong ETag, or none (R5b).
#[must_use]
pub fn conditional_headers(meta: &Meta, strong: bool) -> Conditions {
    let strong = strong && Rule::R5b.holds();
    let tag = meta.etag.as_ref().filter(|tag| !strong || !tag.weak);
    Conditions {
        if_none_match: tag.map(|tag| tag.value.clone()),
        if_modified_since: meta.last_modified.filter(|_| !strong).map(dates::format),
        no_cache: strong,
    }
}

impl Conditions {
    /// Asks for the whole answer.
    #[must_use]
    pub const fn none(strong: bool) -> Self {
        Self {
            if_none_match: None,
            if_modified_since: None,
            no_cache: strong,
        }
    }

    /// R47: on a route with sessions, a date counts only where it is a strong validator (RFC 9110 s8.8.2.2). Of two states of one second
    /// the earlier would be confirmed, and be as new as its 304 for whoever has seen the later.
    #[must_use]
    pub fn on(mut self, policy: &Policy, meta: &Meta) -> Self {
        let told = |at: WallTime| meta.date.as_millis().saturating_sub(at.as_millis()) >= STRONG_DATE_MS;
        if policy.has_sessions() && !meta.last_modified.is_some_and(told) {
            self.if_modified_since = None;
        }
        self
    }

    /// Whether an answer may be a 304. A 304 to an unconditional request is an error of the origin (R5b).
    #[must_use]
    pub const fn is_conditional(&self) -> bool {
        self.if_none_match.is_some() || self.if_modified_since.is_some()
    }

    /// Writes them into a flight's request, in place of the client's conditions and Range (R5c).
    pub fn apply(self, headers: &mut HeaderMap) {
        let is_clients = |name: &HeaderName| {
            matches!(
                *name,
                IF_NONE_MATCH | IF_MODIFIED_SINCE | IF_MATCH | IF_UNMODIFIED_SINCE | IF_RANGE | RANGE
            )
        };
        // One walk over the names costs less than looking for each of six that are hardly ever there.
        while Rule::R5c.holds() {
            let Some(name) = headers.keys().find(|name| is_clients(name)).cloned() else {
                break;
            };
            headers.remove(name);
        }
        if let Some(tag) = self.if_none_match {
            headers.insert(IF_NONE_MATCH, tag);
        }
        if let Some(date) = self.if_modified_since {
            headers.insert(IF_MODIFIED_SINCE, date);
        }
        if self.no_cache {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
    }
}

/// RFC 9111 s4.3.4, R5b: whether a 304 speaks of what is stored. One that names another validator does not, and what is stored must
/// be fetched again unconditionally.
#[must_use]
pub fn confirms(meta: &Meta, answer: &HeaderMap, strong: bool) -> bool {
    if !Rule::R5b.holds() {
        return true;
    }
    if answer.contains_key(http::header::ETAG) {
        return match (etag::of(answer), meta.etag.as_ref()) {
            (Some(named), Some(stored)) if strong => named.strongly_equals(stored),
            (Some(named), Some(stored)) => named.weakly_equals(stored),
            (None, _) | (_, None) => false,
        };
    }
    if meta.etag.is_some() {
        return true;
    }
    match (dates::field(answer, &LAST_MODIFIED).valid(), meta.last_modified) {
        (Some(named), Some(stored)) => named == stored,
        (None, _) | (_, None) => true,
    }
}

/// R12b: whether an answer of the origin shows that what is stored is out of date: another strong ETag, or another status. Only
/// statuses that speak of the resource count: any other 4xx is about the request, and clients could empty the store with it; a 5xx says
/// nothing; a 304 or 206 says that it is still there, and by its strong ETag as what.
#[must_use]
pub fn differs(meta: &Meta, status: StatusCode, answer: &HeaderMap) -> bool {
    if !matches!(status.as_u16(), 200..=399 | 404 | 410) || !Rule::R12b.holds() {
        return false;
    }
    let strong = |etag: Option<Etag>| etag.filter(|e| !e.weak);
    let (stored, named) = (strong(meta.etag.clone()), strong(etag::of(answer)));
    if matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) {
        return stored.is_some() && named.is_some() && stored != named;
    }
    // The whole and a part of it are of one status.
    if status != meta.status && !(meta.part.is_some() && status == StatusCode::OK) {
        return true;
    }
    (stored.is_some() || named.is_some()) && stored != named
}

/// RFC 9111 s3.2: brings a stored answer's fields up to date with those of a 304. Kept as stored: Content-Length, connection fields, and
/// the two that tell how the stored bytes are coded or cut: we keep the bytes, so a 304 that names another coding would have them
/// decoded wrongly (s3.2 permits that omission for the sake of what is stored, and no other). So is a `Content-Digest`: that of a 304 is
/// of its own content, which is none (RFC 9530 s2). A stored `Age` goes: it counted from
/// another reception.
pub fn merge_304(stored: &mut HeaderMap, answer: &HeaderMap) {
    let listed = hop::connection_listed(answer);
    stored.remove(AGE);
    for name in answer.keys() {
        if is_kept(name) || listed.contains(name) {
            continue;
        }
        stored.remove(name);
        for value in answer.get_all(name) {
            stored.append(name.clone(), value.clone());
        }
    }
}

/// What a 304 makes of stored fields ([`merge_304`]).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Another `Date` in the place of the one that is stored.
    Date,
    /// Anything else.
    More,
}

/// What merging a 304's fields, as they came, would change of the stored ones, cheaper than merging. Stored lines of one name lie
/// together, as a map gives them.
#[must_use]
pub fn change<V: Deref<Target = [u8]>>(stored: &[(&str, V)], answer: &HeaderMap) -> Change {
    let listed = hop::connection_listed(answer);
    let in_one_line_each = answer.len() == answer.keys_len();
    let change = in_one_line_each.then(|| change_in_order(stored, answer, &listed));
    let change = change
        .flatten()
        .unwrap_or_else(|| change_in_any_order(stored, answer, &listed));
    if lines_of(stored, &AGE).next().is_some() && !answer.contains_key(AGE) {
        return Change::More; // the stored one goes
    }
    change
}

/// Of whatever came.
fn change_in_any_order<V: Deref<Target = [u8]>>(
    stored: &[(&str, V)],
    answer: &HeaderMap,
    listed: &[HeaderName],
) -> Change {
    let mut change = Change::Nothing;
    for name in answer.keys() {
        if is_kept(name) || listed.contains(name) {
            continue;
        }
        let came = answer.get_all(name);
        if lines_of(stored, name).eq(came.iter().map(HeaderValue::as_bytes)) {
            continue;
        }
        if *name != DATE || lines_of(stored, name).count() != 1 || came.iter().count() != 1 {
            return Change::More;
        }
        change = Change::Date;
    }
    change
}

/// Of fields in one line each, in the order of the stored ones, as nearly every node gives them: one walk over both. None: they are not.
fn change_in_order<V: Deref<Target = [u8]>>(
    stored: &[(&str, V)],
    answer: &HeaderMap,
    listed: &[HeaderName],
) -> Option<Change> {
    let mut change = Change::Nothing;
    let mut rest = stored;
    for (name, value) in answer {
        if is_kept(name) || listed.contains(name) {
            continue;
        }
        let text = name.as_str();
        let of_it = |(stored, _): &(&str, V)| *stored == text;
        let at = rest.iter().position(of_it);
        let ((_, known), behind) = rest.get(at?..)?.split_first()?;
        if behind.first().is_some_and(of_it) {
            return Some(Change::More); // of several lines there is one left
        }
        if **known != *value.as_bytes() {
            if *name != DATE {
                return Some(Change::More);
            }
            change = Change::Date;
        }
        rest = behind;
    }
    Some(change)
}

fn lines_of<'a, V: Deref<Target = [u8]>>(
    stored: &'a [(&str, V)],
    name: &'a HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let of_it = stored.iter().filter(|(stored, _)| *stored == name.as_str());
    of_it.map(|(_, value)| &**value)
}

fn is_kept(name: &HeaderName) -> bool {
    let kept = |what: &str| matches!(what, "length" | "encoding" | "range" | "digest");
    name.as_str().strip_prefix("content-").is_some_and(kept) || hop::is_hop_by_hop(name)
}

#[cfg(test)]
mod tests;
