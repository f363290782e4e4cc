//! The audit log as a whole: written, read, and broken in every way by somebody who can write its
//! files, with the checksums put right again.

#[path = "../../fuzz/src/audit.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

use crate::support::log::*;
use cofferdam::audit::entry::{Entry, Facility, Kind, Side};
use cofferdam::audit::frame::{self, PayloadState};
use cofferdam::audit::log::Order;
use cofferdam::audit::prove::{prove, prove_extension};
use cofferdam::audit::query::{Filter, query};
use cofferdam::audit::redact::{Redaction, redact};
use cofferdam::audit::segment::Header;
use cofferdam::audit::verify::{Options as Verify, Unknown, What};
use cofferdam::audit::{Log, LogError, Options, Store};
use tempfile::tempdir;

crate::support::suite::tests! {
    a_sound_log_verifies_and_says_what_cannot_be_known,
    every_flipped_bit_is_found_and_its_record_named,
    records_removed_swapped_repeated_or_spliced_are_found,
    the_verifier_in_python_agrees_on_good_and_on_damaged_logs,
    a_cut_tail_is_found_with_an_outside_checkpoint_and_only_with_one,
    the_holder_of_the_current_key_cannot_rewrite_an_older_epoch,
    old_segments_are_dropped_and_the_rest_still_verifies_and_proves,
    a_payload_is_removed_and_the_chain_still_verifies,
    queries_find_the_same_with_and_without_an_index,
    two_writers_are_refused,
    a_clock_that_jumps_is_recorded,
    a_log_is_read_alone,
    the_backlog_is_bounded_and_a_long_record_is_refused,
    any_bytes_are_read_or_refused,
}

fn a_sound_log_verifies_and_says_what_cannot_be_known() {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 200);
    let told = verify(dir.path());
    assert_eq!(told.findings, []);
    assert_eq!(told.unknown, [Unknown::NoOutside, Unknown::Replaced]);
    assert!(told.segments > 3 && told.epochs == told.segments as u64, "{told:?}");
    // Start, policy (again in each segment), 200, stop.
    assert_eq!(told.size, 202 + told.segments as u64);
    assert_eq!((told.signed, told.first), (told.size, 0));
}

/// Every bit of every file. That reading a frame, a header or a note alone notices each flip is
/// tried on all of them; that the whole verifier then names the record, on some of these
/// (`AUDIT_FLIP=10000` tries them in a longer log, `AUDIT_STRIDE=1` the verifier on each byte).
fn every_flipped_bit_is_found_and_its_record_named() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let dir = tempdir().unwrap();
    let options = Options { segment_bytes: 24_000, checkpoint_records: 500, ..small() };
    write(dir.path(), options, number("AUDIT_FLIP").unwrap_or(300));
    let stride = usize::try_from(number("AUDIT_STRIDE").unwrap_or(2_003)).unwrap();
    let mut flips = 0_u64;
    for name in files(dir.path(), ".log") {
        let path = dir.path().join(&name);
        let good = fs::read(&path).unwrap();
        let frames = frames(&good);
        let first = u64::from_le_bytes(good[56..64].try_into().unwrap());
        let header = frames[0].0;
        for (at, length) in [&[(0, header)], frames.as_slice()].concat() {
            let mut part = good[at..at + length].to_vec();
            for bit in 0..length * 8 {
                part[bit / 8] ^= 1 << (bit % 8);
                let passes = if at == 0 {
                    Header::parse(&part).is_ok()
                } else {
                    frame::parse(&part).is_ok_and(|f| f.payload_state() != PayloadState::Altered)
                };
                assert!(!passes, "{name}, byte {at}, bit {bit}");
                part[bit / 8] ^= 1 << (bit % 8);
                flips += 1;
            }
        }
        for byte in (0..header).step_by(31).chain((header..good.len()).step_by(stride)) {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            fs::write(&path, &bad).unwrap();
            let told = verify(dir.path());
            let record = frames.iter().position(|(at, length)| (*at..at + length).contains(&byte));
            let named = told.findings.iter().any(|finding| {
                finding.file == name && finding.record == record.map(|n| first + n as u64)
            });
            assert!(named, "{name}, byte {byte}, record {record:?}: {:?}", told.findings);
        }
        fs::write(&path, &good).unwrap();
    }
    for name in files(dir.path(), ".note") {
        let path = dir.path().join(&name);
        let good = fs::read(&path).unwrap();
        for byte in (0..good.len()).step_by(stride.min(211)) {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            fs::write(&path, &bad).unwrap();
            let told = verify(dir.path());
            assert!(told.findings.iter().any(|finding| finding.file == name), "{name} {byte}");
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(flips > 300 * 168 * 8, "{flips}");
    assert!(verify(dir.path()).sound());
}

type Change = Box<dyn Fn(&mut Vec<Vec<u8>>)>;

fn records_removed_swapped_repeated_or_spliced_are_found() {
    let dir = tempdir().unwrap();
    let other = tempdir().unwrap();
    write(dir.path(), small(), 200);
    write(other.path(), Options { segment_bytes: 9_000, ..small() }, 200);
    let name = "00000001.log";
    let bytes = fs::read(dir.path().join(name)).unwrap();
    let first = u64::from_le_bytes(bytes[56..64].try_into().unwrap());
    let foreign = {
        let bytes = fs::read(other.path().join(name)).unwrap();
        let (at, length) = frames(&bytes)[5];
        bytes[at..at + length].to_vec()
    };
    let elsewhere = {
        let bytes = fs::read(dir.path().join("00000002.log")).unwrap();
        let (at, length) = frames(&bytes)[5];
        bytes[at..at + length].to_vec()
    };
    let changes: [(&str, Change); 6] = [
        ("removed", Box::new(|frames| drop(frames.remove(5)))),
        ("swapped", Box::new(|frames| frames.swap(5, 6))),
        ("repeated", Box::new(|frames| frames.insert(5, frames[4].clone()))),
        ("from another segment", Box::new(move |frames| frames[5].clone_from(&elsewhere))),
        ("from another log", Box::new(move |frames| frames[5].clone_from(&foreign))),
        ("cut", Box::new(|frames| frames.truncate(5))),
    ];
    for (what, change) in &changes {
        let copied = copy(dir.path());
        forge(copied.path(), name, change);
        let told = verify(copied.path());
        let named = told.findings.iter().any(|f| f.record == Some(first + 5));
        assert!(named, "{what}: {:#?}", told.findings);
        same_in_python(copied.path());

        // The same with everything recomputed that needs no key.
        forge(copied.path(), name, |frames| relink(&bytes, frames));
        let told = verify(copied.path());
        let found = told
            .findings
            .iter()
            .any(|finding| matches!(finding.what, What::Rewritten { .. } | What::Seam | What::End));
        assert!(found, "{what}, recomputed: {:#?}", told.findings);
        same_in_python(copied.path());
    }
}

fn the_verifier_in_python_agrees_on_good_and_on_damaged_logs() {
    let dir = tempdir().unwrap();
    write(dir.path(), Options { checkpoint_records: 60, ..small() }, 80);
    same_in_python(dir.path());
    let mut random = 12_345_u64;
    for name in files(dir.path(), ".log").into_iter().chain(files(dir.path(), ".note")) {
        let path = dir.path().join(&name);
        let good = fs::read(&path).unwrap();
        for _ in 0..2 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bit = usize::try_from(random >> 33).unwrap() % (good.len() * 8);
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            same_in_python(dir.path());
        }
        fs::write(&path, &good[..good.len() - 7]).unwrap();
        same_in_python(dir.path());
        fs::write(&path, &good).unwrap();
    }
    fs::remove_file(dir.path().join("00000001.log")).unwrap();
    same_in_python(dir.path());
}

fn a_cut_tail_is_found_with_an_outside_checkpoint_and_only_with_one() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path(), Options::default(), 0);
    for n in 0..50 {
        log.append(&message(n, Side::Sender), &[], at(n)).unwrap();
    }
    log.checkpoint(at(50)).unwrap();
    let early = copy(dir.path());
    for n in 50..100 {
        log.append(&message(n, Side::Sender), &[], at(n)).unwrap();
    }
    let outside = log.signed(at(100)).unwrap();
    log.close(at(100)).unwrap();

    let options = Verify { outside: vec![outside.clone()], ..Verify::default() };
    assert!(verify_with(dir.path(), &options).sound());
    let cut = verify(early.path());
    assert!(cut.sound(), "{:?}", cut.findings);
    assert!(cut.unknown.contains(&Unknown::NoOutside) && cut.unknown.contains(&Unknown::NotClosed));
    let cut = verify_with(early.path(), &options);
    assert_eq!(cut.findings[0].what, What::TailCut { signed: 101, there: 51 });
    let note = tempfile::NamedTempFile::new().unwrap();
    fs::write(note.path(), outside).unwrap();
    let (sound, text) = python(early.path(), &[note.path().to_str().unwrap()]);
    assert!(!sound && text.contains("tail"), "{text}");
    assert!(python(dir.path(), &[note.path().to_str().unwrap()]).0);
}

fn the_holder_of_the_current_key_cannot_rewrite_an_older_epoch() {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 200);
    let name = "00000000.log";
    let bytes = fs::read(dir.path().join(name)).unwrap();
    forge(dir.path(), name, |frames| {
        frames[5][16 + 56] ^= 1;
        relink(&bytes, frames);
    });
    // Every later header, link and checkpoint can be made anew with what the thief has; what the
    // erased keys signed can't. So go on from the forged past, with the current key.
    let current = fs::read(dir.path().join("key")).unwrap();
    assert_ne!(&current[16..], [1; 32], "the first epoch's key is still there");
    let told = verify(dir.path());
    let epoch = |what: &What| matches!(what, What::Rewritten { epoch: 0, .. });
    assert!(told.findings.iter().any(|finding| epoch(&finding.what)), "{:#?}", told.findings);

    // Signing for the old epoch with the current key is no help.
    let seed: [u8; 32] = current[16..48].try_into().unwrap();
    let thief = ed25519_dalek::SigningKey::from_bytes(&seed);
    let notes = fs::read_to_string(dir.path().join("00000000.note")).unwrap();
    let mut forged = String::new();
    for note in notes.split_inclusive("\n\n").collect::<Vec<_>>().chunks(2) {
        let text = note.concat();
        let signed = cofferdam::audit::note::Signed::parse(&text[..text.len() - 1]).unwrap();
        forged.push_str(&signed.checkpoint.sign(&thief).encode());
        forged.push('\n');
    }
    fs::write(dir.path().join("00000000.note"), forged).unwrap();
    let told = verify(dir.path());
    assert!(told.findings.iter().any(|finding| finding.what == What::Key { epoch: 0 }));
    same_in_python(dir.path());
}

fn old_segments_are_dropped_and_the_rest_still_verifies_and_proves() {
    let dir = tempdir().unwrap();
    let options = Options { keep_bytes: 20_000, ..small() };
    write(dir.path(), options, 400);
    let told = verify(dir.path());
    assert_eq!(told.findings, []);
    assert!(told.first > 200, "{told:?}");
    assert!(told.unknown.iter().any(|unknown| matches!(unknown, Unknown::Dropped { .. })));
    same_in_python(dir.path());

    let notes = fs::read_to_string(
        dir.path().join(files(dir.path(), ".note").iter().rev().nth(1).unwrap()),
    );
    let notes = notes.unwrap();
    let last = notes.trim_end().rsplit("\n\ncofferdam").next().unwrap().to_owned();
    let last = format!("{}{last}\n", if last.starts_with("cofferdam") { "" } else { "cofferdam" });
    let store = Store::open(dir.path()).unwrap();
    for index in [told.first, told.first + 17, told.size - 1] {
        let mut proof = prove(&store, index, &last).unwrap();
        assert_eq!(proof.check(None).unwrap().index, index);
        proof.body[100] ^= 1;
        assert!(proof.check(None).is_err());
    }
    assert!(prove(&store, told.first - 1, &last).is_err());
    assert!(prove_extension(&store, &last, &last).is_ok());

    // Dropping one more than was signed for is a finding.
    fs::remove_file(dir.path().join(&files(dir.path(), ".log")[0])).unwrap();
    assert!(verify(dir.path()).findings.iter().any(|f| f.what == What::SegmentMissing));
    same_in_python(dir.path());
}

fn a_payload_is_removed_and_the_chain_still_verifies() {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 100);
    let store = Store::open(dir.path()).unwrap();
    let mut with = Vec::new();
    query(&store, &Filter::default(), |record| {
        with.extend(record.payload.map(|_| record.index));
        true
    })
    .unwrap();
    assert_eq!(with.len(), 10);
    let text = |n: usize| -> bool {
        let all: Vec<u8> = files(dir.path(), ".log")
            .iter()
            .flat_map(|name| fs::read(dir.path().join(name)).unwrap())
            .collect();
        let text = format!("sealed {n}");
        all.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(text(53));
    let mut log = open(dir.path(), small(), 90);
    let order = Order { payloads: vec![(with[5], 9)], user: 7, because: "a complaint".to_owned() };
    log.redacted(&order, at(90)).unwrap();
    log.close(at(91)).unwrap();
    assert!(matches!(redact(&store, with[5]).unwrap(), Redaction::Done(_)));
    assert!(!text(53) && text(63));
    assert_eq!(redact(&store, with[5]).unwrap(), Redaction::Already);
    assert_eq!(redact(&store, with[5] + 1).unwrap(), Redaction::NoPayload);
    assert_eq!(redact(&store, 100_000).unwrap(), Redaction::NotThere);
    let told = verify(dir.path());
    assert_eq!((told.findings.as_slice(), told.redacted), (&[][..], 1));
    same_in_python(dir.path());
    open(dir.path(), small(), 100).close(at(101)).unwrap();
    assert!(verify(dir.path()).sound());
}

fn queries_find_the_same_with_and_without_an_index() {
    let dir = tempdir().unwrap();
    write(dir.path(), Options { segment_bytes: 150_000, ..small() }, 3_000);
    let store = Store::open(dir.path()).unwrap();
    let filters = [
        Filter::default(),
        Filter { kinds: vec![Kind::Alarm], ..Filter::default() },
        Filter {
            method: Some(3),
            from: Some(at(500).real),
            to: Some(at(900).real),
            ..Filter::default()
        },
        Filter { layer: Some(1), first: 2_000, ..Filter::default() },
        Filter { edge: Some((Facility::Channel, 1)), ..Filter::default() },
        Filter { kinds: vec![Kind::Policy], ..Filter::default() },
    ];
    for filter in filters {
        let run = |filter: &Filter| {
            let mut found = Vec::new();
            let effort = query(&store, filter, |record| {
                found.push(record.index);
                true
            });
            (found, effort.unwrap())
        };
        let (quick, effort) = run(&filter);
        let (slow, all) = run(&Filter { full: true, ..filter.clone() });
        assert_eq!(quick, slow);
        assert!(effort.read <= all.read && effort.damaged == 0);
        if filter.from.is_some() {
            assert!(effort.read < all.read / 2, "{effort:?} {all:?}");
        }
    }
    // A wrong index can hide records.
    let index = dir.path().join("00000000.idx");
    let mut bytes = fs::read(&index).unwrap();
    bytes[100] ^= 1;
    fs::write(&index, bytes).unwrap();
    let told = verify(dir.path());
    assert_eq!(told.findings.iter().map(|it| &it.what).collect::<Vec<_>>(), [&What::Index]);
}

fn two_writers_are_refused() {
    let dir = tempdir().unwrap();
    let log = open(dir.path(), small(), 0);
    let second =
        |dir: &Path| Log::open(Store::open(dir).unwrap(), small(), Box::new(Counter(9)), at(1));
    assert!(matches!(second(dir.path()), Err(LogError::Held)));
    assert!(Store::open(dir.path()).unwrap().is_held());
    drop(log);
    assert!(!Store::open(dir.path()).unwrap().is_held());
    assert!(second(dir.path()).is_ok());
}

fn a_clock_that_jumps_is_recorded() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path(), small(), 10_000);
    log.append(&message(0, Side::Sender), &[], at(10_000)).unwrap();
    let mut back = at(10_001);
    back.real -= 3_600_000_000_000;
    log.append(&message(1, Side::Sender), &[], back).unwrap();
    log.append(&message(2, Side::Sender), &[], at(10_002)).unwrap();
    log.close(at(10_003)).unwrap();
    assert!(verify(dir.path()).sound());
    let mut jumps = Vec::new();
    let store = Store::open(dir.path()).unwrap();
    query(&store, &Filter { kinds: vec![Kind::ClockJump], ..Filter::default() }, |record| {
        jumps.push((record.entry.value, record.entry.length / 1_000_000_000));
        true
    })
    .unwrap();
    assert_eq!(jumps, [(1, 3_600), (0, 3_600)]);
}

fn a_log_is_read_alone() {
    let dir = tempdir().unwrap();
    write(dir.path(), Options { keep_bytes: 20_000, ..small() }, 300);
    let store = Store::open(dir.path()).unwrap();
    let mut seen = 0;
    query(&store, &Filter { kinds: vec![Kind::Policy], ..Filter::default() }, |record| {
        let said = cofferdam::audit::tables::Tables::parse(&record.entry.detail).unwrap();
        assert_eq!(said, tables());
        seen += 1;
        true
    })
    .unwrap();
    assert_eq!(seen, files(dir.path(), ".log").len());
}

fn the_backlog_is_bounded_and_a_long_record_is_refused() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path(), Options { backlog: 1_000, ..small() }, 0);
    let mut taken = 0;
    while log.append(&message(taken, Side::Sender), &[], at(0)).is_ok() {
        taken += 1;
    }
    assert!((2..6).contains(&taken) && log.backlog() <= 1_000);
    log.commit(at(0)).unwrap();
    log.append(&message(taken, Side::Sender), &[], at(0)).unwrap();
    let huge = Entry { detail: vec![0; (4 << 20) + 1], ..Entry::new(Kind::Alarm) };
    assert!(matches!(log.append(&huge, &[], at(0)), Err(LogError::TooLong)));
}

fn any_bytes_are_read_or_refused() {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 60);
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    for end in [".log", ".note", ".idx"] {
        for name in files(dir.path(), end) {
            let seed = fs::read(dir.path().join(name)).unwrap();
            fuzz::audit(&seed);
            for _ in 0..200 {
                let from = if end == ".log" && next(2) == 0 { frames(&seed)[0].0 + 16 } else { 0 };
                let length = if next(2) == 0 { 128 } else { seed.len() };
                let mut bytes = seed[from..(from + length).min(seed.len())].to_vec();
                for _ in 0..next(4) {
                    let at = next(bytes.len());
                    bytes[at] = u8::try_from(next(256)).unwrap();
                }
                bytes.truncate(if next(4) == 0 { next(bytes.len()) } else { bytes.len() });
                fuzz::audit(&bytes);
            }
        }
    }
}
