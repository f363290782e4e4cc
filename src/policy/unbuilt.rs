//! What a policy may say and nothing does yet.

use super::plan::{Plan, Transport};

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
    for channel in &plan.channels {
        if channel.transport == Transport::Ring {
            tell(format!("channel.{}", channel.name), "`transport`: the ring");
        }
    }
    missing
}
