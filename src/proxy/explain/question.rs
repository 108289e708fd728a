//! A question as a person writes it, turned into the request that the request path would see. What is wrong with it is said without
//! repeating a field's value: it may be a secret.

use crate::config::runtime::{Bind, Config, Listener};
use crate::proxy::{ConnectionInfo, Peer};
use crate::world::Address;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The host that is asked for when the URL is a path and no `Host` is given.
const NO_HOST: &str = "localhost";

/// A request to explain, as written.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Its method; GET when empty.
    pub method: String,
    /// An absolute URL, or a path as clients send it.
    pub url: String,
    /// Its fields, as `Name: value`.
    pub headers: Vec<String>,
    /// The listener it comes to; the first when none is named.
    pub listener: Option<String>,
    /// The client's address; 127.0.0.1 when none is given, and none at all over a unix socket.
    pub from: Option<IpAddr>,
    /// An answer of the origin's that is to be judged too.
    pub answer: Option<Supposed>,
}

/// An answer that the origin might give.
#[derive(Clone, Debug, Default)]
pub struct Supposed {
    /// Its status; 200 when none is given.
    pub status: Option<u16>,
    /// Its fields, as `Name: value`.
    pub headers: Vec<String>,
}

/// A question that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No token.
    #[error("`{0}` is no method")]
    Method(String),
    /// Neither an absolute http(s) URL nor a path.
    #[error("`{0}` is neither an absolute URL (http://host/path) nor a path (/path)")]
    Url(String),
    /// Not of the form `Name: value`.
    #[error("the {0} field {1} is not of the form `Name: value`")]
    Header(&'static str, usize),
    /// A value that no field can have.
    #[error("the value of `{0}` has bytes that no field may have")]
    Value(String),
    /// No listener has this name.
    #[error("no listener is called `{0}`")]
    NoSuchListener(String),
    /// Not a final status.
    #[error("{0} is no status of a final answer (200 to 599)")]
    Status(u16),
}

/// The request, ready for the request path.
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) connection: ConnectionInfo,
    pub(super) no_body: bool,
    pub(super) notes: Vec<&'static str>,
}

impl Question {
    pub(super) fn read(&self, config: &Config) -> Result<Asked, ExplainError> {
        let method = if self.method.is_empty() { "GET" } else { &self.method };
        let no_method = || ExplainError::Method(method.to_owned());
        let known = Method::from_bytes(method.as_bytes()).map_err(|_| no_method())?;
        let mut headers = fields("request", &self.headers)?;
        let mut notes = Vec::new();
        let no_url = || ExplainError::Url(self.url.clone());
        let (https, authority, target) = split(&self.url).ok_or_else(no_url)?;
        let target: Uri = target.parse().map_err(|_| no_url())?;
        if !headers.contains_key(HOST) {
            if authority.is_none() {
                notes.push("no host was given: asked as for localhost");
            }
            let host = authority.unwrap_or(NO_HOST);
            headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| no_url())?);
        }
        let is_known = |name: &str| {
            matches!(
                name,
                "GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE" | "OPTIONS" | "QUERY"
            )
        };
        if !is_known(method) && is_known(&method.to_ascii_uppercase()) {
            notes.push("methods are case-sensitive: this is one that nobody knows");
        }
        let mut request = Request::new(());
        *request.method_mut() = known;
        *request.uri_mut() = target;
        *request.headers_mut() = headers;
        let (parts, ()) = request.into_parts();
        let no_body = parts.headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0")
            && !parts.headers.contains_key(TRANSFER_ENCODING);
        Ok(Asked {
            connection: ConnectionInfo::new(self.peer(config, https)?),
            parts,
            no_body,
            notes,
        })
    }

    fn peer(&self, config: &Config, tls: bool) -> Result<Peer, ExplainError> {
        let wanted = |listener: &&Arc<Listener>| self.listener.as_ref().is_none_or(|name| listener.name == *name);
        let listener = config.listeners.iter().find(wanted);
        let listener =
            listener.ok_or_else(|| ExplainError::NoSuchListener(self.listener.clone().unwrap_or_default()))?;
        let from = SocketAddr::new(self.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0);
        let (address, local) = match &listener.bind {
            Bind::Socket(path) => (None, Address::Unix(path.clone())),
            Bind::Address(_) | Bind::AllInterfaces(_) => (Some(from), Address::Tcp(from)),
        };
        Ok(Peer {
            address,
            local,
            listener: Arc::clone(listener),
            tls,
            interim: None,
        })
    }
}

impl Supposed {
    pub(super) fn read(&self) -> Result<(StatusCode, HeaderMap), ExplainError> {
        let status = self.status.unwrap_or(200);
        let known = StatusCode::from_u16(status)
            .ok()
            .filter(|_| (200..600).contains(&status));
        Ok((
            known.ok_or(ExplainError::Status(status))?,
            fields("response", &self.headers)?,
        ))
    }
}

/// `Name: value` lines as fields, in their order.
fn fields(of: &'static str, lines: &[String]) -> Result<HeaderMap, ExplainError> {
    let mut headers = HeaderMap::new();
    for (number, line) in lines.iter().enumerate() {
        let wrong = || ExplainError::Header(of, number + 1);
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value.trim_matches([' ', '\t']));
        let value = value.map_err(|_| ExplainError::Value(name.as_str().to_owned()))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Whether it is https, the authority of an absolute URL, and the target in origin-form.
fn split(url: &str) -> Option<(bool, Option<&str>, String)> {
    let url = url.split('#').next().unwrap_or("");
    let scheme = |prefix: &str| {
        let (begin, rest) = url.split_at_checked(prefix.len())?;
        begin.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    let (https, rest) = match (scheme("http://"), scheme("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        (None, None) if url == "*" || url.starts_with('/') => return Some((false, None, url.to_owned())),
        (None, None) => return None,
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some((https, Some(authority), format!("{slash}{target}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_absolute_or_a_path() {
        let some = |https, host: Option<&'static str>, target: &str| Some((https, host, target.to_owned()));
        assert_eq!(split("http://a:81/b?c#d"), some(false, Some("a:81"), "/b?c"));
        assert_eq!(split("HTTPS://a"), some(true, Some("a"), "/"));
        assert_eq!(split("http://a?b"), some(false, Some("a"), "/?b"));
        assert_eq!(split("/b?c"), some(false, None, "/b?c"));
        assert_eq!(split("*"), some(false, None, "*"));
        for wrong in ["", "a/b", "ftp://a/", "http:///b", "http://user:secret@a/"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_field_is_said_without_its_value() {
        let said = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
            fields("request", &lines).err().map(|e| e.to_string())
        };
        assert_eq!(said(&["A: b", "Cookie: "]), None);
        assert_eq!(
            said(&["A: b", "hunter2"]).as_deref(),
            Some("the request field 2 is not of the form `Name: value`")
        );
        assert_eq!(said(&["A b: hunter2"]).as_deref(), said(&["hunter2"]).as_deref());
        assert_eq!(
            said(&["Cookie: hunter2\n"]).as_deref(),
            Some("the value of `cookie` has bytes that no field may have")
        );
    }
}
