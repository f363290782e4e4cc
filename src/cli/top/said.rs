//! The same as JSON.

use serde_json::{Value, json};

use super::view::{Row, Seat, View};
use crate::cli::audit::time::rfc3339;

/// Everything that a picture may show.
pub(super) fn said(view: &View) -> Value {
    let (daemon, _) = view.title();
    let instances: Vec<Value> = view.seats().map(instance).collect();
    let edges: Vec<Value> = view.rows().iter().map(edge).collect();
    let alarm = |(at, text): &(u64, String)| json!({ "time": rfc3339(*at), "text": text });
    json!({
        "daemon": daemon,
        "policy": view.policy(),
        "time": rfc3339(view.moment()),
        "live": view.live,
        "damaged": view.damaged,
        "records": view.records,
        "instances": instances,
        "edges": edges,
        "alarms": view.alarm_count,
        "lost": view.lost,
        "newest": view.alarms.iter().map(alarm).collect::<Vec<_>>(),
    })
}

fn instance(seat: &Seat) -> Value {
    json!({
        "name": seat.name,
        "since": rfc3339(seat.since),
        "ended": seat.ended,
        "lives": seat.lives,
        "last_end": seat.last_end,
        "receipt": seat.receipt,
        "refused": seat.refused,
        "denied": seat.denied,
    })
}

fn edge(row: &Row) -> Value {
    let all = &row.edge.all;
    let (messages, bytes, span) = row.recent;
    json!({
        "name": row.name,
        "messages": all.messages(),
        "bytes": all.bytes(),
        "refused": all.refused,
        "failed": all.failed,
        "lost": row.edge.lost,
        "latency_99": all.latency.quantile(990),
        "recent": { "messages": messages, "bytes": bytes, "nanoseconds": span },
    })
}
