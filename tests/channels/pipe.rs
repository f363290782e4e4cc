//! Pipes whose bytes somebody in the middle cuts, alters and forges.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cofferdam::channel::Side;
use cofferdam::confine::Confined;
use cofferdam::ident::{EdgeId, Instance, Name};
use cofferdam::ipc::pipe::{Pipe, PipeError, PipeFault, PipeSpec, blocking};
use cofferdam::policy::plan::{Audit, PipePlan};
use cofferdam::report::Desk;
use cofferdam::seal::{Identity, OsChance, PublicKey, SealError};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

fn instance(layer: &str, generation: u64) -> Instance {
    Instance { layer: Name::new(layer).unwrap(), index: 0, generation }
}

fn plan(raw: bool) -> PipePlan {
    let name = |name| Name::new(name).unwrap();
    let (from, to) = (name("from"), name("to"));
    PipePlan { name: name("p"), from, to, raw, capacity: 1 << 20, rate: None, audit: Audit::Digest }
}

/// One side of a pipe.
struct Person {
    pipe: Pipe,
    own: Instance,
    key: PublicKey,
}

impl Person {
    fn new(side: Side, plan: PipePlan) -> Self {
        let identity = Arc::new(Identity::generate(&mut OsChance).unwrap());
        let own = instance(if side == Side::From { "from" } else { "to" }, 1);
        let key = identity.public();
        let edge = EdgeId([1; 32]);
        let spec = PipeSpec { number: 3, plan, edge, own: own.clone(), side };
        Self { pipe: Pipe::new(spec, identity, &Desk::default(), &Confined::pretend()), own, key }
    }
}

/// A reader and the stream that it is to read, whose bytes the test writes.
struct Bench {
    writer: Person,
    reader: Person,
}

impl Bench {
    fn new(raw: bool) -> Self {
        let (writer, reader) =
            (Person::new(Side::From, plan(raw)), Person::new(Side::To, plan(raw)));
        Self { writer, reader }
    }

    /// What the writer writes for these calls, as bytes.
    fn write(&self, pieces: &[&[u8]], close: bool) -> Vec<u8> {
        let (end, fd) = kernel_pipe();
        self.writer.pipe.arrived(self.reader.own.clone(), self.reader.key, fd);
        let mut stream = self.writer.pipe.writer().blocking().next().unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
        }
        if close {
            stream.close().unwrap();
            stream.close().unwrap();
            stream.write_all(b"more").unwrap_err();
        }
        drop(stream);
        let mut bytes = Vec::new();
        std::fs::File::from(end).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// What the reader makes of these bytes.
    fn read(&self, bytes: &[u8]) -> (Vec<u8>, Result<(), PipeError>) {
        self.read_from(self.writer.own.clone(), bytes)
    }

    fn read_from(&self, from: Instance, bytes: &[u8]) -> (Vec<u8>, Result<(), PipeError>) {
        let (mut stream, writing) = self.stream(from);
        std::fs::File::from(writing).write_all(bytes).unwrap();
        let mut got = Vec::new();
        let result = stream.read_to_end(&mut got).map(drop);
        (got, result.map_err(|error| PipeError::of(&error).unwrap().clone()))
    }

    fn stream(&self, from: Instance) -> (blocking::ReadStream, OwnedFd) {
        let (fd, writing) = kernel_pipe();
        self.reader.pipe.arrived(from, self.writer.key, fd);
        (self.reader.pipe.reader().blocking().next().unwrap(), writing)
    }

    fn broke(&self, fault: PipeFault) -> Result<(), PipeError> {
        let (pipe, peer) = (Name::new("p").unwrap(), self.writer.own.clone());
        Err(PipeError::Broke { pipe, peer, fault })
    }
}

fn kernel_pipe() -> (OwnedFd, OwnedFd) {
    let ends = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setpipe_size(&ends.1, 1 << 20).unwrap();
    ends
}

const AUTHENTIC: SealError = SealError::NotAuthentic;

#[test]
fn a_stream_that_was_closed_is_whole() {
    let bench = Bench::new(false);
    let much = vec![7; 100_000];
    let bytes = bench.write(&[b"one", b"", &much], true);
    let (got, result) = bench.read(&bytes);
    assert_eq!(result, Ok(()));
    assert_eq!(got, [&b"one"[..], &much].concat());
}

#[test]
fn a_stream_cut_anywhere_gives_its_whole_frames_and_says_so() {
    let bench = Bench::new(false);
    let bytes = bench.write(&[b"first", b"second", b"third"], true);
    let ends = [(0, ""), (48, ""), (71, "first"), (95, "firstsecond"), (118, "firstsecondthird")];
    for cut in 0..bytes.len() {
        let &(begin, whole) = ends.iter().rfind(|(end, _)| *end <= cut).unwrap();
        let (got, result) = bench.read(&bytes[..cut]);
        assert_eq!(got, whole.as_bytes(), "{cut}");
        match result {
            Err(PipeError::PeerDied { .. }) => assert_eq!(cut, begin),
            Err(PipeError::Torn { bytes, .. }) => assert_eq!(bytes, cut - begin),
            other => panic!("{cut}: {other:?}"),
        }
    }
    assert_eq!(bench.read(&bytes), (b"firstsecondthird".to_vec(), Ok(())));
}

#[test]
fn no_altered_byte_is_ever_delivered() {
    let bench = Bench::new(false);
    let bytes = bench.write(&[b"first", b"second"], true);
    for place in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[place] ^= 0x40;
        let (got, result) = bench.read(&altered);
        assert!(b"firstsecond".starts_with(&got), "{place}: {got:?}");
        assert!(
            matches!(result, Err(PipeError::Broke { .. } | PipeError::Torn { .. })),
            "{place}: {result:?}"
        );
    }
}

#[test]
fn who_holds_the_writing_end_can_put_nothing_in() {
    let bench = Bench::new(false);
    let bytes = bench.write(&[b"first"], false);
    // Before, in place of, and after what the writer wrote.
    let forged = |bytes: &[u8], fault| {
        let (got, result) = bench.read(bytes);
        assert_eq!(result, bench.broke(fault));
        got
    };
    forged(&[b"\x05\0hello", &bytes[..]].concat(), PipeFault::Handshake(AUTHENTIC));
    let frame = |number| PipeFault::Frame { number, error: AUTHENTIC };
    assert_eq!(forged(&[&bytes, &b"\x05\0hello"[..], &[0; 16]].concat(), frame(1)), b"first");
    assert_eq!(forged(&[&bytes, &b"\x01\x80"[..]].concat(), PipeFault::Oversize(0x8001)), b"first");
    // The end of the stream too is the writer's to say.
    assert_eq!(forged(&[&bytes, &b"\0\0"[..], &[0; 16]].concat(), frame(1)), b"first");
    // What was written for another life, or in another stream.
    let (_, result) = bench.read_from(instance("from", 2), &bytes);
    assert!(matches!(result, Err(PipeError::Broke { fault: PipeFault::Handshake(AUTHENTIC), .. })));
    let other = bench.write(&[b"other"], false);
    assert_eq!(forged(&[&bytes, &other[48..]].concat(), frame(1)), b"first");
    let closed = bench.write(&[b"first"], true);
    assert_eq!(forged(&[&closed, &b"more"[..]].concat(), PipeFault::AfterEnd), b"first");
}

#[test]
fn after_a_fault_the_writer_learns_that_nobody_reads() {
    let bench = Bench::new(false);
    let (mut stream, writing) = bench.stream(bench.writer.own.clone());
    rustix::io::write(&writing, &[0; 48]).unwrap();
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert!(matches!(PipeError::of(&error), Some(PipeError::Broke { .. })), "{error:?}");
    assert_eq!(rustix::io::write(&writing, b"more"), Err(rustix::io::Errno::PIPE));
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert!(matches!(PipeError::of(&error), Some(PipeError::Over { .. })), "{error:?}");
}

#[test]
fn a_raw_pipe_carries_bytes_as_they_are() {
    let bench = Bench::new(true);
    assert_eq!(bench.write(&[b"one", b"two"], true), b"onetwo");
    assert_eq!(bench.read(b"any\0thing"), (b"any\0thing".to_vec(), Ok(())));
}
