//! What a policy may say and nothing does yet.

use super::plan::{Audit, FilePlan, LayerPlan, Plan, Transport};

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
    for file in &plan.files {
        for key in of_file(file) {
            tell(format!("file.{}", file.name), &format!("`{key}`: opening through the broker"));
        }
    }
    let all = &plan.facilities;
    all.queues.iter().for_each(|it| tell(format!("queue.{}", it.name), "a queue"));
    all.pipes.iter().for_each(|it| tell(format!("pipe.{}", it.name), "a pipe"));
    all.fifos.iter().for_each(|it| tell(format!("fifo.{}", it.name), "a fifo"));
    all.regions.iter().for_each(|it| tell(format!("region.{}", it.name), "a region"));
    all.mapped_files
        .iter()
        .for_each(|it| tell(format!("mapped-file.{}", it.name), "a mapped file"));
    missing
}

fn of_layer(layer: &LayerPlan) -> Vec<(String, &'static str)> {
    let mut keys = Vec::new();
    for socket in &layer.listen {
        if socket.rate.is_some() {
            keys.push((format!("listen.{}.rate", socket.name), "a limit on connections"));
        }
        if socket.per_source.is_some() {
            keys.push((format!("listen.{}.per-source", socket.name), "a limit on connections"));
        }
    }
    let connect = layer.connect.iter();
    keys.extend(connect.map(|one| (format!("connect.{}", one.name), "a connection made outside")));
    keys.extend(layer.stdin.iter().map(|_| ("stdin".to_owned(), "a pipe as standard input")));
    keys.extend(layer.stdout.iter().map(|_| ("stdout".to_owned(), "a pipe as standard output")));
    keys
}

fn of_file(file: &FilePlan) -> Vec<&'static str> {
    let keys = [("deny", !file.deny.is_empty()), ("max-open", file.max_open.is_some())];
    keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
}
