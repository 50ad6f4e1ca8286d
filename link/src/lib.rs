//! Frames of the wire protocol over QUIC streams, and the settings of the transport
//! both ends agree on.
//!
//! What is said is in `longshore_common::wire`; who says it is the coordinator's
//! `cluster` and the agent's `link`. Neither of them names the other; both name this.

pub mod traffic;

use longshore_common::wire::{Cap, CloseCode, Frame, FrameDecoder, FrameError, Message, encode};
use quinn::congestion::CubicConfig;
use quinn::{IdleTimeout, TransportConfig, VarInt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use traffic::Way;

/// Bytes taken from a stream at once.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes in front of each body.
const HEADER: usize = 8;
/// A silent connection is kept open by packets this often.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// A connection without any packet for so long is gone.
const IDLE: Duration = Duration::from_secs(10);
/// Flow-control window of one stream.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of one connection that a side keeps until they are acknowledged.
const SEND_WINDOW: u32 = 4 << 20;
/// Flow-control window of one connection. It holds all data streams a link may have besides
/// the two of its own: a reader that reads nothing, or a program that takes no input, must
/// not take the credit heartbeats and orders need.
const CONNECTION_WINDOW: u32 = (MAX_DATA_STREAMS as u32 + MAX_TUNNELS as u32 + 8) * STREAM_WINDOW;
/// Bytes of a peer that is not taken in yet, together: what it says first has room in them.
const STRANGER_WINDOW: u32 = 64 << 10;
/// Streams each way that an agent may have open once it is taken in.
const AGENT_STREAMS: u32 = 16;
/// And those of which only it writes.
const AGENT_WAYS: u32 = 4;
/// What was said last gets so long to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Priority of streams behind which a person waits: after orders, before bulk.
pub const INTERACTIVE: i32 = 50;
/// Data streams the coordinator has open at one agent at most, beside connections to ports.
pub const MAX_DATA_STREAMS: usize = 64;
/// Connections to ports of containers it has open there at most. They are counted apart: who
/// has many keeps nobody from logs, commands and signals.
pub const MAX_TUNNELS: usize = 128;

/// Why a stream gives nothing more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer broke the protocol; the connection has to be closed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its connection is gone.
    #[error("the stream is gone: {0}")]
    Gone(String),
    /// The peer ended the stream.
    #[error("the peer ended the stream")]
    Ended,
}

impl LinkError {
    /// The close code for this error, if the peer is to blame.
    #[must_use]
    pub const fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Frame(FrameError::TooLong { .. } | FrameError::OutOfBounds { .. }) => {
                Some(CloseCode::Limit)
            }
            Self::Frame(_) => Some(CloseCode::Protocol),
            Self::Gone(_) | Self::Ended => None,
        }
    }
}

/// Reads frames from one stream.
#[derive(Debug)]
pub struct FrameReader {
    stream: quinn::RecvStream,
    decoder: FrameDecoder,
}

impl FrameReader {
    /// Frames of at most `cap` from `stream`.
    #[must_use]
    pub const fn new(stream: quinn::RecvStream, cap: Cap) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(cap),
        }
    }

    /// Changes the cap for what comes next.
    pub fn set_cap(&mut self, cap: Cap) {
        self.decoder.set_cap(cap);
    }

    /// The next frame. May be dropped while waiting without losing bytes.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                traffic::count(Way::In, frame.kind, frame.body.len() + HEADER);
                return Ok(frame);
            }
            match self.stream.read_chunk(READ_CHUNK, true).await {
                Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
                Ok(None) => {
                    self.decoder.finish()?;
                    return Err(LinkError::Ended);
                }
                Err(error) => return Err(LinkError::Gone(error.to_string())),
            }
        }
    }

    /// Tells the peer that nothing more is wanted.
    pub fn stop(&mut self) {
        let _ = self.stream.stop(VarInt::from_u32(0)); // it may have ended already
    }
}

/// Writes one message as a frame.
///
/// # Errors
/// [`LinkError::Gone`].
pub async fn send<M: Message + Serialize>(
    stream: &mut quinn::SendStream,
    message: &M,
) -> Result<(), LinkError> {
    let bytes = encode(message);
    let written = stream.write_all(&bytes).await;
    written.map_err(|error| LinkError::Gone(error.to_string()))?;
    traffic::count(Way::Out, M::KIND, bytes.len());
    Ok(())
}

/// Writes one message as a frame, but not for longer than `limit`: a peer that takes
/// nothing for so long is gone in all but name.
///
/// # Errors
/// [`LinkError::Gone`].
pub async fn send_within<M: Message + Serialize>(
    stream: &mut quinn::SendStream,
    message: &M,
    limit: Duration,
) -> Result<(), LinkError> {
    tokio::time::timeout(limit, send(stream, message))
        .await
        .unwrap_or_else(|_| Err(LinkError::Gone("the peer takes nothing".to_owned())))
}

/// Passes frames on between a two-way stream and two queues, until either end is gone. A
/// queue that is full stops its own way only, and the peer with it. What was put into the
/// outgoing queue before its sender was dropped still reaches a peer that takes it: what an
/// agent has to say however long that takes, what a client said only for a moment.
pub async fn pass_on<O, I>(
    side: Side,
    mut out: quinn::SendStream,
    mut frames: FrameReader,
    mut outgoing: mpsc::Receiver<O>,
    incoming: mpsc::Sender<I>,
) where
    O: Message + Serialize,
    I: Message + DeserializeOwned,
{
    let stopped = out.stopped();
    let sending = async {
        while let Some(message) = outgoing.recv().await {
            if send(&mut out, &message).await.is_err() {
                match side {
                    Side::Agent => return,
                    // A command that has ended reads nothing; what it wrote may be on its way.
                    Side::Coordinator => std::future::pending().await,
                }
            }
        }
        let _ = out.finish(); // the peer may have stopped reading
        // Our other half must not be let go before this one has arrived.
        let arrived = out.stopped();
        match side {
            Side::Agent => drop(arrived.await),
            Side::Coordinator => drop(tokio::time::timeout(LAST_WORDS, arrived).await),
        }
    };
    let receiving = async {
        // A peer that breaks the protocol here has lost its stream and nothing else.
        while let Ok(frame) = frames.next().await {
            let Ok(message) = frame.decode::<I>() else {
                return;
            };
            if incoming.send(message).await.is_err() {
                std::future::pending::<()>().await; // what is still to be sent goes out first
            }
        }
    };
    // The other end is gone, seen also while both queues are full.
    let gone = async {
        match side {
            Side::Agent => drop(stopped.await),
            Side::Coordinator => {
                incoming.closed().await;
                tokio::time::sleep(LAST_WORDS).await;
            }
        }
    };
    tokio::select! {
        biased;
        // What has come is taken before it is seen that the peer goes.
        () = receiving => (),
        () = sending => (),
        () = gone => (),
    }
}

/// Closes a connection with one of our codes.
pub fn close(connection: &quinn::Connection, code: CloseCode, text: &str) {
    connection.close(VarInt::from_u32(code as u32), text.as_bytes());
}

/// Whose settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The coordinator: whoever comes opens one stream and sends little, until [`take_in`].
    Coordinator,
    /// An agent: the coordinator opens one stream per reader.
    Agent,
}

/// The transport of one side. `gso` off helps network cards that cannot segment.
///
/// # Panics
/// Never: the constants are in range.
#[must_use]
pub fn transport(side: Side, gso: bool) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let (both_ways, one_way, window): (u32, u32, u32) = match side {
        Side::Coordinator => (1, 0, STRANGER_WINDOW),
        Side::Agent => (512, 4, CONNECTION_WINDOW),
    };
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(both_ways))
        .max_concurrent_uni_streams(VarInt::from_u32(one_way))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(window))
        .send_window(u64::from(SEND_WINDOW))
        .keep_alive_interval(match side {
            // One side is enough, and the agent knows first when it is cut off.
            Side::Agent => Some(KEEP_ALIVE),
            Side::Coordinator => None,
        })
        .max_idle_timeout(Some(
            IdleTimeout::try_from(IDLE).expect("ten seconds are a valid idle timeout"),
        ))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .enable_segmentation_offload(gso);
    Arc::new(config)
}

/// Gives an agent that the coordinator knows and takes in what a link needs.
pub fn take_in(connection: &quinn::Connection) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(AGENT_STREAMS));
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(AGENT_WAYS));
}

/// Milliseconds on the clock that goes on during suspend and never steps.
#[must_use]
pub fn boot_ms() -> i64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    at.tv_sec
        .saturating_mul(1000)
        .saturating_add(at.tv_nsec / 1_000_000)
}
