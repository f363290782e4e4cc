//! Asking the supervisor for something and waiting for the answer, in a task or in a thread.
//!
//! Requests go over the control socket, where other things come as well; whoever reads that socket
//! ([`Companion`]) brings the answers here.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::sync::oneshot;

use super::message::Companion;
use crate::wire::broker::{Answer, Ask};
use crate::wire::control::FromLayer;

/// An answer, with the descriptor that came with it.
pub type Answered = (Answer, Option<OwnedFd>);

/// How long a task waits before it tries again to reach a supervisor that is behind.
const BEHIND: Duration = Duration::from_millis(1);

/// A layer's way to its supervisor.
#[derive(Debug)]
pub struct Broker {
    socket: Arc<OwnedFd>,
    companion: OnceLock<Weak<dyn Companion>>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u32,
    waiting: HashMap<u32, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Answered>,
    /// Rung when the answer has come, for a thread that sleeps meanwhile.
    bell: Option<Arc<OwnedFd>>,
}

/// A request under way; dropping it withdraws it.
struct Pending<'a> {
    broker: &'a Broker,
    request: u32,
    answer: oneshot::Receiver<Answered>,
}

impl Broker {
    /// A broker behind the control socket.
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, companion: OnceLock::new(), table: Mutex::default() }
    }

    /// Names who reads the control socket, once.
    pub fn accompany(&self, companion: Weak<dyn Companion>) {
        let _ = self.companion.set(companion);
    }

    /// Asks, and waits for the answer. Dropping the future withdraws the request.
    ///
    /// An error says that the supervisor is gone.
    pub async fn ask(&self, ask: Ask) -> io::Result<Answered> {
        let (mut pending, message) = self.begin(ask, None);
        while !self.post(&message)? {
            tokio::time::sleep(BEHIND).await;
        }
        (&mut pending.answer).await.map_err(|_| gone())
    }

    /// Asks, and blocks the thread until the answer has come.
    pub fn ask_blocking(&self, ask: Ask) -> io::Result<Answered> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (mut pending, message) = self.begin(ask, Some(Arc::clone(&bell)));
        while !self.post(&message)? {
            self.sleep(&bell, PollFlags::IN | PollFlags::OUT)?;
        }
        loop {
            match pending.answer.try_recv() {
                Ok(answered) => return Ok(answered),
                Err(oneshot::error::TryRecvError::Closed) => return Err(gone()),
                Err(oneshot::error::TryRecvError::Empty) => self.sleep(&bell, PollFlags::IN)?,
            }
        }
    }

    /// Says something that has no answer. `Ok(false)`: the supervisor is behind, try again.
    pub fn post(&self, message: &FromLayer) -> io::Result<bool> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::send(&*self.socket, &message.encode(), flags) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in an answer that has come on the control socket.
    pub fn answered(&self, request: u32, answer: Answer, fd: Option<OwnedFd>) {
        let waiting = self.table().waiting.remove(&request);
        let bell = waiting.as_ref().and_then(|waiting| waiting.bell.clone());
        let returned = match waiting {
            Some(waiting) => waiting.answer.send((answer, fd)).err(),
            None => Some((answer, fd)),
        };
        if let Some(bell) = bell {
            // It refuses only at its maximum, and then it has rung.
            let _ = rustix::io::write(&*bell, &1_u64.to_ne_bytes());
        }
        // Nobody waits for it any more: what it gives goes back.
        if let Some((Answer::Leased { semaphore, fence, .. }, _)) = returned {
            let _ = self.post(&FromLayer::Release { semaphore, fence });
        }
    }

    fn begin(&self, ask: Ask, bell: Option<Arc<OwnedFd>>) -> (Pending<'_>, FromLayer) {
        let (sender, answer) = oneshot::channel();
        let mut table = self.table();
        let request = table.next;
        table.next = table.next.wrapping_add(1);
        table.waiting.insert(request, Waiting { answer: sender, bell });
        (Pending { broker: self, request, answer }, FromLayer::Ask { request, ask })
    }

    /// Sleeps until the control socket is ready or the bell has rung, and attends to the socket.
    fn sleep(&self, bell: &OwnedFd, until: PollFlags) -> io::Result<()> {
        let mut fds = [PollFd::new(&*self.socket, until), PollFd::new(bell, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.companion.get().and_then(Weak::upgrade).ok_or_else(gone)?.attend()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let unanswered = self.broker.table().waiting.remove(&self.request).is_some();
        if unanswered {
            // If this can't be said, the answer is given back when it comes.
            let _ = self.broker.post(&FromLayer::Withdraw { request: self.request });
        } else if let Ok((Answer::Leased { semaphore, fence, .. }, _)) = self.answer.try_recv() {
            let _ = self.broker.post(&FromLayer::Release { semaphore, fence });
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the supervisor is gone")
}
