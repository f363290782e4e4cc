//! An `exec` layer: this process becomes the init of another program.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};

use super::inbox::Inbox;
use super::slice::{PIPE_FDS, Slice};
use crate::confine::filter::{self, Arch};
use crate::confine::init::{Init, Launch};
use crate::confine::prepare;
use crate::policy::syscall::init_plan;
use crate::sys::inherit::inherited;
use crate::sys::pidfd::Ended;
use crate::wire::control::FromLayer;

/// Confines this process, runs the program beneath it, and tells the supervisor how it ended.
pub(super) fn run(
    slice: &Slice,
    argv: &[String],
    inbox: Inbox,
) -> Result<ExitCode, (Inbox, String)> {
    let init = match start(slice, argv, &inbox) {
        Ok(init) => init,
        Err(error) => return Err((inbox, error)),
    };
    let ready = FromLayer::Ready { key: [0; 32], receipt: init.receipt().to_bytes() };
    // When the supervisor is gone there is nobody to tell, and the kernel is about to end us.
    let _ = inbox.say(&ready);
    let last_words = match init.run() {
        Ok(Ended::Exited(code)) => FromLayer::Exited { code },
        Ok(Ended::Killed(signal)) => FromLayer::Killed { signal },
        Err(_) => return Ok(ExitCode::FAILURE),
    };
    let _ = inbox.say(&last_words);
    Ok(ExitCode::SUCCESS)
}

fn start(slice: &Slice, argv: &[String], inbox: &Inbox) -> Result<Init, String> {
    let init_filter =
        filter::compile(&init_plan(), Arch::NATIVE).map_err(|error| error.to_string())?;
    let pipes = pipes(slice).map_err(|error| format!("standard input and output: {error}"))?;
    let bare = prepare(&slice.order, inbox.as_fd()).map_err(|error| error.to_string())?;

    // Opened in the layer's own root: what it can't see can't be started.
    let path = argv.first().map_or("", String::as_str);
    let layer = &slice.order.layer.name;
    let blame = |error: String| format!("[layer.{layer}] exec: {path}: {error}");
    let program = open(path).map_err(|error| blame(missing(&error)))?;
    if let Some(interpreter) = interpreter(path) {
        return Err(blame(format!(
            "it is a script, which starts by another program; write `exec = [\"{interpreter}\", \
             \"{path}\", ...]`"
        )));
    }
    let argv = strings(argv.iter().cloned())?;
    let variables = slice.order.layer.env.iter().map(|(name, value)| format!("{name}={value}"));
    let envp = strings(variables)?;
    // The spawn has put these in place: the null device and the log's pipes.
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let [input, output] = &pipes;
    let fds: [BorrowedFd<'_>; 3] = [
        input.as_ref().map_or(stdin.as_fd(), AsFd::as_fd),
        output.as_ref().map_or(stdout.as_fd(), AsFd::as_fd),
        stderr.as_fd(),
    ];
    let launch = Launch {
        program: program.as_fd(),
        argv: &argv,
        envp: &envp,
        fds: &fds,
        filter: &slice.part.filter.lines(),
        signals: &slice.part.share.signals_to(layer),
    };
    let launched = bare.launch(&launch, || init_filter.load()).map_err(|error| error.to_string());
    // The program's alone from here on: an end that init kept would be one that never closes.
    drop(pipes);
    launched
}

/// The pipes for standard input and output, where the policy attaches them.
fn pipes(slice: &Slice) -> io::Result<[Option<OwnedFd>; 2]> {
    let layer = &slice.order.layer;
    let mut places = PIPE_FDS;
    let mut take = |attached: bool| match attached.then(|| places.next()).flatten() {
        Some(place) => inherited(place).map(Some),
        None => Ok(None),
    };
    let input = take(layer.stdin.is_some())?;
    Ok([input, take(layer.stdout.is_some())?])
}

fn open(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Why a program isn't there, with what a person may not know of a layer's view.
fn missing(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        format!(
            "{error}; the layer sees the system's programs (`view = \"system\"`) and what a \
             [file.*] grants it"
        )
    } else {
        error.to_string()
    }
}

/// The program that a script names in its first line. The kernel can't start a script by a
/// descriptor that the exec closes (execveat(2), BUGS).
fn interpreter(path: &str) -> Option<String> {
    let mut start = [0; 256];
    let length = std::fs::File::open(path).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start[..length].strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).split_whitespace().next().unwrap_or_default().to_owned())
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, String> {
    texts
        .map(|text| CString::new(text).map_err(|_| "an argument holds a zero byte".to_owned()))
        .collect()
}
