//! The ring on memory of other kinds: that of loom, which shows every order in which two threads
//! may see each other's writes, and that of a hostile peer.

#![allow(clippy::cast_possible_truncation, reason = "patterns and chance")]

use std::io;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use super::*;
use crate::sys::mapping::Mapping;

/// Memory of loom's. A sleeper gives way until it is woken: one that is never woken is found as
/// a path without end.
struct Model(Vec<AtomicU64>, AtomicU64);

impl Model {
    fn new(bytes: usize) -> Self {
        let words = (0..bytes / WORD).map(|_| AtomicU64::new(0)).collect();
        Self(words, AtomicU64::new(0))
    }

    /// As the kernel: it doesn't return before it is woken. (That the word has changed already is no
    /// way out here, so the model is stricter than a futex.)
    fn sleep(&self, at: usize) {
        while self.1.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        self.store(at, 0);
    }
}

impl Cells for Model {
    fn size(&self) -> usize {
        self.0.len() * WORD
    }
    fn load(&self, at: usize) -> u64 {
        self.0[at / WORD].load(Ordering::Relaxed)
    }
    fn load_acquire(&self, at: usize) -> u64 {
        self.0[at / WORD].load(Ordering::Acquire)
    }
    fn store(&self, at: usize, value: u64) {
        self.0[at / WORD].store(value, Ordering::Relaxed);
    }
    fn store_release(&self, at: usize, value: u64) {
        self.0[at / WORD].store(value, Ordering::Release);
    }
    fn exchange(&self, at: usize, old: u64, new: u64) -> Result<(), u64> {
        let word = &self.0[at / WORD];
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).map(drop)
    }
    fn barrier(&self) {
        fence(Ordering::SeqCst);
    }
    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        for (at, word) in (offset..).step_by(WORD).zip(into.chunks_mut(WORD)) {
            word.copy_from_slice(&self.load(at).to_ne_bytes()[..word.len()]);
        }
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        for (at, word) in (offset..).step_by(WORD).zip(from.chunks(WORD)) {
            let mut whole = [0; WORD];
            whole[..word.len()].copy_from_slice(word);
            self.store(at, u64::from_ne_bytes(whole));
        }
    }
    fn wake(&self, _: usize) {
        self.1.store(1, Ordering::Release);
    }
    fn sync(&self, _: usize, _: usize) -> io::Result<()> {
        Ok(())
    }
}

/// Every order in which a producer and a consumer may see each other: the message comes, whole,
/// and a consumer that sleeps is woken.
#[test]
fn no_order_tears_a_message_or_loses_a_wake_up() {
    loom::model(|| {
        let cells = Arc::new(Model::new(HEAD + 3 * WORD));
        let far = Arc::clone(&cells);
        let sender = thread::spawn(move || {
            let mut producer = Producer::resume(&*far);
            assert_eq!(producer.send(&*far, b"12345678"), Ok(true));
        });
        let mut consumer = Consumer::resume(&*cells);
        let mut message = Vec::new();
        while consumer.receive(&*cells, &mut message) != Ok(true) {
            if consumer.arm_wakeup(&*cells).unwrap() {
                cells.sleep(AT_CONSUMER_SLEEPS);
            }
        }
        assert_eq!(message, b"12345678");
        sender.join().unwrap();
    });
}

/// The same for a producer that waits for room.
#[test]
fn no_order_leaves_a_producer_asleep() {
    loom::model(|| {
        let cells = Arc::new(Model::new(HEAD + 2 * WORD));
        let mut producer = Producer::resume(&*cells);
        assert_eq!(producer.send(&*cells, b"12345678"), Ok(true));
        let far = Arc::clone(&cells);
        let receiver = thread::spawn(move || {
            let mut consumer = Consumer::resume(&*far);
            let mut message = Vec::new();
            assert_eq!(consumer.receive(&*far, &mut message), Ok(true));
            assert_eq!(message, b"12345678");
        });
        while producer.send(&*cells, b"abcdefgh") != Ok(true) {
            if producer.arm_wakeup(&*cells).unwrap() {
                cells.sleep(AT_PRODUCER_SLEEPS);
            }
        }
        receiver.join().unwrap();
        let mut consumer = Consumer::resume(&*cells);
        let mut message = Vec::new();
        assert_eq!(consumer.receive(&*cells, &mut message), Ok(true));
        assert_eq!(message, b"abcdefgh");
    });
}

fn memory() -> Mapping {
    let fd = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, 4096).unwrap();
    Mapping::sealed(std::os::fd::AsFd::as_fd(&fd), 4096, true).unwrap()
}

#[test]
fn carries_messages_of_all_lengths_over_the_end() {
    let cells = memory();
    let (mut producer, mut consumer) = (Producer::resume(&cells), Consumer::resume(&cells));
    let mut message = Vec::new();
    for round in 0..20_000_usize {
        let sent: Vec<u8> = (0..round * 7 % 1500).map(|at| (at ^ round) as u8).collect();
        assert_eq!(producer.send(&cells, &sent), Ok(true));
        if round % 3 == 0 {
            // The next life goes on where the former stopped.
            (producer, consumer) = (Producer::resume(&cells), Consumer::resume(&cells));
        }
        assert_eq!(consumer.receive(&cells, &mut message), Ok(true));
        assert_eq!(message, sent);
        assert_eq!(consumer.receive(&cells, &mut message), Ok(false));
    }
}

#[test]
fn is_full_when_it_is_full() {
    let cells = memory();
    let (mut producer, mut consumer) = (Producer::resume(&cells), Consumer::resume(&cells));
    let largest = vec![7; capacity(4096)];
    assert_eq!(producer.send(&cells, &largest), Ok(true));
    assert_eq!(producer.send(&cells, b""), Ok(false));
    let mut message = Vec::new();
    assert_eq!(consumer.receive(&cells, &mut message), Ok(true));
    assert_eq!(message, largest);
    for _ in 0..room(4096) / WORD {
        assert_eq!(producer.send(&cells, b""), Ok(true));
    }
    assert_eq!(producer.send(&cells, b""), Ok(false));
}

#[test]
fn impossible_positions_and_lengths_are_faults() {
    let cells = memory();
    for written in [u64::MAX, 1 << 40, 3, 4096] {
        cells.store(AT_WRITTEN, written);
        let mut consumer = Consumer::resume(&cells);
        assert_eq!(consumer.receive(&cells, &mut Vec::new()), Err(POSITION), "{written}");
    }
    for length in [u64::MAX, 1 << 31, 4096, 17, 9] {
        cells.store(AT_WRITTEN, 16);
        cells.store(HEAD, frame(0, 0) | length & 0xffff_ffff);
        let mut consumer = Consumer::resume(&cells);
        let mut message = Vec::new();
        assert_eq!(consumer.receive(&cells, &mut message), Err(FRAME), "{length}");
        assert_eq!(message.capacity(), 0);
        // The way on, once the producer is another.
        assert_eq!(consumer.skip(&cells), Ok(()));
        cells.store(AT_READ, 0);
    }
    let mut producer = Producer::resume(&cells);
    while producer.send(&cells, b"x") == Ok(true) {}
    for read in [u64::MAX, 1 << 40, 3, 8192] {
        cells.store(AT_READ, read);
        assert_eq!(producer.send(&cells, b"x"), Err(POSITION), "{read}");
    }
}

/// A peer that writes anything anywhere, at any time: whatever comes out is bounded, and nothing
/// panics.
#[test]
fn a_hostile_peer_is_a_fault_and_nothing_worse() {
    let cells = memory();
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let (mut producer, mut consumer) = (Producer::resume(&cells), Consumer::resume(&cells));
    let mut message = Vec::new();
    let mut faults = 0;
    for _ in 0..200_000 {
        match random() % 8 {
            0 => cells.store((random() % 64) as usize * WORD, random() % 8192),
            1 => cells.store((random() % 512) as usize * WORD, random()),
            2 => (producer, consumer) = (Producer::resume(&cells), Consumer::resume(&cells)),
            3 => faults += u32::from(consumer.skip(&cells).is_err()),
            4 | 5 => faults += u32::from(producer.send(&cells, &[1; 40]).is_err()),
            _ => faults += u32::from(consumer.receive(&cells, &mut message).is_err()),
        }
        assert!(message.len() <= capacity(4096));
    }
    assert!(faults > 100, "{faults}");
}
