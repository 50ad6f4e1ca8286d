//! Frames: `u32` body length, `u16` kind, `u16` version (big endian), then the body.
//!
//! The length is compared with the cap of the stream before anything is kept, and
//! the body is taken in as it comes, so that a peer that announces much and sends
//! little costs little.

use super::message::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes in front of every body.
const HEADER: usize = 8;
/// A kind with this bit may be skipped by a reader that does not know it.
pub(super) const SKIPPABLE: u16 = 0x8000;

/// Largest body a stream may carry, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap(pub u32);

impl Cap {
    /// First frame of the control stream, and enrolment.
    pub const HELLO: Self = Self(16 * 1024);
    /// Later frames of the control stream: a beat with 32 reports and figures of a node full
    /// of divided GPUs is above 4 KiB.
    pub const CONTROL: Self = Self(16 * 1024);
    /// The state stream as the coordinator reads it.
    pub const STATE: Self = Self(4 * 1024 * 1024);
    /// The state stream as an agent reads it: a desired set is always whole, and an entry
    /// holds up to 128 KiB of command and environment, so a full node's set is large.
    pub const DESIRED: Self = Self(128 * 1024 * 1024);
    /// Telemetry and data streams.
    pub const DATA: Self = Self(64 * 1024);
}

/// One frame, its body not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: u16,
    /// Which form of it.
    pub ver: u16,
    /// postcard.
    pub body: Vec<u8>,
}

/// What is wrong with what a peer sent. The connection is closed with PROTOCOL or LIMIT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is above the cap of the stream.
    #[error("frame of kind {kind} announces {len} bytes, at most {cap} are taken")]
    TooLong {
        /// The kind announced.
        kind: u16,
        /// The length announced.
        len: u32,
        /// The cap.
        cap: u32,
    },
    /// Not the kind that may come here.
    #[error("frame of kind {kind} version {ver} is not expected here")]
    Unexpected {
        /// The kind.
        kind: u16,
        /// Its version.
        ver: u16,
    },
    /// The body is not a message of its kind.
    #[error("frame of kind {kind} with {len} bytes does not decode")]
    Malformed {
        /// The kind.
        kind: u16,
        /// Length of the body.
        len: usize,
    },
    /// A list or text is longer than its bound.
    #[error("frame of kind {kind} holds {what} above its bound")]
    OutOfBounds {
        /// The kind.
        kind: u16,
        /// Which part.
        what: &'static str,
    },
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame")]
    Truncated,
}

/// Writes a message as one frame.
///
/// # Panics
/// Never for messages of this crate: postcard fails only on types it cannot express.
#[must_use]
pub fn encode<M: Message + Serialize>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes = postcard::to_extend(message, bytes)
        .expect("messages consist of types that postcard can express");
    let len = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
    bytes[0..4].copy_from_slice(&len.to_be_bytes());
    bytes[4..6].copy_from_slice(&M::KIND.to_be_bytes());
    bytes[6..8].copy_from_slice(&M::VER.to_be_bytes());
    bytes
}

impl Frame {
    /// Reads the body as a message of type `M`.
    ///
    /// # Errors
    /// Another kind, a body that does not decode, bytes left over, a bound passed.
    pub fn decode<M: Message + DeserializeOwned>(&self) -> Result<M, FrameError> {
        if self.kind != M::KIND || self.ver != M::VER {
            return Err(FrameError::Unexpected {
                kind: self.kind,
                ver: self.ver,
            });
        }
        let malformed = || FrameError::Malformed {
            kind: self.kind,
            len: self.body.len(),
        };
        let (message, rest) =
            postcard::take_from_bytes::<M>(&self.body).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        message
            .check_bounds()
            .map_err(|what| FrameError::OutOfBounds {
                kind: self.kind,
                what,
            })?;
        Ok(message)
    }

    /// Whether a reader that does not know the kind may go on.
    #[must_use]
    pub fn is_skippable(&self) -> bool {
        self.kind & SKIPPABLE != 0
    }
}

/// Cuts a byte stream into frames, however the bytes arrive.
#[derive(Debug)]
pub struct FrameDecoder {
    cap: Cap,
    buffer: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder for a stream with this cap.
    #[must_use]
    pub const fn new(cap: Cap) -> Self {
        Self {
            cap,
            buffer: Vec::new(),
        }
    }

    /// Changes the cap for frames that have not begun yet.
    pub fn set_cap(&mut self, cap: Cap) {
        self.cap = cap;
    }

    /// Takes in bytes. At most what one read gave (a few KiB) beyond a frame is kept.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] as soon as the header says so.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, k0, k1, v0, v1] = *header;
        let len = u32::from_be_bytes([a, b, c, d]);
        let kind = u16::from_be_bytes([k0, k1]);
        let ver = u16::from_be_bytes([v0, v1]);
        if len > self.cap.0 {
            return Err(FrameError::TooLong {
                kind,
                len,
                cap: self.cap.0,
            });
        }
        let end = HEADER + len as usize;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let body = self.buffer[HEADER..end].to_vec();
        self.buffer.drain(..end);
        if self.buffer.is_empty() && self.buffer.capacity() > 64 * 1024 {
            self.buffer = Vec::new(); // a large set came once; do not keep its room
        }
        Ok(Some(Frame { kind, ver, body }))
    }
}
