//! Asking the supervisor or a helper for something and waiting for the answer, in a task or in a
//! thread.
//!
//! The supervisor is asked over the control socket, where other things come as well; whoever reads
//! that socket ([`Companion`]) brings the answers here. A helper is asked over a socket of its own,
//! which is read here: by a task ([`Broker::drive`]) or by the threads that wait.
//!
//! A helper may end and be started anew. Its next life comes with another socket
//! ([`Broker::renew`]), and is told what still waits and which leases are held.

mod bell;
mod table;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use self::bell::Bell;
use self::table::{Sent, Table, Waiting, put};
use super::companion::{Companion, Ends, Waiter, attended};
use super::control::{Heard, look};
use super::patience::Patience;
use crate::mark::reached;
use crate::sys::socket::watch_readable;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::{FromLayer, ToLayer};

/// An answer, with the descriptor that came with it.
pub type Answered = (Answer, Option<OwnedFd>);

/// How long a task waits before it tries again to reach somebody who is behind.
const BEHIND: Duration = Duration::from_millis(1);

/// Requests under way at a time: so many for permits, which may take long, and so many for all
/// else. The answers to all of them fit into the socket, so that a layer which is busy is never
/// taken for one that doesn't listen.
const AT_ONCE: usize = 64;

/// A layer's way to its supervisor, or to a helper.
#[derive(Debug)]
pub struct Broker {
    companion: OnceLock<Weak<dyn Companion>>,
    table: Mutex<Table>,
    /// One thread at a time reads a helper's answers.
    reading: Mutex<()>,
    /// Somebody answers again.
    renewed: Notify,
    is_helper: bool,
    permits: Arc<Semaphore>,
    others: Arc<Semaphore>,
    patience: Patience,
}

/// Who waits for an answer; dropping it withdraws the request.
struct Pending<'a> {
    broker: &'a Broker,
    request: u64,
    answer: oneshot::Receiver<Answered>,
}

impl Broker {
    /// A broker behind the control socket.
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        Self::with(Table::over(socket), false)
    }

    /// A broker that asks a helper, once there is one ([`renew`](Self::renew)).
    pub fn of_service() -> Self {
        Self::with(Table::default(), true)
    }

    fn with(table: Table, is_helper: bool) -> Self {
        let slots = || Arc::new(Semaphore::new(AT_ONCE));
        Self {
            companion: OnceLock::new(),
            table: Mutex::new(table),
            reading: Mutex::default(),
            renewed: Notify::new(),
            is_helper,
            permits: slots(),
            others: slots(),
            patience: Patience::default(),
        }
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
        let mut pending = self.begin(ask, slot, None);
        while !self.send(pending.request)? {
            tokio::time::sleep(BEHIND).await;
        }
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
        let mut pending = self.begin(ask, slot, Some(bell.clone()));
        loop {
            let sent = self.table().send(pending.request, self.is_helper)?;
            let Sent::Full(line) = sent else { break };
            waiter.sleep([(line.as_fd(), PollFlags::OUT)], None)?;
        }
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
                if self.is_helper {
                    self.pump()?;
                } else {
                    waiter.attend()?;
                }
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
            let line = self.line().filter(|_| self.is_helper);
            let watched = [(bell.as_fd(), PollFlags::IN)].into_iter();
            let watched = watched.chain(line.iter().map(|line| (line.as_fd(), PollFlags::IN)));
            if waiter.sleep(watched, None)? {
                bell.silence();
                self.pump()?;
            }
        }
    }

    /// Reads a helper's answers for ever, beside the tasks that wait for them.
    pub async fn drive(&self) -> io::Result<()> {
        loop {
            let mut renewed = std::pin::pin!(self.renewed.notified());
            renewed.as_mut().enable();
            let Some(line) = self.line() else {
                renewed.await;
                continue;
            };
            let readiness = watch_readable(Arc::clone(&line))?;
            // A line that has ended, or isn't the helper's any more, is always ready.
            while self.line().is_some_and(|now| Arc::ptr_eq(&now, &line)) {
                let mut ready = readiness.readable().await?;
                self.pump()?;
                ready.clear_ready();
            }
        }
    }

    /// A helper's first life, or its next, is at the other end of this socket.
    pub fn renew(&self, socket: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // What the life before has answered counts.
        self.pump()?;
        reached("broker.renew.before");
        let lost = {
            let mut table = self.table();
            let line = Arc::new(socket);
            table.epoch += 1;
            table.line = Some(Arc::clone(&line));
            let (words, lost) = table.again(Instant::now());
            // Under the lock, so that nothing gets between: who listens waits for no layer.
            for words in words {
                // It has ended again: the next one is told all of it.
                if !put_surely(&line, &words) {
                    break;
                }
            }
            table.waiting.values().filter_map(|it| it.bell.as_ref()).for_each(Bell::ring);
            lost
        };
        reached("broker.renew.said");
        for Waiting { answer, bell, .. } in lost {
            let unanswered = (Answer::Refused(Refusal::Unanswered), None);
            let _ = answer.map(|answer| answer.send(unanswered));
            bell.iter().for_each(Bell::ring);
        }
        self.renewed.notify_waiters();
        Ok(())
    }

    /// Takes in what a helper has answered, without waiting.
    pub fn pump(&self) -> io::Result<()> {
        if !self.is_helper {
            return Ok(());
        }
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = self.line() else { return Ok(()) };
        loop {
            match look(&line)? {
                Heard::Nothing => return Ok(()),
                Heard::HungUp => {
                    let mut table = self.table();
                    table.line.take_if(|now| Arc::ptr_eq(now, &line));
                    return Ok(());
                }
                Heard::Message(ToLayer::Answer { request, answer }, fd) => {
                    self.answered(request, answer, fd);
                }
                Heard::Message(message, _) => {
                    return Err(io::Error::other(format!("{message:?} is out of place")));
                }
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
                    self.pump()?;
                    std::thread::sleep(BEHIND);
                }
            }
        }
    }

    /// Says something that has no answer. `Ok(false)`: the other end is behind, try again.
    pub fn post(&self, message: &FromLayer) -> io::Result<bool> {
        let Some(line) = self.line() else { return Ok(true) };
        put(&line, &message.encode())
    }

    /// A lease is over. If its time has not run out, the permit goes back.
    pub fn release(&self, semaphore: u16, fence: u64, expired: bool) {
        let epoch = {
            let mut table = self.table();
            table.held.remove(&(semaphore, fence));
            table.epoch
        };
        if !expired {
            reached("semaphore.release.before");
            self.post_surely(&FromLayer::Release { semaphore, fence }, epoch);
            reached("semaphore.release.sent");
        }
    }

    /// Says something that has no answer and must not be lost, unless the line isn't that of this
    /// epoch any more: then it has been said in another way ([`renew`](Self::renew)). Who listens
    /// waits on no layer, so it takes this in soon, however much it has to do.
    fn post_surely(&self, message: &FromLayer, epoch: u64) {
        let bytes = message.encode();
        loop {
            let line = {
                let table = self.table();
                let Some(line) = table.line.as_ref().filter(|_| table.epoch == epoch) else {
                    return;
                };
                match put(line, &bytes) {
                    Ok(false) => Arc::clone(line),
                    // An error says that nobody is there.
                    Ok(true) | Err(_) => return,
                }
            };
            if !room(&line) {
                return;
            }
        }
    }

    /// Takes in an answer that has come.
    pub fn answered(&self, request: u64, answer: Answer, fd: Option<OwnedFd>) {
        reached("broker.answer.come");
        let waiting = {
            let mut table = self.table();
            if let Answer::Leased { semaphore, fence, .. } = answer {
                table.held.insert((semaphore, fence));
            }
            table.waiting.remove(&request)
        };
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
            self.release(semaphore, fence, false);
        }
    }

    fn begin(&self, ask: Ask, slot: OwnedSemaphorePermit, bell: Option<Bell>) -> Pending<'_> {
        let (sender, answer) = oneshot::channel();
        let request = self.table().add(ask, sender, bell, slot);
        Pending { broker: self, request, answer }
    }

    /// Sends a request. False: there is no room for now.
    fn send(&self, request: u64) -> io::Result<bool> {
        Ok(matches!(self.table().send(request, self.is_helper)?, Sent::Done))
    }

    /// The socket, while there is somebody at its other end.
    pub(crate) fn line(&self) -> Option<Arc<OwnedFd>> {
        self.table().line.clone()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let epoch = {
            let mut table = self.broker.table();
            let epoch = table.epoch;
            match table.waiting.get_mut(&self.request) {
                Some(waiting) if waiting.sent => waiting.answer = None,
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
            epoch
        };
        reached("broker.withdraw.before");
        // If the answer is under way already, what it gives goes back when it comes.
        self.broker.post_surely(&FromLayer::Withdraw { request: self.request }, epoch);
        reached("broker.withdraw.sent");
    }
}

/// Sends, and waits for room. False: nobody is there.
fn put_surely(line: &OwnedFd, bytes: &[u8]) -> bool {
    loop {
        match put(line, bytes) {
            Ok(true) => return true,
            Ok(false) if room(line) => {}
            Ok(false) | Err(_) => return false,
        }
    }
}

/// Waits for room in a socket.
fn room(line: &OwnedFd) -> bool {
    matches!(poll(&mut [PollFd::new(line, PollFlags::OUT)], None), Ok(_) | Err(Errno::INTR))
}

fn gone() -> io::Error {
    io::Error::other("the supervisor is gone")
}
