//! The policies of filters and of servers for each connection, by the real programs: what they are for,
//! and what a stranger's input tries by them.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::foreign::free;
use crate::foreign_servers::has;
use crate::harness::Daemon;
use crate::support::process::directory;
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("foreign_filters::a_backup_is_compressed", compress),
    ("foreign_filters::imagemagick_converts_and_reads_no_file", imagemagick),
    ("foreign_filters::ffmpeg_converts_and_follows_no_playlist", ffmpeg),
    ("foreign_filters::git_is_cloned_over_a_pipe", upload_pack),
    ("foreign_filters::git_is_cloned_from_its_daemon", git_daemon),
    ("foreign_filters::sftp_serves_files_and_nothing_else", sftp),
    ("foreign_filters::dnsmasq_answers_by_udp_and_tcp", dnsmasq),
];

pub(crate) const LAYERS: &[Function] = &[];

fn policy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/foreign").join(name)
}

/// `cofferdam run` of a policy.
fn cofferdam(policy: &Path, vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("run").arg(policy).env_remove("RUST_BACKTRACE");
    for (name, value) in vars {
        command.arg("--var").arg(format!("{name}={value}"));
    }
    command
}

/// Feeds a command and gives what it says.
fn fed(command: &mut Command, input: &[u8]) -> Output {
    let piped = || Stdio::piped();
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    let (mut into, bytes) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || {
        // Who has seen enough stops reading.
        let _ = into.write_all(&bytes);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A program and its arguments, as in a shell without quotes.
fn outside(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// Lets everybody read a file.
fn open_up(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A policy with something in another's place, in a file of its own.
fn altered(place: &TempDir, name: &str, from: &str, to: &str) -> PathBuf {
    let text = fs::read_to_string(policy(name)).unwrap();
    assert!(text.contains(from), "{name}");
    let path = place.path().join(name);
    fs::write(&path, text.replace(from, to)).unwrap();
    open_up(&path, 0o644);
    path
}

fn compress() {
    let bytes: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    let packed = fed(&mut cofferdam(&policy("compress.toml"), &[]), &bytes);
    assert!(packed.status.success(), "{}", words(&packed));
    let whole = fed(&mut outside("gzip -dc"), &packed.stdout);
    assert!(whole.stdout == bytes, "{}", words(&whole));
}

fn imagemagick() {
    if !has("/usr/bin/convert") {
        return;
    }
    let place = directory();
    let secret = place.path().join("secret.png");
    let path = secret.display();
    let drawn = outside(&format!("/usr/bin/convert -size 64x64 gradient:red-blue {path}")).status();
    assert!(drawn.unwrap().success());
    open_up(&secret, 0o644);
    let picture = fs::read(&secret).unwrap();
    let png = b"\x89PNG";
    let done = fed(&mut cofferdam(&policy("imagemagick.toml"), &[]), &picture);
    assert!(done.status.success() && done.stdout.starts_with(png), "{}", words(&done));

    // A drawing that includes another picture: outside it does.
    let drawing = format!("viewbox 0 0 64 64\nimage over 0,0 64,64 '{path}'\n");
    let free = fed(&mut outside("/usr/bin/convert mvg:- png:-"), drawing.as_bytes());
    assert!(free.status.success() && free.stdout.starts_with(png), "{}", words(&free));
    let asking = altered(&place, "imagemagick.toml", "\"-\", \"png:-\"", "\"mvg:-\", \"png:-\"");
    let kept = fed(&mut cofferdam(&asking, &[]), drawing.as_bytes());
    assert_eq!(kept.status.code(), Some(1), "{}", words(&kept));
    assert!(words(&kept).contains("unable to open"), "{}", words(&kept));

    // One that would be fetched.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/picture.png", listener.local_addr().unwrap());
    let drawing = format!("viewbox 0 0 64 64\nimage over 0,0 64,64 '{url}'\n");
    fed(&mut cofferdam(&asking, &[]), drawing.as_bytes());
    assert!(listener.accept().is_err());
}

fn ffmpeg() {
    if !has("/usr/bin/ffmpeg") {
        return;
    }
    let place = directory();
    let film = place.path().join("film.ts");
    let path = film.display();
    let made = outside(&format!(
        "/usr/bin/ffmpeg -v error -f lavfi -i testsrc=duration=1:size=160x120:rate=10 -f lavfi \
         -i sine=duration=1 -f mpegts {path}"
    ))
    .stdin(Stdio::null())
    .status();
    assert!(made.unwrap().success());
    open_up(&film, 0o644);
    let matroska = b"\x1aE\xdf\xa3";
    let bytes = fs::read(&film).unwrap();
    let done = fed(&mut cofferdam(&policy("ffmpeg.toml"), &[]), &bytes);
    assert!(done.status.success() && done.stdout.starts_with(matroska), "{}", words(&done));

    // A playlist that names a file, for one who has told ffmpeg to follow it.
    let list = |what: &str| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{what}\n#EXT-X-ENDLIST\n")
    };
    let follow = "-protocol_whitelist file,pipe,http,tcp -allowed_extensions ALL -f hls";
    let line =
        format!("/usr/bin/ffmpeg -v error -nostdin {follow} -i pipe:0 -c copy -f matroska pipe:1");
    let free = fed(&mut outside(&line), list(&format!("file://{path}")).as_bytes());
    assert!(free.stdout.starts_with(matroska), "{}", words(&free));
    let quoted: Vec<_> = follow.split(' ').map(|word| format!("\"{word}\", ")).collect();
    let quoted = quoted.concat();
    let asking = altered(&place, "ffmpeg.toml", "\"-i\", ", &format!("{quoted}\"-i\", "));
    let kept = fed(&mut cofferdam(&asking, &[]), list(&format!("file://{path}")).as_bytes());
    assert_eq!(kept.status.code(), Some(1), "{}", words(&kept));
    assert!(
        kept.stdout.is_empty() && words(&kept).contains("Error when loading first segment"),
        "{}",
        words(&kept)
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/film.ts", listener.local_addr().unwrap());
    let kept = fed(&mut cofferdam(&asking, &[]), list(&url).as_bytes());
    assert!(kept.stdout.is_empty() && listener.accept().is_err(), "{}", words(&kept));
}

/// A directory with a bare repository of one commit.
fn repository() -> TempDir {
    let place = directory();
    let path = place.path().display();
    let git = |line: &str| {
        let said =
            outside(&format!("git -c user.name=a -c user.email=a@b {line}")).output().unwrap();
        assert!(said.status.success(), "{line}: {}", words(&said));
    };
    git(&format!("init -q -b main {path}/work"));
    fs::write(place.path().join("work/page"), "a page\n".repeat(5000)).unwrap();
    git(&format!("-C {path}/work add ."));
    git(&format!("-C {path}/work commit -q -m one"));
    git(&format!("clone -q --bare {path}/work {path}/project.git"));
    assert!(outside(&format!("chmod -R a+rX {path}/project.git")).status().unwrap().success());
    place
}

/// Clones with git's own client, and looks at what came.
fn cloned(from: &str, place: &TempDir) -> Output {
    let into = place.path().join("clone");
    let mut command = Command::new("git");
    command.args(["-c", "protocol.ext.allow=always", "clone", "-q", from]).arg(&into);
    let output = command.env("GIT_TERMINAL_PROMPT", "0").output().unwrap();
    if output.status.success() {
        let page = fs::read_to_string(into.join("page")).unwrap();
        assert_eq!(page.lines().count(), 5000);
    }
    let _ = fs::remove_dir_all(into);
    output
}

fn upload_pack() {
    if !has("/usr/bin/git") {
        return;
    }
    let place = repository();
    let url = |repository: &str| {
        let (own, policy) = (env!("CARGO_BIN_EXE_cofferdam"), policy("git-upload-pack.toml"));
        format!("ext::{own} run {} --var repository={repository}", policy.display())
    };
    let path = place.path().join("project.git");
    let output = cloned(&url(path.to_str().unwrap()), &place);
    assert!(output.status.success(), "{}", words(&output));
    // Nobody writes: what the layer may do is read.
    let work = place.path().join("work");
    let pushed = Command::new("git")
        .args(["-c", "protocol.ext.allow=always", "-C"])
        .arg(&work)
        .args(["push", "-q", &url(path.to_str().unwrap()), "main:other"])
        .output()
        .unwrap();
    assert!(!pushed.status.success());
}

fn git_daemon() {
    if !has("/usr/bin/git") {
        return;
    }
    let (place, address) = (repository(), free());
    let (port, root) = (address.port().to_string(), place.path().to_str().unwrap());
    let vars = [("port", port.as_str()), ("repositories", root)];
    let mut daemon = Daemon::run(cofferdam(&policy("git-daemon.toml"), &vars), directory());
    daemon.confined("git/0.g1");
    for _ in 0..3 {
        let output = cloned(&format!("git://{address}/project.git"), &place);
        assert!(output.status.success(), "{}: {daemon}", words(&output));
    }
    let outside = cloned(&format!("git://{address}/../../etc"), &place);
    assert!(!outside.status.success(), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn sftp() {
    if !has("/usr/sbin/sshd") || !has("/usr/bin/sftp") {
        return;
    }
    let (place, address) = (directory(), free());
    let (settings, files) = (place.path().join("settings"), place.path().join("files"));
    fs::create_dir(&settings).unwrap();
    fs::create_dir(&files).unwrap();
    open_up(&settings, 0o755);
    open_up(&files, 0o777);
    fs::copy(policy("sftp.conf"), settings.join("sshd_config")).unwrap();
    let own = place.path().join("client_key");
    for key in [&settings.join("host_key"), &own] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(key)
            .status()
            .unwrap();
        assert!(made.success());
    }
    fs::copy(own.with_extension("pub"), settings.join("authorized_keys")).unwrap();
    // Root's layers are a user of their own each; an ordinary user's own key must be its own alone.
    let for_layer = if rustix::process::geteuid().is_root() { 0o644 } else { 0o600 };
    for (name, mode) in
        [("sshd_config", 0o644), ("authorized_keys", 0o644), ("host_key", for_layer)]
    {
        open_up(&settings.join(name), mode);
    }
    fs::write(files.join("page"), "a page").unwrap();
    open_up(&files.join("page"), 0o644);

    let port = address.port().to_string();
    let (settings, root) = (settings.to_str().unwrap(), files.to_str().unwrap());
    let vars = [("port", port.as_str()), ("settings", settings), ("files", root)];
    let mut daemon = Daemon::run(cofferdam(&policy("sftp.toml"), &vars), directory());
    daemon.confined("files/0.g1");
    let client = |program: &str, more: &[&str], input: &str| {
        let mut command = Command::new(program);
        let port = if program == "sftp" { "-P" } else { "-p" };
        command.args(["-q", "-F", "/dev/null", port, &address.port().to_string(), "-i"]).arg(&own);
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
        {
            command.args(["-o", option]);
        }
        fed(command.args(more), input.as_bytes())
    };
    let got = place.path().join("got");
    let script = format!(
        "get page {}\nput {} sent\nls\n",
        got.display(),
        own.with_extension("pub").display()
    );
    let output = client("sftp", &["-b", "-", "files@127.0.0.1"], &script);
    assert!(output.status.success(), "{}: {daemon}", words(&output));
    assert_eq!(fs::read_to_string(&got).unwrap(), "a page");
    assert!(files.join("sent").exists(), "{daemon}");
    // Neither the host's files, nor the server's, nor a shell.
    for path in ["/etc/shadow", "/etc/hostname", "/root"] {
        let output =
            client("sftp", &["-b", "-", "files@127.0.0.1"], &format!("get {path} /dev/null\n"));
        assert!(!output.status.success(), "{path}: {daemon}");
    }
    let output = client("ssh", &["files@127.0.0.1", "echo", "shell"], "");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("shell"), "{daemon}");
    // Nobody else's key.
    let other = place.path().join("other_key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&other)
        .status();
    assert!(made.unwrap().success());
    fs::copy(&other, &own).unwrap();
    let output = client("sftp", &["-b", "-", "files@127.0.0.1"], "ls\n");
    assert!(!output.status.success(), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// A question for the address of box.example, and the last bytes of the answer.
fn asked(address: SocketAddr) -> [Vec<u8>; 2] {
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03box\x07example\0\0\x01\0\x01";
    let patience = Some(std::time::Duration::from_secs(30));
    let mut answer = [0; 512];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(patience).unwrap();
    socket.send_to(question, address).unwrap();
    let length = socket.recv(&mut answer).unwrap();
    let by_udp = answer[length - 4..length].to_vec();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(patience).unwrap();
    stream
        .write_all(&[&[0, u8::try_from(question.len()).unwrap()], &question[..]].concat())
        .unwrap();
    let mut length = [0; 2];
    std::io::Read::read_exact(&mut stream, &mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
    [by_udp, answer[answer.len() - 4..].to_vec()]
}

fn dnsmasq() {
    if !has("/usr/sbin/dnsmasq") {
        return;
    }
    let (place, address) = (directory(), free());
    let hosts = place.path().join("hosts");
    fs::write(&hosts, "192.0.2.7 box.example\n").unwrap();
    open_up(&hosts, 0o644);
    let port = address.port().to_string();
    let vars = [("port", port.as_str()), ("hosts", hosts.to_str().unwrap())];
    let mut daemon = Daemon::run(cofferdam(&policy("dnsmasq.toml"), &vars), directory());
    daemon.line("]: read /");
    for _ in 0..5 {
        assert_eq!(asked(address), [[192, 0, 2, 7], [192, 0, 2, 7]].map(Vec::from), "{daemon}");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}
