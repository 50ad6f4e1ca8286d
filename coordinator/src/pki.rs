//! Keys and certificates of the installation: an authority of its own, the coordinator's
//! certificate, the certificates it issues to agents, and the key that signs orders.
//!
//! Only the public key of a certificate request is used. Names and rights in a
//! certificate come from the coordinator's own records.

use crate::engine::wall_clock;
use crate::tls::{Certificates, Pair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::ids::{AgentId, Attempt, ClusterId, SessionId};
use longshore_common::time::Timestamp;
use longshore_common::wire::server_name;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use tokio::sync::watch;
use tracing::{error, info};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// A certificate is good from a little before now on, for clocks that lag.
const BACKDATED_S: i64 = 300;
/// The authority outlives everything it signs.
const CA_DAYS: i64 = 3650;
/// The coordinator's own certificate is made anew at each start, and while it runs before it ends.
const SERVER_DAYS: i64 = 365;
/// So often it is looked at whether it is time for that.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// What went wrong with a key or certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A private key may be read by others.
    #[error("{path} must be readable by its owner alone: chmod 600 {path}")]
    Mode {
        /// Which.
        path: PathBuf,
    },
    /// A key or certificate is damaged.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// Which.
        what: String,
        /// How.
        detail: String,
    },
    /// A certificate request is no good.
    #[error("the certificate request is not valid: {0}")]
    Request(String),
}

/// Everything of this module, loaded.
pub struct Pki {
    cluster: ClusterId,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    ca_key_pem: String,
    /// Names people reach the coordinator by.
    hosts: Vec<String>,
    /// The newest one for the coordinator itself.
    own: Mutex<Pair>,
    /// What agents are shown.
    shown: Arc<Certificates>,
    work: Ed25519KeyPair,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Who the other end of a connection is, by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Which agent.
    pub agent: AgentId,
    /// SHA-256 of the certificate's public key.
    pub key: [u8; 32],
}

impl Pki {
    /// Reads the keys from `dir`, or makes them on the first start.
    ///
    /// `hosts` are names and addresses people reach the coordinator by.
    ///
    /// # Errors
    /// Files that cannot be used, keys that others may read.
    pub fn open(dir: &Path, cluster: ClusterId, hosts: &[String]) -> Result<Self, PkiError> {
        Self::open_at(dir, cluster, hosts, present())
    }

    /// [`Self::open`] at a time.
    fn open_at(
        dir: &Path,
        cluster: ClusterId,
        hosts: &[String],
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        let ca_key_path = dir.join("ca.key");
        let ca_path = dir.join("ca.pem");
        let work_path = dir.join("work.key");
        if !ca_key_path.exists() {
            let key = KeyPair::generate().map_err(|e| damaged("the new CA key", &e))?;
            let ca = ca_params(cluster, now)?
                .self_signed(&key)
                .map_err(|e| damaged("the new CA", &e))?;
            // The key last: with it present the authority is complete.
            write(&ca_path, ca.pem().as_bytes(), 0o644)?;
            write(&ca_key_path, key.serialize_pem().as_bytes(), 0o600)?;
        }
        if !work_path.exists() {
            let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|e| damaged("the new work key", &e))?;
            write(&work_path, key.as_ref(), 0o600)?;
        }
        let ca_key_pem = String::from_utf8(read_private(&ca_key_path)?)
            .map_err(|e| damaged("the CA key", &e))?;
        let ca_pem = fs::read_to_string(&ca_path).map_err(|source| PkiError::File {
            path: ca_path.clone(),
            source,
        })?;
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|e| damaged("the CA certificate", &e))?;
        let work = Ed25519KeyPair::from_pkcs8(&read_private(&work_path)?)
            .map_err(|e| damaged("the work key", &e))?;
        let issuer = issuer(&ca_key_pem, &ca_der)?;
        let own = own_certificate(cluster, hosts, (&issuer, &ca_der), now)?;
        Ok(Self {
            cluster,
            ca_pem,
            ca_der,
            ca_key_pem,
            hosts: hosts.to_vec(),
            shown: Arc::new(Certificates::new(own.clone())),
            own: Mutex::new(own),
            work,
        })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        issuer(&self.ca_key_pem, &self.ca_der)
    }

    /// Makes the coordinator's own certificate anew where most of its life is over; agents are
    /// shown it from then on. The new one, if there is one.
    ///
    /// # Errors
    /// It cannot be made; the old one is shown on.
    pub fn renew_own(&self, now: Timestamp) -> Result<Option<Pair>, PkiError> {
        let now_s = now.0 / 1000;
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if !own.is_due_at(now_s) {
            return Ok(None);
        }
        let now = OffsetDateTime::from_unix_timestamp(now_s)
            .map_err(|e| damaged("the clock of this machine", &e))?;
        let issuer = (&self.issuer()?, &self.ca_der);
        *own = own_certificate(self.cluster, &self.hosts, issuer, now)?;
        self.shown.set(own.clone());
        Ok(Some(own.clone()))
    }

    /// What people see where no other certificate is set.
    #[must_use]
    pub fn https_pair(&self) -> Pair {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.clone()
    }

    /// TLS for agents: 1.3 only, no early data; a certificate of ours or none at all
    /// (joining). Which of the two a protocol needs is checked before its first byte is read.
    ///
    /// # Errors
    /// Keys that rustls does not take.
    pub fn agents_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, PkiError> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.ca_der.clone())
            .map_err(|e| damaged("the CA", &e))?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .map_err(|e| damaged("the CA", &e))?;
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<Certificates>::clone(&self.shown));
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.ca_pem.clone()
    }

    /// SHA-256 of the authority's public key, base64url: what a join token pins.
    ///
    /// # Errors
    /// A CA certificate that does not parse.
    pub fn pin(&self) -> Result<String, PkiError> {
        Ok(URL_SAFE_NO_PAD.encode(spki_sha256(&self.ca_der)?))
    }

    /// Public key of the signatures on desired sets.
    #[must_use]
    pub fn work_public_key(&self) -> Vec<u8> {
        self.work.public_key().as_ref().to_vec()
    }

    /// Signs the bytes of a desired set.
    #[must_use]
    pub fn sign(&self, input: &[u8]) -> Vec<u8> {
        self.work.sign(input).as_ref().to_vec()
    }

    /// Whether a signature is one of [`Self::sign`] over these bytes.
    #[must_use]
    pub fn signed(&self, input: &[u8], signature: &[u8]) -> bool {
        let key = self.work.public_key().as_ref();
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key);
        key.verify(input, signature).is_ok()
    }

    /// A secret of this installation that is the same after each start: the key by which
    /// agents are told that their connection ended with an earlier process.
    #[must_use]
    pub fn reset_secret(&self) -> Vec<u8> {
        // Ed25519 is deterministic; nobody is ever shown a signature on this text.
        self.sign(b"longshore stateless reset 1")
    }

    /// Seed of the key pair with which the containers of an attempt of a session log in to each
    /// other. It is the same whenever it is asked for, so nobody has to keep it.
    #[must_use]
    pub fn cluster_key(&self, session: SessionId, attempt: Attempt) -> [u8; 32] {
        // Ed25519 is deterministic; nobody is ever shown a signature on this text.
        let text = format!("longshore cluster key 1 {} {}", session.0, attempt.0);
        sha256(&Zeroizing::new(self.sign(text.as_bytes())))
    }

    /// Issues a certificate for an agent over the public key of its request, good for so many
    /// days from now on.
    ///
    /// # Errors
    /// A request that is damaged or not signed by its own key.
    pub fn issue_agent(
        &self,
        agent: AgentId,
        csr_der: &[u8],
        days: u32,
    ) -> Result<String, PkiError> {
        let request = parse_request(csr_der)?;
        let mut params = leaf_params(i64::from(days), present())?;
        params
            .distinguished_name
            .push(DnType::CommonName, agent.to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let uri = agent_uri(self.cluster, agent);
        let uri = uri
            .as_str()
            .try_into()
            .map_err(|e| damaged("the agent's name", &e))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let certificate = params
            .signed_by(&request.public_key, &self.issuer()?)
            .map_err(|e| damaged("the new agent certificate", &e))?;
        Ok(certificate.pem())
    }

    /// Who a verified certificate belongs to.
    ///
    /// # Errors
    /// A certificate that names no agent of this cluster.
    pub fn identify(&self, certificate: &CertificateDer<'_>) -> Result<PeerIdentity, PkiError> {
        identify(self.cluster, certificate)
    }

    /// Whether an expired certificate was issued here; its dates are the caller's business.
    ///
    /// # Errors
    /// A certificate of somebody else.
    pub fn check_issued(
        &self,
        certificate: &[u8],
    ) -> Result<(PeerIdentity, i64, Vec<u8>), PkiError> {
        let bad = |e: &dyn std::fmt::Display| PkiError::Request(e.to_string());
        let (_, leaf) = X509Certificate::from_der(certificate).map_err(|e| bad(&e))?;
        let (_, ca) = X509Certificate::from_der(&self.ca_der).map_err(|e| bad(&e))?;
        let signed = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            ca.public_key().subject_public_key.data.to_vec(),
        );
        signed
            .verify(
                leaf.tbs_certificate.as_ref(),
                leaf.signature_value.data.as_ref(),
            )
            .map_err(|_| PkiError::Request("the certificate was not issued here".to_owned()))?;
        let identity = identify(self.cluster, &CertificateDer::from(certificate.to_vec()))?;
        let point = leaf.public_key().subject_public_key.data.to_vec();
        Ok((identity, leaf.validity().not_after.timestamp(), point))
    }
}

/// Looks after the coordinator's own certificate until the coordinator stops. `people` are shown
/// it, too; none = they see another one.
pub async fn keep(
    pki: Arc<Pki>,
    people: Option<Arc<Certificates>>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        match pki.renew_own(wall_clock()) {
            Ok(None) => (),
            Ok(Some(pair)) => {
                if let Some(people) = &people {
                    people.set(pair);
                }
                info!("the coordinator's own certificate was made anew");
            }
            Err(error) => error!(%error, "the coordinator's own certificate cannot be made anew"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => (),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

fn issuer(key_pem: &str, ca: &CertificateDer<'_>) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let key = KeyPair::from_pem(key_pem).map_err(|e| damaged("the CA key", &e))?;
    Issuer::from_ca_cert_der(ca, key).map_err(|e| damaged("the CA", &e))
}

/// A certificate for the coordinator itself, with a key of its own.
fn own_certificate(
    cluster: ClusterId,
    hosts: &[String],
    (issuer, ca): (&Issuer<'static, KeyPair>, &CertificateDer<'static>),
    now: OffsetDateTime,
) -> Result<Pair, PkiError> {
    let key = KeyPair::generate().map_err(|e| damaged("the new server key", &e))?;
    let mut params = leaf_params(SERVER_DAYS, now)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Longshore coordinator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut names = vec![server_name(cluster), "localhost".to_owned()];
    names.extend(hosts.iter().cloned());
    for name in names {
        let san = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => match name.as_str().try_into() {
                Ok(dns) => SanType::DnsName(dns),
                Err(_) => continue, // a host name that no certificate can hold
            },
        };
        params.subject_alt_names.push(san);
    }
    params
        .subject_alt_names
        .push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    let certificate = params
        .signed_by(&key, issuer)
        .map_err(|e| damaged("the new server certificate", &e))?;
    let chain = vec![certificate.der().clone(), ca.clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Pair::new(chain, key).map_err(|e| damaged("the server certificate", &e))
}

/// SHA-256 of the public key of a request, after checking that it signed itself.
///
/// # Errors
/// A request that is damaged.
pub fn request_key_sha256(csr_der: &[u8]) -> Result<[u8; 32], PkiError> {
    let request = parse_request(csr_der)?;
    Ok(sha256(&request.public_key.subject_public_key_info()))
}

fn parse_request(csr_der: &[u8]) -> Result<CertificateSigningRequestParams, PkiError> {
    CertificateSigningRequestParams::from_der(&csr_der.to_vec().into())
        .map_err(|e| PkiError::Request(e.to_string()))
}

fn agent_uri(cluster: ClusterId, agent: AgentId) -> String {
    format!("longshore://{cluster}/agent/{agent}")
}

fn identify(
    cluster: ClusterId,
    certificate: &CertificateDer<'_>,
) -> Result<PeerIdentity, PkiError> {
    let bad = |detail: &str| PkiError::Request(detail.to_owned());
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| bad("it does not parse"))?;
    let names = parsed
        .subject_alternative_name()
        .ok()
        .flatten()
        .ok_or_else(|| bad("it names nobody"))?;
    let prefix = format!("longshore://{cluster}/agent/");
    let agent = names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            x509_parser::extensions::GeneralName::URI(uri) => {
                uri.strip_prefix(&prefix)?.parse().ok()
            }
            _ => None,
        })
        .ok_or_else(|| bad("it names no agent of this cluster"))?;
    Ok(PeerIdentity {
        agent,
        key: sha256(parsed.public_key().raw),
    })
}

fn spki_sha256(certificate: &CertificateDer<'_>) -> Result<[u8; 32], PkiError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|e| damaged("a certificate", &e))?;
    Ok(sha256(parsed.public_key().raw))
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Random bytes from the system.
///
/// # Panics
/// When the system has no randomness: nothing that is secret can be made then.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// Fills with random bytes of the system.
///
/// # Panics
/// The system gives none.
pub fn fill_random(bytes: &mut [u8]) {
    SystemRandom::new()
        .fill(bytes)
        .expect("the system gives random bytes");
}

fn ca_params(cluster: ClusterId, now: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut params = leaf_params(CA_DAYS, now)?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Longshore {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;
    Ok(params)
}

/// The wall clock: what a certificate is dated by.
fn present() -> OffsetDateTime {
    OffsetDateTime::from(SystemTime::now())
}

fn leaf_params(days: i64, now: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::<String>::new())
        .map_err(|e| damaged("certificate parameters", &e))?;
    params.not_before = now - time::Duration::seconds(BACKDATED_S);
    params.not_after = now + time::Duration::days(days);
    params.serial_number = Some(SerialNumber::from(random::<16>().to_vec()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params)
}

fn damaged(what: &str, detail: &dyn std::fmt::Display) -> PkiError {
    PkiError::Damaged {
        what: what.to_owned(),
        detail: detail.to_string(),
    }
}

fn read_private(path: &Path) -> Result<Vec<u8>, PkiError> {
    let file = |source| PkiError::File {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(file)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(PkiError::Mode {
            path: path.to_owned(),
        });
    }
    fs::read(path).map_err(file)
}

/// Writes a file aside, syncs it, renames it: it is there whole or not at all.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let aside = path.with_extension("new");
    let file = |source| PkiError::File {
        path: path.to_owned(),
        source,
    };
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&aside)
        .map_err(file)?;
    out.write_all(bytes).map_err(file)?;
    out.sync_all().map_err(file)?;
    fs::rename(&aside, path).map_err(file)?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent_csr() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn keys_survive_a_restart_and_requests_give_only_their_key() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId::new(7);
        let pki = Pki::open(dir.path(), cluster, &[]).unwrap();
        let pin = pki.pin().unwrap();
        let csr = agent_csr();
        let agent = AgentId::new(9);
        let pem = pki.issue_agent(agent, &csr, 2).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let identity = pki.identify(&der).unwrap();
        assert_eq!(identity.agent, agent);
        assert_eq!(identity.key, request_key_sha256(&csr).unwrap());
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(
            !parsed.is_ca(),
            "nothing but the key is taken from a request"
        );
        assert!(!pem.contains("evil"));
        let validity = parsed.validity();
        let life = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(life, 2 * 86_400 + BACKDATED_S);
        drop(pki);
        let again = Pki::open(dir.path(), cluster, &[]).unwrap();
        assert_eq!(again.pin().unwrap(), pin);
        assert!(again.check_issued(&der).is_ok());
        let other = tempfile::tempdir().unwrap();
        let foreign = Pki::open(other.path(), cluster, &[]).unwrap();
        assert!(foreign.check_issued(&der).is_err());
    }

    #[test]
    fn a_key_others_may_read_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path(), ClusterId::new(7), &[]).unwrap();
        fs::set_permissions(dir.path().join("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Pki::open(dir.path(), ClusterId::new(7), &[]),
            Err(PkiError::Mode { .. })
        ));
    }

    /// What a server of this configuration shows to somebody who trusts the authority.
    fn leaf_shown(config: &Arc<ServerConfig>, pki: &Pki) -> Vec<u8> {
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca_der.clone()).unwrap();
        let mut client = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"a".to_vec()];
        let name = server_name(pki.cluster).try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = bytes.as_slice();
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        client.peer_certificates().unwrap()[0].to_vec()
    }

    #[test]
    fn its_own_certificate_is_made_anew_while_it_serves() {
        let _ = rustls::crypto::ring::default_provider().install_default(); // or another test did
        let dir = tempfile::tempdir().unwrap();
        let now = present();
        let made = now - time::Duration::days(250);
        let pki = Pki::open_at(dir.path(), ClusterId::new(7), &[], made).unwrap();
        let config = Arc::new(pki.agents_config(&[b"a"]).unwrap());
        let at = |days: i64| {
            let at = made + time::Duration::days(days);
            Timestamp(at.unix_timestamp() * 1000)
        };
        let first = leaf_shown(&config, &pki);
        assert!(pki.renew_own(at(1)).unwrap().is_none());
        assert!(pki.renew_own(at(243)).unwrap().is_none());
        assert_eq!(leaf_shown(&config, &pki), first);
        let pair = pki
            .renew_own(at(250))
            .unwrap()
            .expect("two thirds are over");
        let second = leaf_shown(&config, &pki);
        assert_ne!(second, first, "without a listener made anew");
        assert_eq!(
            Certificates::new(pair).leaf(),
            second,
            "people see the same"
        );
        assert!(pki.renew_own(at(251)).unwrap().is_none());
        // A clock that was set back for years: nobody would take what is not good yet.
        assert!(pki.renew_own(at(-100)).unwrap().is_some());
    }
}
