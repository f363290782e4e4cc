//! What the audit log costs who is audited: the same daemon without a log and with one, in one
//! run; and what a witness between the two ends costs on top. `cargo bench --bench facilities -- audit`

use std::time::Instant;

use cofferdam::Layer;
use cofferdam::ipc::message::{Event, Message};

use crate::host::{self, Function, Outcome, result};

pub(crate) const LAYERS: &[Function] =
    &[("audit_caller", caller), ("audit_sender", sender), ("audit_server", server)];

const CALLS: usize = 30_000;
const MESSAGES: usize = 1_000_000;
/// Messages that are sent together, so that they share records.
const BURST: usize = 1_000;
const ROUNDS: usize = 5;

/// All daemons by turns, so that whatever else the machine does falls on all.
pub(crate) fn bench() {
    println!(
        "audit                      {:>12} {:>12} {:>8} {:>12} {:>8}",
        "no log", "log", "ratio", "witness", "to log"
    );
    // Where both ends share a processor that the auditor isn't on, what is seen is what reporting
    // costs them; where everybody is anywhere on two processors, the auditor's own work is too.
    for (name, function, apart) in [
        ("1 KiB call, same, ns", "audit_caller", true),
        ("1 KiB call, auto, ns", "audit_caller", false),
        ("64 B one way, same, ns", "audit_sender", true),
        ("64 B one way, auto, ns", "audit_sender", false),
    ] {
        let policy = policy(function);
        let witnessed = format!("{policy}witness = true\n");
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].extend(host::run_with(&policy, 1, None, apart));
            for (times, policy) in times[1..].iter_mut().zip([&policy, &witnessed]) {
                let log = tempfile::tempdir().expect("a directory");
                times.extend(host::run_with(policy, 1, Some(&log.path().join("log")), apart));
            }
        }
        let [bare, audited, witnessed] = times.map(|mut all| {
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        });
        let ratios = [audited / bare, witnessed / audited];
        println!(
            "{name:<26} {bare:>12.0} {audited:>12.0} {:>8.2} {witnessed:>12.0} {:>8.2}",
            ratios[0], ratios[1]
        );
    }
}

fn policy(function: &str) -> String {
    format!(
        "[layer.a]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\n\
         [layer.b]\nrun = \"audit_server\"\nsyscalls = [\"@core\"]\n\
         [channel.c]\nfrom = \"a\"\nto = \"b\"\nmax = \"2KiB\"\n"
    )
}

fn caller(layer: &Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    let message = || Message::from(vec![7; 1024]);
    for _ in 0..CALLS / 10 {
        channel.call("").send(message()).map_err(|e| e.to_string())?;
    }
    let begin = Instant::now();
    for _ in 0..CALLS {
        channel.call("").send(message()).map_err(|e| e.to_string())?;
    }
    result(begin.elapsed().as_secs_f64() * 1e9 / CALLS as f64);
    stay(layer)
}

fn sender(layer: &Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    let begin = Instant::now();
    for _ in 0..MESSAGES / BURST {
        let burst = (0..BURST).map(|_| Message::from(vec![7; 64]));
        channel.send_all("", burst, None).map_err(|e| e.to_string())?;
    }
    // The answer comes after everything that was sent before.
    channel.call("").send(Message::from(vec![7; 64])).map_err(|e| e.to_string())?;
    result(begin.elapsed().as_secs_f64() * 1e9 / MESSAGES as f64);
    stay(layer)
}

fn stay(layer: &Layer) -> Outcome {
    while !layer.is_stopping() {
        layer.attend().map_err(|e| e.to_string())?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

fn server(layer: &Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    while !layer.is_stopping() {
        match channel.recv(None) {
            Ok(Event::Request { message, reply, .. }) => {
                reply.blocking().reply(message).map_err(|e| e.to_string())?;
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}
