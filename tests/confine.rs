//! What the recipe promises, tried on processes that went through it.
//!
//! The same program is the test and, started again through `sys::spawn`, the confined child. Runs
//! as root and as an ordinary user.

#[path = "confine/child.rs"]
mod child;
#[path = "confine/exec.rs"]
mod exec;
#[path = "confine/faults.rs"]
mod faults;
#[path = "confine/groups.rs"]
mod groups;
#[path = "confine/harness.rs"]
mod harness;
#[path = "confine/promises.rs"]
mod promises;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut args = std::env::args();
    if args.next().as_deref() == Some(harness::CHILD) {
        return child::main(&args.next().unwrap_or_default());
    }
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let mut trials: Vec<Trial> =
        [promises::ALL, exec::ALL, groups::ALL].concat().iter().map(trial).collect();
    trials.extend(faults::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
