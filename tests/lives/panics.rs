//! A panic of a layer: its words are in the log, and its end is a failure.

use crate::Test;
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("panics::words_are_in_the_log", || words("panicking", "")),
    ("panics::words_are_in_the_log_with_a_backtrace", || words("panicking", BACKTRACE)),
    ("panics::words_of_another_thread", || words("panicking_later", THREADS)),
    ("panics::words_of_another_thread_with_a_backtrace", || {
        words("panicking_later", &format!("{THREADS}{BACKTRACE}"));
    }),
];

const BACKTRACE: &str = "env = { RUST_BACKTRACE = \"1\" }\n";
const THREADS: &str = "runtime = \"multi-thread\"\n";

/// `@core` is enough, whatever a backtrace looks for.
fn words(function: &str, more: &str) {
    let policy = format!(
        "[layer.a]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\nrestart = {{ on = \"never\" }}\n{more}"
    );
    let mut daemon = Daemon::start(function, &policy);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    let said =
        |text: &str| daemon.seen.iter().any(|it| it.starts_with("a/0.g1: ") && it.contains(text));
    assert!(said("panicked at"), "{daemon}");
    assert!(said("words that a panic says"), "{daemon}");
    assert_eq!(said("stack backtrace:"), more.contains("BACKTRACE"), "{daemon}");
    assert_eq!(daemon.count("was killed"), 0, "{daemon}");
    assert_eq!(daemon.count("a/0.g1 ended with exit code"), 1, "{daemon}");
}
