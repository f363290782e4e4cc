//! `cofferdam top`: one picture, and a terminal that is given back as it was.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::scene::{Scene, who};
use cofferdam::audit::entry::{Entry, Facility, Form, Kind};
use cofferdam::ident::Name;
use cofferdam::registry::Registry;

crate::support::suite::tests! {
    one_picture_says_it_all,
    programs_are_told_the_same,
    a_daemon_is_found_by_its_name,
    the_terminal_is_given_back,
}

fn top(arguments: &[&str], runtime: &Path) -> Output {
    // Root's registry is the machine's, so root gets a mount namespace with another one.
    const ELSEWHERE: &str = "mount -t tmpfs none /run && mkdir /run/cofferdam && \
                             mount --bind \"$0\"/cofferdam /run/cofferdam && exec \"$@\"";
    std::fs::create_dir_all(runtime.join("cofferdam")).unwrap();
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut command = Command::new(if root { "unshare" } else { "env" });
    if root {
        command.args(["-m", "sh", "-c", ELSEWHERE]).arg(runtime);
    }
    command.arg(env!("CARGO_BIN_EXE_cofferdam")).arg("top").args(arguments);
    command.env("XDG_RUNTIME_DIR", runtime).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn signer(dir: &Path) {
    let text = std::fs::read_to_string("policies/web.toml").unwrap();
    let mut scene = Scene::begin(dir, &text);
    let (parser, keeper) = (who(scene.layer("parser"), 1), who(scene.layer("keeper"), 1));
    for _ in 0..40 {
        let call = scene.call("sign", "sign", parser, keeper, 400);
        scene.pass(99_000_000);
        scene.answer(call, Form::Reply, 100, 0);
    }
    scene.exit(parser, 11);
    let denial = Entry { peer: keeper, method: 59, ..Entry::new(Kind::Denial) };
    scene.put(Entry { facility: Facility::Syscall, ..denial });
    scene.alarm("keeper is \u{1b}[31msilent\u{202e}");
    let loss = Entry { reporter: keeper, length: 3, ..Entry::new(Kind::Loss) };
    scene.put(loss);
    scene.end();
}

fn one_picture_says_it_all() {
    let folder = tempfile::tempdir().unwrap();
    signer(folder.path());
    let out = top(&["--once", "--audit", folder.path().to_str().unwrap()], folder.path());
    let shown = text(&out.stdout);
    assert!(out.status.success(), "{}", text(&out.stderr));
    for line in shown.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.chars().any(char::is_control), "{line}");
    }
    let line = |part: &str| {
        let line = shown.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("{part} is not in\n{shown}")).to_owned()
    };
    assert!(line("web  policy ").contains("ended"), "{shown}");
    assert!(line("keeper/0.g1").ends_with("0      1 2 on 1 part"), "{shown}");
    assert!(line("parser/0.g1").contains("SIGSEGV"), "{shown}");
    let sign = line("channel.sign");
    let words: Vec<&str> = sign.split_whitespace().collect();
    // 40 requests and answers in four seconds.
    assert_eq!(words[words.len() - 3..], ["80", "99", "ms"], "{shown}");
    assert!(words[1].parse::<f64>().unwrap() > 15.0, "{shown}");
    assert!(line("1 alarm").contains("3 reports lost"), "{shown}");
    line("keeper is \\x1b[31msilent\\u{202e}");
}

fn programs_are_told_the_same() {
    let folder = tempfile::tempdir().unwrap();
    signer(folder.path());
    let log = folder.path().to_str().unwrap();
    let out = top(&["--audit", log, "--format", "json"], folder.path());
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&said["daemon"], &said["live"]), (&"web".into(), &false.into()));
    assert_eq!((&said["alarms"], &said["lost"]), (&1.into(), &3.into()));
    let instance = |name: &str| {
        let all = said["instances"].as_array().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    assert_eq!(instance("parser/0.g1")["last_end"], "SIGSEGV");
    assert_eq!(
        (&instance("keeper/0.g1")["denied"], &instance("keeper/0.g1")["ended"]),
        (&1.into(), &().into())
    );
    let sign = said["edges"].as_array().unwrap().iter().find(|it| it["name"] == "channel.sign");
    assert_eq!(sign.unwrap()["messages"], 80);
}

fn a_daemon_is_found_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (log, runtime) = (folder.path().join("log"), folder.path().join("run"));
    std::fs::create_dir(&log).unwrap();
    signer(&log);
    let said = |arguments: &[&str]| {
        let out = top(arguments, &runtime);
        (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
    };
    assert_eq!(said(&["--once"]).0, 1);
    let registry = Registry::at(runtime.join("cofferdam/daemons"));
    let enter = |name: &str, audit| {
        let (name, pid) = (Name::new(name).unwrap(), std::process::id());
        registry.enter(&name, pid, Path::new("web.toml"), audit).unwrap()
    };
    let web = enter("web", Some(log.as_path()));
    assert!(said(&["--once"]).1.starts_with("web  policy "));
    let quiet = enter("quiet", None);
    assert_eq!(said(&["--once"]).0, 2);
    assert!(said(&["--once", "web"]).1.starts_with("web  policy "));
    let (code, _, err) = said(&["--once", "quiet"]);
    assert!(code == 1 && err.contains("keeps no audit log"), "{err}");
    let (code, _, err) = said(&["--once", "wed"]);
    assert!(code == 2 && err.contains("these do: quiet, web"), "{err}");
    drop((web, quiet));
}

/// In a terminal of tmux's, where there is that program.
fn the_terminal_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    signer(folder.path());
    let socket = folder.path().join("tmux");
    let tmux = |arguments: &[&str]| {
        let mut command = Command::new("tmux");
        command.args(["-f", "/dev/null", "-S", socket.to_str().unwrap()]).args(arguments);
        command.env_remove("TMUX").output()
    };
    let log = folder.path().to_str().unwrap();
    let begun = tmux(&["new-session", "-d", "-x", "80", "-y", "24", "-c", log, "sh"]);
    if !begun.is_ok_and(|out| out.status.success()) {
        let _ = writeln!(std::io::stderr(), "without tmux, the terminal is not tested");
        return;
    }
    let _server = Server(|| drop(tmux(&["kill-server"])));
    let screen = || text(&tmux(&["capture-pane", "-p"]).unwrap().stdout);
    // An ordinary user may be given no terminal at all: then the server ends at once.
    let prompts = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        !screen().trim().is_empty()
    });
    if !prompts && !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "tmux gives this user no terminal, so none is tested");
        return;
    }
    let until = |what: &str, seen: &dyn Fn(&str) -> bool| {
        let since = Instant::now();
        loop {
            let now = screen();
            if seen(&now) {
                return now;
            }
            assert!(since.elapsed() < Duration::from_mins(1), "{what}:\n{now}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let keys = |keys: &str| tmux(&["send-keys", keys, "Enter"]).unwrap();
    for (end, key, wide) in [("q", "q", 100), ("Ctrl-C", "C-c", 120)] {
        keys("stty -g > before; clear");
        keys(&format!("{} top --audit {log}; echo code $?", env!("CARGO_BIN_EXE_cofferdam")));
        let first = until("the picture", &|now| now.contains("is \\x1b[31msilent"));
        assert_eq!(first.trim_end().lines().count(), 12, "{first}");
        assert!(!first.contains("echo code"), "on a screen of its own:\n{first}");
        tmux(&["resize-window", "-x", "60", "-y", "12"]).unwrap();
        let small = until("the smaller picture", &|now| {
            now.lines().next().is_some_and(|line| line.len() <= 60 && line.contains(':'))
                && now.contains("silent")
        });
        assert!(small.lines().count() <= 12, "{small}");
        // As wide as it never was, for what was drawn at the right once comes back by itself.
        let wide = wide.to_string();
        tmux(&["resize-window", "-x", &wide, "-y", "30"]).unwrap();
        until("the larger picture", &|now| {
            now.lines().next().is_some_and(|line| line.len().to_string() == wide)
        });
        tmux(&["send-keys", "/sign", "Enter"]).unwrap();
        until("what was asked for alone", &|now| {
            now.contains("/sign") && now.contains("channel.sign") && !now.contains("keeper/0")
        });
        tmux(&["send-keys", "?"]).unwrap();
        until("the keys", &|now| now.contains("sort edges by"));
        tmux(&["send-keys", "x"]).unwrap();
        until("the picture again", &|now| now.contains("channel.sign"));
        tmux(&["send-keys", "s"]).unwrap();
        until("the order", &|now| now.contains("sorted by name"));
        tmux(&["send-keys", key]).unwrap();
        let after = until(end, &|now| now.contains("code 0"));
        assert!(!after.contains("1 alarm,"), "{after}");
        keys("stty -g > after; cmp before after && echo the same");
        until("the settings", &|now| now.contains("\nthe same"));
    }
}

/// Ends what a test began, also when the test fails.
struct Server<F: Fn()>(F);

impl<F: Fn()> Drop for Server<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
