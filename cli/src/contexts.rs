//! Which coordinator, and with which keypair: the file `config.toml` of the user
//! and the environment before it.

use crate::error::{Failure, code};
use crate::tls::Ca;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The context used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All contexts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) context: BTreeMap<String, Context>,
    /// Defaults of flags.
    #[serde(default, skip_serializing_if = "ClientDefaults::is_empty")]
    pub(crate) client: ClientDefaults,
}

/// One coordinator and how to sign in there.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// `https://gpu01.lab:7420`
    pub(crate) url: String,
    /// `sha256:…` of the authority's public key, a file of authorities, or `system`: those that
    /// this machine knows, as where nothing stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// The public part of the keypair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_key: Option<String>,
    /// The secret part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<String>,
    /// A login token instead of a keypair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Where `longshore up` keeps the data of this installation, on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
}

// Secrets must not reach a terminal by way of `{:?}`.
impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("url", &self.url)
            .field("ca", &self.ca)
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Defaults of session flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientDefaults {
    /// `--project`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
    /// `--group`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// `--image`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// `--preset`, for sessions that name no amounts
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) preset: Option<String>,
    /// `-o`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    /// Not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) notify: Option<String>,
}

impl ClientDefaults {
    /// What each of [`crate::defaults::KEYS`] is set to.
    pub(crate) fn values(&self) -> [Option<&str>; 6] {
        let Self {
            project,
            group,
            image,
            preset,
            output,
            notify,
        } = self;
        [project, group, image, preset, output, notify].map(Option::as_deref)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What somebody does who has no context yet.
const NEW_HERE: &str =
    "longshore login https://HOST:7420 signs in at one; longshore up starts one on this machine";

/// Reads a variable of the environment. Tests pass a map.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The program's own environment; an empty variable counts as absent.
pub(crate) fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the file lies.
pub(crate) fn path(env: Env<'_>) -> Result<PathBuf, Failure> {
    let base = env("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env("HOME").map(|home| Path::new(&home).join(".config")))
        .ok_or_else(|| {
            Failure::failed("HOME is not set, so there is no place for config.toml")
                .hint("set HOME or XDG_CONFIG_HOME")
        })?;
    Ok(base.join("longshore/config.toml"))
}

impl File {
    /// Reads the file; an absent one is empty, one that others may read is refused.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let mode = match std::fs::metadata(path) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
        };
        if mode & 0o077 != 0 {
            return Err(Failure::failed(format!(
                "{} holds secrets and can be read by others (mode {:04o})",
                path.display(),
                mode & 0o7777
            ))
            .hint(format!("chmod 600 {}", path.display())));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        toml::from_str(&text).map_err(|error| {
            // The message of the reader without the line it shows: that may hold a secret.
            let before = error
                .span()
                .map_or("", |span| &text[..span.start.min(text.len())]);
            let line = before.matches('\n').count() + 1;
            Failure::usage(format!(
                "{}: line {line}: {}",
                path.display(),
                error.message()
            ))
        })
    }

    /// Writes the file, readable by its owner alone.
    pub(crate) fn store(&self, path: &Path) -> Result<(), Failure> {
        let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(fault)?;
        let text =
            toml::to_string_pretty(self).map_err(|error| Failure::failed(error.to_string()))?;
        let fresh = folder.join(format!(".config.toml.{}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(fault)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(fault)?;
        std::fs::rename(&fresh, path).map_err(fault)
    }

    /// The context to use, and its name if the file has it.
    pub(crate) fn choose(
        &self,
        flag: Option<&str>,
        env: Env<'_>,
    ) -> Result<(Option<String>, Context), Failure> {
        let from_env = env("LONGSHORE_CONTEXT");
        let name = flag.or(from_env.as_deref()).or(self.current.as_deref());
        let named = match name {
            Some(name) => match self.context.get(name) {
                Some(context) => Some((name.to_owned(), context.clone())),
                // A context that was asked for by name must exist; `current` may be overridden.
                None if env("LONGSHORE_URL").is_some() && flag.is_none() && from_env.is_none() => {
                    None
                }
                None => return Err(self.no_context(name)),
            },
            None => None,
        };
        let mut name = named.as_ref().map(|(name, _)| name.clone());
        let mut context = named.map(|(_, context)| context).unwrap_or_default();
        if flag.is_none() {
            if let Some(url) = env("LONGSHORE_URL")
                && url.trim_end_matches('/') != context.url.trim_end_matches('/')
            {
                // Keys of one coordinator are never sent to another.
                context = Context {
                    url,
                    ..Context::default()
                };
                name = None;
            }
            let access = env("LONGSHORE_ACCESS_KEY");
            let secret = env("LONGSHORE_SECRET_KEY");
            if access.is_some() || secret.is_some() {
                context.token = None;
            }
            context.access_key = access.or(context.access_key);
            context.secret_key = secret.or(context.secret_key);
            context.token = env("LONGSHORE_TOKEN").or(context.token);
            context.ca = env("LONGSHORE_CA").or(context.ca);
        }
        if context.url.is_empty() {
            return Err(self.no_coordinator());
        }
        Ok((name, context))
    }

    fn no_coordinator(&self) -> Failure {
        if let Some(name) = self.context.keys().next() {
            return Failure::new(code::DENIED, "no coordinator is chosen")
                .hint(format!("longshore context use {name}"));
        }
        Failure::new(code::DENIED, "no coordinator is known here").hint(NEW_HERE)
    }

    fn no_context(&self, name: &str) -> Failure {
        let known: Vec<&str> = self.context.keys().map(String::as_str).collect();
        let failure = Failure::new(code::NOT_FOUND, format!("there is no context \"{name}\""));
        if known.is_empty() {
            failure.hint(NEW_HERE)
        } else {
            failure.hint(format!("one of: {}", known.join(", ")))
        }
    }
}

impl Context {
    /// Who signs for it; where nobody is named, those this machine knows.
    pub(crate) fn authority(&self) -> Result<Ca, Failure> {
        let ca = self.ca.as_deref().unwrap_or("system");
        ca.parse()
            .map_err(|error| Failure::usage(format!("ca of {}: {error}", self.url)))
    }

    /// What stands behind `Authorization: Bearer`.
    pub(crate) fn bearer(&self) -> Option<String> {
        match (&self.token, &self.access_key, &self.secret_key) {
            (Some(token), _, _) => Some(token.clone()),
            (None, Some(access), Some(secret)) => Some(format!("{access}.{secret}")),
            (None, _, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
current = "gpu01"
[context.gpu01]
url = "https://gpu01.lab:7420"
ca = "sha256:00"
access_key = "LSA"
secret_key = "s1"
[context.two]
url = "https://two:7420"
[client]
group = "default"
"#;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            pairs
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        }
    }

    #[test]
    fn flag_environment_file() {
        let file: File = toml::from_str(TEXT).unwrap();
        let none: &[(&str, &str)] = &[];
        let (name, context) = file.choose(None, &env(none)).unwrap();
        assert_eq!(
            (name.as_deref(), context.bearer().as_deref()),
            (Some("gpu01"), Some("LSA.s1"))
        );
        let vars = [("LONGSHORE_CONTEXT", "two")];
        assert_eq!(
            file.choose(None, &env(&vars)).unwrap().0.as_deref(),
            Some("two")
        );
        assert_eq!(
            file.choose(Some("gpu01"), &env(&vars))
                .unwrap()
                .0
                .as_deref(),
            Some("gpu01")
        );
        let missing = file.choose(Some("three"), &env(none)).unwrap_err();
        assert_eq!(
            (missing.exit, missing.hint.as_deref()),
            (3, Some("one of: gpu01, two"))
        );
    }

    #[test]
    fn who_has_no_context_is_told_what_to_do() {
        let none: &[(&str, &str)] = &[];
        let hint = |file: &File| file.choose(None, &env(none)).unwrap_err().hint.unwrap();
        assert!(hint(&File::default()).starts_with("longshore login "));
        let mut file: File = toml::from_str(TEXT).unwrap();
        file.current = None;
        assert_eq!(hint(&file), "longshore context use gpu01");
    }

    #[test]
    fn keys_stay_with_their_coordinator() {
        let file: File = toml::from_str(TEXT).unwrap();
        let vars = [("LONGSHORE_URL", "https://evil:1")];
        let (name, context) = file.choose(None, &env(&vars)).unwrap();
        assert_eq!((name, context.bearer(), context.ca), (None, None, None));
        let vars = [("LONGSHORE_URL", "https://gpu01.lab:7420/")];
        assert_eq!(
            file.choose(None, &env(&vars))
                .unwrap()
                .1
                .bearer()
                .as_deref(),
            Some("LSA.s1")
        );
    }

    #[test]
    fn modes_and_unknown_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longshore/config.toml");
        assert_eq!(File::load(&path).unwrap(), File::default());
        let file: File = toml::from_str(TEXT).unwrap();
        file.store(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(File::load(&path).unwrap(), file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = File::load(&path).unwrap_err();
        assert!(refused.hint.unwrap().starts_with("chmod 600 "));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "current = \"x\"\nsecret = \"abc\"\n").unwrap();
        let unknown = File::load(&path).unwrap_err();
        assert_eq!(unknown.exit, 2);
        assert!(
            unknown.text.contains("line 2") && !unknown.text.contains("abc"),
            "{}",
            unknown.text
        );
    }

    #[test]
    fn debug_hides_secrets() {
        let file: File = toml::from_str(TEXT).unwrap();
        assert!(!format!("{file:?}").contains("s1\""));
    }
}
