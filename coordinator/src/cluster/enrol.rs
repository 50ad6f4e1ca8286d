//! Joining: a token against a certificate. And renewing a certificate that expired
//! while its node was away.
//!
//! Unknown, expired, used-up and wrong tokens are counted per address; beyond ten in a
//! quarter of an hour nothing is looked at any more.

use super::Shared;
use crate::engine::wall_clock;
use crate::pki::{PkiError, random, request_key_sha256, sha256};
use longshore_common::ids::AgentId;
use longshore_common::wire::{
    Cap, CloseCode, EnrolAnswer, EnrolRefusal, EnrolRefused, EnrolRequest, Message, RenewRequest,
};
use longshore_core::model::{Answer, Enrol, Event, Refusal};
use longshore_link::{FrameReader, LinkError, close, send};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// The whole conversation takes at most this long.
const CONVERSATION: Duration = Duration::from_secs(5);
/// An expired certificate can be renewed for so long.
const RENEWABLE_S: i64 = 30 * 86_400;

/// Whether somebody got a certificate.
pub(super) async fn serve(shared: &Arc<Shared>, connection: &quinn::Connection) -> bool {
    let peer = connection.remote_address();
    let talk = tokio::time::timeout(CONVERSATION, converse(shared, connection)).await;
    match talk {
        Ok(Ok(enrolled)) => return enrolled,
        Ok(Err(error)) => {
            shared.count_failure(peer.ip());
            warn!(%peer, %error, "enrolment refused");
            close(
                connection,
                error.close_code().unwrap_or(CloseCode::Protocol),
                "",
            );
        }
        Err(_) => {
            warn!(%peer, "enrolment took too long");
            close(connection, CloseCode::Limit, "too slow");
        }
    }
    false
}

async fn converse(shared: &Arc<Shared>, connection: &quinn::Connection) -> Result<bool, LinkError> {
    let peer = connection.remote_address();
    let (mut out, back) = connection
        .accept_bi()
        .await
        .map_err(|e| LinkError::Gone(e.to_string()))?;
    let mut frames = FrameReader::new(back, Cap::HELLO);
    let frame = frames.next().await?;
    let answer = if shared.is_throttled(peer.ip()) {
        Err(refused(
            EnrolRefusal::Throttled,
            "too many failures from this address; wait 15 minutes",
        ))
    } else if frame.kind == RenewRequest::KIND {
        renew(shared, frame.decode()?).await
    } else {
        enrol(shared, frame.decode()?).await
    };
    let enrolled = answer.is_ok();
    match answer {
        Ok(answer) => {
            info!(%peer, agent = %answer.agent, name = %answer.name, "agent enrolled");
            send(&mut out, &answer).await?;
        }
        Err(refused) => {
            if is_guess(refused.code) {
                shared.count_failure(peer.ip());
            }
            warn!(%peer, code = ?refused.code, "enrolment refused");
            send(&mut out, &refused).await?;
        }
    }
    let _ = out.finish(); // a peer that is gone already needs no end
    let _ = out.stopped().await; // until the peer has it
    Ok(enrolled)
}

/// Whether a refusal may answer somebody who tries tokens or certificates. That the
/// coordinator is busy, or a name is taken, is no fault of the address.
const fn is_guess(code: EnrolRefusal) -> bool {
    match code {
        EnrolRefusal::TokenUnknown
        | EnrolRefusal::TokenExpired
        | EnrolRefusal::TokenUsedUp
        | EnrolRefusal::Malformed => true,
        EnrolRefusal::NameTaken | EnrolRefusal::Throttled => false,
    }
}

fn refused(code: EnrolRefusal, text: impl Into<String>) -> EnrolRefused {
    EnrolRefused {
        code,
        text: text.into(),
    }
}

fn malformed(error: &PkiError) -> EnrolRefused {
    refused(EnrolRefusal::Malformed, error.to_string())
}

fn from_engine(refusal: Refusal) -> EnrolRefused {
    refused(
        refusal.enrol.unwrap_or(EnrolRefusal::Malformed),
        refusal.detail,
    )
}

async fn enrol(shared: &Arc<Shared>, request: EnrolRequest) -> Result<EnrolAnswer, EnrolRefused> {
    let key = request_key_sha256(&request.csr).map_err(|e| malformed(&e))?;
    let order = Enrol {
        token: request.token_id.clone(),
        secret_sha256: sha256(&request.secret),
        key,
        name: request.name.clone(),
        fingerprint: request.fingerprint.clone(),
        machine: request.machine.clone(),
        new_id: AgentId::new(time_ordered_id()),
    };
    ask(shared, Event::Enrol(order), &request.csr).await
}

/// 128 bits of which the first 48 are the time, as in a version 7 UUID (RFC 9562).
pub(super) fn time_ordered_id() -> u128 {
    let ms = u64::try_from(wall_clock().0).unwrap_or(0);
    let mut bytes = random::<10>();
    bytes[0] = (bytes[0] & 0x0f) | 0x70;
    bytes[2] = (bytes[2] & 0x3f) | 0x80;
    uuid::Builder::from_unix_timestamp_millis(ms, &bytes)
        .into_uuid()
        .as_u128()
}

async fn renew(shared: &Arc<Shared>, request: RenewRequest) -> Result<EnrolAnswer, EnrolRefused> {
    let (identity, not_after, point) = shared
        .pki
        .check_issued(&request.certificate)
        .map_err(|e| malformed(&e))?;
    if wall_clock().0 / 1000 > not_after.saturating_add(RENEWABLE_S) {
        return Err(refused(
            EnrolRefusal::TokenExpired,
            "the certificate expired more than 30 days ago; join again with a new token",
        ));
    }
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, point)
        .verify(&request.csr, &request.proof)
        .map_err(|_| {
            refused(
                EnrolRefusal::Malformed,
                "the proof of the old key is not valid",
            )
        })?;
    let key = request_key_sha256(&request.csr).map_err(|e| malformed(&e))?;
    let event = Event::RenewKey {
        agent: identity.agent,
        key,
        proven: identity.key,
    };
    ask(shared, event, &request.csr).await
}

async fn ask(shared: &Arc<Shared>, event: Event, csr: &[u8]) -> Result<EnrolAnswer, EnrolRefused> {
    let busy =
        |error: crate::engine::EngineError| refused(EnrolRefusal::Throttled, error.to_string());
    let answer = shared.engine.ask(event).await.map_err(busy)?;
    let Answer::Enrolled { agent, name, group } = answer.map_err(from_engine)? else {
        let text = "the coordinator gave no answer";
        return Err(refused(EnrolRefusal::Throttled, text));
    };
    let cluster = shared
        .engine
        .read(|state, _| state.meta.cluster)
        .await
        .map_err(busy)?;
    let certificate = shared
        .pki
        .issue_agent(agent, csr, shared.certificate_days())
        .map_err(|e| malformed(&e))?;
    Ok(EnrolAnswer {
        agent,
        cluster,
        name,
        group,
        certificate,
        ca_bundle: shared.pki.ca_pem(),
        work_key: shared.pki.work_public_key(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_locked_out_for_what_the_coordinator_could_not_do() {
        assert!(is_guess(EnrolRefusal::TokenUnknown) && is_guess(EnrolRefusal::Malformed));
        assert!(!is_guess(EnrolRefusal::Throttled) && !is_guess(EnrolRefusal::NameTaken));
    }
}
