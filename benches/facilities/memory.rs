//! Shared memory and mapped files beside plain copies, pipes and file calls.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use cofferdam::ident::Name;
use cofferdam::ipc::mapped_file::{MappedFile, MappedFileSpec, format};
use cofferdam::ipc::region::{Region, RegionSpec};
use cofferdam::policy::plan::{Audit, LogFull};
use cofferdam::report::{Desk, Facility, Facts, Reporter, Side, Tap};
use cofferdam::ring::Consumer;
use cofferdam::sys::mapping::Mapping;

const ROUNDS: usize = 41;

pub(crate) fn bench() {
    println!("shared memory, ns (ratio); medians of {ROUNDS} rounds");
    for log in [false, true] {
        publication(log);
        ring(log);
    }
    mapped_file();
    println!("grant and map: recvmsg and mmap, 2 calls; the bare minimum is the same 2");
}

/// What reports into a log that nobody empties, of the usual size: it has room for what is measured
/// here.
fn tap() -> Option<Tap> {
    const BYTES: u32 = 1 << 20;
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("log", flags).expect("a memfd");
    rustix::fs::ftruncate(&fd, BYTES.into()).expect("its size");
    let seals = rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW;
    rustix::fs::fcntl_add_seals(&fd, seals).expect("seals");
    let reporter = Reporter::new(fd.as_fd(), BYTES as usize, LogFull::Count).expect("a reporter");
    // Its pages are there before they are measured.
    for _ in 0..BYTES / 4096 {
        reporter.report(&Facts::new(Facility::None, 0, Side::None), &[0; 3900], b"");
    }
    let memory = Mapping::sealed(fd.as_fd(), BYTES as usize, true).expect("a mapping");
    Consumer::resume(&memory).skip(&memory).expect("an honest ring");
    Desk::open(reporter, Vec::new(), None).tap(Facility::Region, 0, Audit::Digest)
}

/// A region, mapped twice.
fn regions(size: u64, tap: Option<&Tap>) -> (Region, Region) {
    let fd = rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
    rustix::fs::ftruncate(&fd, size).expect("its size");
    let map = |writable| {
        let (region, layer) = (name("region"), name("layer"));
        let spec = RegionSpec { region, layer, index: 0, size, writable };
        Region::map(spec, fd.as_fd(), None, tap.cloned()).expect("a mapping")
    };
    (map(true), map(false))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The median of the rounds, each of `times` acts, in ns an act.
fn median(times: usize, mut round: impl FnMut() -> std::time::Duration) -> f64 {
    let mut all: Vec<_> = (0..ROUNDS).map(|_| round()).collect();
    all.sort();
    all[ROUNDS / 2].as_secs_f64() * 1e9 / times as f64
}

fn publication(log: bool) {
    const MANY: usize = 64;
    let said = if log { ", with a log" } else { "" };
    for size in [64, 1 << 10, 16 << 10] {
        let tap = log.then(tap).flatten();
        let pairs: Vec<_> = (0..MANY).map(|_| regions(128 << 10, tap.as_ref())).collect();
        let mut publishers: Vec<_> = pairs
            .iter()
            .map(|(writer, _)| writer.publisher::<[u8]>().expect("a publisher"))
            .collect();
        let mut readers: Vec<_> =
            pairs.iter().map(|(_, reader)| reader.subscriber::<[u8]>()).collect();
        let object = vec![7; size];
        let publish = median(MANY, || {
            let begin = Instant::now();
            for publisher in &mut publishers {
                publisher.publish(black_box(&object)).expect("it fits");
            }
            begin.elapsed()
        });
        let read = median(MANY, || {
            for publisher in &mut publishers {
                publisher.publish(&object).expect("it fits");
            }
            let begin = Instant::now();
            for reader in &mut readers {
                black_box(reader.latest());
            }
            begin.elapsed()
        });
        let mut into = vec![0; size];
        let shared = median(MANY, || {
            let begin = Instant::now();
            for (_, reader) in &pairs {
                reader.read_at(black_box(&mut into), 128).expect("it is within");
            }
            begin.elapsed()
        });
        let sources: Vec<_> = (0..MANY).map(|_| object.clone()).collect();
        let plain = median(MANY, || {
            let begin = Instant::now();
            for source in &sources {
                into.copy_from_slice(black_box(source));
                black_box(&mut into);
            }
            begin.elapsed()
        });
        println!(
            "object of {size:>5} B{said}: publish {publish:.0}, read {read:.0}; memcpy {plain:.0}, word \
             by word {shared:.0}; read above memcpy: {:.0}",
            read - plain
        );
    }
}

fn ring(log: bool) {
    const BURST: usize = 1000;
    let (tap, said) = if log { (tap(), ", with a log") } else { (None, "") };
    let (region, _) = regions(1 << 20, tap.as_ref());
    let mut producer = region.ring_producer().expect("the producer");
    let mut consumer = region.ring_consumer().expect("the consumer");
    let message = [7; 64];
    let received = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&received);
    let total = BURST * ROUNDS;
    let reader = std::thread::spawn(move || {
        let (mut into, mut count) = (Vec::new(), 0);
        while count < total {
            if consumer.try_recv(&mut into).expect("an honest ring") {
                count += 1;
                seen.store(count, std::sync::atomic::Ordering::Release);
            }
        }
    });
    let mut sent = 0;
    let ring = median(BURST, || {
        let begin = Instant::now();
        for _ in 0..BURST {
            assert!(producer.try_send(black_box(&message)).expect("an honest ring"));
        }
        let time = begin.elapsed();
        sent += BURST;
        while received.load(std::sync::atomic::Ordering::Acquire) < sent {
            std::hint::spin_loop();
        }
        time
    });
    reader.join().expect("the reader");
    let (pipe, far): (OwnedFd, OwnedFd) = rustix::pipe::pipe().expect("a pipe");
    let (pipe, far) = (far, pipe);
    let mut into = vec![0; 1 << 16];
    let bare = median(500, || {
        let begin = Instant::now();
        for _ in 0..500 {
            rustix::io::write(&pipe, black_box(&message)).expect("room");
        }
        let time = begin.elapsed();
        let mut left = 500 * 64;
        while left > 0 {
            left -= rustix::io::read(&far, &mut into).expect("bytes");
        }
        time
    });
    println!(
        "ring, 64 B{said}, the sender's time: {ring:.0} ({:.2}); write(2) on a pipe {bare:.0}",
        ring / bare
    );
}

fn mapped_file() {
    let size = 64 << 10;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    let mut image = format::blank(size);
    image.resize(size, 0);
    std::fs::write(&path, image).expect("a file");
    let open = || File::options().read(true).write(true).open(&path).expect("the file");
    let content = vec![7; 4096];
    for durable in [false, true] {
        let spec = MappedFileSpec {
            file: name("file"),
            layer: name("layer"),
            index: 0,
            size: size as u64,
            writable: true,
            durable,
        };
        let file = MappedFile::map(spec, Arc::new(open().into()), None).expect("a mapping");
        let times = if durable { 8 } else { 500 };
        let commit = median(times, || {
            let begin = Instant::now();
            for _ in 0..times {
                file.commit(black_box(&content)).expect("it fits");
            }
            begin.elapsed()
        });
        let bare = open();
        let write = median(times, || {
            let begin = Instant::now();
            for _ in 0..times {
                bare.write_all_at(black_box(&content), 32 << 10).expect("room");
                bare.write_all_at(black_box(&content[..48]), 0).expect("room");
                if durable {
                    bare.sync_data().expect("a disk");
                    bare.sync_data().expect("a disk");
                }
            }
            begin.elapsed()
        });
        // The header was overwritten: begin anew for the reads.
        let what = if durable { "durable commit" } else { "commit" };
        println!(
            "{what} of 4 KiB: {commit:.0} ({:.2}); pwrite(2) of content and header {write:.0}",
            commit / write
        );
        bare.write_all_at(&format::blank(size), 0).expect("room");
        file.commit(&content).expect("it fits");
        if !durable {
            let mut into = Vec::new();
            let read = median(500, || {
                let begin = Instant::now();
                for _ in 0..500 {
                    black_box(file.read_into(&mut into).expect("it is whole"));
                }
                begin.elapsed()
            });
            let mut into = vec![0; 4096];
            let bare = median(500, || {
                let begin = Instant::now();
                for _ in 0..500 {
                    bare.read_exact_at(black_box(&mut into), 8192).expect("bytes");
                }
                begin.elapsed()
            });
            println!("read of 4 KiB: {read:.0} ({:.2}); pread(2) {bare:.0}", read / bare);
        }
    }
}
