//! The examples, end to end: the real programs, and real clients. A missing client is a failure:
//! `.ci/run` installs them.

#[path = "../support/mod.rs"]
mod support;

mod grid;
mod hmi;
mod hmi_browser;
#[allow(dead_code, reason = "the example uses what these tests don't")]
mod hmi_parts;
mod ten_ways;
mod vault;
mod web;
mod web_kill;

// The pure parts of `web`, with the tests that stand at their ends. They know each other from the
// crate's root.
#[path = "../../examples/web/certificate_verify.rs"]
mod certificate_verify;
#[allow(dead_code, reason = "the example uses what these tests don't")]
#[path = "../../examples/web/http.rs"]
mod http;
#[allow(dead_code, reason = "likewise")]
#[path = "../../examples/web/idle.rs"]
mod idle;
#[allow(dead_code, reason = "likewise")]
#[path = "../../examples/web/media.rs"]
mod media;
#[allow(dead_code, reason = "likewise")]
#[path = "../../examples/web/path.rs"]
mod path;
#[allow(dead_code, unreachable_pub, reason = "likewise")]
#[path = "../../examples/web/protocol.rs"]
mod protocol;
#[allow(dead_code, reason = "likewise")]
#[path = "../../examples/web/range.rs"]
mod range;
