//! TLS with a pinned authority.
//!
//! An installation has a certificate authority of its own. A context names the
//! SHA-256 of that authority's public key, and a coordinator is trusted when its
//! certificate was signed by it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::fmt;
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

/// A TLS configuration that trusts the authority of `pin` and nothing else.
pub(crate) fn config(pin: Pin) -> Result<ClientConfig, Error> {
    trusting(Trust::Authority(pin))
}

/// A TLS configuration that trusts whoever answers: only to ask for the authority, which is
/// shown to a person before anything else is sent there.
pub(crate) fn first_visit() -> Result<ClientConfig, Error> {
    trusting(Trust::Anybody)
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
