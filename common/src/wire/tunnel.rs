//! What travels on the stream of a tunnel to a port of a session.
//!
//! The coordinator opens the stream with [`StreamOpen::Tunnel`](super::StreamOpen), the agent
//! accepts it once something in the container has taken the connection, and from then on both
//! send bytes until both ways have ended or somebody is gone. Each way ends by itself, as the
//! two halves of a TCP connection do.

use super::exec::MAX_PIECE;
use super::message::{MAX_TEXT, Message};
use crate::ids::ContainerKey;
use serde::{Deserialize, Serialize};

/// A connection to a declared port, made inside the container's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRequest {
    /// To which container.
    pub key: ContainerKey,
    /// One of the ports its order declares.
    pub port: u16,
}

/// From the client to the port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTunnel {
    /// At most [`MAX_PIECE`] bytes.
    Data(#[serde(with = "whole")] Vec<u8>),
    /// The client sends no more, and may still read.
    End,
}

impl Message for ToTunnel {
    const KIND: u16 = 44;
    fn check_bounds(&self) -> Result<(), &'static str> {
        match self {
            Self::Data(bytes) if bytes.len() > MAX_PIECE => Err("data"),
            _ => Ok(()),
        }
    }
}

/// From the port to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromTunnel {
    /// At most [`MAX_PIECE`] bytes.
    Data(#[serde(with = "whole")] Vec<u8>),
    /// The program sends no more, and may still read.
    End,
    /// The connection broke; the last frame. For people.
    Failed(String),
}

impl Message for FromTunnel {
    const KIND: u16 = 45;
    fn check_bounds(&self) -> Result<(), &'static str> {
        match self {
            Self::Data(bytes) if bytes.len() > MAX_PIECE => Err("data"),
            Self::Failed(text) if text.len() > MAX_TEXT => Err("text"),
            _ => Ok(()),
        }
    }
}

/// Bytes as one piece. The same on the wire as a list of them, without a step for each.
mod whole {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    #[expect(clippy::ptr_arg, reason = "serde asks for the type of the member")]
    pub(super) fn serialize<S: Serializer>(bytes: &Vec<u8>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_bytes(Taken)
    }

    struct Taken;

    impl Visitor<'_> for Taken {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
}
