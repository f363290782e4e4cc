//! A message queue as the supervisor holds it, and its keys.
//!
//! The supervisor keeps the kernel's queues open, so what they hold outlives every layer, and it
//! hands out keys that it never sees: the kernel copies them from its random device into memory
//! files, and from older ones into newer ones (`sendfile(2)`), which nobody changes afterwards.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use super::Handed;
use crate::ident::Name;
use crate::ipc::queue::MOST_EPOCHS;
use crate::mark::reached;
use crate::policy::plan::QueuePlan;
use crate::prepare::upgrade::state::{self, Luggage};
use crate::seal::secret::KEY;
use crate::sys::{memory, mqueue};
use crate::wire::control::{Object, ToLayer};

/// Keys that stay when old ones are let go of, which is when they are as many as a member holds
/// and no message is in the queue. A sender that is that many behind is lost.
const KEPT_EPOCHS: usize = MOST_EPOCHS / 2;

/// The kernel's random device.
const RANDOM: &str = "/dev/urandom";

/// A message queue.
pub struct Queue {
    plan: QueuePlan,
    /// The receiving ends of its lanes.
    ends: Vec<OwnedFd>,
    keys: Keys,
}

impl Queue {
    /// Takes the receiving ends that were made for it, and makes its first key.
    pub fn new(plan: &QueuePlan, ends: Vec<OwnedFd>) -> io::Result<Self> {
        Ok(Self { plan: plan.clone(), ends, keys: Keys::begin()? })
    }

    /// Its keys, for a program that takes this one's place.
    pub fn carry(&self, luggage: &mut Luggage) -> state::Queue {
        let Keys { epoch, count, all, newest, .. } = &self.keys;
        let (all, newest) = (luggage.add(all), luggage.add(newest));
        state::Queue { epoch: *epoch, count: *count as u64, all, newest }
    }

    /// The queue with the keys that the program before has left.
    pub fn carried(plan: &QueuePlan, ends: Vec<OwnedFd>, from: &state::Queue) -> io::Result<Self> {
        let count = usize::try_from(from.count).map_err(io::Error::other)?;
        let (all, newest) = (from.all.take()?, from.newest.take()?);
        let random = File::open(RANDOM)?;
        let keys = Keys { epoch: from.epoch, count, all, newest, random };
        Ok(Self { plan: plan.clone(), ends, keys })
    }

    /// The keys that `layer` needs: a receiver those of all messages that may be in the queue.
    pub fn keys_of(&self, layer: &Name, number: u16) -> io::Result<Option<Handed>> {
        let memory = if self.receives(layer) {
            &self.keys.all
        } else if self.plan.send.contains(layer) {
            &self.keys.newest
        } else {
            return Ok(None);
        };
        let message = ToLayer::Object { kind: Object::QueueKey, number, part: self.keys.epoch };
        Ok(Some((message, memory.try_clone()?)))
    }

    /// Whether `layer` sends or receives.
    pub fn has_member(&self, layer: &Name) -> bool {
        self.plan.send.contains(layer) || self.receives(layer)
    }

    /// Whether `layer` receives.
    pub fn receives(&self, layer: &Name) -> bool {
        self.plan.receive.contains(layer)
    }

    /// The queue's name.
    pub fn name(&self) -> &Name {
        &self.plan.name
    }

    /// Begins an epoch with a new key. `Ok(false)`: so many keys are needed for messages that are
    /// still in the queue that there is no room for another; the newest stays in use.
    pub fn rekey(&mut self) -> io::Result<bool> {
        let full = self.keys.count == MOST_EPOCHS;
        if full && !self.is_empty()? {
            return Ok(false);
        }
        self.keys = self.keys.next(if full { KEPT_EPOCHS } else { self.keys.count })?;
        Ok(true)
    }

    fn is_empty(&self) -> io::Result<bool> {
        for end in &self.ends {
            if mqueue::attributes(end)?.held > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The keys of consecutive epochs.
struct Keys {
    /// The newest epoch, from 1.
    epoch: u32,
    /// How many keys are in `all`.
    count: usize,
    /// Those that are kept, the newest last.
    all: OwnedFd,
    /// The newest alone.
    newest: OwnedFd,
    random: File,
}

impl Keys {
    /// The first epoch.
    fn begin() -> io::Result<Self> {
        Self::begin_from(RANDOM)
    }

    /// Where the kernel copies none there is no queue: the supervisor would have to read the key.
    fn begin_from(random: &str) -> io::Result<Self> {
        let none = |what: &str, error: &io::Error| {
            let why = format!(
                "{what} {random}: {error}; the kernel makes the keys of a queue from it, unseen by \
                 the supervisor: give the daemon the kernel's own device there"
            );
            io::Error::new(error.kind(), why)
        };
        let source = File::open(random).map_err(|error| none("can't open", &error))?;
        let newest = memory::filled("cofferdam-key", |to| memory::copy(&source, None, to, KEY))
            .map_err(|error| none("can't copy from", &error))?;
        Ok(Self { epoch: 1, count: 1, all: newest.try_clone()?, newest, random: source })
    }

    /// The next epoch, with the last `keep` keys of before.
    fn next(&self, keep: usize) -> io::Result<Self> {
        let epoch = self.epoch.checked_add(1).ok_or(io::ErrorKind::QuotaExceeded)?;
        let newest =
            memory::filled("cofferdam-key", |to| memory::copy(&self.random, None, to, KEY))?;
        reached("queue.rekey.made");
        let all = memory::filled("cofferdam-key", |to| {
            let skipped = (self.count - keep) * KEY;
            memory::copy(&self.all, Some(skipped as u64), to, keep * KEY)?;
            memory::copy(&newest, Some(0), to, KEY)
        })?;
        let random = self.random.try_clone()?;
        Ok(Self { epoch, count: keep + 1, all, newest, random })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::SealFlags;

    use super::*;
    use crate::wire::queue::SEALING;

    fn bytes(memory: &OwnedFd) -> Vec<u8> {
        let file = File::from(memory.try_clone().unwrap());
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn lane(depth: u64, size: u64) -> [OwnedFd; 2] {
        let name = format!("/cofferdam-test-{}", std::process::id());
        let name = std::ffi::CString::new(name).unwrap();
        let receiving = mqueue::create(&name, depth, size).unwrap();
        let sending = mqueue::open_to_send(&name).unwrap();
        mqueue::unlink(&name).unwrap();
        [sending, receiving]
    }

    #[test]
    fn a_queue_that_is_never_empty_keeps_every_key_that_it_may_need() {
        use crate::policy::plan::{Audit, OnFull};
        let name = |text| Name::new(text).unwrap();
        let [sending, receiving] = lane(2, 8 + SEALING as u64);
        let mut queue = Queue::new(
            &QueuePlan {
                name: name("jobs"),
                send: vec![name("a")],
                receive: vec![name("r")],
                depth: 2,
                max: 8,
                priorities: 1,
                on_full: OnFull::Reject,
                audit: Audit::Digest,
            },
            vec![receiving.try_clone().unwrap()],
        )
        .unwrap();
        assert!(mqueue::send(sending, b"waits", 0).unwrap());
        for count in 2..=MOST_EPOCHS {
            assert!(queue.rekey().unwrap());
            assert_eq!(queue.keys.count, count);
        }
        let first = bytes(&queue.keys.all)[..KEY].to_vec();
        assert!(!queue.rekey().unwrap());
        assert_eq!(bytes(&queue.keys.all)[..KEY], first);
        let mut buffer = vec![0; 64];
        assert!(mqueue::receive(receiving, &mut buffer).unwrap().is_some());
        assert!(queue.rekey().unwrap());
        assert_eq!(queue.keys.count, KEPT_EPOCHS + 1);
        assert_eq!(usize::try_from(queue.keys.epoch).unwrap(), MOST_EPOCHS + 1);
    }

    #[test]
    fn without_the_kernels_random_device_there_is_no_queue() {
        for (source, text) in [
            ("/dev/nothing", "can't open /dev/nothing: No such file"),
            ("/dev/null", "can't copy from /dev/null: "),
        ] {
            let error = Keys::begin_from(source).err().unwrap().to_string();
            assert!(error.starts_with(text) && error.contains("give the daemon"), "{error}");
        }
    }

    #[test]
    fn epochs_keep_the_keys_of_before_and_nobody_writes_them() {
        let first = Keys::begin().unwrap();
        let second = first.next(1).unwrap();
        let third = second.next(2).unwrap();
        let last = third.next(1).unwrap();
        assert_eq!((last.epoch, last.count), (4, 2));
        let keys = [&first.newest, &second.newest, &third.newest, &last.newest].map(bytes);
        assert_eq!(bytes(&third.all), keys[..3].concat());
        assert_eq!(bytes(&last.all), keys[2..].concat());
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(key.len(), KEY);
            assert!(!keys[..place].contains(key) && key.iter().any(|&byte| byte != 0));
        }
        for memory in [&last.all, &last.newest] {
            assert!(rustix::io::write(memory, b"x").is_err());
            assert!(rustix::fs::ftruncate(memory, 0).is_err());
            let seals = rustix::fs::fcntl_get_seals(memory).unwrap();
            assert!(seals.contains(SealFlags::SEAL | SealFlags::WRITE | SealFlags::SHRINK));
        }
    }
}
