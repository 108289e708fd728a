//! Certificates whose time is over, or has not come yet: said when they are read. They are shown all the same, as other proxies do, because
//! a process that does not come back over a certificate that it has served until now turns a warning in browsers into an outage.
//!
//! Of authorities (`ca`, `client_ca`) nothing is said: they are believed without a look at their dates.

use super::diagnostic::{Place, Sink};
use super::effective::{Node, Pem, Table, Value};
use crate::core::http::dates;
use crate::core::time::WallTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, Error, KeyUsage};

/// Warns of each `certificate` in the tree that is not valid now. What is no certificate is not judged here.
pub(super) fn warn(table: &Table, now: WallTime, sink: &mut Sink) {
    for (key, node) in &table.entries {
        match &node.value {
            Value::Pem(pem) if key == "certificate" => chain(pem, &node.place, now, sink),
            Value::Table(inner) => warn(inner, now, sink),
            Value::List(items) => {
                for inner in items.iter().filter_map(Node::as_table) {
                    warn(inner, now, sink);
                }
            }
            _ => {}
        }
    }
}

fn chain(pem: &Pem, place: &Place, now: WallTime, sink: &mut Sink) {
    let file = pem.path.as_deref().unwrap_or("it");
    let whom = if place.path.starts_with("upstreams") {
        "nodes"
    } else {
        "clients"
    };
    let all = CertificateDer::pem_slice_iter(pem.text().as_bytes());
    for (number, certificate) in (1..).zip(all.map_while(Result::ok)) {
        let what = match number {
            1 => file.to_owned(),
            number => format!("certificate {number} in {file}"),
        };
        match judge(&certificate, now) {
            Some(Error::CertExpired { not_after, .. }) => sink.warn(
                place,
                format!(
                    "{what} expired on {}: it is shown all the same, and {whom} refuse it; put a renewed one there and reload",
                    date(not_after)
                ),
            ),
            Some(Error::CertNotValidYet { not_before, .. }) => sink.warn(
                place,
                format!(
                    "{what} is not valid before {}: it is shown all the same, and {whom} refuse it until then; see whether it is the \
                     right one, and this machine's clock",
                    date(not_before)
                ),
            ),
            Some(_) | None => {}
        }
    }
}

/// When the first certificate of a chain expires.
pub(super) fn end(chain: &[CertificateDer<'_>]) -> Option<WallTime> {
    let ends = chain.iter().filter_map(
        |certificate| match judge(certificate, WallTime::from_millis(i64::MAX)) {
            Some(Error::CertExpired { not_after, .. }) => Some(instant(not_after)),
            Some(_) | None => None,
        },
    );
    ends.min()
}

/// What speaks against a certificate. Its dates are looked at first, before its issuer, whom nobody names here.
fn judge(certificate: &CertificateDer<'_>, now: WallTime) -> Option<Error> {
    let now = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let usage = KeyUsage::server_auth();
    let judged = certificate.verify_for_usage(&[], &[], &[], UnixTime::since_unix_epoch(now), usage, None, None);
    judged.err()
}

fn instant(at: UnixTime) -> WallTime {
    WallTime::from_millis(i64::try_from(at.as_secs().saturating_mul(1000)).unwrap_or(i64::MAX))
}

fn date(at: UnixTime) -> String {
    dates::format(instant(at)).to_str().unwrap_or_default().to_owned()
}
