//! TLS towards clients: which certificate answers which name, resumption, and the handshake.
//!
//! Settings are made from the configuration and exchanged by a reload that changes them; connections under way keep what they began with.
//! Resumption is by tickets, under a rotating key that is the settings' own: it outlives every reload that leaves a listener's certificates
//! alone, and nobody is spared the sight of one that has changed. Where clients must show certificates nothing is resumed: a resumed session
//! would skip the look at the certificate.
//!
//! Invariant: a name that no certificate covers never gets another name's certificate, unless the configuration names a default.

use super::preface::Prefixed;
use crate::config::runtime::{Listener, Protocols};
use crate::config::tls::{Identity, PROVIDER, ServerTls};
use crate::core::time::WallTime;
use crate::telemetry::metrics::Handshake;
use crate::world::Stream;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// RFC 7301 s6, RFC 9113 s3.1.
const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What we buffer of an answer before it is encrypted: four records.
const BUFFER_BYTES: usize = 64 * 1024;

/// A listener's settings, ready to shake hands with.
pub struct Terms {
    acceptor: TlsAcceptor,
    /// What they are made of.
    tls: Arc<ServerTls>,
    protocols: Protocols,
    expires: Option<WallTime>,
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terms")
    }
}

/// Why TLS could not be set up with what the configuration holds.
#[derive(Debug, thiserror::Error)]
#[error("listeners.{listener}.tls: {why}")]
pub struct Unusable {
    /// The listener's name.
    pub listener: String,
    /// What the library said.
    pub why: String,
}

impl Terms {
    /// The settings of a listener; none when it speaks no TLS. Those of `before` when nothing has changed.
    ///
    /// # Errors
    /// When the library refuses them.
    pub fn of(listener: &Listener, before: Option<Arc<Self>>) -> Result<Option<Arc<Self>>, Unusable> {
        let Some(tls) = &listener.tls else { return Ok(None) };
        let protocols = listener.protocols;
        if let Some(before) = before
            && before.protocols == protocols
            && before.tls.is_same(tls)
        {
            return Ok(Some(before));
        }
        let settings = settings(listener, tls).map_err(|why| Unusable {
            listener: listener.name.clone(),
            why,
        })?;
        Ok(Some(Arc::new(Self {
            acceptor: TlsAcceptor::from(Arc::new(settings)),
            tls: Arc::clone(tls),
            protocols,
            expires: tls.expires(),
        })))
    }

    /// When the first of the certificates expires.
    #[must_use]
    pub fn expires(&self) -> Option<WallTime> {
        self.expires
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// When the peer does not speak TLS, or not ours, or leaves; it has been told then (alert).
    pub(super) async fn accept(&self, io: Prefixed<Stream>) -> io::Result<Shaken> {
        let set_up = |connection: &mut ServerConnection| connection.set_buffer_limit(Some(BUFFER_BYTES));
        let shaken = self.acceptor.accept_with(io, set_up).await?;
        Ok(Shaken(Box::new(shaken)))
    }
}

/// A connection with TLS on which hands are shaken.
pub(super) struct Shaken(Box<TlsStream<Prefixed<Stream>>>);

impl Shaken {
    /// Whether the peer chose HTTP/2 (RFC 7301).
    pub(super) fn chose_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(HTTP_2)
    }

    /// What is counted of it.
    pub(super) fn told(&self) -> Handshake {
        let connection = self.0.get_ref().1;
        Handshake {
            result: "ok",
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                Some(_) => "1.2",
                None => "",
            },
            alpn: match connection.alpn_protocol() {
                Some(HTTP_2) => "h2",
                Some(_) => "http/1.1",
                None => "none",
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    pub(super) fn into_stream(self) -> Stream {
        self.0
    }
}

/// What is counted of a handshake that failed.
pub(super) fn failed(result: &'static str) -> Handshake {
    Handshake {
        result,
        version: "",
        alpn: "",
        resumed: false,
    }
}

/// Why a handshake failed, in one word. A client that leaves, and one that does not like our certificate, are not told from what they did
/// before: they are the most frequent.
pub(super) fn why(error: &io::Error) -> &'static str {
    use rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoApplicationProtocol) => "no-application-protocol",
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => "client-certificate",
        Some(Error::AlertReceived(_)) => "refused-by-client",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::General(what)) if what.contains("certificate chain") => "unknown-name",
        Some(_) => "not-tls",
        None => "left",
    }
}

fn settings(listener: &Listener, tls: &ServerTls) -> Result<ServerConfig, String> {
    let said = |error: &dyn fmt::Display| error.to_string();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()
        .map_err(|e| said(&e))?;
    let builder = match &tls.client_ca {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&PROVIDER));
            builder.with_client_cert_verifier(verifier.build().map_err(|e| said(&e))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut settings = builder.with_cert_resolver(Arc::new(ByName::new(tls)));
    if listener.protocols.http2 {
        settings.alpn_protocols.push(HTTP_2.to_vec());
    }
    if listener.protocols.http1 {
        settings.alpn_protocols.push(HTTP_1_1.to_vec());
    }
    // A request in early data could be replayed (RFC 8470).
    settings.max_early_data_size = 0;
    if tls.client_ca.is_some() {
        settings.session_storage = Arc::new(NoServerSessionStorage {});
        settings.send_tls13_tickets = 0;
    } else {
        settings.ticketer = Ticketer::new().map_err(|e| said(&e))?;
        // One is what a browser uses; each costs the client a message.
        settings.send_tls13_tickets = 1;
    }
    Ok(settings)
}

/// Certificates by the name a client asks for (SNI, RFC 6066 s3).
#[derive(Debug)]
struct ByName {
    default: Option<Arc<CertifiedKey>>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`: a wildcard stands for one label (RFC 9525 s6.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    fn new(tls: &ServerTls) -> Self {
        let mut by_name = Self {
            default: tls.default.as_ref().map(|identity| Arc::clone(&identity.key)),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        // The first that names it wins, and `certificates` before the default.
        for Identity { names, key } in tls.others.iter().chain(&tls.default) {
            for name in names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut by_name.wildcard, rest),
                    None => (&mut by_name.exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_insert_with(|| Arc::clone(key));
            }
        }
        by_name
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else { return self.default.clone() };
        let lower = name.to_ascii_lowercase();
        let covered = self.exact.get(&lower).or_else(|| {
            let (_, rest) = lower.split_once('.')?;
            self.wildcard.get(rest)
        });
        covered.cloned().or_else(|| self.default.clone())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}
