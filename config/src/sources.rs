//! Reads the files of a configuration from disk: the one part of this crate that looks at one.

use crate::load::{Fault, File, Included, Loaded, Sources, load};
use crate::read::{Format, MAX_BYTES};
use crate::schema::Schema;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

/// Where configuration lies unless a variable says otherwise.
pub const DEFAULT_DIR: &str = "/etc/longshore";
/// The variable that says otherwise: directories with `:` between them.
pub const DIR_VARIABLE: &str = "LONGSHORE_CONFIG_DIR";

/// What a program starts with, besides its schema.
#[derive(Debug, Default)]
pub struct Start<'a> {
    /// A file given on the command line, and the key its content belongs under unless it holds
    /// whole keys: it is read in place of [`DEFAULT_DIR`].
    pub file: Option<(&'a Path, Vec<String>)>,
    /// Settings that the program keeps itself: over the files, below the environment.
    pub settings: Vec<(String, serde_json::Value)>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// What the command line sets: its name there, the dotted key, the value.
    pub arguments: Vec<(String, String, String)>,
}

/// Reads everything and makes the configuration.
///
/// # Errors
/// Everything that is wrong.
pub fn start(schema: &Schema, start: Start<'_>) -> Result<Loaded, Vec<Fault>> {
    let Start {
        file: given,
        settings,
        environment,
        arguments,
    } = start;
    let variable = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.clone())
    };
    let named = variable(DIR_VARIABLE).filter(|text| !text.is_empty());
    let mut folders = Vec::new();
    if given.is_none() || named.is_some() {
        let home = variable("HOME");
        folders = directories(named.as_deref(), home.as_deref(), variable)
            .map_err(|fault| vec![fault])?;
    }
    let (mut files, missing) = files_of(&folders, schema.foreign)?;
    if let Some((path, under)) = given {
        let read = file(path, path.to_owned(), under).map_err(|fault| vec![fault])?;
        files.push(File {
            may_be_whole: true,
            ..read
        });
    }
    let sources = Sources {
        files,
        settings,
        environment,
        arguments,
        read_file: &text_file,
        include: &included,
    };
    let mut loaded = load(schema, sources)?;
    loaded.warnings.extend(missing);
    Ok(loaded)
}

/// The directories a variable names.
///
/// # Errors
/// One that is not absolute.
pub fn directories(
    variable: Option<&str>,
    home: Option<&str>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<PathBuf>, Fault> {
    let Some(text) = variable.filter(|text| !text.is_empty()) else {
        return Ok(vec![PathBuf::from(DEFAULT_DIR)]);
    };
    let mut all = Vec::new();
    for part in text.split(':').filter(|part| !part.is_empty()) {
        let mut path = match (part.strip_prefix('~'), home) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                format!("{home}{rest}")
            }
            _ => part.to_owned(),
        };
        while let Some(at) = path.find('$') {
            let name: String = path[at + 1..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let value = lookup(&name).filter(|_| !name.is_empty()).ok_or(Fault {
                place: DIR_VARIABLE.to_owned(),
                message: format!("${name} is not set"),
            })?;
            if value.contains('$') {
                return Err(Fault {
                    place: DIR_VARIABLE.to_owned(),
                    message: format!("${name} holds a $"),
                });
            }
            path.replace_range(at..=at + name.len(), &value);
        }
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            return Err(Fault {
                place: DIR_VARIABLE.to_owned(),
                message: format!("{} is not an absolute path", path.display()),
            });
        }
        all.push(path);
    }
    Ok(all)
}

/// All files of the directories in folding order, and warnings about directories that are not
/// there. What is named after a root of another program is not even opened: it may be for that
/// one's eyes only.
///
/// # Errors
/// A file that cannot be read.
pub fn files_of(
    directories: &[PathBuf],
    foreign: &[&str],
) -> Result<(Vec<File>, Vec<Fault>), Vec<Fault>> {
    let (mut files, mut missing, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for directory in directories {
        if !directory.is_dir() {
            if directory != Path::new(DEFAULT_DIR) {
                missing.push(Fault {
                    place: directory.display().to_string(),
                    message: "there is no such directory of configuration".to_owned(),
                });
            }
            continue;
        }
        let mut found = Vec::new();
        let mut looking = Looking {
            directory,
            foreign,
            found: &mut found,
            faults: &mut faults,
        };
        looking.below(Path::new(""));
        found.sort_by(|a, b| {
            a.as_os_str()
                .as_encoded_bytes()
                .cmp(b.as_os_str().as_encoded_bytes())
        });
        for relative in found {
            // The double slash marks where the directory ends: files of one directory that set
            // one key are told.
            let shown = format!("{}//{}", directory.display(), relative.display());
            let under = relative
                .with_extension("")
                .components()
                .filter_map(|part| match part {
                    Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
                    _ => None,
                })
                .collect();
            match file(&directory.join(&relative), PathBuf::from(shown), under) {
                Ok(file) => files.push(file),
                Err(fault) => faults.push(fault),
            }
        }
    }
    match faults.is_empty() {
        true => Ok((files, missing)),
        false => Err(faults),
    }
}

/// One file, whose content belongs at the top or below a key.
///
/// # Errors
/// It cannot be read, or its name has no known ending.
pub fn file(path: &Path, shown: PathBuf, under: Vec<String>) -> Result<File, Fault> {
    let fault = |message: String| Fault {
        place: path.display().to_string(),
        message,
    };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let format = Format::of_extension(extension).ok_or_else(|| {
        fault("must end in .toml, .yaml, .yml, .json, .conf or .hocon".to_owned())
    })?;
    let (bytes, open_to_all) = bounded(path).map_err(|error| fault(error.to_string()))?;
    Ok(File {
        path: shown,
        under,
        may_be_whole: false,
        format,
        bytes,
        open_to_all,
    })
}

/// At most one byte more than is allowed, so that what is too long is told as such.
fn bounded(path: &Path) -> std::io::Result<(Vec<u8>, bool)> {
    let open = std::fs::File::open(path)?;
    let open_to_all = open.metadata()?.permissions().mode() & 0o007 != 0;
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_BYTES + 1).unwrap_or(u64::MAX);
    open.take(most).read_to_end(&mut bytes)?;
    Ok((bytes, open_to_all))
}

/// A whole file as text, such as one a variable names.
///
/// # Errors
/// What the system says, or that it is too long or no text.
pub fn text_file(path: &Path) -> Result<String, String> {
    let (bytes, _) = bounded(path).map_err(|error| error.to_string())?;
    text_of(bytes)
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has more than {} KiB", MAX_BYTES / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

/// A file that another one includes: below the includer's directory, links followed and then
/// looked at again.
///
/// # Errors
/// Why it is not read.
pub fn included(includer: &Path, name: &str) -> Result<Included, String> {
    let directory = includer.parent().unwrap_or(Path::new("/"));
    let inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let outside = || format!("include \"{name}\": must lie below the directory of this file");
    if name.is_empty() || !inside {
        return Err(outside());
    }
    let say = |error: std::io::Error| format!("include \"{name}\": {error}");
    let directory = directory.canonicalize().map_err(say)?;
    let path = directory.join(name).canonicalize().map_err(say)?;
    if !path.starts_with(&directory) {
        return Err(outside());
    }
    let say = |why: String| format!("include \"{name}\": {why}");
    let (bytes, open_to_all) = bounded(&path).map_err(|error| say(error.to_string()))?;
    Ok(Included {
        text: text_of(bytes).map_err(say)?,
        path,
        open_to_all,
    })
}

/// Looks for configuration files below a directory.
struct Looking<'a> {
    directory: &'a Path,
    foreign: &'a [&'a str],
    /// Their names, relative to the directory.
    found: &'a mut Vec<PathBuf>,
    faults: &'a mut Vec<Fault>,
}

impl Looking<'_> {
    fn below(&mut self, relative: &Path) {
        let here = self.directory.join(relative);
        let entries = match std::fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(error) => {
                self.faults.push(Fault {
                    place: here.display().to_string(),
                    message: error.to_string(),
                });
                return;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let relative = relative.join(&name);
            let is_dir = entry.path().is_dir();
            let root = match is_dir {
                true => relative.clone(),
                false => relative.with_extension(""),
            };
            let root = root.iter().next().and_then(|root| root.to_str());
            if root.is_some_and(|root| self.foreign.contains(&root)) {
                continue;
            }
            if is_dir {
                // A link in a circle ends where the path has become too long for a key.
                if relative.components().count() <= 8 {
                    self.below(&relative);
                }
                continue;
            }
            let extension = relative.extension().and_then(|e| e.to_str());
            if extension.and_then(Format::of_extension).is_some() {
                self.found.push(relative);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_expanded() {
        let lookup = |name: &str| (name == "X").then(|| "/x".to_owned());
        let dirs = |text| directories(Some(text), Some("/home/a"), lookup);
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            dirs("/a:~/b:$X/c").unwrap(),
            paths(&["/a", "/home/a/b", "/x/c"])
        );
        assert_eq!(dirs("").unwrap(), paths(&[DEFAULT_DIR]));
        assert_eq!(dirs("a").unwrap_err().message, "a is not an absolute path");
        assert_eq!(dirs("/$Y").unwrap_err().message, "$Y is not set");
    }

    #[test]
    fn files_come_in_byte_order_with_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("services/sessions.toml", "a = 1");
        put("services.toml", "b = 1");
        put("daemon.conf", "c = 1");
        put(".hidden.toml", "x");
        put("notes.txt", "x");
        // What is for another program would stop the start if it were opened.
        std::os::unix::fs::symlink("gone", dir.path().join("agent.toml")).unwrap();
        std::fs::create_dir(dir.path().join("files")).unwrap();
        std::os::unix::fs::symlink("gone", dir.path().join("files/a.toml")).unwrap();
        let all = [dir.path().to_owned()];
        assert_eq!(files_of(&all, &[]).unwrap_err().len(), 2);
        let (files, missing) = files_of(&all, &["agent", "files"]).unwrap();
        let keys: Vec<String> = files.iter().map(|f| f.under.join(".")).collect();
        assert_eq!(keys, ["daemon", "services", "services.sessions"]);
        assert!(missing.is_empty());
        let (_, missing) = files_of(&[dir.path().join("no")], &[]).unwrap();
        assert_eq!(missing.len(), 1);
    }

    #[test]
    fn nothing_outside_is_included() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("conf");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(dir.path().join("out.conf"), "x = 1").unwrap();
        std::fs::write(inner.join("in.conf"), "y = 1").unwrap();
        std::os::unix::fs::symlink("../out.conf", inner.join("link.conf")).unwrap();
        let from = inner.join("daemon.conf");
        let file = included(&from, "in.conf").unwrap();
        assert_eq!((file.text.as_str(), file.open_to_all), ("y = 1", true));
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(inner.join("in.conf"), mode).unwrap();
        assert!(!included(&from, "in.conf").unwrap().open_to_all);
        for name in ["../out.conf", "link.conf", "/etc/passwd", "", "no.conf"] {
            assert!(included(&from, name).is_err(), "{name}");
        }
    }
}
