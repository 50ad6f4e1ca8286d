//! `ssh`: the program ssh to a session, over a command of ours.
//!
//! Nothing listens for it: the session's own sshd is begun for one connection, as a command
//! whose input and output are that connection. Who may do that was asked by the coordinator,
//! so the keys of both sides only satisfy the protocol.

use crate::app::App;
use crate::client::Client;
use crate::contexts;
use crate::error::{Failure, code};
use crate::reach::{self, Input, Left, Local};
use crate::values::SessionRef;
use longshore_common::api::NewExec;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Looks for sshd, and says who one is inside. 127 = the image has none.
const LOOK: &str = r#"for d in "$(command -v sshd)" /usr/sbin/sshd /usr/local/sbin/sshd /sbin/sshd; do
  if [ -n "$d" ] && [ -x "$d" ]; then id -un; exit; fi
done
exit 127"#;
/// Begins it for one connection. It writes only below a directory that is its user's alone. An
/// sshd gives nothing of its own environment on, so the session's is named in its configuration;
/// values it could not read back (line ends, quotes, backslashes) are left out. In memory where
/// there is a place for it: a value of a vault has no business in a layer of the container.
const SERVE: &str = r#"set -eu
for d in "$(command -v sshd || true)" /usr/sbin/sshd /usr/local/sbin/sshd /sbin/sshd; do
  if [ -n "$d" ] && [ -x "$d" ]; then break; fi
done
umask 077
t=${TMPDIR:-/tmp}
if [ -d /dev/shm ] && [ -w /dev/shm ]; then t=/dev/shm; fi
t=$t/longshore-ssh-$(id -u)
mkdir "$t" 2>/dev/null || [ -O "$t" ]
if [ ! -f "$t/host" ]; then
  ssh-keygen -q -t ed25519 -N '' -f "$t/host.$$"
  rm -f "$t/host.$$.pub"
  mv "$t/host.$$" "$t/host"
fi
for f in "$t"/keys.* "$t"/conf.*; do
  kill -0 "${f##*.}" 2>/dev/null || rm -f "$f"
done
printf '%s\n' "$1" > "$t/keys.$$"
{
  printf SetEnv
  cat /proc/$$/environ | tr '\n\000' '\001\n' | while IFS= read -r v; do
    case $v in
      *"$(printf '\001')"* | *\"* | *\\*) ;;
      HOME=* | USER=* | LOGNAME=* | SHELL=* | MAIL=* | TERM=* | PWD=* | SHLVL=* | _=* | SSH_*) ;;
      [A-Za-z_]*=*) printf ' "%s"' "$v" ;;
    esac
  done
  echo
} > "$t/conf.$$"
# Before OpenSSH 7.8 nothing could be given on.
"$d" -t -f "$t/conf.$$" -h "$t/host" 2>/dev/null || : > "$t/conf.$$"
exec "$d" -i -e -f "$t/conf.$$" -h "$t/host" -o UsePAM=no -o StrictModes=no -o PidFile=none \
  -o "AuthorizedKeysFile=$t/keys.$$" -o PasswordAuthentication=no -o LogLevel=ERROR \
  -o KbdInteractiveAuthentication=no -o Subsystem='sftp internal-sftp'"#;

/// Flags of `ssh`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// Be the connection itself, with this public key: for ssh, which is given this command
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) proxy: Option<PathBuf>,
    /// A command and its arguments, and before it further flags of ssh; absent: a login shell
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub(crate) command: Vec<String>,
}

/// Runs ssh, or is its connection.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    match &args.proxy {
        Some(key) => serve(&client, &args.id, key).await,
        None => begin(app, &client, args).await,
    }
}

fn shell(script: &str, argument: Option<String>) -> NewExec {
    let words = ["/bin/sh", "-c", script, "sshd"].map(str::to_owned);
    NewExec {
        command: words.into_iter().chain(argument).collect(),
        ..NewExec::default()
    }
}

/// The connection: standard input and output are it.
async fn serve(client: &Client, id: &SessionRef, key: &Path) -> Result<u8, Failure> {
    let key = std::fs::read_to_string(key)
        .map_err(|error| Failure::failed(format!("{}: {error}", key.display())))?;
    let wish = shell(SERVE, Some(key.trim().to_owned()));
    let local = Local::new(false)?;
    let opened = super::exec::open(client, id, &wish).await?;
    let socket = reach::connect(client, &opened).await?;
    let (_, left) = reach::talk(socket, &mut Input::standard(), local).await;
    Ok(match left? {
        Left::Exited(code) => u8::try_from(code & 0xff).unwrap_or(code::ATTACHED),
        Left::Away(signal) => 128 + signal,
        Left::Lost => code::ATTACHED,
    })
}

async fn begin(app: &App, client: &Client, args: Args) -> Result<u8, Failure> {
    let path = client.session_path(&args.id).await?;
    let word = path.trim_start_matches("/sessions/").to_owned();
    let user = user_inside(client, &args.id).await?;
    let key = key_of_ours()?;
    let own = std::env::current_exe()?;
    let mut proxy = vec![own.display().to_string()];
    if let Some(context) = &app.global.context {
        proxy.extend(["--context".to_owned(), context.clone()]);
    }
    let public = key.with_extension("pub").display().to_string();
    proxy.extend(["ssh", "--proxy", &public, &word].map(str::to_owned));
    let proxy: Vec<String> = proxy.iter().map(|word| quoted(word)).collect();
    let mut ssh = Command::new("ssh");
    ssh.arg("-i").arg(&key);
    for option in [
        &format!("ProxyCommand={}", proxy.join(" ")),
        "IdentitiesOnly=yes",
        // The way there has shown who it is; a key made inside proves no more.
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ] {
        ssh.arg("-o").arg(option);
    }
    ssh.args(["-l", &user]);
    // Flags of ssh stand before its destination, what is run there behind it.
    let flags = args.command.iter().take_while(|word| word.starts_with('-'));
    let flags = flags.count();
    ssh.args(&args.command[..flags]).arg(&word);
    ssh.args(&args.command[flags..]);
    let error = ssh.exec(); // comes back only when it failed
    let text = format!("ssh: {error}");
    let failure = Failure::new(127, text);
    Err(failure.hint("install an OpenSSH client, or use longshore terminal"))
}

/// Who one is inside; also, that there is an sshd.
async fn user_inside(client: &Client, id: &SessionRef) -> Result<String, Failure> {
    let opened = super::exec::open(client, id, &shell(LOOK, None)).await?;
    let socket = reach::connect(client, &opened).await?;
    let mut said = Vec::new();
    let (code, _) = reach::exchange(socket, Input::none(), &mut said).await?;
    let name = String::from_utf8_lossy(&said).trim().to_owned();
    match code {
        0 if is_name(&name) => Ok(name),
        0 => Err(Failure::failed(
            "its image knows no name for the session's user",
        )),
        _ => {
            let failure = Failure::new(127, "the image of the session has no sshd");
            Err(failure.hint("use an image with openssh-server, or longshore terminal"))
        }
    }
}

fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(good) && !name.starts_with('-')
}

/// A key that is used for nothing else, made once. It opens nothing without our own sign-in.
fn key_of_ours() -> Result<PathBuf, Failure> {
    let dir = contexts::path(&contexts::process_env)?;
    let dir = dir.parent().unwrap_or(Path::new(".")).join("ssh");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)?;
    let key = dir.join("id_ed25519");
    if !key.with_extension("pub").exists() {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "longshore", "-f"])
            .arg(&key)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            let failure = Failure::new(127, "ssh-keygen made no key");
            return Err(failure.hint("install an OpenSSH client, or use longshore terminal"));
        }
    }
    Ok(key)
}

/// As a word of a shell, which is what ssh runs its ProxyCommand with; `%` is ssh's own.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_proxy_as_they_are() {
        assert_eq!(quoted("/a b/longshore"), "'/a b/longshore'");
        assert_eq!(quoted("it's 5%"), r"'it'\''s 5%%'");
    }

    #[test]
    fn only_plain_names_reach_ssh() {
        assert!(is_name("work") && is_name("a.b-1"));
        assert!(!is_name("-oX") && !is_name("a b") && !is_name(""));
    }
}
