//! The pure parts of `hmi`, with the tests that stand at their ends.

#[path = "../../examples/hmi/alarms.rs"]
mod alarms;
#[path = "../../examples/hmi/field.rs"]
mod field;
#[path = "../../examples/hmi/operators.rs"]
mod operators;
#[path = "../../examples/hmi/protocol.rs"]
mod protocol;
#[path = "../../examples/hmi/rules.rs"]
mod rules;
