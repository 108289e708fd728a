//! The tokens of a request: found in the header and among the cookies, and taken off before anything else sees its fields (R17). Reads
//! no token, and believes none.

use super::TIDEGATE_SESSION;
use crate::core::consistency::session::SLOTS;
use crate::core::http::trim_ows;
use crate::core::rules::Rule;
use http::HeaderValue;
use http::header::COOKIE;
use http::request::Parts;

/// A cookie's name without its slot.
const COOKIE_NAME: &[u8] = b"Tidegate-Session-";

/// How many tokens of one request are looked at: a browser sends one for each slot. More than that, and none is believed.
const MAX_TOKENS: usize = 2 * SLOTS as usize;

/// The tokens of a request, as they came.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Presented {
    pub(super) header: Option<Box<[u8]>>,
    pub(super) cookies: Vec<(u8, Box<[u8]>)>,
    /// More than can be one client's own.
    pub(super) unbelievable: bool,
}

impl Presented {
    /// R17: takes the tokens off a request before the key, R14 and the upstream see its fields.
    pub(in crate::proxy) fn take(parts: &mut Parts) {
        let headers = &mut parts.headers;
        let ours = |line: &HeaderValue| line.as_bytes().windows(COOKIE_NAME.len()).any(|w| w == COOKIE_NAME);
        let in_cookies = headers.get_all(COOKIE).iter().any(ours);
        if !in_cookies && !headers.contains_key(&TIDEGATE_SESSION) {
            return;
        }
        let mut presented = Self::default();
        let mut lines = headers.get_all(&TIDEGATE_SESSION).iter();
        presented.header = lines.next().map(|line| trim_ows(line.as_bytes()).into());
        presented.unbelievable = lines.next().is_some();
        let mut left: Vec<HeaderValue> = Vec::new();
        for line in headers.get_all(COOKIE) {
            left.extend(without_ours(line, &mut presented));
        }
        if presented.cookies.len() > MAX_TOKENS {
            presented.cookies.truncate(MAX_TOKENS);
            presented.unbelievable = true;
        }
        if Rule::R17.holds() {
            headers.remove(&TIDEGATE_SESSION);
            headers.remove(COOKIE);
            for line in left {
                headers.append(COOKIE, line);
            }
        }
        parts.extensions.insert(presented);
    }
}

/// A line of `Cookie` without our cookies, which go into `presented`; none when nothing is left.
fn without_ours(line: &HeaderValue, presented: &mut Presented) -> Option<HeaderValue> {
    let mut left: Vec<u8> = Vec::new();
    let mut found = false;
    for pair in line.as_bytes().split(|byte| *byte == b';').map(trim_ows) {
        let slot = pair.strip_prefix(COOKIE_NAME).and_then(|rest| match rest {
            [digit @ b'0'..=b'7', b'=', value @ ..] => Some((digit - b'0', value.into())),
            _ => None,
        });
        match slot {
            Some(cookie) => {
                found = true;
                presented.cookies.push(cookie);
            }
            None if pair.is_empty() => {}
            None => {
                if !left.is_empty() {
                    left.extend_from_slice(b"; ");
                }
                left.extend_from_slice(pair);
            }
        }
    }
    match (found, left.is_empty()) {
        (false, _) => Some(line.clone()),
        (true, true) => None,
        (true, false) => HeaderValue::from_bytes(&left).ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn taken(lines: &[(&str, &str)]) -> (Vec<String>, Option<Presented>) {
        let mut request = http::Request::builder();
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        Presented::take(&mut parts);
        assert!(!parts.headers.contains_key(&TIDEGATE_SESSION));
        let left = parts.headers.get_all(COOKIE).iter();
        let left = left.map(|line| line.to_str().unwrap().to_owned()).collect();
        (left, parts.extensions.get().cloned())
    }

    #[test]
    fn r17_our_tokens_are_taken_off_and_nothing_else_is() {
        #[allow(clippy::type_complexity)]
        let cases: &[(&str, &[(&str, &str)], &[&str], &[u8])] = &[
            ("nothing", &[("cookie", "a=1;b=2")], &["a=1;b=2"], &[]),
            ("only ours", &[("cookie", "Tidegate-Session-3=v1.x.y")], &[], &[3]),
            (
                "between",
                &[("cookie", "a=1; Tidegate-Session-0=x; b=2;")],
                &["a=1; b=2"],
                &[0],
            ),
            (
                "on several lines",
                &[
                    ("cookie", "Tidegate-Session-7=x"),
                    ("cookie", "a=\"1;2\""),
                    ("cookie", "Tidegate-Session-7=y; c"),
                ],
                &["a=\"1;2\"", "c"],
                &[7, 7],
            ),
            (
                "names that only look like ours",
                &[(
                    "cookie",
                    "Tidegate-Session-8=x; tidegate-session-1=x; XTidegate-Session-1=x; Tidegate-Session-12=x; a=Tidegate-Session-1",
                )],
                &[
                    "Tidegate-Session-8=x; tidegate-session-1=x; XTidegate-Session-1=x; Tidegate-Session-12=x; a=Tidegate-Session-1",
                ],
                &[],
            ),
        ];
        for (case, lines, left, slots) in cases {
            let (found, presented) = taken(lines);
            assert_eq!(&found, left, "{case}");
            let cookies = presented.map(|p| p.cookies).unwrap_or_default();
            let found: Vec<u8> = cookies.iter().map(|(slot, _)| *slot).collect();
            assert_eq!(&found, slots, "{case}");
        }
    }

    #[test]
    fn more_tokens_than_one_client_has_are_not_believed() {
        let one = taken(&[("tidegate-session", " x ")]).1.unwrap();
        assert_eq!(
            (one.header.as_deref(), one.unbelievable),
            (Some(b"x".as_slice()), false)
        );
        assert!(
            taken(&[("tidegate-session", "x"), ("tidegate-session", "x")])
                .1
                .unwrap()
                .unbelievable
        );
        let many = "Tidegate-Session-1=x; ".repeat(MAX_TOKENS + 1);
        let many = taken(&[("cookie", &many)]).1.unwrap();
        assert_eq!((many.cookies.len(), many.unbelievable), (MAX_TOKENS, true));
    }
}
