//! Calls that are given up, and calls with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::channel::{End, Heard, LONG, Raw, calls, pair};
use cofferdam::channel::{LinkError, PeerFault, Side};
use cofferdam::ipc::message::{CallError, ChannelError, Delivery, Event, Message, Replier};
use cofferdam::wire::record::Kind;

const ECHO: u16 = 0;
const NOTE: u16 = 1;

fn limited<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("a hang") })
}

fn request(end: &End) -> (Message, Replier) {
    match end.channel.blocking().recv(Some(LONG)).unwrap() {
        Event::Request { message, reply, .. } => (message, reply),
        other => panic!("{other:?}"),
    }
}

async fn requested(end: &End) -> Replier {
    match end.channel.recv().await.unwrap() {
        Event::Request { reply, .. } => reply,
        other => panic!("{other:?}"),
    }
}

/// Answers one call on `to` with what it carried.
fn answer(to: &End) {
    let (message, reply) = request(to);
    reply.blocking().reply(message).unwrap();
}

/// Whether calls work between two ends as ever.
fn works(from: &End, to: &End) {
    thread::scope(|scope| {
        scope.spawn(|| answer(to));
        let answer = from.channel.blocking().call("echo").timeout(LONG).send(b"still".as_slice());
        assert_eq!(answer.unwrap().body, b"still");
    });
}

#[test]
fn a_dropped_call_reaches_its_handler() {
    let (from, to) = pair(&calls());
    limited(async {
        let mut call = Box::pin(from.channel.call("echo").send(vec![1]));
        let reply = tokio::select! {
            reply = requested(&to) => reply,
            answer = &mut call => panic!("{answer:?}"),
        };
        assert!(!reply.is_cancelled());
        drop(call);
        reply.cancelled().await;
        assert!(reply.is_cancelled());
        // Too late, and nobody is to blame.
        assert_eq!(reply.reply(vec![2]).await, Ok(Delivery::NobodyWaits));
    });
    works(&from, &to);
}

#[test]
fn a_call_of_a_thread_can_be_given_up_and_its_handler_is_a_thread() {
    let (from, to) = pair(&calls());
    let caller = from.channel.blocking();
    let pending = thread::scope(|scope| {
        let pending = scope.spawn(|| caller.call("echo").begin(vec![1]).unwrap());
        let (_, reply) = request(&to);
        pending.join().unwrap().cancel();
        let end = Instant::now() + LONG;
        while !reply.is_cancelled() {
            assert!(Instant::now() < end, "the handler never learns it");
        }
        reply
    });
    pending.blocking().refuse("nobody listens").unwrap();
    works(&from, &to);
}

#[test]
fn a_call_that_no_handler_has_yet_is_never_begun() {
    let (from, to) = pair(&calls());
    let caller = from.channel.blocking();
    let receiver = to.channel.blocking();
    receiver.wait_for_peer(Some(Duration::from_millis(1))).ok();
    thread::scope(|scope| {
        scope.spawn(|| receiver.wait_for_peer(Some(LONG)).unwrap());
        caller.wait_for_peer(Some(LONG)).unwrap();
    });
    for n in 0..10 {
        let pending = caller.call("echo").begin(vec![n]).unwrap();
        if n % 2 == 0 { pending.cancel() } else { std::mem::forget(pending) }
    }
    caller.send("note", vec![99], Some(LONG)).unwrap();
    // All of it lies in the socket, and is read before anything of it is handed out.
    let mut begun = Vec::new();
    let mut repliers = Vec::new();
    loop {
        match receiver.recv(Some(LONG)).unwrap() {
            Event::Request { message, reply, .. } => {
                begun.push(message.body[0]);
                repliers.push(reply);
            }
            Event::Message { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(begun, [1, 3, 5, 7, 9]);
}

#[test]
fn ten_thousand_calls_given_up_leave_no_call_behind_and_mix_up_no_answers() {
    let (from, to) = pair(&calls());
    let server = to.channel.clone();
    let serve = thread::spawn(move || {
        loop {
            match server.blocking().recv(Some(LONG)).unwrap() {
                Event::Request { message, reply, .. } => {
                    let delivery = reply.blocking().reply(message).unwrap();
                    // Answered too late, which is told and no error.
                    assert!([Delivery::Sent, Delivery::NobodyWaits].contains(&delivery));
                }
                Event::Message { .. } => return,
                other => panic!("{other:?}"),
            }
        }
    });
    let caller = from.channel.blocking();
    for n in 0..10_000_u32 {
        let pending =
            caller.call("echo").deadline(Some(far())).begin(n.to_le_bytes().to_vec()).unwrap();
        if n % 3 == 0 {
            assert_eq!(pending.blocking().answer(None).unwrap().body, n.to_le_bytes());
        }
    }
    caller.send("note", vec![], Some(LONG)).unwrap();
    serve.join().unwrap();
}

fn far() -> Instant {
    Instant::now() + LONG
}

#[test]
fn a_caller_that_ends_is_one_that_gave_up() {
    let (from, to) = pair(&calls());
    let caller = from.channel.clone();
    let waiting = thread::spawn(move || caller.blocking().call("echo").timeout(LONG).send(vec![]));
    let (_, reply) = request(&to);
    assert!(!reply.is_cancelled());
    to.channel.departed(&from.own);
    from.channel.departed(&to.own);
    assert!(waiting.join().unwrap().is_err());
    limited(reply.cancelled());
    assert!(reply.is_cancelled());
    assert_eq!(reply.blocking().reply(vec![1]), Ok(Delivery::NobodyWaits));
}

#[test]
fn a_handler_sees_the_deadline_and_hands_it_on() {
    let (from, middle) = pair(&calls());
    let (onward, to) = pair(&calls());
    limited(async {
        let serve = async {
            let reply = requested(&middle).await;
            let (left, deadline) = (reply.time_left().unwrap(), reply.deadline());
            assert!(left > Duration::ZERO && left <= LONG + Duration::from_millis(1), "{left:?}");
            let inner = onward.channel.call("echo").deadline(deadline).send(vec![]).await.unwrap();
            reply.reply(inner).await.unwrap();
        };
        let serve_inner = async {
            let reply = requested(&to).await;
            let left = reply.time_left().unwrap();
            assert!(left > Duration::ZERO && left <= LONG + Duration::from_millis(2), "{left:?}");
            reply.reply(vec![7]).await.unwrap();
            let endless = requested(&middle).await;
            assert_eq!((endless.time_left(), endless.deadline()), (None, None));
            endless.reply(vec![8]).await.unwrap();
        };
        let ask = async {
            let answer = from.channel.call("echo").timeout(LONG).send(vec![]).await.unwrap();
            assert_eq!(answer.body, [7]);
            assert_eq!(from.channel.call("echo").send(vec![]).await.unwrap().body, [8]);
        };
        tokio::join!(serve, serve_inner, ask);
    });
}

#[test]
fn a_deadline_ends_the_call_at_both_ends() {
    let (from, to) = pair(&calls());
    limited(async {
        let call = from.channel.call("echo").timeout(Duration::from_secs(1)).send(vec![]);
        let (answer, reply) = tokio::join!(call, requested(&to));
        assert_eq!(answer.unwrap_err(), CallError::Deadline { may_have_executed: true });
        reply.cancelled().await;
        assert!(reply.is_cancelled());
    });
    let late = from.channel.blocking().call("echo").timeout(Duration::from_secs(1)).send(vec![]);
    assert_eq!(late.unwrap_err(), CallError::Deadline { may_have_executed: true });
}

#[test]
fn a_call_that_found_no_peer_in_time_was_surely_not_executed() {
    let from = End::new(&calls(), Side::From, 0, 1);
    let short = Duration::from_millis(5);
    let none = CallError::Deadline { may_have_executed: false };
    assert_eq!(from.channel.blocking().call("echo").timeout(short).send(vec![]).unwrap_err(), none);
    assert_eq!(limited(from.channel.call("echo").timeout(short).send(vec![])).unwrap_err(), none);
}

#[test]
fn a_call_whose_time_is_over_is_not_given_to_a_handler() {
    let plan = calls();
    let to = End::new(&plan, Side::To, 0, 1);
    let mut raw = Raw::join(&to, Side::From, &plan, &plan);
    assert!(raw.say(Kind::Message, NOTE, 0, b"first"));
    assert!(raw.ask(ECHO, 5, 1));
    assert!(raw.ask(ECHO, 6, 0));
    // Reads everything, and takes the first.
    assert!(matches!(to.channel.try_recv(), Some(Event::Message { .. })));
    thread::sleep(Duration::from_millis(5));
    let (_, reply) = request(&to);
    reply.blocking().reply(vec![6]).unwrap();
    let heard = raw.heard();
    assert_eq!((heard[0].kind, heard[0].call), (Kind::Refusal, 5));
    assert_eq!(heard[0].body, b"its deadline passed before it was begun");
    assert_eq!((heard[1].kind, heard[1].call, heard.len()), (Kind::Reply, 6, 2));
}

/// What an honest `to` says of a `from` that does this.
fn broken_by(act: impl FnOnce(&mut Raw)) -> Event {
    let plan = calls();
    let to = End::new(&plan, Side::To, 0, 1);
    let mut raw = Raw::join(&to, Side::From, &plan, &plan);
    act(&mut raw);
    loop {
        match to.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::Request { reply, .. } => drop(reply),
            other => return other,
        }
    }
}

#[test]
fn who_gives_up_more_than_it_called_is_ended() {
    let fault = |event| match event {
        Event::PeerBroke { why: LinkError::Peer(fault), .. } => fault,
        other => panic!("{other:?}"),
    };
    let unknown = broken_by(|raw| assert!(raw.say(Kind::Cancel, ECHO, 77, b"")));
    assert_eq!(fault(unknown), PeerFault::Cancel(77));
    let twice = broken_by(|raw| {
        assert!(raw.say(Kind::Request, ECHO, 5, b""));
        assert!(raw.say(Kind::Cancel, ECHO, 5, b""));
        assert!(raw.say(Kind::Cancel, ECHO, 5, b""));
    });
    assert_eq!(fault(twice), PeerFault::Cancel(5));
}

#[test]
fn an_unknown_call_that_is_given_up_harms_no_other() {
    let plan = calls();
    let to = End::new(&plan, Side::To, 0, 1);
    let mut raw = Raw::join(&to, Side::From, &plan, &plan);
    assert!(raw.say(Kind::Request, ECHO, 5, b"five"));
    // It may have been answered while this was on its way, so it is no fault.
    assert!(raw.say(Kind::Cancel, ECHO, 6, b""));
    assert!(raw.say(Kind::Message, NOTE, 0, b"note"));
    let (message, reply) = request(&to);
    assert_eq!(message.body, b"five");
    assert!(matches!(to.channel.blocking().recv(Some(LONG)), Ok(Event::Message { .. })));
    assert!(!reply.is_cancelled());
    reply.blocking().reply(message).unwrap();
    let five = Heard { kind: Kind::Reply, method: ECHO, call: 5, body: b"five".to_vec() };
    assert_eq!(raw.heard(), [five]);
    // The same number is free again, and a cancel that comes after its answer is nobody's.
    assert!(raw.say(Kind::Request, ECHO, 5, b"again"));
    assert_eq!(request(&to).0.body, b"again");
    assert_eq!(
        to.channel.blocking().recv(Some(Duration::from_millis(20))).unwrap_err(),
        ChannelError::Timeout
    );
}

#[test]
fn a_cancel_of_the_answering_side_is_a_broken_rule() {
    let plan = calls();
    let from = End::new(&plan, Side::From, 0, 1);
    let mut raw = Raw::join(&from, Side::To, &plan, &plan);
    assert!(raw.say(Kind::Cancel, ECHO, 1, b""));
    match from.channel.blocking().recv(Some(LONG)).unwrap() {
        Event::PeerBroke { why: LinkError::Peer(PeerFault::Direction(Kind::Cancel)), .. } => {}
        other => panic!("{other:?}"),
    }
}
