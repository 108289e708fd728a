//! Certificates and keys as a configuration names them: PEM read with the file, judged when it is read. A key that does not fit its
//! certificate, a chain without a certificate, a CA that holds none are errors of the configuration, with their places, and not of the
//! first handshake.

use super::diagnostic::Sink;
use super::effective::{Node, Table, Value};
use super::validity;
use crate::core::time::WallTime;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// What encrypts: the same for every listener and upstream of the process.
pub static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// A certificate chain with its key, and the names it is good for.
#[derive(Clone)]
pub struct Identity {
    /// Lower case, as the certificate says them; a wildcard begins with `*.`.
    pub names: Vec<String>,
    /// What signs.
    pub key: Arc<CertifiedKey>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.names.join(", "))
    }
}

/// `listeners.NAME.tls`.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// `certificate` and `key`: for names that no other covers, and for clients that name none. Without it such a name is refused.
    pub default: Option<Identity>,
    /// `certificates`, by the name a client asks for (SNI).
    pub others: Vec<Identity>,
    /// Clients must show a certificate of one of these.
    pub client_ca: Option<Arc<RootCertStore>>,
}

/// `upstreams.NAME.tls`.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Whose certificates are believed; none: the machine's.
    pub ca: Option<Arc<RootCertStore>>,
    /// The name that nodes must prove, where it is not the host of their url.
    pub server_name: Option<ServerName<'static>>,
    /// What we show when asked.
    pub identity: Option<Identity>,
}

impl ClientTls {
    /// Whether the same is believed, asked for and shown: a connection that was made by the one may be used by the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let roots = |tls: &Self| tls.ca.as_ref().map(|ca| ca.roots.clone());
        let shown = |tls: &Self| tls.identity.as_ref().map(|identity| identity.key.cert.clone());
        self.server_name == other.server_name && roots(self) == roots(other) && shown(self) == shown(other)
    }
}

impl ServerTls {
    /// When the first of all certificates, those between them and their authorities too, expires.
    #[must_use]
    pub fn expires(&self) -> Option<WallTime> {
        let all = self.default.iter().chain(&self.others);
        all.filter_map(|identity| validity::end(&identity.key.cert)).min()
    }

    /// Whether the same is shown and the same is asked for: what was agreed with a client by the one holds by the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        fn shown(tls: &ServerTls) -> impl Iterator<Item = (bool, &[CertificateDer<'static>])> {
            let default = tls.default.iter().map(|identity| (true, identity));
            let all = default.chain(tls.others.iter().map(|identity| (false, identity)));
            all.map(|(is_default, identity)| (is_default, &*identity.key.cert))
        }
        let asked = |tls: &Self| tls.client_ca.as_ref().map(|ca| ca.roots.clone());
        shown(self).eq(shown(other)) && asked(self) == asked(other)
    }
}

pub(super) fn server(table: &Table, sink: &mut Sink) -> Option<Arc<ServerTls>> {
    let table = table.table("tls")?;
    let default = identity(table, sink);
    let mut others = Vec::new();
    if let Some(Value::List(items)) = table.get("certificates").map(|node| &node.value) {
        for item in items {
            let Some(inner) = item.as_table() else { continue };
            if inner.get("certificate").is_none() && inner.get("key").is_none() {
                sink.error(&item.place, "needs certificate and key");
            }
            if let Some(found) = identity(inner, sink) {
                if found.names.is_empty() {
                    sink.error(
                        &inner.place_of("certificate"),
                        "names no host (subjectAltName): nobody can ask for it; make it tls.certificate",
                    );
                }
                others.push(found);
            }
        }
    }
    let named = ["certificate", "key"].iter().any(|key| table.get(key).is_some());
    if !named && table.get("certificates").is_none() {
        sink.error(&table.place, "needs certificate and key, or certificates");
    }
    Some(Arc::new(ServerTls {
        default,
        others,
        client_ca: authorities(table, "client_ca", sink),
    }))
}

pub(super) fn client(table: &Table, sink: &mut Sink) -> ClientTls {
    let empty = Table::empty();
    let table = table.table("tls").unwrap_or(&empty);
    let server_name = table.text("server_name").and_then(|name| {
        let read = ServerName::try_from(name.to_owned());
        read.map_err(|_| {
            sink.error(
                &table.place_of("server_name"),
                format!("\"{name}\" is no host name and no address"),
            );
        })
        .ok()
    });
    ClientTls {
        ca: authorities(table, "ca", sink),
        server_name,
        identity: identity(table, sink),
    }
}

/// `certificate` and `key`; none when neither is there or something is wrong with them, which is in the sink then.
fn identity(table: &Table, sink: &mut Sink) -> Option<Identity> {
    let (certificate, key) = match (table.get("certificate"), table.get("key")) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        (Some(_), None) => {
            sink.error(&table.place_of("certificate"), "needs its key: set `key`");
            return None;
        }
        (None, Some(_)) => {
            sink.error(&table.place_of("key"), "needs its certificate: set `certificate`");
            return None;
        }
    };
    let chain = chain(certificate, sink);
    let key = private_key(key, sink).map(|read| (read, key));
    let (chain, (read, key)) = (chain?, key?);
    let names = names(chain.first()?, certificate, sink)?;
    match CertifiedKey::from_der(chain, read, &PROVIDER) {
        Ok(certified) => Some(Identity {
            names,
            key: Arc::new(certified),
        }),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            sink.error(
                &key.place,
                "the key does not fit the certificate: it belongs to another one",
            );
            None
        }
        Err(error) => {
            sink.error(&key.place, format!("the key cannot be used: {error}"));
            None
        }
    }
}

fn pem(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Pem(pem) => Some(pem.text()),
        _ => None,
    }
}

fn chain(node: &Node, sink: &mut Sink) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem(node)?.as_bytes()).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => {
            sink.error(&node.place, "holds no certificate (PEM, BEGIN CERTIFICATE)");
            None
        }
        Err(error) => {
            sink.error(&node.place, format!("is no PEM file of certificates: {error}"));
            None
        }
    }
}

fn private_key(node: &Node, sink: &mut Sink) -> Option<PrivateKeyDer<'static>> {
    let text = pem(node)?;
    let read = PrivateKeyDer::from_pem_slice(text.as_bytes());
    read.map_err(|error| {
        let why = if text.contains("ENCRYPTED") {
            "the key is encrypted with a passphrase: take that off (`openssl pkey -in KEY -out KEY`) and protect the file".to_owned()
        } else if text.contains("BEGIN CERTIFICATE") {
            "holds a certificate and no private key".to_owned()
        } else {
            format!("holds no private key (PEM, BEGIN PRIVATE KEY): {error}")
        };
        sink.error(&node.place, why);
    })
    .ok()
}

fn names(leaf: &CertificateDer<'_>, node: &Node, sink: &mut Sink) -> Option<Vec<String>> {
    match webpki::EndEntityCert::try_from(leaf) {
        Ok(certificate) => Some(certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()),
        Err(error) => {
            sink.error(&node.place, format!("the first certificate cannot be used: {error}"));
            None
        }
    }
}

fn authorities(table: &Table, key: &str, sink: &mut Sink) -> Option<Arc<RootCertStore>> {
    let node = table.get(key)?;
    let mut roots = RootCertStore::empty();
    for certificate in chain(node, sink)? {
        if let Err(error) = roots.add(certificate) {
            sink.error(
                &node.place,
                format!("holds what is no authority's certificate: {error}"),
            );
            return None;
        }
    }
    Some(Arc::new(roots))
}
