//! The kernel's own freezer, for the time in which the container engine does not answer.

use super::cgroup::parse_membership;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Where a kernel shows its processes and control groups.
#[derive(Debug, Clone)]
pub struct Freezer {
    proc: PathBuf,
    mount: PathBuf,
}

impl Default for Freezer {
    fn default() -> Self {
        Self::at(Path::new("/proc"), Path::new(MOUNT))
    }
}

impl Freezer {
    /// The one whose files lie there.
    #[must_use]
    pub fn at(proc: &Path, mount: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            mount: mount.to_owned(),
        }
    }

    /// Stops every process in the control group of a container without ending it.
    ///
    /// # Errors
    /// The group cannot be found or written. A group that does not name the container is not
    /// touched: the number of a process may be another's by now.
    pub fn freeze(&self, pid: u32, docker_id: &str) -> io::Result<()> {
        set(&self.proc, &self.mount, pid, docker_id, true)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As for [`Self::freeze`].
    pub fn thaw(&self, pid: u32, docker_id: &str) -> io::Result<()> {
        set(&self.proc, &self.mount, pid, docker_id, false)
    }

    /// Ends the first process of a container, and with it all others.
    ///
    /// # Errors
    /// As for [`Self::freeze`]; or the kernel refuses.
    pub fn kill(&self, pid: u32, docker_id: &str) -> io::Result<()> {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Opened first: what is looked at then is what gets the signal.
        let process = pidfd_open(number.ok_or_else(gone)?, PidfdFlags::empty())?;
        file(&self.proc, &self.mount, pid, docker_id)?;
        pidfd_send_signal(&process, Signal::KILL)?;
        Ok(())
    }

    /// Whether it is frozen, or about to be; false where that cannot be read.
    #[must_use]
    pub fn is_frozen(&self, pid: u32, docker_id: &str) -> bool {
        let file = file(&self.proc, &self.mount, pid, docker_id);
        let text = file.and_then(|(file, _)| fs::read_to_string(file));
        text.is_ok_and(|text| matches!(text.trim(), "FROZEN" | "FREEZING" | "1"))
    }

    /// Ends a container that is frozen without letting it run again: an old kernel takes no
    /// notice of a kill before the thaw, so every process has its kill when that comes.
    ///
    /// # Errors
    /// As for [`Self::kill`]. It stays frozen then.
    pub fn end(&self, pid: u32, docker_id: &str) -> io::Result<()> {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let (file, _) = file(&self.proc, &self.mount, pid, docker_id)?;
        let members = fs::read_to_string(file.with_file_name("cgroup.procs"))?;
        let numbers = members.lines().filter_map(|line| line.parse().ok());
        for number in numbers.filter_map(Pid::from_raw) {
            // Frozen, none of them ends and gives its number away; one that is gone is gone.
            match pidfd_open(number, PidfdFlags::empty()) {
                Ok(process) => pidfd_send_signal(&process, Signal::KILL)?,
                Err(rustix::io::Errno::SRCH) => (),
                Err(error) => return Err(error.into()),
            }
        }
        self.thaw(pid, docker_id)
    }

    /// Freezes; kills what cannot be frozen, because a new attempt may begin elsewhere.
    ///
    /// # Errors
    /// Neither could be done.
    pub fn freeze_or_kill(&self, pid: u32, docker_id: &str) -> io::Result<()> {
        self.freeze(pid, docker_id)
            .or_else(|_| self.kill(pid, docker_id))
    }
}

/// The file that freezes, and what has to be written into it.
fn file(proc: &Path, mount: &Path, pid: u32, docker_id: &str) -> io::Result<(PathBuf, bool)> {
    let membership = fs::read_to_string(proc.join(pid.to_string()).join("cgroup"))?;
    let groups = parse_membership(&membership);
    let found = match groups.controller("freezer") {
        Some((folder, path)) => Some((mount.join(folder), path, "freezer.state", true)),
        None => groups
            .unified()
            .map(|path| (mount.to_owned(), path, "cgroup.freeze", false)),
    };
    let named = |path: &str| !docker_id.is_empty() && path.contains(docker_id);
    match found.filter(|(_, path, ..)| named(path)) {
        Some((mount, path, name, old)) => {
            Ok((mount.join(path.trim_start_matches('/')).join(name), old))
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn set(proc: &Path, mount: &Path, pid: u32, docker_id: &str, frozen: bool) -> io::Result<()> {
    let (file, old) = file(proc, mount, pid, docker_id)?;
    let text = match (old, frozen) {
        (true, true) => "FROZEN",
        (true, false) => "THAWED",
        (false, true) => "1",
        (false, false) => "0",
    };
    // Never created: what is not there cannot be frozen.
    let mut file = fs::OpenOptions::new().write(true).open(file)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_the_container_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, mount) = (dir.path().join("proc"), dir.path().join("cgroup"));
        for (line, folder, name, frozen, thawed) in [
            (
                "4:freezer:/longshore/abc",
                "freezer/longshore/abc",
                "freezer.state",
                "FROZEN",
                "THAWED",
            ),
            (
                "0::/longshore/abc",
                "longshore/abc",
                "cgroup.freeze",
                "1",
                "0",
            ),
        ] {
            fs::create_dir_all(proc.join("7")).unwrap();
            fs::write(proc.join("7/cgroup"), line).unwrap();
            let folder = mount.join(folder);
            fs::create_dir_all(&folder).unwrap();
            assert!(
                set(&proc, &mount, 7, "abc", true).is_err(),
                "there is no such file"
            );
            fs::write(folder.join(name), "").unwrap();
            let freezer = Freezer::at(&proc, &mount);
            assert!(!freezer.is_frozen(7, "abc"));
            freezer.freeze(7, "abc").unwrap();
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), frozen);
            assert!(freezer.is_frozen(7, "abc") && !freezer.is_frozen(7, "def"));
            fs::write(folder.join(name), "").unwrap();
            assert!(freezer.end(7, "abc").is_err(), "nobody says who is in it");
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "");
            // Above the largest number there is.
            fs::write(folder.join("cgroup.procs"), "1073741824\n").unwrap();
            let gone = freezer.end(7, "abc");
            assert!(gone.is_ok(), "{gone:?}");
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), thawed);
            fs::write(folder.join(name), "").unwrap();
            set(&proc, &mount, 7, "abc", false).unwrap();
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), thawed);
            assert!(
                set(&proc, &mount, 7, "def", true).is_err(),
                "another container"
            );
            assert!(set(&proc, &mount, 7, "", true).is_err());
            assert!(
                set(&proc, &mount, 8, "abc", true).is_err(),
                "no such process"
            );
        }
    }
}
