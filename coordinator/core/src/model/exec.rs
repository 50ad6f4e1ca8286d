//! What may be opened in a running session: a command or a terminal, in which container.

use super::entities::{Container, Session};
use super::event::Refusal;
use super::submit::environment;
use longshore_common::api::{MemberError, NewExec};
use longshore_common::ids::Rank;
use longshore_common::session::{ContainerState, SessionState};
use longshore_common::wire::{
    ExecKind, MAX_COMMAND, MAX_EXEC_ENVIRONMENT, MAX_LIST, MAX_TEXT, TerminalSize,
};

/// A wish that was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecWish {
    /// Which kind.
    pub kind: ExecKind,
    /// In which container.
    pub rank: Rank,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Of the terminal.
    pub size: TerminalSize,
}

/// Checks the members of a wish.
///
/// # Errors
/// LS-INVALID or LS-ENVIRONMENT with everything that is wrong.
pub fn exec_wish(request: &NewExec) -> Result<ExecWish, Refusal> {
    let mut errors: Vec<MemberError> = Vec::new();
    let mut wrong = |pointer: &str, message: String| {
        errors.push(MemberError {
            pointer: pointer.to_owned(),
            message,
            ..MemberError::default()
        });
    };
    let kind = match request.kind.as_deref() {
        None | Some("command") => ExecKind::Command,
        Some("terminal") => ExecKind::Terminal,
        Some(_) => {
            wrong("/kind", "kind is command or terminal.".to_owned());
            ExecKind::Command
        }
    };
    if kind == ExecKind::Terminal && request.detach {
        let text = "A terminal is for somebody in front of it; only a command goes on alone.";
        wrong("/detach", text.to_owned());
    }
    let bytes: usize = request.command.iter().map(String::len).sum();
    let empty = request.command.first().is_none_or(String::is_empty);
    if kind == ExecKind::Terminal && !request.command.is_empty() {
        let text = "A terminal runs the login shell; a command of one's own is kind command.";
        wrong("/command", text.to_owned());
    } else if kind == ExecKind::Command && empty {
        wrong("/command", "A command is wanted.".to_owned());
    } else if bytes > MAX_COMMAND || request.command.len() > MAX_LIST {
        let text = format!("A command has at most {MAX_LIST} words and 32 KiB in all.");
        wrong("/command", text);
    } else if request.command.iter().any(|word| word.contains('\0')) {
        wrong("/command", "A command holds no zero bytes.".to_owned());
    }
    let rank = match request.rank.as_deref().map(str::parse) {
        None => Rank::MAIN,
        Some(Ok(rank)) => rank,
        Some(Err(error)) => {
            wrong("/rank", format!("{error}."));
            Rank::MAIN
        }
    };
    if let Some(dir) = &request.workdir
        && (!dir.starts_with('/') || dir.len() > MAX_TEXT || dir.contains('\0'))
    {
        let text = "workdir is an absolute path of at most 4096 bytes.";
        wrong("/workdir", text.to_owned());
    }
    if let Some(size) = request.size
        && (size.rows == 0 || size.cols == 0)
    {
        wrong("/size", "rows and cols are 1 to 65535.".to_owned());
    }
    let bytes = request.environment.iter().map(|(k, v)| k.len() + v.len());
    environment(&request.environment, &mut wrong);
    if bytes.sum::<usize>() > MAX_EXEC_ENVIRONMENT || request.environment.len() > MAX_LIST {
        let text = "The environment of a command has at most 16 KiB in all.";
        wrong("/environment", text.to_owned());
    }
    if errors.is_empty() {
        return Ok(ExecWish {
            kind: match request.detach {
                true => ExecKind::Detached,
                false => kind,
            },
            rank,
            tty: request.tty || kind == ExecKind::Terminal,
            size: request.size.map_or_else(TerminalSize::default, |size| {
                let (rows, cols) = (size.rows, size.cols);
                TerminalSize { rows, cols }
            }),
        });
    }
    let of_environment = |error: &MemberError| error.pointer.starts_with("/environment");
    let code = match errors.iter().all(of_environment) {
        true => "LS-ENVIRONMENT",
        false => "LS-INVALID",
    };
    Err(Refusal::of_members(code, errors))
}

/// The running container of this rank.
///
/// # Errors
/// LS-STATE where the session does not run, LS-INVALID for a rank it has not.
pub fn exec_container(session: &Session, rank: Rank) -> Result<&Container, Refusal> {
    let (id, is) = (session.id, session.state);
    if is != SessionState::Running {
        let text = format!("Session {id} is {is}; commands and terminals open in running ones.");
        return Err(Refusal::new("LS-STATE", text));
    }
    let Some(found) = session.present().find(|c| c.key.rank == rank) else {
        let text = format!("Session {id} has no container {rank}.");
        return Err(Refusal::new("LS-INVALID", text.clone()).at("/rank", text));
    };
    if found.state != ContainerState::Running {
        let text = format!("Container {rank} of session {id} does not run now.");
        return Err(Refusal::new("LS-STATE", text));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::api::ExecSize;

    fn pointers(request: &NewExec) -> Vec<String> {
        let refused = exec_wish(request).unwrap_err();
        refused.errors.into_iter().map(|e| e.pointer).collect()
    }

    #[test]
    fn a_good_wish_gets_what_it_does_not_say() {
        let plain = NewExec {
            command: vec!["true".to_owned()],
            ..NewExec::default()
        };
        let wish = exec_wish(&plain).unwrap();
        assert_eq!(
            (wish.kind, wish.rank, wish.tty),
            (ExecKind::Command, Rank::MAIN, false)
        );
        let terminal = NewExec {
            kind: Some("terminal".to_owned()),
            size: Some(ExecSize {
                rows: 50,
                cols: 132,
            }),
            ..NewExec::default()
        };
        let wish = exec_wish(&terminal).unwrap();
        assert_eq!((wish.tty, wish.size.cols), (true, 132));
        let detached = NewExec {
            detach: true,
            ..plain
        };
        assert_eq!(exec_wish(&detached).unwrap().kind, ExecKind::Detached);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let bad = NewExec {
            kind: Some("shell".to_owned()),
            rank: Some("main2".to_owned()),
            workdir: Some("here".to_owned()),
            size: Some(ExecSize { rows: 0, cols: 1 }),
            environment: [("LD_PRELOAD".to_owned(), "x".to_owned())].into(),
            ..NewExec::default()
        };
        let all = [
            "/kind",
            "/command",
            "/rank",
            "/workdir",
            "/size",
            "/environment/LD_PRELOAD",
        ];
        assert_eq!(pointers(&bad), all);
        let shell = NewExec {
            kind: Some("terminal".to_owned()),
            command: vec!["zsh".to_owned()],
            ..NewExec::default()
        };
        assert_eq!(pointers(&shell), ["/command"]);
        let alone = NewExec {
            kind: Some("terminal".to_owned()),
            detach: true,
            ..NewExec::default()
        };
        assert_eq!(pointers(&alone), ["/detach"]);
    }

    #[test]
    fn a_wrong_environment_alone_has_its_own_code_and_a_bound_of_its_own() {
        let mut request = NewExec {
            command: vec!["true".to_owned()],
            environment: [("NVIDIA_X".to_owned(), String::new())].into(),
            ..NewExec::default()
        };
        assert_eq!(exec_wish(&request).unwrap_err().code, "LS-ENVIRONMENT");
        request.environment = [("A".to_owned(), "x".repeat(MAX_EXEC_ENVIRONMENT))].into();
        assert_eq!(pointers(&request), ["/environment"]);
    }
}
