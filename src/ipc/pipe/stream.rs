//! The stream of one pair of instances: what one writes and the other reads.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::PipeError;
use super::frame::{Found, FrameReader, FrameWriter};
use super::pace::Pace;
use super::wait::{Step, Waiting};
use crate::ident::{Instance, Name};
use crate::mark;

/// What a reader and a writer know of their stream.
pub(super) struct About {
    pub(super) pipe: Name,
    pub(super) peer: Instance,
    pub(super) pace: Option<Pace>,
}

/// What a peer writes to us, from its beginning to its end.
///
/// Reading gives 0 once the peer has closed the stream. If the peer is gone without having done
/// so, everything that it wrote wholly is read first, and then comes [`PipeError::PeerDied`] or
/// [`PipeError::Torn`]. A pipe with `raw = true` has no such sign: there 0 says only that nobody
/// holds the writing end any more.
pub struct ReadStream {
    about: About,
    waiting: Option<Waiting>,
    /// `None`: bytes come as they are.
    frames: Option<Box<FrameReader>>,
    /// It was read to its end, in order.
    ended: bool,
}

/// What we write to one peer.
///
/// A sealed stream must be closed ([`AsyncWriteExt::shutdown`](tokio::io::AsyncWriteExt::shutdown)
/// or [`close`](super::blocking::WriteStream::close)): one that is only dropped looks to the reader as if its writer had
/// died, for then nobody knows whether all was written.
pub struct WriteStream {
    about: About,
    waiting: Option<Waiting>,
    frames: Option<Box<FrameWriter>>,
    /// The frame that closes it is sealed.
    closing: bool,
}

impl ReadStream {
    pub(super) fn new(about: About, waiting: Waiting, frames: Option<FrameReader>) -> Self {
        Self { about, waiting: Some(waiting), frames: frames.map(Box::new), ended: false }
    }

    /// Who writes. On a sealed pipe this is proven by the first byte that is read; on a raw one it
    /// is what the supervisor says.
    pub fn peer(&self) -> &Instance {
        &self.about.peer
    }

    fn step(&mut self, fd: &OwnedFd, out: &mut [u8]) -> io::Result<Step<usize>> {
        if out.is_empty() {
            return Ok(Step::Done(0));
        }
        let now = Instant::now;
        let room = match self.about.pace.as_mut().map(|pace| pace.allows(out.len(), now())) {
            None => out.len(),
            Some(Ok(room)) => room,
            Some(Err(then)) => return Ok(Step::Until(then)),
        };
        let out = &mut out[..room];
        let step = match &mut self.frames {
            None => match unblocked(rustix::io::read(fd, out))? {
                None => return Ok(Step::Blocked),
                Some(count) => {
                    mark::reached("pipe.read.raw");
                    self.ended = count == 0;
                    count
                }
            },
            Some(frames) => loop {
                let found = frames.look().map_err(|fault| PipeError::Broke {
                    pipe: self.about.pipe.clone(),
                    peer: self.about.peer.clone(),
                    fault,
                })?;
                match found {
                    Found::Bytes => {
                        mark::reached("pipe.read.opened");
                        break frames.take(out);
                    }
                    Found::End => {
                        mark::reached("pipe.read.end");
                        self.ended = true;
                        break 0;
                    }
                    Found::Nothing => {}
                }
                mark::reached("pipe.read.before");
                match unblocked(rustix::io::read(fd, frames.space()))? {
                    None => {
                        mark::reached("pipe.read.empty");
                        return Ok(Step::Blocked);
                    }
                    Some(0) => {
                        mark::reached("pipe.read.cut");
                        return Err(self.about.truncated(frames.partial()));
                    }
                    Some(count) => {
                        mark::reached("pipe.read.taken");
                        frames.filled(count);
                    }
                }
            },
        };
        if let Some(pace) = &mut self.about.pace {
            pace.pass(step);
        }
        Ok(Step::Done(step))
    }

    /// After the end, and after an error, the descriptor is let go of: a writer learns it at once.
    fn conclude(&mut self, waiting: Waiting, result: io::Result<usize>) -> io::Result<usize> {
        if result.is_ok() && !self.ended {
            self.waiting = Some(waiting);
        } else if let Err(error) = &result
            && matches!(PipeError::of(error), Some(PipeError::Stopping))
        {
            self.waiting = Some(waiting);
        } else {
            drop(waiting);
            mark::reached("pipe.read.over");
        }
        result
    }

    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_none()
    }
}

impl AsyncRead for ReadStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(mut waiting) = this.waiting.take() else {
            return Poll::Ready(if this.ended { Ok(()) } else { Err(this.about.over()) });
        };
        let out = buf.initialize_unfilled();
        let Poll::Ready(result) = waiting.poll(cx, |fd| this.step(fd, out)) else {
            this.waiting = Some(waiting);
            return Poll::Pending;
        };
        let result = this.conclude(waiting, result);
        Poll::Ready(result.map(|count| buf.advance(count)))
    }
}

impl ReadStream {
    pub(super) fn read_blocking(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(waiting) = self.waiting.take() else {
            return if self.ended { Ok(0) } else { Err(self.about.over()) };
        };
        let result = waiting.block(|fd| self.step(fd, out));
        self.conclude(waiting, result)
    }
}

impl WriteStream {
    pub(super) fn new(about: About, waiting: Waiting, frames: Option<FrameWriter>) -> Self {
        Self { about, waiting: Some(waiting), frames: frames.map(Box::new), closing: false }
    }

    /// Who reads.
    pub fn peer(&self) -> &Instance {
        &self.about.peer
    }

    pub(super) fn close_blocking(&mut self) -> io::Result<()> {
        if self.closing && self.is_over() {
            return Ok(());
        }
        self.block(Self::step_close)?;
        self.closing = true;
        self.waiting = None;
        Ok(())
    }

    /// Seals what it can, and gives as much of it to the pipe as that takes now.
    fn step_write(&mut self, fd: &OwnedFd, data: &[u8]) -> io::Result<Step<usize>> {
        if let Step::Blocked = self.step_flush(fd)? {
            return Ok(Step::Blocked);
        }
        let now = Instant::now;
        let room = match self.about.pace.as_mut().map(|pace| pace.allows(data.len(), now())) {
            None => data.len(),
            Some(Ok(room)) => room,
            Some(Err(then)) => return Ok(Step::Until(then)),
        };
        let data = &data[..room];
        let count = match &mut self.frames {
            None => {
                mark::reached("pipe.write.raw");
                match self.about.write(fd, data)? {
                    None => return Ok(Step::Blocked),
                    Some(count) => count,
                }
            }
            // Of no bytes, a frame would close the stream.
            Some(_) if data.is_empty() => 0,
            Some(frames) => {
                mark::reached("pipe.write.before");
                let count = frames.seal(data).map_err(|error| self.about.seal(error))?;
                mark::reached("pipe.write.sealed");
                count
            }
        };
        if let Some(pace) = &mut self.about.pace {
            pace.pass(count);
        }
        self.step_flush(fd)?;
        Ok(Step::Done(count))
    }

    /// Gives to the pipe what is sealed.
    fn step_flush(&mut self, fd: &OwnedFd) -> io::Result<Step<()>> {
        let Some(frames) = &mut self.frames else { return Ok(Step::Done(())) };
        while !frames.pending().is_empty() {
            match self.about.write(fd, frames.pending())? {
                None => {
                    mark::reached("pipe.write.full");
                    return Ok(Step::Blocked);
                }
                Some(count) => {
                    frames.sent(count);
                    mark::reached("pipe.write.given");
                }
            }
        }
        Ok(Step::Done(()))
    }

    fn step_close(&mut self, fd: &OwnedFd) -> io::Result<Step<()>> {
        if let Step::Blocked = self.step_flush(fd)? {
            return Ok(Step::Blocked);
        }
        if let Some(frames) = &mut self.frames
            && !self.closing
        {
            mark::reached("pipe.close.before");
            frames.seal(&[]).map_err(|error| self.about.seal(error))?;
            self.closing = true;
            mark::reached("pipe.close.sealed");
        }
        let step = self.step_flush(fd)?;
        if let Step::Done(()) = step {
            mark::reached("pipe.close.given");
        }
        Ok(step)
    }

    fn block<T>(
        &mut self,
        mut step: impl FnMut(&mut Self, &OwnedFd) -> io::Result<Step<T>>,
    ) -> io::Result<T> {
        let Some(waiting) = self.waiting.take() else { return Err(self.about.over()) };
        let result = waiting.block(|fd| step(self, fd));
        // After an error the descriptor is let go of: the reader learns it at once.
        self.waiting = result.is_ok().then_some(waiting);
        result
    }

    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut step: impl FnMut(&mut Self, &OwnedFd) -> io::Result<Step<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(mut waiting) = self.waiting.take() else {
            return Poll::Ready(Err(self.about.over()));
        };
        let result = waiting.poll(cx, |fd| step(self, fd));
        if !matches!(result, Poll::Ready(Err(_))) {
            self.waiting = Some(waiting);
        }
        result
    }

    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_none()
    }
}

impl AsyncWrite for WriteStream {
    /// `Ok` says that the bytes are in the pipe, or sealed and next in turn: at most one frame of
    /// 16 KiB is. [`poll_flush`](AsyncWrite::poll_flush) waits for that.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll(cx, |this, fd| this.step_write(fd, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(cx, Self::step_flush)
    }

    /// Closes the stream: the reader reads 0 after the last byte. Again, it does nothing.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing && this.is_over() {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll(cx, Self::step_close))?;
        this.closing = true;
        this.waiting = None;
        Poll::Ready(Ok(()))
    }
}

impl WriteStream {
    pub(super) fn write_blocking(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.block(|this, fd| this.step_write(fd, data))?;
        self.block(Self::step_flush)?;
        Ok(count)
    }

    pub(super) fn flush_blocking(&mut self) -> io::Result<()> {
        if self.is_over() { Ok(()) } else { self.block(Self::step_flush) }
    }
}

impl About {
    /// Writes what the pipe takes now.
    fn write(&self, fd: &OwnedFd, data: &[u8]) -> io::Result<Option<usize>> {
        match rustix::io::write(fd, data) {
            Err(Errno::PIPE) => Err(self.died().into()),
            other => unblocked(other),
        }
    }

    /// The end of a stream that was not closed.
    fn truncated(&self, bytes: usize) -> io::Error {
        match bytes {
            0 => self.died().into(),
            bytes => {
                let (pipe, peer) = (self.pipe.clone(), self.peer.clone());
                PipeError::Torn { pipe, peer, bytes }.into()
            }
        }
    }

    fn died(&self) -> PipeError {
        PipeError::PeerDied { pipe: self.pipe.clone(), peer: self.peer.clone() }
    }

    fn over(&self) -> io::Error {
        PipeError::Over { pipe: self.pipe.clone() }.into()
    }

    fn seal(&self, error: crate::seal::SealError) -> io::Error {
        PipeError::Seal { pipe: self.pipe.clone(), error }.into()
    }
}

fn unblocked(result: rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

impl fmt::Debug for ReadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.show("ReadStream", f)
    }
}

impl fmt::Debug for WriteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.show("WriteStream", f)
    }
}

impl About {
    fn show(&self, what: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipe, peer, .. } = self;
        f.debug_struct(what).field("pipe", pipe).field("peer", peer).finish_non_exhaustive()
    }
}
