//! What a write has made that only the primary has run, and whose result is copied instead (`replicate_result`, R40).

use crate::core::http::invalidate::{ClientUrl, RequestUrl, resolve};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};

/// Where the result of a write is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// At its target.
    Target,
    /// At a resource of its own that it has created (RFC 9110 s15.3.2).
    Created(ClientUrl),
    /// At another origin, or nobody can say where: it cannot be copied.
    Elsewhere,
}

/// Where a write's result is, by the answer to it. `hosts`: what the origin may be called; `request` is of one of them.
#[must_use]
pub fn of(status: StatusCode, answer: &HeaderMap, request: RequestUrl<'_>, hosts: &[&str]) -> Made {
    let mut lines = answer.get_all(LOCATION).iter();
    let (first, second) = (lines.next(), lines.next());
    let Some(location) = first.filter(|_| status == StatusCode::CREATED) else {
        return Made::Target; // RFC 9110 s15.3.2: without a Location the target itself was created
    };
    let Some(text) = location.to_str().ok().filter(|_| second.is_none()) else {
        return Made::Elsewhere;
    };
    let found = hosts
        .iter()
        .find_map(|host| resolve(RequestUrl { host, ..request }, text));
    match found {
        None => Made::Elsewhere,
        Some(url) if url.path == request.path && url.query.as_deref() == request.query => Made::Target,
        Some(url) => Made::Created(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r40_a_result_is_at_the_target_or_where_a_201_says() {
        let created = |path: &str, query: Option<&str>| {
            Made::Created(ClientUrl {
                path: path.to_owned(),
                query: query.map(str::to_owned),
            })
        };
        let cases: Vec<(&str, u16, &[&str], Made)> = vec![
            ("200", 200, &[], Made::Target),
            ("200 with a Location means nothing", 200, &["/c/7"], Made::Target),
            ("303 leads to something else", 303, &["/c/7"], Made::Target),
            ("RFC 9110 s15.3.2: 201 alone", 201, &[], Made::Target),
            ("201 and the target itself", 201, &["/c/?a"], Made::Target),
            ("201 and a path", 201, &["/c/7"], created("/c/7", None)),
            ("201 and a relative path", 201, &["7?x"], created("/c/7", Some("x"))),
            ("201 and a URL", 201, &["http://a.example/c/%37"], created("/c/7", None)),
            (
                "201 and what a proxy in front is called",
                201,
                &["http://b.example/c/7"],
                created("/c/7", None),
            ),
            (
                "201 at another host",
                201,
                &["http://other.example/c/7"],
                Made::Elsewhere,
            ),
            ("201 and two of them", 201, &["/c/7", "/c/8"], Made::Elsewhere),
        ];
        for (name, status, locations, expected) in cases {
            let mut answer = HeaderMap::new();
            for location in locations {
                answer.append(LOCATION, location.parse().unwrap());
            }
            let request = RequestUrl {
                https: false,
                host: "a.example",
                path: "/c/",
                query: Some("a"),
            };
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                of(status, &answer, request, &["a.example", "b.example"]),
                expected,
                "{name}"
            );
        }
    }
}
