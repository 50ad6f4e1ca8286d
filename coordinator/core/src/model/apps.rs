//! Apps: the ports of a session that its people may reach, as asked for and as they stand.

use super::entities::{Container, Session};
use super::event::Refusal;
use super::exec::exec_container;
use longshore_common::api::{MemberError, NewPort};
use longshore_common::ids::Rank;
use longshore_common::session::{AppPort, Protocol};

/// Apps of one session.
const MOST: usize = 32;
/// Bytes of the command of one: a set of orders has room for all of them.
const COMMAND: usize = 4096;
/// Words of it.
const WORDS: usize = 64;
/// Reached by other ways than a port.
pub const BUILT_IN: [&str; 2] = ["terminal", "ssh"];

/// What starts the programs that people ask for most. They listen inside alone and want no
/// token of their own, since whoever comes through the tunnel has shown who it is.
fn own_command(name: &str) -> Vec<String> {
    let words: &[&str] = match name {
        "jupyter" | "jupyterlab" => &[
            "jupyter",
            "lab",
            "--ip=127.0.0.1",
            "--port={port}",
            "--port-retries=0",
            "--no-browser",
            "--allow-root",
            "--ServerApp.token=",
            "--ServerApp.password=",
        ],
        "code" => &["code-server", "--bind-addr=127.0.0.1:{port}", "--auth=none"],
        "tensorboard" => &[
            "tensorboard",
            "--host=127.0.0.1",
            "--port={port}",
            "--logdir=.",
        ],
        _ => &[],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let first = name.bytes().next();
    name.len() <= 32
        && name.bytes().all(good)
        && first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The ports of a request.
///
/// # Errors
/// LS-PORT with everything that is wrong.
pub(super) fn ports(asked: &[NewPort]) -> Result<Vec<AppPort>, Refusal> {
    let mut errors: Vec<MemberError> = Vec::new();
    let mut ports: Vec<AppPort> = Vec::new();
    let mut wrong = |pointer: String, message: String| {
        errors.push(MemberError {
            pointer,
            message,
            ..MemberError::default()
        });
    };
    if asked.len() > MOST {
        let text = format!("A session has at most {MOST} ports.");
        wrong("/ports".to_owned(), text);
    }
    for (at, one) in asked.iter().take(MOST).enumerate() {
        let at = format!("/ports/{at}");
        let name = one.name.as_str();
        if !is_name(name) {
            let text = "A name has 1 to 32 of a-z 0-9 . _ - and begins with a letter or digit.";
            wrong(format!("{at}/name"), text.to_owned());
        } else if BUILT_IN.contains(&name) {
            wrong(format!("{at}/name"), format!("{name} is built in."));
        } else if ports.iter().any(|p| p.name == name) {
            wrong(format!("{at}/name"), format!("{name} is there twice."));
        }
        let port = u16::try_from(one.port).ok().filter(|port| *port > 0);
        let port = port.unwrap_or_else(|| {
            let text = "A port is a whole number from 1 to 65535.".to_owned();
            wrong(format!("{at}/port"), text);
            0
        });
        if port > 0 && ports.iter().any(|p| p.port == port) {
            wrong(format!("{at}/port"), format!("{port} is there twice."));
        }
        let protocol = match one.protocol.as_deref() {
            None => Protocol::Tcp,
            Some(text) => text.parse().unwrap_or_else(|error| {
                wrong(format!("{at}/protocol"), format!("{error}."));
                Protocol::Tcp
            }),
        };
        let bytes: usize = one.command.iter().map(String::len).sum();
        if one.command.len() > WORDS || bytes > COMMAND {
            let text = format!("A command of an app has at most {WORDS} words and 4 KiB.");
            wrong(format!("{at}/command"), text);
        } else if one.command.first().is_some_and(String::is_empty)
            || one.command.iter().any(|word| word.contains('\0'))
        {
            let text = "A command begins with a program and holds no zero bytes.";
            wrong(format!("{at}/command"), text.to_owned());
        }
        ports.push(AppPort {
            name: name.to_owned(),
            protocol,
            port,
            command: match one.command.is_empty() {
                true => own_command(name),
                false => one.command.clone(),
            },
        });
    }
    if errors.is_empty() {
        return Ok(ports);
    }
    Err(Refusal::of_members("LS-PORT", errors))
}

/// The running container of this rank, for a connection to one of the session's ports.
///
/// # Errors
/// LS-PORT for a port the session does not declare, else as [`exec_container`].
pub fn port_container(session: &Session, rank: Rank, port: u16) -> Result<&Container, Refusal> {
    if !session.ports.iter().any(|p| p.port == port) {
        let id = session.id;
        let text = format!("Session {id} declares no port {port}.");
        let declared = session.ports.iter();
        let declared: Vec<String> = declared
            .map(|p| format!("{} ({})", p.port, p.name))
            .collect();
        let hint = match declared.is_empty() {
            true => {
                "A session declares its ports when it is submitted: ports, or --port.".to_owned()
            }
            false => format!("It declares {}.", declared.join(", ")),
        };
        return Err(Refusal::new("LS-PORT", text).hint(hint));
    }
    exec_container(session, rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, port: i64) -> NewPort {
        NewPort {
            name: name.to_owned(),
            port,
            ..NewPort::default()
        }
    }

    #[test]
    fn what_is_not_said_has_its_usual_value() {
        let found = ports(&[port("db", 5432), port("jupyter", 8888)]).unwrap();
        assert_eq!((found[0].protocol, found[0].port), (Protocol::Tcp, 5432));
        assert!(found[0].command.is_empty());
        assert_eq!(found[1].command[0], "jupyter");
        let own = NewPort {
            command: vec!["mine".to_owned()],
            protocol: Some("http".to_owned()),
            ..port("jupyter", 1)
        };
        let found = ports(&[own]).unwrap();
        assert_eq!(found[0].command, ["mine"]);
        assert_eq!(found[0].protocol, Protocol::Http);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let bad = [
            port("A", 1),
            port("ssh", 2),
            port("web", 0),
            port("web", 65_536),
            NewPort {
                protocol: Some("udp".to_owned()),
                command: vec![String::new()],
                ..port("x", 1)
            },
        ];
        let refused = ports(&bad).unwrap_err();
        assert_eq!(refused.code, "LS-PORT");
        let pointers: Vec<&str> = refused.errors.iter().map(|e| e.pointer.as_str()).collect();
        let all = [
            "/ports/0/name",
            "/ports/1/name",
            "/ports/2/port",
            "/ports/3/name",
            "/ports/3/port",
            "/ports/4/port",
            "/ports/4/protocol",
            "/ports/4/command",
        ];
        assert_eq!(pointers, all);
        let many: Vec<NewPort> = (1..34).map(|n| port(&format!("p{n}"), n)).collect();
        assert_eq!(ports(&many).unwrap_err().errors[0].pointer, "/ports");
    }
}
