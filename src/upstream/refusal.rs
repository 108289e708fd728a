//! Why a node cannot be connected to, in words that help: a line in the log when it is new, and again once a minute, and the node's
//! `connect_error` in `/status`.

use super::Shared;
use super::error::Step;
use crate::core::time::{MonoTime, Span};
use parking_lot::Mutex;
use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// How often the same reason is logged.
const AGAIN: Span = Span::from_secs(60);

/// The reason, and when it was logged.
#[derive(Default)]
pub(super) struct Refusal(Mutex<Option<(MonoTime, String)>>);

impl Refusal {
    pub(super) fn why(&self) -> Option<String> {
        self.0.lock().as_ref().map(|(_, why)| why.clone())
    }

    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }

    /// Whether it is worth a line.
    fn note(&self, now: MonoTime, why: &str) -> bool {
        let mut last = self.0.lock();
        let is_known = last
            .as_ref()
            .is_some_and(|(at, known)| known == why && now.since(*at) < AGAIN);
        if !is_known {
            *last = Some((now, why.to_owned()));
        }
        !is_known
    }
}

impl Shared {
    /// A connect to a node failed.
    pub(super) fn refused(&self, upstream: usize, node: usize, error: &io::Error) {
        let one = self.upstreams.get(upstream);
        let Some(target) = one.and_then(|one| one.nodes.get(node)) else {
            return;
        };
        let why = words(error);
        if target.refusal.note(self.world.clock.mono(), &why) {
            let (upstream, node) = self.names(upstream, node);
            tracing::warn!(upstream, node, why, "cannot connect");
        }
    }

    /// A connect to a node did not fail.
    pub(super) fn connected(&self, upstream: usize, node: usize) {
        let one = self.upstreams.get(upstream);
        if let Some(target) = one.and_then(|one| one.nodes.get(node)) {
            target.refusal.forget();
        }
    }
}

/// A name without an address, in the words of who looked for one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Nameless(io::Error);

impl Nameless {
    pub(super) fn because(why: io::Error) -> io::Error {
        io::Error::new(why.kind(), Self(why))
    }
}

/// How far it came.
pub(super) fn step(error: &io::Error) -> Step {
    let Some(inner) = error.get_ref() else {
        return Step::Connection;
    };
    match inner.downcast_ref::<Error>() {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Step::Certificate,
        Some(Error::AlertReceived(alert)) if is_about_certificates(*alert) => Step::Certificate,
        Some(_) => Step::Tls,
        None if inner.is::<Nameless>() => Step::Name,
        None => Step::Connection,
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
    )
}

/// What went wrong, and where a reader can do something about it, what.
fn words(error: &io::Error) -> String {
    let told = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match told {
        Some(Error::InvalidCertificate(why)) => certificate(why),
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "TLS: the node does not speak the version of HTTP that is asked of it (ALPN; see `http`)".to_owned()
        }
        Some(Error::AlertReceived(alert)) if is_about_certificates(*alert) => {
            format!("TLS: the node does not accept our certificate (tls.certificate): {error}")
        }
        // Said of a name nobody has a certificate for, and of clients who may not come in.
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName | AlertDescription::AccessDenied)) => {
            format!(
                "TLS: the node has no certificate for the name it was asked for (tls.server_name), or refuses us: {error}"
            )
        }
        Some(Error::General(why)) => format!("TLS: {why}"),
        Some(why) => format!("TLS: {why}"),
        None => error.to_string(),
    }
}

fn certificate(why: &CertificateError) -> String {
    match why {
        // A signature that does not fit: of an authority of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "TLS: the node's certificate is not by an authority that is believed here (tls.ca)".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("TLS: the node's certificate has expired: {why}")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("TLS: the node's certificate is not valid yet: {why}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("TLS: the node's certificate is for another name (tls.server_name): {why}")
        }
        why => format!("TLS: the node's certificate cannot be believed: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{AlertDescription, CertificateError, Error, Nameless, step, words};
    use crate::upstream::Step;
    use std::io;

    #[test]
    fn how_far_a_connect_came_is_told_from_its_error() {
        let tls = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let name = io::Error::new(io::ErrorKind::NotFound, "no such name");
        for (error, expected, said) in [
            (
                io::Error::from(io::ErrorKind::ConnectionRefused),
                Step::Connection,
                "connection refused",
            ),
            (io::Error::other("a word"), Step::Connection, "a word"),
            (Nameless::because(name), Step::Name, "no such name"),
            (
                tls(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
                Step::Certificate,
                "tls.ca",
            ),
            (
                tls(Error::AlertReceived(AlertDescription::CertificateRequired)),
                Step::Certificate,
                "tls.certificate",
            ),
            (
                tls(Error::AlertReceived(AlertDescription::ProtocolVersion)),
                Step::Tls,
                "TLS: ",
            ),
            (tls(Error::General("(ALPN)".to_owned())), Step::Tls, "TLS: (ALPN)"),
        ] {
            assert_eq!(step(&error), expected, "{error}");
            assert!(words(&error).contains(said), "{error}: {}", words(&error));
        }
    }
}
