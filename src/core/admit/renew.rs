//! The short way of [`super::freshen`], for the 304 that changes no stored field but `Date`, as nearly all do: on a strong route the
//! fields then say what they said when the answer was stored, and need not be read again.
//!
//! Invariant: what it gives is what `freshen` would have given; where that is not certain, it gives nothing.

use super::Answer;
use crate::core::consistency::bound;
use crate::core::http::freshness::{self, Received};
use crate::core::http::stored::Meta;
use crate::core::lookup::Read;
use crate::core::policy::{Contract, Policy};
use crate::core::time::{Ttl, WallTime};

/// The facts of a stored answer that `answer`, a 304, has confirmed without changing any field of it but `Date`; none: ask `freshen`.
/// The stored ones were found under the same policy as this one. `date` is what its `Date` says ([`dates::field`]).
#[must_use]
pub fn renew(
    stored: Meta,
    answer: &Answer<'_>,
    read: &Read<'_>,
    policy: &Policy,
    date: Option<WallTime>,
) -> Option<Meta> {
    // On other levels the lifetime may count from the date.
    let Contract::Strong(caching, _) = &policy.contract else {
        return None;
    };
    let refused = read.directives.no_store
        || (read.credentials && !caching.shared_auth && !stored.shareable) // R14
        || answer.close_delimited; // R16b
    if refused || !stored.vary.matches(read.headers) {
        return None;
    }
    let age = freshness::age_field(answer.headers);
    let at = Received {
        sent: answer.sent,
        received: answer.received,
        received_wall: answer.received_wall,
    };
    Some(Meta {
        sent: answer.sent,
        epoch: answer.epoch,
        received: answer.received,
        initial_age: freshness::initial_age(age, date, at),
        lifetime: caching.ttl.unwrap_or(Ttl::MAX),
        valid_as_of: bound::valid_as_of(answer.sent, age, answer.lag).unwrap_or_default(),
        date: date.unwrap_or(answer.received_wall),
        proven: false, // the fill's token knows
        ..stored
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::core::admit::{Admission, Answer, admit, freshen, renew};
    use crate::core::consistency::bound::Lag;
    use crate::core::failover::view::Epoch;
    use crate::core::http::dates;
    use crate::core::http::stored::Meta;
    use crate::core::http::testing::{START_WALL, at, caching, headers, lines, off, strong, weak};
    use crate::core::http::validate::{Change, change, merge_304};
    use crate::core::lookup::Read;
    use crate::core::policy::{Caching, OriginTtl, Policy};
    use crate::core::time::{Span, WallTime};
    use http::header::DATE;
    use http::{HeaderMap, Method, StatusCode};
    use proptest::prelude::*;

    fn answer(status: u16, headers: &HeaderMap, ms: u64, close_delimited: bool) -> Answer<'_> {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            sent: at(ms),
            epoch: Epoch(ms),
            lag: Lag::None,
            received: at(ms + 3),
            received_wall: WallTime::from_millis(START_WALL.as_millis() + i64::try_from(ms).unwrap()),
            close_delimited,
        }
    }

    fn one_of(among: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::sample::subsequence(among, 0..=among.len()).prop_map(|lines| lines.join("\n"))
    }

    fn policies() -> Vec<Policy> {
        let with = |change: fn(&mut Caching)| {
            let mut caching = caching();
            change(&mut caching);
            caching
        };
        vec![
            strong(caching()),
            strong(with(|c| c.ttl = Some(Span::from_secs(9)))),
            strong(with(|c| c.shared_auth = true)),
            strong(with(|c| c.store_set_cookie = true)),
            strong(with(|c| c.origin_ttl = OriginTtl::Ignore)),
            strong(with(|c| c.stale_if_error = Some(Span::from_secs(5)))),
        ]
    }

    #[test]
    fn only_strong_routes_have_the_short_way() {
        let (asked, fields) = (HeaderMap::new(), headers("Cache-Control: max-age=60\nETag: \"1\""));
        let stored = crate::core::http::testing::meta();
        for policy in [off(), weak(caching())] {
            let read = Read::of(&Method::GET, &asked, &policy, false);
            assert!(renew(stored.clone(), &answer(304, &fields, 5, false), &read, &policy, None).is_none());
        }
    }

    proptest! {
        #[test]
        fn the_short_way_comes_to_what_the_long_one_does(
            status in prop::sample::select(&[200_u16, 203, 404, 410][..]),
            fields in one_of(&[
                "Date: Sun, 06 Nov 1994 08:49:37 GMT", "Age: 4", "Vary: Accept-Language", "Set-Cookie: a=b", "Expires: 0",
                "Cache-Control: public, max-age=60, stale-while-revalidate=7", "Cache-Control: no-cache", "Last-Modified: Sun, 06 Nov 1994 07:49:37 GMT",
                "Tidegate-Cache-Control: must-revalidate", "X: 1",
            ]),
            came in one_of(&[
                "Date: Sun, 06 Nov 1994 08:49:37 GMT", "Date: Sun, 06 Nov 1994 08:49:39 GMT", "Date: wrong", "Age: 4", "X: 1",
                "ETag: \"1\"", "Connection: keep-alive", "Content-Length: 0", "Vary: Accept-Language",
            ]),
            asked in one_of(&["Authorization: x", "Cookie: a=b", "Cache-Control: no-store", "Accept-Language: de"]),
            which in 0..6_usize,
            close in any::<bool>(),
        ) {
            let policies = policies();
            let policy = policies.get(which).unwrap();
            let (stored_fields, asked, came) = (headers(&format!("ETag: \"1\"\n{fields}")), headers(&asked), headers(&came));
            let read = Read::of(&Method::GET, &asked, policy, false);
            let Admission::Store(stored) = admit(&Read::of(&Method::GET, &headers("Accept-Language: de"), policy, false),
                &answer(status, &stored_fields, 0, false), policy) else { return Ok(()) };
            let told = answer(304, &came, 2000, close);
            let mut merged = stored_fields.clone();
            merge_304(&mut merged, &came);
            if change(&lines(&stored_fields), &came) == Change::More {
                return Ok(());
            }
            let long = freshen(&stored, &merged, &told, &read, policy);
            let date = dates::field(told.headers, &DATE).valid();
            match (renew(Meta::clone(&stored), &told, &read, policy, date), long) {
                (Some(short), Admission::Store(long)) => prop_assert_eq!(format!("{short:?}"), format!("{long:?}")),
                (Some(_), Admission::PassOn(why)) => prop_assert!(false, "the long way refuses: {why:?}"),
                // What is asked for in another language was never confirmed by this.
                (None, Admission::Store(_)) => prop_assert!(!stored.vary.matches(&asked)),
                (None, Admission::PassOn(_)) => {}
            }
        }
    }
}
