//! What is executed for a command: a program, or the interpreter that a script names.
//!
//! The kernel starts a script by handing its path to the interpreter, which it can't when the script
//! came by a descriptor that the exec closes (execveat(2), BUGS). So its first line is read here, as
//! the kernel reads it (`fs/binfmt_script.c`), and the interpreter is what is executed.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat};

/// As many bytes of a file as the kernel looks at (`BINPRM_BUF_SIZE`).
const LOOKED_AT: usize = 256;

/// How many scripts may be each other's interpreters (`exec_binprm` in fs/exec.c).
const MOST: usize = 4;

/// A program and what it is given.
#[derive(Debug)]
pub(super) struct Command {
    /// The program, pinned.
    pub(super) program: OwnedFd,
    /// Its arguments, the first its path.
    pub(super) argv: Vec<String>,
}

impl Command {
    /// Finds what is executed for `argv`. An error is for a person.
    pub(super) fn find(argv: &[String]) -> Result<Self, String> {
        let mut argv = argv.to_vec();
        for _ in 0..=MOST {
            let path = argv.first().map_or("", String::as_str);
            let program = open(path).map_err(|error| missing(&error))?;
            let Some(line) = first_line(path) else { return Ok(Self { program, argv }) };
            let Interpreter { path: interpreter, argument } = Interpreter::named(&line)?;
            if let Err(error) = open(&interpreter) {
                return Err(format!("its interpreter {interpreter}: {}", missing(&error)));
            }
            argv.splice(0..0, std::iter::once(interpreter).chain(argument));
        }
        Err("it is a script whose interpreter is a script, and so on without end".to_owned())
    }
}

/// What the first line of a script names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Its path.
    pub(crate) path: String,
    /// All that follows, as one argument.
    pub(crate) argument: Option<String>,
}

impl Interpreter {
    /// Reads the line after its `#!`. An error is for a person.
    pub(crate) fn named(line: &str) -> Result<Self, String> {
        let blank = [' ', '\t'];
        let line = line.trim_matches(blank);
        let (path, rest) = line.split_once(blank).unwrap_or((line, ""));
        let argument = Some(rest.trim_matches(blank)).filter(|rest| !rest.is_empty());
        if !path.starts_with('/') {
            let shown = path.escape_debug();
            return Err(format!(
                "it is a script for `{shown}`, which is no absolute path; write its first line as \
                 `#!/usr/bin/...`"
            ));
        }
        Ok(Self { path: path.to_owned(), argument: argument.map(ToOwned::to_owned) })
    }
}

/// The first line of a script, without its `#!`. `None`: it is no script, or can't be read, and then
/// the kernel says what it is.
pub(crate) fn first_line(path: &str) -> Option<String> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(LOOKED_AT as u64).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// A handle on a program that can be executed, by what it is and its mode.
fn open(path: &str) -> io::Result<OwnedFd> {
    let program = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&program)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(io::Error::other("it isn't executable; `chmod a+x` it"));
    }
    Ok(program)
}

/// Why a program isn't there, with what a person may not know of a layer's view.
fn missing(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        format!(
            "{error}; the layer sees the system's programs (`view = \"system\"`) and what a \
             [file.*] grants it"
        )
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_the_kernel_reads_it() {
        let named = |line: &str| Interpreter::named(line).map(|it| (it.path, it.argument));
        let some = |path: &str, argument: Option<&str>| {
            Ok((path.to_owned(), argument.map(ToOwned::to_owned)))
        };
        assert_eq!(named("/bin/sh"), some("/bin/sh", None));
        assert_eq!(named(" \t/bin/sh  "), some("/bin/sh", None));
        // One argument, blanks and all.
        assert_eq!(named("/usr/bin/env -S perl  -w "), some("/usr/bin/env", Some("-S perl  -w")));
        for bad in ["", "  ", "perl", "./perl", "usr/bin/perl x"] {
            assert!(named(bad).unwrap_err().contains("no absolute path"), "{bad}");
        }
    }

    #[test]
    fn a_script_is_an_argument_of_its_interpreter() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let find = |path: &str| {
            let found = Command::find(&[path.to_owned(), "a b".to_owned()]);
            found.map(|command| command.argv)
        };
        let inner = write("inner", "#!/bin/sh -e\n", 0o755);
        let outer = write("outer", &format!("#!{inner} x\n"), 0o755);
        assert_eq!(find(&inner).unwrap(), ["/bin/sh", "-e", &inner, "a b"]);
        assert_eq!(find(&outer).unwrap(), ["/bin/sh", "-e", &inner, "x", &outer, "a b"]);
        let endless = directory.path().join("endless").to_str().unwrap().to_owned();
        write("endless", &format!("#!{endless}\n"), 0o755);
        let none = write("none", "#!/no/such/interpreter\n", 0o755);
        let plain = write("plain", "#!/bin/sh\n", 0o644);
        for (path, why) in [
            (endless, "without end"),
            (none, "its interpreter /no/such/interpreter: No such file"),
            (plain, "isn't executable"),
            (directory.path().to_str().unwrap().to_owned(), "no regular file"),
        ] {
            assert!(find(&path).unwrap_err().contains(why), "{path}");
        }
    }
}
