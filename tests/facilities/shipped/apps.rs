//! Web applications on Python, Node.js and Java: one that says where it listens, and does for each
//! visitor what a stranger's code in it would.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Elsewhere, Shipped, bench, fetch, needs, output};
use crate::Test;
use crate::foreign::free;
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("shipped::python_runs_an_application", python),
    ("shipped::node_runs_an_application", node),
    ("shipped::java_runs_a_server", java),
];

const PYTHON: &str = r#"
import os, socket, subprocess, sys, words
from socketserver import ThreadingMixIn
from urllib.parse import unquote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

class Quiet(WSGIRequestHandler):
    def log_message(self, *words): pass

def answer(environment, start):
    what, _, which = environment["PATH_INFO"][1:].partition(":")
    try:
        if what == "read": said = open(which).read()
        elif what == "connect": said = str(socket.create_connection(("127.0.0.1", int(which))))
        elif what == "run": said = subprocess.check_output(["/bin/sh", "-c", which]).decode()
        else: said = words.SERVED
    except OSError as error:
        said = "refused: " + os.strerror(error.errno)
    start("200 OK", [("Content-Type", "text/plain")])
    return [said.encode()]

address = os.environ["ADDRESS"], int(os.environ["PORT"])
with make_server(*address, answer, Server, Quiet) as server:
    print("listening")
    server.serve_forever()
"#;

const NODE: &str = r"
const http = require('http'), fs = require('fs'), net = require('net');
const child = require('child_process'), words = require('./node_modules/words');
http.createServer((request, response) => {
  const say = (words) => response.end(String(words));
  const refused = (error) => say('refused: ' + error.code);
  const [what, which] = request.url.slice(1).split(/:(.*)/);
  if (what == 'read') fs.readFile(which, (error, data) => error ? refused(error) : say(data));
  else if (what == 'connect')
    net.connect(which, '127.0.0.1').on('error', refused).on('connect', () => say('connected'));
  else if (what == 'run') say(child.execFileSync('/bin/sh', ['-c', which]));
  else say(words.served);
}).listen(process.env.PORT, process.env.ADDRESS, () => console.log('listening'));
";

const JAVA: &str = r#"
import com.sun.net.httpserver.HttpServer;
import java.net.*;
import java.nio.file.*;
import java.util.concurrent.Executors;

public class Server {
    static String answer(String what, String which) throws Exception {
        switch (what) {
            case "read": return Files.readString(Path.of(which));
            case "connect":
                new Socket("127.0.0.1", Integer.parseInt(which)).close();
                return "connected";
            case "run":
                Process shell = new ProcessBuilder("/bin/sh", "-c", which).start();
                return new String(shell.getInputStream().readAllBytes());
            default: return "served";
        }
    }

    public static void main(String[] words) throws Exception {
        var address = new InetSocketAddress(words[0], Integer.parseInt(words[1]));
        HttpServer server = HttpServer.create(address, 64);
        server.createContext("/", exchange -> {
            String[] asked = exchange.getRequestURI().getPath().substring(1).split(":", 2);
            byte[] said;
            try {
                said = answer(asked[0], asked.length > 1 ? asked[1] : "").getBytes();
            } catch (Exception error) {
                said = ("refused: " + error).getBytes();
            }
            exchange.sendResponseHeaders(200, said.length);
            exchange.getResponseBody().write(said);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
        System.out.println("listening");
    }
}
"#;

fn python() {
    needs("/usr/bin/python3");
    let daemon = application("python-app", "python", 300, |app| {
        fs::write(app.join("server.py"), PYTHON).unwrap();
        fs::write(app.join("words.py"), "SERVED = 'served'\n").unwrap();
    });
    // Its module's cache is nowhere to be kept.
    assert!(!daemon.directory().join("app/__pycache__").exists());
}

fn node() {
    needs("/usr/bin/node");
    application("node", "node", 1000, |app| {
        fs::write(app.join("server.js"), NODE).unwrap();
        fs::create_dir_all(app.join("node_modules/words")).unwrap();
        let module = app.join("node_modules/words/index.js");
        fs::write(module, "exports.served = 'served';\n").unwrap();
    });
}

fn java() {
    needs("/usr/bin/java");
    application("java", "java", 1000, |app| {
        let source = app.join("Server.java");
        fs::write(&source, JAVA).unwrap();
        let compiler = ["-m", "jdk.compiler/com.sun.tools.javac.Main"];
        output(Command::new("/usr/bin/java").args(compiler).arg(&source));
    });
}

/// Starts an application, visits it, tries what a stranger would, and ends it.
fn application(policy: &str, layer: &str, visits: u32, prepare: impl FnOnce(&Path)) -> Daemon {
    let (port, elsewhere) = (free().port(), Elsewhere::new());
    let mut policy = Shipped::new(policy).var("port", port).var("app", "DIR/app");
    if layer == "java" {
        policy = policy.var("release", java_settings());
    }
    let mut daemon = policy.start(|directory| {
        let app = directory.join("app");
        fs::create_dir(&app).unwrap();
        prepare(&app);
    });
    daemon.line(&format!("{layer}/0.g1: listening"));
    let url = format!("http://127.0.0.1:{port}");
    bench(&format!("{url}/"), visits);

    let asked = |what: String| fetch(&format!("{url}/{what}"));
    let here = daemon.directory().display().to_string();
    assert_eq!(asked("served".into()), (true, "served".to_owned()), "{daemon}");
    for path in [format!("{here}/secret"), "/etc/shadow".to_owned(), "/proc/1/environ".to_owned()] {
        let (_, said) = asked(format!("read:{path}"));
        assert!(said.starts_with("refused: "), "{path}: {said}");
    }
    let (_, said) = asked(format!("connect:{}", elsewhere.address().port()));
    assert!(said.starts_with("refused: "), "{said}");
    elsewhere.is_untouched();
    // To start a program is the end of it, and of all that it was turned into.
    let (done, said) = asked("run:id".into());
    assert!(!done, "{said}: {daemon}");
    daemon.line(&format!("{layer}/0.g1 was killed by SIG"));
    daemon.line(&format!("{layer}/0.g2: listening"));
    assert_eq!(asked("served".into()), (true, "served".to_owned()), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    daemon
}

/// The directory in /etc of the Java that is here.
fn java_settings() -> String {
    let real = fs::canonicalize("/usr/bin/java").unwrap();
    let home = real.parent().unwrap().parent().unwrap();
    let settings = fs::canonicalize(home.join("conf/security/java.security")).unwrap();
    settings.components().nth(2).unwrap().as_os_str().to_str().unwrap().to_owned()
}
