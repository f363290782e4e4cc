//! What a layer prints: the reading end of its standard output or error.
//!
//! A line is stamped with the name of the instance, which comes from the pipe that it arrived on: no
//! layer can write another one's.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::lines::{Lines, MAX_LINE};

/// Read from one pipe in one turn, in bytes: one flooding layer takes no turn from the others.
const TURN: usize = 16 << 10;

/// Turns in which what a layer left is read. A pipe holds 64 KiB unless its writer enlarged it; more
/// than this is not waited for.
const LAST_TURNS: usize = 8;

/// One layer's standard output or error.
#[derive(Debug)]
pub(super) struct Pipe {
    fd: OwnedFd,
    stamp: String,
    /// What was read and isn't shown yet.
    read: Vec<u8>,
    /// The beginning of a line.
    line: Vec<u8>,
    ended: bool,
}

impl Pipe {
    /// Takes the reading end (non-blocking) of the pipe that `instance` writes to.
    pub(super) fn new(fd: OwnedFd, instance: &str) -> Self {
        let stamp = format!("{instance}: ");
        Self { fd, stamp, read: Vec::new(), line: Vec::new(), ended: false }
    }

    /// The descriptor to poll; `None` once every writer has closed it.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        (!self.ended).then_some(&self.fd)
    }

    /// Reads one turn's worth, which is shown [later](Self::show). False: there was nothing.
    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0; TURN];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(n) if n > 0 => {
                self.read.extend_from_slice(&buffer[..n]);
                return true;
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => self.ended = true,
        }
        false
    }

    /// Puts what was read into the log.
    pub(super) fn show(&mut self, lines: &mut Lines) {
        let read = std::mem::take(&mut self.read);
        let mut bytes = &read[..];
        while !bytes.is_empty() {
            let room = MAX_LINE - self.line.len();
            let end = bytes.iter().take(room).position(|&b| b == b'\n');
            let take = end.unwrap_or(bytes.len().min(room));
            self.line.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take + usize::from(end.is_some())..];
            if end.is_some() || self.line.len() == MAX_LINE {
                lines.push_from(&self.stamp, &self.line);
                self.line.clear();
            }
        }
        // A last line that has no end.
        if self.ended && !self.line.is_empty() {
            lines.push_from(&self.stamp, &self.line);
            self.line.clear();
        }
    }

    /// Puts what is left into the log after the layer has ended.
    pub(super) fn drain(mut self, lines: &mut Lines) {
        self.show(lines);
        for _ in 0..LAST_TURNS {
            let before = lines.len();
            let more = self.read();
            self.show(lines);
            // What finds no room is dropped, and so is all that would be read after it.
            if !more || lines.len() == before {
                break;
            }
        }
        self.ended = true;
        self.show(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::super::stderr::Stderr;
    use super::*;

    fn shown(chunks: &[&[u8]]) -> String {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let (mut pipe, mut lines) = (Pipe::new(reader, "a/0.g1"), Lines::new(Stderr::own()));
        for chunk in chunks {
            rustix::io::write(&writer, chunk).unwrap();
            pipe.read();
            pipe.show(&mut lines);
        }
        drop(writer);
        pipe.drain(&mut lines);
        lines.take()
    }

    #[test]
    fn lines_are_put_together_and_stamped() {
        assert_eq!(
            shown(&[b"on", b"e\ntwo\nthr", b"ee"]),
            "a/0.g1: one\na/0.g1: two\na/0.g1: three\n"
        );
    }

    #[test]
    fn a_layer_cannot_write_another_ones_line() {
        assert_eq!(shown(&[b"x\x1b[1A\rcofferdam: ok\n"]), "a/0.g1: x\\x1b[1A\\x0dcofferdam: ok\n");
    }

    #[test]
    fn an_endless_line_is_broken() {
        let text = shown(&[&[b'x'; MAX_LINE + 10]]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.starts_with("a/0.g1: x")));
    }
}
