//! The Longshore command line. It uses the public API and, on the machine of a
//! coordinator or an agent, starts and stops these programs.

mod app;
mod ask;
mod away;
mod cli;
mod client;
mod clock;
mod columns;
mod commands;
mod contexts;
mod defaults;
mod describe;
mod error;
mod follow;
mod output;
mod place;
mod process;
mod qr;
mod reach;
mod request;
mod tls;
mod values;

use crate::app::App;
use crate::error::{Failure, code};
use std::io::Write;

fn main() {
    let cli = cli::Cli::read(std::env::args_os()).unwrap_or_else(|error| {
        let _ = error.print(); // nobody is left to be told
        if let Some(noun) = cli::noun_of_administration(&error) {
            eprintln!("  tip: longshore admin {noun}");
        }
        std::process::exit(error.exit_code())
    });
    // Only this program's connections use it, and it is installed once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let attached = cli::is_attached(&cli.command);
    let keeps_time = cli::keeps_time(&cli.command);
    let mut app = App::new(cli.global);
    app.take_output();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let work = Box::pin(cli::dispatch(&app, cli.command));
            match app.global.timeout {
                Some(timeout) if !keeps_time => tokio::time::timeout(timeout, work)
                    .await
                    .unwrap_or_else(|_| {
                        Err(Failure::new(
                            code::UNREACHABLE,
                            "the time given with --timeout is over",
                        ))
                    }),
                Some(_) | None => work.await,
            }
        }),
        Err(error) => Err(Failure::failed(format!(
            "the runtime cannot start: {error}"
        ))),
    };
    let exit = match done {
        Ok(exit) => exit,
        Err(failure) => {
            report(&app, &failure);
            exit_code(&failure, attached)
        }
    };
    let _ = std::io::stdout().flush();
    // Not by returning: a thread may still wait for an answer at the terminal.
    std::process::exit(i32::from(exit));
}

fn report(app: &App, failure: &Failure) {
    match &failure.problem {
        Some(problem) if app.output().is_json() => {
            let text = serde_json::to_string_pretty(problem).unwrap_or_default();
            eprintln!("{text}");
        }
        Some(_) | None => eprint!("{}", failure.render()),
    }
}

/// Attached to a session, low codes are the program's: what Longshore has to say has
/// codes of its own there. Wrong usage stays 2, since nothing was started.
fn exit_code(failure: &Failure, attached: bool) -> u8 {
    match failure.exit {
        exit if !attached => exit,
        code::USAGE if failure.problem.is_none() => code::USAGE,
        code::UNREACHABLE if failure.text.contains("--timeout") => code::ATTACHED_TIMEOUT,
        _ => code::ATTACHED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attached_codes() {
        let refused = Failure::new(code::REFUSED, "no");
        assert_eq!(
            (exit_code(&refused, false), exit_code(&refused, true)),
            (6, 125)
        );
        let usage = Failure::usage("no");
        assert_eq!(exit_code(&usage, true), 2);
        let late = Failure::new(code::UNREACHABLE, "the time given with --timeout is over");
        assert_eq!((exit_code(&late, false), exit_code(&late, true)), (7, 124));
    }
}
