//! The commit, replayed as a disk may have seen it.

#![allow(clippy::cast_possible_truncation, reason = "patterns and chance")]

use std::cell::RefCell;

use super::*;

const SIZE: usize = SMALLEST as usize;
const SECTOR: usize = 512;

/// Memory that remembers what was written to it, and where it was synced.
struct Disk {
    now: RefCell<Vec<u8>>,
    log: RefCell<Vec<Event>>,
}

#[derive(Clone, Debug)]
enum Event {
    Write(usize, Vec<u8>),
    Sync,
}

impl Disk {
    fn new(image: Vec<u8>) -> Self {
        Self { now: RefCell::new(image), log: RefCell::default() }
    }

    fn fresh() -> Self {
        let mut image = blank(SIZE);
        image.resize(SIZE, 0);
        Self::new(image)
    }
}

impl Cells for Disk {
    fn size(&self) -> usize {
        SIZE
    }
    fn load(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.now.borrow()[at..at + 8].try_into().unwrap())
    }
    fn load_acquire(&self, at: usize) -> u64 {
        self.load(at)
    }
    fn store(&self, at: usize, value: u64) {
        self.copy_in(at, &value.to_ne_bytes());
    }
    fn store_release(&self, at: usize, value: u64) {
        self.store(at, value);
    }
    fn exchange(&self, _: usize, _: u64, _: u64) -> Result<(), u64> {
        Ok(())
    }
    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.now.borrow()[offset..offset + into.len()]);
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.now.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
        self.log.borrow_mut().push(Event::Write(offset, from.to_vec()));
    }
    fn wake(&self, _: usize) {}
    fn sync(&self, _: usize, _: usize) -> io::Result<()> {
        self.log.borrow_mut().push(Event::Sync);
        Ok(())
    }
}

fn content(which: u8) -> Vec<u8> {
    (0..2000_usize + usize::from(which) * 13).map(|at| (at as u8).wrapping_mul(which)).collect()
}

fn read_back(image: Vec<u8>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    read(&Disk::new(image), &mut bytes).map(|_| bytes)
}

/// Applies a write in sectors: `take` says of each whether the disk has it.
fn apply(image: &mut [u8], write: &(usize, Vec<u8>), take: &mut impl FnMut() -> bool) {
    let (mut at, end) = (write.0, write.0 + write.1.len());
    while at < end {
        let next = ((at / SECTOR + 1) * SECTOR).min(end);
        if take() {
            image[at..next].copy_from_slice(&write.1[at - write.0..next - write.0]);
        }
        at = next;
    }
}

/// Power cuts: between two syncs the disk takes any sectors of what was written, in whatever
/// order, and forgets the rest. What is found afterwards is the content before or the one after,
/// and once the commit has returned, the one after.
#[test]
fn a_durable_commit_survives_a_power_cut_at_any_instant() {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let (mut old_seen, mut new_seen) = (0, 0);
    let mut image = Disk::fresh().now.into_inner();
    let mut old = Vec::new();
    for which in 1..40_u8 {
        let disk = Disk::new(image.clone());
        let from = generation(&disk).unwrap();
        let new = content(which);
        commit(&disk, from, &new, true).unwrap();
        let log = disk.log.into_inner();
        for cut in 0..=log.len() {
            for _ in 0..20 {
                let mut synced = image.clone();
                let mut pending: Vec<(usize, Vec<u8>)> = Vec::new();
                for event in &log[..cut] {
                    match event {
                        Event::Write(at, bytes) => pending.push((*at, bytes.clone())),
                        Event::Sync => pending
                            .drain(..)
                            .for_each(|write| apply(&mut synced, &write, &mut || true)),
                    }
                }
                for at in (1..pending.len()).rev() {
                    // Writes to the same sector keep their order; the rest is shuffled.
                    let other = random() as usize % (at + 1);
                    if pending[at].0 / SECTOR != pending[other].0 / SECTOR && random() % 2 == 0 {
                        pending.swap(at, other);
                    }
                }
                for write in &pending {
                    apply(&mut synced, write, &mut || random() % 2 == 0);
                }
                let found = read_back(synced).expect("one half is whole");
                assert!(found == old || found == new, "cut {cut} of commit {which}");
                if cut == log.len() {
                    assert_eq!(found, new, "a commit that returned is lost");
                }
                old_seen += u32::from(found == old);
                new_seen += u32::from(found == new);
            }
        }
        (image, old) = (disk.now.into_inner(), new);
    }
    assert!(old_seen > 100 && new_seen > 100, "{old_seen} {new_seen}");
}

/// kill -9: the page cache has every store up to some instant, and none after.
#[test]
fn any_commit_survives_a_kill_after_any_store() {
    let mut image = Disk::fresh().now.into_inner();
    let mut old = Vec::new();
    for which in 1..20_u8 {
        let disk = Disk::new(image.clone());
        let new = content(which);
        commit(&disk, generation(&disk).unwrap(), &new, false).unwrap();
        let log = disk.log.into_inner();
        for cut in 0..=log.len() {
            let mut found = image.clone();
            for event in &log[..cut] {
                if let Event::Write(at, bytes) = event {
                    found[*at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
            let found = read_back(found).expect("one half is whole");
            assert_eq!(found, if cut == log.len() { new.clone() } else { old.clone() }, "{cut}");
        }
        (image, old) = (disk.now.into_inner(), new);
    }
}

/// The same must not hold for a commit in the wrong order, or the tests above show nothing.
#[test]
fn a_header_before_its_content_would_be_noticed() {
    let disk = Disk::fresh();
    commit(&disk, 0, &content(1), true).unwrap();
    let before = disk.now.borrow().clone();
    commit(&disk, 1, &content(2), true).unwrap();
    commit(&disk, 2, &content(3), true).unwrap();
    let after = disk.now.into_inner();
    // Both headers are new, and neither content is.
    let mut wrong = after.clone();
    wrong[CONTENT..].copy_from_slice(&before[CONTENT..]);
    assert_eq!(read_back(wrong), None);
    // Only the newer content is missing: the older one counts.
    let mut torn = after;
    let at = CONTENT + capacity(SIZE);
    torn[at + 5] ^= 1;
    assert_eq!(read_back(torn), Some(content(2)));
}

#[test]
fn what_a_file_is_shows_at_its_beginning() {
    let mut head = vec![0; 8192];
    assert_eq!(kind(&head), Kind::Blank);
    head[9] = 1;
    assert_eq!(kind(&head), Kind::Foreign);
    let mut ours = blank(SIZE);
    ours.resize(8192, 0);
    assert_eq!(kind(&ours), Kind::Ours);
    ours[7] = b'2';
    assert_eq!(kind(&ours), Kind::OtherVersion);
    assert_eq!(kind(b"short"), Kind::Foreign);
    assert_eq!(kind(b""), Kind::Blank);
}

#[test]
fn headers_that_lie_are_not_believed() {
    let disk = Disk::fresh();
    commit(&disk, 0, &content(1), false).unwrap();
    let good = disk.now.into_inner();
    for (word, value) in [(1, 3_u64), (2, u64::MAX), (2, 1), (4, 1 << 40), (5, 0), (3, 0)] {
        let mut image = good.clone();
        image[4096 + word * 8..][..8].copy_from_slice(&value.to_ne_bytes());
        assert_eq!(read_back(image), Some(Vec::new()), "word {word}");
    }
}
