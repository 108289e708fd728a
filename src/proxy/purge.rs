//! What a purge names, turned into resources (RFC 9111 leaves purging to caches). A purge acts like a write that somebody else made:
//! entries go, and no fill that was in flight is stored (R1).

use super::Shared;
use super::routes;
use crate::config::runtime::Action;
use crate::core::key::{self, Named};
use crate::store::Purged;

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeTarget {
    /// An absolute URL, or a path on every host; with a query only that query, without one all of them.
    Url(String),
    /// Everything.
    All,
}

/// A purge that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// Neither an absolute http(s) URL nor a path.
    #[error("`{0}` is neither an absolute URL (http://host/path) nor a path (/path)")]
    NotAUrl(String),
}

impl Shared {
    /// Purges. When this returns, no entry of before is served, and no fetch of before will be stored.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn purge(&self, target: &PurgeTarget) -> Result<Purged, PurgeError> {
        let text = match target {
            PurgeTarget::All => return Ok(self.store.purge_all()),
            PurgeTarget::Url(text) => text,
        };
        let (host, path, query) = split(text).ok_or_else(|| PurgeError::NotAUrl(text.clone()))?;
        let resources = routes::resources_of_url(&self.config, self.secret, host.as_deref(), &path, query.as_deref());
        let resources: Vec<_> = resources.into_iter().map(|(resource, _)| resource).collect();
        let path = key::normalise_path(&path).into_owned();
        Ok(self.store.purge(&resources, |entry| {
            key::named(&entry.identity().key).is_none_or(|named| {
                host.as_deref().is_none_or(|host| named.host == host.as_bytes())
                    && named.path == path.as_bytes()
                    && self.query_fits(query.as_deref(), &named)
            })
        }))
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
        match self.config.routes.get(named.route).map(|r| &r.action) {
            Some(Action::Proxy { policy, .. }) => policy
                .caching()
                .is_none_or(|c| *key::query_text(Some(query), &c.key) == *named.query),
            _ => true,
        }
    }
}

/// Host (lower case, no default port), path and query of what was given.
fn split(text: &str) -> Option<(Option<String>, String, Option<String>)> {
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
