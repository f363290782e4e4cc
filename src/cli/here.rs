//! What of a policy this machine can't give: paths that `cofferdam run` would refuse here.
//!
//! The checker reads texts alone, so that a policy is as right on one machine as on another. This
//! looks at the machine. What it finds may be otherwise by the time that a daemon starts, and on
//! another machine it is; so it is told as notes, or as warnings to who asks for it.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::layer::script::{Interpreter, first_line};
use crate::policy::SourceMap;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostic, Severity};
use crate::policy::plan::{DirectoryKind, FilePlan, FileRight, LayerPlan, Plan, Program};
use crate::sys::resolve::openat2;
use crate::users::access::{Who, is_by_path, lacking};

/// Everything that this machine can't give of a plan.
pub(super) fn look(plan: &Plan, places: &SourceMap, severity: Severity) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut tell = |rule: &str, finding: Finding| {
        let mut one = places.about(rule, Code::NotHere, severity, finding.what);
        one.help(finding.help);
        found.push(one);
    };
    for file in plan.files.iter().filter(|file| !may_lack(file)) {
        let rule = format!("file.{}.path", file.name);
        match what_is_at(&file.path) {
            Err(finding) => tell(&rule, finding),
            Ok(Some(stat)) => {
                if let Some(finding) = unfit(file, &stat) {
                    tell(&rule, finding);
                }
                for layer in plan.layers.iter().filter(|layer| is_by_path(file, layer, &stat)) {
                    if let Some(finding) = out_of_reach(file, layer, &stat) {
                        tell(&format!("file.{}.grant.{}", file.name, layer.name), finding);
                    }
                }
            }
            Ok(None) => {}
        }
    }
    for layer in &plan.layers {
        if let Program::Exec(argv) = &layer.program
            && let Some(program) = argv.first()
            && let Some(finding) = no_program(program)
        {
            tell(&format!("layer.{}.exec", layer.name), finding);
        }
        for directory in layer.directories.iter().filter(|it| it.kind.is_kept()) {
            if let Some(finding) = no_parent(&directory.path) {
                tell(&format!("layer.{}.{}", layer.name, directory.kind.name()), finding);
            }
        }
    }
    found
}

/// Single files that a foreign program keeps when they are replaced, which nobody else could tell:
/// its view has the file of its start, and no call of its own goes past that. Notes.
pub(super) fn kept(plan: &Plan, places: &SourceMap) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for file in &plan.files {
        let Ok(Some(stat)) = what_is_at(&file.path) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            continue;
        }
        for layer in &plan.layers {
            let rights = file.grant.get(&layer.name).map_or(&[][..], Vec::as_slice);
            // What it executes it has read by then.
            let reads = rights.contains(&FileRight::Read) && !rights.contains(&FileRight::Execute);
            if !reads || !matches!(layer.program, Program::Exec(_)) {
                continue;
            }
            let what = format!(
                "layer `{}` sees `{}` as it is when it starts, even if another file is renamed there",
                layer.name,
                file.path.escape_debug()
            );
            let rule = format!("file.{}.path", file.name);
            let mut note = places.about(&rule, Code::KeptFile, Severity::Note, what);
            note.help("if it is renewed that way, grant the directory that it lies in");
            found.push(note);
        }
    }
    found
}

/// Whether nothing is there, and nothing has to be.
fn may_lack(file: &FilePlan) -> bool {
    let nothing = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    file.optional && std::fs::symlink_metadata(&file.path).is_err_and(nothing)
}

/// One thing that isn't as the policy has it.
struct Finding {
    what: String,
    help: String,
}

impl Finding {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// What lies at a path, without following links, as the supervisor opens it. `None`: this user
/// may not look.
fn what_is_at(path: &str) -> Result<Option<Stat>, Finding> {
    let shown = path.escape_debug();
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(rustix::fs::fstat(fd).ok()),
        Err(Errno::NOENT) => Err(Finding::new(
            format!("nothing is at `{shown}` on this machine"),
            "make it before the daemon starts, which refuses to without it",
        )),
        Err(Errno::NOTDIR) => Err(Finding::new(
            format!("a part of `{shown}` is no directory on this machine"),
            "write the path as it is",
        )),
        Err(Errno::LOOP) => {
            let to = std::fs::canonicalize(path).ok();
            let help = match to.as_deref().and_then(Path::to_str) {
                Some(to) => format!("write the path that it leads to: `path = {to:?}`"),
                None => "it leads nowhere: write the path of a file or directory".to_owned(),
            };
            let what = format!("a part of `{shown}` is a symbolic link, and grants follow none");
            Err(Finding::new(what, help))
        }
        Err(_) => Ok(None),
    }
}

/// Why what lies there can't be granted this way.
fn unfit(file: &FilePlan, stat: &Stat) -> Option<Finding> {
    let path = file.path.escape_debug();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let (name, help) = match kind {
        FileType::RegularFile if file.max_open.is_some() || !file.deny.is_empty() => {
            return Some(Finding::new(
                format!("`{path}` is a file, and `deny` and `max-open` are for directories"),
                "take them out, or grant the directory that it lies in",
            ));
        }
        FileType::Directory | FileType::RegularFile => return None,
        FileType::Fifo => ("a FIFO", "write it as `[fifo.NAME]`"),
        FileType::Socket => ("a socket", "write it as `connect = { NAME = \"unix:...\" }`"),
        _ => ("a device", "`view = \"system\"` has the harmless ones; no grant gives another"),
    };
    Some(Finding::new(
        format!("`{path}` is {name}, and only files and directories are granted"),
        help,
    ))
}

/// Why owner and mode keep the layer's user from what the policy grants it.
fn out_of_reach(file: &FilePlan, layer: &LayerPlan, stat: &Stat) -> Option<Finding> {
    let rights = file.grant.get(&layer.name)?;
    let root = rustix::process::geteuid().is_root();
    let (who, shown) = match layer.uid {
        // Outside of its namespace an ordinary user's layer is that user.
        _ if !root => (Who::Me, "this user".to_owned()),
        Some(uid) => {
            let gid = layer.group.unwrap_or(uid);
            (Who::User { uid, gid }, format!("user {uid}"))
        }
        None if crate::users::is_layers(stat.st_uid) => return None,
        None => (Who::Nobody, "a user of its own".to_owned()),
    };
    let verbs = lacking(rights, &file.path, stat, who);
    if verbs.is_empty() {
        return None;
    }
    let path = file.path.escape_debug();
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let help = match layer.uid {
        _ if !root => "start the daemon as root or as its owner, or change its mode".to_owned(),
        Some(uid) => format!("`chown {uid}` it, or change its mode"),
        None if owner == 0 => format!(
            "change its mode, give it to a user and the layer `uid = N`, or have the layer own a \
             directory by `{}`",
            DirectoryKind::State.name()
        ),
        None => format!("change its mode, or say `uid = {owner}` in [layer.{}]", layer.name),
    };
    Some(Finding::new(
        format!(
            "layer `{}` is {shown}, which can't {} `{path}` (owner {owner}, mode {mode:04o})",
            layer.name,
            verbs.join(" and ")
        ),
        help,
    ))
}

/// Why a program can't be executed, or does something else than elsewhere.
fn no_program(path: &str) -> Option<Finding> {
    let shown = path.escape_debug();
    match rustix::fs::stat(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => Some(Finding::new(
            format!("no program is at `{shown}` on this machine"),
            "install it, or write the path that `command -v` shows",
        )),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            Some(Finding::new(format!("`{shown}` is no file"), "write the path of a program"))
        }
        Ok(stat) if stat.st_mode & 0o111 == 0 => {
            Some(Finding::new(format!("`{shown}` isn't executable"), "`chmod a+x` it"))
        }
        Ok(stat) if stat.st_mode & 0o6000 != 0 => Some(Finding::new(
            format!("`{shown}` is set-user-id or set-group-id, and a layer gains nothing by it"),
            "it runs as the layer's user; what it needs more, grant by `uid` or `capabilities`",
        )),
        _ => no_interpreter(path),
    }
}

/// Why a script's interpreter can't be executed.
fn no_interpreter(path: &str) -> Option<Finding> {
    let shown = path.escape_debug();
    match Interpreter::named(&first_line(path)?) {
        Err(why) => Some(Finding::new(
            format!("`{shown}` can't be started: {why}"),
            "or run the interpreter, with the script as its argument",
        )),
        Ok(interpreter) => match rustix::fs::stat(&interpreter.path) {
            Err(Errno::NOENT | Errno::NOTDIR) => Some(Finding::new(
                format!(
                    "`{shown}` is a script for `{}`, and nothing is there on this machine",
                    interpreter.path.escape_debug()
                ),
                "install it, or change the script's first line",
            )),
            _ => None,
        },
    }
}

/// Why a layer's directory can't be made.
fn no_parent(path: &str) -> Option<Finding> {
    let parent = Path::new(path).parent()?;
    let is_missing = matches!(rustix::fs::stat(parent), Err(Errno::NOENT | Errno::NOTDIR));
    is_missing.then(|| {
        Finding::new(
            format!("`{}` can't be made: its parent isn't there", path.escape_debug()),
            format!("`mkdir -p {}`", parent.display()),
        )
    })
}
