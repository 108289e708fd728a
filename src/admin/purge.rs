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
    /// Everything.
    All,
}

/// What a purge did.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// Entries taken out of service.
    pub entries: u64,
    /// The purge's number.
    pub epoch: u64,
}

/// Why nothing was purged: what was named makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPurged(pub String);

/// The request, as written.
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
    let purged = parse(&body).and_then(|what| {
        let purged = control.purge(&what);
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

fn parse(body: &[u8]) -> Result<Purge, Problem> {
    let wish: Wish = serde_json::from_slice(body)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not a purge: {e}")))?;
    let later = [
        ("prefix", wish.prefix.is_some()),
        ("tag", wish.tag.is_some()),
        ("route", wish.route.is_some()),
        ("soft", wish.soft),
    ];
    if let Some((name, _)) = later.iter().find(|(_, wanted)| *wanted) {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("`{name}` is not supported yet"),
        ));
    }
    match (wish.url, wish.all) {
        (Some(url), false) => Ok(Purge::Url(url)),
        (None, true) => Ok(Purge::All),
        (Some(_), true) | (None, false) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "name exactly one of `url` and `all`",
        )),
    }
}
