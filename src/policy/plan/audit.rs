//! The audit log: whether there must be one, how it is kept, and what of a facility is in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConnectAddress, ListenAddress, Plan, words};
use crate::policy::beneath::touch;

/// How the daemon's audit log is kept. It holds for a log that only the command line asks for too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditPlan {
    /// Whether the daemon must not run without a log: the policy has `[audit]`, or says of a
    /// facility in so many words that it is recorded or witnessed.
    pub demanded: bool,
    /// Where the log is, as an absolute path; `None` is wherever the command line says.
    pub directory: Option<String>,
    /// What happens when the auditor can't keep up, or the log can't be written.
    pub on_full: LogFull,
    /// The X25519 public key to which payloads are sealed. There is one if any channel has
    /// [`Audit::Payload`].
    pub payload_key: Option<[u8; 32]>,
    /// So long a written record waits for the checkpoint that signs it, at most; 100 ms to a minute.
    pub sign_every: Duration,
    /// A segment is ended at this size, in bytes; 1 MiB to 4 GiB.
    pub segment_bytes: u64,
    /// Or at this age; a minute to a year.
    pub segment_age: Duration,
    /// The oldest ended segments are dropped while all segments have more bytes than this, which
    /// is at least [`AuditPlan::segment_bytes`]; `None` keeps everything.
    pub keep_bytes: Option<u64>,
    /// Segments older than this are dropped. It is at least [`AuditPlan::segment_age`]; `None`
    /// keeps everything.
    pub keep_age: Option<Duration>,
    /// Memory for what each instance reports and the auditor has not taken yet, in bytes; whole
    /// pages, 64 KiB to 64 MiB.
    pub ring_bytes: u32,
}

/// What happens to a report for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFull {
    /// Whoever reports waits, and does nothing meanwhile that would have to be reported.
    #[default]
    Block,
    /// It is dropped, and the log says how many were.
    Count,
    /// The daemon stops.
    Halt,
}

words!(LogFull { Block = "block", Count = "count", Halt = "halt" });

/// What the audit log keeps of a facility, where the daemon keeps a log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Audit {
    /// Nothing.
    None,
    /// That there was a message or an act: number, method, length, hash.
    #[default]
    Digest,
    /// The message itself too, sealed to [`AuditPlan::payload_key`]. Of channels only.
    Payload,
}

words!(Audit { None = "none", Digest = "digest", Payload = "payload" });

impl Plan {
    /// The rules that let a layer reach what lies in, at or around `directory`, by their paths in
    /// the policy: `file.logs.path`. A log's directory must have none. The directory is an
    /// absolute, plain path; links are for whoever opens it to resolve.
    pub fn reaching(&self, directory: &str) -> Vec<String> {
        let mut rules = Vec::new();
        let mut add = |path: &str, rule: String| {
            if touch(path, directory) {
                rules.push(rule);
            }
        };
        for layer in &self.layers {
            let rule = |key: &str| format!("layer.{}{key}", layer.name);
            // One line is enough, and it may be that of an unwritten default.
            if let Some(path) = layer.view.paths().find(|path| touch(path, directory)) {
                add(path, rule(""));
            }
            for it in layer.directories.iter().filter(|it| it.kind.is_kept()) {
                add(&it.path, rule(&format!(".{}", it.kind.name())));
            }
            for socket in &layer.listen {
                if let ListenAddress::Unix(path) = &socket.address {
                    add(path, rule(&format!(".listen.{}", socket.name)));
                }
            }
            for socket in &layer.connect {
                if let ConnectAddress::Unix(path) = &socket.address {
                    add(path, rule(&format!(".connect.{}", socket.name)));
                }
                if let Some(inject) = &socket.inject {
                    add(&inject.file, rule(&format!(".connect.{}.secret", socket.name)));
                }
            }
        }
        for it in &self.files {
            add(&it.path, format!("file.{}.path", it.name));
        }
        for it in &self.facilities.fifos {
            add(&it.path, format!("fifo.{}.path", it.name));
        }
        for it in &self.facilities.mapped_files {
            add(&it.path, format!("mapped-file.{}.path", it.name));
        }
        rules
    }
}
