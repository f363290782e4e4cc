//! The layers that the tests' daemons are made of.

use std::fmt::Display;
use std::io::{Read, Write};
use std::time::Duration;

use cofferdam::ipc::file::Options;
use cofferdam::ipc::message::{CallError, ChannelError, Event, Message};
use cofferdam::log::LogFormat;
use cofferdam::wire::control::FromLayer;
use cofferdam::{Daemon, Flags, Layer, Setup};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

type Outcome = Result<(), String>;

/// The daemon of that name, with the policy that the command line names.
#[expect(clippy::too_many_lines, reason = "a table of functions")]
pub(crate) fn daemon(name: &str) -> Daemon {
    let _ = tracing_subscriber::registry().with(cofferdam::log::layer()).try_init();
    let policy = std::env::args().nth(3).unwrap_or_default();
    let daemon = Daemon::new(policy).settings(*b"what all may know");
    let path = std::path::PathBuf::from(std::env::args().nth(3).unwrap_or_default());
    let flags = Flags { policy: Some(path.clone()), ..Flags::default() };
    match name {
        "embedded" => Daemon::from_text("own", "no policy").flags(flags).layer("sleeper", sleeper),
        "flagged" => Daemon::new("/nowhere").flags(flags).layer("sleeper", sleeper),
        "read" => Daemon::from_setup(move || Setup::from_file(&path)).layer("sleeper", sleeper),
        "asked" => Daemon::from_setup(move || flags.clone().setup("own", "no policy"))
            .layer("sleeper", sleeper),
        "made" => {
            let setup = Setup::from_text("own", "no policy").flags(flags);
            Daemon::from_setup(move || Ok::<_, String>(setup.clone())).layer("sleeper", sleeper)
        }
        "reloading" => {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let daemon = Daemon::from_setup(move || {
                let settings = std::fs::read(path.with_file_name("settings"))?;
                Ok::<_, Box<dyn std::error::Error>>(Setup::from_file(&path)?.settings(settings))
            });
            reloading(daemon, &text)
        }
        // In a re-executed layer the name is unknown: every function is there.
        "" => crate::readme::layers(daemon)
            .layer("sleeper", sleeper)
            .layer("teller", teller)
            .layer("taking", taking)
            .blocking_layer("taking_blocking", taking_blocking)
            .layer("taker_of_nothing", taker_of_nothing)
            .blocking_layer("liar", liar)
            .layer("hanging", hanging)
            .layer("always_hanging", always_hanging)
            .blocking_layer("spinning", spinning)
            .blocking_layer("waiting", waiting)
            .layer("late", late)
            .blocking_layer("pretending", pretending)
            .layer("failing", failing)
            .blocking_layer("panicking", panicking)
            .layer("panicking_later", panicking_later)
            .layer("finishing", finishing)
            .layer("stubborn", stubborn)
            .layer("reader", reader)
            .layer("acceptor", acceptor)
            .layer("database", database)
            .layer("caller", caller)
            .layer("callee", callee)
            .layer("crasher", crasher)
            .layer("hopeful", hopeful)
            .blocking_layer("blocking_hopeful", blocking_hopeful)
            .layer("telling", telling)
            .layer("putting", putting)
            .layer("finding", finding)
            .blocking_layer("flooding", flooding)
            .blocking_layer("flooding_to_death", flooding_to_death)
            .blocking_layer("busy", busy)
            .blocking_layer("talkative", talkative)
            .blocking_layer("counting", counting)
            .blocking_layer("bursting", bursting)
            .blocking_layer("ticking", ticking)
            .blocking_layer("forbidden", forbidden)
            .blocking_layer("memory_hog", memory_hog)
            .blocking_layer("hoarder", hoarder)
            .layer("configured", configured)
            .blocking_layer("own_runtime", own_runtime)
            .blocking_layer("asking", asking)
            .blocking_layer("blocking_caller", blocking_caller)
            .blocking_layer("blocking_callee", blocking_callee),
        "hope" => {
            let daemon = daemon.layer("failing", failing);
            let text = std::fs::read_to_string(std::env::args().nth(3).unwrap_or_default());
            if text.is_ok_and(|text| text.contains("blocking_hopeful")) {
                daemon.blocking_layer("blocking_hopeful", blocking_hopeful)
            } else {
                daemon.layer("hopeful", hopeful)
            }
        }
        "holding" => daemon.layer("putting", putting).layer("finding", finding),
        "telling" => daemon.layer("telling", telling),
        "telling_json" => daemon.log_format(LogFormat::Json).layer("telling", telling),
        "telling_journal" => daemon.log_format(LogFormat::Journal).layer("telling", telling),
        "flooding" => daemon.blocking_layer("flooding", flooding),
        "flooding_to_death" => daemon.blocking_layer("flooding_to_death", flooding_to_death),
        "talkative" => daemon.blocking_layer("talkative", talkative),
        "counting" => daemon.blocking_layer("counting", counting),
        "bursting" => daemon.blocking_layer("bursting", bursting),
        "panicking" => daemon.blocking_layer("panicking", panicking),
        "panicking_later" => daemon.layer("panicking_later", panicking_later),
        "forbidden" => daemon.blocking_layer("forbidden", forbidden),
        "stalled" => {
            daemon.blocking_layer("talkative", talkative).blocking_layer("ticking", ticking)
        }
        "memory_hog" => daemon.blocking_layer("memory_hog", memory_hog),
        "none" => daemon,
        "busy" => daemon.blocking_layer("busy", busy).layer("crasher", crasher),
        "hoarder" => daemon
            .blocking_layer("hoarder", hoarder)
            .layer("caller", caller)
            .layer("callee", callee),
        "sleeper" => daemon.layer("sleeper", sleeper),
        "failing" => daemon.layer("failing", failing),
        // Those that the policy runs, for it may lack none.
        "ordered" => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let runs = |name: &str| text.contains(&format!("run = \"{name}\""));
            let daemon = if runs("teller") { daemon.layer("teller", teller) } else { daemon };
            let daemon = if runs("sleeper") { daemon.layer("sleeper", sleeper) } else { daemon };
            let daemon = if runs("failing") { daemon.layer("failing", failing) } else { daemon };
            let daemon = if runs("liar") { daemon.blocking_layer("liar", liar) } else { daemon };
            if runs("finishing") { daemon.layer("finishing", finishing) } else { daemon }
        }
        "health" => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let runs = |name: &str| text.contains(&format!("run = \"{name}\""));
            let daemon = if runs("hanging") { daemon.layer("hanging", hanging) } else { daemon };
            let daemon =
                if runs("spinning") { daemon.blocking_layer("spinning", spinning) } else { daemon };
            let daemon = if runs("late") { daemon.layer("late", late) } else { daemon };
            let daemon = if runs("pretending") {
                daemon.blocking_layer("pretending", pretending)
            } else {
                daemon
            };
            let daemon = if runs("sleeper") { daemon.layer("sleeper", sleeper) } else { daemon };
            if !runs("always_hanging") {
                return daemon;
            }
            daemon
                .layer("always_hanging", always_hanging)
                .blocking_layer("asking", asking)
                .blocking_layer("waiting", waiting)
                .layer("configured", configured)
        }
        "finishing" => daemon.layer("finishing", finishing).layer("sleeper", sleeper),
        "stubborn" => daemon.layer("stubborn", stubborn),
        "reader" => daemon.layer("reader", reader),
        "acceptor" => daemon.layer("acceptor", acceptor),
        "database" => daemon.layer("database", database),
        "runtimes" => daemon.blocking_layer("own_runtime", own_runtime).layer("callee", callee),
        "asking" => daemon.blocking_layer("asking", asking),
        "configured" => daemon.layer("configured", configured),
        "talk" => daemon.layer("caller", caller).layer("callee", callee),
        "blocking" => daemon
            .blocking_layer("blocking_caller", blocking_caller)
            .blocking_layer("blocking_callee", blocking_callee),
        other => panic!("no daemon {other}"),
    }
}

/// Says a line in the log.
fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn sleeper(layer: Layer) -> Outcome {
    say("asleep");
    layer.stopping().await;
    say("woken");
    Ok(())
}

/// Is ready once there is something in the file `go`.
async fn teller(layer: Layer) -> Outcome {
    let error = |error: std::io::Error| error.to_string();
    say("not ready");
    let (mut go, mut text) = (layer.file("go").map_err(|e| e.to_string())?, String::new());
    while go.read_to_string(&mut text).map_err(error)? == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say("ready");
    layer.ready().map_err(error)?;
    // Once more does nothing.
    layer.ready().map_err(error)?;
    layer.stopping().await;
    say("woken");
    Ok(())
}

/// Its event loop hangs in the first life.
async fn hanging(layer: Layer) -> Outcome {
    if layer.instance().generation == 1 {
        say("hangs");
        std::thread::sleep(Duration::from_mins(5));
    }
    say("works");
    layer.stopping().await;
    Ok(())
}

/// The same in every life.
async fn always_hanging(_: Layer) -> Outcome {
    std::thread::sleep(Duration::from_mins(5));
    Ok(())
}

/// Asks nobody for anything in the first life.
fn spinning(layer: Layer) -> Outcome {
    if layer.instance().generation == 1 {
        say("hangs");
        loop {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    say("works");
    asking(layer)
}

/// Waits in a verb of the library that blocks.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn waiting(layer: Layer) -> Outcome {
    let door = layer.blocking_acceptor("door").map_err(|error| error.to_string())?;
    door.accept().map_err(|error| error.to_string())?;
    Ok(())
}

/// Takes its time without an ear for anything, until it is ready, and hangs then.
async fn late(layer: Layer) -> Outcome {
    std::thread::sleep(Duration::from_secs(1));
    say("ready");
    layer.ready().map_err(|error| error.to_string())?;
    std::thread::sleep(Duration::from_mins(5));
    Ok(())
}

/// Answers what nobody has asked, past the library.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn pretending(layer: Layer) -> Outcome {
    layer.say(&FromLayer::Well).map_err(|error| error.to_string())?;
    std::thread::sleep(Duration::from_mins(5));
    Ok(())
}

/// Says twice that it is ready, past the library.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn liar(layer: Layer) -> Outcome {
    for _ in 0..2 {
        layer.say(&FromLayer::Up).map_err(|error| error.to_string())?;
    }
    std::thread::sleep(Duration::from_mins(5));
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn panicking(_: Layer) -> Outcome {
    panic!("words that a panic says");
}

/// Not in the layer's first thread.
async fn panicking_later(_: Layer) -> Outcome {
    let thread = tokio::task::spawn_blocking(|| panic!("words that a panic says"));
    thread.await.map_err(|error| error.to_string())
}

async fn failing(_: Layer) -> Outcome {
    Err("as it always does".into())
}

async fn finishing(_: Layer) -> Outcome {
    Ok(())
}

/// Never returns, whatever it is told.
async fn stubborn(_: Layer) -> Outcome {
    say("deaf");
    loop {
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
}

/// Reads what it was granted, and asks for what it wasn't.
async fn reader(layer: Layer) -> Outcome {
    let mut text = String::new();
    let error = |error: std::io::Error| error.to_string();
    layer.file("note").map_err(|e| e.to_string())?.read_to_string(&mut text).map_err(error)?;
    say(format!("note: {text}"));
    let folder = layer.directory("folder").map_err(|e| e.to_string())?;
    text.clear();
    let (mut page, _) = folder.open_read("page").map_err(|e| e.to_string())?;
    page.read_to_string(&mut text).map_err(error)?;
    say(format!("page: {text}"));
    for outside in ["../note", "link"] {
        say(format!("{outside}: {}", folder.open_read(outside).is_err()));
    }
    say(format!("settings: {}", String::from_utf8_lossy(layer.settings())));
    say(format!("refused: {}", layer.file("other").unwrap_err()));
    say(format!("refused: {}", layer.channel("other").unwrap_err()));
    say(format!("refused: {}", layer.listener("other").unwrap_err()));
    Ok(())
}

/// Writes a file as `SQLite` does: who is root gives what it makes to the owner of what lies there.
async fn database(layer: Layer) -> Outcome {
    let error = |error: std::io::Error| error.to_string();
    let uid = rustix::process::geteuid().as_raw();
    if let Ok(folder) = layer.directory("folder") {
        let options = Options::new().read().write().create();
        let mut file = folder.open("data", options).map_err(|e| e.to_string())?;
        if uid == 0 {
            std::os::unix::fs::fchown(&*file, Some(0), Some(0)).map_err(error)?;
        }
        let mut before = String::new();
        file.read_to_string(&mut before).map_err(error)?;
        writeln!(file, "{uid}").map_err(error)?;
        say(format!("before: {}", before.trim().replace('\n', " ")));
    }
    say(format!("user {uid}"));
    layer.stopping().await;
    Ok(())
}

/// Answers each connection with its own name, and dies of every third.
async fn acceptor(layer: Layer) -> Outcome {
    let listener = layer.listener("door").map_err(|e| e.to_string())?;
    say("accepting");
    for count in 1.. {
        let stopping = layer.stopping();
        let accepted = tokio::select! {
            () = stopping => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (stream, _) = accepted.map_err(|e| e.to_string())?;
        stream.writable().await.map_err(|e| e.to_string())?;
        let _ = stream.try_write(format!("{}\n", layer.instance()).as_bytes());
        if count % 3 == 0 {
            return Err("three are enough".into());
        }
    }
    Ok(())
}

/// Calls again and again, and says what changes.
async fn caller(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(|e| e.to_string())?;
    say(format!("refused: {}", channel.call("sing").send(Message::default()).await.unwrap_err()));
    let events = channel.clone();
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(Event::PeerRestarted { old, new }) => say(format!("restarted: {old} {new}")),
                Ok(other) => say(format!("event: {other:?}")),
                Err(error) => return say(format!("no events: {error}")),
            }
        }
    });
    let mut last = String::new();
    while !layer.is_stopping() {
        let call = channel.call("echo").send(Message::from(b"hello".to_vec()));
        let now = match call.await {
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(CallError::NotDelivered(_) | CallError::MayHaveExecuted(_)) => "lost".into(),
            Err(error) => return Err(error.to_string()),
        };
        if now != last {
            say(format!("answer: {now}"));
            last = now;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    say("caller done");
    Ok(())
}

async fn callee(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(|e| e.to_string())?;
    loop {
        let event = tokio::select! {
            event = channel.recv() => event.map_err(|e| e.to_string())?,
            () = layer.stopping() => break,
        };
        if let Event::Request { reply, message, .. } = event {
            let answer = [message.body, format!(" from {}", layer.instance()).into()].concat();
            // The caller may be gone.
            let _ = reply.reply(Message::from(answer)).await;
        }
    }
    say("callee done");
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn blocking_caller(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(|e| e.to_string())?.blocking();
    let mut last = String::new();
    while !layer.is_stopping() {
        let now = match channel.call("echo").send(b"hello".to_vec()) {
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(CallError::NotDelivered(_) | CallError::MayHaveExecuted(_)) => "lost".into(),
            Err(error) => return Err(error.to_string()),
        };
        if now != last {
            say(format!("answer: {now}"));
            last = now;
        }
        layer.attend().map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_millis(1));
    }
    say("caller done");
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn blocking_callee(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(|e| e.to_string())?.blocking();
    loop {
        match channel.recv(None) {
            Ok(Event::Request { reply, message, .. }) => {
                let answer = [message.body, format!(" from {}", layer.instance()).into()].concat();
                let _ = reply.blocking().reply(Message::from(answer));
            }
            Ok(_) => {}
            Err(ChannelError::Stopping) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    say("callee done");
    Ok(())
}

/// Ends at once.
async fn crasher(_: Layer) -> Outcome {
    std::process::exit(9)
}

/// Says what it hears of others.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn busy(layer: Layer) -> Outcome {
    say("busy");
    let channel = layer.channel("one").map_err(|e| e.to_string())?.blocking();
    let mut heard = 0_u64;
    loop {
        match channel.recv(None) {
            Ok(_) => heard += 1,
            Err(ChannelError::Stopping) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        if heard == 1 || heard == 64 {
            say(format!("heard of {heard}"));
        }
    }
}

/// Puts descriptors into sockets of its own, as many as it may.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn hoarder(layer: Layer) -> Outcome {
    use std::os::fd::AsFd;

    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
        SocketType, sendmsg, socketpair,
    };

    let mut kept = Vec::new();
    let mut sent = 0;
    let flags = SocketFlags::NONBLOCK;
    while let Ok(pair) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None) {
        for _ in 0..8 {
            let fds = [std::io::stderr().as_fd().try_clone_to_owned()];
            let Ok(fd) = &fds[0] else { break };
            let many = [fd.as_fd(); 200];
            let mut space =
                vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&many));
            let bytes = [std::io::IoSlice::new(b"x")];
            if sendmsg(&pair.0, &bytes, &mut ancillary, SendFlags::DONTWAIT).is_err() {
                break;
            }
            sent += many.len();
        }
        kept.push(pair);
        if kept.len() > 30 {
            break;
        }
    }
    say(format!("in flight: {sent}"));
    while !layer.is_stopping() {
        layer.attend().map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Says more than anybody reads.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn talkative(layer: Layer) -> Outcome {
    // Its own pipe fills up while nobody reads: so this is a thread's work.
    std::thread::spawn(|| {
        loop {
            say("x".repeat(1000));
        }
    });
    while !layer.is_stopping() {
        layer.attend().map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::exit(0)
}

/// Prints numbers, and fails if it can't.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn counting(layer: Layer) -> Outcome {
    let mut number = 0_u64;
    while !layer.is_stopping() {
        writeln!(std::io::stderr(), "{number}").map_err(|error| error.to_string())?;
        number += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    writeln!(std::io::stderr(), "counted {number}").map_err(|error| error.to_string())
}

/// Tells events, and prints between them.
/// In its first life puts something everywhere; in each it leases the permit.
async fn putting(layer: Layer) -> Result<(), Box<dyn std::error::Error>> {
    if layer.instance().generation == 1 {
        layer.region("board")?.publisher::<[u8]>()?.publish(b"written by the first")?;
        for number in 0..3 {
            layer.queue("jobs")?.send(format!("job {number}"), 0).await?;
        }
    }
    let lease = layer.semaphore("turn")?.acquire().await?;
    say(format!("fence {}, abandoned {}", lease.fence(), lease.abandoned()));
    layer.stopping().await;
    Ok(())
}

/// From its second life on takes what is there.
async fn finding(layer: Layer) -> Result<(), Box<dyn std::error::Error>> {
    if layer.instance().generation == 1 {
        layer.stopping().await;
        return Ok(());
    }
    let mut board = layer.region("board")?.subscriber::<[u8]>();
    let found = board.latest().map(|it| String::from_utf8_lossy(it.value).into_owned());
    say(format!("the board: {found:?}"));
    let jobs = layer.queue("jobs")?;
    loop {
        let event = tokio::select! {
            event = jobs.recv() => event?,
            () = layer.stopping() => return Ok(()),
        };
        match event {
            cofferdam::ipc::queue::Event::Message(job) => {
                say(format!("took {}", String::from_utf8_lossy(&job.body)));
            }
            cofferdam::ipc::queue::Event::Refused(refused) => {
                say(format!("not taken: {}", refused.why));
            }
        }
    }
}

async fn telling(layer: Layer) -> Outcome {
    let print = |text: &[u8]| std::io::stderr().write_all(text).map_err(|e| e.to_string());
    let outer = tracing::info_span!("outer").entered();
    let inner = tracing::info_span!("request", id = 7, who = tracing::field::Empty);
    inner.record("who", "a b");
    print(b"begun ")?;
    inner.in_scope(|| {
        tracing::warn!(free = 3, ratio = 0.5, "nearly\x1b[2J full\nsecond");
    });
    drop(outer);
    print(b"and ended\n")?;
    print(b"\0forged\0\0\n")?;
    tracing::debug!("for debugging");
    tracing::trace!("for nobody");
    tracing::info!("long message {}", "x".repeat(10_000));
    tracing::error!(target: "other", ok = true, "over");
    print(b"told\n")?;
    layer.stopping().await;
    Ok(())
}

/// Tells a hundred thousand events.
fn flooding(_: Layer) -> Outcome {
    for number in 0..100_000 {
        tracing::info!(number, "flood");
    }
    writeln!(std::io::stderr(), "flooded").map_err(|error| error.to_string())
}

/// Prints a hundred thousand lines, and fails.
fn flooding_to_death(_: Layer) -> Outcome {
    let lines = "flood\n".repeat(1000);
    for _ in 0..100 {
        std::io::stderr().write_all(lines.as_bytes()).map_err(|error| error.to_string())?;
    }
    Err("the last of it".to_owned())
}

/// Prints a hundred lines and fails.
fn bursting(_: Layer) -> Outcome {
    for number in 0..100 {
        say(number);
    }
    Err("as it always does".into())
}

/// Counts in a file, and prints nothing.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn ticking(layer: Layer) -> Outcome {
    use std::io::{Seek, SeekFrom};
    let mut file = layer.file("tick").map_err(|error| error.to_string())?;
    let mut number = 0_u64;
    while !layer.is_stopping() {
        number += 1;
        let bytes = [layer.instance().generation.to_le_bytes(), number.to_le_bytes()].concat();
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&bytes));
        written.map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Makes a system call that it isn't granted.
fn forbidden(_: Layer) -> Outcome {
    say("last words");
    Err(format!("{:?}", rustix::process::getsid(None)))
}

#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn memory_hog(_: Layer) -> Outcome {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// Calls whoever will come, without end; and says what it is told.
async fn hopeful(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(|e| e.to_string())?;
    let lost = |error: &CallError| {
        matches!(error, CallError::NotDelivered(_) | CallError::MayHaveExecuted(_))
    };
    let error = loop {
        match channel.call("echo").send(Message::default()).await {
            Ok(_) => {}
            Err(error) if lost(&error) => {}
            Err(error) => break error,
        }
    };
    say(format!("call: {error}"));
    say(format!("again: {}", channel.call("echo").send(Message::default()).await.unwrap_err()));
    loop {
        tokio::select! {
            event = channel.recv() => say(format!("event: {:?}", event.map_err(|e| e.to_string())?)),
            () = layer.stopping() => return Ok(()),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn blocking_hopeful(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(|e| e.to_string())?.blocking();
    let lost = |error: &CallError| {
        matches!(error, CallError::NotDelivered(_) | CallError::MayHaveExecuted(_))
    };
    let error = loop {
        match channel.call("echo").send(Message::default()) {
            Ok(_) => {}
            Err(error) if lost(&error) => {}
            Err(error) => break error,
        }
    };
    say(format!("call: {error}"));
    say(format!("again: {}", channel.call("echo").send(Message::default()).unwrap_err()));
    loop {
        match channel.recv(None) {
            Ok(event) => say(format!("event: {event:?}")),
            Err(ChannelError::Stopping) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Brings a runtime of its own, and never asks the library to attend to anything.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it")]
fn own_runtime(layer: Layer) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(2).enable_all().build();
    let runtime = built.map_err(|error| error.to_string())?;
    let channel = layer.channel("talk").map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let calling = tokio::spawn(async move {
            let mut last = String::new();
            loop {
                let answer = channel.call("echo").send(b"hello").await;
                let now = answer.map(|it| String::from_utf8_lossy(&it.body).into_owned());
                match now {
                    Ok(now) if now != last => {
                        say(format!("answer: {now}"));
                        last = now;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        });
        layer.stopping().await;
        calling.abort();
    });
    say("own runtime done");
    Ok(())
}

#[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the library's shape")]
fn asking(layer: Layer) -> Outcome {
    say("asks");
    while !layer.is_stopping() {
        std::thread::sleep(Duration::from_millis(1));
    }
    say("was told");
    Ok(())
}

async fn configured(layer: Layer) -> Outcome {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    say(format!("workers: {workers}"));
    let mut all: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    all.sort();
    say(format!("environment: {}", all.join(" ")));
    say(format!("place: {}", layer.var("place").map_err(|e| e.to_string())?));
    say(layer.var("other").unwrap_err());
    say("its thread is busy");
    while !layer.is_stopping() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Takes settings as they come.
async fn taking(layer: Layer) -> Result<(), std::io::Error> {
    say(format!("begins with {}", String::from_utf8_lossy(layer.settings())));
    while let Some(fresh) = layer.until_stopping(layer.reloaded()).await {
        say(format!("goes on with {}", String::from_utf8_lossy(&fresh?)));
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "a layer's function has it")]
fn taking_blocking(layer: Layer) -> Result<(), std::io::Error> {
    say(format!("begins with {}", String::from_utf8_lossy(layer.settings())));
    while !layer.is_stopping() {
        if let Some(fresh) = layer.try_reloaded()? {
            say(format!("goes on with {}", String::from_utf8_lossy(&fresh)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Says that it has taken settings that nobody gave it.
async fn taker_of_nothing(layer: Layer) -> Result<(), std::io::Error> {
    layer.say(&FromLayer::Reloaded)?;
    layer.stopping().await;
    Ok(())
}

/// The functions that a policy runs.
fn reloading(mut daemon: Daemon, policy: &str) -> Daemon {
    let runs = |name: &str| policy.contains(&format!("run = \"{name}\""));
    if runs("sleeper") {
        daemon = daemon.layer("sleeper", sleeper);
    }
    if runs("taking") {
        daemon = daemon.layer("taking", taking);
    }
    if runs("taking_blocking") {
        daemon = daemon.blocking_layer("taking_blocking", taking_blocking);
    }
    if runs("taker_of_nothing") {
        daemon = daemon.layer("taker_of_nothing", taker_of_nothing);
    }
    daemon
}
