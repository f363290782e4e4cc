//! What supervisor and layer say to each other over the control socket.
//!
//! The two directions differ on purpose. The supervisor is trusted by its layers, so what it says
//! is an ordinary serialised enum ([`ToLayer`]). A layer is not trusted by its supervisor, so what
//! it may say is a few messages of fixed layout ([`FromLayer`]): one tag byte, then fields at fixed
//! places, and nothing in them that decides how much is read. Each is allowed in one state only, so
//! a layer that says anything else is ended.

use serde::{Deserialize, Serialize};

use super::broker::{Answer, Ask};
use super::hosts::Meeting;
use super::life::{Culprit, End, Load, Standing};
use crate::ident::{Instance, Name, PolicyId};
use crate::policy::plan::Protection;

/// The most leases that one [`FromLayer::Holds`] names.
pub const MAX_HOLDS: usize = 256;

/// Bytes of a lease in [`FromLayer::Holds`].
const HOLD: usize = 10;

/// The largest control message in either direction, in bytes.
pub const MAX_CONTROL: usize = 4096;

/// A receipt in [`FromLayer::Ready`], in bytes: a head, and four for each protection.
pub const RECEIPT_BYTES: usize = 16 + 4 * Protection::ALL.len();

/// Longest text in [`FromLayer::Failed`] and [`FromLayer::Log`], in bytes; longer ones are cut.
pub const MAX_FAILURE: usize = 1024;

/// From the supervisor to a layer. At most one descriptor goes with each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLayer {
    /// A listening socket that the policy grants; the descriptor goes with it.
    Listener(Name),
    /// A connection that came while nobody was there to take it, for a layer of which each life
    /// serves one; it goes with this.
    Connection,
    /// A file that the policy grants, opened with the granted rights; the descriptor goes with it.
    File(Name),
    /// An object of a facility; the descriptor goes with it. One that comes again takes the place
    /// of the former.
    Object {
        /// What it is.
        kind: Object,
        /// The facility's number in the plan.
        number: u16,
        /// Which part of it, where a facility has several.
        part: u32,
    },
    /// A new peer on a pipe; this side's end of it goes with it.
    Pipe {
        /// The pipe's number in the plan.
        pipe: u16,
        /// Who is at the other end.
        peer: Instance,
        /// The peer's public key (X25519).
        key: [u8; 32],
    },
    /// For the auditor: a ring of reports, which goes with it.
    Reports {
        /// What the supervisor calls the ring.
        ring: u32,
        /// Who reports there; `None` is the supervisor.
        reporter: Option<Instance>,
        /// Its size in bytes.
        bytes: u32,
    },
    /// What became of a request; a descriptor may go with it.
    Answer {
        /// The number that the layer gave the request.
        request: u64,
        /// What became of it.
        answer: Answer,
    },
    /// A new peer on a channel; this side's end of the socketpair goes with it.
    Introduce {
        /// The channel's number in the plan.
        channel: u16,
        /// Who is at the other end.
        peer: Instance,
        /// The peer's public key (X25519).
        key: [u8; 32],
        /// The generation of the witness that relays this link, or on a channel to another host the
        /// link's number; 0 if none does.
        witness: u64,
    },
    /// For the witness, or who carries links to other hosts: one end of a link that it relays; the inner end of that instance's
    /// socketpair goes with it. The link is whole once both ends have come.
    Relay {
        /// The channel's number in the plan.
        channel: u16,
        /// Who holds the outer end of this socketpair.
        near: Instance,
        /// Who is at the other end of the link.
        far: Instance,
        /// How many descriptors a message may carry.
        fds: u8,
        /// Which link between two hosts it is; 0 on one host.
        link: u64,
    },
    /// A peer has ended; nothing new comes from it. On a channel with a witness it is the witness
    /// who hears this: an end has had everything once its link ends.
    Departed {
        /// The channel's number in the plan.
        channel: u16,
        /// Who was at the other end.
        peer: Instance,
    },
    /// The layer at the other end of a channel is down for good: none of its instances runs, and the
    /// policy starts no other. Comes after the departure of the last one.
    PeerDown {
        /// The channel's number in the plan.
        channel: u16,
    },
    /// For a helper: another client; this end of the socket to it goes with it.
    Client {
        /// The client's place among the daemon's instances, which its next life takes over.
        seat: u32,
        /// Who it is.
        client: Instance,
        /// Its public key (X25519).
        key: [u8; 32],
    },
    /// For a helper: a client has ended. What it said before is in its socket.
    ClientGone {
        /// Its place.
        seat: u32,
    },
    /// The socket to a helper that does something for this layer goes with it. One that comes again
    /// leads to the helper's next life.
    Service(Service),
    /// For the writer of the log: a line.
    Say {
        /// When it was said: `CLOCK_MONOTONIC`, in nanoseconds.
        at: u64,
        /// What it is.
        how: Said,
        /// The line. It may hold what layers wrote.
        text: String,
    },
    /// For the writer of the log: the reading end of a pipe goes with it, to which an instance writes.
    Output {
        /// The instance's place.
        seat: u32,
        /// Who it is.
        instance: Instance,
        /// What the kernel's log calls it.
        culprit: Culprit,
        /// Which: 0 is standard output, 1 standard error, 2 what the init of an `exec` layer says of
        /// refused calls.
        part: u8,
        /// This is the last of them, and the instance has ended: a former life was told how.
        over: bool,
    },
    /// For the writer of the log: an instance has ended. What it printed before is in its pipes.
    Ended {
        /// When that was seen, as above.
        at: u64,
        /// How.
        end: Box<End>,
        /// It ended as programs do, and nobody wants to hear of it.
        hushed: bool,
    },
    /// For the helper that people ask: somebody has come; the connection goes with it.
    Caller {
        /// What the supervisor calls them.
        caller: u32,
    },
    /// For the helper that people ask: what came of what a caller had asked for, a line at a time.
    Told {
        /// Who asked.
        caller: u32,
        /// The line.
        text: String,
        /// Nothing more comes: whether it was done.
        last: Option<bool>,
    },
    /// For the helper that people ask: the digest of the policy that holds from now on.
    Policy(PolicyId),
    /// For the helper that people ask, and the one that serves numbers: how one of the daemon's
    /// instances is.
    Standing(Box<Standing>),
    /// For the helper that serves numbers: a file goes with it in which the kernel counts what an
    /// instance uses.
    Counter {
        /// The instance's place.
        seat: u32,
        /// Which of [`Counter::ALL`](crate::confine::cgroup::Counter::ALL).
        counter: u8,
    },
    /// All that the layer holds from the start has been handed over: run.
    Start,
    /// The program's settings are others; memory that holds them goes with this.
    /// [`FromLayer::Reloaded`] is the answer, once the layer has taken them.
    Settings {
        /// How many bytes.
        bytes: u32,
    },
    /// Is the layer well? [`FromLayer::Well`] is the answer.
    AreYouWell,
    /// Finish what is under way and return.
    Stop,
}

/// What [`ToLayer::Say`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// A line of the daemon's own.
    Own,
    /// A line that stands for itself, without saying whose it is.
    Plain,
    /// What is in its form already, or the rest of it, to be written as it is.
    Formed,
    /// No line: the form in which lines are written, and what [`Object::Stderr`] is.
    Form(LogFormat),
}

/// The form in which lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// An object of JSON in each line.
    Json,
    /// Datagrams with fields, for the journal.
    Journal,
}

/// What somebody asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// That an instance ends and begins anew; one that is down begins. The number is its place.
    Restart(u32),
    /// That the daemon stops.
    Stop,
    /// That the policy is read anew, and what it changes takes effect.
    Reload {
        /// Whether authority may be gained.
        gain: bool,
    },
    /// That the program which is at its path now takes the supervisor's place.
    Upgrade {
        /// Whether authority may be gained.
        gain: bool,
    },
}

/// What a helper does for layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Service {
    /// Leases permits, and makes room in full queues.
    Ledger,
    /// Opens, makes, replaces, removes and lists files.
    Files,
    /// Connects to addresses of the network.
    Network,
    /// Connects to Unix paths.
    Paths,
    /// Connects to hosts that a layer names, and puts credentials into its requests.
    Proxy,
    /// Says to other hosts who is here, and who of theirs is to be met.
    Hosts,
}

/// What a descriptor is that [`ToLayer::Object`] hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Object {
    /// The memory of a region, open with the granted right.
    Region,
    /// A mapped file, open with the granted right.
    MappedFile,
    /// The sending end of a message queue.
    QueueSend,
    /// The receiving end of a message queue.
    QueueReceive,
    /// Keys of a message queue in sealed memory, one behind the other; the part is the epoch of
    /// the last.
    QueueKey,
    /// The reading end of a named pipe; parts 1 and 2 are the ends of a pipe of the layer's own.
    Fifo,
    /// The memory in which the supervisor counts the signals that it sent to the layer.
    SignalCounts,
    /// For a helper: memory that outlives it, for what its next life must know.
    State,
    /// For a helper: a handle on a directory of the host; see [`host_part`].
    Host,
    /// For the writer of the log: standard error.
    Stderr,
    /// For the writer of the log: the kernel's log.
    KernelLog,
}

/// What the part of an [`Object::Host`] says.
pub mod host_part {
    /// It is `/proc`.
    pub const PROC: u32 = 0;
    /// It is the root.
    pub const ROOT: u32 = 1;
}

/// What the part of an [`Object::MappedFile`] says.
pub mod mapped_file_part {
    /// It is the file itself.
    pub const LIVE: u32 = 0;
    /// It is a sealed copy of what the file held when the daemon began.
    pub const COPY: u32 = 1;
}

/// From a layer to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromLayer {
    /// Confined. Once, first.
    Ready {
        /// The instance's public key (X25519), made after re-execution.
        key: [u8; 32],
        /// What the kernel enforces, in the receipt's own fixed form.
        receipt: [u8; RECEIPT_BYTES],
    },
    /// The layer is ready for others, where its policy says that it tells. Once.
    Up,
    /// The answer to [`ToLayer::AreYouWell`], once each.
    Well,
    /// The layer has taken the settings that it was told of, where its policy says that it does.
    Reloaded,
    /// How much the layer has in its hands, where its policy has as many copies as there is to do.
    Load(Load),
    /// Not confined, and so not running. Once, first and last.
    Failed(String),
    /// The program of an `exec` layer has ended. Once, last; the init exits next.
    Exited {
        /// Its exit code.
        code: u8,
    },
    /// The program of an `exec` layer was killed. Once, last; the init exits next.
    Killed {
        /// The signal.
        signal: u8,
    },
    /// A request, to which an [`Answer`] comes.
    Ask {
        /// A number of the layer's own choice, by which it knows the answer. No other request that
        /// is still to be answered has it.
        request: u64,
        /// What it asks for.
        ask: Ask,
    },
    /// A lease is given back. There is no answer.
    Release {
        /// The semaphore's number in the plan.
        semaphore: u16,
        /// The lease.
        fence: u64,
    },
    /// A descriptor that the broker opened is closed again. There is no answer.
    Closed {
        /// The file grant's number in the plan.
        file: u16,
    },
    /// From the auditor: all that was in this ring is in the log, and its reporter has ended.
    Taken {
        /// The ring.
        ring: u32,
    },
    /// From the auditor: what a person must know of the log.
    Log {
        /// The log can't go on, and the policy says that the daemon then stops.
        halt: bool,
        /// What it is.
        text: String,
    },
    /// The layer no longer waits for this request. If it can still be withdrawn, the answer is
    /// that its time has passed.
    Withdraw {
        /// The request.
        request: u64,
    },
    /// To the next life of a helper: leases that the layer holds, each the semaphore's number and
    /// the fence; at most [`MAX_HOLDS`].
    Holds(Vec<(u16, u64)>),
    /// To a helper: all has been said that its former life may have to be told again. What the
    /// helper still keeps for this layer is no longer wanted.
    Resumed,
    /// From a helper: a client broke the rules of its socket.
    Broke {
        /// The client's place.
        seat: u32,
        /// Which life of it.
        generation: u64,
    },
    /// From the writer of the log: all that an instance printed which has ended is written, and what
    /// it was denied is told.
    Printed {
        /// Its place.
        seat: u32,
        /// Which life of it.
        generation: u64,
    },
    /// From the helper that people ask: somebody asks for this.
    Command {
        /// Who.
        caller: u32,
        /// What.
        command: Command,
    },
    /// From the helper that speaks with other hosts: one of this host's instances meets one of another
    /// host's.
    Meet(Meeting),
    /// From the helper that people ask: somebody is gone.
    CallerGone {
        /// Who.
        caller: u32,
    },
}

const READY: u8 = 1;
const FAILED: u8 = 2;
const EXITED: u8 = 3;
const KILLED: u8 = 4;
const ASK: u8 = 5;
const RELEASE: u8 = 6;
const WITHDRAW: u8 = 7;
const CLOSED: u8 = 8;
const TAKEN: u8 = 9;
const LOG: u8 = 10;
const HOLDS: u8 = 11;
const RESUMED: u8 = 12;
const BROKE: u8 = 13;
const PRINTED: u8 = 14;
const COMMAND: u8 = 15;
const CALLER_GONE: u8 = 16;
const UP: u8 = 17;
const WELL: u8 = 18;
const LOAD: u8 = 19;
const RELOADED: u8 = 20;
const MEET: u8 = 21;

const RESTART: u8 = 1;
const STOP: u8 = 2;
const RELOAD: u8 = 3;
const UPGRADE: u8 = 4;

impl FromLayer {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready { key, receipt } => [&[READY], &key[..], &receipt[..]].concat(),
            Self::Failed(text) => [&[FAILED], bounded(text)].concat(),
            Self::Taken { ring } => [&[TAKEN][..], &ring.to_le_bytes()].concat(),
            Self::Log { halt, text } => [&[LOG, u8::from(*halt)], bounded(text)].concat(),
            Self::Exited { code } => vec![EXITED, *code],
            Self::Killed { signal } => vec![KILLED, *signal],
            Self::Ask { request, ask } => Self::encode_ask(*request, ask),
            Self::Release { semaphore, fence } => {
                [&[RELEASE][..], &semaphore.to_le_bytes(), &fence.to_le_bytes()].concat()
            }
            Self::Closed { file } => [&[CLOSED][..], &file.to_le_bytes()].concat(),
            Self::Withdraw { request } => [&[WITHDRAW][..], &request.to_le_bytes()].concat(),
            Self::Holds(leases) => {
                let mut bytes = vec![HOLDS];
                for (semaphore, fence) in leases.iter().take(MAX_HOLDS) {
                    bytes.extend_from_slice(&semaphore.to_le_bytes());
                    bytes.extend_from_slice(&fence.to_le_bytes());
                }
                bytes
            }
            Self::Resumed => vec![RESUMED],
            Self::Up => vec![UP],
            Self::Well => vec![WELL],
            Self::Reloaded => vec![RELOADED],
            Self::Load(load) => vec![LOAD, *load as u8],
            Self::Broke { seat, generation } => {
                [&[BROKE][..], &seat.to_le_bytes(), &generation.to_le_bytes()].concat()
            }
            Self::Printed { seat, generation } => {
                [&[PRINTED][..], &seat.to_le_bytes(), &generation.to_le_bytes()].concat()
            }
            Self::Command { caller, command } => {
                let (act, seat) = match command {
                    Command::Restart(seat) => (RESTART, *seat),
                    Command::Stop => (STOP, 0),
                    Command::Reload { gain } => (RELOAD, u32::from(*gain)),
                    Command::Upgrade { gain } => (UPGRADE, u32::from(*gain)),
                };
                [&[COMMAND, act][..], &caller.to_le_bytes(), &seat.to_le_bytes()].concat()
            }
            Self::Meet(meeting) => [&[MEET][..], &meeting.encode()].concat(),
            Self::CallerGone { caller } => [&[CALLER_GONE][..], &caller.to_le_bytes()].concat(),
        }
    }

    /// The bytes of [`FromLayer::Ask`].
    pub fn encode_ask(request: u64, ask: &Ask) -> Vec<u8> {
        let mut bytes = vec![ASK];
        bytes.extend_from_slice(&request.to_le_bytes());
        ask.encode(&mut bytes);
        bytes
    }

    /// Reads a message; `None` for anything that [`encode`](Self::encode) would not have written.
    ///
    /// A text is whatever the layer wrote: neutralise it before it is shown.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [READY, rest @ ..] if rest.len() == 32 + RECEIPT_BYTES => {
                let (key, receipt) = rest.split_at(32);
                Some(Self::Ready { key: key.try_into().ok()?, receipt: receipt.try_into().ok()? })
            }
            [FAILED, text @ ..] if text.len() <= MAX_FAILURE => {
                Some(Self::Failed(String::from_utf8_lossy(text).into_owned()))
            }
            [TAKEN, ring @ ..] => {
                Some(Self::Taken { ring: u32::from_le_bytes(ring.try_into().ok()?) })
            }
            [LOG, halt @ (0 | 1), text @ ..] if text.len() <= MAX_FAILURE => Some(Self::Log {
                halt: *halt == 1,
                text: String::from_utf8_lossy(text).into_owned(),
            }),
            [EXITED, code] => Some(Self::Exited { code: *code }),
            [KILLED, signal] => Some(Self::Killed { signal: *signal }),
            [ASK, rest @ ..] => {
                let (request, ask) = rest.split_first_chunk()?;
                Some(Self::Ask { request: u64::from_le_bytes(*request), ask: Ask::decode(ask)? })
            }
            [RELEASE, s0, s1, fence @ ..] => Some(Self::Release {
                semaphore: u16::from_le_bytes([*s0, *s1]),
                fence: u64::from_le_bytes(fence.try_into().ok()?),
            }),
            [HOLDS, leases @ ..] if leases.len() <= MAX_HOLDS * HOLD => {
                let (leases, rest) = leases.as_chunks::<HOLD>();
                let lease = |[s0, s1, fence @ ..]: &[u8; HOLD]| {
                    (u16::from_le_bytes([*s0, *s1]), u64::from_le_bytes(*fence))
                };
                rest.is_empty().then(|| Self::Holds(leases.iter().map(lease).collect()))
            }
            [RESUMED] => Some(Self::Resumed),
            [UP] => Some(Self::Up),
            [WELL] => Some(Self::Well),
            [RELOADED] => Some(Self::Reloaded),
            [LOAD, load] => {
                let all = [Load::Idle, Load::Serving, Load::Busy];
                all.into_iter().find(|it| *it as u8 == *load).map(Self::Load)
            }
            [BROKE, s0, s1, s2, s3, generation @ ..] => Some(Self::Broke {
                seat: u32::from_le_bytes([*s0, *s1, *s2, *s3]),
                generation: u64::from_le_bytes(generation.try_into().ok()?),
            }),
            [PRINTED, s0, s1, s2, s3, generation @ ..] => Some(Self::Printed {
                seat: u32::from_le_bytes([*s0, *s1, *s2, *s3]),
                generation: u64::from_le_bytes(generation.try_into().ok()?),
            }),
            [COMMAND, act, c0, c1, c2, c3, seat @ ..] => {
                let seat = u32::from_le_bytes(seat.try_into().ok()?);
                let command = match *act {
                    RESTART => Command::Restart(seat),
                    STOP if seat == 0 => Command::Stop,
                    RELOAD if seat <= 1 => Command::Reload { gain: seat == 1 },
                    UPGRADE if seat <= 1 => Command::Upgrade { gain: seat == 1 },
                    _ => return None,
                };
                Some(Self::Command { caller: u32::from_le_bytes([*c0, *c1, *c2, *c3]), command })
            }
            [MEET, meeting @ ..] => Meeting::decode(meeting).map(Self::Meet),
            [CALLER_GONE, caller @ ..] => {
                Some(Self::CallerGone { caller: u32::from_le_bytes(caller.try_into().ok()?) })
            }
            [CLOSED, f0, f1] => Some(Self::Closed { file: u16::from_le_bytes([*f0, *f1]) }),
            [WITHDRAW, request @ ..] => {
                Some(Self::Withdraw { request: u64::from_le_bytes(request.try_into().ok()?) })
            }
            _ => None,
        }
    }
}

/// A text's bytes, cut at a character where they are too long.
fn bounded(text: &str) -> &[u8] {
    let mut end = text.len().min(MAX_FAILURE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

#[cfg(test)]
mod tests {
    use super::super::broker::SOURCE;
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        let messages = [
            FromLayer::Ready { key: [7; 32], receipt: [9; RECEIPT_BYTES] },
            FromLayer::Failed("mount: no".into()),
            FromLayer::Exited { code: 3 },
            FromLayer::Killed { signal: 9 },
            FromLayer::Ask {
                request: 7,
                ask: Ask::Signal { grant: 1, index: 2, generation: 1 << 40, signal: 3 },
            },
            FromLayer::Ask { request: 8, ask: Ask::Acquire { semaphore: 258, wait: 1 << 20 } },
            FromLayer::Ask { request: 9, ask: Ask::Open { file: 1, how: 3, path: b"a".to_vec() } },
            FromLayer::Ask { request: u64::MAX, ask: Ask::Connect { address: 513 } },
            FromLayer::Holds(vec![(258, 1 << 40), (0, 1)]),
            FromLayer::Resumed,
            FromLayer::Up,
            FromLayer::Well,
            FromLayer::Reloaded,
            FromLayer::Load(Load::Idle),
            FromLayer::Load(Load::Busy),
            FromLayer::Broke { seat: 1 << 20, generation: 1 << 33 },
            FromLayer::Printed { seat: 1 << 21, generation: 1 << 34 },
            FromLayer::Ask { request: 11, ask: Ask::Serve { source: [4; SOURCE] } },
            FromLayer::Ask { request: 10, ask: Ask::MakeRoom { queue: 260, priority: 31 } },
            FromLayer::Release { semaphore: 259, fence: 1 << 40 },
            FromLayer::Withdraw { request: 1 << 30 },
            FromLayer::Closed { file: 515 },
            FromLayer::Taken { ring: 1 << 20 },
            FromLayer::Log { halt: true, text: "full".into() },
            FromLayer::Command { caller: 1 << 17, command: Command::Restart(1 << 22) },
            FromLayer::Command { caller: 1, command: Command::Stop },
            FromLayer::Command { caller: 1, command: Command::Reload { gain: false } },
            FromLayer::Command { caller: 1, command: Command::Reload { gain: true } },
            FromLayer::Command { caller: 1, command: Command::Upgrade { gain: true } },
            FromLayer::CallerGone { caller: 1 << 18 },
            FromLayer::Meet(Meeting {
                seat: 1 << 20,
                life: 1 << 40,
                channel: 258,
                copy: 3,
                generation: 1 << 33,
                link: 1 << 50,
                key: [7; 32],
            }),
        ];
        for message in messages {
            assert_eq!(FromLayer::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn refuses_what_it_would_not_write() {
        let ready = FromLayer::Ready { key: [7; 32], receipt: [9; RECEIPT_BYTES] }.encode();
        for bytes in [
            &[][..],
            &[0],
            &[9, 9],
            &[EXITED],
            &[EXITED, 1, 1],
            &[ASK, 1, 2, 3],
            &[HOLDS, 1],
            &[RESUMED, 0],
            &[UP, 0],
            &[WELL, 0],
            &[RELOADED, 0],
            &[LOAD],
            &[LOAD, 3],
            &[COMMAND, STOP, 1, 0, 0, 0, 1, 0, 0, 0],
            &[COMMAND, RELOAD, 1, 0, 0, 0, 2, 0, 0, 0],
            &[COMMAND, 9, 1, 0, 0, 0, 0, 0, 0, 0],
            &[COMMAND, RESTART, 1, 0, 0, 0],
            &ready[..ready.len() - 1],
        ] {
            assert_eq!(FromLayer::decode(bytes), None, "{bytes:?}");
        }
        let long = [vec![FAILED], vec![b'x'; MAX_FAILURE + 1]].concat();
        assert_eq!(FromLayer::decode(&long), None);
    }

    #[test]
    fn cuts_a_long_failure_at_a_character() {
        let text = "é".repeat(MAX_FAILURE);
        let Some(FromLayer::Failed(back)) = FromLayer::decode(&FromLayer::Failed(text).encode())
        else {
            panic!("not a failure")
        };
        assert!(back.chars().all(|c| c == 'é'));
    }
}
