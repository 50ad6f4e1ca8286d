//! Links that a test speaks itself, with the keys of a node that has joined.

use super::in_process::InProcess;
use anyhow::{Result, anyhow, bail};
use longshore_agent::daemon::private_dir;
use longshore_agent::identity::{Files, Identity, Token};
use longshore_agent::link::{JoinOrder, join};
use longshore_common::ids::{ClusterId, CoordinatorGeneration, Fence, Generation, InstanceId};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    ALPN_AGENT, AuditEnd, Cap, CloseCode, Features, Frame, Hello, Welcome,
};
use longshore_link::{FrameReader, Side, send, transport};
use quinn::crypto::rustls::QuicClientConfig;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(20);
const DAY_S: i64 = 86_400;

/// Dials with whatever certificate is in `tls`.
///
/// # Errors
/// No connection comes about.
pub async fn dial(
    port: u16,
    mut tls: rustls::ClientConfig,
    alpn: &[u8],
    cluster: Option<ClusterId>,
) -> Result<(quinn::Endpoint, quinn::Connection)> {
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport(Side::Agent, true));
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    endpoint.set_default_client_config(config);
    let name = cluster.map_or_else(
        || "coordinator.longshore".to_owned(),
        |id| {
            let id = id.to_string();
            let bare = id.trim_start_matches(ClusterId::PREFIX);
            format!("coordinator.{bare}.longshore")
        },
    );
    let to: SocketAddr = ([127, 0, 0, 1], port).into();
    let connection = tokio::time::timeout(LIMIT, endpoint.connect(to, &name)?).await??;
    Ok((endpoint, connection))
}

/// What a node says that joins with a token.
///
/// # Errors
/// The token is none.
pub fn order(coordinator: &InProcess, token: &str, name: &str) -> Result<JoinOrder> {
    Ok(JoinOrder {
        address: coordinator.address(),
        token: Token::parse(token)?,
        name: name.to_owned(),
        fingerprint: format!("fingerprint of {name}"),
        machine: format!("machine of {name}"),
    })
}

/// A node that has joined and whose link the test speaks itself.
#[derive(Debug)]
pub struct Node {
    /// What it got when it joined.
    pub identity: Identity,
    /// Where its keys lie.
    pub files: Files,
}

/// Lets a node join.
///
/// # Errors
/// It is refused, or does not come through.
pub async fn node(coordinator: &InProcess, dir: &Path, name: &str) -> Result<Node> {
    let state_dir = dir.join(name);
    private_dir(&state_dir)?;
    let files = Files::new(&state_dir);
    let token = coordinator.token(1, DAY_S).await?;
    let identity = join(order(coordinator, &token, name)?, &files).await?;
    Ok(Node { identity, files })
}

impl Node {
    /// What an agent says first that has obeyed nobody yet.
    #[must_use]
    pub fn hello(&self) -> Hello {
        let name = &self.identity.name;
        Hello {
            agent: self.identity.agent,
            cluster: self.identity.cluster,
            instance: InstanceId::new(1),
            started: Timestamp(1),
            boot_id: "boot".to_owned(),
            fingerprint: format!("fingerprint of {name}"),
            machine: format!("machine of {name}"),
            version: "0".to_owned(),
            coordinator_generation: CoordinatorGeneration(0),
            coordinator_instance: None,
            fence: Fence(1),
            applied: Generation(0),
            journal_rebuilt: false,
            audit: AuditEnd::default(),
            features: Features::OURS,
        }
    }

    /// A connection with its certificate.
    ///
    /// # Errors
    /// None comes about.
    pub async fn connect(&self, port: u16) -> Result<(quinn::Endpoint, quinn::Connection)> {
        let tls = self.files.link_config()?;
        dial(port, tls, ALPN_AGENT, Some(self.identity.cluster)).await
    }

    /// A link that has got its welcome.
    ///
    /// # Errors
    /// It gets none.
    pub async fn link(&self, port: u16) -> Result<Link> {
        let (link, frame) = self.greet(port, &self.hello()).await?;
        let _: Welcome = frame.decode()?;
        Ok(link)
    }

    /// A link, and the answer to this hello.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn greet(&self, port: u16, hello: &Hello) -> Result<(Link, Frame)> {
        let mut link = self.begin(port, hello).await?;
        let frame = tokio::time::timeout(LIMIT, link.control.next()).await??;
        Ok((link, frame))
    }

    /// A link on which this hello was sent.
    ///
    /// # Errors
    /// No connection comes about.
    pub async fn begin(&self, port: u16, hello: &Hello) -> Result<Link> {
        let (endpoint, connection) = self.connect(port).await?;
        let (mut out, back) = connection.open_bi().await?;
        send(&mut out, hello).await?;
        Ok(Link {
            _endpoint: endpoint,
            connection,
            control_out: out,
            control: FrameReader::new(back, Cap::HELLO),
        })
    }
}

/// A link whose agent is the test.
#[derive(Debug)]
pub struct Link {
    _endpoint: quinn::Endpoint,
    /// All of it.
    pub connection: quinn::Connection,
    /// Its control stream, out.
    pub control_out: quinn::SendStream,
    /// Its control stream, in.
    pub control: FrameReader,
}

/// The code with which the coordinator closes a connection.
///
/// # Errors
/// It ends otherwise, or not.
pub async fn close_code(connection: &quinn::Connection) -> Result<CloseCode> {
    match tokio::time::timeout(LIMIT, connection.closed()).await? {
        quinn::ConnectionError::ApplicationClosed(closed) => {
            let code = closed.error_code.into_inner();
            CloseCode::from_u64(code).ok_or_else(|| anyhow!("closed with {code}"))
        }
        other => bail!("{other}"),
    }
}
