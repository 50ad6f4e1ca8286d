//! A coordinator that speaks no protocol of this agent: both say what they speak, and part.

use super::session::Ended;
use super::{CONNECT, LinkConfig};
use longshore_common::wire::{
    ALPN_AGENT_BARE, Cap, CloseCode, HelloBare, Incompatible, PROTOCOLS, Speaks, incompatible,
};
use longshore_link::{FrameReader, LinkError, close, send};
use quinn::crypto::rustls::HandshakeData;

/// The code with which QUIC carries the alert of TLS that there is no common protocol.
const NO_PROTOCOL: u64 = 0x100 + 120;

/// Whether the two have no protocol in common but the one that says so.
pub(super) fn is_bare(connection: &quinn::Connection) -> bool {
    let data = connection.handshake_data();
    let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).as_deref() == Some(ALPN_AGENT_BARE)
}

/// Says who this agent is, and hears what the coordinator speaks.
pub(super) async fn part(config: &LinkConfig, connection: &quinn::Connection) -> Ended {
    let ours = Speaks {
        version: env!("CARGO_PKG_VERSION"),
        protocols: PROTOCOLS,
    };
    let hello = HelloBare {
        agent: config.identity.agent,
        cluster: config.identity.cluster,
        name: config.identity.name.clone(),
        version: ours.version.to_owned(),
        protocols: ours.protocols.to_vec(),
    };
    let talk = async {
        let opened = connection.open_bi().await;
        let (mut out, back) = opened.map_err(|e| Ended::Failed(e.to_string()))?;
        send(&mut out, &hello).await?;
        let _ = out.finish(); // a peer that is gone is seen by what it does not answer
        let frame = FrameReader::new(back, Cap::HELLO).next().await?;
        let answer: Incompatible = frame.decode().map_err(LinkError::from)?;
        Ok::<_, Ended>(answer)
    };
    let ended = match tokio::time::timeout(CONNECT, talk).await {
        Ok(Ok(answer)) => {
            let theirs = Speaks {
                version: &answer.version,
                protocols: &answer.protocols,
            };
            Ended::Incompatible {
                text: incompatible(ours, theirs),
                retry_ms: answer.retry_after_ms,
            }
        }
        Ok(Err(ended)) => ended,
        Err(_) => Ended::Failed("the coordinator did not answer the hello".to_owned()),
    };
    close(connection, CloseCode::Normal, "");
    ended
}

/// Why no connection came about.
pub(super) fn refusal(error: &quinn::ConnectionError) -> String {
    match error {
        // From before the protocol in which it would say so itself.
        quinn::ConnectionError::ConnectionClosed(closed)
            if u64::from(closed.error_code) == NO_PROTOCOL =>
        {
            let version = env!("CARGO_PKG_VERSION");
            format!(
                "the coordinator speaks no protocol of this agent {version}: they are too far apart"
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::tests::{accepting, connected};
    use super::super::tests::config;
    use super::*;

    #[tokio::test]
    async fn of_a_coordinator_of_other_protocols_it_says_what_is_to_be_updated() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), Vec::new());
        let (there, roots) = accepting(&[b"longshore-agent/9", ALPN_AGENT_BARE]);
        let address = there.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let connection = there.accept().await.unwrap().await.unwrap();
            let (mut out, back) = connection.accept_bi().await.unwrap();
            let frame = FrameReader::new(back, Cap::HELLO).next().await.unwrap();
            let answer = Incompatible {
                version: "9.0.0".to_owned(),
                protocols: vec![9, 8],
                retry_after_ms: 300_000,
            };
            send(&mut out, &answer).await.unwrap();
            connection.closed().await;
            frame.decode::<HelloBare>().unwrap()
        });
        let both = [super::super::LINK_ALPN, ALPN_AGENT_BARE];
        let connection = connected(address, roots, &both).await.unwrap();
        assert!(is_bare(&connection));
        let ended = part(&config, &connection).await;
        let Ended::Incompatible { text, retry_ms } = ended else {
            panic!("{ended:?}");
        };
        assert!(text.contains("9.0.0 speaks protocol 9 and 8"), "{text}");
        assert!(text.ends_with("update the agent"), "{text}");
        assert_eq!(retry_ms, 300_000);
        let hello = serving.await.unwrap();
        assert_eq!(
            (hello.agent, hello.protocols),
            (config.identity.agent, PROTOCOLS.to_vec())
        );
    }

    #[tokio::test]
    async fn one_that_does_not_even_know_how_to_say_so_is_named() {
        let (there, roots) = accepting(&[b"longshore-agent/9"]);
        let address = there.local_addr().unwrap();
        let serving = tokio::spawn(async move { there.accept().await.unwrap().await.err() });
        let both = [super::super::LINK_ALPN, ALPN_AGENT_BARE];
        let error = connected(address, roots, &both).await.unwrap_err();
        let text = refusal(&error);
        assert!(text.contains("no protocol of this agent"), "{text}");
        assert!(serving.await.unwrap().is_some());
    }
}
