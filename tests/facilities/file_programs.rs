//! Ordinary programs that make, move, link and remove in a granted directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use crate::harness::Daemon;
use crate::support::suite::ignore;
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("file_programs::git_commits_in_a_granted_directory", git),
    ("file_programs::sqlite_writes_ahead_in_a_granted_directory", sqlite),
    ("file_programs::a_shell_moves_links_and_removes", shell),
    ("file_programs::a_shell_without_the_rights_does_none_of_it", helpless),
    ("file_programs::python_binds_a_socket", python),
];

pub(crate) const LAYERS: &[Function] = &[];

/// A program of Debian's. The gate installs it, and there it must be.
fn program(name: &str) -> String {
    let path = format!("/usr/bin/{name}");
    let there = Path::new(&path).exists();
    assert!(there || std::env::var_os("CI").is_none(), "{name} is missing: .ci/run installs it");
    if there { path } else { ignore(format!("there is no {name}")) }
}

/// A shell script as a layer that has `rights` on `DIR/work`, and its daemon once it has ended.
fn run(script: &str, rights: &str) -> Daemon {
    // Calls of no group: `cd`, `mkdir -p`, and what git does to its own files and children.
    let policy = format!(
        "[layer.a]\nexec = [\"/bin/sh\", \"-c\", {script:?}]\nview = \"system\"\n\
         syscalls = [\"@core\", \"@loader\", \"@process\", \"@exec\", \"@thread\", \"@file-read\", \
         \"@file-write\", \"chdir\", \"fchdir\", \"chmod\", \"setsid\", \
         \"fcntl(_, in {{F_GETLK, F_SETLK, F_SETLKW}})\"]\nbecause = \"a test\"\nlimits = {{ tasks = 64 }}\n\
         restart = {{ on = \"never\" }}\nenv = {{ HOME = \"DIR/work\", PATH = \"/usr/bin:/bin\" }}\n\
         [file.work]\npath = \"DIR/work\"\ngrant = {{ a = [{rights}] }}\n"
    );
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("work")).unwrap();
        fs::set_permissions(directory.join("work"), Permissions::from_mode(0o777)).unwrap();
    });
    daemon.end();
    daemon
}

fn ended(daemon: &Daemon) {
    assert_eq!(daemon.count("a/0.g1 ended with exit code 0"), 1, "{daemon}");
}

fn git() {
    let git = program("git");
    let script = format!(
        "set -e; cd DIR/work; {git} init -q repo; cd repo; echo one > file; mkdir sub; \
         echo two > sub/file; ln -s file link; {git} config user.email a@b; \
         {git} config user.name a; {git} add -A; {git} commit -qm first; {git} mv sub other; \
         {git} commit -qm second; {git} gc -q; {git} log --format=said:%s"
    );
    let daemon = run(&script, "\"owner\"");
    ended(&daemon);
    for line in ["said:first", "said:second"] {
        assert_eq!(daemon.count(line), 1, "{daemon}");
    }
}

fn sqlite() {
    let sqlite = program("sqlite3");
    let script = format!(
        "{sqlite} DIR/work/base 'pragma journal_mode=wal; create table t(x); \
         insert into t values(41); update t set x = x + 1; select x from t;'"
    );
    let daemon = run(&script, "\"owner\"");
    ended(&daemon);
    for line in ["a/0.g1: wal", "a/0.g1: 42"] {
        assert_eq!(daemon.count(line), 1, "{daemon}");
    }
}

const SHELL: &str = "cd DIR/work; mkdir -p a/b c; echo 1 > a/b/f; mv a/b c/b; mv c/b/f a/f; \
                     ln a/f c/hard; ln -s a/f soft; mkfifo pipe; cat soft; rm soft; rmdir c/b";

fn shell() {
    let daemon = run(&format!("set -e; {SHELL}"), "\"owner\"");
    ended(&daemon);
    let work = daemon.directory().join("work");
    assert_eq!(fs::read_to_string(work.join("c/hard")).unwrap(), "1\n");
    assert!(fs::symlink_metadata(work.join("pipe")).unwrap().file_type().is_fifo());
    for gone in ["c/b", "soft", "a/b"] {
        assert!(!work.join(gone).exists(), "{gone}");
    }
}

fn helpless() {
    let daemon = run(SHELL, "\"read\", \"list\", \"write\", \"truncate\", \"create\", \"remove\"");
    assert_eq!(fs::read_dir(daemon.directory().join("work")).unwrap().count(), 0, "{daemon}");
}

fn python() {
    let python = program("python3");
    let script = "import os, socket\n\
                  s = socket.socket(socket.AF_UNIX)\n\
                  s.bind('DIR/work/door')\n\
                  s.listen(1)\n\
                  print('bound', flush=True)\n\
                  try: socket.socket(socket.AF_UNIX).bind('/door')\n\
                  except OSError as e: print('not in the root:', e.errno)\n";
    let daemon = run(&format!("{python} -c \"{script}\""), "\"socket\"");
    ended(&daemon);
    assert_eq!(daemon.count("bound"), 1, "{daemon}");
    // EROFS or EACCES.
    let refused = daemon.count("not in the root: 30") + daemon.count("not in the root: 13");
    assert_eq!(refused, 1, "{daemon}");
    let door = daemon.directory().join("work/door");
    assert!(fs::symlink_metadata(door).unwrap().file_type().is_socket());
}
