//! Message queues: what a layer's code uses of a `[queue.NAME]`.
//!
//! A [`Queue`] is a queue of the kernel (`mq_overview(7)`) that the supervisor has made and keeps
//! open, so what it has accepted outlives every member. Any sender's message goes to any one
//! receiver, the highest priority first and the oldest first within a priority.
//!
//! ```no_run
//! # async fn example(jobs: cofferdam::ipc::queue::Queue) -> Result<(), cofferdam::ipc::queue::QueueError> {
//! use cofferdam::ipc::queue::Event;
//!
//! jobs.send(b"resize 17", 0).await?; // in a layer that `send` names
//!
//! match jobs.recv().await? {         // in a layer that `receive` names
//!     Event::Message(job) => println!("{} wants {:?}", job.from, job.body),
//!     Event::Refused(refused) => println!("refused: {}", refused.why),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: a message that was accepted is given out once, whole, or its refusal is told.
//! Nobody without the queue's key reads one or makes one up. A receiver that is killed after it has
//! taken a message, and before it has done its work, takes the message with it: at most once.
//!
//! What it does not: tell members apart from each other by force. They share the key, so a member
//! that was taken over can send in another's name. Nor is a fork of a member's process one: its verbs
//! fail ([`SealError::Copy`]).
//!
//! Async verbs must be called within a tokio runtime. [`Queue::blocking`] has the same verbs for
//! threads.

pub mod blocking;
pub mod error;
mod keys;
mod report;
mod seal;
mod wait;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::error::{Claim, Fault, QueueError, Refused};
use self::keys::Keys;
pub use self::keys::MOST as MOST_EPOCHS;
use self::seal::{Opener, Sealer, largest};
use self::wait::{For, Lane};
use super::broker::Broker;
use super::gauge::{Gauge, InHand};
use super::message::{Companion, DecodeError};
use super::patience::Patience;
use crate::confine::Confined;
use crate::ident::{EdgeId, Instance, Name};
use crate::mark::reached;
use crate::policy::plan::{OnFull, QueuePlan};
use crate::report::{Desk, Facility, Tap, room};
use crate::seal::SealError;
use crate::sys::mqueue;
use crate::sys::original::is_copy;
use crate::sys::secret_page::SecretPage;
use crate::wire::broker::{Answer, Ask, Refusal};

/// How old what the supervisor has said may get before a sender listens again: for so long it
/// may use the former key.
const NEWS: Duration = Duration::from_millis(1);

/// Which queue, and who we are.
#[derive(Clone, Debug)]
pub struct QueueSpec {
    /// The queue's number in the plan.
    pub number: u16,
    /// What the plan says of it.
    pub plan: QueuePlan,
    /// The digest of that, and of whose it is.
    pub edge: EdgeId,
    /// Who we are.
    pub own: Instance,
}

/// A message queue, as one of its members holds it.
///
/// A handle; clones are the same member.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

/// What clones of a [`Queue`] share.
struct Shared {
    spec: QueueSpec,
    keys: Keys,
    sending: Mutex<Side<Option<Sealer>>>,
    receiving: Mutex<Side<(Opener, Vec<u8>)>>,
    broker: Arc<Broker>,
    /// What reports its messages, if anything does.
    tap: Option<Tap>,
    companion: OnceLock<Weak<dyn Companion>>,
    /// Who counts what was taken, and that, until the next message is asked for.
    gauge: OnceLock<(Arc<Gauge>, Mutex<Option<InHand>>)>,
    patience: Patience,
    born: Instant,
    /// When the supervisor was listened to last, in microseconds since `born`.
    listened: AtomicU64,
}

/// One direction: its lanes, by place, and what goes with them.
struct Side<T> {
    lanes: Arc<Vec<Arc<Lane>>>,
    state: T,
}

/// A direction of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// To send.
    Send,
    /// To receive.
    Receive,
}

/// What [`Queue::recv`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Message),
    /// Something that no member could have sent like this. It is gone; the queue goes on.
    Refused(Refused),
}

/// A message that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it: a member, and this one unless another member lies.
    pub from: Instance,
    /// Its priority, 0 is the lowest.
    pub priority: u8,
    /// The epoch of the key that it was sealed with. A new one begins when a member dies.
    pub epoch: u32,
    /// The bytes.
    pub body: Vec<u8>,
}

/// A message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How many older messages had to go for it; always 0 unless `on-full = "drop-oldest"`.
    pub dropped: u32,
}

impl Queue {
    /// A member without ends and keys yet; the supervisor hands them over. The keys will lie on
    /// `page`, and its messages are reported at `desk` as the plan says.
    ///
    /// `_proof`: only a confined process talks to another.
    #[doc(hidden)]
    pub fn new(
        spec: QueueSpec,
        page: SecretPage,
        broker: Arc<Broker>,
        desk: &Desk,
        _proof: &Confined,
    ) -> Self {
        let sealer = Sealer::new(&spec);
        let tap = desk.tap(Facility::Queue, spec.number, spec.plan.audit);
        Self(Arc::new(Shared {
            spec,
            keys: Keys::new(page),
            sending: Mutex::new(Side { lanes: Arc::default(), state: sealer }),
            receiving: Mutex::new(Side {
                lanes: Arc::default(),
                state: (Opener::default(), Vec::new()),
            }),
            broker,
            tap,
            companion: OnceLock::new(),
            gauge: OnceLock::new(),
            patience: Patience::default(),
            born: Instant::now(),
            listened: AtomicU64::new(0),
        }))
    }

    /// Names who reads the control socket, once.
    #[doc(hidden)]
    pub fn accompany(&self, companion: Weak<dyn Companion>) {
        let _ = self.0.companion.set(companion);
    }

    /// Names who counts the message that was taken last, once.
    pub(crate) fn measure(&self, gauge: &Arc<Gauge>) {
        let _ = self.0.gauge.set((Arc::clone(gauge), Mutex::default()));
    }

    /// Takes the next lane of an end, in their order.
    pub fn keep_end(&self, end: End, fd: OwnedFd) {
        let lane = Arc::new(Lane::new(fd));
        match end {
            End::Send => Arc::make_mut(&mut lock(&self.0.sending).lanes).push(lane),
            End::Receive => {
                let mut receiving = lock(&self.0.receiving);
                Arc::make_mut(&mut receiving.lanes).push(lane);
                // The kernel wants room for the largest message.
                receiving.state.1.resize(largest(self.0.spec.plan.max), 0);
            }
        }
    }

    /// Takes keys in place of those that were there: `memory` holds one or more, the last of them
    /// of epoch `newest`.
    pub fn keep_keys(&self, newest: u32, memory: impl AsFd) -> io::Result<()> {
        self.0.keys.take(newest, memory)?;
        reached("queue.key.taken");
        Ok(())
    }

    /// The queue's name.
    pub fn name(&self) -> &Name {
        &self.0.spec.plan.name
    }

    /// The epoch of the newest key that has come.
    pub fn epoch(&self) -> u32 {
        self.0.keys.newest()
    }

    /// The same member, for code that waits by blocking its thread.
    pub fn blocking(&self) -> blocking::Queue {
        blocking::Queue::new(self.clone())
    }

    /// Sends a message. When the queue is full, what the policy's `on-full` says is done: it waits
    /// at most as long as `wait` ([`QueueError::Timeout`]), fails ([`QueueError::Full`]), or has
    /// the oldest message of this priority dropped.
    ///
    /// `Ok` says that the kernel has it: it is received if anybody ever receives, even if every
    /// member is killed now. After an error, or when the future is dropped, it was not taken.
    pub async fn send(&self, body: impl AsRef<[u8]>, priority: u8) -> Result<Sent, QueueError> {
        let (shared, body) = (&*self.0, body.as_ref());
        let lane = shared.check(body, priority)?;
        room(shared.tap.as_ref()).await;
        let mut sealed = None;
        let mut attempt = || shared.try_send(body, priority, &mut sealed);
        match shared.spec.plan.on_full {
            OnFull::Reject => attempt()?.ok_or_else(|| shared.full()),
            OnFull::Block(time) => {
                let sent = shared.wait(slice::from_ref(&lane), For::Room, attempt);
                let timeout = |_| Err(shared.timeout(time));
                tokio::time::timeout(time, sent).await.unwrap_or_else(timeout)
            }
            OnFull::DropOldest => {
                tokio::task::coop::consume_budget().await;
                let mut dropped = 0;
                while attempt()?.is_none() {
                    reached("queue.send.full");
                    let answer = shared.broker.ask(shared.make_room(priority)).await;
                    dropped += shared.room(answer.map(|(answer, _)| answer))?;
                }
                Ok(Sent { dropped })
            }
        }
    }

    /// Sends a value, written by postcard.
    pub async fn send_typed<T: Serialize + ?Sized>(
        &self,
        value: &T,
        priority: u8,
    ) -> Result<Sent, QueueError> {
        self.send(postcard::to_stdvec(value).map_err(QueueError::Encode)?, priority).await
    }

    /// Sends a message if there is room now, whatever the policy says of a full queue; else
    /// [`QueueError::Full`].
    pub fn try_send(&self, body: impl AsRef<[u8]>, priority: u8) -> Result<Sent, QueueError> {
        let (shared, body) = (&*self.0, body.as_ref());
        shared.check(body, priority)?;
        shared.try_send(body, priority, &mut None)?.ok_or_else(|| shared.full())
    }

    /// Receives the next message. Dropping the future loses none.
    pub async fn recv(&self) -> Result<Event, QueueError> {
        let shared = &*self.0;
        let lanes = shared.receives()?;
        loop {
            room(shared.tap.as_ref()).await;
            // What came meanwhile is taken only where its report finds room.
            let attempt = || {
                let reportable = shared.tap.as_ref().is_none_or(Tap::has_room);
                if reportable { Ok(shared.try_recv()?.map(Some)) } else { Ok(Some(None)) }
            };
            if let Some(event) = shared.wait(&lanes, For::Message, attempt).await? {
                return Ok(event);
            }
        }
    }

    /// [`Queue::recv`] that gives up after a while: [`QueueError::Nothing`].
    pub async fn recv_timeout(&self, time: Duration) -> Result<Event, QueueError> {
        tokio::time::timeout(time, self.recv()).await.unwrap_or(Err(QueueError::Nothing))
    }

    /// The next message, if one is there now.
    pub fn try_recv(&self) -> Result<Option<Event>, QueueError> {
        self.0.receives()?;
        self.0.try_recv()
    }
}

impl Shared {
    /// Checks a message against the policy, and gives the lane on which there may be room for it.
    fn check(&self, body: &[u8], priority: u8) -> Result<Arc<Lane>, QueueError> {
        let plan = &self.spec.plan;
        let queue = || plan.name.clone();
        if priority >= plan.priorities {
            let priorities = plan.priorities;
            return Err(QueueError::Priority { queue: queue(), priority, priorities });
        }
        if usize::try_from(plan.max).is_ok_and(|max| body.len() > max) {
            return Err(QueueError::Size { queue: queue(), size: body.len(), max: plan.max });
        }
        let sending = lock(&self.sending);
        match sending.lanes.get(self.lane_of(priority)) {
            Some(lane) => Ok(Arc::clone(lane)),
            None => Err(QueueError::NotASender { queue: queue() }),
        }
    }

    fn lane_of(&self, priority: u8) -> usize {
        if self.spec.plan.lanes() > 1 { priority.into() } else { 0 }
    }

    /// Seals a message and hands it to the kernel; `None` if there is no room. The number that it
    /// was sealed with stands in `number`: the next attempt at the same message sends what is there,
    /// unless each attempt is reported.
    fn try_send(
        &self,
        body: &[u8],
        priority: u8,
        number: &mut Option<u64>,
    ) -> Result<Option<Sent>, QueueError> {
        self.listen()?;
        let mut sending = lock(&self.sending);
        let Side { lanes, state } = &mut *sending;
        let (Some(lane), Some(sealer)) = (lanes.get(self.lane_of(priority)), state) else {
            return Err(QueueError::NotASender { queue: self.spec.plan.name.clone() });
        };
        reached("queue.send.begun");
        let message = sealer.seal(&self.spec, &self.keys, body, priority, number)?;
        reached("queue.send.sealed");
        let reported = self.tap.as_ref().zip(*number);
        if let Some((tap, number)) = reported {
            report::sending(tap, number, message);
        }
        let sent = mqueue::send(&*lane.fd, message, priority.into());
        if let Some((tap, unsent)) = reported
            && !matches!(sent, Ok(true))
        {
            report::unsent(tap, unsent, message);
            *number = None;
        }
        let sent = sent.map_err(|error| QueueError::System { what: "mq_timedsend", error })?;
        reached(if sent { "queue.send.accepted" } else { "queue.send.no-room" });
        Ok(sent.then_some(Sent { dropped: 0 }))
    }

    /// Hears what the supervisor has said, if that was not done just now: there may be a new key.
    fn listen(&self) -> Result<(), QueueError> {
        let now = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        let news = u64::try_from(NEWS.as_micros()).unwrap_or(0);
        if now.saturating_sub(self.listened.load(Ordering::Relaxed)) < news {
            return Ok(());
        }
        self.listened.store(now, Ordering::Relaxed);
        match self.companion.get().and_then(Weak::upgrade) {
            Some(companion) => wait::attend(&*companion),
            None => Ok(()),
        }
    }

    fn receives(&self) -> Result<Arc<Vec<Arc<Lane>>>, QueueError> {
        let lanes = Arc::clone(&lock(&self.receiving).lanes);
        if lanes.is_empty() {
            return Err(QueueError::NotAReceiver { queue: self.spec.plan.name.clone() });
        }
        Ok(lanes)
    }

    /// Takes the next message; what was taken before is done with.
    fn try_recv(&self) -> Result<Option<Event>, QueueError> {
        let Some((gauge, in_hand)) = self.gauge.get() else { return self.take_next() };
        *lock(in_hand) = None;
        let event = self.take_next()?;
        *lock(in_hand) = event.as_ref().map(|_| gauge.take());
        Ok(event)
    }

    /// Takes the next message and opens it; `None` if there is none.
    fn take_next(&self) -> Result<Option<Event>, QueueError> {
        // A fork has no keys: what it took would be lost.
        if is_copy() {
            return Err(SealError::Copy.into());
        }
        let mut receiving = lock(&self.receiving);
        let Side { lanes, state: (opener, buffer) } = &mut *receiving;
        let several = if lanes.len() > 1 { wait::filled(lanes)? } else { Vec::new() };
        let filled = if lanes.len() > 1 { &several[..] } else { &[0][..lanes.len()] };
        for &place in filled.iter().rev() {
            reached("queue.receive.begun");
            let taken = mqueue::receive(&*lanes[place].fd, buffer)
                .map_err(|error| QueueError::System { what: "mq_timedreceive", error })?;
            // Another receiver may have been quicker.
            let Some((length, delivered)) = taken else { continue };
            reached("queue.receive.taken");
            let message = &mut buffer[..length];
            // Whoever sent with a key had it after this receiver was told of it.
            if seal::epoch_of(message).is_some_and(|epoch| epoch > self.keys.newest()) {
                reached("queue.receive.unknown-key");
                if let Some(companion) = self.companion.get().and_then(Weak::upgrade) {
                    wait::attend(&*companion)?;
                }
            }
            let mut open =
                |message: &mut [u8]| opener.open(&self.spec, &self.keys, message, delivered);
            let event = match &self.tap {
                Some(tap) => report::taken(tap, message, open),
                None => open(message).map_or_else(Event::Refused, Event::Message),
            };
            reached("queue.receive.opened");
            return Ok(Some(event));
        }
        Ok(None)
    }

    fn make_room(&self, priority: u8) -> Ask {
        Ask::MakeRoom { queue: self.spec.number, priority }
    }

    /// How many messages the supervisor says it has dropped.
    fn room(&self, answer: io::Result<Answer>) -> Result<u32, QueueError> {
        reached("queue.send.room");
        let refused = |refusal| {
            let queue = self.spec.plan.name.clone();
            Err(QueueError::NoRoom { queue, refusal })
        };
        match answer {
            Ok(Answer::Dropped) => Ok(1),
            Ok(Answer::Done) => Ok(0),
            Ok(Answer::Refused(refusal)) => refused(refusal),
            Ok(Answer::Leased { .. }) => refused(Refusal::NotGranted),
            Err(error) => Err(QueueError::System { what: "the control socket", error }),
        }
    }

    fn full(&self) -> QueueError {
        let plan = &self.spec.plan;
        QueueError::Full { queue: plan.name.clone(), depth: plan.depth }
    }

    fn timeout(&self, waited: Duration) -> QueueError {
        QueueError::Timeout { queue: self.spec.plan.name.clone(), waited }
    }
}

impl Message {
    /// The value that the bytes hold. Bytes after it are an error.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match postcard::take_from_bytes(&self.body) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(DecodeError::Rest(rest.len())),
            Err(error) => Err(DecodeError::Value(error)),
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("spec", &self.0.spec).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
