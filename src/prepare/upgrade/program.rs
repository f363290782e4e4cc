//! Which file is executed in an upgrade, and that nobody else could have written it.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::param::linux_execfn;

use super::{Brief, VARIABLE};
use crate::prepare::walk::{Reached, Walk};
use crate::sys::exec;

/// The path by which this process was executed (`AT_EXECFN`, getauxval(3)): not what a symbolic link in
/// it led to then, for that may lead to a newer program by now.
pub(crate) fn own_path() -> io::Result<PathBuf> {
    let path = Path::new(OsStr::from_bytes(linux_execfn().to_bytes()));
    // By a descriptor: where the kernel says that it was.
    if path.starts_with("/dev/fd") {
        return std::env::current_exe();
    }
    std::path::absolute(path)
}

/// Opens the program at a path, which nobody else could have written or put there. An error is for a
/// person.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, String> {
    let refuse = |why: &dyn std::fmt::Display| format!("the program {}: {why}", path.display());
    let mut walk = Walk::begin(path).map_err(|error| refuse(&error.source))?;
    let name = match walk.go().map_err(|error| refuse(&error.source))? {
        Reached::File(name) => name,
        Reached::Missing(_) => return Err(refuse(&"it isn't there")),
        Reached::Directory | Reached::Other(..) => return Err(refuse(&"it is no regular file")),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let program = openat(walk.here(), &name, flags, Mode::empty()).map_err(|e| refuse(&e))?;
    let stat = fstat(&program).map_err(|error| refuse(&error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse(&"it is no regular file"));
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(refuse(&"it is not executable; `chmod +x` it"));
    }
    walk.check(&walk.path_of(&name), &stat);
    let defects: Vec<_> = walk.into_defects().iter().map(ToString::to_string).collect();
    if defects.is_empty() { Ok(program) } else { Err(refuse(&defects.join("\n  also: "))) }
}

/// Executes it with this process's own arguments and environment, and tells it its part. `title`:
/// `argv[0]`, if not this process's own. Comes back with an error.
pub(crate) fn execute(program: &OwnedFd, title: Option<&str>, brief: &Brief<'_>) -> io::Error {
    let attempt = || {
        let value = brief.open(true)?;
        let mut argv = std::env::args_os();
        let own = argv.next().unwrap_or_default();
        let argv = [title.map_or(own, OsString::from)].into_iter().chain(argv);
        let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
        let envp = others.chain([(OsString::from(VARIABLE), value)]);
        let envp = envp.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        let strings = |all: Vec<Vec<u8>>| all.into_iter().map(CString::new).collect();
        let argv: Result<Vec<_>, _> = strings(argv.map(OsString::into_vec).collect());
        let envp: Result<Vec<_>, _> = strings(envp.collect());
        Err::<(), _>(exec::execute(program, &argv?, &envp?))
    };
    let error = attempt().err().unwrap_or_else(|| io::ErrorKind::Other.into());
    let _ = brief.open(false);
    error
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn whose_it_could_be_is_not_executed() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = |name: &str| directory.path().join(name);
        let mode = |name: &str, mode| {
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::write(path("p"), "x").unwrap();
        symlink("p", path("link")).unwrap();
        mode("p", 0o755);
        open(&path("p")).unwrap();
        open(&path("link")).unwrap();
        for (bits, why) in [(0o775, "group"), (0o757, "can change it"), (0o644, "not executable")] {
            mode("p", bits);
            let error = open(&path("p")).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        mode("p", 0o755);
        assert!(open(&path("none")).unwrap_err().contains("isn't there"));
        assert!(open(directory.path()).unwrap_err().contains("no regular file"));
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(open(&path("p")).unwrap_err().contains("can change it"));
    }
}
