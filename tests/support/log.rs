//! Logs to read and to break: made here, always the same.

pub mod daemon;

use std::fs;
use std::path::Path;
use std::process::Command;

use cofferdam::audit::entry::{Entry, Facility, Kind, Moment, Side, Verdict, Who};
use cofferdam::audit::tables::Tables;
use cofferdam::audit::verify::{self, Verified};
use cofferdam::audit::{Log, Options, Store, hash};
use cofferdam::seal::{Chance, SealError};

/// Randomness that is none.
pub struct Counter(pub u8);

impl Chance for Counter {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError> {
        self.0 = self.0.wrapping_add(1);
        bytes.fill(self.0);
        Ok(())
    }
}

pub fn at(n: u64) -> Moment {
    Moment {
        real: 1_700_000_000_000_000_000 + n * 1_000_000,
        monotonic: 5_000_000_000 + n * 1_000_000,
    }
}

/// Segments of some 40 records, a checkpoint every 16.
pub fn small() -> Options {
    Options { segment_bytes: 8_000, checkpoint_records: 16, ..Options::default() }
}

pub fn tables() -> Tables {
    Tables {
        policy: "ab".repeat(32),
        daemon: "signer".into(),
        text: "cofferdam = 1\nname = \"signer\"\n".into(),
        layers: vec!["listener".into(), "keeper".into()],
        rules: vec!["channel.sign.methods.sign".into()],
        ..Tables::default()
    }
}

/// Message `n` of a channel, as one of its ends reports it.
pub fn message(n: u64, side: Side) -> Entry {
    let (from, to) = (who(0, 1), who(1, 1));
    let (reporter, peer) = if side == Side::Sender { (from, to) } else { (to, from) };
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&n.to_le_bytes());
    Entry {
        side,
        verdict: Verdict::Allowed,
        facility: Facility::Channel,
        method: u32::try_from(n % 7).unwrap(),
        rule: 0,
        sequence: n,
        length: 100 + n,
        reported: at(n).monotonic,
        reporter,
        peer,
        hash,
        ..Entry::new(Kind::Use)
    }
}

pub fn who(layer: u16, generation: u64) -> Who {
    Who { layer, copy: 0, generation }
}

pub fn payload(n: u64) -> Vec<u8> {
    if n % 10 == 3 { format!("sealed {n}").into_bytes() } else { Vec::new() }
}

pub fn open(dir: &Path, options: Options, n: u64) -> Log {
    let store = Store::open(dir).unwrap();
    Log::open(store, options, Box::new(Counter(0)), at(n)).unwrap().0
}

/// Writes `count` messages in commits of five, and ends in order.
pub fn write(dir: &Path, options: Options, count: u64) {
    let mut log = open(dir, options, 0);
    log.policy(&tables(), at(0)).unwrap();
    for n in 0..count {
        let mut entry = message(n, if n % 2 == 0 { Side::Sender } else { Side::Receiver });
        if n % 25 == 7 {
            entry = Entry { detail: format!("alarm {n}").into_bytes(), ..Entry::new(Kind::Alarm) };
        }
        log.append(&entry, &payload(n), at(n)).unwrap();
        if n % 5 == 4 {
            log.commit(at(n)).unwrap();
        }
    }
    log.close(at(count)).unwrap();
}

pub fn verify(dir: &Path) -> Verified {
    verify_with(dir, &verify::Options { threads: 1, ..verify::Options::default() })
}

pub fn verify_with(dir: &Path, options: &verify::Options) -> Verified {
    verify::verify(&Store::open(dir).unwrap(), options).unwrap()
}

/// A copy of a directory's files.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

pub fn files(dir: &Path, end: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

/// What the verifier in Python says: whether the log is sound, and the first finding's file and
/// record.
pub fn python(dir: &Path, more: &[&str]) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit/verify.py");
    let out = Command::new("python3").arg("-I").arg(script).arg(dir).args(more).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let sound = match out.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{text}{}", String::from_utf8_lossy(&out.stderr)),
    };
    (sound, text)
}

/// The frames of a segment: offset and length of each.
pub fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let first = u64::from_le_bytes(bytes[56..64].try_into().unwrap());
    let mut at = 96 + 32 * first.count_ones() as usize;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let length = cofferdam::audit::frame::length(&bytes[at..]).unwrap();
        frames.push((at, length));
        at += length;
    }
    frames
}

/// Puts a segment together from frames: indices, links and checksums as an attacker makes them.
pub fn forge(dir: &Path, name: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let bytes = fs::read(dir.join(name)).unwrap();
    let frames_at = frames(&bytes);
    let header = &bytes[..frames_at[0].0];
    let mut frames: Vec<Vec<u8>> =
        frames_at.iter().map(|(at, length)| bytes[*at..at + length].to_vec()).collect();
    change(&mut frames);
    fs::write(dir.join(name), [header.to_vec(), frames.concat()].concat()).unwrap();
}

/// Gives all frames right numbers, links and checksums: only signatures are out of reach.
pub fn relink(header: &[u8], frames: &mut [Vec<u8>]) {
    let first = u64::from_le_bytes(header[56..64].try_into().unwrap());
    let mut link: [u8; 32] = header[64..96].try_into().unwrap();
    for (frame, index) in frames.iter_mut().zip(first..) {
        let body = 16 + u32::from_le_bytes(frame[4..8].try_into().unwrap()) as usize;
        frame[32..40].copy_from_slice(&index.to_le_bytes());
        link = hash::link(&link, &hash::leaf(&frame[16..body]));
        frame[body..body + 32].copy_from_slice(&link);
        let crc = crc32c::crc32c(&frame[4..body + 32]);
        frame[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Both verifiers come to the same verdict, and name the same places.
pub fn same_in_python(dir: &Path) {
    assert_eq!(differs_in_python(dir), None);
}

/// In what the verifier in Python comes to something else.
pub fn differs_in_python(dir: &Path) -> Option<String> {
    let told = verify(dir);
    let (sound, text) = python(dir, &[]);
    let mut ours: Vec<String> = told
        .findings
        .iter()
        .map(|f| format!("{} {}", f.file, f.record.map_or("-".into(), |n| n.to_string())))
        .collect();
    let mut theirs: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("FINDING "))
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    ours.sort();
    theirs.sort();
    let same = sound == told.sound() && ours == theirs;
    (!same).then(|| format!("Python: {text}\nRust: {:#?}", told.findings))
}
