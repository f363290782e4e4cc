//! Files: a writer who replaces, makes, cuts and removes, a logger who appends, and a reader who
//! lists. Every act is done or isn't, nothing is torn, and no life inherits its former one's count.

#![allow(clippy::needless_pass_by_value)] // As the harness and errors are handed over.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::file::{Directory, FileError, Options};

use super::lives::{self, LIFE};
use super::{Facility, Outcome, Runs};
use crate::begin::begin;
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "file",
    policy: r#"
[file.here]
path = "DIR"
deny = ["gate", "policy.toml"]
max-open = 3
[file.here.grant]
writer = ["read", "write", "create", "truncate", "remove"]
logger = ["append", "create"]
reader = ["read", "list"]
"#,
    layers: &[
        ("writer", Runs::Blocking(writer)),
        ("logger", Runs::Blocking(logger)),
        ("reader", Runs::Blocking(reader)),
    ],
    marks: &[
        ("supervisor", "supervisor.start.spawned", 1),
        ("supervisor", "supervisor.start.spawned", 3),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.admit.confined", 3),
        ("supervisor", "supervisor.hand-over.object", 1),
        ("supervisor", "supervisor.hand-over.done", 3),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("cofferdam-files", "file.open.asked", 1),
        ("cofferdam-files", "file.open.asked", 9),
        ("cofferdam-files", "file.open.granted", 2),
        ("cofferdam-files", "file.open.pinned", 3),
        ("cofferdam-files", "file.open.done", 1),
        ("cofferdam-files", "file.open.done", 12),
        ("cofferdam-files", "file.create.made", 1),
        ("cofferdam-files", "file.create.made", 4),
        ("cofferdam-files", "file.truncate.begun", 1),
        ("cofferdam-files", "file.truncate.cut", 2),
        ("cofferdam-files", "file.replace.drafted", 1),
        ("cofferdam-files", "file.replace.drafted", 3),
        ("cofferdam-files", "file.replace.asked", 1),
        ("cofferdam-files", "file.replace.asked", 2),
        ("cofferdam-files", "file.replace.made", 1),
        ("cofferdam-files", "file.replace.linked", 1),
        ("cofferdam-files", "file.replace.linked", 4),
        ("cofferdam-files", "file.replace.renamed", 1),
        ("cofferdam-files", "file.replace.renamed", 3),
        ("cofferdam-files", "file.remove.found", 1),
        ("cofferdam-files", "file.remove.found", 3),
        ("cofferdam-files", "file.remove.removed", 2),
        ("cofferdam-files", "file.list.read", 2),
        ("cofferdam-files", "file.list.sealed", 1),
        ("cofferdam-files", "file.close.heard", 1),
        ("cofferdam-files", "file.close.heard", 6),
        ("cofferdam-files", "file.close.counted", 4),
        ("writer", "file.replace.got", 1),
        ("writer", "file.replace.got", 2),
        ("writer", "file.replace.written", 2),
        ("writer", "file.replace.synced", 1),
        ("writer", "file.replace.confirmed", 2),
        ("writer", "file.open.answered", 5),
        ("writer", "file.close.said", 3),
        ("logger", "file.open.answered", 2),
        ("logger", "file.close.said", 1),
        ("reader", "file.open.answered", 3),
        ("reader", "file.list.received", 2),
    ],
    check,
};

/// Numbers in the file that is replaced, all the same: many pages, so that a torn one would show.
const WHOLE: usize = 4096;

/// Bytes in the file that is cut.
const FULL: usize = 512;

/// What the policy says.
const MAX_OPEN: usize = 3;

/// The file that is replaced.
const STATE: &str = "state";

/// The file that is filled and cut.
const CUT: &str = "cut";

/// The file that is appended to.
const LOG: &str = "log";

/// Runs rounds until the layer is to finish, each with a number that no other life has.
fn rounds(layer: &Layer, mut round: impl FnMut(&Directory, u64) -> Outcome) -> Outcome {
    let here = layer.directory("here").map_err(text)?;
    for on in 1.. {
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            break;
        }
        round(&here, layer.instance().generation * LIFE + on)?;
        say(format!("on {on}"));
        lives::tell_descriptors_beside_helpers(layer);
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// What is said before an act may be done later or not at all; what is said after it is done.
fn writer(layer: Layer) -> Outcome {
    rounds(&layer, |here, number| {
        say(format!("replace {number}"));
        here.replace(STATE, &number.to_le_bytes().repeat(WHOLE)).map_err(text)?;
        say(format!("replaced {number}"));

        let name = format!("n{number}");
        say(format!("make {number}"));
        match here.create_new(&name) {
            // The helper died, and nobody knows. It is there after this.
            Err(FileError::Interrupted { .. }) => here.create(&name),
            made => made,
        }
        .map_err(text)?;
        say(format!("made {number}"));

        say(format!("fill {number}"));
        let mut cut = here.open(CUT, Options::new().write().create()).map_err(text)?;
        cut.write_all(&[b'x'; FULL]).map_err(text)?;
        say(format!("filled {number}"));
        say(format!("cut {number}"));
        until_answered(|| here.truncate(CUT)).map_err(text)?;
        say(format!("emptied {number}"));
        drop(cut);

        fill_the_places(here)?;
        say(format!("remove {number}"));
        let mut asked = 0;
        let removed = until_answered(|| {
            asked += 1;
            here.remove(&name)
        });
        match removed {
            // The first time, as it seems.
            Err(error) if asked > 1 && error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(text)?,
        }
        say(format!("removed {number}"));
        Ok(())
    })
}

/// Acts again as long as the helper dies over it.
fn until_answered(mut act: impl FnMut() -> Result<(), FileError>) -> Result<(), FileError> {
    loop {
        match act() {
            Err(FileError::Interrupted { .. }) => {}
            done => return done,
        }
    }
}

/// As many as the policy says can be open, and not one more, whoever was killed before.
fn fill_the_places(here: &Directory) -> Outcome {
    let mut held = Vec::new();
    loop {
        match here.open_read(STATE) {
            Ok((file, _)) => held.push(file),
            Err(FileError::Limit { .. }) if held.len() == MAX_OPEN => return Ok(()),
            Err(error) => return Err(format!("with {} open: {error}", held.len())),
        }
        if held.len() > MAX_OPEN {
            return Err("more are open than the policy says".into());
        }
    }
}

fn logger(layer: Layer) -> Outcome {
    rounds(&layer, |here, number| {
        say(format!("log {number}"));
        let mut log = here.append(LOG).map_err(text)?;
        log.write_all(format!("{number}\n").as_bytes()).map_err(text)?;
        say(format!("logged {number}"));
        Ok(())
    })
}

fn reader(layer: Layer) -> Outcome {
    // So that the supervisor has somebody to reap, before the case kills anybody.
    let reaped = String::from_utf8_lossy(layer.settings()).contains("reap");
    rounds(&layer, |here, number| {
        if reaped && number == LIFE + 2 {
            say("on 2");
            std::process::exit(0);
        }
        for name in here.list("").map_err(text)? {
            let name = name.to_string_lossy().into_owned();
            if !is_expected(&name) || name == "gate" || name == "policy.toml" {
                say(format!("stray {name}"));
            }
        }
        match here.open_read(STATE) {
            Ok((mut file, _)) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(text)?;
                match whole(&bytes) {
                    Some(number) => say(format!("saw {number}")),
                    None => say("torn"),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(text(error)),
        }
        Ok(())
    })
}

/// The number that a state consists of, if it is one state.
fn whole(bytes: &[u8]) -> Option<u64> {
    let number = bytes.first_chunk::<8>()?;
    (bytes == number.repeat(WHOLE)).then_some(u64::from_le_bytes(*number))
}

fn is_expected(name: &str) -> bool {
    matches!(name, "gate" | "policy.toml" | STATE | CUT | LOG) || made(name).is_some()
}

/// The number of a file that was made to be removed.
fn made(name: &str) -> Option<u64> {
    name.strip_prefix('n')?.parse().ok()
}

fn check(story: &Story) -> Result<(), String> {
    lives::check_descriptors(story, &["writer", "logger", "reader"])?;
    super::check_supervisor(story)?;
    if let Some(line) = story.lines.iter().find(|line| line.contains("ended with exit code 1")) {
        return Err(line.clone());
    }
    check_reader(story)?;
    // What a layer said last isn't in the log of a supervisor that was killed.
    let heard_all = story.victim != "supervisor";
    check_state(story, heard_all)?;
    check_cut(story, heard_all)?;
    check_log(story, heard_all)?;
    check_names(story, heard_all)?;
    if is_linked(story) { starts_clean(&story.directory) } else { Ok(()) }
}

fn check_reader(story: &Story) -> Result<(), String> {
    if let Some(bad) = story.of("reader").find(|it| *it == "torn" || it.starts_with("stray")) {
        return Err(format!("the reader: {bad}"));
    }
    let saw = story.numbers("reader", "saw ");
    if saw.is_sorted() { Ok(()) } else { Err("an old state was back".into()) }
}

/// The state is the last that was confirmed, or a later one that was begun.
fn check_state(story: &Story, heard_all: bool) -> Result<(), String> {
    let confirmed = story.numbers("writer", "replaced ").last().copied();
    let begun = story.numbers("writer", "replace ");
    match fs::read(story.directory.join(STATE)) {
        Err(_) if confirmed.is_none() => Ok(()),
        Err(error) => Err(format!("the state is gone: {error}")),
        Ok(bytes) => match whole(&bytes) {
            None => Err("the state is torn".into()),
            Some(number) if confirmed.is_some_and(|confirmed| number < confirmed) => {
                Err(format!("state {number} is older than {confirmed:?}"))
            }
            Some(number) if heard_all && !begun.contains(&number) => {
                Err(format!("nobody wrote state {number}"))
            }
            Some(_) => Ok(()),
        },
    }
}

/// What was filled is full until it is cut, and then empty.
fn check_cut(story: &Story, heard_all: bool) -> Result<(), String> {
    let length = fs::metadata(story.directory.join(CUT)).map_or(0, |it| it.len());
    let acts = ["fill ", "filled ", "cut ", "emptied "];
    let last = story.of("writer").filter(|line| acts.iter().any(|act| line.starts_with(act)));
    let last = last.last().and_then(|line| line.split(' ').next());
    let full = FULL as u64;
    let allowed: &[u64] = match last {
        _ if !heard_all => &[0, full],
        Some("filled") => &[full],
        None | Some("emptied") => &[0],
        _ => &[0, full],
    };
    let found = allowed.contains(&length);
    found.then_some(()).ok_or(format!("after {last:?} it has {length} bytes"))
}

/// What was logged is there, in order and once, and nothing that wasn't begun.
fn check_log(story: &Story, heard_all: bool) -> Result<(), String> {
    let text = fs::read_to_string(story.directory.join(LOG)).unwrap_or_default();
    let there: Result<Vec<u64>, _> = text.lines().map(str::parse).collect();
    let there = there.map_err(|_| format!("a line of the log is torn: {text:?}"))?;
    if !there.is_sorted_by(|one, next| one < next) {
        return Err("the log has a line twice, or late".into());
    }
    let (begun, done) = (story.numbers("logger", "log "), story.numbers("logger", "logged "));
    if let Some(lost) = done.iter().find(|number| !there.contains(number)) {
        return Err(format!("line {lost} of the log is lost"));
    }
    match there.iter().find(|number| heard_all && !begun.contains(number)) {
        Some(number) => Err(format!("nobody wrote line {number}")),
        None => Ok(()),
    }
}

/// Nothing is there but what was made and not removed.
fn check_names(story: &Story, heard_all: bool) -> Result<(), String> {
    let said = |word| story.numbers("writer", word).into_iter().collect::<BTreeSet<_>>();
    let (begun, made_now) = (said("make "), said("made "));
    let (going, gone) = (said("remove "), said("removed "));
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&story.directory).map_err(text)? {
        let name = entry.map_err(text)?.file_name().to_string_lossy().into_owned();
        found.extend(made(&name));
        if !is_expected(&name) && (name != DRAFT || !is_linked(story)) {
            return Err(format!("{name} is left over"));
        }
    }
    if let Some(number) = found.intersection(&gone).next() {
        return Err(format!("n{number} was removed, and is there"));
    }
    if let Some(number) = found.difference(&begun).next().filter(|_| heard_all) {
        return Err(format!("nobody made n{number}"));
    }
    let stays: BTreeSet<_> = made_now.difference(&going).copied().collect();
    match stays.difference(&found).next() {
        // Its removal may be what nobody has heard of any more.
        Some(number) if heard_all => Err(format!("n{number} was made, and is gone")),
        _ if !heard_all && found.len() > 1 => Err("more than one stray file".into()),
        _ => Ok(()),
    }
}

/// The name that a draft has between link and rename.
const DRAFT: &str = ".cofferdam-draft-matrix";

/// Whether the supervisor was killed between link and rename.
fn is_linked(story: &Story) -> bool {
    let linked = |line: &String| line.ends_with("mark file.replace.linked");
    story.victim == "supervisor" && story.lines.iter().any(linked)
}

/// The helper of the next daemon removes the draft of one whose supervisor was killed.
fn starts_clean(directory: &Path) -> Result<(), String> {
    let (mut daemon, lines) = begin(&FACILITY, "supervisor none 1", directory).map_err(text)?;
    // Whoever reads them: a full pipe would hold the daemon up.
    std::thread::spawn(move || lines.iter().for_each(drop));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while directory.join(DRAFT).exists() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    let left = directory.join(DRAFT).exists();
    daemon.kill().map_err(text)?;
    daemon.wait().map_err(text)?;
    if left { Err("the draft is left over".into()) } else { Ok(()) }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
