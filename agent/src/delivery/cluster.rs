//! The key pair with which the containers of a session log in to each other, and what ssh and
//! sshd have to know to use it.
//!
//! One pair serves all of them, for who connects and for who is connected to: whoever holds it is
//! a container of this session. The coordinator sends its seed beside the order; the files are
//! made from that here and lie on a tmpfs alone.

use super::{CLUSTER, Placed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_common::session::ContainerSpec;
use longshore_common::wire::{DeliveredFile, Owner};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// Where sshd listens in containers that wait: the user of a session may not take port 22 on
/// every engine. On the network of the nodes that is the port of the first container, and each of
/// the others has one above it: several of them may be at one address.
const PORT: u16 = 2222;
/// What OpenSSH calls the kind of key.
const KIND: &str = "ssh-ed25519";
/// How a line of the private key is long.
const WIDTH: usize = 70;

/// The names of all containers of a session of several; none of one that is alone.
#[must_use]
pub fn hosts(spec: &ContainerSpec) -> Vec<&str> {
    let names = spec.environment.get("LONGSHORE_CLUSTER_HOSTS");
    let names: Vec<&str> = names
        .into_iter()
        .flat_map(|names| names.split(','))
        .collect();
    match names.len() {
        0 | 1 => Vec::new(),
        _ => names,
    }
}

/// The port of the container with this number.
fn port(shared: bool, number: u16) -> u16 {
    match shared {
        true => PORT.saturating_add(number),
        false => PORT,
    }
}

/// What a container on the network of the others gets; none if the seed is no key. `shared` is the
/// number of the container, counted from 0 in the order of `hosts`, where all of them have the
/// addresses of their nodes; none = each has an address of its own.
#[must_use]
pub fn files(seed: &[u8; 32], hosts: &[&str], shared: Option<u16>) -> Option<Vec<Placed>> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
    let public = pair.public_key().as_ref();
    let line = format!("{KIND} {}", STANDARD.encode(public_blob(public)));
    let ports = (0..).map(|number| port(shared.is_some(), number));
    let at: Vec<(&str, u16)> = hosts.iter().copied().zip(ports).collect();
    let known: Vec<String> = at.iter().map(|(h, port)| format!("[{h}]:{port}")).collect();
    let path = |name: &str| format!("{CLUSTER}/{name}");
    let mut client = String::new();
    for (host, port) in &at {
        client.push_str(&format!("Host {host}\n  Port {port}\n"));
    }
    client.push_str(&format!(
        "Host {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  \
         StrictHostKeyChecking yes\n  CheckHostIP no\n",
        hosts.join(" "),
        path("id_ed25519"),
        path("known_hosts"),
    ));
    let own = port(shared.is_some(), shared.unwrap_or(0));
    let server = format!(
        "Port {own}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n\
         LogLevel ERROR\nSubsystem sftp internal-sftp\n",
        path("id_ed25519"),
        path("authorized_keys"),
    );
    let private = private_key(seed, public).as_bytes().to_vec();
    Some(vec![
        file("id_ed25519", private, 0o400),
        file("id_ed25519.pub", format!("{line}\n").into_bytes(), 0o444),
        file("authorized_keys", format!("{line}\n").into_bytes(), 0o444),
        file(
            "known_hosts",
            format!("{} {line}\n", known.join(",")).into_bytes(),
            0o444,
        ),
        file("ssh_config", client.into_bytes(), 0o444),
        file("sshd_config", server.into_bytes(), 0o444),
    ])
}

/// What the ssh of a container reads by itself, in the home of its user.
#[must_use]
pub fn client_config() -> String {
    format!("# The containers of this session, by their names.\nInclude {CLUSTER}/ssh_config\n")
}

fn file(name: &str, contents: Vec<u8>, mode: u32) -> Placed {
    let path = format!("{CLUSTER}/{name}");
    Placed {
        target: path.clone(),
        file: DeliveredFile {
            label: name.to_owned(),
            path,
            contents,
            mode,
            owner: Owner::User,
            overwrite: true,
            required: false,
            vault: None,
        },
    }
}

/// A text of the protocol of ssh: its length and its bytes (RFC 4251).
fn text(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("parts of keys are short");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}

fn public_blob(public: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(51);
    text(&mut blob, KIND.as_bytes());
    text(&mut blob, public);
    blob
}

/// The private key as OpenSSH keeps one without a passphrase.
fn private_key(seed: &[u8; 32], public: &[u8]) -> Zeroizing<String> {
    // Two equal numbers show who decrypts it that it came out right; it is not encrypted.
    let check = &public[..4];
    let mut secret = Zeroizing::new(Vec::with_capacity(256));
    secret.extend_from_slice(check);
    secret.extend_from_slice(check);
    text(&mut secret, KIND.as_bytes());
    text(&mut secret, public);
    let both = Zeroizing::new([seed.as_slice(), public].concat());
    text(&mut secret, &both);
    text(&mut secret, b"longshore");
    let mut next = 1;
    while !secret.len().is_multiple_of(8) {
        secret.push(next);
        next += 1;
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(512));
    whole.extend_from_slice(b"openssh-key-v1\0");
    for none in ["none", "none", ""] {
        text(&mut whole, none.as_bytes()); // cipher, how its key is made, and with what
    }
    whole.extend_from_slice(&1_u32.to_be_bytes());
    text(&mut whole, &public_blob(public));
    text(&mut whole, &secret);
    let encoded = Zeroizing::new(STANDARD.encode(&*whole));
    let mut out = Zeroizing::new(String::with_capacity(512));
    out.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WIDTH));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    use std::process::Command;

    fn contents(files: &[Placed], name: &str) -> String {
        let mut found = files.iter().filter(|f| f.target.ends_with(name));
        String::from_utf8(found.next().unwrap().file.contents.clone()).unwrap()
    }

    #[test]
    fn openssh_reads_the_key_and_finds_the_public_half_in_it() {
        let files = files(&[7; 32], &["main1", "sub1"], None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut open = std::fs::OpenOptions::new();
        let mut file = open.write(true).create_new(true).mode(0o600).open(&path);
        let text = contents(&files, "/id_ed25519");
        std::io::Write::write_all(file.as_mut().unwrap(), text.as_bytes()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = Command::new("ssh-keygen")
            .args(["-y", "-f"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(read.status.success(), "{read:?}");
        let public = String::from_utf8(read.stdout).unwrap();
        let mut words = public.split_whitespace().take(2);
        let line = contents(&files, "/id_ed25519.pub");
        assert!(words.all(|word| line.contains(word)), "{public} {line}");
        assert_eq!(line, contents(&files, "/authorized_keys"));
    }

    #[test]
    fn each_name_is_known_and_only_the_private_half_is_secret() {
        let files = files(&[1; 32], &["main1", "sub1", "sub2"], None).unwrap();
        let known = contents(&files, "/known_hosts");
        assert!(known.starts_with("[main1]:2222,[sub1]:2222,[sub2]:2222 ssh-ed25519 "));
        let client = contents(&files, "/ssh_config");
        assert!(client.contains("Host sub2\n  Port 2222\n"), "{client}");
        assert!(client.contains("Host main1 sub1 sub2\n  IdentityFile "));
        assert!(contents(&files, "/sshd_config").starts_with("Port 2222\n"));
        for placed in &files {
            let secret = placed.target == format!("{CLUSTER}/id_ed25519");
            assert_eq!(placed.file.mode == 0o400, secret, "{}", placed.target);
        }
        let other = super::files(&[2; 32], &["main1", "sub1"], None).unwrap();
        assert_ne!(contents(&other, ".pub"), contents(&files, ".pub"));
    }

    #[test]
    fn containers_at_one_address_have_a_port_each() {
        let of = |number| files(&[1; 32], &["main1", "sub1", "sub2"], Some(number)).unwrap();
        for (number, port) in [(0, 2222), (2, 2224)] {
            let server = contents(&of(number), "/sshd_config");
            assert!(server.starts_with(&format!("Port {port}\n")), "{server}");
        }
        let files = of(1);
        let known = contents(&files, "/known_hosts");
        assert!(known.starts_with("[main1]:2222,[sub1]:2223,[sub2]:2224 ssh-ed25519 "));
        // ssh takes the first that fits.
        let client = contents(&files, "/ssh_config");
        assert!(client.starts_with("Host main1\n  Port 2222\nHost sub1\n  Port 2223\n"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, client).unwrap();
        let mut ssh = Command::new("ssh");
        let asked = ssh.arg("-F").arg(&path).args(["-G", "sub2"]).output();
        let asked = String::from_utf8(asked.unwrap().stdout).unwrap();
        assert!(asked.lines().any(|line| line == "port 2224"), "{asked}");
        let key = format!("identityfile {CLUSTER}/id_ed25519");
        assert!(asked.lines().any(|line| line == key), "{asked}");
    }
}
