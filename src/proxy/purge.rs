//! What a purge names, turned into entries (RFC 9111 leaves purging to caches). A purge acts like a write that somebody else made:
//! entries go or lose their freshness, and no fill that was in flight is stored (R1).

use super::Shared;
use super::routes;
use super::tagging;
use crate::config::runtime::{Action, GateBy, Route};
use crate::core::key::{self, Named};
use crate::store::{Entry, Purge, Purged};

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeTarget {
    /// An absolute URL, or a path on every host; with a query only that query, without one all of them.
    Url(String),
    /// Whatever begins with an absolute URL without a query, or with a path on every host: text, not segments, so that `/a` covers
    /// `/ab` and `/a/` does not cover `/a`.
    Prefix(String),
    /// Whatever carries this tag, at every upstream and on every host.
    Tag(String),
    /// Whatever the route of that name has stored.
    Route(String),
    /// Everything.
    All,
}

/// A purge that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// Neither an absolute http(s) URL nor a path.
    #[error("`{0}` is neither an absolute URL (http://host/path) nor a path (/path)")]
    NotAUrl(String),
    /// A prefix that goes on behind the path.
    #[error("`{0}` has a query or a fragment: a prefix is the beginning of a path")]
    NotAPrefix(String),
    /// No route has this name.
    #[error("no route is called `{0}`")]
    NoSuchRoute(String),
}

impl Shared {
    /// Purges. When this returns, no entry of before is served (hard) or served as fresh or proven (soft), and no fetch of before
    /// will be stored. A purge by prefix, by route or of all refuses every fetch in flight, whatever it is for (R12a): a miss or two.
    ///
    /// # Errors
    /// When the URL is none, the prefix is none, or there is no such route.
    pub fn purge(&self, how: Purge, target: &PurgeTarget) -> Result<Purged, PurgeError> {
        match target {
            PurgeTarget::All => Ok(self.store.purge_everywhere(how, |_| true)),
            PurgeTarget::Url(text) => self.purge_url(how, text),
            PurgeTarget::Tag(name) => Ok(self.store.purge(how, &tagging::everywhere(self, name), |_| true)),
            PurgeTarget::Prefix(text) => {
                let (host, path, query) = split(text).ok_or_else(|| PurgeError::NotAUrl(text.clone()))?;
                if query.is_some() || text.contains('#') {
                    return Err(PurgeError::NotAPrefix(text.clone()));
                }
                let prefix = key::normalise_path(&path);
                let covers =
                    |named: &Named<'_>| is_on(host.as_deref(), named) && named.path.starts_with(prefix.as_bytes());
                Ok(self.store.purge_everywhere(how, |entry| is_named(entry, covers)))
            }
            PurgeTarget::Route(name) => {
                let called = |route: &std::sync::Arc<Route>| route.name == *name;
                let route = self.config.routes.iter().find(|r| called(r));
                let id = route.ok_or_else(|| PurgeError::NoSuchRoute(name.clone()))?.contract;
                Ok(self
                    .store
                    .purge_everywhere(how, |entry| is_named(entry, |named| named.route == id)))
            }
        }
    }

    fn purge_url(&self, how: Purge, text: &str) -> Result<Purged, PurgeError> {
        let (host, path, query) = split(text).ok_or_else(|| PurgeError::NotAUrl(text.to_owned()))?;
        let resources = routes::resources_of_url(&self.config, self.secret, host.as_deref(), &path, query.as_deref());
        let resources: Vec<_> = resources.into_iter().map(|(resource, _)| resource).collect();
        let path = key::normalise_path(&path).into_owned();
        let covers = |named: &Named<'_>| {
            is_on(host.as_deref(), named) && named.path == path.as_bytes() && self.query_fits(query.as_deref(), named)
        };
        // Where the query is part of what a resource is, a URL without one names resources nobody can list: all records are looked at.
        let by_url = self
            .config
            .upstreams
            .iter()
            .any(|upstream| upstream.gate == GateBy::Url);
        if query.is_none() && by_url {
            return Ok(self.store.purge_everywhere(how, |entry| is_named(entry, covers)));
        }
        Ok(self.store.purge(how, &resources, |entry| is_named(entry, covers)))
    }

    /// The operator's word that nothing abandoned will be applied to what the URL names any more (R19). Returns how many resources
    /// were unsettled.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn settle(&self, url: &str) -> Result<u64, PurgeError> {
        let (host, path, query) = split(url).ok_or_else(|| PurgeError::NotAUrl(url.to_owned()))?;
        let named = routes::resources_of_url(&self.config, self.secret, host.as_deref(), &path, query.as_deref());
        let resources: Vec<_> = named.into_iter().map(|(resource, _)| resource).collect();
        Ok(self.store.settle(&resources))
    }

    /// A purge without a query covers every query; one with a query, those that the route's key rules do not tell apart from it.
    fn query_fits(&self, query: Option<&str>, named: &Named<'_>) -> bool {
        let Some(query) = query else { return true };
        match self
            .config
            .routes
            .iter()
            .find(|r| r.contract == named.route)
            .map(|r| &r.action)
        {
            Some(Action::Proxy { policy, .. }) => policy
                .caching()
                .is_none_or(|c| *key::query_text(Some(query), &c.key) == *named.query),
            _ => true,
        }
    }
}

/// Whether an entry's key reads as what the closure covers. A key that cannot be read is covered: that costs a miss.
fn is_named(entry: &Entry, covers: impl Fn(&Named<'_>) -> bool) -> bool {
    key::named(entry.key()).is_none_or(|named| covers(&named))
}

fn is_on(host: Option<&str>, named: &Named<'_>) -> bool {
    host.is_none_or(|host| named.host == host.as_bytes())
}

/// Host (lower case, no default port), path and query of what was given.
pub(super) fn split(text: &str) -> Option<(Option<String>, String, Option<String>)> {
    let (host, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, rest) = rest.split_at(at);
            let host = key::without_default_port(host, scheme.eq_ignore_ascii_case("https"));
            if host.is_empty() {
                return None;
            }
            (Some(host.to_ascii_lowercase()), rest)
        }
        Some(_) => return None,
        None if text.starts_with('/') => (None, text),
        None => return None,
    };
    let rest = rest.split('#').next().unwrap_or("");
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (rest, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    Some((host, path.to_owned(), query))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_names_an_absolute_url_or_a_path() {
        let some = |host: Option<&str>, path: &str, query: Option<&str>| {
            Some((host.map(str::to_owned), path.to_owned(), query.map(str::to_owned)))
        };
        assert_eq!(
            split("http://Shop.Example:80/a?b"),
            some(Some("shop.example"), "/a", Some("b"))
        );
        assert_eq!(split("https://a:444"), some(Some("a:444"), "/", None));
        assert_eq!(split("/a/b"), some(None, "/a/b", None));
        assert_eq!(split("/a?x#y"), some(None, "/a", Some("x")));
        assert_eq!(split("a/b"), None);
        assert_eq!(split("ftp://a/b"), None);
        assert_eq!(split("http:///b"), None);
    }
}
