//! Where the database and the socket of root lie.

use super::told::Told;
use super::{ConfigError, Daemon};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The database in the data directory.
const DATABASE: &str = "longshore.db";
/// The socket in the data directory.
const SOCKET: &str = "local.sock";
/// What fits into the address of a Unix socket, in bytes.
const SOCKET_PATH: usize = 107;

/// `[daemon.database]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// The file; empty = in the data directory.
    pub path: PathBuf,
    /// Seconds for which it is waited when somebody else holds the file, 1 to 60.
    pub busy_timeout_s: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            busy_timeout_s: 5,
        }
    }
}

impl Database {
    /// How long it is waited when somebody else holds the file.
    #[must_use]
    pub fn busy(&self) -> Duration {
        Duration::from_secs(u64::from(self.busy_timeout_s))
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl Daemon {
    /// The file of the database.
    #[must_use]
    pub fn database_file(&self) -> PathBuf {
        match is_empty(&self.database.path) {
            true => self.data_dir.join(DATABASE),
            false => self.database.path.clone(),
        }
    }

    /// The socket for commands of root.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match is_empty(&self.local_socket) {
            true => self.data_dir.join(SOCKET),
            false => self.local_socket.clone(),
        }
    }

    pub(super) fn check_paths(&self) -> Result<(), ConfigError> {
        let mut told = Told::default();
        if !(1..=60).contains(&self.database.busy_timeout_s) {
            told.wrong("daemon.database.busy_timeout_s", "must be 1 to 60");
        }
        for (key, path) in [
            ("daemon.database.path", &self.database.path),
            ("daemon.local_socket", &self.local_socket),
        ] {
            if !is_empty(path) && (!path.is_absolute() || path.file_name().is_none()) {
                told.wrong(key, "must be the whole path of a file, from /");
            }
        }
        if self.local_socket.as_os_str().len() > SOCKET_PATH {
            told.wrong("daemon.local_socket", "must have at most 107 bytes");
        }
        told.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_in_the_data_directory_unless_another_place_is_named() {
        let mut daemon = Daemon {
            data_dir: PathBuf::from("/data"),
            ..Daemon::default()
        };
        assert_eq!(daemon.database_file(), Path::new("/data/longshore.db"));
        assert_eq!(daemon.socket(), Path::new("/data/local.sock"));
        daemon.database.path = PathBuf::from("/disk/a.db");
        daemon.local_socket = PathBuf::from("/run/longshore/coordinator.sock");
        assert_eq!(daemon.database_file(), Path::new("/disk/a.db"));
        assert_eq!(daemon.socket(), daemon.local_socket);
        assert!(daemon.check_paths().is_ok());
        daemon.local_socket = PathBuf::from("run/a.sock");
        assert!(daemon.check_paths().is_err());
        daemon.local_socket = PathBuf::from(format!("/{}", "a".repeat(107)));
        assert!(daemon.check_paths().is_err());
        daemon.local_socket = PathBuf::new();
        daemon.database.busy_timeout_s = 0;
        assert!(daemon.check_paths().is_err());
    }
}
