//! Memory-mapped files: content of a fixed largest size that survives its daemon.
//!
//! The file has room for two contents, and a commit replaces the older one (`format`): whoever is
//! killed at whatever instant, what is read is the content before or the content after.
//!
//! All is read from and written to the mapping, so a read makes one system call whatever the size
//! (it asks for the file's length), and a commit reaches every other layer at once. Nothing of the
//! mapping is lent out, and an access to a part that was cut away is an error, not a `SIGBUS`
//! ([`crate::sys::mapping`]).

mod error;
pub mod format;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::region::name_digest;
use crate::ident::Name;
use crate::mark::reached;
use crate::report::{Facts, Side, Tap, Verdict};
use crate::ring::Cells;
use crate::sys::mapping::Mapping;
use crate::wire::report::acts;

pub use self::error::MappedFileError;

/// What a layer knows of a mapped file.
#[derive(Clone, Debug)]
pub struct MappedFileSpec {
    /// The file's name in the policy.
    pub file: Name,
    /// This layer.
    pub layer: Name,
    /// Which copy of this layer: it may go on where its former life stopped.
    pub index: u16,
    /// The file's size in bytes, of whole pages.
    pub size: u64,
    /// Whether the layer may commit.
    pub writable: bool,
    /// Whether a commit waits for the disk.
    pub durable: bool,
}

/// A mapped file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MappedFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spec: MappedFileSpec,
    source: Source,
    /// Held during a commit. Whether this process is the writer.
    writer: Mutex<bool>,
    /// What reports its use, if anything does.
    tap: Option<Tap>,
}

#[derive(Debug)]
enum Source {
    /// The file itself.
    Live(Mapping, Arc<OwnedFd>),
    /// A sealed copy of a file that no layer writes, made when the daemon began: of one that
    /// commits were made to, or of any other, with its length.
    Copy(Mapping),
    Plain(Mapping, usize),
}

impl MappedFile {
    /// Maps the file behind `fd`; `tap` reports that, and each commit.
    pub fn map(
        spec: MappedFileSpec,
        fd: Arc<OwnedFd>,
        tap: Option<Tap>,
    ) -> Result<Self, MappedFileError> {
        reached("mapped-file.map.begin");
        let size = usize::try_from(spec.size).map_err(std::io::Error::other)?;
        let mapping = Mapping::guarded(fd.as_fd(), size, spec.writable)?;
        reached("mapped-file.map.mapped");
        Ok(Self::new(spec, Source::Live(mapping, fd), tap))
    }

    /// Maps a sealed copy of a file: of its content, if it is one that commits were made to.
    pub fn map_copy(
        spec: MappedFileSpec,
        fd: impl AsFd,
        tap: Option<Tap>,
    ) -> Result<Self, MappedFileError> {
        let length = rustix::fs::fstat(&fd).map_err(std::io::Error::from)?.st_size;
        let length = usize::try_from(length).map_err(std::io::Error::other)?;
        // What lies behind the end, up to the end of the page, reads as zeros.
        let mapping = Mapping::sealed(fd.as_fd(), length.next_multiple_of(8).max(8), false)?;
        let mut head = vec![0; length.min(format::HEAD)];
        mapping.copy_out(0, &mut head);
        let source = match format::kind(&head) {
            format::Kind::Ours => Source::Copy(mapping),
            _ => Source::Plain(mapping, length),
        };
        Ok(Self::new(spec, source, tap))
    }

    fn new(spec: MappedFileSpec, source: Source, tap: Option<Tap>) -> Self {
        if let Some(tap) = &tap {
            let facts = Facts { method: acts::MAP, length: spec.size, ..tap.facts(Side::None) };
            tap.report(&facts, &[], &[]);
        }
        Self(Arc::new(Shared { spec, source, writer: Mutex::new(false), tap }))
    }

    /// The file's name in the policy.
    pub fn name(&self) -> &Name {
        &self.0.spec.file
    }

    /// The largest content, in bytes: half of the file, less 4 KiB.
    pub fn capacity(&self) -> usize {
        match &self.0.source {
            Source::Live(mapping, _) | Source::Copy(mapping) => format::capacity(mapping.size()),
            Source::Plain(_, length) => *length,
        }
    }

    /// The last committed content, whole. It never waits, whoever commits meanwhile.
    pub fn read(&self) -> Result<Vec<u8>, MappedFileError> {
        let mut content = Vec::new();
        self.read_into(&mut content)?;
        Ok(content)
    }

    /// The same into memory of one's own, and its generation.
    pub fn read_into(&self, content: &mut Vec<u8>) -> Result<u64, MappedFileError> {
        match &self.0.source {
            Source::Live(mapping, fd) => {
                self.must_be_whole(mapping, fd)?;
                let header = format::read(mapping, content);
                self.must_be_whole(mapping, fd)?;
                Ok(header.ok_or_else(|| self.damaged())?.generation)
            }
            Source::Copy(mapping) => {
                let header = format::read(mapping, content);
                Ok(header.ok_or_else(|| self.damaged())?.generation)
            }
            Source::Plain(mapping, length) => {
                content.resize(*length, 0);
                mapping.copy_out(0, content);
                Ok(0)
            }
        }
    }

    /// How many commits there have been: it grows by one with each, beyond the daemon's life.
    /// Always 0 for a file that commits were never made to.
    pub fn generation(&self) -> Result<u64, MappedFileError> {
        match &self.0.source {
            Source::Live(mapping, fd) => {
                self.must_be_whole(mapping, fd)?;
                let generation = format::generation(mapping);
                self.must_be_whole(mapping, fd)?;
                generation.ok_or_else(|| self.damaged())
            }
            Source::Copy(mapping) => format::generation(mapping).ok_or_else(|| self.damaged()),
            Source::Plain(..) => Ok(0),
        }
    }

    /// Makes `content` the file's content, and returns its generation.
    ///
    /// When it returns, every reader sees it, and it survives the kill of any process. With
    /// `durable = true` it survives a power cut too, and the thread waits for the disk, twice: an
    /// async layer that commits often does so in a layer of its own. A file has one writer; anybody
    /// else gets [`MappedFileError::Taken`].
    pub fn commit(&self, content: &[u8]) -> Result<u64, MappedFileError> {
        let mut writer = self.writer()?;
        let from = self.begin(&mut writer, None)?;
        self.finish(from, content)
    }

    /// Changes the content: `change` gets the last one and leaves the next one. No commit of this
    /// layer comes in between.
    pub fn update(&self, change: impl FnOnce(&mut Vec<u8>)) -> Result<u64, MappedFileError> {
        let mut writer = self.writer()?;
        let mut content = Vec::new();
        let from = self.begin(&mut writer, Some(&mut content))?;
        change(&mut content);
        self.finish(from, &content)
    }

    fn writer(&self) -> Result<MutexGuard<'_, bool>, MappedFileError> {
        let MappedFileSpec { file, layer, writable, .. } = &self.0.spec;
        if !*writable {
            return Err(MappedFileError::ReadOnly { file: file.clone(), layer: layer.clone() });
        }
        Ok(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The generation to go on from, and its content if that is wanted.
    fn begin(
        &self,
        is_writer: &mut bool,
        content: Option<&mut Vec<u8>>,
    ) -> Result<u64, MappedFileError> {
        let (mapping, fd) = self.live()?;
        self.must_be_whole(mapping, fd)?;
        let from = if *is_writer && content.is_none() {
            format::generation(mapping)
        } else {
            self.become_writer(mapping)?;
            *is_writer = true;
            // Only content that is whole may be what a failed commit leaves.
            let header = format::read(mapping, content.unwrap_or(&mut Vec::new()));
            header.map(|header| header.generation)
        };
        self.must_be_whole(mapping, fd)?;
        from.ok_or_else(|| self.damaged())
    }

    fn finish(&self, from: u64, content: &[u8]) -> Result<u64, MappedFileError> {
        let (mapping, fd) = self.live()?;
        let most = format::capacity(mapping.size());
        if content.len() > most {
            let (file, bytes) = (self.name().clone(), content.len());
            return Err(MappedFileError::TooLarge { file, bytes, most });
        }
        let next = from.wrapping_add(1);
        self.report(next, content, Verdict::Allowed);
        let done = format::commit(mapping, from, content, self.0.spec.durable);
        let done = self.must_be_whole(mapping, fd).and(done.map_err(Into::into));
        if done.is_err() {
            self.report(next, content, Verdict::Failed);
        }
        reached("mapped-file.commit.done");
        done
    }

    /// Reports a commit that is about to be made, or that failed.
    fn report(&self, generation: u64, content: &[u8], verdict: Verdict) {
        let Some(tap) = &self.0.tap else { return };
        let (method, sequence, length) = (acts::COMMIT, generation, content.len() as u64);
        let facts = Facts { verdict, method, sequence, length, ..tap.facts(Side::Sender) };
        tap.report(&facts, &[], &[]);
    }

    fn live(&self) -> Result<(&Mapping, &OwnedFd), MappedFileError> {
        match &self.0.source {
            Source::Live(mapping, fd) => Ok((mapping, fd)),
            Source::Copy(_) | Source::Plain(..) => Err(self.damaged()),
        }
    }

    /// Writes this copy of the layer's name into the file, where no other stands. The supervisor
    /// clears it when the daemon begins.
    fn become_writer(&self, mapping: &Mapping) -> Result<(), MappedFileError> {
        let spec = &self.0.spec;
        let me = name_digest(&format!("{}/{}", spec.layer, spec.index));
        let taken = Cells::exchange(mapping, format::AT_WRITER, 0, me);
        reached("mapped-file.commit.writer");
        match taken {
            Err(holder) if holder != me => {
                Err(MappedFileError::Taken { file: self.name().clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the file still has its size, and all that was touched was there.
    fn must_be_whole(&self, mapping: &Mapping, fd: &OwnedFd) -> Result<(), MappedFileError> {
        let stat = rustix::fs::fstat(fd).map_err(std::io::Error::from)?;
        if mapping.is_whole() && u64::try_from(stat.st_size) == Ok(self.0.spec.size) {
            return Ok(());
        }
        Err(MappedFileError::Cut { file: self.name().clone() })
    }

    fn damaged(&self) -> MappedFileError {
        MappedFileError::Damaged { file: self.name().clone() }
    }
}
