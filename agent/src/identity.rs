//! Who this node is: its certificate and what it joined, in the state directory.
//!
//! The private key is made here and never leaves. A join pins the authority before any
//! byte of the token is sent.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::ids::{AgentId, ClusterId};
use longshore_common::time::Timestamp;
use longshore_common::wire::AuditEnd;
use rcgen::{CertificateParams, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a node keeps of its joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub agent: AgentId,
    /// What it joined.
    pub cluster: ClusterId,
    /// Its name when it joined.
    pub name: String,
    /// Where the coordinator is, `host:port`, tried in turn.
    pub coordinator: Vec<String>,
    /// Public key of the signatures on desired sets, base64url.
    pub work_key: String,
}

/// Why a node cannot show who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It has not joined.
    #[error("this machine has not joined a cluster: longshore join HOST")]
    NotJoined,
    /// A file cannot be used.
    #[error("{path}: {detail}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A private key may be read by others.
    #[error("{path} must be readable by its owner alone: chmod 600 {path}")]
    Mode {
        /// Which.
        path: PathBuf,
    },
    /// A key or certificate cannot be used.
    #[error("the certificate of this agent cannot be used: {0}")]
    Certificate(String),
    /// The token is not of the form of a token.
    #[error("this is not a join token: it begins with ls1. and has four parts")]
    Token,
}

fn file(path: &Path, detail: impl std::fmt::Display) -> IdentityError {
    IdentityError::File {
        path: path.to_owned(),
        detail: detail.to_string(),
    }
}

/// A join token, taken apart: `ls1.<id>.<secret>.<pin>`.
#[derive(Clone)]
pub struct Token {
    /// The public part.
    pub id: String,
    /// The secret part.
    pub secret: Vec<u8>,
    /// SHA-256 of the authority's public key.
    pub pin: [u8; 32],
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// [`IdentityError::Token`]; the text is never repeated.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let ["ls1", id, secret, pin] = parts.as_slice() else {
            return Err(IdentityError::Token);
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| IdentityError::Token)
        };
        let pin = decode(pin)?.try_into().map_err(|_| IdentityError::Token)?;
        let secret = decode(secret)?;
        if id.is_empty() || id.len() > 64 || secret.len() != 16 {
            return Err(IdentityError::Token);
        }
        Ok(Self {
            id: (*id).to_owned(),
            secret,
            pin,
        })
    }
}

/// A new key and a certificate request over it.
///
/// # Errors
/// The system gives no randomness.
pub fn new_key() -> Result<(KeyPair, Vec<u8>), IdentityError> {
    let bad = |e: rcgen::Error| IdentityError::Certificate(e.to_string());
    with_request(KeyPair::generate().map_err(bad)?)
}

fn with_request(key: KeyPair) -> Result<(KeyPair, Vec<u8>), IdentityError> {
    let bad = |e: rcgen::Error| IdentityError::Certificate(e.to_string());
    let params = CertificateParams::new(Vec::<String>::new()).map_err(bad)?;
    let request = params.serialize_request(&key).map_err(bad)?.der().to_vec();
    Ok((key, request))
}

/// Where the key of a join is kept until that is through.
const JOINING: &str = "joining.pem";
/// Where the end of the coordinator's audit log is kept.
const AUDIT_END: &str = "audit-end.json";
/// Names the coordinator told to hide.
const HIDDEN: &str = "hidden-names.json";

/// Addresses the coordinator named.
const ADDRESSES: &str = "addresses.json";

/// The files of an identity.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// In this directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Stores a new identity, synced; the last file makes it complete.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn store(
        &self,
        identity: &Identity,
        key_pem: &str,
        certificate_pem: &str,
        ca_pem: &str,
    ) -> Result<(), IdentityError> {
        self.store_certificate(key_pem, certificate_pem)?;
        self.write("ca.pem", ca_pem.as_bytes())?;
        let json = serde_json::to_vec_pretty(identity)
            .map_err(|e| file(&self.path("identity.json"), e))?;
        self.write("identity.json", &json)
    }

    /// Stores a renewed certificate. Key and certificate are one file, so that no crash
    /// can part them.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn store_certificate(
        &self,
        key_pem: &str,
        certificate_pem: &str,
    ) -> Result<(), IdentityError> {
        self.write(
            "agent.pem",
            format!("{key_pem}{certificate_pem}").as_bytes(),
        )
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
        let path = self.path(name);
        write_synced(&path, bytes).map_err(|e| file(&path, e))
    }

    /// The newest end of the coordinator's audit log that was kept; none if there is no file,
    /// or it is damaged: it is learned anew with the next heartbeat.
    #[must_use]
    pub fn audit_end(&self) -> Option<AuditEnd> {
        let bytes = fs::read(self.path(AUDIT_END)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps the end of the coordinator's audit log.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store_audit_end(&self, end: AuditEnd) -> Result<(), IdentityError> {
        let json = serde_json::to_vec(&end).map_err(|e| file(&self.path(AUDIT_END), e))?;
        self.write(AUDIT_END, &json)
    }

    /// The addresses that the coordinator last named; none if there is no file, or it is
    /// damaged: they are named anew with the next link.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let bytes = fs::read(self.path(ADDRESSES)).ok();
        let named = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        named.unwrap_or_default()
    }

    /// Keeps them: after a move of the coordinator an agent that starts anew would not find it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store_addresses(&self, named: &[String]) -> Result<(), IdentityError> {
        let json = serde_json::to_vec(named).map_err(|e| file(&self.path(ADDRESSES), e))?;
        self.write(ADDRESSES, &json)
    }

    /// The names the coordinator last told to hide; none if there is no file, or it is damaged:
    /// they are told anew with the next link.
    #[must_use]
    pub fn hidden_names(&self) -> Vec<String> {
        let bytes = fs::read(self.path(HIDDEN)).ok();
        let names = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        names.unwrap_or_default()
    }

    /// Keeps them, for what is logged before the next link.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store_hidden_names(&self, names: &[String]) -> Result<(), IdentityError> {
        let json = serde_json::to_vec(names).map_err(|e| file(&self.path(HIDDEN), e))?;
        self.write(HIDDEN, &json)
    }

    /// A key and a certificate request over it for joining with this token: kept until the
    /// join is through, because with another key a token whose answer was lost is used up.
    ///
    /// # Errors
    /// A file that cannot be written, or no randomness.
    pub fn joining_key(&self, token_id: &str) -> Result<(KeyPair, Vec<u8>), IdentityError> {
        let text = fs::read_to_string(self.path(JOINING)).unwrap_or_default();
        let kept = text.split_once('\n').filter(|(id, _)| *id == token_id);
        if let Some(key) = kept.and_then(|(_, pem)| KeyPair::from_pem(pem).ok()) {
            return with_request(key);
        }
        let (key, request) = new_key()?;
        let text = format!("{token_id}\n{}", key.serialize_pem());
        self.write(JOINING, text.as_bytes())?;
        Ok((key, request))
    }

    /// The join is through.
    pub fn forget_joining_key(&self) {
        // One that stays is of no use: its token is used up.
        let _ = fs::remove_file(self.path(JOINING));
    }

    /// Whether the certificate was good for a time that is over at `now`.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn has_expired(&self, now: Timestamp) -> Result<bool, IdentityError> {
        let (_, end) = self.validity()?;
        Ok(now.0 / 1000 > end)
    }

    /// Whether an identity is there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.path("identity.json").exists()
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// [`IdentityError::NotJoined`], or a file that cannot be used.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let path = self.path("identity.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::NotJoined);
            }
            Err(error) => return Err(file(&path, error)),
        };
        serde_json::from_slice(&bytes).map_err(|e| file(&path, e))
    }

    /// Key and certificate.
    ///
    /// # Errors
    /// A file that cannot be used, or that others may read.
    pub fn certificate(
        &self,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>, String), IdentityError> {
        let path = self.path("agent.pem");
        let mode = fs::metadata(&path)
            .map_err(|e| file(&path, e))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(IdentityError::Mode { path });
        }
        let text = fs::read_to_string(&path).map_err(|e| file(&path, e))?;
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| file(&path, e))?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|e| file(&path, e))?;
        Ok((certificate, key, text))
    }

    fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let path = self.path("ca.pem");
        let text = fs::read_to_string(&path).map_err(|e| file(&path, e))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            roots
                .add(certificate.map_err(|e| file(&path, e))?)
                .map_err(|e| file(&path, e))?;
        }
        Ok(roots)
    }

    /// TLS of the link: our certificate, their authority, 1.3 only.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn link_config(&self) -> Result<ClientConfig, IdentityError> {
        let (certificate, key, _) = self.certificate()?;
        let bad = |e: rustls::Error| IdentityError::Certificate(e.to_string());
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![certificate], key)
            .map_err(bad)?;
        Ok(config)
    }

    /// TLS towards the known authority without a certificate of our own.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn trust_config(&self) -> Result<ClientConfig, IdentityError> {
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        Ok(config)
    }

    /// Seconds since 1970 between which the certificate is good.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn validity(&self) -> Result<(i64, i64), IdentityError> {
        let (certificate, ..) = self.certificate()?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|e| IdentityError::Certificate(e.to_string()))?;
        let validity = parsed.validity();
        Ok((
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        ))
    }
}

/// Writes a file aside with mode 0600, syncs it and renames it.
///
/// # Errors
/// What the file system says.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// TLS of joining: whoever presents a chain with the pinned authority is believed; no
/// other. The name is not compared, since only coordinators get server certificates.
#[must_use]
pub fn join_config(pin: [u8; 32]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin, provider }))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|c| {
            X509Certificate::from_der(c).is_ok_and(|(_, parsed)| {
                digest(&SHA256, parsed.public_key().raw).as_ref() == self.pin
            })
        });
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let mut roots = RootCertStore::empty();
        roots.add(pinned.ok_or_else(unknown)?.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_keeps_its_key_until_it_is_through() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let key = |token: &str| files.joining_key(token).unwrap().0.serialize_pem();
        let first = key("one");
        assert_eq!(key("one"), first);
        let mode = fs::metadata(dir.path().join(JOINING))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let second = key("two");
        assert_ne!(second, first, "each token is for one machine");
        files.forget_joining_key();
        assert_ne!(key("two"), second);
    }

    #[test]
    fn a_certificate_expires() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let (key, _) = new_key().unwrap();
        let params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        files
            .store_certificate(&key.serialize_pem(), &certificate.pem())
            .unwrap();
        let (_, end) = files.validity().unwrap();
        assert!(!files.has_expired(Timestamp(end * 1000)).unwrap());
        assert!(files.has_expired(Timestamp((end + 1) * 1000)).unwrap());
    }

    #[test]
    fn tokens_are_taken_apart_strictly() {
        let pin = URL_SAFE_NO_PAD.encode([7; 32]);
        let secret = URL_SAFE_NO_PAD.encode([9; 16]);
        let token = Token::parse(&format!("ls1.abc.{secret}.{pin}\n")).unwrap();
        assert_eq!((token.id.as_str(), token.pin), ("abc", [7; 32]));
        for bad in [
            "",
            "ls1",
            "ls2.a.b.c",
            &format!("ls1..{secret}.{pin}"),
            &format!("ls1.a.{secret}.x"),
            &format!("ls1.a.{pin}.{pin}"),
        ] {
            let error = Token::parse(bad).unwrap_err().to_string();
            assert!(!error.contains(&secret), "a token is never repeated");
        }
    }
}
