//! `exec` and `terminal`: a command, or a login shell, beside the program of a session.

use crate::app::App;
use crate::client::Client;
use crate::error::{Failure, code};
use crate::output::{clean, print};
use crate::reach::{self, Input, Left, Local, Opened};
use crate::values::SessionRef;
use longshore_common::api::{Exec, ExecSize, NewExec};
use longshore_common::ids::{ExecId, Rank};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A terminal whose connection was lost is kept for so long.
const KEPT: Duration = Duration::from_secs(60);
/// Between tries to come back to it.
const AGAIN: Duration = Duration::from_secs(1);

/// Flags of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// In which container: main1, sub1
    #[arg(short, long, value_name = "RANK")]
    pub(crate) container: Option<Rank>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Send it no input
    #[arg(short = 'n', long)]
    pub(crate) no_input: bool,
    /// Set a variable of its environment; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Let it go on alone, without input; prints its id
    #[arg(short, long, conflicts_with = "no_input")]
    pub(crate) detach: bool,
    /// Show the output of a detached command, and what follows until it ends
    #[arg(long, value_name = "EXEC", conflicts_with_all = ["command", "detach", "tty", "env", "workdir", "container", "no_input"])]
    pub(crate) look: Option<ExecId>,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        required_unless_present = "look",
        value_name = "CMD"
    )]
    pub(crate) command: Vec<String>,
}

/// Flags of `terminal`.
#[derive(Debug, clap::Args)]
pub(crate) struct TerminalArgs {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// In which container: main1, sub1
    #[arg(short, long, value_name = "RANK")]
    pub(crate) container: Option<Rank>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// What a program in a terminal has to know of it.
fn of_terminal(environment: &mut BTreeMap<String, String>) {
    if let Ok(term) = std::env::var("TERM")
        && !term.is_empty()
        && term.len() <= 64
    {
        environment.entry("TERM".to_owned()).or_insert(term);
    }
}

/// Runs a command; its exit code is its own.
pub(crate) async fn exec(app: &App, args: ExecArgs) -> Result<u8, Failure> {
    let client = app.client()?;
    if let Some(exec) = args.look {
        return look(&client, &args.id, exec).await;
    }
    let local = Local::new(args.tty)?;
    let mut environment: BTreeMap<String, String> = args.env.into_iter().collect();
    if args.tty {
        of_terminal(&mut environment);
    }
    let wish = NewExec {
        command: args.command,
        rank: args.container.map(|rank| rank.to_string()),
        tty: args.tty,
        environment,
        workdir: args.workdir,
        size: local.size().filter(|_| args.tty),
        detach: args.detach,
        ..NewExec::default()
    };
    if args.detach {
        let made = make(&client, &args.id, &wish).await?;
        let (session, exec) = (clean(&made.session), clean(&made.id));
        print(&format!("{exec}\n"))?;
        eprintln!("it goes on alone; see it with: longshore exec {session} --look {exec}");
        return Ok(0);
    }
    let opened = open(&client, &args.id, &wish).await?;
    let mut input = match args.no_input {
        true => Input::none(),
        false => Input::standard(),
    };
    let socket = reach::connect(&client, &opened).await?;
    let (local, left) = reach::talk(socket, &mut input, local).await;
    drop(local); // what follows is for a terminal as it was
    match left? {
        Left::Exited(code) => Ok(exit(code)),
        Left::Away(signal) => Ok(128 + signal),
        Left::Lost => {
            let text = "the connection is lost; the command is ended";
            Err(Failure::new(code::UNREACHABLE, text))
        }
    }
}

/// Shows a detached command to its end; its exit code is its own. Leaving ends nothing.
async fn look(client: &Client, id: &SessionRef, exec: ExecId) -> Result<u8, Failure> {
    let path = format!(
        "/api/v1{}/exec/{exec}/stream",
        client.session_path(id).await?
    );
    let token = String::new();
    let opened = Opened { path, token };
    let socket = reach::connect(client, &opened).await?;
    // As with a terminal, a signal is for this program.
    let local = Local::watching()?;
    let (local, left) = reach::talk(socket, &mut Input::none(), local).await;
    drop(local);
    match left? {
        Left::Exited(code) => Ok(exit(code)),
        Left::Away(signal) => Ok(128 + signal),
        Left::Lost => {
            let text = "the connection is lost; the command goes on";
            Err(Failure::new(code::UNREACHABLE, text))
        }
    }
}

/// Opens a login shell, and comes back to it when the connection breaks.
pub(crate) async fn terminal(app: &App, args: TerminalArgs) -> Result<u8, Failure> {
    let client = app.client()?;
    let mut local = Local::new(true)?;
    let mut environment = BTreeMap::new();
    of_terminal(&mut environment);
    let wish = NewExec {
        kind: Some("terminal".to_owned()),
        rank: args.container.map(|rank| rank.to_string()),
        environment,
        size: local.size(),
        ..NewExec::default()
    };
    let opened = open(&client, &args.id, &wish).await?;
    let mut input = Input::standard();
    let mut socket = reach::connect(&client, &opened).await?;
    loop {
        let (back, left) = reach::talk(socket, &mut input, local).await;
        local = back;
        match left {
            Err(failure) if !failure.is_transient() => return Err(failure),
            // Not attached to the session's program: what the shell ends with is no failure.
            Ok(Left::Exited(_)) => return Ok(0),
            Ok(Left::Away(signal)) => return Ok(128 + signal),
            Ok(Left::Lost) | Err(_) => {
                local.say("the connection is lost; trying to come back for 60 s");
                socket = come_back(&client, &opened).await?;
                local.say("back");
            }
        }
    }
}

async fn come_back(client: &Client, opened: &Opened) -> Result<reach::Socket, Failure> {
    let until = Instant::now() + KEPT;
    loop {
        match reach::connect(client, opened).await {
            Err(failure) if failure.is_transient() && Instant::now() < until => {
                tokio::time::sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}

async fn make(client: &Client, id: &SessionRef, wish: &NewExec) -> Result<Exec, Failure> {
    let path = format!("{}/exec", client.session_path(id).await?);
    crate::client::typed(client.post(&path, wish).await?)
}

pub(crate) async fn open(
    client: &Client,
    id: &SessionRef,
    wish: &NewExec,
) -> Result<Opened, Failure> {
    let made = make(client, id, wish).await?;
    let token = made.token.unwrap_or_default();
    let path = format!("/api/v1/sessions/{}/exec/{}/stream", made.session, made.id);
    Ok(Opened { path, token })
}

/// A code above what a program can end with is that of another system.
fn exit(code: i32) -> u8 {
    u8::try_from(code & 0xff).unwrap_or(code::ATTACHED)
}

/// The size of a terminal, as the API writes it.
pub(crate) const fn size(rows: u16, cols: u16) -> Option<ExecSize> {
    match (rows, cols) {
        (0, _) | (_, 0) => None,
        (rows, cols) => Some(ExecSize { rows, cols }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_codes() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(variable("=b").is_err() && variable("A").is_err());
        assert_eq!((exit(0), exit(137), exit(-1)), (0, 137, 255));
        assert!(size(0, 80).is_none() && size(24, 80).is_some());
    }
}
