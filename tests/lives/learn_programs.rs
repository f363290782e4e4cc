//! Programs that people run: learned while their own clients use them, and then run by the policy that
//! came of it, where the same client must be served.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Test;
use crate::harness::eventually;
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("learn_programs::redis", || shown(&REDIS)),
    ("learn_programs::memcached", || shown(&MEMCACHED)),
    ("learn_programs::nginx_with_a_worker", || shown(&NGINX)),
    ("learn_programs::python", || shown(&PYTHON)),
    ("learn_programs::node", || shown(&NODE)),
    ("learn_programs::sqlite", || shown(&SQLITE)),
    ("learn_programs::gzip", || shown(&GZIP)),
    ("learn_programs::tar_with_gzip", || shown(&TAR)),
    ("learn_programs::git_clone", || shown(&GIT)),
    ("learn_programs::a_shell_script_with_children", || shown(&SCRIPT)),
];

/// A program and its client.
struct Case {
    /// Its path, and its arguments; `DIR` stands for a directory of its own, `PORT` for a free port.
    program: &'static [&'static str],
    /// What is in that directory: name and text.
    files: &'static [(&'static str, &'static str)],
    /// Made with a shell in that directory.
    before: &'static str,
    /// Why it may do what needs a reason, if it needs one.
    because: Option<&'static str>,
    /// What is done with it, and says whether it was right. Of a program that ends by itself, after that.
    client: fn(&Place) -> bool,
    /// Whether it serves until it is stopped.
    serves: bool,
}

const PLAIN: Case =
    Case { program: &[], files: &[], before: "", because: None, client: |_| true, serves: true };

const REDIS: Case = Case {
    program: &["/usr/bin/redis-server", "--port", "PORT", "--bind", "127.0.0.1", "--dir", "DIR"],
    client: |place| {
        let said =
            |words: &[&str]| place.said("redis-cli", &[&["-p", &place.port], words].concat());
        said(&["set", "a", "b"]) == "OK\n"
            && said(&["get", "a"]) == "b\n"
            && said(&["save"]) == "OK\n"
    },
    ..PLAIN
};

const MEMCACHED: Case = Case {
    program: &["/usr/bin/memcached", "-l", "127.0.0.1", "-p", "PORT", "-U", "0"],
    client: |place| {
        place.asks("set a 0 0 1\r\nb\r\nget a\r\nquit\r\n").contains("VALUE a 0 1\r\nb")
    },
    ..PLAIN
};

const NGINX: Case = Case {
    program: &["/usr/sbin/nginx", "-p", "DIR", "-c", "DIR/conf", "-e", "DIR/errors"],
    files: &[
        (
            "conf",
            "daemon off; worker_processes 1; pid DIR/pid; error_log DIR/errors;\nevents {}\nhttp { \
             access_log DIR/log; client_body_temp_path DIR/b; proxy_temp_path DIR/p; \
             fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;\nserver { listen \
             127.0.0.1:PORT; root DIR/www; } }\n",
        ),
        ("www/page", "hello"),
    ],
    because: Some("signals between the master and its workers"),
    client: |place| place.page() == "hello",
    ..PLAIN
};

const PYTHON: Case = Case {
    program: &[
        "/usr/bin/python3",
        "-m",
        "http.server",
        "PORT",
        "--bind",
        "127.0.0.1",
        "--directory",
        "DIR/www",
    ],
    files: &[("www/page", "hello")],
    client: |place| place.page() == "hello",
    ..PLAIN
};

const NODE: Case = Case {
    program: &["/usr/bin/node", "DIR/server.js"],
    files: &[(
        "server.js",
        "require('http').createServer((_, answer) => answer.end('hello')).listen(PORT, '127.0.0.1');",
    )],
    because: Some("a compiler at run time"),
    client: |place| place.page() == "hello",
    ..PLAIN
};

const SQLITE: Case = Case {
    program: &[
        "/usr/bin/sqlite3",
        "DIR/db",
        "create table if not exists t(a); insert into t values(1);",
    ],
    because: Some("locks of its database"),
    client: |place| place.said("sqlite3", &[&place.text("db"), "select max(a) from t"]) == "1\n",
    serves: false,
    ..PLAIN
};

const GZIP: Case = Case {
    program: &["/usr/bin/gzip", "-kf", "DIR/words"],
    files: &[("words", "words")],
    client: |place| place.said("zcat", &[&place.text("words.gz")]) == "words",
    serves: false,
    ..PLAIN
};

const TAR: Case = Case {
    program: &["/usr/bin/tar", "-C", "DIR/tree", "-czf", "DIR/out.tgz", "."],
    files: &[("tree/a", "a"), ("tree/b/c", "c")],
    because: Some("it starts gzip"),
    client: |place| place.said("tar", &["-xOzf", &place.text("out.tgz"), "./b/c"]) == "c",
    serves: false,
    ..PLAIN
};

const GIT: Case = Case {
    program: &["/usr/bin/git", "clone", "-q", "DIR/from", "DIR/to"],
    before: "git init -q -b main from && cd from && echo words > file && git add file && git -c \
             user.name=a -c user.email=a@example.org commit -qm one",
    because: Some("git's parts are programs"),
    client: |place| place.read("to/file") == "words\n",
    serves: false,
    ..PLAIN
};

const SCRIPT: Case = Case {
    program: &["DIR/script", "DIR"],
    files: &[(
        "script",
        "#!/bin/sh\nset -e\ncd \"$1\"\nseq 20 | sort -rn | sed 1q > top\nfor n in 1 2 3; do cat top; done | \
         uniq -c | awk '{ print $1 * $2 }' > out\n[ \"$(cat out)\" = 60 ]\n",
    )],
    before: "chmod 755 script",
    because: Some("a script starts programs"),
    client: |place| place.read("out") == "60\n",
    serves: false,
};

/// A directory of the program's user, and a port.
struct Place {
    folder: TempDir,
    port: String,
}

impl Place {
    fn new(case: &Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = Self { folder, port: port.to_string() };
        fs::create_dir(place.path("dir")).unwrap();
        for (name, text) in case.files {
            let path = place.path("dir").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, place.filled(text)).unwrap();
        }
        let made = Command::new("/bin/sh")
            .args(["-ec", case.before])
            .current_dir(place.path("dir"))
            .status();
        assert!(made.unwrap().success(), "{}", case.before);
        fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            let everything = Command::new("chown")
                .args([
                    "-R",
                    &format!("{0}:{0}", place.user()),
                    place.path("dir").to_str().unwrap(),
                ])
                .status();
            assert!(everything.unwrap().success());
        }
        place
    }

    /// A user of this place's own, since processes of other tests would count against the same limit
    /// (getrlimit(2), `RLIMIT_NPROC`).
    fn user(&self) -> u32 {
        300_000 + self.port.parse::<u32>().unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A path in the program's directory.
    fn text(&self, name: &str) -> String {
        self.path("dir").join(name).to_str().unwrap().to_owned()
    }

    fn filled(&self, text: &str) -> String {
        text.replace("DIR", self.path("dir").to_str().unwrap()).replace("PORT", &self.port)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.text(name)).unwrap_or_default()
    }

    /// What a client prints.
    #[expect(clippy::unused_self, reason = "reads like what else is asked of a place")]
    fn said(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn page(&self) -> String {
        let url = format!("http://127.0.0.1:{}/page", self.port);
        self.said("curl", &["-s", "-m", "5", "--noproxy", "*", &url])
    }

    /// What is answered over TCP.
    fn asks(&self, words: &str) -> String {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(format!("127.0.0.1:{}", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(words.as_bytes())?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said)
        };
        asked().unwrap_or_default()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn cofferdam(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.args(arguments).env_remove("RUST_BACKTRACE").env("HOME", "/").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn shown(case: &Case) {
    let place = Place::new(case);
    let words: Vec<String> = case.program.iter().map(|word| place.filled(word)).collect();
    if !Path::new(&words[0]).exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: .ci/run installs it", words[0]);
        ignore(format!("{} isn't here", words[0]));
    }
    let file = place.path("learned.toml").to_str().unwrap().to_owned();
    let mut learner = cofferdam(&["learn", "--no-again", "--output", &file]);
    learner.args(is_root().then(|| format!("--user={}", place.user())));
    learner.args(case.because.map(|reason| format!("--because={reason}")));
    learner.arg("--").args(&words);
    let said = watched(case, &place, learner, case.serves);
    let policy = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {said}"));

    let checked = cofferdam(&["check", &file]).output().unwrap();
    assert!(checked.status.success(), "{policy}{}", String::from_utf8_lossy(&checked.stderr));
    let said = watched(case, &place, cofferdam(&["run", &file]), true);
    assert!(case.serves || (case.client)(&place), "{said}\n{policy}");
}

/// Runs it, and stops it once its client is served, or waits for its end. What was said.
fn watched(case: &Case, place: &Place, mut command: Command, client: bool) -> String {
    let mut child = command.spawn().unwrap();
    let mut said = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = said.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    if case.serves && client {
        let mut ended = false;
        eventually("it serves, or ends", || {
            ended = child.try_wait().unwrap().is_some();
            ended || (case.client)(place)
        });
        assert!(!ended, "it ended: {}", reader.join().unwrap());
        stop(&child);
    }
    let status = child.wait().unwrap();
    let said = reader.join().unwrap();
    assert!(case.serves || status.code().is_some_and(|code| code < 2), "{status}: {said}");
    said
}

fn stop(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}
