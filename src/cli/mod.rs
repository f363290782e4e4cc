//! The command line: one file a verb.
//!
//! Exit codes: 0 fine; 1 a finding (an invalid policy, a protection that can't be had, a daemon
//! that gave up); 2 wrong usage; 3 the system refused. Results go to standard output, errors to
//! standard error.

mod audit;
mod can;
mod check;
mod command;
mod diff;
mod doctor;
mod explain;
mod export;
mod graph;
mod here;
mod host;
mod learn;
mod metrics;
mod read;
mod run;
mod running;
mod schema;
mod status;
mod top;
mod unified;
mod unit;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::layer::enter;

/// Linux daemons out of privilege-separated, sandboxed layers.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Confine and supervise the programs of a policy's `exec` layers
    Run(run::Args),
    /// Write a policy for a program from what it does, or find what a policy lacks
    Learn(learn::Args),
    /// Check policies: every mistake of each, or one line that says what it holds
    Check(check::Args),
    /// Tell what each layer may do if it is wholly compromised, and how exposed that makes it
    Explain(explain::Args),
    /// Answer whether a layer may do something: yes or no, the rule, and the ways through others
    Can(can::Args),
    /// Tell what a new policy grants that an old one doesn't, and the reverse
    Diff(diff::Args),
    /// Draw a policy: its layers, what joins them, and what they may touch
    Graph(graph::Args),
    /// Write the JSON Schema of the policy language, for editors
    Schema(schema::Args),
    /// Write units or profiles for other programs, and what those can't say
    Export(export::Args),
    /// Write the unit by which systemd runs a policy's daemon
    Unit(unit::Args),
    /// Tell what this kernel and user can enforce, and what follows where it can't
    Doctor(doctor::Args),
    /// Tell how a running daemon and each of its layers is
    Status(status::Args),
    /// End a layer of a running daemon in order, or all of them, and begin anew
    Restart(command::RestartArgs),
    /// Have a running daemon read its policy anew, and change what the policy changes
    Reload(command::ReloadArgs),
    /// Have the program that is at a running daemon's path now take its place
    Upgrade(command::UpgradeArgs),
    /// Stop a running daemon in order
    Stop(command::StopArgs),
    /// Watch a running daemon: its layers, its edges, refusals and alarms
    Top(top::Args),
    /// Print a running daemon's numbers, for who collects them
    Metrics(metrics::Args),
    /// Make and print the key by which other hosts know this one
    Host(host::Args),
    /// Ask an audit log who said what to whom
    Audit(audit::Args),
}

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    if enter::is_layer() {
        return enter::main(&std::collections::BTreeMap::new());
    }
    match Arguments::parse().verb {
        Verb::Run(args) => run::run(&args),
        Verb::Learn(args) => learn::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Can(args) => can::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Graph(args) => graph::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Export(args) => export::run(&args),
        Verb::Unit(args) => unit::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Restart(args) => command::restart(&args),
        Verb::Reload(args) => command::reload(&args),
        Verb::Upgrade(args) => command::upgrade(&args),
        Verb::Stop(args) => command::stop(&args),
        Verb::Top(args) => top::run(&args),
        Verb::Metrics(args) => metrics::run(&args),
        Verb::Host(args) => host::run(&args),
        Verb::Audit(args) => audit::run(&args),
    }
}
