//! The table of docs/audit-format.md, section 9: everything that can be done to each file of a log,
//! and what both verifiers say of it. One act is one finding, and its region is named.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::log::*;
use cofferdam::audit::entry::Side;
use cofferdam::audit::log::Order;
use cofferdam::audit::note::{Checkpoint, Signed};
use cofferdam::audit::verify::{Finding, Options as Verify, What};
use cofferdam::audit::{Log, LogError, Options, Store};
use tempfile::{TempDir, tempdir};

crate::support::suite::tests! {
    each_act_on_a_segment_has_its_verdict,
    each_act_on_checkpoints_has_its_verdict,
    each_act_on_other_files_has_its_verdict,
    each_act_on_an_open_end_has_its_verdict,
    the_table_has_sixty_kinds_at_least,
    a_start_leaves_a_log_whose_tail_was_cut_as_it_is,
    a_log_that_was_not_closed_is_a_finding_if_that_is_asked_for,
}

type Act = Box<dyn Fn(&Path)>;

/// What is said of an act.
enum Told {
    /// Nothing: no promise is weakened.
    Sound,
    /// One finding: in that file, at a record from here to there, of that kind.
    One(&'static str, Option<(u64, u64)>, fn(&What) -> bool),
    /// As many: they are as many acts.
    Many(usize),
}

struct Row(&'static str, Act, Told);

fn row(name: &'static str, act: impl Fn(&Path) + 'static, told: Told) -> Row {
    Row(name, Box::new(act), told)
}

macro_rules! one {
    ($file:literal, $records:expr, $($what:tt)+) => {
        Told::One($file, $records, |what| matches!(what, $($what)+))
    };
}

// They use the macro, so they stand behind it.
mod note;
mod other;
mod segment;

/// The segment that most acts are on; its records are counted from its first.
const MIDDLE: &str = "00000002.log";
const LAST: &str = "00000005.log";

/// A log of six segments that was closed in order.
fn closed() -> TempDir {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 240);
    assert_eq!(files(dir.path(), ".log").last().unwrap(), LAST);
    assert!(verify(dir.path()).sound());
    dir
}

fn another() -> TempDir {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut log = Log::open(store, small(), Box::new(Counter(77)), at(0)).unwrap().0;
    log.policy(&tables(), at(0)).unwrap();
    for n in 0..200 {
        log.append(&message(n, Side::Sender), &payload(n), at(n)).unwrap();
        log.commit(at(n)).unwrap();
    }
    log.close(at(200)).unwrap();
    dir
}

fn first(dir: &Path, name: &str) -> u64 {
    u64::from_le_bytes(fs::read(dir.join(name)).unwrap()[56..64].try_into().unwrap())
}

/// Where a record's frame begins in its file, and how long it is.
fn frame(dir: &Path, name: &str, record: usize) -> (usize, usize) {
    frames(&fs::read(dir.join(name)).unwrap())[record]
}

fn change(dir: &Path, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(dir.join(name)).unwrap();
    how(&mut bytes);
    fs::write(dir.join(name), bytes).unwrap();
}

fn flip(name: &'static str, record: usize, byte: usize) -> impl Fn(&Path) {
    move |dir| {
        let (at, _) = frame(dir, name, record);
        change(dir, name, |bytes| bytes[at + byte] ^= 1);
    }
}

fn forged(name: &'static str, how: impl Fn(&mut Vec<Vec<u8>>) + 'static) -> impl Fn(&Path) {
    move |dir| forge(dir, name, &how)
}

/// The same, with numbers, links and checksums put right up to the segment's end.
fn relinked(name: &'static str, how: impl Fn(&mut Vec<Vec<u8>>) + 'static) -> impl Fn(&Path) {
    move |dir| {
        let header = fs::read(dir.join(name)).unwrap();
        forge(dir, name, |frames| {
            how(frames);
            relink(&header, frames);
        });
    }
}

fn seal_frame(frame: &mut [u8]) {
    let end = 48 + u32::from_le_bytes(frame[4..8].try_into().unwrap()) as usize;
    let crc = crc32c::crc32c(&frame[4..end]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

fn header(name: &'static str, how: impl Fn(&mut [u8]) + 'static) -> impl Fn(&Path) {
    move |dir| {
        change(dir, name, |bytes| {
            let end = 96 + 32 * u64::from_le_bytes(bytes[56..64].try_into().unwrap()).count_ones();
            how(bytes);
            let crc = crc32c::crc32c(&bytes[16..end as usize]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        });
    }
}

fn removed(names: &'static [&'static str]) -> impl Fn(&Path) {
    move |dir| names.iter().for_each(|name| fs::remove_file(dir.join(name)).unwrap())
}

fn cut(name: &'static str, record: usize, more: usize) -> impl Fn(&Path) {
    move |dir| {
        let (at, _) = frame(dir, name, record);
        change(dir, name, |bytes| bytes.truncate(at + more));
    }
}

fn notes(dir: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(name)).unwrap();
    let parts: Vec<&str> = text.split_inclusive("\n\n").collect();
    parts.chunks(2).map(<[&str]>::concat).collect()
}

fn noted(name: &'static str, how: impl Fn(&mut Vec<String>) + 'static) -> impl Fn(&Path) {
    move |dir| {
        let mut all = notes(dir, name);
        how(&mut all);
        fs::write(dir.join(name), all.concat()).unwrap();
    }
}

/// Appends a checkpoint that the current key signs.
fn signed(how: impl Fn(&mut Checkpoint) + 'static) -> impl Fn(&Path) {
    move |dir| {
        let key = fs::read(dir.join("key")).unwrap();
        let key = ed25519_dalek::SigningKey::from_bytes(&key[16..48].try_into().unwrap());
        let name = "00000005.note";
        let last = notes(dir, name).pop().unwrap();
        let mut check = Signed::parse(&last[..last.len() - 1]).unwrap().checkpoint;
        how(&mut check);
        change(dir, name, |text| text.extend(format!("{}\n", check.sign(&key).encode()).bytes()));
    }
}

/// Has the log say that a payload was removed, as who removes one does before.
fn say_redacted(dir: &Path, record: u64) {
    let mut log =
        Log::open(Store::open(dir).unwrap(), small(), Box::new(Counter(7)), at(300)).unwrap().0;
    let order = Order { payloads: vec![(record, 9)], user: 7, because: "a complaint".to_owned() };
    log.redacted(&order, at(301)).unwrap();
    log.close(at(302)).unwrap();
}

/// Does each act to a copy of the log, and compares what is said.
fn try_each(base: &Path, rows: Vec<Row>) {
    let wrong: Vec<String> = rows.into_iter().filter_map(|row| try_one(base, row).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn try_one(base: &Path, Row(name, act, expected): Row) -> Result<(), String> {
    let dir = copy(base);
    act(dir.path());
    let told = verify(dir.path());
    let said: Vec<String> = told.findings.iter().map(ToString::to_string).collect();
    let right = match (expected, told.findings.as_slice()) {
        (Told::Sound, findings) => findings.is_empty(),
        (Told::Many(count), findings) => findings.len() == count,
        (Told::One(file, records, what), [it]) => {
            let there = |(from, to)| it.record.is_some_and(|record| (from..=to).contains(&record));
            what(&it.what) && it.file == file && records.is_none_or(there) && is_around(it)
        }
        (Told::One(..), _) => false,
    };
    let out = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "verify"])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let agrees = out.status.code() == Some(i32::from(!told.sound()))
        && said.iter().all(|line| text.contains(line));
    if !right || !agrees {
        return Err(format!("{name}: {said:#?}\n{text}"));
    }
    differs_in_python(dir.path()).map_or(Ok(()), |how| Err(format!("{name}: {how}")))
}

/// Whether the region lies around the record that shows it, and isn't wide: a checkpoint comes every
/// twenty records at least, and one at each segment's end.
fn is_around(finding: &Finding) -> bool {
    let (Some(record), Some(region)) = (finding.record, finding.region) else { return true };
    region.after.is_none_or(|after| after < record)
        && region.before.is_none_or(|before| before >= record)
        && region.before.zip(region.after).is_none_or(|(to, from)| to - from <= 60)
}

fn each_act_on_a_segment_has_its_verdict() {
    let base = closed();
    let rows = segment::rows(base.path());
    try_each(base.path(), rows);
}

fn each_act_on_checkpoints_has_its_verdict() {
    try_each(closed().path(), note::rows());
}

fn each_act_on_other_files_has_its_verdict() {
    try_each(closed().path(), other::rows());
}

fn each_act_on_an_open_end_has_its_verdict() {
    let base = other::open_ended();
    assert!(verify(base.path()).sound(), "{:?}", verify(base.path()).findings);
    try_each(base.path(), other::open_rows());
}

fn the_table_has_sixty_kinds_at_least() {
    let base = closed();
    let rows = segment::rows(base.path()).into_iter().chain(note::rows()).chain(other::rows());
    let mut names: Vec<&str> = rows.chain(other::open_rows()).map(|row| row.0).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 90, "{}", names.len());
}

/// All files and what is in them.
fn everything(dir: &Path) -> Vec<(String, Vec<u8>)> {
    files(dir, "")
        .into_iter()
        .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap()))
        .collect()
}

fn a_start_leaves_a_log_whose_tail_was_cut_as_it_is() {
    let base = closed();
    let acts: [(&str, Act); 9] = [
        ("the last segment removed", Box::new(removed(&[LAST]))),
        ("the last two removed", Box::new(removed(&["00000004.log", LAST]))),
        ("its checkpoints too", Box::new(removed(&[LAST, "00000005.note"]))),
        ("emptied", Box::new(|dir| change(dir, LAST, Vec::clear))),
        ("cut within the header", Box::new(|dir| change(dir, LAST, |bytes| bytes.truncate(50)))),
        ("cut between records", Box::new(cut(LAST, 3, 0))),
        ("cut within a record", Box::new(cut(LAST, 3, 50))),
        (
            "cut, and a note torn",
            Box::new(|dir| {
                cut(LAST, 3, 50)(dir);
                change(dir, "00000005.note", |bytes| bytes.extend(b"cofferdam"));
                change(dir, "epochs.note", |bytes| bytes.extend(b"cofferdam"));
            }),
        ),
        (
            "a record behind the end",
            Box::new(relinked(LAST, |frames| frames.push(frames[3].clone()))),
        ),
    ];
    for (name, act) in acts {
        let dir = copy(base.path());
        act(dir.path());
        let before = everything(dir.path());
        let store = Store::open(dir.path()).unwrap();
        let told = Log::open(store, small(), Box::new(Counter(9)), at(500)).map(|(_, told)| told);
        assert!(matches!(told, Err(LogError::Damaged { .. })), "{name}: {told:?}");
        assert!(everything(dir.path()) == before, "{name}: evidence was changed");
    }
}

fn a_log_that_was_not_closed_is_a_finding_if_that_is_asked_for() {
    let closed = closed();
    let open = other::open_ended();
    let strict = Verify { closed: true, threads: 1, ..Verify::default() };
    assert!(verify_with(closed.path(), &strict).sound());
    let told = verify_with(open.path(), &strict);
    assert_eq!(told.findings.len(), 1, "{:?}", told.findings);
    assert!(matches!(told.findings[0].what, What::NotClosed { from: 24, to: 124 }));
}
