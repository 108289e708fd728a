//! Certificates made for one test, and clients that believe them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// An authority of the test's own, with a folder for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate and its key, as paths for a configuration.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

/// `certificate` and `key`, as a configuration says them.
pub fn pair(issued: &Issued) -> String {
    format!("certificate = \"{}\", key = \"{}\"", issued.certificate, issued.key)
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path of its own certificate.
    pub fn ca(&self) -> String {
        self.file("ca.pem").to_str().unwrap().to_owned()
    }

    /// A certificate for these names, in files named after `stem`; whatever they held is replaced.
    pub fn issue(&self, stem: &str, names: &[&str]) -> Issued {
        self.issue_for(stem, names, 1975..4096)
    }

    /// The same, valid from the begin of one year to the begin of another.
    pub fn issue_for(&self, stem: &str, names: &[&str], years: Range<i32>) -> Issued {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = [format!("{stem}.pem"), format!("{stem}.key")];
        std::fs::write(self.file(&paths[0]), certificate.pem()).unwrap();
        std::fs::write(self.file(&paths[1]), key.serialize_pem()).unwrap();
        let [certificate, key] = paths.map(|path| self.file(&path).to_str().unwrap().to_owned());
        Issued { certificate, key }
    }

    /// A client that believes this authority, offers these protocols (ALPN) and shows `identity` when asked.
    pub fn client(&self, protocols: &[&str], identity: Option<&Issued>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap();
                let chain = chain.collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Shakes hands with `to` as `name`.
pub async fn connect(
    config: &Arc<ClientConfig>,
    to: std::net::SocketAddr,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    super::within("a TLS handshake", connector.connect(name, stream)).await
}

/// The names of the certificate that the peer has shown.
pub fn shown(stream: &TlsStream<TcpStream>) -> Vec<String> {
    let certificate = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let certificate = webpki::EndEntityCert::try_from(certificate).unwrap();
    certificate.valid_dns_names().map(str::to_owned).collect()
}

/// HTTP/1.1 over TLS, for answers that have a Content-Length.
pub struct Talk {
    pub io: TlsStream<TcpStream>,
}

/// An answer.
pub struct Said {
    pub head: String,
    pub body: String,
}

impl Talk {
    pub fn over(io: TlsStream<TcpStream>) -> Self {
        Self { io }
    }

    pub async fn ask(&mut self, target: &str) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", super::client::HOST);
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub async fn answer(&mut self) -> Said {
        super::within("an answer over TLS", async {
            let mut seen = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
                if let Some(end) = text.find("\r\n\r\n") {
                    let head = text[..end].to_owned();
                    let (_, length) = head.split_once("content-length: ").expect("a Content-Length");
                    let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
                    if seen.len() >= end + 4 + length {
                        let body = String::from_utf8(seen[end + 4..].to_vec()).unwrap();
                        return Said { head, body };
                    }
                }
                let read = self.io.read_buf(&mut seen).await.unwrap();
                assert!(read > 0, "closed after {seen:?}");
            }
        })
        .await
    }

    pub async fn get(&mut self, target: &str) -> Said {
        self.ask(target).await;
        self.answer().await
    }
}

/// The side of TLS of a node that chooses among these protocols (ALPN).
pub fn acceptor(issued: &Issued, protocols: &[&str]) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// TLS in front of a node: ends it and passes everything on.
pub struct Terminator {
    pub address: std::net::SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Terminator {
    /// Before `node`, with this certificate; with `clients`, those must show one of that authority.
    pub async fn start(node: std::net::SocketAddr, issued: &Issued, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap();
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A proxy that does not like the certificate leaves.
                    let Ok(mut secure) = acceptor.accept(stream).await else {
                        return;
                    };
                    if let Ok(mut plain) = TcpStream::connect(node).await {
                        let _ = tokio::io::copy_bidirectional(&mut secure, &mut plain).await;
                    }
                });
            }
        });
        Self { address, accepting }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
