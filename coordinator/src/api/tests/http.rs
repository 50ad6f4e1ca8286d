//! Bounds of connections and requests, over TLS as people have it.

use super::{Fixture, batch, ready};
use crate::api::{listener, router};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

/// Far beyond what anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// The API behind a listener.
struct Served {
    f: Fixture,
    address: SocketAddr,
    connector: tokio_rustls::TlsConnector,
}

impl Served {
    async fn new() -> Self {
        let f = ready().await;
        let (tls, connector) = listener::tests::tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Arc::clone(&f.app.http);
        let front = listener::Front {
            tls: Some(Arc::new(tls)),
            area: Some(super::super::areas::Area::Api),
        };
        let serving = listener::serve(
            listener,
            front,
            router(f.app.clone()),
            bounds,
            f.stop.subscribe(),
        );
        tokio::spawn(serving);
        Self {
            f,
            address,
            connector,
        }
    }

    /// Has the file read again with this below `daemon.http`.
    async fn with(&self, text: &str) {
        let file = self.f.dir.path().join("conf/all.toml");
        std::fs::write(file, format!("[daemon.http]\n{text}\n")).unwrap();
        let told = self.f.post("/api/v1/settings/reload", &json!({})).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert_eq!(told.json()["pending_restart"], json!([]));
    }

    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, stream).await
    }

    /// A request up to its body.
    fn head(&self, line: &str, more: &str) -> String {
        let bearer = self.f.bearer_text();
        format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\nConnection: close\r\n{more}\r\n"
        )
    }

    /// All that is answered to these bytes until the server closes.
    async fn answered(&self, sent: &str) -> String {
        let mut stream = self.connect().await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        read(&mut stream).await
    }
}

async fn read(stream: &mut TlsStream<TcpStream>) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut all));
    let _ = read.await.expect("the server closes"); // without a goodbye of TLS it is closed too
    String::from_utf8(all).unwrap()
}

fn submit(served: &Served, blanks: usize) -> String {
    let mut body = batch();
    body["image"] = json!("longshore/base"); // the file that is read again names no default
    let body = format!("{body}{}", " ".repeat(blanks));
    let length = body.len();
    let more = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    served.head("POST /api/v1/sessions", &more) + &body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_body_follows_the_file() {
    let served = Served::new().await;
    let told = served.answered(&submit(&served, 3000)).await;
    assert!(told.starts_with("HTTP/1.1 201 "), "{told}");
    served.with("max_body = \"2K\"").await;
    let told = served.answered(&submit(&served, 3000)).await;
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    assert!(told.contains("LS-TOO-LARGE"), "{told}");
    let told = served.answered(&submit(&served, 0)).await;
    assert!(told.starts_with("HTTP/1.1 201 "), "{told}");
    served.with("max_body = \"2M\"").await;
    let told = served.answered(&submit(&served, 3 << 19)).await;
    assert!(told.starts_with("HTTP/1.1 201 "), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_have_to_come_in_time() {
    let served = Served::new().await;
    served.with("header_timeout_s = 1").await;
    let mut stream = served.connect().await.unwrap();
    let begun = Instant::now();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: ")
        .await
        .unwrap();
    let told = read(&mut stream).await;
    assert!(!told.contains(" 200 "), "{told}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900), "not before");
    assert!(took < Duration::from_secs(9), "not by the usual ten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_to_come_in_time_and_an_answer_may_take_longer() {
    let served = Served::new().await;
    assert_eq!(served.f.submit(batch()).await.status, 201);
    served.with("request_timeout_s = 1").await;
    let more = "Content-Type: application/json\r\nContent-Length: 100\r\n";
    let told = served
        .answered(&(served.head("POST /api/v1/sessions", more) + "{"))
        .await;
    assert!(told.contains("LS-TIMEOUT"), "{told}");
    // This one waits for two seconds because nothing happens, and is answered then.
    let seen = served.f.get("/api/v1/sessions/s-1").await;
    let tag = seen.headers["etag"].to_str().unwrap().to_owned();
    let begun = Instant::now();
    let more = format!("If-None-Match: {tag}\r\n");
    let told = served
        .answered(&served.head("GET /api/v1/sessions/s-1?wait_s=2", &more))
        .await;
    assert!(told.starts_with("HTTP/1.1 304 "), "{told}");
    assert!(begun.elapsed() >= Duration::from_millis(1900), "it waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_address_follow_the_file() {
    let served = Served::new().await;
    let mut open = served.connect().await.unwrap();
    served.with("connections_per_ip = 1").await;
    assert!(served.connect().await.is_err(), "there is one already");
    let head = served.head("GET /healthz", "");
    open.write_all(head.as_bytes()).await.unwrap();
    let told = read(&mut open).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    served.with("connections_per_ip = 2").await;
    let told = served.answered(&head).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
}
