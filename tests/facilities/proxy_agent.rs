//! The shipped work place of a coding agent, driven by a stand-in for the agent and for the model: it
//! asks by HTTPS what to do, and does it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Daemon, eventually};
use crate::proxy::{SEARCH, SECRET, User, has_all, open_up, records};
use crate::support::net::Net;
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("proxy_agent::it_works_in_its_project_and_nowhere_else", as_root),
    ("proxy_agent::so_does_that_of_an_ordinary_user", as_user),
];

pub(crate) const LAYERS: &[Function] = &[];

/// The agent: asks the model for commands, has the shell run them, and tells what came of it.
const AGENT: &str = r#"#!/usr/bin/python3
import contextlib, io, os, sys, urllib.request as r
def ask(path, text):
    return r.urlopen(r.Request(os.environ["MODEL_URL"] + path, data=text.encode())).read().decode()
result = "begun"
for turn in range(1000):
    words = ask(f"/turn{turn}", result)
    if not words.startswith("run: "): break
    print("{ " + words[5:].strip() + "\n} </dev/null 2>&1; echo :end: $?", flush=True)
    result = ""
    for line in sys.stdin:
        result += line
        if line.startswith(":end:"): break
SEARCH
try: open("PROJECT/agent", "w")
except OSError as e: found = "project: " + type(e).__name__ + " " + found
ask("/end", found)
"#;

/// What the model says, and what must come of it.
const TURNS: [(&str, &str); 10] = [
    ("echo 'int main(void) { return 42; }' > a.c && cc a.c -o a && ./a", ":end: 42\n"),
    (
        "git init -q . && git add a.c && git -c user.name=n -c user.email=e@example.test commit \
         -q -m first && git log --oneline | wc -l",
        "1\n:end: 0\n",
    ),
    (
        "mkdir -p src/deep && mv a.c src/deep && ln -s deep src/link && cat src/link/a.c",
        ":end: 0\n",
    ),
    ("echo x > ../outside", ":end: "),
    ("echo x > /usr/evil || echo x > /etc/evil", "cannot create /etc/evil"),
    ("ls /root /home || cat KEY", "KEY: No such file"),
    (
        "curl -sS https://www.example.test/x -o page && grep -c 'host: www' page || head -1 page",
        ":end: 0\n",
    ),
    ("curl -sS https://www.other.test/", "response 403"),
    ("curl -sS --noproxy '*' https://203.0.113.2/ -k", "curl: (7)"),
    (
        "env | grep -v proxy; curl -sS http://api.example.test/ -o stolen; cat stolen",
        "not list this host",
    ),
];

fn as_root() {
    works(User::Root);
}

fn as_user() {
    works(User::Ordinary);
}

fn works(user: User) {
    if !has_all() {
        return;
    }
    let net = Net::make(|www| {
        let key = www.with_file_name("key");
        for (turn, (words, _)) in TURNS.iter().enumerate() {
            let words = words.replace("KEY", key.to_str().unwrap());
            std::fs::write(www.join(format!("turn{turn}")), format!("run: {words}\n")).unwrap();
        }
    });
    let key = net.directory().join("key");
    std::fs::write(&key, SECRET).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let mut daemon = net.here(|| start(&net, user, &key));
    let ended = || net.requests().iter().any(|request| request.head.starts_with("POST /end "));
    eventually("the agent is done", ended);
    daemon.stop();
    let requests = net.requests();
    let told = |turn: usize| {
        let after = format!("POST /turn{} ", turn + 1);
        let found = requests.iter().find(|request| request.head.starts_with(&after));
        found.map(|request| request.body.clone()).unwrap_or_default()
    };
    for (turn, (words, outcome)) in TURNS.iter().enumerate() {
        let (told, outcome) = (told(turn), outcome.replace("KEY", key.to_str().unwrap()));
        assert!(told.contains(&outcome), "{words}: {told} {daemon}");
    }
    // That was in its own `/tmp`.
    assert!(!daemon.directory().join("outside").exists(), "{daemon}");
    assert!(daemon.directory().join("project/src/deep/a.c").exists(), "{daemon}");
    let end = requests.iter().find(|request| request.head.starts_with("POST /end ")).unwrap();
    assert!(end.body.contains("project: ") && end.body.contains("searched, found []"), "{end:?}");
    // The key arrived with each of the agent's requests, and with nothing else.
    for request in &requests {
        let has_key = request.head.contains(&format!("authorization: Bearer {SECRET}\r\n"));
        let is_agents =
            request.head.starts_with("POST /turn") || request.head.starts_with("POST /end");
        assert_eq!(has_key, is_agents, "{request:?}");
        assert!(!request.body.contains(SECRET), "{request:?}");
    }
    assert_eq!(daemon.count(SECRET), 0, "{daemon}");
    let log = records(&daemon);
    let line = |text: &str| {
        log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"))
    };
    assert!(line("tcp:api.example.test:443 at").contains("agent/0.g1"), "{log}");
    assert!(line("tcp:www.example.test:443 at").contains("shell/0.g1"), "{log}");
    assert!(line("tcp:www.other.test:443").contains("refused"), "{log}");
    assert!(!log.contains(SECRET));
    net.assert_untouched();
}

/// The shipped policy, with the test's places.
fn start(net: &Net, user: User, key: &Path) -> Daemon {
    let directory = crate::support::process::directory();
    let place = directory.path().to_owned();
    let project = place.join("project");
    std::fs::create_dir(&project).unwrap();
    open_up(&project);
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/foreign/coding-agent.toml");
    let mut text = std::fs::read_to_string(policy).unwrap();
    // Whose project it is, and who the shell is, as the policy says.
    let owner = if user == User::Root { 60_000 } else { 65_534 };
    std::os::unix::fs::chown(&project, Some(owner), Some(owner)).unwrap();
    let (cgroup, uid) = match user {
        User::Root => (String::new(), format!("uid = {owner}\n")),
        // There is no cgroup to write to, and one user alone.
        User::Ordinary => ("optional = [\"cgroup\"]\n".to_owned(), String::new()),
    };
    text = text.replace("[layer.agent]\n", &format!("[layer.agent]\n{cgroup}"));
    text = text.replace("[layer.shell]\n", &format!("[layer.shell]\n{cgroup}{uid}"));
    if user == User::Ordinary {
        std::os::unix::fs::chown(key, Some(owner), Some(owner)).unwrap();
    }
    std::fs::write(place.join("policy.toml"), text).unwrap();
    std::fs::set_permissions(place.join("policy.toml"), PermissionsExt::from_mode(0o644)).unwrap();
    let turned: Vec<u8> = SECRET.bytes().map(|byte| byte ^ 1).collect();
    let search = format!("WANTED = bytes({turned:?})\n{SEARCH}").replace('\n', "\n    ");
    let search = format!(
        "said = io.StringIO()\nwith contextlib.redirect_stdout(said):\n    {search}\n\
         found = said.getvalue()"
    );
    let agent = AGENT.replace("SEARCH", &search).replace("PROJECT", project.to_str().unwrap());
    let program = place.join("agent");
    std::fs::write(&program, agent).unwrap();
    open_up(&program);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = user.command(net, &place);
    command.arg("run").arg(place.join("policy.toml")).arg("--audit").arg(place.join("log"));
    for (name, value) in [
        ("program", program.to_str().unwrap()),
        ("project", project.to_str().unwrap()),
        ("api", "api.example.test"),
        ("key", key.to_str().unwrap()),
        ("hosts", "*.example.test"),
    ] {
        command.arg("--var").arg(format!("{name}={value}"));
    }
    Daemon::run(command, directory)
}
