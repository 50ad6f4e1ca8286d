//! Commands beside the main process of a container, by the engine's "exec".

use super::deadline;
use super::engine::{CallError, Engine};
use super::verify;
use crate::runtime::{ExecOrder, ExecOutput, ExecState, Execution, RuntimeError, STILL_THERE};
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::ResizeExecOptions;
use futures_util::StreamExt as _;
use longshore_common::session::Cause;
use longshore_common::wire::TerminalSize;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::path::PathBuf;

/// Bytes taken from the engine at once.
const PIECE: usize = 16 * 1024;

fn failed(error: CallError) -> RuntimeError {
    error.into_runtime(Cause::StartFailed)
}

/// Makes one, for somebody who watches it or for nobody. The container's own user, privileges
/// and limits: nothing is said about them.
async fn create(
    engine: &Engine,
    docker_id: &str,
    order: &ExecOrder,
    watched: bool,
) -> Result<String, RuntimeError> {
    let environment = order.environment.iter();
    let options = CreateExecOptions {
        attach_stdin: Some(watched),
        attach_stdout: Some(watched),
        attach_stderr: Some(watched),
        tty: Some(watched && order.terminal.is_some()),
        env: Some(environment.map(|(k, v)| format!("{k}={v}")).collect()),
        cmd: Some(order.command.clone()),
        working_dir: order.workdir.clone(),
        ..CreateExecOptions::default()
    };
    let created = engine
        .call("exec", deadline::ASK, |client| async move {
            client.create_exec(docker_id, options).await
        })
        .await
        .map_err(failed)?;
    Ok(created.id)
}

/// Starts one and stays with it.
pub(super) async fn start(
    engine: &Engine,
    docker_id: &str,
    order: &ExecOrder,
) -> Result<Execution, RuntimeError> {
    let id = create(engine, docker_id, order, true).await?;
    let options = StartExecOptions {
        detach: false,
        tty: order.terminal.is_some(),
        output_capacity: Some(PIECE),
    };
    let started = engine
        .call("exec", deadline::START, |client| {
            let id = id.clone();
            async move { client.start_exec(&id, Some(options)).await }
        })
        .await
        .map_err(failed)?;
    let StartExecResults::Attached { output, input } = started else {
        return Err(RuntimeError::Failed {
            cause: Cause::StartFailed,
            detail: "the container engine let go of the command".to_owned(),
        });
    };
    let output = output.map(|piece| match piece {
        Ok(LogOutput::StdErr { message }) => Ok(ExecOutput {
            error: true,
            bytes: message,
        }),
        Ok(
            LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message },
        ) => Ok(ExecOutput {
            error: false,
            bytes: message,
        }),
        Err(error) => Err(failed(error.into())),
    });
    if let Some(size) = order.terminal {
        // Before anything is drawn. A program that has ended already needs none.
        let _ = resize(engine, &id, size).await;
    }
    Ok(Execution {
        id,
        input,
        output: Box::pin(output),
    })
}

/// Begins one that nobody watches. It is the leader of a session and a group of its own too.
pub(super) async fn begin(
    engine: &Engine,
    docker_id: &str,
    order: &ExecOrder,
) -> Result<String, RuntimeError> {
    let id = create(engine, docker_id, order, false).await?;
    let options = StartExecOptions {
        detach: true,
        ..StartExecOptions::default()
    };
    engine
        .call("exec", deadline::START, |client| {
            let id = id.clone();
            async move { client.start_exec(&id, Some(options)).await.map(drop) }
        })
        .await
        .map_err(failed)?;
    Ok(id)
}

pub(super) async fn state(engine: &Engine, exec_id: &str) -> Result<ExecState, RuntimeError> {
    let seen = engine
        .call("exec", deadline::ASK, |client| async move {
            client.inspect_exec(exec_id).await
        })
        .await
        .map_err(failed)?;
    let number = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    Ok(ExecState {
        pid: seen
            .pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 1),
        // One that is being started does not run yet and has no code either.
        exit: match seen.running {
            Some(true) => None,
            _ => seen.exit_code.map(number),
        },
    })
}

pub(super) async fn resize(
    engine: &Engine,
    exec_id: &str,
    size: TerminalSize,
) -> Result<(), RuntimeError> {
    let options = ResizeExecOptions {
        h: i32::from(size.rows),
        w: i32::from(size.cols),
    };
    engine
        .call("exec", deadline::KILL, |client| async move {
            client.resize_exec(exec_id, options).await
        })
        .await
        .map_err(failed)
}

/// The engine can start such a command and cannot end it. Its first process leads a session
/// and a group of its own, which is signalled from outside. False = nobody is left of it.
pub(super) fn signal_group(pid: u32, docker_id: &str, signal: &str) -> bool {
    // The number may belong to somebody else by now. As long as the group has members nobody
    // new gets it, so that one without a leader is still the old one.
    let leader = PathBuf::from(format!("/proc/{pid}"));
    if leader.exists() && !verify::is_of(pid, docker_id) {
        return false;
    }
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    let signal = match signal {
        STILL_THERE => return test_kill_process_group(group).is_ok(),
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        _ => Signal::KILL,
    };
    kill_process_group(group, signal).is_ok()
}
