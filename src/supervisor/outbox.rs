//! What a layer has still to be told: messages that its control socket had no room for.
//!
//! A layer that is busy for a moment is no broken layer. What it doesn't read at once waits here, in
//! order and within bounds, until its socket can be written again. It is taken for deaf only once it
//! has read nothing for [`OVERDUE`] while something waited, or once more waits than a layer can
//! cause that reads at all.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::ident::Instance;
use crate::sys::passing;
use crate::wire::control::{Object, ToLayer};

/// How long a layer may read nothing while something waits for it. A layer reads its control socket
/// whenever it waits for anything; this is as long as it has to finish when the daemon stops.
pub const OVERDUE: Duration = Duration::from_secs(10);

/// How many messages may wait, apart from those of which there are only as many as the plan has
/// links (introductions, departures, grants). A layer whose answers wait is not listened to, see
/// [`Outbox::is_behind`]; so what can come to this is what others cause by their restarts.
const MOST: usize = 4096;

/// A layer for which so many messages wait is not listened to until it has read some of them: so
/// nobody fills the supervisor's memory and table of descriptors by asking without reading.
const BEHIND: usize = 256;

/// How many descriptors may wait with a layer's messages, apart from introductions: those of as many
/// answers, and a few more that came in the same turn.
pub const MOST_DESCRIPTORS: u64 = BEHIND as u64 + 32;

/// How long until the kernel is asked again that had no memory, or had too many descriptors in
/// flight of this user (`ETOOMANYREFS`, unix(7)): no event tells when it has fewer.
const RETRY: Duration = Duration::from_millis(20);

/// The messages that wait for one layer.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    /// Of those, how many count against [`MOST`].
    counted: usize,
    /// When the layer took something last, or when the first began to wait.
    since: Option<Instant>,
    /// When to try again what the kernel refused for a reason that isn't the layer's.
    retry: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    message: ToLayer,
    bytes: Vec<u8>,
    fd: Option<OwnedFd>,
}

/// What became of an attempt to send.
enum Sent {
    /// It is in the socket, or there is nobody any more: then the pidfd tells.
    Done,
    /// The socket is full.
    Full,
    /// The kernel can't now, whoever the layer is.
    Pressed,
}

/// More waits for a layer than one that reads can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

impl Outbox {
    /// Sends `message` by `socket`, or has it wait behind what waits already.
    pub fn post(
        &mut self,
        socket: BorrowedFd<'_>,
        message: &ToLayer,
        fd: Option<BorrowedFd<'_>>,
        now: Instant,
    ) -> Result<(), Overrun> {
        // It holds numbers and bounded names: there is nothing in it that can't be written.
        let Ok(bytes) = postcard::to_stdvec(message) else { return Err(Overrun) };
        if self.waiting.is_empty() {
            match send(socket, &bytes, fd) {
                Sent::Done => return Ok(()),
                Sent::Full => self.retry = None,
                Sent::Pressed => self.retry = Some(now + RETRY),
            }
            self.since = Some(now);
        } else if self.replaces(message) {
            return Ok(());
        }
        self.counted += usize::from(is_counted(message));
        if self.counted > MOST {
            return Err(Overrun);
        }
        // The caller's goes on to somebody else, or is closed.
        let fd = fd.map(|fd| fd.try_clone_to_owned()).transpose().map_err(|_| Overrun)?;
        self.waiting.push_back(Waiting { message: message.clone(), bytes, fd });
        Ok(())
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self, socket: BorrowedFd<'_>, now: Instant) {
        while let Some(first) = self.waiting.front() {
            match send(socket, &first.bytes, first.fd.as_ref().map(AsFd::as_fd)) {
                Sent::Done => {
                    self.counted -= usize::from(is_counted(&first.message));
                    self.waiting.pop_front();
                    self.since = Some(now);
                    self.retry = None;
                }
                Sent::Full => return self.retry = None,
                Sent::Pressed => {
                    // It couldn't have read what it wasn't sent.
                    self.since = Some(now);
                    return self.retry = Some(now + RETRY);
                }
            }
        }
        self.since = None;
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether so much waits that nothing more is taken from the layer.
    pub fn is_behind(&self) -> bool {
        self.waiting.len() > BEHIND
    }

    /// Whether to look for room in the socket. Otherwise [`Outbox::deadline`] says when to try.
    pub fn wants_room(&self) -> bool {
        !self.is_empty() && self.retry.is_none()
    }

    /// Whether something that fits `which` waits.
    pub fn holds(&self, which: impl Fn(&ToLayer) -> bool) -> bool {
        self.waiting.iter().any(|waiting| which(&waiting.message))
    }

    /// When to flush or to ask [`Outbox::is_overdue`], whatever the socket does.
    pub fn deadline(&self) -> Option<Instant> {
        self.retry.or_else(|| self.since.map(|since| since + OVERDUE))
    }

    /// Whether the layer has read nothing for too long.
    pub fn is_overdue(&self, now: Instant) -> bool {
        let late = |since: Instant| now.saturating_duration_since(since) >= OVERDUE;
        self.retry.is_none() && self.since.is_some_and(late)
    }

    /// Looks for what `message` makes void among what waits, and takes that out. True: with it
    /// goes the message itself, which says nothing any more.
    fn replaces(&mut self, message: &ToLayer) -> bool {
        match message {
            ToLayer::Departed { channel, peer } => {
                // Who was never introduced never was.
                self.remove(|it| is_introduction(it, *channel, peer)) > 0
            }
            ToLayer::Object { kind, number, .. } => {
                // One that comes again takes the place of the former, so its keys are all there.
                if *kind == Object::QueueKey {
                    self.remove(|it| matches!(it, ToLayer::Object { kind: Object::QueueKey, number: n, .. } if n == number));
                }
                false
            }
            ToLayer::Service(service) => {
                self.remove(|it| matches!(it, ToLayer::Service(other) if other == service));
                false
            }
            // The newest is all that counts.
            ToLayer::Standing(it) => {
                self.remove(|other| matches!(other, ToLayer::Standing(o) if o.seat == it.seat));
                false
            }
            ToLayer::Settings { .. } => {
                self.remove(|other| matches!(other, ToLayer::Settings { .. }));
                false
            }
            ToLayer::Counter { .. } => {
                self.remove(|other| other == message);
                false
            }
            // Of each client at most one end and one beginning wait: a life that the helper never
            // met never was, and the end of the one before it is told already.
            ToLayer::ClientGone { seat } => {
                self.remove(
                    |it| matches!(it, ToLayer::Client { seat: other, .. } if other == seat),
                );
                self.holds(|it| matches!(it, ToLayer::ClientGone { seat: other } if other == seat))
            }
            _ => false,
        }
    }

    fn remove(&mut self, which: impl Fn(&ToLayer) -> bool) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| !which(&waiting.message));
        self.counted = self.waiting.iter().filter(|it| is_counted(&it.message)).count();
        before - self.waiting.len()
    }
}

/// Whether there can be more of these than the plan has links, objects and grants.
fn is_counted(message: &ToLayer) -> bool {
    match message {
        ToLayer::Listener(_)
        | ToLayer::File(_)
        | ToLayer::Object { .. }
        | ToLayer::Introduce { .. }
        | ToLayer::PeerDown { .. }
        | ToLayer::Client { .. }
        | ToLayer::ClientGone { .. }
        | ToLayer::Service(_)
        | ToLayer::Caller { .. }
        | ToLayer::Standing(_)
        | ToLayer::Counter { .. }
        | ToLayer::Connection
        | ToLayer::Settings { .. }
        | ToLayer::Policy(_)
        | ToLayer::Start
        | ToLayer::AreYouWell
        | ToLayer::Stop => false,
        ToLayer::Departed { .. }
        | ToLayer::Pipe { .. }
        | ToLayer::Say { .. }
        | ToLayer::Output { .. }
        | ToLayer::Ended { .. }
        | ToLayer::Relay { .. }
        | ToLayer::Told { .. }
        | ToLayer::Reports { .. }
        | ToLayer::Answer { .. } => true,
    }
}

fn is_introduction(message: &ToLayer, to: u16, who: &Instance) -> bool {
    matches!(message, ToLayer::Introduce { channel, peer, .. } if *channel == to && peer == who)
}

/// Sends one message and never waits.
fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Sent {
    match passing::send(socket, bytes, fd, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Sent::Full,
        Err(Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Sent::Pressed,
        _ => Sent::Done,
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::*;
    use crate::ident::Name;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    fn peer(generation: u64) -> Instance {
        Instance { layer: Name::new("peer").unwrap(), index: 0, generation }
    }

    fn introduce(generation: u64) -> ToLayer {
        ToLayer::Introduce { channel: 1, peer: peer(generation), key: [0; 32], witness: 0 }
    }

    fn departed(generation: u64) -> ToLayer {
        ToLayer::Departed { channel: 1, peer: peer(generation) }
    }

    fn read(socket: &OwnedFd) -> Vec<ToLayer> {
        let mut all = Vec::new();
        let mut bytes = [0; 4096];
        while let Ok((_, length)) = recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            all.push(postcard::from_bytes(&bytes[..length]).unwrap());
        }
        all
    }

    /// An outbox whose socket is full.
    fn full() -> (Outbox, OwnedFd, OwnedFd, usize) {
        let (near, far) = pair();
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let mut sent = 0;
        while outbox.is_empty() {
            outbox.post(near.as_fd(), &ToLayer::Start, None, now).unwrap();
            sent += 1;
        }
        (outbox, near, far, sent)
    }

    #[test]
    fn what_waits_comes_in_order() {
        let (mut outbox, near, far, sent) = full();
        let now = Instant::now();
        for generation in 1..=5 {
            outbox.post(near.as_fd(), &introduce(generation), Some(far.as_fd()), now).unwrap();
        }
        assert_eq!(read(&far).len(), sent - 1);
        outbox.flush(near.as_fd(), now);
        assert!(outbox.is_empty() && outbox.deadline().is_none());
        let mut expected = vec![ToLayer::Start];
        expected.extend((1..=5).map(introduce));
        assert_eq!(read(&far), expected);
    }

    #[test]
    fn who_has_gone_before_it_was_introduced_is_never_told() {
        let (mut outbox, near, far, _) = full();
        let now = Instant::now();
        outbox.post(near.as_fd(), &departed(1), None, now).unwrap();
        for generation in 2..100_000 {
            outbox.post(near.as_fd(), &introduce(generation), Some(far.as_fd()), now).unwrap();
            outbox.post(near.as_fd(), &departed(generation), None, now).unwrap();
        }
        outbox.post(near.as_fd(), &introduce(100_000), Some(far.as_fd()), now).unwrap();
        read(&far);
        outbox.flush(near.as_fd(), now);
        assert_eq!(read(&far), [ToLayer::Start, departed(1), introduce(100_000)]);
    }

    #[test]
    fn deaf_is_who_takes_nothing_for_long() {
        let (mut outbox, near, far, _) = full();
        let begin = outbox.since.unwrap();
        let late = begin + OVERDUE;
        assert!(!outbox.is_overdue(begin));
        assert!(outbox.is_overdue(late));
        assert_eq!(outbox.deadline(), Some(late));
        // One that reads a little is slow, and not deaf.
        recv(&far, &mut [0; 4096], RecvFlags::DONTWAIT).unwrap();
        for _ in 0..64 {
            outbox.post(near.as_fd(), &ToLayer::Start, None, late).unwrap();
        }
        outbox.flush(near.as_fd(), late);
        assert!(!outbox.is_empty() && !outbox.is_overdue(late));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut outbox, near, _far, _) = full();
        let now = Instant::now();
        let posted = (1..).take_while(|&generation| {
            outbox.post(near.as_fd(), &departed(generation), None, now).is_ok()
        });
        assert_eq!(posted.count(), MOST);
    }
}
