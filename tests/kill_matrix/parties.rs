//! The daemon of one case: the supervisor and its layers, each of which may stop at a mark.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;

use cofferdam::{Daemon, Layer, mark};

use crate::facility::{ALL, Runs};

/// Who stops where, as the command line and the layers' settings say it.
struct Stop<'a> {
    actor: &'a str,
    mark: &'a str,
    nth: u32,
}

impl<'a> Stop<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ');
        let (actor, mark) = (words.next()?, words.next()?);
        Some(Self { actor, mark, nth: words.next()?.parse().ok()? })
    }
}

/// The daemon that the command line asks for; in a layer, with the functions of all facilities.
pub(crate) fn daemon(arguments: &[String]) -> Daemon {
    let word = |place: usize| arguments.get(place).map_or("", String::as_str);
    let (facility, stop, policy) = (word(2), word(3), word(4));
    if let Some(stop) = Stop::parse(stop).filter(|stop| stop.actor == "supervisor") {
        let gate = std::path::Path::new(policy).with_file_name("gate");
        mark::arm(stop.mark, stop.nth, File::open(gate).unwrap());
    }
    if let Some(title) = arguments.first().and_then(|it| it.strip_prefix("cofferdam-layer:")) {
        arm_helper(title);
    }
    let mine = ALL.iter().filter(|one| facility.is_empty() || one.name == facility);
    let layers = mine.flat_map(|one| one.layers.iter().map(move |layer| (one.name, layer)));
    layers.fold(Daemon::new(policy).settings(stop), |daemon, (facility, (layer, runs))| {
        let name = format!("{facility}-{layer}");
        match *runs {
            Runs::Async(function) => daemon.layer(&name, move |layer: Layer| {
                arm(&layer);
                function(layer)
            }),
            Runs::Blocking(function) => daemon.blocking_layer(&name, move |layer: Layer| {
                arm(&layer);
                function(layer)
            }),
            Runs::Exec => daemon,
        }
    })
}

/// Has the first life of one of the framework's own layers stop where the case says. Its settings
/// are its own affair: so this looks at how the supervisor was started, before the layer is
/// confined. From then on it only sees the gate as memory.
fn arm_helper(title: &str) {
    let Some(helper) = title.strip_suffix("/0.g1").filter(|it| it.starts_with("cofferdam-")) else {
        return;
    };
    // In the numbers of the host, which no other process of a pid namespace knows.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let line = std::fs::read(format!("/proc/{}/cmdline", parent.unwrap_or("0").trim()));
    let line = String::from_utf8_lossy(&line.unwrap_or_default()).into_owned();
    let words: Vec<&str> = line.split('\0').collect();
    if let [_, "--case", _, stop, policy, ..] = words[..]
        && let Some(stop) = Stop::parse(stop).filter(|stop| stop.actor == helper)
        && let Ok(gate) = File::open(std::path::Path::new(policy).with_file_name("gate"))
    {
        mark::arm_mapped(stop.mark, stop.nth, &gate);
    }
}

/// Has this layer's first life stop where the case says.
fn arm(layer: &Layer) {
    let settings = String::from_utf8_lossy(layer.settings());
    let me = layer.instance();
    if let Some(stop) = Stop::parse(&settings)
        && stop.actor == me.layer.as_str()
        && me.generation == 1
        && let Ok(gate) = layer.file("gate")
    {
        mark::arm(stop.mark, stop.nth, gate);
    }
}

/// Says a line in the log, which stamps it with the layer's name. A line of the form `on N` shows
/// that the layer gets on; others are for the facility's check.
pub(crate) fn say(text: impl Display) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
