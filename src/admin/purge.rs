//! `POST /purge`: JSON that names exactly one thing to take out of service.

use super::Controlled;
use super::problem::Problem;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};

/// What to take out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// One URL: absolute, or a path as the client sends it.
    Url(String),
    /// Whatever begins so: absolute, or a path as the client sends it.
    Prefix(String),
    /// Whatever carries this tag.
    Tag(String),
    /// Whatever the route of that name has stored.
    Route(String),
    /// Everything.
    All,
}

/// What a purge does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PurgeKind {
    /// Takes entries out of service.
    Hard,
    /// Marks them stale.
    Soft,
}

/// What a purge did.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// Entries taken out of service, or marked stale.
    pub entries: u64,
    /// The purge's number.
    pub epoch: u64,
}

/// Why nothing was purged: what was named makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPurged(pub String);

/// The request, as written. `soft` goes with any of the others.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    url: Option<String>,
    all: bool,
    prefix: Option<String>,
    tag: Option<String>,
    route: Option<String>,
    soft: bool,
}

pub(super) async fn purge(State(control): Controlled, body: Bytes) -> Response {
    let purged = parse(&body).and_then(|(kind, what)| {
        let purged = control.purge(kind, &what);
        purged.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.to_string()))
    });
    match purged {
        Ok(purged) => Json(purged).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// `POST /settle`, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settle {
    url: String,
}

pub(super) async fn settle(State(control): Controlled, body: Bytes) -> Response {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let settled = serde_json::from_slice(&body)
        .map_err(|e| bad(format!("the body is not {{\"url\": ...}}: {e}")))
        .and_then(|Settle { url }| control.settle(&url).map_err(|why| bad(why.to_string())));
    match settled {
        Ok(settled) => Json(serde_json::json!({ "settled": settled })).into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn parse(body: &[u8]) -> Result<(PurgeKind, Purge), Problem> {
    let wish: Wish = serde_json::from_slice(body)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not a purge: {e}")))?;
    let kind = if wish.soft { PurgeKind::Soft } else { PurgeKind::Hard };
    let named = [
        wish.url.map(Purge::Url),
        wish.prefix.map(Purge::Prefix),
        wish.tag.map(Purge::Tag),
        wish.route.map(Purge::Route),
        wish.all.then_some(Purge::All),
    ];
    let mut named = named.into_iter().flatten();
    match (named.next(), named.next()) {
        (Some(what), None) => Ok((kind, what)),
        (Some(_), Some(_)) | (None, _) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "name exactly one of `url`, `prefix`, `tag`, `route` and `all`",
        )),
    }
}
