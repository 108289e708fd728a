//! Makes of a head what may be sent over HTTP/2 (RFC 9113 s8.2.2), and of one that came what everybody else knows (s8.2.3).

use super::Streams;
use crate::core::http::{dates, hop};
use crate::world::Clock;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::atomic::Ordering;

/// Fields whose values change with every answer and have no place in HPACK's tables: what we say of every hit.
static CHANGING: [HeaderName; 2] = [
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("tidegate-consistency"),
];

/// In how many answers of a connection they have one all the same, so that there is one for their names.
const LESSONS: u8 = 2;

/// The first answers of a connection.
pub(super) fn teach(streams: &Streams, headers: &mut HeaderMap) {
    let taught = streams.taught.load(Ordering::Relaxed);
    if taught < LESSONS {
        streams.taught.store(taught + 1, Ordering::Relaxed);
        for name in &CHANGING {
            if let Some(value) = headers.get_mut(name) {
                value.set_sensitive(false);
            }
        }
    }
}

/// One walk over the names: what a head of HTTP/2 may not have is taken out (RFC 9113 s8.2.2), a date is added where there is none (RFC 9110
/// s6.6.1), and the length where it is known.
pub(super) fn make_sendable(headers: &mut HeaderMap, length: Option<u64>, clock: &dyn Clock) {
    let (mut is_dated, mut is_measured, mut is_bound) = (false, false, false);
    for name in headers.keys() {
        match name.as_str() {
            "date" => is_dated = true,
            "content-length" => is_measured = true,
            "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade" => {
                is_bound = true;
            }
            _ => {}
        }
    }
    if is_bound {
        for name in hop::connection_listed(headers) {
            headers.remove(name);
        }
        for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
            headers.remove(name);
        }
        headers.remove("keep-alive");
        headers.remove("proxy-connection");
    }
    if !is_dated {
        headers.insert(DATE, dates::format(clock.wall()));
    }
    if let Some(length) = length.filter(|_| !is_measured) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Cookies may come in several lines, for the sake of compression; everybody else knows one (RFC 9113 s8.2.3).
pub(super) fn join_crumbs(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return; // no field has two lines
    }
    let mut lines = headers.get_all(COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Each was a field's value, and "; " may stand in one.
    if let Ok(mut whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        // RFC 7541 s6.2.3: what no table may keep stays so on its way.
        whole.set_sensitive(headers.get_all(COOKIE).iter().any(HeaderValue::is_sensitive));
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::{join_crumbs, make_sendable};
    use crate::core::time::{MonoTime, WallTime};
    use crate::world::Clock;
    use http::{HeaderMap, HeaderName, HeaderValue};

    /// Stands.
    struct Still;

    impl Clock for Still {
        fn mono(&self) -> MonoTime {
            MonoTime::from_micros(0)
        }

        fn wall(&self) -> WallTime {
            WallTime::from_millis(0)
        }
    }

    type Lines<'a> = &'a [(&'static str, &'static str)];

    fn map(lines: Lines<'_>) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_head_is_made_such_as_may_be_sent() {
        const DATE: (&str, &str) = ("date", "Tue, 01 Jan 2019 00:00:00 GMT");
        const NOW: (&str, &str) = ("date", "Thu, 01 Jan 1970 00:00:00 GMT");
        let cases: [(&str, Lines<'_>, Option<u64>, Lines<'_>); 5] = [
            (
                "nothing to do",
                &[DATE, ("content-length", "3")],
                Some(3),
                &[DATE, ("content-length", "3")],
            ),
            ("no date (RFC 9110 s6.6.1)", &[("x", "1")], None, &[("x", "1"), NOW]),
            ("no length", &[DATE], Some(7), &[DATE, ("content-length", "7")]),
            (
                "a HEAD's length is not its body's",
                &[DATE, ("content-length", "9")],
                None,
                &[DATE, ("content-length", "9")],
            ),
            (
                "fields of a connection (RFC 9113 s8.2.2)",
                &[
                    DATE,
                    ("connection", "close, x-hop"),
                    ("x-hop", "1"),
                    ("keep-alive", "1"),
                    ("proxy-connection", "close"),
                    ("te", "trailers"),
                    ("transfer-encoding", "chunked"),
                    ("upgrade", "h2c"),
                    ("trailer", "x"),
                ],
                None,
                &[DATE, ("trailer", "x")],
            ),
        ];
        for (name, before, length, after) in cases {
            let mut headers = map(before);
            make_sendable(&mut headers, length, &Still);
            assert_eq!(headers, map(after), "{name}");
        }
    }

    #[test]
    fn a_crumb_that_no_table_may_keep_says_so_of_the_whole() {
        for secret in [false, true] {
            let mut headers = HeaderMap::new();
            for (crumb, is_secret) in [("a=1", false), ("b=2", secret)] {
                let mut value = HeaderValue::from_static(crumb);
                value.set_sensitive(is_secret);
                headers.append("cookie", value);
            }
            join_crumbs(&mut headers);
            assert_eq!(headers["cookie"], "a=1; b=2");
            assert_eq!(headers["cookie"].is_sensitive(), secret);
        }
    }

    #[test]
    fn crumbs_are_joined_and_nothing_else() {
        let cases: [(&str, Lines<'_>, Lines<'_>); 3] = [
            ("one line", &[("cookie", "a=1")], &[("cookie", "a=1")]),
            (
                "several",
                &[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2")],
                &[("cookie", "a=1; b=2"), ("x", "1")],
            ),
            (
                "two lines of another field",
                &[("x", "1"), ("x", "2"), ("cookie", "a=1")],
                &[("x", "1"), ("x", "2"), ("cookie", "a=1")],
            ),
        ];
        for (name, before, after) in cases {
            let mut headers = map(before);
            join_crumbs(&mut headers);
            assert_eq!(headers, map(after), "{name}");
        }
    }
}
