//! A route's contract, already consistent: an enum by level, so that a contradiction cannot be written down.
//! Built only by `config/compile`; the level table of INTERFACE.md is enforced there.

use crate::core::time::Ttl;
use http::HeaderName;

/// What a route promises about the answers it gives, and how it caches to keep that promise.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The level, with what only that level has.
    pub contract: Contract,
    /// A request header (for instance `Idempotency-Key`) that makes a repeated write harmless at the origin; none: writes are never repeated once sent (R20).
    pub idempotency_header: Option<HeaderName>,
}

/// The consistency level of a route.
#[derive(Clone, Debug)]
pub enum Contract {
    /// Nothing is stored; every request passes.
    Off,
    /// Best effort: a stored answer is used within its lifetime.
    Weak(Caching),
    /// Bounded staleness.
    Eventual(Caching, Bounded),
    /// Linearizable per resource.
    Strong(Caching, Proof),
}

/// What every caching level has.
#[derive(Clone, Debug)]
pub struct Caching {
    /// Lifetime when the origin gives none (`weak`, `eventual`), or an upper limit in exclusive gear (`strong`).
    pub ttl: Option<Ttl>,
    /// Whether the origin's lifetime counts.
    pub origin_ttl: OriginTtl,
    /// The window after the lifetime in which a stale answer is served while one background request refreshes it, when the origin names none (RFC 5861 s3).
    pub stale_while_revalidate: Option<Ttl>,
    /// The window after the lifetime in which a stale answer stands in for a broken origin, when the origin names none (RFC 5861 s4).
    pub stale_if_error: Option<Ttl>,
    /// What of a request names an entry, beside scheme, host and path.
    pub key: KeyRules,
    /// Whether concurrent requests for one key share one fetch.
    pub collapse: bool,
    /// How many requests may wait for one fetch; one more fetches on its own.
    pub max_waiters: usize,
    /// Whether answers with `Set-Cookie` may be stored.
    pub store_set_cookie: bool,
    /// Whether answers to requests with `Authorization` or `Cookie` may be shared (R14).
    pub shared_auth: bool,
    /// The largest body that is stored, in bytes.
    pub max_object: u64,
    /// The fields whose values are an answer's tags.
    pub tags_from: Vec<HeaderName>,
}

/// Whose lifetime counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OriginTtl {
    /// The origin's, and `ttl` when it gives none.
    Honor,
    /// `ttl`, whatever the origin says; `no-store` and `private` still bind.
    Ignore,
}

/// What `eventual` adds.
#[derive(Clone, Debug)]
pub struct Bounded {
    /// The bound: an answer was current at some instant in [start - max_staleness, end] (R42).
    pub max_staleness: Ttl,
    /// What happens when freshness within the bound cannot be had.
    pub on_unreachable: OnUnreachable,
    /// What a client that hands its token back is promised beside it.
    pub session: Sessions,
}

/// What a session gets (R47-R49).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Nothing.
    None,
    /// Its own writes, and reads that never go back.
    ReadYourWrites,
}

/// The owner's choice for a partition.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OnUnreachable {
    /// CP: refuse with 504.
    Error,
    /// AP: serve what is stored and flag it `breached`.
    Stale,
}

/// What `strong` adds.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Who may write.
    pub writers: Writers,
    /// What a write leaves behind (R9).
    pub through: WriteThrough,
    /// How long an abandoned write may still be applied by the origin (R19).
    pub settle_after: Ttl,
}

/// What a write leaves behind of its target (R9).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WriteThrough {
    /// Nothing: the next read fetches.
    Invalidate,
    /// What the node answers when it is asked again, within so long.
    Refresh(Ttl),
    /// What was written, where the answer proves it was stored as it was; else as `Refresh`.
    Store(Ttl),
}

/// Who may write a strong resource, and hence how a read is proven.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Anybody: every read is validated at the primary.
    External,
    /// Only this one running process: what it proved by the gate is served from memory.
    Exclusive,
}

/// What of the query names an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// Query parameters left out of the key; a trailing `*` matches any ending.
    pub query_ignore: Vec<String>,
    /// When set, only these query parameters are in the key.
    pub query: Option<Vec<String>>,
    /// Request headers in the key.
    pub headers: Vec<HeaderName>,
    /// Cookies in the key, by name.
    pub cookies: Vec<String>,
    /// Cookies that the owner says do not change an answer: not in the key, and no credentials (R14). A trailing `*` matches any
    /// ending; what `cookies` names is in the key all the same.
    pub cookies_ignore: Vec<String>,
}

impl Policy {
    /// The caching part, on every level but `off`.
    #[must_use]
    pub fn caching(&self) -> Option<&Caching> {
        match &self.contract {
            Contract::Off => None,
            Contract::Weak(caching) | Contract::Eventual(caching, _) | Contract::Strong(caching, _) => Some(caching),
        }
    }

    /// Whether the route is `strong`.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        matches!(self.contract, Contract::Strong(..))
    }

    /// Whether the gate may prove what is stored: strong, and every writer comes through this process.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        matches!(&self.contract, Contract::Strong(_, proof) if proof.writers == Writers::Exclusive)
    }

    /// Whether its answers carry session tokens.
    #[must_use]
    #[inline]
    pub fn has_sessions(&self) -> bool {
        matches!(&self.contract, Contract::Eventual(_, bounded) if bounded.session == Sessions::ReadYourWrites)
    }

    /// What a write leaves behind; nothing where the gate proves nothing.
    #[must_use]
    pub fn write_through(&self) -> WriteThrough {
        match &self.contract {
            Contract::Strong(_, proof) if proof.writers == Writers::Exclusive => proof.through,
            Contract::Off | Contract::Weak(_) | Contract::Eventual(..) | Contract::Strong(..) => {
                WriteThrough::Invalidate
            }
        }
    }

    /// Whether an eventual route gives what is beyond its bound, flagged, rather than nothing.
    #[must_use]
    pub fn serves_beyond_bound(&self) -> bool {
        matches!(&self.contract, Contract::Eventual(_, bounded) if bounded.on_unreachable == OnUnreachable::Stale)
    }

    /// What a strong route relies on (CONSISTENCY.md section 1), in the words of logs and `explain`; nothing on other levels.
    #[must_use]
    pub fn assumptions(&self) -> Vec<&'static str> {
        if !self.is_strong() {
            return Vec::new();
        }
        let writers = "all writes to the route go through this one running process";
        let mut all = vec![
            "the primary is linearizable per resource when alone",
            "a strong ETag changes whenever the representation does, and equal strong ETags mean equal representations on all nodes",
            "an abandoned request is executed within settle_after or never",
            "caches below obey no-cache",
            "nodes crash but do not lie",
        ];
        if self.is_exclusive() {
            all.insert(2, writers);
        }
        all
    }

    /// The level's name in configuration, `/status` and logs.
    #[must_use]
    pub fn level(&self) -> &'static str {
        match self.contract {
            Contract::Off => "off",
            Contract::Weak(_) => "weak",
            Contract::Eventual(..) => "eventual",
            Contract::Strong(..) => "strong",
        }
    }
}
