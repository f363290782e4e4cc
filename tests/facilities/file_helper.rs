//! The helper for files: what it holds up, what it survives, and what it never opens.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cofferdam::Layer;
use cofferdam::ipc::file::FileError;
use rustix::process::{Signal, kill_process};

use crate::file::{grant, layer};
use crate::support::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("file::a_long_list_holds_up_nobody_else", lists),
    ("file::a_replacement_is_whole_whenever_the_helper_is_killed", replaces),
    ("file::no_more_are_open_after_the_helpers_death_either", counts),
    ("file::another_directory_in_place_of_the_granted_one_is_not_opened", moved),
    ("file::what_is_made_belongs_to_the_supervisors_user", owner),
];

pub(crate) const LAYERS: &[Function] = &[
    ("file_lists", Runs::Blocking(layer_lists)),
    ("file_replaces", Runs::Blocking(layer_replaces)),
    ("file_counts", Runs::Blocking(layer_counts)),
    ("file_moved", Runs::Blocking(layer_moved)),
    ("file_owner", Runs::Blocking(layer_owner)),
];

/// Names in the long directory.
const NAMES: usize = 40_000;

/// How many permits are had while the lists are made, at least. A supervisor that lists by itself
/// gives one or two for each list.
const MEANWHILE: usize = 100;

fn layer_lists(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    let permits = layer.semaphore("s").map_err(text)?.blocking();
    let (had, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let lists = scope.spawn(|| {
            for _ in 0..8 {
                let names = folder.list("").map_err(text)?;
                if names.len() != NAMES {
                    return Err(format!("{} names", names.len()));
                }
            }
            over.store(true, Ordering::SeqCst);
            Ok(())
        });
        while !over.load(Ordering::SeqCst) && !lists.is_finished() {
            drop(permits.acquire().map_err(text)?);
            had.fetch_add(1, Ordering::SeqCst);
        }
        lists.join().map_err(|_| "it panicked")?
    })?;
    let had = had.into_inner();
    say(format!("meanwhile: {}", if had >= MEANWHILE { "enough".into() } else { had.to_string() }));
    Ok(())
}

fn lists() {
    let policy = layer("file_lists").replace("[\"@core\"", "[\"@core\", \"@thread\"")
        + "[semaphore.s]\npermits = 1\nholders = [\"a\"]\n"
        + &grant("folder", "\"list\"", "deny = [\"*.key\", \"a*b*c\", \"secret-*\"]");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        let folder = directory.join("folder");
        fs::create_dir(&folder).unwrap();
        for number in 0..NAMES {
            fs::File::create(folder.join(format!("name-{number}"))).unwrap();
        }
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("meanwhile: enough"), 1, "{daemon}");
}

fn layer_replaces(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    let mut said = false;
    for round in 0_u32.. {
        let byte = b'a' + u8::try_from(round % 26).unwrap();
        let done =
            folder.replace(if round % 5 == 0 { "d/other" } else { "state" }, &vec![byte; 40_000]);
        match done {
            Ok(()) if !said => {
                say("replaced");
                said = true;
            }
            Ok(()) => {}
            Err(FileError::Interrupted { .. }) => said = false,
            Err(error) => return Err(text(error)),
        }
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            break;
        }
        if round % 64 == 0 {
            said = false;
        }
    }
    Ok(())
}

fn replaces() {
    for more in ["", "max-open = 2"] {
        let policy = layer("file_replaces").replace("[\"@core\"", "[\"@core\", \"openat2\"");
        let policy = policy + &grant("folder", "\"create\", \"write\", \"truncate\"", more);
        let mut kept = None;
        let mut daemon = Daemon::start_with("-", &policy, |directory| {
            fs::create_dir_all(directory.join("folder/d")).unwrap();
            kept = Some(directory.join("folder"));
        });
        let folder = kept.unwrap();
        for life in 1..=12 {
            let helper = daemon.confined(&format!("cofferdam-files/0.g{life}"));
            daemon.line("replaced");
            std::thread::sleep(std::time::Duration::from_micros(300 * life));
            kill_process(helper, Signal::KILL).unwrap();
            for name in ["state", "d/other"] {
                if let Ok(state) = fs::read(folder.join(name)) {
                    assert_eq!(state.len(), 40_000, "{daemon}");
                    assert!(state.iter().all(|byte| *byte == state[0]), "torn");
                }
            }
            daemon.line("was killed by SIGKILL");
        }
        daemon.line("replaced");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert!(names == ["d", "state"], "{names:?}");
    }
}

fn layer_counts(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(folder.open_read("f").map_err(text)?);
    }
    say("held");
    // The next life answers.
    while folder.list("").map_err(text)?.len() == 1 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let fourth = folder.open_read("f").map(drop);
    say(format!("fourth: {}", fourth.map_or_else(text, |()| "opened".into())));
    held.pop();
    held.push(folder.open_read("f").map_err(text)?);
    say("done");
    Ok(())
}

fn counts() {
    let policy = layer("file_counts") + &grant("folder", "\"read\", \"list\"", "max-open = 3");
    let mut kept = None;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("folder")).unwrap();
        fs::write(directory.join("folder/f"), "f").unwrap();
        kept = Some(directory.join("folder"));
    });
    let helper = daemon.confined("cofferdam-files/0.g1");
    daemon.line("held");
    kill_process(helper, Signal::KILL).unwrap();
    daemon.confined("cofferdam-files/0.g2");
    fs::write(kept.unwrap().join("g"), "g").unwrap();
    daemon.line("done");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let fourth = "fourth: `[file.folder] max-open = 3`: this layer has as many open";
    assert_eq!(daemon.count(fourth), 1, "{daemon}");
}

fn layer_moved(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    say(format!("first: {:?}", folder.open_read("f").is_ok()));
    loop {
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            return Ok(());
        }
        if let Err(error) = folder.open_read("secret") {
            say(format!("refused: {:?}", io_error(&error)));
        } else {
            say("opened: secret");
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn io_error(error: &FileError) -> Option<i32> {
    match error {
        FileError::System { error, .. } => error.raw_os_error(),
        _ => None,
    }
}

fn moved() {
    let policy = layer("file_moved") + &grant("folder", "\"read\"", "max-open = 8");
    let mut kept = None;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("folder")).unwrap();
        fs::write(directory.join("folder/f"), "f").unwrap();
        kept = Some(directory.to_owned());
    });
    let directory = kept.unwrap();
    daemon.line("first: true");
    daemon.line("refused: Some(2)");
    fs::rename(directory.join("folder"), directory.join("old")).unwrap();
    fs::create_dir(directory.join("folder")).unwrap();
    fs::write(directory.join("folder/secret"), "s").unwrap();
    // The same directory by another name, as long as the helper lives.
    daemon.line("refused: Some(2)");
    kill_process(daemon.confined("cofferdam-files/0.g1"), Signal::KILL).unwrap();
    daemon.line("refused: Some(116)");
    // None at all: the helper starts nevertheless.
    fs::remove_dir_all(directory.join("folder")).unwrap();
    kill_process(daemon.confined("cofferdam-files/0.g2"), Signal::KILL).unwrap();
    daemon.confined("cofferdam-files/0.g3");
    daemon.line("refused: Some(2)");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("opened: secret"), 0, "{daemon}");
}

fn layer_owner(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    folder.create_new("made").map_err(text)?;
    folder.replace("new", b"new").map_err(text)?;
    folder.replace("old", b"new").map_err(text)?;
    folder.replace("theirs", b"new").map_err(text)?;
    folder.append("log").map_err(text)?;
    folder.truncate("closed").map_err(text)?;
    folder.remove("gone").map_err(text)
}

/// Also in a directory of another user, that nobody else may enter.
fn owner() {
    let rights = "\"create\", \"write\", \"truncate\", \"remove\"";
    let policy = layer("file_owner") + &grant("folder", rights, "max-open = 8");
    let mut kept = None;
    let is_root = rustix::process::geteuid().is_root();
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        let folder = directory.join("folder");
        fs::create_dir(&folder).unwrap();
        for name in ["old", "theirs", "closed", "gone"] {
            fs::write(folder.join(name), "old").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(folder.join(name), mode).unwrap();
        }
        if is_root {
            for name in ["theirs", "closed", "."] {
                std::os::unix::fs::chown(folder.join(name), Some(12_345), Some(12_345)).unwrap();
            }
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(&folder, mode).unwrap();
        }
        kept = Some(folder);
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let folder = kept.unwrap();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for name in ["made", "new", "old", "theirs", "log"] {
        let about = fs::metadata(folder.join(name)).unwrap();
        assert_eq!(
            (about.uid(), about.gid(), about.mode() & 0o7777),
            (own.0, own.1, 0o600),
            "{name}"
        );
    }
    let closed = fs::metadata(folder.join("closed")).unwrap();
    assert_eq!((closed.len(), closed.uid()), (0, if is_root { 12_345 } else { own.0 }));
    assert!(!folder.join("gone").exists());
}
