//! Answers to `GET /metrics`, and nothing else of HTTP: a library for the rest of it would cost an
//! agent more memory than all that it shows.

use longshore_common::metrics::MEDIA_TYPE;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// Bytes of a request: those of a scraper have some hundred.
const MOST: usize = 8 * 1024;
/// A request and its answer take at most this long.
const LIMIT: Duration = Duration::from_secs(10);
/// The head of a request has come after this time: those of scrapers come at once, and who says
/// nothing takes the place of others.
const HEAD_LIMIT: Duration = Duration::from_secs(2);
/// Connections at a time; further ones wait in the kernel. Each takes at most [`MOST`] and a page.
const AT_A_TIME: usize = 32;
/// An address that is taken is tried again after this time: long enough to cost nothing, short
/// enough that an agent which follows on another is seen within a few scrapes.
const AGAIN: Duration = Duration::from_secs(30);
/// Pause when the system gives no more descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers at an address until it is dropped. One that is taken is said once, also to `tell`, and
/// tried again until it is free.
pub async fn serve(
    listen: SocketAddr,
    page: impl Fn() -> String + Send + Sync + 'static,
    tell: impl AsyncFn(String),
) {
    let page = Arc::new(page);
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) if told => tracing::debug!(%listen, %error, "no metrics yet"),
            Err(error) => {
                warn!(%listen, %error, "metrics cannot be served (agent.metrics.listen); it is tried again");
                tell(format!("metrics cannot be served at {listen}: {error}")).await;
                told = true;
            }
        }
        tokio::time::sleep(AGAIN).await;
    };
    if told {
        info!(%listen, "metrics are served");
    }
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let _place = place;
            // Who asks too slowly, or goes away, gets nothing.
            let _ = tokio::time::timeout(LIMIT, answer(stream, &*page)).await;
        });
    }
}

async fn answer(mut stream: TcpStream, page: &(impl Fn() -> String + Sync)) -> std::io::Result<()> {
    let line = tokio::time::timeout(HEAD_LIMIT, first_line(&mut stream));
    let Ok(Some(line)) = line.await.unwrap_or(Ok(None)) else {
        return Ok(());
    };
    let asked = asked(&line);
    let (status, mut body) = match asked {
        Asked::Page | Asked::Head => ("200 OK", page()),
        Asked::Elsewhere => ("404 Not Found", "There is GET /metrics here.\n".to_owned()),
        Asked::Otherwise => (
            "405 Method Not Allowed",
            "There is GET /metrics here.\n".to_owned(),
        ),
        Asked::Nonsense => ("400 Bad Request", "This is no request.\n".to_owned()),
    };
    let kind = match status {
        "200 OK" => MEDIA_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    let allow = match status.starts_with("405") {
        true => "Allow: GET, HEAD\r\n",
        false => "",
    };
    let length = body.len();
    if asked == Asked::Head {
        body.clear(); // its length is that of the page
    }
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The first line of a request, once all of its head has come: who is answered before may see
/// the connection reset instead. None where it ends before, or is too long.
async fn first_line(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = stream.read(&mut piece).await?;
        if read == 0 || head.len() + read > MOST {
            return Ok(None);
        }
        head.extend_from_slice(&piece[..read]);
    }
    let line = head.split(|byte| *byte == b'\r').next();
    Ok(line.map(<[u8]>::to_vec))
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Page,
    Head,
    Elsewhere,
    Otherwise,
    Nonsense,
}

/// What the first line of a request asks for.
fn asked(line: &[u8]) -> Asked {
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Asked::Nonsense;
    };
    if !version.starts_with(b"HTTP/1.") {
        return Asked::Nonsense;
    }
    let path = target.split(|byte| *byte == b'?').next();
    match (path, *method) {
        (Some(b"/metrics"), b"GET") => Asked::Page,
        (Some(b"/metrics"), b"HEAD") => Asked::Head,
        (Some(b"/metrics"), _) => Asked::Otherwise,
        _ => Asked::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_thing_is_asked_for() {
        for (line, expected) in [
            ("GET /metrics HTTP/1.1", Asked::Page),
            ("GET /metrics?x=1 HTTP/1.0", Asked::Page),
            ("HEAD /metrics HTTP/1.1", Asked::Head),
            ("POST /metrics HTTP/1.1", Asked::Otherwise),
            ("GET / HTTP/1.1", Asked::Elsewhere),
            ("GET /metrics/x HTTP/1.1", Asked::Elsewhere),
            ("GET http://x/metrics HTTP/1.1", Asked::Elsewhere),
            ("GET /metrics HTTP/2", Asked::Nonsense),
            ("GET /metrics", Asked::Nonsense),
            ("", Asked::Nonsense),
        ] {
            assert_eq!(asked(line.as_bytes()), expected, "{line}");
        }
    }

    async fn free() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }

    async fn ask(at: SocketAddr, text: &str) -> String {
        let mut stream = loop {
            match TcpStream::connect(at).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await, // it does not listen yet
            }
        };
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // What is too long is cut, and the answer with it.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_scraper_gets_the_page_and_others_nothing() {
        let at = free().await;
        let server = tokio::spawn(serve(at, || "up 1\n".to_owned(), async |_| ()));
        let page = ask(at, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("Content-Length: 5\r\n"), "{page}");
        assert!(page.ends_with("\r\n\r\nup 1\n"), "{page}");
        let head = ask(at, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"));
        assert!(head.contains("Content-Length: 5\r\n"), "{head}");
        let other = ask(at, "DELETE /metrics HTTP/1.1\r\n\r\n").await;
        assert!(other.contains("405 ") && other.contains("Allow: GET, HEAD"));
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MOST));
        assert_eq!(ask(at, &long).await, "");
        let page = ask(at, "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(page.ends_with("up 1\n"), "it goes on: {page}");
        server.abort();
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_away() {
        let at = free().await;
        let server = tokio::spawn(serve(at, || "up 1\n".to_owned(), async |_| ()));
        let mut silent = Vec::new();
        while silent.len() < AT_A_TIME + 8 {
            match TcpStream::connect(at).await {
                Ok(stream) => silent.push(stream),
                Err(_) => tokio::task::yield_now().await, // it does not listen yet
            }
        }
        // They have all places, for HEAD_LIMIT; a scraper waits as long as this at most.
        let page = tokio::time::timeout(LIMIT, ask(at, "GET /metrics HTTP/1.1\r\n\r\n"));
        let page = page.await.expect("it is answered in time");
        assert!(page.ends_with("up 1\n"), "{page}");
        server.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_taken_is_told_once_and_tried_again() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = taken.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let asks = Arc::new(AtomicUsize::new(0));
        let (tells, counts) = (Arc::clone(&told), Arc::clone(&asks));
        let page = move || {
            counts.fetch_add(1, Ordering::SeqCst);
            "up 1\n".to_owned()
        };
        let tell = async move |text| tells.lock().unwrap().push(text);
        let server = tokio::spawn(serve(at, page, tell));
        // Long enough for several tries, in virtual time.
        tokio::time::sleep(5 * AGAIN).await;
        assert_eq!(told.lock().unwrap().len(), 1);
        assert!(told.lock().unwrap()[0].contains(&at.to_string()));
        drop(taken);
        tokio::time::sleep(2 * AGAIN).await;
        let page = ask(at, "GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(page.ends_with("up 1\n"), "{page}");
        assert_eq!(
            (asks.load(Ordering::SeqCst), told.lock().unwrap().len()),
            (1, 1)
        );
        server.abort();
    }
}
