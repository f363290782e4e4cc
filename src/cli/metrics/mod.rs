//! `cofferdam metrics [NAME]`: a running daemon's numbers, for who collects them.

mod groups;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use self::groups::Groups;
use super::audit::{Failure, open, written};
use super::running;
use super::top::view::View;
use crate::handle::numbers::{Edge, Life, Numbers, text};
use crate::handle::{Handle, InstanceStatus, Load};
use crate::ident::Instance;

/// Arguments of `cofferdam metrics`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is counted of an edge begins with the log's last segment, all else with the
daemon's last start. Without an audit log there is only what the kernel counts:
memory, processor time and tasks of each instance, where it has a cgroup.")]
pub struct Args {
    /// Which daemon, if several run
    name: Option<String>,
    /// The directory of an audit log, whether or not a daemon runs
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    audit: Option<PathBuf>,
}

/// Prints. Exit code 0: printed; 1: no daemon runs; 2: none has that name; 3: the system refused.
pub(super) fn run(args: &Args) -> ExitCode {
    print(args).unwrap_or_else(|failure| failure.tell())
}

fn print(args: &Args) -> Result<ExitCode, Failure> {
    let mut numbers = Numbers::default();
    let log = if args.audit.is_some() {
        args.audit.clone()
    } else {
        let daemon = running::find(args.name.as_deref())?;
        numbers.daemon.clone_from(&daemon.name);
        numbers.started = Some(daemon.started);
        numbers.is_up = true;
        for (name, usage) in Groups::of(daemon.pid).usage() {
            numbers.usage.push((name, usage));
        }
        if let Ok(status) = Handle::find(Some(&daemon.name)).and_then(|daemon| daemon.status()) {
            let told = |it: &InstanceStatus| Some((it.instance()?, it.load? == Load::Busy));
            numbers.busy.extend(status.instances.iter().filter_map(told));
        }
        daemon.audit
    };
    if let Some(directory) = log {
        add(&mut numbers, &directory)?;
    }
    written(std::io::stdout().write_all(text(&numbers).as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

/// Adds what an audit log tells.
fn add(numbers: &mut Numbers, directory: &std::path::Path) -> Result<(), Failure> {
    let store = open(directory)?;
    let mut view = View::begin(&store)?;
    view.look(&store)?;
    if numbers.daemon.is_empty() {
        view.title().0.clone_into(&mut numbers.daemon);
        numbers.is_up = view.live;
    }
    numbers.is_logged = true;
    for seat in view.seats() {
        let Some(instance) = instance(&seat.name) else { continue };
        numbers.lives.push(Life {
            runs: seat.ended.is_none() && numbers.is_up,
            since: seat.since,
            lives: seat.lives,
            refused: seat.refused,
            denied: seat.denied,
            instance,
        });
    }
    numbers.ends = view.ends.clone().into_iter().collect();
    for row in view.rows() {
        let all = &row.edge.all;
        numbers.edges.push(Edge {
            name: row.name,
            allowed: all.messages(),
            failed: all.failed,
            refused: all.refused,
            bytes: all.bytes(),
            lost: row.edge.lost,
        });
    }
    numbers.edges.sort_by(|a, b| a.name.cmp(&b.name));
    (numbers.alarms, numbers.lost) = (view.alarm_count, view.lost);
    Ok(())
}

/// Reads `keeper/0.g1`, or a cgroup's `keeper-0.g1`.
fn instance(text: &str) -> Option<Instance> {
    let (place, generation) = text.rsplit_once(".g")?;
    let (layer, index) = place.rsplit_once(['/', '-'])?;
    Some(Instance {
        layer: layer.parse().ok()?,
        index: index.parse().ok()?,
        generation: generation.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_read_as_they_are_shown() {
        for text in ["keeper/0.g1", "keeper-0.g1", "key-keeper-3.g12"] {
            let instance = instance(text).unwrap();
            assert_eq!(instance.to_string().replace('/', "-"), text.replace('/', "-"));
        }
        for text in ["", "keeper", "keeper/x.g1", "keeper/0.g", "Keeper/0.g1"] {
            assert_eq!(instance(text), None, "{text}");
        }
    }
}
