//! What a foreign program finds in its view: who it is, and files that programs expect.

use crate::Test;
use crate::harness::Daemon;
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("view::a_program_finds_its_own_user", own_user),
    ("view::this_host_has_its_names", own_host),
    ("view::a_grant_takes_the_place_of_what_is_generated", granted_instead),
    ("view::harmless_devices_are_there", devices),
    ("view::programs_are_found_by_links_of_etc", alternatives),
    ("view::certificates_are_seen_and_keys_are_not", certificates),
    ("view::the_time_zone_is_that_of_the_machine", zone),
    ("view::services_have_their_numbers", services),
    ("view::proc_shows_the_layers_own_processes", proc),
    ("view::proc_hides_what_is_of_the_machine", proc_hides),
    ("view::tmp_is_its_own_and_has_a_size", tmp),
    ("view::shared_memory_is_its_own_and_has_a_size", shm),
    ("view::all_parts_take_no_more_files_than_one", all_parts),
    ("view::a_grant_is_seen_at_another_place", elsewhere),
    ("view::nothing_is_made_in_a_directory_that_is_granted", not_in_a_grant),
    ("view::it_begins_where_its_policy_says", begins),
    ("view::a_umask_and_a_group_are_those_of_its_files", umask_and_group),
];

/// A shell whose lines the log shows.
fn sh(script: &str, more: &str) -> Daemon {
    Daemon::command_line(&format!(
        "[layer.reader]\nexec = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         syscalls = [\"@core\", \"@process\", \"@exec\", \"@file-read\", \"@file-write\", \"chdir\", \
         \"symlinkat\"]\n\
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

fn devices() {
    let script = "for name in full null random urandom zero; do\n\
                  [ -c /dev/$name ] && /usr/bin/head -c 1 /dev/$name | /usr/bin/wc -c; done\n\
                  for name in null zero; do echo x > /dev/$name && echo wrote; done\n\
                  (echo x > /dev/full) 2>/dev/null || echo full\n\
                  [ -e /dev/mem ] || [ -e /dev/kmsg ] || echo no other";
    let mut daemon = sh(script, "");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let lines = |text: &str| daemon.seen.iter().filter(|line| line.ends_with(text)).count();
    // Reading the null device ends at once.
    assert_eq!((lines(": 1"), lines(": 0"), lines(": wrote")), (4, 1, 2), "{daemon}");
    assert_eq!((lines(": full"), lines(": no other")), (1, 1), "{daemon}");
}

fn alternatives() {
    let link = std::fs::read_link("/usr/bin/awk").ok();
    if !link.is_some_and(|to| to.starts_with("/etc/alternatives")) {
        ignore("awk is no link of /etc/alternatives here");
    }
    let daemon = Daemon::command_line(
        "[layer.reader]\nexec = [\"/usr/bin/awk\", \"BEGIN { print \\\"awk runs\\\" }\"]\n\
         syscalls = [\"@core\"]\nrestart = { on = \"never\" }",
    );
    says(daemon, &["awk runs"]);
}

fn certificates() {
    let script = "for file in /etc/ssl/certs/*; do [ -r $file ] && echo certificate && break; done\n\
                  [ -e /etc/ssl/private ] || echo no keys";
    says(sh(script, "view = [\"system\", \"tls\"]"), &["certificate", "no keys"]);
    let script = "[ -e /etc/ssl ] || echo nothing";
    says(sh(script, ""), &["nothing"]);
}

fn zone() {
    let here = std::process::Command::new("date").args(["-d", "@0", "+%H:%M %Z"]).output();
    let here = String::from_utf8(here.unwrap().stdout).unwrap();
    // A link on most machines: what it leads to is seen in its place.
    let script = "[ -f /etc/localtime ] && [ ! -L /etc/localtime ] && echo a file\n\
                  echo here $(/usr/bin/date -d @0 \"+%H:%M %Z\")\n\
                  echo there $(TZ=Asia/Kathmandu /usr/bin/date -d @0 +%H:%M)";
    let here = format!("here {}", here.trim());
    says(sh(script, "view = [\"system\", \"zone\"]"), &["a file", &here, "there 05:30"]);
}

fn services() {
    let script = "/usr/bin/getent services ssh; [ -e /etc/resolv.conf ] || echo asks nobody";
    let mut daemon = sh(script, "view = [\"system\", \"resolve\"]");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("22/tcp"), 1, "{daemon}");
    assert_eq!(daemon.count("asks nobody"), 1, "{daemon}");
}

/// A shell that sees `/proc`, if this user may have one mounted.
fn sh_with_proc(script: &str) -> Daemon {
    let mut daemon = sh(script, "view = [\"system\", \"proc\"]");
    let code = daemon.end();
    if daemon.count("nothing in the host's /proc is hidden by a mount") > 0 {
        assert_eq!(code, Some(3), "{daemon}");
        ignore("this user may mount no /proc here");
    }
    assert_eq!(code, Some(0), "{daemon}");
    daemon
}

fn proc() {
    let daemon = sh_with_proc(
        "for process in /proc/[0-9]*; do echo process $process; done\n\
         echo name $(/usr/bin/cat /proc/2/comm)\n\
         echo piped | /usr/bin/cat /dev/stdin\n\
         read line < /proc/self/status && echo $line",
    );
    let processes: Vec<_> = daemon
        .seen
        .iter()
        .filter_map(|line| line.strip_prefix("reader/0.g1: process /proc/"))
        .collect();
    // Its init and itself, by the numbers that they have here.
    assert_eq!(processes, ["1", "2"], "{daemon}");
    for text in [": name ", ": piped", ": Name:"] {
        assert_eq!(daemon.count(text), 1, "{text}: {daemon}");
    }
}

fn proc_hides() {
    let daemon = sh_with_proc(
        "for name in kcore kallsyms kmsg keys interrupts cmdline; do\n\
         [ -s /proc/$name ] || echo hidden; done\n\
         for name in /proc/irq/* /proc/fs/* /proc/bus/*; do [ -e $name ] && echo seen $name; done\n\
         (echo 7 > /proc/self/oom_score_adj) 2>/dev/null || echo settled\n\
         (echo x > /proc/sys/kernel/domainname) 2>/dev/null || echo set\n\
         read line < /proc/meminfo && echo $line; read line < /proc/sys/kernel/ostype && echo $line\n\
         (: < /proc/1/environ) 2>/dev/null || echo no init; [ -e /.nothing ] || echo clean",
    );
    assert_eq!(daemon.count(": hidden"), 6, "{daemon}");
    assert_eq!(daemon.count(": seen "), 0, "{daemon}");
    for text in ["settled", "set", "MemTotal:", "Linux", "no init", "clean"] {
        let line = format!("reader/0.g1: {text}");
        let found = daemon.seen.iter().filter(|seen| seen.starts_with(&line)).count();
        assert!(found >= 1, "{text}: {daemon}");
    }
}

fn tmp() {
    let script = "cd /tmp && mkdir a b && mv a b/a && echo x > b/a/file && ln -s file b/a/link\n\
                  mv b/a/file b/file && rm -r b/a && echo moved\n\
                  /usr/bin/head -c 2000000 /dev/zero > large 2>/dev/null || echo full\n\
                  rm large; echo x > cofferdam-view-test && echo fits\n\
                  /usr/bin/cp /usr/bin/true program && (./program 2>/dev/null || echo not run)";
    says(
        sh(script, "view = [\"system\", \"tmp=1MiB\"]\ncwd = \"/tmp\""),
        &["moved", "full", "fits", "not run"],
    );
    assert!(!std::path::Path::new("/tmp/cofferdam-view-test").exists());
    says(sh("[ -e /tmp ] || echo nothing", ""), &["nothing"]);
}

fn shm() {
    let script = "cd /dev/shm && echo x > cofferdam-view-test && echo fits\n\
                  /usr/bin/head -c 2000000 /dev/zero > large 2>/dev/null || echo full";
    says(sh(script, "view = [\"system\", \"shm=1MiB\"]"), &["fits", "full"]);
    assert!(!std::path::Path::new("/dev/shm/cofferdam-view-test").exists());
}

/// There are more places than the layer may have files open.
fn all_parts() {
    let more = "view = [\"system\", \"tls\", \"zone\", \"resolve\", \"locale\", \"tmp=1MiB\", \
                \"shm=1MiB\"]\nlimits = { files = 32 }";
    says(sh("echo up", more), &["up"]);
}

/// A shell, with files in the directory of the test.
fn sh_in(script: &str, more: &str, prepare: impl FnOnce(&std::path::Path)) -> Daemon {
    let policy = format!(
        "[layer.reader]\nexec = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         syscalls = [\"@core\", \"@process\", \"@exec\", \"@file-read\", \"@file-write\", \"chdir\", \
         \"symlinkat\"]\n\
         because = \"a test\"\nrestart = {{ on = \"never\" }}\n{more}"
    );
    Daemon::start_with("none", &policy, prepare)
}

fn elsewhere() {
    let more = "[file.data]\npath = \"DIR/a\"\nat = \"/data/here\"\ngrant = { reader = [\"read\", \"list\"] }\n\
                [file.one]\npath = \"DIR/one\"\nat = \"/etc/one.conf\"\ngrant = { reader = [\"read\"] }";
    let script = "read line < /data/here/note && echo $line; read line < /etc/one.conf && echo $line\n\
                  [ -e DIR ] || echo nothing; (: > /data/here/new) 2>/dev/null || echo kept";
    let daemon = sh_in(script, more, |directory| {
        std::fs::create_dir(directory.join("a")).unwrap();
        std::fs::write(directory.join("a/note"), "a note\n").unwrap();
        std::fs::write(directory.join("one"), "a setting\n").unwrap();
        open_to_all(directory);
    });
    says(daemon, &["a note", "a setting", "nothing", "kept"]);
}

/// Lets every user look at what is in the directory.
fn open_to_all(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    for name in ["a", "a/note", "one"] {
        let path = directory.join(name);
        if path.exists() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

fn not_in_a_grant() {
    let more = "[file.data]\npath = \"DIR/a\"\ngrant = { reader = [\"read\", \"write\", \"create\"] }\n\
                [file.one]\npath = \"DIR/one\"\nat = \"DIR/a/new/place\"\ngrant = { reader = [\"read\"] }";
    let mut daemon = sh_in("echo never", more, |directory| {
        std::fs::create_dir(directory.join("a")).unwrap();
        std::fs::write(directory.join("one"), "").unwrap();
    });
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("made in a directory of the host that is granted"), 1, "{daemon}");
    assert!(!daemon.directory().join("a/new").exists());
}

fn begins() {
    says(sh("pwd", "cwd = \"/usr/share\""), &["/usr/share"]);
    says(sh("pwd", ""), &["/"]);
    let mut daemon = sh("pwd", "cwd = \"/no/such/place\"");
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("entering its `cwd`: No such file"), 1, "{daemon}");
}

fn umask_and_group() {
    let script = "echo x > /tmp/file; /usr/bin/stat -c \"%a %g\" /tmp/file; /usr/bin/id -g";
    let daemon = sh(script, "view = [\"system\", \"tmp=1MiB\"]\numask = \"027\"\ngroup = 4322");
    says(daemon, &["640 4322", "4322"]);
    let script = "echo x > /tmp/file; /usr/bin/stat -c \"%a\" /tmp/file";
    says(sh(script, "view = [\"system\", \"tmp=1MiB\"]"), &["600"]);
}
