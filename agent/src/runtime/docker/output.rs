//! Takes the engine's framing off a container's output.

use super::engine::{CallError, Engine};
use crate::runtime::{OutputChunk, RuntimeError};
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use longshore_common::session::Cause;
use longshore_common::time::Timestamp;
use longshore_common::wire::OutputKind;
use tokio::sync::mpsc;

/// A line longer than this is recorded by the engine in pieces of exactly this size.
const PIECE: usize = 16 * 1024;

/// Copies output into `sink` until the container has ended or nobody listens.
pub(super) async fn copy(
    engine: &Engine,
    docker_id: &str,
    since: Option<Timestamp>,
    sink: &mpsc::Sender<OutputChunk>,
) -> Result<(), RuntimeError> {
    // The engine resumes at whole seconds; the rest is dropped here.
    let seconds = since.map_or(0, |at| {
        i32::try_from(at.0.max(0) / 1000).unwrap_or(i32::MAX)
    });
    let options = LogsOptions {
        follow: true,
        stdout: true,
        stderr: true,
        timestamps: true,
        since: seconds,
        ..LogsOptions::default()
    };
    let failed = |error: CallError| error.into_runtime(Cause::StartFailed);
    let client = engine.client().await.map_err(failed)?;
    let mut stream = client.logs(docker_id, Some(options));
    let mut splitter = Splitter::default();
    while let Some(item) = stream.next().await {
        for chunk in splitter.split(&item.map_err(|error| failed(error.into()))?) {
            if since.is_some_and(|since| chunk.at < since) {
                continue;
            }
            if sink.send(chunk).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Where a stream stands between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Line {
    /// At the beginning of a line.
    #[default]
    Fresh,
    /// After a piece of full size: the line goes on.
    Open,
    /// After a piece of less than full size without an end of line. Either the stream
    /// ends here, or an older engine left the end of line out.
    Cut,
}

/// Takes frames apart into records, each with its own time.
#[derive(Debug, Default)]
struct Splitter {
    stdout: Line,
    stderr: Line,
}

impl Splitter {
    fn split(&mut self, frame: &LogOutput) -> Vec<OutputChunk> {
        let (kind, bytes) = match frame {
            LogOutput::StdErr { message } => (OutputKind::Stderr, message),
            LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message } => (OutputKind::Stdout, message),
        };
        let is_raw = matches!(frame, LogOutput::Console { .. });
        let mut found = Vec::new();
        let mut rest: &[u8] = bytes;
        let mut last = Timestamp::default();
        while !rest.is_empty() {
            let (at, content) = stamp(rest).unwrap_or((last, rest));
            let line = if kind == OutputKind::Stderr {
                &mut self.stderr
            } else {
                &mut self.stdout
            };
            // With a terminal there are no frames: pieces of one line follow each other.
            let end = if is_raw {
                raw_end(content, *line)
            } else {
                content.len()
            };
            let (content, next) = content.split_at(end);
            let mut bytes = Vec::with_capacity(content.len() + 1);
            if *line == Line::Cut {
                bytes.push(b'\n'); // something follows, so the line had ended
            }
            bytes.extend_from_slice(content);
            *line = match content.last() {
                Some(b'\n') => Line::Fresh,
                _ if content.len() == PIECE => Line::Open,
                _ => Line::Cut,
            };
            if !bytes.is_empty() {
                found.push(OutputChunk { kind, at, bytes });
            }
            (rest, last) = (next, at);
        }
        found
    }
}

/// Where a record ends in a stream without frames.
fn raw_end(content: &[u8], line: Line) -> usize {
    if content.len() > PIECE && stamp(&content[PIECE..]).is_some() {
        return PIECE;
    }
    if line != Line::Open {
        return content.len();
    }
    // The last piece of a long line, its end of line perhaps left out.
    let is_start = |at: &usize| content[*at..].starts_with(b"2") && is_full_stamp(&content[*at..]);
    (0..content.len()).find(is_start).unwrap_or(content.len())
}

/// Whether these bytes begin as the engine's own times do, to the nanosecond.
fn is_full_stamp(bytes: &[u8]) -> bool {
    const LENGTH: usize = "2026-11-20T21:05:03.123456789Z ".len();
    bytes.get(LENGTH - 2..LENGTH) == Some(b"Z ") && bytes[10] == b'T' && stamp(bytes).is_some()
}

/// The time that the engine put before a record, and the record.
fn stamp(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    // "2026-11-20T21:05:03.123456789Z " is 31 bytes long, with an offset 36.
    let space = bytes.iter().take(40).position(|b| *b == b' ')?;
    let text = std::str::from_utf8(&bytes[..space]).ok()?;
    Some((text.parse().ok()?, &bytes[space + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-20T21:05:03.123456789Z";

    fn chunks(frame: &LogOutput) -> Vec<OutputChunk> {
        Splitter::default().split(frame)
    }

    #[test]
    fn times_are_taken_off() {
        let message = format!("{TIME} 2026 is a year\n").into();
        let out = chunks(&LogOutput::StdErr { message });
        assert_eq!(out.len(), 1);
        assert_eq!(
            (out[0].kind, out[0].at),
            (OutputKind::Stderr, Timestamp(1_795_208_703_123))
        );
        assert_eq!(out[0].bytes, b"2026 is a year\n");
        let empty = chunks(&LogOutput::StdOut {
            message: format!("{TIME} \n").into(),
        });
        assert_eq!(empty[0].bytes, b"\n");
    }

    #[test]
    fn a_time_inside_a_frame_is_the_programs_own() {
        let line = format!("{}{TIME} x\n", "y".repeat(PIECE));
        let out = chunks(&LogOutput::StdOut {
            message: format!("{TIME} {line}").into(),
        });
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].bytes, line.as_bytes());
    }

    #[test]
    fn long_lines_of_a_terminal_come_in_pieces() {
        let long = "x".repeat(PIECE);
        let message = format!("{TIME} {long}{TIME} {long}{TIME} end\r\n").into();
        let out = chunks(&LogOutput::Console { message });
        let sizes: Vec<usize> = out.iter().map(|chunk| chunk.bytes.len()).collect();
        assert_eq!(sizes, [PIECE, PIECE, 5]);
        assert_eq!(out[2].bytes, b"end\r\n");
    }

    #[test]
    fn an_end_of_line_that_the_engine_lost_is_put_back() {
        let long = "x".repeat(PIECE);
        let pieces = [
            format!("{TIME} {long}"),
            format!("{TIME} tail"),
            format!("{TIME} next\n"),
        ];
        let mut splitter = Splitter::default();
        let framed: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| {
                splitter.split(&LogOutput::StdOut {
                    message: piece.clone().into(),
                })
            })
            .flat_map(|chunk| chunk.bytes)
            .collect();
        let wanted = format!("{long}tail\nnext\n");
        assert!(framed == wanted.as_bytes());
        let raw: Vec<u8> = chunks(&LogOutput::Console {
            message: pieces.concat().into(),
        })
        .into_iter()
        .flat_map(|chunk| chunk.bytes)
        .collect();
        assert!(raw == wanted.as_bytes());
        // The very end of a stream may have none.
        let end = chunks(&LogOutput::StdOut {
            message: format!("{TIME} no end").into(),
        });
        assert_eq!(end[0].bytes, b"no end");
    }
}
