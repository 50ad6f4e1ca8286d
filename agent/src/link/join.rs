//! Joining a cluster, and renewing a certificate that expired while the node was off.

use super::{CONNECT, client_config, endpoint, part_of_connect, resolve};
use crate::identity::{Files, Identity, IdentityError, Token, join_config, new_key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::ids::ClusterId;
use longshore_common::wire::{
    ALPN_ENROL, Cap, EnrolAnswer, EnrolRefused, EnrolRequest, Message, RenewRequest,
};
use longshore_link::{FrameReader, LinkError, send};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde::Serialize;

/// Why a node does not belong to the cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its files cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The coordinator cannot be reached.
    #[error("cannot reach the coordinator at {address}: {detail}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        detail: String,
    },
    /// It was asked, and may have answered.
    #[error(
        "the answer of the coordinator at {address} was lost: {detail}; run the same command again within 10 minutes"
    )]
    Lost {
        /// Where.
        address: String,
        /// Why.
        detail: String,
    },
    /// The one at that address is not the one of the token.
    #[error(
        "the server at {address} is not the coordinator this token was made for; nothing was sent to it"
    )]
    WrongAuthority {
        /// Where.
        address: String,
    },
    /// The coordinator said no.
    #[error("{0}")]
    Refused(String),
}

/// What joining needs.
#[derive(Debug)]
pub struct JoinOrder {
    /// `host:port`.
    pub address: String,
    /// The token.
    pub token: Token,
    /// The name the node would like.
    pub name: String,
    /// Hash over machine id and engine id.
    pub fingerprint: String,
    /// Hash over the machine id.
    pub machine: String,
}

/// An answer that was lost is asked for so often: the same key gets the same one again.
const TRIES: u32 = 3;

/// Joins and stores the identity.
///
/// # Errors
/// [`JoinError`]; nothing but the key is stored then, for the next try.
pub async fn join(order: JoinOrder, files: &Files) -> Result<Identity, JoinError> {
    let (key, csr) = files.joining_key(&order.token.id)?;
    let request = EnrolRequest {
        token_id: order.token.id.clone(),
        secret: order.token.secret.clone(),
        csr,
        name: order.name,
        fingerprint: order.fingerprint,
        machine: order.machine,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let tls = join_config(order.token.pin);
    let mut tries = 0;
    let answer = loop {
        tries += 1;
        // The cluster's name is not known yet; the pin is what counts.
        let answer = ask(
            &order.address,
            tls.clone(),
            "coordinator.longshore",
            &request,
        );
        match answer.await {
            Err(JoinError::Lost { .. }) if tries < TRIES => (),
            answer => break answer?,
        }
    };
    let identity = Identity {
        agent: answer.agent,
        cluster: answer.cluster,
        name: answer.name,
        coordinator: vec![order.address],
        work_key: URL_SAFE_NO_PAD.encode(&answer.work_key),
    };
    files.store(
        &identity,
        &key.serialize_pem(),
        &answer.certificate,
        &answer.ca_bundle,
    )?;
    files.forget_joining_key();
    Ok(identity)
}

/// Renews a certificate that has expired, proving to hold its key.
///
/// # Errors
/// [`JoinError`]; the old files stay.
pub(super) async fn renew_expired(
    cluster: ClusterId,
    addresses: &[String],
    files: &Files,
) -> Result<(), JoinError> {
    let bad =
        |e: &dyn std::fmt::Display| JoinError::Identity(IdentityError::Certificate(e.to_string()));
    let (certificate, old_key, _) = files.certificate()?;
    let (key, csr) = new_key()?;
    let PrivateKeyDer::Pkcs8(old_key) = old_key else {
        return Err(bad(&"the key is of another form"));
    };
    let random = SystemRandom::new();
    let old = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        old_key.secret_pkcs8_der(),
        &random,
    )
    .map_err(|e| bad(&e))?;
    let proof = old
        .sign(&random, &csr)
        .map_err(|e| bad(&e))?
        .as_ref()
        .to_vec();
    let request = RenewRequest {
        certificate: certificate.to_vec(),
        csr,
        proof,
    };
    let name = longshore_common::wire::server_name(cluster);
    let mut last = JoinError::Refused("no address of the coordinator is known".to_owned());
    for address in addresses {
        let tls = files.trust_config()?;
        match ask(address, tls, &name, &request).await {
            Ok(answer) => {
                files.store_certificate(&key.serialize_pem(), &answer.certificate)?;
                return Ok(());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask<M: Message + Serialize>(
    address: &str,
    tls: rustls::ClientConfig,
    name: &str,
    request: &M,
) -> Result<EnrolAnswer, JoinError> {
    let unreachable = |detail: String| JoinError::Unreachable {
        address: address.to_owned(),
        detail,
    };
    let all = resolve(address).await.map_err(&unreachable)?;
    let client = client_config(tls, &[ALPN_ENROL], true).map_err(&unreachable)?;
    let part = part_of_connect(all.len());
    let mut reached = Err(unreachable(format!("no answer in {} s", CONNECT.as_secs())));
    for to in all {
        let mut endpoint = endpoint(to).map_err(|e| unreachable(e.to_string()))?;
        endpoint.set_default_client_config(client.clone());
        let connecting = endpoint
            .connect(to, name)
            .map_err(|e| unreachable(e.to_string()))?;
        match tokio::time::timeout(part, connecting).await {
            Ok(Ok(connection)) => {
                reached = Ok((endpoint, connection));
                break;
            }
            Ok(Err(quinn::ConnectionError::TransportError(error)))
                if (0x100..0x200).contains(&u64::from(error.code)) =>
            {
                return Err(JoinError::WrongAuthority {
                    address: address.to_owned(),
                });
            }
            Ok(Err(error)) => reached = Err(unreachable(error.to_string())),
            Err(_) => (),
        }
    }
    let (endpoint, connection) = reached?;
    let answer_lost = |detail: String| JoinError::Lost {
        address: address.to_owned(),
        detail,
    };
    let lost = |e: LinkError| answer_lost(e.to_string());
    let talk = async {
        let (mut out, back) = connection
            .open_bi()
            .await
            .map_err(|e| lost(LinkError::Gone(e.to_string())))?;
        send(&mut out, request).await.map_err(lost)?;
        let _ = out.finish(); // only fails on a stream that is gone; the read says so
        let frame = FrameReader::new(back, Cap::STATE)
            .next()
            .await
            .map_err(lost)?;
        if frame.kind == EnrolRefused::KIND {
            let refused: EnrolRefused = frame.decode().map_err(|e| lost(e.into()))?;
            return Err(JoinError::Refused(refused.text));
        }
        frame.decode::<EnrolAnswer>().map_err(|e| lost(e.into()))
    };
    let answer = tokio::time::timeout(CONNECT, talk)
        .await
        .unwrap_or_else(|_| Err(answer_lost("none came".to_owned())));
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    answer
}
