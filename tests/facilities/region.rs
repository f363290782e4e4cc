//! Shared memory: objects that are published, rings, and what nobody may do to either.

#![allow(clippy::needless_pass_by_value, reason = "the library gives it")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "patterns and sizes")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cofferdam::Layer;
use cofferdam::ident::Name;
use cofferdam::ipc::region::{Region, RegionError, RegionSpec};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::{Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, how_many, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("region::readers_get_the_newest_object_beyond_its_writers_death", newest),
    ("region::a_writer_killed_at_any_mark_leaves_the_last_good_object", killed_writer),
    ("region::nobody_gets_more_than_was_granted", rights),
    ("region::a_second_publisher_is_refused", second_publisher),
    ("region::a_ring_keeps_its_messages_whoever_is_killed", ring),
    ("region::no_torn_object_is_accepted_from_a_hostile_writer", hostile),
    ("region::wrong_use_is_a_typed_error", wrong_use),
    ("region::a_sleeping_reader_is_woken", woken),
    ("region::a_task_sleeps_until_it_is_woken", sleeping_task),
    ("region::who_waits_hears_that_it_should_stop", waits_and_stops),
];

pub(crate) const LAYERS: &[Function] = &[
    ("region_writer", Runs::Async(|layer| Box::pin(writer(layer)))),
    ("region_reader", Runs::Async(|layer| Box::pin(reader(layer)))),
    ("region_waiter", Runs::Blocking(waiter)),
    ("region_prier", Runs::Blocking(prier)),
    ("region_sender", Runs::Blocking(sender)),
    ("region_receiver", Runs::Blocking(receiver)),
    ("region_claimer", Runs::Async(|layer| Box::pin(claimer(layer)))),
];

const SHARED: &str = "[region.scratch]\nsize = \"64KiB\"\ngrant = { w = \"rw\", r = \"r\" }\n";
const WRITER: &str =
    "[layer.w]\nrun = \"region_writer\"\nsyscalls = [\"@core\"]\nrestart = { max = 100 }\n";
const READER: &str =
    "[layer.r]\nrun = \"region_reader\"\nsyscalls = [\"@core\"]\nrestart = { max = 100 }\n";

#[derive(Serialize, Deserialize)]
struct Status {
    by: String,
    filling: Vec<u8>,
}

/// Publishes as fast as it can; its first life stops at the mark that the settings name.
async fn writer(layer: Layer) -> Outcome {
    if layer.instance().generation == 1
        && let (Ok(mut mark), Ok(gate)) = (layer.file("mark"), layer.file("gate"))
    {
        let mut name = String::new();
        std::io::Read::read_to_string(&mut mark, &mut name).map_err(text)?;
        // Of what comes often not the first: there must be a last good object.
        let once = ["map.", "part.", "formatted", "resumed"].iter().any(|word| name.contains(word));
        let nth = if once { 1 } else { 7 };
        cofferdam::mark::arm(&name, nth, gate);
    }
    let mut publisher =
        layer.region("scratch").map_err(text)?.publisher::<Status>().map_err(text)?;
    say(format!("goes on after {}", publisher.last()));
    while !layer.is_stopping() {
        let by = layer.instance().to_string();
        let status = Status { by, filling: vec![publisher.last() as u8; 4000] };
        publisher.publish(&status).map_err(text)?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Says who wrote what it reads, whenever that changes; ends when a number goes backwards or an
/// object isn't whole.
async fn reader(layer: Layer) -> Outcome {
    let mut subscriber = layer.region("scratch").map_err(text)?.subscriber::<Status>();
    say("reads");
    let (mut last, mut by) = (0, String::new());
    loop {
        let object = tokio::select! {
            object = subscriber.changed() => object.map_err(text)?,
            () = layer.stopping() => return Ok(()),
        };
        if object.number <= last {
            return Err(format!("{} after {last}", object.number));
        }
        last = object.number;
        let expected = (last - 1) as u8;
        if object.value.filling.iter().any(|byte| *byte != expected) {
            return Err(format!("object {last} is torn"));
        }
        if object.value.by != by {
            say(format!("number {last} by {}", object.value.by));
            by = object.value.by;
        }
    }
}

fn newest() {
    let mut daemon = Daemon::start("-", &format!("{WRITER}{READER}{SHARED}"));
    let first = daemon.confined("w/0.g1");
    daemon.line("by w/0.g1");
    kill_process(first, Signal::KILL).unwrap();
    daemon.line("by w/0.g2");
    let reader = daemon.seen.iter().find(|line| line.contains("r/0.g1 is confined")).unwrap();
    let pid = reader.split("pid ").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    // A reader that comes later gets what is there.
    kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    daemon.line("r/0.g2: number");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("goes on after 0"), 1, "{daemon}");
    assert_eq!(daemon.count("torn"), 0, "{daemon}");
}

const WRITER_MARKS: &[&str] = &[
    "region.map.begin",
    "region.map.mapped",
    "region.publish.formatted",
    "region.part.taken",
    "region.publish.resumed",
    "region.publish.begin",
    "region.publish.opened",
    "region.publish.half",
    "region.publish.copied",
    "region.publish.digested",
    "region.publish.numbered",
    "region.publish.named",
    "region.publish.woken",
];

fn killed_writer() {
    for mark in WRITER_MARKS {
        let files = "[file.mark]\npath = \"DIR/mark\"\ngrant = { w = [\"read\"] }\n\
                     [file.gate]\npath = \"DIR/gate\"\ngrant = { w = [\"read\"] }\n";
        let policy = format!("{WRITER}{READER}{SHARED}{files}");
        let mut daemon = Daemon::start_with("-", &policy, |directory| {
            std::fs::write(directory.join("mark"), mark).unwrap();
            std::fs::write(directory.join("gate"), "0").unwrap();
        });
        let pid = daemon.confined("w/0.g1");
        daemon.line(&format!("mark {mark}"));
        kill_process(pid, Signal::KILL).unwrap();
        daemon.line("by w/0.g2");
        assert_eq!(daemon.stop(), Some(0), "{mark}: {daemon}");
        assert_eq!(daemon.count("r/0.g1 ended with exit code 0"), 1, "{mark}: {daemon}");
    }
}

/// Tries all that its descriptor should not be good for.
fn prier(layer: Layer) -> Outcome {
    let region = layer.region("scratch").map_err(text)?;
    let size = region.size();
    let fd = find(size as u64).ok_or("no descriptor of the region's size")?;
    let who = if region.is_writable() { "writer" } else { "reader" };
    let tell = |what: &str, errno: rustix::io::Result<()>| match errno {
        Ok(()) => say(format!("{who} {what}: WORKED")),
        Err(errno) => say(format!("{who} {what}: refused {errno}")),
    };
    tell("maps to write", map(fd, size).map(drop));
    tell("writes", rustix::io::pwrite(fd, b"x", 0).map(drop));
    tell("writes behind the end", rustix::io::pwrite(fd, b"x", size as u64).map(drop));
    tell("cuts", rustix::fs::ftruncate(fd, 0));
    tell("grows", rustix::fs::ftruncate(fd, 1 << 30));
    for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE, SealFlags::SEAL] {
        tell("seals", rustix::fs::fcntl_add_seals(fd, seal));
    }
    tell("changes its mode", rustix::fs::fchmod(fd, Mode::RWXU));
    for path in [
        format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&fd)),
        format!("/dev/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&fd)),
        "/dev/shm".into(),
    ] {
        tell("opens again", rustix::fs::open(path, OFlags::RDWR, Mode::empty()).map(drop));
    }
    // Flags and position are shared with every layer of the same right; it is nothing to them.
    let _ = rustix::fs::fcntl_setfl(fd, OFlags::APPEND | OFlags::NONBLOCK);
    let _ = rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(4096));
    if region.is_writable() {
        region.write_at(b"still here", 4096).map_err(text)?;
        let mut bytes = [0; 10];
        region.read_at(&mut bytes, 4096).map_err(text)?;
        say(format!("writer reads back {}", String::from_utf8_lossy(&bytes)));
    } else {
        say(format!("reader: {}", region.write_at(b"x", 0).unwrap_err()));
        say(format!("reader: {}", region.publisher::<[u8]>().unwrap_err()));
        say(format!("reader: {}", region.ring_consumer().unwrap_err()));
        say(format!("reader: {}", layer.region("other").unwrap_err()));
    }
    Ok(())
}

/// The descriptor of a regular file of this size.
fn find(size: u64) -> Option<BorrowedFd<'static>> {
    (3..64).find_map(|number| {
        #[allow(unsafe_code)]
        // SAFETY: none is closed while the layer looks; one that isn't open is an error.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let stat = rustix::fs::fstat(fd).ok()?;
        (stat.st_size as u64 == size && stat.st_mode & 0o170_000 == 0o100_000).then_some(fd)
    })
}

#[allow(unsafe_code)]
fn map(fd: BorrowedFd<'_>, size: usize) -> rustix::io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping where the kernel likes, which nobody uses.
    unsafe { mmap(std::ptr::null_mut(), size, access, MapFlags::SHARED, fd, 0) }.map(drop)
}

fn rights() {
    let layer = |name: &str| {
        format!(
            "[layer.{name}]\nrun = \"region_prier\"\nrestart = {{ on = \"never\" }}\n\
             syscalls = [\"@core\", \"@shared-memory\", \"@file-read\", \"@file-write\"]\n"
        )
    };
    let policy = format!("{}{}{SHARED}", layer("w"), layer("r"));
    let mut daemon = Daemon::start("-", &policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in [
        "reader maps to write: refused Permission denied",
        "reader writes: refused Bad file",
        "reader cuts: refused Invalid argument",
        "writer writes behind the end: refused",
        "writer cuts: refused Operation not permitted",
        "writer grows: refused Operation not permitted",
        "writer reads back still here",
        "`[region.scratch] grant = { r = \"r\" }`: to write, it would need \"rw\"",
        "`[region.scratch] grant = { r = \"r\" }`: to publish, it would need \"rw\"",
        "`[region.scratch] grant = { r = \"r\" }`: to receive from a ring, it would need \"rw\"",
        "the policy would need `[region.other] grant = { r = \"r\" }`",
    ] {
        assert_eq!(daemon.count(line), 1, "{line}: {daemon}");
    }
    assert_eq!(daemon.count("seals: refused Operation not permitted"), 6, "{daemon}");
    assert_eq!(daemon.count("opens again: refused"), 6, "{daemon}");
    // The writer may map and write, and nothing else works; the mode is its owner's to change,
    // which as an ordinary user every layer is, and which opens nothing again.
    let worked = daemon.count("WORKED") - daemon.count("changes its mode: WORKED");
    assert_eq!(worked, 2, "{daemon}");
}

async fn claimer(layer: Layer) -> Outcome {
    let region = layer.region("scratch").map_err(text)?;
    match region.publisher::<[u8]>() {
        Ok(mut publisher) => {
            say("publishes");
            publisher.publish(b"mine").map_err(text)?;
            say(format!("again: {}", region.publisher::<[u8]>().unwrap_err()));
            layer.stopping().await;
        }
        Err(error) => {
            say(format!("refused: {error}"));
            layer.stopping().await;
        }
    }
    Ok(())
}

fn second_publisher() {
    let policy = "[layer.w]\nrun = \"region_claimer\"\nsyscalls = [\"@core\"]\ninstances = 2\n\
                  [region.scratch]\nsize = \"4KiB\"\ngrant = { w = \"rw\" }\n";
    let mut daemon = Daemon::start("-", policy);
    daemon.line("is confined");
    daemon.line("is confined");
    while daemon.count("refused: [region.scratch] has a publisher already") == 0
        || daemon.count(": publishes") == 0
        || daemon.count("again: [region.scratch] has a publisher already") == 0
    {
        daemon.line("");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

const COUNT: u64 = 20_000;

/// Sends the numbers up to COUNT; another life goes on after what the last one surely sent.
fn sender(layer: Layer) -> Outcome {
    let region = layer.region("ring").map_err(text)?;
    let mut producer = region.ring_producer().map_err(text)?;
    say("sends");
    for number in 0..COUNT {
        let message = [number.to_le_bytes().to_vec(), vec![number as u8; number as usize % 200]];
        match producer.blocking().send(&message.concat(), None) {
            Ok(()) => {}
            Err(RegionError::Stopping) => return Ok(()),
            Err(error) => return Err(text(error)),
        }
    }
    say("has sent all");
    wait_for_stop(&layer)
}

/// Checks the order of what comes. Killed in between, its next life may get one message again,
/// and none is missing.
fn receiver(layer: Layer) -> Outcome {
    let region = layer.region("ring").map_err(text)?;
    let mut consumer = region.ring_consumer().map_err(text)?;
    let (mut message, mut last) = (Vec::new(), None);
    loop {
        match consumer.blocking().recv(&mut message, None) {
            Ok(()) => {}
            Err(RegionError::Stopping) => return Ok(()),
            Err(error) => return Err(text(error)),
        }
        let (number, filling) = message.split_first_chunk().ok_or("too short")?;
        let number = u64::from_le_bytes(*number);
        if filling.len() as u64 != number % 200 || filling.iter().any(|b| *b != number as u8) {
            return Err(format!("message {number} is torn"));
        }
        match last {
            None => say(format!("begins with {number}")),
            Some(last) if number == last + 1 => {}
            Some(last) => return Err(format!("{number} after {last}")),
        }
        last = Some(number);
        // Slowly, so that it is killed with the ring full.
        if layer.instance().generation < 4 {
            say(format!("has {number}"));
            std::thread::sleep(Duration::from_millis(1));
        }
        if number == COUNT - 1 {
            say("has all");
        }
    }
}

fn ring() {
    let layer = |name: &str, run: &str| {
        format!(
            "[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 100 }}\n"
        )
    };
    let policy = format!(
        "{}{}[region.ring]\nsize = \"8KiB\"\ngrant = {{ a = \"rw\", b = \"rw\" }}\n",
        layer("a", "region_sender"),
        layer("b", "region_receiver"),
    );
    let mut daemon = Daemon::start("-", &policy);
    for generation in 1..=3 {
        let pid = daemon.confined(&format!("b/0.g{generation}"));
        for _ in 0..20 {
            daemon.line(&format!("b/0.g{generation}: has "));
        }
        kill_process(pid, Signal::KILL).unwrap();
    }
    while daemon.count("has all") == 0 || daemon.count("has sent all") == 0 {
        daemon.line("");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("begins with"), 4, "{daemon}");
    // Each life goes on where the last one stopped: it may get again what that one was taking, and
    // one message may have been taken and not told of.
    let number = |line: &String| line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
    for generation in 1..=3 {
        let had = format!("b/0.g{generation}: has ");
        let had = daemon.seen.iter().filter(|line| line.contains(&had)).filter_map(number).max();
        let began = format!("b/0.g{}: begins with ", generation + 1);
        let began = daemon.seen.iter().find(|line| line.contains(&began)).and_then(number);
        let (had, began) = (had.unwrap(), began.unwrap());
        assert!((had..=had + 2).contains(&began), "{began} after {had}: {daemon}");
    }
    assert_eq!(daemon.count(" after ") + daemon.count("torn"), 0, "{daemon}");
}

/// A region of this process's own, once to write and once to read.
fn pair(size: u64) -> (Region, Region, OwnedFd) {
    let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, size).unwrap();
    let spec = |layer: &str, writable| RegionSpec {
        region: Name::new("scratch").unwrap(),
        layer: Name::new(layer).unwrap(),
        index: 0,
        size,
        writable,
    };
    let writer = Region::map(spec("w", true), fd.as_fd(), None, None).unwrap();
    let reader = Region::map(spec("r", false), fd.as_fd(), None, None).unwrap();
    (writer, reader, fd)
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The words of an object all follow from its first.
fn object(seed: u64, words: usize) -> Vec<u8> {
    let word = |at: u64| (seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
    (0..words as u64).flat_map(word).collect()
}

/// A writer that flips bytes, numbers, lengths and digests while others read: whatever they
/// accept is an object that it had published whole.
fn hostile() {
    let reads = how_many(300_000, 10_000_000);
    let (writer, reader, _) = pair(8192);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = writer.publisher::<[u8]>().unwrap();
            let mut chance = 0x1234_5678_9abc_def1;
            while !done.load(Ordering::Relaxed) {
                let words = 1 + random(&mut chance) as usize % 128;
                publisher.publish(&object(random(&mut chance), words)).unwrap();
                for _ in 0..random(&mut chance) % 40 {
                    // Anywhere: the head (but for the kind), slots' heads, objects.
                    let at = 64 + random(&mut chance) as usize % (8192 - 64 - 8);
                    let wild = match random(&mut chance) % 4 {
                        0 => random(&mut chance),
                        1 => publisher.last() + random(&mut chance) % 4,
                        2 => random(&mut chance) % 2048,
                        _ => u64::MAX,
                    };
                    let bytes = 1 + random(&mut chance) as usize % 8;
                    writer.write_at(&wild.to_le_bytes()[..bytes], at & !7).unwrap();
                }
            }
        });
        let (mut accepted, mut tried) = (0, 0);
        while tried < reads {
            let mut subscriber = reader.subscriber::<[u8]>();
            for _ in 0..16 {
                tried += 1;
                let before = subscriber.number();
                let Some(found) = subscriber.latest() else { continue };
                if found.number == before {
                    continue;
                }
                accepted += 1;
                let seed = u64::from_le_bytes(found.value[..8].try_into().unwrap());
                let whole = object(seed, found.value.len() / 8);
                assert!(found.value == whole, "a torn object after {tried} reads");
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(accepted > reads / 100, "{accepted} of {reads} is too few to show anything");
    });
}

fn wrong_use() {
    let (writer, reader, _) = pair(4096);
    let outside = writer.write_at(&[0; 8], 4090).unwrap_err().to_string();
    assert_eq!(outside, "`[region.scratch] size`: 8 bytes at 4090 don't lie within its 4096 bytes");
    assert!(reader.read_at(&mut [0; 1], usize::MAX).is_err());
    let mut publisher = writer.publisher::<[u8]>().unwrap();
    let error = publisher.publish(&[0; 5000]).unwrap_err().to_string();
    assert!(error.contains("this object has 5000 bytes, and the largest that fits"), "{error}");
    assert!(publisher.publish(&vec![1; publisher.capacity()]).is_ok());
    assert!(matches!(writer.ring_producer(), Err(RegionError::OtherUse { .. })));
    assert!(matches!(writer.publisher::<[u8]>(), Err(RegionError::Taken { .. })));
    drop(publisher);
    // Its numbers go on.
    let mut publisher = writer.publisher::<u32>().unwrap();
    assert_eq!((publisher.last(), publisher.publish(&77).unwrap()), (1, 2));
    let found = reader.subscriber::<u32>().latest().unwrap().unwrap();
    assert_eq!((found.number, found.value), (2, 77));
    let error = reader.subscriber::<String>().latest().unwrap_err().to_string();
    assert!(error.contains("what was published there is no alloc::string::String"), "{error}");
    // Odd places keep their neighbours.
    writer.write_at(b"abcdefghijklmnop", 2048).unwrap();
    writer.write_at(b"XYZ", 2053).unwrap();
    let mut bytes = [0; 14];
    reader.read_at(&mut bytes, 2049).unwrap();
    assert_eq!(&bytes, b"bcdeXYZijklmno");

    let (one, two, _) = pair(4096);
    let mut producer = one.ring_producer().unwrap();
    assert!(matches!(two.ring_consumer(), Err(RegionError::ReadOnly { .. })));
    let mut consumer = one.ring_consumer().unwrap();
    let error = producer.try_send(&[0; 5000]).unwrap_err().to_string();
    assert!(error.contains("this message has 5000 bytes, and the largest that fits"), "{error}");
    let mut message = Vec::new();
    let short = Some(Duration::from_millis(20));
    assert!(matches!(consumer.blocking().recv(&mut message, short), Err(RegionError::Timeout)));
    while producer.try_send(&[0; 100]).unwrap() {}
    assert!(matches!(producer.blocking().send(&[0; 100], short), Err(RegionError::Timeout)));
    // The other end writes what it likes.
    one.write_at(&u64::MAX.to_le_bytes(), 64).unwrap();
    while consumer.try_recv(&mut message).is_ok_and(|got| got) {}
    assert!(matches!(consumer.try_recv(&mut message), Err(RegionError::Broken { .. })));
}

/// Waits in both ways for what another thread does later.
fn woken() {
    let (writer, reader, _) = pair(4096);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = writer.publisher::<[u8]>().unwrap();
            for number in 0..50_u8 {
                std::thread::sleep(Duration::from_millis(2));
                publisher.publish(&[number]).unwrap();
            }
        });
        let mut subscriber = reader.subscriber::<[u8]>();
        let mut last = None;
        while last != Some(49) {
            let found = subscriber.blocking().changed(Some(Duration::from_secs(30))).unwrap();
            assert!(last.is_none_or(|last| found.value[0] > last));
            last = Some(found.value[0]);
        }
        let short = Some(Duration::from_millis(10));
        assert!(matches!(subscriber.blocking().changed(short), Err(RegionError::Timeout)));
    });

    let (ring, _, _) = pair(4096);
    let (mut producer, mut consumer) =
        (ring.ring_producer().unwrap(), ring.ring_consumer().unwrap());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..2000_u64 {
                if number % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                producer.blocking().send(&[number as u8; 600], None).unwrap();
            }
        });
        let mut message = Vec::new();
        for number in 0..2000_u64 {
            if number % 333 == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
            consumer.blocking().recv(&mut message, None).unwrap();
            assert_eq!(message, vec![number as u8; 600]);
        }
    });
    assert!(begin.elapsed() < crate::harness::PATIENCE);
}

/// Waits for an object that never comes.
/// How often this thread has gone to sleep so far.
fn sleeps() -> i64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD);
    usage.unwrap().voluntary_context_switches()
}

fn sleeping_task() {
    let (writer, reader, _) = pair(4096);
    let (ring, _, _) = pair(4096);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut subscriber = reader.subscriber::<[u8]>();
    let mut consumer = ring.ring_consumer().unwrap();
    let (mut message, mut waited) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = writer.publisher::<[u8]>().unwrap();
            let mut producer = ring.ring_producer().unwrap();
            for number in 0..3_u8 {
                std::thread::sleep(Duration::from_millis(700));
                publisher.publish(&[number]).unwrap();
                std::thread::sleep(Duration::from_millis(700));
                assert!(producer.try_send(&[number]).unwrap());
            }
        });
        runtime.block_on(async {
            for number in 0..3_u8 {
                let before = sleeps();
                assert_eq!(subscriber.changed().await.value, [number]);
                consumer.recv(&mut message).await.unwrap();
                assert_eq!(message, [number]);
                waited.push(sleeps() - before);
            }
        });
    });
    // One that looked every 16 ms would have slept 87 times.
    assert!(waited.iter().all(|times| (2..20).contains(times)), "{waited:?}");
    // Nobody waits any more: the ring's word says so, and a dropped future has taken it back.
    let mut producer = ring.ring_producer().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            let short =
                tokio::time::timeout(Duration::from_millis(20), consumer.recv(&mut message));
            assert!(short.await.is_err());
        }
    });
    assert!(producer.try_send(b"late").unwrap());
    assert!(consumer.try_recv(&mut message).unwrap());
}

fn waiter(layer: Layer) -> Outcome {
    let mut subscriber = layer.region("scratch").map_err(text)?.subscriber::<[u8]>();
    say("waits");
    match subscriber.blocking().changed(None) {
        Err(RegionError::Stopping) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn waits_and_stops() {
    let policy = "[layer.a]\nrun = \"region_waiter\"\nsyscalls = [\"@core\"]\n\
                  [region.scratch]\nsize = \"4KiB\"\ngrant = { a = \"rw\" }\n";
    let mut daemon = Daemon::start("-", policy);
    daemon.line("waits");
    // Long enough to be idle.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("a/0.g1 ended with exit code 0"), 1, "{daemon}");
}
