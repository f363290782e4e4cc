//! Directories that belong to layers: kept for the next lives, private, and given away with nothing
//! that isn't the layer's.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chownat, mkdirat, mknodat, openat};

use crate::Test;
use crate::harness::Daemon;
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("directories::state_is_found_again", found_again),
    ("directories::a_database_goes_on_where_it_was", database),
    ("directories::it_is_private_and_belongs_to_the_layer", private),
    ("directories::an_owner_may_do_what_owners_may", owner),
    ("directories::nothing_of_one_life_is_left", one_life),
    ("directories::another_daemon_does_not_take_it", in_use),
    ("directories::a_new_user_gets_all_that_is_in_it", another_user),
    ("directories::links_lead_nowhere_when_the_owner_changes", links),
    ("directories::a_deep_tree_is_given_away_whole", deep),
    ("directories::no_set_user_id_bit_goes_along", set_user_id),
    ("directories::what_is_anothers_is_not_given_away", of_others),
    ("directories::a_person_s_directory_is_not_taken", of_a_person),
    ("directories::somebody_else_s_place_is_refused", unsafe_place),
];

/// A shell as the layer `a`, whose state is in `DIR/state`.
fn policy(script: &str, more: &str) -> String {
    layer("a", script, more)
}

fn layer(name: &str, script: &str, more: &str) -> String {
    format!(
        "[layer.{name}]\nexec = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         syscalls = [\"@core\", \"@process\", \"@exec\", \"@file-read\", \"@file-write\", \
         \"chdir\", \"fchmodat\", \"symlinkat\", \"linkat\", \"mknodat\"]\nbecause = \"a test\"\n\
         restart = {{ on = \"never\" }}\nstate = \"DIR/state\"\ncwd = \"DIR/state\"\n{more}"
    )
}

/// Waits for its end, and looks for a line of the layer.
fn says(daemon: &mut Daemon, line: &str) {
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let found = daemon.seen.iter().filter(|seen| seen.ends_with(&format!(": {line}"))).count();
    assert_eq!(found, 1, "{line}: {daemon}");
}

/// Waits for its end before any layer starts, and looks for why.
fn is_refused(daemon: &mut Daemon, why: &str) {
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count(why), 1, "{why}: {daemon}");
    assert_eq!(daemon.count("is confined"), 0, "{daemon}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Only root's layers have users of their own, whose files are given away.
fn only_root() {
    if !is_root() {
        ignore("only root's layers have users of their own");
    }
}

const COUNT: &str =
    "n=0; [ -e count ] && read n < count; n=$((n + 1)); echo $n > count; echo run $n";

fn found_again() {
    let mut daemon = Daemon::start("none", &policy(COUNT, ""));
    says(&mut daemon, "run 1");
    for n in 2..4 {
        daemon = daemon.again("none", &policy(COUNT, ""));
        says(&mut daemon, &format!("run {n}"));
    }
}

fn database() {
    if !Path::new("/usr/bin/sqlite3").exists() {
        assert!(std::env::var_os("CI").is_none(), "sqlite3 isn't installed");
        ignore("sqlite3 isn't installed");
    }
    let policy = "[layer.a]\nexec = [\"/usr/bin/sqlite3\", \"data\", \"create table if not exists t(x); \
         insert into t values(7); select 'rows', count(*) from t;\"]\n\
         syscalls = [\"@core\", \"@file-read\", \"@file-write\", \"@file-durable\", \
         \"fcntl(_, in {F_GETLK, F_SETLK, F_SETLKW})\", \"fchown\", \"fchmod\", \"chdir\"]\n\
         because = \"a test\"\nrestart = { on = \"never\" }\n\
         state = \"DIR/state\"\ncwd = \"DIR/state\"";
    let mut daemon = Daemon::start("none", policy);
    says(&mut daemon, "rows|1");
    let mut again = daemon.again("none", policy);
    says(&mut again, "rows|2");
}

fn private() {
    let mut daemon = Daemon::start("none", &policy("echo x > file; /usr/bin/stat -c %a-%U .", ""));
    says(&mut daemon, "700-a");
    let state = daemon.directory().join("state");
    let (directory, file) = (state.metadata().unwrap(), state.join("file").metadata().unwrap());
    assert_eq!(directory.uid(), file.uid());
    assert_eq!(directory.mode() & 0o7777, 0o700);
    assert_eq!(directory.uid() != rustix::process::geteuid().as_raw(), is_root());
    // Opened by somebody meanwhile, it is closed again.
    std::fs::set_permissions(&state, Permissions::from_mode(0o777)).unwrap();
    let mut again = daemon.again("none", &policy("/usr/bin/stat -c %a .", ""));
    says(&mut again, "700");
}

fn owner() {
    let script = "mkdir a b && mv a b/c && echo x > b/c/file && mv b/c/file . && ln file twin\n\
                  ln -s file link && mkfifo pipe && rm -r b && chmod 600 file && echo whole\n\
                  /usr/bin/cp /usr/bin/true program && chmod 700 program\n\
                  (./program) 2>/dev/null || echo not run";
    let mut daemon = Daemon::start("none", &policy(script, ""));
    says(&mut daemon, "whole");
    assert_eq!(daemon.count(": not run"), 1, "{daemon}");
}

fn one_life() {
    let script = "cd /run/a && echo x > file && echo made; /usr/bin/stat -c %a-%U .\n\
                  /usr/bin/head -c 200000 /dev/zero > large 2>/dev/null || echo full";
    let more = "runtime-directory = { path = \"/run/a\", size = \"64KiB\" }";
    let mut daemon = Daemon::start("none", &policy(script, more));
    says(&mut daemon, "made");
    assert_eq!((daemon.count(": full"), daemon.count(": 700-a")), (1, 1), "{daemon}");
    assert!(!Path::new("/run/a/file").exists());
    let mut again = daemon.again("none", &policy("[ -e /run/a/file ] || echo empty", more));
    says(&mut again, "empty");
}

fn in_use() {
    let forever = "echo up; while :; do /usr/bin/sleep 1; done";
    let mut first = Daemon::start("none", &policy(forever, ""));
    first.line("a/0.g1: up");
    let state = first.directory().join("state");
    let other = policy("echo never", "").replace("DIR/state", state.to_str().unwrap());
    is_refused(&mut Daemon::start("none", &other), "another daemon has it in use");
    first.signal(rustix::process::Signal::KILL);
    first.end();
    // Nobody has to be asked for what a killed daemon held.
    let mut again = first.again("none", &policy("echo back", ""));
    says(&mut again, "back");
}

/// A daemon that has ended, in whose state lie a file, a link and a directory with a file.
fn furnished() -> Daemon {
    let script =
        "echo 1 > file && ln -s file link && mkdir inner && echo 2 > inner/file && echo made";
    let mut daemon = Daemon::start("none", &policy(script, ""));
    says(&mut daemon, "made");
    daemon
}

fn state(daemon: &Daemon) -> PathBuf {
    daemon.directory().join("state")
}

fn uid(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().uid()
}

/// Starts the layer `b` in what was `a`'s.
fn as_another(daemon: &mut Daemon) -> Daemon {
    daemon.again("none", &layer("b", "read x < inner/file && echo read $x", ""))
}

fn another_user() {
    only_root();
    let mut daemon = furnished();
    let mut other = as_another(&mut daemon);
    says(&mut other, "read 2");
    let state = state(&other);
    let owner = uid(&state);
    for name in ["file", "link", "inner", "inner/file"] {
        assert_eq!(uid(&state.join(name)), owner, "{name}");
    }
    // And to a user that its policy names, whom no record knows.
    let mut named =
        other.again("none", &layer("c", "read x < inner/file && echo $x", "uid = 4321"));
    says(&mut named, "2");
    assert_eq!(uid(&state.join("inner/file")), 4321);
    // From whom it isn't taken: he may be a person.
    let mut third = named.again("none", &layer("d", "echo never", ""));
    is_refused(&mut third, "it belongs to user 4321, who is no layer");
}

fn links() {
    only_root();
    let mut daemon = furnished();
    let (state, outside) = (state(&daemon), daemon.directory().join("outside"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "").unwrap();
    let former = uid(&state);
    for (name, target) in [
        ("file-link", outside.join("secret")),
        ("folder-link", outside.clone()),
        ("up", "..".into()),
        ("loop", "loop".into()),
        ("inner/root", "/".into()),
    ] {
        std::os::unix::fs::symlink(target, state.join(name)).unwrap();
        std::os::unix::fs::lchown(state.join(name), Some(former), Some(former)).unwrap();
    }
    let mut other = as_another(&mut daemon);
    says(&mut other, "read 2");
    for path in [outside.join("secret"), outside, state.parent().unwrap().to_owned(), "/".into()] {
        assert_eq!(uid(&path), 0, "{}", path.display());
    }
    assert_eq!(uid(&state.join("file-link")), uid(&state));
}

fn deep() {
    only_root();
    let mut daemon = furnished();
    let state = state(&daemon);
    let former = Some(rustix::fs::Uid::from_raw(uid(&state)));
    let open = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(&state, open, Mode::empty()).unwrap();
    // Deeper than a path is long, and than descriptors go.
    for _ in 0..3000 {
        mkdirat(&at, "inner-one", Mode::RWXU).unwrap();
        chownat(&at, "inner-one", former, None, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        at = openat(&at, "inner-one", open, Mode::empty()).unwrap();
    }
    let mut other = as_another(&mut daemon);
    says(&mut other, "read 2");
    assert_eq!(rustix::fs::fstat(&at).unwrap().st_uid, uid(&state));
    remove(&state);
}

/// A tree too deep for a path, directory by directory.
fn remove(top: &Path) {
    let status = std::process::Command::new("rm").arg("-rf").arg(top).status();
    assert!(status.unwrap().success());
}

fn set_user_id() {
    only_root();
    let mut daemon = furnished();
    let file = state(&daemon).join("file");
    std::fs::set_permissions(&file, Permissions::from_mode(0o6755)).unwrap();
    let mut other = as_another(&mut daemon);
    says(&mut other, "read 2");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o755);
}

/// What is put into a directory, and what is said of it.
type Spoil = (&'static str, fn(&Path));

fn of_others() {
    only_root();
    let spoils: [Spoil; 5] = [
        ("hard link", |state| {
            let outside = state.with_file_name("outside");
            std::fs::write(&outside, "").unwrap();
            std::os::unix::fs::chown(&outside, Some(uid(state)), None).unwrap();
            std::fs::hard_link(&outside, state.join("inner/link")).unwrap();
        }),
        ("it belongs to user 0", |state| {
            std::fs::write(state.join("inner/planted"), "").unwrap();
        }),
        ("it belongs to user 0", |state| {
            let outside = state.with_file_name("passwd");
            std::fs::write(&outside, "").unwrap();
            std::fs::hard_link(&outside, state.join("passwd")).unwrap();
        }),
        ("it belongs to user 1", |state| {
            std::fs::create_dir(state.join("folder")).unwrap();
            std::os::unix::fs::chown(state.join("folder"), Some(1), None).unwrap();
        }),
        ("it is a device", |state| {
            let path = state.join("inner/null");
            let mode = Mode::RUSR | Mode::WUSR;
            let device = rustix::fs::makedev(1, 3);
            mknodat(CWD, &path, FileType::CharacterDevice, mode, device).unwrap();
            std::os::unix::fs::chown(&path, Some(uid(state)), None).unwrap();
        }),
    ];
    for (why, spoil) in spoils {
        let mut daemon = furnished();
        let state = state(&daemon);
        let former = uid(&state);
        spoil(&state);
        let mut other = as_another(&mut daemon);
        is_refused(&mut other, why);
        // Nothing was changed before everything was looked at.
        for name in ["file", "link", "inner", "inner/file", "."] {
            assert_eq!(uid(&state.join(name)), former, "{why}: {name}");
        }
    }
}

fn of_a_person() {
    let prepare = |directory: &Path| {
        std::fs::create_dir(directory.join("state")).unwrap();
        std::fs::write(directory.join("state/letter"), "").unwrap();
        if is_root() {
            for name in ["state", "state/letter"] {
                std::os::unix::fs::chown(directory.join(name), Some(1000), None).unwrap();
            }
        }
    };
    if !is_root() {
        // He is the person.
        let mut daemon =
            Daemon::start_with("none", &policy("[ -e letter ] && echo mine", ""), prepare);
        return says(&mut daemon, "mine");
    }
    let mut daemon = Daemon::start_with("none", &policy("echo never", ""), prepare);
    is_refused(&mut daemon, "it belongs to user 1000, who is no layer, and isn't empty");
    assert_eq!(uid(&state(&daemon).join("letter")), 1000);
    // An empty one was made for it.
    std::fs::remove_file(state(&daemon).join("letter")).unwrap();
    let mut again = daemon.again("none", &policy("echo mine now", ""));
    says(&mut again, "mine now");
}

fn unsafe_place() {
    let mut daemon = Daemon::start_with("none", &policy("echo never", ""), |directory| {
        std::fs::create_dir(directory.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", directory.join("state")).unwrap();
    });
    is_refused(&mut daemon, "a part of this path is a symbolic link");
    let mut daemon = Daemon::start_with("none", &policy("echo never", ""), |directory| {
        std::fs::write(directory.join("state"), "").unwrap();
    });
    is_refused(&mut daemon, "it is there already and no directory");
    let inner = policy("echo never", "").replace("DIR/state", "DIR/open/state");
    let mut daemon = Daemon::start_with("none", &inner, |directory| {
        std::fs::create_dir(directory.join("open")).unwrap();
        let open = Permissions::from_mode(0o777);
        std::fs::set_permissions(directory.join("open"), open).unwrap();
    });
    is_refused(&mut daemon, "somebody else could put another in its place");
    let mut daemon = Daemon::start("none", &inner);
    is_refused(&mut daemon, "nothing is there to make it in");
}
