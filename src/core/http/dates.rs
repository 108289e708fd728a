//! Dates of HTTP (RFC 9110 s5.6.7): IMF-fixdate, RFC 850, asctime; the wrong case and the name of another weekday are tolerated, any
//! other zone or shape is not a date.

use crate::core::http::syntax::{Single, single, trim_ows};
use crate::core::time::WallTime;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, the end of what the formats can say.
const LAST_SECOND: u64 = 253_402_300_799;

/// A field that holds a date.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DateField {
    /// No such field.
    Absent,
    /// A date.
    At(WallTime),
    /// Not a date, or lines that contradict each other.
    Invalid,
}

impl DateField {
    /// The date, when there is a valid one.
    #[must_use]
    pub const fn valid(self) -> Option<WallTime> {
        match self {
            Self::At(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// Reads the date field `name`.
#[must_use]
pub fn field(headers: &HeaderMap, name: &HeaderName) -> DateField {
    match single(headers, name) {
        Single::Absent => DateField::Absent,
        Single::Conflict => DateField::Invalid,
        Single::Value(value) => parse(value).map_or(DateField::Invalid, DateField::At),
    }
}

/// One date in any of the three formats; none when it is anything else.
#[must_use]
pub fn parse(value: &[u8]) -> Option<WallTime> {
    let value = trim_ows(value);
    // As nearly everybody spells it.
    let usual = std::str::from_utf8(value).ok();
    let usual = usual.and_then(|text| httpdate::parse_http_date(text).ok());
    let at = usual.or_else(|| unusual(value))?;
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(WallTime::from_millis)
}

fn unusual(value: &[u8]) -> Option<SystemTime> {
    // The longest format is RFC 850 with "Wednesday".
    let mut text = [0_u8; 33];
    let text = text.get_mut(..value.len())?;
    text.copy_from_slice(value);
    fix_case(text);
    let text = std::str::from_utf8(text).ok()?;
    httpdate::parse_http_date(text)
        .ok()
        .or_else(|| of_its_own_weekday(text))
}

/// The date as an IMF-fixdate, cut to the second; what lies outside 1970-9999 becomes the nearest of them.
#[must_use]
pub fn format(at: WallTime) -> HeaderValue {
    let seconds = u64::try_from(at.as_millis()).unwrap_or(0) / 1000;
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND)));
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// The weekday says nothing that the rest does not: a date under the name of another weekday is read as if it had its own.
fn of_its_own_weekday(text: &str) -> Option<SystemTime> {
    const SHORT: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const LONG: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    let (name, rest) = text.split_at_checked(text.find([',', ' '])?)?;
    let names = if name.len() == 3 { SHORT } else { LONG };
    if !names.contains(&name) {
        return None;
    }
    names
        .iter()
        .find_map(|name| httpdate::parse_http_date(&format!("{name}{rest}")).ok())
}

/// Every word as the formats spell it: a capital and small letters, but `GMT`.
fn fix_case(text: &mut [u8]) {
    for word in text.split_mut(|b| !b.is_ascii_alphabetic()) {
        if word.eq_ignore_ascii_case(b"gmt") {
            word.make_ascii_uppercase();
        } else {
            word.make_ascii_lowercase();
            if let Some(first) = word.first_mut() {
                first.make_ascii_uppercase();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    const SUNDAY: WallTime = WallTime::from_millis(784_111_777_000);

    #[test]
    fn rfc9110_s5_6_7_dates() {
        let cases: &[(&str, &str, Option<WallTime>)] = &[
            ("IMF-fixdate", "Sun, 06 Nov 1994 08:49:37 GMT", Some(SUNDAY)),
            ("RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT", Some(SUNDAY)),
            ("asctime", "Sun Nov  6 08:49:37 1994", Some(SUNDAY)),
            (
                "white space around it",
                "  Sun, 06 Nov 1994 08:49:37 GMT\t",
                Some(SUNDAY),
            ),
            (
                "wrong case of the weekday",
                "sUN, 06 Nov 1994 08:49:37 GMT",
                Some(SUNDAY),
            ),
            ("wrong case of the month", "Sun, 06 nOV 1994 08:49:37 GMT", Some(SUNDAY)),
            ("wrong case of the zone", "Sun, 06 Nov 1994 08:49:37 gMT", Some(SUNDAY)),
            ("another zone", "Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("a longer zone", "Sun, 06 Nov 1994 08:49:37 AEST", None),
            ("an offset", "Sun, 06 Nov 1994 08:49:37 +0000", None),
            ("no zone", "Sun, 06 Nov 1994 08:49:37", None),
            ("a year of two digits", "Sun, 06 Nov 94 08:49:37 GMT", None),
            ("dashes", "Sun, 06-Nov-1994 08:49:37 GMT", None),
            ("no comma", "Sun 06 Nov 1994 08:49:37 GMT", None),
            ("two spaces", "Sun, 06  Nov 1994 08:49:37 GMT", None),
            ("periods in the time", "Sun, 06 Nov 1994 08.49.37 GMT", None),
            ("an hour of one digit", "Sun, 06 Nov 1994 8:49:37 GMT", None),
            (
                "the name of another weekday",
                "Mon, 06 Nov 1994 08:49:37 GMT",
                Some(SUNDAY),
            ),
            (
                "another weekday in RFC 850",
                "Friday, 06-Nov-94 08:49:37 GMT",
                Some(SUNDAY),
            ),
            ("another weekday in asctime", "Thu Nov  6 08:49:37 1994", Some(SUNDAY)),
            ("no weekday at all", "Xyz, 06 Nov 1994 08:49:37 GMT", None),
            (
                "a long weekday in an IMF-fixdate",
                "Sunday, 06 Nov 1994 08:49:37 GMT",
                None,
            ),
            ("a short weekday in RFC 850", "Sun, 06-Nov-94 08:49:37 GMT", None),
            ("a day that is not", "Thu, 30 Feb 1995 08:49:37 GMT", None),
            ("zero", "0", None),
            ("nothing", "", None),
            ("a date before 1970", "Sun, 06 Nov 1960 08:49:37 GMT", None),
        ];
        for (name, text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), *expected, "{name}");
        }
    }

    #[test]
    fn lines_that_contradict_each_other_are_no_date() {
        let mut headers = HeaderMap::new();
        let name = http::header::EXPIRES;
        assert_eq!(field(&headers, &name), DateField::Absent);
        headers.append(&name, format(SUNDAY));
        headers.append(&name, format(SUNDAY));
        assert_eq!(field(&headers, &name), DateField::At(SUNDAY));
        headers.append(&name, HeaderValue::from_static("0"));
        assert_eq!(field(&headers, &name), DateField::Invalid);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nearly_a_date_is_read_without_a_panic(text in "(Sun|Mon|Wednesday|Sunday),? [0-9]{2}[- ](Feb|Nov|Xyz)[- ][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn what_is_formatted_reads_back(seconds in 0_i64..=253_402_300_799) {
            let at = WallTime::from_millis(seconds * 1000);
            prop_assert_eq!(parse(format(at).as_bytes()), Some(at));
        }

        #[test]
        fn every_instant_can_be_formatted(ms in any::<i64>()) {
            prop_assert!(parse(format(WallTime::from_millis(ms)).as_bytes()).is_some());
        }
    }
}
