//! `cofferdam learn`: real programs, watched; and programs that would harm who learns from them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::Test;
use crate::harness::eventually;

pub(crate) const TESTS: &[Test] = &[
    ("learn::the_least_program_needs_nothing", least),
    ("learn::a_tree_that_is_searched_is_one_grant", tree),
    ("learn::files_of_the_host_stay_unless_written_through", host_stays),
    ("learn::what_children_do_is_learned_and_starting_them_is_asked", children),
    ("learn::a_server_is_learned_from_its_client", server),
    ("learn::a_policy_gets_what_it_lacks", adds),
    ("learn::denials_of_a_log_are_taken_over_for_all_layers", from_denials),
    ("learn::what_is_read_and_collected_is_inherited", filters),
    ("learn::a_program_that_never_ends_is_stopped", never_ends),
    ("learn::a_thousand_forks_are_followed", forks),
    ("learn::what_a_program_says_is_harmless", escapes),
    ("learn::a_program_that_is_not_there_is_named", not_there),
];

fn learner(arguments: &[&str], program: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("learn").args(arguments).arg("--").args(program);
    command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], program: &[&str]) -> Output {
    learner(arguments, program).output().unwrap()
}

/// What was learned, for programs.
fn learn(arguments: &[&str], program: &[&str]) -> Value {
    let output = run(&[&["--format", "json"], arguments].concat(), program);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn policy(learned: &Value) -> &str {
    learned["policy"].as_str().unwrap()
}

/// The proposals of a kind, as text.
fn proposed(learned: &Value, kind: &str) -> Vec<String> {
    let all = learned["proposals"].as_array().unwrap().iter();
    let of_kind = all.filter(|it| it["kind"] == kind);
    of_kind.map(|it| it["text"].as_str().unwrap().to_owned()).collect()
}

/// A directory of one's own that no layer's user is kept from.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn least() {
    let learned = learn(&[], &["/bin/true"]);
    assert_eq!(learned["ended"], "exited with code 0", "{learned:#}");
    assert_eq!(learned["again"]["alike"], true, "{learned:#}");
    for kind in ["call", "file", "socket", "question"] {
        assert!(proposed(&learned, kind).is_empty(), "{learned:#}");
    }
    assert!(policy(&learned).contains("\"@core\""), "{learned:#}");
}

fn tree() {
    let place = place();
    let inner = place.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    for name in ["a/one", "a/two", "a/b/three"] {
        fs::write(place.path().join(name), "needle\n").unwrap();
    }
    let top = text(&place.path().join("a"));
    let learned = learn(&[], &["grep", "-r", "needle", &top]);
    let grant = format!("path = {top:?}, rights [\"read\", \"list\"]");
    assert!(proposed(&learned, "file").contains(&grant), "{learned:#}");
    // Libraries are mapped by everybody who may read them.
    assert!(proposed(&learned, "question").is_empty(), "{learned:#}");
    // Not its parts, and nothing around it.
    let about = |it: &&String| it.contains(place.path().to_str().unwrap());
    assert_eq!(proposed(&learned, "file").iter().filter(about).count(), 1, "{learned:#}");
    assert_eq!(learned["again"]["alike"], true, "{learned:#}");
}

fn host_stays() {
    let place = place();
    let old = place.path().join("old");
    fs::write(&old, "before").unwrap();
    let script = "cd $0 && echo x > new && mkdir d && mv new d/moved && echo after > old && cat old \
                  d/moved && rm old";
    let program = ["/bin/sh", "-c", script, place.path().to_str().unwrap()];
    let learned = learn(&["--no-again"], &program);
    assert_eq!(learned["ended"], "exited with code 0", "{learned:#}");
    assert_eq!(fs::read_to_string(&old).unwrap(), "before");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let files = proposed(&learned, "file").join("\n");
    for right in ["create", "remove", "mkdir", "move"] {
        assert!(files.contains(right), "{right}: {learned:#}");
    }
    let learned = learn(&["--no-again", "--write-through"], &program);
    assert_eq!(learned["ended"], "exited with code 0", "{learned:#}");
    assert!(!old.exists() && place.path().join("d/moved").exists());
}

fn children() {
    let place = place();
    let file = place.path().join("file");
    fs::write(&file, "words").unwrap();
    let learned = learn(&["--no-again"], &["/bin/sh", "-c", "cat $0; true", &text(&file)]);
    let grant = format!("path = {:?}, rights [\"read\"]", text(&file));
    assert!(proposed(&learned, "file").contains(&grant), "{learned:#}");
    let asked = proposed(&learned, "question");
    assert!(asked.contains(&"syscalls = [\"execve\"]".to_owned()), "{learned:#}");
    assert!(policy(&learned).contains("/cat\n"), "who did it first is told: {learned:#}");
    assert!(policy(&learned).contains("# QUESTION"), "{learned:#}");
}

/// A port that nothing listens on.
fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn fetch(port: &str) -> Option<String> {
    let url = format!("http://127.0.0.1:{port}/page");
    let output = Command::new("curl").args(["-s", "-m", "5", "--noproxy", "*", &url]).output();
    let output = output.expect("curl is needed: see .ci/run");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn server() {
    let place = place();
    fs::write(place.path().join("page"), "hello").unwrap();
    let port = free_port();
    let file = text(&place.path().join("learned.toml"));
    let (python, folder) = ("/usr/bin/python3", text(place.path()));
    assert!(Path::new(python).exists(), "python3 is needed: see .ci/run");
    let program =
        [python, "-m", "http.server", &port, "--bind", "127.0.0.1", "--directory", &folder];
    let mut child = learner(&["--output", &file], &program).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it serves", || fetch(&port).as_deref() == Some("hello"));
    signal(&child);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    let policy = fs::read_to_string(&file).unwrap();
    assert!(policy.contains(&format!("\"tcp:127.0.0.1:{port}\"")), "{policy}\n{said}");
    assert!(said.contains("the program was stopped"), "{said}");
    assert!(fetch(&port).is_none(), "it goes on");
}

fn signal(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

fn adds() {
    let place = place();
    let (file, data) = (place.path().join("p.toml"), place.path().join("data"));
    fs::write(&data, "words").unwrap();
    let (path, data) = (text(&file), text(&data));
    let before = format!(
        "# mine\ncofferdam = 1\nname = \"p\"\n[layer.a]\nexec = [\"/bin/cat\", {data:?}]\nsyscalls = \
         [\"@core\"]\nlimits = {{ memory = \"512MiB\", files = 512, tasks = 64 }}\n"
    );
    fs::write(&file, &before).unwrap();
    let shown = learner(&[&path], &[]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains(&format!("+path = {data:?}")), "{text}");
    assert_eq!(shown.status.code(), Some(1), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);

    let grant = format!("path = {data:?}, rights");
    let number = text.lines().find(|line| line.contains(&grant)).unwrap();
    let number = number.trim_start_matches("# ").split('.').next().unwrap();
    let taken = learner(&["--take", number, &path], &[]).output().unwrap();
    let after = fs::read_to_string(&file).unwrap();
    let said = String::from_utf8_lossy(&taken.stderr);
    assert!(
        after.starts_with("# mine\n") && after.contains("grant = { a = [\"read\"] }"),
        "{said}"
    );

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    learner(&["--write", &path], &[]).output().unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "a draft is left");
    let nothing = learner(&[&path], &[]).output().unwrap();
    let said = String::from_utf8_lossy(&nothing.stdout);
    assert!(!said.contains("+++"), "{said}");
}

/// Round by round, for a program whose socket is refused doesn't come to bind it.
fn from_denials() {
    let place = place();
    let (file, log) = (text(&place.path().join("p.toml")), text(&place.path().join("log")));
    let port = free_port();
    let script =
        |words: &str| format!("[\"/usr/bin/python3\", \"-c\", \"import socket; {words}\"]");
    let binds = script(&format!("s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen()"));
    let local = script("socket.socket(socket.AF_UNIX)");
    let once = "syscalls = [\"@core\", \"@file-read\"]\nrestart = { on = \"never\" }\n";
    let before = format!(
        "cofferdam = 1\nname = \"from\"\n[layer.binds]\nexec = {binds}\n{once}[layer.local]\nexec = \
         {local}\n{once}"
    );
    fs::write(&file, &before).unwrap();
    let cofferdam = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(words).env_remove("RUST_BACKTRACE").stdin(Stdio::null()).output().unwrap()
    };
    let learn = ["learn", "--from", &log, &file];
    for round in 0.. {
        let run = cofferdam(&["run", "--audit", &log, &file]);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        if run.status.success() {
            assert!(round > 1, "nothing was refused: {said}");
            break;
        }
        assert!(round < 5, "{said}");
        let shown = cofferdam(&learn);
        assert_eq!(shown.status.code(), Some(1), "{said}");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let names = |layer: &str| shown.contains(&format!("[layer.{layer}] syscalls"));
        assert!(round > 0 || (names("binds") && names("local")), "{shown}");
        cofferdam(&[&learn[..], &["--write"]].concat());
    }
    let after = fs::read_to_string(&file).unwrap();
    assert!(after.contains(&format!("\"tcp:127.0.0.1:{port}\"")), "{after}");
    let nothing = cofferdam(&learn);
    assert_eq!(nothing.status.code(), Some(0), "{}", String::from_utf8_lossy(&nothing.stdout));

    let denials = cofferdam(&["audit", "query", &log, "--kind", "denial", "--format", "json"]);
    let denials = String::from_utf8_lossy(&denials.stdout).into_owned();
    let refused =
        |line: &str| -> Value { serde_json::from_str::<Value>(line).unwrap()["refused"].clone() };
    let asked = format!("listen tcp:127.0.0.1:{port}");
    assert!(denials.lines().any(|line| refused(line)["asked"] == asked), "{denials}");
}

/// A filter's policy has its input and output, so it is one under its policy as well.
fn filters() {
    let place = place();
    let (file, input) = (text(&place.path().join("p.toml")), place.path().join("in"));
    fs::write(&input, "words").unwrap();
    let pack = |mut command: Command| {
        let output = command.stdin(fs::File::open(&input).unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut unpack = Command::new("gzip");
        let mut unpack =
            unpack.arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(unpack.stdin.as_mut().unwrap(), &output.stdout).unwrap();
        let words = unpack.wait_with_output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&words), "words", "{said}");
        said
    };
    let said = pack(learner(&["--output", &file], &["/usr/bin/gzip", "-c"]));
    assert!(said.contains("0 questions"), "{said}");
    let mut run = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    run.args(["run", &file]);
    pack(run);
    // What prints text and serves has a log.
    let learned = learn(&["--no-again"], &["/bin/echo", "words"]);
    assert!(proposed(&learned, "stream").is_empty(), "{learned:#}");
}

fn never_ends() {
    let place = place();
    let file = text(&place.path().join("learned.toml"));
    let script = "trap 'exit 3' TERM; echo started; while :; do sleep 1; done";
    let program = ["/bin/sh", "-c", script];
    let mut child = learner(&["--output", &file], &program)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"started\n");
    signal(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the program was stopped"), "{said}");
    assert!(Path::new(&file).exists(), "{said}");
}

fn forks() {
    let script = "i=0; while [ $i -lt 1000 ]; do (:); i=$((i+1)); done";
    let learned = learn(&["--no-again"], &["/bin/sh", "-c", script]);
    assert_eq!(learned["ended"], "exited with code 0", "{learned:#}");
    let calls = proposed(&learned, "call").join("\n");
    assert!(calls.contains("clone") || calls.contains("@process"), "{learned:#}");
    assert!(policy(&learned).contains("1000 times") || calls.contains("@process"), "{learned:#}");
}

fn escapes() {
    let place = place();
    let script = "cd $0 && printf x > \"$(printf 'a\\033]0;t\\007b\\nc')\" && printf '\\033[31m'";
    let program = ["/bin/sh", "-c", script, place.path().to_str().unwrap()];
    let output = run(&["--no-again"], &program);
    assert!(!output.stdout.contains(&0x1b), "{}", String::from_utf8_lossy(&output.stdout));
    let learned = learn(&["--no-again"], &["/bin/ls", "/nowhere\u{1b}[31m\n\u{202e}x"]);
    let (policy, daemon) = (policy(&learned).to_owned(), place.path().join("p.toml"));
    assert!(!policy.contains('\u{1b}'), "{policy}");
    // The argument is still the same.
    fs::write(&daemon, &policy).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["check", daemon.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

fn not_there() {
    for program in ["/no/such/program", "no-such-program-anywhere", "/etc/passwd"] {
        let output = run(&[], &[program]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.starts_with("error: ") && said.contains(program), "{said}");
    }
    let nothing = Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("learn").output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
}
