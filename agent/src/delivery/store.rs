//! Delivered files on a tmpfs of the host.
//!
//! ```text
//! <root>/                    0700, a tmpfs that is not swapped where the kernel can
//!   <key>/                   0700
//!     run/                   becomes /run/longshore, read-only
//!       secrets/             becomes /run/longshore/secrets
//!       cluster/             keys of a session of several containers
//!     files/<hash of path>   bound to its path, read-only without write bits
//!     delivered              there once everything is
//! ```
//!
//! Everything is made relative to an open directory and without following links: whatever
//! stands in the way, nothing is written elsewhere.

use super::{CLUSTER, Placed, SECRETS};
use longshore_common::wire::Owner;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, open, openat,
    statat, statfs,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What the kernel calls a tmpfs.
const TMPFS: i64 = 0x0102_1994;
/// Largest size of all delivered files of a node: 64 containers with all they may have.
const SIZE: &str = "256m";
/// Says that a container has everything it was given.
const DELIVERED: &str = "delivered";

/// How secrets are kept off disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// A tmpfs of its own that is never swapped.
    NeverSwapped,
    /// A tmpfs of its own; the kernel is too old to keep it out of swap.
    InMemory,
    /// A directory on a tmpfs that is there already: mounting is not allowed.
    Directory,
}

/// Makes the directory of delivered files and mounts a tmpfs on it, unless one is there.
///
/// # Errors
/// It cannot be made, or would lie on a disk.
pub fn mount_root(root: &Path) -> io::Result<Kept> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)?;
    if is_mounted(root)? {
        return Ok(Kept::InMemory); // by an agent before this one
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let base = format!("mode=0700,size={SIZE}");
    let attempt = |options: String| {
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        let options: &CStr = &options;
        mount("longshore", root, "tmpfs", flags, options)
    };
    match attempt(format!("{base},noswap")) {
        Ok(()) => return Ok(Kept::NeverSwapped),
        // Kernels before 6.4 do not know the word.
        Err(Errno::INVAL) => match attempt(base) {
            Ok(()) => return Ok(Kept::InMemory),
            Err(error) if !is_forbidden(error) => return Err(error.into()),
            Err(_) => (),
        },
        Err(error) if !is_forbidden(error) => return Err(error.into()),
        Err(_) => (),
    }
    match statfs(root)?.f_type as i64 == TMPFS {
        true => Ok(Kept::Directory),
        false => Err(io::Error::other(
            "no tmpfs may be mounted there, and it lies on a disk",
        )),
    }
}

fn is_forbidden(error: Errno) -> bool {
    matches!(error, Errno::PERM | Errno::ACCESS)
}

/// Whether something is mounted on a directory.
fn is_mounted(root: &Path) -> io::Result<bool> {
    let above = root.parent().unwrap_or(root);
    Ok(fs::metadata(root)?.dev() != fs::metadata(above)?.dev())
}

/// Takes the tmpfs away again if nothing of a container is left on it.
pub fn unmount_if_empty(root: &Path) {
    let empty = fs::read_dir(root).is_ok_and(|mut names| names.next().is_none());
    if empty && is_mounted(root).unwrap_or(false) {
        // Busy: then it stays, as it does when the agent is killed.
        let _ = unmount(root, UnmountFlags::empty());
    }
}

/// A file that is to be bound to its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundFile {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside.
    pub target: String,
    /// Its mode has no write bits.
    pub read_only: bool,
}

/// The directory of one container, about to be filled.
#[derive(Debug)]
pub struct Filling {
    path: PathBuf,
    dir: OwnedFd,
    files: OwnedFd,
    run: OwnedFd,
    secrets: OwnedFd,
    user: (u32, u32),
}

/// A path may be longer than a name, and has slashes.
fn name_of(target: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, target.as_bytes());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Makes a directory in an open one and opens it.
fn make_dir(at: &OwnedFd, name: &str, mode: u32, owner: (u32, u32)) -> io::Result<OwnedFd> {
    match mkdirat(at, name, Mode::from(0o700)) {
        Ok(()) => {
            let dir = openat(at, name, directory_flags(), Mode::empty())?;
            fchown(
                &dir,
                Some(Uid::from_raw(owner.0)),
                Some(Gid::from_raw(owner.1)),
            )?;
            fchmod(&dir, Mode::from(mode))?; // the mask of the process took bits off
            Ok(dir)
        }
        Err(Errno::EXIST) => Ok(openat(at, name, directory_flags(), Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

/// Makes a new file in an open directory.
fn make_file(
    at: &OwnedFd,
    name: &str,
    bytes: &[u8],
    mode: u32,
    owner: (u32, u32),
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(at, name, flags, Mode::from(0o600))?);
    file.write_all(bytes)?;
    fchown(
        &file,
        Some(Uid::from_raw(owner.0)),
        Some(Gid::from_raw(owner.1)),
    )?;
    fchmod(&file, Mode::from(mode & 0o777))?;
    Ok(())
}

impl Filling {
    /// Makes the directory of a container anew. `user` is the user and group inside.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn begin(path: &Path, user: (u32, u32)) -> io::Result<Self> {
        remove(path)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let dir = open(path, directory_flags(), Mode::empty())?;
        let root = (0, 0);
        let me = fstat(&dir)?;
        // Tests run as anybody; an agent is root.
        let root = if me.st_uid == 0 {
            root
        } else {
            (me.st_uid, me.st_gid)
        };
        let run = make_dir(&dir, "run", 0o755, root)?;
        let files = make_dir(&dir, "files", 0o700, root)?;
        let secrets = make_dir(&run, "secrets", 0o500, user)?;
        Ok(Self {
            path: path.to_owned(),
            dir,
            files,
            run,
            secrets,
            user,
        })
    }

    /// Writes one file, under a name that its path alone decides: made again, it lies where it
    /// was bound from, whatever else is given by then. The answer says what has to be bound;
    /// none when it lies in a directory that is bound already.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn put(&self, placed: &Placed) -> io::Result<Option<BoundFile>> {
        let owner = match placed.file.owner {
            Owner::User => self.user,
            Owner::Root => (0, 0),
        };
        let (bytes, mode) = (&placed.file.contents, placed.file.mode);
        if let Some(rest) = placed
            .target
            .strip_prefix(SECRETS)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            let (dirs, name) = rest.rsplit_once('/').unwrap_or(("", rest));
            let mut at = self.secrets.try_clone()?;
            for part in dirs.split('/').filter(|part| !part.is_empty()) {
                at = make_dir(&at, part, 0o500, self.user)?;
            }
            make_file(&at, name, bytes, mode, owner)?;
            return Ok(None);
        }
        if let Some(name) = placed
            .target
            .strip_prefix(CLUSTER)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            let at = make_dir(&self.run, "cluster", 0o500, self.user)?;
            make_file(&at, name, bytes, mode, owner)?;
            return Ok(None);
        }
        let name = name_of(&placed.target);
        make_file(&self.files, &name, bytes, mode, owner)?;
        Ok(Some(BoundFile {
            source: self.path.join("files").join(name),
            target: placed.target.clone(),
            read_only: mode & 0o222 == 0,
        }))
    }

    /// Everything is there.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn finish(self) -> io::Result<()> {
        make_file(&self.dir, DELIVERED, b"", 0o600, self.user)
    }
}

/// Whether a container has everything it was given.
#[must_use]
pub fn is_delivered(path: &Path) -> bool {
    path.join(DELIVERED).symlink_metadata().is_ok()
}

/// Removes the directory of a container; one that is gone is gone.
///
/// # Errors
/// Whatever the file system says.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the place in a home to which a file will be bound: an empty file and, above it,
/// directories of the user. Left to the engine they would be root's.
///
/// # Errors
/// A link or something else stands in the way, or what the file system says.
pub fn make_mount_point(home: &Path, rest: &str, user: (u32, u32)) -> io::Result<()> {
    make_in_home(home, rest, b"", user)
}

/// Makes a file of the user in a home, where there is none yet, and directories above it.
///
/// # Errors
/// See [`make_mount_point`].
pub fn make_in_home(home: &Path, rest: &str, bytes: &[u8], user: (u32, u32)) -> io::Result<()> {
    let mut at = open(home, directory_flags(), Mode::empty())?;
    let (dirs, name) = rest.rsplit_once('/').unwrap_or(("", rest));
    for part in dirs.split('/').filter(|part| !part.is_empty()) {
        at = make_dir(&at, part, 0o700, user)?;
    }
    match make_file(&at, name, bytes, 0o600, user) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Made for an attempt to create the same container.
            let found = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => Ok(()),
                _ => Err(io::Error::other("something else has this name")),
            }
        }
        made => made,
    }
}

/// Removes the directories of all containers but those that `live` names.
///
/// # Errors
/// Whatever the file system says.
pub fn sweep(root: &Path, live: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let dir = match open(root, directory_flags(), Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." && !live(&name) {
            remove(&root.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::wire::DeliveredFile;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn placed(target: &str, mode: u32) -> Placed {
        Placed {
            target: target.to_owned(),
            file: DeliveredFile {
                label: "l".to_owned(),
                path: target.to_owned(),
                contents: b"hunter2".to_vec(),
                mode,
                owner: Owner::User,
                overwrite: true,
                required: false,
                vault: None,
            },
        }
    }

    /// The user of the test: nobody but root may give files away.
    fn me(dir: &Path) -> (u32, u32) {
        let found = fs::metadata(dir).unwrap();
        (found.uid(), found.gid())
    }

    #[test]
    fn files_have_their_mode_and_lie_where_they_are_bound_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s-1-main1-a1");
        let filling = Filling::begin(&path, me(dir.path())).unwrap();
        let bound = filling.put(&placed("/tmp/a", 0o400)).unwrap().unwrap();
        assert!(bound.read_only);
        assert_eq!(fs::read(&bound.source).unwrap(), b"hunter2");
        let bound = filling.put(&placed("/tmp/b", 0o640)).unwrap().unwrap();
        assert!(!bound.read_only);
        let mode = fs::metadata(&bound.source).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let inside = filling
            .put(&placed("/run/longshore/secrets/a/b", 0o400))
            .unwrap();
        assert_eq!(inside, None);
        assert!(path.join("run/secrets/a/b").exists());
        assert!(!is_delivered(&path), "not before it is finished");
        filling.finish().unwrap();
        // Made again with another one in front, each lies where it was bound from.
        let again = Filling::begin(&path, me(dir.path())).unwrap();
        again.put(&placed("/tmp/0", 0o400)).unwrap();
        assert_eq!(again.put(&placed("/tmp/b", 0o640)).unwrap(), Some(bound));
        again.finish().unwrap();
        assert!(is_delivered(&path));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_link_in_a_home_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (home, other) = (dir.path().join("home"), dir.path().join("other"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(&other, home.join("out")).unwrap();
        symlink(other.join("x"), home.join("file")).unwrap();
        let user = me(dir.path());
        make_mount_point(&home, "out/x", user).unwrap_err();
        make_mount_point(&home, "file", user).unwrap_err();
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        make_mount_point(&home, ".ssh/id", user).unwrap();
        make_mount_point(&home, ".ssh/id", user).unwrap();
        let mode = fs::metadata(home.join(".ssh")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
    }

    #[test]
    fn a_sweep_takes_what_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("sessions");
        sweep(&root, &|_| false).unwrap();
        for name in ["s-1-main1-a1", "s-2-main1-a1"] {
            Filling::begin(&root.join(name), me(dir.path())).unwrap();
        }
        sweep(&root, &|name| name == "s-2-main1-a1").unwrap();
        assert!(!root.join("s-1-main1-a1").exists());
        assert!(root.join("s-2-main1-a1").exists());
    }
}
