//! Names, ports and proxies, over real sockets.

use super::super::areas::{Area, Areas};
use super::super::listener::{Front, serve, serve_all};
use super::*;
use crate::config::{Hosts, Listen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A coordinator with a name for each part, and a port of its own for files.
struct Served {
    f: Fixture,
    areas: Areas,
}

async fn served(listen: Listen) -> Served {
    let hosts = Hosts {
        app: "app.gpu.lab".to_owned(),
        api: "API.gpu.lab".to_owned(),
        files: "files.gpu.lab".to_owned(),
    };
    served_as(&hosts, listen).await
}

async fn served_as(hosts: &Hosts, listen: Listen) -> Served {
    let mut f = ready().await;
    let areas = Areas::new(hosts, &listen, 600);
    f.router = Router::new();
    let parts = Arc::get_mut(&mut f.app.0).expect("nobody else has it");
    parts.areas = areas.clone();
    parts.address = Held::new("https://app.gpu.lab".to_owned());
    f.router = router(f.app.clone());
    Served { f, areas }
}

impl Served {
    fn trusts(&self, network: &str) {
        let trusted = vec![network.parse().unwrap()];
        self.f.app.rates.set((10_000, 1000), trusted);
    }

    /// A listener of a part, in the clear.
    async fn at(&self, area: Option<Area>) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = self.f.app.stopping.clone();
        let front = Front { tls: None, area };
        let (router, bounds) = (self.f.router.clone(), Arc::clone(&self.f.app.http));
        tokio::spawn(serve(listener, front, router, bounds, stopping));
        address
    }

    /// What is answered to one request, of which the first lines are given as they are.
    async fn ask(&self, area: Option<Area>, head: &str) -> String {
        asked(self.at(area).await, head).await
    }
}

/// What is answered at an address.
async fn asked(address: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut all = String::new();
    let read = stream.read_to_string(&mut all);
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    read.expect("it answers").unwrap();
    all
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1);
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn main_listener() -> Listen {
    Listen::default()
}

const MAIN: Option<Area> = Some(Area::Api);

#[tokio::test]
async fn each_name_serves_its_part_alone() {
    let served = served(main_listener()).await;
    for (host, path, expected) in [
        ("api.gpu.lab", "/api/v1/openapi.json", 200),
        ("API.gpu.lab:7420", "/api/v1/openapi.json", 200),
        ("api.gpu.lab.", "/api/v1/openapi.json", 200),
        ("app.gpu.lab", "/api/v1/openapi.json", 421),
        ("files.gpu.lab", "/api/v1/openapi.json", 421),
        ("files.gpu.lab", "/files/v1/sessions/s-1", 401),
        ("api.gpu.lab", "/files/v1/sessions/s-1", 421),
        ("api.gpu.lab", "/s/s-1/web/", 421),
        ("app.gpu.lab", "/nowhere", 404),
        ("api.gpu.lab", "/healthz", 200),
        ("files.gpu.lab", "/version", 200),
        ("app.gpu.lab", "/help/LS-HOST", 200),
        // Names of nobody are served as if no part had one.
        ("127.0.0.1:7420", "/api/v1/openapi.json", 200),
        ("[::1]:7420", "/files/v1/sessions/s-1", 401),
        ("gpu01", "/s/s-1/web/", 401),
    ] {
        let answer = served
            .ask(MAIN, &format!("GET {path} HTTP/1.1\r\nHost: {host}"))
            .await;
        assert_eq!(status(&answer), expected, "{host}{path}: {answer}");
    }
    // What belongs to users is a download, whatever becomes of it.
    let head = "GET /files/v1/sessions/s-1 HTTP/1.1\r\nHost: files.gpu.lab";
    let answer = served.ask(MAIN, head).await;
    for header in [
        "content-security-policy: sandbox\r\n",
        "content-disposition: attachment\r\n",
        "x-content-type-options: nosniff\r\n",
    ] {
        assert!(answer.contains(header), "{answer}");
    }
    // By every name a program learns where the others are.
    for host in ["app.gpu.lab", "api.gpu.lab", "files.gpu.lab"] {
        let head = format!("GET /version HTTP/1.1\r\nHost: {host}");
        let answer = served.ask(MAIN, &head).await;
        for member in [
            r#""api_url":"https://api.gpu.lab""#,
            r#""files_url":"https://files.gpu.lab""#,
        ] {
            assert!(answer.contains(member), "{answer}");
        }
    }
    let text = "GET /api/v1/me HTTP/1.1\r\nHost: app.gpu.lab\r\nOrigin: https://app.gpu.lab";
    let answer = served.ask(MAIN, text).await;
    assert!(answer.contains("LS-HOST"), "{answer}");
    assert!(
        answer.contains("The API is not served at app.gpu.lab."),
        "{answer}"
    );
    assert!(
        answer.contains("The API is at https://api.gpu.lab."),
        "{answer}"
    );
}

#[tokio::test]
async fn each_port_serves_its_part_alone() {
    let served = served(Listen {
        files: vec!["0.0.0.0:7421".parse().unwrap()],
        ..Listen::default()
    })
    .await;
    for (area, path, expected) in [
        (Area::Files, "/files/v1/sessions/s-1", 401),
        (Area::Files, "/api/v1/openapi.json", 421),
        (Area::Files, "/s/s-1/web/", 421),
        (Area::Files, "/readyz", 200),
        (Area::Api, "/files/v1/sessions/s-1", 421),
        (Area::Api, "/api/v1/openapi.json", 200),
        (Area::Api, "/s/s-1/web/", 401),
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1");
        let answer = served.ask(Some(area), &head).await;
        assert_eq!(status(&answer), expected, "{area:?} {path}: {answer}");
    }
    let shown = served
        .areas
        .address(Area::Files, "https://app.gpu.lab:7420");
    assert_eq!(shown, "https://files.gpu.lab:7421");
}

/// From the text of the configuration to the sockets, as the program does it.
#[tokio::test]
async fn what_the_configuration_says_is_served_where_it_says() {
    use crate::config::{Config, Overrides};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.toml");
    let text = "[daemon]
public_url = \"https://app.gpu.lab\"
listen = { api = [\"127.0.0.1:0\"], app = [\"127.0.0.1:0\"], files = [\"127.0.0.1:0\"] }
hosts = { app = \"app.gpu.lab\", files = \"files.gpu.lab\" }
tls = { mode = \"off\" }
apps = { listen = [\"127.0.0.1:0\"] }
";
    std::fs::write(&file, text).unwrap();
    let (config, _) = Config::load(Some(&file), [], Overrides::default()).unwrap();
    let daemon = &config.daemon;
    let served = served_as(&daemon.hosts, daemon.listen.clone()).await;
    let listeners = crate::sockets::of_parts(&daemon.listen).await.unwrap();
    assert_eq!(listeners.len(), 3);
    let places: Vec<_> = listeners
        .iter()
        .map(|(listener, area)| (listener.local_addr().unwrap(), *area))
        .collect();
    let parts = listeners.into_iter();
    let parts = parts.map(|(listener, area)| (listener, Some(area)));
    let stopping = &served.f.app.stopping;
    let mut servers = tokio::task::JoinSet::new();
    let bounds = &served.f.app.http;
    serve_all(
        &mut servers,
        parts,
        None,
        (&served.f.router, bounds),
        stopping,
    );
    let apps = crate::sockets::for_apps(&daemon.apps).await;
    let at_apps = apps[0].local_addr().unwrap();
    let apps = apps.into_iter().map(|listener| (listener, None));
    let router = apps_router(served.f.app.clone());
    serve_all(&mut servers, apps, None, (&router, bounds), stopping);
    let ways = [
        (Area::App, "app.gpu.lab", "/nowhere", 404),
        (Area::Api, "gpu.lab", "/api/v1/openapi.json", 200),
        (Area::Files, "files.gpu.lab", "/files/v1/sessions/s-1", 401),
    ];
    for (at, area) in &places {
        for (own, host, path, expected) in ways {
            let head = |host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}");
            let expected = if own == *area { expected } else { 421 };
            // By an address alone, then by the part's own name.
            for host in ["127.0.0.1", host] {
                let answer = asked(*at, &head(host)).await;
                assert_eq!(status(&answer), expected, "{area:?} {host}{path}: {answer}");
            }
        }
        // At its own port the name of another part is that of another part.
        let other = match area {
            Area::Files => "app.gpu.lab",
            Area::App | Area::Api => "files.gpu.lab",
        };
        let (.., path, _) = ways.iter().find(|(own, ..)| own == area).unwrap();
        let answer = asked(*at, &format!("GET {path} HTTP/1.1\r\nHost: {other}")).await;
        // The API has no name of its own: all names are its own.
        let expected = if *area == Area::Api { 200 } else { 421 };
        assert_eq!(status(&answer), expected, "{area:?} {other}: {answer}");
    }
    for (_, host, path, _) in ways {
        let answer = asked(at_apps, &format!("GET {path} HTTP/1.1\r\nHost: {host}")).await;
        // A page of apps, and none of a part.
        let of_apps = answer.contains("text/html") && !answer.contains("LS-");
        assert!(of_apps && status(&answer) == 421, "{answer}");
    }
    servers.shutdown().await;
}

#[tokio::test]
async fn what_opens_a_websocket_is_refused_at_another_name_as_the_rest() {
    let served = served(main_listener()).await;
    let paths = [
        "/api/v1/sessions/s-1/exec/x/stream",
        "/api/v1/sessions/s-1/forward",
    ];
    let opening = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for path in paths {
        for (host, expected) in [
            ("api.gpu.lab", 401),
            ("app.gpu.lab", 421),
            ("files.gpu.lab", 421),
        ] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{opening}");
            let answer = served.ask(MAIN, &head).await;
            assert_eq!(status(&answer), expected, "{host}{path}: {answer}");
            assert_eq!(answer.contains("LS-HOST"), expected == 421, "{answer}");
        }
    }
}

#[tokio::test]
async fn a_request_that_names_nobody_or_two_is_refused() {
    let served = served(main_listener()).await;
    for head in [
        "GET /healthz HTTP/1.1",
        "GET /healthz HTTP/1.1\r\nHost: a.lab\r\nHost: a.lab",
        "GET /healthz HTTP/1.1\r\nHost: api.gpu.lab\r\nhost: app.gpu.lab",
        "GET /healthz HTTP/1.1\r\nHost:",
        "GET /healthz HTTP/1.1\r\nHost: ::1",
        "GET /healthz HTTP/1.1\r\nHost: a.lab:port",
        "GET /healthz HTTP/1.1\r\nHost: a.lab, b.lab",
        "GET /healthz HTTP/1.1\r\nHost: user@a.lab",
    ] {
        let answer = served.ask(MAIN, head).await;
        assert_eq!(status(&answer), 400, "{head}: {answer}");
        assert!(answer.contains("LS-HEADER"), "{answer}");
    }
    // Of the time before there were names, and what names itself in its target.
    let old = served.ask(MAIN, "GET /healthz HTTP/1.0").await;
    assert_eq!(status(&old), 200, "{old}");
    let target = "GET https://app.gpu.lab/api/v1/openapi.json HTTP/1.1\r\nHost: api.gpu.lab";
    let answer = served.ask(MAIN, target).await;
    assert_eq!(status(&answer), 421, "{answer}");
}

#[tokio::test]
async fn what_strangers_say_of_the_way_does_not_count() {
    let served = served(main_listener()).await;
    served.trusts("192.0.2.0/24");
    let head = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: api.gpu.lab\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: app.gpu.lab";
    let answer = served.ask(MAIN, head).await;
    assert_eq!(status(&answer), 200, "{answer}");
    served.trusts("127.0.0.0/8");
    let answer = served.ask(MAIN, head).await;
    assert_eq!(status(&answer), 308, "{answer}");
}

#[tokio::test]
async fn what_came_in_the_clear_is_led_to_where_it_is_encrypted() {
    let served = served(main_listener()).await;
    served.trusts("127.0.0.0/8");
    let ask = async |method: &str, path: &str, more: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: inside:7420\r\n{more}");
        served.ask(MAIN, &head).await
    };
    let clear = "X-Forwarded-Proto: http\r\nX-Forwarded-Host: api.gpu.lab";
    for (method, path, to) in [
        (
            "GET",
            "/api/v1/me?a=b%20c",
            "https://api.gpu.lab/api/v1/me?a=b%20c",
        ),
        ("HEAD", "/", "https://api.gpu.lab/"),
        ("GET", "//evil.lab/x", "https://api.gpu.lab//evil.lab/x"),
    ] {
        let answer = ask(method, path, clear).await;
        assert_eq!(status(&answer), 308, "{answer}");
        assert!(answer.contains(&format!("location: {to}\r\n")), "{answer}");
        assert!(!answer.contains("strict-transport-security"), "{answer}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
        assert!(answer.contains("x-request-id: "), "{answer}");
    }
    // A name of nobody leads to where the part is, never to that name.
    let evil = "X-Forwarded-Proto: http\r\nX-Forwarded-Host: evil.lab";
    let answer = ask("GET", "/files/v1/x", evil).await;
    assert!(
        answer.contains("location: https://files.gpu.lab/files/v1/x\r\n"),
        "{answer}"
    );
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(method, "/api/v1/setup", clear).await;
        assert_eq!(status(&answer), 426, "{answer}");
        assert!(
            answer.contains("LS-TLS") && answer.contains("upgrade: TLS/1.2\r\n"),
            "{answer}"
        );
    }
    // A balancer looks whether all is well, without saying anything.
    assert_eq!(status(&ask("GET", "/healthz", clear).await), 200);
    let private = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: api.gpu.lab";
    let answer = ask("GET", "/api/v1/openapi.json", private).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(
        answer.contains("strict-transport-security: max-age=600\r\n"),
        "{answer}"
    );
    // Its Host is what the proxy calls us; the name is the one that was asked for.
    let other = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: app.gpu.lab";
    assert_eq!(
        status(&ask("GET", "/api/v1/openapi.json", other).await),
        421
    );
    let bad = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: a b";
    assert_eq!(status(&ask("GET", "/api/v1/openapi.json", bad).await), 400);
}

#[tokio::test]
async fn of_many_proxies_the_outermost_trusted_one_is_believed() {
    let served = served(main_listener()).await;
    served.trusts("127.0.0.0/8");
    let ask = async |forwarded: &str, proto: &str, host: &str| {
        let head = format!(
            "GET /api/v1/openapi.json HTTP/1.1\r\nHost: inside\r\nX-Forwarded-For: {forwarded}\r\nX-Forwarded-Proto: {proto}\r\nX-Forwarded-Host: {host}"
        );
        status(&served.ask(MAIN, &head).await)
    };
    let (api, app) = ("api.gpu.lab", "app.gpu.lab");
    let chain = "198.51.100.7, 127.0.0.2";
    assert_eq!(
        ask(chain, "https, http", &format!("{api}, inside")).await,
        200
    );
    assert_eq!(
        ask(chain, "http, http", &format!("{api}, inside")).await,
        308
    );
    // What the client itself wrote stands left of what the first proxy wrote.
    let forged = "10.9.9.9, 198.51.100.7, 127.0.0.2";
    let hosts = format!("{api}, {app}, inside");
    assert_eq!(ask(forged, "https, http, http", &hosts).await, 308);
    assert_eq!(ask(forged, "http, https, http", &hosts).await, 421);
    // Proxies that are not trusted end the row.
    let strange = "198.51.100.7, 203.0.113.5";
    assert_eq!(ask(strange, "https, http", api).await, 308);
    assert_eq!(ask(chain, "https", api).await, 200);
}

#[tokio::test]
async fn of_http_2_the_authority_is_the_name() {
    let served = served(main_listener()).await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let certificate = made.cert.der().clone();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let mut tls = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.unwrap())
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front {
        tls: Some(Arc::new(tls)),
        area: MAIN,
    };
    let stopping = served.f.app.stopping.clone();
    let (router, bounds) = (served.f.router.clone(), Arc::clone(&served.f.app.http));
    tokio::spawn(serve(listener, front, router, bounds, stopping));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = connector.connect(name, stream).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let ask = async |authority: &str, host: Option<&str>| {
        let uri = format!("https://{authority}/api/v1/openapi.json");
        let builder = axum::http::Request::builder().uri(uri);
        let builder = host.iter().fold(builder, |b, host| b.header("host", *host));
        let request = builder.body(Body::empty()).unwrap();
        let answer = sender.clone().send_request(request).await.unwrap();
        assert!(
            answer.headers().contains_key("strict-transport-security") || answer.status() == 400
        );
        answer.status().as_u16()
    };
    assert_eq!(ask("api.gpu.lab", None).await, 200);
    assert_eq!(ask("API.gpu.lab:7420", None).await, 200);
    assert_eq!(ask("app.gpu.lab", None).await, 421);
    assert_eq!(ask("[::1]:7420", None).await, 200);
    assert_eq!(ask("api.gpu.lab", Some("api.gpu.lab")).await, 200);
    assert_eq!(ask("app.gpu.lab", Some("api.gpu.lab")).await, 400);
}

#[tokio::test]
async fn a_certificate_of_files_is_read_again_and_a_bad_one_changes_nothing() {
    use crate::tls::{Certificates, Pair};
    let mut f = ready().await;
    let dir = f.dir.path().to_owned();
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["gpu.lab".to_owned()]).unwrap();
        std::fs::write(dir.join("a.pem"), made.cert.pem()).unwrap();
        let key = dir.join("a.key");
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, own).unwrap();
        made.cert.der().to_vec()
    };
    let first = make();
    let file = dir.join("conf/all.toml");
    let text = |certificate: &str| {
        let (certificate, key) = (dir.join(certificate), dir.join("a.key"));
        format!(
            "[daemon.tls]\nmode = \"files\"\ncertificate = {certificate:?}\nprivate_key = {key:?}\n"
        )
    };
    std::fs::write(&file, text("a.pem")).unwrap();
    let source = Source {
        file: Some(file.clone()),
        ..Source::default()
    };
    let begun = source.read(&model::StoredSettings::default()).unwrap();
    let pair = Pair::read(&begun.config.daemon.tls).unwrap();
    let certificates = Arc::new(Certificates::new(pair));
    f.router = Router::new();
    let parts = Arc::get_mut(&mut f.app.0).expect("nobody else has it");
    parts.settings = Settings::new(source, begun, Box::new(|_| Ok(())));
    parts.certificates = Some(Arc::clone(&certificates));
    f.router = router(f.app.clone());
    let reload = async || f.post("/api/v1/settings/reload", &json!({})).await;
    assert_eq!(reload().await.status, 200);
    assert_eq!(certificates.leaf(), first);
    let second = make();
    assert_ne!(second, first);
    // The files are read when the configuration is, and at no other time.
    assert_eq!(certificates.leaf(), first);
    assert_eq!(reload().await.status, 200);
    assert_eq!(certificates.leaf(), second);
    std::fs::write(dir.join("a.pem"), "no certificate").unwrap();
    let bad = reload().await;
    assert_eq!(bad.code(), "LS-SETTING", "{}", bad.text());
    assert!(
        bad.text().contains("/values/daemon.tls.certificate"),
        "{}",
        bad.text()
    );
    std::fs::write(&file, text("none.pem")).unwrap();
    assert_eq!(reload().await.code(), "LS-SETTING");
    assert_eq!(certificates.leaf(), second);
}
