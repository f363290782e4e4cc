//! Marks: named points of a protocol at which tests stop a process, to kill it or another there.
//!
//! Without the cargo feature `testing` a mark is nothing at all, not even a branch.

/// The protocol has come to this point.
#[cfg(not(feature = "testing"))]
#[inline(always)]
pub(crate) fn reached(_name: &'static str) {}

#[cfg(feature = "testing")]
pub use armed::*;

#[cfg(feature = "testing")]
mod armed {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use crate::sys::mapping::Mapping;

    struct Armed {
        name: String,
        left: AtomicU32,
        gate: Gate,
    }

    /// Where it is written whether to go on.
    enum Gate {
        File(File),
        Memory(Mapping),
    }

    impl Gate {
        fn is_open(&self) -> bool {
            let mut first = [0];
            match self {
                Self::File(file) => {
                    file.read_at(&mut first, 0).is_ok_and(|read| read == 1) && first == *b"1"
                }
                Self::Memory(memory) => memory.load(0).to_ne_bytes()[0] == b'1',
            }
        }
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Has this process stop when it comes to the mark `name` for the `nth` time, counted from 1.
    /// It says `mark NAME` on standard error, and goes on once the first byte of `gate` is `1`.
    /// Once in a process; later calls change nothing.
    pub fn arm(name: &str, nth: u32, gate: File) {
        set(name, nth, Gate::File(gate));
    }

    /// The same for a process that will have closed every file by then.
    pub fn arm_mapped(name: &str, nth: u32, gate: &File) {
        if let Ok(memory) = Mapping::guarded(gate.as_fd(), PAGE, false) {
            set(name, nth, Gate::Memory(memory));
        }
    }

    fn set(name: &str, nth: u32, gate: Gate) {
        let _ = ARMED.set(Armed { name: name.to_owned(), left: AtomicU32::new(nth), gate });
    }

    /// More than a gate's one byte, and within its page.
    const PAGE: usize = 4096;

    /// The protocol has come to this point.
    pub(crate) fn reached(name: &'static str) {
        let Some(armed) = ARMED.get().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        let _ = rustix::io::write(std::io::stderr(), format!("mark {name}\n").as_bytes());
        while !armed.gate.is_open() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
