//! Mapped files: what survives, and what nobody may do to them.

#![allow(clippy::needless_pass_by_value, reason = "the library gives it")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "patterns and sizes")]

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ident::Name;
use cofferdam::ipc::mapped_file::{MappedFile, MappedFileError, MappedFileSpec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Signal, kill_process};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("mapped_file::a_writer_killed_at_any_mark_leaves_old_or_new", killed_writer),
    ("mapped_file::content_outlives_the_daemon", outlives),
    ("mapped_file::nobody_gets_more_than_was_granted", rights),
    ("mapped_file::a_file_that_is_cut_is_a_typed_error", cut),
    ("mapped_file::two_daemons_do_not_share_a_file", two_daemons),
    ("mapped_file::what_is_no_file_of_ours_is_refused", refused),
    ("mapped_file::readers_of_a_foreign_file_get_a_sealed_copy", sealed_copy),
    ("mapped_file::wrong_use_is_a_typed_error", wrong_use),
];

pub(crate) const LAYERS: &[Function] = &[
    ("map_writer", Runs::Blocking(writer)),
    ("map_reader", Runs::Blocking(reader)),
    ("map_prier", Runs::Blocking(prier)),
    ("map_copier", Runs::Blocking(copier)),
];

const SIZE: u64 = 32 << 10;

fn policy(path: &str) -> String {
    let layer = |name: &str, run: &str| {
        format!(
            "[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 100 }}\n"
        )
    };
    format!(
        "{}{}[mapped-file.state]\npath = \"{path}\"\nsize = \"32KiB\"\ndurable = true\n\
         grant = {{ w = \"rw\", r = \"r\" }}\n",
        layer("w", "map_writer"),
        layer("r", "map_reader"),
    )
}

fn content(generation: u64) -> Vec<u8> {
    let length = 5000 + usize::try_from(generation * 37 % 3000).unwrap();
    (0..length).map(|at| (at as u64 ^ generation) as u8).collect()
}

/// Commits again and again; its first life stops at the mark that a file names.
fn writer(layer: Layer) -> Outcome {
    if layer.instance().generation == 1
        && let (Ok(mut mark), Ok(gate)) = (layer.file("mark"), layer.file("gate"))
    {
        let mut name = String::new();
        std::io::Read::read_to_string(&mut mark, &mut name).map_err(text)?;
        let once = ["map.", "writer"].iter().any(|word| name.contains(word));
        cofferdam::mark::arm(&name, if once { 1 } else { 4 }, gate);
    }
    let file = layer.mapped_file("state").map_err(text)?;
    say(format!("goes on after {}", file.generation().map_err(text)?));
    while !layer.is_stopping() {
        let next = file.generation().map_err(text)? + 1;
        // By turns, so that both ways are killed.
        let now = if next % 2 == 0 {
            file.commit(&content(next)).map_err(text)?
        } else {
            file.update(|bytes| *bytes = content(next)).map_err(text)?
        };
        if now != next {
            return Err(format!("generation {now} instead of {next}"));
        }
        layer.attend().map_err(text)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Checks what it reads, and says so now and then.
fn reader(layer: Layer) -> Outcome {
    let file = layer.mapped_file("state").map_err(text)?;
    let (mut last, mut bytes) = (0, Vec::new());
    while !layer.is_stopping() {
        let now = file.read_into(&mut bytes).map_err(|error| format!("READ: {error}"))?;
        if now < last {
            return Err(format!("WENT BACK to {now} from {last}"));
        }
        if now != 0 && bytes != content(now) {
            return Err(format!("TORN {now}"));
        }
        if now > last {
            say(format!("has {now}"));
        }
        last = now;
        layer.attend().map_err(text)?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

const MARKS: &[&str] = &[
    "mapped-file.map.begin",
    "mapped-file.map.mapped",
    "mapped-file.commit.writer",
    "mapped-file.read.headers",
    "mapped-file.read.copied",
    "mapped-file.commit.begin",
    "mapped-file.commit.voided",
    "mapped-file.commit.half",
    "mapped-file.commit.copied",
    "mapped-file.commit.content-synced",
    "mapped-file.commit.header-half",
    "mapped-file.commit.header-copied",
    "mapped-file.commit.counted",
    "mapped-file.commit.header-synced",
    "mapped-file.commit.done",
];

fn killed_writer() {
    for mark in MARKS {
        let files = "[file.mark]\npath = \"DIR/mark\"\ngrant = { w = [\"read\"] }\n\
                     [file.gate]\npath = \"DIR/gate\"\ngrant = { w = [\"read\"] }\n";
        let policy = policy("DIR/state") + files;
        let mut daemon = Daemon::start_with("-", &policy, |directory| {
            std::fs::write(directory.join("mark"), mark).unwrap();
            std::fs::write(directory.join("gate"), "0").unwrap();
        });
        let pid = daemon.confined("w/0.g1");
        daemon.line(&format!("mark {mark}"));
        kill_process(pid, Signal::KILL).unwrap();
        let line = daemon.line("w/0.g2: goes on after ");
        let from: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        daemon.line("r/0.g1: has ");
        assert_eq!(daemon.stop(), Some(0), "{mark}: {daemon}");
        // The reader saw every instant of it, and it never had anything but whole contents.
        assert_eq!(daemon.count("r/0.g1 ended with exit code 0"), 1, "{mark}: {daemon}");
        // The new content counts from one mark on, and not before.
        if mark.starts_with("mapped-file.commit.") && !mark.ends_with("writer") {
            let counts = ["counted", "header-synced", "done"].iter().any(|end| mark.ends_with(end));
            assert_eq!(from, if counts { 4 } else { 3 }, "{mark}: {daemon}");
        }
    }
}

fn outlives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mut from = 0;
    for signal in [Signal::KILL, Signal::TERM, Signal::KILL] {
        let mut daemon = Daemon::start("-", &policy(path.to_str().unwrap()));
        let line = daemon.line("goes on after ");
        let now: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(now >= from, "{now} after {from}: {daemon}");
        let line = daemon.line("r/0.g1: has ");
        from = line.rsplit(' ').next().unwrap().parse().unwrap();
        daemon.line("r/0.g1: has ");
        daemon.signal(signal);
        daemon.end();
        assert_eq!(daemon.count("TORN") + daemon.count("WENT BACK"), 0, "{daemon}");
    }
    let about = std::fs::metadata(&path).unwrap();
    assert_eq!((about.len(), about.permissions().mode() & 0o777), (SIZE, 0o600));
}

/// Tries all that its descriptor should not be good for.
fn prier(layer: Layer) -> Outcome {
    let file = layer.mapped_file("state").map_err(text)?;
    let writes = file.commit(b"before").is_ok();
    let who = if writes { "writer" } else { "reader" };
    let fd = find().ok_or("no descriptor of the file's size")?;
    let tell = |what: &str, errno: rustix::io::Result<()>| match errno {
        Ok(()) => say(format!("{who} {what}: WORKED")),
        Err(errno) => say(format!("{who} {what}: refused {errno}")),
    };
    if !writes {
        tell("maps to write", map(fd));
        tell("writes", rustix::io::pwrite(fd, b"x", 0).map(drop));
        say(format!("reader: {}", file.commit(b"x").unwrap_err()));
        say(format!("reader: {}", layer.mapped_file("other").unwrap_err()));
    }
    for size in [0, 4096, SIZE - 1, SIZE, 1 << 20] {
        tell("cuts", rustix::fs::ftruncate(fd, size));
    }
    tell("unlocks", rustix::fs::flock(fd, rustix::fs::FlockOperation::Unlock));
    let again = format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&fd));
    tell("opens again", rustix::fs::open(again, OFlags::RDWR, Mode::empty()).map(drop));
    tell("opens by path", rustix::fs::open("DIR/state", OFlags::RDWR, Mode::empty()).map(drop));
    let _ = rustix::fs::fcntl_setfl(fd, OFlags::APPEND | OFlags::NONBLOCK);
    let _ = rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(100));
    if writes {
        file.commit(b"after").map_err(text)?;
        let read = file.read().map_err(text)?;
        say(format!("writer reads back {}", String::from_utf8_lossy(&read)));
    } else {
        file.read().map_err(text)?;
        say("reader reads on");
    }
    Ok(())
}

fn find() -> Option<BorrowedFd<'static>> {
    (3..64).find_map(|number| {
        #[allow(unsafe_code)]
        // SAFETY: none is closed while the layer looks; one that isn't open is an error.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let stat = rustix::fs::fstat(fd).ok()?;
        (stat.st_size as u64 == SIZE).then_some(fd)
    })
}

#[allow(unsafe_code)]
fn map(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping where the kernel likes, which nobody uses.
    unsafe { mmap(std::ptr::null_mut(), 4096, access, MapFlags::SHARED, fd, 0) }.map(drop)
}

fn rights() {
    let calls = "syscalls = [\"@core\", \"@shared-memory\", \"@file-read\", \"@file-write\"]";
    let policy = policy("DIR/state")
        .replace("map_writer", "map_prier")
        .replace("map_reader", "map_prier")
        .replace("syscalls = [\"@core\"]", calls)
        .replace("restart = { max = 100 }", "restart = { on = \"never\" }");
    let mut daemon = Daemon::start("-", &policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in [
        "reader maps to write: refused Permission denied",
        "reader writes: refused Bad file",
        "`[mapped-file.state] grant = { r = \"r\" }`: to commit, it would need \"rw\"",
        "the policy would need `[mapped-file.other] grant = { r = \"r\" }`",
        "writer reads back after",
        "reader reads on",
    ] {
        assert_eq!(daemon.count(line), 1, "{line}: {daemon}");
    }
    assert_eq!(daemon.count("writer cuts: refused Permission denied"), 5, "{daemon}");
    assert_eq!(daemon.count("reader cuts: refused"), 5, "{daemon}");
    // Each may give up its own share of the lock, which is nothing to the daemon's.
    let worked = daemon.count("WORKED") - daemon.count("unlocks: WORKED");
    assert_eq!(worked, 0, "{daemon}");
}

fn cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    for size in [0, 4096, 12 << 10] {
        let _ = std::fs::remove_file(&path);
        let policy = policy(path.to_str().unwrap())
            .replace("restart = { max = 100 }", "restart = { on = \"never\" }");
        let mut daemon = Daemon::start("-", &policy);
        daemon.line("r/0.g1: has ");
        File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
        assert_eq!(daemon.end(), Some(1), "{daemon}");
        let said = "[mapped-file.state] has been cut behind the daemon's back";
        assert_eq!(daemon.count(said), 2, "{size}: {daemon}");
        assert_eq!(daemon.count("SIGBUS"), 0, "{daemon}");
    }
    // It doesn't come back in that state unnoticed.
    let mut daemon = Daemon::start("-", &policy(path.to_str().unwrap()));
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("it has 12288 bytes, and `size` says 32768"), 1, "{daemon}");
}

fn two_daemons() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let policy = policy(path.to_str().unwrap());
    let mut first = Daemon::start("-", &policy);
    first.line("r/0.g1: has ");
    let mut second = Daemon::start("-", &policy);
    assert_eq!(second.end(), Some(3), "{second}");
    assert_eq!(second.count("another daemon has it: one file, one daemon"), 1, "{second}");
    assert_eq!(first.stop(), Some(0), "{first}");
    let mut third = Daemon::start("-", &policy);
    third.line("r/0.g1: has ");
    assert_eq!(third.stop(), Some(0), "{third}");
}

/// Puts something at the path.
type Prepare<'a> = &'a dyn Fn(&Path);

fn refused() {
    let own = |path: &Path, bytes: &[u8], mode| {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let cases: &[(Prepare<'_>, &str)] = &[
        (
            &|path| {
                std::fs::write(path.with_extension("other"), "").unwrap();
                symlink(path.with_extension("other"), path).unwrap();
            },
            "a part of this path is a symbolic link",
        ),
        (
            &|path| {
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
            },
            "it is no regular file",
        ),
        (&|path| std::fs::create_dir(path).unwrap(), "Is a directory"),
        (&|path| own(path, b"", 0o666), "others can write it"),
        (
            &|path| {
                own(path, b"", 0o600);
                std::fs::hard_link(path, path.with_extension("other")).unwrap();
            },
            "2 names",
        ),
        (&|path| own(path, b"some notes", 0o600), "it is no mapped file of cofferdam"),
        (&|path| own(path, b"cfd-map9", 0o600), "its header is of another version"),
        (&|path| own(path, &[0; 100], 0o600), "it has 100 bytes, and `size` says 32768"),
    ];
    for (prepare, said) in cases {
        let mut daemon =
            Daemon::start_with("-", &policy("DIR/state"), |dir| prepare(&dir.join("state")));
        assert_eq!(daemon.end(), Some(3), "{said}: {daemon}");
        assert_eq!(daemon.count(said), 1, "{said}: {daemon}");
        assert_eq!(daemon.count("[mapped-file.state]"), 1, "{said}: {daemon}");
    }
    for (path, said) in [("/dev/null", "it is no regular file"), ("DIR/no/state", "No such file")] {
        let mut daemon = Daemon::start("-", &policy(path));
        assert_eq!(daemon.end(), Some(3), "{said}: {daemon}");
        assert_eq!(daemon.count(said), 1, "{said}: {daemon}");
    }
    let small = policy("DIR/state").replace("32KiB", "8KiB");
    let mut daemon = Daemon::start("-", &small);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("`size` must be 16 KiB at least"), 1, "{daemon}");
    // A making that was interrupted is finished.
    for length in [0, SIZE] {
        let mut daemon = Daemon::start_with("-", &policy("DIR/state"), |dir| {
            own(&dir.join("state"), &vec![0; usize::try_from(length).unwrap()], 0o600);
        });
        daemon.line("r/0.g1: has ");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

/// Reads a copy, and what it may not do with it.
fn copier(layer: Layer) -> Outcome {
    let file = layer.mapped_file("state").map_err(text)?;
    for _ in 0..3 {
        let read = file.read().map_err(text)?;
        let generation = file.generation().map_err(text)?;
        say(format!(
            "generation {generation}, {} bytes: {:?}",
            read.len(),
            &read[..read.len().min(2)]
        ));
        say(format!("refused: {}", file.commit(b"x").unwrap_err()));
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn sealed_copy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let policy = format!(
        "[layer.r]\nrun = \"map_copier\"\nsyscalls = [\"@core\"]\nrestart = {{ on = \"never\" }}\n\
         [mapped-file.state]\npath = \"{}\"\nsize = \"32KiB\"\ngrant = {{ r = \"r\" }}\n",
        path.display()
    );
    std::fs::write(&path, "data of others").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("generation 0, 14 bytes: [100, 97]");
    // Others do with their file what they like.
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("generation 0, 14 bytes: [100, 97]"), 3, "{daemon}");
    assert_eq!(daemon.count("refused: `[mapped-file.state]"), 3, "{daemon}");

    let mut daemon = Daemon::start("-", &policy);
    daemon.line("generation 0, 0 bytes: []");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    std::fs::write(&path, vec![1; 40_000]).unwrap();
    let mut daemon = Daemon::start("-", &policy);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("it has 40000 bytes, more than `size` allows"), 1, "{daemon}");

    // What a daemon has committed is read as its content.
    std::fs::remove_file(&path).unwrap();
    let mut writer = Daemon::start("-", &self::policy(path.to_str().unwrap()));
    writer.line("r/0.g1: has ");
    assert_eq!(writer.stop(), Some(0), "{writer}");
    let mut daemon = Daemon::start("-", &policy);
    let line = daemon.line("generation ");
    let words = line.split(' ').nth(2).unwrap().trim_end_matches(',');
    let generation: u64 = words.parse().unwrap();
    assert!(line.contains(&format!(", {} bytes: ", content(generation).len())), "{daemon}");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

fn wrong_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mut image = cofferdam::ipc::mapped_file::format::blank(SIZE as usize);
    image.resize(SIZE as usize, 0);
    std::fs::write(&path, image).unwrap();
    let open = |layer: &str| {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let spec = MappedFileSpec {
            file: Name::new("state").unwrap(),
            layer: Name::new(layer).unwrap(),
            index: 0,
            size: SIZE,
            writable: true,
            durable: false,
        };
        MappedFile::map(spec, std::sync::Arc::new(file.into()), None).unwrap()
    };
    let (one, two) = (open("one"), open("two"));
    assert_eq!((one.read().unwrap(), one.generation().unwrap()), (Vec::new(), 0));
    let largest = vec![5; one.capacity()];
    assert_eq!(one.commit(&largest).unwrap(), 1);
    let error = one.commit(&vec![5; largest.len() + 1]).unwrap_err().to_string();
    let said = "`[mapped-file.state] size`: this content has 12289 bytes, and the largest that \
                fits has 12288: half of the size, less 4 KiB";
    assert_eq!(error, said);
    assert_eq!(two.read().unwrap(), largest);
    assert!(matches!(two.commit(b""), Err(MappedFileError::Taken { .. })));
    assert_eq!(one.update(|bytes| bytes.truncate(3)).unwrap(), 2);
    assert_eq!(two.read().unwrap(), [5; 3]);
    // Written to from outside.
    let outside = File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&outside, &[9; 16], 8192).unwrap();
    // Generation 2 lay there; the one before is whole, and stands in.
    assert_eq!(two.read().unwrap(), largest);
    std::os::unix::fs::FileExt::write_all_at(&outside, &[0; 8192], 0).unwrap();
    assert!(matches!(two.read(), Err(MappedFileError::Damaged { .. })));
    assert!(matches!(one.commit(b""), Err(MappedFileError::Damaged { .. })));
    // Cut and grown again: the missing part has been touched by nobody.
    outside.set_len(4096).unwrap();
    assert!(matches!(two.read(), Err(MappedFileError::Cut { .. })));
    assert!(matches!(one.commit(b""), Err(MappedFileError::Cut { .. })));
}
