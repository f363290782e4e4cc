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
    use std::os::unix::fs::FileExt;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    struct Armed {
        name: String,
        left: AtomicU32,
        gate: File,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Has this process stop when it comes to the mark `name` for the `nth` time, counted from 1.
    /// It says `mark NAME` on standard error, and goes on once the first byte of `gate` is `1`.
    /// Once in a process; later calls change nothing.
    pub fn arm(name: &str, nth: u32, gate: File) {
        let _ = ARMED.set(Armed { name: name.to_owned(), left: AtomicU32::new(nth), gate });
    }

    /// The protocol has come to this point.
    pub(crate) fn reached(name: &'static str) {
        let Some(armed) = ARMED.get().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        let _ = rustix::io::write(std::io::stderr(), format!("mark {name}\n").as_bytes());
        let mut open = [0];
        while !(armed.gate.read_at(&mut open, 0).is_ok_and(|read| read == 1) && open == *b"1") {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
