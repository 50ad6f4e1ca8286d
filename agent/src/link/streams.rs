//! Streams that the coordinator opens: signals, commands, terminals, connections to ports, output.

use super::{CONNECT, Heard};
use crate::logs::LogStore;
use longshore_common::wire::{
    Cap, Data, ExecRequest, LogsRequest, Message, StreamAccept, StreamEnd, StreamOpen,
    StreamRefuse, TunnelRequest,
};
use longshore_link::{FrameReader, INTERACTIVE, LinkError, Side, pass_on, send};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Serves one.
pub(super) async fn serve_stream(
    mut out: quinn::SendStream,
    back: quinn::RecvStream,
    logs: Arc<LogStore>,
    heard: mpsc::Sender<Heard>,
) {
    let mut frames = FrameReader::new(back, Cap::DATA);
    let Ok(Ok(frame)) = tokio::time::timeout(CONNECT, frames.next()).await else {
        return;
    };
    let served = match frame.decode::<StreamOpen>() {
        Ok(StreamOpen::Logs(request)) => serve_logs(&mut out, &request, &logs).await,
        Ok(StreamOpen::Signal(request)) => {
            let heard_as = |reply| Heard::Signal(request, reply);
            serve_order(&mut out, heard_as, &heard).await
        }
        Ok(StreamOpen::Release(device)) => {
            let heard_as = |reply| Heard::Release(device, reply);
            serve_order(&mut out, heard_as, &heard).await
        }
        Ok(StreamOpen::Exec(request)) => return serve_exec(out, frames, request, &heard).await,
        Ok(StreamOpen::Tunnel(request)) => return serve_tunnel(out, frames, request, &heard).await,
        Err(error) => {
            send(
                &mut out,
                &StreamRefuse {
                    text: error.to_string(),
                },
            )
            .await
        }
    };
    if served.is_ok() {
        let _ = out.finish(); // the peer may have stopped reading
    }
}

/// An order that is answered with yes, or no and why.
async fn serve_order(
    out: &mut quinn::SendStream,
    heard_as: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Heard,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), LinkError> {
    let (reply, answer) = oneshot::channel();
    match answered(heard, heard_as(reply), answer).await {
        Ok(()) => send(out, &StreamAccept {}).await,
        Err(text) => send(out, &StreamRefuse { text }).await,
    }
}

async fn serve_exec(
    out: quinn::SendStream,
    frames: FrameReader,
    request: ExecRequest,
    heard: &mpsc::Sender<Heard>,
) {
    let (reply, answer) = oneshot::channel();
    let asked = Heard::Exec(Box::new(request), reply);
    let opened = answered(heard, asked, answer).await;
    let opened = opened.map(|ends| (ends.from, ends.to));
    serve_both_ways(out, frames, opened).await;
}

async fn serve_tunnel(
    out: quinn::SendStream,
    frames: FrameReader,
    request: TunnelRequest,
    heard: &mpsc::Sender<Heard>,
) {
    let (reply, answer) = oneshot::channel();
    let opened = answered(heard, Heard::Tunnel(request, reply), answer).await;
    let opened = opened.map(|ends| (ends.from, ends.to));
    serve_both_ways(out, frames, opened).await;
}

/// What the supervisor answers to something it is asked for.
async fn answered<T>(
    heard: &mpsc::Sender<Heard>,
    asked: Heard,
    answer: oneshot::Receiver<Result<T, String>>,
) -> Result<T, String> {
    let stopping = || Err("the agent is stopping".to_owned());
    match heard.send(asked).await {
        Ok(()) => answer.await.unwrap_or_else(|_| stopping()),
        Err(_) => stopping(),
    }
}

async fn serve_both_ways<O, I>(
    mut out: quinn::SendStream,
    frames: FrameReader,
    opened: Result<(mpsc::Receiver<O>, mpsc::Sender<I>), String>,
) where
    O: Message + Serialize,
    I: Message + DeserializeOwned,
{
    let _ = out.set_priority(INTERACTIVE); // fails only on closed streams
    match opened {
        Ok((from, to)) => {
            if send(&mut out, &StreamAccept {}).await.is_ok() {
                pass_on(Side::Agent, out, frames, from, to).await;
            }
        }
        Err(text) => {
            // One that cannot be told has gone.
            if send(&mut out, &StreamRefuse { text }).await.is_ok() {
                let _ = out.finish();
            }
        }
    }
}

async fn serve_logs(
    out: &mut quinn::SendStream,
    request: &LogsRequest,
    logs: &Arc<LogStore>,
) -> Result<(), LinkError> {
    let (key, position, tail) = (request.key, request.position, request.tail_lines);
    let reader = logs.beside(move |logs| logs.read(key, position, tail));
    let refused = match reader.await {
        Some(Ok(Some(reader))) => {
            let sent = send_logs(out, reader, request, logs).await;
            logs.release_ended(key);
            return sent;
        }
        Some(Ok(None)) => "no output of this container is kept on its node".to_owned(),
        Some(Err(error)) => error.to_string(),
        None => "the agent is stopping".to_owned(),
    };
    send(out, &StreamRefuse { text: refused }).await
}

async fn send_logs(
    out: &mut quinn::SendStream,
    reader: crate::logs::LogReader,
    request: &LogsRequest,
    logs: &Arc<LogStore>,
) -> Result<(), LinkError> {
    send(out, &StreamAccept {}).await?;
    let error = copy_logs(out, reader, request, logs).await?;
    send(out, &StreamEnd { error }).await
}

/// Largest piece in one frame: the cap less room for the other members.
const PIECE: usize = 60 * 1024;

async fn copy_logs(
    out: &mut quinn::SendStream,
    mut reader: crate::logs::LogReader,
    request: &LogsRequest,
    logs: &Arc<LogStore>,
) -> Result<Option<String>, LinkError> {
    let joined = request.joined.then_some(PIECE);
    loop {
        loop {
            // A disk that hangs holds up this reader, and no heartbeat.
            let read = logs.beside(move |_| {
                let read = reader.next_many(joined);
                (reader, read)
            });
            let Some((back, read)) = read.await else {
                return Ok(Some("the agent is stopping".to_owned()));
            };
            reader = back;
            match read {
                Ok(all) if all.is_empty() => break,
                Ok(all) => {
                    for data in all {
                        send_piecewise(out, data).await?;
                    }
                }
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        if !request.follow {
            return Ok(None);
        }
        tokio::select! {
            more = reader.more() => if !more { return Ok(None) },
            // A reader that went away must not be followed for ever.
            stopped = out.stopped() => {
                return Err(LinkError::Gone(format!("{stopped:?}")));
            }
        }
    }
}

async fn send_piecewise(out: &mut quinn::SendStream, data: Data) -> Result<(), LinkError> {
    if data.bytes.len() <= PIECE {
        return send(out, &data).await;
    }
    let mut position = data.position;
    for piece in data.bytes.chunks(PIECE) {
        let part = Data {
            position,
            kind: data.kind,
            at: data.at,
            bytes: piece.to_vec(),
        };
        position += piece.len() as u64;
        send(out, &part).await?;
    }
    Ok(())
}
