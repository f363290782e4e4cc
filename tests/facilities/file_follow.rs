//! Single files that are renewed by rename, and paths that may be missing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::file::FileError;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("file_follow::a_renewed_file_is_followed_or_said_to_be_old", renewed),
    ("file_follow::nothing_but_a_file_of_that_name_is_followed", misled),
    ("file_follow::what_may_be_missing_is_looked_for_again", missing),
    ("file_follow::what_is_missing_stops_who_needs_it", needed),
    ("file_follow::a_program_goes_without_what_may_be_missing", program),
];

pub(crate) const LAYERS: &[Function] = &[
    ("follow_renewed", Runs::Blocking(layer_renewed)),
    ("follow_misled", Runs::Blocking(layer_misled)),
    ("follow_missing", Runs::Blocking(layer_missing)),
];

fn layer(function: &str) -> String {
    format!(
        "[layer.a]\nrun = \"{function}\"\nsyscalls = [\"@core\", \"openat2\", \"getdents64\"]\n"
    )
}

fn grant(name: &str, more: &str) -> String {
    format!("[file.{name}]\npath = \"DIR/d/{name}\"\ngrant = {{ a = [\"read\"] }}\n{more}\n")
}

/// What a layer reads when it asks for a file.
fn read(layer: &Layer, name: &str) -> Result<String, String> {
    let mut held = String::new();
    let mut file = layer.file(name).map_err(text)?;
    // A handle shares its position with those before it, unless it was opened anew.
    std::io::Seek::rewind(&mut file).map_err(text)?;
    file.read_to_string(&mut held).map_err(text)?;
    Ok(held)
}

/// Asks for a file until what is said of it begins so.
fn wait_for(layer: &Layer, name: &str, begin: &str) -> String {
    loop {
        let found = read(layer, name).unwrap_or_else(|error| error);
        if found.starts_with(begin) || found.contains(begin) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Puts a file with this content in the place of another, as programs renew certificates.
fn renew(directory: &Path, name: &str, content: &str) {
    let new = directory.join(format!("{name}.new"));
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o640)).unwrap();
    fs::rename(new, directory.join(name)).unwrap();
}

fn layer_renewed(layer: Layer) -> Outcome {
    say(format!("at first {} and {}", read(&layer, "cert")?, read(&layer, "old")?));
    wait_for(&layer, "cert", "second");
    // Both were renewed before the one that is followed.
    say(format!("then {} and {}", read(&layer, "cert")?, read(&layer, "old")?));
    read(&layer, "old")?;
    let others = layer.directory("cert").map_err(text)?;
    for path in ["old", "cert", "../d/old"] {
        if others.open_read(path).is_ok() {
            say(format!("OUT: {path}"));
        }
    }
    wait_for_stop(&layer)
}

fn renewed() {
    let policy = layer("follow_renewed") + &grant("cert", "follow = true") + &grant("old", "");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("d")).unwrap();
        for name in ["cert", "old"] {
            renew(&directory.join("d"), name, "first");
        }
    });
    daemon.line("at first first and first");
    let directory = daemon.directory().join("d");
    renew(&directory, "old", "second");
    renew(&directory, "cert", "second");
    daemon.line("then second and first");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let old = "d/old: it was replaced or removed since this layer started, which still gets the";
    assert_eq!((daemon.count(old), daemon.count("OUT")), (1, 0), "{daemon}");
}

fn layer_misled(layer: Layer) -> Outcome {
    say(format!("at first {}", read(&layer, "cert")?));
    for kind in ["symbolic", "no regular file", "Is a directory", "No such file"] {
        say(format!("refused: {}", wait_for(&layer, "cert", kind)));
    }
    say(format!("at last {}", wait_for(&layer, "cert", "again")));
    wait_for_stop(&layer)
}

fn misled() {
    let policy = layer("follow_misled") + &grant("cert", "follow = true");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("d")).unwrap();
        renew(&directory.join("d"), "cert", "first");
        fs::write(directory.join("secret"), "secret").unwrap();
    });
    daemon.line("at first first");
    let directory = daemon.directory().to_owned();
    let cert = directory.join("d/cert");
    fs::remove_file(&cert).unwrap();
    symlink("../secret", &cert).unwrap();
    daemon.line("refused: file 'cert': Too many levels of symbolic links");
    fs::remove_file(&cert).unwrap();
    mknodat(CWD, &cert, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    daemon.line("it is no regular file");
    fs::remove_file(&cert).unwrap();
    fs::create_dir(&cert).unwrap();
    daemon.line("refused: file 'cert': Is a directory");
    fs::remove_dir(&cert).unwrap();
    daemon.line("refused: file 'cert': No such file");
    renew(&directory.join("d"), "cert", "again");
    daemon.line("at last again");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn layer_missing(layer: Layer) -> Outcome {
    let folder = layer.directory("folder");
    say(format!("folder: {}", folder.is_ok()));
    let served = layer.directory("served").map_err(text)?;
    match served.open_read("f") {
        Ok(_) => say("served: true"),
        Err(FileError::System { error, .. }) => say(format!("served: {error}")),
        Err(error) => say(format!("served otherwise: {error}")),
    }
    say(format!("note: {}", read(&layer, "note").unwrap_or_else(|error| error)));
    wait_for(&layer, "note", "made");
    say("note: it is there now");
    Err("once more".to_owned())
}

/// Of a directory that is missing, one that is shown and one that is asked for.
fn missing() {
    let directories = "[file.folder]\npath = \"DIR/folder\"\ngrant = { a = [\"list\"] }\n\
                       optional = true\n[file.served]\npath = \"DIR/served\"\noptional = true\n\
                       grant = { a = [\"read\"] }\nmax-open = 4\n";
    let policy = layer("follow_missing") + &grant("note", "optional = true") + directories;
    let policy = policy.replacen('\n', "\nrestart = { on = \"failure\", max = 1 }\n", 1);
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("d")).unwrap();
    });
    daemon.line("a/0.g1: note: file 'note': No such file");
    for line in ["a/0.g1: folder: false", "a/0.g1: served: No such file"] {
        assert_eq!(daemon.count(line), 1, "{line}{daemon}");
    }
    let directory = daemon.directory().to_owned();
    fs::create_dir(directory.join("folder")).unwrap();
    fs::set_permissions(directory.join("folder"), fs::Permissions::from_mode(0o755)).unwrap();
    renew(&directory.join("d"), "note", "made");
    daemon.line("a/0.g1: note: it is there now");
    daemon.line("a/0.g2: note: made");
    assert_eq!(daemon.count("a/0.g2: folder: true"), 1, "{daemon}");
}

fn needed() {
    for (name, program) in [("note", "run = \"follow_missing\""), ("x/y", "exec = [\"/bin/true\"]")]
    {
        let policy = format!("[layer.a]\n{program}\nsyscalls = [\"@core\"]\nview = \"system\"\n");
        let path = format!("DIR/d/{name}");
        let mut daemon =
            Daemon::start("-", &(policy + &grant("note", "").replace("DIR/d/note", &path)));
        assert_eq!(daemon.end(), Some(3), "{daemon}");
        assert_eq!(daemon.count("[file.note]"), 1, "{daemon}");
        assert_eq!(daemon.count("No such file or directory"), 1, "{daemon}");
    }
}

/// Each life of a program looks anew, and is shown what it finds.
fn program() {
    let script = "if [ -d DIR/d/note ]; then echo a directory; else echo nothing; exit 1; fi; \
                  sleep 1000";
    let policy = format!(
        "[layer.a]\nexec = [\"/bin/sh\", \"-c\", {script:?}]\nview = \"system\"\n\
         syscalls = [\"@core\", \"@loader\", \"@process\", \"@exec\", \"@file-read\"]\n\
         because = \"a test\"\nrestart = {{ on = \"failure\", max = 1000, backoff = \"10ms\" }}\n"
    ) + &grant("note", "optional = true");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("d")).unwrap();
    });
    daemon.line("a/0.g1: nothing");
    let note = daemon.directory().join("d/note");
    fs::create_dir(&note).unwrap();
    fs::set_permissions(&note, fs::Permissions::from_mode(0o755)).unwrap();
    daemon.line(": a directory");
}
