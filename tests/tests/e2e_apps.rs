//! Apps of a session as a browser sees them: an origin of their own, a code that is good once,
//! a cookie that stands for one app, and nothing of ours inside the container.

use longshore_tests::fixture::{AgentOptions, Cluster, ClusterOptions, Output};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Shows the head of each request; what wants another protocol gets its own bytes back.
const PROGRAM: &str = r#"
cr=$(printf '\r'); head=; up=
while IFS= read -r line; do
  line=${line%$cr}; [ -z "$line" ] && break
  case "$line" in [Uu]pgrade:*) up=1;; esac
  head="$head$line
"
done
if [ -n "$up" ]; then
  printf 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'
  exec cat
fi
printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n'
printf 'Set-Cookie: a=b; Domain=lab\r\nSet-Cookie: __Host-longshore=evil; Path=/\r\n\r\n%s' "$head"
"#;

/// What a browser knows.
struct Browser {
    http: Client,
    /// Where the apps are.
    origin: String,
}

impl Browser {
    async fn get(&self, url: &str, headers: &[(&'static str, &str)]) -> Response {
        self.send(Method::GET, url, headers).await
    }

    async fn send(&self, method: Method, url: &str, headers: &[(&'static str, &str)]) -> Response {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("it can be sent");
            map.insert(*name, value);
        }
        let sent = self.http.request(method, url).headers(map).send().await;
        sent.unwrap_or_else(|error| panic!("{url}: {error:?}"))
    }

    /// Opens an app by an address with a code; the cookie, and where it leads.
    async fn open(&self, url: &str) -> (String, String) {
        let opened = self.get(url, &[]).await;
        assert_eq!(opened.status(), StatusCode::SEE_OTHER);
        let text = |name| {
            let value = opened.headers().get(name).expect("it is there");
            value.to_str().expect("it is text").to_owned()
        };
        let cookie = text("set-cookie");
        for attribute in ["; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
        let cookie = cookie.split(';').next().expect("it has a value");
        (cookie.to_owned(), text("location"))
    }
}

async fn with_app() -> (Cluster, String, Browser) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let port = port.expect("some port is free").port();
    let listen = format!("[\"127.0.0.1:{port}\"]");
    let environment = [
        ("LONGSHORE__DAEMON__APPS__LISTEN", listen.as_str()),
        ("LONGSHORE__DAEMON__PUBLIC_URL", "https://127.0.0.1:7420"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut cluster = Cluster::start(ClusterOptions {
        environment: environment.into(),
        ..ClusterOptions::default()
    })
    .await;
    cluster.add_agent(AgentOptions::default()).await;
    let write = format!("cat >/tmp/app <<'END'\n{PROGRAM}\nEND\nchmod +x /tmp/app; sleep 600");
    let request = json!({
        "command": ["sh", "-c", write], "slots": {"cpu": "1", "mem": "64M"},
        "ports": [
            {"name": "web", "port": 8000, "protocol": "http",
             "command": ["nc", "-ll", "-p", "{port}", "-e", "sh", "/tmp/app"]},
            {"name": "absent", "port": 8001, "protocol": "http", "command": ["no-such-program"]},
            {"name": "plain", "port": 8002},
        ],
    });
    let session = cluster.api.submit(&request).await;
    cluster.running(&session.id).await;
    let ca = std::fs::read(cluster.data().join("ca.pem")).expect("there is an authority");
    let ca = reqwest::Certificate::from_pem(&ca).expect("it is a certificate");
    let http = Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .http1_only()
        .no_proxy()
        .build();
    let browser = Browser {
        http: http.expect("the settings are right"),
        origin: format!("https://127.0.0.1:{port}"),
    };
    (cluster, session.id, browser)
}

async fn access(cluster: &Cluster, id: &str, app: &str) -> Value {
    let path = format!("/api/v1/sessions/{id}/apps/{app}/access");
    let none = json!({});
    let sent = cluster.api.send(Method::POST, &path, Some(&none), None);
    let (status, answer) = sent.await.expect("it answers");
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_opened_by_a_code_and_sees_nothing_of_ours() {
    let (cluster, id, browser) = with_app().await;
    let web = access(&cluster, &id, "web").await;
    let address = web["open"]
        .as_str()
        .expect("a browser can open it")
        .to_owned();
    assert!(address.starts_with(&browser.origin), "{address}");
    let unopened = browser.get(&format!("{}/", browser.origin), &[]).await;
    assert_eq!(unopened.status(), StatusCode::UNAUTHORIZED);
    let (cookie, to) = browser.open(&address).await;
    assert_eq!(to, "/");
    let again = browser.get(&address, &[]).await;
    assert_eq!(
        again.status(),
        StatusCode::UNAUTHORIZED,
        "a code is good once"
    );

    // It is started by its first request.
    let url = format!("{}/a%20b?c=d", browser.origin);
    let cookies = format!("x=y; {cookie}; __Host-longshore=lss_secret");
    let sent = [
        ("cookie", cookies.as_str()),
        ("authorization", "Bearer top.secret"),
        ("x-longshore-csrf", "secret"),
        ("x-forwarded-for", "192.0.2.7"),
        ("origin", browser.origin.as_str()),
    ];
    let shown = browser.get(&url, &sent).await;
    assert_eq!(shown.status(), StatusCode::OK);
    let set: Vec<_> = shown.headers().get_all("set-cookie").iter().collect();
    assert_eq!(set, ["a=b"], "it sets cookies for itself alone");
    let head = shown.text().await.expect("it is text");
    for line in [
        "GET /a%20b?c=d HTTP/1.1\n",
        "cookie: x=y\n",
        "host: 127.0.0.1:8000\n",
        "origin: http://127.0.0.1:8000\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let lower = head.to_ascii_lowercase();
    for ours in [
        "longshore",
        "secret",
        "authorization",
        "forwarded",
        "192.0.2.7",
    ] {
        assert!(!lower.contains(ours), "{head}");
    }

    let with_cookie = ("cookie", cookie.as_str());
    let other_host = browser
        .get(&url, &[with_cookie, ("host", "127.0.0.1:1")])
        .await;
    assert_eq!(other_host.status(), StatusCode::MISDIRECTED_REQUEST);
    let foreign = [with_cookie, ("origin", "https://evil.example")];
    let foreign = browser.send(Method::POST, &url, &foreign).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);

    // By the address of the API, deeper into it.
    let listed: Value = cluster.api.get(&format!("/sessions/{id}/apps")).await;
    let listed = listed["items"][0]["url"].as_str().expect("it has one");
    assert_eq!(listed, format!("https://127.0.0.1:7420/s/{id}/web/"));
    let made = cluster.cli(&["key", "create", "-o", "json"]).await;
    let keys: Value = serde_json::from_str(&made.stdout).expect("it is JSON");
    let text = |name: &str| keys[name].as_str().expect("it is a text").to_owned();
    let bearer = format!("Bearer {}.{}", text("access_key"), text("secret_key"));
    let deep = format!("{}/s/{id}/web/lab/tree?x=1", cluster.api.url());
    let anybody = browser.get(&deep, &[]).await;
    assert_eq!(anybody.status(), StatusCode::UNAUTHORIZED);
    let sent_on = browser.get(&deep, &[("authorization", &bearer)]).await;
    assert_eq!(sent_on.status(), StatusCode::SEE_OTHER);
    let address = sent_on.headers()["location"].to_str().expect("it is text");
    let (second, to) = browser.open(address).await;
    assert_eq!(to, "/lab/tree?x=1");

    // Another protocol, until the right of who opened it is gone.
    let upgrade = [
        ("cookie", second.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "echo"),
    ];
    let url = format!("{}/", browser.origin);
    let foreign = [
        upgrade[0],
        upgrade[1],
        upgrade[2],
        ("origin", "https://evil.example"),
    ];
    let foreign = browser.get(&url, &foreign).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let switched = browser.get(&url, &upgrade).await;
    assert_eq!(switched.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut socket = switched.upgrade().await.expect("it is another protocol");
    socket.write_all(b"hello").await.expect("it takes bytes");
    let mut echoed = [0; 5];
    socket
        .read_exact(&mut echoed)
        .await
        .expect("it gives them back");
    assert_eq!(&echoed, b"hello");
    let off = cluster
        .cli(&["key", "deactivate", "-y", &text("access_key")])
        .await;
    assert_eq!(off.code, 0, "{off:?}");
    let mut rest = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(8), socket.read_to_end(&mut rest)).await;
    assert!(
        cut.is_ok(),
        "it ends within five seconds, and some for a busy machine"
    );
    let lost = browser.get(&url, &[("cookie", &second)]).await;
    assert_eq!(lost.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        browser.get(&url, &[with_cookie]).await.status(),
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_shown_says_why() {
    let (cluster, id, browser) = with_app().await;
    let plain = access(&cluster, &id, "plain").await;
    assert!(plain.get("open").is_none(), "{plain}");
    let opened = cluster.cli(&["open", "--print", &id, "plain"]).await;
    assert_eq!(opened.code, 6, "{opened:?}");
    let Output { code, stdout, .. } = cluster.cli(&["open", "--print", &id, "absent"]).await;
    assert_eq!(code, 0);
    let (cookie, _) = browser.open(stdout.trim()).await;
    let url = format!("{}/", browser.origin);
    let absent = browser.get(&url, &[("cookie", &cookie)]).await;
    assert_eq!(absent.status(), StatusCode::CONFLICT);
    assert_eq!(
        absent.headers()["content-security-policy"],
        "default-src 'none'; frame-ancestors 'none'"
    );
    let page = absent.text().await.expect("it is text");
    assert!(page.contains("absent is not in its image"), "{page}");

    let stopped = cluster.cli(&["stop", "--grace", "1s", &id]).await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    cluster.ended(&id, Duration::from_secs(40)).await;
    let over = browser.get(&url, &[("cookie", &cookie)]).await;
    assert_eq!(over.status(), StatusCode::CONFLICT);
    let page = over.text().await.expect("it is text");
    assert!(page.contains("The session does not run"), "{page}");
}
