//! What a foreign program finds in its view: who it is, and files that programs expect.

use crate::Test;
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("view::a_program_finds_its_own_user", own_user),
    ("view::this_host_has_its_names", own_host),
    ("view::a_grant_takes_the_place_of_what_is_generated", granted_instead),
];

/// A shell whose lines the log shows.
fn sh(script: &str, more: &str) -> Daemon {
    Daemon::command_line(&format!(
        "[layer.reader]\nexec = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         syscalls = [\"@core\", \"@process\", \"@exec\", \"@file-read\", \"@file-write\"]\n\
         because = \"a test\"\nrestart = {{ on = \"never\" }}\n{more}"
    ))
}

/// Ends it, and looks for these lines of the layer.
fn says(mut daemon: Daemon, lines: &[&str]) {
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in lines {
        let line = format!("reader/0.g1: {line}");
        assert_eq!(daemon.seen.iter().filter(|seen| **seen == line).count(), 1, "{line}: {daemon}");
    }
}

fn own_user() {
    let script = "echo user $(/usr/bin/id -un), group $(/usr/bin/id -gn)\n\
                  read first < /etc/passwd; echo $first; read first < /etc/group; echo $first\n\
                  (echo x >> /etc/passwd) 2>/dev/null || echo kept\n\
                  [ -e /etc/shadow ] || echo no shadow";
    says(
        sh(script, "uid = 4321"),
        &[
            "user reader, group reader",
            "reader:x:4321:4321:reader:/:/usr/sbin/nologin",
            "reader:x:4321:",
            "kept",
            "no shadow",
        ],
    );
    // Whose number is known only when it starts.
    says(sh("echo user $(/usr/bin/id -un)", ""), &["user reader"]);
}

fn own_host() {
    let script = "while read line; do echo \"hosts: $line\"; done < /etc/hosts\n\
                  while read line; do echo \"asked: $line\"; done < /etc/nsswitch.conf\n\
                  echo got $(/usr/bin/getent hosts reader)";
    says(
        sh(script, ""),
        &[
            "hosts: 127.0.0.1 localhost reader",
            "hosts: ::1 localhost reader",
            "asked: hosts: files",
            "asked: passwd: files",
            "got ::1 localhost reader",
        ],
    );
}

fn granted_instead() {
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    let script = "read first < /etc/passwd; echo \"$first\"; [ -e /etc/hosts ] && echo hosts";
    let more = "[file.users]\npath = \"/etc/passwd\"\ngrant = { reader = [\"read\"] }";
    says(sh(script, more), &[host.lines().next().unwrap(), "hosts"]);
}
