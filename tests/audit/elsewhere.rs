//! What is kept elsewhere than in the log's directory: a witness's checkpoints, and a shipped copy. A tail
//! that was cut together with all that signs it is found by both.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::log::*;
use crate::support::process::eventually;
use cofferdam::audit::entry::Side;
use cofferdam::audit::log::Order;
use cofferdam::audit::note::Notes;
use cofferdam::audit::redact::{Redaction, redact, removable};
use cofferdam::audit::{Log, Store};
use tempfile::tempdir;

crate::support::suite::tests! {
    a_cut_tail_is_found_by_what_a_witness_holds,
    a_witness_is_told_while_the_log_grows,
    a_copy_is_shipped_again_and_again_and_goes_on,
    a_cut_or_altered_log_is_not_shipped,
}

fn audit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("audit").args(arguments).output().unwrap()
}

fn says(code: i32, arguments: &[&str]) -> String {
    let out = audit(arguments);
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

/// Ten more messages.
fn more(log: &mut Log, from: u64) {
    for n in from..from + 10 {
        log.append(&message(n, Side::Sender), &payload(n), at(n)).unwrap();
        log.append(&message(n, Side::Receiver), &payload(n), at(n)).unwrap();
    }
    log.checkpoint(at(from + 10)).unwrap();
}

/// A life of the daemon, whose ends agree.
fn life(dir: &Path, from: u64) {
    let mut log = open(dir, small(), from);
    (0..3).for_each(|round| more(&mut log, from + round * 10));
    log.close(at(from + 30)).unwrap();
}

fn a_cut_tail_is_found_by_what_a_witness_holds() {
    let dir = tempdir().unwrap();
    life(dir.path(), 0);
    let early = copy(dir.path());
    life(dir.path(), 30);
    let folder = tempdir().unwrap();
    let witness = folder.path().join("elsewhere");
    let file = path(&witness);
    says(0, &["watch", path(early.path()), "--until-end", "--witness", file]);
    says(0, &["watch", path(dir.path()), "--until-end", "--witness", file]);
    let kept = fs::read(&witness).unwrap();
    let sizes: Vec<u64> =
        Notes::read(&kept).notes.iter().map(|it| it.1.unwrap().checkpoint.size).collect();
    assert_eq!(sizes, [verify(early.path()).size, verify(dir.path()).size]);
    // Nothing new is written down twice.
    says(0, &["watch", path(dir.path()), "--until-end", "--witness", file]);
    assert_eq!(fs::read(&witness).unwrap(), kept);
    let sound = says(0, &["verify", path(dir.path()), "--witness", file]);
    assert!(!sound.contains("kept elsewhere"), "{sound}");

    // Cut together with its checkpoints, epochs and indexes the log alone is sound.
    says(0, &["verify", path(early.path())]);
    says(1, &["verify", path(early.path()), "--witness", file]);
    let told = says(1, &["watch", path(early.path()), "--until-end", "--witness", file]);
    assert!(told.contains("the tail was cut"), "{told}");
    assert_eq!(fs::read(&witness).unwrap(), kept, "the witness keeps what it has");
    // Another log, another witness.
    let other = tempdir().unwrap();
    let mut log =
        Log::open(Store::open(other.path()).unwrap(), small(), Box::new(Counter(9)), at(0))
            .unwrap()
            .0;
    more(&mut log, 0);
    log.close(at(20)).unwrap();
    let told = says(1, &["watch", path(other.path()), "--until-end", "--witness", file]);
    assert!(told.contains("another log"), "{told}");

    // A write that a crash tore counts for nothing, and is cut at the next start.
    let torn = [&kept[..], b"cofferdam-audit/ab"].concat();
    fs::write(&witness, &torn).unwrap();
    says(0, &["verify", path(dir.path()), "--witness", file]);
    says(0, &["watch", path(dir.path()), "--until-end", "--witness", file]);
    assert_eq!(fs::read(&witness).unwrap(), kept);
    // An altered one is a finding.
    let altered = String::from_utf8(kept).unwrap().replace("first 0", "first 1");
    fs::write(&witness, altered).unwrap();
    says(1, &["verify", path(dir.path()), "--witness", file]);
    fs::write(&witness, "nothing").unwrap();
    says(2, &["verify", path(dir.path()), "--witness", file]);
    says(3, &["verify", path(dir.path()), "--witness", "/no/such/file"]);
}

fn a_witness_is_told_while_the_log_grows() {
    let dir = tempdir().unwrap();
    let folder = tempdir().unwrap();
    let witness = folder.path().join("elsewhere");
    let mut log = open(dir.path(), small(), 0);
    more(&mut log, 0);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "watch", path(dir.path()), "--until-end", "--witness", path(&witness)])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for round in 1..4 {
        more(&mut log, round * 10);
        let size = log.size();
        eventually("the newest checkpoint in the witness's file", || {
            let bytes = fs::read(&witness).unwrap_or_default();
            let notes = Notes::read(&bytes).notes;
            notes.last().is_some_and(|it| it.1.unwrap().checkpoint.size == size)
        });
    }
    log.close(at(90)).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    says(0, &["verify", path(dir.path()), "--witness", path(&witness)]);
}

fn a_copy_is_shipped_again_and_again_and_goes_on() {
    let dir = tempdir().unwrap();
    let folder = tempdir().unwrap();
    let to = folder.path().join("copy");
    let ship = || says(0, &["ship", path(dir.path()), path(&to)]);
    let mut log = open(dir.path(), small(), 0);
    log.policy(&tables(), at(0)).unwrap();
    let mut round = 0;
    for _ in 0..8 {
        more(&mut log, round * 10);
        round += 1;
        // What is not signed yet isn't shipped.
        log.append(&message(9_000, Side::Sender), &[], at(round * 10)).unwrap();
        log.commit(at(round * 10)).unwrap();
        ship();
        let (here, there) = (verify(dir.path()), verify(&to));
        assert!(there.sound(), "{:?}", there.findings);
        assert_eq!((there.log, there.size), (here.log, here.signed));
        assert!(files(&to, "").iter().all(|name| name != "key" && name != "lock"));
    }
    assert!(verify(dir.path()).segments > 3);
    assert!(ship().starts_with("0 bytes"));
    // One that was interrupted within a record.
    more(&mut log, round * 10);
    let name = files(dir.path(), ".log").pop().unwrap();
    let whole = fs::read(dir.path().join(&name)).unwrap();
    let known = fs::read(to.join(&name)).unwrap_or_default().len();
    let mut torn = OpenOptions::new().append(true).create(true).open(to.join(&name)).unwrap();
    torn.write_all(&whole[known..known + (whole.len() - known) / 2 + 7]).unwrap();
    ship();
    assert_eq!(verify(&to).size, log.size());
    // A payload that is removed here is removed there.
    let store = Store::open(dir.path()).unwrap();
    let paid = (0..1_000).find(|n| removable(&store, *n).unwrap().is_some()).unwrap();
    assert!(removable(&Store::open(&to).unwrap(), paid).unwrap().is_some());
    let order = Order { payloads: vec![(paid, 9)], user: 7, because: "a complaint".to_owned() };
    log.redacted(&order, at(900)).unwrap();
    log.checkpoint(at(901)).unwrap();
    assert!(matches!(redact(&store, paid).unwrap(), Redaction::Done(_)));
    assert!(ship().contains("payloads removed there too: 1"));
    assert_eq!(removable(&Store::open(&to).unwrap(), paid).unwrap(), None);
    log.close(at(902)).unwrap();
    ship();
    let closed = says(0, &["verify", path(&to), "--closed"]);
    assert!(closed.contains("payloads removed: 1"), "{closed}");
    assert!(python(&to, &[]).0);
}

fn a_cut_or_altered_log_is_not_shipped() {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 60);
    let early = copy(dir.path());
    write(dir.path(), small(), 60);
    let folder = tempdir().unwrap();
    let to = folder.path().join("copy");
    says(0, &["ship", path(dir.path()), path(&to)]);
    let before: Vec<_> =
        files(&to, "").iter().map(|name| fs::read(to.join(name)).unwrap()).collect();
    let told = says(1, &["ship", path(early.path()), path(&to)]);
    assert!(told.contains("isn't the one that was shipped"), "{told}");
    let bad = copy(dir.path());
    forge(bad.path(), "00000001.log", |frames| drop(frames.remove(3)));
    says(1, &["ship", path(bad.path()), path(&to)]);
    let after: Vec<_> =
        files(&to, "").iter().map(|name| fs::read(to.join(name)).unwrap()).collect();
    assert!(before == after, "the copy stays as it is");
    // A copy that somebody altered is found when it is shipped to.
    let mut bytes = fs::read(to.join("00000000.log")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(to.join("00000000.log"), bytes).unwrap();
    assert!(says(1, &["ship", path(dir.path()), path(&to)]).contains("the copy is broken"));
    says(2, &["ship", path(dir.path()), path(dir.path())]);
    let used = tempdir().unwrap();
    fs::write(used.path().join("passwd"), b"x").unwrap();
    says(2, &["ship", path(dir.path()), path(used.path())]);
}
