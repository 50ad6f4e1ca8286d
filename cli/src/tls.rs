//! TLS with a pinned authority, or with those that are known.
//!
//! An installation has a certificate authority of its own. A context names the
//! SHA-256 of that authority's public key, and a coordinator is trusted when its
//! certificate was signed by it. A coordinator that is given a certificate, or has something in
//! front of it that has one, is trusted as other servers are: by name, and by the authorities
//! that this machine knows or that the user has named.

use crate::error::Failure;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// More certificates than this no coordinator sends: leaf, authority, and during a
/// change of the authority the old one.
const MOST_CERTIFICATES: usize = 8;

/// SHA-256 over the `SubjectPublicKeyInfo` of an authority, written `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate in DER.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let key = parsed.tbs_certificate.subject_pki.raw;
        let digest = ring::digest::digest(&ring::digest::SHA256, key);
        digest.as_ref().try_into().ok().map(Self)
    }

    /// The pin of the first certificate in a PEM text.
    pub(crate) fn of_pem(pem: &[u8]) -> Option<Self> {
        use rustls::pki_types::pem::PemObject;
        let certificate = CertificateDer::from_pem_slice(pem).ok()?;
        Self::of(&certificate)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Pin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || "expected sha256: and 64 hexadecimal digits".to_owned();
        let hex = text.strip_prefix("sha256:").ok_or_else(error)?;
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut pin = [0; 32];
        for (index, byte) in pin.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(pin))
    }
}

/// Who signs for a coordinator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ca {
    /// `sha256:…`: the installation's own authority.
    Pin(Pin),
    /// A file of certificates in PEM: one of these authorities.
    File(PathBuf),
    /// `system`: one of those this machine knows.
    System,
}

impl fmt::Display for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(pin) => pin.fmt(f),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::System => f.write_str("system"),
        }
    }
}

impl FromStr for Ca {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "system" => Ok(Self::System),
            _ if text.starts_with("sha256:") => text.parse().map(Self::Pin),
            // Neither word has one of these, and names of files do.
            _ if text.contains(['/', '.']) => Ok(Self::File(PathBuf::from(text))),
            _ => Err(
                "expected sha256: and 64 hexadecimal digits, the path of a file of certificates (PEM), or system"
                    .to_owned(),
            ),
        }
    }
}

/// A TLS configuration that trusts whom these authorities sign for, and nobody else.
pub(crate) fn config(ca: &Ca) -> Result<ClientConfig, Failure> {
    let roots = match ca {
        Ca::Pin(pin) => {
            let made = trusting(Trust::Authority(*pin));
            return made.map_err(|error| cannot(&error));
        }
        Ca::File(path) => of_file(path)?,
        Ca::System => {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            let (known, _) = roots.add_parsable_certificates(found.certs);
            if known == 0 {
                let text = "this machine knows no authority that signs certificates";
                return Err(Failure::failed(text).hint(
                    "install its certificates (ca-certificates), or name one: LONGSHORE_CA=/PATH.pem",
                ));
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| cannot(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn cannot(error: &Error) -> Failure {
    Failure::failed(format!("TLS cannot be set up: {error}"))
}

fn of_file(path: &Path) -> Result<RootCertStore, Failure> {
    use rustls::pki_types::pem::PemObject;
    let wrong = |text: String| Failure::usage(format!("ca {}: {text}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(wrong("holds no certificate in PEM".to_owned())),
        false => Ok(roots),
    }
}

/// A TLS configuration that trusts whoever answers: only to ask for the authority, which is
/// shown to a person before anything else is sent there.
pub(crate) fn first_visit() -> Result<ClientConfig, Failure> {
    trusting(Trust::Anybody).map_err(|error| cannot(&error))
}

fn trusting(trust: Trust) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier {
        trust,
        provider: Arc::clone(&provider),
    });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Who is believed to be the coordinator.
#[derive(Debug)]
enum Trust {
    /// Whom the authority with this key signed for.
    Authority(Pin),
    /// Whoever answers.
    Anybody,
}

/// Accepts what the pinned authority signed for a server.
///
/// The host name is not compared, on purpose: this authority gives server
/// certificates to its coordinator and to nobody else, so its signature already
/// says who answers, and the coordinator may be reached under any address, also
/// after a move. Agents hold certificates for clients only, which the check of the
/// key usage below refuses.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Authority(pin) = self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let authority = intermediates
            .iter()
            .take(MOST_CERTIFICATES)
            .find(|certificate| Pin::of(certificate) == Some(pin))
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
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
    fn authorities_are_named_in_three_ways() {
        let pin = format!("sha256:{}", "5f".repeat(32));
        for text in [pin.as_str(), "system", "/etc/lab.pem", "lab.pem"] {
            assert_eq!(text.parse::<Ca>().unwrap().to_string(), text);
        }
        for bad in ["", "sha256:", "lab", "System"] {
            assert!(bad.parse::<Ca>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_of_authorities_is_read_whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            config(&Ca::File(path.clone())).unwrap_err()
        };
        assert_eq!(told("").exit, 2);
        assert!(
            told("").text.contains("holds no certificate"),
            "{}",
            told("").text
        );
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(told(bad).text.contains("ca.pem"), "{}", told(bad).text);
        let away = config(&Ca::File(dir.path().join("none.pem"))).unwrap_err();
        assert!(away.text.contains("none.pem"), "{}", away.text);
    }

    #[test]
    fn pins_read_back() {
        let text = format!("sha256:{}", "5f".repeat(32));
        assert_eq!(text.parse::<Pin>().unwrap().to_string(), text);
        for bad in [
            "",
            "sha256:",
            "5f",
            "sha256:zz",
            &format!("sha1:{}", "5f".repeat(32)),
        ] {
            assert!(bad.parse::<Pin>().is_err(), "{bad}");
        }
        assert!("sha256:é".parse::<Pin>().is_err());
        assert_eq!(Pin::of(b"no certificate"), None);
    }
}
