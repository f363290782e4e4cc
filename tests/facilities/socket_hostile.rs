//! Connecting for layers, misused: links that strangers put on the way, names that are asked for
//! and given up in a loop.

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cofferdam::Layer;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::support::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("socket::no_link_leads_to_a_socket_that_the_policy_doesnt_name", links),
    ("socket::asking_and_giving_up_in_a_loop_starts_nothing", loops),
    ("socket::a_killed_connector_is_asked_again", killed),
];

pub(crate) const LAYERS: &[Function] = &[
    ("socket_links", Runs::Blocking(layer_links)),
    ("socket_loops", Runs::Async(|layer| Box::pin(layer_loops(layer)))),
    ("socket_again", Runs::Async(|layer| Box::pin(layer_again(layer)))),
];

const LINKS: [&str; 4] = ["link", "above", "file", "gone"];

fn layer_links(layer: Layer) -> Outcome {
    for name in LINKS {
        let done = layer.target(name).map_err(text)?.blocking_stream();
        say(format!("{name}: {}", done.map_or_else(text, |_| "connected".into())));
    }
    let mut stream = layer.target("plain").map_err(text)?.blocking_stream().map_err(text)?;
    stream.write_all(b"ping").map_err(text)?;
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).map_err(text)?;
    say("plain: connected");
    Ok(())
}

/// Says back what comes, counts who came, and says as whom.
fn serve(path: &Path, came: &Arc<AtomicUsize>, users: std::sync::mpsc::Sender<u32>) {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    let came = Arc::clone(came);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes) = (stream.unwrap(), [0; 4]);
            came.fetch_add(1, Ordering::SeqCst);
            let _ = users.send(socket_peercred(&stream).unwrap().uid.as_raw());
            if stream.read_exact(&mut bytes).is_ok() {
                let _ = stream.write_all(&bytes);
            }
        }
    });
}

/// A socket that only its owner may use, in a directory that only he may enter, and a stranger's
/// directory with links to it. What the policy names itself is reached.
fn links() {
    let (came, (said, users)) = (Arc::default(), std::sync::mpsc::channel());
    let policy = "[layer.a]\nrun = \"socket_links\"\nsyscalls = [\"@core\"]\n\
                  restart = { on = \"never\" }\n\
                  connect = { link = \"unix:DIR/stranger/door\", above = \
                  \"unix:DIR/stranger/private/door\", file = \"unix:DIR/stranger/file\", gone = \
                  \"unix:DIR/stranger/gone\", plain = \"unix:DIR/private/door\" }\n";
    let mut daemon = Daemon::start_with("-", policy, |directory| {
        let (private, stranger) = (directory.join("private"), directory.join("stranger"));
        std::fs::create_dir(&private).unwrap();
        std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).unwrap();
        serve(&private.join("door"), &came, said);
        std::fs::create_dir(&stranger).unwrap();
        std::fs::write(stranger.join("file"), "").unwrap();
        symlink(private.join("door"), stranger.join("door")).unwrap();
        symlink(&private, stranger.join("private")).unwrap();
        if geteuid().is_root() {
            let nobody = Some(65_534);
            std::os::unix::fs::lchown(stranger.join("door"), nobody, nobody).unwrap();
            std::os::unix::fs::lchown(stranger.join("private"), nobody, nobody).unwrap();
            std::os::unix::fs::chown(&stranger, nobody, nobody).unwrap();
        }
    });
    daemon.line("plain: connected");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for name in LINKS {
        assert_eq!(daemon.count(&format!("{name}: connected")), 0, "{daemon}");
    }
    for name in ["link", "above"] {
        let told = format!("{name}: `[layer.a] connect = {{ {name} = ");
        assert!(
            daemon.seen.iter().any(|l| l.contains(&told) && l.contains("symbolic link")),
            "{daemon}"
        );
    }
    assert_eq!(came.load(Ordering::SeqCst), 1, "{daemon}");
    // The peer sees a user of the daemon's own, and never root.
    let user = users.recv().unwrap();
    assert_eq!(user == geteuid().as_raw(), !geteuid().is_root(), "{user}");
}

/// Rounds of asking and giving up.
const ROUNDS: usize = 400;

async fn layer_loops(layer: Layer) -> Outcome {
    say("looping");
    for _ in 0..ROUNDS {
        let ask = layer.connect("name");
        // It is asked for, and not waited for.
        drop(tokio::time::timeout(Duration::from_micros(200), ask).await);
    }
    layer.connect("name").await.map_err(text)?;
    say("looped");
    Ok(())
}

/// Every process whose parent is `parent`, by its title, but the steward.
fn children(parent: Pid) -> Vec<String> {
    let line = format!("\nPPid:\t{}\n", parent.as_raw_nonzero());
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap_or_default();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let ours = |path: &std::path::PathBuf| {
        let status = read(path.join("status"));
        let status = String::from_utf8_lossy(&status);
        status.contains(&line) && !status.starts_with("Name:\tsteward\n")
    };
    let title = |path: std::path::PathBuf| {
        let threads = std::fs::read_dir(path.join("task")).map_or(0, Iterator::count);
        format!(
            "{} {threads}",
            String::from_utf8_lossy(&read(path.join("cmdline"))).trim_end_matches('\0')
        )
    };
    processes.filter(ours).map(title).collect()
}

/// A name that is asked for and given up in a loop starts no process, and no more threads of the
/// helper than there are names.
fn loops() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = format!(
        "[layer.a]\nrun = \"socket_loops\"\nsyscalls = [\"@core\"]\nrestart = {{ on = \"never\" }}\n\
         limits = {{ cpu = 10 }}\noptional = [\"cgroup.cpu\"]\n\
         connect = {{ name = \"tcp:localhost:{}\" }}\n",
        listener.local_addr().unwrap().port()
    );
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("looping");
    let mut looks = 0;
    while daemon.line_within("looped", Duration::from_millis(1)).is_none() {
        for child in children(daemon.pid()) {
            let (title, threads) = child.rsplit_once(' ').unwrap();
            let threads: usize = threads.parse().unwrap();
            // One that has just ended has none.
            let is_layer = title.is_empty() || title.starts_with("cofferdam-layer:");
            assert!(is_layer, "{child}{daemon}");
            assert!(threads <= 3 || !title.contains("connector"), "{child}{daemon}");
        }
        looks += 1;
    }
    assert!(looks > 0);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

async fn layer_again(layer: Layer) -> Outcome {
    loop {
        let done = layer.connect("name").await.map(drop);
        say(format!("again: {}", done.map_or_else(text, |()| "connected".into())));
        tokio::select! {
            () = layer.stopping() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
}

/// A helper that dies is started anew, and no request is lost or refused for that.
fn killed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = format!(
        "[layer.a]\nrun = \"socket_again\"\nsyscalls = [\"@core\"]\n\
         connect = {{ name = \"tcp:localhost:{}\" }}\n",
        listener.local_addr().unwrap().port()
    );
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut daemon = Daemon::start("-", &policy);
    for life in 1..=8 {
        let helper = daemon.confined(&format!("cofferdam-connector/0.g{life}"));
        daemon.line("again: connected");
        kill_process(helper, Signal::KILL).unwrap();
        daemon.line("was killed by SIGKILL");
    }
    daemon.line("again: connected");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert!(!daemon.seen.iter().any(|it| it.contains("again: `")), "{daemon}");
}
