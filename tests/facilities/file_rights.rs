//! Every right on a directory alone, and every act: each allows what it says and no other. And
//! ways out of a grant by links and renames.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use cofferdam::Layer;
use cofferdam::policy::plan::FileRight::{
    self, Create, Fifo, List, Mkdir, Move, Read, Remove, Rmdir, Socket, Symlink, Truncate, Write,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("file_rights::each_right_allows_its_act_and_no_other", table),
    ("file_rights::nothing_gets_out_of_a_grant_by_a_link_or_a_name", outward),
    ("file_rights::a_link_misleads_nobody_else", misleading),
    ("file_rights::a_link_in_place_of_a_granted_path_stops_who_is_granted_it", replaced),
];

pub(crate) const LAYERS: &[Function] = &[
    ("rights_table", Runs::Blocking(layer_table)),
    ("rights_outward", Runs::Blocking(layer_outward)),
    ("rights_linker", Runs::Blocking(layer_linker)),
    ("rights_follower", Runs::Blocking(layer_follower)),
    ("rights_replacer", Runs::Blocking(layer_replacer)),
    ("rights_replaced", Runs::Blocking(layer_replaced)),
];

/// An act, the rights that it takes, and how it is done in a directory that [`furnish`] made.
struct Act {
    name: &'static str,
    takes: &'static [FileRight],
    run: fn(&Path) -> io::Result<()>,
}

const fn act(
    name: &'static str,
    takes: &'static [FileRight],
    run: fn(&Path) -> io::Result<()>,
) -> Act {
    Act { name, takes, run }
}

const ACTS: [Act; 18] = [
    act("read", &[Read], |at| fs::File::open(at.join("f")).map(drop)),
    act("write", &[Write], |at| fs::OpenOptions::new().write(true).open(at.join("f")).map(drop)),
    act("cut", &[Truncate], |at| Ok(nix::unistd::truncate(&at.join("f"), 1)?)),
    act("list", &[List], |at| fs::read_dir(at).map(drop)),
    // Made as a second name: to open it takes more.
    act("create", &[Create], |at| fs::hard_link(at.join("f"), at.join("new"))),
    act("remove", &[Remove], |at| fs::remove_file(at.join("f"))),
    act("remove a link", &[Remove], |at| fs::remove_file(at.join("link"))),
    act("rename", &[Create, Remove], |at| fs::rename(at.join("f"), at.join("new"))),
    act("mkdir", &[Mkdir], |at| fs::create_dir(at.join("new"))),
    act("rmdir", &[Rmdir], |at| fs::remove_dir(at.join("empty"))),
    act("rename a directory", &[Mkdir, Rmdir], |at| fs::rename(at.join("full"), at.join("new"))),
    act("move", &[Create, Remove, Move], |at| fs::rename(at.join("f"), at.join("empty/f"))),
    act("move a directory", &[Mkdir, Rmdir, Move], |at| {
        fs::rename(at.join("full"), at.join("empty/full"))
    }),
    act("move a link", &[Symlink, Remove, Move], |at| {
        fs::rename(at.join("link"), at.join("empty/link"))
    }),
    act("link", &[Create, Move], |at| fs::hard_link(at.join("f"), at.join("empty/f"))),
    act("symlink", &[Symlink], |at| symlink("f", at.join("new"))),
    act("socket", &[Socket], |at| UnixListener::bind(at.join("new")).map(drop)),
    act("fifo", &[Fifo], |at| {
        Ok(mknodat(CWD, at.join("new"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
    }),
];

/// The rights that are granted together, each set on a directory of its own.
fn rows() -> Vec<Vec<FileRight>> {
    let alone = FileRight::ALL.into_iter().map(|right| vec![right]);
    let alone = alone.filter(|row| row != &[FileRight::Append]);
    let together = ACTS.iter().map(|act| act.takes.to_vec());
    let most = |left: &FileRight| FileRight::OWNER.into_iter().filter(|it| it != left).collect();
    let all_but_one = FileRight::OWNER.iter().map(most);
    alone.chain(together).chain(all_but_one).chain([FileRight::OWNER.to_vec()]).collect()
}

fn anybodys(path: &Path) {
    // As root the layer is another user.
    let mode = if path.is_dir() { 0o777 } else { 0o666 };
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Makes `at` with a file, a link, an empty directory and one with a file.
fn furnish(at: &Path) {
    fs::create_dir_all(at.join("empty")).unwrap();
    fs::create_dir(at.join("full")).unwrap();
    symlink("f", at.join("link")).unwrap();
    for file in ["f", "full/f"] {
        fs::write(at.join(file), "12345").unwrap();
    }
    for path in ["", "f", "empty", "full", "full/f"] {
        anybodys(&at.join(path));
    }
}

fn grant(name: &str, grants: &str) -> String {
    format!("[file.{name}]\npath = \"DIR/{name}\"\ngrant = {{ {grants} }}\nbecause = \"a test\"\n")
}

fn words(rights: &[FileRight]) -> String {
    rights.iter().map(|right| format!("\"{}\"", right.name())).collect::<Vec<_>>().join(", ")
}

fn layer(name: &str, function: &str) -> String {
    format!(
        "[layer.{name}]\nrun = \"{function}\"\nsyscalls = [\"@core\", \"@file-read\", \
         \"@file-write\"]\nrestart = {{ on = \"never\" }}\nlimits = {{ files = 256 }}\n"
    )
}

fn layer_table(layer: Layer) -> Outcome {
    for (number, row) in rows().iter().enumerate() {
        let directory = layer.directory(&format!("row{number}")).map_err(text)?;
        for (at, act) in ACTS.iter().enumerate() {
            let done = (act.run)(&directory.path().join(at.to_string()));
            let right = row.iter().all(|right| FileRight::OWNER.contains(right));
            let expected = act.takes.iter().all(|right| row.contains(right));
            if done.is_ok() != expected {
                say(format!(
                    "WRONG: {} with {} (owner's: {right}): {done:?}",
                    act.name,
                    words(row)
                ));
            } else if let Err(error) = done {
                let refused = [libc::EACCES, libc::EXDEV, libc::EROFS];
                let is_refused = error.raw_os_error().is_some_and(|it| refused.contains(&it));
                if !is_refused {
                    say(format!("WRONG: {} with {}: {error}", act.name, words(row)));
                }
            }
        }
    }
    say(format!("{} acts are as they should be, unless said", ACTS.len() * rows().len()));
    Ok(())
}

fn table() {
    let rows = rows();
    let mut policy = layer("a", "rights_table");
    for (number, row) in rows.iter().enumerate() {
        let rights = if row == &FileRight::OWNER { "\"owner\"".to_owned() } else { words(row) };
        policy += &grant(&format!("row{number}"), &format!("a = [{rights}]"));
    }
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        for row in 0..rows.len() {
            let row = directory.join(format!("row{row}"));
            (0..ACTS.len()).for_each(|act| furnish(&row.join(act.to_string())));
            anybodys(&row);
        }
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let said = format!("{} acts are as they should be", ACTS.len() * rows.len());
    assert_eq!((daemon.count(&said), daemon.count("WRONG")), (1, 0), "{daemon}");
}

/// Tries to get what one grant shows into another, and out of both.
fn layer_outward(layer: Layer) -> Outcome {
    let one = layer.directory("one").map_err(text)?.path().to_owned();
    let secret = layer.directory("secret").map_err(text)?.path().to_owned();
    let (f, link) = (one.join("0/f"), secret.join("0/f"));
    let tried: [(&str, io::Result<()>); 9] = [
        ("a link from another grant", fs::hard_link(&link, one.join("0/got"))),
        ("a file of another grant", fs::rename(&link, one.join("0/got"))),
        ("a file into another grant", fs::rename(&f, secret.join("0/put"))),
        ("a link into another grant", fs::hard_link(&f, secret.join("0/put"))),
        ("a file into the root", fs::rename(&f, "/f")),
        ("a link into the root", fs::hard_link(&f, "/f")),
        ("a symbolic link in the root", symlink("f", "/l")),
        ("a directory in the root", fs::create_dir("/d")),
        ("the grant itself", fs::rename(&one, one.with_file_name("other"))),
    ];
    for (what, done) in tried {
        match done {
            Ok(()) => say(format!("OUT: {what}")),
            Err(error) => say(format!("refused {what}: {error}")),
        }
    }
    // Up from a directory whose place has changed meanwhile.
    let held = fs::File::open(one.join("0/full")).map_err(text)?;
    fs::rename(one.join("0/full"), one.join("0/empty/full")).map_err(text)?;
    let above = "../../../../../../../../../../etc/passwd";
    let flags = rustix::fs::OFlags::RDONLY;
    if rustix::fs::openat(&held, above, flags, Mode::empty()).is_ok() {
        say("OUT: above a moved directory");
    }
    // Its own links lead where it may go anyway, and no further.
    symlink("/etc/passwd", one.join("0/passwd")).map_err(text)?;
    symlink("f", one.join("0/own")).map_err(text)?;
    if fs::read(one.join("0/passwd")).is_ok() {
        say("OUT: by a symbolic link");
    }
    fs::read(one.join("0/own")).map_err(text)?;
    say("tried all");
    Ok(())
}

fn outward() {
    let policy = layer("a", "rights_outward")
        + &grant("one", "a = [\"owner\"]")
        + &grant("secret", "a = [\"owner\"]");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        for name in ["one", "secret"] {
            furnish(&directory.join(name).join("0"));
            anybodys(&directory.join(name));
        }
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!((daemon.count("refused "), daemon.count("OUT")), (9, 0), "{daemon}");
    assert_eq!(daemon.count("tried all"), 1, "{daemon}");
}

/// Makes a link, and says so by a file.
fn layer_linker(layer: Layer) -> Outcome {
    let shared = layer.directory("shared").map_err(text)?.path().to_owned();
    symlink("../../secret/0/f", shared.join("0/trap")).map_err(text)?;
    fs::create_dir(shared.join("0/ready")).map_err(text)?;
    wait_for_stop(&layer)
}

/// Opens by ordinary calls what the other has made.
fn layer_follower(layer: Layer) -> Outcome {
    let path = |name| layer.directory(name).map(|it| it.path().to_owned()).map_err(text);
    let (shared, own, secret) = (path("shared")?, path("own")?, path("secret")?);
    while !shared.join("0/ready").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fs::read(secret.join("0/f")).map_err(text)?;
    fs::read(own.join("0/link")).map_err(text)?;
    for name in ["0/trap", "0/link"] {
        match fs::read(shared.join(name)) {
            Ok(_) => say(format!("MISLED by {name}")),
            Err(error) => say(format!("not misled by {name}: {:?}", error.raw_os_error())),
        }
    }
    say("looked at all");
    Ok(())
}

fn misleading() {
    let policy = layer("a", "rights_linker")
        + &layer("b", "rights_follower").replace("never\"", "never\", then = \"stop-daemon\"")
        + &grant("shared", "a = [\"owner\"], b = [\"read\"]")
        + &grant("own", "b = [\"read\"]")
        + &grant("secret", "b = [\"read\"]");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        for name in ["shared", "own", "secret"] {
            furnish(&directory.join(name).join("0"));
            anybodys(&directory.join(name));
        }
    });
    daemon.line("looked at all");
    // ELOOP, for a link of the other's and for any other.
    assert_eq!(daemon.count("not misled by 0/trap: Some(40)"), 1, "{daemon}");
    assert_eq!(daemon.count("not misled by 0/link: Some(40)"), 1, "{daemon}");
    assert_eq!(daemon.count("MISLED"), 0, "{daemon}");
}

/// Puts a link in the place of a directory that another layer is granted.
fn layer_replacer(layer: Layer) -> Outcome {
    let whole = layer.directory("whole").map_err(text)?.path().to_owned();
    while !whole.join("0/full/new").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fs::rename(whole.join("0/full"), whole.join("0/gone")).map_err(text)?;
    symlink("../../secret/0", whole.join("0/full")).map_err(text)?;
    fs::create_dir(whole.join("0/gone/go")).map_err(text)?;
    wait_for_stop(&layer)
}

fn layer_replaced(layer: Layer) -> Outcome {
    let part = layer.directory("part").map_err(text)?.path().to_owned();
    say("part is there");
    fs::create_dir(part.join("new")).map_err(text)?;
    while !part.join("go").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err("again, please".to_owned())
}

fn replaced() {
    let part = PathBuf::from("DIR/whole/0/full");
    let policy = layer("a", "rights_replacer")
        + &layer("b", "rights_replaced").replace("\"never\"", "\"failure\", max = 1")
        + &grant("whole", "a = [\"owner\"]")
        + &grant("part", "b = [\"mkdir\"]").replace("DIR/part", part.to_str().unwrap());
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        for name in ["whole", "secret"] {
            furnish(&directory.join(name).join("0"));
            anybodys(&directory.join(name));
        }
    });
    let refused = "a granted path can't be given";
    let line = daemon.line(refused);
    assert!(line.contains("whole/0/full: opening it: Too many levels of symbolic links"), "{line}");
    assert_eq!(daemon.count("part is there"), 1, "{daemon}");
}
