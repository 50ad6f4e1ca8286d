//! Asking before something that cannot be taken back.

use crate::app::App;
use crate::error::Failure;
use crate::output::clean;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal};

/// What a command says whose question was answered with no.
pub(crate) const DECLINED: &str = "nothing was changed";

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It is answered already, or need not be put.
    Go,
    /// Somebody is asked.
    Ask,
    /// It must be answered, and nobody is there.
    Refuse,
}

/// `yes`: `--yes` was given. `terminal`: somebody is there. `harm`: something would be lost.
const fn course(yes: bool, terminal: bool, harm: bool) -> Course {
    match (yes, terminal, harm) {
        (true, _, _) | (false, false, false) => Course::Go,
        (false, true, _) => Course::Ask,
        (false, false, true) => Course::Refuse,
    }
}

/// Asks before something that cannot be taken back. `lost`: what goes with it, a line each.
pub(crate) fn confirm(app: &App, what: &str, lost: &[String]) -> Result<(), Failure> {
    confirm_if(app, what, lost, true)
}

/// The same for what harms only sometimes: a script needs `--yes` for it only then, a
/// person on a terminal is asked each time.
pub(crate) fn confirm_if(
    app: &App,
    what: &str,
    lost: &[String],
    harm: bool,
) -> Result<(), Failure> {
    match course(app.global.yes, std::io::stdin().is_terminal(), harm) {
        Course::Go => return Ok(()),
        Course::Refuse => return Err(nobody(what, lost)),
        Course::Ask => (),
    }
    eprintln!("{}", clean(what));
    for line in lost {
        eprintln!("  {}", clean(line));
    }
    eprint!("Continue? [y/N] ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::failed(DECLINED))
    }
}

/// What is said where nobody can be asked.
fn nobody(what: &str, lost: &[String]) -> Failure {
    let asked = Failure::usage("this asks first, and nobody is there to answer").why(clean(what));
    let lines = lost.iter().map(|line| clean(line));
    lines
        .fold(asked, Failure::why)
        .hint("the same with --yes; nothing was changed")
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for a line. Without a terminal it is read all the same, without a question.
pub(crate) fn line(question: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        eprint!("{question}");
    }
    Ok(read_line()?.trim().to_owned())
}

/// Asks without showing what is typed. Without a terminal a line is read.
pub(crate) fn secret(question: &str) -> Result<String, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return read_line();
    }
    eprint!("{question}");
    let before = tcgetattr(&input).map_err(std::io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &silent).map_err(std::io::Error::from)?;
    let line = read_line();
    let _ = tcsetattr(&input, OptionalActions::Flush, &before);
    eprintln!();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_told_what_it_would_lose() {
        let failure = nobody(
            "you leave project vision.",
            &["s-2 would be stopped".to_owned()],
        );
        assert_eq!(failure.exit, 2);
        assert_eq!(
            failure.why,
            ["you leave project vision.", "s-2 would be stopped"]
        );
        assert!(failure.hint.unwrap().contains("--yes"));
    }

    #[test]
    fn who_is_asked() {
        // A person is asked whatever it is, a script is stopped only before harm.
        let table = [
            ((true, true, true), Course::Go),
            ((true, false, true), Course::Go),
            ((false, true, true), Course::Ask),
            ((false, true, false), Course::Ask),
            ((false, false, true), Course::Refuse),
            ((false, false, false), Course::Go),
        ];
        for ((yes, terminal, harm), wanted) in table {
            assert_eq!(
                course(yes, terminal, harm),
                wanted,
                "{yes} {terminal} {harm}"
            );
        }
    }
}
