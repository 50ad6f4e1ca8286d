//! The journal of systemd, by its own protocol: fields in a datagram, in a file in memory where
//! that is too large. Lines keep how grave they are, which standard error cannot tell.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::Level;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// A journal that takes nothing for so long is not waited for: the program goes on.
const PATIENCE: Duration = Duration::from_secs(1);

/// For so long after that nobody waits for it again: each line would hold up a thread of the program.
const PAUSE: Duration = Duration::from_secs(10);

/// A way to the journal.
#[derive(Debug)]
pub struct Journal {
    /// Until when lines that it does not take at once go elsewhere.
    hurry_until: Mutex<Option<Instant>>,
    from: UnixDatagram,
    to: SocketAddrUnix,
    program: &'static str,
}

/// Numbers of syslog.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn fields(level: Level, program: &str, line: &[u8]) -> Vec<u8> {
    let text = line.trim_ascii();
    let mut fields = format!(
        "PRIORITY={}\nSYSLOG_IDENTIFIER={program}\nMESSAGE\n",
        priority(level)
    )
    .into_bytes();
    // With its length before it a text may hold ends of lines.
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    fields.extend(length.to_le_bytes());
    fields.extend(text);
    fields.push(b'\n');
    fields
}

impl Journal {
    /// Looks for a journal behind a socket.
    ///
    /// # Errors
    /// There is none.
    pub fn open(socket: &Path, program: &'static str) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(socket)?;
        // Each line names the socket anew: a journal that was started again is another one.
        let from = UnixDatagram::unbound()?;
        from.set_write_timeout(Some(PATIENCE))?;
        let to = SocketAddrUnix::new(socket)?;
        Ok(Self {
            hurry_until: Mutex::new(None),
            from,
            to,
            program,
        })
    }

    /// Hands over a line.
    ///
    /// # Errors
    /// The journal is gone, or takes nothing.
    pub fn line(&self, level: Level, line: &[u8]) -> io::Result<()> {
        let fields = fields(level, self.program, line);
        match self.send(&fields, &mut SendAncillaryBuffer::default()) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_large(&fields),
            sent => Ok(sent?),
        }
    }

    fn hurry_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let until = self.hurry_until.lock();
        until.unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, bytes: &[u8], with: &mut SendAncillaryBuffer<'_, '_, '_>) -> Result<(), Errno> {
        let parts = [IoSlice::new(bytes)];
        let hurry = self
            .hurry_until()
            .is_some_and(|until| Instant::now() < until);
        let mut flags = SendFlags::NOSIGNAL;
        if hurry {
            flags |= SendFlags::DONTWAIT;
        }
        let sent = sendmsg_addr(&self.from, &self.to, &parts, with, flags).map(drop);
        if sent == Err(Errno::AGAIN) && !hurry {
            *self.hurry_until() = Some(Instant::now() + PAUSE);
        }
        sent
    }

    fn send_large(&self, fields: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("longshore-log", flags)?);
        file.write_all(fields)?;
        // The journal takes no file that could become another one while it reads.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        if !with.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(self.send(&[], &mut with)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::{IoSliceMut, Read as _, Seek as _};

    /// What arrives next, in the datagram or in a file beside it.
    fn next(journal: &UnixDatagram) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::DONTWAIT;
        let got = recvmsg(journal, &mut parts, &mut beside, flags).unwrap();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                let mut file = File::from(files.into_iter().next().unwrap());
                let mut whole = Vec::new();
                file.rewind().unwrap();
                file.read_to_end(&mut whole).unwrap();
                return whole;
            }
        }
        bytes.truncate(got.bytes);
        bytes
    }

    #[test]
    fn lines_arrive_with_how_grave_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let log = Journal::open(&path, "longshore-x").unwrap();
        log.line(Level::WARN, b" WARN a: two\nlines\n").unwrap();
        let mut expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=longshore-x\nMESSAGE\n".to_vec();
        expected.extend(17u64.to_le_bytes());
        expected.extend(b"WARN a: two\nlines\n");
        assert_eq!(next(&journal), expected);
        let long = vec![b'x'; 4 << 20];
        log.line(Level::TRACE, &long).unwrap();
        let got = next(&journal);
        assert!(got.starts_with(b"PRIORITY=7\n"));
        assert!(got.len() > long.len() && got.ends_with(b"xxx\n"));
        // A journal that is started again is found again.
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        assert!(log.line(Level::ERROR, b"lost?").is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        log.line(Level::ERROR, b"here").unwrap();
        assert!(next(&journal).starts_with(b"PRIORITY=3\n"));
    }

    #[test]
    fn a_journal_that_is_stuck_is_waited_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let log = Journal::open(&path, "longshore-x").unwrap();
        // It takes some before it is full.
        let line = vec![b'x'; 1 << 10];
        let full = (0..100_000).find(|_| log.line(Level::INFO, &line).is_err());
        assert!(full.is_some());
        let begun = Instant::now();
        for _ in 0..50 {
            let refused = log.line(Level::INFO, &line).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        }
        assert!(begun.elapsed() < PATIENCE * 10, "nobody waited again");
        next(&journal);
        log.line(Level::INFO, &line).unwrap();
    }

    #[test]
    fn without_a_journal_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Journal::open(&dir.path().join("socket"), "longshore-x").is_err());
    }
}
