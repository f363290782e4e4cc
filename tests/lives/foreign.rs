//! Programs that know nothing of cofferdam: what C libraries, shells and interpreters call without
//! harm is theirs without a word in the policy.

use std::path::Path;
use std::process::Command;

use crate::Test;
use crate::harness::{Daemon, directory};
use crate::support::process::write_policy;
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("foreign::a_program_linked_to_glibc", || linked("gcc", &[])),
    ("foreign::a_static_program_linked_to_glibc", || linked("gcc", &["-static"])),
    ("foreign::a_program_linked_to_musl", || linked("musl-gcc", &[])),
    ("foreign::a_static_program_linked_to_musl", || linked("musl-gcc", &["-static"])),
    ("foreign::dash", || shell("/bin/dash", &[])),
    ("foreign::bash", || shell("/bin/bash", &[])),
    ("foreign::busybox", || shell("/bin/busybox", &["sh"])),
    ("foreign::here_documents_of_bash", here_documents),
    ("foreign::perl", perl),
    ("foreign::awk", awk),
    ("foreign::python_with_threads_and_children", python),
    ("foreign::python_with_an_event_loop", python_events),
    ("foreign::node", node),
    ("foreign::java", java),
];

/// Ends the test if a program isn't there. The gate installs it, and there it must be.
fn need(program: &str) {
    let there = Command::new("which").arg(program).output().is_ok_and(|it| it.status.success());
    assert!(there || std::env::var_os("CI").is_none(), "{program} is missing: .ci/run installs it");
    if !there {
        ignore(format!("{program} isn't here"));
    }
}

/// A layer in which such a program runs.
fn policy(exec: &[&str], syscalls: &[&str], more: &str) -> String {
    format!(
        "[layer.a]\nexec = {exec:?}\nsyscalls = {syscalls:?}\nbecause = \"a test\"\n\
         restart = {{ on = \"never\" }}\noptional = [\"cgroup\"]\n\
         limits = {{ memory = \"8GiB\", tasks = 64 }}\n{more}"
    )
}

/// Children of its own, and threads.
const ALL: &[&str] = &["@process", "@thread", "@exec"];

/// Runs the daemon to its end, which must be a good one, and gives what the layer said.
#[track_caller]
fn runs(mut daemon: Daemon) -> Vec<String> {
    let code = daemon.end();
    assert_eq!(code, Some(0), "{daemon}");
    assert_eq!(daemon.count("was killed"), 0, "{daemon}");
    let said = daemon.seen.iter().filter_map(|line| line.strip_prefix("a/0.g1: "));
    said.map(str::to_owned).collect()
}

/// Compiles the program of the fixtures, and runs it.
fn linked(compiler: &str, flags: &[&str]) {
    need(compiler);
    let place = directory();
    let program = place.path().join("foreign");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/foreign.c");
    let built = Command::new(compiler)
        .args(["-O1", "-pthread", "-w", "-o"])
        .arg(&program)
        .args(flags)
        .arg(source)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let program = program.display().to_string();
    let more = format!(
        "[file.program]\npath = \"{program}\"\ngrant = {{ a = [\"read\", \"execute\"] }}\n\
         [file.hosts]\npath = \"/etc/hosts\"\ngrant = {{ a = [\"read\"] }}\n"
    );
    let text = policy(&[&program], ALL, &more);
    write_policy(place.path(), &format!("cofferdam = 1\nname = \"test\"\n{text}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("run").arg(place.path().join("policy.toml"));
    assert_eq!(runs(Daemon::run(command, place)), ["0 failures, 0.50, wide"]);
}

/// What scripts do, in the words that every shell knows.
const SCRIPT: &str = r#"
cd /usr && (cd lib && pwd) && pwd
cat <<END
a document of $((6 * 7))
END
echo one two | { read first rest; echo "$rest $first"; }
sleep 0.01 & sleep 0.02 & wait; echo waited
(exit 7) || echo "seven is $?"
trap 'echo trapped' USR1; kill -USR1 $$
sh -c 'kill -TERM $$' ; echo "ended by $?"
echo nothing > /dev/null; echo more >> /dev/null 2>&1
ulimit -n 64 && ulimit -n
times > /dev/null
umask 077; umask
x=$(echo a | sed s/a/b/); echo "$x"
for i in 1 2 3; do echo $i; done | sort -r | head -1
[ -t 1 ] || echo no terminal
"#;

fn shell(program: &str, arguments: &[&str]) {
    need(program);
    let exec: Vec<&str> =
        std::iter::once(program).chain(arguments.iter().copied()).chain(["-c", SCRIPT]).collect();
    let env = "env = { PATH = \"/usr/bin:/bin\" }\n";
    let said = runs(Daemon::command_line(&policy(&exec, ALL, env)));
    let expected = [
        "/usr/lib",
        "/usr",
        "a document of 42",
        "two one",
        "waited",
        "seven is 7",
        "trapped",
        "ended by 143",
        "64",
        "0077",
        "b",
        "3",
        "no terminal",
    ];
    // A shell may tell of who was ended.
    let said: Vec<_> = said.iter().filter(|line| !line.contains("Terminated")).collect();
    assert_eq!(said, expected.iter().collect::<Vec<_>>());
}

/// A short one is in a pipe, whose room is asked for; a long one in a file, for which is no place.
fn here_documents() {
    need("/bin/bash");
    let long = "x".repeat(100_000);
    let script = format!("cat <<< short; cat <<END | wc -c\n{long}\nEND\necho on");
    let exec = ["/bin/bash", "-c", &script];
    let env = "env = { PATH = \"/usr/bin:/bin\" }\n";
    let said = runs(Daemon::command_line(&policy(&exec, ALL, env)));
    assert_eq!(said[0], "short");
    assert!(said.iter().any(|line| line.contains("cannot create temp file")), "{said:?}");
    // What comes by standard error may stand before or behind it.
    assert!(said.iter().any(|line| line == "on"), "{said:?}");
}

fn perl() {
    need("perl");
    let script = "use POSIX; $SIG{ALRM} = sub { print qq(rang\\n) }; alarm 1; pause; \
                  print join(q(,), map { $_ > 0 ? 1 : 0 } (times)[0, 1]), qq(\\n) if 0; \
                  open(my $f, '>', '/dev/null') or die; print $f 1; \
                  print `echo child`; kill 'USR1', $$ if $SIG{USR1} = sub { print qq(usr1\\n) }; \
                  setlocale(LC_ALL, ''); print strftime('%Y', gmtime 0), qq(\\n);";
    let env = "env = { PATH = \"/usr/bin:/bin\" }\n";
    let said = runs(Daemon::command_line(&policy(&["/usr/bin/perl", "-e", script], ALL, env)));
    assert_eq!(said, ["rang", "child", "usr1", "1970"]);
}

fn awk() {
    need("awk");
    let script = "BEGIN { \"echo child\" | getline x; print x; print 1 > \"/dev/null\"; \
                  system(\"echo own\"); print length(\"abc\") | \"cat\" }";
    let env = "env = { PATH = \"/usr/bin:/bin\" }\n";
    // Behind links that lead out of the view.
    let program = std::fs::canonicalize("/usr/bin/awk").unwrap();
    let exec = [program.to_str().unwrap(), script];
    let said = runs(Daemon::command_line(&policy(&exec, ALL, env)));
    assert_eq!(said, ["child", "own", "3"]);
}

/// The system's own, whatever else is in the path.
const PYTHON: &str = "/usr/bin/python3";

fn python() {
    need(PYTHON);
    let script = r#"
import os, resource, signal, subprocess, threading, time
def work(): time.sleep(0.01)
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(subprocess.run(["/bin/echo", "child"], capture_output=True, text=True).stdout.strip())
pid = os.fork()
if pid == 0: os.kill(os.getpid(), signal.SIGUSR1)
print(os.waitpid(pid, 0)[1] == signal.SIGUSR1)
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
os.chdir("/usr"); print(os.getcwd())
open(os.devnull, "w").write("x")
try: open("/usr/made", "w")
except OSError as error: print(type(error).__name__)
r, w = os.pipe(); os.write(w, b"x"); print(os.read(r, 1))
try: os.nice(-5)
except OSError: print("not nicer")
print(os.cpu_count() > 0, os.times().user >= 0, len(os.sched_getaffinity(0)) > 0)
"#;
    let said = runs(Daemon::command_line(&policy(&[PYTHON, "-c", script], ALL, "")));
    let last = "True True True";
    let expected = ["child", "True", "/usr", "OSError", "b'x'", "not nicer", last];
    let said: Vec<_> =
        said.iter().map(|it| if it == "PermissionError" { "OSError" } else { it }).collect();
    assert_eq!(said, expected);
}

fn python_events() {
    need(PYTHON);
    let script = r#"
import asyncio
async def main():
    child = await asyncio.create_subprocess_exec("/bin/echo", "child", stdout=asyncio.subprocess.PIPE)
    print((await child.communicate())[0].decode().strip())
    print(await asyncio.get_running_loop().run_in_executor(None, lambda: "in a thread"))
    await asyncio.wait_for(asyncio.sleep(0.01), 5)
asyncio.run(main())
"#;
    let calls = ["@core", "@process", "@thread", "@exec"];
    let said = runs(Daemon::command_line(&policy(&[PYTHON, "-c", script], &calls, "")));
    assert_eq!(said, ["child", "in a thread"]);
}

/// What it compiles at run time must become executable.
fn node() {
    need("node");
    let script = "setTimeout(() => console.log('later', require('os').cpus().length >= 0), 10);\
                  const c = require('child_process').execFile('/bin/echo', ['child'], (e, o) => \
                  console.log(e || o.trim()));";
    let calls = ["@process", "@thread", "@exec"];
    let more = "execmem = true\n";
    let said = runs(Daemon::command_line(&policy(&["/usr/bin/node", "-e", script], &calls, more)));
    let mut said = said;
    said.sort();
    assert_eq!(said, ["child", "later true"]);
}

fn java() {
    need("java");
    // It starts itself once more, with its libraries in the environment.
    let calls = ["@process", "@thread", "@exec"];
    let program = std::fs::canonicalize("/usr/bin/java").unwrap();
    let home = program.ancestors().nth(2).unwrap().display();
    // Without /proc its libraries aren't found by where it lies.
    let more =
        format!("execmem = true\nenv = {{ LD_LIBRARY_PATH = \"{home}/lib:{home}/lib/server\" }}\n");
    let exec = [program.to_str().unwrap(), "-XX:-UsePerfData", "-version"];
    let said = runs(Daemon::command_line(&policy(&exec, &calls, &more)));
    assert!(said.iter().any(|line| line.contains("Runtime Environment")), "{said:?}");
}
