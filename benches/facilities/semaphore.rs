//! Acquire and release beside a round trip on a channel, which is what they may cost twice.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::time::Instant;

use cofferdam::Layer;
use cofferdam::ipc::message::Event;

use super::host::{Function, Outcome, result, run};

pub(crate) const LAYERS: &[Function] = &[("sem_bench", measure), ("sem_echo", echo)];

const COUNT: usize = 20_000;
const ROUNDS: usize = 5;

pub(crate) fn bench() {
    let layer = |name: &str, run: &str| {
        format!("[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\n")
    };
    let policy = layer("a", "sem_bench")
        + &layer("b", "sem_echo")
        + "[channel.ab]\nfrom = \"a\"\nto = \"b\"\nmethods = { echo = { max = \"4KiB\" } }\n\
           [semaphore.one]\npermits = 1\nholders = [\"a\"]\nlease = \"5s\"\n";
    let results = run(&policy, 2 * ROUNDS);
    let median = |first: usize| {
        let mut times: Vec<f64> = results.iter().skip(first).step_by(2).copied().collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (lease, call) = (median(0) / 1e3, median(1) / 1e3);
    println!("semaphore, µs              acquire + release {lease:.2}");
    println!("                           channel round trip {call:.2}");
    println!("                           ratio {:.2} (at most 2)\n", lease / call);
}

fn measure(layer: &Layer) -> Outcome {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let one = layer.semaphore("one").map_err(|e| text(&e))?.blocking();
    let channel = layer.channel("ab").map_err(|e| text(&e))?.blocking();
    channel.wait_for_peer(None).map_err(|e| text(&e))?;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..COUNT {
            drop(one.acquire().map_err(|e| text(&e))?);
        }
        result(begin.elapsed().as_nanos() as f64 / COUNT as f64);
        let begin = Instant::now();
        for _ in 0..COUNT {
            channel.call("echo").send(vec![0; 16]).map_err(|e| text(&e))?;
        }
        result(begin.elapsed().as_nanos() as f64 / COUNT as f64);
    }
    Ok(())
}

fn echo(layer: &Layer) -> Outcome {
    let channel = layer.channel("ab").map_err(|error| error.to_string())?.blocking();
    while let Ok(event) = channel.recv(None) {
        if let Event::Request { message, reply, .. } = event {
            let _ = reply.blocking().reply(message);
        }
    }
    Ok(())
}
