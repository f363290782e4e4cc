//! The pure parts of the example `web`, with the tests that stand at their ends.

#![allow(dead_code, unreachable_pub, reason = "the example uses what these tests don't")]

#[path = "../examples/web/certificate_verify.rs"]
mod certificate_verify;
#[path = "../examples/web/http.rs"]
mod http;
#[path = "../examples/web/idle.rs"]
mod idle;
#[path = "../examples/web/media.rs"]
mod media;
#[path = "../examples/web/path.rs"]
mod path;
#[path = "../examples/web/protocol.rs"]
mod protocol;
#[path = "../examples/web/range.rs"]
mod range;
