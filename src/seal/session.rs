//! A session: what a finished handshake becomes. Two directions, each a key and a counter.

use zeroize::Zeroizing;

use super::SealError;
use super::aead::{Aead, Chosen, TAG, nonce};
use super::secret::{KEY, Key};

/// After how many records a direction changes its key.
///
/// 2^20 records of 64 KiB are 64 GiB: far below what ChaCha20-Poly1305 bears under one key, and
/// seldom enough to cost nothing. A key that leaks later opens at most that much of the past.
pub const REKEY_EVERY: u64 = 1 << 20;

/// The last usable record number; Noise keeps 2^64 - 1 for rekeying (section 5.1).
pub const LAST: u64 = u64::MAX - 1;

/// Two sealed directions between the same two ends.
pub struct Session<A: Aead = Chosen> {
    send: Direction<A>,
    receive: Direction<A>,
    binding: [u8; 32],
}

impl<A: Aead> Session<A> {
    pub(super) fn new(send: Key, receive: Key, binding: [u8; 32]) -> Self {
        Self { send: Direction::new(send), receive: Direction::new(receive), binding }
    }

    /// Noise's handshake hash: the same at both ends, and at no other pair of ends.
    pub fn binding(&self) -> &[u8; 32] {
        &self.binding
    }

    /// The number of the next record to be sent; it belongs in the record's header, which
    /// [`Session::seal`] then authenticates.
    pub fn next_send(&self) -> u64 {
        self.send.next
    }

    /// The number that the next record received must have.
    pub fn next_receive(&self) -> u64 {
        self.receive.next
    }

    /// Seals the next record in place. Each call uses up a number, whatever becomes of the
    /// record.
    pub fn seal(&mut self, header: &[u8], body: &mut [u8]) -> Result<[u8; TAG], SealError> {
        let number = self.send.step()?;
        self.send.aead.seal(&nonce(number), header, body)
    }

    /// Opens the next record in place. After an error the session can't go on: the record that
    /// belongs to this number is lost.
    pub fn open(
        &mut self,
        header: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), SealError> {
        let number = self.receive.step()?;
        self.receive.aead.open(&nonce(number), header, body, tag)
    }

    /// Moves both counters, as if that many records had passed: for tests of what happens at
    /// the schedule's edges.
    #[cfg(any(test, feature = "testing"))]
    pub fn skip_to(&mut self, number: u64) {
        self.send.next = number;
        self.receive.next = number;
    }

    /// The same keys behind another cipher implementation, for tests that they agree.
    #[cfg(any(test, feature = "testing"))]
    pub fn convert<B: Aead>(self) -> Session<B> {
        Session {
            send: Direction::new(self.send.key),
            receive: Direction::new(self.receive.key),
            binding: self.binding,
        }
    }
}

impl<A: Aead> std::fmt::Debug for Session<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("sent", &self.send.next)
            .field("received", &self.receive.next)
            .finish_non_exhaustive()
    }
}

struct Direction<A> {
    aead: A,
    key: Key,
    next: u64,
}

impl<A: Aead> Direction<A> {
    fn new(key: Key) -> Self {
        Self { aead: A::new(&key), key, next: 0 }
    }

    /// The next number, after changing the key if its turn has come.
    fn step(&mut self) -> Result<u64, SealError> {
        if self.next > LAST {
            return Err(SealError::Exhausted);
        }
        if self.next != 0 && self.next.is_multiple_of(REKEY_EVERY) {
            self.rekey()?;
        }
        let number = self.next;
        self.next += 1;
        Ok(number)
    }

    /// Noise's REKEY: the first 32 bytes of zeroes sealed under the last nonce (section 4.2).
    fn rekey(&mut self) -> Result<(), SealError> {
        let mut fresh = Zeroizing::new([0; KEY]);
        self.aead.seal(&nonce(u64::MAX), &[], &mut *fresh)?;
        self.key = Key::take(&mut fresh);
        self.aead = A::new(&self.key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Session, Session) {
        let keys = || (Key::take(&mut [1; 32]), Key::take(&mut [2; 32]));
        let ((a, b), (c, d)) = (keys(), keys());
        (Session::new(a, b, [0; 32]), Session::new(d, c, [0; 32]))
    }

    fn passes(from: &mut Session, to: &mut Session) {
        let mut body = *b"over the bridge";
        let tag = from.seal(b"head", &mut body).unwrap();
        assert_ne!(&body, b"over the bridge");
        to.open(b"head", &mut body, &tag).unwrap();
        assert_eq!(&body, b"over the bridge");
    }

    #[test]
    fn both_directions_open_what_the_other_end_sealed() {
        let (mut a, mut b) = pair();
        passes(&mut a, &mut b);
        passes(&mut b, &mut a);
    }

    #[test]
    fn both_ends_change_keys_at_the_same_record() {
        let (mut a, mut b) = pair();
        a.skip_to(REKEY_EVERY - 1);
        b.skip_to(REKEY_EVERY - 1);
        let before = *a.send.key.bytes();
        passes(&mut a, &mut b);
        assert_eq!(a.send.key.bytes(), &before);
        passes(&mut a, &mut b);
        assert_ne!(a.send.key.bytes(), &before);
        assert_eq!(a.send.key.bytes(), b.receive.key.bytes());
        passes(&mut b, &mut a);
    }

    #[test]
    fn an_end_that_missed_the_change_opens_nothing() {
        let (mut a, mut b) = pair();
        a.skip_to(REKEY_EVERY);
        b.skip_to(REKEY_EVERY);
        let mut body = *b"late";
        let tag = a.seal(b"", &mut body).unwrap();
        b.receive.next += 1;
        assert_eq!(b.open(b"", &mut body, &tag), Err(SealError::NotAuthentic));
    }

    #[test]
    fn the_last_number_is_used_and_none_after_it() {
        let (mut a, mut b) = pair();
        a.skip_to(LAST);
        b.skip_to(LAST);
        passes(&mut a, &mut b);
        assert_eq!(a.seal(b"", &mut []), Err(SealError::Exhausted));
        assert_eq!(b.open(b"", &mut [], &[0; TAG]), Err(SealError::Exhausted));
        assert_eq!(a.seal(b"", &mut []), Err(SealError::Exhausted));
    }
}
