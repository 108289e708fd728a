//! Which requests change something, and what an answer to one invalidates (RFC 9111 s4.4, R12, R13). Names what the *client* would
//! ask for; which resource that is, routes decide.

use crate::core::key::normalise_path;
use crate::core::rules::Rule;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use smallvec::SmallVec;

/// R13: fields by which frameworks let a request be another method than it says.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// The methods known to be safe (RFC 9110 s9.2.1, RFC 10008). Any other token is not.
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) || is_query(method)
}

/// Whether it is QUERY (RFC 10008): a read that has its content in the key.
#[must_use]
pub fn is_query(method: &Method) -> bool {
    method.as_str() == "QUERY"
}

/// The method by whose rules a request is answered from the store: QUERY's conditions and ranges mean what GET's do (RFC 10008 s2.6).
#[must_use]
pub fn read_as(method: &Method) -> &Method {
    if is_query(method) { &Method::GET } else { method }
}

/// Whether a request may change something: its method, or one that overrides it (R13).
#[must_use]
pub fn is_unsafe_request(method: &Method, headers: &HeaderMap) -> bool {
    !is_safe(method) || is_overridden(headers)
}

/// R13: whether a request names another method than its own, so that nobody can say what it does.
#[must_use]
pub fn is_overridden(headers: &HeaderMap) -> bool {
    // One walk over the names is cheaper than three look-ups of names that are hardly ever there.
    headers.keys().any(|name| OVERRIDES.contains(&name.as_str())) && Rule::R13.holds()
}

/// Whether the method that a request names instead of its own is DELETE.
#[must_use]
pub fn names_delete(headers: &HeaderMap) -> bool {
    let lines = OVERRIDES.iter().flat_map(|name| headers.get_all(*name));
    let mut names = lines
        .map(|line| line.as_bytes().eq_ignore_ascii_case(b"DELETE"))
        .peekable();
    names.peek().is_some() && names.all(|is| is)
}

/// A client's URL on the host it asked: path normalised, query as it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientUrl {
    /// The path, normalised (RFC 3986 s6.2.2).
    pub path: String,
    /// What follows `?`, when there is one.
    pub query: Option<String>,
}

/// The URL of a request, as its client sent it.
#[derive(Copy, Clone, Debug)]
pub struct RequestUrl<'a> {
    /// Whether it came over TLS.
    pub https: bool,
    /// Its `Host` or authority.
    pub host: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Its query.
    pub query: Option<&'a str>,
}

/// R12: what an answer to an unsafe request invalidates beside the target: `Location` and `Content-Location` of the same origin.
/// Nothing when the request failed.
#[must_use]
pub fn affected(status: StatusCode, answer: &HeaderMap, request: RequestUrl<'_>) -> SmallVec<[ClientUrl; 2]> {
    let mut found = SmallVec::new();
    if !(status.is_success() || status.is_redirection()) {
        return found;
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        for value in answer.get_all(name) {
            let url = std::str::from_utf8(value.as_bytes())
                .ok()
                .and_then(|text| resolve(request, text));
            if let Some(url) = url.filter(|url| !found.contains(url)) {
                found.push(url);
            }
        }
    }
    found
}

/// RFC 3986 s5.2: `reference` seen from the request's URL; none when it leads to another origin or is no http URL.
#[must_use]
pub fn resolve(request: RequestUrl<'_>, reference: &str) -> Option<ClientUrl> {
    let reference = reference.trim_matches([' ', '\t']);
    let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
    let (https, rest) = match scheme(reference) {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) => return None,
        None => (request.https, reference),
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let same = https == request.https && same_host(authority, request.host, https);
        return same.then(|| absolute(rest));
    }
    if https != request.https || rest.len() != reference.len() {
        return None; // "http:path" names no host
    }
    Some(match rest.as_bytes() {
        [] => ClientUrl {
            path: normalise_path(request.path).into_owned(),
            query: request.query.map(str::to_owned),
        },
        [b'/', ..] => absolute(rest),
        [b'?', query @ ..] => ClientUrl {
            path: normalise_path(request.path).into_owned(),
            query: std::str::from_utf8(query).ok().map(str::to_owned),
        },
        _ => {
            let base = request
                .path
                .rfind('/')
                .and_then(|at| request.path.get(..=at))
                .unwrap_or("/");
            absolute(&format!("{base}{rest}"))
        }
    })
}

/// A path that begins at the root, with its query.
fn absolute(text: &str) -> ClientUrl {
    let (path, query) = text
        .split_once('?')
        .map_or((text, None), |(path, query)| (path, Some(query)));
    let path = if path.is_empty() { "/" } else { path };
    ClientUrl {
        path: normalise_path(path).into_owned(),
        query: query.map(str::to_owned),
    }
}

/// The scheme before the first `:` and what follows it, the two we know in lower case.
fn scheme(reference: &str) -> Option<(&'static str, &str)> {
    let (name, rest) = reference.split_once(':')?;
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !valid {
        return None;
    }
    let known = ["http", "https"]
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known));
    Some((known.unwrap_or("another"), rest))
}

/// Whether two authorities name one host and port.
fn same_host(one: &str, other: &str, https: bool) -> bool {
    let one = crate::core::key::without_default_port(one, https);
    let other = crate::core::key::without_default_port(other, https);
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests;
