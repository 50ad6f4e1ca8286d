//! The one way in which the coordinator calls somebody else over HTTP.
//!
//! A name is resolved once, and the address that was judged is the one that is called. Loopback,
//! link-local, unspecified, multicast and the machine's own addresses are refused unless
//! `daemon.egress.allow` names them; private networks are only for targets that a superadmin or
//! a file of the configuration names. Where a proxy stands in between, it resolves the names: then
//! an address is judged where one is called by it, and of names those that mean this machine.
//! What only this machine reaches, and is allowed, is called past the proxy. Errors say of which kind they are and nothing of what was
//! answered, so that nobody can look around with this client.

use crate::rates::Network;
use bytes::Bytes;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, Url};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use url::Host;

/// A call takes no longer in all, redirects included.
const TIME: Duration = Duration::from_secs(10);
/// Largest answer, in bytes. Nothing is unpacked, so it is as large as it came.
const ANSWER: usize = 5 << 20;
/// Redirects that are followed where they are at all.
const REDIRECTS: u8 = 3;

/// Who named the target of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// A superadmin, or a file of the configuration: private networks are allowed.
    Superadmin,
    /// Somebody else.
    User,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The address is not one that may be called, by its form.
    #[error("the address is not an http or https address")]
    Address,
    /// The name has no address.
    #[error("the name is not known")]
    Name,
    /// None of its addresses may be called.
    #[error("the address is not allowed")]
    Refused,
    /// There is no connection, or it broke off; a certificate that is not good is one.
    #[error("no connection")]
    Connection,
    /// There should be a proxy, and what it is cannot be read.
    #[error("the proxy is not known")]
    Proxy,
    /// No whole answer in time.
    #[error("no answer within 10 s")]
    Time,
    /// The answer is too large.
    #[error("the answer is larger than 5 MiB")]
    Size,
    /// More redirects than are followed.
    #[error("too many redirects")]
    Redirects,
}

/// What may be called although it would be refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    networks: Vec<Network>,
    hosts: Vec<String>,
}

impl Allowed {
    /// From entries that are addresses, networks or host names.
    #[must_use]
    pub fn of(entries: &[String]) -> Self {
        let mut allowed = Self::default();
        for entry in entries {
            match entry.parse::<Network>() {
                Ok(network) => allowed.networks.push(network),
                Err(_) => allowed.hosts.push(entry.to_ascii_lowercase()),
            }
        }
        allowed
    }

    fn names(&self, host: &str, address: IpAddr) -> bool {
        self.hosts.iter().any(|name| name == host)
            || self.networks.iter().any(|network| network.holds(address))
    }
}

/// Whether an entry of `daemon.egress.allow` is an address, a network or a host name.
#[must_use]
pub fn is_entry(text: &str) -> bool {
    let name = !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    text.parse::<Network>().is_ok() || (name && !text.contains('/'))
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Address.
    pub url: Url,
    /// Headers; they go to the host of `url` alone.
    pub headers: HeaderMap,
    /// Body; empty = none.
    pub body: Bytes,
    /// Who named the address.
    pub named_by: NamedBy,
    /// Whether redirects are followed, three at most, each judged again.
    pub follow: bool,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Status.
    pub status: u16,
    /// The body, at most 5 MiB.
    pub body: Bytes,
}

/// The proxy that calls go through.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

impl ProxyUrl {
    /// `http://HOST:PORT`, perhaps with user and password before the host.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url: Url = text.parse().ok()?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        plain.then_some(Self(url))
    }
}

// Its password must not reach a log by way of `{:?}`.
impl std::fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        f.debug_tuple("ProxyUrl").field(&host).finish()
    }
}

/// By which way calls go out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Way {
    /// Straight to what is called.
    #[default]
    Direct,
    /// Through a proxy: by `CONNECT` for https, as a request to it for http.
    Proxy(ProxyUrl),
    /// There should be a proxy, and what it is cannot be read: nothing is called.
    None,
}

/// What is called, once it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// This address.
    Address(SocketAddr),
    /// What the proxy finds.
    ByProxy,
}

/// Whether a name means the machine it is resolved on.
fn is_own_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// What is called through a proxy, which finds the addresses of names itself.
fn target_by_proxy(
    url: &Url,
    named_by: NamedBy,
    allowed: &Allowed,
    own: impl Fn(IpAddr) -> bool,
) -> Result<Target, OutboundError> {
    let port = url.port_or_known_default().ok_or(OutboundError::Address)?;
    let address = match url.host().ok_or(OutboundError::Address)? {
        Host::Ipv4(v4) => IpAddr::V4(v4),
        Host::Ipv6(v6) => IpAddr::V6(v6),
        Host::Domain(name) => {
            let name = name.to_ascii_lowercase();
            let listed = allowed.hosts.contains(&name);
            return match is_own_name(&name) && !listed {
                true => Err(OutboundError::Refused),
                false => Ok(Target::ByProxy),
            };
        }
    };
    let host = url.host_str().unwrap_or_default();
    if !may_call((host, address), named_by, allowed, &own) {
        return Err(OutboundError::Refused);
    }
    let address = address.to_canonical();
    // Of the proxy it would be another machine.
    match is_closed(address) || own(address) {
        true => Ok(Target::Address(SocketAddr::from((address, port)))),
        false => Ok(Target::ByProxy),
    }
}

/// The client. Clones share everything. Certificates are verified by what the machine trusts.
#[derive(Debug, Clone, Default)]
pub struct Outbound {
    allowed: Arc<Allowed>,
    way: Arc<Way>,
}

/// Whether an address is one of this machine: only such a one can be listened on.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The IPv4 address that an IPv6 address stands for, where it does.
fn meant(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let low = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff | 0) if (g, h) != (0, 0) && (g, h) != (0, 1) => Some(low(g, h)),
        (0x64, 0xff9b, 0, 0, 0, 0) => Some(low(g, h)), // NAT64
        (0x2002, ..) => Some(low(b, c)),               // 6to4
        _ => None,
    }
}

/// Never called unless it is allowed by name.
fn is_closed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            // 0.0.0.0/8 is this machine, 240.0.0.0/4 nobody.
            first == 0
                || first >= 240
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.segments()[0] & 0xffc0 == 0xfe80
                || meant(v6).is_some_and(|v4| is_closed(IpAddr::V4(v4)))
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || (a == 100 && b & 0xc0 == 64) // shared by providers
        }
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xfe00 == 0xfc00
                || v6.segments()[0] & 0xffc0 == 0xfec0
                || meant(v6).is_some_and(|v4| is_private(IpAddr::V4(v4)))
        }
    }
}

/// Whether an address may be called.
fn may_call(
    (host, address): (&str, IpAddr),
    named_by: NamedBy,
    allowed: &Allowed,
    own: impl Fn(IpAddr) -> bool,
) -> bool {
    let address = address.to_canonical();
    allowed.names(host, address)
        || !(is_closed(address)
            || (is_private(address) && named_by == NamedBy::User)
            || own(address))
}

/// Whether an address is one that this client takes at all.
///
/// # Errors
/// [`OutboundError::Address`].
pub fn check_url(url: &Url) -> Result<(), OutboundError> {
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    match plain {
        true => Ok(()),
        false => Err(OutboundError::Address),
    }
}

impl Outbound {
    /// A client. The process must have installed a provider of cryptography.
    #[must_use]
    pub fn new(allowed: Allowed) -> Self {
        Self::by(allowed, Way::Direct)
    }

    /// The same by a way.
    #[must_use]
    pub fn by(allowed: Allowed, way: Way) -> Self {
        Self {
            allowed: Arc::new(allowed),
            way: Arc::new(way),
        }
    }

    /// Calls, and reads the whole answer.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn call(&self, call: Call) -> Result<Answered, OutboundError> {
        let until = Instant::now() + TIME;
        let whole = self.follow(call);
        let ended = tokio::time::timeout_at(until, whole).await;
        ended.unwrap_or(Err(OutboundError::Time))
    }

    async fn follow(&self, mut call: Call) -> Result<Answered, OutboundError> {
        let mut left = match call.follow {
            true => REDIRECTS,
            false => 0,
        };
        loop {
            let response = self.once(&call).await?;
            let status = response.status();
            let to = response.headers().get(LOCATION);
            if call.follow && status.is_redirection() && to.is_some() {
                left = left.checked_sub(1).ok_or(OutboundError::Redirects)?;
                let to = to.and_then(|to| to.to_str().ok());
                let to = to.and_then(|to| call.url.join(to).ok());
                let to = to.ok_or(OutboundError::Address)?;
                if to.origin() != call.url.origin() {
                    // What was for one host is not for another.
                    call.headers = HeaderMap::new();
                }
                if status.as_u16() == 303 {
                    call.method = Method::GET;
                    call.body = Bytes::new();
                }
                call.url = to;
                continue;
            }
            let body = read(response).await?;
            let status = status.as_u16();
            return Ok(Answered { status, body });
        }
    }

    /// What will be called.
    async fn target(&self, url: &Url, named_by: NamedBy) -> Result<Target, OutboundError> {
        check_url(url)?;
        match &*self.way {
            Way::None => Err(OutboundError::Proxy),
            Way::Direct => self.address(url, named_by).await.map(Target::Address),
            Way::Proxy(_) => {
                let found = target_by_proxy(url, named_by, &self.allowed, is_own)?;
                match (found, url.host()) {
                    // An allowed name of this machine.
                    (Target::ByProxy, Some(Host::Domain(name))) if is_own_name(name) => {
                        self.address(url, named_by).await.map(Target::Address)
                    }
                    (found, _) => Ok(found),
                }
            }
        }
    }

    /// The address that will be called.
    async fn address(&self, url: &Url, named_by: NamedBy) -> Result<SocketAddr, OutboundError> {
        let port = url.port_or_known_default().ok_or(OutboundError::Address)?;
        let found: Vec<SocketAddr> = match url.host().ok_or(OutboundError::Address)? {
            Host::Ipv4(v4) => vec![SocketAddr::from((v4, port))],
            Host::Ipv6(v6) => vec![SocketAddr::from((v6, port))],
            Host::Domain(name) => tokio::net::lookup_host((name, port))
                .await
                .map_err(|_| OutboundError::Name)?
                .collect(),
        };
        if found.is_empty() {
            return Err(OutboundError::Name);
        }
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let mut found = found.into_iter();
        found
            .find(|one| may_call((&host, one.ip()), named_by, &self.allowed, is_own))
            .ok_or(OutboundError::Refused)
    }

    async fn once(&self, call: &Call) -> Result<reqwest::Response, OutboundError> {
        let target = self.target(&call.url, call.named_by).await?;
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")));
        match (target, call.url.host(), &*self.way) {
            (Target::Address(address), Some(Host::Domain(name)), _) => {
                client = client.resolve(name, address);
            }
            (Target::ByProxy, _, Way::Proxy(ProxyUrl(url))) => {
                let proxy = reqwest::Proxy::all(url.clone());
                client = client.proxy(proxy.map_err(|_| OutboundError::Connection)?);
            }
            _ => (),
        }
        let client = client.build().map_err(|_| OutboundError::Connection)?;
        let mut request = client
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone());
        if !call.body.is_empty() {
            request = request.body(call.body.clone());
        }
        request
            .send()
            .await
            .map_err(|error| match error.is_timeout() {
                true => OutboundError::Time,
                false => OutboundError::Connection,
            })
    }
}

async fn read(mut response: reqwest::Response) -> Result<Bytes, OutboundError> {
    let mut body = Vec::new();
    loop {
        let piece = response.chunk().await;
        match piece.map_err(|_| OutboundError::Connection)? {
            Some(piece) if body.len() + piece.len() > ANSWER => return Err(OutboundError::Size),
            Some(piece) => body.extend_from_slice(&piece),
            None => return Ok(body.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn may(address: &str, named_by: NamedBy, allow: &[&str]) -> bool {
        let allowed: Vec<String> = allow.iter().map(|a| (*a).to_owned()).collect();
        let address: IpAddr = address.parse().unwrap();
        let own = |one: IpAddr| one == IpAddr::from([203, 0, 113, 9]);
        may_call(("h.lab", address), named_by, &Allowed::of(&allowed), own)
    }

    #[test]
    fn addresses_that_are_never_called() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "203.0.113.9",
        ] {
            assert!(!may(address, NamedBy::Superadmin, &[]), "{address}");
        }
        assert!(may("203.0.113.10", NamedBy::User, &[]));
        assert!(may("2001:db8::1", NamedBy::User, &[]));
    }

    #[test]
    fn private_networks_are_for_superadmins_and_files() {
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(may(address, NamedBy::Superadmin, &[]), "{address}");
            assert!(!may(address, NamedBy::User, &[]), "{address}");
        }
    }

    #[test]
    fn what_the_configuration_allows_is_called() {
        assert!(may("127.0.0.1", NamedBy::User, &["127.0.0.0/8"]));
        assert!(may("127.0.0.1", NamedBy::User, &["H.lab"]));
        assert!(!may(
            "127.0.0.1",
            NamedBy::User,
            &["other.lab", "10.0.0.0/8"]
        ));
        assert!(may("::ffff:127.0.0.1", NamedBy::User, &["127.0.0.1"]));
        assert!(is_entry("10.0.0.0/8") && is_entry("h.lab") && is_entry("::1"));
        assert!(!is_entry("http://h") && !is_entry("") && !is_entry("10.0.0.0/99"));
    }

    fn client(allow: &[&str]) -> Outbound {
        let _ = rustls::crypto::ring::default_provider().install_default(); // once is enough
        let allowed: Vec<String> = allow.iter().map(|a| (*a).to_owned()).collect();
        Outbound::new(Allowed::of(&allowed))
    }

    fn call(url: &str, follow: bool) -> Call {
        Call {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            named_by: NamedBy::Superadmin,
            follow,
        }
    }

    /// A server that gives every caller the same answer.
    async fn server(answer: String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut taken = [0; 1024];
                    let _ = socket.read(&mut taken).await;
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn every_spelling_of_loopback_is_refused() {
        let port = server("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "[::ffff:127.0.0.1]",
            "localhost",
        ] {
            let url = format!("http://{host}:{port}/");
            let refused = client(&[]).call(call(&url, false)).await.unwrap_err();
            assert_eq!(refused, OutboundError::Refused, "{host}");
        }
        let url = format!("http://2130706433:{port}/");
        let allowed = client(&["127.0.0.1"]).call(call(&url, false)).await;
        assert_eq!(allowed.unwrap().status, 204);
        for url in ["ftp://h/", "http://u:p@h/", "file:///etc/passwd"] {
            let refused = client(&[]).call(call(url, false)).await.unwrap_err();
            assert_eq!(refused, OutboundError::Address, "{url}");
        }
    }

    #[tokio::test]
    async fn redirects_are_judged_again_and_bounded() {
        let away = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let port = server(away.to_owned()).await;
        let url = format!("http://127.0.0.1:{port}/");
        let outbound = client(&["127.0.0.1"]);
        let refused = outbound.call(call(&url, true)).await.unwrap_err();
        assert_eq!(refused, OutboundError::Refused);
        let shown = outbound.call(call(&url, false)).await.unwrap();
        assert_eq!(shown.status, 302, "not followed where it is not wanted");
        let circle = "HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let port = server(circle.to_owned()).await;
        let url = format!("http://127.0.0.1:{port}/");
        let ended = outbound.call(call(&url, true)).await.unwrap_err();
        assert_eq!(ended, OutboundError::Redirects);
    }

    #[tokio::test]
    async fn an_answer_has_a_largest_size() {
        let body = "x".repeat(ANSWER + 1);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let port = server(answer).await;
        let url = format!("http://127.0.0.1:{port}/");
        let ended = client(&["127.0.0.1"]).call(call(&url, false)).await;
        assert_eq!(ended.unwrap_err(), OutboundError::Size);
    }

    /// A proxy that keeps what it is asked, answers 204 to requests and 403 to `CONNECT`.
    async fn proxy() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                let mut piece = [0; 1024];
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read(&mut piece).await {
                        Ok(0) | Err(_) => break,
                        Ok(n) => head.extend_from_slice(&piece[..n]),
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let answer = match head.starts_with("CONNECT ") {
                    true => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
                    false => "HTTP/1.1 204 No Content\r\n\r\n",
                };
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = told.send(head);
            }
        });
        (format!("http://gpu:p%40ss@127.0.0.1:{port}"), asked)
    }

    fn by_proxy(url: &str, allow: &[&str]) -> Outbound {
        let _ = rustls::crypto::ring::default_provider().install_default(); // once is enough
        let allowed: Vec<String> = allow.iter().map(|a| (*a).to_owned()).collect();
        let proxy = ProxyUrl::parse(url).unwrap();
        Outbound::by(Allowed::of(&allowed), Way::Proxy(proxy))
    }

    #[tokio::test]
    async fn a_proxy_finds_names_and_hears_its_password() {
        let (url, mut asked) = proxy().await;
        let client = by_proxy(&url, &[]);
        let answer = client
            .call(call("http://tickets.invalid/a?b=c", false))
            .await;
        assert_eq!(answer.unwrap().status, 204);
        let head = asked.recv().await.unwrap().to_ascii_lowercase();
        assert!(
            head.starts_with("get http://tickets.invalid/a?b=c http/1.1\r\n"),
            "{head}"
        );
        // gpu:p@ss
        assert!(
            head.contains("proxy-authorization: basic z3b1onbac3m=\r\n"),
            "{head}"
        );
        let refused = client.call(call("https://tickets.invalid/", false)).await;
        assert_eq!(refused.unwrap_err(), OutboundError::Connection);
        let head = asked.recv().await.unwrap();
        assert!(
            head.starts_with("CONNECT tickets.invalid:443 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.to_ascii_lowercase().contains("proxy-authorization: "),
            "{head}"
        );
    }

    #[tokio::test]
    async fn what_means_this_machine_is_not_asked_of_a_proxy() {
        let (url, mut asked) = proxy().await;
        let port = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned()).await;
        let client = by_proxy(&url, &[]);
        for host in [
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "[::1]",
            "169.254.169.254",
        ] {
            let said = client
                .call(call(&format!("http://{host}:{port}/"), false))
                .await;
            assert_eq!(said.unwrap_err(), OutboundError::Refused, "{host}");
        }
        let mut users = call("http://10.0.0.1/", false);
        users.named_by = NamedBy::User;
        assert_eq!(
            client.call(users).await.unwrap_err(),
            OutboundError::Refused
        );
        // What is allowed of it would be another machine to the proxy.
        let allowed = by_proxy(&url, &["127.0.0.1", "localhost"]);
        for host in ["127.0.0.1", "localhost"] {
            let answer = allowed
                .call(call(&format!("http://{host}:{port}/"), false))
                .await;
            assert_eq!(answer.unwrap().body, "hi", "{host}");
        }
        assert!(asked.try_recv().is_err());
    }
}
