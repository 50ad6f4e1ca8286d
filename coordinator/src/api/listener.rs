//! Connections of people and programs: TLS, limits, an end within seconds.

use super::GUARDED;
use super::areas::Area;
use super::framing::Framed;
use super::ways::Arrived;
use crate::settings::Held;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// A TLS handshake takes at most this long.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most headers of a request.
const MOST_HEADERS: usize = 64;
/// Most bytes of headers.
const HEADER_BYTES: usize = 16 * 1024;
/// Connections in all.
const IN_ALL: usize = 4096;
/// What is open when the coordinator stops gets this long.
const STOPPING: Duration = Duration::from_secs(5);
/// Pause when the system gives no more descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// The address at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What the configuration says of connections and requests. Travels with each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the largest body that is read as a whole.
    pub max_body: usize,
    /// The headers of a request take at most this long.
    pub headers: Duration,
    /// A body that is read as a whole takes at most this long: with a byte now and then it would
    /// hold its request for ever.
    pub body: Duration,
    /// Connections of one address.
    pub per_address: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            headers: Duration::from_secs(10),
            body: Duration::from_secs(60),
            per_address: 100,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts a connection as long as it lives.
struct Counted {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Counts {
    fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Counted> {
        let address = address.to_canonical();
        let mut map = self
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if map.values().sum::<usize>() >= IN_ALL {
            return None;
        }
        let count = map.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted {
            counts: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut map = self
            .counts
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = map.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.address);
            }
        }
    }
}

/// What stands at an address.
#[derive(Debug, Clone)]
pub struct Front {
    /// None = connections are not encrypted: whoever stands in front ends TLS. Of HTTP/2 and
    /// HTTP/1.1 it offers what it was made with.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The part of the coordinator whose address it is; none = apps.
    pub area: Option<Area>,
}

/// Serves a router at listeners, each for its part (none = apps), until `stop` says true. The
/// bounds are those of [`serve`].
pub fn serve_all(
    servers: &mut JoinSet<()>,
    listeners: impl IntoIterator<Item = (TcpListener, Option<Area>)>,
    tls: Option<&Arc<rustls::ServerConfig>>,
    (router, bounds): (&Router, &Arc<Held<Bounds>>),
    stop: &watch::Receiver<bool>,
) {
    for (listener, area) in listeners {
        let tls = tls.cloned();
        let front = Front { tls, area };
        let (router, bounds) = (router.clone(), Arc::clone(bounds));
        servers.spawn(serve(listener, front, router, bounds, stop.clone()));
    }
}

/// Serves a router until `stop` says true, then lets what is open end, for five seconds.
/// Connections are taken by the bounds of that moment, requests go by those of theirs.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    router: Router,
    bounds: Arc<Held<Bounds>>,
    mut stop: watch::Receiver<bool>,
) {
    let counts = Arc::new(Counts::default());
    let graceful = Arc::new(GracefulShutdown::new());
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // What is open goes on; new ones wait until descriptors are free.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(counted) = counts.enter(peer.ip(), bounds.get().per_address) else {
            tracing::debug!(%peer, "too many connections");
            continue;
        };
        let connection = connection(
            stream,
            peer,
            front.clone(),
            router.clone(),
            Arc::clone(&bounds),
            graceful.watcher(),
        );
        tasks.spawn(GUARDED.scope((), async move {
            let _counted = counted;
            connection.await;
        }));
    }
    drop(listener);
    let ends = async {
        if let Ok(graceful) = Arc::try_unwrap(graceful) {
            graceful.shutdown().await;
        }
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(STOPPING, ends).await.is_err() {
        tracing::info!("connections that did not end are cut");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    front: Front,
    router: Router,
    bounds: Arc<Held<Bounds>>,
    watcher: Watcher,
) {
    let _ = stream.set_nodelay(true); // only makes it slower when it fails
    let arrived = Arrived {
        area: front.area,
        tls: front.tls.is_some(),
    };
    let Some(tls) = front.tls else {
        return speak(stream, (peer, arrived), false, (router, bounds), watcher).await;
    };
    let acceptor = TlsAcceptor::from(tls);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    speak(stream, (peer, arrived), h2, (router, bounds), watcher).await;
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    (peer, arrived): (SocketAddr, Arrived),
    h2: bool,
    (router, bounds): (Router, Arc<Held<Bounds>>),
    watcher: Watcher,
) {
    // The protocol is known, so no bytes are waited for to guess it.
    let builder = builder(h2, bounds.get().headers);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(Peer(peer));
        extensions.insert(arrived);
        extensions.insert(bounds.get());
        router.clone().oneshot(request)
    });
    // Frames of HTTP/2 say one length.
    let served = match h2 {
        true => {
            let io = TokioIo::new(stream);
            let served = builder.serve_connection_with_upgrades(io, service);
            watcher.watch(served).await
        }
        false => {
            let io = TokioIo::new(Framed::new(stream));
            let served = builder.serve_connection_with_upgrades(io, service);
            watcher.watch(served).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

fn builder(h2: bool, headers: Duration) -> Builder<TokioExecutor> {
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = if h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    builder
        .http1()
        // Without a timer the time-out does nothing at all.
        .timer(TokioTimer::new())
        .header_read_timeout(headers)
        .max_headers(MOST_HEADERS)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(16 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn connections_of_one_address_are_counted() {
        let counts = Arc::new(Counts::default());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let held: Vec<_> = (0..3).map(|_| counts.enter(address, 3).unwrap()).collect();
        assert!(counts.enter(address, 3).is_none());
        assert!(counts.enter("192.0.2.2".parse().unwrap(), 3).is_some());
        assert!(counts.enter(address, 4).is_some());
        drop(held);
        assert!(counts.enter(address, 3).is_some());
        assert!(counts.per_address.lock().unwrap().is_empty());
    }

    /// TLS of a server called localhost, and of clients who trust it.
    pub(in super::super) fn tls() -> (rustls::ServerConfig, tokio_rustls::TlsConnector) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let certificate = made.cert.der().clone();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.unwrap())
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (tls, tokio_rustls::TlsConnector::from(Arc::new(client)))
    }

    /// What a server answers on one connection to bytes that are no library's making.
    async fn answer(to: &str) -> String {
        let (tls, connector) = tls();
        let front = Front {
            tls: Some(Arc::new(tls)),
            area: None,
        };
        let echo = |body: String| async move { body };
        let router = Router::new().route("/", axum::routing::any(echo));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let bounds = Arc::new(Held::new(Bounds::default()));
        let server = tokio::spawn(serve(listener, front, router, bounds, stopped));
        let stream = TcpStream::connect(address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(to.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        // It ends when the server closes: none of these asks for anything else.
        let read = stream.read_to_end(&mut all);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await;
        let _ = read.expect("the server closes"); // without a goodbye of TLS it is closed too
        stop.send(true).unwrap();
        server.await.unwrap();
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn a_request_that_says_its_length_twice_is_refused_and_nothing_behind_it_is_read() {
        const BEHIND: &str = "0\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nConnection: close\r\n\r\nbehind";
        for (first, second) in [
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("transfer-encoding: chunked", "CONTENT-LENGTH: 5"),
            ("Content-Length: 5", "Transfer-Encoding: identity, chunked"),
        ] {
            let to = format!("POST / HTTP/1.1\r\nHost: a\r\n{first}\r\n{second}\r\n\r\n{BEHIND}");
            let told = answer(&to).await;
            assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
            assert_eq!(told.matches("HTTP/1.1").count(), 1, "{told}");
        }
        // One that stands behind a good one is found as well, and good ones are served.
        let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst";
        let chunked =
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n";
        let told = answer(&format!("{good}{chunked}{BEHIND}")).await;
        assert_eq!(told.matches("HTTP/1.1 200 ").count(), 3, "{told}");
        for body in ["first", "second", "behind"] {
            assert!(told.contains(body), "{told}");
        }
        let both =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let told = answer(&format!("{good}{both}{BEHIND}")).await;
        assert_eq!(told.matches("HTTP/1.1 200 ").count(), 1, "{told}");
        assert_eq!(told.matches("HTTP/1.1 400 ").count(), 1, "{told}");
        assert!(!told.contains("behind"), "{told}");
    }
}
