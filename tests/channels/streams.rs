//! Calls that are answered by a stream of messages: order, end, credit, slow readers, deaths.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::channel::{End, LONG, Raw, pair, plan, streaming};
use cofferdam::channel::{LinkError, PeerFault, Side};
use cofferdam::ipc::Blocking;
use cofferdam::ipc::message::{
    CallError, Channel, Event, Replier, ReplyStream, SendError, StreamReplier, Violation,
};
use cofferdam::wire::limits::{INBOX, SPILL, WINDOW};
use cofferdam::wire::record::Kind;

const ECHO: u16 = 0;
const TAIL: u16 = 1;

fn limited<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("a hang") })
}

fn request(channel: &Channel) -> Replier {
    loop {
        match channel.blocking().recv(Some(LONG)).unwrap() {
            Event::Request { reply, .. } => return reply,
            Event::Message { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn stream(channel: &Channel) -> Blocking<StreamReplier> {
    request(channel).stream().unwrap().blocking()
}

/// A stream that was called for, and who answers it.
fn begun(from: &End, to: &End) -> (ReplyStream, Blocking<StreamReplier>) {
    thread::scope(|scope| {
        let answering = scope.spawn(|| stream(&to.channel));
        let reading = from.channel.blocking().call("tail").stream(vec![]).unwrap();
        (reading, answering.join().unwrap())
    })
}

fn next(reading: &mut ReplyStream) -> Option<Result<Vec<u8>, CallError>> {
    reading.blocking().next(Some(LONG)).map(|item| item.map(|message| message.body))
}

#[test]
fn all_items_come_in_order_and_then_the_end() {
    let (from, to) = pair(&streaming(64));
    let producer = thread::spawn(move || {
        let mut replier = stream(&to.channel);
        for n in 0..20_000_u32 {
            assert!(replier.send(n.to_le_bytes().to_vec(), Some(LONG)).unwrap().is_continue());
        }
        replier.end().unwrap();
        to
    });
    let mut reading = from.channel.blocking().call("tail").stream(vec![]).unwrap();
    for n in 0..20_000_u32 {
        assert_eq!(next(&mut reading).unwrap().unwrap(), n.to_le_bytes());
    }
    assert_eq!(next(&mut reading), None);
    assert_eq!(next(&mut reading), None);
    producer.join().unwrap();
}

#[test]
fn tasks_stream_too_and_several_at_once() {
    let (from, to) = pair(&streaming(64 << 10));
    limited(async {
        let serve = async {
            loop {
                let Event::Request { reply, message, .. } = to.channel.recv().await.unwrap() else {
                    panic!("no request");
                };
                tokio::spawn(async move {
                    let mut replier = reply.stream().unwrap();
                    for n in 0..500_u32 {
                        let mut body = message.body.clone();
                        body.resize(1 + n as usize * 4, body[0]);
                        assert!(replier.send(body).await.unwrap().is_continue());
                    }
                    replier.end().await.unwrap();
                });
            }
        };
        let read = |mark: u8| {
            let channel = from.channel.clone();
            async move {
                let mut reading = channel.call("tail").stream(vec![mark]).await.unwrap();
                let mut count = 0;
                while let Some(item) = reading.next().await {
                    let body = item.unwrap().body;
                    assert!(body.len() == 1 + count * 4 && body.iter().all(|one| *one == mark));
                    count += 1;
                }
                assert_eq!(count, 500);
            }
        };
        tokio::select! {
            () = serve => {}
            _ = to.channel.drive() => {}
            _ = from.channel.drive() => {}
            _ = async { tokio::join!(read(1), read(2), read(3)) } => {}
        }
    });
}

#[test]
fn a_slow_reader_stops_its_stream_and_nothing_else() {
    let (from, to) = pair(&streaming(1024));
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let server = thread::spawn(move || {
        let mut replier = stream(&to.channel);
        let streaming = thread::spawn(move || {
            while replier.send(vec![7; 1024], Some(LONG)).unwrap().is_continue() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..500 {
            request(&to.channel).blocking().reply(vec![1]).unwrap();
        }
        streaming.join().unwrap();
        to
    });
    let caller = from.channel.blocking();
    let mut reading = caller.call("tail").stream(vec![]).unwrap();
    // Calls are answered beside a stream that nobody reads.
    for _ in 0..500 {
        assert_eq!(caller.call("echo").timeout(LONG).send(vec![]).unwrap().body, [1]);
    }
    let most = u64::from(WINDOW);
    let ahead = sent.load(Ordering::Relaxed);
    assert!(ahead > 0 && ahead <= most, "{ahead} items for a reader that took none");
    for taken in 1..=2_000 {
        next(&mut reading).unwrap().unwrap();
        let ahead = sent.load(Ordering::Relaxed);
        assert!(ahead <= taken + most, "{ahead} items for a reader that took {taken}");
    }
    drop(reading);
    server.join().unwrap();
}

#[test]
fn a_dropped_stream_stops_its_producer_and_the_channel_goes_on() {
    let (from, to) = pair(&streaming(64));
    for _ in 0..50 {
        let (mut reading, mut replier) = begun(&from, &to);
        let producer = thread::spawn(move || {
            let mut sent = 0;
            while replier.send(vec![0; 64], Some(LONG)).unwrap().is_continue() {
                sent += 1;
            }
            sent
        });
        next(&mut reading).unwrap().unwrap();
        drop(reading);
        assert!(producer.join().unwrap() >= 1);
    }
    let (mut reading, replier) = begun(&from, &to);
    replier.end().unwrap();
    assert_eq!(next(&mut reading), None);
}

#[test]
fn how_a_stream_ends_is_known() {
    let (from, to) = pair(&streaming(64));
    let (mut reading, mut replier) = begun(&from, &to);
    assert!(replier.send(vec![1], Some(LONG)).unwrap().is_continue());
    replier.fail("the disk is gone").unwrap();
    assert_eq!(next(&mut reading), Some(Ok(vec![1])));
    let end = next(&mut reading).unwrap().unwrap_err();
    assert!(matches!(&end, CallError::Refused { reason, .. } if reason == "the disk is gone"));
    assert_eq!(next(&mut reading), None);

    let (mut reading, replier) = begun(&from, &to);
    drop(replier);
    let end = next(&mut reading).unwrap().unwrap_err();
    assert!(matches!(&end, CallError::Refused { reason, .. } if reason.contains("without")));

    let (mut reading, mut replier) = begun(&from, &to);
    for n in 0..3 {
        assert!(replier.send(vec![n], Some(LONG)).unwrap().is_continue());
    }
    std::mem::forget(replier);
    let peer = to.own.clone();
    // What the dead one had sent comes first.
    to.channel.departed(&from.own);
    drop(to);
    for n in 0..3 {
        assert_eq!(next(&mut reading), Some(Ok(vec![n])));
    }
    assert_eq!(next(&mut reading), Some(Err(CallError::MayHaveExecuted(peer))));
    assert_eq!(next(&mut reading), None);
}

#[test]
fn a_reader_that_ends_stops_the_producer() {
    let (from, to) = pair(&streaming(64));
    let (reading, mut replier) = begun(&from, &to);
    std::mem::forget(reading);
    from.channel.departed(&to.own);
    drop(from);
    let end = Instant::now() + LONG;
    // Its end is no failure of who answers.
    while replier.send(vec![1], Some(LONG)).unwrap().is_continue() {
        assert!(Instant::now() < end, "nobody tells it");
    }
    limited(replier.cancelled());
}

#[test]
fn a_stream_has_a_deadline_as_a_whole() {
    let (from, to) = pair(&streaming(64));
    let server = thread::spawn(move || {
        let mut replier = stream(&to.channel);
        assert!(replier.time_left().is_some());
        assert!(replier.send(vec![1], Some(LONG)).unwrap().is_continue());
        limited(replier.cancelled());
        to
    });
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut reading =
        from.channel.blocking().call("tail").deadline(Some(deadline)).stream(vec![]).unwrap();
    let late = loop {
        match next(&mut reading) {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert_eq!(late, Some(Err(CallError::Deadline { may_have_executed: true })));
    assert_eq!(next(&mut reading), None);
    drop(reading);
    server.join().unwrap();
}

#[test]
fn the_policy_says_how_a_method_is_answered() {
    let (from, to) = pair(&streaming(64));
    let caller = from.channel.blocking();
    let wrong = caller.call("tail").timeout(LONG).send(vec![]).unwrap_err();
    assert!(matches!(wrong, CallError::Policy(Violation::Stream { streams: true, .. })));
    assert!(wrong.to_string().contains("`[channel.test] methods.tail.stream = true`"), "{wrong}");
    let wrong = caller.call("echo").stream(vec![]).unwrap_err();
    assert!(wrong.to_string().contains("`[channel.test] methods.echo.stream = false`"), "{wrong}");
    let (mut reading, replier) = begun(&from, &to);
    drop(replier);
    next(&mut reading);
    let pending = thread::scope(|scope| {
        scope.spawn(|| {
            let wrong = request(&to.channel).stream().unwrap_err();
            assert!(matches!(wrong, Violation::Stream { streams: false, .. }), "{wrong}");
        });
        caller.call("echo").timeout(LONG).send(vec![])
    });
    assert!(matches!(pending, Err(CallError::Refused { .. })), "{pending:?}");
}

/// One thread answers everything in turn, and a flood of notes lies before the credit.
#[test]
fn a_serial_handler_never_waits_for_itself() {
    let method = |name, stream| serde_json::json!({ "name": name, "max": 64, "stream": stream });
    let plan = plan(&serde_json::json!([method("note", false), method("tail", true)]), 0, &[]);
    for (notes, clogged) in [(INBOX * 2, false), (INBOX * (SPILL + 1), true)] {
        let (from, to) = pair(&plan);
        let (mut reading, mut replier) = begun(&from, &to);
        let notes: Vec<_> = (0..notes).map(|_| vec![1]).collect();
        let count = notes.len();
        from.channel.blocking().send_all("note", notes, Some(LONG)).unwrap();
        let reader = thread::spawn(move || {
            let mut items = 0;
            while let Some(item) = next(&mut reading) {
                match item {
                    Ok(_) => items += 1,
                    Err(error) => return (items, Some(error), from),
                }
            }
            (items, None, from)
        });
        let mut stopped = None;
        for _ in 0..5_000 {
            if let Err(error) = replier.send(vec![2], Some(LONG)) {
                stopped = Some(error);
                break;
            }
        }
        if clogged {
            assert_eq!(stopped, Some(SendError::Clogged));
            // It says what to do, and that helps.
            for _ in 0..count {
                let note = to.channel.blocking().recv(Some(LONG)).unwrap();
                assert!(matches!(note, Event::Message { .. }), "{note:?}");
            }
            assert!(replier.send(vec![2], Some(LONG)).unwrap().is_continue());
        } else {
            assert_eq!(stopped, None);
        }
        replier.end().unwrap();
        let (items, error, _from) = reader.join().unwrap();
        assert_eq!(error, None);
        assert!(items >= 256, "{items}");
    }
}

fn fault(end: &End) -> PeerFault {
    loop {
        match end.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::PeerBroke { why: LinkError::Peer(fault), .. } => return fault,
            Event::Request { reply, .. } => std::mem::forget(reply),
            other => panic!("{other:?}"),
        }
    }
}

/// A caller whose peer does as it likes, with a stream that it has called for.
fn misled() -> (End, Raw, ReplyStream, u32) {
    let plan = streaming(64);
    let from = End::new(&plan, Side::From, 0, 1);
    let mut raw = Raw::join(&from, Side::To, &plan, &plan);
    let reading = from.channel.blocking().call("tail").stream(vec![]).unwrap();
    let call = raw.heard()[0].call;
    (from, raw, reading, call)
}

#[test]
fn a_producer_that_passes_its_credit_is_ended() {
    let (from, mut raw, mut reading, call) = misled();
    let mut sent = 0;
    while sent < WINDOW {
        if raw.say(Kind::Item, TAIL, call, &[1]) {
            sent += 1;
        } else {
            assert!(from.channel.try_recv().is_none());
            raw.endpoint.flush().unwrap();
        }
    }
    // So many are its right, read or not.
    assert!(from.channel.try_recv().is_none());
    while !raw.say(Kind::Item, TAIL, call, &[2]) {
        assert!(from.channel.try_recv().is_none());
    }
    raw.endpoint.flush().unwrap();
    assert_eq!(fault(&from), PeerFault::Overrun(call));
    for _ in 0..WINDOW {
        assert_eq!(next(&mut reading), Some(Ok(vec![1])));
    }
    let end = next(&mut reading).unwrap().unwrap_err();
    assert!(matches!(end, CallError::Broke { why: PeerFault::Overrun(_), .. }), "{end}");
}

#[test]
fn a_producer_that_streams_what_is_no_stream_is_ended() {
    let plan = streaming(64);
    for kind in [Kind::Item, Kind::End] {
        let from = End::new(&plan, Side::From, 0, 1);
        let mut raw = Raw::join(&from, Side::To, &plan, &plan);
        let pending = from.channel.blocking().call("echo").begin(vec![]).unwrap();
        let call = raw.heard()[0].call;
        assert!(raw.say(kind, ECHO, call, b""));
        assert_eq!(fault(&from), PeerFault::Direction(kind));
        assert!(matches!(pending.blocking().answer(Some(LONG)), Err(CallError::Broke { .. })));
    }
    // The method is one that streams, and the call is not its.
    let from = End::new(&plan, Side::From, 0, 1);
    let mut raw = Raw::join(&from, Side::To, &plan, &plan);
    let _pending = from.channel.blocking().call("echo").begin(vec![]).unwrap();
    let call = raw.heard()[0].call;
    assert!(raw.say(Kind::Item, TAIL, call, b""));
    assert_eq!(fault(&from), PeerFault::Answer(call));
}

#[test]
fn a_stream_is_over_when_it_has_ended_and_is_not_answered_by_one_message() {
    let (from, mut raw, mut reading, call) = misled();
    assert!(raw.say(Kind::End, TAIL, call, b""));
    assert!(raw.say(Kind::Item, TAIL, call, b""));
    assert_eq!(fault(&from), PeerFault::Answer(call));
    assert_eq!(next(&mut reading), None);
    let (from, mut raw, _reading, call) = misled();
    assert!(raw.say(Kind::Reply, TAIL, call, b""));
    assert_eq!(fault(&from), PeerFault::Direction(Kind::Reply));
}

#[test]
fn a_reader_that_gives_credit_for_what_it_never_got_is_ended() {
    let plan = streaming(64);
    let one = 1_u32.to_le_bytes();
    let to = End::new(&plan, Side::To, 0, 1);
    let mut raw = Raw::join(&to, Side::From, &plan, &plan);
    assert!(raw.say(Kind::Request, TAIL, 9, b""));
    assert!(raw.say(Kind::Credit, TAIL, 9, &one));
    assert_eq!(fault(&to), PeerFault::Credit(9));

    let to = End::new(&plan, Side::To, 0, 1);
    let mut raw = Raw::join(&to, Side::From, &plan, &plan);
    assert!(raw.say(Kind::Request, TAIL, 9, b""));
    let mut replier = stream(&to.channel);
    assert!(replier.send(vec![1], Some(LONG)).unwrap().is_continue());
    assert!(raw.say(Kind::Credit, TAIL, 9, &one));
    assert!(replier.send(vec![2], Some(LONG)).unwrap().is_continue());
    assert!(raw.say(Kind::Credit, TAIL, 9, &u32::MAX.to_le_bytes()));
    assert_eq!(fault(&to), PeerFault::Credit(9));

    let to = End::new(&plan, Side::To, 0, 1);
    let mut raw = Raw::join(&to, Side::From, &plan, &plan);
    assert!(raw.say(Kind::Credit, ECHO, 9, &one));
    assert_eq!(fault(&to), PeerFault::Direction(Kind::Credit));
}

#[test]
fn a_reader_that_gives_no_credit_holds_up_its_own_stream_only() {
    let plan = streaming(64);
    let to = End::new(&plan, Side::To, 0, 1);
    let mut raw = Raw::join(&to, Side::From, &plan, &plan);
    assert!(raw.say(Kind::Request, TAIL, 9, b""));
    let mut replier = stream(&to.channel);
    let mut sent = 0;
    let full = loop {
        match replier.send(vec![1], Some(Duration::from_millis(50))) {
            Ok(flow) => {
                assert!(flow.is_continue());
                sent += 1;
            }
            Err(error) => break error,
        }
        raw.heard();
    };
    assert_eq!((full, sent), (SendError::Timeout, WINDOW));
    assert!(raw.say(Kind::Request, ECHO, 10, b"beside"));
    request(&to.channel).blocking().reply(vec![3]).unwrap();
    assert!(raw.heard().iter().any(|heard| heard.call == 10 && heard.body == [3]));
}
