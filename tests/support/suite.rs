//! The main part of the test programs that have a `main` of their own, since they start themselves
//! again as the daemons or the confined processes that they look at.
//!
//! Such a program runs what its tables name, and nothing else: `#[test]` does nothing in it.
//! `tests/architecture.rs` finds those.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// A test's name and what it does.
pub(crate) type Test = (&'static str, fn());

/// Makes the table `TESTS` of a module from the names of its test functions.
#[allow(unused_macros, reason = "the other programs have no tables")]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[$crate::support::suite::Test] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use tests;

/// Ends a test that can show nothing here: it is reported as ignored, with the reason.
pub(crate) fn ignore(reason: impl Into<String>) -> ! {
    // Not a panic: nothing went wrong, so nothing is printed.
    resume_unwind(Box::new(Ignored(reason.into())))
}

struct Ignored(String);

/// Trials of the tests in a table.
pub(crate) fn trials(tests: &[Test]) -> Vec<Trial> {
    let prefix = concat!(env!("CARGO_CRATE_NAME"), "::");
    let trial = |&(name, test): &Test| {
        Trial::ignorable_test(
            name.strip_prefix(prefix).unwrap_or(name),
            move || match catch_unwind(AssertUnwindSafe(test)) {
                Ok(()) => Ok(Completion::Completed),
                Err(thrown) => match thrown.downcast::<Ignored>() {
                    Ok(ignored) => Ok(Completion::ignored_with(ignored.0)),
                    Err(panic) => resume_unwind(panic),
                },
            },
        )
    };
    tests.iter().map(trial).collect()
}

/// Runs them as the command line says.
pub(crate) fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
