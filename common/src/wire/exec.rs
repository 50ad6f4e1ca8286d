//! What travels on the stream of a command that runs beside a session's program.
//!
//! The coordinator opens the stream with [`StreamOpen::Exec`](super::StreamOpen), the agent
//! accepts it once the command runs, and from then on both send frames until the command has
//! ended or somebody is gone. A stream that ends without [`ToExec::Leave`] was lost: a
//! terminal is kept for a while, a command is ended.

use super::message::{MAX_LIST, MAX_TEXT, Message};
use crate::ids::{ContainerKey, ExecId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest piece of input or output in one frame, in bytes: the cap of data streams less
/// room for the rest of the frame.
pub const MAX_PIECE: usize = 60 * 1024;
/// Most bytes of a command with its arguments: request and environment together fit into the
/// first frame only up to here.
pub const MAX_COMMAND: usize = 32 * 1024;
/// Most bytes of the environment of a command, for the same reason.
pub const MAX_EXEC_ENVIRONMENT: usize = 16 * 1024;

/// How an agent refuses to show a detached command that it does not know, or knows no longer.
pub const NO_SUCH_COMMAND: &str = "the command is not there any more";

/// A command to be run in a running container, as the session's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// In which container.
    pub key: ContainerKey,
    /// Names it; a terminal is taken up again by it.
    pub exec: ExecId,
    /// Which kind.
    pub kind: ExecKind,
    /// Program and arguments; empty for a terminal.
    pub command: Vec<String>,
    /// On top of the container's own.
    pub environment: BTreeMap<String, String>,
    /// Absolute; none = the container's own.
    pub workdir: Option<String>,
    /// Whether it gets a terminal: then output and error output are one.
    pub tty: bool,
    /// Size of the terminal, where it has one.
    pub size: TerminalSize,
    /// Not a new one: the terminal of this name goes on.
    pub resume: bool,
}

impl ExecRequest {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.command.len() > MAX_LIST
            || self.command.iter().map(String::len).sum::<usize>() > MAX_COMMAND
        {
            return Err("command");
        }
        let bytes = self.environment.iter().map(|(k, v)| k.len() + v.len());
        if self.environment.len() > MAX_LIST || bytes.sum::<usize>() > MAX_EXEC_ENVIRONMENT {
            return Err("environment");
        }
        if self
            .workdir
            .as_ref()
            .is_some_and(|dir| dir.len() > MAX_TEXT)
        {
            return Err("workdir");
        }
        Ok(())
    }
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecKind {
    /// A command; it is ended when its client goes.
    Command,
    /// A login shell; it is kept for a while when its connection is lost.
    Terminal,
    /// A command that goes on without a client. The stream that begins it ends at once; one
    /// with [`ExecRequest::resume`] shows what was kept of its output, and what follows.
    Detached,
    /// None of its own: asks how the detached command of this name stands. Answered with its
    /// last frame, or with the end of the stream while it runs.
    Standing,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

impl Default for TerminalSize {
    /// What terminals have had since there are any.
    fn default() -> Self {
        Self { rows: 24, cols: 80 }
    }
}

/// From the client to the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToExec {
    /// Input, at most [`MAX_PIECE`] bytes.
    Input(Vec<u8>),
    /// No more input comes.
    EndOfInput,
    /// The terminal has another size.
    Resize(TerminalSize),
    /// A signal for its process group: a name without `SIG`, one of
    /// [`SIGNALS`](super::SIGNALS).
    Signal(String),
    /// The client goes and does not come back.
    Leave,
}

impl Message for ToExec {
    const KIND: u16 = 35;
    fn check_bounds(&self) -> Result<(), &'static str> {
        match self {
            Self::Input(bytes) if bytes.len() > MAX_PIECE => Err("input"),
            Self::Signal(name) if name.len() > MAX_TEXT => Err("signal"),
            _ => Ok(()),
        }
    }
}

/// From the command to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromExec {
    /// Output, at most [`MAX_PIECE`] bytes.
    Output(Vec<u8>),
    /// Error output, at most [`MAX_PIECE`] bytes.
    ErrorOutput(Vec<u8>),
    /// It has ended; the last frame. 126 = it could not be started, 127 = it was not found,
    /// 128 + n = signal n ended it, as far as the engine tells.
    Exited(i32),
    /// What became of it is not known; the last frame. For people.
    Failed(String),
}

impl Message for FromExec {
    const KIND: u16 = 36;
    fn check_bounds(&self) -> Result<(), &'static str> {
        match self {
            Self::Output(bytes) | Self::ErrorOutput(bytes) if bytes.len() > MAX_PIECE => {
                Err("output")
            }
            Self::Failed(text) if text.len() > MAX_TEXT => Err("text"),
            _ => Ok(()),
        }
    }
}
