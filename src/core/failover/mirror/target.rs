//! What a write of a mirrored upstream was sent to, as it has to be asked for again: when nodes are compared, when one is given what it
//! has missed, and by the process after this one.
//!
//! Two targets may be one thing: then it is compared or copied once too often. Two things are never one target.

/// A request's target, with what else decides which thing a node takes it for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Path and query as sent to the node.
    pub uri: String,
    /// The `Host` it was sent with, lower case; none where nodes are not sent their clients'.
    pub host: Option<String>,
    /// The route whose fields were set on it; none where it sets none.
    pub route: Option<String>,
}

impl From<&str> for Target {
    /// A target that its path and query say all of.
    fn from(uri: &str) -> Self {
        Self {
            uri: uri.to_owned(),
            host: None,
            route: None,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Some(host) => write!(f, "//{host}{}", self.uri),
            None => f.write_str(&self.uri),
        }
    }
}
