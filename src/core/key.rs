//! What a request is called. A *key* names an entry: route, scheme, host, path, query, chosen fields and cookies. A *resource* names
//! what a write changes: upstream and path as sent to the node, coarser than keys on purpose (sharing a gate costs misses, never
//! correctness). Both are text with a keyed 128-bit digest; the text is compared, the digest finds. Every part of a text carries its
//! length, so that no two lists of parts share a text.

use crate::core::policy::KeyRules;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

mod path;
pub use path::{NormalPath, normalise_escapes, normalise_path};

/// The secret of this process under which digests are made: clients cannot aim for collisions.
#[derive(Copy, Clone)]
pub struct KeySecret(pub u64, pub u64);

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySecret")
    }
}

impl KeySecret {
    /// The digest of a text.
    #[must_use]
    #[inline]
    pub fn digest(self, text: &[u8]) -> KeyDigest {
        KeyDigest(SipHasher13::new_with_keys(self.0, self.1).hash(text).as_u128())
    }
}

/// A keyed digest of a key's, a resource's or a tag's text.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub u128);

/// The bit that tells the digest of a tag from that of a resource: the gate has records of both (R12a). The other 127 tell them apart.
const TAG_BIT: u128 = 1 << 127;

impl KeyDigest {
    /// Whether it is a tag's. Not asked of a key's digest.
    #[must_use]
    pub const fn is_tag(self) -> bool {
        self.0 & TAG_BIT != 0
    }
}

/// The parts of a request that name its entry.
#[derive(Copy, Clone, Debug)]
pub struct KeyParts<'a> {
    /// The route's contract: entries of two routes never meet, nor those from before a reload that changed what they mean (R31).
    pub route: usize,
    /// Whether it came over TLS.
    pub https: bool,
    /// `Host` or authority, in any case, with or without port.
    pub host: &'a str,
    /// The hosts that trusted proxies name, where they are not just `host`.
    pub forwarded_host: Option<&'a str>,
    /// The client's path.
    pub path: &'a NormalPath<'a>,
    /// What follows `?`, when there is one.
    pub query: Option<&'a str>,
    /// The client's fields.
    pub headers: &'a HeaderMap,
}

/// Of a key without its texts: route, scheme, and the lengths of host, path and query.
const KNOWN_BYTES: usize = 8 + 1 + 3 * 4;

/// A buffer for a key's text, used again from request to request: it grows to the longest, which a request head bounds.
#[derive(Clone, Debug, Default)]
pub struct KeyBuffer(Vec<u8>);

impl KeyBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the key of a request, in place of what was there.
    pub fn write(&mut self, parts: KeyParts<'_>, rules: &KeyRules) -> &[u8] {
        self.0.clear();
        let host = without_default_port(parts.host, parts.https);
        let path = parts.path.as_bytes();
        self.0.reserve(KNOWN_BYTES + host.len() + path.len());
        self.0.extend_from_slice(&(parts.route as u64).to_le_bytes());
        self.0.push(u8::from(parts.https));
        self.text_part(host.as_bytes());
        self.0.make_ascii_lowercase_from(self.0.len() - host.len());
        self.text_part(path);
        match parts.query {
            None => self.text_part(b""),
            Some(_) => self.part(|out| write_query(parts.query, rules, out)),
        }
        if let Some(host) = parts.forwarded_host {
            self.part(|out| out.extend_from_slice(host.as_bytes()));
        }
        for name in &rules.headers {
            self.part(|out| write_header(parts.headers, name, out));
        }
        for name in &rules.cookies {
            self.part(|out| write_cookie(parts.headers, name, out));
        }
        &self.0
    }

    /// Adds a QUERY's content to the key of its URL (RFC 10008 s2.7): no other key has so many parts.
    pub fn add_content(&mut self, content: &Content<'_>) -> &[u8] {
        self.part(|out| out.extend_from_slice(b"QUERY"));
        for name in &Content::METADATA {
            self.part(|out| write_header(content.headers, name, out));
        }
        self.part(|out| out.extend_from_slice(content.digest));
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.0
    }

    /// A text as a part.
    #[inline]
    fn text_part(&mut self, text: &[u8]) {
        // A request head is far below 4 GiB.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.0.extend_from_slice(&length);
        self.0.extend_from_slice(text);
    }

    /// Writes one part behind its length.
    fn part(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(&mut self.0);
        // A request head is far below 4 GiB.
        let length = u32::try_from(self.0.len() - at - 4).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&length);
        }
    }
}

/// Goes on with a key that was written before.
impl From<&[u8]> for KeyBuffer {
    fn from(text: &[u8]) -> Self {
        Self(text.to_vec())
    }
}

/// What a request's content adds to its key.
#[derive(Copy, Clone, Debug)]
pub struct Content<'a> {
    /// The client's fields.
    pub headers: &'a HeaderMap,
    /// A digest of the content for which nobody can find a second preimage, and of a fixed length.
    pub digest: &'a [u8],
}

impl Content<'_> {
    /// What says how content is to be read (RFC 9110 s8).
    const METADATA: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION];
}

/// The parts of a key's text that a URL names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Named<'k> {
    /// The route's id.
    pub route: usize,
    /// Whether it came over TLS.
    pub https: bool,
    /// Host with its port, when that is not the scheme's.
    pub host: &'k [u8],
    /// The client's path, normalised.
    pub path: &'k [u8],
    /// What counts of the query, as [`query_text`] writes it.
    pub query: &'k [u8],
}

/// Reads a key's text back; none when it is no key.
#[must_use]
pub fn named(key: &[u8]) -> Option<Named<'_>> {
    let (route, rest) = key.split_first_chunk::<8>()?;
    let (https, rest) = rest.split_first()?;
    let (host, rest) = cut_part(rest)?;
    let (path, rest) = cut_part(rest)?;
    let (query, _) = cut_part(rest)?;
    Some(Named {
        route: usize::try_from(u64::from_le_bytes(*route)).ok()?,
        https: *https != 0,
        host,
        path,
        query,
    })
}

fn cut_part(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = text.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// What counts of a query under a route's rules, as keys hold it.
#[must_use]
pub fn query_text(query: Option<&str>, rules: &KeyRules) -> Vec<u8> {
    let mut out = Vec::new();
    write_query(query, rules, &mut out);
    out
}

/// Lower case from an index on.
trait LowerFrom {
    fn make_ascii_lowercase_from(&mut self, at: usize);
}

impl LowerFrom for Vec<u8> {
    fn make_ascii_lowercase_from(&mut self, at: usize) {
        if let Some(tail) = self.get_mut(at..) {
            tail.make_ascii_lowercase();
        }
    }
}

/// An authority without the port its scheme implies.
#[must_use]
pub fn without_default_port(host: &str, https: bool) -> &str {
    host.strip_suffix(if https { ":443" } else { ":80" })
        .or_else(|| host.strip_suffix(':'))
        .unwrap_or(host)
}

/// Whether a request carries credentials that its key does not hold (R14): `Authorization`, or a cookie that is neither in the key nor
/// one that the route's owner says does not count.
#[must_use]
pub fn has_unkeyed_credentials(headers: &HeaderMap, rules: &KeyRules) -> bool {
    if headers.contains_key(AUTHORIZATION) && !rules.headers.contains(&AUTHORIZATION) {
        return true;
    }
    headers.contains_key(COOKIE)
        && !rules.headers.contains(&COOKIE)
        && cookies(headers).any(|(name, _)| {
            !rules.cookies.iter().any(|keyed| keyed.as_bytes() == name)
                && !rules.cookies_ignore.iter().any(|pattern| ignores(pattern, name))
        })
}

/// The query by the route's rules: all of it, or the parameters that count, in their order. A first byte tells an absent query from
/// an empty one; where parameters are chosen, both mean "none of them".
fn write_query(query: Option<&str>, rules: &KeyRules, out: &mut Vec<u8>) {
    let Some(query) = query else {
        return;
    };
    let query = normalise_escapes(query);
    if rules.query.is_none() && rules.query_ignore.is_empty() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
        return;
    }
    for parameter in query.split('&') {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        // Some origins also split at `;`: what such a parameter hides is not ours to ignore.
        let opaque = parameter.contains(';');
        let chosen = rules
            .query
            .as_ref()
            .is_none_or(|only| only.iter().any(|other| other == name));
        if opaque
            || chosen
                && !rules
                    .query_ignore
                    .iter()
                    .any(|pattern| ignores(pattern, name.as_bytes()))
        {
            out.push(b'&');
            out.extend_from_slice(parameter.as_bytes());
        }
    }
}

/// Whether a pattern of `query_ignore` or `cookies_ignore` covers a name; a trailing `*` covers any ending.
fn ignores(pattern: &str, name: &[u8]) -> bool {
    pattern.strip_suffix('*').map_or_else(
        || pattern.as_bytes() == name,
        |prefix| name.starts_with(prefix.as_bytes()),
    )
}

/// A field's lines joined; nothing at all when it is absent.
fn write_header(headers: &HeaderMap, name: &HeaderName, out: &mut Vec<u8>) {
    if let Some(value) = crate::core::http::vary::normal(headers, name) {
        out.push(b'=');
        out.extend_from_slice(&value);
    }
}

/// Every value of a cookie, in order: which of two an origin takes is its own business.
fn write_cookie(headers: &HeaderMap, name: &str, out: &mut Vec<u8>) {
    for (_, value) in cookies(headers).filter(|(other, _)| *other == name.as_bytes()) {
        // A `;` ends a cookie, so it cannot be part of a value.
        out.push(b';');
        out.extend_from_slice(value);
    }
}

/// The first value of a cookie.
#[must_use]
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let mut named = cookies(headers).filter(|(other, _)| *other == name.as_bytes());
    named.next().map(|(_, value)| value)
}

/// The cookies of a request, as name and value.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'))
        .map(crate::core::http::trim_ows)
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.iter().position(|b| *b == b'=') {
            Some(at) => (
                pair.get(..at).unwrap_or_default(),
                pair.get(at + 1..).unwrap_or_default(),
            ),
            None => (pair, &[][..]),
        })
}

/// The digest of a resource: what a write changes and a gate guards (CONSISTENCY.md, Words): all queries, hosts, schemes, methods and
/// variants of a path at an upstream together. `path` is as sent to the node, after rewriting; `query` is given only where the
/// upstream says `gate = "url"`.
#[must_use]
pub fn resource_digest(secret: KeySecret, upstream: usize, path: &str, query: Option<&str>) -> KeyDigest {
    normal_resource_digest(secret, upstream, &normalise_path(path), query)
}

/// The same of a path that is in its normal form.
#[must_use]
pub fn normal_resource_digest(secret: KeySecret, upstream: usize, path: &str, query: Option<&str>) -> KeyDigest {
    let mut hasher = SipHasher13::new_with_keys(secret.0, secret.1);
    hasher.write(&(upstream as u64).to_le_bytes());
    let mut part = |text: &str| {
        hasher.write(&(text.len() as u64).to_le_bytes());
        hasher.write(text.as_bytes());
    };
    part(path);
    if let Some(query) = query {
        part(&normalise_escapes(query));
    }
    KeyDigest(hasher.finish128().as_u128() & !TAG_BIT)
}

/// The digest of a tag at an upstream: every answer of its nodes that carries the name, on any host.
#[must_use]
pub fn tag_digest(secret: KeySecret, upstream: usize, name: &str) -> KeyDigest {
    let mut hasher = SipHasher13::new_with_keys(secret.0, secret.1);
    hasher.write(b"tag");
    hasher.write(&(upstream as u64).to_le_bytes());
    hasher.write(name.as_bytes());
    KeyDigest(hasher.finish128().as_u128() | TAG_BIT)
}

#[cfg(test)]
mod tests;
