//! TLS towards nodes: whose certificates are believed, which name a node must prove, what we show.
//!
//! Invariant: nothing of a request is sent before the node has proven its name. There is no way to switch that off.

use crate::config::tls::{ClientTls, PROVIDER};
use crate::world::{Net, Stream};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;

/// Sessions remembered per upstream: some for each node.
const SESSIONS: usize = 256;

/// What is spoken behind the handshake (RFC 7301 s6, RFC 9113 s3.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

impl Spoken {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// An upstream's settings, made once.
#[derive(Default)]
pub(super) struct Ways {
    http1: OnceLock<Result<TlsConnector, String>>,
    http2: OnceLock<Result<TlsConnector, String>>,
}

impl Ways {
    /// Shakes hands with a node whose url has this host.
    pub(super) async fn secure(
        &self,
        tls: &ClientTls,
        net: &dyn Net,
        (host, spoken): (&str, Spoken),
        stream: Stream,
    ) -> io::Result<Stream> {
        let way = match spoken {
            Spoken::Http1 => &self.http1,
            Spoken::Http2 => &self.http2,
        };
        let connector = way.get_or_init(|| connector(tls, net, spoken));
        let connector = connector.as_ref().map_err(|why| io::Error::other(why.clone()))?;
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => named(host)?,
        };
        let stream = connector.connect(name, stream).await?;
        let chosen = stream.get_ref().1.alpn_protocol();
        // A server that knows no ALPN speaks HTTP/1.1, and HTTP/2 only if it says so.
        if chosen.is_some_and(|chosen| chosen != spoken.name()) || chosen.is_none() && spoken == Spoken::Http2 {
            let why = match spoken {
                Spoken::Http1 => "the node does not speak HTTP/1.1 (ALPN; see `http`)",
                Spoken::Http2 => "the node does not speak HTTP/2 (ALPN; see `http`)",
            };
            return Err(io::Error::other(rustls::Error::General(why.to_owned())));
        }
        Ok(Box::new(stream))
    }
}

/// A url's host as what must be proven: an IPv6 address stands in brackets there, and a name may end in a dot, which no certificate does
/// (RFC 6066 s3).
fn named(host: &str) -> io::Result<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or_else(|| host.strip_suffix('.').unwrap_or(host));
    ServerName::try_from(bare.to_owned()).map_err(io::Error::other)
}

fn connector(tls: &ClientTls, net: &dyn Net, spoken: Spoken) -> Result<TlsConnector, String> {
    let said = |error: rustls::Error| error.to_string();
    let roots = match &tls.ca {
        Some(roots) => Arc::clone(roots),
        None => Arc::new(of_the_machine(net)?),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()
        .map_err(said)?
        .with_root_certificates(roots);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let shown = Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&identity.key)));
            builder.with_client_cert_resolver(shown)
        }
    };
    config.alpn_protocols = vec![spoken.name().to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(TlsConnector::from(Arc::new(config)))
}

fn of_the_machine(net: &dyn Net) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = net.authorities().into_iter().map(CertificateDer::from);
    let (believed, _strange) = roots.add_parsable_certificates(found);
    if believed == 0 {
        return Err("this machine names no authorities: set the upstream's tls.ca".to_owned());
    }
    Ok(roots)
}
