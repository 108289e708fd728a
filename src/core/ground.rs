//! Which rule decided, finer than Cache-Status can say: a closed enum with a word, a sentence and the rule's name, each written once,
//! here. [`crate::core::lookup::decide_why`] names it beside its decision; only `explain` tells it. The sentences for answers that
//! are not stored stand here too; their words are in [`crate::core::reason`].

use crate::core::reason::NotStored;

/// The rule that decided a read.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ground {
    /// The route stores nothing.
    RouteOff,
    /// The method is not answered from the store.
    Method,
    /// Nothing is stored under the key.
    NothingStored,
    /// No stored variant fits the request.
    NoVariantFits,
    /// Only a part is stored, and the request wants more of it.
    OnlyAPart,
    /// The request has credentials, and what is stored may not be shared with it.
    Credentials,
    /// Within its freshness lifetime.
    Fresh,
    /// Past it, in the window for stale answers.
    StaleWindow,
    /// Past it, and the client takes it so.
    RequestMaxStale,
    /// Proven by the gate.
    Proven,
    /// `no-cache` in the request.
    RequestNoCache,
    /// Older than the request's `max-age`.
    RequestMaxAge,
    /// Not fresh for as long as the request's `min-fresh`.
    RequestMinFresh,
    /// `no-cache` in the answer.
    AnswerNoCache,
    /// Stale, and never to be served so.
    MustRevalidate,
    /// Stale.
    Stale,
    /// Older than the route's bound.
    BeyondBound,
    /// A strong route in validate gear.
    ValidateGear,
    /// HEAD on a strong route.
    Head,
    /// Credentials on a strong route.
    Identified,
    /// Fetched before traffic moved to another node.
    OlderEpoch,
    /// A soft purge took the proof.
    Purged,
    /// Its fill began while it could not be proven.
    Unproven,
    /// Older than the route's `ttl`, which limits exclusive gear.
    TtlLimit,
    /// A write to the resource is pending or unsettled.
    Unsettled,
    /// `Prefer: consistency=strong` in the request.
    RequestStrong,
    /// The request's session has written or seen something newer.
    Session,
    /// The client wants nothing that has to be asked for.
    OnlyIfCached,
    /// The request has conditions that only the origin can evaluate.
    ForTheOrigin,
    /// The method may change something.
    Unsafe,
    /// A field lets the request be another method than it says.
    Overridden,
    /// The content is part of the key.
    Content,
    /// For the cache itself.
    Purge,
}

impl Ground {
    /// Every ground.
    pub const ALL: [Self; 33] = [
        Self::RouteOff,
        Self::Method,
        Self::NothingStored,
        Self::NoVariantFits,
        Self::OnlyAPart,
        Self::Credentials,
        Self::Fresh,
        Self::StaleWindow,
        Self::RequestMaxStale,
        Self::Proven,
        Self::RequestNoCache,
        Self::RequestMaxAge,
        Self::RequestMinFresh,
        Self::AnswerNoCache,
        Self::MustRevalidate,
        Self::Stale,
        Self::BeyondBound,
        Self::ValidateGear,
        Self::Head,
        Self::Identified,
        Self::OlderEpoch,
        Self::Purged,
        Self::Unproven,
        Self::TtlLimit,
        Self::Unsettled,
        Self::RequestStrong,
        Self::Session,
        Self::OnlyIfCached,
        Self::ForTheOrigin,
        Self::Unsafe,
        Self::Overridden,
        Self::Content,
        Self::Purge,
    ];

    /// The word in `explain --json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.told().0
    }

    /// Why, as a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        self.told().1
    }

    /// The rule: a section of an RFC, or a number of the contract.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        self.told().2
    }

    const fn told(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::RouteOff => (
                "route-off",
                "the route stores nothing: its consistency is off",
                "consistency = \"off\"",
            ),
            Self::Method => (
                "method",
                "answers to this method, or to a request with a body, are not reused",
                "RFC 9111 s4",
            ),
            Self::NothingStored => (
                "nothing-stored",
                "nothing is stored under the request's key",
                "RFC 9111 s4",
            ),
            Self::NoVariantFits => (
                "no-variant-fits",
                "what is stored was selected by other request fields (Vary)",
                "RFC 9111 s4.1",
            ),
            Self::OnlyAPart => (
                "only-a-part",
                "only a part is stored, and the request wants more of it",
                "RFC 9111 s3.3",
            ),
            Self::Credentials => (
                "credentials",
                "the request carries Authorization or Cookie, and what is stored may not be shared with it",
                "R14, RFC 9111 s3.5",
            ),
            Self::Fresh => ("fresh", "its age is below its freshness lifetime", "RFC 9111 s4.2"),
            Self::StaleWindow => (
                "stale-window",
                "stale, but inside stale-while-revalidate: served now, refreshed behind",
                "RFC 5861 s3",
            ),
            Self::RequestMaxStale => (
                "request-max-stale",
                "stale, and the request's max-stale takes it so",
                "RFC 9111 s5.2.1.2",
            ),
            Self::Proven => (
                "proven",
                "every write since came through this process, and none has revoked it",
                "R2, R23",
            ),
            Self::RequestNoCache => (
                "request-no-cache",
                "the request says no-cache",
                "RFC 9111 s5.2.1.4, R15",
            ),
            Self::RequestMaxAge => (
                "request-max-age",
                "it is older than the request's max-age",
                "RFC 9111 s5.2.1.1",
            ),
            Self::RequestMinFresh => (
                "request-min-fresh",
                "it does not stay fresh for as long as the request's min-fresh",
                "RFC 9111 s5.2.1.3",
            ),
            Self::AnswerNoCache => (
                "answer-no-cache",
                "the stored answer says no-cache: it is confirmed before every use",
                "RFC 9111 s5.2.2.4",
            ),
            Self::MustRevalidate => (
                "must-revalidate",
                "stale, and the stored answer forbids serving it so (must-revalidate, proxy-revalidate or s-maxage)",
                "RFC 9111 s4.2.4",
            ),
            Self::Stale => ("stale", "its age has reached its freshness lifetime", "RFC 9111 s4.2.4"),
            Self::BeyondBound => ("beyond-bound", "it is older than the route's max_staleness", "R42"),
            Self::ValidateGear => (
                "validate-gear",
                "a strong route whose writers are external asks the primary on every read",
                "CONSISTENCY 1, R5b",
            ),
            Self::Head => ("head", "HEAD on a strong route is asked of the primary", "R5"),
            Self::Identified => (
                "identified",
                "a request with Authorization or Cookie asks the primary, unless the route has shared_auth",
                "R14",
            ),
            Self::OlderEpoch => (
                "older-epoch",
                "it was fetched before another node took over, which may have something else",
                "R53",
            ),
            Self::Purged => ("purged", "a soft purge has taken its proof", "CONSISTENCY 2"),
            Self::Unproven => (
                "unproven",
                "it was fetched while a write was pending or unsettled, or before exclusive gear began",
                "R2",
            ),
            Self::TtlLimit => (
                "ttl-limit",
                "it is older than the route's ttl, the limit of exclusive gear",
                "CONSISTENCY 1",
            ),
            Self::Unsettled => ("unsettled", "a write to the resource is pending or unsettled", "R2, R8"),
            Self::RequestStrong => (
                "request-strong",
                "the request prefers a validated read (Prefer: consistency=strong)",
                "RFC 7240, R47",
            ),
            Self::Session => (
                "session",
                "the request's session may have written or seen something newer: the primary is asked",
                "R47-R49",
            ),
            Self::OnlyIfCached => (
                "only-if-cached",
                "the request says only-if-cached, and the origin would have to be asked",
                "RFC 9111 s5.2.1.7, R15",
            ),
            Self::ForTheOrigin => (
                "for-the-origin",
                "If-Match and If-Unmodified-Since are the origin's to evaluate",
                "RFC 9111 s4.3.2",
            ),
            Self::Unsafe => (
                "unsafe",
                "the method is not known to be safe: it may change something",
                "RFC 9110 s9.2.1",
            ),
            Self::Content => (
                "content",
                "the content of a QUERY is part of its key: what is stored is looked up once it has been read",
                "RFC 10008",
            ),
            Self::Purge => (
                "purge",
                "the client is in the listener's purge_from, and the request came through no other proxy",
                "purge_from",
            ),
            Self::Overridden => (
                "overridden",
                "a field such as X-HTTP-Method-Override lets it be another method: it may change something",
                "R13",
            ),
        }
    }
}

impl NotStored {
    /// Why, as a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        self.told().0
    }

    /// The rule: a section of an RFC, or a number of the contract.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        self.told().1
    }

    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::RouteOff => (
                "the route stores nothing: its consistency is off",
                "consistency = \"off\"",
            ),
            Self::Method => ("answers to this method are not reused", "RFC 9111 s3"),
            Self::RequestNoStore => ("the request says no-store", "RFC 9111 s5.2.1.5"),
            Self::NoStore => ("the answer says no-store", "RFC 9111 s5.2.2.5"),
            Self::Private => ("the answer says private", "RFC 9111 s5.2.2.7"),
            Self::Credentials => (
                "the request carries Authorization or Cookie, and the answer does not permit sharing (public, must-revalidate or s-maxage)",
                "R14, RFC 9111 s3.5",
            ),
            Self::SetCookie => ("the answer sets a cookie, and the route has no store_set_cookie", "R17"),
            Self::VaryStar => ("the answer varies on everything (Vary: *)", "RFC 9111 s4.1"),
            Self::Status => ("answers of this status are not stored here", "RFC 9111 s3, R18"),
            Self::NoFreshness => (
                "it has no freshness lifetime, and nothing to validate it by",
                "RFC 9111 s3",
            ),
            Self::NoStrongEtag => (
                "a strong route, and the answer has no strong ETag to prove it by",
                "R5b",
            ),
            Self::CloseDelimited => (
                "a strong route, and the body ends with the connection: a crash looks the same",
                "R16b",
            ),
            Self::Partial => ("it is a part of an answer (206)", "R7"),
            Self::TooLarge => ("the body is larger than the route's max_object", "max_object"),
            Self::TooManyTags => ("it carries more tags than an entry may have", "R12a"),
            Self::NoMemory => ("the memory for fills in flight is used up", "max_memory"),
            Self::Incomplete => ("the body broke off", "RFC 9111 s3.3"),
            Self::TokenDead => ("a write or a purge came while it was fetched", "R1"),
            Self::Older => ("a newer answer is already stored", "R1"),
            Self::NotUnderstood => (
                "the answer says must-understand, and its status is not understood",
                "RFC 9111 s5.2.2.3",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_ground_has_a_word_of_its_own_and_names_a_rule() {
        let words: BTreeSet<_> = Ground::ALL.iter().map(|ground| ground.word()).collect();
        assert_eq!(words.len(), Ground::ALL.len());
        for ground in Ground::ALL {
            assert!(!ground.sentence().is_empty() && !ground.rule().is_empty(), "{ground:?}");
        }
        for why in NotStored::ALL {
            assert!(!why.sentence().is_empty() && !why.rule().is_empty(), "{why:?}");
        }
    }
}
