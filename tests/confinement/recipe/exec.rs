//! Programs of others: what an `exec` layer's init promises.

use rustix::process::Signal;

use super::harness::{Facts, exec_order, start};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("exec::a_program_runs_with_its_environment_alone", environment),
    ("exec::the_system_is_there_and_nothing_else", system_view),
    ("exec::an_exit_code_is_told", exit_code),
    ("exec::a_deadly_signal_is_told", deadly_signal),
    ("exec::a_signal_to_init_reaches_the_program", forwarded),
    ("exec::orphans_are_reaped", orphans),
    ("exec::the_program_is_confined", confined),
    ("exec::grandchildren_die_with_the_layer", grandchildren),
    ("exec::too_few_descriptors_are_an_error", too_few),
];

fn run(script: &str) -> Facts {
    let mut running = start("exec", &exec_order(script), None);
    let facts = running.facts();
    running.end();
    assert_eq!(facts.0.get("refused"), None);
    facts
}

fn environment() {
    let facts = run("echo greeting $GREETING; echo pid $$; echo path ${LD_LIBRARY_PATH-none}");
    assert_eq!(facts.get("greeting"), "hello");
    assert_eq!(facts.get("pid"), "2");
    assert_eq!(facts.get("path"), "none");
    assert_eq!(facts.get("ended"), "exited with code 0");
}

fn system_view() {
    let facts = run(
        "[ -e /etc/passwd ] || echo passwd absent; [ -e /proc/self ] || echo proc absent; \
         echo x > /dev/null && echo null written; (echo x > /usr/new) 2>/dev/null || echo usr whole; \
         /usr/bin/env true && echo programs run",
    );
    assert_eq!(facts.get("passwd"), "absent");
    assert_eq!(facts.get("proc"), "absent");
    assert_eq!(facts.get("null"), "written");
    assert_eq!(facts.get("usr"), "whole");
    assert_eq!(facts.get("programs"), "run");
}

fn exit_code() {
    assert_eq!(run("exit 41").get("ended"), "exited with code 41");
}

fn deadly_signal() {
    let facts = run("kill -KILL $$");
    assert!(facts.get("ended").contains("KILL"), "{facts:?}");
}

fn forwarded() {
    let script = "trap 'echo got term; exit 5' TERM; echo ready; while :; do sleep 0.02; done";
    let mut running = start("exec", &exec_order(script), None);
    running.facts();
    rustix::process::pidfd_send_signal(&running.child.pidfd, Signal::TERM).expect("sent");
    let facts = running.facts();
    assert_eq!(facts.get("got"), "term");
    assert_eq!(facts.get("ended"), "exited with code 5");
    running.end();
}

/// Sixty orphans: were they not reaped, the sixteen tasks of the layer would be used up.
fn orphans() {
    let facts = run(
        "i=0; while [ $i -lt 60 ]; do (true & true); sleep 0.01; i=$((i+1)); done; echo made $i",
    );
    assert_eq!(facts.get("made"), "60");
}

fn confined() {
    let order = exec_order("echo ready; exec sleep 1000");
    let mut running = start("exec", &order, None);
    running.facts();
    let init = running.child.pid.as_raw_nonzero();
    let program = running.proc(&format!("task/{init}/children"));
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", program.trim())).expect("status");
    let has = |line: &str| assert!(status.lines().any(|l| l == line), "{line:?} not in {status}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        has(&format!("{set}:\t0000000000000000"));
    }
    has("NoNewPrivs:\t1");
    has("Seccomp:\t2");
    has("SigBlk:\t0000000000000000");
    has("SigIgn:\t0000000000000000");
    rustix::process::pidfd_send_signal(&running.child.pidfd, Signal::KILL).expect("sent");
    running.end();
}

fn grandchildren() {
    let script = "sleep 1000 & sleep 1000 & echo ready; wait";
    let mut running = start("exec", &exec_order(script), None);
    running.facts();
    let init = running.child.pid.as_raw_nonzero();
    let shell = running.proc(&format!("task/{init}/children"));
    let shell = shell.trim();
    let sleeps = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
    let sleeps = sleeps.expect("the shell's children");
    assert_eq!(sleeps.split_whitespace().count(), 2, "{sleeps}");
    rustix::process::pidfd_send_signal(&running.child.pidfd, Signal::KILL).expect("sent");
    // A pid namespace's process 1 is reaped after all others in it.
    running.end();
    for pid in sleeps.split_whitespace() {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives on");
    }
}

fn too_few() {
    let mut order = exec_order("true");
    order.layer.limits.files = 12;
    let mut running = start("exec", &order, None);
    let said = running.facts();
    assert!(said.get("refused").contains("arrange its descriptors"), "{said:?}");
    running.end();
}
