//! The framework's proxy, by real clients in a network of its own: every other host of it answers, so
//! what isn't reached was refused.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Daemon, eventually};
use crate::support::net::{METADATA, Net, PRIVATE, THERE};
use crate::{Function, Test, foreign_servers::has};

pub(crate) const TESTS: &[Test] = &[
    ("proxy::hosts_beneath_a_domain_are_reached_and_no_others", reaches),
    ("proxy::an_ordinary_users_daemon_does_the_same", reaches_as_user),
    ("proxy::no_name_leads_where_nobody_may_be_led", leads),
    ("proxy::real_clients_find_it_by_their_environment", clients),
    ("proxy::a_credential_reaches_the_server_and_never_the_layer", credential),
    ("proxy::one_request_reaches_one_host", smuggles),
    ("proxy::another_layer_has_no_proxy", others),
    ("proxy::a_flood_holds_up_only_its_own", floods),
];

pub(crate) const LAYERS: &[Function] = &[];

/// The secret that no layer may see.
pub(crate) const SECRET: &str = "sk-3f9a1c-nobody-sees-this";

/// Who runs the daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    Ordinary,
}

/// A policy with one layer that runs a script.
struct Scene<'a> {
    net: &'a Net,
    user: User,
    /// What the layer may connect to.
    connect: &'a str,
    /// More of the policy.
    more: &'a str,
    interpreter: &'a str,
}

impl Scene<'_> {
    /// Runs `script` in the layer, and gives what the daemon said, once it has ended.
    fn run(&self, script: &str) -> Daemon {
        let daemon = self.net.here(|| {
            let directory = crate::support::process::directory();
            let own = self.net.directory().display().to_string();
            let place = directory.path().to_owned();
            std::fs::create_dir(place.join("own")).unwrap();
            open_up(&place.join("own"));
            let write = |name: &str, text: &str| {
                let text = text
                    .replace("NET/", &format!("{own}/"))
                    .replace("DIR", place.to_str().unwrap());
                std::fs::write(place.join(name), text).unwrap();
                open_up(&place.join(name));
            };
            write("script", script);
            let Self { connect, more, interpreter, .. } = self;
            write(
                "policy.toml",
                &format!(
                    "cofferdam = 1\nname = \"test\"\n[audit]\n\
                     [layer.a]\nexec = [\"{interpreter}\", \"DIR/script\"]\n\
                     syscalls = [\"@core\", \"@foreign\", \"@net-stream\", \"@file-read\", \
                     \"@file-write\", \"@thread\", \"@process\", \"@exec\", \"socket(AF_UNIX)\", \
                     \"@net-connect\", \"@net-datagram\", \"chmod\"]\n\
                     because = \"it tries to get out\"\n\
                     limits = {{ tasks = 64, memory = \"512MiB\" }}\n\
                     optional = [\"cgroup\"]\n\
                     view = [\"system\", \"tls\", \"tmp=64MiB\", \"proc\"]\n\
                     restart = {{ on = \"never\", then = \"leave-down\" }}\n\
                     env = {{ PATH = \"/usr/bin:/bin\", HOME = \"/tmp\" }}\n\
                     connect = {{ {connect} }}\n\
                     [file.script]\npath = \"DIR/script\"\ngrant = {{ a = [\"read\"] }}\n\
                     [file.authority]\npath = \"NET/authority.pem\"\ngrant = {{ a = [\"read\"] }}\n\
                     {more}\n"
                ),
            );
            std::fs::set_permissions(place.join("policy.toml"), PermissionsExt::from_mode(0o644))
                .unwrap();
            let mut command = self.user.command(self.net, &place);
            command.arg("run").arg(place.join("policy.toml")).arg("--audit").arg(place.join("log"));
            Daemon::run(command, directory)
        });
        let mut daemon = daemon;
        daemon.end();
        daemon
    }
}

impl User {
    /// The program, run by that user in a directory of the test.
    pub(crate) fn command(self, net: &Net, place: &Path) -> Command {
        let program = program(net);
        if self == Self::Root {
            return Command::new(program);
        }
        for path in [place.to_owned(), place.join("policy.toml")] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(program);
        command
    }
}

/// The program, where any user may execute it.
fn program(net: &Net) -> PathBuf {
    let path = net.directory().join("cofferdam");
    if !path.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_cofferdam"), &path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    path
}

pub(crate) fn open_up(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}

/// Whether the programs are there that these tests run.
pub(crate) fn has_all() -> bool {
    ["/usr/bin/curl", "/usr/bin/python3", "/usr/bin/git", "/usr/sbin/ip"].iter().all(|it| has(it))
}

/// What the audit log holds of connections.
pub(crate) fn records(daemon: &Daemon) -> String {
    let mut query = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    query.args(["audit", "query"]).arg(daemon.directory().join("log"));
    let output = query.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

const WILD: &str = "any = \"tcp:*.example.test:443\", plain = \"tcp:*.example.test:80\"";

fn reaches() {
    reaches_by(User::Root);
}

fn reaches_as_user() {
    reaches_by(User::Ordinary);
}

/// Beneath a domain and in no other way.
fn reaches_by(user: User) {
    if !has_all() {
        return;
    }
    let net = Net::make(|_| {});
    let scene = Scene { net: &net, user, connect: WILD, more: "", interpreter: "/bin/sh" };
    let there = THERE.to_string();
    let daemon = scene.run(&format!(
        "try() {{ name=$1; shift; code=$(curl -sS --max-time 20 --cacert NET/authority.pem \
         -o /dev/null -w '%{{http_code}}/%{{http_connect}}' \"$@\" 2>/tmp/why); \
         echo \"$name: $? $code\"; }}\n\
         try allowed https://www.example.test/\n\
         try deep https://a.b.example.test/ -k\n\
         try case https://WWW.Example.TEST/\n\
         try dot https://www.example.test./ -k\n\
         try plain http://www.example.test/\n\
         try socks --noproxy '' --proxy socks5h://198.19.255.254:3128 https://www.example.test/\n\
         try apex https://example.test/ -k\n\
         try other https://www.other.test/ -k\n\
         try port https://www.example.test:8080/ -k\n\
         try suffix https://www.example.test.other.test/ -k\n\
         try glued https://wwwexample.test/ -k\n\
         try address https://{there}/ -k\n\
         try mapped 'https://[::ffff:{there}]/' -k\n\
         try socks5 --proxy socks5://198.19.255.254:3128 --resolve www.example.test:443:{there} \
         https://www.example.test/ -k\n\
         try noproxy --noproxy '*' --resolve www.example.test:443:{there} https://www.example.test/ -k\n\
         try noproxyip --noproxy '*' https://{there}/ -k\n\
         try noproxymapped --noproxy '*' 'https://[::ffff:{there}]/' -k\n\
         try userinfo http://www.example.test@www.other.test/\n\
         echo that is all\n"
    ));
    for line in ["allowed", "deep", "case", "dot"] {
        assert_eq!(daemon.count(&format!(": {line}: 0 200/200")), 1, "{line}: {daemon}");
    }
    assert_eq!(daemon.count(": plain: 0 200/000"), 1, "{daemon}");
    assert_eq!(daemon.count(": socks: 0 200/"), 1, "{daemon}");
    for line in ["apex", "other", "port", "suffix", "glued", "address", "mapped"] {
        assert_eq!(daemon.count(&format!(": {line}: 56 000/403")), 1, "{line}: {daemon}");
    }
    assert_eq!(daemon.count(": userinfo: 0 403/"), 1, "{daemon}");
    // What the program itself looked up is an address, which isn't listed.
    for line in ["socks5: 97 ", "noproxy: 7 ", "noproxyip: 7 ", "noproxymapped: 7 "] {
        assert_eq!(daemon.count(&format!(": {line}")), 1, "{line}: {daemon}");
    }
    assert_eq!(daemon.count("that is all"), 1, "{daemon}");
    net.assert_untouched();
    assert_eq!(net.requests().len(), 6, "{daemon}");
    // What isn't listed is said once, with the line that would allow it.
    let advice = "connect = { NAME = \"tcp:www.other.test:443\" }";
    assert_eq!(daemon.count(advice), 1, "{daemon}");
    let log = records(&daemon);
    for text in [
        "tcp:www.example.test:443 at 203.0.113.2",
        "tcp:www.other.test:443",
        "tcp:203.0.113.2:443",
        "tcp:example.test:443",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
    let refused = log.lines().find(|line| line.contains("tcp:www.other.test:443")).unwrap();
    assert!(refused.contains("refused"), "{refused}");
    let allowed = log.lines().find(|line| line.contains("tcp:www.example.test:443 at")).unwrap();
    assert!(!allowed.contains("refused") && allowed.contains("a/0.g1"), "{allowed}");
}

/// Names that lead to this host, to the link, or elsewhere each time.
fn leads() {
    if !has_all() {
        return;
    }
    let net = Net::make(|_| {});
    let names = [
        "loopback",
        "unspecified",
        "own",
        "private",
        "metadata",
        "mapped",
        "six",
        "translated",
        "sixtofour",
        "crowd",
        "hosts",
    ];
    // They are there, for who isn't confined.
    let open = net.here(|| {
        let reaches = |address: &str| std::net::TcpStream::connect(address).is_ok();
        let private = reaches(&format!("{PRIVATE}:443")) && reaches(&format!("{METADATA}:443"));
        private && reaches("127.0.0.1:443") && reaches("203.0.113.1:443")
    });
    assert!(open);
    eventually("the controls are seen", || net.trespassers() == 2);
    net.forget();
    let tries: Vec<_> =
        names.iter().map(|name| format!("try {name} https://{name}.example.test/\n")).collect();
    let tries = tries.concat();
    let script = format!(
        "try() {{ name=$1; shift; code=$(curl -sS --max-time 40 -k -o /dev/null \
         -w '%{{http_code}}/%{{http_connect}}' \"$@\" 2>/tmp/why); echo \"$name: $? $code\"; }}\n\
         {tries}\
         try missing https://missing.example.test/\ntry empty https://empty.example.test/\n\
         try many https://many.example.test/\n\
         for i in 1 2 3 4 5 6 7 8 9 10; do try changing$i https://changing.example.test/; done\n\
         try named https://private.example.test:8080/\n\
         try listed https://127.0.0.1:8443/\ntry unlisted https://127.0.0.1:443/\n\
         echo that is all\n"
    );
    let connect = format!(
        "{WILD}, named = \"tcp:private.example.test:8080\", listed = \"tcp:127.0.0.1:8443\""
    );
    let scene =
        Scene { net: &net, user: User::Root, connect: &connect, more: "", interpreter: "/bin/sh" };
    let listed = net.here(|| std::net::TcpListener::bind("127.0.0.1:8443").unwrap());
    let daemon = scene.run(&script);
    for name in names {
        assert_eq!(daemon.count(&format!(": {name}: 56 000/403")), 1, "{name}: {daemon}");
    }
    for name in ["missing", "empty"] {
        assert_eq!(daemon.count(&format!(": {name}: 56 000/502")), 1, "{name}: {daemon}");
    }
    assert_eq!(daemon.count(": many: 0 200/200"), 1, "{daemon}");
    // Each time it leads to the other host, or nowhere.
    for outcome in ["0 200/200", "56 000/403"] {
        let lines = daemon.seen.iter().filter(|line| line.contains(": changing"));
        assert!(lines.filter(|line| line.ends_with(outcome)).count() > 2, "{daemon}");
    }
    // A host that the policy names may be of a private network. It speaks no TLS there.
    assert_eq!(daemon.count(": named: 35 000/200"), 1, "{daemon}");
    assert_eq!(daemon.count(": unlisted: 56 000/403"), 1, "{daemon}");
    listed.set_nonblocking(true).unwrap();
    assert!(listed.accept().is_ok(), "{daemon}");
    let private = std::net::IpAddr::V4(PRIVATE);
    assert!(net.requests().iter().all(|it| it.at == THERE || it.at == private && it.port == 8080));
    assert_eq!(net.forget(), 0, "{daemon}");
    let log = records(&daemon);
    assert!(log.contains("tcp:many.example.test:443 at 203.0.113.2"), "{log}");
}

/// A public repository, by the dumb protocol, which takes no program at the other end.
fn repository(www: &Path) {
    let git = |arguments: &[&str], at: &Path| {
        let mut command = Command::new("/usr/bin/git");
        command.args(["-c", "user.name=n", "-c", "user.email=e@example.test"]).args(arguments);
        let output = command.current_dir(at).env("HOME", www).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q", "work"], www);
    let work = www.join("work");
    std::fs::write(work.join("file"), "from the repository\n").unwrap();
    git(&["add", "file"], &work);
    git(&["commit", "-q", "-m", "first"], &work);
    git(&["clone", "-q", "--bare", "work", "repo.git"], www);
    git(&["update-server-info"], &www.join("repo.git"));
}

fn clients() {
    if !has_all() {
        return;
    }
    let net = Net::make(repository);
    let scene = Scene {
        net: &net,
        user: User::Root,
        connect: WILD,
        more: "[file.own]\npath = \"DIR/own\"\ngrant = { a = [\"owner\"] }",
        interpreter: "/bin/sh",
    };
    let daemon = scene.run(
        "export SSL_CERT_FILE=NET/authority.pem GIT_SSL_CAINFO=NET/authority.pem\n\
         /usr/bin/python3 -I -c '\nimport urllib.request as r\n\
         print(\"python:\", r.urlopen(\"https://www.example.test/x\").status)\n\
         print(\"python plain:\", r.urlopen(\"http://www.example.test/x\", b\"body\").read()[-4:])\n\
         try: r.urlopen(\"https://www.other.test/\")\n\
         except OSError as e: print(\"python refused:\", e)\n'\n\
         cd DIR/own && git clone -q https://git.example.test/repo.git copy 2>&1\n\
         echo \"git: $(cat copy/file)\"\n\
         git clone -q https://git.other.test/repo.git other 2>&1\n\
         curl -sS --http2 --cacert NET/authority.pem https://www.example.test/ -o /dev/null \
         && echo curl: done\n",
    );
    for line in
        [": python: 200", ": python plain: b'body'", ": git: from the repository", ": curl: done"]
    {
        assert_eq!(daemon.count(line), 1, "{line}: {daemon}");
    }
    assert_eq!(
        daemon.count(": python refused: <urlopen error Tunnel connection failed: 403"),
        1,
        "{daemon}"
    );
    assert_eq!(daemon.count("response 403"), 1, "{daemon}");
    net.assert_untouched();
}

/// What the layer tries to find the secret in: its environment, its files, all that `/proc` shows of
/// its processes, their memory included.
pub(crate) const SEARCH: &str = r#"
import glob, http.client, os, re, socket, urllib.request as r
want = bytes(c ^ 1 for c in WANTED)
found = []
def look(path, data):
    if want in data: found.append(path)
for process in glob.glob("/proc/[0-9]*"):
    for name in ["environ", "cmdline", "maps", "mountinfo", "status"]:
        try: look(process + "/" + name, open(process + "/" + name, "rb").read())
        except OSError: pass
    try:
        maps, memory = open(process + "/maps").read(), open(process + "/mem", "rb", 0)
        for line in maps.splitlines():
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            try:
                memory.seek(begin); data = memory.read(end - begin)
            except (OSError, ValueError, OverflowError): continue
            # The pattern is made anew each time, so this is not what is looked for.
            if re.search(re.escape(want), data) and process != "/proc/" + str(os.getpid()): found.append(line)
    except OSError as e: print("memory of", process, e.errno)
for root, _, files in os.walk("/"):
    if root.startswith(("/proc", "/usr", "/sys", "/dev", "/lib")): continue
    for name in files:
        path = os.path.join(root, name)
        try:
            if os.path.isfile(path): look(path, open(path, "rb").read(1 << 20))
        except OSError: pass
print("searched, found", found)
"#;

fn credential() {
    if !has_all() {
        return;
    }
    let net = Net::make(|_| {});
    for user in [User::Root, User::Ordinary] {
        let secret = net.directory().join("secret");
        let _ = std::fs::remove_file(&secret);
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        if user == User::Ordinary {
            std::os::unix::fs::chown(&secret, Some(65534), Some(65534)).unwrap();
        }
        let scene = Scene {
            net: &net,
            user,
            connect: "api = { address = \"tcp:api.example.test:443\", inject = \"x-api-key\", \
                      prefix = \"key \", secret = \"NET/secret\", authorities = \"NET/authority.pem\" }, \
                      wrong = { address = \"tcp:wrong.test:443\", inject = \"authorization\", \
                      secret = \"NET/secret\", authorities = \"NET/authority.pem\" }, \
                      any = \"tcp:*.example.test:443\"",
            more: "",
            interpreter: "/usr/bin/python3",
        };
        let turned: Vec<u8> = SECRET.bytes().map(|byte| byte ^ 1).collect();
        let daemon = scene.run(&format!(
            "WANTED = bytes({turned:?})\n{SEARCH}\n{}",
            r#"
def ask(name, make):
    try:
        answer = make()
        print(name, answer.status)
    except (OSError, http.client.HTTPException) as e: print(name, "refused", getattr(e, "code", ""), e)
def request(url, **more): return lambda: r.urlopen(r.Request(url, **more))
# By its environment, and by the host's address in the layer, without a proxy.
ask("port:", request("http://api.example.test:443/nothing", headers={"X-Api-Key": "mine", "Authorization": "mine"}))
ask("plain:", request("http://api.example.test/nothing", data=b"body"))
direct = r.build_opener(r.ProxyHandler({}))
ask("direct:", lambda: direct.open("http://api.example.test:443/nothing"))
ask("direct plain:", lambda: direct.open("http://api.example.test/nothing"))
# Its own TLS to it, by which it could speak in another's name.
ask("tunnel:", request("https://api.example.test/"))
# Who can't show that it is the host.
ask("wrong:", request("http://wrong.test:443/"))
ask("echo:", request("http://api.example.test/", method="TRACE"))
# Another host, led there by what the request says.
ask("other:", request("http://www.example.test:443/", headers={"Host": "api.example.test"}))
print("that is all")
"#
        ));
        for line in [": port: 200", ": plain: 200", ": direct: 200", ": direct plain: 200"] {
            assert_eq!(daemon.count(line), 1, "{line}: {daemon}");
        }
        assert_eq!(
            daemon.count(": tunnel: refused  <urlopen error Tunnel connection failed: 403"),
            1,
            "{daemon}"
        );
        assert_eq!(daemon.count(": wrong: refused 502"), 1, "{daemon}");
        assert_eq!(daemon.count(": echo: refused 400"), 1, "{daemon}");
        assert_eq!(daemon.count("searched, found []"), 1, "{daemon}");
        assert_eq!(daemon.count("that is all"), 1, "{daemon}");
        assert_eq!(daemon.count(SECRET), 0, "{daemon}");
        let requests = net.requests();
        let with =
            requests.iter().filter(|it| it.head.contains(&format!("x-api-key: key {SECRET}\r\n")));
        assert_eq!(with.clone().count(), 4, "{requests:?}");
        assert!(with.clone().all(|it| !it.head.contains("mine") && it.port == 443), "{requests:?}");
        assert!(with.clone().any(|it| it.body == "body"), "{requests:?}");
        assert_eq!(requests.iter().filter(|it| it.head.contains(SECRET)).count(), 4);
        net.assert_untouched();
        net.forget();
        let log = records(&daemon);
        assert!(log.contains("tcp:api.example.test:443 at 203.0.113.2") && !log.contains(SECRET));
    }
}

/// Bytes that hold a second request, for a host that nobody judged.
fn smuggles() {
    if !has_all() {
        return;
    }
    let net = Net::make(|_| {});
    let scene = Scene {
        net: &net,
        user: User::Root,
        connect: WILD,
        more: "",
        interpreter: "/usr/bin/python3",
    };
    let daemon = scene.run(
        r#"
import socket
def say(name, *parts, end=True):
    s = socket.create_connection(("198.19.255.254", 3128)); s.settimeout(60)
    for part in parts: s.sendall(part)
    if end: s.shutdown(socket.SHUT_WR)
    got = b""
    try:
        while True:
            more = s.recv(65536)
            if not more: break
            got += more
    except OSError as e: got += repr(e).encode()
    print(name + ":", got.split(b"\r\n")[0].decode(), got.count(b"HTTP/1.1 2"))
second = b"GET /smuggled HTTP/1.1\r\nHost: www.other.test\r\n\r\n"
first = b"GET http://www.example.test/first HTTP/1.1\r\nHost: www.example.test\r\n"
say("pipelined", first + b"\r\n" + second)
say("absolute", first + b"\r\n" + b"GET http://www.other.test/smuggled HTTP/1.1\r\n\r\n")
say("length", first + b"Content-Length: 3\r\n\r\nabc" + second)
say("both", first + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second)
say("chunked", first + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + second)
say("trailer", first + b"Transfer-Encoding: chunked\r\n\r\n0\r\nHost: www.other.test\r\n\r\n" + second)
say("chunk line", first + b"Transfer-Encoding: chunked\r\n\r\n0;\nx\r\n\r\n" + second)
say("bare lf", b"GET http://www.example.test/ HTTP/1.1\nHost: www.other.test\n\n")
say("folded", first + b"X: a\r\n Host: www.other.test\r\n\r\n")
say("nul", first + b"X: a\0b\r\n\r\n")
say("injected", b"GET http://www.example.test/\r\nHost:www.other.test HTTP/1.1\r\n\r\n")
say("host", b"GET http://www.example.test/host HTTP/1.1\r\nHost: www.other.test\r\n\r\n")
say("two hosts", first + b"Host: www.other.test\r\n\r\n")
say("origin", b"GET /origin HTTP/1.1\r\nHost: www.other.test\r\n\r\n")
say("nested", b"GET http://www.example.test/http://www.other.test/nested HTTP/1.1\r\n\r\n")
say("long line", b"GET http://www.example.test/" + b"a" * 40000 + b" HTTP/1.1\r\n\r\n")
say("many fields", first + b"a: b\r\n" * 2000 + b"\r\n")
say("connect", b"CONNECT www.other.test:443 HTTP/1.1\r\nHost: www.example.test:443\r\n\r\n")
say("connect url", b"CONNECT http://www.example.test:443 HTTP/1.1\r\n\r\n")
say("nonsense", bytes(range(6, 256)) * 8)
say("bind", b"\x05\x01\x00\x05\x02\x00\x03\x10www.example.test\x01\xbb")
say("associate", b"\x05\x01\x00\x05\x03\x00\x03\x10www.example.test\x01\xbb")
say("nothing")
# The end of what is said isn't the end of what is heard.
say("half", b"CONNECT www.example.test:80 HTTP/1.1\r\n\r\n", b"GET /half HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
say("large", first + b"Content-Length: 3000000\r\n\r\n", b"x" * 3000000)
print("that is all")
"#,
    );
    let is = |line: &str| assert_eq!(daemon.count(&format!(": {line}")), 1, "{line}: {daemon}");
    for name in ["pipelined", "absolute", "length", "chunked", "trailer", "host", "nested", "large"]
    {
        is(&format!("{name}: HTTP/1.1 200 OK 1"));
    }
    for name in [
        "both",
        "bare lf",
        "folded",
        "nul",
        "injected",
        "two hosts",
        "long line",
        "many fields",
        "connect url",
        "nonsense",
    ] {
        is(&format!("{name}: HTTP/1.1 400 Bad Request 0"));
    }
    is("connect: HTTP/1.1 403 Forbidden 0");
    is("origin: HTTP/1.1 403 Forbidden 0");
    is("half: HTTP/1.1 200 Connection established 2");
    assert_eq!(daemon.count("that is all"), 1, "{daemon}");
    let requests = net.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        let text = request.head.to_ascii_lowercase();
        assert!(!text.contains("smuggled") && !text.contains("host: www.other.test"), "{text}");
    }
    let large = requests.iter().find(|request| request.body.len() == 3_000_000);
    assert!(large.is_some(), "{daemon}");
    net.assert_untouched();
}

/// A layer without a `*` of its own finds no proxy, and nothing of this host's does.
fn others() {
    if !has_all() {
        return;
    }
    let net = Net::make(|_| {});
    let other = "[layer.b]\nexec = [\"/usr/bin/curl\", \"-sS\", \"-k\", \"--max-time\", \"20\", \
                 \"--proxy\", \"http://198.19.255.254:3128\", \"https://www.example.test/\"]\n\
                 syscalls = [\"@core\", \"@foreign\", \"@file-read\", \"@thread\"]\n\
                 optional = [\"cgroup\"]\nrestart = { on = \"never\", then = \"leave-down\" }\n\
                 connect = { else = \"tcp:203.0.113.2:8080\" }";
    let scene = Scene {
        net: &net,
        user: User::Root,
        connect: "any = \"tcp:*.example.test:443\"",
        more: other,
        interpreter: "/usr/bin/python3",
    };
    let daemon = scene.run(
        r#"
import os, socket
print("environment:", os.environ["https_proxy"], os.environ.get("no_proxy"))
s = socket.create_connection(("198.19.255.254", 3128))
door = s.getpeername()
print("door:", door[0].split(".")[0])
# Its address isn't one that the layer could connect to.
def out(name, act):
    try: act(); print(name, "done")
    except OSError as e: print(name, "refused")
out("again:", lambda: socket.create_connection(door))
out("rebound:", lambda: s.connect(("203.0.113.2", 443)))
s.sendall(b"CONNECT %s:%d HTTP/1.1\r\n\r\n" % (door[0].encode(), door[1]))
print("itself:", s.recv(100).split(b"\r\n")[0].decode())
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out("datagram:", lambda: udp.sendto(b"x", ("203.0.113.2", 53)))
unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out("unix datagram:", lambda: unix.sendto(b"x", "/run/systemd/notify"))
out("unix abstract:", lambda: unix.sendto(b"x", "\0/tmp/.X11-unix/X0"))
print("that is all")
"#,
    );
    assert_eq!(daemon.count(": environment: http://198.19.255.254:3128 None"), 1, "{daemon}");
    assert_eq!(daemon.count(": door: 127"), 1, "{daemon}");
    for name in ["again", "rebound", "datagram", "unix datagram", "unix abstract"] {
        assert_eq!(daemon.count(&format!(": {name}: refused")), 1, "{name}: {daemon}");
    }
    assert_eq!(daemon.count(": itself: HTTP/1.1 403 Forbidden"), 1, "{daemon}");
    assert_eq!(daemon.count("that is all"), 1, "{daemon}");
    assert_eq!(daemon.count("b/0.g1: curl: (7)"), 1, "{daemon}");
    assert!(net.requests().is_empty(), "{daemon}");
}

/// More connections than it may have wait for their turn, and another layer's don't.
fn floods() {
    if !has_all() {
        return;
    }
    let net = Net::make(|_| {});
    let other = "[layer.b]\nexec = [\"/bin/sh\", \"-c\", \"sleep 2; exec curl -sS -k --max-time 60 \
                 https://www.example.test/x -o /dev/null -w 'other: %{http_code}'\"]\n\
                 syscalls = [\"@core\", \"@foreign\", \"@file-read\", \"@thread\", \"@process\", \
                 \"@exec\"]\nbecause = \"it runs curl\"\n\
                 env = { PATH = \"/usr/bin:/bin\" }\n\
                 optional = [\"cgroup\"]\nrestart = { on = \"never\", then = \"leave-down\" }\n\
                 connect = { any = \"tcp:*.example.test:443\" }";
    let scene = Scene {
        net: &net,
        user: User::Root,
        connect: WILD,
        more: other,
        interpreter: "/usr/bin/python3",
    };
    let daemon = scene.run(
        r#"
import errno, socket, time
held, refused = [], 0
for i in range(200):
    try: held.append(socket.create_connection(("198.19.255.254", 3128)))
    except OSError as e: refused += e.errno == errno.EAGAIN
print("held", len(held), "refused", refused)
# Half of a head, a tunnel that nobody reads, and an end without a word.
for i, s in enumerate(held):
    if i % 3 == 0: s.sendall(b"GET http://www.exam")
    if i % 3 == 1: s.sendall(b"CONNECT www.example.test:443 HTTP/1.1\r\n\r\n")
    if i % 3 == 2: s.close()
time.sleep(5)
for s in held: s.close()
# There is room again.
for i in range(600):
    try:
        s = socket.create_connection(("198.19.255.254", 3128))
        s.sendall(b"GET http://www.example.test/after HTTP/1.1\r\n\r\n")
        print("after:", s.recv(100).split(b"\r\n")[0].decode()); break
    except OSError: time.sleep(0.1)
print("that is all")
"#,
    );
    assert_eq!(daemon.count(": held 128 refused 72"), 1, "{daemon}");
    assert_eq!(daemon.count(": after: HTTP/1.1 200 OK"), 1, "{daemon}");
    assert_eq!(daemon.count("other: 200"), 1, "{daemon}");
    assert_eq!(daemon.count("that is all"), 1, "{daemon}");
    net.assert_untouched();
}
