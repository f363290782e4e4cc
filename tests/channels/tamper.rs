//! A relay between two ends that changes what passes: every change must be refused, nothing of
//! it delivered, and the link ended; without a change everything passes.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::support::channel::{End, LONG, alone, carrying, open_descriptors, plain};
use cofferdam::channel::{LinkError, PeerFault, Side};
use cofferdam::ipc::message::{Event, Message};
use cofferdam::policy::plan::ChannelPlan;
use cofferdam::seal::handshake::MESSAGE;
use cofferdam::wire::limits::RECORD;
use cofferdam::wire::record::HEADER;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
};

/// What passes: bytes and descriptors.
#[derive(Debug)]
struct Datagram {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// Two ends, joined by way of the relay's two sockets.
struct Relay {
    from: End,
    to: End,
    near: OwnedFd,
    far: OwnedFd,
}

fn raw_pair() -> (OwnedFd, OwnedFd) {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).unwrap()
}

fn take(socket: &OwnedFd) -> Datagram {
    let mut bytes = vec![0; RECORD + 1];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    bytes.truncate(got.bytes);
    Datagram { bytes, fds }
}

fn put(socket: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

impl Relay {
    /// Brings both ends together; `change` sees the two handshake messages pass.
    fn with_handshake(plan: &ChannelPlan, mut change: impl FnMut(usize, &mut Vec<u8>)) -> Self {
        let (from, to) = (End::new(plan, Side::From, 0, 1), End::new(plan, Side::To, 0, 1));
        let (ours, near) = raw_pair();
        let (theirs, far) = raw_pair();
        from.join_over(&to, ours, theirs);
        let mut first = take(&near);
        change(0, &mut first.bytes);
        put(&far, &first.bytes, &first.fds);
        let relay = Self { from, to, near, far };
        relay.to.channel.try_recv().into_iter().for_each(|event| relay.broke(&event));
        if !relay.to.channel.peers().is_empty() {
            let mut second = take(&relay.far);
            change(1, &mut second.bytes);
            put(&relay.near, &second.bytes, &second.fds);
        }
        relay
    }

    fn new(plan: &ChannelPlan) -> Self {
        let relay = Self::with_handshake(plan, |_, _| ());
        relay.from.channel.blocking().wait_for_peer(Some(LONG)).unwrap();
        relay
    }

    /// Sends from the near end and takes what comes out of it.
    fn sent(&self, body: &[u8], fds: Vec<OwnedFd>) -> Datagram {
        let message = Message { body: body.to_vec(), fds };
        self.from.channel.blocking().send("", message, Some(LONG)).unwrap();
        take(&self.near)
    }

    fn pass(&self, datagram: &Datagram) {
        put(&self.far, &datagram.bytes, &datagram.fds);
    }

    fn delivered(&self) -> Message {
        match self.to.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::Message { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    /// The far end has delivered nothing, says what the peer did, and has ended the link.
    fn refused(&self) -> PeerFault {
        let event = self.to.channel.blocking().recv(Some(LONG)).unwrap();
        self.broke(&event);
        assert!(self.to.channel.peers().is_empty());
        assert!(self.to.channel.try_recv().is_none());
        let Event::PeerBroke { why: LinkError::Peer(fault), .. } = event else { unreachable!() };
        fault
    }

    fn broke(&self, event: &Event) {
        match event {
            Event::PeerBroke { peer, why: LinkError::Peer(_) } => assert_eq!(*peer, self.from.own),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn untouched_records_pass() {
    let relay = Relay::new(&plain());
    for n in 0..20_u8 {
        relay.pass(&relay.sent(&[n; 33], vec![]));
        assert_eq!(relay.delivered().body, [n; 33]);
    }
    let file = File::open("/proc/self/exe").unwrap();
    let relay = Relay::new(&carrying(&["FileRead"]));
    for n in 0..20_u8 {
        relay.pass(&relay.sent(&[n; 33], vec![file.try_clone().unwrap().into()]));
        assert_eq!(relay.delivered().fds.len(), 1);
    }
}

#[test]
fn a_flip_of_any_byte_of_a_record_is_refused() {
    let length = Relay::new(&plain()).sent(b"secret", vec![]).bytes.len();
    assert_eq!(length, HEADER + 4 + 6 + 16);
    for place in 0..length {
        for bit in [0x01, 0x80] {
            let relay = Relay::new(&plain());
            let mut datagram = relay.sent(b"secret", vec![]);
            datagram.bytes[place] ^= bit;
            relay.pass(&datagram);
            relay.refused();
        }
    }
}

#[test]
fn a_flip_of_any_byte_of_either_handshake_message_is_refused() {
    for message in 0..2 {
        for place in 0..HEADER + MESSAGE {
            let relay = Relay::with_handshake(&plain(), |which, bytes| {
                if which == message {
                    bytes[place] ^= 0x10;
                }
            });
            assert!(relay.from.channel.try_recv().is_none_or(|event| matches!(
                event,
                Event::PeerBroke { why: LinkError::Peer(_), .. }
            )));
            assert!(relay.from.channel.peers().is_empty(), "byte {place} of message {message}");
        }
    }
}

#[test]
fn dropped_repeated_and_swapped_records_are_refused() {
    let relay = Relay::new(&plain());
    let _dropped = relay.sent(b"one", vec![]);
    relay.pass(&relay.sent(b"two", vec![]));
    assert!(relay.refused().to_string().contains("record 1 came where 0 was due"));

    let relay = Relay::new(&plain());
    let once = relay.sent(b"one", vec![]);
    relay.pass(&once);
    assert_eq!(relay.delivered().body, b"one");
    relay.pass(&once);
    relay.refused();

    let relay = Relay::new(&plain());
    let (one, two) = (relay.sent(b"one", vec![]), relay.sent(b"two", vec![]));
    relay.pass(&two);
    relay.pass(&one);
    relay.refused();

    // With its number rewritten, a repeated or later record is no better.
    for number in [0_u8, 1] {
        let relay = Relay::new(&plain());
        let (one, two) = (relay.sent(b"one", vec![]), relay.sent(b"two", vec![]));
        let (first, second) = if number == 0 { (two, one) } else { (one, two) };
        let mut first = first;
        first.bytes[8] = 0;
        relay.pass(&first);
        if number == 1 {
            assert_eq!(relay.delivered().body, b"one");
            let mut again = first;
            again.bytes[8] = 1;
            relay.pass(&again);
        }
        drop(second);
        relay.refused();
    }
}

#[test]
fn records_from_another_channel_or_direction_are_refused() {
    let (relay, other) = (Relay::new(&plain()), Relay::new(&plain()));
    relay.pass(&other.sent(b"spliced", vec![]));
    relay.refused();

    let relay = Relay::new(&plain());
    relay.to.channel.blocking().send("", b"up".as_slice(), Some(LONG)).unwrap();
    let reflected = take(&relay.far);
    relay.pass(&reflected);
    relay.refused();

    // A handshake message once more, in the place of a record.
    let mut replayed = Vec::new();
    let relay = Relay::with_handshake(&plain(), |which, bytes| {
        if which == 0 {
            replayed.clone_from(bytes);
        }
    });
    put(&relay.far, &replayed, &[]);
    relay.refused();
}

#[test]
fn truncated_extended_oversize_and_empty_datagrams_are_refused() {
    let length = Relay::new(&plain()).sent(b"secret", vec![]).bytes.len();
    for keep in 0..length {
        let relay = Relay::new(&plain());
        let datagram = relay.sent(b"secret", vec![]);
        put(&relay.far, &datagram.bytes[..keep], &[]);
        let fault = relay.refused();
        assert!(keep != 0 || fault == PeerFault::Empty, "{fault}");
    }
    let relay = Relay::new(&plain());
    let mut datagram = relay.sent(b"secret", vec![]);
    datagram.bytes.push(0);
    relay.pass(&datagram);
    relay.refused();

    let relay = Relay::new(&plain());
    put(&relay.far, &vec![1; RECORD + 1], &[]);
    assert_eq!(relay.refused(), PeerFault::Oversize);
}

#[test]
fn small_messages_share_a_record_and_a_flip_of_any_of_its_bytes_is_refused() {
    let burst = |relay: &Relay| {
        let channel = relay.from.channel.blocking();
        channel.send_all("", (0..40_u8).map(|n| vec![n; 5]), Some(LONG)).unwrap();
        [take(&relay.near), take(&relay.near)]
    };
    let relay = Relay::new(&plain());
    for record in burst(&relay) {
        relay.pass(&record);
    }
    for n in 0..40_u8 {
        assert_eq!(relay.delivered().body, [n; 5]);
    }
    // The first went at once and alone; the other 39 went together.
    let length = burst(&Relay::new(&plain()))[1].bytes.len();
    assert_eq!(length, HEADER + 39 * (12 + 5) + 16);
    for place in (0..length).step_by(7) {
        let relay = Relay::new(&plain());
        let [first, mut batch] = burst(&relay);
        batch.bytes[place] ^= 4;
        relay.pass(&first);
        relay.pass(&batch);
        assert_eq!(relay.delivered().body, [0; 5]);
        relay.refused();
    }
}

#[test]
fn a_message_in_pieces_admits_no_change_to_the_pieces() {
    let body = vec![5; 200_000];
    let pieces = |relay: &Relay| {
        let channel = relay.from.channel.clone();
        let body = body.clone();
        let thread = std::thread::spawn(move || channel.blocking().send("", body, Some(LONG)));
        let mut pieces = Vec::new();
        while pieces.len() < 4 {
            let ready = rustix::event::PollFd::new(&relay.near, rustix::event::PollFlags::IN);
            rustix::event::poll(&mut [ready], None).unwrap();
            pieces.push(take(&relay.near));
        }
        thread.join().unwrap().unwrap();
        pieces
    };
    let relay = Relay::new(&plain());
    for piece in pieces(&relay) {
        relay.pass(&piece);
    }
    assert_eq!(relay.delivered().body, body);
    for left_out in 0..4 {
        let relay = Relay::new(&plain());
        let mut pieces = pieces(&relay);
        pieces.remove(left_out);
        let last = relay.sent(b"after", vec![]);
        pieces.iter().chain([&last]).for_each(|piece| put_quietly(&relay.far, piece));
        relay.refused();
    }
}

/// The far end may have closed already.
fn put_quietly(socket: &OwnedFd, datagram: &Datagram) {
    let mut control = SendAncillaryBuffer::default();
    let _ = sendmsg(socket, &[IoSlice::new(&datagram.bytes)], &mut control, SendFlags::NOSIGNAL);
}

type Change<'a> = Box<dyn Fn(&mut Vec<OwnedFd>) + 'a>;

#[test]
fn added_removed_replaced_and_reordered_descriptors_are_refused() {
    if alone(module_path!(), "added_removed_replaced_and_reordered_descriptors_are_refused") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| -> OwnedFd {
        let path = dir.path().join(name);
        std::fs::write(&path, name).unwrap();
        File::open(path).unwrap().into()
    };
    let writable = || -> OwnedFd {
        File::options().read(true).write(true).open(dir.path().join("a")).unwrap().into()
    };
    let plan = carrying(&["FileRead"]);
    let changes: Vec<(&str, Change<'_>)> = vec![
        ("removed", Box::new(|fds| drop(fds.pop()))),
        ("all removed", Box::new(Vec::clear)),
        ("added", Box::new(|fds| fds.push(file("c")))),
        ("too many added", Box::new(|fds| fds.extend((0..250).map(|_| file("c"))))),
        ("replaced", Box::new(|fds| fds[1] = file("c"))),
        ("replaced by more rights", Box::new(|fds| fds[0] = writable())),
        ("replaced by a directory", Box::new(|fds| fds[0] = File::open("/").unwrap().into())),
        ("replaced by a socket", Box::new(|fds| fds[0] = raw_pair().0)),
        ("reordered", Box::new(|fds| fds.swap(0, 1))),
    ];
    let before = open_descriptors();
    for (what, change) in changes {
        let relay = Relay::new(&plan);
        let mut datagram = relay.sent(b"two files", vec![file("a"), file("b")]);
        change(&mut datagram.fds);
        relay.pass(&datagram);
        let fault = relay.refused();
        let descriptors = matches!(
            fault,
            PeerFault::DescriptorsCut
                | PeerFault::DescriptorCount { .. }
                | PeerFault::Descriptor { .. }
        );
        assert!(descriptors, "{what}: {fault}");
    }
    assert_eq!(open_descriptors(), before, "descriptors are left open");
}

#[test]
fn descriptors_where_the_policy_allows_none_are_refused_and_never_installed() {
    if alone(
        module_path!(),
        "descriptors_where_the_policy_allows_none_are_refused_and_never_installed",
    ) {
        return;
    }
    for count in [1, 2, 253] {
        let relay = Relay::new(&plain());
        let mut datagram = relay.sent(b"plain", vec![]);
        let file: OwnedFd = File::open("/proc/self/exe").unwrap().into();
        datagram.fds = (0..count).map(|_| file.try_clone().unwrap()).collect();
        let before = open_descriptors();
        relay.pass(&datagram);
        assert_eq!(relay.refused(), PeerFault::DescriptorsCut);
        assert!(open_descriptors() < before, "the link's own end is closed, and nothing opened");
    }
}

#[test]
fn the_kernel_refuses_descriptors_on_the_supervisors_socketpairs_where_it_can() {
    let (one, other) = cofferdam::channel::socketpair(&plain()).unwrap();
    if !cofferdam::sys::socket::refuse_descriptors(&other).unwrap() {
        return;
    }
    let file = File::open("/proc/self/exe").unwrap();
    let rights = [file.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    let sent = sendmsg(&one, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL);
    assert_eq!(sent.unwrap_err(), rustix::io::Errno::PERM);
}

#[test]
fn ten_thousand_bad_messages_leave_no_descriptor_and_no_panic() {
    if alone(module_path!(), "ten_thousand_bad_messages_leave_no_descriptor_and_no_panic") {
        return;
    }
    let plan = carrying(&["FileRead"]);
    let file: OwnedFd = File::open("/proc/self/exe").unwrap().into();
    let to = End::new(&plan, Side::To, 0, 1);
    let before = open_descriptors();
    for round in 0..10_000_u64 {
        let (socket, hostile) = raw_pair();
        let peer = crate::support::channel::instance("caller", 0, round + 1);
        to.channel.introduce(peer, to.key, socket).unwrap();
        let fds: Vec<_> = (0..round % 20).map(|_| file.try_clone().unwrap()).collect();
        put(&hostile, &vec![round as u8; (round % 200) as usize], &fds);
        drop(fds);
        match to.channel.blocking().recv(Some(LONG)).unwrap() {
            Event::PeerBroke { why: LinkError::Peer(_), .. } => {}
            other => panic!("round {round}: {other:?}"),
        }
    }
    assert_eq!(open_descriptors(), before);
}

#[test]
fn arbitrary_datagrams_before_and_after_the_handshake_only_end_the_link() {
    let mut runner = TestRunner::new(Config::with_cases(200));
    let datagram = (any::<bool>(), prop::collection::vec(any::<u8>(), 1..300), any::<bool>());
    runner
        .run(&datagram, |(met, mut bytes, plausible)| {
            if plausible {
                // Past the first checks of a header, into what lies behind.
                bytes[0] = 1;
                if bytes.len() > 16 {
                    bytes[1] = bytes[1] % 6 + 1;
                    bytes[4..16].fill(0);
                }
            }
            let relay = if met {
                Relay::new(&plain())
            } else {
                Relay::with_handshake(&plain(), |which, message| {
                    if which == 0 {
                        message.clone_from(&bytes);
                    }
                })
            };
            if met {
                put(&relay.far, &bytes, &[]);
                relay.refused();
            }
            prop_assert!(relay.to.channel.peers().is_empty());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_peer_that_says_nothing_holds_nothing_up() {
    let plan = plain();
    let (from, quiet) = (End::new(&plan, Side::From, 0, 1), End::new(&plan, Side::To, 0, 1));
    let good = End::new(&plan, Side::To, 1, 1);
    let (ours, _theirs) = raw_pair();
    from.channel.introduce(quiet.own, quiet.key, ours).unwrap();
    from.join(&good, &plan);
    from.channel.blocking().send("", b"hello".as_slice(), Some(LONG)).unwrap();
    let got = good.channel.blocking().recv(Some(LONG)).unwrap();
    assert!(matches!(got, Event::Message { .. }));
    let none = from.channel.blocking().recv(Some(Duration::from_millis(10)));
    assert!(none.is_err());
}
