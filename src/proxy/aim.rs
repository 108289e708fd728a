//! Where a request would go: by its hash, and by its route's contract when no node is in service.

use super::Core;
use super::request::Job;
use crate::config::runtime::{Balance, HashOn};
use crate::core::balance::HashKey;
use crate::core::failover::few::WhenNone;
use crate::core::key;
use crate::upstream::Aim;
use http::HeaderName;

static PREFER: HeaderName = HeaderName::from_static("prefer");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The aim of a request.
pub(super) fn of(job: &Job, core: &Core) -> Aim {
    let upstream = core.shared.config.upstreams.get(job.resource.upstream);
    let key = match upstream.map(|upstream| &upstream.balance) {
        Some(Balance::Hash(on)) => hashed(job, on),
        Some(Balance::LeastRequest | Balance::RoundRobin | Balance::Random | Balance::PeakEwma) | None => None,
    };
    // What must be proven is refused when nobody in service can prove it (CONSISTENCY.md section 1).
    let strong = job.policy.is_strong() || (job.parts.headers.contains_key(&PREFER) && job.is_raised());
    let when_none = if strong { WhenNone::Refuse } else { WhenNone::Try };
    Aim {
        key,
        when_none,
        only: None,
        epoch: None,
    }
}

/// What the request is hashed by; none when it has nothing of the kind.
fn hashed(job: &Job, on: &HashOn) -> Option<HashKey> {
    let headers = &job.parts.headers;
    match on {
        HashOn::Path => Some(HashKey::of(job.path().as_bytes())),
        HashOn::ClientIp => {
            let named = headers.get_all(&X_FORWARDED_FOR).iter().next_back();
            let named = named
                .filter(|_| job.connection.trusted)
                .and_then(|line| line.to_str().ok());
            let last = named.and_then(|line| line.rsplit(',').next()).map(str::trim);
            let told = last.filter(|last| !last.is_empty());
            // Over a unix socket clients cannot be told apart, unless a proxy in front names them: all at one node would be no balance.
            let known = job.connection.peer.address.map(|_| job.connection.address.as_str());
            told.or(known).map(|client| HashKey::of(client.as_bytes()))
        }
        HashOn::Header(name) => headers.get(name).map(|value| HashKey::of(value.as_bytes())),
        HashOn::Cookie(name) => key::cookie(headers, name).map(HashKey::of),
    }
}
