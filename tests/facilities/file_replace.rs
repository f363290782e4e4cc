//! Files that are replaced whole, whoever is killed meanwhile.

use std::fs;

use cofferdam::Layer;
use rustix::process::{Signal, kill_process};

use crate::file::{grant, layer};
use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("file::a_replacement_is_whole_after_every_kill", replaces),
    ("file::what_a_killed_supervisor_left_is_cleared", cleared),
];

pub(crate) const LAYERS: &[Function] = &[("file_replace", Runs::Blocking(layer_replace))];

fn layer_replace(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    say("replacing");
    for round in 0_u32.. {
        let byte = b'a' + u8::try_from(round % 26).unwrap();
        folder.replace("state", &vec![byte; 40_000]).map_err(text)?;
        if round % 7 == 0 {
            folder.replace("d/other", &[byte; 10]).map_err(text)?;
        }
        if layer.is_stopping() {
            break;
        }
        layer.attend().map_err(text)?;
    }
    Ok(())
}

fn replaces() {
    for more in ["", "max-open = 2"] {
        let policy = layer("file_replace")
            .replace("{ on = \"never\" }", "{ max = 100 }")
            .replace("[\"@core\"", "[\"@core\", \"openat2\"");
        let rights = "\"create\", \"write\", \"truncate\"";
        let mut kept = None;
        let policy = policy + &grant("folder", rights, more);
        let mut daemon = Daemon::start_with("-", &policy, |directory| {
            fs::create_dir_all(directory.join("folder/d")).unwrap();
            kept = Some(directory.join("folder"));
        });
        let folder = kept.unwrap();
        for life in 1..=8 {
            let pid = daemon.confined(&format!("a/0.g{life}"));
            daemon.line("replacing");
            for _ in 0..5 {
                if let Ok(state) = fs::read(folder.join("state")) {
                    assert_eq!(state.len(), 40_000, "{daemon}");
                    assert!(state.iter().all(|byte| *byte == state[0]), "torn");
                }
                std::thread::sleep(std::time::Duration::from_micros(700 * life));
            }
            kill_process(pid, Signal::KILL).unwrap();
            daemon.line("was killed by SIGKILL");
        }
        daemon.line("replacing");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert!(names == ["d", "state"], "{names:?}");
    }
}

fn cleared() {
    let mut kept = None;
    let policy = layer("file_append")
        + &grant("log", "\"read\", \"append\", \"create\"", "")
        + &grant("single", "\"append\"", "");
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        fs::create_dir(directory.join("log")).unwrap();
        fs::write(directory.join("log/.cofferdam-draft-test"), "half").unwrap();
        fs::write(directory.join("single"), "").unwrap();
        kept = Some(directory.join("log"));
    });
    daemon.line("ended with exit code 0");
    let names: Vec<_> = fs::read_dir(kept.unwrap()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}
