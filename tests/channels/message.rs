//! Messages between two ends: calls, sizes, descriptors, deaths, restarts, back-pressure.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::support::channel::{
    End, LONG, alone, calls, carrying, instance, open_descriptors, pair, plain,
};
use cofferdam::channel::{LinkError, PeerFault, Side};
use cofferdam::ident::EdgeId;
use cofferdam::ipc::message::{
    CallError, Channel, ChannelError, Event, Message, SendError, Violation,
};
use cofferdam::policy::plan::ChannelPlan;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Answers every call with what it carried, until the channel is dropped or told to stop.
async fn echo(channel: Channel) {
    loop {
        if let Event::Request { message, reply, .. } = channel.recv().await.unwrap() {
            let _ = reply.reply(message).await;
        }
    }
}

fn echo_thread(channel: Channel) -> (thread::JoinHandle<()>, Arc<AtomicBool>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let handle = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            match channel.blocking().recv(Some(Duration::from_millis(50))) {
                Ok(Event::Request { message, reply, .. }) => {
                    let _ = reply.blocking().reply(message);
                }
                Ok(_) | Err(ChannelError::Timeout) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    (handle, stop)
}

fn limited<R>(future: impl Future<Output = R>) -> R {
    runtime().block_on(async { tokio::time::timeout(LONG, future).await.expect("a hang") })
}

#[test]
fn a_call_is_answered() {
    let (from, to) = pair(&calls());
    limited(async move {
        tokio::select! {
            () = echo(to.channel) => {}
            answer = from.channel.call("echo").send(b"hello".as_slice()) => {
                assert_eq!(answer.unwrap().body, b"hello");
            }
        }
    });
}

#[test]
fn calls_are_answered_with_drivers_beside_them_too() {
    let (from, to) = pair(&calls());
    limited(async move {
        let server = to.channel.clone();
        tokio::select! {
            () = echo(to.channel) => {}
            _ = server.drive() => {}
            _ = from.channel.drive() => {}
            () = async {
                for size in [0, 1, 64, 8 << 10, 64 << 10, (64 << 10) + 1, 1 << 20] {
                    let body = vec![size as u8; size];
                    let answer = from.channel.call("echo").send(body.clone()).await.unwrap();
                    assert!(answer.body == body, "{size} bytes came back otherwise");
                }
            } => {}
        }
    });
}

#[test]
fn typed_calls_carry_values_and_leave_nothing_over() {
    let (from, to) = pair(&calls());
    limited(async move {
        let serve = async {
            loop {
                if let Event::Request { message, reply, .. } = to.channel.recv().await.unwrap() {
                    let text: String = message.decode().unwrap();
                    reply.reply_typed(&(text.len() as u64, text)).await.unwrap();
                }
            }
        };
        let ask = async {
            let answer: (u64, String) =
                from.channel.call("echo").send_typed("seven b").await.unwrap();
            assert_eq!(answer, (7, "seven b".into()));
            let wrong = from.channel.call("echo").send_typed::<_, u64>("seven b").await;
            assert!(matches!(wrong, Err(CallError::Decode(_))), "{wrong:?}");
        };
        tokio::select! { () = serve => {}, () = ask => {} }
    });
}

#[test]
fn the_largest_message_goes_both_ways_and_one_byte_more_does_not() {
    let (from, to) = pair(&calls());
    let (handle, stop) = echo_thread(to.channel.clone());
    let body: Vec<u8> = (0..16 << 20).map(|place: u32| (place >> 8) as u8).collect();
    let caller = from.channel.blocking();
    let answer = caller.call("echo").timeout(LONG).send(body.clone()).unwrap();
    assert!(answer.body == body);
    let long = caller.call("echo").timeout(LONG).send(vec![0; (16 << 20) + 1]).unwrap_err();
    assert!(matches!(long, CallError::Policy(Violation::Size { .. })), "{long}");
    assert!(long.to_string().contains("`[channel.test] methods.echo.max`"), "{long}");
    stop.store(true, Ordering::Relaxed);
    handle.join().unwrap();
}

#[test]
fn what_the_policy_forbids_our_own_code_is_told_with_its_line() {
    let (from, to) = pair(&calls());
    let (from, to) = (from.channel.blocking(), to.channel.blocking());
    let unknown = from.call("sign").timeout(LONG).send(b"".as_slice()).unwrap_err();
    assert!(unknown.to_string().contains("`[channel.test] methods`"), "{unknown}");
    let backwards = to.call("echo").timeout(LONG).send(b"".as_slice()).unwrap_err();
    assert!(backwards.to_string().contains("`caller`"), "{backwards}");
    let message = to.send("note", b"".as_slice(), Some(LONG)).unwrap_err();
    assert!(matches!(message, SendError::Policy(Violation::Direction { .. })), "{message}");
    let fds = vec![File::open("/dev/null").unwrap().into()];
    let carried = from.send("note", Message { body: vec![], fds }, Some(LONG)).unwrap_err();
    assert!(carried.to_string().contains("`[channel.test] fds.max`"), "{carried}");
}

#[test]
fn a_refusal_and_a_dropped_handler_both_answer_the_caller() {
    let (from, to) = pair(&calls());
    limited(async move {
        let serve = async {
            let mut first = true;
            loop {
                if let Event::Request { reply, .. } = to.channel.recv().await.unwrap()
                    && std::mem::take(&mut first)
                {
                    reply.refuse("not today").await.unwrap();
                }
            }
        };
        let ask = async {
            let refused = from.channel.call("echo").send(vec![]).await.unwrap_err();
            assert!(matches!(&refused, CallError::Refused { reason, .. } if reason == "not today"));
            let dropped = from.channel.call("echo").send(vec![]).await.unwrap_err();
            assert!(matches!(&dropped, CallError::Refused { reason, .. }
                if reason.contains("without an answer")));
        };
        tokio::select! { () = serve => {}, () = ask => {} }
    });
}

#[test]
fn without_methods_both_ends_send() {
    let (from, to) = pair(&plain());
    limited(async move {
        from.channel.send("", b"down".as_slice()).await.unwrap();
        to.channel.send("", b"up".as_slice()).await.unwrap();
        for (end, peer, text) in [(&to, &from, "down"), (&from, &to, "up")] {
            match end.channel.recv().await.unwrap() {
                Event::Message { from, method, message } => {
                    assert_eq!((from, method.as_str()), (peer.own.clone(), ""));
                    assert_eq!(message.body, text.as_bytes());
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn blocking_verbs_work_inside_a_task_whose_runtime_stands_still() {
    let (from, to) = pair(&calls());
    let (handle, stop) = echo_thread(to.channel.clone());
    limited(async move {
        let caller = from.channel.clone();
        tokio::select! {
            _ = from.channel.drive() => {}
            () = async {
                // The socket is watched by the runtime, and a callback calls within the task.
                assert_eq!(caller.call("echo").send(vec![1]).await.unwrap().body, [1]);
                let inner = caller.blocking().call("echo").timeout(LONG).send(vec![2]);
                assert_eq!(inner.unwrap().body, [2]);
                assert_eq!(caller.call("echo").send(vec![3]).await.unwrap().body, [3]);
            } => {}
        }
    });
    stop.store(true, Ordering::Relaxed);
    handle.join().unwrap();
}

#[test]
fn many_small_messages_come_in_order_whichever_way_they_are_sent() {
    let (from, to) = pair(&plain());
    let sender = from.channel.clone();
    let thread = thread::spawn(move || {
        let numbers = |range: std::ops::Range<u32>| range.map(|n| n.to_le_bytes().to_vec());
        sender.blocking().send_all("", numbers(0..50_000), Some(LONG)).unwrap();
        limited(async {
            tokio::select! {
                _ = sender.drive() => {}
                () = async {
                    for body in numbers(50_000..100_000) {
                        sender.send("", body).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                } => {}
            }
        });
        for body in numbers(100_000..110_000) {
            sender.blocking().send("", body, Some(LONG)).unwrap();
        }
    });
    for expected in 0..110_000_u32 {
        match to.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::Message { message, .. } => assert_eq!(message.body, expected.to_le_bytes()),
            other => panic!("{other:?}"),
        }
    }
    thread.join().unwrap();
}

#[test]
fn a_burst_is_sent_when_its_task_waits_though_nothing_else_happens() {
    let (from, to) = pair(&plain());
    limited(async move {
        tokio::select! {
            _ = from.channel.drive() => {}
            () = async {
                for n in 0..10_u8 {
                    from.channel.send("", vec![n]).await.unwrap();
                }
                for n in 0..10_u8 {
                    let Event::Message { message, .. } = to.channel.recv().await.unwrap() else {
                        panic!("no message");
                    };
                    assert_eq!(message.body, [n]);
                }
            } => {}
        }
    });
}

#[test]
fn a_full_peer_makes_the_sender_wait_and_memory_stays_bounded() {
    let (from, to) = pair(&plain());
    to.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
    let mut sent = 0;
    loop {
        match from.channel.try_send("", Message::from(vec![0; 60_000])) {
            Ok(()) => sent += 1,
            Err((SendError::Full, message)) => {
                assert_eq!(message.body.len(), 60_000, "the message is given back");
                if !from.channel.peers().is_empty() {
                    break;
                }
                from.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
    assert!(sent < 64, "{sent} messages of 60 kB were taken for a peer that reads none");
    let waited = from.channel.blocking().send("", vec![0; 60_000], Some(Duration::from_millis(20)));
    assert_eq!(waited, Err(SendError::Timeout));
    for _ in 0..sent {
        assert!(matches!(to.channel.blocking().recv(Some(LONG)), Ok(Event::Message { .. })));
        from.channel.try_recv();
    }
    from.channel.blocking().send("", vec![0; 60_000], Some(LONG)).unwrap();
}

#[test]
fn a_dead_peer_fails_the_calls_on_it_after_its_last_words_were_heard() {
    let (from, to) = pair(&calls());
    let caller = from.channel.clone();
    let waiting = thread::spawn(move || caller.blocking().call("echo").timeout(LONG).send(vec![1]));
    let Event::Request { reply, .. } = to.channel.blocking().recv(Some(LONG)).unwrap() else {
        panic!("no request");
    };
    // The end closes with the request unanswered: its replier keeps nothing open.
    std::mem::forget(reply);
    let keeper = to.own.clone();
    let (other, kept) = pair(&plain());
    other.channel.blocking().send("", b"last words".as_slice(), Some(LONG)).unwrap();
    drop(other);
    match kept.channel.blocking().recv(Some(LONG)).unwrap() {
        Event::Message { message, .. } => assert_eq!(message.body, b"last words"),
        event => panic!("{event:?}"),
    }
    assert!(matches!(kept.channel.blocking().recv(Some(LONG)), Ok(Event::PeerGone(_))));
    // A forgotten replier holds the channel, so its end is closed by the supervisor's word.
    to.channel.departed(&from.own);
    assert_eq!(waiting.join().unwrap().unwrap_err(), CallError::MayHaveExecuted(keeper));
}

#[test]
fn a_call_that_never_left_says_so() {
    let (from, to) = pair(&calls());
    to.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
    from.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
    let keeper = to.own.clone();
    limited(async move {
        // Fills the socket, and is stuck half way through a message of 16 MiB.
        let mut call = std::pin::pin!(from.channel.call("echo").send(vec![0; 16 << 20]));
        let first = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        assert!(first.is_pending());
        drop(to);
        assert_eq!(call.await.unwrap_err(), CallError::NotDelivered(Some(keeper)));
    });
}

#[test]
fn a_restart_is_told_once_and_the_old_generation_is_drained_first() {
    let plan = plain();
    let from = End::new(&plan, Side::From, 0, 1);
    let first = End::new(&plan, Side::To, 0, 1);
    let second = End::new(&plan, Side::To, 0, 2);
    from.join(&first, &plan);
    let channel = from.channel.blocking();
    channel.wait_for_peer(Some(LONG)).unwrap();
    for n in 0..5_u8 {
        first.channel.blocking().send("", vec![1, n], Some(LONG)).unwrap();
    }
    // Unread data of ours makes the survivor's next receive an ECONNRESET.
    channel.send("", b"never read".as_slice(), Some(LONG)).unwrap();
    let old = first.own.clone();
    drop(first);
    from.join(&second, &plan);
    let sender = second.channel.clone();
    let thread = thread::spawn(move || {
        for n in 0..5_u8 {
            sender.blocking().send("", vec![2, n], Some(LONG)).unwrap();
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 11 {
        match channel.recv(Some(LONG)).unwrap() {
            Event::Message { message, from, .. } => {
                assert_eq!(from.generation, u64::from(message.body[0]));
                seen.push(message.body);
            }
            Event::PeerRestarted { old: before, new } => {
                assert_eq!((before, new), (old.clone(), second.own.clone()));
                seen.push(vec![]);
            }
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<Vec<u8>> =
        (0..5).map(|n| vec![1, n]).chain([vec![]]).chain((0..5).map(|n| vec![2, n])).collect();
    assert_eq!(seen, expected);
    thread.join().unwrap();
    assert_eq!(channel.recv(Some(Duration::from_millis(20))).unwrap_err(), ChannelError::Timeout);
}

#[test]
fn a_hundred_restarts_are_told_one_by_one_or_merged_but_never_lost() {
    if alone(module_path!(), "a_hundred_restarts_are_told_one_by_one_or_merged_but_never_lost") {
        return;
    }
    let plan = plain();
    let from = End::new(&plan, Side::From, 0, 1);
    let channel = from.channel.blocking();
    let before = open_descriptors();
    let mut known = None;
    for generation in 1..=100 {
        let end = End::new(&plan, Side::To, 0, generation);
        from.join(&end, &plan);
        end.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
        channel.wait_for_peer(Some(LONG)).unwrap();
        if generation % 3 != 0 {
            continue;
        }
        while let Some(event) = from.channel.try_recv() {
            match event {
                Event::PeerRestarted { old, new } => {
                    assert!(known.is_none_or(|known| known == old.generation));
                    known = Some(new.generation);
                }
                Event::PeerGone(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(known, Some(generation));
    }
    assert!(open_descriptors() <= before + 4, "links of the dead are left open");
}

#[test]
fn calls_spread_over_peers_and_go_on_when_one_ends() {
    let plan = calls();
    let from = End::new(&plan, Side::From, 0, 1);
    let ends: Vec<_> = (0..3).map(|index| End::new(&plan, Side::To, index, 1)).collect();
    for end in &ends {
        from.join(end, &plan);
    }
    let mut threads: Vec<_> = ends
        .iter()
        .map(|end| {
            let (channel, own) = (end.channel.clone(), end.own.index);
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stop);
            let handle = thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(Event::Request { reply, .. }) =
                        channel.blocking().recv(Some(Duration::from_millis(20)))
                    {
                        let _ = reply.blocking().reply(vec![own as u8]);
                    }
                }
            });
            (handle, stop)
        })
        .collect();
    drop(ends);
    let caller = from.channel.blocking();
    while from.channel.peers().len() < 3 {
        from.channel.try_recv();
    }
    let mut count = [0; 3];
    for _ in 0..60 {
        let answer = caller.call("echo").timeout(LONG).send(vec![]).unwrap();
        count[usize::from(answer.body[0])] += 1;
    }
    assert!(count.iter().all(|count| *count >= 15), "{count:?}");
    let (handle, stop) = threads.remove(0);
    stop.store(true, Ordering::Relaxed);
    handle.join().unwrap();
    for _ in 0..20 {
        match caller.call("echo").timeout(LONG).send(vec![]) {
            Ok(answer) => assert_ne!(answer.body[0], 0),
            Err(CallError::MayHaveExecuted(peer)) => assert_eq!(peer.index, 0),
            Err(error) => panic!("{error}"),
        }
    }
    for (handle, stop) in threads {
        stop.store(true, Ordering::Relaxed);
        handle.join().unwrap();
    }
}

#[test]
fn ends_that_disagree_never_talk() {
    let plan = plain();
    let from = End::new(&plan, Side::From, 0, 1);
    let other_edge = End::with_edge(&plan, Side::To, 0, 1, EdgeId([8; 32]));
    let (one, two) = cofferdam::channel::socketpair(&plan).unwrap();
    from.join_over(&other_edge, one, two);
    // Another generation than the one that the supervisor names.
    let to = End::new(&plan, Side::To, 1, 1);
    let (one, two) = cofferdam::channel::socketpair(&plan).unwrap();
    from.channel.introduce(instance("keeper", 1, 2), to.key, one).unwrap();
    to.channel.introduce(from.own.clone(), from.key, two).unwrap();
    // A key that is not the peer's.
    let stranger = End::new(&plan, Side::To, 2, 1);
    let (one, two) = cofferdam::channel::socketpair(&plan).unwrap();
    from.channel.introduce(stranger.own.clone(), to.key, one).unwrap();
    stranger.channel.introduce(from.own.clone(), from.key, two).unwrap();
    for end in [&other_edge, &to, &stranger] {
        match end.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::PeerBroke { why: LinkError::Peer(PeerFault::Handshake(_)), .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(end.channel.peers().is_empty());
    }
    assert!(from.channel.peers().is_empty());
}

fn memfd(seals: SealFlags) -> OwnedFd {
    let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let mut file = File::from(fd.unwrap());
    file.write_all(b"sealed").unwrap();
    file.rewind().unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

/// The ends of one channel of a daemon, each started under a policy of its own.
fn ends_under(policies: [&str; 2]) -> (End, End, ChannelPlan) {
    let told = policies.map(|rest| {
        let layer = |name| format!("[layer.{name}]\nrun = \"x\"\nsyscalls = [\"@core\"]\n");
        let head = format!("cofferdam = 1\nname = \"d\"\n{}{}", layer("caller"), layer("keeper"));
        let text = format!("{head}[channel.test]\nfrom = \"caller\"\nto = \"keeper\"\n{rest}");
        let plan = cofferdam::policy::check("a.toml", text.as_bytes()).plan.unwrap();
        let (_, channel) = plan.channel("test").unwrap();
        (channel.clone(), channel.edge(&plan.name).unwrap())
    });
    let [(one, from), (other, to)] = told;
    let from = End::with_edge(&one, Side::From, 0, 1, from);
    (from, End::with_edge(&other, Side::To, 0, 1, to), one)
}

#[test]
fn ends_under_two_policies_talk_as_long_as_their_channel_is_the_same() {
    let more = "[layer.other]\nrun = \"x\"\nsyscalls = [\"@core\"]\n\
                [channel.more]\nfrom = \"caller\"\nto = \"other\"\n";
    let (from, to, plan) = ends_under(["", more]);
    from.join(&to, &plan);
    let heard = thread::spawn(move || to.channel.blocking().recv(Some(LONG)));
    from.channel.blocking().send("", "still", Some(LONG)).unwrap();
    match heard.join().unwrap().unwrap() {
        Event::Message { message, .. } => assert_eq!(message.body, b"still"),
        other => panic!("{other:?}"),
    }

    for changed in ["max = \"1KiB\"", "audit = \"none\"", "methods = [\"ask\"]"] {
        let (from, to, plan) = ends_under(["", changed]);
        from.join(&to, &plan);
        match to.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::PeerBroke { why: LinkError::Peer(PeerFault::Handshake(_)), .. } => {}
            other => panic!("{changed}: {other:?}"),
        }
        assert!(to.channel.peers().is_empty(), "{changed}");
    }
}

const SEALED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

#[test]
fn descriptors_of_the_right_kinds_pass_and_work() {
    let plan = carrying(&["FileRead", "Stream", "PipeRead", "PipeWrite", "SealedMemory"]);
    let (from, to) = pair(&plan);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"on disk").unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let readable = File::open(path).unwrap();
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let (pipe, mut write) = std::io::pipe().unwrap();
    let sealed = memfd(SEALED);
    let fds: Vec<OwnedFd> = vec![readable.into(), stream.into(), pipe.into(), sealed];
    from.channel.blocking().send("", Message { body: vec![], fds }, Some(LONG)).unwrap();
    let Event::Message { message, .. } = to.channel.blocking().recv(Some(LONG)).unwrap() else {
        panic!("no message");
    };
    peer.write_all(b"stream!").unwrap();
    drop(peer);
    write.write_all(b"a pipe.").unwrap();
    drop(write);
    let mut texts = Vec::new();
    for fd in message.fds {
        let flags = rustix::io::fcntl_getfd(fd.as_fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        texts.push(text);
    }
    assert_eq!(texts, ["on disk", "stream!", "a pipe.", "sealed"]);
}

#[test]
fn descriptors_of_other_kinds_are_refused_before_they_leave() {
    let (from, _to) = pair(&carrying(&["FileRead", "SealedMemory"]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    File::create(&path).unwrap();
    let open = |flags| rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    let (pipe, _write) = std::io::pipe().unwrap();
    let wrong: Vec<(&str, OwnedFd)> = vec![
        ("a directory", File::open(dir.path()).unwrap().into()),
        ("O_PATH", open(OFlags::PATH)),
        ("a device", File::open("/dev/null").unwrap().into()),
        ("FileWrite", open(OFlags::WRONLY)),
        ("FileWrite", open(OFlags::RDWR)),
        ("not sealed", memfd(SealFlags::empty())),
        ("not sealed", memfd(SealFlags::SHRINK | SealFlags::GROW)),
        ("PipeRead", pipe.into()),
        ("Stream", UnixStream::pair().unwrap().0.into()),
        ("listening", std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()),
        (
            "no file",
            rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap(),
        ),
        ("no file", rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()),
    ];
    for (what, fd) in wrong {
        let message = Message { body: vec![], fds: vec![fd] };
        let error = from.channel.blocking().send("", message, Some(LONG)).unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
    let good = Message { body: vec![], fds: vec![open(OFlags::RDONLY), memfd(SEALED)] };
    from.channel.blocking().send("", good, Some(LONG)).unwrap();
    let five = (0..5).map(|_| open(OFlags::RDONLY)).collect();
    let error = from.channel.blocking().send("", Message { body: vec![], fds: five }, Some(LONG));
    assert!(matches!(error, Err(SendError::Policy(Violation::DescriptorCount { .. }))));
}

#[test]
fn more_descriptors_in_flight_than_the_kernel_allows_only_make_the_sender_wait() {
    if alone(
        module_path!(),
        "more_descriptors_in_flight_than_the_kernel_allows_only_make_the_sender_wait",
    ) {
        return;
    }
    let (from, to) = pair(&carrying(&["FileRead"]));
    to.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(64), maximum: Some(64) },
    )
    .unwrap();
    let file = File::open("/proc/self/exe").unwrap();
    let thread = thread::spawn(move || {
        for _ in 0..1_000 {
            let fds = (0..4).map(|_| file.try_clone().unwrap().into()).collect();
            from.channel.blocking().send("", Message { body: vec![], fds }, Some(LONG)).unwrap();
        }
        from
    });
    for _ in 0..1_000 {
        match to.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::Message { message, .. } => assert_eq!(message.fds.len(), 4),
            other => panic!("{other:?}"),
        }
    }
    thread.join().unwrap();
}
