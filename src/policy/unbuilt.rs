//! What a policy may say and nothing does yet.

use super::plan::{Audit, LayerPlan, Plan, Transport};

/// What a plan asks for and this library can't give yet, one sentence each, beginning with the
/// policy's own name of the thing. Empty: the daemon can start.
///
/// Checking and explaining such a policy is fine. Starting it is not: a promise that nothing keeps
/// is worse than none.
pub fn unbuilt(plan: &Plan) -> Vec<String> {
    let mut missing = Vec::new();
    let mut tell = |place: String, what: &str| {
        missing.push(format!("[{place}] {what} is not built yet: take it out to start the daemon"));
    };
    for layer in &plan.layers {
        for (key, what) in of_layer(layer) {
            tell(format!("layer.{}", layer.name), &format!("`{key}`: {what}"));
        }
    }
    for channel in &plan.channels {
        let place = format!("channel.{}", channel.name);
        if channel.audit != Audit::None {
            tell(place.clone(), "`audit`: a record of its messages");
        }
        if channel.witness {
            tell(place.clone(), "`witness`: the witness between its ends");
        }
        if channel.transport == Transport::Ring {
            tell(place.clone(), "`transport`: the ring");
        }
    }
    let all = &plan.facilities;
    all.signals.iter().for_each(|it| tell(format!("signal.{}", it.name), "a signal grant"));
    all.queues.iter().for_each(|it| tell(format!("queue.{}", it.name), "a queue"));
    all.pipes.iter().for_each(|it| tell(format!("pipe.{}", it.name), "a pipe"));
    all.fifos.iter().for_each(|it| tell(format!("fifo.{}", it.name), "a fifo"));
    all.semaphores.iter().for_each(|it| tell(format!("semaphore.{}", it.name), "a semaphore"));
    all.regions.iter().for_each(|it| tell(format!("region.{}", it.name), "a region"));
    all.mapped_files
        .iter()
        .for_each(|it| tell(format!("mapped-file.{}", it.name), "a mapped file"));
    missing
}

fn of_layer(layer: &LayerPlan) -> Vec<(String, &'static str)> {
    let mut keys = Vec::new();
    keys.extend(layer.stdin.iter().map(|_| ("stdin".to_owned(), "a pipe as standard input")));
    keys.extend(layer.stdout.iter().map(|_| ("stdout".to_owned(), "a pipe as standard output")));
    keys
}
