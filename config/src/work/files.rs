//! Files that sessions get: where they may lie, how they are written, and what is in them.

use super::check::{Code, Finding};
use super::few::Few;
use crate::read::{Format, brief};
use crate::tree::{Entry, Mark, Node, Value, told};
use crate::write::write;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use longshore_common::wire::Owner;

/// The home of a session.
pub const HOME: &str = "/home/work";
/// Where files may be put.
pub const ROOTS: [&str; 4] = ["/home/work", "/work", "/tmp", "/run/longshore/secrets"];
/// Most bytes of one file.
pub const MAX_FILE: usize = 64 * 1024;
/// Most bytes of all files of one session.
pub const MAX_FILES: usize = 1024 * 1024;

const MEMBERS: [&str; 7] = [
    "path",
    "contents",
    "format",
    "target_format",
    "mode",
    "owner",
    "overwrite",
];

/// A file as it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute, without `~`, `.` and doubled slashes.
    pub path: String,
    /// What is in it.
    pub contents: Vec<u8>,
    /// 0 to 0777.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
    /// Otherwise a file of the image stays.
    pub overwrite: bool,
}

/// Reads a file entry.
///
/// # Errors
/// What is wrong with it: the first hundred things, then how many more there are.
pub fn entry(label: &str, at: Mark, node: &Node) -> Result<FileEntry, Vec<Finding>> {
    read(label, at, node).map_err(|found| {
        found.all(|more| Finding {
            code: Code::File,
            path: String::new(),
            at: Mark::default(),
            message: format!("{more}."),
        })
    })
}

/// The same, what is wrong to be told with that of others.
pub(super) fn read(label: &str, at: Mark, node: &Node) -> Result<FileEntry, Few<Finding>> {
    let mut reading = Reading {
        label,
        at,
        findings: Few::default(),
    };
    let Some(members) = node.entries() else {
        reading.wrong("", at, format!("{} must be a map.", reading.path("")));
        return Err(reading.findings);
    };
    for member in members {
        if !MEMBERS.contains(&member.name.as_str()) {
            let path = reading.path(&member.name);
            let message = format!("{path} is not a member of a file.");
            reading.wrong(&member.name, member.at, message);
        }
    }
    let member = |name: &str| {
        let found = members.iter().find(|m| m.name == name);
        found.filter(|m| m.node.value != Value::Null)
    };
    let path = reading.place(member("path"));
    let mode = reading.mode(member("mode"));
    let format = reading.word(member("format"), &["text", "base64"]);
    let target = reading.word(
        member("target_format"),
        &["text", "bytes", "json", "yaml", "toml"],
    );
    let owner = reading.word(member("owner"), &["user", "root"]);
    let overwrite = match member("overwrite") {
        None => true,
        Some(m) => match m.node.value {
            Value::Bool(value) => value,
            _ => {
                let path = reading.path("overwrite");
                reading.wrong("overwrite", m.at, format!("{path} must be true or false."));
                true
            }
        },
    };
    let contents = reading.contents(member("contents"), format == "base64", target);
    match (path, mode, contents) {
        (Some(path), Some(mode), Some(contents)) if reading.findings.is_empty() => Ok(FileEntry {
            path,
            contents,
            mode,
            owner: match owner {
                "root" => Owner::Root,
                _ => Owner::User,
            },
            overwrite,
        }),
        _ => Err(reading.findings),
    }
}

struct Reading<'a> {
    label: &'a str,
    at: Mark,
    findings: Few<Finding>,
}

impl Reading<'_> {
    fn path(&self, member: &str) -> String {
        let mut path = vec!["files", self.label];
        path.extend((!member.is_empty()).then_some(member));
        told(&path)
    }

    fn wrong(&mut self, member: &str, at: Mark, message: String) {
        let path = self.path(member);
        self.findings.add(|| Finding {
            code: Code::File,
            path,
            at,
            message,
        });
    }

    fn text<'n>(&mut self, name: &str, member: Option<&'n Entry>) -> Option<&'n str> {
        let path = self.path(name);
        let Some(member) = member else {
            self.wrong(name, self.at, format!("{path} is required."));
            return None;
        };
        let text = member.node.text();
        if text.is_none() {
            self.wrong(name, member.at, format!("{path} must be text."));
        }
        text
    }

    fn place(&mut self, member: Option<&Entry>) -> Option<String> {
        let text = self.text("path", member)?;
        let placed = resolved(text);
        if placed.is_none() {
            let at = member.map_or(self.at, |m| m.at);
            let message = format!("Path {} is not under an allowed directory.", brief(text));
            self.wrong("path", at, message);
        }
        placed
    }

    fn mode(&mut self, member: Option<&Entry>) -> Option<u32> {
        let Some(member) = member else {
            return Some(0o400);
        };
        let text = member.node.text().unwrap_or_default();
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
        let mode = mode.filter(|mode| *mode <= 0o777);
        if mode.is_none() {
            let message = "Mode must be octal digits between 0 and 0777.";
            self.wrong("mode", member.at, message.to_owned());
        }
        mode
    }

    /// One of some words; the first if there is none.
    fn word(&mut self, member: Option<&Entry>, words: &[&'static str]) -> &'static str {
        let first = words.first().copied().unwrap_or_default();
        let Some(member) = member else { return first };
        let text = member.node.text().unwrap_or_default();
        let known = words.iter().find(|word| **word == text);
        if known.is_none() {
            let path = self.path(&member.name);
            let message = format!("{path} must be one of {}.", words.join(", "));
            self.wrong(&member.name, member.at, message);
        }
        known.copied().unwrap_or(first)
    }

    fn contents(
        &mut self,
        member: Option<&Entry>,
        base64: bool,
        target: &'static str,
    ) -> Option<Vec<u8>> {
        let at = member.map_or(self.at, |m| m.at);
        let label = brief(self.label);
        let bytes = match (target, member) {
            ("json" | "yaml" | "toml", Some(member)) if !base64 => {
                let node = without_nulls(&member.node);
                match structured(target, &node) {
                    Ok(text) => text.into_bytes(),
                    Err(why) => {
                        self.wrong("contents", at, format!("Contents of {label} {why}."));
                        return None;
                    }
                }
            }
            _ => {
                let text = self.text("contents", member)?;
                match base64 {
                    false => text.as_bytes().to_vec(),
                    true => match decoded(text) {
                        Some(bytes) => bytes,
                        None => {
                            let message = format!("Contents of {label} are not valid base64.");
                            self.wrong("contents", at, message);
                            return None;
                        }
                    },
                }
            }
        };
        if bytes.len() > MAX_FILE {
            let message = format!("Contents of {label} must be at most 64 KiB.");
            self.wrong("contents", at, message);
            return None;
        }
        Some(bytes)
    }
}

/// The path inside of the session, if files may be put there.
#[must_use]
pub fn resolved(text: &str) -> Option<String> {
    let home = ["~", "$HOME"].iter().find_map(|word| {
        let rest = text.strip_prefix(word)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{HOME}{rest}"))
    });
    let text = home.unwrap_or_else(|| text.to_owned());
    if !text.starts_with('/') || text.len() > 1024 || text.contains('\0') || text.ends_with('/') {
        return None;
    }
    let mut path = String::new();
    for part in text.split('/') {
        match part {
            "" | "." => (),
            ".." => return None,
            part => {
                path.push('/');
                path.push_str(part);
            }
        }
    }
    let below = |root: &&str| {
        let rest = path.strip_prefix(*root);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    ROOTS.iter().any(below).then_some(path)
}

/// Base64 with or without padding; line breaks and spaces do not count.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&STANDARD, config);
    let letters: String = text.split_ascii_whitespace().collect();
    engine.decode(letters).ok()
}

/// A value in another format: JSON without any space and with sorted keys.
fn structured(target: &str, node: &Node) -> Result<String, &'static str> {
    match target {
        "json" => Ok(node.to_json().to_string()),
        "toml" if node.entries().is_none() => Err("must be a map to be written as TOML"),
        "toml" => Ok(write(Format::Toml, node)),
        _ => Ok(write(Format::Yaml, node)),
    }
}

/// The same without members that are null. Those of lists are data.
#[must_use]
pub fn without_nulls(node: &Node) -> Node {
    let value = match &node.value {
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .filter(|entry| entry.node.value != Value::Null)
                .map(|entry| Entry {
                    node: without_nulls(&entry.node),
                    ..entry.clone()
                })
                .collect(),
        ),
        other => other.clone(),
    };
    Node { at: node.at, value }
}
