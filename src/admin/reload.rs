//! `POST /reload`: the file is read again. 200 says what changed; 422 says why nothing did, as `check` prints it.

use super::Controlled;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;

/// What a reload changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Key paths; empty when the file says what runs already.
    pub changed: Vec<String>,
    /// The hash of what runs now, as in `/status`.
    pub config_hash: String,
}

/// Why a reload changed nothing: a line or more each, as `check` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReloaded(pub Vec<String>);

/// A reload under way; it goes on when whoever asked has left.
pub type Reloading = Pin<Box<dyn Future<Output = Result<Reloaded, NotReloaded>> + Send>>;

pub(super) async fn reload(State(control): Controlled) -> Response {
    match control.reload().await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(NotReloaded(errors)) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let problem = serde_json::json!({
                "type": "about:blank",
                "title": status.canonical_reason(),
                "status": status.as_u16(),
                "detail": "nothing has changed",
                "errors": errors,
            });
            let kind = HeaderValue::from_static("application/problem+json");
            (status, [(header::CONTENT_TYPE, kind)], problem.to_string()).into_response()
        }
    }
}
