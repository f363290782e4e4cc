//! Files: requests that no library makes, and names that change under the helper's eyes.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cofferdam::Layer;
use cofferdam::wire::broker::{Ask, open};
use cofferdam::wire::control::{FromLayer, Service, ToLayer};
use rustix::fs::CWD;

use crate::file::{grant, layer};
use crate::harness::Daemon;
use crate::raw::{hear_on, speak_on};
use crate::{Function, LONG_PATIENCE, Outcome, Runs, Test, how_many_in, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("file::hostile_requests_are_refused", hostile),
    ("file::a_path_too_long_for_the_protocol_ends_the_layer", too_long),
    ("file::swapped_links_lead_nowhere", race),
];

pub(crate) const LAYERS: &[Function] = &[
    ("file_hostile", Runs::Blocking(layer_hostile)),
    ("file_too_long", Runs::Blocking(layer_too_long)),
    ("file_race", Runs::Blocking(layer_race)),
];

/// Asks in its own words, and gives the answer's.
fn raw(layer: &Layer, ask: Ask) -> String {
    let socket = layer.service_socket(Service::Files).unwrap();
    speak_on(socket.as_raw_fd(), &FromLayer::Ask { request: 77, ask }).unwrap();
    match hear_on(socket.as_raw_fd()).unwrap() {
        ToLayer::Answer { request: 77, answer } => format!("{answer:?}"),
        message => panic!("{message:?}"),
    }
}

fn layer_hostile(layer: Layer) -> Outcome {
    // The helper may not be there yet: the library's own question waits for it.
    let folder = layer.directory("folder").map_err(text)?;
    folder.open_read("f").map_err(text)?;
    let raw = |ask| raw(&layer, ask);
    let ask = |file, how, path: &[u8]| Ask::Open { file, how, path: path.to_vec() };
    // Numbers are places in the plan, which is sorted: 0 is mine, 1 is the other layer's.
    say(format!("fair: {}", raw(ask(0, open::READ, b"f"))));
    let mut seen = 0;
    for how in 0..=u16::MAX {
        if how & open::READ == how && how != 0 {
            continue;
        }
        // Every kind of act that isn't reading, and every nonsense.
        let step = how < 2048 || how % 1021 == 0;
        if step {
            let answer = raw(ask(0, how, b"f"));
            assert!(answer.starts_with("Refused"), "{how}: {answer}");
            seen += 1;
        }
    }
    say(format!("refused acts: {seen}"));
    let long = [b'a'; 1024];
    let deep = b"a/".repeat(500);
    for path in [
        &b"../secret"[..],
        b"/etc/passwd",
        b"d/../../secret",
        b"",
        b".",
        b"..",
        b"d/",
        b"d//f",
        b"f\0",
        b"\0",
        b"f\0/../../secret",
        b"\xff\xfe",
        b"x.KEY",
        b"link",
        b"up/secret",
        &long,
        &deep,
        b".cofferdam-draft-test",
    ] {
        let answer = raw(ask(0, open::READ, path));
        assert!(answer.starts_with("Refused"), "{path:?}: {answer}");
    }
    for file in [1, 2, 99, u16::MAX] {
        assert_eq!(raw(ask(file, open::READ, b"f")), "Refused(NotGranted)");
    }
    for address in [0, 1, u16::MAX] {
        assert_eq!(raw(Ask::Connect { address }), "Refused(NotGranted)");
    }
    // Lies about closing make no number go below nothing, and none of another grant.
    for file in [0, 0, 0, 1, 99] {
        let socket = layer.service_socket(Service::Files).ok_or("no helper")?;
        speak_on(socket.as_raw_fd(), &FromLayer::Closed { file })?;
    }
    say(format!("still fair: {}", raw(ask(0, open::READ, b"f"))));
    Ok(())
}

fn hostile_policy(function: &str) -> String {
    layer(function)
        + &grant("folder", "\"read\"", "deny = [\"*.key\"]")
        + "[layer.b]\nrun = \"file_rights\"\nsyscalls = [\"@core\"]\nrestart = { on = \"never\" }\n\
           [file.theirs]\npath = \"DIR/theirs\"\ngrant = { b = [\"read\"] }\nmax-open = 1\n"
}

fn hostile_folder(directory: &Path) {
    fs::create_dir(directory.join("theirs")).unwrap();
    fs::write(directory.join("theirs/f"), "f").unwrap();
    fs::write(directory.join("secret"), "s").unwrap();
    let folder = directory.join("folder");
    fs::create_dir_all(folder.join("d")).unwrap();
    fs::write(folder.join("f"), "f").unwrap();
    fs::write(folder.join("x.key"), "k").unwrap();
    symlink("../secret", folder.join("link")).unwrap();
    symlink("..", folder.join("up")).unwrap();
}

fn hostile() {
    let mut daemon = Daemon::start_with("-", &hostile_policy("file_hostile"), hostile_folder);
    daemon.end();
    for line in ["a/0.g1: fair: Done", "a/0.g1: still fair: Done", "a/0.g1 ended with exit code 0"]
    {
        assert_eq!(daemon.count(line), 1, "{line}{daemon}");
    }
}

fn layer_too_long(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    folder.open_read("f").map_err(text)?;
    let path = vec![b'a'; 1025];
    let socket = layer.service_socket(Service::Files).ok_or("no helper")?;
    let message = FromLayer::Ask { request: 1, ask: Ask::Open { file: 0, how: 1, path } };
    speak_on(socket.as_raw_fd(), &message)?;
    loop {
        std::thread::park();
    }
}

fn too_long() {
    let mut daemon = Daemon::start_with("-", &hostile_policy("file_too_long"), hostile_folder);
    daemon.end();
    assert_eq!(daemon.count("a/0.g1 is killed: it broke the protocol of a helper"), 1, "{daemon}");
}

fn layer_race(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    let (mut opened, mut refused) = (0, 0);
    for round in 0..how_many_in(&layer, 3_000, 100_000) {
        let path = ["swap/f", "file", "swap/deep/f"][round % 3];
        let held = if round % 2 == 0 {
            folder.open_read(path)
        } else {
            folder.open_read(path).and_then(|_| folder.open_read(path))
        };
        match held {
            Ok((mut file, _)) => {
                let mut held = String::new();
                file.read_to_string(&mut held).map_err(text)?;
                if held != "inside" {
                    return Err(format!("{path} led outside: {held:?}"));
                }
                opened += 1;
            }
            Err(_) => refused += 1,
        }
    }
    say(format!("raced: {opened} opened, {refused} refused"));
    Ok(())
}

fn race() {
    let policy = layer("file_race") + &grant("folder", "\"read\"", "deny = [\"*.key\"]");
    let mut kept = None;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        kept = Some(directory.to_owned());
        fs::create_dir_all(directory.join("outside/deep")).unwrap();
        let folder = directory.join("folder");
        fs::create_dir_all(folder.join("swap/deep")).unwrap();
        for (name, held) in [
            ("outside/f", "outside"),
            ("outside/deep/f", "outside"),
            ("folder/swap/f", "inside"),
            ("folder/swap/deep/f", "inside"),
            ("folder/file", "inside"),
        ] {
            fs::write(directory.join(name), held).unwrap();
        }
        symlink(directory.join("outside"), folder.join("other")).unwrap();
        symlink(directory.join("outside/f"), folder.join("other-file")).unwrap();
    });
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (stop, folder) = (Arc::clone(&stop), kept.unwrap().join("folder"));
        std::thread::spawn(move || {
            let exchange = |one: &str, two: &str| {
                let (one, two) = (folder.join(one), folder.join(two));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, one, CWD, two, flags).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                exchange("swap", "other");
                exchange("file", "other-file");
            }
        })
    };
    daemon.line_in("raced: ", LONG_PATIENCE);
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    daemon.line("ended with exit code 0");
    let line = daemon.seen.iter().find(|line| line.contains("raced: ")).unwrap();
    // Both happened, or nothing was tried.
    assert!(!line.contains(" 0 opened") && !line.contains(" 0 refused"), "{line}");
}
