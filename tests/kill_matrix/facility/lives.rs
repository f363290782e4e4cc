//! What a layer said, life by life, and whether a life has lost hold of descriptors.

// Asking for the flags of a number that isn't open does nothing.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Once;

use cofferdam::Layer;
use cofferdam::wire::control::Service;

use crate::case::Story;
use crate::parties::say;

/// One more life's numbers begin here.
pub(crate) const LIFE: u64 = 1_000_000;

/// Descriptors that a layer of the matrix never has more of.
const MOST: RawFd = 256;

/// How many of a life's last words are looked at.
const LAST: usize = 3;

/// What each life of `layer` has said, by its number.
pub(crate) fn of<'a>(story: &'a Story, layer: &str) -> BTreeMap<u64, Vec<&'a str>> {
    let begin = format!("{layer}/0.g");
    let mut lives = BTreeMap::<u64, Vec<&str>>::new();
    for line in &story.lines {
        let said = line.strip_prefix(begin.as_str()).and_then(|rest| rest.split_once(": "));
        if let Some((Ok(life), words)) = said.map(|(life, words)| (life.parse(), words)) {
            lives.entry(life).or_default().push(words);
        }
    }
    lives
}

/// The numbers in those lines that begin with `word`.
pub(crate) fn numbers(lines: &[&str], word: &str) -> Vec<u64> {
    let rest = |line: &&str| line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok();
    lines.iter().filter_map(rest).collect()
}

/// Says how many descriptors this process holds. To be said when nothing is on its way: every peer
/// is there, and once.
pub(crate) fn tell_descriptors() {
    let is_open = |&number: &RawFd| {
        // SAFETY: only asked about, by a call that fails if it isn't open; never closed or kept.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_getfd(fd).is_ok()
    };
    say(format!("holds {}", (0..MOST).filter(is_open).count()));
}

/// The same for a layer that asks helpers: each has a socket to it by then, which comes once both
/// are confined, so later than what a layer says first.
pub(crate) fn tell_descriptors_beside_helpers(layer: &Layer) {
    static ARE_THERE: Once = Once::new();
    ARE_THERE.call_once(|| {
        for helper in [Service::Ledger, Service::Files, Service::Network, Service::Paths] {
            let _ = layer.service_socket(helper);
        }
    });
    tell_descriptors();
}

/// That no life of these layers ends with more descriptors than it had in the beginning. What it
/// has lost hold of is there for good: so the fewest of its last words count, for a task may still
/// have the socket to a helper that has just died.
pub(crate) fn check_descriptors(story: &Story, layers: &[&str]) -> Result<(), String> {
    for layer in layers {
        for (life, lines) in of(story, layer) {
            let held = numbers(&lines, "holds");
            let late = held.iter().rev().take(LAST).min();
            let (Some(early), Some(late)) = (held.first(), late) else { continue };
            if late > early {
                return Err(format!("life {life} of {layer} had {early} descriptors, has {late}"));
            }
        }
    }
    Ok(())
}
