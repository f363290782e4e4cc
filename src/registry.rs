//! Which daemons run on this machine: a file for each, locked while its supervisor lives.
//!
//! The files are in `/run/cofferdam/daemons` if the supervisor is root's, otherwise in
//! `$XDG_RUNTIME_DIR/cofferdam/daemons`. A file that can be locked is of a daemon that is gone.
//! They are a convenience for who looks: nothing that is enforced rests on them.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::ident::Name;

/// The most daemons of one name.
const MOST: u32 = 1_000;
/// Callers that wait until they are let in.
const CALLERS: i32 = 16;
/// The longest file that is read.
const LONGEST: u64 = 64 << 10;

/// What is known of a running daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its name; a second daemon of the name `web` is `web-2`.
    pub name: String,
    /// Its supervisor's process.
    pub pid: u32,
    /// Its policy's file.
    pub policy: PathBuf,
    /// The directory of its audit log, if it keeps one.
    pub audit: Option<PathBuf>,
    /// When it was started: seconds since 1970.
    pub started: u64,
}

/// A daemon's place in the registry. It holds as long as the lock is open, by whomever; closed by
/// the kernel when the last of them ends, however it ends.
#[derive(Debug)]
pub struct Entered {
    /// The name by which the daemon is found.
    pub name: String,
    /// The file, to be removed at the end.
    pub path: PathBuf,
    /// Holds the lock.
    pub lock: OwnedFd,
    /// Where the daemon is asked how it is, and told what to do: a Unix stream socket that listens,
    /// which root and the daemon's own user may connect to. To be removed at the end.
    pub door: OwnedFd,
}

/// The daemons of this user on this machine.
#[derive(Clone, Debug)]
pub struct Registry(PathBuf);

impl Registry {
    /// That of the calling user; `None` for a user without a runtime directory.
    pub fn of_user() -> Option<Self> {
        let base = if rustix::process::geteuid().is_root() {
            PathBuf::from("/run")
        } else {
            PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty())?)
        };
        Some(Self::at(base.join("cofferdam/daemons")))
    }

    /// One in another directory.
    pub fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Where the daemon `name` is asked how it is, and told what to do.
    pub fn door(&self, name: &str) -> PathBuf {
        door_beside(&self.file(name))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Enters the process `pid` as the supervisor of a daemon, under its name or, if that runs
    /// already, as `NAME-2` and so on.
    pub fn enter(
        &self,
        name: &Name,
        pid: u32,
        policy: &Path,
        audit: Option<&Path>,
    ) -> io::Result<Entered> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.0)?;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        for number in 1..=MOST {
            let name = if number == 1 { name.to_string() } else { format!("{name}-{number}") };
            let path = self.file(&name);
            let Some(mut file) = take(&path)? else { continue };
            let running = Running {
                name: name.clone(),
                pid,
                policy: whole(policy),
                audit: audit.map(whole),
                started,
            };
            let mut text = serde_json::to_vec(&running)?;
            text.push(b'\n');
            file.set_len(0)?;
            file.write_all(&text)?;
            let door = listen(&door_beside(&path))?;
            return Ok(Entered { name, path, lock: file.into(), door });
        }
        Err(io::Error::other(format!("{MOST} daemons of the name {name} run already")))
    }

    /// The daemons that run, by name. What can't be read is left out.
    pub fn running(&self) -> Vec<Running> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut all: Vec<Running> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .filter_map(|path| read(&path))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// Where the daemon's socket is whose file is at `path`.
pub fn door_beside(path: &Path) -> PathBuf {
    path.with_extension("socket")
}

/// Listens at a path that is this daemon's alone, in place of what another life left there. Nobody
/// else may connect: mode 0600, from before there is a file (unix(7) has bind(2) heed the umask).
fn listen(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let bound = net::bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    net::listen(&socket, CALLERS)?;
    Ok(socket)
}

/// Makes a file and locks it; `None` if another process holds it.
fn take(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    // Somebody who reads holds a lock for a moment.
    for _ in 0..5 {
        let file = File::from(rustix::fs::open(path, flags, mode)?);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.into()),
            Ok(()) => {
                // Who had it may have removed it in between: then this is no file any more.
                let own = file.metadata()?;
                let there = std::fs::symlink_metadata(path);
                if there.is_ok_and(|it| (it.dev(), it.ino()) == (own.dev(), own.ino())) {
                    return Ok(Some(file));
                }
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Option<Running> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    if locked != Err(Errno::WOULDBLOCK) {
        return None;
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_there_while_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::at(folder.path().join("deep/daemons"));
        let name = Name::new("web").unwrap();
        assert_eq!(registry.running(), []);
        let enter = || registry.enter(&name, 17, Path::new("/etc/web.toml"), None).unwrap();
        let (first, second) = (enter(), enter());
        assert_eq!((&*first.name, &*second.name), ("web", "web-2"));
        let names = || registry.running().into_iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!(names(), ["web", "web-2"]);
        assert_eq!(registry.running()[0].pid, 17);
        std::fs::remove_file(&first.path).unwrap();
        drop(first);
        assert_eq!(names(), ["web-2"]);
        assert_eq!(enter().name, "web");
        // One that was killed leaves its file, which nobody holds, and which is used again.
        let left = serde_json::to_vec(&registry.running()[0]).unwrap();
        std::fs::write(folder.path().join("deep/daemons/web.json"), left).unwrap();
        assert_eq!(names(), ["web-2"]);
        assert_eq!(enter().name, "web");
        std::fs::write(folder.path().join("deep/daemons/x.json"), "no").unwrap();
        assert_eq!(names(), ["web-2"]);
    }
}
