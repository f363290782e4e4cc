//! The terminal while it is drawn on: without echo, on a screen of its own, and as it was before
//! however this ends but by SIGKILL.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::termios::{self, OptionalActions, Termios};

use super::frame::{Line, Look};

/// A screen of its own, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// To go on; or the terminal has another size.
    Nothing,
    /// These keys.
    Keys(Vec<u8>),
    /// To end.
    Quit,
}

/// The terminal of standard input and output.
pub(super) struct Terminal {
    before: Termios,
    signals: SignalFd,
}

impl Terminal {
    /// Takes it. Signals that would end the process become input from here on.
    pub(super) fn take() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in
            [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGWINCH]
        {
            mask.add(signal);
        }
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags)?;
        let before = termios::tcgetattr(io::stdin())?;
        let terminal = Self { before, signals };
        let mut raw = terminal.before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        write(ENTER)?;
        Ok(terminal)
    }

    /// Columns and lines.
    pub(super) fn size() -> (usize, usize) {
        let size = termios::tcgetwinsize(io::stdout());
        let size = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
    }

    /// Draws all lines, and nothing behind them.
    pub(super) fn draw(lines: &[Line]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            let code = match line.look {
                Look::Plain => "",
                Look::Title => "1",
                Look::Head => "7",
                Look::Dim => "2",
                Look::Alarm => "31",
            };
            let end = if at + 1 < lines.len() { "\r\n" } else { "" };
            let _ = write!(text, "\x1b[0;{code}m{}\x1b[0m\x1b[K{end}", line.text);
        }
        text.push_str("\x1b[J");
        write(&text)
    }

    /// Waits so long for a key or a signal.
    pub(super) fn wait(&mut self, most: Duration) -> io::Result<Input> {
        let stdin = io::stdin();
        let mut ready = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let patience = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        poll(&mut ready, patience)?;
        let [keys, signal] = ready.map(|it| it.revents().is_some_and(|events| !events.is_empty()));
        if signal {
            let caught = self.signals.read_signal()?;
            let resized = |it: u32| i32::try_from(it) == Ok(Signal::SIGWINCH as i32);
            if caught.is_some_and(|it| !resized(it.ssi_signo)) {
                return Ok(Input::Quit);
            }
        }
        if !keys {
            return Ok(Input::Nothing);
        }
        let mut bytes = [0; 64];
        let got = io::stdin().lock().read(&mut bytes)?;
        Ok(match bytes.get(..got) {
            // Nobody is there any more.
            None | Some([]) => Input::Quit,
            Some(keys) => Input::Keys(keys.to_vec()),
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = write(LEAVE);
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
