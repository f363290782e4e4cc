//! The helper for files over a file system that hangs: who asked for what lies there waits, and
//! nobody else.

use std::fs;
use std::path::Path;

use cofferdam::Layer;
use cofferdam::ipc::file::{Directory, FileError};
use rustix::process::{Signal, kill_process};

use crate::harness::Daemon;
use crate::support::hung::{Hung, Waiting};
use crate::{Function, Outcome, Runs, Test, layer, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("file::a_hung_file_system_holds_up_nobody_else", others_are_served),
    ("file::a_hung_file_system_does_not_hold_up_a_stop", stops),
    ("file::a_helper_that_hangs_is_replaced_when_it_is_killed", replaced),
];

pub(crate) const LAYERS: &[Function] = &[
    ("file_hangs", Runs::Blocking(layer_hangs)),
    ("file_beside", Runs::Blocking(layer_beside)),
    ("file_leases", Runs::Blocking(layer_leases)),
];

/// Opens what hangs.
fn layer_hangs(layer: Layer) -> Outcome {
    layer.directory("folder").map_err(text)?.open_read("slow").map_err(text)?;
    say("opened slow");
    wait_for_stop(&layer)
}

/// Opens a file that comes, beside the one that hangs and in another directory.
fn layer_beside(layer: Layer) -> Outcome {
    for name in ["folder", "other"] {
        comes(&layer, &layer.directory(name).map_err(text)?)?;
        say(format!("opened {name}/go"));
    }
    wait_for_stop(&layer)
}

/// Leases a permit, each time that the file has come.
fn layer_leases(layer: Layer) -> Outcome {
    let other = layer.directory("other").map_err(text)?;
    comes(&layer, &other)?;
    let permit = layer.semaphore("s").map_err(text)?.blocking();
    for _ in 0..100 {
        permit.acquire().map_err(text)?.release().map_err(text)?;
    }
    say("leased");
    wait_for_stop(&layer)
}

/// Waits for the file `go`.
fn comes(layer: &Layer, folder: &Directory) -> Outcome {
    loop {
        match folder.open_read("go") {
            Ok(_) => return Ok(()),
            Err(FileError::System { error, .. }) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(text(error)),
        }
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            return Err("the file never came".into());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Starts the three, and waits until one of them hangs.
fn start() -> (Daemon, Hung, Waiting) {
    let policy = [
        layer("a", "file_hangs") + "grace = \"1s\"\n",
        layer("b", "file_beside"),
        layer("c", "file_leases"),
        "[semaphore.s]\npermits = 1\nholders = [\"c\"]\n".to_owned(),
        grant("folder", "a = [\"read\"], b = [\"read\"]"),
        grant("other", "b = [\"read\"], c = [\"read\"]"),
    ];
    let mut hung = None;
    let daemon = Daemon::start_with("-", &policy.concat(), |directory| {
        for name in ["folder", "other"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        let slow = directory.join("folder/slow");
        fs::write(&slow, "slow").unwrap();
        hung = Some(Hung::file(&slow));
    });
    let hung = hung.unwrap();
    let waiting = hung.opened();
    (daemon, hung, waiting)
}

fn grant(name: &str, rights: &str) -> String {
    format!("[file.{name}]\npath = \"DIR/{name}\"\ngrant = {{ {rights} }}\nmax-open = 64\n")
}

/// Has the others begin.
fn go(directory: &Path) {
    for name in ["folder/go", "other/go"] {
        fs::write(directory.join(name), "go").unwrap();
    }
}

/// Waits until the others were served, in any order.
fn served(daemon: &mut Daemon) {
    for text in ["b/0.g1: opened folder/go", "b/0.g1: opened other/go", "c/0.g1: leased"] {
        if daemon.count(text) == 0 {
            daemon.line(text);
        }
    }
}

fn others_are_served() {
    let (mut daemon, hung, waiting) = start();
    go(daemon.directory());
    served(&mut daemon);
    assert_eq!(daemon.count("opened slow"), 0, "nothing hung: {daemon}");
    hung.answer(&waiting);
    daemon.line("a/0.g1: opened slow");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn stops() {
    let (mut daemon, _hung, _waiting) = start();
    go(daemon.directory());
    served(&mut daemon);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("opened slow"), 0, "nothing hung: {daemon}");
    // Nobody but who hangs is ended by force, and the daemon isn't at a loss with it.
    for line in daemon.seen.iter().filter(|line| line.contains("did not finish in time")) {
        assert!(line.contains("a/0.g1 "), "{line}{daemon}");
    }
}

fn replaced() {
    let (mut daemon, hung, _waiting) = start();
    kill_process(daemon.confined("cofferdam-files/0.g1"), Signal::KILL).unwrap();
    // Its next life is asked again, and hangs in its turn.
    let waiting = hung.opened();
    go(daemon.directory());
    served(&mut daemon);
    hung.answer(&waiting);
    daemon.line("a/0.g1: opened slow");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}
