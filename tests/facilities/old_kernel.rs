//! Helpers on a kernel without Landlock: one lacks it only where all of its clients may. Where one
//! doesn't, the daemon doesn't get as far as its helper: the writer of the log serves that one too.
//!
//! The old kernel is a filter beneath the daemon, loaded before its program starts.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cofferdam::Layer;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("old_kernel::a_helper_lacks_what_all_of_its_clients_may_lack", all_may),
    ("old_kernel::nothing_begins_where_one_layer_demands_what_is_lacking", one_demands),
];

pub(crate) const LAYERS: &[Function] = &[("old_kernel", Runs::Blocking(layer_served))];

/// Helpers, and what of them a layer is given.
const HELPERS: [&str; 3] = ["cofferdam-files", "cofferdam-connector", "cofferdam-paths"];

/// What this kernel lacks.
const LANDLOCK: &str =
    "\"landlock.file\", \"landlock.net\", \"landlock.ioctl\", \"landlock.scope\"";

/// Asks the helper that it has.
fn layer_served(layer: Layer) -> Outcome {
    if let Ok(folder) = layer.directory("folder") {
        folder.open_read("f").map_err(text)?;
    } else {
        layer.target("up").map_err(text)?.blocking_stream().map_err(text)?;
    }
    say("served");
    wait_for_stop(&layer)
}

/// Two layers that ask `helper`; the second has `optional` too if `both`.
fn policy(helper: &str, address: &str, both: bool) -> String {
    let connect = match helper {
        "cofferdam-files" => String::new(),
        "cofferdam-paths" => "connect = { up = \"unix:DIR/door\" }\n".to_owned(),
        _ => format!("connect = {{ up = \"tcp:{address}\" }}\n"),
    };
    let layer = |name: &str, optional: &str| {
        format!(
            "[layer.{name}]\nrun = \"old_kernel\"\nsyscalls = [\"@core\"]\n{connect}\
             optional = [{optional}]\ngrace = \"1s\"\n"
        )
    };
    let folder = match helper {
        "cofferdam-files" => {
            "[file.folder]\npath = \"DIR/folder\"\ngrant = { a = [\"read\"], b = [\"read\"] }\n\
             max-open = 4\n"
        }
        _ => "",
    };
    layer("a", LANDLOCK) + &layer("b", if both { LANDLOCK } else { "" }) + folder
}

/// A filter that answers as a kernel does that has no such call.
fn without_landlock() -> BpfProgram {
    let call = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let (allow, none) = (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.cast_unsigned()));
    let arch: TargetArch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(call, allow, none, arch).unwrap().try_into().unwrap()
}

/// The daemon, and those to whom its layers connect.
fn start(helper: &str, both: bool) -> (Daemon, (TcpListener, UnixListener)) {
    let network = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = network.local_addr().unwrap().to_string();
    let mut door = None;
    let prepare = |directory: &Path| {
        std::fs::create_dir(directory.join("folder")).unwrap();
        std::fs::write(directory.join("folder/f"), "f").unwrap();
        door = Some(UnixListener::bind(directory.join("door")).unwrap());
    };
    let program = without_landlock();
    let filtered = move |command: &mut Command| {
        let load =
            move || apply_filter(&program).map_err(|_| io::Error::from_raw_os_error(libc::ENOSYS));
        // SAFETY: between fork and exec it makes two system calls, with a program that is there.
        unsafe { command.pre_exec(load) };
    };
    let daemon = Daemon::start_by("-", &policy(helper, &address, both), prepare, filtered);
    (daemon, (network, door.unwrap()))
}

fn all_may() {
    for helper in HELPERS {
        let (mut daemon, _others) = start(helper, true);
        for layer in ["a", "b"] {
            let line = format!("{layer}/0.g1: served");
            if daemon.count(&line) == 0 {
                daemon.line(&line);
            }
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        let confined = format!("cofferdam: {helper}/0.g1 is confined");
        let line = daemon.seen.iter().find(|line| line.starts_with(&confined)).unwrap();
        assert!(line.contains("landlock.file"), "it doesn't say what is missing: {line}");
    }
}

fn one_demands() {
    for helper in HELPERS {
        let (mut daemon, _others) = start(helper, false);
        assert_eq!(daemon.end(), Some(3), "{daemon}");
        // Who writes the log serves everybody, and begins first.
        let told = "cofferdam: cofferdam-log/0.g1 could not be confined: landlock.file can't be";
        assert_eq!(daemon.count(told), 1, "{daemon}");
        assert_eq!(daemon.count("is confined, pid"), 0, "{daemon}");
        assert_eq!(daemon.count("served"), 0, "{daemon}");
    }
}
