//! Answering the calls that the program's filter leaves to its init.
//!
//! What a call's pointers lead to is read once, for another thread of the program may change it at
//! any time; a socket is looked at by a copy of its descriptor, which stays the same socket whatever
//! the program puts at its number meanwhile. No call waits here: one whose answer comes later is
//! answered later. And a program whose init is gone is gone itself.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::asked::Asked;
use super::bind::Doors;
use super::condemned::Condemned;
use super::dial::Dialer;
use super::kind::{Kind, written};
use super::refused;
use super::teller::{Teller, failed};
use crate::confine::filter::Filter;
use crate::confine::init::Init;
use crate::confine::paths::ViewEntry;
use crate::layer::inbox::{Heard, Inbox};
use crate::policy::syscall::by_name;
use crate::sockaddr::{Address, LONGEST};
use crate::sys::notify::{Listener, Notification, Reply};
use crate::sys::pidfd::Ended;
use crate::sys::socket::network_of;
use crate::wire::control::{Service, ToLayer};
use crate::wire::refusal::Lacks;

/// What init does for the program while it runs.
pub(super) struct Observer<'a> {
    init: &'a Init,
    inbox: &'a Inbox,
    listener: Listener,
    /// `None`: the layer has no sockets of the host's.
    answering: Option<(Doors, Dialer)>,
    numbers: Numbers,
    /// What the filter answers where it leaves nothing to anybody.
    rules: &'a Filter,
    /// What the layer sees, where the paths of calls are looked at.
    entries: Vec<ViewEntry>,
    /// The layer's own network namespace.
    network: u64,
    teller: Teller,
    condemned: Condemned,
}

/// The numbers of the calls that are answered here.
struct Numbers {
    bind: Option<u32>,
    listen: Option<u32>,
    connect: Option<u32>,
    /// Those of [`AT_PATHS`].
    at_paths: [(Option<u32>, usize); 5],
}

/// Calls that remove what lies at a path or set its mode, each with the number of that argument. Init
/// has an answer to them of its own where the supervisor binds a Unix socket.
pub(crate) const AT_PATHS: [(&str, usize); 5] =
    [("chmod", 0), ("fchmodat", 1), ("fchmodat2", 1), ("unlink", 0), ("unlinkat", 1)];

/// What init waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Signals, and with them the ends of processes.
    Signals,
    /// What the supervisor says.
    Supervisor,
    /// Calls of the program.
    Calls,
    /// What a helper answers.
    Helper(Service),
}

impl<'a> Observer<'a> {
    pub fn new(
        init: &'a Init,
        inbox: &'a Inbox,
        listener: OwnedFd,
        answering: Option<(Doors, Dialer)>,
        (rules, teller, entries): (&'a Filter, Teller, Vec<ViewEntry>),
        network: u64,
    ) -> Self {
        let [bind, listen, connect] = ["bind", "listen", "connect"].map(by_name);
        let at_paths = AT_PATHS.map(|(name, path)| (by_name(name), path));
        Self {
            init,
            inbox,
            listener: Listener::new(listener),
            answering,
            numbers: Numbers { bind, listen, connect, at_paths },
            rules,
            entries,
            network,
            teller,
            condemned: Condemned::default(),
        }
    }

    /// Answers until the program has ended.
    pub fn run(mut self) -> io::Result<Ended> {
        // Once nobody is left whose calls could come, a poll would not wait.
        let mut listens = true;
        loop {
            if let Some(ended) = self.init.attend()? {
                self.teller.finish();
                return Ok(self.condemned.ending(ended));
            }
            self.condemned.look_after()?;
            for (source, found) in self.wait(listens)? {
                match source {
                    Source::Signals => {}
                    Source::Supervisor => self.hear()?,
                    Source::Calls if found.contains(PollFlags::IN) => self.take()?,
                    Source::Calls => listens = false,
                    Source::Helper(service) => {
                        if let Some((_, dialer)) = &mut self.answering {
                            dialer.hear(service, &self.listener);
                        }
                    }
                }
            }
        }
    }

    /// Waits until something happens: what, and how it is.
    fn wait(&self, listens: bool) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Signals, Source::Supervisor];
        let mut polled =
            vec![PollFd::new(self.init, PollFlags::IN), PollFd::new(self.inbox, PollFlags::IN)];
        if listens {
            sources.push(Source::Calls);
            polled.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let dialer = self.answering.iter().flat_map(|(_, dialer)| dialer.lines());
        for (service, line) in dialer {
            sources.push(Source::Helper(service));
            polled.push(PollFd::from_borrowed_fd(line, PollFlags::IN));
        }
        let due = self.condemned.deadline();
        let left = due.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let found = sources.into_iter().zip(polled.iter().map(PollFd::revents));
        Ok(found.filter(|(_, found)| !found.is_empty()).collect())
    }

    /// Hears what the supervisor says. Its end is ours: then there is nothing to do any more.
    fn hear(&mut self) -> io::Result<()> {
        match self.inbox.look()? {
            Heard::HungUp => Err(io::Error::other("the supervisor is gone")),
            Heard::Message(ToLayer::Service(service), Some(line)) => {
                if let Some((_, dialer)) = &mut self.answering {
                    dialer.renew(service, line);
                }
                Ok(())
            }
            Heard::Nothing | Heard::Message(..) => Ok(()),
        }
    }

    /// Takes one call and answers it.
    fn take(&mut self) -> io::Result<()> {
        let Some(call) = self.listener.receive()? else { return Ok(()) };
        let program = self.init.program();
        let answerer = (&self.listener, &mut self.condemned, program);
        if refused::answer(&call, self.rules, answerer, &mut self.teller)? {
            return Ok(());
        }
        match self.decide(&call) {
            Ok(Some(reply)) => self.listener.answer(&call, reply),
            Ok(None) => Ok(()),
            Err(errno) => self.listener.answer(&call, Reply::Refused(errno.raw_os_error())),
        }
    }

    /// The answer to a call; `None`: it comes later.
    fn decide(&mut self, call: &Notification) -> Result<Option<Reply>, Errno> {
        let number = Some(call.number);
        let of_sockets = [self.numbers.bind, self.numbers.listen, self.numbers.connect];
        if !of_sockets.contains(&number) {
            if self.is_of_a_door(call) {
                return Ok(Some(Reply::Done));
            }
            return Ok(Some(refused::look_at_paths(call, &self.entries, &mut self.teller)));
        }
        if self.answering.is_none() {
            return self.decide_without(call).map(Some);
        }
        if number == self.numbers.bind {
            let (asked, address) = (self.asked(call)?, self.address(call)?);
            let Some((doors, _)) = &self.answering else { return Err(Errno::ACCESS) };
            doors.bind(&self.listener, &asked, &address, &mut self.teller).map(Some)
        } else if number == self.numbers.listen {
            listen(&self.asked(call)?).map(Some)
        } else if number == self.numbers.connect {
            let (asked, address) = (self.asked(call)?, self.address(call)?);
            let Some((_, dialer)) = &mut self.answering else { return Err(Errno::ACCESS) };
            dialer.begin(&asked, &address, &mut self.teller).map(|()| None)
        } else {
            Err(Errno::ACCESS)
        }
    }

    /// The answer in a layer without sockets of the host's: what is no address of a network, the kernel
    /// carries out as ever, in the layer's own view.
    fn decide_without(&mut self, call: &Notification) -> Result<Reply, Errno> {
        let Ok(address @ Address::Internet { .. }) = self.address(call) else {
            return Ok(Reply::CarriedOut);
        };
        let kind = Kind::of(call.descriptor(low(call.arguments[0])).map_err(|e| errno(&e))?)?;
        let Some(wanted) = written(&address, kind) else { return Ok(Reply::CarriedOut) };
        let is_bind = Some(call.number) == self.numbers.bind;
        let lacks = if is_bind { Lacks::Listen(wanted) } else { Lacks::Connect(wanted) };
        self.teller.tell(call, failed(Errno::ACCESS), lacks);
        Err(Errno::ACCESS)
    }

    /// Whether a call would remove a Unix socket that the supervisor has bound for the program, or set
    /// its mode. It is there before the program binds it, and stays for the next life.
    fn is_of_a_door(&self, call: &Notification) -> bool {
        let Some((doors, _)) = &self.answering else { return false };
        let all = &self.numbers.at_paths;
        let found = all.iter().find(|(number, _)| *number == Some(call.number));
        let path = found.and_then(|(_, path)| refused::text(call, call.arguments[*path]));
        path.is_some_and(|path| doors.is_at(&path)) && self.listener.is_waiting(call)
    }

    /// The socket that a call names first.
    fn asked<'b>(&self, call: &'b Notification) -> Result<Asked<'b>, Errno> {
        let number = low(call.arguments[0]);
        let socket = call.descriptor(number).map_err(|error| errno(&error))?;
        if !self.listener.is_waiting(call) {
            return Err(Errno::NOENT);
        }
        let network = network_of(&socket).map_err(|error| errno(&error))?;
        let is_own = network == self.network;
        if !is_own {
            // Should the program close it now, the last to close it is init, which must not wait for
            // its peer.
            let _ = rustix::net::sockopt::set_socket_linger(&socket, None);
        }
        Ok(Asked { call, number, socket, is_own })
    }

    /// The address that a call's second and third argument lead to.
    fn address(&self, call: &Notification) -> Result<Address, Errno> {
        let length = usize::try_from(low(call.arguments[2])).map_err(|_| Errno::INVAL)?;
        let mut bytes = [0; LONGEST];
        let wanted = bytes.get_mut(..length).ok_or(Errno::INVAL)?;
        let read = call.read(call.arguments[1], wanted).map_err(|error| errno(&error))?;
        if !self.listener.is_waiting(call) {
            return Err(Errno::NOENT);
        }
        if read < length {
            return Err(Errno::FAULT);
        }
        Address::parse(&bytes[..length]).ok_or(Errno::INVAL)
    }
}

/// `listen(2)`. A socket that was handed over listens already, or never will, and of the program's own
/// only one with a path may: the kernel gives a port to any other that has none, and where no network
/// namespace could be had, it would be one of the host.
fn listen(asked: &Asked<'_>) -> Result<Reply, Errno> {
    if rustix::net::sockopt::socket_acceptconn(&asked.socket)? {
        return Ok(Reply::Done);
    }
    if !(asked.is_own && Kind::of(&asked.socket)? == Kind::Path) {
        return Err(Errno::ACCESS);
    }
    rustix::net::listen(&asked.socket, low(asked.call.arguments[1]))?;
    Ok(Reply::Done)
}

/// An argument that the kernel takes as `int`.
fn low(argument: u64) -> i32 {
    #[allow(clippy::cast_possible_truncation, reason = "the kernel looks at no more")]
    let low = argument as i32;
    low
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::PERM)
}

/// The layer's own network namespace, by a socket that is made in it.
pub(super) fn own_network() -> io::Result<u64> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let flags = SocketFlags::CLOEXEC;
    network_of(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}
