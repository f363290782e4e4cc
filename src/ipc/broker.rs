//! Asking the supervisor for something and waiting for the answer, in a task or in a thread.
//!
//! Requests go over the control socket, where other things come as well; whoever reads that socket
//! ([`Companion`]) brings the answers here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use super::companion::{Companion, Ends, Waiter, attended};
use super::patience::Patience;
use crate::mark::reached;
use crate::wire::broker::{Answer, Ask};
use crate::wire::control::FromLayer;

/// An answer, with the descriptor that came with it.
pub type Answered = (Answer, Option<OwnedFd>);

/// How long a task waits before it tries again to reach a supervisor that is behind.
const BEHIND: Duration = Duration::from_millis(1);

/// Requests under way at a time: so many for permits, which may take long, and so many for all
/// else. The answers to all of them fit into the control socket, so that a layer which is busy is
/// never taken for one that doesn't listen.
const AT_ONCE: usize = 64;

/// A layer's way to its supervisor.
#[derive(Debug)]
pub struct Broker {
    socket: Arc<OwnedFd>,
    companion: OnceLock<Weak<dyn Companion>>,
    table: Mutex<Table>,
    permits: Arc<Semaphore>,
    others: Arc<Semaphore>,
    patience: Patience,
}

#[derive(Debug, Default)]
struct Table {
    next: u32,
    waiting: HashMap<u32, Waiting>,
}

/// A request under way. It is one until it is answered, withdrawn or not.
#[derive(Debug)]
struct Waiting {
    /// `None` once it is withdrawn.
    answer: Option<oneshot::Sender<Answered>>,
    /// Rung when another thread has taken the answer in for one that sleeps meanwhile.
    bell: Option<Bell>,
    _slot: OwnedSemaphorePermit,
}

/// What a thread that sleeps is woken by.
#[derive(Clone, Debug)]
struct Bell {
    owner: ThreadId,
    event: Arc<OwnedFd>,
}

thread_local! {
    /// Each thread waits for one answer at a time, so it needs one.
    static BELL: RefCell<Option<Bell>> = const { RefCell::new(None) };
}

/// Who waits for an answer; dropping it withdraws the request.
struct Pending<'a> {
    broker: &'a Broker,
    request: u32,
    /// Whether the supervisor has heard of it.
    sent: bool,
    answer: oneshot::Receiver<Answered>,
}

impl Broker {
    /// A broker behind the control socket.
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        let slots = || Arc::new(Semaphore::new(AT_ONCE));
        let (companion, table) = (OnceLock::new(), Mutex::default());
        let patience = Patience::default();
        Self { socket, companion, table, permits: slots(), others: slots(), patience }
    }

    /// Names who reads the control socket, once.
    pub fn accompany(&self, companion: Weak<dyn Companion>) {
        let _ = self.companion.set(companion);
    }

    /// Asks, and waits for the answer. Dropping the future withdraws the request.
    ///
    /// An error says that the supervisor is gone.
    pub async fn ask(&self, ask: Ask) -> io::Result<Answered> {
        attended(self.companion.get());
        let slots = Arc::clone(self.slots(&ask));
        let slot = slots.acquire_owned().await.map_err(|_| gone())?;
        let (mut pending, message) = self.begin(ask, slot, None);
        while !self.post(&message)? {
            tokio::time::sleep(BEHIND).await;
        }
        pending.sent = true;
        reached("broker.ask.sent");
        (&mut pending.answer).await.map_err(|_| gone())
    }

    /// Asks, and blocks the thread until the answer has come.
    pub fn ask_blocking(&self, ask: Ask) -> io::Result<Answered> {
        self.block(ask, Ends::ByItself)?.ok_or_else(gone)
    }

    /// Asks, and blocks the thread until the answer has come; `None` if the layer is asked to
    /// finish before.
    pub fn ask_blocking_unless_stopping(&self, ask: Ask) -> io::Result<Option<Answered>> {
        self.block(ask, Ends::WithLayer)
    }

    fn block(&self, ask: Ask, ends: Ends) -> io::Result<Option<Answered>> {
        let bell = Bell::own()?;
        let waiter = Waiter::new(Some(self.companion.get().ok_or_else(gone)?), ends)?;
        let Some(slot) = self.slot_blocking(&ask, &waiter)? else { return Ok(None) };
        let looks = matches!(ask, Ask::Acquire { .. });
        let (mut pending, message) = self.begin(ask, slot, Some(bell.clone()));
        while !self.post(&message)? {
            waiter.sleep([(self.socket.as_fd(), PollFlags::OUT)], None)?;
        }
        pending.sent = true;
        reached("broker.ask.sent");
        let mut take = || match pending.answer.try_recv() {
            Ok(answered) => Ok(Some(answered)),
            Err(oneshot::error::TryRecvError::Closed) => Err(gone()),
            Err(oneshot::error::TryRecvError::Empty) => Ok(None),
        };
        // A free permit comes at once: to be woken for it takes longer than it does. A signal's
        // sender had better leave the processor to its receiver (measured).
        if looks {
            let found = self.patience.look(|| {
                waiter.attend()?;
                take()
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let begin = Instant::now();
        loop {
            if let Some(answered) = take()? {
                if looks {
                    self.patience.slept(begin.elapsed());
                }
                return Ok(Some(answered));
            }
            if waiter.is_stopping() {
                return Ok(None);
            }
            if waiter.sleep([(bell.event.as_fd(), PollFlags::IN)], None)? {
                bell.silence();
            }
        }
    }

    fn slots(&self, ask: &Ask) -> &Arc<Semaphore> {
        if matches!(ask, Ask::Acquire { .. }) { &self.permits } else { &self.others }
    }

    /// Waits for a slot; only a program whose other threads or tasks ask at the same time does.
    /// `None` if the wait is over before.
    fn slot_blocking(
        &self,
        ask: &Ask,
        waiter: &Waiter,
    ) -> io::Result<Option<OwnedSemaphorePermit>> {
        loop {
            match Arc::clone(self.slots(ask)).try_acquire_owned() {
                Ok(slot) => return Ok(Some(slot)),
                Err(TryAcquireError::Closed) => return Err(gone()),
                Err(TryAcquireError::NoPermits) if waiter.is_stopping() => return Ok(None),
                Err(TryAcquireError::NoPermits) => {
                    waiter.attend()?;
                    std::thread::sleep(BEHIND);
                }
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

    /// Says something that has no answer and must not be lost. The supervisor waits on no layer,
    /// so it hears this soon, however much it has to do.
    pub fn post_surely(&self, message: &FromLayer) -> io::Result<()> {
        while !self.post(message)? {
            match poll(&mut [PollFd::new(&*self.socket, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes in an answer that has come on the control socket.
    pub fn answered(&self, request: u32, answer: Answer, fd: Option<OwnedFd>) {
        reached("broker.answer.come");
        let waiting = self.table().waiting.remove(&request);
        let Some(Waiting { answer: Some(sender), bell, .. }) = waiting else {
            return self.give_back((answer, fd));
        };
        let returned = sender.send((answer, fd));
        if let Some(bell) = bell {
            bell.ring();
        }
        if let Err(answered) = returned {
            self.give_back(answered);
        }
    }

    /// Nobody waits for it any more: what it gives goes back. A descriptor closes.
    fn give_back(&self, (answer, _): Answered) {
        if let Answer::Leased { semaphore, fence, .. } = answer {
            reached("broker.answer.returned");
            // An error says that the supervisor is gone, and with it every lease.
            let _ = self.post_surely(&FromLayer::Release { semaphore, fence });
        }
    }

    fn begin(
        &self,
        ask: Ask,
        slot: OwnedSemaphorePermit,
        bell: Option<Bell>,
    ) -> (Pending<'_>, FromLayer) {
        let (sender, answer) = oneshot::channel();
        let mut table = self.table();
        // After four thousand million requests the numbers begin anew; one may still wait.
        while table.waiting.contains_key(&table.next) {
            table.next = table.next.wrapping_add(1);
        }
        let request = table.next;
        table.next = table.next.wrapping_add(1);
        table.waiting.insert(request, Waiting { answer: Some(sender), bell, _slot: slot });
        (Pending { broker: self, request, sent: false, answer }, FromLayer::Ask { request, ask })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    /// The one of the running thread.
    fn own() -> io::Result<Self> {
        BELL.with_borrow_mut(|own| {
            if let Some(bell) = own {
                return Ok(bell.clone());
            }
            let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let owner = std::thread::current().id();
            Ok(own.insert(Self { owner, event }).clone())
        })
    }

    /// Wakes its thread, unless that is the one that runs.
    fn ring(&self) {
        if self.owner != std::thread::current().id() {
            // It refuses only at its maximum, and then it has rung.
            let _ = rustix::io::write(&*self.event, &1_u64.to_ne_bytes());
        }
    }

    fn silence(&self) {
        let _ = rustix::io::read(&*self.event, &mut [0; 8]);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        {
            let mut table = self.broker.table();
            match table.waiting.get_mut(&self.request) {
                Some(waiting) if self.sent => waiting.answer = None,
                Some(_) => {
                    table.waiting.remove(&self.request);
                    return;
                }
                None => {
                    drop(table);
                    if let Ok(answered) = self.answer.try_recv() {
                        self.broker.give_back(answered);
                    }
                    return;
                }
            }
        }
        reached("broker.withdraw.before");
        // If the answer is under way already, what it gives goes back when it comes.
        let _ = self.broker.post_surely(&FromLayer::Withdraw { request: self.request });
        reached("broker.withdraw.sent");
    }
}

fn gone() -> io::Error {
    io::Error::other("the supervisor is gone")
}
