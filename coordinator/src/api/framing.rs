//! Refuses requests of HTTP/1 that say twice how long they are: by `Content-Length` and by
//! `Transfer-Encoding`. Two programs in a row may each believe another one, and what is the body
//! to the first is a request to the second.
//!
//! The HTTP library takes the one and drops the other before anybody sees the headers, so it is
//! looked for in the bytes: [`Framing`] follows where requests begin and end, and makes the second
//! of the two names one that no reader takes. The library then answers 400 and closes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const LENGTH: &[u8] = b"content-length";
const ENCODING: &[u8] = b"transfer-encoding";
const UPGRADE: &[u8] = b"upgrade";
/// So many letters of a name tell it from all others.
const NAME: usize = ENCODING.len() + 1;
/// No name of a header has it, and no reader passes over it.
const NO_NAME: u8 = 0;

/// Where in a request the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before or in the request line.
    Request {
        /// Something of it was there.
        begun: bool,
    },
    /// In the name of a header.
    Name,
    /// Behind it.
    Value(Header),
    /// In a body with so many bytes left.
    Body(u64),
    /// In the size of a chunk.
    Size {
        /// The size so far.
        size: u64,
        /// Its digits are over.
        over: bool,
    },
    /// In a chunk with so many bytes left.
    Chunk(u64),
    /// In what ends a chunk.
    ChunkEnd,
    /// In a line behind the last chunk.
    Trailer {
        /// The line has letters.
        begun: bool,
        /// The last of them is one that a line feed makes an end of. The library takes no other
        /// end of these lines.
        ends: bool,
    },
    /// Behind the last request: what comes is none any more.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Length,
    Encoding,
    Other,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    /// The name of the present header, in lower case, as far as it matters.
    name: [u8; NAME],
    named: usize,
    /// What the present request said of its length.
    length: Option<u64>,
    encoded: bool,
    /// It asks for another protocol on this connection.
    upgrades: bool,
}

impl Framing {
    /// At the begin of a connection.
    pub(super) const fn new() -> Self {
        Self {
            at: At::Request { begun: false },
            name: [0; NAME],
            named: 0,
            length: None,
            encoded: false,
            upgrades: false,
        }
    }

    /// Looks at what is answered. Where a request asked for another protocol and is granted it,
    /// what follows is not ours to look at, still less to change.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        if self.upgrades && bytes.starts_with(b"HTTP/1.1 101") {
            self.at = At::Over;
        }
    }

    /// Looks at what came, and spoils what is to be refused.
    pub(super) fn look(&mut self, mut bytes: &mut [u8]) {
        while let Some((byte, rest)) = bytes.split_first_mut() {
            if self.at == At::Over {
                return;
            }
            // What stands in bodies is passed over at once.
            if let At::Body(left) | At::Chunk(left) = &mut self.at {
                let all = rest.len() as u64 + 1;
                let skipped = all.min(*left);
                *left -= skipped;
                if *left == 0 {
                    self.at = match self.at {
                        At::Chunk(_) => At::ChunkEnd,
                        _ => At::Request { begun: false },
                    };
                }
                // Not more than there are: the smaller of the two.
                let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
                bytes = rest.get_mut(skipped - 1..).unwrap_or_default();
                continue;
            }
            self.step(byte);
            bytes = rest;
        }
    }

    fn step(&mut self, byte: &mut u8) {
        let end = *byte == b'\n';
        self.at = match self.at {
            At::Request { begun: true } if end => {
                (self.named, self.length, self.encoded) = (0, None, false);
                self.upgrades = false;
                At::Name
            }
            // Empty lines in front of a request do not count.
            At::Request { begun } => At::Request {
                begun: begun || !matches!(*byte, b'\r' | b'\n'),
            },
            At::Name => self.name(byte),
            At::Value(_) if end => {
                self.named = 0;
                At::Name
            }
            At::Value(Header::Length) => {
                self.digit(*byte);
                At::Value(Header::Length)
            }
            At::Size { size: 0, .. } if end => At::Trailer {
                begun: false,
                ends: false,
            },
            At::Size { size, .. } if end => At::Chunk(size),
            At::Size { size, over } => match char::from(*byte).to_digit(16) {
                Some(digit) if !over => At::Size {
                    size: size.saturating_mul(16).saturating_add(digit.into()),
                    over,
                },
                _ => At::Size { size, over: true },
            },
            At::ChunkEnd if end => At::Size {
                size: 0,
                over: false,
            },
            At::Trailer {
                begun: false,
                ends: true,
            } if end => At::Request { begun: false },
            At::Trailer { ends: true, .. } if end => At::Trailer {
                begun: false,
                ends: false,
            },
            At::Trailer { begun, .. } => At::Trailer {
                begun: begun || *byte != b'\r',
                ends: *byte == b'\r',
            },
            same @ (At::Value(_) | At::ChunkEnd | At::Body(_) | At::Chunk(_) | At::Over) => same,
        };
    }

    fn name(&mut self, byte: &mut u8) -> At {
        match *byte {
            b'\n' => self.body(),
            b':' => {
                let header = match &self.name[..self.named] {
                    LENGTH => Header::Length,
                    ENCODING => Header::Encoding,
                    UPGRADE => {
                        self.upgrades = true;
                        Header::Other
                    }
                    _ => Header::Other,
                };
                let twice = match header {
                    Header::Length => self.encoded,
                    Header::Encoding => self.length.is_some(),
                    Header::Other => false,
                };
                match header {
                    Header::Length => self.length = Some(0),
                    Header::Encoding => self.encoded = true,
                    Header::Other => (),
                }
                if twice {
                    *byte = NO_NAME;
                }
                At::Value(header)
            }
            b'\r' => At::Name,
            letter => {
                if let Some(place) = self.name.get_mut(self.named) {
                    *place = letter.to_ascii_lowercase();
                    self.named += 1;
                }
                At::Name
            }
        }
    }

    fn digit(&mut self, byte: u8) {
        if let (Some(digit), Some(length)) = (char::from(byte).to_digit(10), &mut self.length) {
            *length = length.saturating_mul(10).saturating_add(digit.into());
        }
    }

    /// What follows the headers.
    const fn body(&self) -> At {
        match (self.encoded, self.length) {
            (true, _) => At::Size {
                size: 0,
                over: false,
            },
            (false, None | Some(0)) => At::Request { begun: false },
            (false, Some(length)) => At::Body(length),
        }
    }
}

/// A stream whose requests are looked at before anybody reads them.
#[derive(Debug)]
pub(super) struct Framed<S> {
    inner: S,
    framing: Framing,
}

impl<S> Framed<S> {
    /// Of a stream at its begin.
    pub(super) const fn new(inner: S) -> Self {
        Self {
            inner,
            framing: Framing::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if let Some(new) = buf.filled_mut().get_mut(before..) {
            self.framing.look(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.framing.answered(bytes);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if let Some(first) = parts.iter().find(|part| !part.is_empty()) {
            self.framing.answered(first);
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether something was spoilt, whatever the pieces in which it comes.
    fn spoilt(text: &str) -> bool {
        let results: Vec<Vec<u8>> = [1, 2, 3, 7, text.len()]
            .into_iter()
            .map(|size| {
                let (mut framing, mut bytes) = (Framing::new(), text.as_bytes().to_vec());
                for piece in bytes.chunks_mut(size) {
                    framing.look(piece);
                }
                bytes
            })
            .collect();
        assert!(results.windows(2).all(|two| two[0] == two[1]), "{text}");
        results[0] != text.as_bytes()
    }

    #[test]
    fn a_length_given_twice_is_spoilt_wherever_it_stands() {
        let both =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        let turned =
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nX: y\r\nCONTENT-LENGTH:4\r\n\r\n";
        for begin in [
            "",
            "\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nhello\r\n\r\nabc",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n\r\n\r\n456789\r\n0\r\nX-T: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            // A line behind the last chunk ends where the library ends it.
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\nPOST / HTTP/1.1\nContent-Length: 99999\n\n\r\n\r\n",
        ] {
            assert!(
                !spoilt(&format!("{begin}GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
                "{begin}"
            );
            for end in [both, turned] {
                assert!(spoilt(&format!("{begin}{end}")), "{begin}{end}");
            }
        }
    }

    #[test]
    fn what_follows_another_protocol_is_left_as_it_is() {
        let both = "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        let after = |request: &str, answer: &str| {
            let (mut framing, mut request) = (Framing::new(), request.as_bytes().to_vec());
            framing.look(&mut request);
            framing.answered(answer.as_bytes());
            let mut bytes = both.as_bytes().to_vec();
            framing.look(&mut bytes);
            bytes != both.as_bytes()
        };
        let asks = "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let granted = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        assert!(!after(asks, granted));
        assert!(after(asks, "HTTP/1.1 200 OK\r\n\r\n"));
        // A body that looks like it is no grant.
        assert!(after("GET / HTTP/1.1\r\nHost: a\r\n\r\n", granted));
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "POST /?Content-Length:4 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nX-Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encodings: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\nX: Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx",
            // In a body, and in the request that follows the one with the other header.
            "POST / HTTP/1.1\r\nContent-Length: 44\r\n\r\nA / B\r\nTransfer-Encoding: x\r\nContent-Length: 1",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(!spoilt(text), "{text}");
        }
    }
}
