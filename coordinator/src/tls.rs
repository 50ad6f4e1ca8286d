//! The certificate that people and programs see, and how it becomes another one without a
//! connection being lost.
//!
//! | input | output |
//! |---|---|
//! | files of a certificate and its key, the time | a pair that can be served, or what is wrong with it |

use crate::config::{Https, TlsVersion};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What is wrong with a pair, `KEY: text`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("daemon.tls.{0}")]
pub struct PairError(String);

/// A certificate with its key, and when it is good.
#[derive(Debug, Clone)]
pub struct Pair {
    key: Arc<CertifiedKey>,
    not_before: i64,
    not_after: i64,
}

impl Pair {
    /// From what lies in memory.
    ///
    /// # Errors
    /// A certificate that does not parse, a key of another one.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, PairError> {
        let wrong = |text: String| PairError(format!("certificate: {text}"));
        let Some(leaf) = chain.first() else {
            return Err(wrong("holds no certificate".to_owned()));
        };
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| wrong(format!("does not parse: {error}")))?;
        let validity = parsed.validity();
        let (not_before, not_after) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                PairError("private_key: is not the key of daemon.tls.certificate".to_owned())
            }
            error => PairError(format!("private_key: cannot be used: {error}")),
        })?;
        Ok(Self {
            key: Arc::new(key),
            not_before,
            not_after,
        })
    }

    /// From the files that the settings name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(https: &Https) -> Result<Self, PairError> {
        let at = |key: &str, path: &Path, text: &dyn std::fmt::Display| {
            PairError(format!("{key}: {}: {text}", path.display()))
        };
        let (certificate, private) = (https.certificate.as_path(), https.private_key.as_path());
        let pem = fs::read(certificate).map_err(|error| at("certificate", certificate, &error))?;
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| at("certificate", certificate, &error))?;
        let wrong = |text: &dyn std::fmt::Display| at("private_key", private, text);
        let mode = fs::metadata(private).map_err(|error| wrong(&error))?;
        if mode.permissions().mode() & 0o007 != 0 {
            return Err(wrong(&"may be read by everybody: chmod o= it"));
        }
        let pem = fs::read(private).map_err(|error| wrong(&error))?;
        // Whatever the reader says of a key may be a part of it.
        let key = PrivateKeyDer::from_pem_slice(&pem);
        let key = key.map_err(|_| wrong(&"holds no private key in PEM without a password"))?;
        Self::new(chain, key)
    }

    /// Whether clients will take it at a time, in seconds since 1970.
    ///
    /// # Errors
    /// Why not.
    pub fn is_good_at(&self, now_s: i64) -> Result<(), PairError> {
        let text = match () {
            () if now_s > self.not_after => "has expired",
            () if now_s < self.not_before => "is not good yet",
            () => return Ok(()),
        };
        Err(PairError(format!("certificate: {text}")))
    }

    /// Whether another one is to be made at a time, in seconds since 1970: two thirds of its life
    /// are over, or it has not begun.
    #[must_use]
    pub const fn is_due_at(&self, now_s: i64) -> bool {
        let life = self.not_after.saturating_sub(self.not_before);
        let due = self.not_before.saturating_add(life / 3 * 2);
        now_s >= due || now_s < self.not_before
    }

    /// Those of these names that it is not made for.
    #[must_use]
    pub fn lacks<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        let leaf = self.key.cert.first();
        let leaf = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        let holds = |name: &str| {
            let name = ServerName::try_from(name);
            let leaf = leaf.as_ref();
            leaf.is_some_and(|leaf| name.is_ok_and(|name| verify_server_name(leaf, &name).is_ok()))
        };
        let names = names.iter().copied();
        names.filter(|name| !holds(name)).collect()
    }
}

/// The certificate that is served.
#[derive(Debug)]
pub struct Certificates(RwLock<Arc<CertifiedKey>>);

impl Certificates {
    /// One to begin with.
    #[must_use]
    pub fn new(pair: Pair) -> Self {
        Self(RwLock::new(pair.key))
    }

    /// The certificate that is served.
    #[cfg(test)]
    pub(crate) fn leaf(&self) -> Vec<u8> {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner);
        now.cert[0].to_vec()
    }

    /// Another one is served to connections that begin from now on.
    pub fn set(&self, pair: Pair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pair.key;
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&now))
    }
}

/// TLS for people: HTTP/2 and HTTP/1.1.
#[must_use]
pub fn config(certificates: Arc<Certificates>, oldest: TlsVersion) -> ServerConfig {
    let versions: &[_] = match oldest {
        TlsVersion::V12 => &[&TLS13, &TLS12],
        TlsVersion::V13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        dir: tempfile::TempDir,
        https: Https,
    }

    fn files(names: &[&str]) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (certificate, private_key) = (dir.path().join("a.pem"), dir.path().join("a.key"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&private_key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&private_key, fs::Permissions::from_mode(0o640)).unwrap();
        let https = Https {
            certificate,
            private_key,
            ..Https::default()
        };
        Files { dir, https }
    }

    fn told(https: &Https) -> String {
        Pair::read(https).unwrap_err().to_string()
    }

    #[test]
    fn a_pair_that_does_not_go_together_is_refused_by_key_and_file() {
        let (one, other) = (files(&["a.lab"]), files(&["b.lab"]));
        assert!(Pair::read(&one.https).is_ok());
        let mixed = Https {
            private_key: other.https.private_key.clone(),
            ..one.https.clone()
        };
        let text = told(&mixed);
        assert_eq!(
            text,
            "daemon.tls.private_key: is not the key of daemon.tls.certificate"
        );
        let away = Https {
            certificate: one.dir.path().join("none.pem"),
            ..one.https.clone()
        };
        assert!(
            told(&away).starts_with("daemon.tls.certificate: /"),
            "{}",
            told(&away)
        );
        fs::write(&one.https.certificate, "").unwrap();
        assert_eq!(
            told(&one.https),
            "daemon.tls.certificate: holds no certificate"
        );
        fs::write(
            &one.https.certificate,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(told(&one.https).contains("daemon.tls.certificate: does not parse"));
        fs::write(&other.https.private_key, "hunter2").unwrap();
        let text = told(&other.https);
        assert!(
            text.contains("holds no private key") && !text.contains("hunter2"),
            "{text}"
        );
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&other.https.private_key, open).unwrap();
        assert!(told(&other.https).contains("may be read by everybody"));
    }

    #[test]
    fn it_says_when_and_for_whom_it_is_good() {
        let pair = Pair::read(&files(&["a.lab", "*.gpu.lab"]).https).unwrap();
        assert_eq!(pair.is_good_at(1_800_000_000), Ok(()));
        let expired = pair.is_good_at(i64::MAX).unwrap_err().to_string();
        assert_eq!(expired, "daemon.tls.certificate: has expired");
        assert!(
            pair.is_good_at(0)
                .unwrap_err()
                .to_string()
                .contains("not good yet")
        );
        let lacks = pair.lacks(&["a.lab", "app.gpu.lab", "b.lab", "x.app.gpu.lab"]);
        assert_eq!(lacks, ["b.lab", "x.app.gpu.lab"]);
    }

    /// What a client of some version that trusts these sees of a server: the certificate, or why there is none.
    fn seen(
        server: &Arc<ServerConfig>,
        version: &'static rustls::SupportedProtocolVersion,
        trusted: &[Vec<u8>],
    ) -> Result<Vec<u8>, rustls::Error> {
        let _ = rustls::crypto::ring::default_provider().install_default(); // once is enough
        let mut server = rustls::ServerConnection::new(Arc::clone(server)).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        for own in trusted {
            roots.add(CertificateDer::from(own.clone())).unwrap();
        }
        let client = rustls::ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("a.lab").unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.peer_certificates().unwrap()[0].to_vec())
    }

    #[test]
    fn another_certificate_is_seen_by_who_comes_next() {
        let _ = rustls::crypto::ring::default_provider().install_default(); // once is enough
        let (one, other) = (files(&["a.lab"]), files(&["a.lab"]));
        let leaf = |files: &Files| {
            let pem = fs::read(&files.https.certificate).unwrap();
            CertificateDer::from_pem_slice(&pem).unwrap().to_vec()
        };
        let all = [leaf(&one), leaf(&other)];
        let certificates = Arc::new(Certificates::new(Pair::read(&one.https).unwrap()));
        let server = Arc::new(config(Arc::clone(&certificates), TlsVersion::V13));
        assert_eq!(seen(&server, &TLS13, &all), Ok(leaf(&one)));
        certificates.set(Pair::read(&other.https).unwrap());
        assert_eq!(seen(&server, &TLS13, &all), Ok(leaf(&other)));
        assert!(seen(&server, &TLS12, &all).is_err());
        let older = Arc::new(config(certificates, TlsVersion::V12));
        assert_eq!(seen(&older, &TLS12, &all), Ok(leaf(&other)));
    }
}
