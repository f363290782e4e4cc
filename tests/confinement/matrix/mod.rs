//! The matrix: every system call number, for every layer of every shipped policy, for real.
//!
//! A layer's filter is loaded in a process of its own, inside private namespaces and as a user
//! without rights, and each call is made with arguments that do no harm. What the kernel does is
//! compared with what the plan means and with what `Filter::evaluate` predicts: killed calls end
//! their process, refused ones return the declared errno, allowed ones return. Calls with
//! conditions are made with arguments that just pass, and that just don't.
//!
//! Layers with equal filters share one test. This program is started again as the caged process, for a
//! filter can't be taken off.

mod cage;
mod cases;
pub(crate) mod raw;
mod trial;

use std::process::Command;

use cofferdam::policy::plan::SyscallPlan;
use libtest_mimic::{Failed, Trial};

/// Names the layer whose filter the caged process tries.
pub(crate) const LAYER: &str = "COFFERDAM_MATRIX_LAYER";
/// Makes the caged process predict one answer wrongly.
const WRONG: &str = "COFFERDAM_MATRIX_WRONG";

/// Tries the filter of a layer on this process.
pub(crate) fn caged_process(layer: &str) -> ! {
    let layers = shipped();
    let found = layers.iter().find(|known| known.names.iter().any(|name| name == layer)).unwrap();
    std::process::exit(cage::enter(|| trial::run(&found.syscalls)));
}

pub(crate) fn trials() -> Vec<Trial> {
    let layers = shipped();
    let mut trials: Vec<Trial> = layers.iter().map(matrix).collect();
    let wrong = wrong(layers[0].names[0].clone());
    trials.push(Trial::test("matrix::a_wrong_prediction_is_told", wrong));
    trials
}

/// Layers that have the same filter.
struct Shared {
    /// `policy.layer`, at least one.
    names: Vec<String>,
    syscalls: Vec<SyscallPlan>,
}

/// The layers of the policies in `policies/`, equal filters together.
fn shipped() -> Vec<Shared> {
    let mut layers: Vec<Shared> = Vec::new();
    for path in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/policies")).unwrap() {
        let path = path.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let checked = cofferdam::policy::check(name, &std::fs::read(&path).unwrap());
        let plan = checked.plan.unwrap_or_else(|| panic!("{name}: {:?}", checked.diagnostics));
        for layer in plan.layers {
            let name = format!("{}.{}", plan.name, layer.name);
            match layers.iter_mut().find(|shared| shared.syscalls == layer.syscalls) {
                Some(shared) => shared.names.push(name),
                None => layers.push(Shared { names: vec![name], syscalls: layer.syscalls }),
            }
        }
    }
    for shared in &mut layers {
        shared.names.sort();
    }
    layers.sort_by(|a, b| a.names.cmp(&b.names));
    layers
}

fn matrix(shared: &Shared) -> Trial {
    let layer = shared.names[0].clone();
    Trial::test(format!("matrix::{}", shared.names.join("+")), move || {
        let (success, said) = caged(&layer, false);
        if success { Ok(()) } else { Err(Failed::from(said)) }
    })
}

/// Proves that the matrix can fail.
fn wrong(layer: String) -> impl FnOnce() -> Result<(), Failed> {
    move || match caged(&layer, true) {
        (false, said) if said.contains("1 of ") => Ok(()),
        (success, said) => Err(Failed::from(format!("success {success}: {said}"))),
    }
}

/// Starts this program again as the caged process of a layer.
fn caged(layer: &str, wrong: bool) -> (bool, String) {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(LAYER, layer).stdin(std::process::Stdio::null());
    if wrong {
        again.env(WRONG, "1");
    }
    let output = again.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
