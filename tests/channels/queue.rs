//! Queues under attack by somebody who holds their descriptors: what is forged, altered, replayed
//! or moved is refused and told, and the queue goes on.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cofferdam::confine::Confined;
use cofferdam::ident::{EdgeId, Instance, Name};
use cofferdam::ipc::broker::Broker;
use cofferdam::ipc::queue::{End, Event, Fault, Message, Queue, QueueError, QueueSpec, Refused};
use cofferdam::policy::plan::{Audit, OnFull, QueuePlan};
use cofferdam::report::Desk;
use cofferdam::seal::SealError;
use cofferdam::sys::mqueue;
use cofferdam::sys::secret_page::SecretPage;
use cofferdam::wire::queue::{HEADER, Header, SEALING};
use rustix::fs::{Mode, OFlags};

const DEPTH: u32 = 10;
const MAX: u32 = 64;

/// A queue of the kernel, and what an attacker does with it.
struct Kernel {
    sending: OwnedFd,
    receiving: OwnedFd,
}

impl Kernel {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("/cofferdam-test-{}-{number}", std::process::id());
        let name = CString::new(name).unwrap();
        let size = u64::from(MAX) + SEALING as u64;
        let receiving = mqueue::create(&name, DEPTH.into(), size).unwrap();
        let sending = mqueue::open_to_send(&name).unwrap();
        mqueue::unlink(&name).unwrap();
        rustix::fs::fchmod(&receiving, Mode::empty()).unwrap();
        Self { sending, receiving }
    }

    fn take(&self) -> (Vec<u8>, u32) {
        let mut buffer = vec![0; MAX as usize + SEALING];
        let (length, priority) = mqueue::receive(&self.receiving, &mut buffer).unwrap().unwrap();
        buffer.truncate(length);
        (buffer, priority)
    }

    fn put(&self, message: &[u8], priority: u32) {
        assert!(mqueue::send(&self.sending, message, priority).unwrap());
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn plan() -> QueuePlan {
    QueuePlan {
        name: name("jobs"),
        send: vec![name("a"), name("b")],
        receive: vec![name("r")],
        depth: DEPTH,
        max: MAX,
        priorities: 3,
        on_full: OnFull::Reject,
        audit: Audit::Digest,
    }
}

/// A member; `instance` as in `a/0.g1`.
fn member_of(kernel: &Kernel, plan: QueuePlan, edge: u8, instance: &str) -> Queue {
    let (layer, rest) = instance.split_once('/').unwrap();
    let (index, generation) = rest.split_once(".g").unwrap();
    let own = Instance {
        layer: name(layer),
        index: index.parse().unwrap(),
        generation: generation.parse().unwrap(),
    };
    let (sends, receives) = (plan.send.contains(&own.layer), plan.receive.contains(&own.layer));
    let spec = QueueSpec { number: 0, plan, edge: EdgeId([edge; 32]), own };
    let broker = Arc::new(Broker::new(Arc::new(File::open("/dev/null").unwrap().into())));
    let page = SecretPage::new().unwrap().0;
    let queue = Queue::new(spec, page, broker, &Desk::default(), &Confined::pretend());
    if sends {
        queue.keep_end(End::Send, kernel.sending.try_clone().unwrap());
    }
    if receives {
        queue.keep_end(End::Receive, kernel.receiving.try_clone().unwrap());
    }
    queue
}

fn member(kernel: &Kernel, instance: &str) -> Queue {
    let queue = member_of(kernel, plan(), 1, instance);
    give(&queue, 1, &[1]);
    queue
}

/// Keys, the last of them of epoch `newest`.
fn give(queue: &Queue, newest: u32, keys: &[u8]) {
    let mut file = tempfile::tempfile().unwrap();
    for key in keys {
        file.write_all(&[*key; 32]).unwrap();
    }
    queue.keep_keys(newest, file).unwrap();
}

#[track_caller]
fn body(queue: &Queue) -> Vec<u8> {
    match queue.try_recv().unwrap() {
        Some(Event::Message(Message { body, .. })) => body,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(queue: &Queue) -> Refused {
    match queue.try_recv().unwrap() {
        Some(Event::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_says_who_sent_it() {
    let kernel = Kernel::new();
    member(&kernel, "b/7.g3").try_send(b"hello", 2).unwrap();
    let Some(Event::Message(message)) = member(&kernel, "r/0.g1").try_recv().unwrap() else {
        panic!("no message")
    };
    assert_eq!(message.from.to_string(), "b/7.g3");
    assert_eq!((message.priority, message.epoch, &*message.body), (2, 1, &b"hello"[..]));
}

#[test]
fn the_kernel_holds_no_clear_text() {
    let kernel = Kernel::new();
    member(&kernel, "a/0.g1").try_send(b"a secret of some length", 0).unwrap();
    let (message, _) = kernel.take();
    assert_eq!(message.len(), 23 + SEALING);
    assert!(!message.windows(6).any(|part| part == b"secret"));
}

#[test]
fn every_altered_byte_is_noticed() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    sender.try_send(b"body", 1).unwrap();
    let (message, priority) = kernel.take();
    for place in 0..message.len() {
        let mut altered = message.clone();
        altered[place] ^= 1;
        kernel.put(&altered, priority);
        let why = refused(&receiver).why;
        let expected = match place {
            0 => vec![Fault::Version],
            // Another layer: the other sender, or none.
            2 | 3 => vec![Fault::NotAuthentic, Fault::Sender],
            4..8 => vec![Fault::Epoch],
            _ => vec![Fault::NotAuthentic],
        };
        assert!(expected.contains(&why), "byte {place}: {why:?}");
    }
    kernel.put(&message, priority);
    assert_eq!(body(&receiver), b"body");
}

#[test]
fn what_is_cut_is_noticed() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    sender.try_send(b"body", 0).unwrap();
    let (message, _) = kernel.take();
    for length in 0..message.len() {
        kernel.put(&message[..length], 0);
        match refused(&receiver).why {
            Fault::Torn(bytes) => assert!(bytes == length && length < SEALING),
            Fault::NotAuthentic => assert!(length >= SEALING),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_replayed_message_is_refused_and_named() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    sender.try_send(b"once", 0).unwrap();
    let (message, _) = kernel.take();
    kernel.put(&message, 0);
    kernel.put(&message, 0);
    assert_eq!(body(&receiver), b"once");
    let refused = refused(&receiver);
    assert_eq!(refused.why, Fault::Replayed);
    let claim = refused.claim.unwrap();
    assert_eq!((claim.from.unwrap().to_string(), claim.number), ("a/0.g1".to_owned(), 0));
    assert!(receiver.try_recv().unwrap().is_none());
}

#[test]
fn a_message_that_was_held_back_is_refused() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    sender.try_send(b"first", 0).unwrap();
    let (held, _) = kernel.take();
    sender.try_send(b"second", 0).unwrap();
    assert_eq!(body(&receiver), b"second");
    kernel.put(&held, 0);
    assert_eq!(refused(&receiver).why, Fault::Replayed);
}

#[test]
fn priorities_do_not_make_messages_old() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    sender.try_send(b"low", 0).unwrap();
    for _ in 0..5_000 {
        sender.try_send(b"high", 1).unwrap();
        assert_eq!(body(&receiver), b"high");
    }
    assert_eq!(body(&receiver), b"low");
}

#[test]
fn a_message_does_not_change_its_priority() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    sender.try_send(b"low", 0).unwrap();
    let (message, _) = kernel.take();
    kernel.put(&message, 2);
    assert_eq!(refused(&receiver).why, Fault::Priority { delivered: 2 });
    kernel.put(&message, 0);
    assert_eq!(body(&receiver), b"low");
}

#[test]
fn no_key_of_another_queue_edge_or_epoch_opens() {
    let kernel = Kernel::new();
    let receiver = member(&kernel, "r/0.g1");
    let other_queue = QueuePlan { name: name("other"), ..plan() };
    let strangers =
        [member_of(&kernel, other_queue, 1, "a/0.g1"), member_of(&kernel, plan(), 2, "a/0.g1")];
    for stranger in strangers {
        give(&stranger, 1, &[1]);
        stranger.try_send(b"mine", 0).unwrap();
        assert_eq!(refused(&receiver).why, Fault::NotAuthentic);
    }
    let guesser = member_of(&kernel, plan(), 1, "a/0.g1");
    give(&guesser, 1, &[2]);
    guesser.try_send(b"guessed", 0).unwrap();
    assert_eq!(refused(&receiver).why, Fault::NotAuthentic);
    // An epoch that lies ahead, and one that is no epoch.
    give(&guesser, 2, &[1]);
    guesser.try_send(b"ahead", 0).unwrap();
    assert_eq!(refused(&receiver).why, Fault::Epoch);
}

#[test]
fn a_former_members_key_opens_nothing_new() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g2"));
    let former = member(&kernel, "r/0.g1");
    sender.try_send(b"before", 0).unwrap();
    give(&receiver, 2, &[1, 2]);
    give(&sender, 2, &[2]);
    sender.try_send(b"after", 0).unwrap();
    // Accepted before: still opened.
    assert_eq!(body(&receiver), b"before");
    let (message, _) = kernel.take();
    kernel.put(&message, 0);
    assert_eq!(refused(&former).why, Fault::Epoch);
    // Nor with the new number on it.
    let mut header = Header::decode(message.first_chunk().unwrap()).unwrap();
    header.epoch = 1;
    let renamed = [&header.encode()[..], &message[HEADER..]].concat();
    kernel.put(&renamed, 0);
    assert_eq!(refused(&former).why, Fault::NotAuthentic);
    kernel.put(&message, 0);
    assert_eq!(body(&receiver), b"after");
}

#[test]
fn no_nonce_is_used_twice() {
    let kernel = Kernel::new();
    let receiver = member(&kernel, "r/0.g1");
    let mut seen = std::collections::BTreeSet::new();
    let mut bodies = std::collections::BTreeSet::new();
    for instance in ["a/0.g1", "a/1.g1", "a/0.g2", "b/0.g1"] {
        let sender = member(&kernel, instance);
        for round in 0..4 {
            if round == 2 {
                give(&sender, 2, &[2]);
            }
            sender.try_send([0; 32], round % 3).unwrap();
            let (message, _) = kernel.take();
            let header = Header::decode(message.first_chunk().unwrap()).unwrap();
            assert!(seen.insert((header.sender, header.epoch, header.number)));
            // The same clear text under the same key stream would look the same.
            assert!(bodies.insert(message[HEADER..HEADER + 32].to_vec()));
        }
    }
    assert!(receiver.try_recv().unwrap().is_none());
}

#[test]
fn a_fork_uses_no_key_and_no_number() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    sender.try_send(b"before", 0).unwrap();
    // SAFETY: the child calls a library whose locks nobody holds, and ends without unwinding.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let sent = sender.try_send(b"a fork's", 0);
        let taken = receiver.try_recv();
        let refused = matches!(sent, Err(QueueError::Seal(SealError::Copy)))
            && matches!(taken, Err(QueueError::Seal(SealError::Copy)));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = 0;
    // SAFETY: the status is ours to be written.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the fork was let do something");
    sender.try_send(b"after", 0).unwrap();
    assert_eq!([body(&receiver), body(&receiver)], [&b"before"[..], b"after"]);
    assert!(receiver.try_recv().unwrap().is_none());
}

#[test]
fn a_full_queue_uses_up_numbers_and_loses_nothing() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    for number in 0..DEPTH {
        sender.try_send([u8::try_from(number).unwrap()], 0).unwrap();
    }
    for _ in 0..3 {
        assert!(matches!(sender.try_send(b"no", 0), Err(QueueError::Full { depth: DEPTH, .. })));
    }
    for number in 0..DEPTH {
        assert_eq!(body(&receiver), [u8::try_from(number).unwrap()]);
    }
    sender.try_send(b"again", 0).unwrap();
    assert_eq!(body(&receiver), b"again");
}

#[test]
fn thousands_of_senders_cost_bounded_memory_and_are_all_heard() {
    let kernel = Kernel::new();
    let receiver = member(&kernel, "r/0.g1");
    for generation in 1..=2_000 {
        let sender = member(&kernel, &format!("a/0.g{generation}"));
        sender.try_send(b"first words", 0).unwrap();
        assert_eq!(body(&receiver), b"first words");
    }
}

#[test]
fn nothing_is_gained_by_the_flags_of_a_shared_descriptor() {
    let kernel = Kernel::new();
    let receiver = member(&kernel, "r/0.g1").blocking();
    for flags in [OFlags::NONBLOCK, OFlags::empty()] {
        // Another holder of the same open queue.
        let other = kernel.receiving.try_clone().unwrap();
        rustix::fs::fcntl_setfl(&other, flags).unwrap();
        let nothing = receiver.recv(Some(Duration::from_millis(20)));
        assert!(matches!(nothing, Err(QueueError::Nothing)), "{nothing:?}");
        let _ = rustix::fs::seek(&other, rustix::fs::SeekFrom::Start(7));
        member(&kernel, "a/0.g1").try_send(b"x", 0).unwrap();
        assert!(matches!(receiver.recv(None), Ok(Event::Message(_) | Event::Refused(_))));
    }
}

#[test]
fn descriptors_go_one_way_and_open_nothing_more() {
    let kernel = Kernel::new();
    let bad = Some(libc::EBADF);
    let sent = mqueue::send(&kernel.receiving, b"x", 0);
    assert_eq!(sent.unwrap_err().raw_os_error(), bad);
    let received = mqueue::receive(&kernel.sending, &mut [0; 256]);
    assert_eq!(received.unwrap_err().raw_os_error(), bad);
    kernel.put(b"held", 0);
    for fd in [&kernel.sending, &kernel.receiving] {
        // The kernel changes a size that means nothing to a queue; a layer isn't let do even that.
        let _ = rustix::fs::ftruncate(fd, 0);
        assert!(rustix::io::write(fd, b"x").is_err());
        // Root in its own right opens what it likes; layers have no capability, and no /proc.
        if !rustix::process::geteuid().is_root() {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            assert!(rustix::fs::open(path, OFlags::RDWR, Mode::empty()).is_err());
        }
    }
    assert_eq!(kernel.take(), (b"held".to_vec(), 0));
}

#[tokio::test(flavor = "current_thread")]
async fn a_receiver_that_gives_up_takes_nothing() {
    let kernel = Kernel::new();
    let (sender, receiver) = (member(&kernel, "a/0.g1"), member(&kernel, "r/0.g1"));
    for _ in 0..50 {
        let nothing = receiver.recv_timeout(Duration::from_micros(200)).await;
        assert!(matches!(nothing, Err(QueueError::Nothing)), "{nothing:?}");
        let waiting = receiver.recv();
        let (event, sent) = tokio::join!(waiting, sender.send(b"x", 0));
        sent.unwrap();
        assert!(matches!(event, Ok(Event::Message(_))), "{event:?}");
    }
}
