//! A log that is read while somebody writes it: torn ends, rotation, retention, damage.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::log::daemon::*;
use crate::support::log::*;
use cofferdam::audit::entry::{Entry, Kind, Side};
use cofferdam::audit::follow::{Event, Follower};
use cofferdam::audit::query::{Filter, query};
use cofferdam::audit::{Log, Options, Store};
use tempfile::tempdir;

crate::support::suite::tests! {
    every_record_comes_once_over_segments_and_commits,
    a_record_that_is_torn_anywhere_is_waited_for,
    what_is_dropped_before_it_was_read_is_missed_and_told,
    damage_is_told_once_and_gone_around,
    tail_shows_the_last_ones_over_segments,
    tail_follows_a_live_log_until_its_writer_ends,
    tail_that_is_told_to_follow_outlives_the_writer_and_finds_the_next,
    queries_and_verifications_go_on_while_segments_are_dropped,
}

/// What a look gives: numbers of records, and what else.
fn look(follower: &mut Follower, store: &Store) -> (Vec<u64>, Vec<Event>) {
    let (mut records, mut others) = (Vec::new(), Vec::new());
    follower
        .look(store, |event| {
            match event {
                Event::Record(record) => records.push(record.index),
                other => others.push(other),
            }
            true
        })
        .unwrap();
    (records, others)
}

fn every_record_comes_once_over_segments_and_commits() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path(), small(), 0);
    let store = Store::open(dir.path()).unwrap();
    let mut follower = Follower::new(0);
    let mut all = Vec::new();
    for n in 0..300 {
        log.append(&message(n, Side::Sender), &[], at(n)).unwrap();
        if n % 3 == 0 {
            log.commit(at(n)).unwrap();
            let (records, others) = look(&mut follower, &store);
            assert_eq!(others, []);
            all.extend(records);
            assert_eq!(all.len() as u64, log.committed());
        }
    }
    log.close(at(300)).unwrap();
    all.extend(look(&mut follower, &store).0);
    assert!(files(dir.path(), ".log").len() > 5);
    assert_eq!(all, (0..follower.next()).collect::<Vec<_>>());
    assert_eq!(look(&mut follower, &store), (vec![], vec![]));
}

fn a_record_that_is_torn_anywhere_is_waited_for() {
    let dir = tempdir().unwrap();
    write(dir.path(), Options { segment_bytes: 1 << 20, ..small() }, 3);
    let name = dir.path().join(&files(dir.path(), ".log")[0]);
    let whole = fs::read(&name).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let frames = frames(&whole);
    fs::write(&name, b"").unwrap();
    let mut follower = Follower::new(0);
    let mut all = Vec::new();
    for end in (0..=whole.len()).step_by(5).chain([whole.len()]) {
        fs::write(&name, &whole[..end]).unwrap();
        let (records, others) = look(&mut follower, &store);
        assert_eq!(others, [], "at byte {end}");
        all.extend(records);
        let there = frames.iter().filter(|(at, length)| at + length <= end).count();
        assert_eq!(all.len(), there, "at byte {end}");
        // A query sees the same, and takes the rest for what is not there yet.
        let effort = query(&store, &Filter { full: true, ..Filter::default() }, |_| true).unwrap();
        assert_eq!((effort.found, effort.damaged), (there as u64, 0), "at byte {end}");
    }
    assert_eq!(all, (0..frames.len() as u64).collect::<Vec<_>>());
}

fn what_is_dropped_before_it_was_read_is_missed_and_told() {
    let dir = tempdir().unwrap();
    let keep = Options { keep_bytes: 30_000, ..small() };
    let mut log = open(dir.path(), keep, 0);
    let store = Store::open(dir.path()).unwrap();
    let mut follower = Follower::new(0);
    let (mut seen, mut missed) = (0, 0);
    for n in 0..2_000 {
        log.append(&message(n, Side::Sender), &[], at(n)).unwrap();
        log.commit(at(n)).unwrap();
        // Now and then it reads so seldom that segments are dropped meanwhile.
        if n % 10 == 0 && n % 500 < 100 || n % 499 == 0 {
            let (records, others) = look(&mut follower, &store);
            seen += records.len() as u64;
            for event in others {
                let Event::Missed { from, to } = event else { panic!("{event:?}") };
                missed += to - from;
            }
            assert_eq!(seen + missed, log.committed(), "at {n}");
        }
    }
    assert!(missed > 100 && seen > 500, "{seen} seen, {missed} missed");
}

fn damage_is_told_once_and_gone_around() {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 200);
    let names = files(dir.path(), ".log");
    let flip = |name: &str, place: usize| {
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let (frame, _) = frames(&bytes)[place];
        bytes[frame + 60] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    flip(&names[1], 5);
    let store = Store::open(dir.path()).unwrap();
    let mut follower = Follower::new(0);
    let (records, others) = look(&mut follower, &store);
    assert_eq!(others, [Event::Damaged { segment: 1 }]);
    assert_eq!(records.last(), Some(&(follower.next() - 1)));

    // At the end of the last segment it may be a write under way, for a while.
    let last = names.last().unwrap();
    let whole = fs::read(dir.path().join(last)).unwrap();
    flip(last, frames(&whole).len() - 1);
    let mut follower = Follower::new(0);
    let told: Vec<Event> = (0..30).flat_map(|_| look(&mut follower, &store).1).collect();
    let segment = names.len() as u64 - 1;
    assert_eq!(told, [Event::Damaged { segment: 1 }, Event::Damaged { segment }]);
    fs::write(dir.path().join(last), whole).unwrap();
    assert_eq!(look(&mut follower, &store).0.len(), 1);
}

fn tail_shows_the_last_ones_over_segments() {
    let dir = tempdir().unwrap();
    write_daemon(dir.path(), 100);
    let path = dir.path().to_str().unwrap();
    let all = lists(&["query", path]);
    assert_eq!(lists(&["tail", path]), all[all.len() - 10..]);
    assert_eq!(lists(&["tail", path, "-n", "0"]), all[..0]);
    assert_eq!(lists(&["tail", path, "-n", "300"]), all[all.len() - 300..]);
    assert_eq!(lists(&["tail", path, "-n", "100000"]), all);
    // The only ones stand in the first segment.
    let spawned = lists(&["tail", path, "-n", "5", "--kind", "spawn"]);
    assert_eq!(spawned, lists(&["query", path, "--kind", "spawn"]));
    assert_eq!(spawned.len(), 2);
    let signs = lists(&["query", path, "--method", "sign", "--layer", "keeper"]);
    let last = lists(&["tail", path, "-n", "50", "--method", "sign", "--layer", "keeper"]);
    assert_eq!(last, signs[signs.len() - 50..]);
    complains(2, &["tail", path, "--layer", "nobody-of-that-name"]);
    complains(2, &["tail", path, "-f", "--no-follow"]);
}

/// Writes with rotation, and drops old segments.
fn busy(mut log: Log, count: u64, pause: Duration) -> u64 {
    for n in 0..count {
        log.append(&message(n, Side::Sender), &[], at(n)).unwrap();
        if n % 7 == 0 {
            log.commit(at(n)).unwrap();
            thread::sleep(pause);
        }
    }
    let last = log.append(&Entry { ..Entry::new(Kind::Alarm) }, &[], at(count)).unwrap();
    log.close(at(count)).unwrap();
    last
}

fn tail_follows_a_live_log_until_its_writer_ends() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path(), small(), 0);
    log.policy(&daemon_tables(), at(0)).unwrap();
    log.commit(at(0)).unwrap();
    let mut tail = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "tail", "--format", "json", dir.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // It is reading once the first records are there.
    let mut all = vec![lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
    let last = busy(log, 3_000, Duration::from_micros(200));
    all.extend(lines.map(Result::unwrap));
    assert!(tail.wait().unwrap().success());
    let index = |line: &String| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["index"].as_u64().unwrap()
    };
    let seen: Vec<u64> = all.iter().map(index).collect();
    // A stop follows the last one.
    assert_eq!(seen, (0..=last + 1).collect::<Vec<_>>());
    let named: serde_json::Value = serde_json::from_str(&all[5]).unwrap();
    assert_eq!(named["edge"], "channel.sign");
}

fn tail_that_is_told_to_follow_outlives_the_writer_and_finds_the_next() {
    let dir = tempdir().unwrap();
    write(dir.path(), small(), 20);
    let path = dir.path().to_str().unwrap();
    let mut tail = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "tail", "-f", "-n", "1", path])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("stop"));
    // A torn end, which the next writer cuts off.
    let last = dir.path().join(files(dir.path(), ".log").pop().unwrap());
    OpenOptions::new().append(true).open(last).unwrap().write_all(&[7; 40]).unwrap();
    let mut log = open(dir.path(), small(), 30);
    log.append(&Entry { detail: b"here again".into(), ..Entry::new(Kind::Alarm) }, &[], at(31))
        .unwrap();
    log.close(at(32)).unwrap();
    let next: Vec<String> = lines.by_ref().take(3).map(Result::unwrap).collect();
    assert!(next[0].contains("start") && next[0].contains("40 bytes were cut"), "{next:?}");
    assert!(next.iter().any(|line| line.contains("here again")), "{next:?}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

fn queries_and_verifications_go_on_while_segments_are_dropped() {
    let dir = tempdir().unwrap();
    let log = open(dir.path(), Options { keep_bytes: 40_000, ..small() }, 0);
    let path = dir.path().to_str().unwrap().to_owned();
    let writer = thread::spawn(move || busy(log, 6_000, Duration::from_millis(3)));
    let mut rounds = 0;
    while !writer.is_finished() {
        let text = says(0, &["query", &path, "--format", "json", "--full"]);
        assert!(text.lines().count() > 0);
        assert!(says(0, &["verify", &path]).starts_with("sound"));
        rounds += 1;
    }
    writer.join().unwrap();
    assert!(rounds > 1);
    let last = lists(&["tail", &path, "-n", "2"]);
    assert_eq!(last[0]["kind"], "alarm");
}
