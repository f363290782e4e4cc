//! Grants that are dangerous enough to need a reason in words.

use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, FileText, LayerText};
use crate::policy::plan::FileRight;

/// Directories that hold more than any layer should see, and why.
const WIDE: [(&str, &str); 11] = [
    ("/", "the whole file system"),
    ("/boot", "the kernel and its boot loader"),
    ("/dev", "every device"),
    ("/etc", "the system's whole configuration, with its secrets"),
    ("/home", "everybody's files"),
    ("/proc", "the state of every process"),
    ("/root", "the administrator's files"),
    ("/run", "the sockets of every service"),
    ("/sys", "the kernel's settings"),
    ("/usr", "every program"),
    ("/var", "the data of every service"),
];

/// Files beneath these are doors into the kernel or into other processes.
const DEEP: [(&str, &str); 3] = [
    ("/dev/", "a device"),
    ("/proc/", "the state of processes or the kernel"),
    ("/sys/", "a setting of the kernel"),
];

/// Devices that hold nothing.
const HARMLESS: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];

/// Files that hold everybody's secrets.
const SECRETS: [&str; 3] = ["/etc/gshadow", "/etc/shadow", "/etc/sudoers"];

/// A reason made of white space is none.
pub(super) fn because_has_words(because: Option<&At<String>>, out: &mut Diagnostics) {
    if let Some(because) = because.filter(|text| text.value.trim().is_empty()) {
        out.error(Code::EmptyBecause, &because.span, "`because` says nothing")
            .help("say who needs it and what for; reviewers read this");
    }
}

/// Demands a reason for what a layer holds besides its system calls.
pub(super) fn layer(layer: &LayerText, out: &mut Diagnostics) {
    if layer.because.is_some() {
        return;
    }
    if let Some(first) = layer.capabilities.first() {
        needs_reason(&first.span, "a capability", "part of root's power", out);
    }
    if let Some(execmem) = layer.execmem.as_ref().filter(|yes| yes.value) {
        let why = "written memory could be run: injected code too";
        needs_reason(&execmem.span, "executable memory", why, out);
    }
    if let Some(uid) = layer.uid.as_ref().filter(|uid| uid.value == 0) {
        needs_reason(&uid.span, "running as root", "root owns most files of the system", out);
    }
    if let Some(group) = layer.group.as_ref().filter(|group| group.value == 0) {
        needs_reason(&group.span, "the group of root", "it reads and writes files of root", out);
    }
}

/// Demands a reason for a file that is more than a file.
pub(super) fn file(file: &FileText, out: &mut Diagnostics) {
    if file.because.is_some() {
        return;
    }
    if let Some(path) = &file.path {
        self::path(path, None, out);
    }
    for (_, rights) in file.grant.iter().flat_map(|grant| &grant.value) {
        let holds = |right| rights.value.iter().any(|held| held.value == right);
        if holds(FileRight::Execute) && (holds(FileRight::Write) || holds(FileRight::Create)) {
            let why = "the layer could run what it wrote";
            needs_reason(&rights.span, "to write and to execute", why, out);
        }
    }
}

/// Demands a reason for a path that reaches more than a file of one's own.
pub(super) fn path(path: &At<String>, because: Option<&At<String>>, out: &mut Diagnostics) {
    if let (None, Some(why)) = (because, reach(&path.value)) {
        needs_reason(&path.span, &format!("`{}`", path.value.escape_debug()), why, out);
    }
}

/// Tells one dangerous grant.
pub(super) fn needs_reason(span: &Span, what: &str, why: &str, out: &mut Diagnostics) {
    out.error(Code::NeedsBecause, span, format!("{what} needs a reason"))
        .label(why)
        .help("grant less, or add `because = \"who needs it, and what for\"`");
}

/// What a path reaches that is more than a file of one's own.
pub(crate) fn reach(path: &str) -> Option<&'static str> {
    if HARMLESS.contains(&path) {
        return None;
    }
    if SECRETS.contains(&path) {
        return Some("the system's passwords or rules");
    }
    if let Some((_, why)) = WIDE.iter().find(|(wide, _)| *wide == path) {
        return Some(why);
    }
    if let Some((_, why)) = DEEP.iter().find(|(deep, _)| path.starts_with(deep)) {
        return Some(why);
    }
    let home = path.strip_prefix("/home/").is_some_and(|user| !user.contains('/'));
    home.then_some("all files of a person")
}

#[cfg(test)]
mod tests {
    use super::reach;

    #[test]
    fn reaches() {
        for wide in ["/", "/etc", "/home/ann", "/proc/1/mem", "/dev/sda", "/etc/shadow"] {
            assert!(reach(wide).is_some(), "{wide}");
        }
        for plain in ["/etc/signer/key.pem", "/home/ann/site", "/dev/null", "/var/lib/a", "/srv"] {
            assert!(reach(plain).is_none(), "{plain}");
        }
    }
}
