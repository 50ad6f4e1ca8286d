//! The files made for a container: its home, `/run/longshore`, and the account files
//! that give its user a name.
//!
//! Account files are merged once per image and user and shared by all containers made
//! of them; the image's own are read once per image, from a container that is never
//! started. Removing is idempotent.

use super::engine::{CallError, Engine};
use super::request::LABEL;
use crate::runtime::CreateRequest;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptions, RemoveContainerOptions,
};
use futures_util::TryStreamExt;
use longshore_common::ids::{AgentId, ClusterId, ContainerKey};
use longshore_common::network::SessionNetwork;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest account file that is taken over from an image.
const ACCOUNTS_MAX: usize = 1 << 20;

/// Where the files of one container lie on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Paths {
    /// Becomes the home directory.
    pub home: PathBuf,
    /// Becomes `/run/longshore`.
    pub run: PathBuf,
    /// Becomes `/etc/passwd`.
    pub passwd: PathBuf,
    /// Becomes `/etc/group`.
    pub group: PathBuf,
    /// Becomes the entry of `sudo`.
    pub sudoers: Option<PathBuf>,
    /// Becomes `/etc/hosts`.
    pub hosts: Option<PathBuf>,
}

/// The directories under which everything is made.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// Survives a reboot.
    pub state_dir: PathBuf,
    /// Does not.
    pub run_dir: PathBuf,
}

impl Files {
    /// Makes the files of one container. The image's own account files must be there
    /// already, see [`Files::has_accounts`].
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn make(&self, request: &CreateRequest) -> io::Result<Paths> {
        let (uid, gid) = (request.spec.uid, request.spec.gid);
        let home = self.make_home(request)?;
        let run = self.session_run(request.key);
        directory(&self.given(request.key), 0o700)?;
        directory(&run, 0o755)?;
        write_aside(&run.join("session.json"), session_json(request).as_bytes())?;
        let sudo = request.spec.sudo;
        let (passwd, group) = self.accounts_of(&request.image.id, (uid, gid), sudo)?;
        let sudoers = self.session_dir(request.key).join("sudoers");
        if sudo {
            let line = format!("#{uid} ALL=(ALL:ALL) NOPASSWD: ALL\n");
            write_with_mode(&sudoers, line.as_bytes(), 0o440)?;
        }
        let hosts = self.session_dir(request.key).join("hosts");
        if let Some(network) = &request.network {
            write_aside(&hosts, hosts_file(network).as_bytes())?;
        }
        Ok(Paths {
            hosts: request.network.is_some().then_some(hosts),
            sudoers: sudo.then_some(sudoers),
            home,
            run,
            passwd,
            group,
        })
    }

    /// Makes the home of one container.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn make_home(&self, request: &CreateRequest) -> io::Result<PathBuf> {
        let home = self.session_dir(request.key).join("home");
        directory(&self.session_dir(request.key), 0o700)?;
        directory(&home, 0o700)?;
        chown(&home, Some(request.spec.uid), Some(request.spec.gid))?;
        Ok(home)
    }

    /// Puts members into the file that a container reads about itself, in place of those of
    /// the same names.
    ///
    /// # Errors
    /// Whatever the file system says; one that is gone is none.
    pub(super) fn tell(&self, key: ContainerKey, members: &serde_json::Value) -> io::Result<()> {
        let path = self.session_run(key).join("session.json");
        let text = fs::read(&path)?;
        let mut whole: serde_json::Value = serde_json::from_slice(&text)?;
        if let (Some(whole), Some(members)) = (whole.as_object_mut(), members.as_object()) {
            whole.remove("warning");
            let members = members.iter();
            whole.extend(members.map(|(name, value)| (name.clone(), value.clone())));
        }
        write_aside(&path, whole.to_string().as_bytes())
    }

    /// Removes the files of one container; done already is done.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn remove(&self, key: ContainerKey) -> io::Result<()> {
        for path in [self.given(key), self.session_dir(key)] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => (),
            }
        }
        Ok(())
    }

    /// Whether the image's own account files were read already.
    #[must_use]
    pub(super) fn has_accounts(&self, image_id: &str) -> bool {
        self.image_dir(image_id).join("group").exists()
    }

    fn keep_accounts(&self, image_id: &str, passwd: &[u8], group: &[u8]) -> io::Result<()> {
        let dir = self.image_dir(image_id);
        directory(&dir, 0o700)?;
        write_aside(&dir.join("passwd"), passwd)?;
        // Last: its presence says that both are there.
        write_aside(&dir.join("group"), group)
    }

    fn accounts_of(
        &self,
        image_id: &str,
        (uid, gid): (u32, u32),
        sudo: bool,
    ) -> io::Result<(PathBuf, PathBuf)> {
        let dir = self.image_dir(image_id);
        // An `x` sends whoever asks whether the account is good to a second file, which has no
        // line for it, and `sudo` asks. Neither lets anybody in by a password.
        let (end, lock) = match sudo {
            true => ("-sudo", '*'),
            false => ("", 'x'),
        };
        let passwd = dir.join(format!("passwd-{uid}-{gid}{end}"));
        let group = dir.join(format!("group-{gid}"));
        if !passwd.exists() {
            let text = merged(
                &format!("work:{lock}:{uid}:{gid}::/home/work:/bin/sh"),
                &fs::read(dir.join("passwd"))?,
            );
            write_aside(&passwd, &text)?;
        }
        if !group.exists() {
            let text = merged(&format!("work:x:{gid}:"), &fs::read(dir.join("group"))?);
            write_aside(&group, &text)?;
        }
        Ok((passwd, group))
    }

    fn session_dir(&self, key: ContainerKey) -> PathBuf {
        self.state_dir.join("sessions").join(key.to_string())
    }

    fn session_run(&self, key: ContainerKey) -> PathBuf {
        self.given(key).join("run")
    }

    /// Where everything lies that containers are given.
    pub(super) fn given_root(&self) -> PathBuf {
        given_root(&self.run_dir)
    }

    /// The part of one container.
    pub(super) fn given(&self, key: ContainerKey) -> PathBuf {
        self.given_root().join(key.to_string())
    }

    fn image_dir(&self, image_id: &str) -> PathBuf {
        let digest = ring::digest::digest(&ring::digest::SHA256, image_id.as_bytes());
        let name: String = digest.as_ref()[..16]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        self.state_dir.join("accounts").join(name)
    }
}

/// Where everything lies that containers are given, below the run directory of an agent.
pub(crate) fn given_root(run_dir: &Path) -> PathBuf {
    run_dir.join("sessions")
}

/// Our line stands first, because the first match of a number wins when a program asks
/// for the name of its user.
fn merged(line: &str, original: &[u8]) -> Vec<u8> {
    let mut text = format!("{line}\n").into_bytes();
    text.extend_from_slice(original);
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text
}

/// Names of all containers of a session, in place of what the engine would write.
fn hosts_file(network: &SessionNetwork) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for (rank, at) in &network.hosts {
        text.push_str(&format!("{at}\t{rank}\n"));
    }
    text
}

fn session_json(request: &CreateRequest) -> String {
    let spec = &request.spec;
    let devices: Vec<&str> = spec
        .devices
        .iter()
        .map(|grant| grant.device.as_str())
        .collect();
    serde_json::json!({
        "session": request.key.session.to_string(),
        "rank": request.key.rank.to_string(),
        "attempt": request.key.attempt.0,
        "type": spec.kind.as_str(),
        "owner": spec.owner,
        "image": spec.image,
        "slots": spec.slots,
        "devices": devices,
        "not_after": request.not_after,
    })
    .to_string()
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)?;
    // The mask of the process takes bits off that users of the container need.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Readers, mounts among them, see the old file or the new one, never half of it.
fn write_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o644)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Two containers of one user may write the same file at once.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let mut file = fs::File::create(&aside)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    fs::rename(&aside, path)
}

/// Reads the account files of an image, by a container that is never started, and keeps
/// them. An image without them gives empty ones.
///
/// # Errors
/// What the engine said.
pub(super) async fn read_accounts(
    engine: &Engine,
    files: &Files,
    (cluster, agent): (ClusterId, AgentId),
    image_id: &str,
) -> Result<(), CallError> {
    let short: String = image_id
        .trim_start_matches("sha256:")
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(12)
        .collect();
    let name = make_probe(engine, (cluster, agent), image_id, &short).await?;
    let passwd = read(engine, &name, "/etc/passwd").await;
    let group = read(engine, &name, "/etc/group").await;
    remove(engine, &name).await?;
    files
        .keep_accounts(image_id, &passwd?, &group?)
        .map_err(|error| CallError::Strange(format!("account files of the image: {error}")))
}

/// Makes a container of an image that is never started, to look into the image; the answer is
/// its name. `purpose` tells it from the others of this agent.
///
/// # Errors
/// What the engine said.
pub(super) async fn make_probe(
    engine: &Engine,
    (cluster, agent): (ClusterId, AgentId),
    image_id: &str,
    purpose: &str,
) -> Result<String, CallError> {
    let agent_text = agent.to_string();
    let name = format!(
        "longshore-{}-probe-{}-{purpose}",
        cluster.short(),
        &agent_text[agent_text.len() - 8..]
    );
    let body = ContainerCreateBody {
        image: Some(image_id.to_owned()),
        entrypoint: Some(Vec::new()),
        cmd: Some(vec!["/never-started".to_owned()]),
        labels: Some(
            [
                ("cluster", cluster.to_string()),
                ("agent", agent_text),
                ("probe", "accounts".to_owned()),
                // Over those that the image may bring along: it is nobody's session.
                ("session", String::new()),
                ("rank", String::new()),
                ("attempt", String::new()),
            ]
            .map(|(label, value)| (format!("{LABEL}{label}"), value))
            .into(),
        ),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    remove(engine, &name).await?; // left behind by an agent that died here
    let options = CreateContainerOptions {
        name: Some(name.clone()),
        ..Default::default()
    };
    engine
        .call("create", 120, |client| async move {
            client.create_container(Some(options), body).await
        })
        .await?;
    Ok(name)
}

/// Removes such a container.
///
/// # Errors
/// What the engine said.
pub(super) async fn remove(engine: &Engine, name: &str) -> Result<(), CallError> {
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        ..Default::default()
    };
    let result = engine
        .call("remove", 60, |client| async move {
            client.remove_container(name, Some(options)).await
        })
        .await;
    match result {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

async fn read(engine: &Engine, name: &str, path: &str) -> Result<Vec<u8>, CallError> {
    let options = DownloadFromContainerOptions {
        path: path.to_owned(),
    };
    let result = engine
        .call("archive", 60, |client| async move {
            let mut stream = client.download_from_container(name, Some(options));
            let mut bytes = Vec::new();
            while let Some(part) = stream.try_next().await? {
                bytes.extend_from_slice(&part);
                if bytes.len() > 2 * ACCOUNTS_MAX {
                    break;
                }
            }
            Ok(bytes)
        })
        .await;
    match result {
        Ok(archive) => Ok(first_file(&archive).unwrap_or_default().to_vec()),
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The content of the first regular file of a tar archive. Anything else in its place
/// (a link, a directory, a file too large) counts as no file.
fn first_file(archive: &[u8]) -> Option<&[u8]> {
    let mut rest = archive;
    loop {
        let header = rest.get(..512)?;
        let size_text = std::str::from_utf8(&header[124..136]).ok()?;
        let size = usize::from_str_radix(size_text.trim_matches([' ', '\0']), 8).ok()?;
        let content = rest.get(512..)?;
        match header[156] {
            b'0' | 0 => return content.get(..size).filter(|_| size <= ACCOUNTS_MAX),
            // Extended headers stand before the file they speak of.
            b'x' | b'g' | b'L' | b'K' => rest = content.get(size.next_multiple_of(512)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, Rank, SessionId};
    use std::net::Ipv4Addr;

    fn entry(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..6].copy_from_slice(b"passwd");
        bytes[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        bytes[156] = kind;
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn archives_give_their_first_file_and_nothing_else() {
        assert_eq!(
            first_file(&entry(b'0', b"root:x:0:0")),
            Some(&b"root:x:0:0"[..])
        );
        let extended = [entry(b'x', b"30 path=passwd\n"), entry(b'0', b"a")].concat();
        assert_eq!(first_file(&extended), Some(&b"a"[..]));
        assert_eq!(first_file(&entry(b'2', b"")), None, "a link");
        for cut in [0, 100, 511, 512, 515] {
            assert_eq!(first_file(&entry(b'0', b"root:x:0:0")[..cut]), None);
        }
    }

    /// As it is made by a daemon that runs with a mask.
    #[test]
    fn a_directory_has_the_mode_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        directory(&path, 0o755).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn every_container_of_a_session_has_its_name_in_the_hosts_file() {
        let network = SessionNetwork {
            session: SessionId(1),
            attempt: Attempt(1),
            own: None,
            hosts: vec![
                (Rank(0), Ipv4Addr::new(10, 214, 0, 3)),
                (Rank(1), Ipv4Addr::new(10, 214, 0, 4)),
            ],
        };
        let text = hosts_file(&network);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "127.0.0.1\tlocalhost");
        assert_eq!(lines[2..], ["10.214.0.3\tmain1", "10.214.0.4\tsub1"]);
    }

    #[test]
    fn our_user_comes_first_and_nothing_is_lost() {
        assert_eq!(
            merged("work:x:5:5:", b"root:x:0:"),
            b"work:x:5:5:\nroot:x:0:\n"
        );
        assert_eq!(merged("work:x:5:5:", b""), b"work:x:5:5:\n");
    }

    #[test]
    fn accounts_are_merged_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files {
            state_dir: dir.path().join("s"),
            run_dir: dir.path().join("r"),
        };
        assert!(!files.has_accounts("sha256:1"));
        files
            .keep_accounts("sha256:1", b"root:x:0:0::/:/bin/sh\n", b"")
            .unwrap();
        assert!(files.has_accounts("sha256:1"));
        let (passwd, group) = files
            .accounts_of("sha256:1", (20_000, 20_001), false)
            .unwrap();
        assert!(
            fs::read_to_string(passwd)
                .unwrap()
                .starts_with("work:x:20000:20001::/home/work:/bin/sh\nroot:")
        );
        assert_eq!(fs::read_to_string(group).unwrap(), "work:x:20001:\n");
        let (sudo, _) = files
            .accounts_of("sha256:1", (20_000, 20_001), true)
            .unwrap();
        let text = fs::read_to_string(sudo).unwrap();
        assert!(text.starts_with("work:*:20000:20001:"), "{text}");
    }
}
