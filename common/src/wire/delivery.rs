//! What a container is given beside its order: environment, files, logins of registries.
//!
//! It may hold secrets, so it is no part of the desired set, which agents write down. An agent
//! that is about to create a container, or finds one of its own without its files, asks for it
//! on the state stream; the answer is kept in memory and on tmpfs only.

use super::message::{MAX_ENVIRONMENT, MAX_LIST, MAX_TEXT, Message};
use crate::ids::ContainerKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// Largest delivered file, in bytes.
pub const MAX_DELIVERED_FILE: usize = 64 * 1024;
/// Most bytes of all delivered files of one container.
pub const MAX_DELIVERED_FILES: usize = 1024 * 1024;
/// Largest merged document, in bytes.
pub const MAX_DELIVERED_CONFIG: usize = 2 * 1024 * 1024;
/// Most registries whose logins are delivered.
pub const MAX_DELIVERED_REGISTRIES: usize = 64;

/// Longest signed record of a placement, in bytes. One that would be longer is left out.
pub const MAX_RECORD: usize = 64 * 1024;

/// Everything of one container that may be secret.
///
/// `Debug` prints counts alone.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delivery {
    /// Merged environment: over the image's own, under Longshore's own. Names are unique.
    pub environment: Vec<(String, String)>,
    /// Files by their path; paths are unique.
    pub files: Vec<DeliveredFile>,
    /// The merged document without `environment`, `files` and `agent.registries`, as JSON;
    /// empty = there is none.
    pub config_json: Vec<u8>,
    /// Logins for the pull of this container's image; they never enter the container.
    pub registries: Vec<RegistryLogin>,
    /// Seed of the Ed25519 key pair with which the containers of this attempt log in to each
    /// other; none of a container that is alone.
    pub cluster_key: Option<[u8; 32]>,
    /// What the container was placed as, signed, for its label: see [`SignedRecord`]. Not secret;
    /// empty = there is none.
    ///
    /// [`SignedRecord`]: super::SignedRecord
    pub record: String,
}

/// A file for a container.
///
/// `Debug` prints no contents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredFile {
    /// Its label in the document.
    pub label: String,
    /// Absolute path inside the container, or one that begins with `~/` or `$HOME/`.
    pub path: String,
    /// What it holds, at most [`MAX_DELIVERED_FILE`] bytes.
    pub contents: Vec<u8>,
    /// Permission bits, 0 to 0o777.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
    /// False: a file of the image at this path stays.
    pub overwrite: bool,
    /// True: without it the container does not start.
    pub required: bool,
    /// Id of the vault it came from; none = it came with the request or from a file.
    pub vault: Option<String>,
}

/// Whose a delivered file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// The user of the container.
    User,
    /// Root.
    Root,
}

/// A login for one registry.
///
/// `Debug` prints no password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// Host, with a port where it is not that of its scheme.
    pub host: String,
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("environment", &self.environment.len())
            .field("files", &self.files)
            .field("config_json", &self.config_json.len())
            .field("registries", &self.registries)
            .field("cluster_key", &self.cluster_key.is_some())
            .field("record", &self.record.len())
            .finish()
    }
}

impl fmt::Debug for DeliveredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveredFile")
            .field("label", &self.label)
            .field("path", &self.path)
            .field("bytes", &self.contents.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLogin")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Zeroize for Delivery {
    fn zeroize(&mut self) {
        for (_, value) in &mut self.environment {
            value.zeroize();
        }
        for file in &mut self.files {
            file.contents.zeroize();
        }
        self.config_json.zeroize();
        for login in &mut self.registries {
            login.password.zeroize();
        }
        self.cluster_key.zeroize();
    }
}

impl Zeroize for Given {
    fn zeroize(&mut self) {
        if let Self::Delivery(delivery) = self {
            delivery.zeroize();
        }
    }
}

impl Delivery {
    /// Sizes inside their bounds.
    ///
    /// # Errors
    /// The name of the part that is too large.
    pub fn check(&self) -> Result<(), &'static str> {
        let bytes = self.environment.iter().map(|(k, v)| k.len() + v.len());
        if self.environment.len() > MAX_LIST || bytes.sum::<usize>() > MAX_ENVIRONMENT {
            return Err("environment");
        }
        if self.files.len() > MAX_LIST {
            return Err("files");
        }
        for file in &self.files {
            let texts = [Some(&file.label), Some(&file.path), file.vault.as_ref()];
            if texts.into_iter().flatten().any(|t| t.len() > MAX_TEXT) {
                return Err("text of a file");
            }
            if file.contents.len() > MAX_DELIVERED_FILE {
                return Err("file");
            }
            if file.mode > 0o777 {
                return Err("mode of a file");
            }
        }
        let bytes = self.files.iter().map(|file| file.contents.len());
        if bytes.sum::<usize>() > MAX_DELIVERED_FILES {
            return Err("files");
        }
        if self.config_json.len() > MAX_DELIVERED_CONFIG {
            return Err("document");
        }
        let long = |login: &RegistryLogin| {
            let texts = [&login.host, &login.username, &login.password];
            texts.iter().any(|t| t.len() > MAX_TEXT)
        };
        if self.registries.len() > MAX_DELIVERED_REGISTRIES || self.registries.iter().any(long) {
            return Err("registries");
        }
        if self.record.len() > MAX_RECORD {
            return Err("record");
        }
        Ok(())
    }
}

/// An agent asks for what one of its containers is given. Asked again on each connection until
/// it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaterialRequest {
    /// Which container.
    pub key: ContainerKey,
}

impl Message for MaterialRequest {
    const KIND: u16 = 60;
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// Which container.
    pub key: ContainerKey,
    /// What it is given, or why there is nothing.
    pub given: Given,
}

/// What the coordinator has for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Given {
    /// This.
    Delivery(Box<Delivery>),
    /// A vault that is required cannot be delivered; in words, without values.
    Unavailable(String),
    /// No such container is on this agent, or none that has still to be given something.
    Unknown,
}

impl Message for Material {
    const KIND: u16 = 61;

    fn check_bounds(&self) -> Result<(), &'static str> {
        match &self.given {
            Given::Delivery(delivery) => delivery.check(),
            Given::Unavailable(text) if text.len() > MAX_TEXT => Err("text"),
            Given::Unavailable(_) | Given::Unknown => Ok(()),
        }
    }
}
