//! Why. Closed enums whose words for headers, metrics, logs and `explain` are written once, here.

/// Why a read went to the origin (RFC 9211 s2.2 `fwd`, with a detail of our own where that word is too coarse).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum FetchReason {
    /// Nothing is stored under the key.
    UriMiss,
    /// Something is stored, no variant of it fits the request.
    VaryMiss,
    /// Only a part is stored, and the request wants more (RFC 9111 s3.3).
    Partial,
    /// What is stored is not fresh, or must be validated by the route's contract.
    Stale,
    /// What is stored was fetched before traffic moved to another node (R53).
    Epoch,
    /// The client's own directives ask for it (`no-cache`, `max-age`, `min-fresh`).
    Request,
    /// The method is not answered from the store.
    Method,
    /// The route does not cache.
    Bypass,
    /// A write to the resource has not settled (R2, R8).
    Unsettled,
}

impl FetchReason {
    /// The `fwd` token of Cache-Status.
    #[must_use]
    pub const fn fwd(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Partial => "partial",
            Self::Stale | Self::Epoch => "stale",
            Self::Request => "request",
            Self::Method => "method",
            Self::Bypass | Self::Unsettled => "bypass",
        }
    }

    /// What Cache-Status and the access log say beside `fwd`, whoever asks; none where that says it all.
    #[must_use]
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Unsettled => Some("unsettled"),
            Self::Epoch => Some("older-epoch"),
            Self::UriMiss
            | Self::VaryMiss
            | Self::Partial
            | Self::Stale
            | Self::Request
            | Self::Method
            | Self::Bypass => None,
        }
    }
}

/// Why an answer was not stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// The route is `off`.
    RouteOff,
    /// The method's answers are not reused.
    Method,
    /// `no-store` in the request.
    RequestNoStore,
    /// `no-store` in the answer.
    NoStore,
    /// `private` in the answer.
    Private,
    /// The request had `Authorization` or `Cookie` and the answer does not permit sharing (RFC 9111 s3.5, R14).
    Credentials,
    /// `Set-Cookie` in the answer, on a route without `store_set_cookie`.
    SetCookie,
    /// `Vary: *`.
    VaryStar,
    /// The status is not one we store.
    Status,
    /// No lifetime and no validator.
    NoFreshness,
    /// A strong route, and no strong ETag (R5b).
    NoStrongEtag,
    /// A strong route, and a body that ends with the connection (R16b).
    CloseDelimited,
    /// A 206 that could not be completed, or on a strong route (R7).
    Partial,
    /// The body is larger than `max_object`.
    TooLarge,
    /// The memory for fills in flight is used up.
    NoMemory,
    /// The body broke off.
    Incomplete,
    /// The fill's token was killed by a write or a purge (R1).
    TokenDead,
    /// A newer answer is already stored.
    Older,
    /// `must-understand`, and the status is not understood.
    NotUnderstood,
    /// More tags than are kept: a purge by one that was left out would miss it.
    TooManyTags,
}

impl NotStored {
    /// Every reason, for metrics that exist from the start.
    pub const ALL: [Self; 20] = [
        Self::RouteOff,
        Self::Method,
        Self::RequestNoStore,
        Self::NoStore,
        Self::Private,
        Self::Credentials,
        Self::SetCookie,
        Self::VaryStar,
        Self::Status,
        Self::NoFreshness,
        Self::NoStrongEtag,
        Self::CloseDelimited,
        Self::Partial,
        Self::TooLarge,
        Self::NoMemory,
        Self::Incomplete,
        Self::TokenDead,
        Self::Older,
        Self::NotUnderstood,
        Self::TooManyTags,
    ];

    /// Whether the origin's answer is the reason, so that what is stored may be stored no longer either; else the request, or chance, is.
    #[must_use]
    pub const fn is_of_the_answer(self) -> bool {
        match self {
            Self::NoStore
            | Self::Private
            | Self::SetCookie
            | Self::VaryStar
            | Self::Status
            | Self::NoFreshness
            | Self::NoStrongEtag
            | Self::NotUnderstood
            | Self::TooManyTags => true,
            Self::RouteOff
            | Self::Method
            | Self::RequestNoStore
            | Self::Credentials
            | Self::CloseDelimited
            | Self::Partial
            | Self::TooLarge
            | Self::NoMemory
            | Self::Incomplete
            | Self::TokenDead
            | Self::Older => false,
        }
    }

    /// The word in metrics, logs and Cache-Status `detail`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RouteOff => "route-off",
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Credentials => "credentials",
            Self::SetCookie => "set-cookie",
            Self::VaryStar => "vary-star",
            Self::Status => "status",
            Self::NoFreshness => "no-freshness",
            Self::NoStrongEtag => "no-strong-etag",
            Self::CloseDelimited => "close-delimited",
            Self::Partial => "partial",
            Self::TooLarge => "too-large",
            Self::NoMemory => "no-memory",
            Self::Incomplete => "incomplete",
            Self::TokenDead => "token-dead",
            Self::Older => "older",
            Self::NotUnderstood => "not-understood",
            Self::TooManyTags => "too-many-tags",
        }
    }
}

/// Why a read is refused although nothing is broken here.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `only-if-cached`, and nothing that may be served is stored (RFC 9111 s5.2.1.7, R15).
    OnlyIfCached,
    /// The origin cannot be asked and what is stored may not be served any more.
    StaleRefused,
}

/// What became of a request, the `result` label of `tidegate_requests_total`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Served from memory within the contract.
    Hit,
    /// Served stale from memory (stale-while-revalidate, stale-if-error, `on_unreachable = "stale"`).
    Stale,
    /// Confirmed by a 304 from the origin and served from memory.
    Revalidated,
    /// Fetched for this request.
    Miss,
    /// Fetched by another request at the same time.
    Collapsed,
    /// Passed: writes, uncacheable methods, `off` routes.
    Pass,
    /// Refused or failed here: no answer of an origin.
    Refused,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Miss,
        Self::Collapsed,
        Self::Pass,
        Self::Refused,
    ];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Pass => "pass",
            Self::Refused => "refused",
        }
    }
}

/// What became of a write, the `outcome` label of `tidegate_writes_total`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// A definite 2xx or 3xx.
    Applied,
    /// A definite 4xx.
    Rejected,
    /// It provably never reached an application.
    NotApplied,
    /// It may have been applied, or may be later (R11).
    Unknown,
}

impl WriteOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Rejected, Self::NotApplied, Self::Unknown];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
        }
    }
}

/// The last part of a problem type `urn:tidegate:problem:*` (RFC 9457), and the Proxy-Status error that goes with it (RFC 9209 s2.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// A strong write that provably was not applied.
    NotApplied,
    /// A write that may have been applied.
    Unknown,
    /// No primary in the view.
    NoPrimary,
    /// A queue or a limit is full.
    Overloaded,
    /// A mirrored upstream cannot copy what the method does (R40).
    NotReplicable,
    /// Nothing of what is stored may be served.
    StaleRefused,
    /// No node in service, or none that can be connected to.
    Unreachable,
    /// The response head was not there in time.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    BadGateway,
}

impl Problem {
    /// The word in the problem type.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
            Self::NoPrimary => "no-primary",
            Self::Overloaded => "overloaded",
            Self::NotReplicable => "not-replicable",
            Self::StaleRefused => "stale-refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::BadGateway => "bad-gateway",
        }
    }
}

/// What a node is doing, as `/status` and `tidegate_node_state` name it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// No probe has ended yet.
    Unprobed,
    /// Takes traffic.
    Active,
    /// Healthy, in reserve.
    Standby,
    /// Failed its probes.
    Unhealthy,
    /// Out for a while, for what its answers were like.
    Ejected,
    /// A cold one that has been told to start.
    Starting,
    /// Healthy, but it may lack what others have (R36, R52).
    Quarantined,
    /// No new traffic, by the operator's word.
    Draining,
}

impl NodeState {
    /// Every state.
    pub const ALL: &[Self] = &[
        Self::Unprobed,
        Self::Active,
        Self::Standby,
        Self::Unhealthy,
        Self::Ejected,
        Self::Starting,
        Self::Quarantined,
        Self::Draining,
    ];

    /// The word in `/status` and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unprobed => "unprobed",
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Starting => "starting",
            Self::Quarantined => "quarantined",
            Self::Draining => "draining",
        }
    }
}

/// What the attempt before a repeated one met, the `reason` label of `tidegate_retries_total`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// No connection could be made.
    Connect,
    /// The connection broke.
    Reset,
    /// A status that the route's upstream is configured to repeat.
    Status,
    /// The answer was slow, and a copy was sent (R22).
    Hedge,
}

impl RetryReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Reset, Self::Status, Self::Hedge];

    /// The label value.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::Hedge => "hedge",
        }
    }
}
