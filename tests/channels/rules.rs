//! The protocol of a channel's methods: direction, order, how often; held by the receiving end.

use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::channel::{End, LONG, pair, plan};
use cofferdam::channel::fault::MethodRule;
use cofferdam::channel::protocol::Progress;
use cofferdam::channel::{LinkError, PeerFault, Side};
use cofferdam::ipc::message::{CallError, Event, Message, SendError, Violation};
use cofferdam::policy::plan::{ChannelPlan, DescriptorKind, DescriptorPlan};
use cofferdam::wire::record::Kind;
use serde_json::json;

const BEGIN: u16 = 0;
const HELLO: u16 = 1;
const SIGN: u16 = 2;

/// `begin` at most 3 in 300 ms, `hello` once, `sign` after `hello`.
fn ruled() -> ChannelPlan {
    let method = |name| json!({ "name": name, "max": 4096 });
    let mut methods = json!([method("begin"), method("hello"), method("sign")]);
    methods[0]["rate"] = json!({ "count": 3, "per": { "secs": 0, "nanos": 300_000_000 } });
    methods[1]["once"] = json!(true);
    methods[2]["after"] = json!(HELLO);
    plan(&methods, 0, &[])
}

/// Three methods of a channel that carries files: `begin` as the channel says, `hello` none, and
/// `sign` one stream socket.
fn carrying_by_method() -> ChannelPlan {
    let method = |name| json!({ "name": name, "max": 4096 });
    let mut methods = json!([method("begin"), method("hello"), method("sign")]);
    methods[1]["fds"] = json!({ "max": 0, "kinds": [] });
    methods[2]["fds"] = json!({ "max": 1, "kinds": ["Stream"] });
    plan(&methods, 2, &["FileRead"])
}

fn file() -> OwnedFd {
    std::fs::File::open("/proc/self/exe").unwrap().into()
}

fn stream() -> OwnedFd {
    std::os::unix::net::UnixStream::pair().unwrap().0.into()
}

#[test]
fn a_method_carries_the_descriptors_that_it_names() {
    let plan = carrying_by_method();
    let (from, to) = pair(&plan);
    let answers = thread::spawn(move || {
        for _ in 0..2 {
            let Event::Request { message, reply, .. } =
                to.channel.blocking().recv(Some(LONG)).unwrap()
            else {
                panic!()
            };
            assert_eq!(message.fds.len(), 1);
            reply.blocking().reply(Message::default()).unwrap();
        }
    });
    let call = |method: &str, fds: Vec<OwnedFd>| {
        let message = Message { body: vec![], fds };
        from.channel.blocking().call(method).timeout(LONG).send(message)
    };
    for (method, fds, line) in [
        ("hello", vec![file()], "`[channel.test] methods.hello.fds.max`"),
        ("sign", vec![file()], "`[channel.test] methods.sign.fds.kinds`"),
        ("sign", vec![stream(), stream()], "`[channel.test] methods.sign.fds.max`"),
        ("begin", vec![stream()], "`[channel.test] fds.kinds`"),
    ] {
        let error = call(method, fds).unwrap_err().to_string();
        assert!(error.contains(line), "{method}: {error}");
    }
    call("begin", vec![file()]).unwrap();
    call("sign", vec![stream()]).unwrap();
    answers.join().unwrap();
}

/// A peer that has torn off its own rules sends what another method would carry.
#[test]
fn a_descriptor_by_the_wrong_method_ends_the_link() {
    let honest = carrying_by_method();
    let mut lawless = honest.clone();
    for method in &mut lawless.methods {
        let kinds = vec![DescriptorKind::FileRead, DescriptorKind::Stream];
        method.fds = Some(DescriptorPlan { max: 2, kinds });
    }
    for (method, fds) in [
        ("hello", vec![file()]),
        ("sign", vec![file()]),
        ("sign", vec![stream(), stream()]),
        ("begin", vec![stream()]),
    ] {
        let (from, to) = (End::new(&lawless, Side::From, 0, 1), End::new(&honest, Side::To, 0, 1));
        from.join(&to, &honest);
        let receiving = thread::spawn(move || to.channel.blocking().recv(Some(LONG)));
        let message = Message { body: vec![], fds };
        let sent = from.channel.blocking().call(method).timeout(LONG).send(message);
        assert!(
            !matches!(sent, Err(CallError::Policy(_))),
            "{method}: it was to be sent: {sent:?}"
        );
        let refused = receiving.join().unwrap();
        let told = format!("{refused:?}");
        assert!(told.contains("Descriptor"), "{method}: {told}");
    }
}

/// Whether a call of the method passes, at so many milliseconds.
struct Clocked {
    plan: ChannelPlan,
    progress: Progress,
    start: Instant,
}

impl Clocked {
    fn new() -> Self {
        let plan = ruled();
        Self { progress: Progress::new(&plan), plan, start: Instant::now() }
    }

    fn call(&mut self, method: u16, millis: u64) -> Option<MethodRule> {
        let now = self.start + Duration::from_millis(millis);
        match self.progress.admit(&self.plan, Kind::Request, method, || now) {
            Ok(()) => None,
            Err(PeerFault::Protocol { rule, .. }) => Some(rule),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_method_waits_for_the_one_before_it() {
    let mut link = Clocked::new();
    assert_eq!(link.call(SIGN, 0), Some(MethodRule::After));
    assert_eq!(link.call(HELLO, 0), None);
    assert_eq!(link.call(SIGN, 0), None);
    assert_eq!(link.call(SIGN, 0), None);
}

#[test]
fn once_is_once_and_each_link_counts_for_itself() {
    let mut link = Clocked::new();
    assert_eq!((link.call(HELLO, 0), link.call(HELLO, 9_999)), (None, Some(MethodRule::Once)));
    assert_eq!(Clocked::new().call(HELLO, 0), None);
}

#[test]
fn a_rate_allows_its_count_at_once_and_a_steady_stream() {
    let mut link = Clocked::new();
    let burst: Vec<_> = (0..4).map(|_| link.call(BEGIN, 0)).collect();
    assert_eq!(burst, [None, None, None, Some(MethodRule::Rate)]);
    // One in 100 ms is what 3 in 300 ms are.
    assert_eq!(link.call(BEGIN, 99), Some(MethodRule::Rate));
    for at in 1..50 {
        assert_eq!(link.call(BEGIN, at * 100), None, "{at}");
        assert_eq!(link.call(BEGIN, at * 100), Some(MethodRule::Rate), "{at}");
    }
    // A long silence saves up one burst and no more.
    let burst: Vec<_> = (0..4).map(|_| link.call(BEGIN, 1_000_000)).collect();
    assert_eq!(burst, [None, None, None, Some(MethodRule::Rate)]);
    // A clock that goes back gives nothing.
    assert_eq!(link.call(BEGIN, 5), Some(MethodRule::Rate));
}

#[test]
fn what_was_sent_at_its_time_may_gather() {
    let mut link = Clocked::new();
    let start = link.start;
    let at = |millis| start + Duration::from_millis(millis);
    link.progress.nothing_came(|| at(0));
    for _ in 0..3 {
        assert_eq!(link.call(BEGIN, 0), None);
    }
    // The receiver looks at 100 ms, and then not for 900: nine may have been sent, and no more.
    link.progress.nothing_came(|| at(100));
    for _ in 0..10 {
        assert_eq!(link.call(BEGIN, 1_000), None);
    }
    assert_eq!(link.call(BEGIN, 1_000), Some(MethodRule::Rate));
    // If it did look, what was saved is one burst.
    link.progress.nothing_came(|| at(9_000));
    for _ in 0..3 {
        assert_eq!(link.call(BEGIN, 9_000), None);
    }
    assert_eq!(link.call(BEGIN, 9_000), Some(MethodRule::Rate));
}

/// Whoever calls too often by mistake waits for its turn, and is never taken for an attacker, also
/// by a receiver that was away.
#[test]
fn an_honest_sender_waits_for_its_turn() {
    let (from, to) = pair(&ruled());
    let sender = sending(from, &["begin"; 9]);
    // Three at once, and one every 100 ms.
    thread::sleep(Duration::from_millis(450));
    for number in 0..9 {
        let event = to.channel.blocking().recv(Some(LONG)).unwrap();
        assert!(matches!(event, Event::Message { .. }), "{number}: {event:?}");
    }
    drop(to);
    sender.join().unwrap().unwrap();
}

/// The same where the sender has no time to wait.
#[test]
fn a_call_that_would_come_too_early_is_not_executed() {
    let (from, to) = pair(&ruled());
    let answers = thread::spawn(move || {
        while let Ok(Event::Request { reply, .. }) = to.channel.blocking().recv(Some(LONG)) {
            reply.blocking().reply(Message::default()).unwrap();
        }
    });
    let call = |time| from.channel.blocking().call("begin").timeout(time).send(vec![1]);
    for _ in 0..3 {
        call(LONG).unwrap();
    }
    let early = call(Duration::from_millis(10)).unwrap_err();
    assert!(matches!(early, CallError::Deadline { may_have_executed: false }), "{early:?}");
    call(LONG).unwrap();
    drop(from);
    answers.join().unwrap();
}

#[test]
fn answers_are_no_calls() {
    let plan = ruled();
    let mut progress = Progress::new(&plan);
    for kind in [Kind::Reply, Kind::Refusal] {
        assert_eq!(progress.admit(&plan, kind, SIGN, || panic!("no clock")), Ok(()));
    }
}

/// Sends messages of these methods from a thread of its own, as far as the link lets it.
fn sending(end: End, methods: &'static [&'static str]) -> JoinHandle<Result<(), SendError>> {
    thread::spawn(move || {
        let channel = end.channel.blocking();
        for (number, method) in methods.iter().enumerate() {
            // The first one waits for the handshake. Once the link has ended nobody comes back.
            let time = if number == 0 { LONG } else { Duration::from_secs(1) };
            channel.send(method, vec![1], Some(time))?;
        }
        // What was sent stays readable; the end waits for the other one to be done with it.
        let _ = channel.recv(Some(LONG));
        Ok(())
    })
}

/// What ends the link on which these are sent, by a peer that keeps no rate of its own.
fn broken_by(methods: &'static [&'static str]) -> PeerFault {
    let (honest, mut lawless) = (ruled(), ruled());
    for method in &mut lawless.methods {
        method.rate = None;
    }
    let (from, to) = (End::new(&lawless, Side::From, 0, 1), End::new(&honest, Side::To, 0, 1));
    from.join(&to, &honest);
    let sender = sending(from, methods);
    let fault = loop {
        match to.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::Message { .. } => {}
            Event::PeerBroke { why: LinkError::Peer(fault), .. } => break fault,
            other => panic!("{other:?}"),
        }
    };
    drop(to);
    // It may have met the end of the link in the middle.
    let _ = sender.join().unwrap();
    fault
}

#[test]
fn the_receiving_end_ends_the_link_and_names_the_rule() {
    static MANY: [&str; 2000] = ["begin"; 2000];
    let said = |methods| broken_by(methods).to_string();
    assert!(said(&["sign"]).starts_with("[channel.test] methods.sign.after: "));
    assert!(said(&["hello", "sign", "hello"]).starts_with("[channel.test] methods.hello.once: "));
    assert!(said(&MANY).starts_with("[channel.test] methods.begin.rate: "));
}

#[test]
fn a_method_that_goes_back_is_sent_by_the_other_end() {
    let method = json!({ "name": "news", "max": 4096, "direction": "Back" });
    let (from, to) = pair(&plan(&json!([method]), 0, &[]));
    let refused = from.channel.blocking().send("news", vec![1], Some(LONG)).unwrap_err();
    assert!(matches!(refused, SendError::Policy(Violation::Direction { .. })), "{refused}");
    let sender = sending(to, &["news"]);
    let came = from.channel.blocking().recv(Some(LONG));
    assert!(matches!(came, Ok(Event::Message { .. })), "{came:?}");
    drop(from);
    sender.join().unwrap().unwrap();
}

#[test]
fn who_sends_against_the_direction_ends_the_link() {
    // The sender's own policy lets it; the receiver's does not, and only that one counts.
    let method = |way| json!({ "name": "news", "max": 4096, "direction": way });
    let (ours, theirs) =
        (plan(&json!([method("Forth")]), 0, &[]), plan(&json!([method("Back")]), 0, &[]));
    let (from, to) = (End::new(&ours, Side::From, 0, 1), End::new(&theirs, Side::To, 0, 1));
    from.join(&to, &ours);
    let sender = sending(from, &["news"]);
    match to.channel.blocking().recv(Some(LONG)).unwrap() {
        Event::PeerBroke { why: LinkError::Peer(PeerFault::Direction(Kind::Message)), .. } => {}
        other => panic!("{other:?}"),
    }
    drop(to);
    let _ = sender.join().unwrap();
}
