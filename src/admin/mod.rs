//! The admin port: health, metrics, status, configuration, purge and drain over HTTP. It runs on the background runtime, so load on the
//! listeners never silences it, and it acts only through [`Control`].
//!
//! Invariant: no request is answered before `guard` has let it pass.

mod explain;
mod guard;
mod nodes;
mod outside;
mod problem;
mod purge;
mod reload;
mod serve;
mod status;

pub use guard::Access;
pub use nodes::{NodeWord, NotOrdered, Ordered};
pub use outside::{Begin, NotBegun};
pub use purge::{NotPurged, Purge, PurgeKind, Purged};
pub use reload::{NotReloaded, Reloaded, Reloading};
pub use serve::serve;
pub use status::{
    BegunStatus, BuildStatus, CacheStatus, MeterScale, MeterStatus, RouteStatus, Status, UnsettledStatus,
};

use crate::proxy::{ExplainError, Explanation, Question};
use crate::world::BoxFuture;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;

/// The largest request body: a purge names one URL.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What the admin port can ask of the process. Implemented by `app`; nothing here blocks.
pub trait Control: Send + Sync {
    /// Why the process is not ready for traffic; empty when it is.
    fn unready(&self) -> Vec<String>;
    /// Whether another process serves, and this one waits for it to end.
    fn is_passive(&self) -> bool {
        false
    }
    /// The document of `GET /status`.
    fn status(&self) -> Status;
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// The effective configuration without secrets.
    fn config(&self) -> serde_json::Value;
    /// Takes what is named out of service, or marks it stale; fills in flight are not stored either way.
    ///
    /// # Errors
    /// When what is named cannot be purged.
    fn purge(&self, kind: PurgeKind, what: &Purge) -> Result<Purged, NotPurged>;
    /// Takes the operator's word that no abandoned write to the URL will be applied any more. Returns how many resources were unsettled.
    ///
    /// # Errors
    /// When the URL makes no sense.
    fn settle(&self, url: &str) -> Result<u64, NotPurged>;
    /// Which rule decides about a request, and why, with what is stored for it.
    ///
    /// # Errors
    /// When the question makes no sense.
    fn explain(&self, question: &Question) -> Result<Explanation, ExplainError>;
    /// A writer outside is about to write (R41). Returns the id to commit.
    ///
    /// # Errors
    /// When what it names makes no sense, or too many are open.
    fn begin(&self, what: &Begin, ttl: Duration) -> Result<String, NotBegun>;
    /// It has written.
    ///
    /// # Errors
    /// When nothing is open under the id.
    fn commit(&self, id: &str) -> Result<(), NotBegun>;
    /// Reads the configuration again, as SIGHUP does.
    fn reload(&self) -> Reloading;
    /// Takes the operator's word on a node, and waits until it has taken effect or the promotion it began has ended.
    fn order<'a>(
        &'a self,
        upstream: &'a str,
        node: &'a str,
        word: NodeWord,
    ) -> BoxFuture<'a, Result<Ordered, NotOrdered>>;
    /// Begins to leave, as SIGTERM does.
    fn drain(&self);
}

type Controlled = State<Arc<dyn Control>>;

/// Every path of the port.
fn router(control: Arc<dyn Control>, access: Access) -> Router {
    Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/status",
            get(async |State(control): Controlled| Json(control.status())),
        )
        .route(
            "/config",
            get(async |State(control): Controlled| Json(control.config())),
        )
        .route("/explain", get(explain::explain))
        .route("/purge", post(purge::purge))
        .route("/settle", post(purge::settle))
        .route("/begin", post(outside::begin))
        .route("/commit", post(outside::commit))
        .route("/reload", post(reload::reload))
        .route("/drain", post(drain))
        .route("/upstreams/{upstream}/nodes/{node}/{word}", post(nodes::order))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such path on the admin port"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods")
        })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&control), active_only))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(Arc::new(access), guard::guard))
        .with_state(control)
}

/// A passive process has nothing that could be changed: what it was told would be lost. But it can be told to leave.
async fn active_only(State(control): Controlled, request: Request, next: Next) -> Response {
    if control.is_passive() && !request.method().is_safe() && request.uri().path() != "/drain" {
        let why = "this is the passive process of a pair: tell the active one";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    next.run(request).await
}

async fn ready(State(control): Controlled) -> Response {
    let reasons = control.unready();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, reasons.join("; ")).into_response()
}

async fn metrics(State(control): Controlled) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], control.metrics()).into_response()
}

async fn drain(State(control): Controlled) -> Response {
    control.drain();
    (StatusCode::ACCEPTED, Json(serde_json::json!({ "draining": true }))).into_response()
}

#[cfg(test)]
mod tests;
