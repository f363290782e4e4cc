//! `cofferdam run -- PROGRAM`: without a policy's file, and without what a policy would have to grant.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    ("alone::its_streams_arguments_and_exit_code_are_the_programs", streams),
    ("alone::it_reaches_nothing_of_the_host", nothing),
    ("alone::it_sees_where_it_is_called_but_no_home", here),
    ("alone::its_environment_is_small_however_large_the_callers_is", environment),
    ("alone::scripts_run_by_their_interpreters", scripts),
    ("alone::what_cannot_run_is_told", cannot),
    ("alone::what_it_was_refused_is_told_with_a_way_on", refused),
    ("alone::the_policy_that_is_printed_does_the_same", printed),
    ("alone::two_at_once_are_no_trouble", two),
];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("run").args(arguments).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

fn run(program: &[&str]) -> Output {
    command(&[&["--"], program].concat()).current_dir("/").output().unwrap()
}

fn shell(script: &str) -> Output {
    run(&["/bin/sh", "-c", script])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory of one's own that no layer's user is kept from, two levels down.
fn place() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let inner = place.path().join("work");
    fs::create_dir(&inner).unwrap();
    for path in [place.path(), &inner] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    (place, inner)
}

fn executable(path: &Path, content: &str) -> String {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn streams() {
    let mut child = command(&["--", "tr", "a-z", "A-Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"words\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout), output.status.code()), ("WORDS\n".to_owned(), Some(0)));
    assert_eq!(text(&output.stderr), "");

    let odd = ["a b", "", "c\nd", "${e}", "$${f}", "\"g\\", "ü\u{1b}[1m"];
    let script = ["/bin/sh", "-c", "for word; do printf '<%s>' \"$word\"; done", "name"];
    let output = run(&[&script[..], &odd].concat());
    let shown = odd.map(|word| format!("<{word}>")).concat();
    assert_eq!(text(&output.stdout), shown, "{}", text(&output.stderr));

    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -SEGV $$", 139)]
    {
        let output = shell(script);
        assert_eq!(output.status.code(), Some(code), "{script}: {}", text(&output.stderr));
    }
    let output = shell("echo out; echo err >&2");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".into(), "err\n".into()));
}

/// What it tries it does to itself alone; the same acts work outside.
fn nothing() {
    let (_place, work) = place();
    let file = work.join("file");
    fs::write(&file, "before").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "echo after > file; : > new; mkdir made; rm file; cat /etc/shadow /root/.profile /etc/hostname; \
         exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected; echo x > /tmp/own && cat /tmp/own; \
         kill -9 {}; ls /proc | grep -c '^[0-9]'",
        std::process::id()
    );
    let output = command(&["--", "/bin/bash", "-c", &script]).current_dir(&work).output().unwrap();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "x", "{said}{errors}");
    // Its own processes: init, the shell, two of the pipe.
    assert!(lines[1].parse::<u32>().is_ok_and(|count| count <= 5), "{said}{errors}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "before", "{errors}");
    assert_eq!(fs::read_dir(&work).unwrap().count(), 1, "{errors}");
    assert!(!Path::new("/tmp/own").exists());
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "{errors}");
}

fn here() {
    let (place, work) = place();
    fs::write(work.join("page"), "a page\n").unwrap();
    fs::set_permissions(work.join("page"), fs::Permissions::from_mode(0o644)).unwrap();
    let cat = |home: &Path| {
        command(&["--", "cat", "page"]).current_dir(&work).env("HOME", home).output().unwrap()
    };
    let output = cat(place.path());
    assert_eq!(text(&output.stdout), "a page\n", "{}", text(&output.stderr));
    let output = cat(&work);
    assert_eq!((text(&output.stdout), output.status.code()), (String::new(), Some(1)));
    assert!(text(&output.stderr).contains("and not shown"), "{output:?}");
}

fn environment() {
    let mut command = command(&["--env", "MINE=a b", "--", "/usr/bin/env"]);
    for number in 0..16 {
        command.env(format!("LARGE{number}"), "x".repeat(64 << 10));
    }
    let output = command.env("SECRET", "token").env("LANG", "C.UTF-8").output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("MINE=a b\n") && said.contains("LANG=C.UTF-8\n"), "{output:?}");
    assert!(!said.contains("LARGE") && !said.contains("token"), "{said}");

    let huge = format!("MINE={}", "x".repeat(100 << 10));
    let flags: Vec<&str> = (0..12).flat_map(|_| ["--env", &huge]).collect();
    // The last of one name counts.
    let output = self::command(&[&flags[..], &["--", "/usr/bin/true"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

fn scripts() {
    let (_place, work) = place();
    let script = executable(&work.join("script"), "#!/bin/sh\necho script \"$1\"\n");
    assert_eq!(text(&run(&[&script, "a b"]).stdout), "script a b\n");
    // One whose interpreter the system's part of the view doesn't have.
    let shell = work.join("own-shell");
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), &shell).unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    let other = format!("#!{}\necho other\n", shell.display());
    let other = executable(&work.join("other"), &other);
    let output = run(&[&other]);
    assert_eq!(text(&output.stdout), "other\n", "{}", text(&output.stderr));
}

fn cannot() {
    let (_place, work) = place();
    let relative = executable(&work.join("relative"), "#!sh\n");
    let missing = executable(&work.join("missing"), "#!/no/such/interpreter\n");
    let text_file = work.join("text");
    fs::write(&text_file, "#!/bin/sh\n").unwrap();
    let broken = executable(&work.join("broken"), "\x7fELF and no more");
    for (program, code, why) in [
        ("/no/such/program", 3, "can't be run: No such file"),
        ("no-such-program", 3, "no program `no-such-program` is in PATH"),
        (work.to_str().unwrap(), 3, "isn't executable, or no file"),
        (text_file.to_str().unwrap(), 3, "isn't executable, or no file"),
        (&relative, 3, "which is no absolute path"),
        (&missing, 3, "its interpreter /no/such/interpreter isn't there"),
        (&broken, 3, "neither a program for this machine nor a script"),
    ] {
        let output = run(&[program]);
        let said = text(&output.stderr);
        assert!(said.contains(why), "{program}: {said}");
        assert_eq!(output.status.code(), Some(code), "{program}: {said}");
        assert!(output.stdout.is_empty());
    }
    let output = command(&["policy.toml", "--", "/usr/bin/true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = command(&["--print"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // What set-user-id would give isn't given, and that is told.
    let script = "grep NoNewPrivs /proc/self/status";
    assert!(text(&shell(script).stdout).contains("NoNewPrivs:\t1"));
    let output = run(&["/usr/bin/passwd", "--help"]);
    assert!(text(&output.stderr).contains("set-user-id"), "{output:?}");
}

fn refused() {
    let output = run(&["/usr/bin/unshare", "-U", "true"]);
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("`cofferdam learn -- /usr/bin/unshare -U true`"), "{said}");
    assert!(said.contains("`cofferdam run --print -- /usr/bin/unshare -U true`"), "{said}");
}

fn printed() {
    let (_place, work) = place();
    let policy = work.join("policy.toml");
    let output = command(&["--print", "--", "echo", "a  b"]).current_dir(&work).output().unwrap();
    fs::write(&policy, &output.stdout).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["check", "--deny-warnings"])
        .arg(&policy)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let output = command(&[policy.to_str().unwrap()]).output().unwrap();
    assert_eq!(text(&output.stdout), "a  b\n", "{}", text(&output.stderr));
}

fn two() {
    let mut first =
        command(&["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let output = run(&["cat", "/etc/hosts"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    first.stdin.take().unwrap().write_all(b"there").unwrap();
    assert_eq!(text(&first.wait_with_output().unwrap().stdout), "there");
}
