//! What shared memory and mapped files have in common: one layer replaces an object again and
//! again, others read the newest.
//!
//! The writer says `resumed N` when a life of it begins, `putting N` before it writes and `put N`
//! after; a reader says `found N` when a life of it begins, and `saw N LIFE` for each object that it
//! reads, where the life is the writer's.

use std::collections::BTreeMap;

use super::lives::{self, numbers};
use crate::case::Story;
use crate::parties::say;

/// The bytes of an object, or of a message: nothing of another one passes for a part of it.
pub(crate) fn body(number: u64, life: u64, most: u64) -> Vec<u8> {
    let length = 16 + (number * 397 + life * 11) % (most - 16);
    let mut bytes = [number, life].map(u64::to_le_bytes).concat();
    let filler = |at: u64| (at * 7 + number * 31 + life * 101).to_le_bytes()[0];
    bytes.extend((16..length).map(filler));
    bytes
}

/// The number and the life in such bytes, if they are whole.
pub(crate) fn parse(bytes: &[u8], most: u64) -> Option<(u64, u64)> {
    let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (number, life) = (word(0)?, word(8)?);
    (life < 1000 && number < 1 << 40 && body(number, life, most) == bytes).then_some((number, life))
}

/// Says what a reader has read.
pub(crate) fn say_saw(number: u64, bytes: &[u8], most: u64) {
    match parse(bytes, most) {
        Some((written, life)) if written == number => say(format!("saw {number} {life}")),
        _ => say(format!("torn {number}")),
    }
}

/// The mark at which the victim itself stood when it was killed.
pub(crate) fn killed_at<'a>(story: &'a Story, layer: &str) -> Option<&'a str> {
    let first = lives::of(story, layer).remove(&1).filter(|_| story.victim == layer)?;
    first.iter().find_map(|line| line.strip_prefix("mark "))
}

/// That nobody ended but as it should: by itself, or as the victim.
pub(crate) fn check_ends(story: &Story) -> Result<(), String> {
    let torn = story.lines.iter().find(|line| line.contains(": torn "));
    let failed = |line: &&String| line.contains(" ended with exit code ") && !line.ends_with(" 0");
    let killed = story.lines.iter().filter(|line| line.contains(" was killed by ")).count();
    match torn.or_else(|| story.lines.iter().find(failed)) {
        Some(line) => Err(line.clone()),
        None if killed > 1 => Err(format!("{killed} layers were killed, not one")),
        None => Ok(()),
    }
}

/// That readers always saw whole objects, each number once, none after a newer one; and that a
/// writer that was killed left the object before, or the new one if it stood at a mark in `new`.
pub(crate) fn check(
    story: &Story,
    [writer, readers @ ..]: [&str; 3],
    verb: &str,
    new: &[&str],
) -> Result<(), String> {
    let lives = lives::of(story, writer);
    let (mut put, mut putting) = (0, 0);
    for (life, lines) in &lives {
        if let Some(resumed) = numbers(lines, "resumed").first() {
            // A first life may go on with what an earlier daemon left.
            if *life > 1 && !(put..=putting).contains(resumed) {
                return Err(format!("life {life} found {resumed} after {put} or {putting}"));
            }
            let mark = killed_at(story, writer).and_then(|mark| mark.strip_prefix(verb));
            if let Some(mark) = mark.filter(|_| *life == 2 && putting > 0) {
                let expected = if new.contains(&mark) { putting } else { putting - 1 };
                // Killed between two objects: there is but one.
                let expected = expected.max(put);
                if *resumed != expected {
                    return Err(format!("killed at {mark}, and {resumed} counts, not {expected}"));
                }
            }
            let puts = numbers(lines, "put");
            if !puts.iter().copied().eq((resumed + 1..).take(puts.len())) {
                return Err(format!("life {life} put {puts:?} after {resumed}"));
            }
        }
        put = numbers(lines, "put").last().copied().unwrap_or(put).max(put);
        putting = numbers(lines, "putting").last().copied().unwrap_or(putting).max(putting);
    }
    let mut writers = BTreeMap::new();
    for reader in readers {
        let mut newest = 0;
        for (life, lines) in lives::of(story, reader) {
            if let Some(found) = numbers(&lines, "found").first().filter(|&&found| found < newest) {
                return Err(format!("{reader}'s life {life} found {found} after {newest}"));
            }
            let mut last = 0;
            for (number, by) in lines.iter().filter_map(|line| seen(line)) {
                if number <= last {
                    return Err(format!("{reader} saw {number} after {last}"));
                }
                if *writers.entry(number).or_insert(by) != by {
                    return Err(format!("two objects have the number {number}"));
                }
                last = number;
            }
            newest = newest.max(last);
        }
    }
    // Whoever dies with the supervisor may not have got its last lines out.
    if story.victim == "supervisor" {
        return Ok(());
    }
    let was_put = |(number, by): (&u64, &u64)| {
        lives.get(by).is_some_and(|lines| numbers(lines, "putting").contains(number))
    };
    match writers.iter().find(|&pair| !was_put(pair)) {
        Some((number, by)) => Err(format!("life {by} never put {number}")),
        None => Ok(()),
    }
}

fn seen(line: &str) -> Option<(u64, u64)> {
    let (number, by) = line.strip_prefix("saw ")?.split_once(' ')?;
    Some((number.parse().ok()?, by.parse().ok()?))
}
