//! The keys of a queue, as one of its members holds them.
//!
//! The supervisor makes a key for every *epoch*, which begins when a member dies, and hands it out
//! in sealed memory. A sender needs the newest only, a receiver also those of messages that were
//! accepted earlier. They lie on a page of their own; the memory that they came in is let go of.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::seal::SealError;
use crate::seal::derive::derive;
use crate::seal::secret::{KEY, Key};
use crate::sys::secret_page::SecretPage;

/// The most keys that a member holds: a page of them.
pub const MOST: usize = SecretPage::SIZE / KEY;

pub(super) struct Keys {
    newest: AtomicU32,
    ring: Mutex<Ring>,
}

/// Keys of consecutive epochs.
struct Ring {
    page: SecretPage,
    count: usize,
}

impl Keys {
    pub(super) fn new(page: SecretPage) -> Self {
        Self { newest: AtomicU32::new(0), ring: Mutex::new(Ring { page, count: 0 }) }
    }

    /// The newest epoch; 0 before there is a key.
    pub(super) fn newest(&self) -> u32 {
        self.newest.load(Ordering::Acquire)
    }

    /// Takes keys up: as many as there are in `memory`, the last of them of epoch `newest`.
    pub(super) fn take(&self, newest: u32, memory: impl AsFd) -> io::Result<()> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let length = rustix::io::pread(memory, &mut ring.page.bytes_mut()[..], 0)?;
        let count = length / KEY;
        ring.count = 0;
        if count == 0 || !length.is_multiple_of(KEY) {
            return Err(invalid("a queue's keys are cut off"));
        }
        if u32::try_from(count).is_ok_and(|count| count > newest) {
            return Err(invalid("more keys of a queue than epochs"));
        }
        ring.count = count;
        self.newest.store(newest, Ordering::Release);
        Ok(())
    }

    /// What the key of `epoch` gives for these parts; `None` without such a key.
    pub(super) fn derive(
        &self,
        epoch: u32,
        label: &str,
        parts: &[&[u8]],
    ) -> Option<Result<Key, SealError>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = usize::try_from(self.newest().checked_sub(epoch)?).ok()?;
        let place = ring.count.checked_sub(behind.checked_add(1)?)?;
        let secret = ring.page.bytes().get(place * KEY..)?.first_chunk()?;
        Some(derive(secret, label, parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn memory(keys: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        for key in keys {
            file.write_all(&[*key; KEY]).unwrap();
        }
        file.rewind().unwrap();
        file
    }

    #[test]
    fn an_epoch_finds_its_key_and_no_other() {
        let keys = Keys::new(SecretPage::new().unwrap().0);
        let key = |epoch| keys.derive(epoch, "", &[]).map(|key| *key.unwrap().bytes());
        let of = |byte| Some(*derive(&[byte; KEY], "", &[]).unwrap().bytes());
        assert_eq!((keys.newest(), key(0), key(1)), (0, None, None));
        keys.take(5, memory(&[3, 4, 5])).unwrap();
        assert_eq!(keys.newest(), 5);
        assert_eq!([key(2), key(3), key(4), key(5), key(6)], [None, of(3), of(4), of(5), None]);
        keys.take(6, memory(&[6])).unwrap();
        assert_eq!([key(5), key(6)], [None, of(6)]);
    }

    #[test]
    fn what_are_no_keys_is_refused() {
        let keys = Keys::new(SecretPage::new().unwrap().0);
        assert!(keys.take(1, memory(&[])).is_err());
        assert!(keys.take(1, memory(&[1, 2])).is_err());
        assert_eq!(keys.newest(), 0);
    }
}
