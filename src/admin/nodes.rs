//! `POST /upstreams/{u}/nodes/{n}/{promote|drain|undrain|resynced}`: the operator's word on one node.

use super::Controlled;
use super::problem::Problem;
use crate::upstream::UpstreamSnapshot;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};

/// What the operator says of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NodeWord {
    /// Make it the primary, or the active one.
    Promote,
    /// No new traffic for it.
    Drain,
    /// It may have traffic again.
    Undrain,
    /// It holds every acknowledged write.
    Resynced,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The upstream as it is now.
    pub upstream: UpstreamSnapshot,
    /// A promotion goes on.
    pub under_way: bool,
}

/// Why nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOrdered {
    /// There is no such upstream or node.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be, or has failed.
    #[error("{0}")]
    Refused(String),
    /// Nothing can be changed at all at the moment.
    #[error("{0}")]
    Unable(String),
}

impl IntoResponse for NotOrdered {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Refused(_) => StatusCode::CONFLICT,
            Self::Unable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, self.to_string()).into_response()
    }
}

pub(super) async fn order(
    State(control): Controlled,
    Path((upstream, node, word)): Path<(String, String, String)>,
) -> Response {
    let word = match word.as_str() {
        "promote" => NodeWord::Promote,
        "drain" => NodeWord::Drain,
        "undrain" => NodeWord::Undrain,
        "resynced" => NodeWord::Resynced,
        _ => return NotOrdered::Unknown("no such path on the admin port".to_owned()).into_response(),
    };
    match control.order(&upstream, &node, word).await {
        Ok(Ordered { upstream, under_way }) => {
            let status = if under_way {
                StatusCode::ACCEPTED
            } else {
                StatusCode::OK
            };
            (status, Json(upstream)).into_response()
        }
        Err(why) => why.into_response(),
    }
}
