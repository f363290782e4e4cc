//! A file whose opening hangs, as on a network file system whose server is gone.

use std::path::Path;

use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags,
    Response,
};

/// Whoever opens the file waits until this answers, or is dropped (fanotify(7)).
pub(crate) struct Hung(Fanotify);

/// Somebody who opens it, and waits.
pub(crate) struct Waiting(FanotifyEvent);

impl Hung {
    /// Has every open of a file hang; a test ends as ignored where only root may.
    pub(crate) fn file(path: &Path) -> Self {
        if !super::is_root() {
            super::suite::ignore("only root may have opens wait (fanotify, CAP_SYS_ADMIN)");
        }
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC;
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).unwrap();
        let here = rustix::fs::CWD;
        group.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, here, Some(path)).unwrap();
        Self(group)
    }

    /// Waits until somebody opens it.
    pub(crate) fn opened(&self) -> Waiting {
        let mut events = self.0.read_events().unwrap();
        assert_eq!(events.len(), 1, "one opens it at a time");
        Waiting(events.remove(0))
    }

    /// Lets that one go on.
    pub(crate) fn answer(&self, waiting: &Waiting) {
        let file = waiting.0.fd().expect("a file is open for the answer");
        self.0.write_response(FanotifyResponse::new(file, Response::FAN_ALLOW)).unwrap();
    }
}
