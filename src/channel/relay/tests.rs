use std::os::fd::AsFd;

use rustix::fs::SealFlags;

use super::*;
use crate::ident::Name;
use crate::policy::plan::LogFull;
use crate::report::{Desk, Facility, Reporter};
use crate::ring::Consumer;
use crate::seal::handshake::MESSAGE;
use crate::sys::mapping::Mapping;
use crate::wire::limits::RECORD;
use crate::wire::record::{HEADER, Kind};
use crate::wire::report::Report;

const RING: usize = 1 << 20;

fn who(layer: u16) -> Who {
    Who { layer, copy: 0, generation: 1 }
}

/// A relay between two outer ends, and what it reports.
struct Trial {
    outer: [OwnedFd; 2],
    relay: Relay,
    buffer: Buffer,
    ring: Mapping,
    consumer: Consumer,
}

impl Trial {
    fn new(fds: u8) -> Self {
        let memory = crate::sys::memory::create("test").unwrap();
        rustix::fs::ftruncate(&memory, RING as u64).unwrap();
        rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        let ring = Mapping::sealed(memory.as_fd(), RING, true).unwrap();
        let reporter = Reporter::new(memory.as_fd(), RING, LogFull::Count).unwrap();
        let layers = ["a", "b"].map(|name| Name::new(name).unwrap()).to_vec();
        let desk = Desk::open(reporter, layers, None);
        let tap = desk.tap(Facility::Channel, 3, crate::policy::plan::Audit::Digest).unwrap();
        let (a, near) = pair();
        let (b, far) = pair();
        let ends = [End::new(near, who(0)), End::new(far, who(1))];
        Self {
            outer: [a, b],
            relay: Relay::new(ends, fds, tap, 1 << 48),
            buffer: Relay::buffer(),
            consumer: Consumer::resume(&ring),
            ring,
        }
    }

    fn send(&self, end: usize, bytes: &[u8], fds: &[OwnedFd]) -> bool {
        send_record(&self.outer[end], bytes, fds).unwrap()
    }

    fn pass(&mut self, end: usize) -> Passed {
        self.relay.pass(end, &mut self.buffer)
    }

    /// What an outer end has got, with how many descriptors.
    fn got(&self, end: usize) -> Result<Option<(Vec<u8>, usize)>, LinkError> {
        let mut buffer = Buffer::oversize();
        let raw = buffer.receive_raw(&self.outer[end], 4)?;
        Ok(raw.map(|raw| (buffer.bytes(raw.length).to_vec(), raw.fds.len())))
    }

    /// The next report: (form, sequence, length, descriptors, peer's layer).
    fn told(&mut self) -> Option<(Form, u64, u64, u8, u16)> {
        let mut bytes = Vec::new();
        self.consumer.receive(&self.ring, &mut bytes).unwrap().then(|| {
            let facts = Report::decode(&bytes).unwrap().head.facts;
            assert_eq!((facts.side, facts.edge), (Side::Witness, 3));
            let Facts { form, sequence, length, descriptors, peer, .. } = facts;
            (form, sequence, length, descriptors, peer.layer)
        })
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

fn record(kind: Kind, sequence: u64, more: bool, length: usize) -> Vec<u8> {
    let descriptors = 0;
    let head = Head { descriptors, more, ..Head::bare(kind, sequence) };
    let mut bytes = head.encode().to_vec();
    bytes.resize(length, 7);
    bytes
}

#[test]
fn the_first_datagram_alone_may_be_a_handshake() {
    let mut trial = Trial::new(0);
    let handshake = record(Kind::Handshake, 0, false, HEADER + MESSAGE);
    for _ in 0..2 {
        trial.send(0, &handshake, &[]);
        assert_eq!(trial.pass(0), Passed::Progress);
        assert_eq!(trial.got(1).unwrap().unwrap().0, handshake);
    }
    let length = handshake.len() as u64;
    assert_eq!(trial.told(), Some((Form::None, 1 << 48, length, 0, 0)));
    assert_eq!(trial.told(), None);
    // Nor is one that looks like one, and says more.
    trial.send(1, &record(Kind::Handshake, 0, false, HEADER + MESSAGE + 1), &[]);
    assert_eq!(trial.pass(1), Passed::Progress);
    assert!(trial.told().is_some());
}

#[test]
fn pieces_are_told_by_the_record_before() {
    let mut trial = Trial::new(0);
    for (n, (kind, more)) in [
        (Kind::Request, true),
        (Kind::Request, true),
        (Kind::Request, false),
        (Kind::Batch, false),
        (Kind::Cancel, false),
    ]
    .into_iter()
    .enumerate()
    {
        trial.send(1, &record(kind, n as u64, more, 100), &[]);
        assert_eq!(trial.pass(1), Passed::Progress);
    }
    let forms: Vec<_> = std::iter::from_fn(|| trial.told()).map(|told| told.0).collect();
    assert_eq!(forms, [Form::Request, Form::Piece, Form::Piece, Form::Batch, Form::Cancel]);
}

#[test]
fn what_breaks_the_rules_goes_on_and_still_breaks_them() {
    let mut trial = Trial::new(0);
    trial.send(0, &[], &[]);
    assert_eq!(trial.pass(0), Passed::Progress);
    trial.send(0, b"nonsense", &[]);
    assert_eq!(trial.pass(0), Passed::Progress);
    trial.send(0, &record(Kind::Message, 2, false, RECORD + 1000), &[]);
    assert_eq!(trial.pass(0), Passed::Progress);
    assert_eq!(trial.told(), Some((Form::None, 1 << 48, 0, 0, 0)));
    assert_eq!(trial.told(), Some((Form::None, (1 << 48) + 1, 8, 0, 0)));
    assert_eq!(trial.told().unwrap().2, RECORD as u64 + 1);
    let mut buffer = Buffer::default();
    for fault in ["an empty datagram", "", "a datagram is longer"] {
        match buffer.receive(&trial.outer[1], 0) {
            Err(error) => assert!(error.to_string().contains(fault), "{error}"),
            Ok(received) => assert_eq!(received.unwrap().bytes, b"nonsense"),
        }
    }
}

#[test]
fn descriptors_go_along_and_none_stays() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut trial = Trial::new(4);
    let (one, two) = pair();
    let ours = [one, two];
    for n in 0..1000 {
        trial.send(0, &record(Kind::Message, n, false, 50), &ours);
        assert_eq!(trial.pass(0), Passed::Progress);
        assert_eq!(trial.told().unwrap().3, 2);
        assert_eq!(trial.got(1).unwrap().unwrap().1, 2);
    }
    // Only other tests may hold some now; a thousand would be seen.
    assert!(count() < 600);
    // What the plan doesn't allow is not even taken out of the socket.
    let mut bare = Trial::new(0);
    bare.send(0, &record(Kind::Message, 0, false, 50), &ours);
    assert_eq!(bare.pass(0), Passed::Progress);
    assert_eq!(bare.told().unwrap().3, 0);
    assert_eq!(bare.got(1).unwrap().unwrap().1, 0);
}

#[test]
fn a_full_end_holds_up_the_other_and_loses_nothing() {
    let mut trial = Trial::new(0);
    let (mut sent, mut passed) = (0, 0);
    loop {
        let went = trial.send(0, &record(Kind::Message, sent, false, 30_000), &[]);
        sent += u64::from(went);
        match trial.pass(0) {
            Passed::Progress => passed += 1,
            Passed::Nothing if !went => break,
            other => assert_eq!(other, Passed::Nothing),
        }
    }
    assert!(passed > 0 && passed < sent);
    // One waits here, and for nothing but room.
    assert_eq!(trial.relay.interest(0).1, PollFlags::empty());
    assert_eq!(trial.relay.interest(1).1, PollFlags::IN | PollFlags::OUT);
    // The other direction goes on.
    trial.send(1, b"back", &[]);
    assert_eq!(trial.pass(1), Passed::Progress);
    assert_eq!(trial.got(0).unwrap().unwrap().0, b"back");
    // The end comes behind everything.
    trial.outer[0] = pair().0;
    let mut came = 0;
    loop {
        let over = trial.pass(0) == Passed::Over;
        while let Some((bytes, _)) = trial.got(1).unwrap() {
            assert_eq!(Head::decode(&bytes).unwrap().sequence, came);
            came += 1;
        }
        if over {
            break;
        }
    }
    assert_eq!(came, sent);
    drop(trial.relay);
    let mut buffer = Buffer::default();
    assert!(matches!(buffer.receive(&trial.outer[1], 0), Err(LinkError::Closed)));
}

#[test]
fn who_takes_nothing_more_is_told_of_and_still_heard() {
    let mut trial = Trial::new(0);
    trial.send(1, b"last words", &[]);
    shutdown(&trial.outer[1], Shutdown::Read).unwrap();
    trial.send(0, b"too late", &[]);
    assert_eq!(trial.pass(0), Passed::Nothing);
    assert_eq!(send_record(&trial.outer[0], b"more", &[]), Err(LinkError::Closed));
    assert_eq!(trial.relay.interest(0).1, PollFlags::empty());
    assert_eq!(trial.pass(1), Passed::Progress);
    assert_eq!(trial.got(0).unwrap().unwrap().0, b"last words");
    // Once neither takes anything, it is over.
    shutdown(&trial.outer[0], Shutdown::Read).unwrap();
    trial.send(1, b"nobody hears", &[]);
    assert_eq!(trial.pass(1), Passed::Over);
}

#[test]
fn a_dead_end_whose_socket_somebody_holds_is_over_all_the_same() {
    let mut trial = Trial::new(0);
    let kept = trial.outer[0].try_clone().unwrap();
    trial.send(0, b"one", &[]);
    trial.relay.departed(who(7));
    assert_eq!(trial.pass(1), Passed::Nothing);
    trial.relay.departed(who(0));
    assert_eq!(trial.pass(0), Passed::Progress);
    assert_eq!(trial.pass(0), Passed::Over);
    drop(kept);
}
