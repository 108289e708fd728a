//! Who may ask. Three doors, in this order:
//!
//! 1. A request from this machine must name this machine in `Host`: a web page whose name was rebound to 127.0.0.1 names itself.
//! 2. A request that changes something must not come from another site's page: browsers send such requests without asking first
//!    when they look simple, and say where they come from.
//! 3. The bearer token, where one is configured. `/live` and `/ready` never need it, `/metrics` only with `metrics_token`.

use super::problem::Problem;
use crate::config::runtime::{Admin, Secret};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The peer of an admin connection, in the request's extensions.
#[derive(Copy, Clone, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What a request needs to pass.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<Secret>,
    metrics_token: bool,
}

impl Access {
    /// As `[admin]` says.
    #[must_use]
    pub fn new(admin: &Admin) -> Self {
        Self {
            token: admin.token.clone(),
            metrics_token: admin.metrics_token,
        }
    }

    /// Whether a request may pass.
    fn judge(&self, peer: IpAddr, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        if peer.to_canonical().is_loopback() && !names_this_machine(headers) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "a request from this machine must name a loopback host",
            ));
        }
        if !method.is_safe() && comes_from_another_site(headers) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "requests from other sites' pages are refused",
            ));
        }
        let open = match path {
            "/live" | "/ready" => true,
            "/metrics" => !self.metrics_token,
            _ => false,
        };
        match &self.token {
            Some(token) if !open && !carries(headers, token) => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this needs the admin token as a bearer token",
            )),
            Some(_) | None => Ok(()),
        }
    }
}

pub(super) async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>() else {
        // Without a peer nothing can be judged.
        return Problem::new(StatusCode::FORBIDDEN, "the peer is unknown").into_response();
    };
    match access.judge(peer.ip(), request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// One `Host`, and it is localhost or a loopback address.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Some(authority) = host
        .to_str()
        .ok()
        .and_then(|text| text.parse::<http::uri::Authority>().ok())
    else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// What a browser says of a request's page: `Sec-Fetch-Site`, or `Origin` where it is too old for that. Programs send neither.
fn comes_from_another_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    !matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Compared in constant time; the length is not a secret.
fn carries(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked(7));
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(token.reveal().as_bytes()))
    })
}
