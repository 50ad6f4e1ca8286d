//! A client for HTTP/1.1 over TLS that costs next to nothing, so that what is measured is
//! the server. It reads only answers with a length, as the coordinator gives them.

use anyhow::{Context as _, Result, anyhow, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest answer.
const ANSWER_MAX: usize = 8 << 20;

/// Where the coordinator is, and who asks.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    connector: TlsConnector,
    /// `access.secret`, once there is somebody.
    pub bearer: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The entity tag, if there is one.
    pub etag: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; an answer that is no success is an error with its text.
    ///
    /// # Errors
    /// See above.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if !(200..300).contains(&self.status) {
            bail!(
                "the coordinator answered {}: {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            );
        }
        serde_json::from_slice(&self.body).context("an answer of the coordinator")
    }
}

impl Client {
    /// For a coordinator on this port of the loopback address, trusting the authority in
    /// its data directory.
    ///
    /// # Errors
    /// The authority's file cannot be used.
    pub fn new(port: u16, data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("ca.pem");
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&text)?)?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address: ([127, 0, 0, 1], port).into(),
            connector: TlsConnector::from(Arc::new(config)),
            bearer: None,
        })
    }

    /// Opens a connection that is kept alive.
    ///
    /// # Errors
    /// Nobody listens, or it is not the coordinator.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        Ok(Connection {
            stream: self.connector.connect(name, stream).await?,
            read: Vec::new(),
        })
    }

    /// The bytes of a request, to be sent any number of times.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let authorization = match &self.bearer {
            Some(bearer) => format!("authorization: Bearer {bearer}\r\n"),
            None => String::new(),
        };
        let length = body.len();
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{authorization}{headers}\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let request = self.request(method, path, "", body);
        self.connect().await?.send(&request).await
    }
}

/// One connection that is kept alive.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Connection {
    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// The connection broke, or the answer has another form than expected.
    pub async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let head_end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = std::str::from_utf8(&self.read[..head_end])?;
        let status: u16 = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or_else(|| anyhow!("an answer without a status"))?;
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let length = match header("content-length") {
            Some(length) => length.parse()?,
            None if matches!(status, 204 | 304) => 0,
            None => bail!("an answer without a length"),
        };
        if length > ANSWER_MAX {
            bail!("an answer of {length} bytes");
        }
        let etag = header("etag");
        while self.read.len() < head_end + length {
            self.more().await?;
        }
        let body = self.read[head_end..head_end + length].to_vec();
        self.read.drain(..head_end + length);
        Ok(Answer { status, etag, body })
    }

    /// Sends a request and reads an answer that comes in chunks until its end. `took` is told
    /// the size of each.
    ///
    /// # Errors
    /// The connection broke, the answer is none in chunks, or no success.
    pub async fn drain(&mut self, request: &[u8], mut took: impl FnMut(usize)) -> Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let head = self.line(b"\r\n\r\n").await?.to_ascii_lowercase();
        let success = head.split(' ').nth(1) == Some("200");
        if !success || !head.contains("transfer-encoding: chunked") {
            bail!("no answer in chunks: {head}");
        }
        loop {
            let line = self.line(b"\r\n").await?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size.trim(), 16)?;
            while self.read.len() < size + 2 {
                self.more().await?;
            }
            self.read.drain(..size + 2);
            if size == 0 {
                return Ok(());
            }
            took(size);
        }
    }

    /// What comes before `end`, as text.
    async fn line(&mut self, end: &[u8]) -> Result<String> {
        loop {
            if let Some(at) = find(&self.read, end) {
                let text = std::str::from_utf8(&self.read[..at])?.to_owned();
                self.read.drain(..at + end.len());
                return Ok(text);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        let mut chunk = [0; 64 * 1024];
        let count = self.stream.read(&mut chunk).await?;
        if count == 0 {
            bail!("the coordinator closed the connection");
        }
        self.read.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}
