//! What the unit tests of the core build their cases from.
#![allow(clippy::unwrap_used)]

use crate::core::failover::view::Epoch;
use crate::core::http::etag;
use crate::core::http::stored::{Meta, Vary};
use crate::core::policy::{
    Bounded, Caching, Contract, KeyRules, OnUnreachable, OriginTtl, Policy, Proof, WriteThrough, Writers,
};
use crate::core::time::{MonoTime, Span, WallTime};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The instant at which the stored answers of tests were sent for and received, far from the clock's origin.
pub(crate) const START: MonoTime = MonoTime::from_micros(10_000_000_000);

/// The same on the wall clock: Sun, 06 Nov 1994 08:49:37 GMT.
pub(crate) const START_WALL: WallTime = WallTime::from_millis(784_111_777_000);

/// The fields named in `text`, one `Name: value` per line; several lines of one name stay several.
pub(crate) fn headers(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap();
        headers.append(
            name,
            HeaderValue::from_str(value.strip_prefix(' ').unwrap_or(value)).unwrap(),
        );
    }
    headers
}

/// The same as they are stored.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}

/// `ms` milliseconds after [`START`].
pub(crate) fn at(ms: u64) -> MonoTime {
    START.after(Span::from_millis(ms))
}

/// So many seconds.
pub(crate) const fn secs(n: u64) -> Span {
    Span::from_secs(n)
}

/// A 200 received at [`START`], fresh for 10 s, with a strong ETag.
pub(crate) fn meta() -> Meta {
    Meta {
        status: StatusCode::OK,
        part: None,
        sent: START,
        epoch: Epoch(0),
        received: START,
        initial_age: Span::ZERO,
        lifetime: secs(10),
        valid_as_of: START,
        stale_while_revalidate: Span::ZERO,
        stale_if_error: None,
        must_revalidate: false,
        no_cache: false,
        etag: etag::parse(&HeaderValue::from_static("\"1\"")),
        last_modified: None,
        date: START_WALL,
        vary: Vary::Any,
        shareable: false,
        proven: false,
    }
}

/// What a caching level has when nothing is configured.
pub(crate) fn caching() -> Caching {
    Caching {
        ttl: None,
        origin_ttl: OriginTtl::Honor,
        stale_while_revalidate: None,
        stale_if_error: None,
        key: KeyRules::default(),
        collapse: true,
        max_waiters: 1000,
        store_set_cookie: false,
        shared_auth: false,
        max_object: 1 << 23,
        tags_from: Vec::new(),
    }
}

fn policy(contract: Contract) -> Policy {
    Policy {
        contract,
        idempotency_header: None,
    }
}

/// An `off` route.
pub(crate) fn off() -> Policy {
    policy(Contract::Off)
}

/// A `weak` route.
pub(crate) fn weak(caching: Caching) -> Policy {
    policy(Contract::Weak(caching))
}

/// An `eventual` route with a bound of 60 s.
pub(crate) fn eventual(caching: Caching, on_unreachable: OnUnreachable) -> Policy {
    let bounded = Bounded {
        max_staleness: secs(60),
        on_unreachable,
        session: crate::core::policy::Sessions::None,
    };
    policy(Contract::Eventual(caching, bounded))
}

/// A `strong` route in validate gear.
pub(crate) fn strong(caching: Caching) -> Policy {
    let proof = Proof {
        writers: Writers::External,
        through: WriteThrough::Invalidate,
        settle_after: secs(60),
    };
    policy(Contract::Strong(caching, proof))
}
