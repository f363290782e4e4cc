//! What the test programs share: starting daemons and reading their logs, logs to break, ends of
//! channels.

#![allow(dead_code, unused_imports, reason = "each test program uses a part")]

pub(crate) mod channel;
pub(crate) mod daemon;
pub(crate) mod harness;
pub(crate) mod host;
pub(crate) mod hung;
pub(crate) mod log;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod scene;
pub(crate) mod suite;
pub(crate) mod table;
pub(crate) mod web;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The program of `tests/probe`. Built if cargo runs this test alone, which builds no examples.
pub(crate) fn probe() -> &'static PathBuf {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| example("probe"))
}

/// An example of this package, beside the directory of this test program.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program's path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE");
    let program = profile.join("examples").join(name);
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--example", name]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        if cfg!(feature = "ring") {
            build.args(["--features", "ring"]);
        }
        // What cargo tells this test about its package isn't for the packages built there: some
        // are built anew when it changes.
        let told = |name: &str| {
            name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name)
        };
        let vars = std::env::vars().map(|(name, _)| name);
        for name in vars.filter(|name| told(name)) {
            build.env_remove(name);
        }
        // Offline or read-only, the program of the last build will do.
        let _ = build.status();
    }
    assert!(program.exists(), "{} is missing: cargo build --example {name}", program.display());
    program
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
