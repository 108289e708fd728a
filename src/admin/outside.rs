//! `POST /begin` and `POST /commit` (R41): a writer that does not come through the proxy says before what it is about to change, and
//! after that it has.

use super::Controlled;
use super::problem::Problem;
use crate::config::units;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use std::time::Duration;

/// How long a write may take whose writer does not say: as long as an abandoned one has to settle by default.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// What a writer outside is about to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// One URL: absolute, or a path as the client sends it.
    Url(String),
    /// Whatever carries this tag.
    Tag(String),
}

/// Why a write outside was not begun or not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// What was asked makes no sense.
    #[error("{0}")]
    Senseless(String),
    /// Too many are open.
    #[error("{0}")]
    Full(String),
    /// Nothing is open under the id.
    #[error("{0}")]
    NotOpen(String),
}

impl IntoResponse for NotBegun {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Senseless(_) => StatusCode::BAD_REQUEST,
            Self::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotOpen(_) => StatusCode::NOT_FOUND,
        };
        Problem::new(status, self.to_string()).into_response()
    }
}

/// `POST /begin`, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    url: Option<String>,
    tag: Option<String>,
    ttl: Option<Ttl>,
}

/// As in the configuration, or whole seconds.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ttl {
    Seconds(u64),
    Text(String),
}

/// `POST /commit`, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    id: String,
}

pub(super) async fn begin(State(control): Controlled, body: Bytes) -> Response {
    match parse(&body).and_then(|(what, ttl)| control.begin(&what, ttl)) {
        Ok(id) => Json(serde_json::json!({ "id": id })).into_response(),
        Err(why) => why.into_response(),
    }
}

pub(super) async fn commit(State(control): Controlled, body: Bytes) -> Response {
    let committed = serde_json::from_slice(&body)
        .map_err(|e| NotBegun::Senseless(format!("the body is not {{\"id\": ...}}: {e}")))
        .and_then(|Id { id }| control.commit(&id));
    match committed {
        Ok(()) => Json(serde_json::json!({ "committed": true })).into_response(),
        Err(why) => why.into_response(),
    }
}

fn parse(body: &[u8]) -> Result<(Begin, Duration), NotBegun> {
    let wish: Wish = serde_json::from_slice(body)
        .map_err(|e| NotBegun::Senseless(format!("the body is not {{\"url\" or \"tag\", \"ttl\"}}: {e}")))?;
    let ttl = match wish.ttl {
        None => DEFAULT_TTL,
        Some(Ttl::Seconds(seconds)) => Duration::from_secs(seconds),
        Some(Ttl::Text(text)) => units::duration(&text).map_err(|e| NotBegun::Senseless(format!("ttl: {e}")))?,
    };
    match (wish.url, wish.tag) {
        (Some(url), None) => Ok((Begin::Url(url), ttl)),
        (None, Some(tag)) => Ok((Begin::Tag(tag), ttl)),
        (None, None) | (Some(_), Some(_)) => Err(NotBegun::Senseless("name exactly one of `url` and `tag`".to_owned())),
    }
}
