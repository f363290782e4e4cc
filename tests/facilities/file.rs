//! Files through the broker, used as granted and otherwise.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use cofferdam::Layer;
use cofferdam::ipc::file::{Directory, FileError, Options};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("file::each_right_gives_what_it_says_and_no_more", rights),
    ("file::a_direct_directory_has_the_same_methods", direct),
    ("file::files_and_directories_are_renamed_and_moved", moves),
    ("file::an_appender_only_appends", appends),
    ("file::a_file_handed_over_is_not_truncated_without_the_right", handed),
    ("file::denied_names_and_other_kinds_are_refused", denies),
    ("file::no_more_are_open_than_the_policy_says", max_open),
];

pub(crate) const LAYERS: &[Function] = &[
    ("file_rights", Runs::Blocking(layer_rights)),
    ("file_direct", Runs::Blocking(layer_direct)),
    ("file_renames", Runs::Blocking(layer_renames)),
    ("file_append", Runs::Blocking(layer_append)),
    ("file_handed", Runs::Blocking(layer_handed)),
    ("file_denied", Runs::Blocking(layer_denied)),
    ("file_max_open", Runs::Async(|layer| Box::pin(layer_max_open(layer)))),
];

const RIGHTS: [&str; 9] =
    ["read", "write", "append", "truncate", "create", "remove", "list", "mkdir", "rmdir"];

/// A layer that runs `function`, once; more calls than the facility brings along, so that what
/// stops it is the descriptor.
pub(crate) fn layer(function: &str) -> String {
    format!(
        "[layer.a]\nrun = \"{function}\"\nsyscalls = [\"@core\", \"ftruncate\", \"pwrite64\"]\n\
         restart = {{ on = \"never\" }}\nrefuse = {{ fcntl = \"EPERM\" }}\n"
    )
}

pub(crate) fn grant(name: &str, rights: &str, more: &str) -> String {
    format!("[file.{name}]\npath = \"DIR/{name}\"\ngrant = {{ a = [{rights}] }}\n{more}\n")
}

/// What became of an act, in a word.
fn word<T>(result: Result<T, FileError>) -> &'static str {
    match result {
        Ok(_) => "yes",
        Err(FileError::NotGranted { .. }) => "not-granted",
        Err(FileError::Denied { .. }) => "denied",
        Err(FileError::Limit { .. }) => "limit",
        Err(FileError::Malformed { .. }) => "malformed",
        Err(FileError::NotRegular { .. }) => "not-regular",
        Err(FileError::Interrupted { .. }) => "interrupted",
        Err(FileError::System { .. }) => "system",
    }
}

/// Every act, in the order of [`RIGHTS`]; what writes doesn't truncate and can't.
fn acts(directory: &Directory) -> Vec<&'static str> {
    let write = directory.open("f", Options::new().write()).map(|mut file| {
        file.write_all(b"ab").unwrap();
        assert!(file.set_len(0).is_err(), "it could be truncated");
        assert!(rustix::io::read(&file, &mut [0; 1]).is_err(), "it could be read");
    });
    let append = directory.open("f", Options::new().append()).map(|mut file| {
        file.write_all(b"z").unwrap();
        assert!(file.set_len(0).is_err(), "it could be truncated");
    });
    vec![
        word(directory.open_read("f").map(|(mut file, _)| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert!(file.write_all(b"x").is_err(), "it could be written");
            assert!(file.set_len(0).is_err(), "it could be truncated");
            assert_eq!(text, "12345");
        })),
        word(write),
        word(append),
        word(directory.truncate("f")),
        word(directory.create_new("new")),
        word(directory.remove("f")),
        word(directory.list("").map(|names| assert_eq!(names.len(), 2))),
        word(directory.create_dir("made")),
        word(directory.remove_dir("empty")),
    ]
}

fn layer_rights(layer: Layer) -> Outcome {
    for right in RIGHTS {
        let directory = layer.directory(right).map_err(text)?;
        assert!(directory.is_brokered());
        say(format!("{right}: {}", acts(&directory).join(" ")));
        say(format!("{right}: replace {}", word(directory.replace("f", b"r"))));
        if right != "read" {
            say(format!("told: {}", directory.open_read("f").unwrap_err()));
        }
    }
    let all = layer.directory("all").map_err(text)?;
    all.replace("sub/made", b"whole").map_err(text)?;
    all.replace("f", b"other").map_err(text)?;
    let cut = Options::new().read().write().truncate().create();
    let mut file = all.open("sub/written", cut).map_err(text)?;
    file.write_all(b"written").map_err(text)?;
    file.set_len(5).map_err(text)?;
    say(format!("all: {:?}", all.list("sub").map_err(text)?.len()));
    say(format!("refused: {}", layer.directory("other").unwrap_err()));
    Ok(())
}

fn rights() {
    let mut policy = layer("file_rights");
    for right in RIGHTS {
        policy += &grant(right, &format!("\"{right}\""), "max-open = 4");
    }
    let all = "\"read\", \"write\", \"truncate\", \"create\", \"remove\", \"list\"";
    policy += &grant("all", all, "max-open = 4");
    let mut kept = None;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        for right in RIGHTS.iter().chain(&["all"]) {
            fs::create_dir(directory.join(right)).unwrap();
            fs::write(directory.join(right).join("f"), "12345").unwrap();
            fs::create_dir(directory.join(right).join("empty")).unwrap();
        }
        fs::create_dir(directory.join("all/sub")).unwrap();
        fs::set_permissions(directory.join("all/f"), fs::Permissions::from_mode(0o640)).unwrap();
        kept = Some(directory.to_owned());
    });
    daemon.line("refused: layer 'a' has no directory 'other'");
    let directory = kept.unwrap();
    let read = |path: &str| fs::read_to_string(directory.join(path)).unwrap();
    for (number, right) in RIGHTS.iter().enumerate() {
        // Who may write may write at the end; nothing else follows from another right.
        let words: Vec<_> = (0..RIGHTS.len())
            .map(|act| {
                let follows = *right == "write" && RIGHTS[act] == "append";
                if act == number || follows { "yes" } else { "not-granted" }
            })
            .collect();
        let line = format!("{right}: {}", words.join(" "));
        assert_eq!(daemon.count(&line), 1, "{line}{daemon}");
        assert_eq!(daemon.count(&format!("{right}: replace not-granted")), 1, "{daemon}");
    }
    assert_eq!(
        daemon.count("layer 'a' has no right to read: add `\"read\"`"),
        RIGHTS.len() - 1,
        "{daemon}"
    );
    assert_eq!(daemon.count("all: 2"), 1, "{daemon}");
    assert_eq!(read("write/f"), "ab345z");
    assert_eq!(read("append/f"), "12345z");
    assert_eq!(read("truncate/f"), "");
    assert_eq!(read("create/new"), "");
    assert!(!directory.join("remove/f").exists() && !directory.join("rmdir/empty").exists());
    assert_eq!((read("all/f").as_str(), read("all/sub/made").as_str()), ("other", "whole"));
    assert_eq!(read("all/sub/written"), "writt");
    let made = fs::metadata(directory.join("create/new")).unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert_eq!((made.uid(), made.mode() & 0o777), (own, 0o600));
    let made = fs::metadata(directory.join("mkdir/made")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777, made.is_dir()), (own, 0o700, true));
    assert_eq!(fs::metadata(directory.join("all/f")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

/// Renames of files and directories, within a directory and from one into another.
fn renames(directory: &Directory) -> String {
    directory.create_dir("sub").unwrap();
    for path in ["one", "two", "three"] {
        directory.create_new(path).unwrap();
    }
    directory.create_dir("tree").unwrap();
    [
        directory.rename("one", "new"),
        directory.rename("two", "sub/two"),
        directory.rename_dir("tree", "branch"),
        directory.rename_dir("branch", "sub/branch"),
        directory.rename("three", "sub"),
        directory.rename_dir("sub/none", "none"),
    ]
    .map(word)
    .join(" ")
}

fn layer_renames(layer: Layer) -> Outcome {
    for name in ["asked", "shown", "all", "still"] {
        let directory = layer.directory(name).map_err(text)?;
        say(format!("{name} {}: {}", directory.is_brokered(), renames(&directory)));
    }
    Ok(())
}

fn moves() {
    let calls = "[\"@core\", \"@file-read\", \"@file-write\"]";
    let policy = layer("file_renames").replace("[\"@core\", \"ftruncate\", \"pwrite64\"]", calls);
    let policy = policy.replace("refuse", "env").replace("env = { fcntl = \"EPERM\" }\n", "");
    let most = "\"read\", \"create\", \"remove\", \"mkdir\", \"rmdir\"";
    let policy = policy
        + &grant("asked", &format!("{most}, \"move\""), "max-open = 2")
        + &grant("still", most, "max-open = 2")
        + &grant("shown", "\"owner\"", "")
        + &grant("all", "\"owner\"", "deny = [\"x\"]");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        for name in ["asked", "shown", "all", "still"] {
            fs::create_dir(directory.join(name)).unwrap();
            let mode = fs::Permissions::from_mode(0o777);
            fs::set_permissions(directory.join(name), mode).unwrap();
        }
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let done = "yes yes yes yes system system";
    for line in [
        format!("asked true: {done}"),
        format!("shown false: {done}"),
        format!("all true: {done}"),
        "still true: yes not-granted yes not-granted system not-granted".to_owned(),
    ] {
        assert_eq!(daemon.count(&line), 1, "{line}{daemon}");
    }
}

fn layer_direct(layer: Layer) -> Outcome {
    let all = layer.directory("all").map_err(text)?;
    assert!(!all.is_brokered());
    all.create_new("one").map_err(text)?;
    all.append("one").map_err(text)?.write_all(b"1").map_err(text)?;
    all.replace("one", b"whole").map_err(text)?;
    all.replace("two", b"new").map_err(text)?;
    say(format!("mine: {:?}", all.open_read("one").map(|(_, metadata)| metadata.len())));
    say(format!("cut: {}", word(all.truncate("two"))));
    say(format!("removed: {}", word(all.remove("f"))));
    let mut names = all.list("").map_err(text)?;
    names.sort();
    say(format!("names: {names:?}"));
    Ok(())
}

fn direct() {
    let calls = "[\"@core\", \"@file-read\", \"@file-write\"]";
    let policy = layer("file_direct").replace("[\"@core\", \"ftruncate\", \"pwrite64\"]", calls);
    let policy = policy.replace("refuse", "env").replace("env = { fcntl = \"EPERM\" }\n", "");
    let all = "\"read\", \"write\", \"truncate\", \"create\", \"remove\", \"list\"";
    let mut daemon = Daemon::start_with("-", &(policy + &grant("all", all, "")), |directory| {
        let all = directory.join("all");
        fs::create_dir(&all).unwrap();
        fs::write(all.join("f"), "12345").unwrap();
        // As root the layer is another user.
        fs::set_permissions(&all, fs::Permissions::from_mode(0o777)).unwrap();
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("names: [\"one\", \"two\"]"), 1, "{daemon}");
}

fn layer_append(layer: Layer) -> Outcome {
    let log = layer.directory("log").map_err(text)?;
    let mut file = log.append("l").map_err(text)?;
    file.write_all(b"one").map_err(text)?;
    say(format!("flags: {:?}", rustix::fs::fcntl_setfl(&file, OFlags::empty()).is_err()));
    say(format!("kept: {:?}", rustix::fs::fcntl_setfl(&file, OFlags::APPEND).is_ok()));
    file.write_all_at(b"two", 0).map_err(text)?;
    say(format!("cut: {}", file.set_len(0).is_err()));
    say(format!("both: {}", word(log.open("l", Options::new().read().append()))));
    let (mut reading, _) = log.open_read("l").map_err(text)?;
    let mut held = String::new();
    reading.read_to_string(&mut held).map_err(text)?;
    say(format!("held: {held}"));
    layer.file("single").map_err(text)?.write_all_at(b"end", 0).map_err(text)?;
    Ok(())
}

fn appends() {
    let policy = layer("file_append")
        + &grant("log", "\"read\", \"append\", \"create\"", "")
        + &grant("single", "\"append\"", "");
    let mut kept = None;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("log")).unwrap();
        fs::write(directory.join("single"), "begin-").unwrap();
        kept = Some(directory.to_owned());
    });
    daemon.line("ended with exit code 0");
    for line in ["flags: true", "kept: true", "cut: true", "both: not-granted", "held: onetwo"] {
        assert_eq!(daemon.count(line), 1, "{line}{daemon}");
    }
    assert_eq!(fs::read(kept.unwrap().join("single")).unwrap(), b"begin-end");
}

fn layer_handed(layer: Layer) -> Outcome {
    let mut file = layer.file("note").map_err(text)?;
    file.write_all(b"ab").map_err(text)?;
    say(format!("cut: {:?}", file.set_len(0).map_err(|error| error.raw_os_error())));
    layer.file("other").map_err(text)?.set_len(1).map_err(text)
}

fn handed() {
    let policy = layer("file_handed")
        + &grant("note", "\"write\"", "")
        + &grant("other", "\"write\", \"truncate\"", "");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::write(directory.join("note"), "12345").unwrap();
        fs::write(directory.join("other"), "12345").unwrap();
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("cut: Err(Some(13))"), 1, "{daemon}");
}

fn layer_denied(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    for path in [
        "x.key",
        "X.KEY",
        "d/x.key",
        "deep.key/f",
        "secret",
        "fifo",
        "socket",
        "link",
        "away/f",
        "d",
        "missing",
        "../folder/f",
        "/etc/passwd",
        "./f",
        "d//f",
        "f/",
        "",
        "null",
        "f",
    ] {
        say(format!("open {path:?}: {}", word(folder.open_read(path))));
    }
    say(format!("told: {}", folder.open_read("x.key").unwrap_err()));
    say(format!("make: {}", word(folder.create("new.key"))));
    say(format!("replace: {}", word(folder.replace("new.key", b"x"))));
    say(format!("remove: {}", word(folder.remove("x.key"))));
    say(format!("rename away: {}", word(folder.rename("x.key", "x"))));
    say(format!("rename to: {}", word(folder.rename("f", "f.key"))));
    say(format!("rename link: {}", word(folder.rename("link", "x"))));
    say(format!("rename onto: {}", word(folder.rename("f", "fifo"))));
    say(format!("rename out: {}", word(folder.rename("f", "../outside/f"))));
    say(format!("rename beneath: {}", word(folder.rename("f", "away/g"))));
    say(format!("mkdir beneath: {}", word(folder.create_dir("away/g"))));
    say(format!("mkdir denied: {}", word(folder.create_dir("secret"))));
    say(format!("rmdir link: {}", word(folder.remove_dir("away"))));
    say(format!("rename a file: {}", word(folder.rename_dir("f", "g"))));
    say(format!("rename a directory: {}", word(folder.rename("d", "g"))));
    // What is denied in a directory is denied in it wherever it goes.
    say(format!("carried: {}", word(folder.rename_dir("d", "e"))));
    say(format!("in it: {}", word(folder.open_read("e/x.key"))));
    say(format!("back: {}", word(folder.rename_dir("e", "d"))));
    say(format!("remove link: {}", word(folder.remove("link"))));
    say(format!("replace link: {}", word(folder.replace("link", b"x"))));
    let mut names = folder.list("").map_err(text)?;
    names.sort();
    say(format!("names: {names:?}"));
    say(format!("deeper: {:?}", folder.list("d").map_err(text)?));
    Ok(())
}

fn denies() {
    let deny = "deny = [\"*.key\", \"secret\"]";
    let policy = layer("file_denied") + &grant("folder", "\"owner\"", deny);
    let mut kept = None;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        kept = Some(directory.to_owned());
        fs::create_dir(directory.join("outside")).unwrap();
        fs::write(directory.join("outside/f"), "o").unwrap();
        let folder = directory.join("folder");
        fs::create_dir_all(folder.join("d")).unwrap();
        fs::create_dir_all(folder.join("deep.key")).unwrap();
        for name in ["f", "x.key", "d/x.key", "d/plain", "deep.key/f", "secret"] {
            fs::write(folder.join(name), "f").unwrap();
        }
        symlink("f", folder.join("link")).unwrap();
        symlink(directory.join("outside"), folder.join("away")).unwrap();
        mknodat(CWD, folder.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        // /dev/null's numbers; an ordinary user makes no device and has a missing file instead.
        let device = rustix::fs::makedev(1, 3);
        let _ = mknodat(CWD, folder.join("null"), FileType::CharacterDevice, Mode::RUSR, device);
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let null = if rustix::process::geteuid().is_root() { "not-regular" } else { "system" };
    for (path, result) in [
        ("x.key", "denied"),
        ("X.KEY", "denied"),
        ("d/x.key", "denied"),
        ("deep.key/f", "denied"),
        ("secret", "denied"),
        ("fifo", "not-regular"),
        ("socket", "not-regular"),
        ("link", "system"),
        ("away/f", "system"),
        ("d", "system"),
        ("missing", "system"),
        ("../folder/f", "malformed"),
        ("/etc/passwd", "malformed"),
        ("./f", "malformed"),
        ("d//f", "malformed"),
        ("f/", "malformed"),
        ("", "malformed"),
        ("null", null),
        ("f", "yes"),
    ] {
        let line = format!("open {path:?}: {result}");
        assert_eq!(daemon.count(&line), 1, "{line}{daemon}");
    }
    for line in [
        "told: `[file.folder] deny = [\"*.key\"]`: x.key is denied",
        "make: denied",
        "replace: denied",
        "remove: denied",
        "rename away: denied",
        "rename to: denied",
        "rename link: not-regular",
        "rename onto: not-regular",
        "rename out: malformed",
        "rename beneath: system",
        "mkdir beneath: system",
        "mkdir denied: denied",
        "rmdir link: system",
        "rename a file: system",
        "rename a directory: system",
        "carried: yes",
        "in it: denied",
        "back: yes",
        "remove link: not-regular",
        "replace link: not-regular",
        "deeper: [\"plain\"]",
    ] {
        assert_eq!(daemon.count(line), 1, "{line}{daemon}");
    }
    let names = daemon.seen.iter().find(|line| line.contains("names: ")).unwrap();
    assert!(!names.contains("key") && !names.contains("secret"), "{names}");
}

async fn layer_max_open(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(folder.open_read("f").map_err(text)?);
    }
    say(format!("fourth: {}", folder.open_read("f").unwrap_err()));
    held.pop();
    held.push(folder.open_read("f").map_err(text)?);
    say(format!("fifth: {}", word(folder.open_read("f"))));
    drop(held);
    for _ in 0..200 {
        folder.open_read("f").map_err(text)?;
        folder.replace("g", b"again").map_err(text)?;
    }
    say("done");
    Ok(())
}

fn max_open() {
    let rights = "\"read\", \"write\", \"create\", \"truncate\"";
    let policy = layer("file_max_open") + &grant("folder", rights, "max-open = 3");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("folder")).unwrap();
        fs::write(directory.join("folder/f"), "f").unwrap();
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let fourth = "fourth: `[file.folder] max-open = 3`: this layer has as many open";
    assert_eq!(daemon.count(fourth), 1, "{daemon}");
    assert_eq!((daemon.count("fifth: limit"), daemon.count("done")), (1, 1), "{daemon}");
}
