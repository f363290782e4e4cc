//! The same ends and streams for code that waits by blocking its thread.
//!
//! They look at their descriptors themselves, with `poll(2)`, and attend to the control socket
//! meanwhile. When the supervisor asks the layer to finish, who waits for a byte or a peer gets
//! [`PipeError::Stopping`](super::PipeError::Stopping); who writes goes on while the reader reads.

use std::io::{self, Read, Write};

use crate::ident::Instance;

/// [`PipeReader`](super::PipeReader), blocking.
#[derive(Debug)]
pub struct PipeReader(pub(super) super::PipeReader);

/// [`PipeWriter`](super::PipeWriter), blocking.
#[derive(Debug)]
pub struct PipeWriter(pub(super) super::PipeWriter);

/// [`ReadStream`](super::ReadStream), blocking.
#[derive(Debug)]
pub struct ReadStream(pub(super) super::ReadStream);

/// [`WriteStream`](super::WriteStream), blocking.
#[derive(Debug)]
pub struct WriteStream(pub(super) super::WriteStream);

impl super::ReadStream {
    /// The same stream, for code that waits by blocking its thread.
    pub fn blocking(self) -> ReadStream {
        ReadStream(self)
    }
}

impl super::WriteStream {
    /// The same stream, for code that waits by blocking its thread.
    pub fn blocking(self) -> WriteStream {
        WriteStream(self)
    }
}

impl PipeReader {
    /// The stream of the next peer; waits while there is none.
    #[allow(clippy::should_implement_trait)] // the same verb as without blocking
    pub fn next(&mut self) -> io::Result<ReadStream> {
        self.0.next_blocking().map(ReadStream)
    }

    /// Whose stream is being read.
    pub fn peer(&self) -> Option<&Instance> {
        self.0.peer()
    }
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut stream = match self.0.current.take() {
            Some(stream) => stream,
            None => self.0.next_blocking()?,
        };
        let result = stream.read_blocking(out);
        self.0.current = (!stream.is_over()).then_some(stream);
        result
    }
}

impl PipeWriter {
    /// The stream to the next peer; waits while there is none.
    #[allow(clippy::should_implement_trait)] // the same verb as without blocking
    pub fn next(&mut self) -> io::Result<WriteStream> {
        self.0.next_blocking().map(WriteStream)
    }

    /// To whom is being written.
    pub fn peer(&self) -> Option<&Instance> {
        self.0.peer()
    }

    /// Closes the stream that is being written, if there is one; see [`WriteStream::close`]. The
    /// next write goes to the next peer.
    pub fn close(&mut self) -> io::Result<()> {
        self.0.current.take().map_or(Ok(()), |mut stream| stream.close_blocking())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut stream = match self.0.current.take() {
            Some(stream) => stream,
            None => self.0.next_blocking()?,
        };
        let result = stream.write_blocking(data);
        self.0.current = (!stream.is_over()).then_some(stream);
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.current.as_mut().map_or(Ok(()), super::WriteStream::flush_blocking)
    }
}

impl ReadStream {
    /// Who writes; see [`super::ReadStream::peer`].
    pub fn peer(&self) -> &Instance {
        self.0.peer()
    }
}

impl Read for ReadStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read_blocking(out)
    }
}

impl WriteStream {
    /// Who reads.
    pub fn peer(&self) -> &Instance {
        self.0.peer()
    }

    /// Closes the stream and waits until the pipe has taken all of it. The reader reads 0 after the
    /// last byte. Closing it again does nothing.
    pub fn close(&mut self) -> io::Result<()> {
        self.0.close_blocking()
    }
}

/// Each write waits until the pipe has taken all of what it accepts.
impl Write for WriteStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write_blocking(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush_blocking()
    }
}
