//! Checking `pass = "inetd"`: a program for each connection.

use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{LayerText, ListenText};
use crate::policy::plan::{LayerPlan, ListenAddress, ListenPlan, SyscallPlan};
use crate::policy::syscall::by_name;

/// The call by which a program could make the connection that it has into another one: it also takes
/// a socket apart from its peer (connect(2), `AF_UNSPEC`), and without that the socket neither binds
/// nor listens again.
const KEPT: &str = "connect";

/// How many connections of a socket are served at once; `None` unless each has a program.
pub(super) fn max(layer: &LayerText, text: &ListenText, out: &mut Diagnostics) -> Option<u32> {
    if !text.is_inetd() {
        if let Some(max) = &text.max {
            let mistake = out.error(Code::Contradiction, &max.span, "`max` is of `inetd` alone");
            mistake.label("nobody counts the connections that are open here");
            if let Some(pass) = &text.pass {
                mistake.also(&pass.span, "the socket is passed in another way");
            }
            mistake.help("take it out, or add `pass = \"inetd\"`");
        }
        return None;
    }
    if let (Some(address), Some(pass)) = (&text.address, &text.pass)
        && matches!(address.value, ListenAddress::Udp(_))
    {
        out.error(Code::Contradiction, &pass.span, "UDP has no connections")
            .label("no program could be started for one")
            .also(&address.span, "datagrams come here")
            .help("pass the socket by `listen-fds` or `fd`");
    }
    let tasks = layer.limits.tasks();
    let span = text.max.as_ref().map_or(&text.name.span, |max| &max.span);
    let most = served(text);
    let all: u64 = layer.listen.iter().map(served).sum();
    if all > tasks {
        let mistake = out.error(Code::OutOfRange, span, "more connections than tasks");
        mistake.label(format!("up to {all} programs run at once, and `limits.tasks` is {tasks}"));
        if let Some(tasks) = &layer.limits.tasks {
            mistake.also(&tasks.span, "it is set here");
        }
        mistake.help(format!("write `limits = {{ tasks = {all} }}` or more, or a lower `max`"));
    }
    u32::try_from(most).ok()
}

/// How many programs run at once for a socket.
pub(super) fn served(text: &ListenText) -> u64 {
    let most = || text.max.as_ref().map_or(ListenPlan::DEFAULT_MAX, |max| max.value);
    if text.is_inetd() { most().into() } else { 0 }
}

/// A layer with such a socket has nothing that a single program would have.
pub(super) fn alone(layer: &LayerText, plan: &LayerPlan, out: &mut Diagnostics) {
    let inetd = layer.listen.iter().find(|text| text.is_inetd());
    let Some(pass) = inetd.and_then(|text| text.pass.as_ref()) else { return };
    if let Some(other) = layer.listen.iter().find(|text| !text.is_inetd()) {
        out.error(Code::Contradiction, &other.name.span, "no program is there to have this socket")
            .label("it would be nobody's")
            .also(&pass.span, "the program is started for each connection, and ends with it")
            .help("give it a layer of its own");
    }
    if let Some(target) = layer.connect.first() {
        out.error(
            Code::NotBuiltYet,
            &target.name.span,
            "`connect` beside `inetd` is not built yet",
        )
        .label("nobody would connect")
        .also(&pass.span, "the program is started for each connection");
    }
    let streams = [("stdin", &layer.stdin), ("stdout", &layer.stdout), ("stderr", &layer.stderr)];
    for (key, stream) in streams {
        let Some(stream) = stream else { continue };
        out.error(Code::Contradiction, &stream.span, format!("`{key}` of a program of `inetd`"))
            .label("this has no effect")
            .also(&pass.span, "standard input and output are the connection, and error is the log")
            .help(format!("take out `{key}`"));
    }
    let connects = |it: &SyscallPlan| Some(it.number) == by_name(KEPT) && !it.allow.is_empty();
    if plan.syscalls.iter().any(connects) {
        let span = layer.syscalls.first().map_or(&layer.name.span, |first| &first.span);
        out.error(Code::Contradiction, span, format!("`{KEPT}` for a program of `inetd`"))
            .label("by it the program could make its connection into another one, outside")
            .also(&pass.span, "the connection is the host's")
            .help(format!("take out the group or call that grants `{KEPT}`"));
    }
}
