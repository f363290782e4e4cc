//! Pipes beside a bare pipe, between two processes: chunks of the same size, one writer and one
//! reader, the time until the reader has everything.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cofferdam::channel::Side;
use cofferdam::confine::Confined;
use cofferdam::ident::{EdgeId, Instance, Name};
use cofferdam::ipc::pipe::{Pipe, PipeSpec};
use cofferdam::policy::plan::{Audit, PipePlan};
use cofferdam::report::Desk;
use cofferdam::seal::{Chance, Identity, PublicKey, SealError};
use rustix::pipe::{PipeFlags, pipe_with};

use super::cipher;

const ROUNDS: usize = 5;
/// Bytes in a sealed frame at most.
const FRAME: usize = 16 << 10;

pub(crate) fn bench() {
    println!("pipe, ns a chunk: ratio to bare, and to bare and what one side's cipher takes");
    println!("{:>33} {:>16} {:>22} {:>9}", "bare", "raw", "sealed", "cipher");
    for (size, count) in [(64, 400_000), (1 << 10, 200_000), (16 << 10, 20_000), (64 << 10, 8_000)]
    {
        let nanos = |mode: &str| median(mode, size, count).as_secs_f64() * 1e9 / count as f64;
        let bare = nanos("bare");
        let shown = |time: f64| format!("{time:.0} ({:.2})", time / bare);
        let raw = shown(nanos("raw"));
        let sealed = nanos("sealed");
        // Both sides work at once.
        let (seal, open) = cipher::nanos(size, FRAME);
        let cipher = seal.max(open);
        let without = sealed / (bare + cipher);
        let sealed = format!("{} ({without:.2})", shown(sealed));
        println!("{size:>9} B          {bare:>12.0} {raw:>16} {sealed:>22} {cipher:>9.0}");
    }
}

fn median(mode: &str, size: usize, count: usize) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS).map(|_| once(mode, size, count)).collect();
    times.sort();
    times[ROUNDS / 2]
}

/// Writes to a reader in another process, which has the pipe as its standard input.
fn once(mode: &str, size: usize, count: usize) -> Duration {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["pipe-reader", mode, &size.to_string()])
        .stdin(reader)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answer = child.stdout.take().unwrap();
    answer.read_exact(&mut [0]).unwrap();
    let chunk = vec![7; size];
    let begin = Instant::now();
    if mode == "bare" {
        let mut pipe = std::fs::File::from(writer);
        (0..count).for_each(|_| pipe.write_all(&chunk).unwrap());
    } else {
        let mut stream = end(mode, Side::From, writer).writer().blocking();
        (0..count).for_each(|_| stream.write_all(&chunk).unwrap());
        stream.close().unwrap();
    }
    let mut total = String::new();
    answer.read_to_string(&mut total).unwrap();
    let time = begin.elapsed();
    assert_eq!(total.parse(), Ok(size * count));
    child.wait().unwrap();
    time
}

/// The other process.
pub(crate) fn reader(mode: &str, size: usize) {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut out = std::io::stdout();
    out.write_all(b".").and_then(|()| out.flush()).unwrap();
    let (mut chunk, mut total) = (vec![0; size], 0);
    let mut drain = |source: &mut dyn Read| {
        loop {
            match source.read(&mut chunk).unwrap() {
                0 => break,
                count => total += count,
            }
        }
    };
    if mode == "bare" {
        drain(&mut std::fs::File::from(pipe));
    } else {
        drain(&mut end(mode, Side::To, pipe).reader().blocking());
    }
    print!("{total}");
}

/// Both processes know the same keys: this is about speed.
struct Known(u8);

impl Chance for Known {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError> {
        bytes.fill(self.0);
        Ok(())
    }
}

fn end(mode: &str, side: Side, fd: OwnedFd) -> Pipe {
    rustix::io::ioctl_fionbio(&fd, true).unwrap();
    let name = |name: &str| Name::new(name).unwrap();
    let instance = |layer| Instance { layer: name(layer), index: 0, generation: 1 };
    let plan = PipePlan {
        name: name("p"),
        from: name("from"),
        to: name("to"),
        raw: mode == "raw",
        capacity: 64 << 10,
        rate: None,
        audit: Audit::Digest,
    };
    let [own, peer] = if side == Side::From { ["from", "to"] } else { ["to", "from"] };
    let identity = |layer: &str| {
        Arc::new(Identity::generate(&mut Known(u8::try_from(layer.len()).unwrap())).unwrap())
    };
    let key: PublicKey = identity(peer).public();
    let spec = PipeSpec { number: 0, plan, edge: EdgeId([0; 32]), own: instance(own), side };
    let pipe = Pipe::new(spec, identity(own), &Desk::default(), &Confined::pretend());
    pipe.arrived(instance(peer), key, fd);
    pipe
}
